"""The weights of Recformer: a Longformer, the item vectors that are ranked, and what fills in hidden words."""

import copy

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from lexirec.models.layers.itemtokens import TokenBatch
from lexirec.models.layers.longformer import EPS, Longformer
from lexirec.models.layers.softmax import cross_entropy_over_items


class RecformerNetwork(nn.Module):
    """Encoder, the item vectors that are ranked, and what fills in hidden words.

    Args:
        encoder: reads tokens.
        n_items: catalogue size.
        dim: width.
        writes: whether hidden words are filled in.
    """

    candidates: Tensor
    writer: Longformer | None
    """The encoder as it was when it wrote the candidates: it goes on learning beside them, and a new item must lie in their space."""

    def __init__(self, encoder: Longformer, n_items: int, dim: int, *, writes: bool) -> None:
        super().__init__()
        self.encoder = encoder
        # Part of the state: the best epoch's vectors belong to the best epoch's weights.
        self.register_buffer("candidates", torch.zeros(n_items, dim))
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=EPS)) if writes else None
        self.bias = nn.Parameter(torch.zeros(encoder.words.num_embeddings)) if writes else None
        self.writer = None

    def keep_writer(self) -> None:
        """Let :attr:`writer` be the encoder as it is now."""
        if self.writer is None:
            self.writer = copy.deepcopy(self.encoder).requires_grad_(False)
        else:
            self.writer.load_state_dict(self.encoder.state_dict())

    def read(self, batch: TokenBatch, encoder: Longformer | None = None) -> Tensor:
        """States of the start tokens in the order that was asked for, ``(B, D)``; by the present encoder if no other is given."""
        found = (encoder or self.encoder)(batch.tokens, batch.kinds, batch.items, batch.layout)
        return found.index_select(0, batch.back)

    def word_loss(self, batch: TokenBatch, tokens: Tensor, at: Tensor, labels: Tensor, occurring: Tensor) -> Tensor:
        """Mean cross entropy of the hidden tokens at rows ``at`` among those that occur in the catalogue, ascending."""
        assert self.head is not None and self.bias is not None  # noqa: S101 (pretraining)
        states = self.encoder(tokens, batch.kinds, batch.items, batch.layout, first_only=False).index_select(0, at)
        states = self.head(states)
        # the bias of each word as one more column
        states = torch.cat([states, states.new_ones(len(states), 1)], 1)
        words = torch.cat([F.embedding(occurring, self.encoder.words.weight), self.bias[occurring, None]], 1)
        low = torch.is_autocast_enabled(states.device.type)
        with torch.autocast(states.device.type, enabled=False):
            return cross_entropy_over_items(states.float(), words.float(), torch.searchsorted(occurring, labels), low=low)


__all__ = ["RecformerNetwork"]
