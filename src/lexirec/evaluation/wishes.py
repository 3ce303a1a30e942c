"""Wishes for held-out items: put together from attributes, or as people or a language model wrote them.

The wishes of the AlphaRec paper (arXiv 2407.05441, Table 5) were never released. Here they are put together from the catalogue's
attributes (category, brand, year, ...) without the title, so that a model can't win by recognising the name; the numbers are therefore
not comparable to the paper's. Wishes that people or a language model wrote can be given instead.
"""

import hashlib
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.checks import as_ids
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.ids import IdMap
from lexirec.data.readers import to_polars
from lexirec.data.tables import read_table
from lexirec.errors import InputError, nearest
from lexirec.evaluation.ranks import Ints
from lexirec.files import sha256_file

TEMPLATE: Final = "I am looking for {wish}."
MAX_WORDS = 40
"""Longest value of an attribute: a wish is a sentence, not a page."""
_CATEGORY = ("categories", "category", "genres", "main_category")
_PHRASES = {"brand": "by {}", "artist": "by {}", "author": "by {}", "year": "from {}", "city": "in {}", "price": "for {}"}


def _key(text: str) -> str:
    """Lower-case words with single spaces, so that case and punctuation can't hide a title."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _without(text: str, title: str) -> str:
    """``text`` without the words of ``title`` in a row, whatever case and punctuation."""
    words = re.findall(r"\w+", title)
    # Most phrases don't hold the title's first word: no pattern is compiled for them.
    if not words or words[0].casefold() not in text.casefold():
        return text
    pattern = r"(?<!\w)" + r"\W+".join(re.escape(word) for word in words) + r"(?!\w)"
    # Taking one out can bring the halves of another together.
    before = None
    while before != text:
        before, text = text, re.sub(pattern, " ", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", text).strip(" ,;:.-")


def _phrases(value: Any) -> list[str]:
    """The phrases of an attribute value, the most special first for a category path."""
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    found: list[str] = []
    for one in values:
        text = format(one, "g") if isinstance(one, float) else str(one) if one is not None else ""
        levels = [level.strip() for level in re.split(r"\s>\s|\|", text)]
        found += reversed(levels)
    return list(dict.fromkeys(phrase for phrase in found if phrase))


def _list(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _parts(row: dict[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Phrases of each attribute of one item, cut to :data:`MAX_WORDS` and free of the title."""
    title = row.get(c.TITLE) or ""
    found = {}
    for name in names:
        phrases = [_without(" ".join(phrase.split()[:MAX_WORDS]), title) for phrase in _phrases(row[name])]
        found[name] = [phrase for phrase in phrases if phrase]
    return found


def _sentence(template: str, parts: dict[str, list[str]]) -> str | None:
    """The wish in words; ``None`` if no attribute is left."""
    told = {name: _list(phrases) for name, phrases in parts.items() if phrases}
    if not told:
        return None
    kinds = list(dict.fromkeys(kind for name in _CATEGORY for kind in parts.get(name, ())))
    wish = f"something in {_list(kinds)}" if kinds else "something"
    for name, text in told.items():
        if name in _PHRASES:
            wish += " " + _PHRASES[name].format(text)
        elif name not in _CATEGORY:
            wish += f", {name.replace('_', ' ')}: {text}"
    return template.format_map({"wish": wish, **{name: told.get(name, "") for name in parts}})


def _attribute_names(items: pl.DataFrame, attributes: Sequence[str] | None) -> list[str]:
    """Columns to speak of; by default all but ids, titles, yes/no and decimal columns, and columns that mostly repeat the title."""
    usable = [name for name in items.columns if name not in (c.ITEM_ID, c.TITLE)]
    if attributes is not None:
        for name in attributes:
            if name == c.TITLE:
                raise InputError("attributes name 'title'; a wish must not contain the title")
            if name not in usable:
                known = ", ".join(usable) or "none"
                raise InputError(f"attributes name {name!r}, which the items don't have{nearest(name, usable)}; they have {known}")
        return list(attributes)
    found = []
    for name in usable:
        kind = items.schema[name]
        if kind == pl.Boolean or kind.is_float():
            continue
        if kind == pl.String and c.TITLE in items.columns:
            told = items.select(c.TITLE, name).drop_nulls().head(2000)
            repeats = sum(f" {_key(title)} " in f" {_key(text)} " for title, text in told.iter_rows() if _key(title))
            if told.height and repeats > told.height / 2:
                continue
        found.append(name)
    return found


def wishes(items: pl.DataFrame, attributes: Sequence[str] | None = None, template: str = TEMPLATE) -> list[str | None]:
    """A wish in English for each item, from its attributes and never from its title; ``None`` where an item has no attribute.

    Args:
        items: the catalogue.
        attributes: columns to speak of, in this order; by default every column that is not id, title, yes/no, decimal, or a
            repetition of the title.
        template: sentence with ``{wish}`` (the attributes as an English phrase) or with columns by name, ``{brand}`` for example.

    Raises:
        InputError: for an unknown column or placeholder.

    >>> wishes(pl.DataFrame({"item_id": ["1"], "title": ["Heat"], "year": [1995], "categories": [["Action", "Crime", "Heat"]]}))
    ['I am looking for something in Action and Crime from 1995.']
    """
    names = _attribute_names(items, attributes)
    places = {place for _, place, _, _ in string.Formatter().parse(template) if place is not None}
    for place in places - {"wish", *names}:
        known = ", ".join(names) or "no column"
        raise InputError(f"the template has {{{place}}}{nearest(place, ['wish', *names])}; it may have {{wish}} and {known}")
    if not places:
        raise InputError(f"the template {template!r} has no {{wish}}; every item would get the same words")
    found: list[str | None] = []
    fixed = f" {_key(template.format_map(dict.fromkeys(places, '')))} "
    for row in items.select(c.ITEM_ID, *([c.TITLE] if c.TITLE in items.columns else []), *names).iter_rows(named=True):
        parts = _parts(row, names)
        text = _sentence(template, parts)
        title = _key(row.get(c.TITLE) or "")
        if text and title and f" {title} " in f" {_key(text)} " and f" {title} " not in fixed:
            # Two phrases spell the title together ("Red, Dwarf and Comedy"): those that share a word with it are left out then.
            words = set(title.split())
            text = _sentence(template, {name: [one for one in told if not words & set(_key(one).split())] for name, told in parts.items()})
        found.append(text)
    return found


@dataclass(frozen=True, eq=False)
class Intentions:
    """Wishes for held-out items: one per user and target, ascending by user.

    Attributes:
        user_index, item_index: ``(N,)``, who wishes, and for which item.
        texts: ``(N,)`` the wishes.
        skipped: targets whose item has no attribute to speak of, or for which no wish was given.
    """

    user_index: Ints
    item_index: Ints
    texts: list[str]
    skipped: int


def intention_queries(train: TrainSet, targets: Heldout, attributes: Sequence[str] | None = None, template: str = TEMPLATE) -> Intentions:
    """A wish for each distinct pair of user and target; see :func:`wishes`.

    Raises:
        InputError: if no target's item has any attribute.
    """
    keys = np.unique(targets.user_index.astype(np.int64) * max(train.n_items, 1) + targets.item_index)
    users, items = np.divmod(keys, max(train.n_items, 1))
    needed = np.unique(items)
    made = wishes(train.items[needed], attributes, template)
    texts = {item: text for item, text in zip(needed.tolist(), made, strict=True) if text is not None}
    kept = np.isin(items, np.fromiter(texts, dtype=np.int64, count=len(texts)))
    if not kept.any():
        raise InputError(
            f"none of the {len(needed):,} target items has an attribute to make a wish from (columns: {', '.join(train.items.columns)}); "
            "add categories, brand, year or a description to the items"
        )
    return Intentions(users[kept], items[kept], [texts[item] for item in items[kept].tolist()], int((~kept).sum()))


def given_queries(train: TrainSet, targets: Heldout, table: pl.DataFrame, where: str = "wishes") -> Intentions:
    """The wishes of a table for each distinct pair of user and target; pairs without one are counted as skipped.

    Args:
        train: the training set.
        targets: the held-out part.
        table: ``item_id``, ``intent`` and perhaps ``user_id``: a wish with a user is this user's own, one without is for all others.
        where: the table's name, for messages.

    Raises:
        InputError: for missing columns, unknown ids, empty wishes, two wishes for one item (and user), or none for any target.
    """
    for name in (c.ITEM_ID, "intent"):
        if name not in table.columns:
            raise InputError(
                f"{where} has no column {name!r}{nearest(name, table.columns)}; wishes have item_id and intent, and user_id where they are"
                f" one person's own (there are {', '.join(table.columns)})"
            )
    if not table.height:
        raise InputError(f"{where} has no rows; give at least one wish")
    texts = table["intent"]
    if texts.dtype != pl.String:
        raise InputError(f"{where}: intent is of type {texts.dtype}; store words")
    empty = np.flatnonzero((texts.is_null() | (texts.str.strip_chars() == "")).to_numpy())
    if len(empty):
        raise InputError(
            f"{where}: {len(empty):,} of {table.height:,} intents are empty, the first in row {empty[0] + 1}; leave these rows out"
        )
    items = _known(table[c.ITEM_ID], train.item_map, where)
    users = np.full(table.height, -1)
    if c.USER_ID in table.columns:
        personal = np.flatnonzero(table[c.USER_ID].is_not_null().to_numpy())
        if len(personal):
            users[personal] = _known(table[c.USER_ID].gather(personal), train.users, where)
    # Those for everybody stand before the first user's own.
    size = train.n_items
    keys = (users + 1) * size + items
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    twice = np.flatnonzero(np.diff(ordered) == 0)
    if len(twice):
        row = int(order[twice[0] + 1])
        whom = f" for user_id {train.users.ids[int(users[row])]!r}" if users[row] >= 0 else ""
        raise InputError(f"{where}: item_id {train.item_map.ids[int(items[row])]!r} has two intents{whom}; give one each")

    def rows_of(wanted: Ints) -> Ints:
        at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        return np.where(ordered[at] == wanted, order[at], -1)

    pairs = np.unique(targets.user_index.astype(np.int64) * size + targets.item_index)
    own, common = rows_of(pairs + size), rows_of(pairs % size)
    found = np.where(own >= 0, own, common)
    kept = found >= 0
    if not kept.any():
        raise InputError(f"{where}: none of the {len(pairs):,} targets of the {targets.name} part has a wish; give some for held-out items")
    pairs = pairs[kept]
    return Intentions(pairs // size, pairs % size, texts.gather(found[kept]).to_list(), int((~kept).sum()))


def _known(ids: pl.Series, known: IdMap, where: str) -> Ints:
    """Places of the ids of a column.

    Raises:
        InputError: naming the first that is unknown.
    """
    names = as_ids(ids, where)
    at = known.index(names)
    unknown = names.filter(pl.Series(at < 0))
    if len(unknown):
        close = nearest(unknown[0], known.ids.head(10_000))
        raise InputError(f"{where}: {len(unknown):,} of {len(names):,} {ids.name}s are unknown, such as {unknown[0]!r}{close}")
    return at.astype(np.int64)


def read_wishes(wishes: Any) -> tuple[pl.DataFrame, str, dict[str, str]]:
    """A table of wishes, its name in messages, and its origin for the record."""
    if isinstance(wishes, (str, Path)):
        path = Path(wishes)
        return read_table(path), str(path), {"file": path.name, "sha256": sha256_file(path)}
    table = to_polars(wishes, "wishes")
    return table, "wishes", {"sha256": hashlib.sha256(table.write_ndjson().encode()).hexdigest()}
