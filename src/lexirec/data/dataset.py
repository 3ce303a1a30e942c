"""The data contracts: a log and a catalogue (:class:`Dataset`), and what a model may see of them (:class:`TrainSet`).

Everything that is derived from interactions (a graph, a popularity count, a profile) takes a :class:`TrainSet`, so that held-out
events can't reach it by accident.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.ids import IdMap

if TYPE_CHECKING:
    from os import PathLike

IntArray = NDArray[np.integer[Any]]


def _offsets(sorted_index: IntArray, size: int) -> NDArray[np.int64]:
    """Start of each group in a sorted index, ``(size + 1,)``."""
    return np.concatenate([[0], np.cumsum(np.bincount(sorted_index, minlength=size))]).astype(np.int64)


def _frames_hash(*frames: pl.DataFrame) -> str:
    """SHA-256 over column names, types and values in row order; independent of chunking, column order and the Polars version."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"frame {frame.height} {frame.width};".encode())
        for name in sorted(frame.columns):
            _hash_series(digest, name, frame[name])
    return digest.hexdigest()


def _hash_series(digest: Any, name: str, values: pl.Series) -> None:
    """Feed one column to ``digest``. Polars' own row hash is stable within one version only, so the values are fed themselves."""
    kind = values.dtype
    if isinstance(kind, pl.Categorical | pl.Enum | pl.Decimal) or kind in (pl.Int128, pl.Object):
        values = values.cast(pl.String)
    elif isinstance(kind, pl.Array):
        values = values.arr.to_list()
    digest.update(f"{name!r} {values.dtype} {len(values)} {values.null_count()};".encode())
    if values.null_count():
        digest.update(np.packbits(values.is_null().to_numpy()).tobytes())
    if isinstance(values.dtype, pl.Struct):
        for part in values.struct.fields:
            _hash_series(digest, part, values.struct.field(part))
    elif isinstance(values.dtype, pl.List):
        lengths = values.list.len().fill_null(0)
        digest.update(lengths.to_numpy().astype(np.uint32).tobytes())
        _hash_series(digest, "element", values.filter(lengths > 0).explode())
    elif values.dtype == pl.String:
        digest.update(values.str.len_bytes().fill_null(0).to_numpy().astype(np.uint32).tobytes())
        for start in range(0, len(values), 1 << 16):  # blocks, because one Polars string holds 4 GB at most
            digest.update(values.slice(start, 1 << 16).str.join("")[0].encode())
    elif values.dtype == pl.Binary:
        for value in values:
            digest.update(b"%d:" % len(value or b"") + (value or b""))
    elif values.dtype == pl.Boolean:
        digest.update(np.packbits(values.fill_null(False).to_numpy()).tobytes())
    elif values.dtype != pl.Null:
        digest.update(np.ascontiguousarray(values.to_physical().fill_null(0).to_numpy()).tobytes())


@dataclass(frozen=True, eq=False)
class TrainSet:
    """The training part of a log with the catalogue's texts: all that a model may see while fitting.

    Attributes:
        items: catalogue, one row per item in index order: ``item_id``, ``title``, attribute columns. Row ``i`` is item ``i``.
        users: map of the ``U`` user ids.
        interactions: the training events only, sorted by user, then oldest first (columns as in the dataset).
        offsets: ``(U + 1,)`` int64; events of user ``u`` are rows ``offsets[u]:offsets[u + 1]``.
        item_index: ``(N,)`` int32, item of each event.
        new_items: ``(I,)`` bool; items that don't exist yet while training (a cold-items split). Their texts are known, but they
            are never drawn as negatives.
        user_domains, item_domains: ``(n_domains + 1,)`` int64 block borders where several data sets are mixed; one block otherwise.
        content_hash: SHA-256 of the dataset and the split that this part comes from.
        name: name of the dataset.
        domain_hashes, domain_items: ``content_hash`` and catalogue of each data set of a mix as they were before; empty where nothing is
            mixed.
        log_rows: ``(N,)`` int64 ascending, place of each event in the whole log, which orders it among held-out ones; ``None`` in a mix.
    """

    items: pl.DataFrame
    users: IdMap
    interactions: pl.DataFrame
    offsets: NDArray[np.int64]
    item_index: NDArray[np.int32]
    new_items: NDArray[np.bool_]
    user_domains: NDArray[np.int64]
    item_domains: NDArray[np.int64]
    content_hash: str
    name: str = "dataset"
    domain_hashes: tuple[str, ...] = ()
    domain_items: tuple[pl.DataFrame, ...] = ()
    log_rows: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        return f"TrainSet({self.name!r}, users={self.n_users:,}, items={self.n_items:,}, interactions={self.n_interactions:,})"

    @cached_property
    def item_map(self) -> IdMap:
        """Map of the ``I`` item ids."""
        return IdMap(self.items[c.ITEM_ID])

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return self.items.height

    @property
    def n_interactions(self) -> int:
        return len(self.item_index)

    @property
    def n_domains(self) -> int:
        return len(self.item_domains) - 1

    @cached_property
    def user_index(self) -> NDArray[np.int32]:
        """User of each event, ``(N,)`` int32."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), np.diff(self.offsets))

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Distinct user-item pairs as CSR: offsets ``(U + 1,)`` int64 and item indices, ascending within a user, int32."""
        keys = np.unique(self.user_index.astype(np.int64) * max(self.n_items, 1) + self.item_index)
        users, items = np.divmod(keys, max(self.n_items, 1))
        return _offsets(users, self.n_users), items.astype(np.int32)

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """Number of training events per item, ``(I,)`` int64."""
        return np.bincount(self.item_index, minlength=self.n_items).astype(np.int64)

    def history(self, user: int) -> NDArray[np.int32]:
        """Items of one user's training events, oldest first."""
        return self.item_index[self.offsets[user] : self.offsets[user + 1]]

    def some_users(self, heldout: "Heldout", count: int, seed: int) -> "Heldout":
        """The events of ``count`` random users of each data set among those who have some; of all where there are fewer."""
        rng = np.random.default_rng([seed, 7])
        kept = np.zeros(self.n_users, dtype=bool)
        users = np.unique(heldout.user_index)
        for first, last in zip(self.user_domains[:-1], self.user_domains[1:], strict=True):
            own = users[(users >= first) & (users < last)]
            kept[own if len(own) <= count else rng.choice(own, count, replace=False)] = True
        inside = kept[heldout.user_index]
        return Heldout(heldout.user_index[inside], heldout.item_index[inside], heldout.name)


@dataclass(frozen=True, eq=False)
class Heldout:
    """Validation or test events, in the index space of the :class:`TrainSet` beside them.

    Attributes:
        user_index: ``(N,)`` int32, ascending.
        item_index: ``(N,)`` int32; within a user oldest first.
        name: ``"valid"`` or ``"test"``.
        log_rows: as in :class:`TrainSet`.
    """

    user_index: NDArray[np.int32]
    item_index: NDArray[np.int32]
    name: str = "test"
    log_rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.user_index)

    def __repr__(self) -> str:
        return f"Heldout({self.name!r}, events={len(self):,}, users={len(np.unique(self.user_index)):,})"


@dataclass(frozen=True, eq=False)
class Split:
    """A dataset cut into train, validation and test.

    Attributes:
        name: as the field names it, for example ``"ratio"``.
        train, valid, test: the parts; they share user and item indices.
        sees_future: whether training holds events later than another user's test events, or may because times are not known.
        options: the options that the split was made with, for the record.
    """

    name: str
    train: TrainSet
    valid: Heldout
    test: Heldout
    sees_future: bool
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Split({self.name!r}, train={self.train.n_interactions:,}, valid={len(self.valid):,}, test={len(self.test):,})"


class Dataset:
    """An interaction log and the catalogue it speaks of. Immutable.

    Users and items get positions by their rank among the sorted ids; events are sorted by user, within a user by ``position``
    where the log has that column, else by ``timestamp``, ties in file order. The frames are expected to be checked already:
    use :meth:`from_frames` or :meth:`read`, which refuse bad input with a clear error.

    Attributes:
        interactions: ``user_id``, ``item_id``, ``timestamp`` and any of ``position``, ``rating``, ``review``, ``split``.
        items: ``item_id``, ``title`` and any attribute columns, sorted by ``item_id``.
        users, item_map: maps between ids and positions.
        folder: where the dataset was read from (``None`` for frames); a split file is looked for there.
        offsets: ``(U + 1,)`` int64; events of user ``u`` are rows ``offsets[u]:offsets[u + 1]``.
        item_index, user_index: ``(N,)`` int32, per event.
        content_hash: SHA-256 over both frames.

    >>> import polars as pl
    >>> log = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2]})
    >>> data = Dataset.from_frames(log, pl.DataFrame({"item_id": ["a", "b"], "title": ["Soap", "Brush"]}))
    >>> data.n_users, data.n_items, data.n_interactions
    (1, 2, 2)
    """

    def __init__(
        self, interactions: pl.DataFrame, items: pl.DataFrame, name: str = "dataset", folder: "PathLike[str] | str | None" = None
    ) -> None:
        self.name = name
        self.folder = None if folder is None else Path(folder)
        self.items = items.sort(c.ITEM_ID)
        self.item_map = IdMap(self.items[c.ITEM_ID])
        user_ids = interactions[c.USER_ID].unique().sort()
        self.users = IdMap(user_ids)
        # Ranks by a join on sorted ids: one pass in Polars instead of a Python dictionary per event; the sort is then over integers.
        user_index = _positions(interactions[c.USER_ID], user_ids)
        item_index = _positions(interactions[c.ITEM_ID], self.items[c.ITEM_ID])
        order = c.POSITION if c.POSITION in interactions.columns else c.TIMESTAMP if c.TIMESTAMP in interactions.columns else None
        rows = _oldest_first(user_index, None if order is None else interactions[order])
        if rows is not None:
            interactions, user_index, item_index = interactions[pl.Series(rows)], user_index[rows], item_index[rows]
        self.interactions = interactions
        self.user_index = user_index
        self.item_index = item_index
        self.offsets = _offsets(self.user_index, len(user_ids))

    def subset(self, rows: NDArray[np.bool_], items: "NDArray[np.bool_] | None" = None) -> "Dataset":
        """The events where ``rows`` is true, over the items where ``items`` is true (all by default); users without events vanish.

        Args:
            rows: ``(N,)`` bool over the events in this dataset's order.
            items: ``(I,)`` bool; must hold every item of the kept events.
        """
        part = object.__new__(Dataset)
        part.name, part.folder = self.name, self.folder
        part.interactions = self.interactions.filter(pl.Series(rows))
        part.items, part.item_map, part.item_index = self.items, self.item_map, self.item_index[rows]
        if items is not None and not items.all():
            if not items[part.item_index].all():
                raise ValueError("subset: an item of the kept events is not kept")
            part.items = self.items.filter(pl.Series(items))
            part.item_map = IdMap(part.items[c.ITEM_ID])
            part.item_index = (np.cumsum(items) - 1).astype(np.int32)[part.item_index]
        present = np.bincount(self.user_index[rows], minlength=self.n_users) > 0
        part.users = self.users if present.all() else IdMap(self.users.ids.filter(pl.Series(present)))
        part.user_index = (np.cumsum(present) - 1).astype(np.int32)[self.user_index[rows]]
        part.offsets = _offsets(part.user_index, len(part.users))
        return part

    @cached_property
    def content_hash(self) -> str:
        return _frames_hash(self.interactions, self.items)

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return self.items.height

    @property
    def n_interactions(self) -> int:
        return self.interactions.height

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, users={self.n_users:,}, items={self.n_items:,}, interactions={self.n_interactions:,})"

    @classmethod
    def from_frames(
        cls,
        interactions: Any,
        items: Any = None,
        *,
        name: str = "dataset",
        columns: Mapping[str, str] | None = None,
        item_columns: Sequence[str] = (),
        unknown_items: str = "error",
        bad_rows: str = "error",
    ) -> "Dataset":
        """A dataset from pandas, Polars or Arrow tables; see :func:`lexirec.data.readers.from_frames`."""
        from lexirec.data.readers import from_frames

        return from_frames(
            interactions, items, name=name, columns=columns, item_columns=item_columns, unknown_items=unknown_items, bad_rows=bad_rows
        )

    @classmethod
    def read(cls, path: "str | PathLike[str]", **options: Any) -> "Dataset":
        """A dataset from a folder or a published dump; see :func:`lexirec.data.readers.read_dataset`."""
        from lexirec.data.readers import read_dataset

        return read_dataset(path, **options)

    def split(self, name: str = "leave-one-out", **options: Any) -> Split:
        """Cut into train, validation and test; see :func:`lexirec.data.splits.split_dataset`."""
        from lexirec.data.splits import split_dataset

        return split_dataset(self, name, **options)

    def train_set(
        self, rows: "NDArray[np.bool_] | None" = None, *, new_items: "NDArray[np.bool_] | None" = None, tag: str = "all"
    ) -> TrainSet:
        """The events where ``rows`` is true (all by default) as a :class:`TrainSet`.

        Args:
            rows: ``(N,)`` bool over the events in this dataset's order.
            new_items: ``(I,)`` bool, items that don't exist while training.
            tag: name of the split and its options, part of the content hash.
        """
        rows = np.ones(self.n_interactions, dtype=bool) if rows is None else rows
        users = self.user_index[rows]
        return TrainSet(
            items=self.items,
            users=self.users,
            interactions=self.interactions.filter(pl.Series(rows)),
            offsets=_offsets(users, self.n_users),
            item_index=self.item_index[rows],
            new_items=np.zeros(self.n_items, dtype=bool) if new_items is None else new_items,
            user_domains=np.array([0, self.n_users], dtype=np.int64),
            item_domains=np.array([0, self.n_items], dtype=np.int64),
            content_hash=hashlib.sha256(f"{self.content_hash}:{tag}".encode() + np.packbits(rows).tobytes()).hexdigest(),
            name=self.name,
            log_rows=np.flatnonzero(rows),
        )

    def heldout(self, rows: NDArray[np.bool_], name: str) -> Heldout:
        """The events where ``rows`` is true as a :class:`Heldout` part."""
        return Heldout(self.user_index[rows], self.item_index[rows], name, np.flatnonzero(rows))


def _positions(values: pl.Series, sorted_ids: pl.Series) -> NDArray[np.int32]:
    """Rank of each value among ``sorted_ids``, ``(n,)`` int32; every value must be present."""
    lookup = pl.DataFrame({"id": sorted_ids, "at": pl.Series(np.arange(len(sorted_ids), dtype=np.int32))})
    found = pl.DataFrame({"id": values}).join(lookup, on="id", how="left", maintain_order="left")["at"]
    if found.null_count():
        missing = values.filter(found.is_null()).head(3).to_list()
        raise ValueError(f"interactions name unknown ids such as {missing}; check the tables with Dataset.from_frames")
    return found.to_numpy()


def _oldest_first(user_index: NDArray[np.int32], order: pl.Series | None) -> NDArray[np.int64] | None:
    """Row order by user, then ``order`` (nulls first), ties in file order; ``None`` where the rows are in that order already."""
    key = user_index.astype(np.int64)
    keys = [key]
    if order is not None and order.null_count() < len(order):
        low, high = int(order.min()), int(order.max())  # type: ignore[arg-type]
        if high - low >= 2**62 or low <= -(2**62):  # differences would not fit
            order, low, high = order.rank("dense"), 1, len(order)
        span = high - low + 2
        place = (order.cast(pl.Int64) - (low - 1)).fill_null(0).to_numpy()
        # One 64-bit key sorts three times as fast as two columns; it fits unless users x time range passes 2^63.
        keys = [key * span + place] if (int(key.max()) + 1) * span < 2**63 else [key, place]
    if len(keys) == 1 and bool((keys[0][1:] >= keys[0][:-1]).all()):
        return None
    frame = pl.DataFrame({f"key{i}": k for i, k in enumerate(keys)}).with_row_index("row")
    return frame.sort([f"key{i}" for i in range(len(keys))], maintain_order=True)["row"].to_numpy().astype(np.int64)
