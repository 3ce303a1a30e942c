"""Training windows cut from the flat log while batching: no Python per sequence, no padding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError

Targets = Literal["all", "last", "prefixes"]
"""``all``: every event is predicted from those before it, one window per user. ``last``: only the last one, one window per user.

``prefixes``: every event is predicted from those before it, a window of its own each.
"""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a batch, longest first: events ``starts[i] .. starts[i] + lengths[i] - 1`` of the training log.

    Attributes:
        users: ``(B,)``.
        starts, lengths: ``(B,)``.
        flags: ``(B,)`` a label that the sampler was given for each window.
    """

    users: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    flags: NDArray[np.bool_]


class WindowSampler:
    """Shuffled batches of windows for one epoch.

    Args:
        train: training set.
        batch_size: windows per batch; the last batch may be smaller.
        max_len: events of a window at most; the latest are kept.
        targets: see :data:`Targets`; ``None``: the window holds everything, its own targets included (cloze).
        repeat_flagged: add every window a second time with its flag set (LLMEmb's cloze, which masks the last event once per epoch).
        whole: with ``prefixes``: the window holds its target too, so it has two events at least (cloze over every prefix).

    Raises:
        InputError: if no user has enough events.
    """

    def __init__(
        self, train: TrainSet, batch_size: int, max_len: int, targets: Targets | None = "all", *, repeat_flagged: bool = False,
        whole: bool = False,
    ) -> None:  # fmt: skip
        offsets = train.offsets
        count = np.diff(offsets)
        if targets == "prefixes":
            event = np.arange(train.n_interactions)
            first = np.repeat(offsets[:-1], count)
            self.ends = event[event > first]
            self.users = train.user_index[self.ends].astype(np.int64)
            begin = first[self.ends]
            self.ends = self.ends + whole
        else:
            least = 1 if targets is None else 2
            self.users = np.flatnonzero(count >= least)
            self.ends = offsets[1:][self.users] - (least - 1)
            begin = offsets[:-1][self.users]
        if not (count >= 2).any():
            raise InputError(
                f"{train.name}: no user has two training events, so there is no order to learn; choose a split that leaves some"
            )
        self.starts = np.maximum(begin, self.ends - max_len)
        self.lengths = self.ends - self.starts
        self.batch_size, self.copies = batch_size, 2 if repeat_flagged else 1

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        return -(-len(self.users) * self.copies // self.batch_size)

    def batches(self, rng: np.random.Generator) -> Iterator[Windows]:
        """All windows once in random order; within a batch longest first."""
        order = rng.permutation(len(self.users) * self.copies)
        for lo in range(0, len(order), self.batch_size):
            part = order[lo : lo + self.batch_size]
            flags, part = part >= len(self.users), part % len(self.users)
            longest_first = np.argsort(-self.lengths[part], kind="stable")
            part = part[longest_first]
            yield Windows(self.users[part], self.starts[part], self.lengths[part], flags[longest_first])
