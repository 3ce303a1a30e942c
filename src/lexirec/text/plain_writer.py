"""Profiles without a language model: the facts of the catalogue and of the training log in plain sentences.

item: title and maker, kinds, how popular, chosen together with, for whom, what reviews mention, description, further columns
user: kinds and makers that tell of the history, latest titles, what the own reviews mention, what similar people chose; where the catalogue
      has descriptions and no kinds, phrases of the descriptions stand for kinds

Deterministic: the same training part, settings and seed give the same texts. The most telling words come first, because an encoder
reads the first 64 tokens in training.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError, NotFittedError
from lexirec.text import plain_wording as say
from lexirec.text.column_roles import roles
from lexirec.text.key_phrases import ReviewWords
from lexirec.text.plain_facts import ItemWords, Phrases, empty_csr, item_words, neighbours, popularity_levels, top
from lexirec.text.profiles import Profiles, frames

KINDS_PER_ITEM, KINDS_PER_USER = 4, 5
FANS, MAKERS = 2, 2
WITH_WORDS, RECENT_WORDS, ALSO_WORDS = 16, 18, 12
"""Titles are quoted up to so many words: two of a shop's long titles, seven of films."""
PHRASES = 3
"""Key phrases of reviews."""
PARTING = "\x1e"
"""Between the phrases of one person in a saved writer."""
SHARED = 5
"""Descriptions that must hold a phrase before it can stand for a kind."""
NEIGHBOURS = 10
ABOUT_WORDS = 25
RAW_WORDS = 100
VERSION = 2
"""Of the texts: another one where the same training part and settings give others."""
BLOCK = 4096
"""Users written at a time."""
MAINSTREAM = 1.7
"""Mean popularity level of a history from which on somebody prefers popular choices."""

History = NDArray[np.integer[Any]]


class PlainWriter:
    """Writes profiles from facts alone.

    Args:
        versions: rephrased versions beside the profile, 0 (no diversification) to 12.
        seed: which wordings the rephrasings get.
        collaborative: false leaves out what comes from other people's choices: what is chosen together, for whom, popularity. Titles,
            attributes and reviews stay.

    Raises:
        InputError: for a number of versions out of range.
    """

    def __init__(self, versions: int = 3, seed: int = 0, collaborative: bool = True) -> None:
        if not 0 <= versions <= say.MAX_VERSIONS:
            raise InputError(f"versions is {versions}; 0 to {say.MAX_VERSIONS} rephrasings can be written")
        self.versions, self.seed, self.collaborative = versions, seed, collaborative
        self._words: ItemWords | None = None
        self._own: list[list[str]] = []

    # --- learning the facts ------------------------------------------------------------------------------------------------------

    def prepare(self, train: TrainSet) -> "PlainWriter":
        """Learn the facts of a training part; needed once before :meth:`user_texts` and :meth:`item_texts`."""
        self._learn(train)
        return self

    def _learn(self, train: TrainSet) -> list[ReviewWords] | None:
        """Learn the facts; gives each data set's words of reviews, which are large and needed no longer than a call of :meth:`write`."""
        self._roles = roles(train.items)  # new items are read by it
        # Each catalogue by its own columns, so that a mix of data sets reads like each of them alone.
        words = ItemWords.joined([item_words(items) for items in train.domain_items or (train.items,)])
        domain = np.repeat(np.arange(train.n_domains), np.diff(train.item_domains))
        self._kinds = Phrases.of(words.kinds, domain)
        self._makers = Phrases.of([[maker] if maker else [] for maker in words.maker], domain)
        self._rarity = self._kinds.rarity()
        for start, stop in pairwise(train.item_domains.tolist()):
            _rank_kinds(words.kinds[start:stop], Phrases(self._kinds.names, self._kinds.weights[start:stop]).rarity())
        self._topics = Phrases.of(_topics(words, train.item_domains), domain)
        if self.collaborative:
            self._near, owed = neighbours(train, NEIGHBOURS)
            self._owed = sp.csr_array(owed.T)  # asked by the item that was taken out
            self._level = popularity_levels(train)
        else:
            self._near = self._owed = empty_csr(train.n_items, train.n_items)
            self._level = np.zeros(train.n_items, dtype=np.int8)
        reviews = None
        if c.REVIEW in train.interactions.columns:
            borders = train.offsets[train.user_domains].tolist()
            reviews = [ReviewWords(train.interactions[c.REVIEW][start:stop]) for start, stop in pairwise(borders)]
        nothing: list[list[str]] = [[] for _ in range(train.n_items)]
        self._phrases = nothing if reviews is None else _key_phrases(train, reviews, train.item_index, train.item_domains)
        self._words = words
        self._titles = [say.short_title(title) for title in words.title]
        return reviews

    def write(self, train: TrainSet) -> Profiles:
        """Profiles of all items and users of a training part, with ``versions`` rephrasings and the items' raw metadata."""
        reviews = self._learn(train)
        items = self._item_facts(self._ready(), self._near, self._level, self._phrases)
        histories = [train.history(user) for user in range(train.n_users)]
        self._own = [] if reviews is None else _key_phrases(train, reviews, train.user_index, train.user_domains)
        users = self._user_facts(histories, self._own or None)
        versions = range(self.versions + 1)
        return frames(
            train,
            [self._items_written(items, version) for version in versions],
            [self._users_written(users, version) for version in versions],
            raw_texts(self._ready()),
            writer="plain",
            seed=self.seed,
            collaborative=self.collaborative,
        )

    # --- texts on the fly --------------------------------------------------------------------------------------------------------

    def user_texts(
        self, histories: Sequence[History], version: int = 0, users: Sequence[int] | None = None, taken_out: History | None = None
    ) -> list[str]:
        """Texts of people by their histories.

        Args:
            histories: item indices of each, oldest first; may be empty.
            version: 0 for the profile, up to 12 for a rephrasing.
            users: index of each in the part given to :meth:`write`, -1 for somebody new: what their own reviews there mention is told too.
            taken_out: ``(B,)`` an item of the training part that each history was shortened by: it is named as a likely next choice only as
                far as others chose it beside the rest, not by what this person did. Not for a writer from :meth:`restore`.

        Returns:
            One text each; that of ``train.history(u)`` is the profile of user ``u``, with ``users=[u]`` or where the log has no reviews.
        """
        self._check_version(version)
        own = None if users is None or not self._own else [self._own[user] if user >= 0 else [] for user in users]
        return self._users_written(self._user_facts(histories, own, taken_out), version)

    def item_texts(self, items: pl.DataFrame, version: int = 0) -> list[str]:
        """Texts of new items by their own columns; nobody has chosen them, so there is no collaborative part.

        Args:
            items: ``title`` and attribute columns as in the training catalogue, any of which may be missing.
            version: 0 for the profile, up to 12 for a rephrasing.
        """
        self._check_version(version)
        self._ready()
        words = item_words(items, self._roles)
        _rank_kinds(words.kinds, self._rarity)
        nobody = empty_csr(len(words), max(len(self._titles), 1))
        facts = self._item_facts(words, nobody, np.zeros(len(words), dtype=np.int8), [[] for _ in range(len(words))])
        return self._items_written(facts, version)

    def add_items(self, items: pl.DataFrame) -> None:
        """Let histories hold new items, too: they come after those known so far and count by title, kinds and maker.

        Args:
            items: as in :meth:`item_texts`.
        """
        self._ready()
        words = item_words(items, self._roles)
        self._titles = [*self._titles, *map(say.short_title, words.title)]
        self._kinds = self._kinds.grown(words.kinds)
        self._makers = self._makers.grown([[maker] if maker else [] for maker in words.maker])
        self._topics = self._topics.grown([[] for _ in range(len(words))])
        self._rarity = self._kinds.rarity()
        old, n = self._near, len(self._titles)
        starts = np.concatenate([old.indptr, np.full(len(words), old.indptr[-1])])
        self._near = sp.csr_array((old.data, old.indices, starts), shape=(n, n))
        self._level = np.concatenate([self._level, np.zeros(len(words), dtype=np.int8)])

    @property
    def n_items(self) -> int:
        """Items that a history may hold."""
        self._ready()
        return len(self._titles)

    # --- facts -------------------------------------------------------------------------------------------------------------------

    def _item_facts(
        self, words: ItemWords, near: sp.csr_array, level: NDArray[np.int8], phrases: list[list[str]]
    ) -> list[dict[str, list[str]]]:
        beside = top(near, say.MOST_TITLES)
        fans = self._kinds.best(near, FANS + KINDS_PER_ITEM) if near.nnz else [[]] * len(words)
        return [
            self._facts_of(words, row, [self._titles[i] for i in beside[row]], fans[row], int(level[row]), phrases[row])
            for row in range(len(words))
        ]

    def _facts_of(
        self, words: ItemWords, row: int, beside: list[str], fans: list[str], level: int, phrases: list[str]
    ) -> dict[str, list[str]]:
        facts: dict[str, list[str]] = {}
        title, maker, kinds = words.title[row], words.maker[row], words.kinds[row][:KINDS_PER_ITEM]
        if title and maker and maker.lower() not in title.lower():
            facts["title_maker"] = [title, maker]
        elif title or maker:
            facts["title"] = [title or maker]
        if kinds:
            facts["kinds"] = [", ".join(kinds)]
        if level:
            facts[f"popular{level}"] = []
        others = say.quoted(beside, WITH_WORDS)
        if others:
            facts["with"] = [others]
        audience = [*kinds[:1], *(kind for kind in fans if kind not in kinds)][:FANS]
        if audience:
            facts["fans"] = [say.listed(audience)]
        if phrases:
            facts["reviews"] = [say.listed(phrases)]
        if words.about[row]:
            facts["about"] = [say.words_of(words.about[row], ABOUT_WORDS)]
        if words.facts[row]:
            facts["facts"] = [", ".join(words.facts[row])]
        return facts

    def _user_facts(
        self, histories: Sequence[History], own: list[list[str]] | None, taken_out: History | None = None
    ) -> list[dict[str, list[str]]]:
        self._ready()
        found: list[dict[str, list[str]]] = []
        for start in range(0, len(histories), BLOCK):
            part = slice(start, start + BLOCK)
            left = None if taken_out is None else taken_out[part]
            found += self._block_facts(histories[part], None if own is None else own[part], left)
        return found

    def _block_facts(
        self, histories: Sequence[History], own: list[list[str]] | None, taken_out: History | None
    ) -> list[dict[str, list[str]]]:
        n_items = len(self._titles)
        lengths = np.fromiter((len(h) for h in histories), dtype=np.int64, count=len(histories))
        items = np.concatenate([np.asarray(h, dtype=np.int64) for h in histories]) if lengths.sum() else np.zeros(0, dtype=np.int64)
        unknown = items[(items < 0) | (items >= n_items)]
        if len(unknown):
            raise InputError(f"a history holds item {unknown[0]}; there are {n_items} items")
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        chosen = sp.csr_array((np.ones(len(items), dtype=np.float32), items, offsets), shape=(len(histories), max(n_items, 1)))
        chosen.sum_duplicates()
        kinds = self._kinds.best(chosen, KINDS_PER_USER)
        if self._topics.weights.nnz:
            kinds = [ours or topics for ours, topics in zip(kinds, self._topics.peculiar(chosen, KINDS_PER_USER), strict=True)]
        makers = self._makers.best(chosen, MAKERS, least=2.0)
        also: list[list[int]] = [[] for _ in histories]
        if self._near.nnz:
            # What is chosen beside the history, less the history itself: a large negative number removes a seen item.
            seen = chosen.copy()
            seen.data[:] = -1e6
            scores = chosen @ self._near + seen
            if taken_out is not None:
                own_part = chosen.multiply(self._owed[taken_out]).sum(axis=1)
                scores = scores - sp.csr_array((own_part, (np.arange(len(histories)), taken_out)), shape=scores.shape)
            also = top(sp.csr_array(scores), say.MOST_TITLES)
        mean_level = np.asarray(chosen @ self._level.astype(np.float32)).ravel() / np.maximum(chosen.sum(axis=1), 1.0)
        titles = self._titles
        facts = []
        for row, history in enumerate(histories):
            mine: dict[str, list[str]] = {}
            if kinds[row]:
                mine["user_kinds"] = [say.listed(kinds[row])]
            if makers[row]:
                mine["user_makers"] = [say.listed(makers[row])]
            recent = say.quoted((titles[item] for item in history[: -3 * say.MOST_TITLES : -1].tolist()), RECENT_WORDS)
            if recent:
                mine["user_recent"] = [recent]
            others = say.quoted((titles[item] for item in also[row]), ALSO_WORDS)
            if others:
                mine["user_also"] = [others]
            if own is not None and own[row]:
                mine["user_reviews"] = [say.listed(own[row])]
            if mean_level[row] >= MAINSTREAM:
                mine["user_popular"] = []
            facts.append(mine)
        return facts

    # --- writing -----------------------------------------------------------------------------------------------------------------

    def _items_written(self, facts: list[dict[str, list[str]]], version: int) -> list[str]:
        return [say.compose(row, say.ITEM_ORDERS, version, self.seed, say.ITEM_WORDS, say.NO_ITEM) for row in facts]

    def _users_written(self, facts: list[dict[str, list[str]]], version: int) -> list[str]:
        return [say.compose(row, say.USER_ORDERS, version, self.seed, say.USER_WORDS, say.NO_USER) for row in facts]

    def _ready(self) -> ItemWords:
        if self._words is None:
            raise NotFittedError("this writer knows no training part; call write or prepare first")
        return self._words

    def _check_version(self, version: int) -> None:
        if not 0 <= version <= say.MAX_VERSIONS:
            raise InputError(f"version is {version}; 0 is the profile, 1 to {say.MAX_VERSIONS} are rephrasings")

    # --- keeping -----------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings (JSON-able) and arrays from which :meth:`restore` makes a writer that answers alike.

        Only what writes users and new items is kept, and the key phrases of users' reviews; the training part isn't.
        """
        self._ready()
        arrays: dict[str, NDArray[Any]] = {"level": self._level, "titles": _packed(self._titles)}
        found = {"kinds": self._kinds, "makers": self._makers, **({"topics": self._topics} if self._topics.weights.nnz else {})}
        for name, phrases in found.items():
            arrays[f"{name}.names"] = _packed(phrases.names)
            arrays |= {f"{name}.{key}": value for key, value in _csr_arrays(phrases.weights).items()}
        arrays |= {f"near.{key}": value for key, value in _csr_arrays(self._near).items()}
        if self._own:
            arrays["own"] = _packed([PARTING.join(phrases) for phrases in self._own])
        config = {"versions": self.versions, "seed": self.seed, "collaborative": self.collaborative, "roles": dict(self._roles)}
        return config, arrays

    @classmethod
    def restore(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "PlainWriter":
        """A writer from what :meth:`state` gave."""
        writer = cls(int(config["versions"]), int(config["seed"]), bool(config["collaborative"]))
        writer._roles = dict(config["roles"])
        writer._titles = _unpacked(arrays["titles"])
        n = len(writer._titles)
        names = _unpacked(arrays["kinds.names"])
        writer._kinds = Phrases(names, _csr(arrays, "kinds", (n, max(len(names), 1))))
        writer._rarity = writer._kinds.rarity()
        names = _unpacked(arrays["makers.names"])
        writer._makers = Phrases(names, _csr(arrays, "makers", (n, max(len(names), 1))))
        names = _unpacked(arrays["topics.names"]) if "topics.names" in arrays else []
        writer._topics = Phrases(names, _csr(arrays, "topics", (n, len(names))) if names else empty_csr(n, 1))
        writer._near = _csr(arrays, "near", (n, n))
        writer._level = np.asarray(arrays["level"], dtype=np.int8)
        own = _unpacked(arrays["own"]) if "own" in arrays else []
        writer._own = [phrases.split(PARTING) if phrases else [] for phrases in own]
        blank = [""] * n
        writer._words = ItemWords(writer._titles, blank, [[] for _ in range(n)], blank, [[] for _ in range(n)])
        return writer


def _key_phrases(
    train: TrainSet, reviews: Sequence[ReviewWords], owner: NDArray[np.integer[Any]], domains: NDArray[np.int64]
) -> list[list[str]]:
    """Phrases of the reviews of each owner (item or user), best first.

    Args:
        train: one data set or several.
        reviews: of each data set.
        owner: ``(N,)`` of each event.
        domains: ``(n_domains + 1,)`` where each data set's owners begin.
    """
    events = pairwise(train.offsets[train.user_domains].tolist())
    found: list[list[str]] = []
    for words, (start, stop), (first, last) in zip(reviews, events, pairwise(domains.tolist()), strict=True):
        found += words.phrases(owner[start:stop] - first, last - first, PHRASES)
    return found


def _rank_kinds(kinds: list[list[str]], rarity: Mapping[str, float]) -> None:
    """Put each item's rarest kinds first, those unknown in training last."""
    for row in kinds:
        row.sort(key=lambda kind: -rarity.get(kind, 0.0))


def _topics(words: ItemWords, item_domains: NDArray[np.integer[Any]]) -> list[list[str]]:
    """Phrases of each item's description in catalogues where no item has a kind; nothing elsewhere."""
    found: list[list[str]] = []
    for start, stop in pairwise(item_domains.tolist()):
        if any(words.kinds[start:stop]) or not any(words.about[start:stop]):
            found += [[] for _ in range(start, stop)]
        else:
            found += ReviewWords(pl.Series(words.about[start:stop], dtype=pl.String)).of_texts(SHARED)
    return found


def raw_texts(words: ItemWords) -> list[str]:
    """The items' own metadata in one text each, at most 100 words; empty where there is none. The spec's fifth text of an item."""
    rows = zip(words.title, words.maker, words.kinds, words.about, words.facts, strict=True)
    return [
        say.words_of(". ".join(part.rstrip(" .") for part in (title, maker, ", ".join(kinds), about, ", ".join(facts)) if part), RAW_WORDS)
        for title, maker, kinds, about, facts in rows
    ]


def _packed(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Strings as bytes, parted by the unit separator (which cleaned texts don't hold), so that they go into a file of arrays."""
    return np.frombuffer("\x1f".join([*texts, ""]).encode("utf-8", "replace"), dtype=np.uint8).copy()


def _unpacked(packed: NDArray[Any]) -> list[str]:
    return bytes(np.asarray(packed, dtype=np.uint8)).decode().split("\x1f")[:-1]


def _csr_arrays(matrix: sp.csr_array) -> dict[str, NDArray[Any]]:
    return {"data": matrix.data, "indices": matrix.indices.astype(np.int32), "indptr": matrix.indptr.astype(np.int64)}


def _csr(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, int]) -> sp.csr_array:
    return sp.csr_array(tuple(np.asarray(arrays[f"{name}.{key}"]) for key in ("data", "indices", "indptr")), shape=shape)
