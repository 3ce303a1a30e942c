"""Several data sets as one."""

import hashlib
from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.ids import IdMap
from lexirec.errors import InputError


def mix(parts: Sequence[tuple[TrainSet, Heldout | None]], name: str = "mix") -> tuple[TrainSet, Heldout | None]:
    """Several training sets side by side, as blocks: a block-diagonal graph and negatives from the sample's own block.

    Ids are prefixed with the data set's name (``"beauty/B001"``), since ids of different catalogues are not comparable. Of the other
    columns of the events the reviews' texts stay (null in a data set without them). Of the catalogues' columns of one name, strings beside
    lists become lists of one, and numbers beside strings strings.

    Args:
        parts: training sets with their validation parts (``None`` where there is none).
        name: name of the mix.

    Returns:
        The mixed training set and the validation part in its index space (``None`` if no part has one).

    Raises:
        InputError: if two data sets have the same name, or columns of one name that can't be read as one.

    Source: AlphaRec (arXiv 2407.05441), zero-shot setting: joint training on several domains.
    """
    names = [train.name for train, _ in parts]
    if len(set(names)) < len(names):
        raise InputError(f"data sets of a mix need different names, since their ids are prefixed by them; there are {names}")
    frames, users, indices, user_parts, item_parts = [], [], [], [], []
    user_borders, item_borders = [0], [0]
    valid_users, valid_items = [], []
    for train, valid in parts:
        prefix = pl.lit(f"{train.name}/")
        reviews = [pl.col(c.REVIEW).cast(pl.String)] if c.REVIEW in train.interactions.columns else []
        frames.append(
            train.interactions.select(
                (prefix + pl.col(c.USER_ID)).alias(c.USER_ID), (prefix + pl.col(c.ITEM_ID)).alias(c.ITEM_ID), *reviews
            )
        )
        users.append(pl.select(prefix + train.users.ids).to_series().rename("id"))
        indices.append(train.item_index + item_borders[-1])
        user_parts.append(np.diff(train.offsets))
        item_parts.append(train.new_items)
        if valid is not None:
            valid_users.append(valid.user_index + user_borders[-1])
            valid_items.append(valid.item_index + item_borders[-1])
        user_borders.append(user_borders[-1] + train.n_users)
        item_borders.append(item_borders[-1] + train.n_items)
    mixed = TrainSet(
        items=_one_catalogue([train for train, _ in parts]),
        users=IdMap(pl.concat(users)),
        interactions=pl.concat(frames, how="diagonal"),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(user_parts))]).astype(np.int64),
        item_index=np.concatenate(indices).astype(np.int32),
        new_items=np.concatenate(item_parts),
        user_domains=np.array(user_borders, dtype=np.int64),
        item_domains=np.array(item_borders, dtype=np.int64),
        content_hash=hashlib.sha256("".join(train.content_hash for train, _ in parts).encode()).hexdigest(),
        name=name,
        domain_hashes=tuple(train.content_hash for train, _ in parts),
        domain_items=tuple(train.items for train, _ in parts),
    )
    if not valid_users:
        return mixed, None
    return mixed, Heldout(np.concatenate(valid_users).astype(np.int32), np.concatenate(valid_items).astype(np.int32), "valid")


def _one_catalogue(parts: Sequence[TrainSet]) -> pl.DataFrame:
    """The catalogues below each other, with the union of their columns and prefixed ids."""
    frames = [train.items.with_columns((pl.lit(f"{train.name}/") + pl.col(c.ITEM_ID)).alias(c.ITEM_ID)) for train in parts]
    for name in dict.fromkeys(name for frame in frames for name in frame.columns):
        having = [at for at, frame in enumerate(frames) if name in frame.columns]
        types = {parts[at].name: frames[at].schema[name] for at in having}
        if len(set(types.values())) < 2:
            continue
        kinds = {_kind(dtype) for dtype in types.values() if dtype != pl.Null}
        for at in having:
            if _kind(types[parts[at].name]) == "string":
                text = pl.col(name).cast(pl.String)
                one = pl.when(text.is_not_null()).then(pl.concat_list(text)) if "list" in kinds else text
                frames[at] = frames[at].with_columns(one.alias(name))
        if not _stack([frames[at].select(name) for at in having], kinds):
            held = ", ".join(f"{dtype} in {dataset}" for dataset, dtype in types.items())
            raise InputError(
                f"items column {name!r} is {held}, which can't be read as one; give it one type in all data sets of the mix, or leave it"
                " out"
            )
    return pl.concat(frames, how="diagonal_relaxed")


def _stack(columns: list[pl.DataFrame], kinds: set[str]) -> bool:
    """Whether columns of these kinds can stand below each other."""
    if len(kinds) > 1 and kinds not in ({"list", "string"}, {"number", "string"}):
        return False
    try:
        pl.concat(columns, how="vertical_relaxed")
    except pl.exceptions.PolarsError:
        return False
    return True


def _kind(dtype: pl.DataType) -> str:
    """What types can be read as one."""
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    if isinstance(dtype, pl.List | pl.Array):
        inner = _kind(cast(pl.DataType, dtype.inner))
        return "list" if inner in ("string", "number", "Null") else f"list of {inner}"
    return "number" if dtype.is_numeric() else "time" if dtype.is_temporal() else str(dtype.base_type())


def domain_part(train: TrainSet, number: int) -> TrainSet:
    """One data set of a mix as it was before mixing: its own ids, columns and content hash."""
    if train.n_domains == 1:
        return train
    u0, u1 = (int(v) for v in train.user_domains[number : number + 2])
    i0, i1 = (int(v) for v in train.item_domains[number : number + 2])
    items = train.domain_items[number]
    name = str(train.items[c.ITEM_ID][i0]).removesuffix(f"/{items[c.ITEM_ID][0]}")
    events = slice(int(train.offsets[u0]), int(train.offsets[u1]))

    def own(column: str) -> pl.Expr:
        return pl.col(column).str.strip_prefix(f"{name}/")

    log = train.interactions[events].with_columns(own(c.USER_ID), own(c.ITEM_ID))
    if c.REVIEW in log.columns and log[c.REVIEW].null_count() == log.height:  # another data set's column
        log = log.drop(c.REVIEW)
    return TrainSet(
        items=items,
        users=IdMap(train.users.ids[u0:u1].str.strip_prefix(f"{name}/")),
        interactions=log,
        offsets=train.offsets[u0 : u1 + 1] - train.offsets[u0],
        item_index=train.item_index[events] - np.int32(i0),
        new_items=train.new_items[i0:i1],
        user_domains=np.array([0, u1 - u0], dtype=np.int64),
        item_domains=np.array([0, i1 - i0], dtype=np.int64),
        content_hash=train.domain_hashes[number] if train.domain_hashes else "",
        name=name,
    )
