"""Numbers as shops write them."""

import re

import polars as pl


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


__all__ = ["number", "numbers"]
