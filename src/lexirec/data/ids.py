"""Outside ids and inside positions."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

MANY = 4096
"""From so many names on, a join is quicker than looking each up."""


class IdMap:
    """Order-keeping map between outside ids (strings) and positions ``0..n-1``.

    >>> ids = IdMap(["b", "a"])
    >>> ids.index(["a", "zzz"]).tolist()
    [1, -1]
    """

    def __init__(self, ids: Iterable[str] | pl.Series) -> None:
        self.ids: pl.Series = ids.rename("id") if isinstance(ids, pl.Series) else pl.Series("id", list(ids), dtype=pl.String)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.ids.to_list())}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def position(self, name: str | None) -> int:
        """Position of one id; -1 where it is unknown or ``None``."""
        return -1 if name is None else self._positions.get(name, -1)

    def index(self, names: Sequence[str] | pl.Series) -> NDArray[np.int64]:
        """Positions of ``names``, ``(n,)`` int64; -1 where an id is unknown."""
        if len(names) > MANY:
            known = pl.DataFrame({"id": self.ids, "at": pl.Series(np.arange(len(self.ids), dtype=np.int64))})
            asked = pl.DataFrame({"id": names if isinstance(names, pl.Series) else pl.Series(list(names), dtype=pl.String)})
            return asked.join(known, on="id", how="left", maintain_order="left")["at"].fill_null(-1).to_numpy(writable=True)
        get = self._positions.get
        return np.fromiter((get(name, -1) for name in names), dtype=np.int64, count=len(names))

    def name(self, positions: NDArray[np.integer]) -> pl.Series:
        """Ids at ``positions``; the inverse of :meth:`index`."""
        return self.ids.gather(pl.Series(np.ascontiguousarray(positions)))
