"""What the models share that rank by BM25 over item texts: wishes, a person's scores, and the two together."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lexirec.models.contract import Recommender, Supports
from lexirec.query import Query
from lexirec.retrieval.bm25 import BM25
from lexirec.retrieval.hybrid import Fusion, fuse, unit_range


class LexicalRecommender(Recommender):
    """Base of the models whose scores come from BM25.

    A subclass keeps ``texts`` (one per item, empty where there is none) and ``bm25`` over them, calls :meth:`use_index` when they change,
    and gives :meth:`has_person` and :meth:`score_people`.
    """

    supports = Supports(user_id=True, history=True, intent=True, profile=True, new_items=True)
    vector_scores = False
    needs_history = True

    texts: list[str]
    bm25: BM25

    def use_index(self, bm25: BM25) -> None:
        """Set the index of :attr:`texts`."""
        self.bm25 = bm25
        self._wishes: BM25 | None = bm25 if bm25.tokens == "words" else None

    @property
    def wishes(self) -> BM25:
        """The index that wishes are looked up in: without punctuation, which stands behind many words of the texts and in no wish."""
        if self._wishes is None:
            self._wishes = BM25(self.texts, k1=self.bm25.k1, b=self.bm25.b, tokens="words")
        return self._wishes

    @abstractmethod
    def has_person(self, query: Query) -> bool:
        """Whether the query's user or history gives something to search by."""

    @abstractmethod
    def score_people(self, queries: Sequence[Query]) -> Tensor:
        """Scores of people, ``(B, I)`` float32; each query has one, see :meth:`has_person`."""

    @property
    @abstractmethod
    def wish_share(self) -> float:
        """Weight of a wish against the person, where a query gives no own."""

    @property
    def fusion(self) -> Fusion:
        """How a wish and a person are put together, see :func:`~lexirec.retrieval.hybrid.fuse`."""
        return "sum"

    def answered_by(self, query: Query) -> str:
        found = super().answered_by(query)
        parts = [] if found.startswith("popularity") else found.split("+")
        if not parts:
            return found
        if "words" in parts and not self.wishes.counts([query.words or ""]).nnz:
            parts.remove("words")
        if parts and parts[0] != "words" and not self.has_person(query):
            parts.pop(0)
        if parts:
            return "+".join(parts)
        return (
            "popularity (no word of the catalogue is in the wish)" if found == "words" else "popularity (no item of the history has a text)"
        )

    def score(self, queries: Sequence[Query], items: Sequence[str] | None = None) -> Tensor:
        """Scores of people, of wishes, or of both, ``(B, I)`` float32; both are brought into [0, 1] (or to ranks) and weighted."""
        self._check_fitted()
        modes = [self.answered_by(query) for query in queries]
        scores = torch.from_numpy(self.popularity.astype(np.float32)).repeat(len(queries), 1)
        people = [row for row, mode in enumerate(modes) if mode.startswith(("user", "history"))]
        if people:
            scores[people] = self.score_people([queries[row] for row in people])
        worded = [row for row, mode in enumerate(modes) if mode.endswith("words")]
        if worded:
            wishes = unit_range(torch.from_numpy(self.wishes.scores([queries[row].words or "" for row in worded])))
            for row, wish in zip(worded, wishes, strict=True):
                given = queries[row].alpha
                share = self.wish_share if given is None else given
                both = [wish[None], scores[row][None]]
                scores[row] = wish if modes[row] == "words" else fuse(both, self.fusion, [share, 1 - share])[0]
        return scores if items is None else scores[:, self._positions(items)]

    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        """Nearest items by BM25 of their texts; columns as in :meth:`Recommender.similar_items`."""
        self._check_fitted()
        at = self._positions(item_ids)
        return self._nearest(item_ids, at, torch.from_numpy(self.bm25.scores([self.texts[place] for place in at])), k)


__all__ = ["LexicalRecommender"]
