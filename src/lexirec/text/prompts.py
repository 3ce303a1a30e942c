r"""Item rows to attribute prompts: an instruction and one phrase per attribute, which fine-tuning can shuffle and drop.

    The item has the following attributes: \n title is Candy Spray; brand is Prada; category is Beauty; category is Fragrance

``general`` takes any columns and makes each level of a category path its own phrase, because dropping does nothing to an item with
fewer than three. ``beauty``, ``fashion`` and ``yelp`` write LLMEmb's prompts to the letter.

Source: LLMEmb (arXiv 2409.19925), official code commit 3458a5e, the three notebooks that write prompts and the dropping of attributes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError, nearest
from lexirec.text.column_roles import from_people
from lexirec.text.encoders.base import as_choice
from lexirec.text.encoders.transformer import cut
from lexirec.text.templates import PATH, SPACES, _pieces

SEPARATOR = "; "
CUT = 100
"""Characters of a value, as in the official prompts."""
PROFILE = "profile"
"""The attribute that tells of an item in sentences; ``general`` reads it whole."""


@dataclass(frozen=True)
class Style:
    """How a data set's prompts are written.

    Attributes:
        instruction: what stands in front of the phrases, its newline and space included.
        skip: fields that are left out.
        lists: fields that hold lists; of a path field only the first path counts.
        newline: what a newline in a text becomes.
        cut: most characters of a text or a joined list; ``None``: all.
        names: our column names that had another name in the source.
    """

    instruction: str
    skip: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    newline: str = " "
    cut: int | None = CUT
    names: dict[str, str] = field(default_factory=dict)


STYLES = {
    "general": Style("The item has the following attributes: \n "),
    "beauty": Style(
        "The beauty item has the following attributes: \n ", frozenset({"related", "imUrl", "salesRank", "asin"}), frozenset({"categories"})
    ),
    "fashion": Style(
        "The fashion item has the following attributes: \n ",
        frozenset({"fit", "also_buy", "also_view", "similar_item", "imageURL", "imageURLHighRes", "asin"}),
        frozenset({"description", "feature", "tech1"}),
    ),
    "yelp": Style(
        "The point of interest has the following attributes: \n ",
        frozenset({"longitude", "latitude", "business_id"}),
        frozenset({"categories", "neighborhoods"}),
        newline=", ",
        cut=None,
        names={c.TITLE: "name"},
    ),
}
NO_ATTRIBUTE = frozenset().union(*(style.skip for style in STYLES.values())) - {"fit"}
"""Columns that ``general`` leaves out too: ids, links, pictures, places on a map."""


@dataclass(frozen=True)
class Prompts:
    """Attribute prompts of a catalogue.

    Attributes:
        instruction: the line in front.
        phrases: per item its phrases ``<key> is <value>``, in the order of the columns; empty where an item has no attribute.
        item_ids: ids of the items, as strings.
    """

    instruction: str
    phrases: list[list[str]]
    item_ids: list[str]

    def __len__(self) -> int:
        return len(self.phrases)

    def text(self, phrases: Sequence[str]) -> str:
        """The prompt of some phrases; empty without any."""
        return self.instruction + SEPARATOR.join(phrases) if phrases else ""

    def texts(self) -> list[str]:
        """Full prompts, original order of the attributes, ``I`` strings; empty where an item has no attribute."""
        return [self.text(phrases) for phrases in self.phrases]

    def empty(self) -> NDArray[np.bool_]:
        """``(I,)``: which items have no attribute."""
        return np.array([not phrases for phrases in self.phrases], dtype=bool)

    def droppable(self, row: int) -> list[str]:
        """What shuffling and dropping act on: the phrases; a ``;`` inside a value (``yelp`` keeps it) parts it, as in the code."""
        phrases = self.phrases[row]
        if not any(";" in phrase for phrase in phrases):
            return phrases
        return [piece for phrase in phrases for piece in (part.strip() for part in phrase.split(";")) if piece]


def attribute_prompts(
    items: pl.DataFrame,
    style: str = "general",
    instruction: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    max_characters: int = CUT,
) -> Prompts:
    r"""Attribute prompts of a catalogue.

    Args:
        items: catalogue; ``item_id`` names the items and is no attribute. Null, blank text and NaN are missing: no phrase.
        style: ``general``: every column but ids, links and pictures; lists and category paths give a phrase per member, each written
            once; white space is tidied, ``;`` in a value becomes ``,``. ``beauty``, ``fashion``, ``yelp``: LLMEmb's prompts, keys and
            truncation as in the official code (a joined list that is cut loses two more characters there, and here).
        instruction: in place of the style's; dropping leaves it alone.
        columns: attributes to use, in this order; all but those the style leaves out if not given.
        max_characters: where ``general`` cuts a value, at a word's end; a ``profile`` is read whole.

    Returns:
        The prompts; items without any attribute have no phrases and are warned about.

    Raises:
        InputError: for an unknown style or column, or a column of bytes.

    >>> shop = pl.DataFrame({"item_id": ["a"], "title": ["Rose oil"], "categories": [["Beauty > Oils", "Beauty > Skin"]]})
    >>> attribute_prompts(shop).phrases
    [['title is Rose oil', 'category is Beauty', 'category is Oils', 'category is Skin']]
    >>> attribute_prompts(shop, "beauty").texts()
    ['The beauty item has the following attributes: \n title is Rose oil; categories is Beauty, Oils']
    """
    as_choice(style, "style", tuple(STYLES))
    if c.ITEM_ID not in items.columns:
        raise InputError(f"items have no column 'item_id'; they have {', '.join(items.columns)}")
    rules = STYLES[style]
    if columns is None:
        columns = attribute_columns(items, style)
    check_columns(items, columns)
    for name in columns:
        if items.schema[name].base_type() is pl.Binary:
            raise InputError(f"items column {name!r} holds bytes; decode it to text first")
    phrases: list[list[str]] = [[] for _ in range(items.height)]
    for name in columns:
        write = _general(name, None if name == PROFILE else max_characters) if style == "general" else _official(name, rules)
        values = items[name]
        if values.dtype in (pl.Float32, pl.Categorical) or values.dtype.base_type() is pl.Enum:
            # As text at once: a Float32 read as a Python float shows digits it never had.
            values = values.cast(pl.String)
        for row, value in zip(phrases, values.to_list(), strict=True):
            if not _missing(value):
                row.extend(write(value))
    if style == "general":
        phrases = [list(dict.fromkeys(row)) for row in phrases]
    ids = items[c.ITEM_ID].cast(pl.String)
    prompts = Prompts(rules.instruction if instruction is None else instruction, phrases, ids.to_list())
    empty = prompts.empty()
    if empty.any():
        warn(
            f"items: {int(empty.sum()):,} of {len(phrases):,} have no attribute among {', '.join(columns) or 'no columns'} "
            f"(item_id {shown(ids.filter(pl.Series(empty)))}); they have no prompt, so they are not trained on and take the mean vector"
        )
    return prompts


def wish_prompt(text: str, style: str = "general", instruction: str | None = None) -> str:
    r"""A wish in the form that items have, as the title of one: what is read should look like what the encoder was tuned on.

    Args:
        text: the wish.
        style: see :func:`attribute_prompts`.
        instruction: see there.

    >>> wish_prompt("rose oil")
    'The item has the following attributes: \n title is rose oil'
    """
    rules = STYLES[as_choice(style, "style", tuple(STYLES))]
    return f"{rules.instruction if instruction is None else instruction}{rules.names.get(c.TITLE, c.TITLE)} is {text}"


def check_columns(items: pl.DataFrame, columns: Sequence[str]) -> None:
    """Refuse columns that the items lack.

    Raises:
        InputError: naming the nearest there is.
    """
    for name in columns:
        if name not in items.columns:
            raise InputError(f"items have no column {name!r}{nearest(name, items.columns)}; they have {', '.join(items.columns)}")


def attribute_columns(items: pl.DataFrame, style: str = "general") -> list[str]:
    """The columns that prompts are made of where none are named, in their order: all but ids, links and bytes.

    ``general`` also leaves out what people's choices make, such as numbers sold and what is bought together, with a warning.
    """
    found = [name for name in items.columns if name != c.ITEM_ID and _is_attribute(name, items.schema[name], style)]
    unread = from_people(items.select(c.ITEM_ID, *found), "attribute prompts") if style == "general" else ()
    return [name for name in found if name not in unread]


def _is_attribute(name: str, kind: pl.DataType, style: str) -> bool:
    if style != "general":
        return name not in STYLES[style].skip
    return name not in NO_ATTRIBUTE and not name.lower().endswith(("_id", "url")) and kind.base_type() is not pl.Binary


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip())


def _official(name: str, rules: Style) -> Callable[[Any], list[str]]:
    """One phrase of a field, as the official notebooks write it."""
    key = rules.names.get(name, name)

    def write(value: Any) -> list[str]:
        if isinstance(value, (list, tuple)) or (name in rules.lists and name == "categories" and isinstance(value, str)):
            return [f"{key} is {_joined(_members(name, value, rules), rules)}"]
        text = str(_filled(value))
        # A dictionary is printed whole: the official cut never reaches it.
        if rules.cut is not None and not isinstance(value, dict):
            text = text[: rules.cut]
        return [f"{key} is {_tidy(text, rules)}"]

    return write


def _filled(value: Any) -> Any:
    """A dictionary without keys that the row lacks: a column of structs has those of all rows."""
    return {key: _filled(inner) for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value


def _members(name: str, value: Any, rules: Style) -> list[str]:
    """Members of a list field; with ``cut`` the levels of the first category path."""
    if name != "categories" or rules.cut is None:
        return [str(v) for v in value if v is not None] if not isinstance(value, str) else [value]
    if isinstance(value, str):
        return PATH.split(value)
    known = [v for v in value if v is not None]
    if known and isinstance(known[0], (list, tuple)):
        return [str(v) for v in known[0]]
    if any(PATH.search(str(v)) for v in known):
        return PATH.split(str(known[0]))
    return [str(v) for v in known]


def _joined(members: Sequence[str], rules: Style) -> str:
    text = "".join(f"{member}, " for member in members) or "none, "
    if rules.cut is not None:
        # The last two characters are taken for the separator even where the cut has removed it already.
        text = _tidy(text, rules)[: rules.cut]
    return text[:-2]


def _tidy(text: str, rules: Style) -> str:
    text = text.replace("\n", rules.newline)
    return text if rules.cut is None else text.replace(";", ".")


def _general(name: str, width: int | None) -> Callable[[Any], list[str]]:
    """A phrase for each member of a value."""
    import re

    spaces = re.compile(SPACES)
    plain = name.replace("_", " ").strip()
    single = _singular(plain)

    def phrase(key: str, text: str) -> list[str]:
        text = spaces.sub(" ", text.replace(";", ",")).strip()
        text = text if width is None else cut(text, width)
        return [f"{key} is {text}"] if text else []

    def write(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [p for key, inner in value.items() for piece in _pieces(inner) for p in phrase(str(key).replace("_", " "), piece)]
        pieces = [value] if name in (c.TITLE, PROFILE) and isinstance(value, str) else list(_pieces(value))
        several = isinstance(value, (list, tuple)) or len(pieces) > 1
        return [p for piece in pieces for p in phrase(single if several else plain, piece)]

    return write


def _singular(word: str) -> str:
    """A column of many, as the name of one.

    >>> _singular("categories"), _singular("tags"), _singular("address")
    ('category', 'tag', 'address')
    """
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def drop_attributes(phrases: Sequence[str], ratio: float, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Two views of an item: each shuffled on its own, then without its last ``int(n * ratio)`` phrases.

    Both keep equally many, usually others. One or two phrases lose nothing at the usual 0.4.

    NOTE: the official code leaves an item with one phrase with none; here it keeps it.

    Args:
        phrases: ``n`` phrases of an item.
        ratio: share to drop, in [0, 1).
        rng: source of the order.

    >>> [len(view) for view in drop_attributes(["a", "b", "c", "d", "e"], 0.4, np.random.default_rng(0))]
    [3, 3]
    """
    n = len(phrases)
    keep = n - int(n * ratio)
    first, second = rng.permutation(n)[:keep], rng.permutation(n)[:keep]
    return [phrases[i] for i in first], [phrases[i] for i in second]
