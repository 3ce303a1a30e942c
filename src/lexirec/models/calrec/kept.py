"""Written texts kept on disk, so that answers pooled in other ways need no writing again.

A folder ``<cache folder>/written/<key of weights and sampling>`` holds tables ``<random name>.parquet`` with the columns ``history``
(hash of the prompt), ``texts``, ``logprobs`` and ``counts``.
"""

import uuid
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec.files import atomic_file
from lexirec.models.calrec.writing import Written

FEWEST = 64
"""Histories of a file; fewer are not worth one."""
REMEMBERED = 4096
"""Histories asked a few at a time whose texts are kept in memory: those asked for last."""
COLUMNS = {"history": pl.UInt64(), "texts": pl.List(pl.String), "logprobs": pl.List(pl.Float32), "counts": pl.List(pl.Int32)}


class Kept:
    """Texts by history, in memory and (many at a time) in a folder.

    Args:
        folder: of one set of weights and one way of sampling; ``None`` keeps to memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._many: dict[int, Written] = {}
        self._few: OrderedDict[int, Written] = OrderedDict()
        for path in sorted(folder.glob("*.parquet")) if folder is not None and folder.is_dir() else []:
            try:
                frame = pl.read_parquet(path, columns=list(COLUMNS)).cast(COLUMNS)  # type: ignore[arg-type]
            except (OSError, pl.exceptions.PolarsError):  # a damaged file, or another's: its texts are written again
                continue
            for key, texts, logprobs, counts in frame.iter_rows():
                self._many[key] = Written(texts, np.array(logprobs, dtype=np.float32), np.array(counts, dtype=np.int32))

    def known(self, keys: Iterable[int]) -> dict[int, Written]:
        """The texts of those among some histories that are remembered now: what is added later may push any of them out."""
        found: dict[int, Written] = {}
        for key in keys:
            one = self._many.get(key)
            if one is None and (one := self._few.get(key)) is not None:
                with suppress(KeyError):  # another thread has pushed it out since
                    self._few.move_to_end(key)
            if one is not None:
                found[key] = one
        return found

    def add(self, keys: NDArray[np.uint64], found: list[Written]) -> None:
        """Remember the texts of some histories."""
        few = len(keys) < FEWEST  # asked one by one, as a service does: without an end
        (self._few if few else self._many).update(zip(keys.tolist(), found, strict=True))
        while len(self._few) > REMEMBERED:
            self._few.popitem(last=False)
        if self.folder is None or few:
            return
        frame = pl.DataFrame(
            {
                "history": keys.tolist(),
                "texts": [one.texts for one in found],
                "logprobs": [one.logprobs.tolist() for one in found],
                "counts": [one.counts.tolist() for one in found],
            },
            schema=COLUMNS,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / f"{uuid.uuid4().hex}.parquet") as temporary:
            frame.write_parquet(temporary)


__all__ = ["Kept"]
