"""Stage 0: what replaces web pretraining where a language model starts from nothing."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lexirec.data.dataset import TrainSet
from lexirec.data.messages import shown
from lexirec.models.calrec.config import CALRecConfig
from lexirec.models.calrec.lm import token_losses
from lexirec.models.calrec.sequences import Ints, Packed
from lexirec.models.calrec.steps import Batch, Histories, Towers, adamw, groups_of
from lexirec.models.layers.sequence import Layout, ranges
from lexirec.models.stages import kept
from lexirec.retrieval.bm25 import BM25, Tokens
from lexirec.training.loop import run_training
from lexirec.training.options import TrainingOptions

VERSION = 5
"""Of the language model and of this stage; what another version made is not taken up."""
DEPENDS = (
    "text", "max_tokens", "max_new_tokens", "lm", "lm_dim", "lm_layers", "lm_heads", "lm_dropout", "vocabulary", "merges",
    "lm_lr", "lm_tokens", "lm_skip", "lm_alike", "mixing", "epoch_users", "warmup", "weight_decay",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Texts(Packed):
    """Sequences of a batch of stage 0.

    Attributes:
        sources: ``(B,)`` the user whose history it is, or, counted on from the last user, the item whose text it is.
    """

    sources: Ints


class WriteEverything:
    """Stage 0 as the loop drives it: plain language modelling of the training part's item and history texts.

    Args:
        towers: the model and its tokens.
        histories: the training sequences; items that stand in none are not read either.
        config: settings of the system.
        train: the training part.
        texts: of all items.
    """

    def __init__(self, towers: Towers, histories: Histories, config: CALRecConfig, train: TrainSet, texts: Sequence[str]) -> None:
        self.towers, self.histories, self.config, self.train = towers, histories, config, train
        self.network = towers.lm
        self.known = np.unique(histories.items)
        self.chains = Chains([texts[item] for item in self.known], config.k1, config.b, config.tokens) if config.lm_alike else None
        self.n_users = min(config.epoch_users or len(histories.users), len(histories.users))
        share = self.n_users / max(len(histories.users), 1)
        self.n_items = max(round(share * len(self.known)), 1)
        self.budget = config.lm_tokens
        self._steps: int | None = None

    def plan(self, rng: np.random.Generator) -> list[Texts]:
        """The sequences of an epoch: histories with their last item as target, items alone, and chains of look-alike items if asked for."""
        pieces, end = self.towers.pieces, self.towers.pieces.vocabulary.end
        users = self.histories.draw(self.n_users, self.config.mixing, rng) if self.n_users else np.zeros(0, dtype=np.int64)
        drawn = skipping(self.histories.batch(users, np.zeros_like(users)), self.config.lm_skip, rng)
        parts = [pieces.joined(drawn.history, drawn.counts, drawn.targets)] if len(users) else []
        items = rng.permutation(self.known)[: self.n_items]
        parts.append(pieces.targets(items))
        sources = [users, self.train.n_users + items]
        if self.chains is not None:
            alike = self.chains.draw(round(self.config.lm_alike * self.n_users), rng)
            parts.append(pieces.joined(self.known[alike.history], alike.counts, self.known[alike.targets]))
            sources.append(self.train.n_users + self.known[alike.targets])
        whose = np.concatenate(sources)
        lengths = np.concatenate([part.lengths for part in parts])
        tokens = np.concatenate([part.tokens for part in parts])
        # Every sequence is followed by its end, which is predicted and never read.
        ended = np.full(len(tokens) + len(lengths), end, dtype=np.int32)
        ended[ranges(np.cumsum(lengths + 1) - lengths - 1, lengths)] = tokens
        starts = np.cumsum(lengths + 1) - lengths - 1
        mixed = rng.permutation(len(lengths))  # so that texts of one length meet others in each epoch
        groups = [mixed[group] for group in groups_of(lengths[mixed], self.budget)]
        found = []
        for number in rng.permutation(len(groups)):
            group = groups[number]
            tokens = ended[ranges(starts[group], lengths[group] + 1)]
            found.append(Texts(tokens, lengths[group], np.zeros_like(lengths[group]), whose[group]))
        return found

    def batches(self, train: Any, rng: np.random.Generator) -> Iterator[Texts]:
        yield from self.plan(rng)

    def n_batches(self, train: Any = None) -> int:
        """Batches per epoch, as counted on one draw."""
        if self._steps is None:
            self._steps = len(self.plan(np.random.default_rng(0)))
        return self._steps

    def loss(self, batch: Packed) -> Tensor:
        layout = Layout(batch.lengths, self.towers.device)
        first = np.cumsum(batch.lengths + 1) - batch.lengths - 1
        read = torch.from_numpy(batch.tokens[ranges(first, batch.lengths)].astype(np.int64)).to(self.towers.device)
        said = torch.from_numpy(batch.tokens[ranges(first + 1, batch.lengths)].astype(np.int64)).to(self.towers.device)
        states = self.network(read, layout)
        return token_losses(self.network, states, said, torch.full((len(said),), 1 / len(said), device=said.device))

    def culprits(self, batch: Texts) -> str:
        """Whose texts a batch holds, for the error of a loss that is not finite."""
        users, items = (batch.sources[of] for of in (batch.sources < self.train.n_users, batch.sources >= self.train.n_users))
        named = [("user_id", self.train.users.name(users)), ("item_id", self.train.item_map.name(items - self.train.n_users))]
        return "; ".join(f"{name} {shown(ids)}" for name, ids in named if len(ids))

    def optimiser(self) -> torch.optim.Optimizer:
        total = self.config.passes * self.n_batches()
        return adamw(self.network, self.config.lm_lr, self.config.weight_decay, self.config.warmup, total)

    def refresh(self) -> None:
        """Nothing is cached between epochs."""


def skipping(drawn: Batch, probability: float, rng: np.random.Generator) -> Batch:
    """Sequences without some events of their histories, of each of which at least the latest stays.

    Args:
        drawn: whole sequences.
        probability: with which an event is left out.
        rng: of the draw.

    >>> drawn = Batch(np.arange(2), np.arange(5), np.array([4, 1]), np.array([8, 9]))
    >>> found = skipping(drawn, 0.999, np.random.default_rng(0))
    >>> found.history.tolist(), found.counts.tolist(), found.targets.tolist()
    ([3, 4], [1, 1], [8, 9])
    """
    if not probability or not len(drawn.users):
        return drawn
    kept = rng.random(len(drawn.history)) >= probability
    kept[np.cumsum(drawn.counts) - 1] = True
    whose = np.repeat(np.arange(len(drawn.users)), drawn.counts)
    return Batch(drawn.users, drawn.history[kept], np.bincount(whose[kept], minlength=len(drawn.users)), drawn.targets)


class Chains:
    """Chains of items each of which is worded like the one before: a search by BM25, from any item on.

    Args:
        texts: of the items that chains are made of.
        k1, b, tokens: of BM25.
    """

    NEAREST = 10
    """The next item is one of so many, any as likely; none that stands in the chain already."""
    LONGEST = 3
    """Most items in front of the last."""
    BLOCK = 256
    """Searches at a time: a row of scores of all items is held for each."""

    def __init__(self, texts: Sequence[str], k1: float, b: float, tokens: Tokens = "whitespace") -> None:
        self.texts = list(texts)
        self.bm25 = BM25(self.texts, k1, b, tokens=tokens)

    def draw(self, n: int, rng: np.random.Generator) -> Batch:
        """Chains as sequences, see :class:`~lexirec.models.calrec.steps.Batch`, whose items are places in ``texts`` and whose users are -1.

        Args:
            n: chains begun. One that finds nothing alike ends early, and is left out where its first item's words stand in no other.
            rng: of the draw.

        >>> found = Chains(["red drill", "red saw"], 1.5, 0.75).draw(2, np.random.default_rng(0))
        >>> (found.history + found.targets).tolist(), found.counts.tolist()
        ([1, 1], [1, 1])
        """
        n_items = len(self.texts)
        k = min(self.NEAREST, n_items)
        chain = np.full((n, self.LONGEST + 1), -1, dtype=np.int64)
        chain[:, 0] = rng.integers(0, n_items, n) if n_items else -1
        wanted = rng.integers(1, self.LONGEST + 1, n)
        for place in range(self.LONGEST):
            going = np.flatnonzero((wanted > place) & (chain[:, place] >= 0))
            for block in np.split(going, range(self.BLOCK, len(going), self.BLOCK)):
                if not len(block):
                    continue
                scores = self.bm25.scores([self.texts[item] for item in chain[block, place].tolist()])
                before = chain[block, : place + 1]
                np.put_along_axis(scores, before, 0.0, axis=1)
                best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
                found = np.take_along_axis(scores, best, axis=1) > 0
                # A uniform draw among those found: the largest of random numbers.
                pick = np.where(found, rng.random(best.shape), -1.0).argmax(axis=1)
                chain[block, place + 1] = np.where(found.any(axis=1), best[np.arange(len(block)), pick], -1)
        counts = (chain >= 0).sum(axis=1) - 1
        kept = chain[counts > 0]
        counts = counts[counts > 0]
        history = kept[np.arange(kept.shape[1]) < counts[:, None]]
        return Batch(np.full(len(kept), -1), history, counts, kept[np.arange(len(kept)), counts])


def stage_zero(
    name: str, towers: Towers, histories: Histories, config: CALRecConfig, train: TrainSet, options: TrainingOptions, texts: Sequence[str]
) -> None:
    """Train the language model on the texts of the training part; the result is kept and made once for everything it depends on.

    Args:
        name: of the system.
        towers: the model, which is changed, and its tokens.
        histories: the training sequences.
        config: settings.
        train: the training part.
        options: of the whole training.
        texts: of all items.
    """
    depends: dict[str, Any] = {setting: getattr(config, setting) for setting in (*DEPENDS, *(("k1", "b") if config.lm_alike else ()))}
    if config.lm_alike and config.tokens != "whitespace":  # else what was kept before there was a choice is found still
        depends["tokens"] = config.tokens
    depends |= {"version": VERSION, "passes": config.passes, "data": train.content_hash}
    depends |= {"seed": options.seed, "precision": options.precision}
    if config.start is not None:  # goes on from these weights
        before = torch.nn.utils.parameters_to_vector(towers.lm.parameters()).detach().float().cpu()
        depends["start"] = hashlib.sha256(before.numpy().tobytes() + towers.pieces.vocabulary.state().numpy().tobytes()).hexdigest()

    def make(stage: TrainingOptions) -> Tensor:
        model = WriteEverything(towers, histories, config, train, texts)
        run_training(cast(Any, model), train, None, stage.model_copy(update={"epochs": config.passes}))
        return torch.nn.utils.parameters_to_vector(towers.lm.parameters()).detach().cpu()

    weights = kept(name, depends, options, make)
    torch.nn.utils.vector_to_parameters(weights.to(towers.device), towers.lm.parameters())


__all__ = ["Chains", "WriteEverything", "stage_zero"]
