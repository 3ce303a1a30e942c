"""One table from one file: CSV, TSV, JSON lines (plain or .gz), JSON, Parquet, Arrow; damaged files get a clear error.

Text formats are read without guessing types: an id ``00123`` stays ``00123``. Types are given later, by column, in
:mod:`lexirec.data.checks`.
"""

import ast
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from lexirec.data.messages import DataWarning, warn
from lexirec.errors import InputError, nearest
from lexirec.progress import track

SUFFIXES: Final = (".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".arrow", ".feather", ".ipc")
BLOCK: Final = 64 << 20
"""Bytes of JSON lines that are parsed at once; bounds memory on dumps of many GB."""

_DAMAGED_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)


def suffix(path: Path) -> str:
    """Lower-case ending without ``.gz``: ``".csv"`` for ``log.CSV.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def is_table(path: Path) -> bool:
    """Whether the ending is one that :func:`read_table` reads."""
    return suffix(path) in SUFFIXES


def read_table(path: Path, *, encoding: str = "utf-8", separator: str | None = None, names: Sequence[str] | None = None) -> pl.DataFrame:
    """Read one table by its ending.

    Args:
        path: a file ending in one of :data:`SUFFIXES`; text formats may end in ``.gz`` besides.
        encoding: of CSV and TSV, for example ``"latin-1"``.
        separator: of CSV and TSV; by default a tab for ``.tsv``, else a comma (or ``;`` where the header has no comma).
        names: column names for a CSV or TSV without a header line.

    Raises:
        InputError: if the file is missing, empty, cut off, damaged, not UTF-8 or has two columns of one name.
    """
    kind = suffix(path)
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(f"{path} does not exist{nearest(path.name, beside)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); write the table again")
    if kind in (".parquet", ".pq"):
        return _binary(path, "Parquet")
    if kind in (".arrow", ".feather", ".ipc"):
        return _binary(path, "Arrow")
    if kind in (".jsonl", ".ndjson", ".json"):
        return _json(path)
    if kind in (".csv", ".tsv"):
        return _delimited(path, encoding, separator or ("\t" if kind == ".tsv" else None), names)
    raise InputError(
        f"{path}: files ending in '{kind}' are not read; the endings are {', '.join(SUFFIXES)} (.csv, .tsv and JSON also with .gz)"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]


def _binary(path: Path, kind: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(path) if kind == "Parquet" else pl.read_ipc(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path} is not a readable {kind} file ({_first_line(error)}); it is cut off or damaged, write or fetch it again"
        ) from error


def open_binary(path: Path) -> IO[bytes]:
    """Open a plain or gzip file for reading bytes."""
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def _damaged_gzip(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} is a cut off or damaged gzip file ({_first_line(error)}); fetch it again")


def not_utf8(path: Path, cure: str = "pass encoding='latin-1' (lexirec data convert --encoding latin-1)") -> InputError | None:
    """The error that names the first line of ``path`` that is not UTF-8, or ``None`` if all are."""
    with open_binary(path) as handle:
        for number, line in enumerate(handle, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return InputError(
                    f"{path}: line {number} is not UTF-8 (byte 0x{line[error.start]:02x} at place {error.start + 1} of the line); "
                    f"convert the file (iconv -f latin1 -t utf-8) or {cure}"
                )
    return None


def _delimited(path: Path, encoding: str, separator: str | None, names: Sequence[str] | None) -> pl.DataFrame:
    try:
        with open_binary(path) as handle:
            first = handle.readline().decode(encoding, errors="replace").removeprefix("\ufeff").rstrip("\r\n")
    except _DAMAGED_GZIP as error:
        raise _damaged_gzip(path, error) from error
    except LookupError as error:
        raise InputError(f"encoding is {encoding!r}, which Python does not know; try 'utf-8' or 'latin-1'") from error
    if separator is None:
        separator = ","
        if "," not in first and ";" in first:
            separator = ";"
            warn(f"{path}: the header has ';' and no ',', so ';' separates the columns", DataWarning)
    if names is None:
        header = next(csv.reader([first], delimiter=separator), [])
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise InputError(f"{path}: the column {twice[0]!r} occurs {header.count(twice[0])} times in the header; rename or drop one")
    try:
        return pl.read_csv(
            path,
            separator=separator,
            infer_schema=False,
            encoding="utf8" if encoding.lower().replace("-", "") == "utf8" else encoding,
            has_header=names is None,
            new_columns=None if names is None else list(names),
        )
    except pl.exceptions.NoDataError as error:
        raise InputError(f"{path} is empty; write the table again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not {encoding} ({error}); name its encoding (lexirec data convert --encoding NAME)") from error
    except (pl.exceptions.PolarsError, OSError, *_DAMAGED_GZIP) as error:
        try:
            unreadable = not_utf8(path)
        except _DAMAGED_GZIP as damage:
            raise _damaged_gzip(path, damage) from error
        raise unreadable or InputError(
            f"{path} is not a regular table with the separator {separator!r} ({_first_line(error)}); "
            "look for a quote that is never closed, a line with too many values, or another separator"
        ) from error


def _json(path: Path) -> pl.DataFrame:
    try:
        with open_binary(path) as handle:
            start = handle.read(64).lstrip()[:1]
        if start == b"[":
            with open_binary(path) as handle:
                return pl.read_json(handle.read(), infer_schema_length=None)
        if path.name.lower().endswith(".gz"):
            with open_binary(path) as handle:
                return pl.read_ndjson(io.BytesIO(handle.read()), infer_schema_length=None)
        return pl.read_ndjson(path, infer_schema_length=None)
    except _DAMAGED_GZIP as error:
        raise _damaged_gzip(path, error) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _bad_json(path) or InputError(f"{path} is not readable as JSON ({_first_line(error)}); write it again") from error


def _bad_json(path: Path) -> InputError | None:
    """The error that names the first line that is not a JSON object."""
    unreadable = not_utf8(path, "write it as UTF-8, as JSON asks")
    if unreadable:
        return unreadable
    with open_binary(path) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                try:
                    json.loads(line)
                except (ValueError, RecursionError) as error:
                    return _line_error(path, number, line, str(error), whole=line.endswith(b"\n"))
    return None


def _line_error(path: Path, number: int, line: bytes, reason: str, whole: bool) -> InputError:
    shown = line[:60].decode("utf-8", errors="replace").strip()
    cure = "mend or remove the line" if whole else "the file looks cut off, fetch or write it again"
    if line.lstrip()[:2] in (b"{'", b"{u"):
        cure += "; lines in Python notation are read by the formats amazon-2014 and steam"
    return InputError(f"{path}: line {number} is not JSON ({reason}): {shown!r}; {cure}")


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Blocks of whole lines with the number of each block's first line."""
    number = 1
    with open_binary(path) as handle:
        while block := handle.read(BLOCK):
            block += handle.readline()
            yield number, block
            number += block.count(b"\n")


def read_json_lines(path: Path, fields: Sequence[str], *, progress: bool = True) -> pl.DataFrame:
    """Chosen fields of a dump of JSON lines, all as text; lists and objects come as their JSON.

    Lines in Python notation (``{'asin': 'B001'}``, as in the Amazon 2014 and Steam dumps) are parsed with ``ast.literal_eval``, which runs
    no code.

    Args:
        path: JSON lines, plain or gzip.
        fields: names to keep; a field that a line lacks is null.
        progress: show a bar on stderr.

    Returns:
        One row per line, the columns in the order of ``fields``, all strings.

    Raises:
        InputError: naming the line that can't be read, or a gzip file that is cut off.

    Memory: one block of 64 MB and the kept fields.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist{nearest(path.name, [p.name for p in path.parent.glob('*')])}")
    schema = dict.fromkeys(fields, pl.String)
    frames, literal = [], False
    try:
        for number, block in track(_blocks(path), f"reading {path.name}", enabled=progress):
            if not literal:
                try:
                    frames.append(pl.read_ndjson(io.BytesIO(block), schema=schema))
                    continue
                except pl.exceptions.PolarsError:
                    literal = True
            frames.append(pl.DataFrame(_parsed(path, number, block, fields), schema=schema, orient="row"))
    except _DAMAGED_GZIP as error:
        raise _damaged_gzip(path, error) from error
    if not frames:
        raise InputError(f"{path} is empty; fetch it again")
    return pl.concat(frames)


def _parsed(path: Path, number: int, block: bytes, fields: Sequence[str]) -> list[tuple[str | None, ...]]:
    rows = []
    for at, line in enumerate(block.splitlines(keepends=True), number):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: line {at} is not UTF-8 (byte 0x{line[error.start]:02x} at place {error.start + 1} of the line); convert the file"
            ) from error
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            try:
                value = ast.literal_eval(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                raise _line_error(path, at, line, str(error), whole=line.endswith(b"\n")) from error
        if not isinstance(value, dict):
            raise InputError(f"{path}: line {at} is not an object but {type(value).__name__}: {text[:60]!r}; mend or remove the line")
        rows.append(tuple(_text(value.get(field)) for field in fields))
    return rows


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else str(value)


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
    except (pl.exceptions.PolarsError, OSError, *_DAMAGED_GZIP) as error:
        try:
            if not_utf8(path) is None:
                raise InputError(f"{path} is not a readable text file ({_first_line(error)}); fetch it again") from error
        except _DAMAGED_GZIP as damage:
            raise _damaged_gzip(path, damage) from error
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
