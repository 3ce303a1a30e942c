"""Settings of EasyRec."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lexirec.models.textual import TextConfig


class EasyRecConfig(TextConfig):
    """Settings of EasyRec."""

    encoder: str = "minilm"
    """What to start from: ``minilm``, ``hf:<model>`` or ``st:<model>`` of the BERT or RoBERTa kind, or ``tiny``, ``small``, ``base``,
    ``large``: a RoBERTa of that size with fresh weights, and the bundled tokenizer."""
    start: str | None = None
    """Run folder of an ``easyrec`` whose encoder this training goes on from, with its pooling, head and layers: trained on other shops
    first, then on this one. A run that saw events held out here is refused."""
    num_layers: PositiveInt | None = None
    """Keep the lowest layers only (EasyRec-small is six of RoBERTa-base's twelve)."""
    pooling: Literal["auto", "first", "mean"] = "auto"
    """``first``: the first token, as published; ``mean``: over all tokens; ``auto``: ``mean`` for ``minilm``, as the folder of ``st:`` and
    the name of ``hf:`` (``hf:<model>?pooling=mean``) say, else ``first``."""
    head: bool | None = None
    """Linear map and tanh after pooling, the checkpoint's or with random weights at the start; by default with ``first`` only, and not for
    ``st:``, which was trained without."""
    raw: bool = True
    """Whether an item may also be read as its raw metadata (the published fifth text of an item)."""
    person: Literal["profile", "others"] = "profile"
    """Text of a user in training. ``profile``: one of the written ones, as published; it may name the positive. ``others``: written anew
    at each draw from the user's other items, as a person is met later (with two or more distinct items), without a language model and
    without reviews."""
    keep: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the weights of ``encoder`` as it was in the trained encoder's: the average of both (WiSE-FT, Wortsman et al., CVPR 2022)
    forgets less and holds better where it wasn't trained; 0 as published. With ``start`` it is the encoder that the earlier run began
    with, and with ``epochs=0`` beside it nothing is trained."""
    tau: PositiveFloat = 0.05
    """Temperature of the contrast; fixed."""
    mask_false_negatives: bool = False
    """Leave candidates out that a user has chosen too; published without."""
    mlm_weight: NonNegativeFloat = 0.1
    """Weight of the masked-word loss; 0.1 is written in the official code, 0.8 is what it amounts to there on eight devices."""
    mlm_share: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of the words that are masked."""
    decoder: Literal["untied", "tied"] = "untied"
    """Whether the decoder of masked words has weights of its own (as published; they start as the word embeddings) or shares those."""
    batch_size: PositiveInt = 256
    """Users of a contrast."""
    batches: Literal["mixed", "own"] = "mixed"
    """Whether a batch mixes data sets (as published) or is of one."""
    epoch_users: PositiveInt | None = None
    """Users of an epoch, drawn anew for each; all by default."""
    epochs: NonNegativeInt = 25
    """Epochs over which the learning rate falls to 0; the training options' own number is an upper bound. 0: the encoder as it is, such as
    a released checkpoint."""
    steps: PositiveInt | None = None
    """Steps in all instead of ``epochs``, however many epochs they are: the training options' number bounds ``epochs`` alone."""
    lr: PositiveFloat = 5e-5
    """Learning rate at the start, falling in a line to 0."""
    warmup: NonNegativeInt = 0
    """Steps in which the rate rises to that line first; published without, but a training of a few hundred steps gains by it."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's."""
    clip_norm: PositiveFloat = 1.0
    """Largest gradient norm, where the training options give none."""
    dropout: float | None = Field(default=0.0, ge=0.0, lt=1.0)
    """The encoder's own dropout in training; ``null`` keeps the one it was made with (0.1 as published). 0 is much faster on a CPU."""
    max_length: PositiveInt = 64
    """Most tokens of a text in training."""
    read_length: PositiveInt = 512
    """Most tokens of a text afterwards."""
    micro_batch: PositiveInt | None = None
    """Texts with a graph in memory at a time (gradient caching: one more forward pass, any batch size); ``null``: all of a batch."""
    batch_tokens: PositiveInt = 8192
    """Most tokens of one pass in training; texts of like length share a pass."""
    frozen_layers: NonNegativeInt | None = None
    """Embeddings and lowest layers that keep their weights: 0 the embeddings alone; ``null``: nothing is frozen."""
    read_precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products when texts are read; ``auto``: bfloat16 where the device has it. Training follows the training options."""
    valid_users: PositiveInt | None = 2000
    """Users of each data set that a validation asks, drawn once; ``null``: all."""
    valid_versions: PositiveInt = 1
    """Versions of the profiles that a validation averages over (4 in the official code)."""

    @model_validator(mode="after")
    def _together(self) -> "EasyRecConfig":
        if self.max_length > self.read_length:
            raise ValueError(f"max_length = {self.max_length} is above read_length = {self.read_length}")
        if not self.profiles and self.valid_versions > self.versions + 1:
            raise ValueError(f"valid_versions = {self.valid_versions} and there are {self.versions + 1} versions")
        return self

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.start is not None:
            found |= dict.fromkeys(("num_layers", "pooling", "head", *(() if self.keep else ("encoder",))), "start")
        if not self.mlm_weight:
            found |= dict.fromkeys(("mlm_share", "decoder"), "mlm_weight = 0")
        if self.steps is not None:
            found["epochs"] = f"steps = {self.steps}"
        if self.item_text != "profile":
            found["raw"] = f"item_text = {self.item_text!r}"
        return found


__all__ = ["EasyRecConfig"]
