"""Intention: does a spoken wish lift the item that it describes? One wish per held-out item, mixed with the person by ``alpha``.

The wishes of the AlphaRec paper (arXiv 2407.05441, Table 5) were never released. Here they are put together from the catalogue's
attributes (category, brand, year, ...) without the title, so that a model can't win by recognising the name. The numbers are therefore
not comparable to the paper's.
"""

import re
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
import torch

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError, nearest
from lexirec.evaluation import metrics as m
from lexirec.evaluation.ranking import Questions, Scores, full_ranks, make_task
from lexirec.evaluation.ranks import Ints

TEMPLATE: Final = "I am looking for {wish}."
ALPHAS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
MAX_WORDS = 40
"""Longest value of an attribute: a wish is a sentence, not a page."""
_CATEGORY = ("categories", "category", "genres", "main_category")
_PHRASES = {"brand": "by {}", "artist": "by {}", "author": "by {}", "year": "from {}", "city": "in {}", "price": "for {}"}


def _key(text: str) -> str:
    """Lower-case words with single spaces, so that case and punctuation can't hide a title."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _without(text: str, title: str) -> str:
    """``text`` without the words of ``title`` in a row, whatever case and punctuation."""
    words = re.findall(r"\w+", title)
    # Most phrases don't hold the title's first word: no pattern is compiled for them.
    if not words or words[0].casefold() not in text.casefold():
        return text
    pattern = r"(?<!\w)" + r"\W+".join(re.escape(word) for word in words) + r"(?!\w)"
    # Taking one out can bring the halves of another together.
    before = None
    while before != text:
        before, text = text, re.sub(pattern, " ", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", text).strip(" ,;:.-")


def _phrases(value: Any) -> list[str]:
    """The phrases of an attribute value, the most special first for a category path."""
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    found: list[str] = []
    for one in values:
        text = format(one, "g") if isinstance(one, float) else str(one) if one is not None else ""
        levels = [level.strip() for level in re.split(r"\s>\s|\|", text)]
        found += reversed(levels)
    return list(dict.fromkeys(phrase for phrase in found if phrase))


def _list(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _parts(row: dict[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Phrases of each attribute of one item, cut to :data:`MAX_WORDS` and free of the title."""
    title = row.get(c.TITLE) or ""
    found = {}
    for name in names:
        phrases = [_without(" ".join(phrase.split()[:MAX_WORDS]), title) for phrase in _phrases(row[name])]
        found[name] = [phrase for phrase in phrases if phrase]
    return found


def _sentence(template: str, parts: dict[str, list[str]]) -> str | None:
    """The wish in words; ``None`` if no attribute is left."""
    told = {name: _list(phrases) for name, phrases in parts.items() if phrases}
    if not told:
        return None
    kinds = list(dict.fromkeys(kind for name in _CATEGORY for kind in parts.get(name, ())))
    wish = f"something in {_list(kinds)}" if kinds else "something"
    for name, text in told.items():
        if name in _PHRASES:
            wish += " " + _PHRASES[name].format(text)
        elif name not in _CATEGORY:
            wish += f", {name.replace('_', ' ')}: {text}"
    return template.format_map({"wish": wish, **{name: told.get(name, "") for name in parts}})


def _attribute_names(items: pl.DataFrame, attributes: Sequence[str] | None) -> list[str]:
    """Columns to speak of; by default all but ids, titles, yes/no and decimal columns, and columns that mostly repeat the title."""
    usable = [name for name in items.columns if name not in (c.ITEM_ID, c.TITLE)]
    if attributes is not None:
        for name in attributes:
            if name == c.TITLE:
                raise InputError("attributes name 'title'; a wish must not contain the title")
            if name not in usable:
                known = ", ".join(usable) or "none"
                raise InputError(f"attributes name {name!r}, which the items don't have{nearest(name, usable)}; they have {known}")
        return list(attributes)
    found = []
    for name in usable:
        kind = items.schema[name]
        if kind == pl.Boolean or kind.is_float():
            continue
        if kind == pl.String and c.TITLE in items.columns:
            told = items.select(c.TITLE, name).drop_nulls().head(2000)
            repeats = sum(f" {_key(title)} " in f" {_key(text)} " for title, text in told.iter_rows() if _key(title))
            if told.height and repeats > told.height / 2:
                continue
        found.append(name)
    return found


def wishes(items: pl.DataFrame, attributes: Sequence[str] | None = None, template: str = TEMPLATE) -> list[str | None]:
    """A wish in English for each item, from its attributes and never from its title; ``None`` where an item has no attribute.

    Args:
        items: the catalogue.
        attributes: columns to speak of, in this order; by default every column that is not id, title, yes/no, decimal, or a
            repetition of the title.
        template: sentence with ``{wish}`` (the attributes as an English phrase) or with columns by name, ``{brand}`` for example.

    Raises:
        InputError: for an unknown column or placeholder.

    >>> wishes(pl.DataFrame({"item_id": ["1"], "title": ["Heat"], "year": [1995], "categories": [["Action", "Crime", "Heat"]]}))
    ['I am looking for something in Action and Crime from 1995.']
    """
    names = _attribute_names(items, attributes)
    places = {place for _, place, _, _ in string.Formatter().parse(template) if place is not None}
    for place in places - {"wish", *names}:
        known = ", ".join(names) or "no column"
        raise InputError(f"the template has {{{place}}}{nearest(place, ['wish', *names])}; it may have {{wish}} and {known}")
    if not places:
        raise InputError(f"the template {template!r} has no {{wish}}; every item would get the same words")
    found: list[str | None] = []
    fixed = f" {_key(template.format_map(dict.fromkeys(places, '')))} "
    for row in items.select(c.ITEM_ID, *([c.TITLE] if c.TITLE in items.columns else []), *names).iter_rows(named=True):
        parts = _parts(row, names)
        text = _sentence(template, parts)
        title = _key(row.get(c.TITLE) or "")
        if text and title and f" {title} " in f" {_key(text)} " and f" {title} " not in fixed:
            # Two phrases spell the title together ("Red, Dwarf and Comedy"): those that share a word with it are left out then.
            words = set(title.split())
            text = _sentence(template, {name: [one for one in told if not words & set(_key(one).split())] for name, told in parts.items()})
        found.append(text)
    return found


@dataclass(frozen=True, eq=False)
class Intentions:
    """Wishes for held-out items: one per user and target, ascending by user.

    Attributes:
        user_index, item_index: ``(N,)``, who wishes, and for which item.
        texts: ``(N,)`` the wishes.
        skipped: targets whose item has no attribute to speak of.
    """

    user_index: Ints
    item_index: Ints
    texts: list[str]
    skipped: int


def intention_queries(train: TrainSet, targets: Heldout, attributes: Sequence[str] | None = None, template: str = TEMPLATE) -> Intentions:
    """A wish for each distinct pair of user and target; see :func:`wishes`.

    Raises:
        InputError: if no target's item has any attribute.
    """
    keys = np.unique(targets.user_index.astype(np.int64) * max(train.n_items, 1) + targets.item_index)
    users, items = np.divmod(keys, max(train.n_items, 1))
    needed = np.unique(items)
    made = wishes(train.items[needed], attributes, template)
    texts = {item: text for item, text in zip(needed.tolist(), made, strict=True) if text is not None}
    kept = np.isin(items, np.fromiter(texts, dtype=np.int64, count=len(texts)))
    if not kept.any():
        raise InputError(
            f"none of the {len(needed):,} target items has an attribute to make a wish from (columns: {', '.join(train.items.columns)}); "
            "add categories, brand, year or a description to the items"
        )
    return Intentions(users[kept], items[kept], [texts[item] for item in items[kept].tolist()], int((~kept).sum()))


@dataclass(frozen=True, eq=False)
class IntentionEvaluation:
    """HR and NDCG for each ``alpha``.

    Attributes:
        rows: per alpha ``{"alpha": ..., "hr@5": ..., "ndcg@5": ...}``; means over wishes, expected over ties.
        n_queries, n_users: wishes and their users.
        skipped: targets without attributes.
        repeat_targets: targets left out because the user has the item already.
        per_query: ``user_id``, ``item_id``, ``intent``, and each metric per alpha as ``hr@5 (alpha 0.5)``.
        protocol: in words.
        seconds: wall time.
    """

    rows: list[dict[str, float]]
    n_queries: int
    n_users: int
    skipped: int
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
        progress: show a bar on stderr.

    Raises:
        InputError: if no target item has an attribute, ``k`` or ``max_users`` is below 1, or the model can't answer a wish.
    """
    start = time.perf_counter()
    if k < 1 or (max_users is not None and max_users < 1):
        raise InputError(f"k is {k} and max_users is {max_users}; both must be at least 1")
    if not len(alphas):
        raise InputError("alphas is empty; give at least one weight between 0 and 1")
    if max_users is not None:
        people = np.unique(targets.user_index)
        if len(people) > max_users:
            kept = np.isin(targets.user_index, np.random.default_rng(seed).choice(people, max_users, replace=False))
            targets = Heldout(targets.user_index[kept], targets.item_index[kept], targets.name)
    wanted = intention_queries(train, targets, attributes, template)
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
    with_history = bool(getattr(model, "needs_history", True))
    for alpha in alphas:
        questions = Questions(train, seen, task.users, with_history, texts, float(alpha))
        ranks, _ = full_ranks(task, train, Scores(model, train, questions), depth=k, seed=seed, progress=progress)
        values = {metric.key: m.per_user(metric, ranks) for metric in metrics}
        rows.append({"alpha": float(alpha), **{key: float(value.mean()) for key, value in values.items()}})
        columns.update({f"{key} (alpha {alpha:g})": value for key, value in values.items()})
    return IntentionEvaluation(
        rows=rows,
        n_queries=len(texts),
        n_users=len(np.unique(task.users)),
        skipped=wanted.skipped,
        repeat_targets=task.repeat_targets,
        per_query=pl.DataFrame(columns),
        protocol="full ranking, seen masked, one wish per target from attributes without the title",
        seconds=time.perf_counter() - start,
    )
