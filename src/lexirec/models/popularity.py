"""Popularity: every item's number of training events. The floor that every model must clear.

counts -> the same ranking for everybody
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lexirec.data.dataset import TrainSet
from lexirec.errors import UnsupportedQueryError
from lexirec.models.contract import Recommender, Supports
from lexirec.models.explaining import REASONS
from lexirec.query import Basis, Query, as_id, as_query


class Popularity(Recommender):
    """Ranks items by their training events, the same for everybody; a new item has count 0."""

    name = "popularity"
    supports = Supports(user_id=True, history=True, new_items=True)

    @property
    def seeded(self) -> bool:
        return False

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        """Nothing to build: the counts are kept by the base class."""

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        """Counts as vectors of one dimension, ``(I, 1)``."""
        if items is not None:
            return torch.zeros(items.height, 1)
        return torch.from_numpy(self.popularity.astype(np.float32))[:, None]

    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        for query in queries:
            self.answered_by(query)  # words are a named error
        return torch.ones(len(queries), 1)

    def answered_by(self, query: Query) -> Basis:
        if query.words is not None:
            raise UnsupportedQueryError("popularity can't read words; ask a model with a text encoder, such as alpharec")
        return Basis(reason="the model")

    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        raise UnsupportedQueryError("popularity knows nothing by which items are alike; ask a model that learns vectors, such as alpharec")

    def explain(self, query: Query | str | int, item_id: str | int, k: int = 5) -> pl.DataFrame:
        """How often the item was chosen: one row of kind ``"popularity"``, whose ``weight`` is the number of training events."""
        self._check_fitted()
        self.answered_by(as_query(query))
        count = int(self.popularity[self._positions([as_id(item_id, "item_id")])[0]])
        own = {"kind": ["popularity"], "name": [f"chosen {count:,} times"], "title": [None], "weight": [float(count)]}
        return pl.DataFrame(own, schema=REASONS)

    def append_items(self, items: pl.DataFrame) -> None:
        """Counts of new items are added by the base class."""

    def transfer(self, train: TrainSet) -> "Popularity":
        """Counts of the other data set's training part."""
        other = Popularity(self.config)
        other.fit(train)
        return other
