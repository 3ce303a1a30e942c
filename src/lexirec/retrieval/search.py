"""The first places of a quasi-round-robin without scoring the catalogue: candidates by rare words, then a proof that none is missing.

The ``k`` best of a maximum over columns need only the entries (text, item) that can reach the ``k``-th place. A text's rare words name
entries and give each a lower bound; what its common words can add at most gives an upper bound. The most promising entries are completed to
exact scores; their ``k``-th place is the bar, and every other entry whose upper bound reaches it is completed too. A text whose common
words alone could reach the bar, or whose largest or smallest score is not proven, is scored in full. So the result is that of
:func:`lexirec.retrieval.pooling.pool`, whatever the shortcuts.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.retrieval.bm25 import BM25
from lexirec.retrieval.pooling import EPSILON, Pooling, pooled, prepared

PERSONS = 32
"""Persons of a block: its arrays stay in the processor's cache."""
REST = 0.2
"""Common words are left for later as long as they can add at most this share of a text's largest score."""
SEEDS = 5
"""Entries completed at first, in multiples of the places wanted."""
SAMPLE = 8
"""Every so-maniest entry is looked at to find them."""
SHARED = 0.25
"""A word in more than this share of the items counts when a text's smallest score is looked for."""
LOWEST = 32
"""Items that are looked at for it."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def search(
    bm25: BM25,
    texts: Sequence[Sequence[str]],
    logprobs: Sequence[Sequence[float] | NDArray[Any]],
    k: int = 100,
    *,
    n_preds: int = 10,
    epsilon: float = EPSILON,
    pooling: Pooling = "max",
    modulate: bool = True,
) -> tuple[Ints, Floats]:
    """The ``k`` best items for each person's texts; arguments as in :func:`lexirec.retrieval.pooling.pool`.

    Returns:
        Item positions ``(B, k)`` int64, best first, equal scores by position, and their scores ``(B, k)`` float32; ``k`` is at most ``I``.

    Raises:
        InputError: for ``k < 1``, and as :func:`~lexirec.retrieval.pooling.pool` does.

    Memory: a few columns of ``I`` numbers; mean and minimum, which have no shortcut, need ``n_preds`` of them.

    >>> items, scores = search(BM25(["red drill", "blue drill", "green saw"]), [["red drill", "green saw"]], [[-1.0, -2.0]], k=2)
    >>> items, scores.round(4)
    (array([[0, 2]]), array([[0.9998, 0.9996]], dtype=float32))
    """
    if k < 1:
        raise InputError(f"k = {k}; ask for at least one item")
    k = min(k, len(bm25))
    ready = prepared(texts, logprobs, n_preds, epsilon, modulate)
    items, scores = np.empty((len(ready), k), dtype=np.int64), np.empty((len(ready), k), dtype=np.float32)
    if pooling != "max":
        for person, row in enumerate(pooled(bm25, ready, pooling)):
            items[person], scores[person] = first(row, k)
        return items, scores
    scratch = Scratch(bm25)
    for start in range(0, len(ready), PERSONS):
        part = slice(start, start + PERSONS)
        items[part], scores[part] = Block(bm25, scratch, ready[part], k).best()
    return items, scores


def first(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The ``k`` largest of ``(I,)``, largest first, equal ones by position."""
    found = np.arange(len(scores))
    if len(scores) > 16 * k:
        # The k-th largest of the maxima of strides is no larger than the k-th largest of all, and few are above it.
        strides = scores[: len(scores) // (8 * k) * (8 * k)].reshape(-1, 8 * k).max(axis=0)
        bar = np.partition(strides, -k)[-k]
        found = np.flatnonzero(scores > bar)
        if len(found) < k:
            found = np.concatenate([found, np.flatnonzero(scores == bar)[: k - len(found)]])
    if len(found) > k:
        bar = np.partition(scores[found], -k)[-k]
        above, equal = found[scores[found] > bar], found[scores[found] == bar]
        found = np.concatenate([above, equal[: k - len(above)]])
    found = found[np.lexsort((found, -scores[found]))]
    return found, scores[found]


def ragged(starts: Ints, lengths: Ints) -> Ints:
    """Positions ``starts[n], starts[n] + 1, ...`` of every range, one after the other.

    >>> ragged(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


class Scratch:
    """Arrays that one search uses again and again, and which items have the smallest scores.

    Where every item shares a word with a text (a label of the template), the text's smallest score is above 0. It belongs to an item that
    has none of the text's rarer words, and among these to one of those that its most common words give least.
    """

    def __init__(self, bm25: BM25) -> None:
        self.bm25 = bm25
        self.shared = bm25.frequency > SHARED * len(bm25)
        self.best = np.full(len(bm25), -1.0, dtype=np.float32)
        """Pooled score of one person's items; -1 between persons, ``(I,)``."""
        self.column = np.empty((1, len(bm25)), dtype=np.float32)
        self.floors: dict[tuple[bytes, bytes], tuple[Ints, float]] = {}

    def floor(self, words: NDArray[np.int32], counts: Floats) -> tuple[Ints, float]:
        """Items that the most common of the ``words`` give least, and a score that no other item can be below."""
        kept = self.shared[words]
        words, counts = words[kept], counts[kept]
        key = (words.tobytes(), counts.tobytes())
        if key not in self.floors:
            base = self.bm25.dense(sp.csr_matrix((counts, words, [0, len(words)]), (1, len(self.shared))), self.column)[0]
            if len(base) <= LOWEST:
                self.floors[key] = np.arange(len(base)), np.inf
            else:
                order = np.argpartition(base, LOWEST)
                self.floors[key] = order[:LOWEST], float(base[order[LOWEST]])
        return self.floors[key]

    def exact(self, counts: "sp.csr_matrix", items: Ints) -> Floats:
        """Scores of some items for one text ``(1, V)``, from the items' own words."""
        matrix = self.bm25.by_item
        starts = matrix.indptr[items].astype(np.int64)
        lengths = matrix.indptr[items + 1] - starts
        at = ragged(starts, lengths)
        place = np.searchsorted(counts.indices, matrix.indices[at])
        place[place == len(counts.indices)] = 0
        times = np.where(counts.indices[place] == matrix.indices[at], counts.data[place], 0)
        return np.bincount(np.repeat(np.arange(len(items)), lengths), times * matrix.data[at], len(items)).astype(np.float32)


class Block:
    """The texts of a few persons, searched together.

    Args:
        bm25: the catalogue.
        scratch: of the same catalogue.
        ready: from :func:`lexirec.retrieval.pooling.prepared`.
        k: places wanted.
    """

    def __init__(self, bm25: BM25, scratch: Scratch, ready: Sequence[tuple[list[str], Floats]], k: int) -> None:
        self.bm25, self.scratch, self.k = bm25, scratch, k
        self.counts = bm25.counts([text for texts, _ in ready for text in texts])  # (T, V)
        sizes = [len(texts) for texts, _ in ready]
        self.borders = np.concatenate([[0], np.cumsum(sizes)])  # texts of person p: borders[p]:borders[p + 1]
        self.owner = np.repeat(np.arange(len(ready)), sizes)
        self.weight = np.concatenate([weights for _, weights in ready])  # (T,)
        self.n_texts = len(self.owner)
        self.low = np.zeros(self.n_texts, dtype=np.float32)
        self.high = np.zeros(self.n_texts, dtype=np.float32)
        self.whole = np.diff(self.counts.indptr) == 0  # texts that need nothing more: scored in full, or without a known word
        # Entries with exact scores: text, item, score.
        self.rows, self.items, self.totals = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)

    def best(self) -> tuple[Ints, Floats]:
        """Positions and scores of the ``k`` best items of each person, ``(P, k)``."""
        self._partial_scores()
        self._seed()
        self._settle()
        proven = False
        while not proven:  # a larger largest score makes all scaled scores of its text smaller, and with them the bar
            self._settle_doubtful()
            bars = self._bars()
            proven = self._prove(bars)
        return self._places(bars)

    # --- scores --------------------------------------------------------------------------------------------------------------------

    def _partial_scores(self) -> None:
        """Split each text's words and add up the columns of the rare ones: the entries that may count, with a lower bound each."""
        words, starts = self.counts.indices, self.counts.indptr
        row = np.repeat(np.arange(self.n_texts), np.diff(starts))
        order = np.lexsort((self.bm25.frequency[words], row))
        words, times = words[order], self.counts.data[order]
        ceiling = (times * self.bm25.peak[words]).astype(np.float64)
        self.ceiling = np.bincount(row, ceiling, self.n_texts)
        before = np.concatenate([[0.0], np.cumsum(ceiling)])
        left = self.ceiling[row] - (before[:-1] - before[starts[row]])  # what this word and the commoner ones can add at most
        column = self.bm25.column[words]
        late = (left <= REST * self.ceiling[row]) & (column >= 0)
        # A hair more, because sums of float32 are rounded.
        self.rest = np.bincount(row[late], ceiling[late], self.n_texts) + 1e-5 * self.ceiling
        self.late_counts = np.bincount(row[late], minlength=self.n_texts)
        self.late_starts = np.cumsum(self.late_counts) - self.late_counts
        self.late_columns, self.late_times = column[late] * len(self.bm25), times[late]
        kept = np.concatenate([[0], np.cumsum(np.bincount(row[~late], minlength=self.n_texts))])
        self.partial = sp.csr_matrix((times[~late], words[~late], kept), self.counts.shape) @ self.bm25.by_word  # (T, I)
        self.sizes = np.diff(self.partial.indptr)
        self.completed = np.zeros(self.partial.nnz, dtype=bool)

    def _complete(self, chosen: Ints) -> None:
        """Add what the common words give to some entries, and keep their exact scores."""
        rows = np.searchsorted(self.partial.indptr, chosen, side="right") - 1
        items, totals = self.partial.indices[chosen], self.partial.data[chosen]
        lengths = self.late_counts[rows]
        at = ragged(self.late_starts[rows], lengths)
        if len(at):
            entry = np.repeat(np.arange(len(rows)), lengths)
            given = self.bm25.columns.ravel()[self.late_columns[at] + items[entry]] * self.late_times[at]
            totals = (totals + np.bincount(entry, given, len(rows))).astype(np.float32)
        self.completed[chosen] = True
        self._keep(rows, items, totals)

    def _complete_above(self, needed: NDArray[np.float64]) -> None:
        """Complete the entries whose partial score is above ``needed`` of their text, ``(T,)``."""
        chosen = np.flatnonzero(self.partial.data > np.repeat(needed.astype(np.float32), self.sizes))
        chosen = chosen[~self.completed[chosen]]
        if len(chosen):
            self._complete(chosen)

    def _score_whole(self, text: int) -> None:
        """Score every item for one text and keep its ``k`` best entries in place of all others."""
        column = self.bm25.dense(self.counts[text], self.scratch.column)[0]
        self.low[text], self.high[text], self.whole[text] = column.min(), column.max(), True
        other = self.rows != text
        self.rows, self.items, self.totals = self.rows[other], self.items[other], self.totals[other]
        items, totals = first(column, self.k)
        self._keep(np.full(len(items), text), items, totals)

    def _keep(self, rows: Ints, items: NDArray[np.integer], totals: Floats) -> None:
        self.rows, self.items = np.concatenate([self.rows, rows]), np.concatenate([self.items, items])
        self.totals = np.concatenate([self.totals, totals])

    # --- proofs --------------------------------------------------------------------------------------------------------------------

    def _seed(self) -> None:
        """Complete the most promising entries of each person."""
        hopes = self.partial.data * np.repeat((self.weight / np.maximum(self.ceiling, 1e-30)).astype(np.float32), self.sizes)
        wanted = SEEDS * self.k
        seeds = [np.zeros(0, dtype=np.int64)]
        for lo, hi in pairwise(self.partial.indptr[self.borders].tolist()):
            # About as many as wanted: which ones is a matter of speed, and a sample says where to cut.
            sample, among = hopes[lo:hi:SAMPLE], -(-wanted // SAMPLE)
            bar = np.partition(sample, -among)[-among] if len(sample) > among else 0
            seeds.append(np.flatnonzero(hopes[lo:hi] >= bar) + lo)
        self._complete(np.concatenate(seeds))

    def _settle(self) -> None:
        """Find the smallest score of each text; where the common words prove none, score the text in full."""
        touched = np.bincount(
            np.repeat(np.arange(self.n_texts), np.diff(self.counts.indptr)), self.bm25.frequency[self.counts.indices], self.n_texts
        )
        for text in np.flatnonzero((touched >= len(self.bm25)) & ~self.whole).tolist():  # else an item without its words has 0
            counts = self.counts[text]
            items, bound = self.scratch.floor(counts.indices, counts.data)
            self.low[text] = self.scratch.exact(counts, items).min()
            if self.low[text] > bound:
                self._score_whole(text)

    def _settle_doubtful(self) -> None:
        """Take the largest scores known so far; where the common words alone could beat one, score the text in full."""
        np.maximum.at(self.high, self.rows, self.totals)
        for text in np.flatnonzero((self.rest >= self.high) & ~self.whole).tolist():
            self._score_whole(text)

    def _bars(self) -> Floats:
        """The ``k``-th best score known so far of each person, -1 where fewer items are known."""
        k = self.k
        return np.array([np.partition(scores, -k)[-k] if len(scores) >= k else -1 for _, scores in self._pooled()], dtype=np.float32)

    def _prove(self, bars: Floats) -> bool:
        """Complete every entry that could be its text's largest or reach its person's bar; false if a largest score was not right."""
        width = (self.high - self.low).astype(np.float64)
        needed = bars[self.owner] * width / np.maximum(self.weight, 1e-30) + self.low - self.rest
        for text in np.flatnonzero((needed <= 0) & ~self.whole).tolist():  # even an item without one of its rare words could
            self._score_whole(text)
        known = len(self.rows)
        self._complete_above(np.where(self.whole, np.inf, np.minimum(needed, self.high - self.rest)))
        return bool((self.totals[known:] <= self.high[self.rows[known:]]).all())

    # --- pooling -------------------------------------------------------------------------------------------------------------------

    def _pooled(self, bars: Floats | None = None) -> Iterator[tuple[Ints, Floats]]:
        """Each person's distinct items with the maximum of their scaled and modulated scores, from the bar on if there is one."""
        width = self.high - self.low
        values = (self.totals - self.low[self.rows]) / np.where(width > 0, width, 1)[self.rows] * self.weight[self.rows]
        owners, items = self.owner[self.rows], self.items
        if bars is not None:
            kept = np.flatnonzero(values >= bars[owners])
            values, owners, items = values[kept], owners[kept], items[kept]
        order = np.argsort(owners, kind="stable")
        borders = np.searchsorted(owners[order], np.arange(len(self.borders)))
        pool = self.scratch.best
        for lo, hi in pairwise(borders.tolist()):
            mine = order[lo:hi]
            its, scores = items[mine], values[mine]
            np.maximum.at(pool, its, scores)
            best = pool[its]
            number = np.arange(len(its), dtype=np.float32)
            pool[its] = number  # whoever writes an item last stands for it
            kept = pool[its] == number
            pool[its] = -1
            yield its[kept], best[kept]

    def _places(self, bars: Floats) -> tuple[Ints, Floats]:
        shape = (len(self.borders) - 1, self.k)
        at, best = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.float32)
        for person, (items, scores) in enumerate(self._pooled(bars)):
            if len(items) < self.k:  # no text has a known word: every item scores 0
                items = np.concatenate([items, np.setdiff1d(np.arange(self.k), items)])
                scores = np.concatenate([scores, np.zeros(len(items) - len(scores), dtype=np.float32)])
            order = np.lexsort((items, -scores))[: self.k]
            at[person], best[person] = items[order], scores[order]
        return at, best
