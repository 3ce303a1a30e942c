"""Popularity bias: what a model finds, and what it shows, by how popular the items are in training."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError
from lexirec.evaluation.evaluate import LIST_LENGTH, Evaluation

CLASSES = 10
"""Classes of popularity: deciles."""


def popularity_classes(popularity: NDArray[np.integer], n: int = CLASSES, include: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Class of each item by its number of events: ``n`` classes of about equally many *items*, 0 the rarest.

    Items with equally many events are never parted: which of them falls into which class would be an accident of their ids. They go
    where the middle of their places goes. So classes differ a little in size, and with few distinct counts some are empty.

    Args:
        popularity: ``(I,)`` events per item.
        n: number of classes.
        include: ``(I,)`` bool, items to classify; the others get -1.

    Returns:
        ``(I,)`` int64.

    >>> popularity_classes(np.array([5, 1, 9, 1]), n=2).tolist()
    [1, 0, 1, 0]
    >>> popularity_classes(np.array([1, 1, 1, 1, 2, 3]), n=3).tolist()
    [1, 1, 1, 1, 2, 2]
    """
    counts = np.asarray(popularity)
    classes = np.full(len(counts), -1, dtype=np.int64)
    chosen = np.arange(len(counts)) if include is None else np.flatnonzero(include)
    if not len(chosen):
        return classes
    _, level, sizes = np.unique(counts[chosen], return_inverse=True, return_counts=True)
    # Twice the middle place of each level, in whole numbers: 2 * (items below) + size
    middle = 2 * (np.cumsum(sizes) - sizes) + sizes
    classes[chosen] = np.minimum(middle[level] * n // (2 * len(chosen)), n - 1)
    return classes


def by_popularity(evaluation: Evaluation, train: TrainSet, n: int = CLASSES, include: NDArray[np.bool_] | None = None) -> pl.DataFrame:
    """The metrics, and the model's attention, per popularity class.

    The classes hold about equally many items (:func:`popularity_classes`), cut by training events alone: they are the same for
    every model and say how deep into the catalogue a model reaches. (Classes of equally many *targets* would put half of
    the catalogue of a usual log into the first two.)

    Args:
        evaluation: of the model, on any held-out part.
        train: the training set that it was ranked over.
        n: number of classes.
        include: ``(I,)`` bool, items to look at; targets and places of the others are left out. All by default.

    Returns:
        One row per class, rarest first: ``class`` (from 1), ``least``, ``most`` (training events of its items; null if it is empty),
        ``n_items``, ``n_users``, ``n_targets``; each metric of ``per_user`` with a cut-off, over the users with a target in the class
        (NaN without one), and ``<metric> se``, its standard error (NaN below two users); and shares of the whole: ``share_items``,
        ``share_events`` (of the training events), ``share_targets``, ``share_lists`` (of all places in the users' first ten; null where no
        lists were made, as in a sampled ranking). A model without popularity bias shows each class as often as its targets ask for.

    Raises:
        InputError: if the evaluation is of another training set.
    """
    if evaluation.listed is not None and len(evaluation.listed) != train.n_items:
        raise InputError(f"the evaluation ranked {len(evaluation.listed):,} items and this training set has {train.n_items:,}")
    classes = popularity_classes(train.popularity, n, include)
    known = classes >= 0
    of_target = classes[evaluation.target_items]

    def share(weights: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        held = np.bincount(classes[known], weights=None if weights is None else weights[known], minlength=n)
        return held / max(float(held.sum()), 1.0)

    shares = {
        "share_items": share(),
        "share_events": share(train.popularity),
        "share_targets": share(np.bincount(evaluation.target_items, minlength=train.n_items)),
        "share_lists": [None] * n if evaluation.listed is None else share(evaluation.listed),
    }
    rows: list[dict[str, Any]] = []
    # MRR without cut-off needs places below the list, which are known for the best target of a user only.
    keys = [key for key in evaluation.per_user.columns[1:] if "@" in key]
    for number in range(n):
        events = train.popularity[classes == number]
        inside = of_target == number
        row: dict[str, Any] = {
            "class": number + 1,
            "least": int(events.min()) if len(events) else None,
            "most": int(events.max()) if len(events) else None,
            "n_items": len(events),
        }
        values = evaluation.of_targets(inside)
        row |= {"n_users": values.height, "n_targets": int(inside.sum())}
        for key in keys:
            of_users = values[key].to_numpy()
            row[key] = float(of_users.mean()) if len(of_users) else float("nan")
            row[f"{key} se"] = float(of_users.std(ddof=1) / np.sqrt(len(of_users))) if len(of_users) > 1 else float("nan")
        rows.append(row)
    integers = dict.fromkeys(("class", "least", "most", "n_items", "n_users", "n_targets"), pl.Int64)
    frame = pl.DataFrame(rows, schema_overrides=integers)
    return frame.with_columns(pl.Series(name, values, dtype=pl.Float64) for name, values in shares.items())


__all__ = ["CLASSES", "LIST_LENGTH", "by_popularity", "popularity_classes"]
