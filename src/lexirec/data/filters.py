"""Filters of a log: ratings, duplicates, k-core. Each takes a :class:`~lexirec.data.dataset.Dataset` and gives a new one."""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.dataset import Dataset
from lexirec.data.messages import count, shown
from lexirec.errors import InputError, nearest

CORE_MODES: Final = ("iterated", "single-pass", "simultaneous")
DUPLICATE_RULES: Final = ("all", "first", "last", "error", "consecutive", "consecutive-exact", "exact")


def filter_rating(dataset: Dataset, minimum: float) -> Dataset:
    """Keep the events with a rating of at least ``minimum``; events without a rating are dropped. The catalogue stays.

    Raises:
        InputError: if the log has no ratings, or none is high enough.
    """
    if c.RATING not in dataset.interactions.columns:
        raise InputError(
            f"{dataset.name}: the log has no 'rating' column to filter by (minimum {minimum}); drop the filter or give the column"
        )
    ratings = dataset.interactions[c.RATING]
    rows = (ratings >= minimum).fill_null(False).to_numpy()
    if not rows.any():
        raise InputError(
            f"{dataset.name}: no event has a rating of at least {minimum}; the highest is {ratings.max()!r}, so lower the minimum"
        )
    return dataset if rows.all() else dataset.subset(rows)


def k_core(dataset: Dataset, user: int = 5, item: int = 5, mode: str = "iterated", *, keep_items: bool = False) -> Dataset:
    """Keep users and items with enough events (events are counted, repeats included).

    Args:
        dataset: the log.
        user: least number of events of a user; 0 or 1 keeps all users.
        item: least number of events of an item; 0 keeps all items, also those without events.
        mode: ``"iterated"``: until nothing changes, the k-core proper. ``"single-pass"``: users once, then items once on what is left
            (AlphaRec's
            Books; users may fall below their minimum again). ``"simultaneous"``: both once, counted on the raw log (LLMEmb, MELT).
        keep_items: keep dropped items in the catalogue (their events go all the same), so that they can still be recommended by their text.

    Raises:
        InputError: if a minimum is negative, the mode is unknown, or nothing is left.

    Source: spec of AlphaRec, sections 3.1 and 3.2; spec of LLMEmb, section 6.
    """
    if user < 0 or item < 0:
        raise InputError(f"k-core minima are user={user}, item={item}; they are counts of at least 0")
    if mode not in CORE_MODES:
        raise InputError(f"k-core mode is {mode!r}; choose one of {', '.join(CORE_MODES)}{nearest(mode, CORE_MODES)}")
    users, items = dataset.user_index, dataset.item_index
    rows = np.ones(dataset.n_interactions, dtype=bool)
    if mode == "simultaneous":
        rows = _enough(users, rows, user, dataset.n_users) & _enough(items, rows, item, dataset.n_items)
    else:
        while True:
            before = int(rows.sum())
            rows &= _enough(users, rows, user, dataset.n_users)
            rows &= _enough(items, rows, item, dataset.n_items)
            if mode == "single-pass" or int(rows.sum()) == before:
                break
    if not rows.any():
        longest = int(np.diff(dataset.offsets).max())
        raise InputError(
            f"{dataset.name}: a k-core of user={user}, item={item} ({mode}) leaves nothing of {count(dataset.n_interactions)} "
            "events (the longest history has "
            f"{longest}); lower the minima"
        )
    # An item that lost its events is out of the catalogue too, as in the published sets: ranking it would change every metric.
    kept = None if keep_items or item == 0 else np.bincount(items[rows], minlength=dataset.n_items) > 0
    return dataset if rows.all() and (kept is None or kept.all()) else dataset.subset(rows, kept)


def _enough(index: NDArray[np.int32], rows: NDArray[np.bool_], minimum: int, size: int) -> NDArray[np.bool_]:
    """Per event, whether its user (or item) has ``minimum`` events among ``rows``."""
    if minimum <= 1:
        return np.ones(len(index), dtype=bool)
    return (np.bincount(index[rows], minlength=size) >= minimum)[index]


def drop_duplicates(dataset: Dataset, rule: str = "first") -> Dataset:
    """Settle repeated user-item pairs.

    Args:
        dataset: the log, in order within each user.
        rule: ``"all"`` keeps every event; ``"first"`` and ``"last"`` keep one event per pair; ``"error"`` refuses repeats;
            ``"consecutive"`` drops an event whose item equals that of the user's previous event, whatever else it says (A A B A becomes
            A B A); ``"consecutive-exact"`` drops it only if it equals the previous event in every column but ``position``, as CALRec does
            (the same item at another time or with another rating stays); ``"exact"`` drops rows equal to any before in every column but
            ``position``.

    Raises:
        InputError: if the rule is unknown, or repeats are refused and there are some.
    """
    if rule not in DUPLICATE_RULES:
        raise InputError(f"duplicates is {rule!r}; choose one of {', '.join(DUPLICATE_RULES)}{nearest(rule, DUPLICATE_RULES)}")
    if rule == "all":
        return dataset
    log = dataset.interactions
    if rule == "consecutive":
        rows = np.ones(dataset.n_interactions, dtype=bool)
        rows[1:] = (dataset.item_index[1:] != dataset.item_index[:-1]) | (dataset.user_index[1:] != dataset.user_index[:-1])
    elif rule == "consecutive-exact":
        columns = [pl.col(name) for name in log.columns if name != c.POSITION]
        differs = log.select(pl.any_horizontal(column.ne_missing(column.shift(1)) for column in columns)).to_series()
        rows = differs.to_numpy().copy()
        rows[:1] = True  # the first of all has none before it; other users' firsts differ in the user
    elif rule == "exact":
        rows = log.drop(c.POSITION, strict=False).select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    else:
        key = pl.Series(dataset.user_index.astype(np.int64) * dataset.n_items + dataset.item_index)
        rows = (key.is_last_distinct() if rule == "last" else key.is_first_distinct()).to_numpy()
        if rule == "error" and not rows.all():
            again = log.filter(pl.Series(~rows))
            pairs = pl.select(pl.format("{} {}", again[c.USER_ID], again[c.ITEM_ID])).to_series()
            raise InputError(
                f"{dataset.name}: {count(again.height, log.height)} events repeat a user-item pair (user_id item_id: "
                f"{shown(pairs)}); choose which to keep: "
                "duplicates 'first', 'last', 'consecutive' or 'all'"
            )
    return dataset if rows.all() else dataset.subset(rows)


def interacted_only(dataset: Dataset) -> Dataset:
    """Drop the items without events from the catalogue."""
    present = np.bincount(dataset.item_index, minlength=dataset.n_items) > 0
    return dataset if present.all() else dataset.subset(np.ones(dataset.n_interactions, dtype=bool), present)
