"""Any model beside BM25: its ranking and that of the words, fused.

(person, words) -> scores of the model; words, else the text of the latest items -> BM25; both -> reciprocal ranks or a sum
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

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
from lexirec.query import Basis, Query, as_id, as_query
from lexirec.retrieval.bm25 import BM25, Tokens
from lexirec.retrieval.hybrid import RRF_K, Fusion, fuse
from lexirec.text.column_roles import KINDS, MAKERS
from lexirec.text.templates import parse_template, render

COLUMNS = (c.TITLE, *MAKERS, *KINDS)
"""Columns that the words are looked for in, where the catalogue has them."""


class Asked(NamedTuple):
    """What becomes of a query.

    Attributes:
        query: what the model is asked; ``None`` where it could only answer by popularity.
        basis: what the model answers from.
        words: what BM25 is asked; empty where the catalogue has no word of it.
        weight: of BM25 against the model, where both answer.
    """

    query: Query | None
    basis: Basis
    words: str
    weight: float


class Hybrid(Recommender):
    """A fitted model whose answers are fused with BM25 over the catalogue's texts; every model can then be asked with words.

    Args:
        model: a fitted model.
        method: see :func:`lexirec.retrieval.hybrid.fuse`.
        weight: of BM25 against the model's, in [0, 1]. Where the model answers for a person and reads none of the query's words, BM25 is
            all that does, and a query's own ``alpha`` (words against the person) stands in place of this weight. Where the model reads
            them, ``alpha`` is between person and words within its part, and this weight stays: ``alpha=0`` leaves BM25 its share.
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
    needs_history = True  # for the latest item, whatever the model inside needs

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
        for name in ("items", "item_map", "users", "history_offsets", "history_items", "later", "borders", "popularity", "device"):
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
        asked = self._asked(query)
        if not asked.words:
            return asked.basis
        model = () if asked.query is None else asked.basis.parts or ("popularity",)
        return Basis((*model, "bm25"))

    def _asked(self, query: Query) -> Asked:
        asked = self._of_the_user(query)
        try:
            basis = self.model.answered_by(asked)
        except UnsupportedQueryError:
            asked = Query(user_id=query.user_id, history=None if query.words is None else asked.history)
            try:
                basis = self.model.answered_by(asked)
            except UnsupportedQueryError:
                asked = Query(user_id=query.user_id)
                basis = self.model.answered_by(asked)
            if not basis and asked.user_id is None and not asked.history:  # nothing was left to ask, which is not that nothing is known
                basis = Basis(reason=f"{self.model.name} can't read what is known, and no word of it is in the catalogue")
        words = query.words
        if words is None:
            _, seen = seen_items(self, [query])
            words = " ".join(self.texts[at] for at in seen[-self.recent :])
        given = None if query.words is None or basis.words or not basis.person else query.alpha
        return Asked(
            asked if basis or self.model.name == "popularity" else None,  # for that model it is an answer
            basis,
            words if self.bm25.counts([words]).nnz else "",
            self.weight if given is None else float(given),
        )

    def _of_the_user(self, query: Query) -> Query:
        """The query by its user alone, where the model needs no history and the one given is the stored one gone on.

        So evaluation asks: the model has learned this user, and BM25 sees the latest item. Another history, a basket, stays.
        """
        if self.model.needs_history or query.history is None or (at := self.users.position(query.user_id)) < 0:
            return query
        stored = self.history_items[self.history_offsets[at] : self.history_offsets[at + 1]].tolist()
        given = iter(self.item_map.index(query.history).tolist())
        return replace(query, history=None) if stored and all(item in given for item in stored) else query

    def score(self, queries: Sequence[Query], items: Sequence[str] | None = None) -> Tensor:
        self._check_fitted()
        if len(self.model.items) != len(self.texts):
            raise InputError("items were added to the model inside this hybrid; add them with the hybrid's add_items, or make it anew")
        self.prepare(queries)
        asked = [self._asked(query) for query in queries]
        scores = torch.from_numpy(self.popularity.astype(np.float32)).repeat(len(queries), 1)
        by_model = [row for row, one in enumerate(asked) if one.query is not None]
        by_words = [row for row, one in enumerate(asked) if one.words]
        if by_model:
            scores[by_model] = self.model.score([one.query for one in asked if one.query is not None]).cpu()
        if by_words:
            found = torch.from_numpy(self.bm25.scores([one.words for one in asked if one.words]))
            by_both: dict[float, list[int]] = {}  # places in by_words of each weight
            for place, row in enumerate(by_words):
                if asked[row].query is not None:
                    by_both.setdefault(asked[row].weight, []).append(place)
            for weight, places in by_both.items():
                rows = [by_words[place] for place in places]
                found[places] = fuse([scores[rows], found[places]], self.method, (1 - weight, weight), self.rrf_k)
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
        asked = self._asked(query)
        kind = "word" if query.words is None else "wish"
        rows = shared_words(kind, self.bm25, asked.words, target, k) if asked.words and (asked.weight or asked.query is None) else []
        found = pl.DataFrame(rows, schema=REASON, orient="row")
        if asked.query is None or (asked.words and asked.weight == 1):
            return found
        return pl.concat([self.model.explain(asked.query, item_id, k), found])

    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        return self.model.similar_items(item_ids, k)

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
