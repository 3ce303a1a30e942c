"""New items beside a model's catalogue."""

from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.data.checks import as_ids, check_items
from lexirec.data.ids import IdMap
from lexirec.data.readers import to_polars
from lexirec.errors import InputError


def joined_items(catalogue: pl.DataFrame, known: IdMap, items: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """New items, checked, and the catalogue with them behind its own.

    Args:
        catalogue: the items that a model has.
        known: their ids.
        items: pandas, Polars or Arrow table with ``item_id`` and any columns.

    Raises:
        InputError: if an id is missing, exists already or is given twice, or the columns don't go with the catalogue's.
    """
    items = to_polars(items, "new items")
    if c.ITEM_ID not in items.columns:
        raise InputError(f"new items need the column {c.ITEM_ID!r}; there are {items.columns}")
    if not items.height:
        raise InputError("new items: the table has no rows; give at least one item")
    ids = as_ids(items[c.ITEM_ID], "new items")
    if ids.is_duplicated().any() or (known.index(ids) >= 0).any():
        bad = [i for i in ids.to_list() if i in known][:3] or ids.filter(ids.is_duplicated()).unique().head(3).to_list()
        raise InputError(f"item ids {bad} exist already or are given twice; give each new item one id of its own")
    items = items.with_columns(ids)
    if c.TITLE in items.columns:
        items = check_items(items, where="new items")
    try:
        both = pl.concat([catalogue, items], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        odd = [
            f"{name!r} is {items.schema[name]}, {catalogue.schema[name]} in the catalogue"
            for name in items.columns
            if name in catalogue.columns and items.schema[name] != catalogue.schema[name]
        ]
        raise InputError(f"new items: {'; '.join(odd)}: store these columns as the catalogue does") from error
    return items, both


__all__ = ["joined_items"]
