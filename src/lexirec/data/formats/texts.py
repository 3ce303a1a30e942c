"""Texts of the dumps, without HTML entities and runs of white space.

Categories are lists: each path one entry, its levels joined by " > ".
"""

import html
import json
from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from lexirec import columns as c
from lexirec.data.messages import warn

_BLOCK: Final = (
    r"(?is)<script\b.*?</script\s*>|<style\b.*?</style\s*>|<!--.*?-->"
    r"|</?(?:br|p|div|li|ul|ol|dl|dt|dd|h[1-6]|hr|table|tbody|thead|tr|td|th|img|script|style|center|section)(?:[\s/][^<>]*)?>"
)
_INLINE: Final = r"(?is)</?(?:a|b|i|u|s|em|strong|span|font|small|big|sup|sub|mark|code|tt|strike|del|ins)(?:[\s/][^<>]*)?>"
MARKUP: Final = rf"{_BLOCK}|{_INLINE}|&(?:[A-Za-z][A-Za-z0-9]{{1,30}}|#[0-9]{{1,7}}|#[xX][0-9A-Fa-f]{{1,6}});"
"""Tags of HTML that shops write into texts, comments and entities; ``a < b`` and ``<3`` are none."""


def without_markup(values: pl.Series) -> pl.Series:
    """Without tags (scripts with all they hold), entities and runs of white space; empty text becomes null.

    >>> without_markup(pl.Series(["<b>Salt</b> &amp; H<sub>2</sub>O<br>1 &lt; 2", "<script>x()</script>", "&lt;p&gt;Tea"])).to_list()
    ['Salt & H2O 1 < 2', None, 'Tea']
    """
    for _ in range(2):  # an entity may stand for the sign that opens a tag
        values = clean(values.str.replace_all(_BLOCK, " ").str.replace_all(_INLINE, ""))
    return values


def clean(values: pl.Series) -> pl.Series:
    """Without HTML entities and runs of white space; empty text becomes null."""
    values = values.cast(pl.String)
    entity = values.str.contains("&", literal=True).fill_null(False)
    if entity.any():
        decoded = pl.Series([html.unescape(v) for v in values.filter(entity).to_list()], dtype=pl.String)
        values = values.scatter(entity.arg_true(), decoded)
    values = values.str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.select(pl.when(values != "").then(values)).to_series().rename(values.name)


def parts_of(value: str | None) -> list[Any]:
    """A field that is text or the JSON of a list, as a list."""
    if not value:
        return []
    if value.startswith("["):
        try:
            made = json.loads(value)
        except ValueError:
            return [value]
        return made if isinstance(made, list) else [value]
    return [value]


def tidy(text: Any) -> str:
    """One text without HTML entities and runs of white space."""
    return " ".join(html.unescape(str(text)).split())


def category_paths(values: pl.Series) -> pl.Series:
    """Category paths: a list of lists is several paths, a plain list one."""

    def path(levels: Iterable[Any]) -> str:
        return " > ".join(t for t in (tidy(level) for level in levels if level is not None) if t)

    made = []
    for value in values.to_list():
        parts = parts_of(value)
        paths = [path(p) for p in parts] if parts and all(isinstance(p, list) for p in parts) else [path(parts)]
        made.append([p for p in paths if p] or None)
    return pl.Series("categories", made, dtype=pl.List(pl.String))


def labels(values: pl.Series, name: str) -> pl.Series:
    """A list of words, such as genres."""
    made = [[t for t in (tidy(p) for p in parts_of(v)) if t] or None for v in values.to_list()]
    return pl.Series(name, made, dtype=pl.List(pl.String))


def paragraphs(values: pl.Series, name: str) -> pl.Series:
    """Paragraphs joined to one text."""
    return pl.Series(name, [" ".join(t for t in (tidy(p) for p in parts_of(v)) if t) or None for v in values.to_list()], dtype=pl.String)


def one_row(items: pl.DataFrame, file: str) -> pl.DataFrame:
    """Drop rows without id and, saying so, second rows of one item: the dumps are known to have both."""
    items = items.filter(pl.col(c.ITEM_ID).is_not_null() & (pl.col(c.ITEM_ID) != ""))
    kept = items.unique(c.ITEM_ID, keep="first", maintain_order=True)
    if kept.height < items.height:
        warn(f"{file}: {items.height - kept.height:,} of {items.height:,} rows repeat an item id; the first row of each is kept")
    return kept
