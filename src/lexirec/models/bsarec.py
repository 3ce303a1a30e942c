"""BSARec (Shin et al., AAAI 2024, arXiv 2312.10325).

Official code: yehjin-shin/BSARec. How this differs: the empty places of a window are zeros to the frequency filter (there they are
position vectors), and windows are packed.

item vectors + positions -> norm, dropout -> blocks of (attention | frequency filter) -> dot with item vectors
"""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator
from torch import nn

from lexirec.models.layers.sequence import FilterBlock, Positions, Stack
from lexirec.models.sequence_config import TransformerConfig
from lexirec.models.sequential import SequentialRecommender
from lexirec.training.sequences import Targets


class BSARecConfig(TransformerConfig):
    """Settings of BSARec."""

    targets: Targets = "prefixes"
    """``prefixes`` as published; ``all`` needs ``causal_filter``, as the published filter mixes all places of a window."""
    causal_filter: bool = False
    """Whether the filter looks back only: then all places are trained at once, several times faster (not in the paper)."""
    cutoff: PositiveInt = 5
    """``cutoff // 2 + 1`` frequencies are the slow ones."""
    filter_share: float = Field(default=0.7, ge=0.0, le=1.0)
    """Weight of the filter against attention."""
    block: Literal["post-norm"] = "post-norm"
    """The filter's block is of this kind only."""
    positions: Positions = "last"
    """See :data:`~lexirec.models.layers.sequence.Positions`; ``first`` if ``targets`` is ``all`` and nothing is given, since then only the
    last event of a window would be trained at the place that is asked for."""
    inner: PositiveInt | None = 256
    """Width inside the feed-forward part."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Of the feed-forward part."""
    loss: Literal["bce", "gbce", "softmax", "ce"] = "ce"
    """See :class:`~lexirec.models.sequence_config.SequenceConfig`."""

    @model_validator(mode="before")
    @classmethod
    def _places(cls, values: Any) -> Any:
        return {"positions": "first", **values} if isinstance(values, dict) and values.get("targets") == "all" else values

    @model_validator(mode="after")
    def _filter_sees_all(self) -> "BSARecConfig":
        if self.targets == "all" and not self.causal_filter:
            raise ValueError("targets='all' lets the filter see what it has to predict; use 'prefixes', 'last' or causal_filter=true")
        return self


def filtered(config: Any) -> Stack:
    """Positions and filter blocks of the kind that a :class:`BSARecConfig` asks for."""
    dim, attention_dropout = config.embedding_dim, config.dropout if config.attention_dropout is None else config.attention_dropout
    blocks: list[nn.Module] = [
        FilterBlock(
            dim, config.num_heads, config.inner or dim, config.dropout, attention_dropout, True, config.activation,
            config.inner_dropout, max_len=config.max_len, cutoff=config.cutoff, share=config.filter_share,
            causal_filter=config.causal_filter,
        )
        for _ in range(config.num_layers)
    ]  # fmt: skip
    return Stack(blocks, dim, config.max_len, config.dropout, config.positions, norm_first=True, scale=1.0)


class BSARec(SequentialRecommender):
    """Attention beside a learned frequency filter.

    >>> BSARec(cutoff=3).config.targets
    'prefixes'
    """

    name = "bsarec"
    Config = BSARecConfig

    def make_body(self) -> nn.Module:
        return filtered(self.config)


__all__ = ["BSARec", "BSARecConfig", "filtered"]
