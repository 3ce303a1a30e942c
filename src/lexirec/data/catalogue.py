"""The catalogue beside a log: made from it, or matched with it."""

from collections.abc import Sequence

import polars as pl

from lexirec import columns as c
from lexirec.data.checks import ALIASES, LOG_COLUMNS, check_items
from lexirec.data.ids import bare
from lexirec.data.messages import count, shown, warn
from lexirec.errors import InputError, nearest


def items_of_log(log: pl.DataFrame, title: str | None = None, columns: Sequence[str] = ()) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A catalogue from a log that describes the item in each row, as exported order lines do.

    Nothing is read that was not named: a column called ``title`` may describe the event (a review's heading), whose words must not
    reach the items.

    Args:
        log: checked events.
        title: column of the log with the titles; else the one of ``columns`` that is called like it.
        columns: columns of the log that describe the item.

    Returns:
        The log without these columns, and the items, sorted by id, with the value that each column has in the latest event where it has
        one (by ``position``, else ``timestamp``, else the order of the rows); without a title if none is named.

    Raises:
        InputError: for a column that the log lacks or that describes the event, or if several could be the title.
    """
    named = [columns] if isinstance(columns, str) else list(columns)
    like = [name for name in log.columns if name.lower() in (c.TITLE, *ALIASES[c.TITLE])]
    wanted = list(dict.fromkeys([*([] if title is None else [title]), *named]))
    free = [name for name in log.columns if name not in LOG_COLUMNS]
    for name in wanted:
        if name not in free:
            raise InputError(f"item_columns: {name!r} is no further column of the interactions{nearest(name, free)}; there are {free}")
    could = [name for name in like if name in wanted] if title is None else [title, *({c.TITLE} & set(wanted) - {title})]
    if len(could) > 1:
        raise InputError(f"item_columns: {' and '.join(map(repr, could))} could each be the title; leave one out, or rename one")
    title = could[0] if could else None
    if title is None and like:
        warn(
            f"interactions: there is no table of items, so they have no titles; if {like[0]!r} is theirs (and not the event's), read it"
            f" with item_columns={[like[0]]} (lexirec data convert --item-columns {like[0]})"
        )
    order = c.POSITION if c.POSITION in log.columns else c.TIMESTAMP
    values = log.select(c.ITEM_ID, order, *wanted).sort(order, maintain_order=True).group_by(c.ITEM_ID)
    items = values.agg(pl.col(name).drop_nulls().last() for name in wanted).sort(c.ITEM_ID)
    several = values.agg(pl.col(name).drop_nulls().n_unique() for name in wanted).sort(c.ITEM_ID)
    for name in wanted:
        ids = several.filter(pl.col(name) > 1)[c.ITEM_ID]
        if len(ids):
            warn(
                f"interactions.{name}: {count(len(ids), items.height)} items have several values ({shown(ids)}); the latest of each is"
                " taken, from events that a split may hold out too"
            )
    items = items.select(c.ITEM_ID, *wanted).rename({} if title is None else {title: c.TITLE})
    if title is None:
        items = items.insert_column(1, pl.lit(None, dtype=pl.String).alias(c.TITLE))
    return log.drop(wanted), check_items(items)


def match_items(log: pl.DataFrame, items: pl.DataFrame, unknown: str = "error") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make every event's item be in the catalogue.

    Args:
        log: checked events.
        items: checked catalogue.
        unknown: what to do with events of items that the catalogue lacks: ``"error"``, ``"drop"`` the events, or ``"add"`` the items
            without a title.

    Raises:
        InputError: with the count, examples and the cure.
    """
    if unknown not in ("error", "drop", "add"):
        raise InputError(f"unknown_items is {unknown!r}; choose 'error', 'drop' or 'add'{nearest(unknown, ('error', 'drop', 'add'))}")
    lacking = log.select(c.ITEM_ID).join(items.select(c.ITEM_ID), on=c.ITEM_ID, how="anti")[c.ITEM_ID].unique().sort()
    if not len(lacking):
        return log, items
    hit = log[c.ITEM_ID].is_in(lacking.implode())
    if unknown == "error":
        hint = (
            ""
            if not bool(hit.all())
            else f"; no id matches at all, the items table has ids like {shown(items[c.ITEM_ID])}, so the two tables may use different ids"
        )
        hint += _written_otherwise(lacking, items[c.ITEM_ID])
        raise InputError(
            f"interactions.item_id: {count(int(hit.sum()), log.height)} events name {count(len(lacking))} items that the items "
            f"table lacks ({shown(lacking)}){hint}; "
            "add them to the table, or pass unknown_items='drop' or 'add' (lexirec data convert --unknown-items drop)"
        )
    said = f"{count(len(lacking))} items of {count(int(hit.sum()), log.height)} events are not in the items table ({shown(lacking)})"
    if unknown == "drop":
        warn(f"{said}; these events are dropped")
        if bool(hit.all()):
            raise InputError(f"interactions.item_id: {said}; dropping them leaves nothing, so the two tables use different ids")
        return log.filter(~hit), items
    warn(f"{said}; they are added without a title")
    return log, pl.concat([items, pl.DataFrame({c.ITEM_ID: lacking})], how="diagonal_relaxed")


def _written_otherwise(lacking: pl.Series, ids: pl.Series) -> str:
    """A hint where unknown ids are known but for what spreadsheets and guesses of types change, see :func:`~lexirec.data.ids.bare`."""
    there = pl.DataFrame({"bare": bare(ids), "known": ids})
    pairs = pl.DataFrame({"bare": bare(lacking), "unknown": lacking}).join(there, on="bare", maintain_order="left")
    if not pairs.height:
        return ""
    known, unknown = pairs["known"][0], pairs["unknown"][0]
    return (
        f"; {count(pairs['unknown'].n_unique())} of them match but for leading zeros, '.0', blanks or case ({unknown!r} here, {known!r}"
        " there): read both tables as text (pandas: dtype=str), and write ids alike"
    )


__all__ = ["items_of_log", "match_items"]
