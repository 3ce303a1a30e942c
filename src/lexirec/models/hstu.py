"""HSTU-style gated attention (Zhai et al., ICML 2024, arXiv 2402.17152).

Official code: meta-recsys/generative-recommenders. How this differs: the bias depends on distance alone, not on time, and there are no
other features than the items.

item vectors * sqrt(d) + positions -> dropout -> blocks of gated attention -> norm -> cosine / temperature
"""

import math
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import nn

from lexirec.models.layers.sequence import HSTUBlock, Positions, Stack
from lexirec.models.sequence_config import SequenceConfig
from lexirec.models.sequential import SequentialRecommender


class HSTUConfig(SequenceConfig):
    """Settings of HSTU."""

    num_layers: PositiveInt = 4
    """Blocks."""
    num_heads: PositiveInt = 2
    """Attention heads; must divide ``embedding_dim``."""
    positions: Positions = "first"
    """See :data:`~lexirec.models.layers.sequence.Positions`."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout of the input and inside the blocks."""
    loss: Literal["bce", "gbce", "softmax", "ce"] = "softmax"
    """See :class:`~lexirec.models.sequence_config.SequenceConfig`."""
    num_negs: PositiveInt = 512
    """Sampled items per target or per batch."""
    tau: PositiveFloat = 0.1
    """Temperature."""
    cosine: bool = True
    """Score by cosine."""
    optimiser: Literal["adam", "adamw"] = "adamw"
    """``adamw`` decays weights apart from the gradient."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "HSTUConfig":
        if self.embedding_dim % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide embedding_dim = {self.embedding_dim}")
        return self


def gated(config: Any) -> Stack:
    """Positions and gated blocks of the kind that an :class:`HSTUConfig` asks for."""
    dim, blocks = (
        config.embedding_dim,
        [HSTUBlock(config.embedding_dim, config.num_heads, config.dropout, config.max_len) for _ in range(config.num_layers)],
    )
    return Stack([*blocks], dim, config.max_len, config.dropout, config.positions, norm_first=False, scale=math.sqrt(dim))


class HSTU(SequentialRecommender):
    """Gated attention without softmax over the latest events.

    >>> HSTU().config.num_negs
    512
    """

    name = "hstu"
    Config = HSTUConfig

    def make_body(self) -> nn.Module:
        return gated(self.config)


__all__ = ["HSTU", "HSTUConfig", "gated"]
