"""What data hold, in numbers."""

from datetime import datetime, timezone
from typing import Any

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import Dataset
from lexirec.data.times import unit_of


def seconds(stamp: int) -> float:
    """A time stamp in seconds or parts of them, told by its size, in seconds."""
    return stamp / unit_of(stamp)


def moment(stamp: Any) -> str | None:
    """ISO time (UTC) of a time stamp in seconds or parts of them; ``None`` where it is no such time."""
    if stamp is None:
        return None
    try:
        return datetime.fromtimestamp(seconds(stamp), timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def repeats(dataset: Dataset) -> int:
    """Events whose user-item pair occurred before."""
    key = pl.Series(dataset.user_index.astype(np.int64) * dataset.n_items + dataset.item_index)
    return dataset.n_interactions - key.n_unique()


def head_items(popularity: np.ndarray, share: float = 0.8) -> int:
    """Number of most popular items that together hold ``share`` of the events.

    >>> head_items(np.array([8, 1, 1]))
    1
    """
    ranked = np.sort(popularity)[::-1]
    return int(np.searchsorted(np.cumsum(ranked), share * ranked.sum() - 1e-9) + 1)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Counts, density, lengths, repeats, time range, text coverage, head and tail, hash; plain values for JSON."""
    lengths = np.diff(dataset.offsets)
    popularity = np.bincount(dataset.item_index, minlength=dataset.n_items)
    present = popularity[popularity > 0]
    times = dataset.interactions[c.TIMESTAMP]
    head = head_items(popularity)
    coverage = {}
    for name in dataset.items.columns[1:]:
        values = dataset.items[name]
        filled = values.is_not_null()
        if values.dtype == pl.String:
            filled = filled & (values.str.strip_chars() != "").fill_null(False)
        elif isinstance(values.dtype, pl.List):
            filled = filled & (values.list.len() > 0).fill_null(False)
        coverage[name] = {"filled": int(filled.sum()), "share": round(int(filled.sum()) / dataset.n_items, 6), "type": str(values.dtype)}
    out: dict[str, Any] = {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "items_with_interactions": len(present),
        "interactions": dataset.n_interactions,
        "density": dataset.n_interactions / (dataset.n_users * len(present)),
        "user_length": _spread(lengths),
        "item_count": _spread(present),
        "repeated_pairs": repeats(dataset),
        "timestamps": {
            "known": len(times) - times.null_count(),
            "first": times.min(),
            "last": times.max(),
            "first_utc": moment(times.min()),
            "last_utc": moment(times.max()),
            "order": "position"
            if c.POSITION in dataset.interactions.columns
            else "timestamp"
            if times.null_count() < len(times)
            else "file order",
        },
        "text": coverage,
        "head_items": {"share_of_events": 0.8, "items": head, "share_of_items": head / len(present)},
        "columns": dataset.interactions.columns,
        "content_hash": dataset.content_hash,
    }
    if c.RATING in dataset.interactions.columns:
        ratings = dataset.interactions[c.RATING]
        out["rating"] = {"known": len(ratings) - ratings.null_count(), "mean": ratings.mean(), "min": ratings.min(), "max": ratings.max()}
    if c.SPLIT in dataset.interactions.columns:
        out["split"] = {str(part): n for part, n in dataset.interactions.group_by(c.SPLIT).len().sort(c.SPLIT).iter_rows()}
    return out


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "median": float(np.median(values)), "min": int(values.min()), "max": int(values.max())}


__all__ = ["describe", "head_items", "moment", "repeats", "seconds"]
