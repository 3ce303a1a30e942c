"""Who may use a model at a time: many threads may ask, and one that adds items waits for them and lets nobody in between."""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from lexirec.models.listing import list_length

P = ParamSpec("P")
R = TypeVar("R")


class Turns:
    """A lock for many readers or one writer; who waits to change goes before those who come to ask.

    What is asked within an asking or a changing of the same thread goes on at once.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._asking = self._waiting = 0
        self._changing = False
        self._inside = threading.local()

    def __deepcopy__(self, memo: Any) -> "Turns":
        return Turns()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Wait until nobody changes the model."""
        with self._within(self._ask, self._asked):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Wait until nobody asks or changes the model."""
        with self._within(self._change, self._changed):
            yield

    @contextmanager
    def _within(self, begin: Callable[[], None], end: Callable[[], None]) -> Iterator[None]:
        """Begin and end, unless this thread is inside already."""
        depth = getattr(self._inside, "depth", 0)
        if not depth:
            with self._free:
                begin()
        self._inside.depth = depth + 1
        try:
            yield
        finally:
            self._inside.depth = depth
            if not depth:
                with self._free:
                    end()
                    self._free.notify_all()

    def _ask(self) -> None:
        self._free.wait_for(lambda: not (self._changing or self._waiting))
        self._asking += 1

    def _asked(self) -> None:
        self._asking -= 1

    def _change(self) -> None:
        self._waiting += 1
        self._free.wait_for(lambda: not (self._changing or self._asking))
        self._waiting -= 1
        self._changing = True

    def _changed(self) -> None:
        self._changing = False


def asks(method: "Callable[Concatenate[Any, P], R]") -> "Callable[Concatenate[Any, P], R]":
    """A method that reads the model, whose ``_turns`` it takes; the length ``k`` of a list that it is asked for is checked."""
    return _taking(Turns.asking, method)


def changes(method: "Callable[Concatenate[Any, P], R]") -> "Callable[Concatenate[Any, P], R]":
    """A method that changes the model, whose ``_turns`` it takes."""
    return _taking(Turns.changing, method)


def _taking(
    turn: Callable[[Turns], AbstractContextManager[None]], method: "Callable[Concatenate[Any, P], R]"
) -> "Callable[Concatenate[Any, P], R]":
    signature = inspect.signature(method)

    @wraps(method)
    def inner(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(self, *args, **kwargs)
        if "k" in given.arguments:
            given.arguments["k"] = list_length(given.arguments["k"])
        with turn(self._turns):
            return method(*given.args, **given.kwargs)

    return inner


__all__ = ["Turns", "asks", "changes"]
