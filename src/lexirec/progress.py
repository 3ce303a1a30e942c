"""Progress bars on stderr, shown only for work that lasts over two seconds."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
DELAY = 2.0
"""Seconds before a bar appears."""


def track(iterable: Iterable[T], description: str, total: int | None = None, enabled: bool = True) -> Iterator[T]:
    """Pass ``iterable`` through and show a bar on stderr once it has lasted over two seconds.

    Args:
        iterable: what to pass through.
        description: short text in front of the bar.
        total: number of elements, if known (``len`` is tried).
        enabled: false switches the bar off.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    if not enabled:
        yield from iterable
        return
    if total is None:
        total = len(iterable) if isinstance(iterable, Sized) else None
    start = time.monotonic()
    bar = None
    try:
        for done, element in enumerate(iterable):
            if bar is None and time.monotonic() - start > DELAY:
                bar = _Bar(description, total)
            if bar is not None:
                bar.update(done)
            yield element
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """A rich bar on a terminal; a line every ten seconds elsewhere (a log file has no use for redrawn lines)."""

    def __init__(self, description: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.description, self.total = description, total
        self.last = 0.0
        self.live = sys.stderr.isatty()
        if self.live:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.progress.start()
            self.task = self.progress.add_task(description, total=total)

    def update(self, done: int) -> None:
        if self.live:
            self.progress.update(self.task, completed=done)
        elif time.monotonic() - self.last > 10.0:
            self.last = time.monotonic()
            print(f"{self.description}: {done:,}" + (f" of {self.total:,}" if self.total else ""), file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.live:
            self.progress.stop()
