"""Ranks by counting: how many items score higher than a target, how many score the same; and the first K items of a user.

Scores pass by in blocks of users x items and are thrown away; a whole row is never sorted and users x items never exist in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.errors import InputError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the targets of users stand, ties left open.

    A target with ``greater = g`` and ``equal = e`` stands at one of the 1-based positions ``g + 1 .. g + e``.

    Attributes:
        greater: ``(N,)`` int64, candidates that score strictly higher than the target.
        equal: ``(N,)`` int64, candidates with the target's score, itself included (at least 1).
        offsets: ``(U + 1,)`` int64; targets of user ``u`` are ``offsets[u]:offsets[u + 1]``, at least one each.

    >>> ranks = Ranks(np.array([0, 0, 3]), np.array([3, 3, 1]), np.array([0, 2, 3]))
    >>> ranks.together.tolist(), ranks.above.tolist(), ranks.tied
    ([2, 2, 1], [0, 0, 0], True)
    >>> ranks.optimistic().greater.tolist(), ranks.pessimistic().greater.tolist()
    ([0, 1, 3], [1, 2, 3])
    """

    greater: Ints
    equal: Ints
    offsets: Ints

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def counts(self) -> Ints:
        """Targets per user, ``(U,)``."""
        return np.diff(self.offsets)

    @cached_property
    def users(self) -> Ints:
        """User of each target, ``(N,)``."""
        return np.repeat(np.arange(self.n_users), self.counts)

    @cached_property
    def _structure(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Order by (user, greater), and per target: how many stand together, how many above, place among those together."""
        n = len(self.greater)
        if n == self.n_users:  # one target each: the common case of leave-one-out needs no sort
            return np.arange(n), np.ones(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
        order = np.lexsort((self.greater, self.users))
        user, greater = self.users[order], self.greater[order]
        fresh = np.ones(n, dtype=bool)
        fresh[1:] = (user[1:] != user[:-1]) | (greater[1:] != greater[:-1])
        starts = np.flatnonzero(fresh)
        sizes = np.diff(np.append(starts, n))
        together, above, place = (np.empty(n, np.int64) for _ in range(3))
        together[order] = np.repeat(sizes, sizes)
        above[order] = np.repeat(starts - self.offsets[user[starts]], sizes)
        place[order] = np.arange(n) - np.repeat(starts, sizes)
        return order, together, above, place

    @property
    def together(self) -> Ints:
        """Targets of the same user with the same score, itself included, ``(N,)``."""
        return self._structure[1]

    @property
    def above(self) -> Ints:
        """Targets of the same user with a higher score, ``(N,)``."""
        return self._structure[2]

    @cached_property
    def best(self) -> Ints:
        """Position of one best target of each user, ``(U,)``."""
        return self._structure[0][self.offsets[:-1]]

    @cached_property
    def tied(self) -> bool:
        """Whether any target ties with an item that isn't a target (only then do the three treatments differ)."""
        return bool((self.equal > self.together).any())

    def optimistic(self) -> "Ranks":
        """Every tie settled for the targets."""
        return Ranks(self.greater + self._structure[3], np.ones_like(self.equal), self.offsets)

    def pessimistic(self) -> "Ranks":
        """Every tie settled against the targets."""
        return Ranks(self.greater + self.equal - self.together + self._structure[3], np.ones_like(self.equal), self.offsets)

    def select(self, targets: Bools) -> tuple["Ranks", Ints]:
        """Only some targets (ranked among all items still), and the users that have any of them.

        Args:
            targets: ``(N,)`` bool.

        Returns:
            The ranks of those targets and the positions of the users kept.
        """
        counts = np.bincount(self.users[targets], minlength=self.n_users)
        kept = np.flatnonzero(counts)
        return Ranks(self.greater[targets], self.equal[targets], np.append(0, np.cumsum(counts[kept]))), kept


@dataclass(frozen=True, eq=False)
class BlockRanks:
    """Ranks and lists of one block of users.

    Attributes:
        greater, equal: as in :class:`Ranks`, ``(N,)`` int64. A target below the first ``depth`` items whose exact count was not asked
            for holds ``greater = n_items`` and ``equal = 1``.
        top: ``(B, depth)`` int32, the first items, best first; -1 where a user has fewer candidates.
    """

    greater: Ints
    equal: Ints
    top: NDArray[np.int32]


def rank_block(
    score: Callable[[int, int], Tensor],
    n_items: int,
    target_rows: Ints,
    target_items: Ints,
    masked_rows: Ints,
    masked_items: Ints,
    *,
    depth: int,
    shuffle: Ints,
    best_of: "list[Bools] | None" = None,
    block_items: int | None = None,
    settle: bool = True,
    check: "Callable[[int, int], str] | None" = None,
) -> BlockRanks:
    """Count, for each target of a block of users, the items above it and beside it.

    Targets among the first ``depth`` are counted from that list; what lies deeper needs a pass over the row, and only the
    best target of a user is looked at again (the one that MRR without cut-off asks for), unless ``best_of`` is ``None``.

    Args:
        score: ``score(lo, hi)`` gives the scores of the block's users for items ``lo..hi-1``, ``(B, hi - lo)`` float32. It is written
            to, and asked again for the same range if there are several ranges: it must then give the same bits.
        n_items: ``I``.
        target_rows: ``(N,)`` row of each target, ascending.
        target_items: ``(N,)`` item of each target.
        masked_rows: ``(M,)`` rows of pairs that are no candidates.
        masked_items: ``(M,)`` their items.
        depth: length of the list, at most ``I``; 0 makes no list.
        shuffle: ``(I,)`` place of each item in a fixed shuffle; equal scores are listed in this order.
        best_of: sets of targets, ``(N,)`` bool each, whose best one per user gets an exact count; ``None`` counts every target.
        block_items: items per pass; all at once by default. With more than one pass the product is computed twice.
        settle: order tied items of the list by ``shuffle``; without it the counts are the same, but the list is left open among ties.
        check: names a row and an item for the error message; ``None`` if the scores are known to be finite.

    Returns:
        Counts and lists.

    Raises:
        InputError: if a score is NaN or infinite.

    Memory: one ``(B, block_items)`` float32 array, which ``score`` owns, and ``(B, 2 depth)``.
    """
    step = n_items if block_items is None else max(1, min(block_items, n_items))
    ranges = [(lo, min(lo + step, n_items)) for lo in range(0, n_items, step)]

    def scored(lo: int, hi: int) -> Tensor:
        block = score(lo, hi)
        if check is not None:
            _check_finite(block, lo, check)
        inside = slice(None) if len(ranges) == 1 else (masked_items >= lo) & (masked_items < hi)
        _fill(block, masked_rows[inside], masked_items[inside] - lo)
        return block

    values = np.empty(len(target_items), dtype=np.float32)
    top_values, top = None, None
    block = None
    for lo, hi in ranges:
        block = scored(lo, hi)
        inside = slice(None) if len(ranges) == 1 else np.flatnonzero((target_items >= lo) & (target_items < hi))
        values[inside] = _take(block, target_rows[inside], target_items[inside] - lo)
        if depth:
            block_values, block_top = _top(block, min(depth, hi - lo), shuffle[lo:hi], settle)
            block_top = block_top + lo
            if top_values is None or top is None:
                top_values, top = block_values, block_top
            else:
                top_values, top = _merge(np.hstack([top_values, block_values]), np.hstack([top, block_top]), depth, shuffle)

    greater = np.full(len(values), n_items, dtype=np.int64)
    equal = np.ones(len(values), dtype=np.int64)
    wanted = np.ones(len(values), dtype=bool) if best_of is None else _best(values, target_rows, best_of)
    if top_values is not None:
        lists = top_values[target_rows]
        last = lists[:, -1]
        listed = values >= last
        inside = np.flatnonzero(listed)
        greater[inside] = np.count_nonzero(lists[inside] > values[inside, None], axis=1)
        equal[inside] = np.count_nonzero(lists[inside] == values[inside, None], axis=1)
        # The list holds all that is higher than its last value, but perhaps not all that equals it.
        wanted = (wanted & ~listed) | (values == last)
    again = np.flatnonzero(wanted)
    if len(again):
        # A row and a value in one integer key: targets that tie are counted once.
        value_bits = (values[again] + np.float32(0)).view(np.uint32).astype(np.uint64)  # + 0 turns -0.0 into 0.0
        keys, where = np.unique((target_rows[again].astype(np.uint64) << np.uint64(32)) | value_bits, return_inverse=True)
        rows, wanted_values = (keys >> np.uint64(32)).astype(np.int64), keys.astype(np.uint32).view(np.float32)
        above, beside = np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
        for lo, hi in ranges:
            block = block if len(ranges) == 1 and block is not None else scored(lo, hi)
            _count(block, rows, wanted_values, above, beside)
        greater[again], equal[again] = above[where], beside[where]
    if top_values is None or top is None:
        return BlockRanks(greater, equal, np.empty((0, 0), dtype=np.int32))
    return BlockRanks(greater, equal, np.where(np.isneginf(top_values), -1, top).astype(np.int32))


def _check_finite(block: Tensor, lo: int, check: Callable[[int, int], str]) -> None:
    low, high = torch.aminmax(block)
    if bool(torch.isfinite(low)) and bool(torch.isfinite(high)):
        return
    row, column = torch.nonzero(~torch.isfinite(block))[0].tolist()
    raise InputError(f"the score is {float(block[row, column])} {check(row, column + lo)}; a model must give finite scores (float32)")


def _fill(block: Tensor, rows: Ints, columns: Ints) -> None:
    if block.device.type == "cpu":
        block.numpy()[rows, columns] = -np.inf
    else:
        block[torch.from_numpy(rows).to(block.device), torch.from_numpy(columns).to(block.device)] = -torch.inf


def _take(block: Tensor, rows: Ints, columns: Ints) -> NDArray[np.float32]:
    if block.device.type == "cpu":
        taken: NDArray[np.float32] = block.numpy()[rows, columns]
        return taken
    chosen = block[torch.from_numpy(rows).to(block.device), torch.from_numpy(columns).to(block.device)]
    return np.asarray(chosen.cpu().numpy(), dtype=np.float32)


def _best(values: NDArray[np.float32], rows: Ints, sets: list[Bools]) -> Bools:
    """Targets that are the best of their user within any of ``sets``."""
    found = np.zeros(len(values), dtype=bool)
    for chosen in sets:
        inside = np.flatnonzero(chosen)
        if len(inside):
            starts = np.flatnonzero(np.diff(rows[inside], prepend=-1))
            best = np.maximum.reduceat(values[inside], starts)
            found[inside] |= values[inside] == np.repeat(best, np.diff(np.append(starts, len(inside))))
    return found


def _top(block: Tensor, depth: int, shuffle: Ints, settle: bool) -> tuple[NDArray[np.float32], Ints]:
    """The first ``depth`` columns of each row by (score down, shuffle up), exactly; without ``settle``, tied columns are any of them."""
    width = block.shape[1]
    # One more than asked shows whether the tie at the end of the list goes on outside of it; torch leaves open which of them it lists.
    found = torch.topk(block, min(depth + settle, width), dim=1)
    values, index = found.values.cpu().numpy(), found.indices.cpu().numpy()
    if not settle:
        return values, index
    neighbours = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -np.inf)
    if width > depth:
        crossed = np.flatnonzero(neighbours[:, depth - 1])
        edges = values[crossed, depth]
        above = np.count_nonzero(values[crossed, :depth] > edges[:, None], axis=1)
        scores = block.numpy() if block.device.type == "cpu" else None
        for row, edge, first in zip(crossed.tolist(), edges, above.tolist(), strict=True):
            equal = scores[row] == edge if scores is not None else (block[row] == float(edge)).cpu().numpy()
            tied = equal.nonzero()[0]
            index[row, first:depth] = tied[shuffle[tied].argpartition(depth - first - 1)[: depth - first]]
    values, index = values[:, :depth], index[:, :depth]
    rows = np.flatnonzero(neighbours.any(axis=1))
    if len(rows):
        order = np.lexsort((shuffle[index[rows]], -values[rows]), axis=-1)
        index[rows] = np.take_along_axis(index[rows], order, axis=1)
    return values, index


def _merge(values: NDArray[np.float32], index: Ints, depth: int, shuffle: Ints) -> tuple[NDArray[np.float32], Ints]:
    order = np.lexsort((shuffle[index], -values), axis=-1)[:, :depth]
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(index, order, axis=1)


def _count(block: Tensor, rows: Ints, values: NDArray[np.float32], above: Ints, beside: Ints) -> None:
    """Add to ``above`` and ``beside`` how many columns of ``rows`` are higher than and equal to ``values``."""
    if block.device.type == "cpu":
        # A row at a time stays in the cache, and numpy's compare and count are vectorised: 4x faster than torch's (S > t).sum(1).
        scores = block.numpy()
        flags = np.empty(scores.shape[1], dtype=bool)
        for at, (row, value) in enumerate(zip(rows.tolist(), values, strict=True)):
            line = scores[row]
            np.greater(line, value, out=flags)
            above[at] += np.count_nonzero(flags)
            np.equal(line, value, out=flags)
            beside[at] += np.count_nonzero(flags)
        return
    row_index, limits = torch.from_numpy(rows).to(block.device), torch.from_numpy(values).to(block.device)
    for start in range(0, len(rows), 1024):
        lines, limit = block[row_index[start : start + 1024]], limits[start : start + 1024, None]
        above[start : start + 1024] += (lines > limit).sum(1).cpu().numpy()
        beside[start : start + 1024] += (lines == limit).sum(1).cpu().numpy()
