"""Ways into a :class:`~lexirec.data.dataset.Dataset`: data frames, a folder, a single file, or a published dump."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.catalogue import items_of_log, match_items
from lexirec.data.checks import ITEM_COLUMNS, LOG_COLUMNS, as_ids, check_items, check_log, rename
from lexirec.data.dataset import Dataset
from lexirec.data.filters import interacted_only
from lexirec.data.formats import FORMATS, Tables, detect_format
from lexirec.data.messages import count, shown
from lexirec.data.tables import SPREADSHEETS, is_table, read_table, suffix
from lexirec.errors import InputError, nearest


def from_frames(
    interactions: Any,
    items: Any = None,
    *,
    name: str = "dataset",
    columns: Mapping[str, str] | None = None,
    unknown_items: str = "error",
    item_columns: Sequence[str] = (),
    bad_rows: str = "error",
    first_line: int | None = None,
    folder: str | PathLike[str] | None = None,
) -> Dataset:
    """A dataset from pandas, Polars or Arrow tables.

    Args:
        interactions: one row per event: ``user_id``, ``item_id`` and, where known, ``timestamp`` (whole numbers are kept as given, dates
            become Unix
            seconds), ``position``, ``rating``, ``review``, ``split``. Without ``timestamp`` and ``position`` the order of the rows is the
            order of the events.
        items: one row per item: ``item_id``, ``title`` and any attributes. ``None`` makes items from the log: its ids, its title where
            ``columns`` names it, and ``item_columns``.
        name: name of the dataset.
        columns: our name -> the name in your tables, for example ``{"user_id": "customer", "title": "product_name"}``.
        unknown_items: events of items that ``items`` lacks: ``"error"``, ``"drop"`` them, or ``"add"`` the items without a title.
        item_columns: without ``items``: columns of ``interactions`` that describe the item, by the names they have there, the title
            among them. Of several values of one item the latest is taken.
        bad_rows: rows of ``interactions`` whose user, item or time is missing or can't be read: ``"error"``, or ``"drop"`` them.
        first_line: number of the line with the first row, where ``interactions`` comes from delimited text; for messages.
        folder: where the tables came from, if a split file lies there.

    Raises:
        InputError: for input that can't be used; the message gives the value, the place and the cure.

    Ids become text, the same way in both tables: ``12``, ``12.0`` and ``"12"`` are one id; ``"012"`` is another.

    >>> log = pl.DataFrame({"user_id": [7, 7], "item_id": [2, 1], "timestamp": [20, 10]})
    >>> data = from_frames(log, pl.DataFrame({"item_id": ["1", "2"], "title": ["Soap", "Brush"]}))
    >>> data.interactions["item_id"].to_list()
    ['1', '2']
    """
    columns = dict(columns or {})
    known = {*LOG_COLUMNS, *ITEM_COLUMNS}
    log = to_polars(interactions, "interactions")
    catalogue = None if items is None else to_polars(items, "items")
    for ours, theirs in columns.items():
        if ours not in known:
            turned = f"; columns maps our name to yours, so write {{{theirs!r}: {ours!r}}}" if theirs in known else nearest(ours, known)
            raise InputError(f"columns: {ours!r} is not one of {', '.join(sorted(known))}{turned}")
        present = [*log.columns, *(catalogue.columns if catalogue is not None else ())]
        if theirs not in present:
            raise InputError(f"columns: no table has the column {theirs!r} that should be read as {ours!r}{nearest(theirs, present)}")
    checked = check_log(log, columns, bad_rows=bad_rows, first_line=first_line)
    if catalogue is None:
        checked, titles = items_of_log(checked, columns.get(c.TITLE), item_columns)
        return Dataset(checked, titles, name, folder=folder)
    if item_columns:
        raise InputError(f"item_columns = {list(item_columns)!r}: there is a table of items; leave one of the two out")
    checked, titles = match_items(checked, check_items(catalogue, columns), unknown_items)
    return Dataset(checked, titles, name, folder=folder)


def to_polars(frame: Any, where: str) -> pl.DataFrame:
    """A Polars frame from a pandas, Polars or Arrow table; ``where`` names it in messages.

    Raises:
        InputError: for other types and for two columns of one name.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    module = type(frame).__module__.split(".")[0]
    if module == "pandas" and hasattr(frame, "iloc") and hasattr(frame, "columns"):
        return _from_pandas(frame, where)
    if hasattr(frame, "__arrow_c_stream__") or module == "pyarrow":
        names = list(getattr(frame, "column_names", None) or getattr(getattr(frame, "schema", None), "names", []))
        _no_twins(names, where)
        made = pl.from_arrow(frame) if module == "pyarrow" else pl.DataFrame(frame)
        if isinstance(made, pl.DataFrame):
            return made
    hint = "; to read files use Dataset.read(path)" if isinstance(frame, str | PathLike) else ""
    raise InputError(f"{where} is of type {type(frame).__name__}; give a pandas, Polars or Arrow table{hint}")


def _no_twins(names: list[Any], where: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"{where}: the column {twice[0]!r} occurs {names.count(twice[0])} times; rename or drop one")


def _from_pandas(frame: Any, where: str) -> pl.DataFrame:
    named = [name for name in frame.index.names if name is not None]
    if named:  # a named index holds data: groupby(...) results, set_index("user_id")
        twice = [name for name in named if name in frame.columns]
        if twice:
            raise InputError(f"{where}: {twice[0]!r} is both a column and the index; call reset_index(drop=True) first")
        frame = frame.reset_index()
    _no_twins([str(name) for name in frame.columns], where)
    series: list[pl.Series] = []
    for name in frame.columns:
        values = frame[name]
        try:
            series.append(pl.Series(str(name), pl.from_pandas(values)))
        except (ValueError, TypeError, NotImplementedError, ImportError):  # ImportError: pyarrow is optional; the others are pyarrow's own
            plain = getattr(values.dtype, "kind", "O") in "biuf"
            series.append(pl.Series(str(name), values.to_numpy()) if plain else _mixed(values.to_list(), str(name), where))
    return pl.DataFrame(series)


def _mixed(values: list[Any], name: str, where: str) -> pl.Series:
    """A column of several Python types as text (whole floats as integers); gaps become null."""
    texts: list[Any] = []
    for row, value in enumerate(values):
        if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
            texts.append(None)
        elif isinstance(value, str):
            texts.append(value)
        elif isinstance(value, float) and value.is_integer():
            texts.append(str(int(value)))
        elif isinstance(value, list | tuple | dict | set | bytes):
            raise InputError(
                f"{where}.{name}: row {row} (counted from 0) holds a {type(value).__name__} among other types; store one type, text "
                "or lists of text"
            )
        else:
            texts.append(str(value))
    return pl.Series(name, texts, dtype=pl.String)


def read_tables(path: str | PathLike[str], *, format: str | None = None, **options: Any) -> Tables:  # noqa: A002
    """The raw tables of a folder, a file or a published dump, before any check; see :func:`read_dataset` for the arguments.

    Raises:
        InputError: if the path is missing, the format is unknown or can't be told, or a file is damaged.
    """
    place = Path(path)
    if not place.exists():
        raise InputError(
            f"{place} does not exist{nearest(place.name, [p.name for p in place.parent.glob('*')]) if place.parent.is_dir() else ''}"
            "; give the folder or file of a log (lexirec data convert makes a folder of your files, lexirec demo simulates one)"
        )
    chosen = format
    if format in (None, "auto"):
        chosen = "file" if suffix(place) in SPREADSHEETS else detect_format(place)  # a spreadsheet is refused by its reader
    if chosen not in FORMATS:
        raise InputError(f"format is {chosen!r}, which is not one of {', '.join(FORMATS)}{nearest(str(chosen), FORMATS)}")
    return FORMATS[chosen].read(place, **_known_options(chosen, options))


def _known_options(format: str, options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: A002
    allowed = FORMATS[format].options
    for option in options:
        if option == "reviews" and option not in allowed:
            kept = (
                "the column 'review' of your own tables is always kept (--column review=ITS_NAME reads another one as it)"
                if format in ("folder", "file")
                else f"the format {format!r} has no reviews"
            )
            raise InputError(f"{kept}; leave --reviews (reviews=...) out")
        if option not in allowed:
            has = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise InputError(f"the format {format!r} has no option {option!r}{nearest(option, allowed)}; {has}")
    return dict(options)


def read_dataset(
    path: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    name: str | None = None,
    split_file: str | None = None,
    catalogue: str | None = None,
    columns: Mapping[str, str] | None = None,
    unknown_items: str | None = None,
    item_columns: Sequence[str] = (),
    item_table: str | PathLike[str] | None = None,
    **options: Any,
) -> Dataset:
    """A dataset from a folder, a file or a published dump.

    Args:
        path: a folder with ``interactions.{parquet,csv,tsv,jsonl}`` and ``items.{...}``, one file of interactions, or a dump
            (:data:`FORMATS`).
        format: one of :data:`FORMATS`; ``None`` or ``"auto"`` tells it from the files' names.
        name: name of the dataset; by default the folder's or file's.
        split_file: name of a file in the folder (ending optional) with ``user_id``, ``item_id``, ``split``. The log is restricted to its
            events and gets
            its ``split`` column, for the split ``given``.
        catalogue: ``"all"`` keeps every item of the items table, ``"interacted"`` those with at least one event. The default is ``"all"``,
            with a
            split file ``"interacted"``, since such a file names its own catalogue.
        columns: our name -> the tables' own name.
        unknown_items: as in :func:`from_frames`; the default is ``"error"``, for published dumps ``"add"`` (their metadata is known to
            have gaps).
        item_columns: as in :func:`from_frames`.
        item_table: a further table of items; see :func:`add_item_table`.
        options: what the format takes, for example ``encoding="cp1252"``, ``bad_rows="drop"``, ``null_values=[]`` (folder, file),
            ``reviews=True`` (Amazon, Yelp, Steam).

    Raises:
        InputError: for input that can't be used; the message gives the value, the place and the cure.
    """
    tables = read_tables(path, format=format, **options)
    data = dataset_of(tables, Path(path), name=name, columns=columns, unknown_items=unknown_items, item_columns=item_columns)
    if item_table is not None:
        data = add_item_table(data, item_table)
    if split_file is not None:
        data = attach_split(data, split_file)
    if catalogue not in (None, "all", "interacted"):
        raise InputError(f"catalogue is {catalogue!r}; choose 'all' or 'interacted'{nearest(str(catalogue), ('all', 'interacted'))}")
    return interacted_only(data) if (catalogue or ("interacted" if split_file else "all")) == "interacted" else data


def dataset_of(
    tables: Tables,
    path: Path,
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    unknown_items: str | None = None,
    item_columns: Sequence[str] = (),
) -> Dataset:
    """A dataset from the tables read at ``path``; the other arguments are those of :func:`read_dataset`."""
    unknown = unknown_items or ("error" if tables.format in ("folder", "file") else "add")
    folder = path if path.is_dir() else path.parent
    label = name or (path.resolve().name if path.is_dir() else path.name.split(".")[0])
    return from_frames(
        tables.interactions,
        tables.items,
        name=label,
        columns=columns,
        unknown_items=unknown,
        item_columns=item_columns,
        folder=folder,
        bad_rows=tables.bad_rows,
        first_line=tables.first_line,
    )


def add_item_table(data: Dataset, path: str | PathLike[str]) -> Dataset:
    """Give the items the columns of a further table, such as descriptions or profiles that were written elsewhere.

    Args:
        data: whose items get the columns.
        path: a table of ``item_id`` and any other columns, one row per item, or its name in the data set's own folder. Items that it
            lacks get null; rows of other items are left out.

    Raises:
        InputError: if the table can't be read, names an item twice or none of ``data``, or has a column that the items have already.
    """
    place = Path(path)
    if not place.exists() and data.folder is not None and (data.folder / place).exists():
        place = data.folder / place
    where = place.name
    table = rename(read_table(place), where, (c.ITEM_ID,), (c.ITEM_ID,), {})
    table = table.with_columns(as_ids(table[c.ITEM_ID], where))
    twice = table[c.ITEM_ID].filter(table[c.ITEM_ID].is_duplicated()).unique(maintain_order=True)
    if len(twice):
        raise InputError(f"{where}.item_id: {count(len(twice))} ids occur more than once ({shown(twice)}); keep one row per item")
    both = [name for name in table.columns if name in data.items.columns and name != c.ITEM_ID]
    if both:
        raise InputError(f"{where}: the items have a column {both[0]!r} already; rename or drop one of them")
    if not data.items[c.ITEM_ID].is_in(table[c.ITEM_ID].implode()).any():
        raise InputError(
            f"{where}.item_id: no id is one of the {data.n_items:,} items' ({shown(table[c.ITEM_ID])} against"
            f" {shown(data.items[c.ITEM_ID])}); the table belongs to other data"
        )
    items = data.items.join(table, on=c.ITEM_ID, how="left", maintain_order="left")
    return Dataset(data.interactions, items, data.name, folder=data.folder)


def attach_split(data: Dataset, split_file: str) -> Dataset:
    """Restrict a log to the events of a split file and give it the file's ``split`` column.

    A user-item pair that occurs several times in both is matched in order: first with first.

    Raises:
        InputError: if the file is missing, names events that the log lacks, or names an event more often than the log.
    """
    if data.folder is None:
        raise InputError(
            f"the split file {split_file!r} can't be found, because the dataset was made from frames; give the log a 'split' column instead"
        )
    table = read_table(_split_path(data.folder, split_file))
    where = f"split file {split_file}"
    table = rename(table, where, (c.USER_ID, c.ITEM_ID, c.SPLIT), (c.USER_ID, c.ITEM_ID, c.SPLIT), {})
    if not table.height:
        raise InputError(f"{where}: the table has no rows; give user_id, item_id, split")
    table = check_log(table.select(c.USER_ID, c.ITEM_ID, c.SPLIT), where=where).select(c.USER_ID, c.ITEM_ID, c.SPLIT)
    blank = table[c.SPLIT].null_count()
    if blank:
        raise InputError(f"{where}: {count(blank, table.height)} events have no split; write train, valid or test")
    # An event as one integer (user, item, how often the pair occurred before), then a binary search: far cheaper than joining on strings.
    theirs = _pair_keys(_places(table[c.USER_ID], data.users.ids), _places(table[c.ITEM_ID], data.items[c.ITEM_ID]), data.n_items)
    ours = _pair_keys(data.user_index.astype(np.int64), data.item_index.astype(np.int64), data.n_items)
    repeats = max(_most(theirs), _most(ours))
    theirs, ours = (keys if repeats == 1 else np.where(keys < 0, keys, keys * repeats + _nth(keys)) for keys in (theirs, ours))
    order = np.argsort(theirs, kind="stable")
    at = np.minimum(np.searchsorted(theirs[order], ours), len(order) - 1)
    rows = theirs[order][at] == ours
    lacking = np.ones(len(theirs), dtype=bool)
    lacking[order[at[rows]]] = False
    if lacking.any():
        example = table.select(c.USER_ID, c.ITEM_ID).row(int(lacking.argmax()))
        raise InputError(
            f"{where}: {count(int(lacking.sum()), table.height)} events are not in the log (user_id, item_id: {example}); "
            "the file belongs to another version of the data, or its ids are written differently"
        )
    part = data.subset(rows)
    parts = table[c.SPLIT].gather(pl.Series(order[at[rows]]))
    return Dataset(part.interactions.with_columns(parts), part.items, data.name, folder=data.folder)


def _places(values: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
    """Place of each value among ``ids``, ``(n,)`` int64; -1 where it is not there."""
    lookup = pl.DataFrame({"id": ids, "at": pl.Series(np.arange(len(ids), dtype=np.int64))})
    return pl.DataFrame({"id": values}).join(lookup, on="id", how="left", maintain_order="left")["at"].fill_null(-1).to_numpy()


def _pair_keys(users: NDArray[np.int64], items: NDArray[np.int64], n_items: int) -> NDArray[np.int64]:
    """One integer per user-item pair, -1 where either is unknown."""
    return np.where((users < 0) | (items < 0), -1, users * n_items + items)


def _most(keys: NDArray[np.int64]) -> int:
    """How often the most frequent known pair occurs."""
    known = np.sort(keys[keys >= 0])
    starts = np.flatnonzero(np.concatenate([[True], known[1:] != known[:-1], [True]]))
    return int(np.diff(starts).max()) if len(known) else 1


def _nth(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each key has occurred before, in row order."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
    place = np.arange(len(keys))
    nth = np.empty(len(keys), dtype=np.int64)
    nth[order] = place - np.maximum.accumulate(np.where(first, place, 0))
    return nth


def _split_path(folder: Path, split_file: str) -> Path:
    if Path(split_file).name != split_file:
        raise InputError(f"the split file {split_file!r} is a path; give the name of a file in {folder}")
    if (folder / split_file).is_file():
        return folder / split_file
    found = sorted(p for p in folder.glob(f"{split_file}.*") if is_table(p))
    if len(found) != 1:
        tables = sorted(p.name for p in folder.iterdir() if is_table(p))
        problem = (
            f"there are {len(found)} files of that name, give the ending"
            if found
            else f"there is no such table{nearest(split_file, tables)}"
        )
        raise InputError(f"the split file {split_file!r} in {folder}: {problem}; the tables are {', '.join(tables) or 'none'}")
    return found[0]
