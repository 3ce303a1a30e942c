"""Conditions on a catalogue in words: ``price<50``, ``brand=Acme``, ``categories~garden``."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from lexirec.errors import InputError, nearest

CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|!=|=|<|>|~)\s*(.*?)\s*")
NUMERIC: dict[str, Callable[[Any, float], Any]] = {
    "<": lambda values, bound: values < bound,
    "<=": lambda values, bound: values <= bound,
    ">": lambda values, bound: values > bound,
    ">=": lambda values, bound: values >= bound,
}


def matching(items: pl.DataFrame, conditions: Sequence[str]) -> pl.Series:
    """Which items meet all conditions, ``(I,)`` bool; a missing value meets none but ``!=``.

    Args:
        items: the catalogue.
        conditions: ``column<value`` with ``<``, ``<=``, ``>``, ``>=`` (numbers), ``=`` or ``!=`` (text, whatever its case; a list or a path
            ``A > B`` by any of its entries), or ``~`` (contains the text).

    Raises:
        InputError: for a condition that is none, an unknown column, or a bound that is no number.

    >>> shop = pl.DataFrame({"item_id": ["a", "b"], "price": ["EUR 1.200,50", "9.90"], "categories": [["Garden > Tools"], None]})
    >>> matching(shop, ["price>=1000"]).to_list(), matching(shop, ["categories=tools"]).to_list()
    ([True, False], [True, False])
    """
    met = pl.Series([True]).new_from_index(0, items.height)
    for text in conditions:
        found = CONDITION.fullmatch(text)
        if found is None:
            raise InputError(f"--where {text!r}: write column<value, with one of < <= > >= = != ~")
        column, sign, value = found.groups()
        if column not in items.columns:
            raise InputError(
                f"--where {text!r}: the catalogue has no column {column!r}{nearest(column, items.columns)}; it has {items.columns}"
            )
        numeric = items.schema[column].is_numeric()
        if sign in NUMERIC or (numeric and sign != "~"):
            bound = number(value)
            if bound is None:
                raise InputError(
                    f"--where {text!r}: {value!r} is no number; {'the column holds' if numeric else sign + ' compares'} numbers"
                )
            values = numbers(items[column])
            if sign in NUMERIC:
                met &= NUMERIC[sign](values, bound).fill_null(False)
            else:
                same = (values == bound).fill_null(False)
                met &= ~same if sign == "!=" else same
        else:
            met &= _says(items[column], sign, value.lower())
    return met


def number(text: str) -> float | None:
    """A number as shops write it: with a currency, and with a comma or a point before the cents.

    >>> number("1.234,56 EUR"), number("$1,234.50"), number("9,90"), number("1,200"), number("free")
    (1234.56, 1234.5, 9.9, 1200.0, None)
    """
    found = re.search(r"-?\d[\d.,'\s]*", text)
    if found is None:
        return None
    digits = re.sub(r"['\s]", "", found[0]).rstrip(".,")
    last = max(digits.rfind("."), digits.rfind(","))
    whole, part = (digits[:last], digits[last + 1 :]) if last >= 0 else (digits, "")
    # Three digits behind the only kind of mark are thousands, except behind a point, which English and computers read as a decimal one.
    if (len(part) == 3 and digits[last] == "," and "." not in whole) or (last >= 0 and digits.count(digits[last]) > 1):
        whole, part = digits, ""
    return float(re.sub(r"[.,]", "", whole) + (f".{part}" if part else ""))


def numbers(values: pl.Series) -> pl.Series:
    """A column as float64; text by :func:`number`, null where there is none."""
    if values.dtype.is_numeric():
        return values.cast(pl.Float64).fill_nan(None)
    distinct = values.cast(pl.String).unique()
    found = pl.Series([None if text is None else number(text) for text in distinct.to_list()], dtype=pl.Float64)
    return values.cast(pl.String).replace_strict(distinct, found, default=None, return_dtype=pl.Float64)


def _says(values: pl.Series, sign: str, wanted: str) -> pl.Series:
    if values.dtype == pl.String:  # each distinct text once
        distinct = values.unique()
        return values.replace_strict(distinct, _says_each(distinct, sign, wanted), return_dtype=pl.Boolean)
    return _says_each(values, sign, wanted)


def _says_each(values: pl.Series, sign: str, wanted: str) -> pl.Series:
    def entries(value: Any) -> list[str]:
        texts = [str(entry).lower() for entry in (value if isinstance(value, list) else [value]) if entry is not None]
        return texts if sign == "~" else [part for text in texts for part in (text, *text.split(" > "))]

    found = pl.Series([any(wanted in text if sign == "~" else wanted == text for text in entries(value)) for value in values.to_list()])
    found = found.cast(pl.Boolean)
    return ~found if sign == "!=" else found


__all__ = ["matching", "number", "numbers"]
