"""What the plain writer knows: words of the catalogue by role, items chosen by the same people, key phrases of reviews.

Everything that rests on interactions takes a :class:`~lexirec.data.dataset.TrainSet`. No users x items and no items x items matrix is
made: neighbours are counted by blocks of items and only the nearest are kept.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError
from lexirec.text.column_roles import Role, roles
from lexirec.text.key_phrases import PAIR
from lexirec.text.templates import PATH, SPACES

ARTICLE_LAST = re.compile(r"^(.+), (The|A|An)$")
READ = 600
"""Characters of a description or review that are read: far more than a profile can hold."""

EVENTS_PER_USER = 50
"""Last events of a person that count for what is chosen together: a few very long histories would cost more than all others."""
SUPPORT = 2
"""Fewest people that chose two items for these to count as chosen together."""
SHRINK = 3.0


@dataclass(frozen=True, eq=False)
class ItemWords:
    """A catalogue's own words, one entry per row; an empty string or list where an item has none.

    Attributes:
        title: cleaned title.
        maker: brand, publisher, author, ...
        kinds: categories, genres and tags as they stand, each once, levels of paths taken apart.
        about: start of the description, without what title and kinds say already.
        facts: further columns, written ``label value``.
    """

    title: list[str]
    maker: list[str]
    kinds: list[list[str]]
    about: list[str]
    facts: list[list[str]]

    def __len__(self) -> int:
        return len(self.title)

    @classmethod
    def joined(cls, parts: "Sequence[ItemWords]") -> "ItemWords":
        """Catalogues below each other."""
        return cls(*([entry for part in parts for entry in getattr(part, field.name)] for field in fields(cls)))


def item_words(items: pl.DataFrame, read: dict[str, Role] | None = None) -> ItemWords:
    """A catalogue's words by role.

    Args:
        items: ``title`` and attribute columns; any other column that ``read`` names may be missing.
        read: role of each column; :func:`roles` of these items if not given.
    """
    read = roles(items) if read is None else {name: role for name, role in read.items() if name in items.columns}
    n = items.height
    # Film catalogues sort by "Abyss, The".
    title = [ARTICLE_LAST.sub(r"\2 \1", text) for text in _clean(items[c.TITLE])] if c.TITLE in items.columns else [""] * n
    maker = [""] * n
    kinds: list[list[str]] = [[] for _ in range(n)]
    about = [""] * n
    facts: list[list[str]] = [[] for _ in range(n)]
    for name, role in read.items():
        values = items[name]
        if values.dtype in (pl.Categorical, pl.Enum):
            values = values.cast(pl.String)
        if role == "kind":
            for row, value in enumerate(values.to_list()):
                kinds[row].extend(pieces(value))
        elif role == "maker":
            maker = [old or ", ".join(list(pieces(value))[:2]) for old, value in zip(maker, values.to_list(), strict=True)]
        elif role == "about":
            is_text = values.dtype == pl.String
            texts = values if is_text else pl.Series(name, [" ".join(pieces(v)) for v in values.to_list()], dtype=pl.String)
            about = [old if len(old) >= len(new) else new for old, new in zip(about, _clean(texts.str.slice(0, READ)), strict=True)]
        else:
            label = name.replace("_", " ").strip().lower()
            for row, value in enumerate(values.to_list()):
                written = ", ".join(pieces(value))
                if written:
                    facts[row].append(f"{label} {written}")
    kinds = [list(dict.fromkeys(row)) for row in kinds]
    about = [_news(*row) for row in zip(about, title, maker, kinds, strict=True)]
    return ItemWords(title, maker, kinds, about, facts)


def pieces(value: Any) -> Iterator[str]:
    """The parts of a value, cleaned: levels of a path, members of a list, what a list in one string enumerates.

    >>> list(pieces(["Beauty > Oils", "Gifts"])), list(pieces("Action|War"))
    (['Beauty', 'Oils', 'Gifts'], ['Action', 'War'])
    """
    if value is None:
        return
    if isinstance(value, str):
        for piece in re.split(r"\s*[|;]\s*", value[:READ]):
            for level in PATH.split(piece):
                cleaned = " ".join(level.split())
                if cleaned:
                    yield cleaned
    elif isinstance(value, dict):
        for inner in value.values():
            yield from pieces(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from pieces(inner)
    elif isinstance(value, float):
        if math.isfinite(value):
            yield f"{value:.6g}"
    elif not isinstance(value, (bool, bytes)):
        yield str(value)


def _clean(texts: pl.Series) -> list[str]:
    if texts.dtype != pl.String:
        raise InputError(f"items column {texts.name!r} holds {texts.dtype}; titles and descriptions are strings")
    return texts.str.replace_all(SPACES, " ").str.strip_chars().fill_null("").to_list()


def _news(about: str, title: str, maker: str, kinds: list[str]) -> str:
    """A description without the title it begins with; empty where it only repeats the other columns."""
    if not about:
        return ""
    if title and about.lower().startswith(title.lower()):
        about = about[len(title) :].lstrip(" .,;:-")
    known = set(re.findall(r"\w+", f"{title} {maker} {' '.join(kinds)}".lower()))
    words = re.findall(r"\w+", about.lower())
    return about if sum(word not in known for word in words) > max(2, len(words) // 5) else ""


@dataclass(frozen=True, eq=False)
class Phrases:
    """Phrases of items with weights: how often times how rare.

    Attributes:
        names: ``F`` phrases; one that several domains have stands there once for each.
        weights: ``(I, F)`` CSR float32, ``log(1 + items / items with it)``.
    """

    names: list[str]
    weights: sp.csr_array

    @classmethod
    def of(cls, rows: Sequence[Sequence[str]], domain: NDArray[np.int64]) -> "Phrases":
        """From each item's phrases; columns and rarity are a domain's own, so that a mix of catalogues reads like each of them alone.

        Args:
            rows: distinct phrases of each item.
            domain: ``(I,)`` domain of each item.
        """
        counts = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        owner = np.repeat(np.arange(len(rows)), counts)
        table = pl.DataFrame({"row": owner, "domain": domain[owner], "name": pl.Series([p for row in rows for p in row], dtype=pl.String)})
        sizes = np.maximum(np.bincount(domain), 1)
        table = table.with_columns(pl.len().over("domain", "name").alias("df"))
        # Of a domain's own, because ties are settled by column.
        names = table.select("domain", "name").unique(maintain_order=True)
        index = names.with_columns(column=pl.Series(np.arange(names.height)))
        column = table.join(index, on=["domain", "name"], how="left", maintain_order="left")["column"].to_numpy()
        weight = np.log1p(sizes[table["domain"].to_numpy()] / np.maximum(table["df"].to_numpy(), 1)).astype(np.float32)
        return cls(names["name"].to_list(), sp.csr_array((weight, (owner, column)), shape=(len(rows), max(names.height, 1))))

    def grown(self, rows: Sequence[Sequence[str]]) -> "Phrases":
        """With further items, a row of phrases each; a phrase that no item had so far weighs as one that a single item has."""
        known = self.rarity()
        new = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in known]
        names = [*self.names, *new]
        column: dict[str, int] = {}
        for i, name in enumerate(names):
            column.setdefault(name, i)
        total = self.weights.shape[0] + len(rows)
        weight = [known.get(name, math.log1p(total)) for row in rows for name in row]
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        width = max(len(names), 1)
        old = self.weights
        before = sp.csr_array((old.data, old.indices, old.indptr), shape=(old.shape[0], width))
        places = (owner, np.array([column[name] for row in rows for name in row], dtype=np.int64))
        after = sp.csr_array((np.array(weight, dtype=np.float32), places), shape=(len(rows), width))
        return Phrases(names, sp.csr_array(sp.vstack([before, after])))

    def rarity(self) -> dict[str, float]:
        """Weight of each phrase; the larger of two domains'."""
        most = np.zeros(len(self.names), dtype=np.float32)
        np.maximum.at(most, self.weights.indices, self.weights.data)
        found: dict[str, float] = {}
        for name, weight in zip(self.names, most.tolist(), strict=True):
            found[name] = max(weight, found.get(name, 0.0))
        return found

    def best(self, choices: sp.csr_array, k: int, least: float = 0.0) -> list[list[str]]:
        """The ``k`` phrases that tell most of each set of items, best first.

        Args:
            choices: ``(B, I)`` CSR, how much each item counts.
            k: phrases wanted.
            least: smallest sum of ``choices`` over the items that have the phrase.
        """
        score = sp.csr_array(choices @ self.weights)
        if least > 0.0:
            present = sp.csr_array((np.ones_like(self.weights.data), self.weights.indices, self.weights.indptr), shape=self.weights.shape)
            often = sp.csr_array(choices @ present)
            often.sort_indices()
            score.sort_indices()
            score.data[often.data < least] = 0.0
        # Twice as many, because choices from two domains may find a phrase twice.
        return [list(dict.fromkeys(self.names[i] for i in row))[:k] for row in top(score, 2 * k)]

    @cached_property
    def _counted(self) -> tuple[sp.csr_array, sp.csr_array, NDArray[np.float64]]:
        """Which item has which phrase, ``log(items / items with it)`` there, and how much each phrase counts: a pair of words says more."""
        made = [
            sp.csr_array((data, self.weights.indices, self.weights.indptr), shape=self.weights.shape)
            for data in (np.ones_like(self.weights.data), np.log(np.expm1(self.weights.data.astype(np.float64))))
        ]
        return made[0], made[1], np.array([PAIR if " " in name else 1.0 for name in self.names])

    def peculiar(self, choices: sp.csr_array, k: int, least: float = 2.0) -> list[list[str]]:
        """The ``k`` phrases that each set of items holds more often than items do in general, best first; no word twice.

        By ``n log((n / items of the set) / share of all items with it)``, ``n`` being the items of the set with the phrase: what everything
        holds (an LLM's "fans of") weighs nothing, however often it stands there.

        Args:
            choices: ``(B, I)`` CSR, positive where an item is in the set.
            k: phrases wanted.
            least: smallest ``n``.
        """
        present, rare, pair = self._counted
        choices = choices.sign()
        often, score = sp.csr_array(choices @ present), sp.csr_array(choices @ rare)
        often.sort_indices()
        score.sort_indices()
        size = np.repeat(np.maximum(np.asarray(choices.sum(axis=1)).ravel(), 1.0), np.diff(often.indptr))
        gain = score.data + often.data * np.log(np.maximum(often.data, 1.0) / size)
        # What every item holds has the gain 0, and after rounding a little more or less.
        score.data = np.where((often.data >= least) & (gain > 1e-4), gain * pair[often.indices], 0.0)
        found = []
        for row in top(score, 6 * k):
            taken: set[str] = set()
            phrases: list[str] = []
            for name in (self.names[i] for i in row):
                words = set(name.split())
                if len(phrases) < k and taken.isdisjoint(words):
                    phrases.append(name)
                    taken |= words
            found.append(phrases)
        return found


def top(scores: sp.csr_array, k: int) -> list[list[int]]:
    """Columns of the ``k`` largest positive entries of each row, largest first, ties by column.

    >>> top(sp.csr_array(np.array([[0.0, 2.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])), 2)
    [[1, 3], []]
    """
    rows = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))
    keep = scores.data > 0
    rows, columns, values = rows[keep], scores.indices[keep], scores.data[keep]
    order = np.lexsort((columns, -values, rows))
    rows, columns = rows[order], columns[order]
    starts = np.searchsorted(rows, np.arange(scores.shape[0] + 1))
    listed = columns.tolist()
    return [listed[starts[i] : min(starts[i] + k, starts[i + 1])] for i in range(scores.shape[0])]


def empty_csr(rows: int, columns: int) -> sp.csr_array:
    """A matrix of float32 zeros."""
    return sp.csr_array(sp.coo_array((np.zeros(0, np.float32), (np.zeros(0, np.int64), np.zeros(0, np.int64))), shape=(rows, columns)))


def neighbours(train: TrainSet, k: int, block: int = 4096) -> tuple[sp.csr_array, sp.csr_array]:
    """Items chosen by the same people: for each item the ``k`` with the largest ``together / (sqrt(n_i n_j) + 3)``.

    Args:
        train: the training part.
        k: neighbours kept per item.
        block: items counted at a time; the memory is about ``block x`` the distinct items beside them.

    Returns:
        ``(I, I)`` CSR float32 with at most ``k`` entries in a row, and of each entry what it owes to one person alone: the value less
        ``(together - 1) / (sqrt(n_i n_j) + 3)``, or all of it where fewer than two others chose both. Pairs that fewer than two people
        chose are left out.
    """
    from_end = train.offsets[1:][train.user_index] - np.arange(train.n_interactions)
    kept = from_end <= EVENTS_PER_USER
    users, items = train.user_index[kept], train.item_index[kept]
    chosen = sp.csr_array((np.ones(len(users), dtype=np.float32), (users, items)), shape=(train.n_users, train.n_items))
    chosen.sum_duplicates()
    chosen.data[:] = 1.0
    count: NDArray[np.float32] = np.asarray(chosen.sum(axis=0)).ravel()
    by_item = sp.csr_array(chosen.T)
    parts, owed = [], []
    for start in range(0, train.n_items, block):
        together = sp.coo_array(by_item[start : start + block] @ chosen)
        row, column = together.coords
        keep = (together.data >= SUPPORT) & (row + start != column)
        row, column, people = row[keep], column[keep], together.data[keep]
        value = people / (np.sqrt(count[row + start] * count[column]) + SHRINK)
        order = np.lexsort((column, -value, row))
        row, column, value, people = row[order], column[order], value[order], people[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        near = place < k
        at = (row[near], column[near])
        size = (min(block, train.n_items - start), train.n_items)
        value, people = value[near].astype(np.float32), people[near]
        parts.append(sp.csr_array((value, at), shape=size))
        owed.append(sp.csr_array((np.where(people > SUPPORT, value / people, value), at), shape=size))
    if not parts:
        return empty_csr(0, 0), empty_csr(0, 0)
    return sp.csr_array(sp.vstack(parts)), sp.csr_array(sp.vstack(owed))


def popularity_levels(train: TrainSet) -> NDArray[np.int8]:
    """0 to 3 per item: 3 for the top 1 % of its domain's items by events, 2 for the next up to 5 %, 1 up to 20 %; ``(I,)`` int8."""
    level = np.zeros(train.n_items, dtype=np.int8)
    for start, stop in zip(train.item_domains[:-1], train.item_domains[1:], strict=True):
        events = train.popularity[start:stop]
        order = np.argsort(-events, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        part = (place[:, None] < np.ceil(len(order) * np.array([0.01, 0.05, 0.2]))).sum(axis=1).astype(np.int8)
        level[start:stop] = np.where(events > SUPPORT, part, 0)
    return level
