"""Lists of items: what may be shown, what a person has already, the best of what is left, the nearest to an item."""

import operator
from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec import columns as c
from lexirec.data.ids import IdMap, alike, bare
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError
from lexirec.query import Basis, Query, as_id_list

if TYPE_CHECKING:
    from lexirec.models.contract import Recommender

ANSWER = {
    c.QUERY: pl.Int64, c.USER_ID: pl.String, c.ITEM_ID: pl.String, c.SCORE: pl.Float32, c.RANK: pl.Int64, "answered_by": pl.String,
    "reason": pl.String,
}  # fmt: skip
"""Columns of what :meth:`~lexirec.models.contract.Recommender.recommend` gives."""


def list_length(k: Any) -> int:
    """``k`` as a whole number.

    Raises:
        InputError: if it is none, or below 1.
    """
    try:
        length = operator.index(k)
    except TypeError:
        raise InputError(f"k = {k!r} is of type {type(k).__name__}; give a whole number, at least 1") from None
    if length < 1:
        raise InputError(f"k = {k}; ask for at least one item")
    return length


def allowed_items(items: IdMap, candidates: Iterable[Any] | None, exclude: Iterable[Any] | None) -> Tensor | None:
    """Items that may be shown, ``(I,)`` bool; ``None``: all.

    Raises:
        InputError: if none of the candidates is known.
    """
    if candidates is None and exclude is None:
        return None
    allowed = torch.full((len(items),), candidates is None)
    if candidates is not None:
        ids = as_id_list(list(candidates) if isinstance(candidates, Set) else candidates, "candidates")
        at = items.index(ids)
        unknown = [name for name, position in zip(ids, at, strict=True) if position < 0]
        if not ids:
            warn("the list of candidates is empty, so nothing can be shown")
        elif len(unknown) == len(ids):
            such = f", such as {unknown[0]!r}{alike(unknown[0], items.ids)}"
            raise InputError(f"none of {len(ids)} candidates is in the catalogue{such}; give its item ids, or add them with add_items")
        elif unknown:
            names = shown(pl.Series(unknown))
            warn(f"{len(unknown):,} of {len(ids):,} candidates are not in the catalogue ({names}); they are left out")
        allowed[at[at >= 0]] = True
    if exclude is not None:
        ids = as_id_list(list(exclude) if isinstance(exclude, Set) else exclude, "exclude")
        at = items.index(ids)
        allowed[at[at >= 0]] = False
        _warn_of_shown(items, [name for name, position in zip(ids, at, strict=True) if position < 0], len(ids))
    return allowed


def _warn_of_shown(items: IdMap, unknown: Sequence[str], asked: int) -> None:
    """Say where ids to be left out are not in the catalogue because they were written otherwise: their items would be shown."""
    if not unknown:
        return
    meant = pl.Series(unknown, dtype=pl.String)
    meant = meant.filter(bare(meant).is_in(bare(items.ids).implode()))
    if len(meant):
        such = f"{meant[0]!r}{alike(meant[0], items.ids)}"
        warn(f"{len(meant):,} of {asked:,} excluded ids are written otherwise in the catalogue, so they may be shown: {such}")
    elif len(unknown) == asked:
        warn(
            f"none of {asked:,} excluded ids is in the catalogue, such as {unknown[0]!r}{alike(unknown[0], items.ids)}: nothing is left out"
        )


def seen_items(model: "Recommender", queries: Sequence[Query], later: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and item positions of what each query's person already has; with ``later`` what came after the training part too."""
    stores = [(model.history_offsets, model.history_items), *([model.later] if later and model.later is not None else [])]
    rows: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    seen: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for row, query in enumerate(queries):
        if (at := model.users.position(query.user_id)) >= 0:
            for offsets, items in stores:
                own = items[offsets[at] : offsets[at + 1]].astype(np.int64)
                seen.append(own)
                rows.append(np.full(len(own), row))
        if query.history is not None and len(query.history):
            given = model.item_map.index(query.history)
            given = given[given >= 0]
            seen.append(given)
            rows.append(np.full(len(given), row))
    return np.concatenate(rows), np.concatenate(seen)


def elsewhere(model: "Recommender", queries: Sequence[Query]) -> Tensor:
    """Items of data sets that the query's person is not of, ``(B, I)`` bool; none for words alone, and no item added after training."""
    assert model.borders is not None  # noqa: S101 (asked of a mix alone)
    users, items = model.borders
    own = torch.zeros(len(queries), len(items) - 1, dtype=torch.bool)
    for row, query in enumerate(queries):
        if (at := model.users.position(query.user_id)) >= 0:
            own[row, int(np.searchsorted(users, at, side="right")) - 1] = True
        if query.history is not None and len(query.history):
            given = model.item_map.index(query.history)
            given = given[(given >= 0) & (given < items[-1])]
            own[row, np.searchsorted(items, given, side="right") - 1] = True
    own[~own.any(1)] = True
    others = (~own).repeat_interleave(torch.from_numpy(np.diff(items)), 1)
    return torch.nn.functional.pad(others, (0, len(model.item_map) - others.shape[1]))


def best_items(items: IdMap, queries: Sequence[Query], scores: Tensor, bases: Sequence[Basis], k: int) -> pl.DataFrame:
    """The ``k`` best items of each query by scores ``(B, I)``, with what each was answered from; those of minus infinity are left out."""
    best, at = torch.topk(scores, min(k, scores.shape[1]), dim=1)
    rows_kept, columns_kept = torch.nonzero(torch.isfinite(best), as_tuple=True)
    who = rows_kept.numpy()
    return pl.DataFrame(
        {
            c.QUERY: who,
            c.USER_ID: pl.Series([queries[i].user_id for i in who], dtype=pl.String),
            c.ITEM_ID: items.name(at[rows_kept, columns_kept].numpy()),
            c.SCORE: best[rows_kept, columns_kept].numpy(),
            c.RANK: columns_kept.numpy() + 1,
            "answered_by": pl.Series([str(basis) for basis in bases], dtype=pl.String).gather(who),
            "reason": pl.Series([basis.reason or None for basis in bases], dtype=pl.String).gather(who),
        },
        schema=ANSWER,
    )


def nearest_items(items: IdMap, at: NDArray[np.int64], scores: Tensor, k: int) -> pl.DataFrame:
    """The frame of ``similar_items`` from scores ``(len(at), I)`` of all items for those at positions ``at``, which are left out."""
    scores[torch.arange(len(at)), torch.from_numpy(at)] = -torch.inf
    best, near = torch.topk(scores, min(k, scores.shape[1] - 1), dim=1)
    return pl.DataFrame(
        {
            c.ITEM_ID: np.repeat(np.asarray(items.name(at).to_list(), dtype=object), best.shape[1]).tolist(),
            "similar_item_id": items.name(near.reshape(-1).numpy()),
            c.SCORE: best.reshape(-1).numpy(),
            c.RANK: np.tile(np.arange(1, best.shape[1] + 1), len(at)),
        },
        schema_overrides={c.ITEM_ID: pl.String},
    )


__all__ = ["ANSWER", "allowed_items", "best_items", "elsewhere", "list_length", "nearest_items", "seen_items"]
