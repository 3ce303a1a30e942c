"""Cuts of a log into train, validation and test, named as the field names them.

Sources: AlphaRec's official 4:3:3 (spec section 3.1, derived from its MovieLens files, all 6,040 users match); freerec's ROU and RAU
(section 3.2).
"""

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.dataset import Dataset, Split
from lexirec.data.filters import interacted_only
from lexirec.data.messages import DataWarning, count, shown, warn
from lexirec.data.times import unit_of
from lexirec.errors import InputError, nearest

Mask = NDArray[np.bool_]

PARTS: Final = {
    "train": "train",
    "trn": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "tst": "test",
    "testing": "test",
}
"""Values of a ``split`` column and the part that each means (case does not matter)."""


class FutureLeakWarning(DataWarning):
    """Training may see events that happen later than another user's test events."""


@dataclass(frozen=True)
class Cut:
    """The three parts as masks over the events, ``(N,)`` bool each, and the items that don't exist while training, ``(I,)`` bool."""

    train: Mask
    valid: Mask
    test: Mask
    new_items: Mask | None = None


def _rank(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Place of each event in its user's history, and the history's length; ``(N,)`` int64 each."""
    place = np.arange(dataset.n_interactions) - dataset.offsets[dataset.user_index]
    return place, np.diff(dataset.offsets)[dataset.user_index]


def _between(place: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> Cut:
    return Cut(place < left, (place >= left) & (place < right), place >= right)


def _shares(ratios: Sequence[int]) -> tuple[int, int, int]:
    if len(ratios) != 3 or any(r < 0 or int(r) != r for r in ratios) or ratios[0] == 0 or ratios[2] == 0:
        raise InputError(f"ratios are {list(ratios)}; give three whole numbers such as [8, 1, 1], the first and the last above 0")
    return int(ratios[0]), int(ratios[1]), int(ratios[2])


def ratio(dataset: Dataset, ratios: Sequence[int] = (8, 1, 1)) -> Cut:
    """Per user, oldest first: with n events, left = max(floor(.8 n), 1), right = max(floor(.9 n), left).

    A user with 5 events has no validation event.
    """
    a, b, total = *_shares(ratios)[:2], sum(ratios)
    place, n = _rank(dataset)
    left = np.maximum(n * a // total, 1)
    return _between(place, left, np.maximum(n * (a + b) // total, left))


def ratio_at_least_one(dataset: Dataset, ratios: Sequence[int] = (8, 1, 1)) -> Cut:
    """As ``ratio``, but one validation and one test event for every user with at least 3 events."""
    a, b, total = *_shares(ratios)[:2], sum(ratios)
    place, n = _rank(dataset)
    left = np.maximum(np.minimum(n * a // total, n - 2), 1)
    return _between(place, left, np.maximum(np.minimum(n * (a + b) // total, n - 1), left))


def random_433(dataset: Dataset, seed: int = 0) -> Cut:
    """Per user, at random: train = round(.4 n), valid = round(.5 (n - train)), halves to the even number; the rest is test."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(dataset.n_interactions), dataset.user_index))
    place, n = _rank(dataset)
    place[order] = place.copy()  # the events stay sorted by user, so place[k] is also the place of the k-th event of the random order
    train = np.rint(0.4 * n).astype(np.int64)
    return _between(place, train, train + np.rint(0.5 * (n - train)).astype(np.int64))


def leave_one_out(dataset: Dataset) -> Cut:
    """Per user: the last event is test, the one before validation. Users with fewer than 3 events are in training only."""
    place, n = _rank(dataset)
    long = n >= 3
    return _between(place, np.where(long, n - 2, n), np.where(long, n - 1, n))


def temporal(
    dataset: Dataset,
    test_share: float = 0.1,
    valid_share: float = 0.1,
    test_from: int | str | None = None,
    valid_from: int | str | None = None,
    missing_time: str = "error",
) -> Cut:
    """One global time: training holds everything before ``valid_from``, test everything from ``test_from`` on.

    The borders are given, as a time stamp or an ISO date (UTC), or found so that about ``test_share`` and ``valid_share`` of the events
    come after them;
    events of one moment stay together. Items without an event before ``valid_from`` are new items. Events without a time are refused, or
    left out of
    all parts with ``missing_time="drop"``.
    """
    times = dataset.interactions[c.TIMESTAMP]
    missing = times.is_null().to_numpy()
    if missing_time not in ("error", "drop"):
        raise InputError(f"missing_time is {missing_time!r}; choose 'error' or 'drop'{nearest(missing_time, ('error', 'drop'))}")
    if missing.all():
        raise InputError(
            f"{dataset.name}: the log has no timestamps, so it can't be cut by time; choose another split, such as 'leave-one-out'"
        )
    if missing.any() and missing_time == "error":
        raise InputError(
            f"{dataset.name}: {count(int(missing.sum()), len(missing))} events have no timestamp, so they can't be cut by time; "
            "pass missing_time='drop' to leave them out (lexirec fit --set 'data.split_options={missing_time: drop}')"
        )
    stamps = times.fill_null(0).to_numpy()
    known = np.sort(stamps[~missing])
    for given, share in ((test_from, test_share), (valid_from, test_share + valid_share)):
        if given is None and not 0.0 < share < 1.0:
            raise InputError(f"test_share is {test_share} and valid_share {valid_share}; they are shares above 0 whose sum is below 1")

    def last(share: float, among: NDArray[np.int64]) -> int:
        """The moment from which on so large a share of all events lies, counted back from the last ``among`` them."""
        return int(among[min(max(int(len(among) - len(known) * share), 0), len(among) - 1)])

    test_at = last(test_share, known) if test_from is None else _moment(test_from, "test_from", int(known[-1]))
    before = known[known < test_at]
    if valid_from is not None:
        valid_at = _moment(valid_from, "valid_from", int(known[-1]))
    elif test_from is None:
        valid_at = last(test_share + valid_share, known)
    else:  # the share is of the events before the border that was given
        valid_at = last(valid_share, before) if len(before) else test_at
    if valid_at > test_at:
        raise InputError(f"valid_from ({valid_at}) is later than test_from ({test_at}); validation comes before test")
    train = ~missing & (stamps < valid_at)
    new_items = np.bincount(dataset.item_index[train], minlength=dataset.n_items) == 0
    return Cut(train, ~missing & (stamps >= valid_at) & (stamps < test_at), ~missing & (stamps >= test_at), new_items)


def _moment(value: float | str, option: str, latest: int) -> int:
    """A border in the unit of the log, whose latest time stamp tells it."""
    if isinstance(value, int | float):
        if value != int(value):
            raise InputError(f"{option} is {value!r}; give a whole time stamp or a date like 2018-06-30")
        return int(value)
    if value.lstrip("-").isdigit():
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise InputError(f"{option} is {value!r}; give a time stamp or a date like 2018-06-30") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()) * unit_of(latest)


def cold_items(dataset: Dataset, share: float = 0.2, valid_share: float = 0.5, choose: str = "random", seed: int = 0) -> Cut:
    """A share of the items is never seen in training: all their events are held out, those of ``valid_share`` of them for validation.

    ``choose``: ``"random"``, or ``"newest"``: the items whose first event is the latest. Items without events stay known items.
    """
    if not 0.0 < share < 1.0 or not 0.0 <= valid_share < 1.0:
        raise InputError(f"share is {share} and valid_share {valid_share}; share lies between 0 and 1, valid_share in [0, 1)")
    if choose not in ("random", "newest"):
        raise InputError(f"choose is {choose!r}; choose 'random' or 'newest'{nearest(choose, ('random', 'newest'))}")
    present = np.flatnonzero(np.bincount(dataset.item_index, minlength=dataset.n_items))
    n_cold = max(round(share * len(present)), 1)
    n_valid = min(round(valid_share * n_cold), n_cold - 1)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(present)
    if choose == "newest":
        times = dataset.interactions[c.TIMESTAMP]
        if times.null_count() == len(times):
            raise InputError(f"{dataset.name}: the log has no timestamps, so its newest items are not known; pass choose='random'")
        first = np.full(dataset.n_items, np.iinfo(np.int64).max)
        dated = times.is_not_null().to_numpy()
        np.minimum.at(first, dataset.item_index[dated], times.drop_nulls().to_numpy())
        first[first == np.iinfo(np.int64).max] = np.iinfo(np.int64).min  # never dated: not known to be new
        newest = shuffled[np.argsort(first[shuffled], kind="stable")][::-1][:n_cold]
        shuffled = rng.permutation(newest)
    valid_items, test_items = np.zeros(dataset.n_items, dtype=bool), np.zeros(dataset.n_items, dtype=bool)
    valid_items[shuffled[:n_valid]] = True
    test_items[shuffled[n_valid:n_cold]] = True
    valid, test = valid_items[dataset.item_index], test_items[dataset.item_index]
    return Cut(~(valid | test), valid, test, valid_items | test_items)


def given(dataset: Dataset) -> Cut:
    """The log's own ``split`` column: train, trn, training; valid, val, validation, dev; test, tst, testing."""
    if c.SPLIT not in dataset.interactions.columns:
        raise InputError(
            f"{dataset.name}: the log has no 'split' column; give it one, or name a split file of the data folder: 'given:NAME' "
            "(user_id, item_id, split)"
        )
    values = dataset.interactions[c.SPLIT]
    parts = values.str.strip_chars().str.to_lowercase().replace_strict(PARTS, default=None)
    if parts.null_count():
        odd = values.filter(parts.is_null())
        hint = "" if odd[0] is None else nearest(odd[0], PARTS)
        raise InputError(
            f"{dataset.name}: {count(len(odd), len(values))} events have a split that is not understood "
            f"({shown(odd.unique(maintain_order=True))}){hint}; "
            f"use {', '.join(PARTS)}"
        )
    return Cut(*((parts == part).to_numpy() for part in ("train", "valid", "test")))


def everything(dataset: Dataset) -> Cut:
    """All events are training events; nothing is held out."""
    none = np.zeros(dataset.n_interactions, dtype=bool)
    return Cut(~none, none, none)


SPLITS: Final[dict[str, Callable[..., Cut]]] = {
    "ratio": ratio,
    "ratio-at-least-one": ratio_at_least_one,
    "random-433": random_433,
    "leave-one-out": leave_one_out,
    "temporal": temporal,
    "cold-items": cold_items,
    "given": given,
    "all": everything,
}
"""Name of each split and the function that makes it; a new split is one function here."""

_warned: set[str] = set()


def split_dataset(dataset: Dataset, name: str = "leave-one-out", **options: Any) -> Split:
    """Cut a dataset into train, validation and test.

    Args:
        dataset: the log; its order within a user is that of :class:`~lexirec.data.dataset.Dataset`.
        name: one of :data:`SPLITS`, or ``"given:NAME"``: the split file ``NAME`` of the folder that the dataset was read from. The log is
            then
            restricted to the file's events, and the catalogue to their items unless ``catalogue="all"``.
        options: the keyword arguments of the split's function, for example ``seed=1``.

    Raises:
        InputError: if the name or an option is unknown, the log has only one user or one item, or a part that must have events is empty.

    Warns:
        FutureLeakWarning: once per split name, if training holds events later than another user's test events (``Split.sees_future``).

    >>> import polars as pl
    >>> log = pl.DataFrame({"user_id": ["u"] * 5 + ["v"] * 5, "item_id": list("abcdeabcde"), "timestamp": list(range(10))})
    >>> cut = split_dataset(Dataset.from_frames(log), "temporal", test_share=0.2)
    >>> cut.train.n_interactions, len(cut.valid), len(cut.test)
    (7, 1, 2)
    """
    base, _, file = name.partition(":")
    if base not in SPLITS:
        raise InputError(f"split is {name!r}, which is not one of {', '.join(SPLITS)}{nearest(base, SPLITS)}")
    record: dict[str, Any] = {}
    if file:
        if base != "given":
            raise InputError(f"split is {name!r}; only 'given' takes a file, as in 'given:split_alpharec'")
        from lexirec.data.readers import attach_split  # readers import filters, which splits use too

        catalogue = options.pop("catalogue", "interacted")
        if catalogue not in ("all", "interacted"):
            raise InputError(f"catalogue is {catalogue!r}; choose 'all' or 'interacted'{nearest(str(catalogue), ('all', 'interacted'))}")
        dataset = attach_split(dataset, file)
        dataset = interacted_only(dataset) if catalogue == "interacted" else dataset
        record["catalogue"] = catalogue
    record |= _options(base, options)
    for n, what, cure in ((dataset.n_users, "user", "collect"), (dataset.n_items, "item", "list")):
        if n < 2:
            only = (dataset.users if what == "user" else dataset.item_map).ids[0]
            raise InputError(
                f"{dataset.name}: the data have one {what} ({only!r}), and nothing can be learned or ranked from one; {cure} at least two"
            )
    cut = SPLITS[base](dataset, **{k: v for k, v in record.items() if k != "catalogue"})
    if not cut.train.any() or (base != "all" and not cut.test.any()):
        empty = "training" if not cut.train.any() else "test"
        longest = int(np.diff(dataset.offsets).max())
        raise InputError(
            f"{dataset.name}: the split {name!r} leaves no {empty} events of {count(dataset.n_interactions)} (the longest history "
            f"has {longest}); "
            "choose another split or other options"
        )
    future = _sees_future(dataset, cut)
    if future is not False and name not in _warned:
        _warned.add(name)
        what = "training holds" if future else "not all times are known, so training may hold"
        warn(f"split {name!r}: {what} events later than other users' test events; the split 'temporal' does not", FutureLeakWarning)
    return Split(
        name=name,
        train=dataset.train_set(cut.train, new_items=cut.new_items, tag=f"{name} {json.dumps(record, sort_keys=True, default=str)}"),
        valid=dataset.heldout(cut.valid, "valid"),
        test=dataset.heldout(cut.test, "test"),
        sees_future=future is not False,
        options=record,
    )


def _options(base: str, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a split with their values, defaults included."""
    allowed = {p.name: p.default for p in list(inspect.signature(SPLITS[base]).parameters.values())[1:]}
    for option, value in options.items():
        if option not in allowed:
            has = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise InputError(f"the split {base!r} has no option {option!r}{nearest(option, allowed)}; {has}")
        if isinstance(value, datetime | date):
            options = {**options, option: value.isoformat()}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in {**allowed, **options}.items()}


def _sees_future(dataset: Dataset, cut: Cut) -> bool | None:
    """Whether the latest training event is later than the earliest test event; None where a time that matters is not known."""
    if not cut.test.any():
        return False
    times = dataset.interactions[c.TIMESTAMP]
    known = times.is_not_null().to_numpy()
    if not (known[cut.train].all() and known[cut.test].all()):
        return None
    stamps = times.fill_null(0).to_numpy()
    return bool(stamps[cut.train].max() > stamps[cut.test].min())
