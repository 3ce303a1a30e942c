"""Items and histories as text: the template of an item, and the three devices that make a history one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError, nearest
from lexirec.text.templates import render

USER_PREFIX = "This is the summary of a user's purchase history."
FIRST_ITEM = " The first item bought is as follows. "
LATER_ITEM = "\nThe next item bought is as follows. "
USER_SUFFIX = "\nThe next item bought is as follows.\n"
DEVICES = (USER_PREFIX, FIRST_ITEM, LATER_ITEM, USER_SUFFIX)
MISSING = "Unknown"


@dataclass(frozen=True)
class ItemTemplate:
    """How an item is written, such as ``Label: value. Label: value.``.

    Attributes:
        labels: of the attributes, in order.
        columns: catalogue columns of each; the first that holds a value is written.
        optional: whether the catalogue may lack all columns of an attribute.
    """

    labels: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    optional: tuple[bool, ...]

    @classmethod
    def parse(cls, written: str) -> "ItemTemplate":
        """From ``"Title=title,Category=main_category|categories,Price=price?"``.

        ``|`` separates columns of which the first with a value counts; ``?`` marks an attribute that the catalogue may lack.

        Raises:
            InputError: for a part that is no ``Label=column``, or a label given twice.

        >>> ItemTemplate.parse("Title=title,Price=price?").optional
        (False, True)
        """
        labels, columns, optional = [], [], []
        for part in written.split(","):
            label, sign, names = part.partition("=")
            found = tuple(name.strip() for name in names.strip().removesuffix("?").split("|"))
            if not sign or not label.strip() or not all(found):
                raise InputError(f"text = {written!r}: {part.strip()!r} is no Label=column; write for example Title=title,Brand=brand")
            if label.strip() in labels:
                raise InputError(f"text = {written!r} names the label {label.strip()!r} twice")
            labels.append(label.strip())
            columns.append(found)
            optional.append(names.strip().endswith("?"))
        return cls(tuple(labels), tuple(columns), tuple(optional))

    @property
    def pieces(self) -> list[str]:
        """The fixed text in front of each value, and the end."""
        return [("" if i == 0 else ". ") + f"{label}: " for i, label in enumerate(self.labels)] + ["."]

    @property
    def bare(self) -> str:
        """What every text has whatever the item is, and what stands for a missing value.

        >>> ItemTemplate.parse("Title=title,Price=price?").bare
        'Title: Unknown. Price: Unknown.'
        """
        *fronts, end = self.pieces
        return "".join(front + MISSING for front in fronts) + end

    def values(self, items: pl.DataFrame) -> pl.DataFrame:
        """A column of strings per attribute, null where the item has none.

        Raises:
            InputError: if the catalogue has none of an attribute's columns (the nearest is offered).
        """
        found = []
        for label, names, optional in zip(self.labels, self.columns, self.optional, strict=True):
            present = [name for name in names if name in items.columns]
            if not present and not optional:
                raise InputError(
                    f"text: the template's {label}={'|'.join(names)} finds no such column in the items{nearest(names[0], items.columns)};"
                    f" they have {', '.join(items.columns)}. Name another column, leave {label} out, or write {label}={names[0]}? to have"
                    f" {MISSING} there"
                )
            texts = [pl.Series(render(items, [name])).replace("", None) for name in present]
            frame = pl.DataFrame([text.alias(str(i)) for i, text in enumerate(texts)]) if texts else None
            value = pl.Series([None] * items.height, dtype=pl.String) if frame is None else frame.select(pl.coalesce(pl.all())).to_series()
            found.append(value.cast(pl.String).alias(label))
        return pl.DataFrame(found)

    def write(self, items: pl.DataFrame) -> list[str]:
        """One text per item; an attribute without a value is ``Unknown``, and an item without any has an empty text.

        Source: CALRec (arXiv 2405.02429); full stops after ``souradipp76/PixRec`` and the vocabulary count of the paper.

        >>> shop = pl.DataFrame({"title": ["Red Drill"], "kind": ["Tools"], "brand": [None], "price": ["$5"]})
        >>> ItemTemplate.parse("Title=title,Category=kind,Brand=brand,Price=price").write(shop)
        ['Title: Red Drill. Category: Tools. Brand: Unknown. Price: $5.']
        """
        values = self.values(items)
        *fronts, end = self.pieces
        parts = [pl.lit(front) + pl.col(label).fill_null(MISSING) for front, label in zip(fronts, self.labels, strict=True)]
        whole = pl.concat_str([*parts, pl.lit(end)])
        some = pl.any_horizontal([pl.col(label).is_not_null() for label in self.labels])
        written: list[str] = values.select(pl.when(some).then(whole).otherwise(pl.lit(""))).to_series().to_list()
        return written

    def read(self, items: pl.DataFrame, catalogue: str | None = None) -> list[str]:
        """As :meth:`write`, and tells which items have no text.

        Args:
            items: with their ids.
            catalogue: name of the data set whose whole catalogue they are; ``None`` for items beside others.

        Raises:
            InputError: if no item of a catalogue has a text.
        """
        texts = self.write(items)
        silent = items[c.ITEM_ID].filter(pl.Series([not text for text in texts], dtype=pl.Boolean))
        if catalogue is not None and len(silent) == len(texts):
            raise InputError(
                f"no item of {catalogue} has any attribute of the template ({', '.join(self.labels)}), so there is nothing to read or"
                " write; add columns to the catalogue, or name others with text="
            )
        if len(silent):
            warn(
                f"{len(silent):,} of {len(texts):,} {'items' if catalogue is not None else 'new items'} have no attribute of the template"
                f" (item_id {shown(silent)}); they are left out of histories and score 0, below all that share a word with what is"
                " searched for"
            )
        return texts


def history_prompt(texts: Sequence[str]) -> str:
    """The input for a history of item texts, oldest first: what the tokens of :class:`~lexirec.models.calrec.sequences.Pieces` spell.

    >>> print(history_prompt(["Title: X."]))  # doctest: +NORMALIZE_WHITESPACE
    This is the summary of a user's purchase history. The first item bought is as follows. Title: X.
    The next item bought is as follows.
    """
    items = "".join((LATER_ITEM if i else FIRST_ITEM) + text for i, text in enumerate(texts))
    return USER_PREFIX + items + USER_SUFFIX


def mixing_weights(sizes: Sequence[int] | NDArray[np.int64], exponent: float) -> NDArray[np.float64]:
    """Probability of each data set, proportional to its size to the power ``exponent`` (multilingual T5's way).

    >>> mixing_weights([1000, 100, 10], 0.3).round(6).tolist()
    [0.570654, 0.286004, 0.143342]
    """
    weights = np.asarray(sizes, dtype=np.float64)
    weights = np.where(weights > 0, weights, 0.0) ** exponent * (weights > 0)
    return weights / weights.sum()


__all__ = ["DEVICES", "FIRST_ITEM", "LATER_ITEM", "USER_PREFIX", "USER_SUFFIX", "ItemTemplate", "history_prompt", "mixing_weights"]
