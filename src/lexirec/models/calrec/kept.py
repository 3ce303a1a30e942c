"""Written texts kept on disk, so that answers pooled in other ways need no writing again.

A folder ``<cache folder>/written/<key of weights and sampling>`` holds tables ``<random name>.parquet`` with the columns ``history``
(hash of the prompt), ``texts``, ``logprobs`` and ``counts``. Of what is there only the hashes are read at once, and the texts of those
histories that are asked.
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
from lexirec.models.stages import not_kept

FEWEST = 64
"""Histories of a file; fewer are not worth one."""
REMEMBERED = 4096
"""Histories asked a few at a time whose texts are kept in memory: those asked for last."""
COLUMNS = {"history": pl.UInt64(), "texts": pl.List(pl.String), "logprobs": pl.List(pl.Float32), "counts": pl.List(pl.Int32)}
UNREADABLE = (OSError, pl.exceptions.PolarsError)
"""Of a damaged file, or another's: its texts are written again."""


class Kept:
    """Texts by history, in memory and (many at a time) in a folder.

    Args:
        folder: of one set of weights and one way of sampling; ``None`` keeps to memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writable = folder is not None
        self._many: dict[int, Written] = {}
        self._few: OrderedDict[int, Written] = OrderedDict()
        self._files: dict[int, Path] = {}  # where the texts of a history lie that was not asked yet
        paths: list[Path] = []
        with suppress(OSError):  # a folder that may not be looked into
            paths = sorted(folder.glob("*.parquet")) if folder is not None and folder.is_dir() else []
        for path in paths:
            with suppress(*UNREADABLE):
                keys = pl.read_parquet(path, columns=["history"])["history"].cast(pl.UInt64)
                self._files.update(dict.fromkeys(keys.to_list(), path))

    def known(self, keys: Iterable[int]) -> dict[int, Written]:
        """The texts of those among some histories that are remembered now: what is added later may push any of them out."""
        asked = list(keys)
        found = self._read([key for key in asked if key not in self._many and key not in self._few])
        for key in asked:
            one = self._many.get(key)
            if one is None and (one := self._few.get(key)) is not None:
                with suppress(KeyError):  # another thread has pushed it out since
                    self._few.move_to_end(key)
            if one is not None:
                found[key] = one
        return found

    def _read(self, keys: list[int]) -> dict[int, Written]:
        """The texts of those among some histories that lie in the folder; they are remembered."""
        places: dict[Path, list[int]] = {}
        for key in keys:
            if (path := self._files.get(key)) is not None:
                places.setdefault(path, []).append(key)
        found: dict[int, Written] = {}
        for path, wanted in places.items():
            asked = pl.col("history").cast(pl.UInt64).is_in(pl.Series(wanted, dtype=pl.UInt64))
            try:
                frame = pl.scan_parquet(path).filter(asked).select(list(COLUMNS)).collect().cast(COLUMNS)  # type: ignore[arg-type]
            except UNREADABLE:
                for key in wanted:
                    self._files.pop(key, None)
                continue
            for key, texts, logprobs, counts in frame.iter_rows():
                found[key] = Written(texts, np.array(logprobs, dtype=np.float32), np.array(counts, dtype=np.int32))
        self._remember(found)
        return found

    def _remember(self, found: dict[int, Written]) -> None:
        # Asked one by one, as a service does, they are without an end.
        (self._few if len(found) < FEWEST else self._many).update(found)
        while len(self._few) > REMEMBERED:
            self._few.popitem(last=False)

    def add(self, keys: NDArray[np.uint64], found: list[Written]) -> None:
        """Remember the texts of some histories.

        Warns:
            CacheWarning: if they can't be kept on disk (a full disk, no permission); they are remembered all the same.
        """
        self._remember(dict(zip(keys.tolist(), found, strict=True)))
        if self.folder is None or not self._writable or len(keys) < FEWEST:
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
        try:
            with atomic_file(self.folder / f"{uuid.uuid4().hex}.parquet") as temporary:
                frame.write_parquet(temporary)
        except OSError as error:
            self._writable = False  # told once
            not_kept("written texts aren't kept", error)


__all__ = ["Kept"]
