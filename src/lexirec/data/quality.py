"""What deserves a look in data that can be read; its numbers are in :mod:`lexirec.data.description`."""

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Final

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import Dataset, Heldout, Split
from lexirec.data.description import moment, repeats, seconds
from lexirec.data.formats.texts import MARKUP
from lexirec.data.messages import count, shown
from lexirec.data.numbers import numbers
from lexirec.data.times import UNITS

LONG_TITLE: Final = 1_000
"""Characters; encoders of titles read a few hundred tokens at most."""
_STEPS = 10_000_000
"""Whole numbers below it, as seconds before May 1970, are taken for a count of events."""
_EARLIEST, _LATEST = 631_152_000, 4_133_980_800
"""Unix seconds of 1990 and 2101; times of people's choices lie between."""
_QUANTITIES: Final = ("qty", "quantity", "amount", "menge")
_CURRENCY: Final = r"(?:[$€£¥]|EUR|USD|GBP|CHF|JPY)?"
_MONEY: Final = rf"^{_CURRENCY} ?-?\d{{1,3}}(?:[., ']?\d{{3}})*(?:[.,]\d{{1,2}})? ?{_CURRENCY}$"
_NO_NUMBER: Final = r"[$€£¥A-Z, ']"
"""What keeps a text that looks like a price from being read as a number."""


@dataclass(frozen=True)
class Problem:
    """One finding: ``level`` is ``"warning"`` (results may be wrong) or ``"advice"``; ``place`` a table and column."""

    level: str
    place: str
    finding: str
    cure: str

    def to_dict(self) -> dict[str, str]:
        """As plain values."""
        return asdict(self)


def problems(dataset: Dataset, split: Split | None = None) -> list[Problem]:
    """What deserves a look, worst first.

    Args:
        dataset: the data.
        split: a cut of it whose leaks are looked for too; the log's own ``split`` column is looked at in any case.
    """
    found = [*_item_problems(dataset), *_time_problems(dataset), *_log_problems(dataset), *_number_problems(dataset)]
    if c.SPLIT in dataset.interactions.columns and split is None:
        from lexirec.data.splits import given

        cut = given(dataset)
        found += _leaks(
            dataset,
            dataset.train_set(cut.train).user_index,
            dataset.item_index[cut.train],
            [dataset.heldout(cut.valid, "valid"), dataset.heldout(cut.test, "test")],
            "split column",
        )
    if split is not None:
        if split.sees_future:
            found.append(
                Problem(
                    "warning",
                    f"split {split.name}",
                    "training may hold events later than other users' test events",
                    "compare with the split 'temporal'",
                )
            )
        found += _leaks(dataset, split.train.user_index, split.train.item_index, [split.valid, split.test], f"split {split.name}", split)
    return sorted(found, key=lambda p: p.level != "warning")


def _item_problems(dataset: Dataset) -> list[Problem]:
    found = []
    items, ids = dataset.items, dataset.items[c.ITEM_ID]
    title = items[c.TITLE]
    empty = ids.filter(title.is_null())
    if len(empty):
        level = "warning" if len(empty) == dataset.n_items else "advice"
        found.append(
            Problem(
                level,
                "items.title",
                f"{count(len(empty), dataset.n_items)} items have no title (item_id {shown(empty)})",
                "fill them, drop these items, or use a template with other columns; a model of titles can't tell these items apart",
            )
        )
    long = title.str.len_chars().fill_null(0) > LONG_TITLE
    if long.any():
        found.append(
            Problem(
                "advice",
                "items.title",
                f"{count(int(long.sum()), dataset.n_items)} titles are longer than {LONG_TITLE:,} characters "
                f"(item_id {shown(ids.filter(long))}; the longest has {int(title.str.len_chars().fill_null(0).to_numpy().max()):,})",
                "move the rest to 'description'; an encoder reads only the beginning",
            )
        )
    for name in items.columns:
        if name != c.ITEM_ID and items[name].dtype == pl.String:
            marked = items[name].filter(items[name].str.contains(MARKUP).fill_null(False))
            if len(marked):
                found.append(
                    Problem(
                        "advice",
                        f"items.{name}",
                        f"{count(len(marked), dataset.n_items)} texts hold HTML ({shown(marked, 2)}); an encoder reads it as words",
                        "lexirec data convert --clean-html takes tags out and decodes entities",
                    )
                )
    twins = title.drop_nulls().is_duplicated()
    if int(twins.sum()) > 0.01 * dataset.n_items:
        found.append(
            Problem(
                "advice",
                "items.title",
                f"{count(int(twins.sum()), dataset.n_items)} items share their title with another "
                f"({shown(title.drop_nulls().filter(twins).unique(maintain_order=True))})",
                "use a template with brand or categories besides the title",
            )
        )
    silent = int((np.bincount(dataset.item_index, minlength=dataset.n_items) == 0).sum())
    if silent:
        found.append(
            Problem(
                "advice",
                "items",
                f"{count(silent, dataset.n_items)} items have no interactions; they are ranked like the others",
                "keep them if they are for sale; catalogue='interacted' (lexirec data convert --catalogue interacted) drops them",
            )
        )
    spaced = ids.filter(ids != ids.str.strip_chars())
    if len(spaced):
        found.append(
            Problem(
                "advice",
                "items.item_id",
                f"{count(len(spaced), dataset.n_items)} ids begin or end with white space ({shown(spaced)})",
                "strip them in both tables",
            )
        )
    return found


def _time_problems(dataset: Dataset) -> list[Problem]:
    found = []
    log = dataset.interactions
    times, ordered = log[c.TIMESTAMP], c.POSITION in log.columns
    known = len(times) - times.null_count()
    if known == 0:
        how = "'position'" if ordered else "the order of the rows"
        found.append(
            Problem(
                "advice",
                "interactions.timestamp",
                f"there are no timestamps; events are ordered by {how}",
                "the split 'temporal' needs timestamps",
            )
        )
        return found
    if known < len(times):
        found.append(
            Problem(
                "advice",
                "interactions.timestamp",
                f"{count(len(times) - known, len(times))} events have no timestamp",
                "the split 'temporal' needs missing_time='drop'",
            )
        )
    stamps = times.fill_null(np.iinfo(np.int64).min).to_numpy()
    inner = (dataset.user_index[1:] == dataset.user_index[:-1]) & times.is_not_null().to_numpy()[1:] & times.is_not_null().to_numpy()[:-1]
    ties = int((inner & (stamps[1:] == stamps[:-1])).sum())
    if ties and not ordered:
        found.append(
            Problem(
                "advice",
                "interactions.timestamp",
                f"{count(ties, len(times))} events share the timestamp of the user's previous event; file order decides",
                "give finer timestamps or a 'position' column if the order is known",
            )
        )
    back = int((inner & (stamps[1:] < stamps[:-1])).sum())
    if back:
        found.append(
            Problem(
                "warning",
                "interactions.position",
                f"{count(back, len(times))} events are earlier than the one at the user's previous position",
                "check 'position', or drop it to sort by timestamp",
            )
        )
    if ordered:
        place = log[c.POSITION].to_numpy()
        same = int(((dataset.user_index[1:] == dataset.user_index[:-1]) & (place[1:] == place[:-1])).sum())
        if same:
            found.append(
                Problem(
                    "warning",
                    "interactions.position",
                    f"{count(same, len(times))} events share a position with the user's previous event; file order decides",
                    "number the events of each user without repeats",
                )
            )
    return found + _range_problems(times)


def _range_problems(times: pl.Series) -> list[Problem]:
    """Times that lie where nobody chose anything, as a wrong unit or a misread date makes them."""
    place = "interactions.timestamp"
    counts = {name: int(times.is_between(_EARLIEST * unit, _LATEST * unit).sum()) for name, unit in UNITS.items()}
    mixed = {name: n for name, n in counts.items() if n}
    low, high = int(times.min()), int(times.max())  # type: ignore[arg-type]
    if len(mixed) > 1:
        said = " and ".join(mixed)
        seen = f"values run from {low} to {high}: {said} seem mixed ({', '.join(f'{n:,} {name}' for name, n in mixed.items())})"
        return [Problem("warning", place, seen, "give all in one unit")]
    found = []
    if seconds(low) < _EARLIEST:
        early = f"the earliest is {low} ({moment(low) or 'no date'}), before 1990"
        cure = "check the unit and how dates are read; numbers that only tell the order belong into 'position'"
        counted = high < _STEPS  # no time of any shop: somebody numbered the events
        found.append(Problem("advice" if counted else "warning", place, early, cure))
    if seconds(high) > datetime.now(timezone.utc).timestamp() + 86_400:
        late = f"the latest is {high} ({moment(high) or 'no date'}), in the future"
        found.append(Problem("warning", place, late, "check the unit and the clock"))
    return found


def _log_problems(dataset: Dataset) -> list[Problem]:
    found = []
    lengths = np.diff(dataset.offsets)
    if dataset.n_users == 1 or dataset.n_items == 1:
        found.append(
            Problem(
                "warning",
                "interactions",
                f"there are {dataset.n_users:,} users and {dataset.n_items:,} items; nothing can be learned from one",
                "give at least two of each",
            )
        )
    short = int((lengths < 3).sum())
    if short:
        found.append(
            Problem(
                "advice",
                "interactions",
                f"{count(short, dataset.n_users)} users have fewer than 3 events; leave-one-out keeps them in training only",
                "k_core(user=3) drops them (lexirec data convert --k-core-user 3)",
            )
        )
    repeated = repeats(dataset)
    if repeated:
        again = int(((dataset.item_index[1:] == dataset.item_index[:-1]) & (dataset.user_index[1:] == dataset.user_index[:-1])).sum())
        found.append(
            Problem(
                "advice",
                "interactions",
                f"{count(repeated, dataset.n_interactions)} events repeat a user-item pair, {again:,} of them directly after the same item",
                "choose a rule: drop_duplicates(rule='first', 'last' or 'consecutive') (lexirec data convert --duplicates RULE)",
            )
        )
    plain = dataset.interactions.drop(c.POSITION, strict=False)
    if repeated and dataset.interactions[c.TIMESTAMP].null_count() < dataset.n_interactions:
        exact = plain.height - int(plain.select(pl.struct(pl.all()).is_first_distinct().sum()).item())
        if exact:
            found.append(
                Problem(
                    "warning",
                    "interactions",
                    f"{count(exact, plain.height)} rows are exact copies of another",
                    "drop them: drop_duplicates(rule='exact') (lexirec data convert --duplicates exact)",
                )
            )
    if c.RATING in dataset.interactions.columns:
        ratings = dataset.interactions[c.RATING]
        low = int((ratings < 3).sum())
        # Stars, which some give few of; an amount or a mark that all have is none.
        if low < len(ratings) and low and 4 <= float(ratings.max() or 0) <= 5:  # type: ignore[arg-type]
            found.append(
                Problem(
                    "advice",
                    "interactions.rating",
                    f"{count(low, len(ratings))} ratings are below 3, and every event counts as liked",
                    "filter_rating(data, 4) keeps the liked ones (lexirec data convert --min-rating 4)",
                )
            )
    ids = dataset.users.ids
    spaced = ids.filter(ids != ids.str.strip_chars())
    if len(spaced):
        found.append(
            Problem(
                "advice",
                "interactions.user_id",
                f"{count(len(spaced), dataset.n_users)} ids begin or end with white space ({shown(spaced)})",
                "strip them",
            )
        )
    return found


def _number_problems(dataset: Dataset) -> list[Problem]:
    """Returned goods in the log; prices that are text."""
    found = []
    for name in dataset.interactions.columns:
        if name.lower() in _QUANTITIES:
            values = dataset.interactions[name]
            returned = int((numbers(values) < 0).sum())
            if returned:
                found.append(
                    Problem(
                        "warning",
                        f"interactions.{name}",
                        f"{count(returned, len(values))} values are negative, as returns are, and every event counts as a choice",
                        "drop these rows before, or read the column as the rating and keep the positive ones"
                        f" (lexirec data convert --column rating={name} --min-rating 1)",
                    )
                )
    for table, frame in (
        ("interactions", dataset.interactions.drop(c.USER_ID, c.ITEM_ID)),
        ("items", dataset.items.drop(c.ITEM_ID, c.TITLE)),
    ):
        for name in frame.columns:
            texts = (
                frame[name].drop_nulls().head(1000).str.strip_chars() if frame[name].dtype == pl.String else pl.Series([], dtype=pl.String)
            )
            if len(texts) and bool(texts.str.contains(_MONEY).all()) and bool(texts.str.contains(_NO_NUMBER).any()):
                found.append(
                    Problem(
                        "advice",
                        f"{table}.{name}",
                        f"{name} looks like a number: {shown(texts.filter(texts.str.contains(_NO_NUMBER)), 2)}, but is text",
                        "write plain numbers, as in 1234.56, if it is to be used as one",
                    )
                )
    return found


def _leaks(
    dataset: Dataset, users: np.ndarray, items: np.ndarray, parts: list[Heldout], place: str, split: Split | None = None
) -> list[Problem]:
    """Pairs of training that are held out too; held-out events of users or items that training has never seen."""
    found = []
    size = split.train.n_items if split is not None else dataset.n_items
    n_users = split.train.n_users if split is not None else dataset.n_users
    earlier = np.unique(users.astype(np.int64) * size + items)
    warm_users, warm_items = np.bincount(users, minlength=n_users) > 0, np.bincount(items, minlength=size) > 0
    for part in parts:
        if not len(part):
            continue
        keys = part.user_index.astype(np.int64) * size + part.item_index
        both = int(np.isin(keys, earlier).sum())
        if both:
            found.append(
                Problem(
                    "warning",
                    place,
                    f"{count(both, len(part))} {part.name} events are user-item pairs that occur in an earlier part too; masking "
                    "seen items hides them",
                    "drop repeats before the split (lexirec data convert --duplicates first), or evaluate without masking",
                )
            )
        strangers, unseen = int((~warm_users[part.user_index]).sum()), int((~warm_items[part.item_index]).sum())
        if strangers:
            found.append(
                Problem(
                    "advice",
                    place,
                    f"{count(strangers, len(part))} {part.name} events belong to users without training events",
                    "they are reported as cold users",
                )
            )
        if unseen:
            found.append(
                Problem(
                    "advice",
                    place,
                    f"{count(unseen, len(part))} {part.name} events are of items without training events",
                    "they are reported as cold items",
                )
            )
        earlier = np.union1d(earlier, keys)
    return found
