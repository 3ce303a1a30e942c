"""Longformer (Beltagy et al., 2020, arXiv 2004.05150) over packed batches: attention within a window, and one token that sees all.

The first token of each sequence is global: every token sees it, and it sees every token through projections of its own. Exact, with two
savings: its keys and values are never made (one query per sequence and head is brought to the rows instead, which costs ``heads`` columns
per row and not ``2 D``), and where only its state is wanted the last block is computed for it alone.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.models.layers.dropout import dropout
from lexirec.models.layers.sequence import MASKED, FeedForward, Group, Layout, over_groups

EPS = 1e-5
"""Of the norms, as in the published weights."""


class WindowAttention(nn.Module):
    """Each token looks at those up to half a window away and at the first; the first looks at all.

    Args:
        dim: width ``D``.
        heads: heads; must divide ``dim``.
        window: tokens of a window, even; a token looks at half of it on either side.
        dropout: on the attention weights.
    """

    def __init__(self, dim: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.global_query, self.global_key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.heads, self.reach, self.dropout = heads, window // 2, dropout

    def forward(self, rows: Tensor, layout: Layout, starts: Tensor) -> Tensor:
        """``(T, D) -> (T, D)``; ``starts``: ``(B,)`` row of each first token."""
        found = over_groups(layout, self._windowed, self.query(rows), self.key_value(rows))
        return self.out(found.index_copy(0, starts, self._global(rows, layout, starts)))

    def first(self, rows: Tensor, layout: Layout, starts: Tensor) -> Tensor:
        """What :meth:`forward` gives for the first tokens alone, ``(B, D)``."""
        return self.out(self._global(rows, layout, starts))

    def _global(self, rows: Tensor, layout: Layout, starts: Tensor) -> Tensor:
        dim, heads = rows.shape[1], self.heads
        width = dim // heads
        key, value = self.global_key_value.weight.view(2, heads, width, dim).unbind(0)
        query = self.global_query(rows.index_select(0, starts)).view(-1, heads, width) / math.sqrt(width)
        # q . (W x + b) = (W' q) . x + a constant that the softmax takes out
        query = torch.einsum("bhw,hwd->bhd", query, key)
        parts, shares, done = [], [], 0
        for group in layout.groups:
            padded = group.padded(rows)  # (size, length, D)
            scores = query[done : done + group.size] @ padded.transpose(1, 2)  # (size, heads, length)
            if group.present is not None:
                scores = scores.masked_fill(~group.present[:, None, :], MASKED)
            weights = dropout(scores.softmax(2), self.dropout, self.training)
            parts.append(weights @ padded)
            shares.append(weights.sum(2))
            done += group.size
        # sum_j p_j (W x_j + b) = W (sum_j p_j x_j) + (sum_j p_j) b
        bias = self.global_key_value.bias[dim:].view(heads, width)
        mixed = torch.einsum("bhd,hwd->bhw", torch.cat(parts), value) + torch.cat(shares)[:, :, None] * bias
        return mixed.flatten(1)

    def _windowed(self, group: Group, query: Tensor, both: Tensor) -> Tensor:
        size, length, dim = query.shape
        heads = query.view(size, length, self.heads, -1).transpose(1, 2)
        key, value = both.view(size, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self._dense(group, heads, key, value) if length <= 3 * self.reach else self._banded(group, heads, key, value)
        return mixed.transpose(1, 2).reshape(size, length, dim)

    def _dense(self, group: Group, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """All pairs with a mask: for sequences of a window and a half at most."""
        step = torch.arange(group.length, device=query.device)
        seen = (step[:, None] - step[None, :]).abs() <= self.reach
        seen[:, 0] = True
        mask: Tensor = seen[None, None]
        if group.present is not None:
            mask = mask & group.present[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)

    def _banded(self, group: Group, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Blocks of ``reach`` queries against the three blocks of keys around them, and against the first key."""
        reach, length = self.reach, group.length
        blocks = -(-length // reach)
        size, heads, _, width = query.shape
        over = blocks * reach - length
        split = F.pad(query, (0, 0, 0, over)).view(size, heads, blocks, reach, width) / math.sqrt(width)
        around = []
        for rows in (key, value):
            rows = F.pad(rows, (0, 0, reach, over + reach)).view(size, heads, blocks + 2, reach, width)
            around.append(torch.cat([rows[:, :, :-2], rows[:, :, 1:-1], rows[:, :, 2:]], 3))  # (size, heads, blocks, 3 reach, width)
        row, column = torch.arange(reach, device=query.device), torch.arange(3 * reach, device=query.device)
        near = (column[None, :] >= row[:, None]) & (column[None, :] <= row[:, None] + 2 * reach)  # (reach, 3 reach)
        place = (torch.arange(blocks, device=query.device)[:, None] - 1) * reach + column  # (blocks, 3 reach)
        there = (place > 0)[None] & (place[None] < group.lengths[:, None, None])  # the first key is seen apart
        mask = near[None, None] & there[:, :, None]  # (size, blocks, reach, 3 reach)
        scores = (split @ around[0].transpose(-1, -2)).masked_fill(~mask[:, None], MASKED)
        first = split @ key[:, :, None, 0, :, None]  # (size, heads, blocks, reach, 1)
        weights = dropout(torch.cat([first, scores], -1).softmax(-1), self.dropout, self.training)
        mixed = weights[..., 1:] @ around[1] + weights[..., :1] * value[:, :, None, :1]
        return mixed.view(size, heads, blocks * reach, width)[:, :, :length]


class LongformerBlock(nn.Module):
    """``x = norm(x + attention(x)); x = norm(x + feed_forward(x))``."""

    def __init__(self, dim: int, heads: int, inner: int, window: int, dropout: float) -> None:
        super().__init__()
        self.attention = WindowAttention(dim, heads, window, dropout)
        self.feed_forward = FeedForward(dim, inner, dropout, "gelu")
        self.norm_attention, self.norm = nn.LayerNorm(dim, eps=EPS), nn.LayerNorm(dim, eps=EPS)
        self.dropout = dropout

    def forward(self, rows: Tensor, layout: Layout, starts: Tensor, first_only: bool = False) -> Tensor:
        """``(T, D) -> (T, D)``, or ``(B, D)`` for the first tokens."""
        mixed = (self.attention.first if first_only else self.attention)(rows, layout, starts)
        rows = rows.index_select(0, starts) if first_only else rows
        rows = self.norm_attention(rows + dropout(mixed, self.dropout, self.training))
        return self.norm(rows + self.feed_forward(rows))


class Longformer(nn.Module):
    """Tokens of items to states: Recformer's four embeddings and the blocks.

    Args:
        vocabulary: tokens.
        dim: width ``D``.
        layers, heads, inner, window, dropout: of the blocks.
        max_tokens: longest sequence.
        max_items: most items of a sequence.
    """

    def __init__(
        self, vocabulary: int, dim: int, layers: int, heads: int, inner: int, window: int, dropout: float, max_tokens: int, max_items: int
    ) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, dim), nn.Embedding(max_tokens, dim)
        self.kinds, self.items = nn.Embedding(3, dim), nn.Embedding(max_items + 1, dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.blocks = nn.ModuleList([LongformerBlock(dim, heads, inner, window, dropout) for _ in range(layers)])
        self.dropout = dropout

    def forward(self, tokens: Tensor, kinds: Tensor, items: Tensor, layout: Layout, *, first_only: bool = True) -> Tensor:
        """States of the first tokens ``(B, D)``, or of all ``(T, D)``.

        Args:
            tokens: ``(T,)``, sequences one after another, longest first, each with its start token.
            kinds: ``(T,)`` 0: start, 1: name of an attribute, 2: its value.
            items: ``(T,)`` 0: start, ``k``: the ``k``-th latest item.
            layout: where the sequences lie.
            first_only: whether only the first tokens' states are wanted.
        """
        places = torch.from_numpy(layout.steps).to(tokens.device)
        rows = self.words(tokens) + self.positions(places) + self.kinds(kinds) + self.items(items)
        rows = dropout(self.norm(rows), self.dropout, self.training)
        starts = torch.from_numpy(first_rows(layout)).to(tokens.device)
        for number, block in enumerate(self.blocks, 1):
            rows = block(rows, layout, starts, first_only and number == len(self.blocks))
        return rows


def first_rows(layout: Layout) -> NDArray[np.int64]:
    """Row of each sequence's first token, ``(B,)``."""
    return layout.starts.astype(np.int64)


__all__ = ["Longformer", "LongformerBlock", "WindowAttention"]
