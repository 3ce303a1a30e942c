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
from lexirec.models.contract import ModelConfig
from lexirec.models.lexical import NO_TEXT, LexicalRecommender, Reason, shared_words
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
    def seeded(self) -> bool:
        return False

    @property
    def wish_share(self) -> float:
        return float(self.config.alpha)

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.texts = ItemTemplate.parse(self.config.text).read(train.items, train.name)
        self._search()

    def _search(self) -> None:
        self.use_index(BM25(self.texts, self.config.k1, self.config.b, tokens=self.config.tokens))

    def _last(self, query: Query) -> int:
        """Position of the person's latest item that has a text, -1 if there is none."""
        return next((int(at) for at in self.items_of(query)[::-1] if self.texts[at]), -1)

    def lacks_person(self, query: Query) -> str:
        return NO_TEXT if self._last(query) < 0 else ""

    def score_people(self, queries: Sequence[Query]) -> Tensor:
        # People with the same last item have the same answer.
        last, which = np.unique([self._last(query) for query in queries], return_inverse=True)
        return torch.from_numpy(self.bm25.scores([self.texts[at] for at in last]))[torch.from_numpy(which)]

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        raise UnsupportedQueryError("lir has no vectors, it counts words; ask score() or recommend()")

    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        raise UnsupportedQueryError("lir has no vectors, it counts words; ask score() or recommend()")

    def explain_person(self, query: Query, target: int, k: int) -> list[Reason]:
        """The last item with its BM25 score (``"history"``), and its words that the item has with what each adds (``"word"``)."""
        last = self._last(query)
        score = float(self.bm25.scores([self.texts[last]])[0, target])
        if score <= 0:
            return []
        title = self.items[c.TITLE][last] if c.TITLE in self.items.columns else None
        own: Reason = ("history", self.item_map.ids[last], title, score)
        return [own, *shared_words("word", self.bm25, self.texts[last], target, k)]

    def append_items(self, items: pl.DataFrame) -> None:
        self.texts = [*self.texts, *ItemTemplate.parse(self.config.text).read(items)]
        self._search()

    def transfer(self, train: TrainSet) -> "LIR":
        """The same search in another catalogue."""
        self._check_fitted()
        other = LIR(self.config)
        other.fit(train)
        return other

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.texts = ItemTemplate.parse(self.config.text).write(self.items)
        self._search()
