"""GRU4Rec (Hidasi et al., ICLR 2016, arXiv 1511.06939), in the form that sequential benchmarks use.

Official code: hidasib/GRU4Rec. How this differs: windows of users instead of parallel sessions, and any of the losses of
:class:`~lexirec.models.sequence_config.SequenceConfig` instead of BPR-max; tied item vectors.

item vectors -> dropout -> gated recurrent layers -> (linear) -> dot with item vectors
"""

from typing import Any

from pydantic import Field, PositiveInt
from torch import nn

from lexirec.models.layers.sequence import Recurrent
from lexirec.models.sequence_config import SequenceConfig
from lexirec.models.sequential import SequentialRecommender


class GRU4RecConfig(SequenceConfig):
    """Settings of GRU4Rec."""

    num_layers: PositiveInt = 1
    """Recurrent layers."""
    hidden: PositiveInt | None = None
    """Width of the recurrent state; ``embedding_dim`` if not given, else a linear map leads back."""
    gate_bias: bool = True
    """Whether gates have biases; LLMEmb's harness has none."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout of the input."""


def recurrent(config: Any) -> Recurrent:
    """Recurrent layers of the kind that a :class:`GRU4RecConfig` asks for."""
    return Recurrent(config.embedding_dim, config.hidden or config.embedding_dim, config.num_layers, config.dropout, config.gate_bias)


class GRU4Rec(SequentialRecommender):
    """A recurrent network over the latest events.

    >>> GRU4Rec(hidden=128).config.num_layers
    1
    """

    name = "gru4rec"
    Config = GRU4RecConfig

    def make_body(self) -> nn.Module:
        return recurrent(self.config)


__all__ = ["GRU4Rec", "GRU4RecConfig", "recurrent"]
