"""Item vectors in the plane by t-SNE (van der Maaten & Hinton, 2008), with openTSNE; and how far neighbours share their popularity."""

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError, require

MAX_ITEMS = 3000
"""Items of a map; more are thinned by a seeded draw. t-SNE of 3,000 takes some ten seconds on one core."""
PERPLEXITY = 30.0
SEED = 0


def draw_items(n_items: int, most: int = MAX_ITEMS, seed: int = SEED) -> NDArray[np.int64]:
    """Positions of the items of a map, ``(min(n_items, most),)``: a uniform draw, in shuffled order.

    The order is that of painting: shuffled, so that no kind of item lies on top of all others.
    """
    return np.random.default_rng(seed).permutation(n_items)[:most]


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of length 1; zero rows stay zero."""
    rows = np.asarray(vectors, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def tsne(vectors: NDArray[np.floating], perplexity: float = PERPLEXITY, seed: int = SEED) -> NDArray[np.float64]:
    """Places of the vectors in the plane.

    Vectors are brought to length 1 first (distances are those of the angle): how long an ID vector is follows its popularity, and
    the map would show that alone. Starts from principal components; one thread, exact neighbours, so the same seed gives the same map.

    Args:
        vectors: ``(n, D)``, ``D >= 3``.
        perplexity: about how many neighbours each item looks at; lowered to ``(n - 1) / 3`` where there are few items.
        seed: of the optimiser.

    Returns:
        ``(n, 2)``.

    Raises:
        InputError: for fewer than 10 items or 3 dimensions, or values that are not finite.
        MissingExtraError: without openTSNE.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2 or len(rows) < 10 or rows.shape[1] < 3:
        raise InputError(f"the vectors have shape {rows.shape}; a map by t-SNE needs at least 10 items of 3 dimensions")
    if not np.isfinite(rows).all():
        raise InputError(f"{int((~np.isfinite(rows).all(1)).sum())} of {len(rows):,} vectors hold NaN or infinity; a map needs finite ones")
    require("openTSNE", "plot")
    from openTSNE import TSNE

    near = min(perplexity, (len(rows) - 1) / 3)
    made = TSNE(perplexity=near, random_state=seed, n_jobs=1, neighbors="exact", initialization="pca").fit(unit_rows(rows))
    return np.asarray(made, dtype=np.float64)


def popularity_of_neighbours(vectors: NDArray[np.floating], popularity: NDArray[np.integer], k: int = 10) -> float:
    """Rank correlation (Spearman) of an item's popularity with the mean log popularity of its ``k`` nearest items by angle.

    0: the vectors know nothing of popularity. 1: popular items have popular neighbours, so that it can be read off the vectors.
    NaN if all items are equally popular.

    Args:
        vectors: ``(n, D)``.
        popularity: ``(n,)`` training events.
        k: neighbours.
    """
    from scipy import stats

    unit = unit_rows(vectors).astype(np.float32)
    logs = np.log1p(np.asarray(popularity, dtype=np.float64))
    k = min(k, len(unit) - 1)
    means = np.empty(len(unit))
    for start in range(0, len(unit), 1024):
        likeness = unit[start : start + 1024] @ unit.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        means[start : start + 1024] = logs[np.argpartition(-likeness, k - 1, axis=1)[:, :k]].mean(axis=1)
    if np.ptp(logs) == 0 or np.ptp(means) == 0:
        return float("nan")
    return float(stats.spearmanr(logs, means).statistic)
