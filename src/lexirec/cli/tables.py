"""Tables that a command takes beside a run: read alike, with one set of options."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from lexirec.data.messages import warn
from lexirec.errors import InputError, nearest

Columns = Annotated[
    list[str],
    typer.Option("--column", help="ours=theirs, such as item_id=sku, in these tables. Repeatable."),
]
Encoding = Annotated[str, typer.Option("--encoding", help="Of CSV, TSV and TXT tables, for example cp1252.")]
NullValues = Annotated[
    str | None,
    typer.Option("--null-values", help='Words that stand for a missing value in these tables, with commas; "" keeps all as text.'),
]


class TableReader:
    """The tables of a question, read alike: their names of our columns, their encoding, their words for a missing value.

    Args:
        column: of ``--column``, ``ours=theirs``.
        encoding: of delimited text.
        null_values: words with commas; ``None``: the usual ones.
    """

    def __init__(self, column: Sequence[str] = (), encoding: str = "utf-8", null_values: str | None = None) -> None:
        from lexirec.cli.data import _pairs, _words

        self.theirs = {ours: str(theirs) for ours, theirs in _pairs(list(column), "--column").items()}
        self.options: dict[str, Any] = {"encoding": encoding}
        if null_values is not None:
            self.options["null_values"] = _words(null_values)
        self.columns: dict[str, list[str]] = {}

    def read(self, file: Path, key: str) -> pl.DataFrame:
        """A table under our names; common names of its ``key`` are read as where a log is read."""
        from lexirec.data.checks import rename
        from lexirec.data.tables import read_table

        table = read_table(file, **self.options)
        self.columns[str(file)] = table.columns
        return rename(table, file.name, (key, *(ours for ours in self.theirs if ours != key)), (), self.theirs)

    def ids(self, file: Path, column: str) -> list[str]:
        """Ids of a table, or of a text file with one per line.

        Raises:
            InputError: if the table has no such column.
        """
        from lexirec.data.checks import as_ids
        from lexirec.data.tables import is_table, suffix
        from lexirec.data.text_files import text_lines

        if not file.exists():
            all_of = " (did you mean all?)" if column == "user_id" and str(file).lower() in ("al", "alle", "any", "everyone", "*") else ""
            raise InputError(f"{file} does not exist{all_of}; give a table with {column}, or a text file with an id per line")
        if not is_table(file) or suffix(file) == ".txt":
            lines = text_lines(file, self.options["encoding"])
            names = re.split(r"[\t,;|]", lines[0]) if lines else []
            if len(names) == 1 or not {column, self.theirs.get(column)} & {name.strip().strip('"') for name in names}:
                found = lines[1:] if lines[:1] == [column] else lines
                if not found:
                    warn(f"{file} names nothing: there is no id in it")
                return found
        table = self.read(file, column)
        if column not in table.columns:
            lines_too = "; ids alone, one per line, go into a .txt file" if table.width == 1 else ""
            raise InputError(
                f"{file} has no column {column!r}{nearest(column, table.columns)}; it has {', '.join(table.columns)}; name yours with"
                f" --column {column}=YOURS{lines_too}"
            )
        if not table.height:
            warn(f"{file} names nothing: there is no row in it")
        return as_ids(table[column], str(file)).unique(maintain_order=True).to_list()

    def check(self) -> None:
        """After all tables were read.

        Raises:
            InputError: for a ``--column`` whose name none of them has.
        """
        there = [name for columns in self.columns.values() for name in columns]
        for ours, theirs in self.theirs.items():
            if theirs not in there:
                of = f"none of {', '.join(self.columns)} has" if self.columns else "it is for the tables of --items, --users, --candidates"
                raise InputError(
                    f"--column {ours}={theirs}: "
                    + (f"{of} a column {theirs!r}{nearest(theirs, there)}" if self.columns else f"{of} and --exclude; give one")
                )


__all__ = ["Columns", "Encoding", "NullValues", "TableReader"]
