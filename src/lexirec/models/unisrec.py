"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941): item vectors from text alone, so that one encoder serves many data sets.

Official code: RUCAIBox/UniSRec (read). How this differs: the bundled encoder instead of BERT-base by default; windows are packed; an item's
dropout and gate noise are drawn once per step (in the second view anew), where the code draws them at every place of the item; the word
drop's texts are drawn once per catalogue, as in the code.

text vectors -> mixture of whitening experts (+ own vectors: ``items=id+text``) -> causal Transformer -> cosine / .07

pretrain:  several data sets -> next item among the batch's + 1e-3 x the same window with events or words dropped, among the batch's
finetune:  the pretrained weights, encoder and positions frozen -> cross entropy over all items
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError
from lexirec.models.earlier import refuse_leaks
from lexirec.models.layers.adapters import Adapter
from lexirec.models.layers.dropout import dropout
from lexirec.models.layers.sequence import Layout, ranges
from lexirec.models.sasrec import transformer
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.sequence_config import TransformerConfig
from lexirec.models.sequential import SequentialRecommender
from lexirec.text.encoders import Encoder, load_encoder
from lexirec.text.templates import parse_template
from lexirec.training.sequences import Targets, Windows, WindowSampler

DROPPED_WORDS = 0.15
"""Share of words left out of the texts of the word drop."""


class UniSRecConfig(TransformerConfig):
    """Settings of UniSRec; the defaults are the official ones."""

    stage: Literal["finetune", "pretrain"] = "finetune"
    """``pretrain``: by contrast within the batch, on one data set or several. ``finetune``: by cross entropy over all items."""
    pretrained: str | None = None
    """Run folder of a pretrained UniSRec to start from; from scratch if not given."""
    freeze: bool = True
    """Whether encoder and positions stay as they were pretrained; read with ``pretrained``."""
    items: Literal["text", "id+text"] = "text"
    """``text``: inductive, items are known by their words alone. ``id+text``: transductive, each item has a vector of its own besides."""
    experts: PositiveInt = 8
    """Whitening experts of the adaptor."""
    adapter_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout of the text vectors, for each expert anew."""
    adapter: Literal["experts"] = "experts"  # type: ignore[assignment]
    """The adaptor; nothing else is a UniSRec."""
    freeze_text: Literal[True] = True
    """Text vectors stay as they are."""
    transform: Literal["none"] = "none"
    """The experts whiten; text vectors come as the encoder makes them."""

    embedding_dim: PositiveInt = 300
    """Width of item vectors and states."""
    num_heads: PositiveInt = 2
    """Attention heads; must divide ``embedding_dim``."""
    inner: PositiveInt | None = 256
    """Width inside the feed-forward part."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Of the feed-forward part."""
    block: Literal["post-norm"] = "post-norm"
    """See :data:`~lexirec.models.layers.sequence.Block`."""
    loss: Literal["ce"] = "ce"
    """Of ``finetune``: against all items."""
    cosine: Literal[True] = True
    """Scores are cosines."""
    tau: PositiveFloat = 0.07
    """Temperature that divides scores."""
    targets: Targets = "prefixes"
    """Which events ``finetune`` predicts, see :data:`~lexirec.training.sequences.Targets`; ``pretrain`` is always by prefixes."""
    batch_size: PositiveInt = 2048
    """Windows per step."""

    seq_weight: NonNegativeFloat = 1e-3
    """``lambda`` of the contrast between a window and its augmentation; read by ``pretrain``."""
    item_drop: float = Field(default=0.9, ge=0.0, le=1.0)
    """``pretrain``: share of batches augmented by leaving out events; the others by leaving out words."""
    drop_ratio: float = Field(default=0.2, ge=0.0, lt=1.0)
    """``pretrain``: share of events left out, or whose words are thinned."""

    @model_validator(mode="after")
    def _pretrains_on_text(self) -> "UniSRecConfig":
        if self.stage == "pretrain" and self.items != "text":
            raise ValueError("stage='pretrain' learns from texts alone, for other data sets; set items='text'")
        if self.stage == "pretrain" and self.pretrained is not None:
            raise ValueError("stage='pretrain' starts from scratch; give pretrained to stage='finetune'")
        return self

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.stage == "pretrain":
            found["targets"] = "stage = 'pretrain'"
        else:
            found |= dict.fromkeys(("seq_weight", "item_drop", "drop_ratio"), "stage = 'finetune'")
        if self.pretrained is None:
            found["freeze"] = "pretrained = None"
        if self.stage == "pretrain" and not self.seq_weight:
            found |= dict.fromkeys(("item_drop", "drop_ratio"), "seq_weight = 0")
        return found


class ExpertsAdaptor(Adapter):
    """Mixture of parametric whitening experts, ``(n, D) -> (n, d)``: ``sum_g gate_g W_g (dropout(x) - b_g)``.

    ``gate = softmax(x W + z (softplus(x V) + 0.01))`` with standard normal ``z`` in training only. Gates start even (``W = V = 0``).
    They are put on an expert's ``d`` numbers rather than on its ``D``, the shifts ``W_g b_g`` are computed once, and the experts take
    turns: no ``(n, G, D)`` tensor is held.

    Args:
        text_dim: ``D``.
        dim: ``d``.
        experts: ``G``.
        dropout: of the text vectors, for each expert anew.
    """

    def __init__(self, text_dim: int, dim: int, experts: int, dropout: float) -> None:
        nn.Module.__init__(self)
        self.weight = nn.Parameter(torch.randn(experts, text_dim, dim) * 0.02)
        self.bias = nn.Parameter(torch.zeros(experts, text_dim))
        self.gate, self.noise = nn.Parameter(torch.zeros(text_dim, experts)), nn.Parameter(torch.zeros(text_dim, experts))
        self.dropout = dropout

    def forward(self, text: Tensor) -> Tensor:
        logits = text @ self.gate
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(text @ self.noise) + 1e-2)
        gates = logits.softmax(1)  # (n, G)
        if torch.is_autocast_enabled(text.device.type):
            text = text.to(torch.get_autocast_dtype(text.device.type))  # once for all experts
        shifts = (self.bias[:, None] @ self.weight)[:, 0]  # (G, d)
        rows = -(gates @ shifts)
        for expert, weight in enumerate(self.weight):
            rows = rows + gates[:, expert, None] * (dropout(text, self.dropout, self.training) @ weight)
        return rows


def batch_contrast(states: Tensor, others: Tensor, targets: Tensor, tau: float) -> Tensor:
    """Cross entropy of each row's partner among the batch's; pairs with the same target get the score 0, as in the official code.

    Args:
        states: ``(B, D)``, unit length.
        others: ``(B, D)``, unit length.
        targets: ``(B,)`` next item of each row.
        tau: temperature.

    >>> eye = torch.eye(2)
    >>> round(batch_contrast(eye, eye, torch.tensor([0, 1]), 1.0).item(), 6)
    0.313262
    """
    with torch.autocast(states.device.type, enabled=False):
        scores = states.float() @ others.float().T / tau
    same = targets[:, None] == targets[None, :]
    same.fill_diagonal_(False)
    return F.cross_entropy(scores.masked_fill(same, 0.0), torch.arange(len(states), device=states.device))


def thinned(texts: list[str], seed: int = 0) -> list[str]:
    """Texts without :data:`DROPPED_WORDS` of their words, at least one left; the same for the same text.

    >>> thinned(["soap"])
    ['soap']
    """
    found = []
    for text in texts:
        words = text.split()
        digest = hashlib.sha256(f"{seed}:{text}".encode("utf-8", "replace")).digest()
        draw = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32)).random(len(words))
        found.append(" ".join(word for word, x in zip(words, draw, strict=True) if x >= DROPPED_WORDS) or text)
    return found


@dataclass(frozen=True, eq=False)
class ContrastBatch(SequenceBatch):
    """Windows and their augmentation.

    Attributes:
        other_layout: where the augmented windows lie.
        other_inputs: ``(T',)``, counted in ``rows``; those whose words are thinned are counted on from its end.
        back: ``(B,)`` place of each window in the augmented layout.
    """

    other_layout: Layout
    other_inputs: Tensor
    back: Tensor


class UniSRec(SequentialRecommender):
    """Whitened text vectors and a causal Transformer, pretrained on other data sets or not.

    >>> UniSRec(items="id+text").config.experts
    8
    """

    name = "unisrec"
    Config = UniSRecConfig
    source: SequentialRecommender | None = None

    def make_body(self) -> nn.Module:
        return transformer(self.config, causal=True)

    def make_adapter(self, text_dim: int) -> Adapter:
        return ExpertsAdaptor(text_dim, self.config.embedding_dim, self.config.experts, self.config.adapter_dropout)

    def make_encoder(self, train: TrainSet) -> Encoder:
        if self.source is None:
            return super().make_encoder(train)
        return self.source.reader.encoder  # what was learned is about its vectors

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        config = self.config
        if config.stage == "pretrain":
            self.build_pretraining(train)
            return
        self.source = None if config.pretrained is None else self.read_source(config.pretrained, train)
        super().build(train, rng)
        if self.source is not None:
            self.start_from(self.source)
            self.source = None

    # --- pretrained weights ------------------------------------------------------------------------------------------------------

    def read_source(self, folder: str, train: TrainSet) -> SequentialRecommender:
        """The pretrained model.

        Raises:
            InputError: if it is another model, has another shape, or has seen what may be held out here.
        """
        from lexirec.models import load_model

        other = load_model(folder)
        if not isinstance(other, UniSRec):
            raise InputError(f"pretrained = {folder!r} is a {other.name}; give the run of a {self.name}")
        for name in ("embedding_dim", "num_layers", "num_heads", "inner", "max_len", "experts", "activation", "positions"):
            theirs, ours = getattr(other.config, name), getattr(self.config, name)
            if theirs != ours:
                raise InputError(f"pretrained = {folder!r} has {name} = {theirs!r} and this model {ours!r}; set {name}={theirs}")
        # By its own name: runs of older versions say another in their settings where they took one over.
        theirs, ours = other.reader.encoder.name, load_encoder(self.config.encoder).name
        if theirs != ours:
            raise InputError(
                f"pretrained = {folder!r} reads texts with encoder = {theirs!r}, which is kept, not {ours!r}; set encoder={theirs}"
            )
        if parse_template(other.config.text) != parse_template(self.config.text):
            warn(f"pretrained = {folder!r} read items as {other.config.text!r} and this training reads them as {self.config.text!r}")
        refuse_leaks(f"pretrained = {folder!r}", other, train)
        return other

    def start_from(self, other: SequentialRecommender) -> None:
        """Take over adaptor and encoder, and freeze what is published as frozen."""
        weights = {name: value for name, value in other.network.state_dict().items() if not name.startswith("items.own.")}
        self.network.load_state_dict({**self.network.state_dict(), **weights})
        if self.config.freeze:
            body = self._network.body
            for module in (body.blocks, body.positions):
                module.requires_grad_(False)

    # --- pretraining -------------------------------------------------------------------------------------------------------------

    def build_pretraining(self, train: TrainSet) -> None:
        """Parts of ``stage=pretrain``: contrast needs no negatives, so data sets may be mixed."""
        config = self.config
        self.n_items = self.trained = train.n_items
        self.stored = False
        self.network = self.make_network(self.make_items(train))
        self.initialise()
        self.windows = WindowSampler(train, config.batch_size, config.max_len, "prefixes")
        self.candidates = None
        self.log = train.item_index.astype(np.int64)
        self.thin = None if config.item_drop == 1.0 else torch.from_numpy(self.thinned_text(train)).to(self.device)

    def thinned_text(self, train: TrainSet) -> NDArray[np.float32]:
        """Text vectors of all items with some words left out, ``(I, D)``; encoded once."""
        from lexirec.text.cache import EmbeddingCache
        from lexirec.text.encoders.file import FileEncoder
        from lexirec.text.templates import render

        encoder = self.reader.encoder
        assert self._items.text is not None  # noqa: S101 (set by make_items)
        if isinstance(encoder, FileEncoder):
            raise InputError(
                f"encoder = {self.config.encoder!r} can't read words, and a tenth of the batches leaves some out; set item_drop=1"
            )
        texts = render(train.items, self.config.text)
        some = [row for row, text in enumerate(texts) if text]
        found = self._items.text.numpy().copy()  # items without a text keep their vector
        found[some] = EmbeddingCache().encode(encoder, thinned([texts[row] for row in some]))
        return found

    def n_batches(self, train: TrainSet) -> int:
        return super().n_batches(train) if self.config.stage == "finetune" else self.windows.n_batches

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        if self.config.stage == "finetune":
            yield from super().batches(train, rng)
            return
        for windows in self.windows.batches(rng):
            yield self.augmented(windows, rng)

    def augmented(self, windows: Windows, rng: np.random.Generator) -> ContrastBatch:
        """Windows with their next items, and the same windows with events or words left out."""
        config = self.config
        layout, lengths = Layout(windows.lengths, self.device), windows.lengths
        events = self.log[ranges(windows.starts, lengths)]
        targets = self.log[windows.starts + lengths]
        rows, places = np.unique(np.concatenate([events, targets]), return_inverse=True)
        inputs, targets = places[: len(events)], places[len(events) :]
        others, other_lengths, back = inputs, lengths, np.arange(len(lengths))
        chosen = rng.random(len(events)) < config.drop_ratio
        if rng.random() < config.item_drop:
            left = ~chosen
            left[layout.starts] = True  # the first event stays, so that something does
            other_lengths = np.add.reduceat(left, layout.starts)
            starts = np.cumsum(other_lengths) - other_lengths
            order = np.argsort(-other_lengths, kind="stable")
            others, other_lengths = inputs[left][ranges(starts[order], other_lengths[order])], other_lengths[order]
            back = np.argsort(order)
        else:
            others = others + len(rows) * chosen
        return ContrastBatch(
            layout, self._tensor(inputs), None, layout.last, self._tensor(targets), None, self._tensor(rows),
            Layout(other_lengths, self.device), self._tensor(others), self._tensor(back),
        )  # fmt: skip

    def loss(self, batch: SequenceBatch) -> Tensor:
        if not isinstance(batch, ContrastBatch):
            return super().loss(batch)
        config, network, rows = self.config, self._network, batch.rows
        table = self._items(rows)
        states = self.unit(network.states(table, batch.inputs, None, batch.layout, batch.at).float())
        wanted = self.unit(F.embedding(batch.targets, table).float())
        total = batch_contrast(states, wanted, batch.targets, config.tau)
        if config.seq_weight:
            other = self._items(rows)
            if self.thin is not None and int(batch.other_inputs.max()) >= len(other):
                assert rows is not None  # noqa: S101 (made by augmented)
                other = torch.cat([other, self._items.of_text(self.thin[rows])])
            layout = batch.other_layout
            second = network.states(other, batch.other_inputs, None, layout, layout.last).index_select(0, batch.back)
            total = total + config.seq_weight * batch_contrast(states, self.unit(second.float()), batch.targets, config.tau)
        return total


__all__ = ["ExpertsAdaptor", "UniSRec", "UniSRecConfig", "batch_contrast", "thinned"]
