"""From any source to a folder with ``interactions.parquet`` and ``items.parquet``."""

from os import PathLike
from pathlib import Path
from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.data.checks import as_ids
from lexirec.data.dataset import Dataset
from lexirec.data.description import describe
from lexirec.data.filters import drop_duplicates, filter_rating, interacted_only, k_core
from lexirec.data.formats.texts import without_markup
from lexirec.data.readers import add_item_table, dataset_of, read_tables
from lexirec.errors import InputError
from lexirec.files import atomic_folder, write_json


def convert_dataset(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    min_rating: float | None = None,
    duplicates: str = "all",
    k_core_user: int = 0,
    k_core_item: int = 0,
    core_mode: str = "iterated",
    interacted: bool = False,
    clean_html: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Read a source, filter it and write it; the folder ``out`` is whole or absent.

    Args:
        source: as ``path`` of :func:`~lexirec.data.readers.read_dataset`.
        out: folder to write: ``interactions.parquet``, ``items.parquet``, ``users.parquet`` where the source describes its users, and
            ``dataset.json`` (how it was made, and what :func:`~lexirec.data.quality.describe` says).
        format: one of :data:`~lexirec.data.formats.FORMATS`; told from the files' names by default.
        min_rating: first, keep events rated at least this.
        duplicates: second, a rule of :func:`~lexirec.data.filters.drop_duplicates`.
        k_core_user: third, least number of events of a user.
        k_core_item: third, least number of events of an item.
        core_mode: how the k-core is made.
        interacted: last, drop items without events; ``catalogue="interacted"`` is the same.
        clean_html: take HTML out of the items' texts and the reviews.
        options: of :func:`~lexirec.data.readers.read_dataset`.

    Returns:
        What :func:`~lexirec.data.quality.describe` says of the result.

    Raises:
        InputError: if ``out`` exists, or the source can't be used.
    """
    if Path(out).exists():
        raise InputError(f"{out} exists already; choose another folder or remove it")
    checked = {k: options.pop(k) for k in ("columns", "unknown_items", "item_columns", "name") if k in options}
    catalogue = options.pop("catalogue", None)
    interacted = interacted or catalogue == "interacted"
    further = options.pop("item_table", None)
    tables = read_tables(source, format=format, **options)
    data = dataset_of(tables, Path(source), **checked)
    data = data if further is None else add_item_table(data, further)
    data = _without_html(data) if clean_html else data
    data = data if min_rating is None else filter_rating(data, min_rating)
    data = drop_duplicates(data, duplicates)
    if k_core_user or k_core_item:
        data = k_core(data, k_core_user, k_core_item, core_mode)
    data = interacted_only(data) if interacted else data
    facts = describe(data)
    made = {
        "source": Path(source).name,
        "format": tables.format,
        "item_table": None if further is None else Path(further).name,
        "min_rating": min_rating,
        "duplicates": duplicates,
        "k_core": {"user": k_core_user, "item": k_core_item, "mode": core_mode},
        "catalogue": "interacted" if interacted else "all",
        "clean_html": clean_html,
    }
    with atomic_folder(out) as folder:
        data.interactions.write_parquet(folder / "interactions.parquet")
        data.items.write_parquet(folder / "items.parquet")
        users = _users(tables.users, data)
        if users is not None:
            users.write_parquet(folder / "users.parquet")
        write_json(folder / "dataset.json", {"made": made, "facts": facts})
    return facts


def _without_html(data: Dataset) -> Dataset:
    """The items' texts and lists of text, and the reviews, without HTML."""
    log, items = data.interactions, data.items
    for name, values in {name: items[name] for name in items.columns if name != c.ITEM_ID}.items():
        if values.dtype == pl.String:
            items = items.with_columns(without_markup(values).alias(name))
        elif values.dtype == pl.List(pl.String):
            inner = pl.element().map_batches(without_markup, return_dtype=pl.String).drop_nulls()
            items = items.with_columns(values.list.eval(inner).alias(name))
    if c.REVIEW in log.columns and log[c.REVIEW].dtype == pl.String:
        log = log.with_columns(without_markup(log[c.REVIEW]).alias(c.REVIEW))
    return Dataset(log, items, data.name, folder=data.folder)


def _users(users: pl.DataFrame | None, data: Dataset) -> pl.DataFrame | None:
    """The described users that are left in the log, sorted by id."""
    if users is None or c.USER_ID not in users.columns or not users.height:
        return None
    users = users.with_columns(as_ids(users[c.USER_ID], "users"))
    return users.filter(pl.col(c.USER_ID).is_in(data.users.ids.implode())).sort(c.USER_ID)
