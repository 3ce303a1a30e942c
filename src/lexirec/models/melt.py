"""MELT (Kim et al., SIGIR 2023, arXiv 2304.08382): two branches that mend what few events make of people and of items.

Official code: rlqja1107/MELT (read at commit dd7542f). How this differs: any sequence encoder (published for SASRec; our reading for the
others: a GRU's state after the stretch, and for BERT4Rec the state of a mask put after it, as when asked); windows are packed; the
defaults are those of LLMEmb's harness (published: ``embedding_dim`` and ``max_len`` 50, ``causal``). Asked, a person counts as short by
the events given, so that an answer depends on the history alone; the official code keeps the split of the training log. The pre-training
may stop by ``patience``, where the official one has a fixed number of epochs.

plain encoder -> rows of rare items := W_I(mean state of all stretches that end at them) -> its loss
    + lambda_users w_u (W_U few - full)^2 of long histories + lambda_items (w_i (W_I mean - vector))^2 of frequent items
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError
from lexirec.models.backbones import BackboneConfig, BackboneRecommender
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.sequence import Layout, ranges
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.sequence_network import SequenceNetwork
from lexirec.models.sequential import ENCODED_AT_ONCE
from lexirec.models.stages import train_plain
from lexirec.training.options import TrainingOptions

EARLIER = 0.02
"""Items are split at this much less than people."""
SPREAD = 50
"""Frequencies this far above the threshold all have the same weight."""


class MELTConfig(BackboneConfig):
    """Settings of MELT."""

    items: Literal["id"] = "id"
    """A learned table, whose rare rows are written anew in each epoch."""
    tail_share: float = Field(default=0.8, gt=EARLIER, lt=1.0)
    """Quantile of history lengths up to which a person is short; an item is rare up to that of frequencies at ``tail_share - 0.02``."""
    lambda_users: NonNegativeFloat = 0.1
    """Weight of the branch for people; published .1 for Beauty, .1 to .4 elsewhere."""
    lambda_items: NonNegativeFloat = 0.4
    """Weight of the branch for items; published .4 for Beauty, .1 to .4 elsewhere."""
    e_max: PositiveInt = 180
    """Epochs of the joint training at most, over which the weights move from the most frequent to the rarer; published 180 for Beauty."""
    pretrain_epochs: PositiveInt = 201
    """Epochs of the plain encoder at most. ``epochs`` of the training bounds both."""

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if not self.lambda_users and not self.lambda_items:
            found["tail_share"] = "lambda_users = 0 and lambda_items = 0"
        return found


def user_weights(lengths: NDArray[Any], threshold: int, epoch: int, e_max: int, max_len: int) -> NDArray[np.float64]:
    """Weights of long histories: ``|sin(pi/2 epoch/e_max + pi/2 (length - threshold - 1) / (max_len - threshold - 1))|``.

    At first the longest count, at last the ones barely above the threshold.

    Args:
        lengths: events, ``threshold < length <= max_len``.
        threshold: longest short history.
        epoch: epochs done.
        e_max: epochs in all.
        max_len: longest history.

    >>> user_weights(np.array([11, 30, 50]), 10, 0, 180, 50).round(6).tolist()
    [0.0, 0.692724, 1.0]
    """
    above = (np.asarray(lengths) - threshold - 1) / max(max_len - threshold - 1, 1)
    return np.abs(np.sin(np.pi / 2 * (epoch / e_max + above)))


def item_weights(frequencies: NDArray[Any], threshold: int, epoch: int, e_max: int) -> NDArray[np.float64]:
    """Weights of frequent items: ``|sin(pi/2 epoch/e_max + pi/100 (min(threshold + 50, n) - threshold - 1))|``.

    >>> item_weights(np.array([7, 30, 100]), 6, 0, 180).round(6).tolist()
    [0.0, 0.661312, 0.999507]
    """
    above = np.minimum(threshold + SPREAD, np.asarray(frequencies)) - threshold - 1
    return np.abs(np.sin(np.pi / 2 * epoch / e_max + np.pi / (2 * SPREAD) * above))


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of the log that are read towards an event.

    Attributes:
        ends: ``(n,)`` event that each ends at.
        lengths: ``(n,)`` events of each, at least 1.
        steps: ``(n,)`` 1: from earlier events; -1: from later ones, backwards.
    """

    ends: NDArray[np.int64]
    lengths: NDArray[np.int64]
    steps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, at: Any) -> "Stretches":
        return Stretches(self.ends[at], self.lengths[at], self.steps[at])

    def events(self) -> NDArray[np.int64]:
        """Places in the log, one stretch after another, each in reading order."""
        left = np.repeat(self.lengths, self.lengths) - 1 - ranges(np.zeros_like(self.lengths), self.lengths)
        return np.repeat(self.ends, self.lengths) - np.repeat(self.steps, self.lengths) * left


def item_contexts(train: TrainSet, longest: int) -> tuple[Stretches, NDArray[np.int64]]:
    """All stretches that end at each item: what came before each of its events, and what came after, backwards.

    A history of one event gives one stretch; of any other, two per event.

    Args:
        train: training part.
        longest: events of a stretch at most, those nearest to the item.

    Returns:
        Stretches sorted by item, and where each item's begin, ``(I + 1,)``.
    """
    event = np.arange(train.n_interactions)
    count = np.diff(train.offsets)
    first, last = np.repeat(train.offsets[:-1], count), np.repeat(train.offsets[1:] - 1, count)
    several = event[last > first]
    ends = np.concatenate([event, several])
    lengths = np.minimum(np.concatenate([event - first, (last - event)[several]]) + 1, longest)
    steps = np.repeat([1, -1], [len(event), len(several)])
    items = train.item_index[ends]
    order = np.argsort(items, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(items, minlength=train.n_items))])
    return Stretches(ends, lengths, steps)[order], offsets


def sample_contexts(
    offsets: NDArray[np.int64], items: NDArray[np.int64], most: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some of each item's contexts without repeats, their number uniform in ``1 .. min(contexts, most)``.

    Args:
        offsets: where each item's contexts begin.
        items: items, each with a context.
        most: upper bound.
        rng: source of randomness.

    Returns:
        Chosen contexts, and for each the place of its item in ``items``.
    """
    count = offsets[items + 1] - offsets[items]
    wanted = rng.integers(1, np.minimum(count, most) + 1)
    owners = np.repeat(np.arange(len(items)), count)
    all_of_them = ranges(offsets[items], count)
    shuffled = np.lexsort((rng.random(len(owners)), owners))  # each item's contexts in random order, items in theirs
    chosen = shuffled[ranges(np.cumsum(count) - count, wanted)]
    return all_of_them[chosen], owners[chosen]


@dataclass(frozen=True, eq=False)
class Packed:
    """Stretches ready for the encoder.

    Attributes:
        layout: where they lie, longest first.
        inputs, masked: as in :class:`~lexirec.models.sequence_batches.SequenceBatch`.
        back: ``(n,)`` place of each in the layout.
    """

    layout: Layout
    inputs: Tensor
    masked: Tensor | None
    back: Tensor


@dataclass(frozen=True, eq=False)
class MELTBatch(SequenceBatch):
    """A batch with its share of long histories and frequent items.

    Attributes:
        histories: of ``n`` people the last few events, then of the same people the whole window; ``None``: nobody.
        user_weights: ``(n,)``.
        contexts: of ``m`` items; ``None``: no item.
        owners: ``(k,)`` whose each context is, ``0 .. m - 1``.
        frequent: ``(m,)`` the items.
        item_weights: ``(m,)``.
    """

    histories: Packed | None
    user_weights: Tensor
    contexts: Packed | None
    owners: Tensor
    frequent: Tensor
    item_weights: Tensor


class MELTNetwork(SequenceNetwork):
    """A sequence encoder with the two branches, each one linear map."""

    epoch: Tensor

    def __init__(self, items: ItemVectors, body: nn.Module, dim: int, masked: bool = False, head: nn.Module | None = None) -> None:
        super().__init__(items, body, dim, masked, head)
        self.user_branch, self.item_branch = nn.Linear(dim, dim), nn.Linear(dim, dim)
        # Among the weights, so that a resumed training knows where the curriculum stands.
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))


class MELT(BackboneRecommender):
    """A sequence model that learns on long histories and frequent items to mend short and rare ones.

    >>> MELT(backbone="gru4rec").config.lambda_items
    0.4
    """

    name = "melt"
    Config = MELTConfig
    pretrained: dict[str, Tensor] | None = None
    short = 0
    """Longest short history; 0 where no history is long, so that nothing could be learned from."""

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        config = self.config
        self.split(train)  # a window too short is told before the encoder is trained
        first = options.model_copy(update={"epochs": min(options.epochs, config.pretrain_epochs)})
        self.pretrained = train_plain(config.backbone, config.model_dump(), train, valid, first, "backbone").network.state_dict()
        return super().learn(train, valid, options.model_copy(update={"epochs": min(options.epochs, config.e_max)}))

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        super().build(train, rng)
        if self.pretrained is not None:
            self._network.load_state_dict({**self._network.state_dict(), **self.pretrained})
            self.pretrained = None
        self.contexts, self.context_offsets = item_contexts(train, self.places)

    def make_network(self, items: ItemVectors) -> SequenceNetwork:
        plain = super().make_network(items)
        head = None if isinstance(plain.head, nn.Identity) else plain.head
        return MELTNetwork(items, plain.body, self.config.embedding_dim, self.cloze, head)

    @property
    def places(self) -> int:
        """Most events that are read; a cloze model needs one place for the mask."""
        return int(self.config.max_len) - self.cloze

    def split(self, train: TrainSet) -> None:
        """Short and long histories, rare and frequent items, by the training log.

        Raises:
            InputError: if the split is at lengths that the window can't hold.
        """
        share, longest = self.config.tail_share, self.places
        count, frequency = np.diff(train.offsets), train.popularity
        some = count[count > 0]
        self.short = int(np.quantile(some, share))
        self.long_users = np.flatnonzero(count > self.short)
        self.user_ends, self.user_lengths = train.offsets[1:] - 1, np.minimum(count, longest)
        if not len(self.long_users):
            warn(f"{train.name}: no training history is longer than the {share:.0%} quantile of {self.short} events; people are left as is")
            self.short = 0
        elif self.short >= longest:
            raise InputError(
                f"{share:.0%} of the histories have up to {self.short} events and max_len = {self.config.max_len} reads {longest}, so none"
                " counts as long; raise max_len or lower tail_share"
            )
        self.rare = int(np.quantile(frequency[frequency > 0], share - EARLIER))
        self.frequency = frequency
        self.frequent_items = np.flatnonzero(frequency > self.rare)
        self.rare_items = np.flatnonzero((frequency > 0) & (frequency <= self.rare))
        if not len(self.frequent_items):
            warn(f"{train.name}: no item has more than the {share - EARLIER:.0%} quantile of {self.rare} events; items are left as is")
            self.rare_items = self.frequent_items

    # --- training ----------------------------------------------------------------------------------------------------------------

    @property
    def _branches(self) -> MELTNetwork:
        assert isinstance(self.network, MELTNetwork)  # noqa: S101 (set by build)
        return self.network

    def pack(self, stretches: Stretches) -> Packed:
        """Stretches in the encoder's order; for a cloze model each with a mask after it."""
        order = np.argsort(-stretches.lengths, kind="stable")
        stretches = stretches[order]
        inputs, lengths, masked = self.sampler.log[stretches.events()], stretches.lengths, None
        if self.cloze:
            inputs, lengths = np.insert(inputs, np.cumsum(lengths), 0), lengths + 1
            hidden = np.zeros(len(inputs), dtype=bool)
            hidden[np.cumsum(lengths) - 1] = True
            masked = self._tensor(hidden)
        return Packed(Layout(lengths, self.device), self._tensor(inputs), masked, self._tensor(np.argsort(order)))

    def encode(self, packed: Packed, table: Tensor) -> Tensor:
        """Last states of stretches in the order they were given, ``(n, D)``."""
        found = self._network.states(table, packed.inputs, packed.masked, packed.layout, packed.layout.last)
        return found.index_select(0, packed.back)

    @torch.no_grad()
    def write_rare_items(self) -> None:
        """Replace the row of each rare item that has events by ``W_I`` of the mean state over all its contexts."""
        if not len(self.rare_items) or not self.config.lambda_items:
            return
        network = self._branches
        training = network.training
        network.eval()
        items = self.rare_items
        count = self.context_offsets[items + 1] - self.context_offsets[items]
        contexts, owners = self.contexts[ranges(self.context_offsets[items], count)], np.repeat(np.arange(len(items)), count)
        table = self._items()
        total = torch.zeros(len(items), table.shape[1], device=self.device)
        order = np.argsort(-contexts.lengths, kind="stable")
        for lo in range(0, len(order), ENCODED_AT_ONCE):
            part = order[lo : lo + ENCODED_AT_ONCE]
            total.index_add_(0, self._tensor(owners[part]), self.encode(self.pack(contexts[part]), table).float())
        mean = total / self._tensor(count)[:, None]
        table[self._tensor(items)] = network.item_branch(mean)
        network.train(training)

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        epoch = int(self._branches.epoch)
        self.write_rare_items()
        self._branches.epoch += 1
        parts = self.n_batches(train)
        users = np.array_split(rng.permutation(self.long_users), parts)
        items = np.array_split(rng.permutation(self.frequent_items), parts)
        for number, batch in enumerate(super().batches(train, rng)):
            yield self.joined(batch, users[number], items[number], epoch, rng)

    def joined(
        self, batch: SequenceBatch, users: NDArray[np.int64], items: NDArray[np.int64], epoch: int, rng: np.random.Generator
    ) -> MELTBatch:
        """A batch with its people and items for the branches."""
        config = self.config
        histories = contexts = None
        lengths, owners = self.user_lengths[users], np.zeros(0, dtype=np.int64)
        if len(users):
            few = rng.integers(1, max(self.short, 2), len(users))  # 1 .. short - 1
            ends = self.user_ends[users]
            histories = self.pack(Stretches(np.tile(ends, 2), np.concatenate([few, lengths]), np.ones(2 * len(users), dtype=np.int64)))
        if len(items):
            chosen, owners = sample_contexts(self.context_offsets, items, self.rare, rng)
            contexts = self.pack(self.contexts[chosen])
        by_length = user_weights(lengths, self.short, epoch, config.e_max, self.places)
        by_frequency = item_weights(self.frequency[items], self.rare, epoch, config.e_max)
        return MELTBatch(
            **vars(batch), histories=histories, user_weights=self._tensor(by_length.astype(np.float32)), contexts=contexts,
            owners=self._tensor(owners), frequent=self._tensor(items), item_weights=self._tensor(by_frequency.astype(np.float32)),
        )  # fmt: skip

    def extra_loss(self, table: Tensor, batch: SequenceBatch) -> Tensor | float:
        assert isinstance(batch, MELTBatch)  # noqa: S101 (made by batches)
        config, network = self.config, self._branches
        table = self._items()  # histories and contexts are of any items, not those of the batch alone
        total: Tensor | float = 0.0
        if batch.histories is not None and config.lambda_users:
            few, full = self.encode(batch.histories, table).float().chunk(2)
            users = (batch.user_weights[:, None] * (network.user_branch(few) - full).square()).mean()
            total = total + config.lambda_users * users
        if batch.contexts is not None and config.lambda_items:
            states = self.encode(batch.contexts, table).float()
            if config.lambda_users:
                states = states + network.user_branch(states)
            size = len(batch.frequent)
            count = torch.bincount(batch.owners, minlength=size)[:, None]
            mean = states.new_zeros(size, states.shape[1]).index_add(0, batch.owners, states) / count
            # NOTE: as in the official code this weight is inside the square and the other one is not.
            wrong = batch.item_weights[:, None] * (network.item_branch(mean) - table[batch.frequent])
            total = total + config.lambda_items * wrong.square().mean()
        return total

    # --- answering ---------------------------------------------------------------------------------------------------------------

    def _states(self, flat: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
        states = super()._states(flat, starts, lengths)
        if not self.config.lambda_users:
            return states
        short = self._tensor(lengths <= self.short)
        return torch.where(short[:, None], states + self._branches.user_branch(states), states)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        return tensors, {**values, "short": self.short}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        self.short = values["short"]


__all__ = ["MELT", "MELTConfig", "item_weights", "user_weights"]
