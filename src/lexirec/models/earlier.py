"""What an earlier run was trained on, looked at before a training or an evaluation builds on it: held-out events would leak through it.

stored histories of the run -> events of these users and items -> those outside of this training part: told, or refused
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.data.mixing import domain_part
from lexirec.errors import InputError
from lexirec.models.contract import Recommender

LEAKED = 0.01
"""Share of events seen by the run from which it is refused; copies of a few events in two published sets are told."""
EVENT = [c.USER_ID, c.ITEM_ID]
BUILT_ON = ("start", "pretrained", "teacher", "vectors")
"""Settings that name an earlier run's folder."""


def learned_events(model: Recommender, train: TrainSet, earlier: Sequence[Recommender] | None = None) -> pl.DataFrame:
    """Distinct events that a run, and what it was built on, was trained on; see :func:`_events_of`.

    Args:
        model: the run's.
        train: the training part of the data set.
        earlier: what it was built on, where that was read already; see :func:`built_on`.
    """
    return pl.concat([_events_of(one, train) for one in (model, *(built_on(model) if earlier is None else earlier))]).unique(EVENT)


def built_on(model: Recommender) -> list[Recommender]:
    """The earlier runs whose weights or vectors a run began with, and theirs; one that is gone is told."""
    from lexirec.models import available, load_model

    found: list[Recommender] = []
    queue, seen = [model], set()
    while queue:
        config = queue.pop().config
        for setting in BUILT_ON:
            folder = getattr(config, setting, None)
            if not isinstance(folder, str) or folder in seen or (folder in available() and not Path(folder).exists()):
                continue
            seen.add(folder)
            if not Path(folder).exists():
                warn(f"{setting} = {folder!r}, which a run was built on, is gone: whether that saw held-out events can't be checked")
                continue
            found.append(load_model(folder))
            queue.append(found[-1])
    return found


def _events_of(model: Recommender, train: TrainSet) -> pl.DataFrame:
    """Distinct events of a run's training part as one data set calls them: under its own ids, or as a part of a mix.

    A part of another name counts where most of its items that this data set has too have the same title: it is this data set renamed, or
    another edition of it.

    Args:
        model: the run's.
        train: the training part of the data set.

    Returns:
        ``user_id``, ``item_id`` and the ``title`` that the run's catalogue has for the item.
    """
    owners = np.repeat(np.arange(len(model.users)), np.diff(model.history_offsets))
    titles = model.items[c.TITLE] if c.TITLE in model.items.columns else pl.repeat(None, model.items.height, dtype=pl.String, eager=True)
    learned = pl.DataFrame(
        {c.USER_ID: model.users.name(owners), c.ITEM_ID: model.item_map.name(model.history_items), c.TITLE: titles[model.history_items]}
    ).unique(EVENT)
    part = pl.col(c.USER_ID).str.extract(r"^([^/]+)/", 1)
    mixed = learned.with_columns(part.alias("part")).filter(pl.col(c.ITEM_ID).str.starts_with(pl.col("part") + "/"))
    mixed = mixed.with_columns(pl.col(*EVENT).str.replace(r"^[^/]+/", ""))
    found = [learned]
    for (name,), events in mixed.group_by("part", maintain_order=True):
        if name == train.name or _same_titles(events, train, strict=True):
            found.append(events.drop("part"))
    return pl.concat(found).unique(EVENT)


def _same_titles(events: pl.DataFrame, train: TrainSet, strict: bool = False) -> bool:
    """Whether most items of these events that a data set has too have the title that they have there; missing ones differ if ``strict``."""
    if c.TITLE not in train.items.columns:
        return not strict
    both = events.unique(c.ITEM_ID).join(train.items.select(c.ITEM_ID, pl.col(c.TITLE).alias("here")), on=c.ITEM_ID, how="inner")
    same = pl.col(c.TITLE) == pl.col("here") if strict else pl.col(c.TITLE).eq_missing(pl.col("here"))
    return both.filter(same).height * 2 >= max(both.height, 1)


def events_outside(model: Recommender, train: TrainSet, earlier: Sequence[Recommender] | None = None) -> int:
    """Distinct events that a run was trained on, of this data set's users and items and not in this training part.

    Ids alone don't make it the same data set, since many count their users and items from 1: where most of the items in question have
    other titles in the run's catalogue, there are none.

    Args:
        model: the run's.
        train: the training part of one data set.
        earlier: see :func:`learned_events`.
    """
    known = learned_events(model, train, earlier).join(train.items, on=c.ITEM_ID, how="semi")
    known = known.join(train.users.ids.to_frame(c.USER_ID), on=c.USER_ID, how="semi")
    if not _same_titles(known, train):
        return 0
    return known.join(train.interactions, on=EVENT, how="anti").height


def refuse_leaks(run: str, model: Recommender, train: TrainSet) -> None:
    """Look whether a run that a training starts from has seen events that may be held out here; a few are warned about.

    Args:
        run: setting and folder for the message, such as ``start = 'RUN'``.
        model: the run's.
        train: the training part of one data set or a mix.

    Raises:
        InputError: if they are :data:`LEAKED` of a data set's training events or more.
    """
    earlier = built_on(model)
    if all(same_histories(one, train) for one in (model, *earlier)):
        return
    for part in (domain_part(train, number) for number in range(train.n_domains)):
        seen = events_outside(model, part, earlier)
        found = (
            f"{run} was trained on {seen:,} events of {part.name} outside of this training part ({part.n_interactions:,} events); they may"
            " be held out here"
        )
        if seen and seen >= LEAKED * part.n_interactions:
            raise InputError(f"{found}: train that run with the same split and filters, or on other data")
        if seen:
            warn(found)


def same_histories(model: Recommender, train: TrainSet) -> bool:
    """Whether a model was fitted on these very events."""
    return bool(
        model.users.ids.equals(train.users.ids)
        and model.item_map.ids.equals(train.item_map.ids)
        and np.array_equal(model.history_offsets, train.offsets)
        and np.array_equal(model.history_items, train.item_index)
    )


__all__ = ["LEAKED", "built_on", "events_outside", "learned_events", "refuse_leaks", "same_histories"]
