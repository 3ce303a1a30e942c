"""What the columns of a catalogue are: kinds, makers, descriptions, facts, and what no text may tell."""

import re
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
    r"(^|_)(ratings?|stars?|reviews?|votes?|popularity|sales|(sales_?)?ranks?|bestsellers?|downloads?|views?|likes?|plays?|purchases?|favou?rites?)($|_)"
)
"""Columns of numbers that people's choices make: counted by the shop over everything, held-out events included."""
OF_THE_ITEM = re.compile(r"(^|_)(age|content|esrb|maturity|film|movie|hotel|voltage|power|energy|water)_(ratings?|stars?)($|_)")
"""Ratings that nobody's choice makes."""
MEASURED = r"^\W*\d[\d.,]*\s*(%|★|k|m|stars?|ratings?|reviews?|votes?|views?|((out of|/|in)(\W.*)?))?\W*$|^\{.*\d\s*\}$"
"""Texts that are such a number: ``4.5 out of 5``, ``#166,731 in Cell Phones``."""
BLANK = ("", "n/a", "na", "nan", "none", "null", "-")
LONG = 12
"""A column of strings with more words than this in the median is read as a description."""


def roles(items: pl.DataFrame) -> dict[str, Role]:
    """What each column of a catalogue is read as; identifiers, links, truth values, bytes, dates and vectors are left out.

    So are numbers that choices make, such as ratings, reviews or sales ranks (:data:`FROM_PEOPLE`), with a warning: they were counted over
    events that may be held out here. What is popular is told from the training part.

    >>> shop = pl.DataFrame({"item_id": ["a"], "title": ["Rose oil"], "brand": ["Ada"], "tags": [["oil"]], "year": [1995], "url": ["x"]})
    >>> roles(shop)
    {'brand': 'maker', 'tags': 'kind', 'year': 'fact'}
    """
    found: dict[str, Role] = {}
    counted: list[str] = []
    vectors: list[str] = []
    for name, kind in items.schema.items():
        low = name.lower()
        words = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
        if FROM_PEOPLE.search(words) and not OF_THE_ITEM.search(words) and _of_numbers(items[name]):
            counted.append(name)
            continue
        if low in (c.ITEM_ID, c.TITLE) or NOT_WORDS.search(low) or kind in (pl.Boolean, pl.Binary, pl.Null) or kind.is_temporal():
            continue
        if _is_vector(kind):
            vectors.append(name)
            continue
        if low in KINDS:
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
    if counted:
        warn(
            f"profiles don't read the catalogue's {', '.join(counted)}: such numbers are counted over events that may be held out (what is"
            " popular is told from the training part); a column of another name is read"
        )
    if vectors:
        warn(f"profiles don't read the catalogue's {', '.join(vectors)}: lists of fractions, such as embeddings, say nothing in words")
    # `price_usd` beside `price` is another form of the same.
    return {name: role for name, role in found.items() if role != "fact" or not any(name.startswith(f"{other}_") for other in found)}


def _is_vector(kind: Any) -> bool:
    """Whether a column holds lists of fractions, however deep."""
    if isinstance(kind, (pl.List, pl.Array)):
        inner: Any = kind.inner
        return bool(inner.is_float()) or _is_vector(inner)
    return False


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


__all__ = ["ABOUTS", "KINDS", "MAKERS", "Role", "roles"]
