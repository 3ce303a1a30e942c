"""Times of a log, however they are written, as whole numbers."""

from typing import Final

import polars as pl

from lexirec.data.messages import count, warn
from lexirec.errors import InputError

UNITS: Final = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""Units of time stamps, as so many to the second."""

_WORDS: Final = ("%m %d, %Y", "%B %d, %Y")
"""Formats that no other rule reads: ``07 29, 2014`` (Amazon), ``July 29, 2014``."""

_CLOCK: Final = (
    r"(?:,?[ T]+(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d)(?P<fraction>[.,]\d+)?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)? ?(?:Z|UTC|GMT|(?P<sign>[+-])(?P<zone_hour>\d{2}):?(?P<zone_minute>\d{2}))?"
)
_MOMENT: Final = (
    r"^(?:(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})"
    r"|(?P<one>\d{1,2})(?P<mark>[-/.])(?P<two>\d{1,2})(?:[-/.](?P<last>\d{4})|[/.](?P<short>\d{2})))" + _CLOCK + "$"
)
"""A date with the year first or last and, where it is given, the time of day."""

_DATE: Final = r"^(?:\d{4}-\d{2}-\d{2}|\d{1,2}[/.-]\d{1,2}[/.-]\d{4})(?:,?[ T]+\d{1,2}:\d{2}.{0,20})?$"
"""How the columns look that are offered as times."""

_FIRST_DAY, _LAST_DAY = 1990_01_01, 2100_12_31
_SERIAL_DAYS: Final = (30_000, 60_000)
"""Excel's days of 1982 to 2064; it counts from 1899-12-30."""
_EPOCH_SERIAL: Final = 25_569
"""Excel's day 1970-01-01."""


def unit_of(stamp: int) -> int:
    """How many to the second a time stamp counts, told by its size.

    >>> unit_of(1_530_316_800), unit_of(1_530_316_800_000)
    (1, 1000)
    """
    return next((unit for unit in UNITS.values() if abs(stamp) <= 10**11 * unit), 1)


def as_timestamps(values: pl.Series, where: str) -> tuple[pl.Series, pl.Series | None]:
    """Times as int64: whole numbers as given, dates and times as Unix seconds; null where a value is no time (or missing).

    Whole numbers that are all dates such as ``20240131`` are read as these, and numbers in text that are all Excel's serial days too,
    each with a warning.

    Returns:
        The int64 column, and a finer one to sort by where the cast loses order (fractions of a second), else ``None``.

    Raises:
        InputError: for dates of which some have the day and some the month first, and for types that are no times.
    """
    place = f"{where}.{values.name}"
    if values.dtype == pl.Null:
        return values.cast(pl.Int64), None
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype == pl.String:
        values = _parsed_times(values.str.strip_chars(), place)
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us")).dt.epoch("s"), None
    if isinstance(values.dtype, pl.Datetime):
        seconds = values.dt.epoch("s")
        fine, unit = (values.dt.epoch("ns"), 10**9) if values.dtype.time_unit == "ns" else (values.dt.epoch("us"), 10**6)
        return seconds, fine if bool((fine % unit != 0).any()) else None
    if values.dtype.is_integer():
        if values.dtype == pl.UInt64 and bool((values >= 2**63).any()):
            raise InputError(f"{place}: time stamps such as {values.max()!r} are no times; store Unix seconds, dates or times")
        # The smallest whole number is what pandas makes of a missing time: NaT.astype("int64").
        numbers = values.cast(pl.Int64).to_frame().select(pl.when(pl.first() > -(2**63)).then(pl.first())).to_series()
        return _compact_dates(numbers, place), None
    if values.dtype.is_float() or isinstance(values.dtype, pl.Decimal):
        values = values.cast(pl.Float64)
        values = values.to_frame().select(pl.when(pl.first().abs() < 2.0**63).then(pl.first())).to_series()  # NaN is larger than any
        whole = values.floor().cast(pl.Int64)
        return _compact_dates(whole, place), values if bool((values != whole).any()) else None
    raise InputError(f"{place}: timestamps are of type {values.dtype}; store Unix seconds, dates or times")


def _compact_dates(values: pl.Series, place: str) -> pl.Series:
    """Unix seconds of whole numbers that are all dates, as ``20240131``; other numbers as they are."""
    if not bool(values.is_between(_FIRST_DAY, _LAST_DAY).all()) or values.null_count() == len(values):
        return values
    dates = values.cast(pl.String).str.to_date("%Y%m%d", strict=False)
    if dates.null_count() > values.null_count():
        return values
    warn(f"{place}: whole numbers such as {values.drop_nulls()[0]} are read as dates ({dates.drop_nulls()[0]}), not as Unix seconds")
    return dates.cast(pl.Datetime("us")).dt.epoch("s")


def _serial_days(values: pl.Series, place: str) -> pl.Series:
    """Times of numbers that are all days as Excel counts them (``45000.5``), to the second; other numbers as they are."""
    if not bool(values.is_between(*_SERIAL_DAYS).all()) or values.null_count() == len(values):
        return values
    times = pl.select(pl.from_epoch(((values - _EPOCH_SERIAL) * 86_400).round().cast(pl.Int64), "s")).to_series().rename(values.name)
    warn(f"{place}: numbers such as {values.drop_nulls()[0]:g} are read as days of Excel ({times.drop_nulls()[0]}), not as Unix seconds")
    return times


def _parsed_times(values: pl.Series, place: str) -> pl.Series:
    """Numbers or times of stripped text, whichever more values are; null for the others."""
    values = values.to_frame().select(pl.when(pl.first() != "").then(pl.first())).to_series()
    numbers = values.cast(pl.Float64, strict=False)
    if numbers.null_count() > values.null_count():
        times = _dates(values, place)
        if times.null_count() <= numbers.null_count():
            return times
    days = _serial_days(numbers, place)
    if days.dtype != numbers.dtype:
        return days
    whole = values.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == numbers.null_count() else numbers


def _dates(values: pl.Series, place: str) -> pl.Series:
    """Times of dates in words or digits; null for other values."""
    if not values.str.contains(r"^\d{1,2}[/.-]").any():
        try:
            times = values.str.to_datetime(strict=False)  # one style throughout: much faster than looking at each value
        except pl.exceptions.ComputeError:  # no format could be found in the first value
            times = None
        if times is not None and times.null_count() == values.null_count():
            return times
    times = _moments(values, place)
    if times.null_count() > values.null_count():
        times = pl.select(pl.coalesce(times, *(values.str.to_datetime(pattern, strict=False) for pattern in _WORDS))).to_series()
    return times.rename(values.name)


def _moments(values: pl.Series, place: str) -> pl.Series:
    """Times (UTC) of values that fit :data:`_MOMENT`, each by its own style; null for the others."""
    parts = values.str.extract_groups(_MOMENT).struct.unnest()
    day_first = _day_first(values, parts, place)

    def number(name: str) -> pl.Expr:
        return pl.col(name).cast(pl.Int32)

    short = number("short") + pl.when(number("short") < 70).then(2000).otherwise(1900)
    month, day = ("two", "one") if day_first else ("one", "two")
    date = pl.format(
        "{}-{}-{}",
        pl.coalesce(number("year"), number("last"), short),
        pl.coalesce("month", month).str.zfill(2),
        pl.coalesce("day", day).str.zfill(2),
    ).str.to_date("%Y-%m-%d", strict=False)
    afternoon = pl.col("half").str.to_lowercase() == "p"
    hour = pl.when(pl.col("half").is_null()).then(number("hour")).otherwise(number("hour") % 12 + 12 * afternoon.cast(pl.Int32))
    ahead = pl.when(pl.col("sign") == "-").then(-1).otherwise(1) * (number("zone_hour") * 60 + number("zone_minute"))
    fraction = ("0." + pl.col("fraction").str.slice(1)).cast(pl.Float64) * 1e6
    clock = pl.duration(
        hours=hour.fill_null(0),
        minutes=number("minute").fill_null(0) - ahead.fill_null(0),
        seconds=number("second").fill_null(0),
        microseconds=fraction.round().cast(pl.Int64).fill_null(0),
    )
    return parts.select(date.cast(pl.Datetime("us")) + clock).to_series()


def _day_first(values: pl.Series, parts: pl.DataFrame, place: str) -> bool:
    """Whether dates that end with the year have the day first (Europe) or the month (USA): what all values of the column allow.

    Where both are good it is the day, with a warning unless dots part the fields, which nobody writes with the month first.

    Raises:
        InputError: if some values need the one and others the other.
    """
    one, two = parts["one"].cast(pl.Int16), parts["two"].cast(pl.Int16)
    european, american = ((a > 12) & (b <= 12) for a, b in ((one, two), (two, one)))
    year = pl.select(pl.coalesce(parts["last"], "20" + parts["short"])).to_series()
    if european.any() and american.any():
        a, b = int(european.arg_max() or 0), int(american.arg_max() or 0)
        raise InputError(
            f"{place}: row {a} (counted from 0) holds {str(values[a])[:30]!r} with the day first and row {b} {str(values[b])[:30]!r}"
            f" with the month first; write all with the year first, as in {year[a]}-{two[a]:02d}-{one[a]:02d}"
            f" ({count(int(european.sum()), len(values))} need the day first, {count(int(american.sum()), len(values))} the month)"
        )
    open_ = not european.any() and not american.any() and bool((one != two).any())
    if open_ and not bool((parts["mark"].drop_nulls() == ".").all()):
        at = int((one != two).arg_max() or 0)
        day, month = (f"{year[at]}-{m[at]:02d}-{d[at]:02d}" for m, d in ((two, one), (one, two)))
        warn(
            f"{place}: dates such as {str(values[at])[:30]!r} can be read with the day or the month first, and no value tells; they are"
            f" read with the day first ({day}, not {month}); write dates with the year first, as in {day}, to be sure"
        )
    return not american.any()


def looks_like_times(values: pl.Series) -> bool:
    """Whether a column holds dates or times, or text that reads like them; told by its type, or by its first three values."""
    if values.dtype == pl.String and values.null_count() < len(values):
        return bool(values.drop_nulls().head(3).str.contains(_DATE).all())
    return values.dtype in (pl.Date, pl.Datetime)


__all__ = ["as_timestamps", "looks_like_times"]
