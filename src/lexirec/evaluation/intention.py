"""Intention: does a spoken wish lift the item that it describes? One wish per held-out item, mixed with the person by ``alpha``.

The wishes are made or read in :mod:`lexirec.evaluation.wishes`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.evaluation import metrics as m
from lexirec.evaluation.ranking import ENCODE_AHEAD, Questions, Scores, Task, full_ranks, make_task
from lexirec.evaluation.ranks import Bools, Ints
from lexirec.evaluation.wishes import TEMPLATE, Intentions, given_queries, intention_queries, read_wishes
from lexirec.progress import track
from lexirec.query import Query

ALPHAS: Final = tuple(n / 10 for n in range(11))
BUILT: Final = "built from attributes"


class _Mixed(Scores):
    """Scores for one ``alpha`` after another: where a model mixes linearly, each person and each wish is encoded once for all of them."""

    def __init__(self, model: Any, train: TrainSet, seen: Sequence[Heldout], task: Task, texts: Sequence[str]) -> None:
        self.seen, self.task, self.texts = seen, task, texts
        self.model, self.train = model, train
        super().__init__(model, train, self._asking(np.arange(len(texts)), 0.0))
        self.parts: tuple[torch.Tensor, Ints, torch.Tensor, Ints] | None = None
        if not self.by_vectors or self.questions.unknown or not self._all_read():
            return
        _, first, person = np.unique(task.users, return_index=True, return_inverse=True)
        numbers: dict[str, int] = {}
        wish = np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), dtype=np.int64, count=len(texts))
        parts = self._vectors(first, 0.0), person, self._vectors(np.unique(wish, return_index=True)[1], 1.0), wish
        # Asked and not assumed: a model may do more than mix.
        some = np.unique(np.linspace(0, len(texts) - 1, 16).astype(np.int64))
        asked, mixed = self._vectors(some, 0.5), (parts[0][person[some]] + parts[2][wish[some]]) / 2
        if torch.allclose(asked, mixed, rtol=1e-4, atol=1e-5 * float(mixed.abs().max())):
            self.parts = parts

    def _asking(self, rows: Ints, alpha: float) -> Questions:
        words = [self.texts[row] for row in rows.tolist()]
        return Questions.to(self.model, self.train, self.seen, self.task.users[rows], words, alpha)

    def _all_read(self) -> bool:
        """Whether the model reads each wish; one that its encoder knows no word of is answered by the person, so it has no vector."""
        basis = getattr(self.model, "answered_by", None)
        if basis is None:
            return True
        distinct = np.unique(np.array(self.texts, dtype=object), return_index=True)[1]
        return all(basis(query).words for query in self._asking(distinct, 1.0).block(0, len(distinct)))

    def _vectors(self, rows: Ints, alpha: float) -> torch.Tensor:
        """Query vectors of some rows, ``(len(rows), D)``."""
        self.questions = self._asking(rows, alpha)
        return torch.cat([super(_Mixed, self).encode(lo, min(lo + ENCODE_AHEAD, len(rows))) for lo in range(0, len(rows), ENCODE_AHEAD)])

    def ask(self, alpha: float) -> "_Mixed":
        """The same for another weight of the wish."""
        self.alpha, self.questions = alpha, self._asking(np.arange(len(self.texts)), alpha)
        return self

    def encode(self, lo: int, hi: int) -> torch.Tensor:
        if self.parts is None:
            return super().encode(lo, hi)
        people, person, words, wish = self.parts
        return (1 - self.alpha) * people[person[lo:hi]] + self.alpha * words[wish[lo:hi]]


@dataclass(frozen=True, eq=False)
class IntentionEvaluation:
    """HR and NDCG for each ``alpha``.

    Attributes:
        rows: per alpha ``{"alpha": ..., "hr@5": ..., "ndcg@5": ...}``; means over wishes, expected over ties.
        n_queries, n_users: wishes and their users.
        skipped: targets without attributes, or without a wish where wishes were given.
        wishes: where they are from: :data:`BUILT`, or ``file`` (its name) and ``sha256`` of what was given.
        repeat_targets: targets left out because the user has the item already.
        per_query: ``user_id``, ``item_id``, ``intent``, and each metric per alpha as ``hr@5 (alpha 0.5)``.
        protocol: in words.
        seconds: wall time.
    """

    rows: list[dict[str, float]]
    n_queries: int
    n_users: int
    skipped: int
    wishes: str | dict[str, str]
    repeat_targets: int
    per_query: pl.DataFrame
    protocol: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All but ``per_query``, ready for JSON, with three wishes as examples."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "per_query"}
        return {**found, "examples": self.per_query["intent"].unique(maintain_order=True).head(3).to_list()}


@torch.no_grad()
def evaluate_intention(
    model: Any,
    train: TrainSet,
    targets: Heldout,
    alphas: Sequence[float] = ALPHAS,
    k: int = 5,
    max_users: int | None = None,
    seed: int = 0,
    *,
    seen: Sequence[Heldout] = (),
    attributes: Sequence[str] | None = None,
    template: str = TEMPLATE,
    wishes: Any = None,
    progress: bool = False,
) -> IntentionEvaluation:
    """Ask with ``Query(user_id, history, intent, alpha)`` for each target apart, and see whether the first ``k`` items hold it.

    All items that the user has not seen are candidates, the user's other targets among them. ``alpha = 0`` is the plain ranking,
    ``alpha = 1`` the wish alone.

    Args:
        model: as for :func:`~lexirec.evaluation.evaluate.evaluate`; it must answer ``intent``.
        train: what the model was fitted on.
        targets: the held-out part.
        alphas: weights of the wish.
        k: length of the list.
        max_users: a random draw of users; all by default.
        seed: of that draw.
        seen: further parts known at this time, masked and appended to the history.
        attributes: columns to speak of; see :func:`wishes`.
        template: sentence of the wish.
        wishes: a table (Polars, pandas, Arrow) or file of wishes in place of those built from attributes; see :func:`given_queries`.
            Targets without one are left out, and ``max_users`` draws among users who have one.
        progress: show a bar on stderr.

    Raises:
        InputError: if no target item has an attribute or a wish, ``k`` or ``max_users`` is below 1, the wishes are damaged, or the model
            can't answer a wish.
    """
    start = time.perf_counter()
    if k < 1 or (max_users is not None and max_users < 1):
        raise InputError(f"k is {k} and max_users is {max_users}; both must be at least 1")
    if not len(alphas):
        raise InputError("alphas is empty; give at least one weight between 0 and 1")
    for alpha in alphas:
        Query(alpha=alpha)  # refuses what is no weight
    source: str | dict[str, str] = BUILT
    if wishes is None:
        drawn = _drawn(targets.user_index, max_users, seed)
        targets = Heldout(targets.user_index[drawn], targets.item_index[drawn], targets.name)
        wanted = intention_queries(train, targets, attributes, template)
    else:
        if attributes is not None or template != TEMPLATE:
            raise InputError("attributes and template have no effect on wishes that are given; leave them out")
        table, where, source = read_wishes(wishes)
        wanted = given_queries(train, targets, table, where)
        drawn = _drawn(wanted.user_index, max_users, seed)
        texts = [text for text, kept in zip(wanted.texts, drawn.tolist(), strict=True) if kept]
        wanted = Intentions(wanted.user_index[drawn], wanted.item_index[drawn], texts, wanted.skipped)
    part = Heldout(wanted.user_index.astype(np.int32), wanted.item_index.astype(np.int32), targets.name)
    task = make_task(train, part, seen, mask_seen=True).per_target()
    # Both are sorted by user and item; repeat targets are gone from the task.
    pair = max(train.n_items, 1)
    texts_at = np.searchsorted(wanted.user_index * pair + wanted.item_index, task.users * pair + task.items)
    texts = [wanted.texts[at] for at in texts_at.tolist()]
    metrics = (m.Metric("hr", k), m.Metric("ndcg", k))
    rows: list[dict[str, float]] = []
    columns: dict[str, Any] = {
        c.USER_ID: train.users.name(task.users).rename(c.USER_ID),
        c.ITEM_ID: train.item_map.name(task.items).rename(c.ITEM_ID),
        "intent": texts,
    }
    scores = _Mixed(model, train, seen, task, texts)
    for alpha in track(alphas, "alphas", enabled=progress):
        ranks, _ = full_ranks(task, train, scores.ask(float(alpha)), depth=k, seed=seed, progress=progress)
        values = {metric.key: m.per_user(metric, ranks) for metric in metrics}
        rows.append({"alpha": float(alpha), **{key: float(value.mean()) for key, value in values.items()}})
        columns.update({f"{key} (alpha {alpha:g})": value for key, value in values.items()})
    return IntentionEvaluation(
        rows=rows,
        n_queries=len(texts),
        n_users=len(np.unique(task.users)),
        skipped=wanted.skipped,
        wishes=source,
        repeat_targets=task.repeat_targets,
        per_query=pl.DataFrame(columns),
        protocol="full ranking, seen masked, one wish per target "
        + ("from attributes without the title" if wishes is None else "that was given"),
        seconds=time.perf_counter() - start,
    )


def _drawn(users: NDArray[np.integer], most: int | None, seed: int) -> Bools:
    """Which rows belong to a random draw of at most so many users."""
    people = np.unique(users)
    if most is None or len(people) <= most:
        return np.ones(len(users), dtype=bool)
    return np.isin(users, np.random.default_rng(seed).choice(people, most, replace=False))
