"""Rank every user's held-out items with a fitted model and score the ranking: one protocol for every model."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import Dataset, Heldout, Split, TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError, nearest
from lexirec.evaluation import metrics as m
from lexirec.evaluation.groups import USER_GROUPS, GroupRules, item_groups, rules_of, user_groups
from lexirec.evaluation.ranking import Questions, Scores, Task, full_ranks, make_task
from lexirec.evaluation.ranks import Bools, Ints, Ranks
from lexirec.evaluation.sampled import sampled_ranks

LEARNED = 0.01
"""Share of targets that the model was fitted on from which that is said: a few may be copies."""
UNKNOWN = 0.2
"""Share of users of whom nothing is known from which that is said."""
LIST_LENGTH = 10
"""Places of a list that count for popularity bias: the cut-off of LLMEmb's harness."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of one evaluation.

    Attributes:
        metrics: mean over users, expected value over ties; beyond-accuracy metrics too.
        optimistic, pessimistic: the accuracy metrics with every tie settled for, and against, the targets.
        groups: the accuracy metrics (expected) of each group that has any target or user.
        group_sizes: ``users`` and ``targets`` behind each group's numbers, 0 for an empty group.
        groups_are: where the groups are cut, in words.
        per_user: ``user_id`` and each accuracy metric (expected), one row per ranked user.
        n_users, n_targets: what was ranked.
        repeat_targets: targets left out because the user has the item already and seen items are masked (they could never be found).
        duplicate_targets: further events of a target that the same user has twice; each counts once.
        seconds: wall time.
        protocol: in words, for example ``"full ranking, seen masked"``.
        ranks: the ranks behind the numbers, ``(N,)`` targets; below the longest list asked for they are only bounds.
        target_items: item of each target, ``(N,)``.
        inside: members of each group: targets ``(N,)`` bool of an item group, users ``(U,)`` bool of a user group.
        listed: ``(I,)``, how often each item is among the first :data:`LIST_LENGTH` of a list; ``None`` where no lists were made.
    """

    metrics: dict[str, float]
    optimistic: dict[str, float]
    pessimistic: dict[str, float]
    groups: dict[str, dict[str, float]]
    group_sizes: dict[str, dict[str, int]]
    groups_are: str
    per_user: pl.DataFrame
    n_users: int
    n_targets: int
    repeat_targets: int
    duplicate_targets: int
    seconds: float
    protocol: str
    ranks: Ranks
    target_items: Ints
    inside: dict[str, Bools]
    listed: Ints | None

    def to_dict(self) -> dict[str, Any]:
        """What is ready for JSON: all but ``per_user`` and what is needed to cut the numbers otherwise."""
        left_out = ("per_user", "ranks", "target_items", "inside", "listed")
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in left_out}

    def of_group(self, name: str) -> pl.DataFrame:
        """``per_user`` of one group: a user with a target in an item group, or in a user group; for paired tests inside a group.

        Raises:
            InputError: if the group was not asked for.
        """
        if name not in self.inside:
            raise InputError(
                f"the group {name!r} was not evaluated{nearest(name, self.inside)}; there are {', '.join(self.inside) or 'none'}"
            )
        if name in USER_GROUPS:
            return self.per_user.filter(pl.Series(self.inside[name]))
        return self.of_targets(self.inside[name])

    def of_targets(self, targets: Bools) -> pl.DataFrame:
        """``per_user`` judged by some targets only, ``(N,)`` bool, each ranked among all items; users without one are left out.

        Exact at every cut-off that was asked for; ``mrr`` without cut-off is exact for the groups only.
        """
        part, kept = self.ranks.select(targets)
        keys = [name for name in self.per_user.columns if name != c.USER_ID]
        # "ndcg@10 (100 sampled)" is ndcg@10 of other ranks
        values = {key: m.per_user(m.parse_metric(key.split(" ")[0]), part) for key in keys}
        return pl.DataFrame({c.USER_ID: self.per_user[c.USER_ID].gather(pl.Series(kept)), **values})

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value:.4f}" for key, value in self.metrics.items())
        return f"Evaluation({self.protocol}; {self.n_users:,} users; {shown})"


def check_train(train: Any) -> None:
    """Refuse what is no training part.

    Raises:
        InputError: with the way to the training part.
    """
    if isinstance(train, TrainSet):
        return
    cure = "give the training part of a split, or data.train_set()"
    if isinstance(train, Dataset):
        cure = "give its events as a training part: data.train_set(), or data.split('leave-one-out').train"
    elif isinstance(train, Split):
        cure = "give its training part: split.train"
    elif hasattr(train, "columns"):
        cure = "make a data set of it: Dataset.from_frames(interactions, items).train_set()"
    raise InputError(f"train is of type {type(train).__name__}; {cure}")


def check_heldout(part: Any, name: str) -> None:
    """Refuse what is no held-out part; ``name`` is the argument's.

    Raises:
        InputError: with the way to the held-out part.
    """
    if isinstance(part, Heldout):
        return
    wanted = "split.valid" if name == "valid" else "split.test"
    cure = f"give a held-out part of a split: {wanted}" + ("" if isinstance(part, Split) else " of split = data.split('leave-one-out')")
    raise InputError(f"{name} is of type {type(part).__name__}; {cure}")


def _warn_of(model: Any, train: TrainSet, task: Task, questions: Questions, name: str) -> None:
    """Say what would make the numbers mean something else: targets that the model has learned from, users of whom nothing is known."""
    learned = _learned(model, train, task)
    if learned >= LEARNED * len(task.items):
        warn(
            f"{learned:,} of {len(task.items):,} targets of the {name} part were among the events that {model.name} was fitted on; fit it"
            " on this split's own training part (split.train)"
        )
    if questions.unknown >= UNKNOWN * len(task.users):
        warn(
            f"{questions.unknown:,} of {len(task.users):,} users of the {name} part have no event before it that the model knows: it"
            " answers them by popularity, and the numbers say little of it"
        )


def _learned(model: Any, train: TrainSet, task: Task) -> int:
    """Targets that are among the events a model was fitted on, by their ids; none where that was this very training part."""
    offsets, items = getattr(model, "history_offsets", None), getattr(model, "history_items", None)
    if offsets is None or items is None or (np.array_equal(offsets, train.offsets) and np.array_equal(items, train.item_index)):
        return 0
    users = model.users.index(train.users.name(np.repeat(task.users, np.diff(task.offsets))))
    at = model.item_map.index(train.item_map.name(task.items))
    known = (users >= 0) & (at >= 0)
    size = max(len(model.item_map), 1)
    owners = np.repeat(np.arange(len(model.users)), np.diff(offsets))
    return int(np.isin(users[known] * size + at[known], owners * size + items).sum())


@torch.no_grad()
def evaluate(
    model: Any,
    train: TrainSet,
    targets: Heldout,
    *,
    seen: Sequence[Heldout] = (),
    metrics: Iterable[str] = m.DEFAULT_METRICS,
    mask_seen: bool = True,
    groups: "bool | Iterable[str] | GroupRules | None" = None,
    sampled: int | None = None,
    beyond: bool = True,
    seed: int = 0,
    block_users: int | None = None,
    block_items: int | None = None,
    diversity_vectors: "NDArray[np.floating] | Tensor | None" = None,
    progress: bool = False,
) -> Evaluation:
    """Rank all items for every user with a target, and score the ranking.

    Each user is asked for by a :class:`~lexirec.query.Query` with ``user_id`` and ``history`` (item ids, oldest first). Users without
    a target are left out. In a mixed training set a user is ranked over the items of the own domain.

    Args:
        model: a :class:`~lexirec.evaluation.ranking.Ranker`.
        train: what the model was fitted on (or transferred to).
        targets: the held-out part to find.
        seen: further parts known at this time (at test: validation); masked like training items and appended to the history.
        metrics: names such as ``"ndcg@10"``; see :data:`~lexirec.evaluation.metrics.DEFAULT_METRICS`.
        mask_seen: leave out items that the user has already. Targets among them are then dropped and counted.
        groups: ``True`` for all groups, names of some, or :class:`~lexirec.evaluation.groups.GroupRules`.
        sampled: rank the targets among this many random items that the user never took, instead of all; metrics are named after it.
        beyond: add coverage, Gini, novelty and intra-list diversity at the largest cut-off.
        seed: of the shuffle that settles ties in the lists, and of the sampled items.
        block_users: users of a block of scores; by default as many as make about 64 MB.
        block_items: items of a block; by default all up to 4 million. With several blocks the product is computed twice.
        diversity_vectors: ``(I, D)`` vectors for ``ild@K``; by default the model's own item vectors.
        progress: show a bar on stderr.

    Returns:
        The :class:`Evaluation`.

    Raises:
        InputError: for a part of another type; an unknown metric or group, a part without targets, vectors or scores that are not finite
            or of a wrong shape.

    Memory: about 64 MB for scores, the item vectors, and a few numbers per target and list place; never users x items.
    """
    start = time.perf_counter()
    check_train(train)
    check_heldout(targets, "targets")
    wanted = m.parse_metrics(metrics)
    accuracy = [metric for metric in wanted if not metric.beyond]
    lists = [metric for metric in wanted if metric.beyond]
    if not accuracy:
        raise InputError(f"only {', '.join(metric.key for metric in lists)} asked for; add an accuracy metric such as 'ndcg@10'")
    if sampled is not None and lists:
        raise InputError(f"{lists[0].key} judges lists over the whole catalogue; it has no sampled version")
    rules = rules_of(groups)
    task = make_task(train, targets, seen, mask_seen)
    questions = Questions.to(model, train, seen, task.users)
    _warn_of(model, train, task, questions, targets.name)
    scores = Scores(model, train, questions)
    diversity = _diversity(scores, train, diversity_vectors)
    if beyond and sampled is None:
        names = [name for name in m.BEYOND if name != "ild" or diversity is not None]
        added = [m.Metric(name, m.largest_cut(accuracy) or 20) for name in names]
        lists += [metric for metric in added if metric not in lists]
    if diversity is None and any(metric.name == "ild" for metric in lists):
        raise InputError("ild@K needs item vectors and this model has none; give diversity_vectors=, for example the text vectors")

    of_items = item_groups(train, rules, (*seen, targets))
    memberships = {name: inside[task.items] for name, inside in of_items.items()}
    masking = "seen masked" if mask_seen else "nothing masked"
    if sampled is None:
        # Only MRR without cut-off looks deeper than the list, and only at a user's best target (of all, and of each group).
        unlimited = any(metric.k is None for metric in accuracy)
        best_of = [np.ones(len(task.items), dtype=bool), *memberships.values()] if unlimited else []
        depth = m.largest_cut([*accuracy, *lists])
        ranks, top = full_ranks(
            task, train, scores, depth=depth, best_of=best_of, lists=bool(lists), seed=seed,
            block_users=block_users, block_items=block_items, progress=progress,
        )  # fmt: skip
        protocol = f"full ranking, {masking}"
    else:
        ranks, top = sampled_ranks(task, train, (*seen, targets), scores, sampled, seed, progress), np.empty((0, 0), dtype=np.int32)
        # A negative is never an item of the user, so masking decides one thing only.
        repeats = "repeats left out" if mask_seen else "repeats ranked too"
        protocol = f"{sampled} sampled negatives per user (seed {seed}), {repeats}"
    suffix = "" if sampled is None else f" ({sampled} sampled)"

    values = {metric: m.per_user(metric, ranks) for metric in accuracy}
    means = {metric.key + suffix: float(value.mean()) for metric, value in values.items()}
    optimistic, pessimistic = dict(means), dict(means)
    if ranks.tied:
        for settled, found in ((ranks.optimistic(), optimistic), (ranks.pessimistic(), pessimistic)):
            found.update({metric.key + suffix: float(m.per_user(metric, settled).mean()) for metric in accuracy})
    found_groups: dict[str, dict[str, float]] = {}
    sizes: dict[str, dict[str, int]] = {}
    members = dict(memberships)
    for name, inside in memberships.items():
        part, kept = ranks.select(inside)
        sizes[name] = {"users": len(kept), "targets": len(part.greater)}
        if len(kept):
            found_groups[name] = {metric.key + suffix: float(m.per_user(metric, part).mean()) for metric in accuracy}
    for name, inside in user_groups(train, rules, seen).items():
        chosen = members[name] = inside[task.users]
        sizes[name] = {"users": int(chosen.sum()), "targets": int(ranks.counts[chosen].sum())}
        if chosen.any():
            found_groups[name] = {metric.key + suffix: float(value[chosen].mean()) for metric, value in values.items()}
    frame = {c.USER_ID: pl.Series(questions.ids, dtype=pl.String), **{metric.key + suffix: value for metric, value in values.items()}}
    return Evaluation(
        metrics={**means, **_beyond(lists, top, train, diversity)},
        optimistic=optimistic,
        pessimistic=pessimistic,
        groups=found_groups,
        group_sizes=sizes,
        groups_are=rules.describe(),
        per_user=pl.DataFrame(frame),
        n_users=ranks.n_users,
        n_targets=len(ranks.greater),
        repeat_targets=task.repeat_targets,
        duplicate_targets=task.duplicate_targets,
        seconds=time.perf_counter() - start,
        protocol=protocol,
        ranks=ranks,
        target_items=task.items,
        inside=members,
        listed=m.list_counts(top[:, :LIST_LENGTH], train.n_items) if top.shape[1] >= LIST_LENGTH else None,
    )


def _diversity(scores: Scores, train: TrainSet, given: "NDArray[np.floating] | Tensor | None") -> NDArray[np.float32] | None:
    """Unit item vectors for intra-list diversity, ``(I, D)``."""
    if given is None and not scores.by_vectors:
        return None
    vectors = scores.items if given is None else torch.as_tensor(given)
    if vectors.ndim != 2 or len(vectors) != train.n_items:
        raise InputError(f"diversity_vectors has shape {tuple(vectors.shape)} for {train.n_items:,} items; expected (I, D) in index order")
    unit: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float().cpu(), dim=1).numpy()
    return unit


def _beyond(lists: Sequence[m.Metric], top: NDArray[np.int32], train: TrainSet, diversity: NDArray[np.float32] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    counts: dict[int, Ints] = {}
    for metric in lists:
        k = metric.k or 0
        if k not in counts:
            counts[k] = m.list_counts(top[:, :k], train.n_items)
        if metric.name == "coverage":
            found[metric.key] = m.coverage(counts[k])
        elif metric.name == "gini":
            found[metric.key] = m.gini(counts[k])
        elif metric.name == "novelty":
            found[metric.key] = m.novelty(counts[k], train.popularity)
        elif diversity is not None:
            values = np.concatenate([m.ild(top[a : a + 4096, :k], diversity) for a in range(0, len(top), 4096)])
            # A list of one item has no pair; if no list has one, there is no diversity to speak of.
            found[metric.key] = float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
    return found
