"""Our own layout: a folder with interactions and items, or one table."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lexirec.data.formats.base import Tables, register
from lexirec.data.messages import warn
from lexirec.data.tables import NULL_VALUES, SPREADSHEETS, is_table, line_of_first_row, read_table, suffix
from lexirec.errors import InputError, nearest


@register("folder", "interactions.*")
def folder(
    path: Path,
    encoding: str = "utf-8",
    separator: str | None = None,
    null_values: Sequence[str] = NULL_VALUES,
    bad_rows: str = "error",
) -> Tables:
    """A folder with interactions.{parquet,csv,tsv,txt,jsonl} and items.{...}, users.{...} where there are any."""
    tables: dict[str, pl.DataFrame | None] = {}
    first_line = None
    for stem in ("interactions", "items", "users"):
        beside = sorted(p for p in path.iterdir() if p.name.lower().startswith(f"{stem}.")) if path.is_dir() else []
        found = [p for p in beside if is_table(p)] or [p for p in beside if suffix(p) in SPREADSHEETS]
        if len(found) > 1:
            raise InputError(f"{path} has {', '.join(p.name for p in found)}: which is the table of {stem}? Keep one")
        if not found and stem == "interactions":
            names = sorted(p.name for p in path.iterdir()) if path.is_dir() else [path.name]
            near = nearest("interactions", [n.split(".")[0] for n in names])
            raise InputError(
                f"{path} has no interactions.parquet, .csv, .tsv or .jsonl{near}; it holds {', '.join(names[:8]) or 'nothing'}"
            )
        tables[stem] = read_table(found[0], encoding=encoding, separator=separator, null_values=null_values) if found else None
        if stem == "interactions":
            first_line = line_of_first_row(found[0], encoding, None)
    if tables["items"] is None:
        others = [p.name for p in sorted(path.iterdir()) if is_table(p) and p.name.split(".")[0].lower() not in tables]
        if others:
            be = "is" if len(others) == 1 else "are"
            warn(f"{path} has no table of items, and {', '.join(others[:5])} {be} not read; name it items.csv")
    return Tables(tables["interactions"], tables["items"], tables["users"], bad_rows=bad_rows, first_line=first_line)  # type: ignore[arg-type]


@register("file")
def file(
    path: Path,
    items: str | None = None,
    encoding: str = "utf-8",
    separator: str | None = None,
    names: Sequence[str] | None = None,
    null_values: Sequence[str] = NULL_VALUES,
    bad_rows: str = "error",
) -> Tables:
    """One table of interactions; items=PATH names the table of items, names=[...] the columns of a file without header."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the path of one table, or the format 'folder'")
    log = read_table(path, encoding=encoding, separator=separator, names=names, null_values=null_values)
    catalogue = read_table(Path(items), encoding=encoding, separator=separator, null_values=null_values) if items else None
    return Tables(log, catalogue, bad_rows=bad_rows, first_line=line_of_first_row(path, encoding, names))
