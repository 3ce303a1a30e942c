"""One table from one file: CSV, TSV, text, JSON lines (plain or .gz), JSON, Parquet, Arrow; damaged files get a clear error.

Text formats are read without guessing types: an id ``00123`` stays ``00123``. Types are given later, by column, in
:mod:`lexirec.data.checks`.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from lexirec.data.json_tables import read_json
from lexirec.data.messages import DataWarning, count, warn
from lexirec.data.text_files import DAMAGED_GZIP, codec_of, damaged_gzip, first_line, not_utf8, open_binary
from lexirec.errors import InputError, nearest

SUFFIXES: Final = (".parquet", ".pq", ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json", ".arrow", ".feather", ".ipc")
DELIMITED: Final = (".csv", ".tsv", ".txt")
SPREADSHEETS: Final = (".xlsx", ".xls", ".xlsm", ".ods")
NULL_VALUES: Final = ("NULL", "null", "None", "NaN", "nan", "N/A", "n/a", "#N/A", "\\N")
"""Words that stand for a missing value in delimited text, as databases, pandas and Excel write them."""
_PACKED: Final = {b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"7z\xbc\xaf": "7z"}
"""How files begin that are packed in another way than gzip."""
_SEP_LINE: Final = r'"?sep=(.)"?'
"""The line that Excel writes and reads before the header."""
_INDEX: Final = r"(Unnamed: \d+)?"
"""Name of a column that pandas makes of a frame's index."""


def suffix(path: Path) -> str:
    """Lower-case ending without ``.gz``: ``".csv"`` for ``log.CSV.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def is_table(path: Path) -> bool:
    """Whether the ending is one that :func:`read_table` reads."""
    return suffix(path) in SUFFIXES


def read_table(
    path: Path,
    *,
    encoding: str = "utf-8",
    separator: str | None = None,
    names: Sequence[str] | None = None,
    null_values: Sequence[str] = NULL_VALUES,
) -> pl.DataFrame:
    """Read one table by its ending.

    Args:
        path: a file ending in one of :data:`SUFFIXES`; text formats may end in ``.gz`` besides.
        encoding: of CSV, TSV and TXT, for example ``"cp1252"``; a byte-order mark in the file wins.
        separator: of CSV, TSV and TXT; by default a tab for ``.tsv``, else what Excel's ``sep=`` line or the header shows.
        names: column names for a CSV, TSV or TXT without a header line.
        null_values: words that stand for a missing value in CSV, TSV and TXT; an empty list keeps them all as text.

    Raises:
        InputError: if the file is missing, empty, cut off, damaged, a spreadsheet, not UTF-8 or has two columns of one name.
    """
    kind = suffix(path)
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path} does not exist{nearest(path.name, beside)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); write the table again")
    if kind not in SPREADSHEETS:  # some of these are zip files
        refuse_packed(path)
    if kind in (".parquet", ".pq"):
        return _binary(path, "Parquet")
    if kind in (".arrow", ".feather", ".ipc"):
        return _binary(path, "Arrow")
    if kind in (".jsonl", ".ndjson", ".json"):
        return read_json(path)
    if kind in DELIMITED:
        table = _delimited(path, encoding, separator, names)
        return _nulled(table, path, [null_values] if isinstance(null_values, str) else list(null_values))
    if kind in SPREADSHEETS:
        raise InputError(
            f"{path} is a spreadsheet, which is not read; save it as 'CSV UTF-8', or read it with pandas.read_excel and pass the frames"
            " to Dataset.from_frames"
        )
    raise InputError(
        f"{path}: files ending in '{kind}' are not read; the endings are {', '.join(SUFFIXES)} (.csv, .tsv, .txt and JSON also with .gz)"
    )


def refuse_packed(path: Path) -> None:
    """Refuse a file that is packed in a way which is not read, whatever its name.

    Raises:
        InputError: naming the way and the cure.
    """
    with path.open("rb") as handle:
        start = handle.read(8)
    kind = next((name for mark, name in _PACKED.items() if start.startswith(mark)), None)
    if kind is not None:
        raise InputError(f"{path} is packed by {kind}, which is not read; unpack it first, or pack it by gzip (.csv.gz), which is")


def _binary(path: Path, kind: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(path) if kind == "Parquet" else pl.read_ipc(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path} is not a readable {kind} file ({first_line(error)}); it is cut off or damaged, write or fetch it again"
        ) from error


def _head(path: Path, encoding: str) -> tuple[str, str | None, int]:
    """First line of a delimited file, the separator that a ``sep=`` line before it names, and how many lines stand before it (0 or 1)."""
    try:
        with (
            open_binary(path) as handle,
            io.TextIOWrapper(handle, encoding=codec_of(path, encoding), errors="replace", newline="\n") as text,
        ):
            lines = [text.readline().rstrip("\r\n"), text.readline().rstrip("\r\n")]
    except DAMAGED_GZIP as error:
        raise damaged_gzip(path, error) from error
    except LookupError as error:
        raise InputError(f"encoding is {encoding!r}, which Python does not know; try 'utf-8' or 'latin-1'") from error
    if "\0" in lines[0]:
        raise InputError(
            f"{path}: line 1 holds zero bytes, as UTF-16 without a byte-order mark does; pass encoding='utf-16-le' or 'utf-16-be'"
        )
    named = re.fullmatch(_SEP_LINE, lines[0])
    return (lines[1], named[1], 1) if named else (lines[0], None, 0)


def line_of_first_row(path: Path, encoding: str, names: Sequence[str] | None) -> int | None:
    """Number, from 1, of the line with the first row of a delimited file; ``None`` for other formats."""
    return _head(path, encoding)[2] + (2 if names is None else 1) if suffix(path) in DELIMITED else None


def _separator(path: Path, first: str) -> str:
    """The separator that the first line shows most of; of equals a comma in ``.csv``, a tab in ``.txt``; always a tab in ``.tsv``."""
    if suffix(path) == ".tsv":
        return "\t"
    order = ",;\t|" if suffix(path) == ".csv" else "\t,;|"
    found = max(order, key=first.count)  # of equals the first
    if found != order[0]:
        less = f"no {order[0]!r}" if order[0] not in first else f"fewer {order[0]!r}"
        warn(f"{path}: the header has {found!r} and {less}, so {found!r} separates the columns", DataWarning)
    return found


def _header(path: Path, first: str, separator: str) -> list[str]:
    """Names in the header, each once; index columns may have none."""
    try:
        header = next(csv.reader([first], delimiter=separator), [])
    except (csv.Error, TypeError) as error:  # TypeError: a separator of several characters
        raise InputError(
            f"{path}: the header {first[:60]!r} can't be split at {separator!r} ({error}); give the separator= and encoding= of the file"
        ) from error
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} occurs {header.count(twice[0])} times in the header; rename or drop one")
    return header


def _delimited(path: Path, encoding: str, separator: str | None, names: Sequence[str] | None) -> pl.DataFrame:
    first, said, skipped = _head(path, encoding)
    separator, codec = separator or said or _separator(path, first), codec_of(path, encoding)
    header = _header(path, first, separator) if names is None else list(names)
    try:
        table = pl.read_csv(
            _as_utf8(path, codec),
            separator=separator,
            infer_schema=False,
            has_header=names is None,
            new_columns=None if names is None else list(names),
            skip_rows=skipped,
        )
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{path} is empty; write the table again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {codec} ({error}); name its encoding (--encoding NAME)") from error
    except (pl.exceptions.PolarsError, OSError, *DAMAGED_GZIP) as error:
        try:
            unreadable = not_utf8(path) if codec.startswith("utf-8") else None
        except DAMAGED_GZIP as damage:
            raise damaged_gzip(path, damage) from error
        raise unreadable or InputError(
            f"{path} is not a regular table with the separator {separator!r} ({first_line(error)}); "
            "look for a quote that is never closed, a line with too many values, or another separator"
        ) from error
    return _without_index(_without_blanks(table), path, header)


def _without_blanks(table: pl.DataFrame) -> pl.DataFrame:
    """Without empty lines at the end, and without blanks around names (``user_id, item_id``) where these stay different."""
    empty = table.select(pl.all_horizontal(pl.all().is_null())).to_series() if table.width else pl.Series([], dtype=pl.Boolean)
    if len(empty) and empty[-1] and not empty.all():
        table = table.head(table.height - int(empty.reverse().arg_min() or 0))
    stripped = [name.strip() for name in table.columns]
    return table.rename(dict(zip(table.columns, stripped, strict=True))) if len(set(stripped)) == table.width else table


def _as_utf8(path: Path, codec: str) -> Path | bytes:
    """What Polars reads: the file itself where it is UTF-8, else its text in UTF-8."""
    if codec.startswith("utf-8"):
        return path
    with open_binary(path) as handle:
        text = handle.read().decode(codec).removeprefix("\ufeff")
    odd = re.search("[\x80-\x9f]", text)
    if odd:
        warn(
            f"{path}: line {text.count(chr(10), 0, odd.start()) + 1} holds the control character {odd[0]!r}, read as {codec}; the file is"
            " most likely cp1252 (Windows), which has the euro sign and quotes there: pass encoding='cp1252'"
            " (--encoding cp1252)"
        )
    return text.encode()


def _without_index(table: pl.DataFrame, path: Path, header: Sequence[str]) -> pl.DataFrame:
    """Without the columns of an index, which makes copies of rows look different; told by the names in the file's header."""
    if len(header) != table.width:  # a header of several lines, or none
        return table
    index = {ours: theirs for ours, theirs in zip(table.columns, header, strict=True) if re.fullmatch(_INDEX, theirs.strip())}
    if index:
        names = ", ".join(map(repr, index.values()))
        warn(f"{path}: columns without a name ({names}) are taken for a frame's index and left out; name them in the header to keep them")
    return table.drop(list(index))


def _nulled(table: pl.DataFrame, path: Path, words: list[str]) -> pl.DataFrame:
    """Words for a missing value as null, with a warning that names the columns."""
    hits = table.select(pl.all().is_in(words).sum()).row(0) if words and table.width else ()
    found = {name: n for name, n in zip(table.columns, hits, strict=False) if n}
    if not found:
        return table
    counts = ", ".join(f"{name} {count(n, table.height)}" for name, n in found.items())
    warn(f'{path}: words such as NULL and n/a are read as missing values ({counts}); null_values=[] keeps them (--null-values "")')
    return table.with_columns(pl.when(~pl.col(name).is_in(words)).then(pl.col(name)).alias(name) for name in found)


def read_lines(path: Path, separator: str, names: Sequence[str]) -> pl.DataFrame:
    """A table without header, quotes or types whose separator may be longer than one character (``::`` of MovieLens).

    Files that are not UTF-8 are read as Latin-1, as GroupLens writes them.

    Raises:
        InputError: if the file is missing or empty, or a line has fewer or more values than ``names``.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist{nearest(path.name, [p.name for p in path.parent.glob('*')])}")
    options: dict[str, Any] = {"separator": "\x01", "has_header": False, "quote_char": None, "new_columns": ["line"], "infer_schema": False}
    try:
        lines = pl.read_csv(path, **options)
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{path} is empty; fetch it again") from error
    except (pl.exceptions.PolarsError, OSError, *DAMAGED_GZIP) as error:
        try:
            if not_utf8(path) is None:
                raise InputError(f"{path} is not a readable text file ({first_line(error)}); fetch it again") from error
        except DAMAGED_GZIP as damage:
            raise damaged_gzip(path, damage) from error
        lines = pl.read_csv(path, encoding="latin-1", **options)
    line = lines["line"].str.strip_chars_end("\r")
    found = line.str.count_matches(separator, literal=True)
    wrong = (found != len(names) - 1).fill_null(True)
    if wrong.any():
        at = int(wrong.arg_max() or 0)
        raise InputError(
            f"{path}: line {at + 1} has {int(found[at] or 0) + 1} values separated by {separator!r}, not {len(names)} "
            f"({', '.join(names)}): "
            f"{str(line[at])[:60]!r}; mend the line or name another format"
        )
    parts = line.str.split_exact(separator, len(names) - 1).struct.rename_fields(list(names))
    return parts.struct.unnest()
