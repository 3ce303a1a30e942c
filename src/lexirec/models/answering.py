"""How a person, words, or both together become one vector, for every model that ranks by inner products."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor

from lexirec.errors import UnsupportedQueryError
from lexirec.models.contract import Recommender
from lexirec.query import Basis, Query, as_id, as_query

if TYPE_CHECKING:
    from lexirec.models.reading import TextReader


class VectorRecommender(Recommender):
    """A recommender whose queries are vectors: of a person, of words, or ``(1 - alpha) x unit person + alpha x unit words``.

    A subclass gives :meth:`encode_people` and, where it reads words, :meth:`encode_words`; its configuration then has ``alpha``.
    """

    @abstractmethod
    def encode_people(self, queries: Sequence[Query], people: Sequence[str]) -> Tensor:
        """Vectors of people, ``(B, D)``.

        Args:
            queries: each with a known user or a history.
            people: what each is answered from, ``"user"`` or ``"history"``.
        """

    def encode_words(self, texts: Sequence[str]) -> Tensor:
        """Vectors of wishes or profiles, ``(B, D)``, unit length."""
        raise UnsupportedQueryError(f"{self.name} can't read words")

    def knows_words(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Of which texts, none of them blank, the encoder knows anything, ``(n,)``; a subclass without a ``reader`` asks its own."""
        reader: TextReader | None = getattr(self, "reader", None)
        return np.ones(len(texts), dtype=bool) if reader is None else reader.readable(texts)

    def reads_by(self) -> str:
        """What a text's vector depends on beside weights and settings: the encoder, with the precision that it has on this machine."""
        reader: TextReader | None = getattr(self, "reader", None)
        return "" if reader is None else reader.encoder.fingerprint

    def explain(self, query: Query | str | int, item_id: str | int, k: int = 5) -> pl.DataFrame:
        """What pulled an item up: the words of the query, where it has any, then history and attributes; not a part whose weight is 0.

        Returns:
            As :meth:`Recommender.explain`; a row of kind ``"words"`` has the wish or profile as ``name`` and its cosine to the item as
            ``weight``.
        """
        query = as_query(query)
        others, basis, words = super().explain(query, item_id, k), self.answered_by(query), query.words or ""
        if not basis.words or (basis.person and self._alpha(query) == 0):
            return others
        if basis.person and self._alpha(query) == 1:
            others = others.clear()
        target = self.encode_items()[int(self._positions([as_id(item_id, "item_id")])[0])]
        near = float(F.cosine_similarity(self.encode_words([words])[0].cpu(), target.cpu(), dim=0))
        own = {"kind": ["words"], "name": [words], "title": [None], "weight": [near]}
        return pl.concat([pl.DataFrame(own, schema=others.schema), others])

    def answered_by(self, query: Query) -> Basis:
        basis = super().answered_by(query)
        words = query.words or ""
        if not basis.words or self.knows_words([words])[0]:
            return basis
        reader: TextReader | None = getattr(self, "reader", None)
        if reader is not None:
            reader.encoder.check_reads_words(words)
        # A picture, a mark or another script, to an encoder that has no piece of it: as good as no words.
        name = self.name if reader is None else reader.encoder.name
        return Basis((basis.person,)) if basis.person else Basis(reason=f"the encoder {name} knows none of the words")

    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        self._check_fitted()
        bases = [self.answered_by(query) for query in queries]
        for row, basis in enumerate(bases):
            if not basis:
                raise UnsupportedQueryError(
                    f"query {row} holds nothing that {self.name} can turn into a vector ({basis.reason}); recommend() answers it by"
                    " popularity"
                )
        people = [row for row, basis in enumerate(bases) if basis.person]
        worded = [row for row, basis in enumerate(bases) if basis.words]
        out = torch.zeros(len(queries), self.encode_items().shape[1])
        if people:
            out[people] = self.encode_people([queries[row] for row in people], [bases[row].person for row in people])
        if worded:
            wishes = self.encode_words([queries[row].words or "" for row in worded])
            alpha = torch.tensor([self._alpha(queries[row]) if bases[row].person else 1.0 for row in worded])[:, None]
            out[worded] = (1 - alpha) * F.normalize(out[worded], dim=1) + alpha * wishes
        return out

    def _alpha(self, query: Query) -> float:
        return float(self.config.alpha if query.alpha is None else query.alpha)


__all__ = ["VectorRecommender"]
