"""New items beside a model's catalogue."""

from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.data.checks import as_ids, check_items
from lexirec.data.ids import IdMap
from lexirec.data.messages import shown, warn
from lexirec.data.readers import to_polars
from lexirec.errors import InputError


def joined_items(catalogue: pl.DataFrame, known: IdMap, items: Any, *, skip_known: bool = False) -> tuple[pl.DataFrame, pl.DataFrame]:
    """New items as they stand in the catalogue, checked, and the catalogue with them behind its own.

    Args:
        catalogue: the items that a model has.
        known: their ids.
        items: pandas, Polars or Arrow table with ``item_id`` and any columns.
        skip_known: leave out what is in the catalogue already.

    Raises:
        InputError: if an id is missing, exists already or is given twice, or the columns don't go with the catalogue's.
    """
    items = to_polars(items, "new items")
    if c.ITEM_ID not in items.columns:
        raise InputError(
            f"new items need the column {c.ITEM_ID!r}; there are {items.columns}; rename yours (at the command line --column item_id=YOURS)"
        )
    if not items.height:
        raise InputError("new items: the table has no rows; give at least one item")
    ids = as_ids(items[c.ITEM_ID], "new items")
    twice = ids.filter(ids.is_duplicated()).unique(maintain_order=True)
    if len(twice):
        raise InputError(f"new items: {len(twice):,} item ids are given more than once ({shown(twice)}); give each item one row")
    items = items.with_columns(ids)
    there = pl.Series(known.index(ids) >= 0)
    if there.any():
        said = f"{there.sum():,} of {len(ids):,} item ids exist already in the catalogue ({shown(ids.filter(there))})"
        if not skip_known:
            raise InputError(f"new items: {said}; leave these rows out, or add the others with skip_known=True")
        warn(f"new items: {said}; they stay as they are")
        items = items.filter(~there)
        if not items.height:
            return items, catalogue
    if c.TITLE in items.columns:
        items = check_items(items, where="new items")
    structs = [name for name in items.columns if name in catalogue.columns and items.schema[name] == pl.Struct != catalogue.schema[name]]
    try:
        both = pl.concat([catalogue, items.drop(structs)], how="diagonal_relaxed")
        if structs:  # would be written out as text
            raise pl.exceptions.SchemaError(", ".join(structs))
    except pl.exceptions.PolarsError as error:
        odd = [
            f"{name!r} is {items.schema[name]}, {catalogue.schema[name]} in the catalogue"
            for name in items.columns
            if name in catalogue.columns and items.schema[name] != catalogue.schema[name]
        ]
        raise InputError(f"new items: {'; '.join(odd)}: store these columns as the catalogue does") from error
    return both.tail(items.height), both


__all__ = ["joined_items"]
