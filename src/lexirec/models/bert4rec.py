"""BERT4Rec (Sun et al., CIKM 2019, arXiv 1904.06690).

Official code: FeiSun/BERT4Rec. How this differs: no bias per item in the scores, so that scores stay inner products; random positions
are masked anew in every epoch instead of ten fixed copies (``mask_last`` and ``last_pass`` add windows with only the last event masked);
all masked events become the mask, as in RecBole; published are 80 %, with 10 % that become a random item and 10 % that stay
(``mask_random=0.1, mask_kept=0.1``).

item vectors + positions -> norm, dropout -> blocks of attention in both directions -> linear, GELU, norm -> dot with item vectors
"""

from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn

from lexirec.models.layers.sequence import Block, Positions
from lexirec.models.sasrec import transformer
from lexirec.models.sequence_config import ClozeConfig, TransformerConfig
from lexirec.models.sequential import SequentialRecommender


class BERT4RecConfig(TransformerConfig, ClozeConfig):
    """Settings of BERT4Rec."""

    block: Block = "post-norm"
    """See :data:`~lexirec.models.layers.sequence.Block`; LLMEmb's harness has ``original``."""
    positions: Positions = "last"
    """See :data:`~lexirec.models.layers.sequence.Positions`: from the last event, the place of the mask is one that training saw."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Of the feed-forward part."""
    inner: PositiveInt | None = 256
    """Width inside the feed-forward part."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Dropout of the input and inside the blocks."""
    loss: Literal["bce", "gbce", "softmax", "ce"] = "ce"
    """See :class:`~lexirec.models.sequence_config.SequenceConfig`."""


class BERT4Rec(SequentialRecommender):
    """Masked events are filled in from both sides; asked, a mask is put after the history.

    >>> BERT4Rec(mask_prob=0.4).config.loss
    'ce'
    """

    name = "bert4rec"
    Config = BERT4RecConfig
    cloze = True

    def make_body(self) -> nn.Module:
        return transformer(self.config, causal=False)


__all__ = ["BERT4Rec", "BERT4RecConfig"]
