"""Metrics as pure functions of ranks, exact over ties.

Each accuracy metric takes :class:`~lexirec.evaluation.ranks.Ranks` (for every target ``g`` candidates above it, ``e`` with the same
score, itself included) and gives one value per user: the mean over all orders of the tied items, each order as likely as any other.
With ``ranks.optimistic()`` or ``ranks.pessimistic()``, where no tie is left, the same functions give the best and the worst order.

Notation: ``T`` the user's targets, ``K`` the cut-off, positions from 1.

Source of the tie treatment: McSherry & Najork, "Computing information retrieval performance measures efficiently in the presence
of tied scores", ECIR 2008; here also for a tie group that holds several targets.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from lexirec.errors import InputError, nearest
from lexirec.evaluation.ranks import Floats, Ints, Ranks

ACCURACY: Final = ("recall", "hr", "ndcg", "precision", "map", "mrr")
"""Metrics with a value per user."""
BEYOND: Final = ("coverage", "gini", "novelty", "ild")
"""Metrics of the lists as a whole."""
DEFAULT_METRICS: Final = (
    *(f"{name}@{k}" for name in ("recall", "hr", "ndcg") for k in (1, 5, 10, 20)),
    *(f"{name}@{k}" for name in ("precision", "map", "mrr") for k in (10, 20)),
    "mrr",
)


@dataclass(frozen=True)
class Metric:
    """A parsed metric name: ``name`` and cut-off ``k`` (``None`` for MRR over the whole ranking)."""

    name: str
    k: int | None

    @property
    def key(self) -> str:
        return self.name if self.k is None else f"{self.name}@{self.k}"

    @property
    def beyond(self) -> bool:
        """Whether it judges the lists instead of the targets."""
        return self.name in BEYOND


def parse_metric(key: str) -> Metric:
    """Read a name such as ``"ndcg@10"``.

    Raises:
        InputError: for an unknown name (the nearest one is offered), a missing cut-off, or one below 1.

    >>> parse_metric("NDCG@10")
    Metric(name='ndcg', k=10)
    >>> parse_metric("recal@20")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    lexirec.errors.InputError: unknown metric 'recal@20' (did you mean 'recall'?); known: recall@K, ...
    """
    name, at, cut = key.strip().lower().partition("@")
    if name not in (*ACCURACY, *BEYOND):
        known = ", ".join("mrr, mrr@K" if known == "mrr" else f"{known}@K" for known in (*ACCURACY, *BEYOND))
        raise InputError(f"unknown metric {key!r}{nearest(name, (*ACCURACY, *BEYOND))}; known: {known}")
    if not at:
        if name != "mrr":
            raise InputError(f"metric {key!r} has no cut-off; write for example '{name}@20'")
        return Metric(name, None)
    if not re.fullmatch(r"[0-9]+", cut) or int(cut) < 1:
        raise InputError(f"metric {key!r}: the cut-off {cut!r} is no whole number from 1 up; write for example '{name}@20'")
    return Metric(name, int(cut))


def parse_metrics(keys: Iterable[str]) -> list[Metric]:
    """Read several names; repeated ones count once."""
    if isinstance(keys, str):
        keys = keys.split(",")
    found = list(dict.fromkeys(parse_metric(key) for key in keys))
    if not found:
        raise InputError("no metric is asked for; give at least one, for example 'ndcg@10'")
    return found


def _per_user(values: NDArray[np.floating], ranks: Ranks) -> Floats:
    return np.add.reduceat(np.asarray(values, dtype=np.float64), ranks.offsets[:-1]) if ranks.n_users else np.zeros(0)


def _inside(ranks: Ranks, k: int) -> Floats:
    """Probability that a target is among the first ``k``, ``(N,)``: the share of its tie group's positions."""
    return np.clip(k - ranks.greater, 0, ranks.equal) / ranks.equal


def recall(ranks: Ranks, k: int) -> Floats:
    """``|T in the first K| / |T|``, ``(U,)`` in [0, 1]. The denominator is the full count, not ``min(K, |T|)``.

    >>> from lexirec.evaluation.ranks import Ranks
    >>> recall(Ranks(np.array([0, 3]), np.array([1, 1]), np.array([0, 2])), 2).tolist()
    [0.5]
    """
    return _per_user(_inside(ranks, k), ranks) / ranks.counts


def precision(ranks: Ranks, k: int) -> Floats:
    """``|T in the first K| / K``, ``(U,)`` in [0, 1].

    >>> from lexirec.evaluation.ranks import Ranks
    >>> precision(Ranks(np.array([0, 3]), np.array([1, 1]), np.array([0, 2])), 4).tolist()
    [0.5]
    """
    return _per_user(_inside(ranks, k), ranks) / k


def hr(ranks: Ranks, k: int) -> Floats:
    """1 if any of ``T`` is in the first K, else 0; over ties the probability of it, ``(U,)`` in [0, 1].

    At most one tie group crosses the cut-off: ``n`` of its ``e`` positions are inside, ``m`` of its items are targets, so
    ``P(none) = C(e - m, n) / C(e, n)``.

    >>> from lexirec.evaluation.ranks import Ranks
    >>> hr(Ranks(np.array([0, 0]), np.array([4, 4]), np.array([0, 2])), 1).tolist()  # 2 targets among 4 tied items
    [0.5]
    """
    g, e, m = ranks.greater, ranks.equal, ranks.together
    missed = np.where(g + e <= k, 0.0, 1.0)
    edge = np.flatnonzero((g < k) & (g + e > k))
    if len(edge):
        n, size, bad = k - g[edge], e[edge], e[edge] - m[edge]
        possible = bad >= n
        log_none = gammaln(bad + 1) - gammaln(np.maximum(bad - n, 0) + 1) - gammaln(size + 1) + gammaln(size - n + 1)
        missed[edge] = np.where(possible, np.where(m[edge] == 1, (size - n) / size, np.exp(np.minimum(log_none, 0.0))), 0.0)
    # Targets of one group carry the same probability: the minimum counts it once.
    return 1.0 - (np.minimum.reduceat(missed, ranks.offsets[:-1]) if ranks.n_users else np.zeros(0))


def _discounts(k: int) -> Floats:
    """Sum of ``1 / log2(position + 1)`` over the first 0..k positions, ``(k + 1,)``."""
    return np.append(0.0, np.cumsum(1.0 / np.log2(np.arange(2, k + 2))))


def ndcg(ranks: Ranks, k: int) -> Floats:
    """``DCG / IDCG``, binary: ``sum over hits of 1 / log2(position + 1)``, ideal over ``min(K, |T|)`` positions; ``(U,)`` in [0, 1].

    >>> from lexirec.evaluation.ranks import Ranks
    >>> ndcg(Ranks(np.array([1, 2]), np.array([1, 1]), np.array([0, 2])), 3).round(6).tolist()
    [0.693426]
    """
    sums = _discounts(k)
    gain = (sums[np.minimum(ranks.greater + ranks.equal, k)] - sums[np.minimum(ranks.greater, k)]) / ranks.equal
    return _per_user(gain, ranks) / sums[np.minimum(ranks.counts, k)]


def _harmonic(values: Ints) -> Floats:
    """``1 + 1/2 + ... + 1/n`` for each ``n``."""
    return np.append(0.0, np.cumsum(1.0 / np.arange(1, int(values.max(initial=0)) + 1)))[values]


def average_precision(ranks: Ranks, k: int) -> Floats:
    """``(1 / |T|) sum over hits at position r <= K of (hits in the first r) / r``, ``(U,)`` in [0, 1]; as ``map_cut`` of trec_eval.

    With ``h`` targets above a tie group of ``e`` items with ``m`` targets, position ``g + j`` holds a target with probability
    ``m / e``, and then ``h + 1 + (j - 1)(m - 1)/(e - 1)`` hits are expected up to it.

    >>> from lexirec.evaluation.ranks import Ranks
    >>> average_precision(Ranks(np.array([0, 2]), np.array([1, 1]), np.array([0, 2])), 5).round(4).tolist()  # (1/1 + 2/3) / 2
    [0.8333]
    """
    g, e, m = np.minimum(ranks.greater, k), ranks.equal, ranks.together
    n = np.clip(k - g, 0, e)
    reciprocal = _harmonic(g + n) - _harmonic(g)
    slope = (m - 1) / np.maximum(e - 1, 1)
    # sum over j of (j - 1)/(g + j) = n - (g + 1) sum of 1/(g + j); a target's share of its group's sum is 1/m, which cancels m of m/e.
    total = (ranks.above + 1) * reciprocal + slope * (n - (g + 1) * reciprocal)
    return _per_user(total / e, ranks) / ranks.counts


def mrr(ranks: Ranks, k: int | None = None) -> Floats:
    """``1 / position of the first target``; 0 if it is beyond K. ``(U,)`` in [0, 1].

    Over ties: with ``m`` targets among ``e`` tied items, the first stands at place ``j`` with probability ``C(e - j, m - 1) / C(e, m)``.

    >>> from lexirec.evaluation.ranks import Ranks
    >>> mrr(Ranks(np.array([1, 4]), np.array([1, 1]), np.array([0, 2]))).tolist()
    [0.5]
    """
    g, e, m = ranks.greater[ranks.best], ranks.equal[ranks.best], ranks.together[ranks.best]
    n = e if k is None else np.clip(k - g, 0, e)
    start = g if k is None else np.minimum(g, k)
    if (e == 1).all():
        return np.where(n > 0, 1.0 / (g + 1), 0.0)
    value = (_harmonic(start + n) - _harmonic(start)) / e
    for user in np.flatnonzero((m > 1) & (n > 0)):
        places = np.arange(1, min(int(n[user]), int(e[user] - m[user] + 1)) + 1)
        size, several = int(e[user]), int(m[user])
        # P(j + 1) = P(j) (e - j - m + 1) / (e - j), from P(1) = m / e: no factorials, no overflow.
        steps = (size - places[:-1] - several + 1) / (size - places[:-1])
        probability = several / size * np.append(1.0, np.cumprod(steps))
        value[user] = float((probability / (g[user] + places)).sum())
    return value


_WITH_CUT: dict[str, Callable[[Ranks, int], Floats]] = {
    "recall": recall, "hr": hr, "ndcg": ndcg, "precision": precision, "map": average_precision, "mrr": mrr,
}  # fmt: skip


def per_user(metric: Metric, ranks: Ranks) -> Floats:
    """Value of an accuracy metric for each user, ``(U,)``."""
    return mrr(ranks) if metric.k is None else _WITH_CUT[metric.name](ranks, metric.k)


# ---- beyond accuracy: judged from the lists alone


def list_counts(top: NDArray[np.integer], n_items: int) -> Ints:
    """How often each item is recommended, ``(I,)``; -1 in ``top`` is no item."""
    flat = top.ravel()
    return np.bincount(flat[flat >= 0], minlength=n_items)


def coverage(counts: Ints) -> float:
    """Share of the catalogue that is recommended to anyone.

    Args:
        counts: ``(I,)``, how often each item is recommended.

    >>> coverage(np.array([3, 1, 0, 0]))
    0.5
    """
    return float(np.count_nonzero(counts) / max(len(counts), 1))


def gini(counts: Ints) -> float:
    """Gini index of how often the items are recommended: 0 all alike, near 1 one item only.

    ``sum over items in ascending order of (2 i - I - 1) c_i / (I sum c)``.

    >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 4]))
    (0.0, 0.75)
    """
    n, total = len(counts), counts.sum()
    if not total:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(counts)).sum() / (n * total))


def self_information(popularity: Ints) -> Floats:
    """``-log2 p`` of each item, ``(I,)`` bits, ``p = (events + 1) / (all events + I)``: one is added so that a new item stays finite.

    >>> self_information(np.array([2, 0])).tolist()
    [0.4150374992788438, 2.0]
    """
    return -np.log2((popularity + 1) / (popularity.sum() + len(popularity)))


def novelty(counts: Ints, popularity: Ints) -> float:
    """Mean self-information of what is recommended, in bits (:func:`self_information` of the training popularity).

    >>> novelty(np.array([1, 1]), np.array([2, 0])).__round__(4)
    1.2075
    """
    return float((counts * self_information(popularity)).sum() / max(counts.sum(), 1))


def ild(top: NDArray[np.integer], unit_vectors: NDArray[np.float32]) -> Floats:
    """Intra-list diversity: mean cosine distance over the pairs of a list, ``(B,)`` in [0, 2]; NaN for a list of fewer than two.

    ``1 - (|sum of unit vectors|^2 - sum of |unit vector|^2) / (n (n - 1))``: the sum over pairs without the pairs.

    Args:
        top: ``(B, K)`` item positions, -1 is no item.
        unit_vectors: ``(I, D)`` float32, rows of length 1 (or 0).

    >>> ild(np.array([[0, 1]]), np.array([[1, 0], [0, 1]], dtype=np.float32)).tolist()
    [1.0]
    """
    import torch

    table = torch.from_numpy(unit_vectors)
    present = top >= 0
    index = torch.from_numpy(np.where(present, top, 0).astype(np.int64))
    weights = torch.from_numpy(present.astype(np.float32))
    total = torch.nn.functional.embedding_bag(index, table, mode="sum", per_sample_weights=weights)
    own = (table * table).sum(1).numpy()
    n = present.sum(axis=1)
    pairs = (total * total).sum(1).double().numpy() - np.where(present, own[np.where(present, top, 0)], 0.0).sum(axis=1)
    return np.where(n > 1, 1.0 - pairs / np.maximum(n * (n - 1), 1), np.nan)


def largest_cut(metrics: Sequence[Metric]) -> int:
    """The longest list that any of the metrics looks at; 0 if none has a cut-off."""
    return max((metric.k or 0 for metric in metrics), default=0)
