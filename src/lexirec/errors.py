"""Errors that a user can act on: each message gives the value, the place and the cure."""

import difflib
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType


class LexirecError(Exception):
    """Base of all errors raised on purpose. ``exit_code`` is what the command line returns."""

    exit_code: int = 1


class InputError(LexirecError, ValueError):
    """Bad data, bad options or a bad file: nothing was written."""

    exit_code = 2


class UnsupportedQueryError(InputError):
    """A query asks for something that this model can't answer (never answered by silent zeros)."""


class NotFittedError(LexirecError, RuntimeError):
    """A model was asked before ``fit`` or ``load``."""


class RunFolderError(InputError):
    """A run folder is incomplete, changed after it was written, or not a run folder at all."""


class MissingExtraError(LexirecError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class NonFiniteLossError(LexirecError):
    """A training came to a loss that is NaN or infinite; its last checkpoint is kept."""


class StorageError(LexirecError, OSError):
    """A file can't be written: the disk is full, or the place takes none. Files are whole or absent. Made of the number and the message."""

    def __str__(self) -> str:
        return str(self.strerror)


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint for a misspelt name: ``" (did you mean 'item_id'?)"``, or an empty string.

    >>> nearest("itemid", ["user_id", "item_id"])
    " (did you mean 'item_id'?)"
    """
    close = difflib.get_close_matches(name.lower(), {o.lower(): o for o in options}, n=1, cutoff=0.6)
    if not close:
        return ""
    original = {o.lower(): o for o in options}[close[0]]
    return f" (did you mean '{original}'?)"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or say which extra brings it.

    Args:
        module: dotted module name.
        extra: name of the extra in ``pyproject.toml``.

    Raises:
        MissingExtraError: if the module can't be imported.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise
        raise MissingExtraError(f"{module} is not installed; it comes with an extra: pip install 'lexirec[{extra}]'") from error
