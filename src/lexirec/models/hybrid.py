"""Any model beside BM25: its ranking and that of the words, fused.

(person, words) -> scores of the model; words, else the text of the latest items -> BM25; both -> reciprocal ranks or a sum
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError, UnsupportedQueryError
from lexirec.models.contract import Recommender, Supports
from lexirec.models.lexical import REASON, shared_words
from lexirec.models.listing import seen_items
from lexirec.models.turns import changes
from lexirec.query import Basis, Query, as_id, as_query
from lexirec.retrieval.bm25 import BM25, Tokens
from lexirec.retrieval.hybrid import RRF_K, Fusion, fuse
from lexirec.text.templates import parse_template, render

COLUMNS = (c.TITLE, "brand", "main_category", "categories")
"""Columns that the words are looked for in, where the catalogue has them."""


class Hybrid(Recommender):
    """A fitted model whose answers are fused with BM25 over the catalogue's texts; every model can then be asked with words.

    Args:
        model: a fitted model.
        method: see :func:`lexirec.retrieval.hybrid.fuse`.
        weight: of BM25 against the model's, in [0, 1].
        text: columns of an item's text, such as ``"title,brand"``; by default those of :data:`COLUMNS` that are there.
        recent: without words in the query, BM25 is asked with the texts of this many latest items.
        rrf_k: see :func:`lexirec.retrieval.hybrid.fuse`.
        tokens: see :data:`lexirec.retrieval.bm25.Tokens`; wishes come without the punctuation of titles.
        k1, b: of BM25.

    Raises:
        InputError: for a bad option, or a text without columns.
        NotFittedError: if the model is not fitted.
    """

    name = "hybrid"
    vector_scores = False

    def __init__(
        self,
        model: Recommender,
        method: Fusion = "rrf",
        *,
        weight: float = 0.5,
        text: str | Sequence[str] | None = None,
        recent: int = 1,
        rrf_k: float = RRF_K,
        tokens: Tokens = "words",
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        super().__init__()
        model._check_fitted()
        if not 0 <= weight <= 1:
            raise InputError(f"weight = {weight}; it is the share of BM25 and lies in [0, 1]")
        if recent < 1:
            raise InputError(f"recent = {recent}; at least the latest item is needed")
        present = [column for column in COLUMNS if column in model.items.columns]
        if text is None and not present:
            raise InputError(
                f"the items have none of the columns {', '.join(COLUMNS)}, where a hybrid looks for words; add one and train again, or name"
                " other columns in Python: Hybrid(model, text=...)"
            )
        self.model, self.method, self.weight, self.recent, self.rrf_k = model, method, weight, recent, rrf_k
        self.template = parse_template(present if text is None else text)
        self.options: dict[str, Any] = {"k1": k1, "b": b, "tokens": tokens}
        self._turns = model._turns
        self._follow()
        fuse([torch.zeros(1, 1)], method, rrf_k=rrf_k)  # refuses a bad method before the first question
        self._fitted = True

    def _follow(self) -> None:
        """Take the catalogue and the histories from the model, and index the texts."""
        for name in ("items", "item_map", "users", "history_offsets", "history_items", "later", "popularity", "device", "needs_history"):
            setattr(self, name, getattr(self.model, name))
        self.supports = Supports(**{**vars(self.model.supports), "history": True, "intent": True, "profile": True})
        self.texts = render(self.items, self.template)
        self.bm25 = BM25(self.texts, **self.options)

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        raise InputError("a hybrid has nothing to learn: fit the model, then give it to Hybrid")

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        return self.model.encode_items(items)

    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        return self.model.encode_queries(queries)

    def answered_by(self, query: Query) -> Basis:
        model, words = self._asked(query)
        if model is None:
            return Basis(("bm25",)) if words else super().answered_by(query)
        found = self.model.answered_by(model)
        return Basis((*(found.parts or ("popularity",)), "bm25")) if words else found

    def _asked(self, query: Query) -> tuple[Query | None, str]:
        """The part of the query that the model can answer (``None``: nothing but popularity), and the words for BM25."""
        asked: Query | None = query
        try:
            found = self.model.answered_by(query)
        except UnsupportedQueryError:
            asked = Query(user_id=query.user_id) if query.words is None else Query(user_id=query.user_id, history=query.history)
            try:
                found = self.model.answered_by(asked)
            except UnsupportedQueryError:
                asked, found = Query(user_id=query.user_id), self.model.answered_by(Query(user_id=query.user_id))
        if not found and self.model.name != "popularity":  # for that model it is an answer
            asked = None
        words = query.words
        if words is None:
            _, seen = seen_items(self, [query])
            words = " ".join(self.texts[at] for at in seen[-self.recent :])
        return asked, words if self.bm25.counts([words]).nnz else ""

    def score(self, queries: Sequence[Query], items: Sequence[str] | None = None) -> Tensor:
        self._check_fitted()
        if len(self.model.items) != len(self.texts):
            raise InputError("items were added to the model inside this hybrid; add them with the hybrid's add_items, or make it anew")
        self.prepare(queries)
        asked = [self._asked(query) for query in queries]
        scores = torch.from_numpy(self.popularity.astype(np.float32)).repeat(len(queries), 1)
        by_model = [row for row, (query, _) in enumerate(asked) if query is not None]
        by_words = [row for row, (_, words) in enumerate(asked) if words]
        if by_model:
            scores[by_model] = self.model.score([query for query, _ in asked if query is not None]).cpu()
        if by_words:
            found = torch.from_numpy(self.bm25.scores([words for _, words in asked if words]))
            both = [place for place, row in enumerate(by_words) if asked[row][0] is not None]
            rows = [by_words[place] for place in both]
            if both:
                weights = (1 - self.weight, self.weight)
                found[both] = fuse([scores[rows], found[both]], self.method, weights, self.rrf_k)
            scores[by_words] = found
        return scores if items is None else scores[:, self._positions(items)]

    def prepare(self, queries: Sequence[Query]) -> None:
        self.model.prepare(queries)

    def explain(self, query: Query | str | int, item_id: str | int, k: int = 5) -> pl.DataFrame:
        """What pulled an item up, by the model and by BM25, as far as each has a part in the answer.

        Returns:
            As the model's, and the words that add most to the item's BM25 score: those of the query (kind ``"wish"``), else those of the
            latest items (``"word"``).
        """
        self._check_fitted()
        query = as_query(query)
        target = int(self._positions([as_id(item_id, "item_id")])[0])
        asked, words = self._asked(query)
        rows = shared_words("word" if query.words is None else "wish", self.bm25, words, target, k) if words and self.weight else []
        found = pl.DataFrame(rows, schema=REASON, orient="row")
        if asked is None or (words and self.weight == 1):
            return found
        return pl.concat([self.model.explain(asked, item_id, k), found])

    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        return self.model.similar_items(item_ids, k)

    @changes
    def add_items(self, items: Any, *, skip_known: bool = False) -> "Hybrid":
        self.model.add_items(items, skip_known=skip_known)
        self._follow()
        return self

    def transfer(self, train: TrainSet) -> "Hybrid":
        other = Hybrid.__new__(Hybrid)
        other.__dict__.update(self.__dict__)
        other.model = self.model.transfer(train)
        other._follow()
        return other

    def save_files(self, *_: Any, **__: Any) -> None:
        """Refused: a hybrid is its model and two options."""
        raise InputError("a hybrid holds nothing of its own: save its model, and wrap it again after loading")


__all__ = ["Hybrid"]
