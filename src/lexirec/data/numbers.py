"""Numbers as shops write them."""

import re
from typing import Literal

import polars as pl

Decimal = Literal[",", "."]
"""The mark before the cents."""

_MONEY = r"[$€£¥₹]|(?<![^\W\d])(?:EUR|USD|GBP|CHF|JPY|PLN|SEK|NOK|DKK|CZK)(?![^\W\d])"
_DIGITS = r"-?(?:\d[\d.,'’]*(?:[\s\u00a0\u202f]\d{3}(?!\d)[\d.,]*)*|[.,]\d+)"
_NUMBER = re.compile(rf"(?<![\w.,]){_DIGITS}")
_PRICE = re.compile(rf"(?:{_MONEY})\s*({_DIGITS})|(?<![\w.,])({_DIGITS})\s*(?:{_MONEY})", re.IGNORECASE)
_LOOSE = re.compile(r"-?\d[\d.,'’]*")
_WHOLE = re.compile(rf"\s*(?:{_MONEY})?\s*{_DIGITS}\s*(?:{_MONEY}|%|\s[^\W\d]+|[^\W\d]{{2,}})?\.?\s*", re.IGNORECASE)
_SCIENTIFIC = re.compile(r"\s*[+-]?\d+(?:\.\d*)?[eE][+-]?\d+\s*")
_COMMA = re.compile(r"\d,\d{1,2}(?!\d)|\d\.\d{3},\d")
_POINT = re.compile(r"\d\.\d{1,2}(?![\d.])|\d,\d{3}\.\d")
_ARABIC = str.maketrans({"٫": ".", "٬": ","})


def number(text: str, decimal: Decimal | None = None) -> float | None:
    """A number as shops write it: with a currency, and with a comma or a point before the cents.

    Of several numbers the one beside a currency counts, else the first that is no part of a word.

    Args:
        text: with a number in it.
        decimal: the mark before the cents where that is known, see :func:`decimal_mark`; else a comma before three digits is taken for
            thousands and a point for the decimal one, as English and computers write.

    >>> number("1.234,56 EUR"), number("$1,234.50"), number("9,90"), number("1,200"), number("free")
    (1234.56, 1234.5, 9.9, 1200.0, None)
    >>> number("1.200 €"), number("1.200 €", ","), number("A4 paper, 12 sheets, €5.00"), number(".99"), number("0,500 kg")
    (1.2, 1200.0, 5.0, 0.99, 0.5)
    """
    text = text.translate(_ARABIC)
    if _SCIENTIFIC.fullmatch(text):
        return float(text)
    price = _PRICE.search(text)
    found = price or _NUMBER.search(text) or _LOOSE.search(text)
    if found is None:
        return None
    digits = next(filter(None, price.groups())) if price else found[0]
    digits = re.sub(r"['’\s]", "", digits).rstrip(".,")
    last = max(digits.rfind("."), digits.rfind(","))
    whole, part = (digits[:last], digits[last + 1 :]) if last >= 0 else (digits, "")
    # Three digits behind the only kind of mark are thousands, except behind the decimal one, and behind a 0 that begins the number.
    alone = len(part) == 3 and "." not in whole and "," not in whole and whole.lstrip("-") not in ("", "0")
    if (last >= 0 and digits.count(digits[last]) > 1) or (alone and digits[last] != (decimal or ".")):
        whole, part = digits, ""
    return float((re.sub(r"[.,]", "", whole) or "0") + (f".{part}" if part else ""))


def is_number(text: str) -> bool:
    """Whether a text is a number and nothing else but its currency or unit.

    >>> is_number("49 €"), is_number("5 kg"), is_number("1k"), is_number("50 and price>3")
    (True, True, False, False)
    """
    return bool(_WHOLE.fullmatch(text.translate(_ARABIC)) or _SCIENTIFIC.fullmatch(text))


def decimal_mark(texts: list[str]) -> Decimal | None:
    """The mark before the cents in a column, where its numbers show one and not the other.

    >>> decimal_mark(["9,90 €", "1.200 €"]), decimal_mark(["1,200", "9.90"]), decimal_mark(["1.200"])
    (',', '.', None)
    """
    comma, point = (any(pattern.search(text) for text in texts) for pattern in (_COMMA, _POINT))
    return None if comma == point else "," if comma else "."


def numbers(values: pl.Series) -> pl.Series:
    """A column as float64; text by :func:`number` with the column's own decimal mark, null where there is none."""
    if values.dtype.is_numeric():
        return values.cast(pl.Float64).fill_nan(None)
    distinct = values.cast(pl.String).unique()
    texts = distinct.drop_nulls().to_list()
    mark = decimal_mark(texts)
    found = pl.Series([None if text is None else number(text, mark) for text in distinct.to_list()], dtype=pl.Float64)
    return values.cast(pl.String).replace_strict(distinct, found, default=None, return_dtype=pl.Float64)


__all__ = ["decimal_mark", "is_number", "number", "numbers"]
