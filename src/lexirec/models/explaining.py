"""Why an item was recommended: the history items near it and the attributes that they share."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lexirec import columns as c

if TYPE_CHECKING:
    from lexirec.models.contract import Recommender

REASONS = {"kind": pl.String, "name": pl.String, "title": pl.String, "weight": pl.Float64}
"""Columns of an explanation."""
LONG = 80
"""A text attribute longer than this is a description and not something that items share."""


def near_history(model: "Recommender", target: int, seen: NDArray[np.int64], k: int) -> pl.DataFrame:
    """The ``k`` items of ``seen`` nearest to ``target`` in the model's own space: ``kind``, ``name``, ``title``, ``weight`` (cosine)."""
    vectors = torch.nn.functional.normalize(model.encode_items(), dim=1).cpu()
    weights = (vectors[seen] @ vectors[target]).numpy() if len(seen) else np.zeros(0, dtype=np.float32)
    order = np.argsort(-weights)[:k]
    titles = model.items[c.TITLE] if c.TITLE in model.items.columns else pl.Series([None] * model.items.height, dtype=pl.String)
    return pl.DataFrame(
        {
            "kind": pl.Series(["history"] * len(order), dtype=pl.String),
            "name": model.item_map.name(seen[order]).cast(pl.String),
            "title": titles.gather(seen[order]).cast(pl.String),
            "weight": weights[order].astype(np.float64),
        }
    )


def shared_attributes(items: pl.DataFrame, target: int, seen: NDArray[np.int64], k: int) -> pl.DataFrame:
    """Attribute values of one item with the share of the history that has them."""
    rows = []
    for column in items.columns:
        if column in (c.ITEM_ID, c.TITLE) or not len(seen):
            continue
        value = items[column][target]
        if value is None or (isinstance(value, str) and len(value) > LONG):
            continue
        kind = items.schema[column]
        if isinstance(kind, (pl.Struct, pl.Array)) or (isinstance(kind, pl.List) and kind.inner.is_nested()):
            continue  # records and vectors: nothing that items share word for word
        others = items[column].gather(seen)
        for single in value.to_list() if isinstance(value, pl.Series) else [value]:
            has = others.list.contains(single) if isinstance(kind, pl.List) else others == single
            share = float(has.fill_null(False).mean() or 0.0)  # type: ignore[arg-type]
            if share > 0:
                rows.append(("attribute", f"{column}={single}", None, share))
    rows.sort(key=lambda row: -row[3])
    return pl.DataFrame(rows[:k], schema=REASONS, orient="row")
