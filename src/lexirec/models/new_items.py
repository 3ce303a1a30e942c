"""New items beside a model's catalogue."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.data.checks import ALIASES, as_ids, check_items
from lexirec.data.ids import IdMap
from lexirec.data.messages import shown, warn
from lexirec.data.readers import to_polars
from lexirec.errors import InputError


def joined_items(
    catalogue: pl.DataFrame, known: IdMap, items: Any, *, skip_known: bool = False, read: Sequence[str] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """New items as they stand in the catalogue, checked, and the catalogue with them behind its own.

    Args:
        catalogue: the items that a model has.
        known: their ids.
        items: pandas, Polars or Arrow table with ``item_id`` and any columns.
        skip_known: leave out what is in the catalogue already.
        read: columns that the model makes its texts of; a warning names those that the new items lack.

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
    names = {name.lower() for name in items.columns}
    if names & {c.TITLE, *ALIASES[c.TITLE]} or difflib.get_close_matches(c.TITLE, names, n=1, cutoff=0.8):
        items = check_items(items, where="new items")
    lacking = [name for name in read if name in catalogue.columns and name not in items.columns]
    if lacking:
        warn(
            f"new items have no column {' and no '.join(map(repr, lacking))}, which the model reads of the catalogue's; their texts are"
            " shorter for it (at the command line --column OURS=YOURS names one)"
        )
    odd = {
        name: f"{name!r} is {kind}, {catalogue.schema[name]} in the catalogue"
        for name, kind in items.schema.items()
        if name in catalogue.columns and kind != catalogue.schema[name]
    }
    items, lost = _as_there(catalogue, items, odd)
    structs = [name for name in odd if items.schema[name] == pl.Struct]  # would be written out as text
    try:
        both = pl.concat([catalogue, items], how="diagonal_relaxed") if not structs and not lost else None
    except pl.exceptions.PolarsError:
        both = None
    if both is None:
        said = "; ".join(odd[name] for name in lost or structs or odd)
        raise InputError(f"new items: {said}: store these columns as the catalogue does")
    return both.tail(items.height), both


def _as_there(catalogue: pl.DataFrame, items: pl.DataFrame, odd: Iterable[str]) -> tuple[pl.DataFrame, list[str]]:
    """New items with numbers as the catalogue has them, and the columns where that would lose a value.

    One odd row must not turn a column of the whole catalogue into text: every item's words would be written otherwise from then on.
    """
    lost = []
    for name in odd:
        there, here = catalogue.schema[name], items.schema[name]
        if not (there.is_numeric() or there == pl.Boolean) or not (here.is_numeric() or here in (pl.Boolean, pl.String)):
            continue
        cast = items[name].cast(there, strict=False)
        same = cast.cast(pl.Float64, strict=False) == items[name].cast(pl.Float64, strict=False)
        if cast.null_count() == items[name].null_count() and same.fill_null(True).all():
            items = items.with_columns(cast)
        elif here == pl.String:  # a fraction beside whole numbers stays a number
            lost.append(name)
    return items, lost


__all__ = ["joined_items"]
