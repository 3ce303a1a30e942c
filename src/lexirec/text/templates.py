"""Item rows to item texts.

``title`` is AlphaRec's text: the bare title. ``title,brand,categories`` (commas or plus signs) writes the columns in this order, title
bare, others with their name in front, and leaves out what an item doesn't have:

    Prada Candy Eau De Parfum Spray. Brand: Prada. Categories: Beauty, Fragrance, Women's, Eau de Parfum
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.errors import InputError, nearest

SEPARATOR = ". "
SPACES = r"[\s\x00-\x1f\x7f-\x9f]+"
"""White space and control characters; each run becomes one space. Joiners of emoji and scripts stay."""
PATH = re.compile(r"\s+[>|›»]\s+")


def parse_template(template: str | Sequence[str]) -> tuple[str, ...]:
    """Columns of a template, in order.

    >>> parse_template("title+brand+categories")
    ('title', 'brand', 'categories')

    Raises:
        InputError: if it is empty or names a column twice.
    """
    parts = re.split(r"[,+]", template) if isinstance(template, str) else list(template)
    columns = tuple(str(part).strip() for part in parts)
    if not columns or not all(columns):
        raise InputError(f"template {template!r} has an empty part; write columns like 'title' or 'title,brand,categories'")
    for i, column in enumerate(columns):
        if column in columns[:i]:
            raise InputError(f"template {template!r} names {column!r} twice")
    return columns


def render(items: pl.DataFrame, template: str | Sequence[str] = "title") -> list[str]:
    """One text per item.

    Args:
        items: catalogue with the template's columns: strings, numbers, dates, truth values, lists (nested ones too) and structs.
        template: ``"title"``, ``"title,brand,categories"``, ``"title+year"``, or a list of columns (needed where a name has a comma or
            plus).

    Returns:
        ``I`` strings in row order; empty where an item has none of the columns. Texts are not shortened: the encoder cuts by tokens.

    Raises:
        InputError: if a column is missing (the nearest is offered), or holds bytes.

    >>> shop = pl.DataFrame({"title": ["Rose oil", None], "brand": ["Ada", "Bo"], "categories": [["Beauty > Oils", "Beauty > Skin"], None]})
    >>> render(shop, "title,brand,categories")
    ['Rose oil. Brand: Ada. Categories: Beauty, Oils, Skin', 'Brand: Bo']
    """
    columns = parse_template(template)
    for column in columns:
        if column not in items.columns:
            raise InputError(f"items have no column {column!r}{nearest(column, items.columns)}; they have {', '.join(items.columns)}")
    parts = [_written(items[column]) for column in columns]
    labels = ["" if column == c.TITLE else label(column) for column in columns]
    if len(columns) == 1:
        # A single column stands for itself, whatever it is.
        return parts[0].fill_null("").to_list()
    frame = pl.DataFrame({f"{i}": part for i, part in enumerate(parts)})
    last = frame.width - 1
    # A part loses its own final stop before the separator: "1 oz." and ". Brand" give one full stop.
    written = frame.select(
        pl.concat_str(
            [
                pl.lit(labels[i]) + (pl.col(f"{i}") if i == last else pl.col(f"{i}").str.strip_chars_end(".,;: "))
                for i in range(frame.width)
            ],
            separator=SEPARATOR,
            ignore_nulls=True,
        ).fill_null("")
    )
    return written.to_series().to_list()


def label(column: str) -> str:
    """What stands in front of a column's value.

    >>> label("main_category")
    'Main category: '
    """
    return column.replace("_", " ").strip().capitalize() + ": "


def _written(series: pl.Series) -> pl.Series:
    """Values as strings; null where there is nothing to write."""
    kind = series.dtype.base_type()
    if kind is pl.Binary:
        raise InputError(f"items column {series.name!r} holds bytes; decode it to text first")
    if kind in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
        kind = pl.String
    if kind is pl.String:
        if series.name != c.TITLE:
            paths = series.str.contains(PATH.pattern).fill_null(False)
            if paths.any():
                # Categories kept as one string, "Beauty > Hair Care": written like a list of levels.
                series = pl.Series(
                    series.name, [_join(_pieces(v)) if path else v for v, path in zip(series, paths, strict=True)], dtype=pl.String
                )
        text = series
    elif kind is pl.Boolean:
        text = series.replace_strict({True: "yes", False: "no"}, return_dtype=pl.String)
    elif series.dtype.is_integer():
        text = series.cast(pl.String)
    else:
        text = pl.Series(series.name, [_join(_pieces(value)) for value in series.to_list()], dtype=pl.String)
    text = text.str.replace_all(SPACES, " ").str.strip_chars()
    return text.set(text == "", None)


def _pieces(value: Any) -> Iterator[str]:
    """The parts of a value: levels of a path, members of a list, "name value" of a struct."""
    if value is None:
        return
    if isinstance(value, str):
        yield from (piece.strip() for piece in PATH.split(value))
    elif isinstance(value, bool):
        yield "yes" if value else "no"
    elif isinstance(value, float):
        if math.isfinite(value):
            yield f"{value:.15g}" if abs(value) < 1e15 else f"{value:g}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            written = _join(_pieces(inner))
            if written:
                yield f"{key} {written}"
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _pieces(inner)
    else:
        yield str(value)


def _join(pieces: Iterator[str]) -> str:
    """Pieces with commas; a level that returns (the common start of two paths) is written once."""
    return ", ".join(dict.fromkeys(piece for piece in pieces if piece))
