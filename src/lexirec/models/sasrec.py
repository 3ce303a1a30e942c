"""SASRec (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

Official code: kang205/SASRec. How this differs: the block is the published one (``block=original``; ``post-norm`` with GELU is RecBole's),
windows are packed instead of padded, and the last epoch's weights give way to the best validation epoch. LLMEmb's harness attends in both
directions (``causal=false``): then every event but the last sees its own target while training, which its author found to score better.

item vectors * sqrt(d) + positions -> dropout -> blocks of causal attention -> norm -> dot with item vectors
"""

import math
from typing import Any

from torch import nn

from lexirec.models.layers.sequence import OriginalBlock, PostNormBlock, Stack
from lexirec.models.sequence_config import TransformerConfig
from lexirec.models.sequential import SequentialRecommender


class SASRecConfig(TransformerConfig):
    """Settings of SASRec."""

    causal: bool = True
    """Whether an event sees only itself and earlier ones; ``false`` as in LLMEmb's harness."""


def transformer(config: Any, *, causal: bool) -> Stack:
    """Positions and attention blocks of the kind that a :class:`TransformerConfig` asks for."""
    dim, inner = config.embedding_dim, config.inner or config.embedding_dim
    attention_dropout = config.dropout if config.attention_dropout is None else config.attention_dropout
    kind = OriginalBlock if config.block == "original" else PostNormBlock
    blocks: list[nn.Module] = [
        kind(dim, config.num_heads, inner, config.dropout, attention_dropout, causal, config.activation, config.inner_dropout)
        for _ in range(config.num_layers)
    ]
    original = config.block == "original"
    scale = math.sqrt(dim) if original else 1.0
    return Stack(blocks, dim, config.max_len, config.dropout, config.positions, norm_first=not original, scale=scale)


class SASRec(SequentialRecommender):
    """Self-attention over the latest events.

    >>> SASRec(embedding_dim=32, loss="ce").config.loss
    'ce'
    """

    name = "sasrec"
    Config = SASRecConfig

    def make_body(self) -> nn.Module:
        return transformer(self.config, causal=self.config.causal)


__all__ = ["SASRec", "SASRecConfig", "transformer"]
