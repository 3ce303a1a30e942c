"""Warnings about data, and how values and counts are written in messages."""

import sys
import warnings
from pathlib import Path

import polars as pl


class DataWarning(UserWarning):
    """The data can be read, but something about it deserves a look."""


def warn(message: str, category: type[Warning] = DataWarning) -> None:
    """Warn at the line that called the library, not at a line inside it."""
    package = str(Path(__file__).parent.parent)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and (frame.f_code.co_filename.startswith(package) or frame.f_code.co_filename.startswith("<")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def shown(values: pl.Series, n: int = 3) -> str:
    """The first values for a message: ``'a', 'b', ...``; long ones are cut."""
    texts = [repr(v if not isinstance(v, str) or len(v) <= 60 else v[:57] + "...") for v in values.head(n).to_list()]
    return ", ".join(texts) + (", ..." if len(values) > n else "")


def count(n: int, of: int | None = None) -> str:
    """``3`` or ``3 of 12,101``."""
    return f"{n:,}" if of is None else f"{n:,} of {of:,}"


__all__ = ["DataWarning", "count", "shown", "warn"]
