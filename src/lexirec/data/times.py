"""Times of a log, however they are written, as whole numbers."""

from typing import Final

import polars as pl

from lexirec.data.messages import count, shown, warn
from lexirec.errors import InputError

_TIME_FORMATS: Final = (None, "%m %d, %Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d", "%B %d, %Y")


_YEAR_LAST: Final = r"^(?P<first>\d{1,2})(?P<sign>[/.-])(?P<second>\d{1,2})[/.-](?P<year>\d{4})(?P<rest>(?:[ T].*)?)$"
"""A date that ends with the year, and what follows it."""


_DATE: Final = r"^(?:\d{4}-\d{2}-\d{2}|\d{1,2}[/.-]\d{1,2}[/.-]\d{4})(?:[ T]\d{1,2}:\d{2}[^ ]*)?$"
"""How the columns look that are offered as times."""


def as_timestamps(values: pl.Series, where: str) -> tuple[pl.Series, pl.Series | None]:
    """Times as int64: whole numbers as given, dates and times as Unix seconds.

    Returns:
        The int64 column, and a finer one to sort by where the cast loses order (fractions of a second), else ``None``.

    Raises:
        InputError: for NaN or infinite numbers, text that is no time, and other types.
    """
    place = f"{where}.{values.name}"
    if values.dtype == pl.Null:
        return values.cast(pl.Int64), None
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        values = _parsed_times(values, place)
    if values.dtype.is_integer():
        return values.cast(pl.Int64), None
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us")).dt.epoch("s"), None
    if isinstance(values.dtype, pl.Datetime):
        seconds = values.dt.epoch("s")
        fine = values.dt.epoch("us")
        return seconds, fine if bool((fine % 1_000_000 != 0).any()) else None
    if values.dtype.is_float() or isinstance(values.dtype, pl.Decimal):
        values = values.cast(pl.Float64)
        wrong = (~values.is_finite()).fill_null(False)
        if wrong.any():
            raise InputError(
                f"{place}: {count(int(wrong.sum()), len(values))} timestamps are NaN or infinite, the first in row "
                f"{wrong.arg_max()} (counted from 0: "
                f"{values[int(wrong.arg_max() or 0)]}); drop these rows, or store null and a 'position' column"
            )
        large = (values.abs() >= 2.0**63).fill_null(False)
        if large.any():
            raise InputError(f"{place}: {shown(values.filter(large), 1)} is no time; store Unix seconds")
        return values.floor().cast(pl.Int64), values if bool((values != values.floor()).any()) else None
    raise InputError(f"{place}: timestamps are of type {values.dtype}; store Unix seconds, dates or times")


def _parsed_times(values: pl.Series, place: str) -> pl.Series:
    values = values.str.strip_chars()
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() == values.null_count():
        whole = values.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else numbers
    given, values = values, _year_first(values, place)
    best = None
    for pattern in _TIME_FORMATS:
        try:
            times = values.str.to_datetime(pattern, strict=False)
        except pl.exceptions.ComputeError:  # no format could be found in the first value
            continue
        if times.null_count() == values.null_count():
            return times
        if best is None or times.null_count() < best.null_count():
            best = times
    bad = (values.is_not_null() & (numbers if best is None else best).is_null()).arg_max() or 0
    raise InputError(
        f"{place}: row {bad} (counted from 0) holds {str(given[bad])[:60]!r}, which is no time; store Unix seconds or dates like "
        "2024-03-01 12:30:00"
    )


def _year_first(values: pl.Series, place: str) -> pl.Series:
    """Dates that end with the year (``31/12/2023 10:00``) with the year in front; columns of other times stay as they are.

    The day comes first (Europe) or the month (USA), whichever all values allow; where both do, the day, with a warning unless dots part
    the fields, which nobody writes with the month first.

    Raises:
        InputError: if some values need the one and others the other.
    """
    if not values.drop_nulls().head(1).str.contains(_YEAR_LAST).all():
        return values
    parts = values.str.extract_groups(_YEAR_LAST).struct.unnest()
    if parts["year"].null_count() > values.null_count():
        return values
    first, second = parts["first"].cast(pl.Int16), parts["second"].cast(pl.Int16)
    european, american = ((one > 12) & (other <= 12) for one, other in ((first, second), (second, first)))
    if european.any() and american.any():
        a, b = int(european.arg_max() or 0), int(american.arg_max() or 0)
        raise InputError(
            f"{place}: row {a} (counted from 0) holds {str(values[a])[:30]!r} with the day first and row {b} {str(values[b])[:30]!r}"
            f" with the month first; write all with the year first, as in {parts['year'][a]}-{second[a]:02d}-{first[a]:02d}"
        )
    day_first = bool(european.any()) or not bool(american.any())
    if not european.any() and not american.any() and bool((first != second).any()) and not bool((parts["sign"] == ".").all()):
        at = int((first != second).arg_max() or 0)
        day, month = (f"{parts['year'][at]}-{one[at]:02d}-{other[at]:02d}" for one, other in ((second, first), (first, second)))
        warn(
            f"{place}: dates such as {str(values[at])[:30]!r} can be read with the day or the month first, and no value tells; they are"
            f" read with the day first ({day}, not {month}); write dates with the year first, as in {day}, to be sure"
        )
    month, day = ("second", "first") if day_first else ("first", "second")
    return (
        parts.select(pl.format("{}-{}-{}{}", "year", pl.col(month).str.zfill(2), pl.col(day).str.zfill(2), "rest"))
        .to_series()
        .rename(values.name)
    )


def looks_like_times(values: pl.Series) -> bool:
    """Whether a column holds dates or times, or text that reads like them; told by its type, or by its first three values."""
    if values.dtype == pl.String and values.null_count() < len(values):
        return bool(values.drop_nulls().head(3).str.contains(_DATE).all())
    return values.dtype in (pl.Date, pl.Datetime)


__all__ = ["as_timestamps", "looks_like_times"]
