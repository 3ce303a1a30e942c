"""What the columns of a catalogue are: kinds, makers, descriptions, facts, and what no text may tell."""

import re
from collections.abc import Iterator
from typing import Any, Literal

import polars as pl

from lexirec import columns as c
from lexirec.data.messages import warn

Role = Literal["kind", "maker", "about", "fact"]
KINDS = ("categories", "category", "main_category", "genres", "genre", "tags", "tag", "cuisines", "cuisine", "subjects", "topics", "topic")
MAKERS = ("brand", "manufacturer", "publisher", "developer", "author", "authors", "artist", "director", "studio", "maker", "creator")
ABOUTS = ("description", "summary", "overview", "plot", "synopsis", "about", "features", "abstract", "text")
NOT_WORDS = re.compile(r"(^|_)(id|ids|asin|isbn|url|urls|link|image|images|img|imdb|sku|upc|timestamp)($|_)")
FROM_PEOPLE = re.compile(
    r"(^|_)(ratings?|stars?|reviews?|votes?|popularity|sales|(sales_?)?ranks?|bestsellers?|downloads?|views?|likes?|plays?|purchases?|favou?rites?"
    r"|sold|bought|followers|fans|check_?ins|owners|interactions)($|_)"
)
"""Columns of numbers that people's choices make: counted by the shop over everything, held-out events included."""
OF_THE_ITEM = re.compile(r"(^|_)(age|content|esrb|maturity|film|movie|hotel|voltage|power|energy|water)_(ratings?|stars?)($|_)")
"""Ratings that nobody's choice makes."""
MEASURED = (
    r"^\W*(\d[\d.,]*\s*(\.\.|-|–|to)\s*)?\d[\d.,]*\s*([km]\b)?\W*"
    r"(%|★|stars?|ratings?|reviews?|votes?|views?|followers|fans|owners|((out of|/|in|bought|sold)(\W.*)?))?\W*$|^\{.*\d\s*\}$"
)
"""Texts that are such a number: ``4.5 out of 5``, ``#166,731 in Cell Phones``, ``10K+ bought in past month``, ``0 .. 20,000``."""
OTHER_ITEMS = re.compile(r"(^|_)(also|related|similar\w*|bought)($|_)")
"""Columns of other items that go with an item, where their values are ids: mostly lists of what the same people chose."""
BETWEEN = re.compile(r"[\s,;|'\"()\[\]{}]+")
"""What parts ids that stand in one string."""
ID = re.compile(r"[\w.:/#-]*\d[\w.:/#-]*")
"""What an id of an item that isn't in the catalogue looks like."""
BLANK = ("", "n/a", "na", "nan", "none", "null", "-")
LONG = 12
"""A column of strings with more words than this in the median is read as a description."""


def roles(items: pl.DataFrame) -> dict[str, Role]:
    """What each column of a catalogue is read as; identifiers, links, truth values, bytes, dates and vectors are left out.

    So are numbers that choices make, such as ratings, reviews or sales ranks (:data:`FROM_PEOPLE`), with a warning: they were counted over
    events that may be held out here. What is popular is told from the training part. And so are columns of items' ids, such as lists of
    what is bought together: those whose values are mostly the catalogue's own ids (numbers alone aren't taken for ids: a year may be one,
    too), and those of such a name (:data:`OTHER_ITEMS`) whose values look like ids.

    >>> shop = pl.DataFrame({"item_id": ["a"], "title": ["Rose oil"], "brand": ["Ada"], "tags": [["oil"]], "year": [1995], "url": ["x"]})
    >>> roles(shop)
    {'brand': 'maker', 'tags': 'kind', 'year': 'fact'}
    """
    found: dict[str, Role] = {}
    vectors: list[str] = []
    unread = from_people(items, "profiles")
    for name, kind in items.schema.items():
        low = name.lower()
        if low in (c.ITEM_ID, c.TITLE) or name in unread or _opaque(name, kind):
            continue
        if _is_vector(kind):
            vectors.append(name)
        elif low in KINDS:
            found[name] = "kind"
        elif low in MAKERS:
            found[name] = "maker"
        elif low in ABOUTS:
            found[name] = "about"
        elif kind.is_nested():
            found[name] = "kind"
        elif kind == pl.String:
            lengths = items[name].drop_nulls().head(1000).str.count_matches(r"\S+").median()
            found[name] = "about" if isinstance(lengths, float) and lengths > LONG else "fact"
        else:
            found[name] = "fact"
    if vectors:
        warn(f"profiles don't read the catalogue's {', '.join(vectors)}: lists of fractions, such as embeddings, say nothing in words")
    # `price_usd` beside `price` is another form of the same.
    return {name: role for name, role in found.items() if role != "fact" or not any(name.startswith(f"{other}_") for other in found)}


def from_people(items: pl.DataFrame, reader: str) -> set[str]:
    """Columns that no text may tell, with a warning: numbers that choices make, and ids of items that go with an item.

    Args:
        items: catalogue.
        reader: who leaves them out, for the warning.

    >>> shop = pl.DataFrame({"item_id": ["a1", "b2"], "brand": ["Ada", "Bo"], "goes_with": [["b2"], ["a1"]]})
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     from_people(shop, "profiles")
    {'goes_with'}
    """
    counted: list[str] = []
    others: list[str] = []
    own = _own_ids(items)
    for name, kind in items.schema.items():
        words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
        if FROM_PEOPLE.search(words) and not OF_THE_ITEM.search(words) and _of_numbers(items[name]):
            counted.append(name)
        elif name.lower() in (c.ITEM_ID, c.TITLE) or _opaque(name, kind) or _is_vector(kind):
            continue
        elif _of_items(items[name], own, named=bool(OTHER_ITEMS.search(words))):
            others.append(name)
    if counted:
        warn(
            f"{reader} don't read the catalogue's {', '.join(counted)}: such numbers are counted over events that may be held out (what is"
            " popular is told from the training part); a column of another name is read"
        )
    if others:
        warn(
            f"{reader} don't read the catalogue's {', '.join(others)}: ids of items say nothing in words, and what goes with what is"
            " counted over events that may be held out; what is chosen together is told from the training part"
        )
    return {*counted, *others}


def _opaque(name: str, kind: pl.DataType) -> bool:
    """Whether a column is an identifier, a link, a truth value, bytes or a date."""
    return bool(NOT_WORDS.search(name.lower())) or kind in (pl.Boolean, pl.Binary, pl.Null) or kind.is_temporal()


def _is_vector(kind: Any) -> bool:
    """Whether a column holds lists of fractions, however deep."""
    if isinstance(kind, (pl.List, pl.Array)):
        inner: Any = kind.inner
        return bool(inner.is_float()) or _is_vector(inner)
    return False


def _own_ids(items: pl.DataFrame) -> frozenset[str]:
    """The catalogue's ids, but for numbers alone."""
    if c.ITEM_ID not in items.columns:
        return frozenset()
    ids = items[c.ITEM_ID].cast(pl.String).drop_nulls()
    return frozenset(ids.filter(~ids.str.contains(r"^[\d.]+$")))


def _of_items(values: pl.Series, own: frozenset[str], named: bool) -> bool:
    """Whether a column's values are mostly ids of items: the catalogue's own, or, in a column ``named`` for that, what looks like some."""
    parts = list(_parts(values, own))
    if 2 * sum(part in own for part in parts) > len(parts):
        return True
    return named and bool(parts) and sum(part in own or bool(ID.fullmatch(part)) for part in parts) >= 0.9 * len(parts)


def _parts(values: pl.Series, own: frozenset[str]) -> Iterator[str]:
    """What a column's first values hold: members of lists and records, and what a string enumerates that isn't an id itself."""
    if isinstance(values.dtype, pl.Struct):
        for field in values.dtype.fields:
            yield from _parts(values.struct.field(field.name), own)
    elif isinstance(values.dtype, (pl.List, pl.Array)):
        yield from _parts(values.drop_nulls().head(1000).explode(), own)
    elif values.dtype in (pl.String, pl.Categorical, pl.Enum) or values.dtype.is_integer():
        for text in values.drop_nulls().head(1000).cast(pl.String):
            yield from [text] if text in own else (part for part in BETWEEN.split(text) if any(map(str.isalnum, part)))


def _of_numbers(values: pl.Series) -> bool:
    """Whether a column is of numbers, of lists or records with some, or of texts that nearly all are one with its unit."""
    if isinstance(values.dtype, pl.Struct):
        return any(_of_numbers(values.struct.field(field.name)) for field in values.dtype.fields)
    if isinstance(values.dtype, (pl.List, pl.Array)):
        return _of_numbers(values.head(1000).explode())
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        known = values.cast(pl.String).drop_nulls().head(1000).str.strip_chars().str.to_lowercase()
        known = known.filter(~known.is_in(BLANK))
        return bool(len(known)) and float(known.str.contains(MEASURED).sum()) >= 0.9 * len(known)
    return values.dtype.is_numeric()


__all__ = ["ABOUTS", "KINDS", "MAKERS", "Role", "from_people", "roles"]
