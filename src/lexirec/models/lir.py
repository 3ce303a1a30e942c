"""LIR: the last item of a history as a search in the catalogue, CALRec's baseline without training.

Paper: CALRec (Li et al., RecSys 2024, arXiv 2405.02429) names it; its reading as *last item* is the specification's, see
``docs/retrieval.md``. Numbers: ``lexirec fit lir --data DIR --config configs/amazon2018_scientific/lir.yaml --out RUN``.

text of the last item -> BM25 over the texts of all items (the last item itself stays in the list, where nothing is masked)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.errors import UnsupportedQueryError
from lexirec.models.calrec.config import TEMPLATE
from lexirec.models.calrec.texts import ItemTemplate
from lexirec.models.contract import ModelConfig, as_query
from lexirec.models.explaining import shared_attributes
from lexirec.models.lexical import LexicalRecommender
from lexirec.query import Query
from lexirec.retrieval.bm25 import BM25, Tokens


class LIRConfig(ModelConfig):
    """Settings of LIR."""

    text: str = TEMPLATE
    """How an item is written, see :class:`~lexirec.models.calrec.texts.ItemTemplate`."""
    k1: PositiveFloat = 1.5
    """BM25: how soon further occurrences of a word stop counting."""
    b: float = Field(default=0.75, ge=0.0, le=1.0)
    """BM25: how much long texts are held back."""
    tokens: Tokens = "whitespace"
    """BM25: ``whitespace`` keeps punctuation (the paper's vocabulary counts), ``words`` leaves it out."""
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of words against the last item, where a query has both and gives no own."""


class LIR(LexicalRecommender):
    """The last item's text as a query; words are one too. Deterministic, nothing is learned."""

    name = "lir"
    Config = LIRConfig

    @property
    def wish_share(self) -> float:
        return float(self.config.alpha)

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self._index()

    def _index(self) -> None:
        self.texts = ItemTemplate.parse(self.config.text).write(self.items)
        self._search()

    def _search(self) -> None:
        self.use_index(BM25(self.texts, self.config.k1, self.config.b, tokens=self.config.tokens))

    def _last(self, query: Query) -> int:
        """Position of the latest known item that has a text, -1 if there is none."""
        _, seen = self._seen([query])
        return next((int(at) for at in seen[::-1] if self.texts[at]), -1)

    def has_person(self, query: Query) -> bool:
        return self._last(query) >= 0

    def score_people(self, queries: Sequence[Query]) -> Tensor:
        # People with the same last item have the same answer.
        last, which = np.unique([self._last(query) for query in queries], return_inverse=True)
        return torch.from_numpy(self.bm25.scores([self.texts[at] for at in last]))[torch.from_numpy(which)]

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        raise UnsupportedQueryError("lir has no vectors, it counts words; ask score() or recommend()")

    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        raise UnsupportedQueryError("lir has no vectors, it counts words; ask score() or recommend()")

    def explain(self, query: Query | str | int, item_id: str | int, k: int = 5) -> pl.DataFrame:
        """What pulled an item up: the last item and the words that it shares with it, and common attributes.

        Returns:
            As :meth:`Recommender.explain`; a row of kind ``"word"`` has a word of the query as ``name`` and what it adds to the score as
            ``weight``.
        """
        self._check_fitted()
        query = as_query(query)
        target = int(self._positions([str(item_id)])[0])
        rows: list[tuple[str, str, str | None, float]] = []
        last, index, text = self._last(query), self.bm25, ""
        if query.words is not None:
            index, text = self.wishes, query.words
        elif last >= 0:
            text = self.texts[last]
            title = self.items[c.TITLE][last] if c.TITLE in self.items.columns else None
            rows.append(("history", self.item_map.ids[last], title, float(index.scores([text])[0, target])))
        given = index.counts([text]).multiply(index.by_item[[target]]).tocoo()
        names = list(index.vocabulary)
        order = np.argsort(-given.data, kind="stable")[:k]
        rows += [("word", names[int(given.col[at])], None, float(given.data[at])) for at in order]
        frame = pl.DataFrame(rows, schema={"kind": pl.String, "name": pl.String, "title": pl.String, "weight": pl.Float64}, orient="row")
        _, seen = self._seen([query])
        seen = np.unique(seen)
        return pl.concat([frame, shared_attributes(self.items, target, seen[seen != target], k)])

    def append_items(self, items: pl.DataFrame) -> None:
        self.texts = [*self.texts, *ItemTemplate.parse(self.config.text).write(items)]
        self._search()

    def transfer(self, train: TrainSet) -> "LIR":
        """The same search in another catalogue."""
        self._check_fitted()
        other = LIR(self.config)
        other.fit(train)
        return other

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self._index()
