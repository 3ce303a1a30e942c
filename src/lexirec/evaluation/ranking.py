"""Asking a model about blocks of users and ranking the answers: the common part of every protocol."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.evaluation.ranks import Bools, Ints, Ranks, rank_block
from lexirec.progress import track
from lexirec.query import Query

BLOCK_BYTES = 64 << 20
"""Size of one block of scores."""
MAX_ITEMS = 4 << 20
"""Items per pass; larger catalogues are scored in several passes."""
LEAST_ROWS = 16
"""Of a product of query and item vectors."""
ENCODE_AHEAD = 1024
"""Queries given to the model at a time, where score blocks are smaller."""


class Ranker(Protocol):
    """What evaluation asks of a model: vectors whose inner product is the score, or scores.

    ``needs_history`` (default true) may say that ``user_id`` is enough; the histories are then not built.
    """

    vector_scores: bool

    def encode_items(self) -> Tensor:
        """Vectors of all items in index order, ``(I, D)``."""

    def encode_queries(self, queries: list[Query]) -> Tensor:
        """Vectors of the queries, ``(B, D)``."""

    def score(self, queries: list[Query]) -> Tensor:
        """Scores of all items in index order, ``(B, I)``; asked instead of vectors if ``vector_scores`` is false."""


def distinct(keys: Ints) -> Ints:
    """Sorted distinct values; a sort and a comparison, several times faster than numpy's hashing ``unique``."""
    ordered = np.sort(keys)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))]


def events_of(train: TrainSet, parts: Sequence[Heldout], users: Bools) -> tuple[Ints, Ints, Ints | None]:
    """Users and items of all events of some users, training first, then ``parts`` in order, and their places in the log where known.

    Only these users' events are touched: evaluating 10,000 of a million users costs 10,000 users.
    """
    owners, items = [], []
    rows: list[Ints] | None = []
    everything: tuple[TrainSet | Heldout, ...] = (train, *parts)
    for part in everything:
        keep = np.flatnonzero(users[part.user_index])
        owners.append(part.user_index[keep])
        items.append(part.item_index[keep])
        rows = None if rows is None or part.log_rows is None else [*rows, part.log_rows[keep]]
    joined = None if rows is None else np.concatenate(rows)
    return np.concatenate(owners).astype(np.int64), np.concatenate(items).astype(np.int64), joined


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be ranked, in flat arrays: one row per question, ascending by user.

    Attributes:
        users: ``(R,)`` user of each row.
        offsets, items: targets of row ``r`` are ``items[offsets[r]:offsets[r + 1]]``.
        masked_starts, masked_stops, masked_items: items that are no candidates for row ``r``, at ``masked_starts[r]:masked_stops[r]``.
        repeat_targets, duplicate_targets: as in :class:`~lexirec.evaluation.evaluate.Evaluation`.
    """

    users: Ints
    offsets: Ints
    items: Ints
    masked_starts: Ints
    masked_stops: Ints
    masked_items: Ints
    repeat_targets: int
    duplicate_targets: int

    def block(self, lo: int, hi: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Rows (from 0) and items of the targets, and of the masked pairs, of rows ``lo..hi-1``."""
        counts = self.masked_stops[lo:hi] - self.masked_starts[lo:hi]
        # start of each row's range minus what the rows before it hold, plus a running number
        at = np.repeat(self.masked_starts[lo:hi] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        rows = np.arange(hi - lo)
        targets = self.items[self.offsets[lo] : self.offsets[hi]]
        return np.repeat(rows, np.diff(self.offsets[lo : hi + 1])), targets, np.repeat(rows, counts), self.masked_items[at]

    def per_target(self) -> "Task":
        """The same with a row of its own for each target."""
        rows = np.repeat(np.arange(len(self.users)), np.diff(self.offsets))
        return Task(
            self.users[rows], np.arange(len(rows) + 1), self.items, self.masked_starts[rows], self.masked_stops[rows], self.masked_items,
            self.repeat_targets, self.duplicate_targets,
        )  # fmt: skip

    def some(self, rows: Ints) -> "Task":
        """Only some rows, ascending."""
        counts = np.diff(self.offsets)
        kept = np.zeros(len(self.users), dtype=bool)
        kept[rows] = True
        return Task(
            self.users[rows], np.append(0, np.cumsum(counts[rows])), self.items[np.repeat(kept, counts)],
            self.masked_starts[rows], self.masked_stops[rows], self.masked_items, self.repeat_targets, self.duplicate_targets,
        )  # fmt: skip


def make_task(train: TrainSet, targets: Heldout, seen: Sequence[Heldout], mask_seen: bool) -> Task:
    """Users with a target, their targets (each once) and the items they have already.

    Raises:
        InputError: if nothing is left to rank.
    """
    n_items = max(train.n_items, 1)
    keys = distinct(targets.user_index.astype(np.int64) * n_items + targets.item_index)
    duplicates = len(targets) - len(keys)
    wanted = np.zeros(train.n_users, dtype=bool)
    wanted[keys // n_items] = True
    taken = np.zeros(0, dtype=np.int64)
    repeats = 0
    if mask_seen:
        owners, items, _ = events_of(train, seen, wanted)
        taken = distinct(owners * n_items + items)
        if len(taken):
            again = taken[np.minimum(np.searchsorted(taken, keys), len(taken) - 1)] == keys
            repeats = int(again.sum())
            keys = keys[~again]
    if not len(keys):
        why = f"all {repeats:,} are items that their users have already" if repeats else "it is empty"
        raise InputError(f"the {targets.name} part has no target to rank: {why}; choose a split that leaves some, or mask_seen=False")
    owner, items = np.divmod(keys, n_items)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    users = owner[starts]
    return Task(
        users=users,
        offsets=np.append(starts, len(keys)),
        items=items,
        masked_starts=np.searchsorted(taken, users * n_items),
        masked_stops=np.searchsorted(taken, (users + 1) * n_items),
        masked_items=taken % n_items,
        repeat_targets=repeats,
        duplicate_targets=duplicates,
    )


class Questions:
    """The question of each row: id and, where the model reads it, the history, oldest first; perhaps a wish.

    Args:
        train: training part.
        seen: further parts known at this time.
        users: of the rows.
        with_history: whether each question holds the history.
        intents: a wish per row.
        alpha: its weight.
        cold_history: whether at least those hold it who have no training event, so that what they have is in ``seen`` alone.
    """

    def __init__(
        self,
        train: TrainSet,
        seen: Sequence[Heldout],
        users: Ints,
        with_history: bool,
        intents: Sequence[str] | None = None,
        alpha: float | None = None,
        *,
        cold_history: bool = False,
    ) -> None:
        self.ids = train.users.name(users).to_list()
        cold = train.offsets[users + 1] == train.offsets[users]
        self.unknown = int(cold.sum())  # rows of whose user nothing is known
        self.intents, self.alpha = intents, alpha
        self.history: pl.Series | None = None
        self.some = False
        if not with_history and not (cold_history and self.unknown and any(len(part) for part in seen)):
            return
        if not any(len(part) for part in seen):
            self.history = train.interactions[c.ITEM_ID]
            self.starts, self.stops = train.offsets[users].tolist(), train.offsets[users + 1].tolist()
            return
        wanted = np.zeros(train.n_users, dtype=bool)
        wanted[users] = True
        owners, items, rows = events_of(train, seen, wanted)
        # A part that a split drew at random lies between the training events, not after them.
        order = np.argsort(owners, kind="stable") if rows is None else np.lexsort((rows, owners))
        self.history = train.items[c.ITEM_ID].gather(pl.Series(items[order]))
        ordered = owners[order]
        starts, stops = np.searchsorted(ordered, users), np.searchsorted(ordered, users, side="right")
        self.some = not with_history  # those of some people alone
        if self.some:
            stops = np.where(cold, stops, starts)
        self.unknown = int((cold & (starts == stops)).sum())
        self.starts, self.stops = starts.tolist(), stops.tolist()

    @classmethod
    def to(cls, model: Any, train: TrainSet, seen: Sequence[Heldout], users: Ints, *wish: Any) -> "Questions":
        """As a model is to be asked: with histories if it needs them, else with those of people whom it can know by nothing else."""
        reads = bool(getattr(getattr(model, "supports", None), "history", False))
        return cls(train, seen, users, bool(getattr(model, "needs_history", True)), *wish, cold_history=reads)

    def block(self, lo: int, hi: int) -> list[Query]:
        """Queries of rows ``lo..hi-1``; a history is a view into one column, not a copy."""
        if self.history is None:
            histories: list[Any] = [None] * (hi - lo)
        else:
            cut = self.history.slice
            places = zip(self.starts[lo:hi], self.stops[lo:hi], strict=True)
            histories = [None if self.some and start == stop else cut(start, stop - start) for start, stop in places]
        if self.intents is None:
            return [Query(user_id=name, history=history) for name, history in zip(self.ids[lo:hi], histories, strict=True)]
        wishes = self.intents[lo:hi]
        return [
            Query(user_id=name, history=history, intent=wish, alpha=self.alpha)
            for name, history, wish in zip(self.ids[lo:hi], histories, wishes, strict=True)
        ]


def _bad_rows(vectors: Tensor) -> Ints:
    """Rows that hold NaN or infinity."""
    if vectors.device.type != "cpu":
        return torch.nonzero(~torch.isfinite(vectors).all(dim=1))[:, 0].cpu().numpy()
    finite = np.isfinite(vectors.numpy())
    return np.zeros(0, dtype=np.int64) if finite.all() else np.flatnonzero(~finite.all(axis=1))


def _largest(vectors: Tensor) -> float:
    """Largest absolute entry."""
    if not vectors.numel():
        return 0.0
    low, high = torch.aminmax(vectors)
    return max(abs(float(low)), abs(float(high)))


class Scores:
    """Scores of blocks of rows in one reused buffer, from vectors or from the model's own ``score``."""

    def __init__(self, model: Any, train: TrainSet, questions: Questions) -> None:
        self.model, self.train, self.questions = model, train, questions
        self.buffer: Tensor | None = None
        # A model without a vector for a user who has no training event answers by popularity, which only its score() knows.
        self.by_vectors = bool(getattr(model, "vector_scores", True)) and not (questions.unknown and hasattr(model, "answered_by"))
        self.items = torch.empty(0, 0)
        self.largest = 0.0
        if not self.by_vectors:
            return
        # float32 before the product: in half precision many scores tie
        self.items = model.encode_items().detach().float().contiguous()
        if self.items.ndim != 2 or len(self.items) != train.n_items:
            shape = tuple(self.items.shape)
            raise InputError(f"encode_items() gives shape {shape} for {train.n_items:,} items; expected (I, D) in index order")
        bad = _bad_rows(self.items)
        if len(bad):
            names = train.items[c.ITEM_ID].gather(pl.Series(bad[:3])).to_list()
            raise InputError(f"{len(bad):,} item vectors hold NaN or infinity (item_id {names}); a model must give finite vectors")
        self.largest = _largest(self.items)

    def encode(self, lo: int, hi: int) -> Tensor:
        """Query vectors of rows ``lo..hi-1``, checked, ``(hi - lo, D)``."""
        vectors: Tensor = self.model.encode_queries(self.questions.block(lo, hi)).detach().float()
        dim = self.items.shape[1]
        if vectors.shape != (hi - lo, dim):
            shape = tuple(vectors.shape)
            raise InputError(f"encode_queries() gives shape {shape} for {hi - lo} queries and item vectors of {dim} dimensions")
        bad = _bad_rows(vectors)
        if len(bad):
            name = self.questions.ids[lo + int(bad[0])]
            raise InputError(f"the query vector of user_id {name!r} holds NaN or infinity; a model must give finite vectors")
        return vectors.to(self.items.device)

    def bounded(self, vectors: Tensor) -> bool:
        """Whether no product with these query vectors can overflow float32, so that no score needs a look."""
        return vectors.shape[1] * _largest(vectors) * self.largest < 1e38

    def product(self, vectors: Tensor, first: int, lo: int, hi: int) -> Tensor:
        """``vectors`` times items ``first + lo..first + hi - 1``, in the reused buffer (fresh pages cost more than the product)."""
        rows = len(vectors)
        if rows < LEAST_ROWS:
            # Products of a few rows are summed in another order from column to column, so that equal items would not tie.
            vectors = torch.cat([vectors, vectors.new_zeros(LEAST_ROWS - rows, vectors.shape[1])])
        size = len(vectors) * (hi - lo)
        if self.buffer is None or self.buffer.numel() < size:
            self.buffer = torch.empty(size, dtype=torch.float32, device=self.items.device)
        return torch.mm(vectors, self.items[first + lo : first + hi].T, out=self.buffer[:size].view(len(vectors), hi - lo))[:rows]

    def whole(self, lo: int, hi: int) -> Tensor:
        """The model's own scores of all items for rows ``lo..hi-1``, in memory that may be written to."""
        scores = torch.as_tensor(self.model.score(self.questions.block(lo, hi))).detach()
        if scores.shape != (hi - lo, self.train.n_items):
            shape = tuple(scores.shape)
            raise InputError(f"score() gives shape {shape} for {hi - lo} queries and {self.train.n_items:,} items; expected (B, I)")
        return scores.to(torch.float32, copy=True)

    def place(self, row: int, item: int) -> str:
        """A row and an item in words, for error messages."""
        return f"for user_id {self.questions.ids[row]!r} and item_id {self.train.items[c.ITEM_ID][item]!r}"


def _columns(scores: Tensor, lo: int, hi: int) -> Tensor:
    # A copy where columns are missing (a view of one row would be contiguous, too); the whole otherwise, which the caller may write to.
    return scores.contiguous() if hi - lo == scores.shape[1] else scores[:, lo:hi].clone(memory_format=torch.contiguous_format)


def blocks_of(task: Task, train: TrainSet, block_users: int | None) -> Iterator[tuple[int, int, int, int]]:
    """Rows ``lo..hi-1`` and the items ``first..last-1`` that they are ranked over: those of their own domain."""
    borders = np.searchsorted(task.users, train.user_domains)
    for domain in range(train.n_domains):
        first, last = int(train.item_domains[domain]), int(train.item_domains[domain + 1])
        size = block_users or max(16, min(1024, BLOCK_BYTES // (4 * max(min(last - first, MAX_ITEMS), 1))))
        for lo in range(int(borders[domain]), int(borders[domain + 1]), size):
            yield lo, min(lo + size, int(borders[domain + 1])), first, last


def full_ranks(
    task: Task,
    train: TrainSet,
    scores: Scores,
    *,
    depth: int,
    best_of: "Sequence[Bools] | None" = (),
    lists: bool = False,
    seed: int = 0,
    block_users: int | None = None,
    block_items: int | None = None,
    progress: bool = False,
) -> tuple[Ranks, NDArray[np.int32]]:
    """Rank the targets of every row over all items (of its domain).

    Args:
        task: rows, targets and masks.
        train: the training set.
        scores: the model's scores.
        depth: exact counts for targets in the first ``depth``; length of the lists.
        best_of: sets of targets ``(N,)`` bool whose best one per row gets an exact count at any depth; ``None``: every target does.
        lists: also give the lists.
        seed: of the shuffle that settles ties in the lists.
        block_users: rows of a block; by default as many as make about 64 MB of scores.
        block_items: items of a block; by default all up to 4 million.
        progress: show a bar on stderr.

    Returns:
        The ranks, and the first ``depth`` items of each row ``(R, depth)``, -1 where there is none; ``(0, 0)`` without ``lists``.
    """
    shuffle = np.random.default_rng(seed).permutation(train.n_items)
    greater, equal, tops = [], [], []
    vectors, encoded, bounded = None, (0, 0), False
    score: Callable[[int, int], Tensor]
    blocks = list(blocks_of(task, train, block_users))
    for number, (lo, hi, first, last) in enumerate(track(blocks, "evaluating", len(blocks), progress)):
        rows, items, masked_rows, masked_items = task.block(lo, hi)
        where = slice(task.offsets[lo], task.offsets[hi])

        def place(row: int, item: int, lo: int = lo, first: int = first) -> str:
            return scores.place(lo + row, item + first)

        check, step = place, block_items or (MAX_ITEMS if last - first > MAX_ITEMS else None)
        if scores.by_vectors:
            if hi > encoded[1] or vectors is None:
                # Small score blocks (large catalogues) still encode many queries at once.
                ahead = number
                while ahead + 1 < len(blocks) and blocks[ahead + 1][1] - lo <= ENCODE_AHEAD:
                    ahead += 1
                encoded = (lo, blocks[ahead][1])
                vectors = scores.encode(*encoded)
                bounded = scores.bounded(vectors)
            chunk = vectors[lo - encoded[0] : hi - encoded[0]]
            score = partial(scores.product, chunk, first)
        else:
            bounded = False
            score = partial(_columns, scores.whole(lo, hi)[:, first:last])
        block = rank_block(
            score, last - first, rows, items - first, masked_rows, masked_items - first,
            depth=min(depth, last - first), shuffle=shuffle[first:last], block_items=step, settle=lists, check=None if bounded else check,
            best_of=None if best_of is None else [inside[where] for inside in best_of],
        )  # fmt: skip
        greater.append(block.greater)
        equal.append(block.equal)
        if lists:
            found = np.where(block.top >= 0, block.top + np.int32(first), np.int32(-1))
            tops.append(np.pad(found, ((0, 0), (0, depth - found.shape[1])), constant_values=-1))
    ranks = Ranks(np.concatenate(greater), np.concatenate(equal), task.offsets)
    return ranks, np.concatenate(tops) if tops else np.empty((0, 0), dtype=np.int32)
