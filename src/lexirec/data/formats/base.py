"""What a format is, how formats are told apart, and how their files are found."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import polars as pl

from lexirec import columns as c
from lexirec.data.tables import is_table, refuse_packed
from lexirec.errors import InputError, nearest


@dataclass(frozen=True)
class Tables:
    """Raw tables of one source.

    Attributes:
        interactions, items, users: events, catalogue and people; ``None`` where the source has none.
        format: the format's name.
        bad_rows: what to do with rows that lack a user, an item or a time: ``"error"`` or ``"drop"``.
        first_line: number of the line with the first event, where they come from delimited text; for messages.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    format: str = ""
    bad_rows: str = "error"
    first_line: int | None = None


@dataclass(frozen=True)
class Format:
    """A way to read a source.

    Attributes:
        name: as given to ``format=``.
        function: ``(path, **options) -> Tables``; its docstring's first line describes the layout.
        fits: whether a folder's file names look like this format.
        alone: patterns of the file whose path alone tells the format; none where it can't.
    """

    name: str
    function: Callable[..., Tables]
    fits: Callable[[Sequence[str]], bool]
    alone: Sequence[str] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that the format takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]

    @property
    def layout(self) -> str:
        """One line on the files."""
        return (self.function.__doc__ or "").strip().split("\n")[0]

    def read(self, path: Path, **options: Any) -> Tables:
        """Read the source at ``path``."""
        return replace(self.function(path, **options), format=self.name)


FORMATS: Final[dict[str, Format]] = {}
"""Every format by its name."""


def register(name: str, *patterns: str, alone: bool = False, without: str = "") -> Callable[[Callable[..., Tables]], Callable[..., Tables]]:
    """Register a format; it is told by a folder in which every pattern (``a|b``: either) matches a file and ``without`` matches none.

    Args:
        name: as users write it.
        patterns: of the files of a folder.
        alone: a file that fits the first pattern tells the format when its path is given in place of the folder's.
        without: files that another format has.
    """

    def fits(names: Sequence[str]) -> bool:
        def some(pattern: str) -> bool:
            return any(fnmatch(n, p) for n in names for p in pattern.split("|"))

        return bool(patterns) and all(some(p) for p in patterns) and not (without and some(without))

    def add(function: Callable[..., Tables]) -> Callable[..., Tables]:
        FORMATS[name] = Format(name, function, fits, tuple(patterns[0].split("|")) if alone else ())
        return function

    return add


def detect_format(path: Path) -> str:
    """The one format that fits the file names.

    Raises:
        InputError: if no format fits, or several do.
    """
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        fitting = [f.name for f in FORMATS.values() if f.name != "file" and f.fits(names)]
        if "folder" in fitting:
            return "folder"
    else:
        names = [path.name]
        fitting = [f.name for f in FORMATS.values() if any(fnmatch(path.name, p) for p in f.alone)]
        if not fitting and is_table(path):
            return "file"
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "nothing"
    if fitting:
        raise InputError(f"{path} could be {' or '.join(fitting)} ({listed}); name the format (lexirec data convert --format NAME)")
    if path.is_file():
        refuse_packed(path)
    near = nearest("interactions", [n.split(".")[0] for n in names])
    raise InputError(
        f"{path} holds {listed}: no interactions.parquet, .csv, .tsv or .jsonl{near}, and no known dump; rename the files, or name "
        f"the format: {', '.join(FORMATS)}"
    )


def in_folder(path: Path, *patterns: str, need: bool = True) -> Path | None:
    """The one file of the folder ``path`` (or of the folder of the file ``path``) that fits a pattern."""
    folder = path if path.is_dir() else path.parent
    for pattern in patterns:
        found = sorted(p for p in folder.glob(pattern) if p.is_file())
        if len(found) > 1:
            raise InputError(
                f"{folder} has {len(found)} files like {pattern} ({', '.join(p.name for p in found[:4])}); give the path of the one to read"
            )
        if found:
            return found[0]
    if need:
        names = [p.name for p in folder.iterdir()]
        raise InputError(
            f"{folder} has no {' or '.join(patterns)}{nearest(patterns[0], names)}; it holds {', '.join(sorted(names)[:8]) or 'nothing'}"
        )
    return None


def need_file(path: Path, *patterns: str) -> Path:
    """``path`` itself if it fits a pattern, else the one file of its folder that does."""
    if path.is_file() and any(fnmatch(path.name, p) for p in patterns):
        return path
    return in_folder(path, *patterns)  # type: ignore[return-value]


def need_columns(frame: pl.DataFrame, file: str, names: Iterable[str]) -> None:
    """Refuse a table that lacks a column."""
    for name in names:
        if name not in frame.columns:
            raise InputError(
                f"{file}: column {name!r} is missing{nearest(name, frame.columns)}; the columns are {', '.join(map(repr, frame.columns))}"
            )


def need_ids(frame: pl.DataFrame, path: Path, names: dict[str, str]) -> None:
    """Refuse a dump of another edition: a needed field that no line has."""
    for theirs, ours in names.items():
        column = ours if ours in frame.columns else theirs
        if ours in (c.USER_ID, c.ITEM_ID) and frame[column].null_count() == frame.height:
            raise InputError(
                f"{path}: no line has the field {theirs!r}; the file is of another edition or kind, name the format"
                " (lexirec data convert --format NAME)"
            )
