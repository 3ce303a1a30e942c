"""Settings of the sequential models: item vectors, losses, attention blocks, masking."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lexirec.models.config import ModelConfig
from lexirec.models.layers.adapters import AdapterKind
from lexirec.models.layers.sequence import Block, Positions
from lexirec.text.reduce import Kind
from lexirec.training.sequences import Targets

TEXT = frozenset({"encoder", "text", "transform", "text_dim"})
"""Settings that decide what an item's text vector is."""


class SequenceConfig(ModelConfig):
    """Settings that all sequential models have. What the others leave unread is refused, see :meth:`unread`."""

    embedding_dim: PositiveInt = 64
    """Width of item vectors and states."""
    max_len: PositiveInt = 50
    """Latest events of a history that are looked at."""
    num_layers: PositiveInt = 2
    """Blocks, or recurrent layers."""
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Dropout of the input and inside the blocks."""

    items: Literal["id", "text", "id+text", "text-start"] = "id"
    """Item vectors: a learned table; frozen text vectors through an adapter; the sum of both; or a learned table that starts at the
    reduced text vectors."""
    encoder: str = "minilm"
    """Encoder of the item texts and of wishes; see ``docs/encoders.md``."""
    text: str = "title"
    """Text template, such as ``title,brand,categories``."""
    transform: Kind = "none"
    """What is done to the text vectors, see :func:`~lexirec.text.reduce.fit_reduction`; ``text-start`` needs ``pca``, ``whiten`` or
    ``random``."""
    text_dim: PositiveInt | None = None
    """Dimensions that ``transform`` leaves; all if not given."""
    adapter: AdapterKind | Literal["none"] = "two-linear"
    """Map of the text vectors, see :class:`~lexirec.models.layers.adapters.Adapter`; ``none``: as they are (``text_dim`` must be
    ``embedding_dim``)."""
    adapter_dim: PositiveInt | None = None
    """Hidden size of the adapter; half the text dimension if not given."""
    freeze_text: bool = True
    """Whether text vectors stay as they are."""
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of a wish against the person, where a query gives no own."""

    loss: Literal["bce", "gbce", "softmax", "ce"] = "bce"
    """``bce``: binary cross entropy. ``gbce``: with the correction for sampling. ``softmax``: cross entropy against sampled items.
    ``ce``: against all items."""
    num_negs: PositiveInt = 1
    """Sampled items per target (``per-sample``) or per batch (``shared``)."""
    negatives: Literal["per-sample", "shared"] = "per-sample"
    """``per-sample``: own items that the user has not in training. ``shared``: one set for the batch."""
    tau: PositiveFloat = 1.0
    """Temperature that divides scores; with ``cosine`` it should be well below 1."""
    cosine: bool = False
    """Score by cosine instead of the inner product."""
    calibration: float = Field(default=0.75, ge=0.0, le=1.0)
    """Calibration of ``gbce``."""
    targets: Targets = "all"
    """Which events are predicted, see :data:`~lexirec.training.sequences.Targets`."""

    init: Literal["xavier", "normal", "clipped"] = "normal"
    """First values of matrices: Xavier normal (LLMEmb), normal with ``init_std`` (BERT), or Xavier normal cut at ``init_std`` with Xavier
    uniform queries, keys and values (RecBoard)."""
    init_std: PositiveFloat = 0.02
    """Standard deviation of ``normal``, largest value of ``clipped``."""
    optimiser: Literal["adam", "adamw"] = "adam"
    """``adamw`` decays weights apart from the gradient."""
    lr: PositiveFloat = 1e-3
    """Learning rate."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay."""
    batch_size: PositiveInt = 256
    """Windows per step."""

    @model_validator(mode="after")
    def _fits(self) -> "SequenceConfig":
        if self.items == "text-start" and self.transform not in ("pca", "whiten", "random"):
            raise ValueError("items='text-start' needs transform='pca', 'whiten' or 'random', which bring the text to embedding_dim")
        if self.text_dim is not None and self.transform in ("none", "center"):
            raise ValueError(f"text_dim is given and transform={self.transform!r} changes no dimension; use 'pca', 'whiten' or 'random'")
        return self

    @property
    def has_text(self) -> bool:
        """Whether new items and wishes can be answered by their words."""
        return self.items in ("text", "id+text")

    @property
    def read_elsewhere(self) -> frozenset[str]:
        """Settings that a model reads besides where they stand here, such as text vectors that are a feature of items known by id."""
        return frozenset()

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if not self.has_text:
            found |= dict.fromkeys(("adapter", "adapter_dim", "freeze_text", "alpha"), f"items = {self.items!r}")
            found |= dict.fromkeys(TEXT if self.items == "id" else ("text_dim",), f"items = {self.items!r}")
        elif self.adapter not in ("two-linear", "tanh", "gelu", "relu"):
            found["adapter_dim"] = f"adapter = {self.adapter!r}"
        if self.loss == "ce":
            found |= dict.fromkeys(("num_negs", "negatives"), "loss = 'ce'")
        if self.loss != "gbce":
            found["calibration"] = f"loss = {self.loss!r}"
        if self.init == "xavier":
            found["init_std"] = "init = 'xavier'"
        return {name: where for name, where in found.items() if name not in self.read_elsewhere}


class TransformerConfig(SequenceConfig):
    """Settings of the models made of attention blocks."""

    num_heads: PositiveInt = 1
    """Attention heads; must divide ``embedding_dim``."""
    inner: PositiveInt | None = None
    """Width inside the feed-forward part; ``embedding_dim`` if not given."""
    attention_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    """Dropout of attention weights; as ``dropout`` if not given."""
    activation: Literal["relu", "gelu"] = "relu"
    """Of the feed-forward part."""
    inner_dropout: bool = False
    """Whether the feed-forward part drops after ``gelu`` too, as PyTorch's own block does; with ``relu`` it always does, as in SASRec."""
    block: Block = "original"
    """See :data:`~lexirec.models.layers.sequence.Block`."""
    positions: Positions = "first"
    """See :data:`~lexirec.models.layers.sequence.Positions`."""

    def unread(self) -> dict[str, str]:
        return super().unread() | ({"inner_dropout": "activation = 'relu'"} if self.activation == "relu" else {})

    @model_validator(mode="after")
    def _heads_divide(self) -> "TransformerConfig":
        if self.embedding_dim % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide embedding_dim = {self.embedding_dim}")
        return self


class ClozeConfig(ModelConfig):
    """Settings of models that fill in masked events."""

    mask_prob: float = Field(default=0.2, gt=0.0, le=1.0)
    """Share of events masked."""
    mask_random: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the masked that become a random item instead of the mask."""
    mask_kept: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the masked that stay as they are."""
    mask_last: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of windows in which only the last event is masked, as when asked."""
    last_pass: bool = False
    """A second pass over all windows in each epoch with only the last event masked (LLMEmb's harness)."""
    head: bool = True
    """A linear map, GELU and norm between state and scores, as in BERT4Rec."""

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.mask_last == 1:  # no window is left in which events are masked at random
            found |= dict.fromkeys(("mask_prob", "mask_random", "mask_kept"), "mask_last = 1")
        return found

    @model_validator(mode="after")
    def _shares(self) -> "ClozeConfig":
        if self.mask_random + self.mask_kept > 1:
            raise ValueError(f"mask_random + mask_kept = {self.mask_random + self.mask_kept:g} are shares of the masked events; at most 1")
        return self


__all__ = ["ClozeConfig", "SequenceConfig", "TransformerConfig"]
