"""Batches of (person, item, other item) as texts: which texts an entity may be read as, drawn anew each time, tokenised once.

Source of the sampling: EasyRec's official code (HKUDS/EasyRec, commit 95c8ede): one example per user and epoch over all data sets,
a uniform positive, a uniform negative of the same data set, a uniform version of each text.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError
from lexirec.training.samplers import NegativeSampler

Ints = NDArray[np.int64]
Batches = Literal["mixed", "own"]
UNASKED = -100
"""Label of a token that no loss asks for."""


@dataclass(frozen=True, eq=False)
class TextBatch:
    """A step's examples; each distinct text is there once.

    Attributes:
        users, positives, negatives: ``(B,)`` indices of the training set.
        rows: ``(3, B)`` which text the user, the positive and the negative are read as.
        tokens: token ids of the distinct texts, one after the other.
        offsets: text ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``.
        masked: ``tokens`` with masks, for the masked words; ``None`` without that loss.
        labels: the words at the masks, :data:`UNASKED` elsewhere.
    """

    users: Ints
    positives: Ints
    negatives: Ints
    rows: Ints
    tokens: Ints
    offsets: Ints
    masked: Ints | None = None
    labels: Ints | None = None

    @property
    def lengths(self) -> Ints:
        """Tokens of each distinct text."""
        return np.diff(self.offsets)


class TextPool:
    """The texts that each entity may be read as; a draw is uniform over them.

    Args:
        versions: one list per version, each in index order; a blank text is left out of its entity's pool.

    Attributes:
        texts: the distinct texts.
        offsets: entity ``e`` may be read as ``members[offsets[e]:offsets[e + 1]]`` of them.

    >>> pool = TextPool([["red", "blue"], ["crimson", ""]])
    >>> pool.sizes.tolist(), [pool.texts[i] for i in pool.members]
    ([2, 1], ['red', 'crimson', 'blue'])
    """

    def __init__(self, versions: Sequence[Sequence[str]]) -> None:
        number: dict[str, int] = {}
        members = np.array([[number.setdefault(t, len(number)) if t.strip() else -1 for t in texts] for texts in versions], dtype=np.int64)
        self.texts = list(number)
        there = members.T >= 0  # (E, T)
        self.sizes: Ints = there.sum(1)
        self.offsets: Ints = np.concatenate([[0], np.cumsum(self.sizes)])
        self.members: Ints = members.T[there]

    def draw(self, entities: Ints, rng: np.random.Generator) -> Ints:
        """A text for each entity, ``(n,)`` positions in ``texts``."""
        pick = (rng.random(len(entities)) * self.sizes[entities]).astype(np.int64)
        return self.members[self.offsets[entities] + pick]


class TokenStore:
    """Token ids of texts in one growing array; a text is tokenised when it is first drawn, and never again.

    Args:
        texts: all texts.
        tokenize: texts to lists of token ids.
    """

    def __init__(self, texts: Sequence[str], tokenize: Callable[[list[str]], list[list[int]]]) -> None:
        self.texts, self.tokenize = texts, tokenize
        self.starts = np.full(len(texts), -1, dtype=np.int64)
        self.lengths = np.zeros(len(texts), dtype=np.int64)
        self.flat = np.zeros(1 << 16, dtype=np.int32)
        self.used = 0

    def gather(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Tokens of some texts one after the other, ``(N,)``, and their offsets ``(n + 1,)``."""
        missing = np.unique(wanted[self.starts[wanted] < 0])
        if len(missing):
            found = self.tokenize([self.texts[i] for i in missing])
            lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
            total = int(lengths.sum())
            if self.used + total > len(self.flat):
                self.flat = np.concatenate([self.flat[: self.used], np.zeros(max(2 * len(self.flat), total), dtype=np.int32)])
            self.flat[self.used : self.used + total] = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in found])
            self.starts[missing] = self.used + np.cumsum(lengths) - lengths
            self.lengths[missing] = lengths
            self.used += total
        lengths = self.lengths[wanted]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self.starts[wanted] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return self.flat[at].astype(np.int64), offsets


class ExampleSampler:
    """One example per user and epoch: the user, an item of the user's own, an item of the same data set that the user never chose.

    Args:
        train: training set; users without events are never drawn.
        batch_size: users of a batch.
        mode: ``mixed``: batches mix data sets, as published; ``own``: a batch is of one data set, so that all its items are plausible
            candidates. A data set's last users that fill no batch are then left out of the epoch.
        epoch_users: users of an epoch, drawn anew; all if ``None``.

    Raises:
        InputError: if there is no event, or a user has every item.
    """

    def __init__(self, train: TrainSet, batch_size: int, mode: Batches = "mixed", epoch_users: int | None = None) -> None:
        self.starts, self.items = train.pairs
        self.sizes = np.diff(self.starts)
        self.active = np.flatnonzero(self.sizes)
        if not len(self.active):
            raise InputError(f"{train.name}: the training part has no interaction; choose a split that leaves some")
        self.batch_size, self.mode = batch_size, mode
        self.epoch_users = min(epoch_users or len(self.active), len(self.active))
        self.n_items = train.n_items
        self.negatives = NegativeSampler(train)
        domain = np.repeat(np.arange(train.n_domains), np.diff(train.user_domains))[self.active]
        self.by_domain = [self.active[domain == number] for number in range(train.n_domains) if (domain == number).any()]
        owners = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.keys = owners * np.int64(max(self.n_items, 1)) + self.items  # ascending

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        if self.mode == "mixed":
            return -(-self.epoch_users // self.batch_size)
        whole = sum(max(1, len(users) // self.batch_size) for users in self.by_domain)
        return max(1, min(whole, self.epoch_users // self.batch_size)) if self.epoch_users < len(self.active) else whole

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Users, positives and negatives, each ``(B,)``."""
        size = self.batch_size
        if self.mode == "mixed":
            users = rng.permutation(self.active)[: self.epoch_users]
            parts = [users[start : start + size] for start in range(0, len(users), size)]
        else:
            parts = []
            for members in self.by_domain:
                users = rng.permutation(members)
                parts += [users[start : start + size] for start in range(0, max(1, len(users) // size) * size, size)]
            parts = [parts[at] for at in rng.permutation(len(parts))[: self.n_batches]]
        for part in parts:
            pick = (rng.random(len(part)) * self.sizes[part]).astype(np.int64)
            positives = self.items[self.starts[part] + pick].astype(np.int64)
            yield part, positives, self.negatives.draw(part, 1, rng)[:, 0]

    def chosen(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        """Which of some items each user has chosen, ``(B, n)`` bool."""
        wanted = users[:, None] * np.int64(max(self.n_items, 1)) + items[None, :]
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return self.keys[at] == wanted


def false_negatives(sampler: ExampleSampler, batch: TextBatch) -> NDArray[np.bool_]:
    """Candidates of each user that the user has chosen too, ``(B, 2 B)`` bool: positives, then negatives; never the user's own positive."""
    found = sampler.chosen(batch.users, np.concatenate([batch.positives, batch.negatives]))
    found[np.arange(len(batch.users)), np.arange(len(batch.users))] = False
    return found


def mask_words(
    tokens: Ints, special: Sequence[int], mask: int, vocab_size: int, rng: np.random.Generator, share: float = 0.15
) -> tuple[Ints, Ints]:
    """Mask words for a masked-word loss: of those chosen, 80 % become the mask, 10 % a random id, 10 % stay.

    Args:
        tokens: ``(N,)`` ids.
        special: ids that are never chosen.
        mask: id of the mask.
        vocab_size: random ids are below it.
        rng: source of randomness.
        share: share of the others that is chosen.

    Returns:
        The masked copy and the labels, both ``(N,)``; labels are :data:`UNASKED` where nothing was chosen.

    Source: BERT (Devlin et al., NAACL 2019), as EasyRec's code has it.
    """
    draw, kind = rng.random(len(tokens)), rng.random(len(tokens))
    chosen = (draw < share) & ~np.isin(tokens, np.asarray(list(special), dtype=np.int64))
    labels = np.where(chosen, tokens, UNASKED)
    masked = tokens.copy()
    masked[chosen & (kind < 0.8)] = mask
    random = np.flatnonzero(chosen & (kind >= 0.8) & (kind < 0.9))
    masked[random] = rng.integers(0, vocab_size, len(random))
    return masked, labels


__all__ = ["UNASKED", "ExampleSampler", "TextBatch", "TextPool", "TokenStore", "false_negatives", "mask_words"]
