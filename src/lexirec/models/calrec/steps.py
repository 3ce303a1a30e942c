"""One training step: two towers of one language model, a contrast over the whole batch, and memory for a part of it only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import NonFiniteLossError
from lexirec.losses import calrec_total, contrast_bounds, next_item_weights, target_contrast
from lexirec.models.calrec.lm import LanguageModel, evaluating, token_losses
from lexirec.models.calrec.sequences import END, Ints, Packed, Pieces
from lexirec.models.calrec.texts import mixing_weights
from lexirec.models.layers.sequence import Layout, ranges

LOSS = "-loss"
"""Name by which the next-item loss of held-out targets is monitored."""
ROWS = 512
"""Positions scored at a time where no gradient is needed."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Users of a step.

    Attributes:
        users: ``(B,)``.
        history: items of their histories one after another, oldest first.
        counts: ``(B,)`` items of each history.
        targets: ``(B,)``.
    """

    users: Ints
    history: Ints
    counts: Ints
    targets: Ints


class Histories:
    """Training sequences of the users who have one: at least two events whose items have a text.

    Args:
        train: the training part.
        readable: ``(I,)`` bool, items with a text.
    """

    def __init__(self, train: TrainSet, readable: NDArray[np.bool_]) -> None:
        kept = readable[train.item_index] & ~train.new_items[train.item_index]
        self.items = train.item_index[kept].astype(np.int64)
        counts = np.bincount(train.user_index[kept], minlength=train.n_users)
        self.starts, self.counts = np.cumsum(counts) - counts, counts
        self.users = np.flatnonzero(counts >= 2)
        domain = np.searchsorted(train.user_domains, self.users, side="right") - 1
        self.by_domain = [self.users[domain == number] for number in range(train.n_domains)]

    def draw(self, n: int, exponent: float, rng: np.random.Generator) -> Ints:
        """``n`` users in random order. From several data sets, one is drawn with probability proportional to its size to ``exponent``.

        Within a data set nobody is drawn again before everybody was.
        """
        sizes = [len(users) for users in self.by_domain]
        if len(sizes) == 1:
            amounts = np.array([n])
        else:
            amounts = rng.multinomial(n, mixing_weights(sizes, exponent))
        found = [
            np.concatenate([rng.permutation(users) for _ in range(-(-int(amount) // len(users)))])[:amount]
            for users, amount in zip(self.by_domain, amounts, strict=True)
            if amount
        ]
        return rng.permutation(np.concatenate(found)) if len(found) > 1 else found[0]

    def batch(self, users: Ints, removed: Ints) -> Batch:
        """Sequences of some users without their last ``removed`` events; what then is last is the target."""
        counts = self.counts[users] - removed - 1
        history = self.items[ranges(self.starts[users], counts)]
        return Batch(users, history, counts, self.items[self.starts[users] + counts])

    def shortened(self, users: Ints, most: int, rng: np.random.Generator) -> Ints:
        """Events to remove from the end of each user's sequence: uniform over ``0..most``, as far as one history item remains."""
        return rng.integers(0, np.minimum(most, self.counts[users] - 2) + 1)


def groups_of(lengths: Ints, budget: int) -> list[Ints]:
    """Sequences that go through the model together: at most ``budget`` tokens (one longer alone), each group longest first.

    >>> [group.tolist() for group in groups_of(np.array([3, 9, 4, 2]), 9)]
    [[1], [2, 0, 3]]
    """
    order = np.argsort(-lengths, kind="stable")
    groups, start, total = [], 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        if place > start and total + length > budget:
            groups.append(order[start:place])
            start, total = place, 0
        total += length
    return [*groups, order[start:]] if len(order) else groups


class Towers:
    """Next-item loss and vectors of a batch.

    Args:
        lm: the language model, shared by both towers.
        pieces: tokens.
        reduction: see :func:`~lexirec.losses.next_item_weights`.
    """

    def __init__(self, lm: LanguageModel, pieces: Pieces, reduction: str) -> None:
        self.lm, self.pieces, self.reduction = lm, pieces, reduction

    @property
    def device(self) -> torch.device:
        return next(self.lm.parameters()).device

    def states(self, packed: Packed, group: Ints) -> tuple[Tensor, Layout, NDArray[np.int32]]:
        """States of some sequences, ``(T, D)`` float32, their layout and tokens."""
        starts = np.cumsum(packed.lengths) - packed.lengths
        tokens = packed.tokens[ranges(starts[group], packed.lengths[group])]
        layout = Layout(packed.lengths[group], self.device)
        return self.lm(torch.from_numpy(tokens.astype(np.int64)).to(self.device), layout), layout, tokens

    def labels(self, packed: Packed, targets: Ints, group: Ints, layout: Layout, tokens: NDArray[np.int32]) -> tuple[Ints, Ints, Ints]:
        """Rows that predict, what they shall say (the target and its end), and how many there are for each sequence.

        A target that was cut has no end.
        """
        borders = packed.borders[group]
        written = packed.lengths[group] - borders
        whole = self.pieces.lengths[targets[group] + END + 1] == written
        counts = written + whole
        rows = ranges(layout.starts + borders - 1, counts)
        said = np.append(tokens, 0)[rows + 1].astype(np.int64)
        said[(np.cumsum(counts) - 1)[whole]] = self.pieces.vocabulary.end
        return rows, said, counts

    def history_and_target(self, states: Tensor, packed: Packed, group: Ints, layout: Layout) -> Tensor:
        """Means of the states of the input and of the target, ``(2, n, D)``."""
        borders, lengths = packed.borders[group], packed.lengths[group]
        parts = np.stack([borders, lengths - borders], 1)
        owner = np.repeat(np.arange(parts.size), parts.reshape(-1))
        sums = torch.zeros(parts.size, states.shape[1], device=states.device)
        sums = sums.index_add(0, torch.from_numpy(owner).to(states.device), states.float())
        means = sums / torch.from_numpy(parts.reshape(-1, 1)).to(states.device).clamp(min=1)
        return means.view(-1, 2, states.shape[1]).transpose(0, 1)

    def joint(self, packed: Packed, targets: Ints, group: Ints, share: float) -> tuple[Tensor, Tensor]:
        """Next-item loss of some sequences, times ``share``, and their vectors ``(2, n, D)``."""
        states, layout, tokens = self.states(packed, group)
        rows, said, counts = self.labels(packed, targets, group, layout, tokens)
        device = self.device
        weights = next_item_weights(torch.from_numpy(counts).to(device), self.reduction) * share
        at, what = torch.from_numpy(rows).to(device), torch.from_numpy(said).to(device)
        if torch.is_grad_enabled():
            written = token_losses(self.lm, states[at], what, weights)
        else:
            written = -(self.log_probs(states[at], what) * weights).sum()
        return written, self.history_and_target(states, packed, group, layout)

    def alone(self, packed: Packed, group: Ints) -> Tensor:
        """Mean state of items' texts alone, ``(n, D)``."""
        states, layout, _ = self.states(packed, group)
        return self.history_and_target(states, packed, group, layout)[1]

    def log_probs(self, states: Tensor, targets: Tensor) -> Tensor:
        """Log-probability of each token, ``(M,)``; without gradient."""
        found = []
        for lo in range(0, len(states), ROWS):
            scores = self.lm.scores(states[lo : lo + ROWS]).float()
            found.append(scores.gather(1, targets[lo : lo + ROWS, None])[:, 0] - scores.logsumexp(1))
        return torch.cat(found) if found else states.new_zeros(0)


class Step:
    """The loss of a batch; its backward pass runs the model again, a part at a time, where the batch does not fit at once.

    Gradient caching: the vectors of the whole batch are made without a graph, the loss is computed from them, and what it asks of each
    vector is handed to a second pass over each part. Values and gradients are those of the plain computation (Gao et al., 2021, arXiv
    2101.06983).

    Args:
        towers: give losses and vectors.
        tau: temperature of the contrasts.
        alpha: weight of the target-target contrast.
        beta: weight of the user-target contrast.
        budget: most tokens with a graph in memory at a time.
        culprits: names the users of a batch whose gradient is not finite.
    """

    def __init__(
        self,
        towers: Towers,
        tau: float,
        alpha: float,
        beta: float,
        budget: int,
        culprits: Callable[[Batch], str] = lambda batch: f"{len(batch.users):,} users",
    ) -> None:
        self.towers, self.tau, self.alpha, self.beta, self.budget, self.culprits = towers, tau, alpha, beta, budget, culprits
        self.parts: dict[str, float] = {}
        """The three losses of the last batch."""

    def loss(self, batch: Batch) -> Tensor:
        pieces = self.towers.pieces
        joint = pieces.joined(batch.history, batch.counts, batch.targets)
        alone = pieces.targets(batch.targets)
        contrast = bool(self.alpha or self.beta)
        tasks: list[tuple[bool, Ints]] = [(True, group) for group in groups_of(joint.lengths, self.budget)]
        if contrast:
            tasks += [(False, group) for group in groups_of(alone.lengths, self.budget)]
        n, dim, device = len(batch.users), self.towers.lm.dim, self.towers.device

        def part(task: tuple[bool, Ints]) -> tuple[Tensor, Tensor]:
            """Loss of a part, and its vectors flat with where they belong."""
            with_history, group = task
            if with_history:
                return self.towers.joint(joint, batch.targets, group, len(group) / n)
            return torch.zeros((), device=device), self.towers.alone(alone, group)[None]

        if int(joint.lengths.sum() + contrast * alone.lengths.sum()) <= self.budget:
            done = [part(task) for task in tasks]
            vectors = torch.zeros(3, n, dim, device=device)
            for (with_history, group), (_, found) in zip(tasks, done, strict=True):
                planes = torch.tensor([0, 1] if with_history else [2], device=device)[:, None]
                vectors = vectors.index_put((planes, torch.from_numpy(group).to(device)[None]), found.float())
            return self._total(torch.stack([value for value, _ in done]).sum(), vectors, contrast)
        draws = self.towers.lm.training  # dropout must draw alike in both passes
        flat = torch.zeros(1 + 3 * n * dim, device=device)
        planes_of = flat[1:].view(3, n, dim)
        states = []
        with torch.no_grad():
            for task in tasks:
                states.append(_random_state(device) if draws else None)
                value, found = part(task)
                flat[0] += value
                (planes_of[:2] if task[0] else planes_of[2:])[:, torch.from_numpy(task[1]).to(device)] = found.float()
        flat.requires_grad_()
        kind = device.type
        mixed, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def again(gradient: Tensor) -> None:
            if not torch.isfinite(gradient).all():
                raise NonFiniteLossError(
                    f"the gradient of the contrast is NaN or infinite ({self.culprits(batch)}); the weights were not changed by this step:"
                    " lower lr, raise tau or use precision='fp32'"
                )
            after = _random_state(device) if draws else None
            asked = gradient[1:].view(3, n, dim)
            for task, state in zip(tasks, states, strict=True):
                _set_random_state(state)
                with torch.enable_grad(), torch.autocast(kind, dtype=dtype, enabled=mixed):
                    value, found = part(task)
                mine = (asked[:2] if task[0] else asked[2:])[:, torch.from_numpy(task[1]).to(device)]
                roots, gradients = [found], [mine.to(found.dtype)]
                if task[0]:
                    roots, gradients = [value, found], [gradient[0], mine.to(found.dtype)]
                torch.autograd.backward(roots, gradients)
            _set_random_state(after)

        flat.register_hook(again)
        return self._total(flat[0], flat[1:].view(3, n, dim), contrast)

    def _total(self, written: Tensor, vectors: Tensor, contrast: bool) -> Tensor:
        with torch.autocast(vectors.device.type, enabled=False):
            if not contrast:
                self.parts = {"next_item": written.item()}
                return written
            target_target = target_contrast(vectors[1], vectors[2], self.tau)
            user_target = target_contrast(vectors[0], vectors[2], self.tau)
            self.parts = {"next_item": written.item(), "target_target": target_target.item(), "user_target": user_target.item()}
            return calrec_total(written, target_target, user_target, self.alpha, self.beta)


def _random_state(device: torch.device) -> tuple[Tensor, ...]:
    return (torch.get_rng_state(), *((torch.cuda.get_rng_state(device),) if device.type == "cuda" else ()))


def _set_random_state(state: tuple[Tensor, ...] | None) -> None:
    if state is None:
        return
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])


def adamw(network: torch.nn.Module, lr: float, decay: float, warmup: int, total: int | None) -> torch.optim.Optimizer:
    """AdamW: a rise in a line over ``warmup`` steps, then constant, or down in a line to 0 at step ``total``.

    The rate is read from the optimiser's own count, so that a resumed training goes on exactly. Norms and biases don't decay.
    """
    weights = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") for p in weights)
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.98), fused=fused)

    def before_step(optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        done = next((int(state["step"]) for state in optimiser.state.values() if "step" in state), 0)
        rate = min(1.0, (done + 1) / max(warmup, 1))
        if total is not None:
            rate = min(rate, max(0.0, 1 - done / max(total, 1)))
        for group in optimiser.param_groups:
            group["lr"] = lr * rate

    optimiser.register_step_pre_hook(before_step)
    return optimiser


def answerable(train: TrainSet, part: Heldout, readable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which held-out targets have a text, and a user with a training event that has one, ``(n,)``.

    Args:
        train: the training part.
        part: the targets.
        readable: ``(I,)`` items with a text.
    """
    read = np.bincount(train.user_index[readable[train.item_index]], minlength=train.n_users)
    return readable[part.item_index] & (read[part.user_index] > 0)


def held_out_losses(step: Step, train: TrainSet, part: Heldout, batch_size: int) -> dict[str, float]:
    """Losses of held-out targets after the training history: ``-loss`` (next item, negated, so that more is better).

    Nothing where no target has a text and a training history with one. Of two users on there are also ``target_target`` and
    ``user_target``, means over the whole batches of ``batch_size`` users (of all users, where they are fewer), and ``contrast_floor``, the
    least that either can be in a batch of that size.
    """
    counts = np.diff(train.offsets)[part.user_index].astype(np.int64)
    ok = answerable(train, part, step.towers.pieces.readable)
    users, targets, counts = part.user_index[ok].astype(np.int64), part.item_index[ok].astype(np.int64), counts[ok]
    if not len(users):
        return {}
    batch_size = min(batch_size, len(users))
    total, sums, whole = 0.0, np.zeros(2), 0
    with evaluating(step.towers.lm):
        for lo in range(0, len(users), batch_size):
            some = slice(lo, lo + batch_size)
            history = train.item_index[ranges(train.offsets[users[some]], counts[some])].astype(np.int64)
            step.loss(Batch(users[some], history, counts[some], targets[some]))
            total += step.parts["next_item"] * len(users[some])
            if len(users[some]) == batch_size > 1 and "target_target" in step.parts:
                sums += [step.parts["target_target"], step.parts["user_target"]]
                whole += 1
    found = {LOSS: -total / len(users)}
    if whole:
        floor = contrast_bounds(batch_size, step.tau)[0]
        found |= {"target_target": float(sums[0] / whole), "user_target": float(sums[1] / whole), "contrast_floor": floor}
    return found


__all__ = ["LOSS", "Batch", "Histories", "Step", "Towers", "adamw", "answerable", "groups_of", "held_out_losses"]
