"""BERT4Rec (Sun et al., CIKM 2019, arXiv 1904.06690).

Official code: FeiSun/BERT4Rec. How this differs: the bias per item in the scores is a setting (``output: bias``); random
positions are masked anew in every epoch instead of ten fixed copies (``mask_last`` and ``last_pass`` add windows with only the last event
masked); all masked events become the mask, as in RecBole; published are 80 %, with 10 % that become a random item and 10 % that stay
(``mask_random=0.1, mask_kept=0.1``).

item vectors + positions -> norm, dropout -> blocks of attention in both directions -> linear, GELU, norm -> dot with item vectors
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.sequence import Block, Positions
from lexirec.models.sasrec import transformer
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.sequence_config import ClozeConfig, TransformerConfig
from lexirec.models.sequence_network import SequenceNetwork
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
    output: Literal["tied", "bias", "own"] = "tied"
    """What states are held against. ``tied``: item vectors. ``bias``: these and a learned bias per item, as published. ``own``: vectors and
    biases of their own, apart from those that are read (RecBoard). A bias is one more number of item vectors, against a 1 in people's."""

    @model_validator(mode="after")
    def _output_is_of_ids(self) -> "BERT4RecConfig":
        if self.output != "tied" and (self.items not in ("id", "text-start") or self.cosine):
            raise ValueError(
                f"output={self.output!r} is learned by id, and by inner products; set items='id' (or 'text-start') and cosine=false"
            )
        return self


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

    def make_network(self, items: ItemVectors) -> SequenceNetwork:
        network = super().make_network(items)
        if self.config.output == "bias":
            network.register_parameter("output_bias", nn.Parameter(torch.zeros(self.trained)))
        elif self.config.output == "own":
            network.add_module("output", nn.Linear(self.config.embedding_dim, self.trained))
        return network

    def outputs(self, table: Tensor, rows: Tensor | None = None) -> Tensor:
        """What states with a 1 behind them are held against, ``(I, D + 1)``, for item vectors ``(I, D)`` of all items, or of ``rows``."""
        if self.config.output == "bias":
            vectors, bias = table, self._network.get_parameter("output_bias")
        else:
            vectors, bias = self._network.get_parameter("output.weight"), self._network.get_parameter("output.bias")
            vectors = vectors if rows is None else F.embedding(rows, vectors)
        return torch.cat([vectors, (bias if rows is None else bias[rows])[:, None]], dim=1)

    def recommendation_loss(self, states: Tensor, table: Tensor, batch: SequenceBatch, low: bool) -> Tensor:
        if self.config.output != "tied":
            states, table = with_one(states), self.outputs(table, batch.rows)
        return super().recommendation_loss(states, table, batch, low)

    def use_table(self, table: Tensor) -> None:
        super().use_table(table)
        if self.config.output != "tied":
            self.item_rows = self.outputs(table).detach().float().cpu()

    def item_vectors(self) -> Tensor:
        return self.unit(self.table).cpu()  # those that are read; what states are held against may be others, and has a bias beside it

    def encode_histories(self, flat: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
        states = super().encode_histories(flat, lengths)
        return states if self.config.output == "tied" else with_one(states)


def with_one(states: Tensor) -> Tensor:
    """``(B, D) -> (B, D + 1)``: what a bias per item is multiplied with.

    >>> with_one(torch.zeros(1, 2)).tolist()
    [[0.0, 0.0, 1.0]]
    """
    return torch.cat([states, states.new_ones(len(states), 1)], dim=1)


__all__ = ["BERT4Rec", "BERT4RecConfig"]
