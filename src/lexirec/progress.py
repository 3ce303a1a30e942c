"""Progress bars on stderr, shown only for work that lasts over two seconds. They may stand within one another: epochs, steps, users."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
DELAY = 2.0
"""Seconds before a bar appears."""
LINE_EVERY = 10.0
"""Seconds between two lines where stderr is no terminal, whichever bar they are of."""
_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def showing(enabled: bool = True) -> Iterator[None]:
    """Show the bars of everything called in here, also of functions that show none by default, such as an evaluation while training.

    Args:
        enabled: false changes nothing.
    """
    token = _SHOWN.set(enabled or _SHOWN.get())
    try:
        yield
    finally:
        _SHOWN.reset(token)


def track(iterable: Iterable[T], description: str, total: int | None = None, enabled: bool = True) -> Iterator[T]:
    """Pass ``iterable`` through and show a bar on stderr once it has lasted over two seconds.

    Args:
        iterable: what to pass through.
        description: short text in front of the bar.
        total: number of elements, if known (``len`` is tried).
        enabled: false switches the bar off, but for :func:`showing`.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    if not (enabled or _SHOWN.get()):
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


class _Screen:
    """What the open bars share: one display on a terminal (rich draws no second one), and when the last line was written elsewhere."""

    def __init__(self) -> None:
        self.display: Any = None
        self.open = 0
        self.last_line = -LINE_EVERY

    def enter(self) -> Any:
        """The display, or ``None`` where stderr is no terminal."""
        if self.display is None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.display = Progress(*columns, console=Console(stderr=True), transient=True)
            self.display.start()
        self.open += self.display is not None
        return self.display

    def leave(self) -> None:
        """The last bar to go takes the display with it."""
        self.open -= 1
        if not self.open:
            self.display.stop()
            self.display = None

    def line(self, text: str) -> None:
        """Write a line, unless there was one within the last ten seconds: a log file has no use for redrawn lines."""
        if time.monotonic() - self.last_line >= LINE_EVERY:
            self.last_line = time.monotonic()
            print(text, file=sys.stderr, flush=True)


_SCREEN = _Screen()


class _Bar:
    """One bar of the :class:`_Screen`."""

    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self.display = _SCREEN.enter()
        if self.display is not None:
            self.task = self.display.add_task(description, total=total)

    def update(self, done: int) -> None:
        if self.display is not None:
            self.display.update(self.task, completed=done)
        else:
            _SCREEN.line(f"{self.description}: {done:,}" + (f" of {self.total:,}" if self.total else ""))

    def close(self) -> None:
        if self.display is not None:
            self.display.remove_task(self.task)
            _SCREEN.leave()
