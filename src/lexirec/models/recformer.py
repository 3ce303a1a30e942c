"""Recformer (Li et al., KDD 2023, arXiv 2305.13731): items and histories are texts, read by one Longformer.

Code read: AaronHeee/RecFormer, which calls itself a replication (the official repository holds a README only). How this differs: a small
Longformer from scratch with the bundled encoder's tokens by default (any size by configuration); sequences are packed by length; an item
lacks the attributes that it has no value for; the rate stays as it is after the warm-up; whole words of the language task are the
tokenizer's, and hidden ones are told among the tokens that occur in the catalogue.

start token + [name value name value ...] of the items, latest first -> token + position + kind + item embeddings -> windowed attention,
start token sees all -> its state -> cosine / .05 with the states of single items

pretrain: history against the batch's next items + .1 x hidden words of both sides
finetune: from a pretrained run, or a short pretraining on the same data; stage 1 encodes all items anew for each epoch, stage 2 keeps
          the best epoch's -> cross entropy over all items, a random prefix per person and epoch
"""

import copy
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError
from lexirec.models.contract import Recommender
from lexirec.models.earlier import refuse_leaks
from lexirec.models.layers.features import present_columns
from lexirec.models.layers.itemtokens import ATTRIBUTES, ItemTokens, TokenBatch, hide_words, latest_first, tokenise, vocabulary
from lexirec.models.layers.longformer import Longformer
from lexirec.models.layers.softmax import cross_entropy_over_items
from lexirec.models.recformer_config import RecformerConfig
from lexirec.models.recformer_network import RecformerNetwork
from lexirec.models.sequential import SequentialRecommender
from lexirec.models.stages import digest, train_plain
from lexirec.training.checkpoint import read_position
from lexirec.training.loop import TrainingResult
from lexirec.training.options import TrainingOptions

FIRST_STAGE = "first stage"
"""Name of what the second stage began from, among what its checkpoint was made of."""
TOKENS_AT_ONCE = 1 << 15
"""Tokens that go through the network together while answering."""


@dataclass(frozen=True, eq=False)
class Histories:
    """Prefixes and what came next.

    Attributes:
        users: ``(B,)``.
        history: tokens of the events before.
        targets: ``(B,)`` next items.
        following: tokens of the next items; ``None`` while fine-tuning.
        hidden: of history and next items, tokens with words hidden, their rows and labels.
    """

    users: NDArray[np.int64]
    history: TokenBatch
    targets: Tensor
    following: TokenBatch | None = None
    hidden: tuple[tuple[Tensor, Tensor, Tensor], ...] = ()


class Recformer(SequentialRecommender):
    """Histories and items are texts, read by one Longformer (Li et al., KDD 2023).

    >>> Recformer(embedding_dim=64, max_tokens=256).config.window
    64
    """

    name = "recformer"
    Config = RecformerConfig
    second = False
    carried: dict[str, Tensor] | None = None
    start: dict[str, Tensor] | None = None
    tokens: ItemTokens

    def make_body(self) -> Longformer:
        config = self.config
        return Longformer(
            vocabulary().size, config.embedding_dim, config.num_layers, config.num_heads, config.inner or 4 * config.embedding_dim,
            config.window, config.dropout, config.max_tokens, config.max_len,
        )  # fmt: skip

    # --- training ----------------------------------------------------------------------------------------------------------------

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        self.second, self.carried = False, None
        self.start = self.pretrained_reader(train, valid, options)
        super().learn(train, valid, options)
        if self.config.stage == "pretrain" or not self.config.second_stage or not options.epochs:
            return self
        if self.training_result is not None and self.training_result.stopped == "max_minutes":
            return self  # with more time it goes on in the first stage, so the second must not have begun from here
        first, weights = self.training_result, {name: value.clone() for name, value in self.network.state_dict().items()}
        self.second, self.carried = True, weights
        folder = options.folder and options.folder / "stage-2"
        if folder is not None and options.resume and self._began_otherwise(folder / "checkpoints" / "last.safetensors"):
            shutil.rmtree(folder)
        own: dict[str, Any] = {"seed": options.seed + 1, "track": (), "folder": folder}
        super().learn(train, valid, options.model_copy(update=own))
        self.second, self.carried = False, None
        then = self.training_result
        assert first is not None and then is not None  # noqa: S101 (both stages were trained)
        better = first.best_value is None or (then.best_value is not None and then.best_value > first.best_value)
        if not better:
            self.network.load_state_dict(weights)
            self.refresh()
        self.training_result = joined(first, then, better)
        return self

    def _began_otherwise(self, last: Path) -> bool:
        """Whether a checkpoint of the second stage is of one that began from another first stage, such as one of fewer epochs."""
        return last.exists() and read_position(last).get("made_of", {}).get(FIRST_STAGE) != self.identity()[FIRST_STAGE]

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        if self.carried is not None:
            found[FIRST_STAGE] = digest(*(value.cpu().numpy() for value in self.carried.values()))
        return found

    def pretrained_reader(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> dict[str, Tensor] | None:
        """Weights of the reader to start from: those of a run, of a pretraining on the same data, or none."""
        config = self.config
        if config.stage == "pretrain":
            return None
        if config.pretrained is not None:
            return self.read_source(config.pretrained, train)
        if not config.pretrain_epochs or not options.epochs or train.n_domains > 1:
            return None
        settings = {**config.model_dump(), "stage": "pretrain"}
        first = options.model_copy(update={"epochs": config.pretrain_epochs})
        source = train_plain(self.name, settings, train, valid, first, "pretraining")
        assert isinstance(source, Recformer)  # noqa: S101 (trained above)
        return source._reader.encoder.state_dict()

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        config = self.config
        self.n_items = self.trained = train.n_items
        self.stored = False
        self.columns = present_columns(train.items, config.columns, ATTRIBUTES, "columns=[...]")[: config.max_attributes]
        self.tokens = self.tokens_of(train.items)
        self.occurring = self._tensor(np.unique(self.tokens.tokens))
        self.network = RecformerNetwork(self.make_body(), train.n_items, config.embedding_dim, writes=config.stage == "pretrain")
        self.initialise()
        if config.stage == "finetune":
            self._reader.keep_writer()
        if self.carried is not None:
            self.network.load_state_dict(self.carried)
        elif self.start is not None:
            self._reader.encoder.load_state_dict(self.start)
        self._reader.encoder.words.weight.requires_grad_(not config.fix_words)
        self.log, self.offsets = train.item_index.astype(np.int64), train.offsets
        least = 2 if config.stage == "pretrain" else 1
        self.people = np.flatnonzero(np.diff(train.offsets) >= least)
        if not (np.diff(train.offsets) >= 2).any():
            raise InputError(
                f"{train.name}: no user has two training events, so there is no order to learn; choose a split that leaves some"
            )
        if train.n_domains > 1 and config.stage == "finetune":
            raise InputError(
                f"{train.name} mixes {train.n_domains} data sets, whose items are no candidates of each other's; set stage=pretrain"
            )
        self.known = np.flatnonzero(~train.new_items)
        self.place = torch.from_numpy(np.cumsum(~train.new_items) - 1).to(self.device)

    @torch.no_grad()
    def initialise(self) -> None:
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def read_source(self, folder: str, train: TrainSet) -> dict[str, Tensor]:
        """Weights of a run's reader.

        Raises:
            InputError: if it is another model, has another shape, or has seen what may be held out here.
        """
        from lexirec.models import load_model

        other = load_model(folder)
        if not isinstance(other, Recformer):
            raise InputError(f"pretrained = {folder!r} is a {other.name}; give the run of a {self.name}")
        for name in ("embedding_dim", "num_layers", "num_heads", "inner", "window", "max_tokens", "max_len"):
            theirs, ours = getattr(other.config, name), getattr(self.config, name)
            if theirs != ours:
                raise InputError(f"pretrained = {folder!r} has {name} = {theirs!r} and this model {ours!r}; set {name}={theirs}")
        refuse_leaks(f"pretrained = {folder!r}", other, train)
        theirs, ours = (
            f"{', '.join((of.columns or [names[0] for names in ATTRIBUTES])[: of.max_attributes])} ({of.attribute_tokens} tokens each)"
            for of in (other.config, self.config)
        )
        if theirs != ours:
            warn(f"pretrained = {folder!r} read items as {theirs} and this training reads them as {ours}")
        return other._reader.encoder.state_dict()

    @property
    def _reader(self) -> RecformerNetwork:
        assert isinstance(self.network, RecformerNetwork)  # noqa: S101 (set by build)
        return self.network

    def optimiser(self) -> torch.optim.Optimizer:
        config = self.config
        weights = [p for p in self.network.parameters() if p.requires_grad]
        fused = self.device.type in ("cpu", "cuda")
        rate = config.pretrain_lr if config.stage == "pretrain" else config.lr
        optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=config.weight_decay, fused=fused)

        def before_step(optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            # Read from the optimiser's own count, so that a resumed training goes on exactly.
            done = next((int(state["step"]) for state in optimiser.state.values() if "step" in state), 0)
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (done + 1) / max(config.warmup, 1))

        optimiser.register_step_pre_hook(before_step)
        return optimiser

    def n_batches(self, train: TrainSet) -> int:
        return -(-len(self.people) // self.config.batch_size)

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[Any]:
        config = self.config
        if config.stage == "finetune" and not self.second:
            self.write_candidates()
        order = rng.permutation(self.people)
        for lo in range(0, len(order), config.batch_size):
            yield self.prefixes(order[lo : lo + config.batch_size], rng)

    def prefixes(self, users: NDArray[np.int64], rng: np.random.Generator) -> Histories:
        """A random event of each person's history, any or in its second half (pretraining), and those before it, if any."""
        config = self.config
        begin, count = self.offsets[users], self.offsets[users + 1] - self.offsets[users]
        pretraining = config.stage == "pretrain"
        at = begin + rng.integers((count - 1) // 2 if pretraining else np.zeros_like(count), count)
        starts = np.maximum(begin, at - config.max_len)
        history = latest_first(self.tokens, self.log, starts, at - starts, config.max_tokens, self.device)
        targets = self.log[at]
        batch = Histories(users, history, self._tensor(targets))
        if not pretraining:
            return batch
        following = latest_first(self.tokens, targets, np.arange(len(at)), np.ones_like(at), config.max_tokens, self.device)
        hidden = tuple(hide_words(side, config.mlm_prob, rng) for side in (history, following)) if config.mlm_weight else ()
        return replace(batch, following=following, hidden=hidden)

    def loss(self, batch: Any) -> Tensor:
        config, network = self.config, self._reader
        states = self.unit(network.read(batch.history).float())
        if batch.following is None:
            table = self.unit(network.candidates)
            low, targets = torch.is_autocast_enabled(self.device.type), batch.targets
            if len(self.known) < len(table):  # items that don't exist yet are no candidates
                table, targets = table[self._tensor(self.known)], self.place[targets]
            with torch.autocast(self.device.type, enabled=False):
                return cross_entropy_over_items(states, table.float(), targets, config.tau, low=low)
        wanted = self.unit(network.read(batch.following).float())
        with torch.autocast(self.device.type, enabled=False):
            total = F.cross_entropy(states @ wanted.T / config.tau, torch.arange(len(states), device=states.device))
        for side, (tokens, at, labels) in zip((batch.history, batch.following), batch.hidden, strict=False):
            if len(at):
                total = total + config.mlm_weight * network.word_loss(side, tokens, at, labels, self.occurring)
        return total

    def culprits(self, batch: Any) -> str:
        """The people of the batch, for the error of a loss that is not finite."""
        names = self.users.name(batch.users[:3])
        return f"in a batch of {len(batch.users)} users, the first {', '.join(map(repr, names))}"

    # --- answering ---------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def write_candidates(self) -> None:
        """Encode all items with the present weights."""
        network = self._reader
        if network.writer is not None:
            network.keep_writer()
        network.candidates.copy_(self.encode_tokens(self.tokens))

    @torch.no_grad()
    def refresh(self) -> None:
        if self.stored:
            return
        if self.config.stage == "pretrain" or not self._reader.candidates.any():
            self.write_candidates()
        self.network.eval()
        self.use_table(self._reader.candidates.clone())

    @torch.no_grad()
    def encode_tokens(self, tokens: ItemTokens, fill: Tensor | None = None) -> Tensor:
        """Vectors of items, ``(I, D)``: the state after a history of that item alone, by the encoder that wrote the catalogue's.

        Args:
            tokens: of the items.
            fill: ``(D,)`` vector of items without a text; the mean of the others if not given.
        """
        places = np.arange(len(tokens))
        found = self.read_windows(tokens, places, places, np.ones_like(places), self._reader.writer)
        silent = torch.from_numpy(tokens.counts == 0)
        if silent.any():
            found[silent] = found[~silent].mean(0) if fill is None else fill
        return found

    def mean_item(self) -> Tensor:
        """``(D,)``: mean vector of the catalogue's items with a text."""
        return self.table.cpu()[torch.from_numpy(self.tokens.counts > 0)].mean(0)

    def read_windows(
        self,
        tokens: ItemTokens,
        flat: NDArray[np.int64],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
        encoder: Longformer | None = None,
    ) -> Tensor:
        """States after windows of ``flat``, ``(B, D)`` float32 on the CPU, by the present encoder or another; in blocks of like length."""
        network, config = self._reader, self.config
        training = network.training
        network.eval()
        total = np.concatenate([[0], np.cumsum(tokens.counts[flat])])
        size = np.minimum(total[starts + lengths] - total[starts], config.max_tokens - 1) + 1
        order = np.argsort(-size, kind="stable")
        block = np.cumsum(size[order]) // TOKENS_AT_ONCE
        out = torch.empty(len(starts), config.embedding_dim)
        for part in np.split(order, np.flatnonzero(np.diff(block)) + 1):
            if len(part):
                batch = latest_first(tokens, flat, starts[part], lengths[part], config.max_tokens, self.device)
                out[torch.from_numpy(part)] = network.read(batch, encoder).float().cpu()
        network.train(training)
        return out

    @torch.no_grad()
    def encode_histories(self, flat: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
        kept = np.minimum(lengths, self.config.max_len)
        return self.unit(self.read_windows(self.tokens, flat, np.cumsum(lengths) - kept, kept))

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        if items is None:
            return self.item_rows
        return self.unit(self.encode_tokens(self.tokens_of(items, alone=False), self.mean_item()))

    def tokens_of(self, items: pl.DataFrame, alone: bool = True) -> ItemTokens:
        """Tokens of items by the columns that are read; items without a text are told.

        Args:
            items: of a catalogue, or ones that join it.
            alone: a whole catalogue.

        Raises:
            InputError: if no item of a whole catalogue has a text.
        """
        found = tokenise(items, self.columns, self.config.attribute_tokens)
        silent = found.counts == 0
        if alone and silent.all():
            raise InputError(f"no item has a text in {', '.join(self.columns)}; choose other columns (columns=[...])")
        if silent.any() and c.ITEM_ID in items.columns:
            ids = items[c.ITEM_ID].filter(pl.Series(silent))
            warn(
                f"items: {int(silent.sum()):,} of {items.height:,} have no text in {', '.join(self.columns)} (item_id {shown(ids)});"
                " they get the mean vector"
            )
        return found

    def encode_words(self, texts: Sequence[str]) -> Tensor:
        """A wish is read as an item whose first attribute it is."""
        return self.encode_items(pl.DataFrame({self.columns[0]: list(texts)}))

    def append_items(self, items: pl.DataFrame) -> None:
        new = self.tokens_of(items, alone=False)
        self.use_table(torch.cat([self.table.cpu(), self.encode_tokens(new, self.mean_item())]).to(self.device))
        self.tokens = self.tokens.and_more(new)
        self.n_items += items.height

    def transfer(self, train: TrainSet) -> "Recommender":
        self._check_fitted()
        other = copy.copy(self)
        other.remember(train)
        other.n_items, other.stored = train.n_items, True
        other.tokens = self.tokens_of(train.items)
        other.use_table(other.encode_tokens(other.tokens).to(self.device))
        return other

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        arrays = {name: torch.from_numpy(getattr(self.tokens, name)) for name in ("tokens", "kinds", "offsets")}
        values = {"trained": self.trained, "columns": self.columns, "writer": self._reader.writer is not None}
        return {"table": self.table.cpu(), **arrays}, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        config = self.config
        self.trained, self.columns = values["trained"], values["columns"]
        self.tokens = ItemTokens(*(tensors[name].numpy() for name in ("tokens", "kinds", "offsets")))
        self.network = RecformerNetwork(self.make_body(), self.trained, config.embedding_dim, writes=config.stage == "pretrain")
        if values.get("writer"):  # runs of older versions have none, and read new items with the encoder of the histories
            self._reader.keep_writer()
        self.n_items, self.stored = len(tensors["table"]), True
        self.use_table(tensors["table"])


def joined(first: TrainingResult, second: TrainingResult, better: bool) -> TrainingResult:
    """Both stages as one training; epochs of the second are counted on."""
    done = first.history[-1]["epoch"] if first.history else first.best_epoch
    history = first.history + [{**line, "epoch": line["epoch"] + done} for line in second.history]
    best_epoch, best_value = (second.best_epoch + done, second.best_value) if better else (first.best_epoch, first.best_value)
    return TrainingResult(best_epoch, best_value, history, first.seconds + second.seconds, first.epoch_seconds, second.stopped)


__all__ = ["Recformer", "RecformerConfig"]
