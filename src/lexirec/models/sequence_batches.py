"""The batches of the sequential models: which events are read, which are asked for, and what they are held against."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError
from lexirec.models.layers.sequence import Layout, ranges
from lexirec.training.samplers import NegativeSampler
from lexirec.training.sequences import Targets, Windows, WindowSampler


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """A packed batch.

    Attributes:
        layout: where its sequences lie.
        inputs: ``(T,)`` items (or rows of ``rows``).
        masked: ``(T,)`` which events are masked; ``None``: none.
        at: ``(M,)`` rows whose state predicts; ``None``: every row.
        targets: ``(M,)`` the right items.
        negatives: ``(M, n)`` or shared ``(n,)`` sampled items, or none.
        rows: ``(R,)`` the distinct items that the batch speaks of, ascending; inputs, targets and negatives then count in it.
            ``None``: they count in the catalogue, all of whose items take part in the loss.
    """

    layout: Layout
    inputs: Tensor
    masked: Tensor | None
    at: Tensor | None
    targets: Tensor
    negatives: Tensor | None
    rows: Tensor | None


class SequenceSampler:
    """Draws the batches of each epoch, packed: windows in random order, their targets and negatives.

    Args:
        train: training set.
        config: of a sequential model; of a cloze model where ``cloze``.
        cloze: whether events are hidden and filled in; else each one predicts the next.
        distinct: whether item vectors are made for the items of a batch alone, which are then counted (see ``SequenceBatch.rows``).
        device: of the tensors.

    Raises:
        InputError: if no user has enough events, or negatives could come from another data set of a mix.
    """

    def __init__(self, train: TrainSet, config: Any, *, cloze: bool, distinct: bool, device: torch.device) -> None:
        self.config, self.cloze, self.distinct, self.device = config, cloze, distinct, device
        own_draws = config.loss != "ce" and config.negatives == "per-sample"
        if train.n_domains > 1 and (not own_draws or config.loss == "gbce" or (cloze and config.mask_random)):
            raise InputError(
                f"{train.name} mixes {train.n_domains} data sets, and only negatives drawn per sample keep to a user's own; use loss='bce'"
                " or loss='softmax' with negatives='per-sample'" + (" and mask_random=0" if cloze else "")
            )
        if cloze:
            each = config.targets == "prefixes"
            kind: Targets | None = "prefixes" if each else None
            self.windows = WindowSampler(train, config.batch_size, config.max_len, kind, repeat_flagged=config.last_pass, whole=each)
        else:
            self.windows = WindowSampler(train, config.batch_size, config.max_len, config.targets)
        self.negatives = None if config.loss == "ce" else NegativeSampler(train, own_draws=own_draws)
        self.known = np.flatnonzero(~train.new_items)
        self.log = train.item_index.astype(np.int64)

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        return self.windows.n_batches

    def batches(self, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        """All windows once."""
        for windows in self.windows.batches(rng):
            yield self._masked(windows, rng) if self.cloze else self._shifted(windows, rng)

    def _shifted(self, windows: Windows, rng: np.random.Generator) -> SequenceBatch:
        """Each event predicts the next one (or only the last does)."""
        layout = Layout(windows.lengths, self.device)
        events = ranges(windows.starts, windows.lengths)
        if self.config.targets == "all":
            return self._batch(layout, windows, self.log[events], None, None, self.log[events + 1], rng)
        ends = windows.starts + windows.lengths
        return self._batch(layout, windows, self.log[events], None, layout.starts + windows.lengths - 1, self.log[ends], rng)

    def _masked(self, windows: Windows, rng: np.random.Generator) -> SequenceBatch:
        """Some events are hidden and to be filled in from both sides."""
        config = self.config
        layout = Layout(windows.lengths, self.device)
        inputs = self.log[ranges(windows.starts, windows.lengths)]
        hidden = rng.random(layout.total) < config.mask_prob
        last_only = windows.flags | (rng.random(len(windows.lengths)) < config.mask_last)
        hidden[np.repeat(last_only, windows.lengths)] = False
        hidden[(layout.starts + windows.lengths - 1)[last_only]] = True
        if not hidden.any():  # each batch must ask for something: several processes and MELT's branches count on all of them
            hidden[rng.integers(0, layout.total)] = True
        at = np.flatnonzero(hidden)
        targets = inputs[at]
        fate = rng.random(len(at))
        fate[np.repeat(last_only, windows.lengths)[at]] = 1.0  # the last event is always the mask, as when asked
        swapped = at[fate < config.mask_random]
        if len(swapped):
            inputs = inputs.copy()
            inputs[swapped] = self.known[rng.integers(0, len(self.known), len(swapped))]
        masked = np.zeros(layout.total, dtype=bool)
        masked[at[fate >= config.mask_random + config.mask_kept]] = True
        return self._batch(layout, windows, inputs, masked, at, targets, rng)

    def _batch(
        self, layout: Layout, windows: Windows, inputs: NDArray[np.int64], masked: NDArray[np.bool_] | None,
        at: NDArray[np.int64] | None, targets: NDArray[np.int64], rng: np.random.Generator,
    ) -> SequenceBatch:  # fmt: skip
        """Draw negatives and, where item vectors must be computed, find the distinct items of the batch."""
        config = self.config
        negatives = None
        if self.negatives is not None:
            if config.negatives == "shared":
                negatives = self.negatives.shared(config.num_negs, rng)
            else:
                owners = np.repeat(windows.users, windows.lengths)
                negatives = self.negatives.draw(owners if at is None else owners[at], config.num_negs, rng)
        rows = None
        if self.distinct:
            parts = [inputs, targets, negatives.reshape(-1)]  # type: ignore[union-attr]
            distinct, places = np.unique(np.concatenate(parts), return_inverse=True)
            rows = torch.from_numpy(distinct).to(self.device)
            inputs, targets, flat = np.split(places, np.cumsum([len(p) for p in parts[:-1]]))
            negatives = flat.reshape(negatives.shape)  # type: ignore[union-attr]
        return SequenceBatch(
            layout, self._tensor(inputs), None if masked is None else self._tensor(masked), None if at is None else self._tensor(at),
            self._tensor(targets), None if negatives is None else self._tensor(negatives), rows,
        )  # fmt: skip

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


__all__ = ["SequenceBatch", "SequenceSampler"]
