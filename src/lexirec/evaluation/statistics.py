"""Is the difference real? Paired tests per user, intervals over users and over seeds, and Holm's correction for many comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from lexirec import columns as c
from lexirec.errors import InputError, nearest
from lexirec.evaluation.ranks import Floats

TESTS: Final = {"t": "paired t", "wilcoxon": "paired Wilcoxon signed rank", "randomisation": "paired randomisation"}
"""Tests by name, and how a result calls them."""
CHUNK = 1 << 22
"""Random numbers held at a time."""


def _values(values: ArrayLike, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise InputError(f"{what} has shape {array.shape}; give one value per user, at least 2")
    if not np.isfinite(array).all():
        raise InputError(f"{what} holds {int((~np.isfinite(array)).sum())} NaN or infinite values; drop those users first")
    return array


def paired_t(differences: ArrayLike) -> float:
    """Two-sided p value of the paired t test on per-user differences; 1 if all are 0.

    >>> round(paired_t([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    d = _values(differences, "differences")
    if np.ptp(d) == 0:
        return 1.0 if d[0] == 0 else 0.0
    from scipy import stats  # here, as an answer needs no test: it is a fifth of what `lexirec recommend` loads

    return float(stats.ttest_1samp(d, 0.0).pvalue)


def wilcoxon(differences: ArrayLike) -> float:
    """Two-sided p value of the Wilcoxon signed-rank test (zeros share their ranks, Pratt 1959); 1 if all differences are 0."""
    from scipy import stats

    d = _values(differences, "differences")
    return 1.0 if not d.any() else float(stats.wilcoxon(d, zero_method="pratt").pvalue)


def randomisation(differences: ArrayLike, n: int = 10_000, seed: int = 0) -> float:
    """Two-sided p value of the paired randomisation test: signs of the differences are flipped at random.

    ``(1 + flips with a mean at least as far from 0) / (1 + n)``, so never 0 (Phipson & Smyth 2010).

    Args:
        differences: ``(U,)`` value of one model minus the other, per user.
        n: random flips.
        seed: of the flips.

    >>> randomisation([0.0, 0.0, 0.0])
    1.0
    """
    d = _values(differences, "differences")
    rng = np.random.default_rng(seed)
    size, counts = np.unique(np.abs(d), return_counts=True)
    observed = abs(d.sum())
    extreme = 0
    # Users with the same absolute difference are alike: their flips sum to a binomial count. Metrics of one target take few values.
    for rounds in _rounds(n, len(size)):
        flips = 2 * rng.binomial(counts, 0.5, size=(rounds, len(size))) - counts
        extreme += int(np.count_nonzero(np.abs(flips @ size) >= observed * (1 - 1e-12) - 1e-12))
    return (1 + extreme) / (1 + n)


def _rounds(n: int, width: int) -> Iterator[int]:
    """Cut ``n`` resamples of ``width`` numbers into parts that fit into memory."""
    step = max(1, CHUNK // max(width, 1))
    for start in range(0, n, step):
        yield min(step, n - start)


def bootstrap_interval(values: ArrayLike, level: float = 0.95, n: int = 5_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over users; of a paired difference when given differences.

    Args:
        values: ``(U,)``.
        level: coverage, between 0 and 1.
        n: resamples.
        seed: of the resampling.

    >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
    >>> 0.35 < low < 0.5 < high < 0.65
    True
    """
    array = _values(values, "values")
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it is the coverage of the interval and lies between 0 and 1, for example 0.95")
    rng = np.random.default_rng(seed)
    size, counts = np.unique(array, return_counts=True)
    users = len(array)
    if len(size) * 4 <= users:  # few distinct values: how often each is drawn is one multinomial draw, exactly the same thing
        means = [rng.multinomial(users, counts / users, size=rounds) @ size / users for rounds in _rounds(n, len(size))]
    else:
        means = [array[rng.integers(0, users, size=(rounds, users), dtype=np.int32)].mean(axis=1) for rounds in _rounds(n, users)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Student's t interval of the mean over seeds; ``None`` for a single seed, which says nothing about spread.

    >>> low, high = seed_interval([0.1, 0.2, 0.3])
    >>> round(low, 4), round(high, 4)
    (-0.0484, 0.4484)
    """
    from scipy import stats

    if len(values) < 2:
        return None
    array = np.asarray(values, dtype=np.float64)
    half = float(stats.t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array)))
    return float(array.mean()) - half, float(array.mean()) + half


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation over seeds (divisor n - 1); ``None`` for a single seed.

    >>> round(standard_deviation([0.1, 0.2, 0.3]), 4)
    0.1
    """
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1)) if len(values) > 1 else None


def summarise(runs: Sequence[Mapping[str, float]], level: float = 0.95) -> dict[str, Any]:
    """Mean, sample standard deviation and interval over seeds of every metric that all runs have.

    Returns:
        ``mean``, ``sd`` and ``interval95``, each from metric to value; the last two are empty for a single run.

    >>> summarise([{"recall@20": 0.1}])
    {'mean': {'recall@20': 0.1}, 'sd': {}, 'interval95': {}}
    """
    if not runs:
        raise InputError("there is no run to summarise")
    keys = [key for key in runs[0] if all(key in run for run in runs)]
    spreads = {key: standard_deviation([run[key] for run in runs]) for key in keys}
    intervals = {key: seed_interval([run[key] for run in runs], level) for key in keys}
    return {
        "mean": {key: float(np.mean([run[key] for run in runs])) for key in keys},
        "sd": {key: spread for key, spread in spreads.items() if spread is not None},
        f"interval{round(level * 100)}": {key: list(interval) for key, interval in intervals.items() if interval is not None},
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values that hold for all comparisons together.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))), 1.0)
    result = np.empty(len(p))
    result[order] = adjusted
    return result.tolist()


def over_seeds(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Mean per user over the runs of one model, sorted by ``user_id``.

    Raises:
        InputError: if the runs hold different users or metrics.
    """
    if not frames:
        raise InputError("a model has no per-user table; give at least one run")
    tables = [frame.sort(c.USER_ID) for frame in frames]
    first = tables[0]
    for table in tables[1:]:
        _same_users(first, table, "two seeds of one model")
        if set(table.columns) != set(first.columns):
            differing = sorted(set(table.columns) ^ set(first.columns))
            raise InputError(f"two seeds of one model have different metrics ({', '.join(differing)}); evaluate both with the same metrics")
    repeated = first[c.USER_ID].filter(first[c.USER_ID].is_duplicated())
    if len(repeated):
        raise InputError(f"user_id {repeated[0]!r} is in a per-user table twice; give one row per user")
    names = [name for name in first.columns if name != c.USER_ID]
    return first.select(c.USER_ID, *(pl.Series(name, np.mean([table[name].to_numpy() for table in tables], axis=0)) for name in names))


def _same_users(left: pl.DataFrame, right: pl.DataFrame, what: str) -> None:
    if left.height != right.height or not (left[c.USER_ID] == right[c.USER_ID]).all():
        only = len(set(left[c.USER_ID]) ^ set(right[c.USER_ID]))
        raise InputError(
            f"{what} were evaluated on different users ({left.height:,} and {right.height:,}, {only:,} in one only); "
            "a paired test needs the same data, split and masking"
        )


def compare(
    frames: Mapping[str, Sequence[pl.DataFrame]],
    metrics: Sequence[str],
    baseline: str | None = None,
    *,
    test: str = "t",
    level: float = 0.95,
    n: int = 5_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Compare models by paired tests over users.

    Several runs (seeds) of a model are averaged per user first, so that a user counts once and the test speaks of the models, not of
    one lucky seed.

    Args:
        frames: model name -> its ``per_user`` tables, one per seed.
        metrics: columns to compare.
        baseline: compare every other model against this one; ``None`` compares every pair.
        test: ``"t"``, ``"wilcoxon"`` or ``"randomisation"``.
        level: coverage of the bootstrap interval.
        n: resamples of the interval and the randomisation test.
        seed: of the resampling.

    Returns:
        One object per pair and metric: ``model``, ``against``, ``metric``, ``mean``, ``mean_against``, ``difference``, ``relative``
        (difference over ``mean_against``; ``None`` if that is 0), ``interval95`` of the difference, ``p``, ``p_holm`` over all objects,
        ``test``, ``n`` users.

    Raises:
        InputError: for fewer than two models, an unknown baseline, test or metric, or models evaluated on different users.
    """
    if len(frames) < 2:
        raise InputError(f"{len(frames)} model to compare; give at least two")
    if baseline is not None and baseline not in frames:
        raise InputError(f"unknown baseline {baseline!r}{nearest(baseline, frames)}; models: {', '.join(frames)}")
    if test not in TESTS:
        raise InputError(f"unknown test {test!r}{nearest(test, TESTS)}; known: {', '.join(TESTS)}")
    tables = {name: over_seeds(parts) for name, parts in frames.items()}
    for name, table in tables.items():
        for metric in metrics:
            if metric not in table.columns:
                known = [column for column in table.columns if column != c.USER_ID]
                raise InputError(f"model {name!r} has no per-user {metric!r}{nearest(metric, known)}; it has {', '.join(known)}")
    pairs = [(name, baseline) for name in tables if name != baseline] if baseline else [(b, a) for a, b in combinations(tables, 2)]
    found: list[dict[str, Any]] = []
    for name, against in pairs:
        _same_users(tables[name], tables[against], f"{name!r} and {against!r}")
        for metric in metrics:
            ours, theirs = tables[name][metric].to_numpy(), tables[against][metric].to_numpy()
            d: NDArray[np.float64] = ours - theirs
            p = randomisation(d, n, seed) if test == "randomisation" else paired_t(d) if test == "t" else wilcoxon(d)
            difference, base = float(d.mean()), float(theirs.mean())
            found.append(
                {
                    "model": name, "against": against, "metric": metric, "mean": float(ours.mean()), "mean_against": base,
                    "difference": difference, "relative": difference / base if base else None,
                    f"interval{round(level * 100)}": list(bootstrap_interval(d, level, n, seed)), "p": p, "test": TESTS[test], "n": len(d),
                }
            )  # fmt: skip
    for entry, adjusted in zip(found, holm([entry["p"] for entry in found]), strict=True):
        entry["p_holm"] = adjusted
    return found
