"""What the models share that rank by BM25 over item texts: wishes, a person's scores, and the two together."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.models.contract import Recommender, Supports
from lexirec.models.explaining import shared_attributes
from lexirec.models.listing import nearest_items
from lexirec.query import Basis, Query, as_id, as_query
from lexirec.retrieval.bm25 import BM25
from lexirec.retrieval.hybrid import Fusion, fuse, unit_range

Reason = tuple[str, str, str | None, float]
"""A row of an explanation: ``kind``, ``name``, ``title``, ``weight``."""
REASON = {"kind": pl.String, "name": pl.String, "title": pl.String, "weight": pl.Float64}
"""Columns of an explanation."""
NO_TEXT = "no item of the history has a text"
"""Why a person can't be searched for."""


class LexicalRecommender(Recommender):
    """Base of the models whose scores come from BM25.

    A subclass keeps ``texts`` (one per item, empty where there is none) and ``bm25`` over them, calls :meth:`use_index` when they change,
    and gives :meth:`lacks_person`, :meth:`score_people` and :meth:`explain_person`.
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

    def items_of(self, query: Query) -> NDArray[np.int64]:
        """Positions of a person's known items, oldest first: those given, or the user's stored ones where none of them is known."""
        given = self.item_map.index(query.history if query.history is not None else ())
        user = self.users.position(query.user_id)
        if (given >= 0).any() or user < 0:
            return given[given >= 0]
        return self.history_items[self.history_offsets[user] : self.history_offsets[user + 1]].astype(np.int64)

    @abstractmethod
    def lacks_person(self, query: Query) -> str:
        """Why the query's user or history gives nothing to search by; empty where it does."""

    @abstractmethod
    def score_people(self, queries: Sequence[Query]) -> Tensor:
        """Scores of people, ``(B, I)`` float32; each query has one, see :meth:`lacks_person`."""

    @abstractmethod
    def explain_person(self, query: Query, target: int, k: int) -> list[Reason]:
        """What of a query's person gives the item at ``target`` its score; see :meth:`explain`."""

    @property
    @abstractmethod
    def wish_share(self) -> float:
        """Weight of a wish against the person, where a query gives no own."""

    @property
    def fusion(self) -> Fusion:
        """How a wish and a person are put together, see :func:`~lexirec.retrieval.hybrid.fuse`."""
        return "sum"

    def answered_by(self, query: Query) -> Basis:
        basis = super().answered_by(query)
        words = basis.words and bool(self.wishes.counts([query.words or ""]).nnz)
        lacking = self.lacks_person(query) if basis.person else ""
        person = "" if lacking else basis.person
        if not basis or person or words:
            return Basis((*((person,) if person else ()), *(("words",) if words else ())), basis.reason)
        return Basis(reason=lacking or "no word of the catalogue is in the wish")

    def score(self, queries: Sequence[Query], items: Sequence[str] | None = None) -> Tensor:
        """Scores of people, of wishes, or of both, ``(B, I)`` float32; both are brought into [0, 1] (or to ranks) and weighted."""
        self._check_fitted()
        self.prepare(queries)
        bases = [self.answered_by(query) for query in queries]
        scores = torch.from_numpy(self.popularity.astype(np.float32)).repeat(len(queries), 1)
        people = [row for row, basis in enumerate(bases) if basis.person]
        if people:
            scores[people] = self.score_people([queries[row] for row in people])
        worded = [row for row, basis in enumerate(bases) if basis.words]
        if worded:
            wishes = unit_range(torch.from_numpy(self.wishes.scores([queries[row].words or "" for row in worded])))
            for row, wish in zip(worded, wishes, strict=True):
                given = queries[row].alpha
                share = self.wish_share if given is None else given
                both = [wish[None], scores[row][None]]
                scores[row] = wish if not bases[row].person else fuse(both, self.fusion, [share, 1 - share])[0]
        return scores if items is None else scores[:, self._positions(items)]

    def explain(self, query: Query | str | int, item_id: str | int, k: int = 5) -> pl.DataFrame:
        """What pulled an item up, of that which :meth:`answered_by` names: of the person, of the words, or of both.

        Returns:
            As :meth:`Recommender.explain`, with further kinds: ``"wish"`` has a word of the query as ``name`` and as ``weight`` what it
            adds to the item's BM25 score; those of a person are in :meth:`explain_person`. What gives the item nothing is left out.
        """
        self._check_fitted()
        query = as_query(query)
        target = int(self._positions([as_id(item_id, "item_id")])[0])
        basis = self.answered_by(query)
        rows: list[Reason] = []
        seen = np.zeros(0, dtype=np.int64)
        if basis.person:
            rows += self.explain_person(query, target, k)
            seen = self._answered_from(query)
        if basis.words:
            rows += shared_words("wish", self.wishes, query.words or "", target, k)
        frame = pl.DataFrame(rows, schema=REASON, orient="row")
        return pl.concat([frame, shared_attributes(self.items, target, seen[seen != target], k)])

    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        """Nearest items by BM25 of their texts; columns as in :meth:`Recommender.similar_items`."""
        self._check_fitted()
        at = self._positions(item_ids)
        return nearest_items(self.item_map, at, torch.from_numpy(self.bm25.scores([self.texts[place] for place in at])), k)


def shared_words(kind: str, index: BM25, text: str, target: int, k: int) -> list[Reason]:
    """The ``k`` words of a text that add most to an item's BM25 score, with what they add."""
    given = index.counts([text]).multiply(index.by_item[[target]]).tocoo()
    names = list(index.vocabulary)
    order = np.argsort(-given.data, kind="stable")[:k]
    return [(kind, names[int(given.col[at])], None, float(given.data[at])) for at in order]


__all__ = ["NO_TEXT", "REASON", "LexicalRecommender", "Reason", "shared_words"]
