"""The contract of every model as checks that any model can be held to, from whichever package it comes.

One line of a test runs them all (pytest or not): ``check_model("my-model", lr=0.05)``. Data: :func:`checkerboard`, on which the right
answers are known.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lexirec.models.contract import Recommender
from lexirec.testing.checks import CHECKS, Check, ContractError
from lexirec.testing.subject import OPTIONS, Subject, cache_at, checkerboard


def check_model(
    model: str | type[Recommender], /, *, options: Mapping[str, Any] | None = None,
    personal: bool = True, transfers: bool | None = None, **settings: Any,
) -> None:  # fmt: skip
    """Hold one model to all that every model promises.

    Args:
        model: its registered name (an entry point of another package counts), or its class.
        options: training options that differ from :data:`OPTIONS`, such as ``{"epochs": 100}``.
        personal: ``False`` for a model that answers everybody alike.
        transfers: whether it works on another data set without training; ``None``: it may do so or refuse.
        **settings: of its configuration; such that it learns :func:`checkerboard` in seconds.

    Raises:
        ContractError: with every check that failed and what was found.

    >>> check_model("popularity", personal=False)
    """
    subject = Subject(model, settings, options, personal=personal, transfers=transfers)
    failed = []
    for name, check in CHECKS.items():
        with TemporaryDirectory() as folder, cache_at(f"{folder}/cache"):
            try:
                check(subject, Path(folder) / "files")
            except AssertionError as error:
                failed.append(f"{name}: {error}")
    if failed:
        raise ContractError("\n".join([f"{subject.kind.name} breaks {len(failed)} of {len(CHECKS)} promises", *failed]))


__all__ = ["CHECKS", "OPTIONS", "Check", "ContractError", "Subject", "check_model", "checkerboard"]
