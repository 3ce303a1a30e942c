"""What is known of items besides their ids, as vectors: frozen text through one layer, or categorical fields merged by attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec import columns as c
from lexirec.errors import InputError, nearest
from lexirec.text.column_roles import KINDS, MAKERS
from lexirec.text.templates import PATH

FIELDS = (KINDS, MAKERS)
"""Columns taken where none are named: the first of each that is there, such as ``categories`` and ``brand``."""


@dataclass(frozen=True, eq=False)
class Bags:
    """Values of each item, one item after another.

    Attributes:
        values: ``(N,)`` numbers of the values.
        offsets: ``(I + 1,)`` where each item's begin.
        names: of the values, ``column=value``.
    """

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]
    names: list[str]


def present_columns(items: pl.DataFrame, wanted: Sequence[str] | None, usual: Sequence[Sequence[str]], cure: str) -> list[str]:
    """The columns asked for, each once, or the first that is there of each group of usual names.

    Args:
        items: catalogue.
        wanted: columns asked for; ``None`` for the usual ones.
        usual: groups of names of one meaning, read where none are named.
        cure: settings that help where there is none, for the error.

    Raises:
        InputError: if one asked for is missing (nearest offered), or none is left.

    >>> shop = pl.DataFrame({"item_id": ["a"], "title": ["Soap"], "brand": ["Ada"]})
    >>> present_columns(shop, None, FIELDS, "fields=[...]")
    ['brand']
    """
    if wanted is not None:
        for column in wanted:
            if column not in items.columns:
                raise InputError(f"items have no column {column!r}{nearest(column, items.columns)}; they have {', '.join(items.columns)}")
    there = ([name for name in names if name in items.columns] for names in usual)
    found = list(dict.fromkeys(wanted)) if wanted is not None else [names[0] for names in there if names]
    if not found:
        known = ", ".join(names[0] for names in usual)
        why = f"items have none of the columns {known}, nor others of that meaning" if wanted is None else "no column is named"
        others = ", ".join(column for column in items.columns if column != c.ITEM_ID)
        raise InputError(f"{why}; set {cure} (items have {others or 'ids alone'})")
    return found


def bags(items: pl.DataFrame, columns: Sequence[str], min_items: int = 1) -> Bags:
    """The values that items have in some columns; each level of a category path is one.

    Args:
        items: catalogue, ``I`` rows.
        columns: columns with strings, numbers or lists of strings.
        min_items: values of fewer items are left out.

    Raises:
        InputError: if nothing is left.

    >>> shop = pl.DataFrame({"brand": ["Ada", None], "categories": [["Beauty > Oils"], ["Beauty > Skin"]]})
    >>> found = bags(shop, ["categories", "brand"])
    >>> found.names, found.values.tolist(), found.offsets.tolist()
    (['categories=Beauty', 'categories=Oils', 'categories=Skin', 'brand=Ada'], [0, 1, 3, 0, 2], [0, 3, 5])
    """
    frames = []
    for place, column in enumerate(columns):
        series = items[column]
        frame = pl.DataFrame({"item": np.arange(items.height), "value": series})
        if isinstance(series.dtype, pl.List):
            frame = frame.explode("value")
        frame = frame.with_columns(pl.col("value").cast(pl.String).str.replace_all(PATH.pattern, "\n").str.split("\n")).explode("value")
        frame = frame.with_columns(pl.col("value").str.strip_chars()).filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
        frames.append(frame.with_columns(value=pl.lit(f"{column}=") + pl.col("value"), place=pl.lit(place)))
    pairs = pl.concat(frames).unique(["item", "value"], maintain_order=True)
    pairs = pairs.filter(pl.len().over("value") >= min_items).sort("item", "place", maintain_order=True)
    if not pairs.height:
        raise InputError(
            f"no value of {', '.join(columns)} is shared by {min_items} items, so items have no attributes; name other columns, or lower"
            " the bound"
        )
    names = pairs.select("place", "value").unique().sort("place", "value")["value"]
    order = pl.DataFrame({"value": names, "number": np.arange(len(names))})
    numbers = pairs.join(order, on="value", how="left", maintain_order="left")["number"].to_numpy()
    counts = np.bincount(pairs["item"].to_numpy(), minlength=items.height)
    return Bags(numbers.astype(np.int64), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), names.to_list())


class TextFeatures(nn.Module):
    """Frozen text vectors through a linear layer and a rectifier: ``(I, D) -> (I, d)``.

    Args:
        text: ``(I, D)``; ``None`` where the finished vectors are known.
        text_dim: ``D``.
        dim: ``d``.
    """

    text: Tensor | None

    def __init__(self, text: Tensor | None, text_dim: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("text", text, persistent=False)
        self.linear = nn.Linear(text_dim, dim)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors of all items, or of the ``rows`` named."""
        assert self.text is not None  # noqa: S101 (a loaded model has the finished vectors)
        return F.relu(self.linear(self.text if rows is None else self.text.index_select(0, rows)))


class Field(nn.Module):
    """Mean vector of the values that an item has in one column; an item without any has a vector for that.

    Args:
        found: values of each item; ``None`` where the finished vectors are known.
        size: number of values.
        dim: width.
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor

    def __init__(self, found: Bags | None, size: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(size + 1, dim)  # the last row: no value
        if found is None:
            found = Bags(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64), [])
        empty = np.flatnonzero(np.diff(found.offsets) == 0)
        values = np.insert(found.values, found.offsets[:-1][empty], size)
        lengths = np.maximum(np.diff(found.offsets), 1)
        self.register_buffer("values", torch.from_numpy(values), persistent=False)
        self.register_buffer("lengths", torch.from_numpy(lengths), persistent=False)
        self.register_buffer("starts", torch.from_numpy(np.cumsum(lengths) - lengths), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        lengths = self.lengths[rows]
        begin = lengths.cumsum(0) - lengths
        step = torch.arange(int(lengths.sum()), device=rows.device) - torch.repeat_interleave(begin, lengths)
        values = self.values[torch.repeat_interleave(self.starts[rows], lengths) + step]
        return F.embedding_bag(values, self.table.weight, begin, mode="mean")


class FieldFeatures(nn.Module):
    """Categorical fields merged by vanilla attention, ``(I, d)``: ``softmax(w relu(W f))`` weighs the fields of an item.

    Source: Zhang et al., IJCAI 2019 (FDSA), as RecBole has it.

    Args:
        found: values of each item, one entry per field; ``None`` where the finished vectors are known.
        sizes: number of values of each field.
        dim: width.
    """

    def __init__(self, found: Sequence[Bags] | None, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.fields = nn.ModuleList([Field(None if found is None else found[i], size, dim) for i, size in enumerate(sizes)])
        self.hidden, self.weight = nn.Linear(dim, dim), nn.Linear(dim, 1)
        self.n_items = 0 if found is None else len(found[0].offsets) - 1

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors of all items, or of the ``rows`` named."""
        if rows is None:
            rows = torch.arange(self.n_items, device=self.weight.weight.device)
        values = torch.stack([field(rows) for field in self.fields], 1)  # (n, fields, d)
        return (self.weight(F.relu(self.hidden(values))).softmax(1) * values).sum(1)


__all__ = ["FIELDS", "Bags", "FieldFeatures", "TextFeatures", "bags", "present_columns"]
