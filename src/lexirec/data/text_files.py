"""Text files as bytes: plain or gzip, in which encoding, and what is wrong with them."""

import codecs
import gzip
import re
import zlib
from itertools import chain
from pathlib import Path
from typing import IO, Final

from lexirec.errors import InputError

DAMAGED_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
"""What reading a cut off or damaged gzip file raises."""
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""What a byte-order mark at the beginning of a file says of its encoding."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 200 characters."""
    return str(error).strip().split("\n")[0][:200]


def open_binary(path: Path) -> IO[bytes]:
    """Open a plain or gzip file for reading bytes."""
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def damaged_gzip(path: Path, error: BaseException) -> InputError:
    """The error for one of :data:`DAMAGED_GZIP`."""
    return InputError(f"{path} is a cut off or damaged gzip file ({first_line(error)}); fetch it again")


def not_utf8(path: Path, cure: str = "pass encoding='{0}' (--encoding {0})") -> InputError | None:
    """The error that names the first line of ``path`` that is not UTF-8, or ``None`` if all are.

    Where a byte of 0x80 to 0x9F occurs, ``{0}`` in ``cure`` is cp1252 (Windows), which has letters and the euro sign there; else latin-1.
    """
    with open_binary(path) as handle:
        for number, line in enumerate(handle, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                windows = any(re.search(rb"[\x80-\x9f]", part) for part in chain([line], handle))
                likely = "cp1252" if windows else "latin-1"
                return InputError(
                    f"{path}: line {number} is not UTF-8 (byte 0x{line[error.start]:02x} at place {error.start + 1} of the line); "
                    f"convert the file (iconv -f {'cp1252' if windows else 'latin1'} -t utf-8) or {cure.format(likely)}"
                )
    return None


def codec_of(path: Path, encoding: str) -> str:
    """The codec of a text file: what its byte-order mark says, else ``encoding``, where UTF-16 without a mark is Windows' little-endian."""
    with open_binary(path) as handle:
        start = handle.read(3)
    marked = [codec for mark, codec in _MARKS.items() if start.startswith(mark)]
    named = codecs.lookup(encoding).name
    return marked[0] if marked else "utf-16-le" if named == "utf-16" else named


def text_lines(path: Path, encoding: str = "utf-8") -> list[str]:
    """The lines of a text file that hold anything, without white space around them.

    Args:
        path: plain or gzip.
        encoding: for example ``"cp1252"``; a byte-order mark in the file wins.

    Raises:
        InputError: if it is neither in this encoding nor has a byte-order mark, or Python does not know the encoding.
    """
    try:
        with open_binary(path) as handle:
            text = handle.read().decode(codec_of(path, encoding)).removeprefix("\ufeff")
    except LookupError as error:
        raise InputError(f"encoding is {encoding!r}, which Python does not know; try 'utf-8' or 'latin-1'") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path, "name its encoding") or InputError(
            f"{path} is not the text that its byte-order mark says ({error})"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


__all__ = ["DAMAGED_GZIP", "codec_of", "damaged_gzip", "first_line", "not_utf8", "open_binary", "text_lines"]
