"""Conditions on a catalogue in words: ``price<50``, ``brand=Acme``, ``categories~garden``."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from lexirec.data.numbers import decimal_mark, is_number, number, numbers
from lexirec.errors import InputError, nearest

CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|!=|<>|==|=>|=<|=|<|>|~)\s*(.*?)\s*")
SAME = {"<>": "!=", "==": "=", "=>": ">=", "=<": "<="}
"""Signs as other languages write them."""
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
        conditions: ``column<value`` with ``<``, ``<=``, ``>``, ``>=`` (numbers), ``=`` or ``!=`` (a number where the column holds nothing
            else; text, whatever its case; a list or a path ``A > B`` by any of its entries), or ``~`` (contains the text).

    Raises:
        InputError: for a condition that is none, an unknown column, or a bound that is no number or more than one.

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
        sign = SAME.get(sign, sign)
        if column not in items.columns:
            raise InputError(
                f"--where {text!r}: the catalogue has no column {column!r}{nearest(column, items.columns)}; it has {items.columns}"
            )
        numeric = items.schema[column].is_numeric()
        if sign in NUMERIC or (sign != "~" and (numeric or (is_number(value) and _only_numbers(items[column])))):
            if not is_number(value):
                raise InputError(
                    f"--where {text!r}: {value!r} is no number; {'the column holds' if numeric else sign + ' compares'} numbers, one"
                    " condition each (--where can be repeated)"
                )
            bound = number(value, None if numeric else decimal_mark(items[column].cast(pl.String).drop_nulls().unique().to_list()))
            assert bound is not None  # noqa: S101 (it was looked at)
            values = numbers(items[column])
            if sign in NUMERIC:
                met &= NUMERIC[sign](values, bound).fill_null(False)
            else:
                same = (values == bound).fill_null(False)
                met &= ~same if sign == "!=" else same
        else:
            met &= _says(items[column], sign, value.lower())
    return met


def _only_numbers(values: pl.Series) -> bool:
    """Whether a column of text holds numbers alone, with their currencies or units."""
    if values.dtype != pl.String:
        return False
    there = values.drop_nulls().unique()
    return len(there) > 0 and all(map(is_number, there.to_list()))


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


__all__ = ["matching"]
