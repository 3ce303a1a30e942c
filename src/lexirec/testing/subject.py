"""What is held to the contract: a model, how it is made, and one that has learned a world in which the right answers are known."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.models import create, load_model, model_class
from lexirec.models.contract import Recommender
from lexirec.training.options import TrainingOptions

OPTIONS: dict[str, Any] = {"epochs": 40, "eval_every": 10, "progress": False, "threads": 1, "monitor": "ndcg@5"}
"""How the models of the checks are trained; a few dozen steps on :func:`checkerboard` must do."""


def checkerboard(n: int = 20) -> tuple[Dataset, pl.DataFrame]:
    """Users like the items of their own parity, in random order; each misses one of them, which is the right answer.

    Titles say the parity, so that text models can read it.

    Args:
        n: users, and items.

    Returns:
        The data set and its catalogue.

    >>> checkerboard(4)[0].interactions["item_id"].to_list()
    ['i02', 'i03', 'i00', 'i01']
    """
    rng = np.random.default_rng(0)
    rows = [(f"u{u:02d}", f"i{i:02d}", t) for u in range(n) for t, i in enumerate(rng.permutation(range(u % 2, n, 2))) if i != u]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    words = ["red apple fruit", "blue car wheel"]
    items = pl.DataFrame(
        {
            "item_id": [f"i{i:02d}" for i in range(n)],
            "title": [f"{words[i % 2]} {i}" for i in range(n)],
            "categories": [["Food"] if i % 2 == 0 else ["Vehicles"] for i in range(n)],
        }
    )
    return Dataset(log, items, name="checkerboard"), items


@contextmanager
def cache_at(folder: str) -> Iterator[None]:
    """A cache of its own: no check finds what another one, or the user, has left."""
    before = os.environ.get("LEXIREC_CACHE")
    os.environ["LEXIREC_CACHE"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["LEXIREC_CACHE"]
        else:
            os.environ["LEXIREC_CACHE"] = before


class Subject:
    """A model under the contract: how to make it, and one that has learned the checkerboard.

    Args:
        model: its registered name, or its class.
        settings: of its configuration; such that it learns the checkerboard in seconds.
        options: training options that differ from :data:`OPTIONS`.
        personal: whether it answers different people differently.
        transfers: whether it works on another data set without training; ``None``: it may do so or refuse.
    """

    def __init__(
        self, model: str | type[Recommender], settings: Mapping[str, Any], options: Mapping[str, Any] | None = None,
        *, personal: bool = True, transfers: bool | None = None,
    ) -> None:  # fmt: skip
        self.kind = model_class(model) if isinstance(model, str) else model
        self.registered = isinstance(model, str)
        self.settings, self.options = dict(settings), {**OPTIONS, **(options or {})}
        self.personal, self.transfers = personal, transfers
        self._cache = TemporaryDirectory()  # what the trained model refers to lives as long as this object

    def made(self, **settings: Any) -> Recommender:
        """An unfitted model with other settings than the subject's, made as a user makes it."""
        return create(self.kind.name, **settings) if self.registered else self.kind(**settings)

    def new(self) -> Recommender:
        """An unfitted model with the subject's settings."""
        return self.made(**self.settings)

    def fitted(self, train: TrainSet | None = None, valid: Any = None, **options: Any) -> Recommender:
        """A new model, trained on the checkerboard or on ``train``."""
        return self.new().fit(self.train if train is None else train, valid, TrainingOptions(**{**self.options, **options}))

    def loaded(self, folder: Path) -> Recommender:
        """What was saved there."""
        return load_model(folder) if self.registered else self.kind.load(folder)

    @cached_property
    def train(self) -> TrainSet:
        """The checkerboard."""
        return checkerboard()[0].train_set()

    @cached_property
    def trained(self) -> Recommender:
        """One model for all checks that only ask it."""
        with cache_at(self._cache.name):
            return self.fitted()


__all__ = ["OPTIONS", "Subject", "cache_at", "checkerboard"]
