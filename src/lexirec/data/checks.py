"""What a log and a catalogue must satisfy before they become a :class:`~lexirec.data.dataset.Dataset`.

Each check turns a column into its one type or raises an :class:`~lexirec.errors.InputError` with the value, the place and the cure.
Advice about data that can be read but deserves a look is in :mod:`lexirec.data.quality`.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from lexirec import columns as c
from lexirec.data.messages import count, shown, warn
from lexirec.data.times import as_timestamps, looks_like_times
from lexirec.errors import InputError, nearest

MAX_TITLE: Final = 100_000
"""Characters; a longer title is nearly always a file whose quotes don't match."""

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    ours: tuple(names.split())
    for ours, names in {
        c.USER_ID: "user userid uid user_id:token reviewerid customer customer_id customerid visitorid visitor_id member_id",
        c.ITEM_ID: "item itemid iid item_id:token movieid movie_id product product_id productid asin parent_asin business_id sku isbn",
        c.TIMESTAMP: "time ts unixreviewtime unix_timestamp timestamp:float datetime date event_time created_at",
        c.RATING: "ratings stars overall rating:float",
        c.REVIEW: "reviewtext review_text",
        c.TITLE: "name item_name product_name product_title movie_title item_title",
    }.items()
}
"""Common names that are read as ours when exactly one of them is there; saying so in a warning."""

_FILL_IDS: Final = "; drop these rows or fill the ids"
_FILL_TIMES: Final = ", and no 'position' column orders them; drop these rows, fill them, or add a 'position'"
_DROP_ROWS: Final = "; or leave such rows out with bad_rows='drop' (lexirec data convert --bad-rows drop)"

LOG_COLUMNS: Final = (c.USER_ID, c.ITEM_ID, c.TIMESTAMP, c.POSITION, c.RATING, c.REVIEW, c.SPLIT)
ITEM_COLUMNS: Final = (c.ITEM_ID, c.TITLE)


def rename(frame: pl.DataFrame, where: str, known: Sequence[str], required: Sequence[str], columns: Mapping[str, str]) -> pl.DataFrame:
    """Give our names to the columns of one table.

    Args:
        frame: the table.
        where: its name in messages, ``"interactions"`` or ``"items"``.
        known: our names that this table may have.
        required: our names that it must have.
        columns: our name -> the table's own name. Names that this table lacks are skipped (they may be the other table's).

    Raises:
        InputError: if a required column is missing (the nearest name is offered), if several columns could be meant, or if a
            column's name is nearly that of a known one, so that it would be overlooked.
    """
    mapping: dict[str, str] = {}
    for ours, theirs in columns.items():
        if ours in known and theirs in frame.columns and theirs != ours:
            if ours in frame.columns:
                raise InputError(
                    f"{where}: columns= reads {theirs!r} as {ours!r}, but there is a column {ours!r} too; drop or rename one of them"
                )
            mapping[theirs] = ours
    for ours in known:
        if ours in frame.columns or ours in mapping.values():
            continue
        free = [name for name in frame.columns if name not in mapping and name not in known]
        candidates = [name for name in free if name.lower() in ALIASES.get(ours, ()) or name.lower() == ours]
        if len(candidates) > 1 and (ours in required or ours == c.TIMESTAMP):  # without times the order of the file would decide
            raise InputError(
                f"{where}: column {ours!r} is missing and {', '.join(map(repr, candidates))} could each be it; choose with "
                f"{_mapping(ours, candidates[0])}"
            )
        if len(candidates) == 1:
            mapping[candidates[0]] = ours
            warn(
                f"{where}: column {candidates[0]!r} is read as {ours!r}; rename it, or say so with {_mapping(ours, candidates[0])}, to "
                "silence this"
            )
            continue
        if ours in required:
            raise InputError(
                f"{where}: column {ours!r} is missing{_likely(ours, free)}; the columns are {', '.join(map(repr, frame.columns))}; "
                f"rename one or pass {_mapping(ours, 'ITS_NAME')}"
            )
        similar = difflib.get_close_matches(ours, free, n=1, cutoff=0.85)
        if similar:
            raise InputError(
                f"{where}: column {similar[0]!r} looks like a misspelt {ours!r} and would be overlooked; rename it or pass "
                f"{_mapping(ours, similar[0])}"
            )
    return frame.rename(mapping)


PEOPLE: Final = ("customer", "client", "kunde", "user", "buyer", "member", "account", "visitor", "email", "mail")
"""Words in the names of columns that tell who."""
DEALS: Final = ("order", "invoice", "bestell", "transaction", "receipt", "basket", "session")
"""Words in the names of columns that tell which purchase: as ``user_id`` each would be somebody who chose once."""


def _likely(ours: str, free: Sequence[str]) -> str:
    """The column that is probably meant: one that names people for ``user_id``, never one that names orders."""
    if ours != c.USER_ID:
        return nearest(ours, free)
    people = [name for name in free if any(word in name.lower() for word in PEOPLE)]
    if people:
        return f" (did you mean {people[0]!r}?)"
    return nearest(ours, [name for name in free if not any(word in name.lower() for word in DEALS)])


def _mapping(ours: str, theirs: str) -> str:
    """How to say which column is meant, in Python and on the command line."""
    return f"columns={{{ours!r}: {theirs!r}}} (--column {ours}={theirs})"


def as_ids(values: pl.Series, where: str) -> pl.Series:
    """Ids as text: integers by their digits, whole floats without the ``.0`` (pandas makes floats of integers beside a gap).

    Raises:
        InputError: for null or empty ids, floats that are not whole, and types that are no ids (booleans, dates, lists).

    >>> as_ids(pl.Series("user_id", [12.0, 7.0]), "interactions").to_list()
    ['12', '7']
    """
    ids = _id_texts(values, where)
    if ids.null_count():
        raise InputError(f"{where}.{ids.name}: {_finding(ids.is_null(), 'ids are missing')}{_FILL_IDS}")
    return ids


def _id_texts(values: pl.Series, where: str) -> pl.Series:
    """As :func:`as_ids`, with null for missing and empty ids."""
    place = f"{where}.{values.name}"
    if values.dtype == pl.Null:
        raise InputError(f"{place}: every id is missing; fill the column")
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.Binary:
        values = _decoded(values, place)
    if values.dtype.is_float():
        exact = 2**24 if values.dtype == pl.Float32 else 2**53  # from there on two whole numbers may be one
        there = values.fill_nan(None).drop_nulls()
        large = there.filter(there.is_finite() & (there.abs() >= exact))
        if len(large):
            raise InputError(
                f"{place}: {count(len(large), len(values))} ids are larger than {values.dtype} tells apart ({shown(large)}); store ids as"
                " text or integers"
            )
        wrong = there.filter(~there.is_finite() | (there != there.floor()))
        if len(wrong):
            raise InputError(
                f"{place}: {count(len(wrong), len(values))} ids are not whole numbers ({shown(wrong)}); store ids as text or integers"
            )
        values = values.fill_nan(None).cast(pl.Int64)
    if values.dtype.is_integer():
        values = values.cast(pl.String)
    elif values.dtype != pl.String:
        raise InputError(f"{place}: ids are of type {values.dtype}; store them as text or integers")
    return values.to_frame().select(pl.when(pl.first() != "").then(pl.first())).to_series()


def _decoded(values: pl.Series, place: str) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{place}: the bytes are not UTF-8; store text") from error


DECIMAL_COMMA = r"^[+-]?\d+(,\d{1,2})?$"
"""Numbers of a column in which all have one or two places after a comma, or none; three could be thousands."""


def _number(values: pl.Series, kind: pl.DataType | type[pl.DataType], where: str) -> pl.Series:
    numbers = values
    if values.dtype == pl.String:
        text = values.str.strip_chars()
        numbers = text.cast(pl.Float64, strict=False)
        if numbers.null_count() != values.null_count() and text.str.contains(DECIMAL_COMMA).all():
            numbers = text.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
    if numbers.null_count() != values.null_count():
        bad = (values.is_not_null() & numbers.is_null()).arg_max() or 0
        raise InputError(
            f"{where}.{values.name}: row {bad} (counted from 0) holds {str(values[bad])[:60]!r}, which is no number; mend it or "
            "leave it empty"
        )
    if not (numbers.dtype.is_numeric() or numbers.dtype == pl.Null):
        raise InputError(f"{where}.{values.name}: the type is {values.dtype}, not a number; store numbers")
    if numbers.dtype.is_float():
        infinite = numbers.is_infinite().fill_null(False)
        if infinite.any():
            raise InputError(f"{where}.{values.name}: row {infinite.arg_max()} (counted from 0) is infinite; mend it or leave it empty")
        numbers = numbers.fill_nan(None)
    if kind in (pl.Int32, pl.Int64) and numbers.dtype.is_float():
        broken = (numbers != numbers.floor()).fill_null(False)
        if broken.any():
            place = f"{where}.{values.name}: row {broken.arg_max()} (counted from 0)"
            raise InputError(f"{place} is no whole number; store whole numbers")
    try:
        return numbers.cast(kind)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{where}.{values.name}: values don't fit {kind}; store smaller whole numbers") from error


def _common(frame: pl.DataFrame, where: str, required: str) -> pl.DataFrame:
    if frame.height == 0:
        raise InputError(f"{where}: the table has no rows; give at least one row of {required}")
    odd = [name for name, kind in frame.schema.items() if kind == pl.Object]
    if odd:
        raise InputError(f"{where}.{odd[0]}: the values are Python objects of several kinds; store text, numbers or lists of text")
    return frame.with_columns([_decoded(frame[name], f"{where}.{name}") for name, kind in frame.schema.items() if kind == pl.Binary])


def _look_for_times(frame: pl.DataFrame, where: str) -> None:
    """Warn of columns that look like times, in a log that has none by their names."""
    found = [name for name in frame.columns if name not in LOG_COLUMNS and looks_like_times(frame[name])]
    if found:
        warn(
            f"{where}: no column is known to be the time, so the order of the rows is the order of events;"
            f" {' and '.join(map(repr, found[:3]))} could be: read it with {_mapping(c.TIMESTAMP, found[0])}"
        )


def check_log(
    frame: pl.DataFrame,
    columns: Mapping[str, str] | None = None,
    where: str = "interactions",
    *,
    bad_rows: str = "error",
    first_line: int | None = None,
) -> pl.DataFrame:
    """A log with our column names and types: ids as text, ``timestamp`` int64, ``position`` int32, ``rating`` float32.

    Args:
        frame: any table of events.
        columns: our name -> the table's name.
        where: name of the table in messages.
        bad_rows: rows whose user, item or time is missing or can't be read: ``"error"``, or ``"drop"`` them with a warning.
        first_line: number of the line with the first row, where the table comes from delimited text; for messages.

    Raises:
        InputError: for anything that can't be used, naming the value, the place and the cure.
    """
    if bad_rows not in ("error", "drop"):
        raise InputError(f"bad_rows is {bad_rows!r}; choose 'error' or 'drop'{nearest(str(bad_rows), ('error', 'drop'))}")
    frame = _common(rename(frame, where, LOG_COLUMNS, (c.USER_ID, c.ITEM_ID), columns or {}), where, "user_id, item_id, timestamp")
    made = [_id_texts(frame[c.USER_ID], where), _id_texts(frame[c.ITEM_ID], where)]
    fine = None
    if c.TIMESTAMP in frame.columns:
        times, fine = as_timestamps(frame[c.TIMESTAMP], where)
        made.append(times)
    else:
        made.append(pl.Series(c.TIMESTAMP, [None], dtype=pl.Int64).new_from_index(0, frame.height))
        if c.POSITION not in frame.columns:
            _look_for_times(frame, where)
    good = _good_rows(frame, made, where, bad_rows, first_line)
    if good is not None:
        frame, made, fine = frame.filter(good), [values.filter(good) for values in made], None if fine is None else fine.filter(good)
    if c.POSITION in frame.columns:
        made.append(_number(frame[c.POSITION], pl.Int32, where))
        if made[-1].null_count():
            raise InputError(
                f"{where}.position: {count(made[-1].null_count(), frame.height)} places are missing; fill them, or drop the column "
                "to sort by timestamp"
            )
    if c.RATING in frame.columns:
        made.append(_number(frame[c.RATING], pl.Float32, where))
    made.extend(frame[name].cast(pl.String) for name in (c.REVIEW, c.SPLIT) if name in frame.columns)
    done = [values.name for values in made]
    log = pl.DataFrame(made).with_columns([frame[name] for name in sorted(frame.columns) if name not in done])
    if fine is not None and c.POSITION not in done:
        # Fractions of a second don't fit int64 seconds; ties are kept in file order, so the file order carries them.
        log = log.with_columns(fine.alias("__fine")).sort("__fine", maintain_order=True, nulls_last=False).drop("__fine")
    return log


def _good_rows(frame: pl.DataFrame, made: Sequence[pl.Series], where: str, bad_rows: str, first_line: int | None) -> pl.Series | None:
    """Which rows have a user, an item and a time, as read in ``made``; ``None`` if all have.

    Raises:
        InputError: if a row is bad and ``bad_rows`` is ``"error"``, or if no row is good.
    """
    users, items, times = made
    given = frame[c.TIMESTAMP] if c.TIMESTAMP in frame.columns else times
    missing = given.is_null() | (given.str.strip_chars() == "") if given.dtype == pl.String else given.is_null()
    unordered = c.POSITION not in frame.columns and not missing.all()
    unread = times.is_null() & ~missing
    looked_for = (
        (c.USER_ID, users.is_null(), "ids are missing", _FILL_IDS),
        (c.ITEM_ID, items.is_null(), "ids are missing", _FILL_IDS),
        (c.TIMESTAMP, unread, "timestamps can't be read", "; store Unix seconds or dates like 2024-03-01 12:30:00, not both"),
        (c.TIMESTAMP, missing & unordered, "timestamps are missing", _FILL_TIMES),
    )
    found, findings = [], []
    for column, mask, what, cure in looked_for:
        if mask.any():
            values = f": {shown(given.filter(mask))}" if mask is unread else ""
            finding = f"{column}: {_finding(mask, what, frame, first_line)}{values}"
            if bad_rows == "error":
                raise InputError(f"{where}.{finding}{cure}{_DROP_ROWS if where == 'interactions' else ''}")
            found.append(mask)
            findings.append(finding)
    if not found:
        return None
    bad = pl.select(pl.any_horizontal(found)).to_series()
    said = f"{where}: {count(int(bad.sum()), frame.height)} rows are left out: {'; '.join(findings)}"
    if bool(bad.all()):
        raise InputError(f"{said}; nothing is left, look at the columns")
    warn(said)
    return ~bad


def _finding(mask: pl.Series, what: str, frame: pl.DataFrame | None = None, first_line: int | None = None) -> str:
    """``3 of 10 ids are missing, the first in row 4 (counted from 0)``, with its line in the file where that is known."""
    row = int(mask.arg_max() or 0)
    line = ""
    if frame is not None and first_line is not None:
        breaks = frame[:row].select(pl.concat_str(pl.col(pl.String), ignore_nulls=True).str.count_matches("\n", literal=True).sum()).item()
        line = f"; line {first_line + row + breaks} of the file"
    return f"{count(int(mask.sum()), len(mask))} {what}, the first in row {row} (counted from 0{line})"


def check_items(frame: pl.DataFrame, columns: Mapping[str, str] | None = None, where: str = "items") -> pl.DataFrame:
    """A catalogue with ``item_id`` and ``title`` as text, one row per item; blank titles become null (unknown).

    Raises:
        InputError: for missing columns, duplicate or missing ids, and titles longer than :data:`MAX_TITLE`.
    """
    frame = _common(rename(frame, where, ITEM_COLUMNS, ITEM_COLUMNS, columns or {}), where, "item_id, title")
    ids = as_ids(frame[c.ITEM_ID], where)
    title = frame[c.TITLE]
    if title.dtype.is_nested() or title.dtype.is_temporal():
        raise InputError(f"{where}.title: titles are of type {title.dtype}; store text")
    if title.dtype.is_float() and bool((title == title.floor()).all()):
        title = title.fill_nan(None).cast(pl.Int64)  # titles such as 1984 beside a gap
    title = title.cast(pl.String)
    title = pl.select(pl.when(title.str.strip_chars() != "").then(title)).to_series().rename(c.TITLE)
    long = (title.str.len_chars() > MAX_TITLE).fill_null(False)
    if long.any():
        at = int(long.arg_max() or 0)
        raise InputError(
            f"{where}.title: {count(int(long.sum()), frame.height)} titles are longer than {MAX_TITLE:,} characters (item_id "
            f"{ids[at]!r}: {len(title[at]):,}); "
            "look for a quote that is never closed, or cut them and keep the rest as 'description'"
        )
    twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if len(twice):
        raise InputError(f"{where}.item_id: {count(len(twice))} ids occur more than once ({shown(twice)}); keep one row per item")
    return pl.DataFrame([ids, title]).with_columns([frame[name] for name in frame.columns if name not in ITEM_COLUMNS])
