"""Several processes that share a training: every n-th batch each, gradients averaged, one set of weights."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lexirec.errors import InputError


class Processes:
    """The processes that share a training: one, or those that a launcher such as ``torchrun`` or ``accelerate launch`` started.

    Args:
        device: where this process trains.
    """

    def __init__(self, device: torch.device) -> None:
        from accelerate import PartialState

        state = PartialState(cpu=device.type == "cpu")  # joins the others, if the launcher's variables name any
        self.device, self.count, self.rank = device, state.num_processes, state.process_index

    def mean(self, value: float) -> float:
        """The mean of a number over the processes, for all of them."""
        if self.count == 1:
            return value
        return float(self._summed(torch.tensor(value, dtype=torch.float64)) / self.count)

    def share(self, batches: Iterator[Any], n_batches: Callable[[], int]) -> Iterator[Any]:
        """Every n-th batch. An incomplete last round is left out: each process must make as many steps."""
        if self.count == 1:
            return batches
        return itertools.islice(batches, self.rank, n_batches() // self.count * self.count, self.count)

    def average_gradients(self, network: nn.Module) -> None:
        """Gradients become their mean over the processes; a weight that a step of one of them leaves out counts as 0 there."""
        if self.count == 1:
            return
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        moved = self._summed(torch.tensor([weight.grad is not None for weight in weights], dtype=torch.float64))
        for weight, some in zip(weights, moved.tolist(), strict=True):
            if some:
                weight.grad = self._summed(torch.zeros_like(weight) if weight.grad is None else weight.grad) / self.count

    def _summed(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.device).contiguous()
        torch.distributed.all_reduce(tensor)
        return tensor


def check_shared(count: int, n_batches: int, total_steps: int | None) -> None:
    """Refuse what several processes can't share.

    Args:
        count: of the processes.
        n_batches: batches of an epoch.
        total_steps: over which the learning rate falls, if it does.

    Raises:
        InputError: if the learning rate falls over steps that one process makes, or there is no batch for each.
    """
    if total_steps is not None:
        raise InputError(f"{count} processes share the training, and its learning rate falls over the steps of one; start one process")
    if n_batches < count:
        raise InputError(f"{count} processes share {n_batches} batches an epoch; lower batch_size, or start fewer processes")


__all__ = ["Processes", "check_shared"]
