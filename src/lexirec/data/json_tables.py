"""Tables from JSON and JSON lines, dumps in Python notation among them."""

import ast
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from lexirec.data.text_files import DAMAGED_GZIP, damaged_gzip, first_line, not_utf8, open_binary
from lexirec.errors import InputError, nearest
from lexirec.progress import track

BLOCK: Final = 64 << 20
"""Bytes of JSON lines that are parsed at once; bounds memory on dumps of many GB."""
BOM: Final = b"\xef\xbb\xbf"
"""What some programs put before UTF-8."""


def read_json(path: Path) -> pl.DataFrame:
    """A table from JSON or JSON lines, with the types that they have.

    Raises:
        InputError: naming the line that can't be read, or a gzip file that is cut off.
    """
    try:
        with open_binary(path) as handle:
            start = handle.read(64)
        marked = start.startswith(BOM)
        if start.removeprefix(BOM).lstrip()[:1] == b"[":
            with open_binary(path) as handle:
                return pl.read_json(handle.read().removeprefix(BOM), infer_schema_length=None)
        if marked or path.name.lower().endswith(".gz"):
            with open_binary(path) as handle:
                return pl.read_ndjson(io.BytesIO(handle.read().removeprefix(BOM)), infer_schema_length=None)
        return pl.read_ndjson(path, infer_schema_length=None)
    except DAMAGED_GZIP as error:
        raise damaged_gzip(path, error) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _bad_json(path) or InputError(f"{path} is not readable as JSON ({first_line(error)}); write it again") from error


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
    except DAMAGED_GZIP as error:
        raise damaged_gzip(path, error) from error
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


__all__ = ["read_json", "read_json_lines"]
