"""Sequence encoders over packed batches: only real events take part in any product, so padding can't leak and costs nothing.

A packed batch holds the events of ``B`` sequences one after another in one array of ``T`` rows, sequences sorted by length, longest
first. Everything that works on single events (embeddings, linear maps, norms, losses) sees the ``T`` rows. Where events look at each
other, sequences of like length form a group (:class:`Group`) that is padded to its own longest member, at the end.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.models.layers.dropout import dropout

Positions = Literal["first", "last"]
"""From which end positions are counted: the first event of the window is 0, or the last event is ``max_len - 1``."""
Block = Literal["original", "post-norm"]
"""``original``: SASRec's block, norm of the query only. ``post-norm``: norm after each residual, as in BERT."""
WEIGHTS = 1 << 24
"""Weights of HSTU's attention that are in memory at a time where no gradient is needed."""
MASKED = -1e9
"""Score of a pair that may not look at each other; finite, so that a row of nothing else gives no NaN."""


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers ``starts[i] .. starts[i] + lengths[i] - 1`` for every ``i``, one after another.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


@dataclass(frozen=True, eq=False)
class Group:
    """Neighbouring sequences of a packed batch, padded at the end to the longest of them.

    Attributes:
        first, last: its rows of the packed batch are ``first:last``.
        size: sequences in it.
        length: length of the longest.
        gather: ``(size * length,)`` packed row of each place; ``None`` where all have the same length, so that nothing is padded.
        real: ``(last - first,)`` places that hold an event.
        lengths: ``(size,)``.
    """

    first: int
    last: int
    size: int
    length: int
    gather: Tensor | None
    real: Tensor | None
    lengths: Tensor

    def padded(self, rows: Tensor) -> Tensor:
        """``(T, D) -> (size, length, D)``; padding repeats a real row."""
        if self.gather is None:
            return rows[self.first : self.last].view(self.size, self.length, -1)
        return rows.index_select(0, self.gather).view(self.size, self.length, -1)

    def packed(self, rows: Tensor) -> Tensor:
        """``(size, length, D) -> (last - first, D)``."""
        flat = rows.reshape(self.size * self.length, -1)
        return flat if self.real is None else flat.index_select(0, self.real)

    @cached_property
    def present(self) -> Tensor | None:
        """``(size, length)`` whether a place holds an event; ``None`` where all do."""
        if self.gather is None:
            return None
        return torch.arange(self.length, device=self.lengths.device)[None, :] < self.lengths[:, None]


class Layout:
    """Where the sequences of a packed batch lie.

    Args:
        lengths: ``(B,)`` lengths, descending, each at least 1.
        device: of the index tensors.
    """

    def __init__(self, lengths: NDArray[np.int64], device: torch.device | str = "cpu") -> None:
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self.device = torch.device(device)
        self.total = int(lengths.sum())

    def with_single(self, n: int) -> "Layout":
        """This layout with ``n`` sequences of one row behind it."""
        return Layout(np.concatenate([self.lengths, np.ones(n, dtype=self.lengths.dtype)]), self.device) if n else self

    @cached_property
    def steps(self) -> NDArray[np.int64]:
        """Place of each row in its sequence, from 0, ``(T,)``."""
        return ranges(np.zeros_like(self.lengths), self.lengths)

    @cached_property
    def last(self) -> Tensor:
        """Row of each sequence's last event, ``(B,)``."""
        return torch.from_numpy(self.starts + self.lengths - 1).to(self.device)

    def positions(self, max_len: int, counted: Positions) -> Tensor:
        """Position of each row, ``(T,)``, see :data:`Positions`."""
        shift = 0 if counted == "first" else np.repeat(max_len - self.lengths, self.lengths)
        return torch.from_numpy(self.steps + shift).to(self.device)

    @cached_property
    def groups(self) -> list[Group]:
        """Sequences whose lengths differ by a quarter at most share a group."""
        found, lo = [], 0
        while lo < len(self.lengths):
            longest = int(self.lengths[lo])
            shortest = longest - longest // 4
            hi = lo + int(np.searchsorted(-self.lengths[lo:], -shortest, side="right"))
            found.append(self._group(lo, hi, longest))
            lo = hi
        return found

    def _group(self, lo: int, hi: int, longest: int) -> Group:
        lengths = self.lengths[lo:hi]
        first, last = int(self.starts[lo]), int(self.starts[hi - 1] + self.lengths[hi - 1])
        gather = real = None
        if int(lengths[-1]) != longest:
            places = np.minimum(np.arange(longest)[None, :], lengths[:, None] - 1)
            gather = torch.from_numpy((self.starts[lo:hi, None] + places).reshape(-1)).to(self.device)
            real = torch.from_numpy(ranges(np.arange(hi - lo) * longest, lengths)).to(self.device)
        return Group(first, last, hi - lo, longest, gather, real, torch.from_numpy(lengths).to(self.device))

    @cached_property
    def by_time(self) -> tuple[Tensor, Tensor, Tensor]:
        """Order of the rows by time step, its inverse, and how many sequences reach each step: what a recurrent layer eats."""
        order = np.argsort(self.steps, kind="stable")
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        sizes = np.bincount(self.steps)
        return torch.from_numpy(order).to(self.device), torch.from_numpy(inverse).to(self.device), torch.from_numpy(sizes)


def over_groups(layout: Layout, mix: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Apply ``mix(group, *padded)`` to each group and pack the answers again, ``(T, D)``."""
    return torch.cat([group.packed(mix(group, *(group.padded(r) for r in rows))) for group in layout.groups])


def allowed(group: Group, causal: bool, device: torch.device) -> Tensor | None:
    """Additive mask of a group, broadcastable to ``(size, heads, length, length)``; ``None`` where every pair may look.

    With padding at the end a causal mask alone keeps real events from seeing any.
    """
    if causal:
        return torch.full((group.length, group.length), MASKED, device=device).triu(1)
    if group.present is None:
        return None
    return (~group.present).to(torch.float32).mul(MASKED)[:, None, None, :]


class Attention(nn.Module):
    """Multi-head attention within each sequence.

    Args:
        dim: width ``D``.
        heads: heads; must divide ``dim``.
        dropout: on the attention weights.
        causal: whether an event sees only itself and earlier ones.
    """

    def __init__(self, dim: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.heads, self.dropout, self.causal = heads, dropout, causal

    def forward(self, query: Tensor, source: Tensor, layout: Layout) -> Tensor:
        """``query`` looks at ``source``, both ``(T, D)``."""
        return self.out(over_groups(layout, self._mix, self.query(query), self.key_value(source)))

    def _mix(self, group: Group, query: Tensor, both: Tensor) -> Tensor:
        size, length, dim = query.shape
        heads = query.view(size, length, self.heads, -1).transpose(1, 2)
        key, value = both.view(size, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mask = allowed(group, self.causal, query.device)
        if self.training and self.dropout:
            scores = heads @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
            weights = (scores if mask is None else scores + mask).softmax(-1)
            mixed = dropout(weights, self.dropout) @ value
        else:
            mixed = F.scaled_dot_product_attention(heads, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(size, length, dim)


class FeedForward(nn.Module):
    """linear, activation, linear, with dropout where SASRec and BERT have it; with ``inside`` after BERT's activation too."""

    def __init__(self, dim: int, inner: int, dropout: float, activation: str, inside: bool = False) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.dropout, self.activation, self.inside = dropout, activation, inside

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.first(rows)
        if self.activation == "relu":  # SASRec drops before the rectifier as well
            hidden = F.relu(dropout(hidden, self.dropout, self.training))
        else:
            hidden = F.gelu(hidden)
            if self.inside:
                hidden = dropout(hidden, self.dropout, self.training)
        return dropout(self.second(hidden), self.dropout, self.training)


class OriginalBlock(nn.Module):
    """SASRec's block: ``q = norm(x); x = q + attention(q, x); x = norm(x); x = x + feed_forward(x)``."""

    def __init__(
        self, dim: int, heads: int, inner: int, dropout: float, attention_dropout: float, causal: bool, activation: str,
        inner_dropout: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attention = Attention(dim, heads, attention_dropout, causal)
        self.feed_forward = FeedForward(dim, inner, dropout, activation, inner_dropout)
        self.norm_query, self.norm = nn.LayerNorm(dim, eps=1e-8), nn.LayerNorm(dim, eps=1e-8)

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        query = self.norm_query(rows)
        rows = self.norm(query + self.attention(query, rows, layout))
        return rows + self.feed_forward(rows)


class PostNormBlock(nn.Module):
    """BERT's block: ``x = norm(x + attention(x)); x = norm(x + feed_forward(x))``."""

    def __init__(
        self, dim: int, heads: int, inner: int, dropout: float, attention_dropout: float, causal: bool, activation: str,
        inner_dropout: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attention = Attention(dim, heads, attention_dropout, causal)
        self.feed_forward = FeedForward(dim, inner, dropout, activation, inner_dropout)
        self.norm_attention, self.norm = nn.LayerNorm(dim, eps=1e-12), nn.LayerNorm(dim, eps=1e-12)
        self.dropout = dropout

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        mixed = dropout(self.attention(rows, rows, layout), self.dropout, self.training)
        rows = self.norm_attention(rows + mixed)
        return self.norm(rows + self.feed_forward(rows))


class FilterBlock(nn.Module):
    """BSARec's block: attention and a frequency filter side by side, then a feed-forward part, each with residual and norm.

    The filter keeps the slowest ``cutoff // 2 + 1`` frequencies of the window of ``max_len`` places and scales the rest by a learned
    square. Keeping frequencies is a circular convolution, so it depends on the distance of two events only; with zeros in the empty places
    it is one small matrix, whichever end the window is padded at. Source: Shin et al., AAAI 2024, arXiv 2312.10325.

    ``causal_filter`` lets a place see itself and earlier ones only (the matrix without its upper triangle). Then every place of a window
    can be trained at once; with one block, the state of a place is the one that the published filter gives for the window cut there.
    """

    low_pass: Tensor

    def __init__(
        self, dim: int, heads: int, inner: int, dropout: float, attention_dropout: float, causal: bool, activation: str,
        inner_dropout: bool = False, *, max_len: int, cutoff: int, share: float, causal_filter: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.attention = Attention(dim, heads, attention_dropout, causal)
        self.feed_forward = FeedForward(dim, inner, dropout, activation, inner_dropout)
        self.norm_attention, self.norm_filter, self.norm = (nn.LayerNorm(dim, eps=1e-12) for _ in range(3))
        self.scale = nn.Parameter(torch.randn(1, dim))
        self.dropout, self.share = dropout, share
        spectrum = np.fft.rfft(np.eye(max_len), axis=0)
        spectrum[cutoff // 2 + 1 :] = 0
        low = torch.from_numpy(np.fft.irfft(spectrum, n=max_len, axis=0).astype(np.float32))
        self.register_buffer("low_pass", low.tril() if causal_filter else low, persistent=False)  # (max_len, max_len)

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        low = over_groups(layout, self._smooth, rows)
        filtered = low + self.scale.square() * (rows - low)
        filtered = self.norm_filter(rows + dropout(filtered, self.dropout, self.training))
        attended = self.norm_attention(rows + dropout(self.attention(rows, rows, layout), self.dropout, self.training))
        rows = self.share * filtered + (1 - self.share) * attended
        return self.norm(rows + self.feed_forward(rows))

    def _smooth(self, group: Group, rows: Tensor) -> Tensor:
        if group.present is not None:
            rows = rows * group.present[:, :, None]
        return self.low_pass[: group.length, : group.length] @ rows


class HSTUBlock(nn.Module):
    """HSTU's block: gated attention without softmax, with a learned bias by distance.

    ``u, v, q, k = silu(linear(norm(x))); x = x + linear(norm(silu(q k' + bias) v / n) * u)``, one norm inside and one before.
    Source: Zhai et al., ICML 2024, arXiv 2402.17152; the bias by time is left out, as the events' order is all that we use.
    """

    def __init__(self, dim: int, heads: int, dropout: float, max_len: int) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, 4 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(heads, max_len))
        self.norm, self.norm_inner = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads, self.dropout, self.max_len = heads, dropout, max_len

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        gate, rest = F.silu(self.projection(self.norm(rows))).split([rows.shape[1], 3 * rows.shape[1]], dim=1)
        mixed = self.norm_inner(over_groups(layout, self._mix, rest)) * gate
        return rows + self.out(dropout(mixed, self.dropout, self.training))

    def _mix(self, group: Group, rest: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._weighed(rest)
        at_once = max(1, WEIGHTS // (self.heads * rest.shape[1] ** 2))
        return torch.cat([self._weighed(part) for part in rest.split(at_once)])

    def _weighed(self, rest: Tensor) -> Tensor:
        size, length, _ = rest.shape
        value, query, key = rest.view(size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        step = torch.arange(length, device=rest.device)
        distance = step[:, None] - step[None, :]
        bias = self.bias[:, distance.clamp(min=0)]  # (heads, length, length)
        weights = F.silu(query @ key.transpose(-1, -2) + bias) / self.max_len
        weights = weights * (distance >= 0)
        return (weights @ value).transpose(1, 2).reshape(size, length, -1)


class Stack(nn.Module):
    """Positions, dropout and blocks: ``(T, D) -> (T, D)``.

    Args:
        blocks: modules called with rows and layout.
        dim: width ``D``.
        max_len: places of a window.
        dropout: after the position embedding.
        counted: see :data:`Positions`.
        norm_first: norm after adding positions (BERT-like) instead of at the end (SASRec).
        scale: factor of the item vectors before positions are added; SASRec's is ``sqrt(D)``.
    """

    def __init__(
        self, blocks: list[nn.Module], dim: int, max_len: int, dropout: float, counted: Positions, *, norm_first: bool, scale: float
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.positions = nn.Embedding(max_len, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12 if norm_first else 1e-8)
        self.max_len, self.dropout, self.counted, self.norm_first, self.scale = max_len, dropout, counted, norm_first, scale

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        rows = rows * self.scale + self.positions(layout.positions(self.max_len, self.counted))
        if self.norm_first:
            rows = self.norm(rows)
        rows = dropout(rows, self.dropout, self.training)
        for block in self.blocks:
            rows = block(rows, layout)
        return rows if self.norm_first else self.norm(rows)


class Recurrent(nn.Module):
    """Gated recurrent layers: ``(T, D) -> (T, D)``.

    Args:
        dim: width of the item vectors.
        hidden: width of the state; a linear map brings it back to ``dim`` where it differs.
        layers: layers.
        dropout: on the input.
        bias: whether the gates have biases (LLMEmb's have none).
    """

    def __init__(self, dim: int, hidden: int, layers: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.cells = nn.GRU(dim, hidden, layers, bias=bias)
        self.out = nn.Identity() if hidden == dim else nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        order, inverse, sizes = layout.by_time
        rows = dropout(rows, self.dropout, self.training).index_select(0, order)
        packed = nn.utils.rnn.PackedSequence(rows, sizes)
        states: Any = self.cells(packed)[0]
        return self.out(states.data.index_select(0, inverse))
