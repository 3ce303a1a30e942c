"""Any sequence encoder by name, for the systems that are defined on top of one (LLMEmb, LLM2X, MELT, SAID, TSLRec)."""

from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from lexirec.models.bsarec import filtered
from lexirec.models.config import LENIENT, ModelConfig
from lexirec.models.gru4rec import recurrent
from lexirec.models.hstu import gated
from lexirec.models.sasrec import transformer
from lexirec.models.sequence_config import ClozeConfig, TransformerConfig
from lexirec.models.sequential import SequentialRecommender

BODIES: dict[str, Callable[[Any], nn.Module]] = {
    "sasrec": lambda config: transformer(config, causal=config.causal),
    "bert4rec": lambda config: transformer(config, causal=False),
    "gru4rec": recurrent,
    "bsarec": filtered,
    "hstu": gated,
}
"""Sequence encoders by name."""
OF_ONE = {
    "sasrec": ("causal",),
    "bert4rec": tuple(ClozeConfig.model_fields),
    "gru4rec": ("hidden", "gate_bias"),
    "bsarec": ("cutoff", "causal_filter", "filter_share"),
}
"""Settings that belong to one encoder."""
NOT_OF = {
    "gru4rec": ("num_heads", "inner", "attention_dropout", "activation", "block", "positions"),
    "hstu": ("inner", "attention_dropout", "activation", "block"),
}
"""Settings of blocks that an encoder has not."""


class BackboneConfig(TransformerConfig, ClozeConfig):
    """Settings of a system on any encoder. The defaults are those of LLMEmb's harness, with packed windows.

    Settings that belong to one encoder say so; with another they are refused, as is what an encoder has not.
    """

    backbone: Literal["sasrec", "bert4rec", "gru4rec", "bsarec", "hstu"] = "sasrec"
    """The sequence encoder."""
    embedding_dim: PositiveInt = 128
    """Width of item vectors and states."""
    max_len: PositiveInt = 200
    """Latest events of a history that are looked at."""
    init: Literal["xavier", "normal"] = "xavier"
    """See :class:`~lexirec.models.sequence_config.SequenceConfig`."""
    batch_size: PositiveInt = 128
    """Windows per step."""

    causal: bool = False
    """sasrec: whether an event sees only itself and earlier ones; LLMEmb's harness looks both ways."""
    mask_prob: float = Field(default=0.6, gt=0.0, le=1.0)
    """bert4rec: share of events masked."""
    mask_random: float = Field(default=0.1, ge=0.0, le=1.0)
    """bert4rec: share of the masked that become a random item."""
    mask_kept: float = Field(default=0.1, ge=0.0, le=1.0)
    """bert4rec: share of the masked that stay."""
    last_pass: bool = True
    """bert4rec: a second pass over all windows in each epoch with only the last event masked."""
    head: bool = False
    """bert4rec: a linear map, GELU and norm between state and scores."""
    hidden: PositiveInt | None = None
    """gru4rec: width of the recurrent state."""
    gate_bias: bool = False
    """gru4rec: whether gates have biases."""
    cutoff: PositiveInt = 5
    """bsarec: ``cutoff // 2 + 1`` frequencies are the slow ones."""
    causal_filter: bool = True
    """bsarec: whether the filter looks back only, so that all places are trained at once."""
    filter_share: float = Field(default=0.7, ge=0.0, le=1.0)
    """bsarec: weight of the filter against attention."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_encoder(cls, values: Any) -> Any:
        """Defaults that differ by encoder: a recurrent one has one layer and no dropout, the filter's block is of one kind only."""
        own: dict[str, dict[str, Any]] = {"gru4rec": {"num_layers": 1, "dropout": 0.0}, "bsarec": {"block": "post-norm"}}
        return {**own.get(str(values.get("backbone")), {}), **values} if isinstance(values, dict) else values

    def unread(self) -> dict[str, str]:
        names = chain(NOT_OF.get(self.backbone, ()), *(of for encoder, of in OF_ONE.items() if encoder != self.backbone))
        return super().unread() | {name: f"backbone = {self.backbone!r}" for name in names if name not in self.read_elsewhere}

    @model_validator(mode="after")
    def _fits_the_filter(self) -> "BackboneConfig":
        if self.backbone == "bsarec" and self.block != "post-norm" and not LENIENT.get():
            raise ValueError(f"block = {self.block!r}: the blocks of backbone = 'bsarec' are 'post-norm'; leave it out")
        if self.backbone == "bsarec" and self.targets == "all" and not self.causal_filter:
            raise ValueError("targets='all' lets bsarec's filter see what it has to predict; use 'prefixes', 'last' or causal_filter=true")
        return self


class BackboneRecommender(SequentialRecommender):
    """Base of the systems on any encoder."""

    Config: ClassVar[type[ModelConfig]] = BackboneConfig

    @property
    def cloze(self) -> bool:  # type: ignore[override]
        return bool(self.config.backbone == "bert4rec")

    def make_body(self) -> nn.Module:
        return BODIES[self.config.backbone](self.config)


__all__ = ["BODIES", "BackboneConfig", "BackboneRecommender"]
