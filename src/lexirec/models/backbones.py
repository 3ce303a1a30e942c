"""Any sequence encoder by name, for the systems that are defined on top of one (LLMEmb, LLM2X, MELT, SAID, TSLRec)."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from lexirec.models.bsarec import filtered
from lexirec.models.contract import ModelConfig
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


class BackboneConfig(TransformerConfig, ClozeConfig):
    """Settings of a system on any encoder. The defaults are those of LLMEmb's harness, with packed windows.

    Settings that belong to one encoder say so; the others leave them unread.
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
        """Defaults that differ by encoder: a recurrent one has one layer and no dropout."""
        if isinstance(values, dict) and values.get("backbone") == "gru4rec":
            return {"num_layers": 1, "dropout": 0.0, **values}
        return values

    @model_validator(mode="after")
    def _filter_sees_all(self) -> "BackboneConfig":
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
