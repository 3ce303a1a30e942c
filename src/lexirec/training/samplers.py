"""Positives and negatives as whole arrays: no Python per sample, no users x items matrix."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError

Sampling = Literal["user-uniform", "user-cycled", "interaction-uniform"]


class PositiveSampler:
    """Batches of (user, positive item) for one epoch.

    Modes:
        ``user-uniform``: as many draws of a uniformly random user as there are training pairs, positive uniform from the user's items,
        partial last batch kept (the reproduction of AlphaRec).
        ``user-cycled``: index modulo users, shuffled, so that each user comes equally often; partial last batch dropped (AlphaRec's
        official code).
        ``interaction-uniform``: every training pair once, shuffled; partial last batch kept.

    Args:
        train: training set; users without items are never drawn.
        batch_size: samples per batch.
        mode: one of the modes above.
    """

    def __init__(self, train: TrainSet, batch_size: int, mode: Sampling = "user-uniform") -> None:
        self.starts, self.items = train.pairs
        self.batch_size, self.mode = batch_size, mode
        self.lengths = np.diff(self.starts)
        self.active = np.flatnonzero(self.lengths)
        if not len(self.active):
            raise InputError(f"{train.name}: the training part has no interaction; choose a split that leaves some")
        self.n_pairs = len(self.items)

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(self.n_pairs, self.batch_size)
        if self.mode == "user-cycled":
            return max(full, 1)  # a data set smaller than a batch would otherwise never train
        return full + bool(rest)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Users and positives, each ``(B,)`` int64."""
        if self.mode == "interaction-uniform":
            order = rng.permutation(self.n_pairs)
            owners = np.repeat(np.arange(len(self.lengths)), self.lengths)
            users, positives = owners[order], self.items[order].astype(np.int64)
        else:
            if self.mode == "user-uniform":
                users = self.active[rng.integers(0, len(self.active), self.n_pairs)]
            else:
                users = self.active[rng.permutation(self.n_pairs) % len(self.active)]
            picks = (rng.random(self.n_pairs) * self.lengths[users]).astype(np.int64)
            positives = self.items[self.starts[users] + picks].astype(np.int64)
        for batch in range(self.n_batches):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            yield users[part], positives[part]


class NegativeSampler:
    """Items that a user has not interacted with in training, uniform with replacement, from the user's own data set.

    A draw is tested against a small hashed table of all training pairs; the few that may collide are tested exactly, and a true collision
    is
    replaced by an exact uniform draw among the user's other items (rank shifting), so the distribution is uniform over unseen items
    without a loop.

    Args:
        train: training set; ``train.new_items`` are never drawn, since they don't exist yet.
        own_draws: whether :meth:`draw` will be asked; :meth:`shared` alone needs no negative of each user.

    Raises:
        InputError: if a user has every item of the catalogue, so that no negative exists.
    """

    def __init__(self, train: TrainSet, *, own_draws: bool = True) -> None:
        starts, items = train.pairs
        self.name, self.user_ids = train.name, train.users
        # Candidates are numbered without the new items, so that a draw is one integer in a block.
        known = ~train.new_items
        self.candidates = np.flatnonzero(known)
        number = np.cumsum(known) - 1
        numbered = number[items]
        self.starts, self.items = starts, numbered.astype(np.int64)
        self.n_candidates = len(self.candidates)
        borders = np.concatenate([[0], np.cumsum(known)])[train.item_domains]
        domain = np.repeat(np.arange(train.n_domains), np.diff(train.user_domains))
        self.single = train.n_domains == 1
        self.borders = borders
        self.low, self.size = borders[:-1][domain], np.diff(borders)[domain]
        full = np.flatnonzero((self.size - np.diff(starts) <= 0) & (np.diff(starts) > 0))
        if len(full) and own_draws:
            raise InputError(
                f"{train.name}: {len(full)} users have every item of the catalogue (user_id {train.users.ids[int(full[0])]!r}), so no"
                " negative exists; add items or leave these users out, or, where the model has such a setting, negatives='shared' or"
                " scoring all items (negatives='all' of the graph models, loss='ce' of the sequential ones)"
            )
        owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        bits = int(np.clip(np.ceil(np.log2(max(len(items), 1) * 16)), 12, 27))
        self.shift = np.uint64(64 - bits)
        self.seen = np.zeros(1 << bits, dtype=bool)
        self.seen[self._hash(owners, self.items)] = True

    def _hash(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.uint64]:
        key = users * self.n_candidates + items
        return (key.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> self.shift

    def draw(self, users: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``n`` negatives for each of ``users``: ``(B, n)`` int64."""
        flat_users = np.repeat(users, n)
        if self.single:
            drawn = rng.integers(0, self.n_candidates, len(flat_users), dtype=np.int64)
        else:
            drawn = self.low[flat_users] + (rng.random(len(flat_users)) * self.size[flat_users]).astype(np.int64)
        suspects = np.flatnonzero(self.seen[self._hash(flat_users, drawn)])
        if len(suspects):
            who = flat_users[suspects]
            place = self._count_at_most(who, drawn[suspects], shifted=False)
            at = np.maximum(self.starts[who] + place - 1, 0)
            hits = (place > 0) & (self.items[at] == drawn[suspects])
            suspects, who = suspects[hits], who[hits]
            rank = (rng.random(len(who)) * (self.size[who] - (self.starts[who + 1] - self.starts[who]))).astype(np.int64)
            drawn[suspects] = self.low[who] + rank + self._count_at_most(who, self.low[who] + rank, shifted=True)
        return self.candidates[drawn].reshape(len(users), n)

    def shared(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """One set of ``n`` items for the whole batch, uniform over the candidates; a user's own items may be among them.

        Returns:
            ``(n_domains * n,)`` int64: ``n`` items of each data set in turn, of which a sample meets those of its own.
        """
        if self.single:
            return self.candidates[rng.integers(0, self.n_candidates, n)]
        return self.candidates[rng.integers(self.borders[:-1, None], self.borders[1:, None], (len(self.borders) - 1, n)).ravel()]

    def _count_at_most(self, users: NDArray[np.int64], values: NDArray[np.int64], *, shifted: bool) -> NDArray[np.int64]:
        """How many of each user's sorted items are ``<= value``, by binary search side by side.

        ``shifted`` compares the item minus its rank, relative to the user's block: the number of own items before the ``value``-th other
        item.
        """
        low = np.zeros(len(users), dtype=np.int64)
        first = self.starts[users]
        high = self.starts[users + 1] - first
        while (active := low < high).any():
            middle = (low + high) // 2
            item = self.items[np.minimum(first + middle, len(self.items) - 1)] - (middle if shifted else 0)
            right = active & (item <= values)
            low = np.where(right, middle + 1, low)
            high = np.where(active & ~right, middle, high)
        return low
