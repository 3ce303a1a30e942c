"""S3-Rec (Zhou et al., CIKM 2020, arXiv 2008.07873): four tasks of mutual information teach items, attributes and segments before order.

Code read: the published RUCAIBox/CIKM2020-S3Rec as later projects carry it, RecBole's and RUCAIBox/UniSRec's versions. How this differs:
windows are packed; prefixes of one event are left out of the pre-training; a masked item's negative is unseen in the whole training
history, not only in the window. The four sums are published; ``reduction=mean`` divides each by its terms.

stage 1: windows with masks -> encoder that looks both ways -> attributes of what is there (AAP), masked items (MIP), their attributes
         (MAP), and whether a segment belongs into its context (SP)
stage 2: the same weights, causal, as SASRec
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import shown
from lexirec.errors import InputError
from lexirec.models.config import LENIENT
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.features import FIELDS, Bags, TextFeatures, bags, present_columns
from lexirec.models.layers.sequence import Layout, Positions, ranges
from lexirec.models.reading import TextReader
from lexirec.models.sasrec import transformer
from lexirec.models.sequence_config import TEXT, TransformerConfig
from lexirec.models.sequence_network import SequenceNetwork
from lexirec.models.sequential import SequentialRecommender
from lexirec.models.stages import digest, kept
from lexirec.text.reduce import fit_reduction
from lexirec.training.loop import pick_device, run_training
from lexirec.training.options import TrainingOptions
from lexirec.training.samplers import NegativeSampler
from lexirec.training.sequences import Windows, WindowSampler

OF_PRETRAINING = (
    "attributes", "min_items", "pretrain_batch", "pretrain_lr", "pretrain_windows", "mask_prob", "mask_end", "aap_weight", "mip_weight",
    "map_weight", "sp_weight", "reduction",
)  # fmt: skip
"""Settings that the pre-training alone reads."""


class S3RecConfig(TransformerConfig):
    """Settings of S3-Rec; the defaults are the official ones."""

    items: Literal["id"] = "id"
    """Items are known by id; attributes enter through the pre-training."""
    block: Literal["post-norm"] = "post-norm"
    """See :data:`~lexirec.models.layers.sequence.Block`."""
    positions: Positions = "last"
    """See :data:`~lexirec.models.layers.sequence.Positions`; official windows are padded at the left."""
    num_heads: PositiveInt = 2
    """Attention heads; must divide ``embedding_dim``."""
    inner: PositiveInt | None = 256
    """Width inside the feed-forward part."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Of the feed-forward part."""

    attributes: tuple[str, ...] | Literal["text"] | None = None
    """Columns whose values (each level of a category path is one) are an item's attributes; if not given, the first that is there of
    ``categories``, ``category``, ``genres`` ... and of ``brand``, ``manufacturer`` ...
    ``text``: the item itself is its attribute, read from its text vector (UniSRec's variant)."""
    min_items: PositiveInt = 5
    """Attributes of fewer items are left out."""
    pretrain_epochs: NonNegativeInt = 100
    """Passes of the pre-training; 0: none. Official checkpoints are from 100 and 150."""
    pretrain_batch: PositiveInt = 100
    """Windows per step of the pre-training."""
    pretrain_lr: float = Field(default=1e-3, gt=0.0)
    """Learning rate of the pre-training."""
    pretrain_windows: Literal["prefixes", "users"] = "prefixes"
    """``prefixes``: a window for each event with what came before it. ``users``: one per user, several times faster."""
    mask_prob: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of events masked."""
    mask_end: bool = True
    """Whether the last event of a window is always masked, as in the official code (not in RecBole's)."""
    aap_weight: NonNegativeFloat = 0.2
    """Weight of the attributes of unmasked items."""
    mip_weight: NonNegativeFloat = 1.0
    """Weight of masked items."""
    map_weight: NonNegativeFloat = 1.0
    """Weight of the attributes of masked items."""
    sp_weight: NonNegativeFloat = 0.5
    """Weight of the segments."""
    reduction: Literal["sum", "mean"] = "sum"
    """Of each task's terms within a batch."""

    @model_validator(mode="after")
    def _learns_something(self) -> "S3RecConfig":
        if self.pretrain_epochs and not (self.aap_weight or self.mip_weight or self.map_weight or self.sp_weight) and not LENIENT.get():
            raise ValueError("all four weights of the pre-training are 0, so it would learn nothing; raise one or set pretrain_epochs=0")
        return self

    @property
    def read_elsewhere(self) -> frozenset[str]:
        return frozenset({"init_std"} | (TEXT if self.attributes == "text" else set())) if self.pretrain_epochs else frozenset()

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if not self.pretrain_epochs:
            found |= dict.fromkeys(OF_PRETRAINING, "pretrain_epochs = 0")
        elif self.attributes == "text":
            found["min_items"] = "attributes = 'text'"
        return found


def double_sigmoid(positive: Tensor, negative: Tensor) -> Tensor:
    """``-log sigmoid(sigmoid(s+) - sigmoid(s-))``, per pair; never below ``log(1 + 1/e)``.

    >>> round(double_sigmoid(torch.tensor(2.0), torch.tensor(0.0)).item(), 6)
    0.520766
    """
    return F.softplus(negative.sigmoid() - positive.sigmoid())


@dataclass(frozen=True, eq=False)
class PretrainBatch:
    """Windows with their masks, all over one layout.

    Attributes:
        layout: where the windows lie.
        users: ``(B,)`` whose they are.
        items: ``(T,)``.
        masked: ``(T,)`` bool, items that MIP and MAP have to fill in.
        negatives: ``(T,)`` an unseen item where ``masked``, anything elsewhere.
        segment: ``(T,)`` bool, places of each window's segment; none in a window of one event.
        foreign: ``(T,)`` items of a random stretch of the log at the places of ``segment``.
        bag: attributes of the items, one item after another.
        counts: ``(T,)`` attributes of each.
    """

    layout: Layout
    users: NDArray[np.int64]
    items: Tensor
    masked: Tensor
    negatives: Tensor
    segment: Tensor
    foreign: Tensor
    bag: Tensor
    counts: Tensor


class PretrainNetwork(SequenceNetwork):
    """Encoder, mask, attributes and one map for each task."""

    def __init__(self, items: ItemVectors, body: nn.Module, dim: int, attributes: nn.Module) -> None:
        super().__init__(items, body, dim, masked=True)
        self.attributes = attributes
        self.aap, self.mip, self.map, self.sp = (nn.Linear(dim, dim) for _ in range(4))

    def attribute_loss(self, states: Tensor, bag: Tensor, starts: Tensor) -> Tensor:
        """Binary cross entropy of all attributes, summed.

        Attributes that are there enter by the sum of their vectors, ``s . sum a``, so that no matrix of ones and zeros is made.

        Args:
            states: ``(n, D)`` mapped states.
            bag: attributes of the ``n`` items, one item after another.
            starts: ``(n,)``.
        """
        vectors = self.attributes.weight if isinstance(self.attributes, nn.Embedding) else self.attributes()
        there = F.embedding_bag(bag, vectors, starts, mode="sum")
        return F.softplus(states @ vectors.T).sum() - (states * there).sum()


class Pretraining:
    """Stage 1 as the loop drives it.

    Args:
        config: settings.
        train: the training part.
        attributes: of each item.
        text: ``(I, D)`` text vectors where they stand for the attributes.
        device: where to train.
    """

    def __init__(self, config: S3RecConfig, train: TrainSet, attributes: Bags, text: Tensor | None, device: torch.device) -> None:
        self.config, self.attributes, self.device = config, attributes, device
        dim = config.embedding_dim
        whole = config.pretrain_windows == "prefixes"
        self.sampler = WindowSampler(train, config.pretrain_batch, config.max_len, "prefixes" if whole else None, whole=whole)
        self.negatives = NegativeSampler(train)
        self.log, self.users = train.item_index.astype(np.int64), train.users
        items = ItemVectors(train.n_items, dim, None, None, by_id=True)
        table = nn.Embedding(len(attributes.names), dim) if text is None else TextFeatures(text, text.shape[1], dim)
        network = PretrainNetwork(items, transformer(config, causal=False), dim, table)
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=config.init_std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        assert network.mask is not None  # noqa: S101 (asked for above)
        nn.init.normal_(network.mask, std=config.init_std)
        self.network: nn.Module = network.to(device)

    def n_batches(self, train: Any = None) -> int:
        """Batches per epoch."""
        return self.sampler.n_batches

    def batches(self, train: Any, rng: np.random.Generator) -> Iterator[PretrainBatch]:
        """Each window once, with fresh masks and segments."""
        for windows in self.sampler.batches(rng):
            yield self.masked(windows, rng)

    def masked(self, windows: Windows, rng: np.random.Generator) -> PretrainBatch:
        """Windows with masks, negatives and segments."""
        layout, lengths = Layout(windows.lengths, self.device), windows.lengths
        items = self.log[ranges(windows.starts, lengths)]
        masked = rng.random(layout.total) < self.config.mask_prob
        if self.config.mask_end:
            masked[layout.starts + lengths - 1] = True
        negatives = items.copy()
        owners = np.repeat(windows.users, lengths)[masked]
        if len(owners):
            negatives[masked] = self.negatives.draw(owners, 1, rng)[:, 0]
        # a segment of 1 .. n // 2 events, and as many from anywhere in the log
        size = np.where(lengths > 1, rng.integers(1, np.maximum(lengths // 2, 1) + 1), 0)
        start = rng.integers(0, lengths - size + 1)
        elsewhere = rng.integers(0, len(self.log) - size + 1)
        step = layout.steps - np.repeat(start, lengths)
        segment = (step >= 0) & (step < np.repeat(size, lengths))
        foreign = items.copy()
        foreign[segment] = self.log[(np.repeat(elsewhere, lengths) + step)[segment]]
        count = np.diff(self.attributes.offsets)[items]
        bag = self.attributes.values[ranges(self.attributes.offsets[items], count)]
        arrays = (items, masked, negatives, segment, foreign, bag, count)
        return PretrainBatch(layout, windows.users, *(torch.from_numpy(array).to(self.device) for array in arrays))

    def loss(self, batch: PretrainBatch) -> Tensor:
        config, network = self.config, cast(PretrainNetwork, self.network)
        table, layout = network.items(), batch.layout
        total = table.new_zeros(())
        states = network.states(table, batch.items, batch.masked, layout, None)
        n_attributes = len(self.attributes.names)
        for weight, module, at in ((config.aap_weight, network.aap, ~batch.masked), (config.map_weight, network.map, batch.masked)):
            rows = at.nonzero()[:, 0]
            if weight and len(rows):
                bag, starts = chosen(batch.bag, batch.counts, rows)
                total = total + weight * self.reduced(network.attribute_loss(module(states[rows]), bag, starts), len(rows) * n_attributes)
        rows = batch.masked.nonzero()[:, 0]
        if config.mip_weight and len(rows):
            mapped = network.mip(states[rows])
            right, wrong = ((mapped * F.embedding(of[rows], table)).sum(1) for of in (batch.items, batch.negatives))
            total = total + config.mip_weight * self.reduced(double_sigmoid(right, wrong).sum(), len(rows))
        if config.sp_weight:
            outside = torch.where(self.whole(batch), False, ~batch.segment)
            context = network.sp(network.states(table, batch.items, batch.segment, layout, layout.last))
            right, wrong = (
                (context * network.states(table, of, outside, layout, layout.last)).sum(1) for of in (batch.items, batch.foreign)
            )
            total = total + config.sp_weight * self.reduced(double_sigmoid(right, wrong).sum(), len(layout.lengths))
        return total

    def whole(self, batch: PretrainBatch) -> Tensor:
        """``(T,)`` rows of windows of one event, which have no segment and are read as they are."""
        return torch.from_numpy(np.repeat(batch.layout.lengths == 1, batch.layout.lengths)).to(self.device)

    def reduced(self, total: Tensor, terms: int) -> Tensor:
        """A sum as it is, or the mean of its terms."""
        return total if self.config.reduction == "sum" else total / terms

    def culprits(self, batch: PretrainBatch) -> str:
        """Whose windows a batch holds, for the error of a loss that is not finite."""
        return f"user_id {shown(self.users.name(np.unique(batch.users)))}"

    def optimiser(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.config.pretrain_lr, fused=self.device.type in ("cpu", "cuda"))

    def refresh(self) -> None:
        """Nothing is cached between epochs."""


def chosen(bag: Tensor, counts: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The bags of some rows, and where each begins."""
    starts, lengths = counts.cumsum(0) - counts, counts[rows]
    begin = lengths.cumsum(0) - lengths
    step = torch.arange(int(lengths.sum()), device=bag.device) - torch.repeat_interleave(begin, lengths)
    return bag[torch.repeat_interleave(starts[rows], lengths) + step], begin


class S3Rec(SequentialRecommender):
    """A causal Transformer pretrained to tell items, attributes and stretches of histories (Zhou et al., CIKM 2020).

    >>> S3Rec(pretrain_epochs=10).config.mip_weight
    1.0
    """

    name = "s3rec"
    Config = S3RecConfig
    start: Tensor | None = None

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        self.check_log(train)  # before the epochs of the pre-training
        self.start = self.pretrained_weights(train, options) if self.config.pretrain_epochs else None
        return super().learn(train, valid, options)

    def pretrained_weights(self, train: TrainSet, options: TrainingOptions) -> Tensor:
        """Stage 1: item vectors and encoder in one row, made once for a training part, settings and a seed.

        Raises:
            InputError: if columns are missing, or no value is shared by ``min_items`` items.
        """
        attributes, text = self.make_attributes(train)
        config = self.config
        left_out = {"loss", "num_negs", "negatives", "tau", "cosine", "calibration", "targets", "lr", "weight_decay", "batch_size", "alpha"}
        depends = {
            **config.model_dump(mode="json", exclude=left_out), "train": train.content_hash, "seed": options.seed,
            "precision": options.precision, "attributes": hashlib.sha256(json.dumps(attributes.names).encode()).hexdigest(),
            "vectors": None if text is None else digest(text.numpy()),
        }  # fmt: skip

        def make(stage: TrainingOptions) -> Tensor:
            torch.manual_seed(stage.seed)
            model = Pretraining(config, train, attributes, text, pick_device(stage.device))
            run_training(cast(Any, model), train, None, stage.model_copy(update={"epochs": config.pretrain_epochs}))
            return self.shared_row(cast(PretrainNetwork, model.network)).detach().cpu()

        return kept(self.name, depends, options, make)

    def make_attributes(self, train: TrainSet) -> tuple[Bags, Tensor | None]:
        """Attributes of each item, and text vectors where these stand for them."""
        config = self.config
        if config.attributes != "text":
            columns = present_columns(train.items, config.attributes, FIELDS, "attributes=[...] or attributes=text")
            return bags(train.items, columns, config.min_items), None
        self.reader = TextReader(self.make_encoder(train))
        raw = self.item_text(train.items)
        self.reader.reduction = fit_reduction(raw, config.transform, config.text_dim)
        text = torch.from_numpy(self.reader.reduce(raw))
        everything = np.arange(train.n_items + 1, dtype=np.int64)
        return Bags(everything[:-1], everything, train.items["item_id"].to_list()), text

    @staticmethod
    def shared_row(network: SequenceNetwork) -> Tensor:
        """Weights that both stages have, one after another."""
        return nn.utils.parameters_to_vector([*network.items.parameters(), *network.body.parameters()])

    @staticmethod
    @torch.no_grad()
    def copy_shared(row: Tensor, network: SequenceNetwork) -> None:
        """Undo :meth:`shared_row`."""
        parameters = [*network.items.parameters(), *network.body.parameters()]
        for parameter, values in zip(parameters, row.split([p.numel() for p in parameters]), strict=True):
            parameter.copy_(values.view_as(parameter))

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        super().build(train, rng)
        if self.start is not None:
            network = self._network
            if len(self.start) != len(self.shared_row(network)):
                raise InputError(f"{self.name}: the kept pre-training has another shape; remove its file from the cache and train again")
            self.copy_shared(self.start, network)
            self.start = None

    def make_body(self) -> nn.Module:
        return transformer(self.config, causal=True)


__all__ = ["S3Rec", "S3RecConfig", "double_sigmoid"]
