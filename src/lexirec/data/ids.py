"""Outside ids and inside positions."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec.errors import nearest

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


def alike(name: str, ids: pl.Series) -> str:
    """A hint at a known id that was probably meant: the same but for case, leading zeros, ``.0`` or blanks, else a near one of the first.

    >>> alike("35", pl.Series(["00035", "00036"])), alike("b4.0", pl.Series(["B4"]))
    (" (did you mean '00035'?)", " (did you mean 'B4'?)")
    """
    same = ids.filter(bare(ids) == bare(pl.Series([name]))[0])
    return f" (did you mean {same[0]!r}?)" if len(same) else nearest(name, ids.head(10_000))


def bare(ids: pl.Series) -> pl.Series:
    """Ids without what spreadsheets change: case, leading zeros, a ``.0`` behind, blanks around."""
    return ids.str.strip_chars().str.to_lowercase().str.replace(r"\.0$", "").str.strip_chars_start("0")
