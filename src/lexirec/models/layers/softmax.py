"""Cross entropy over all items without keeping a score per position and item."""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor

ROWS = 128
"""Positions scored at a time: their scores stay near the processor for catalogues of ten thousands of items."""
SCORES = 1 << 26
"""Scores held at a time on other devices, 256 MB: few large products, where each small one costs a start of its own."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and both gradients in one pass over blocks of positions; a block's scores are thrown away at once.

    The gradient by the scores is ``softmax - one_hot``, known as soon as a block is scored, so nothing has to be computed twice.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, targets: Tensor, weights: Tensor, dtype: torch.dtype, rows: int) -> Tensor:
        count = len(states)
        if dtype != torch.float32 and states.device.type == "cpu":
            # Whole blocks only, see ``training.products``: each shape of a bfloat16 product is compiled and kept. Filling weighs nothing.
            short = -count % rows
            states, targets, weights = F.pad(states, (0, 0, 0, short)), F.pad(targets, (0, short)), F.pad(weights, (0, short))
        grad_states, grad_items = torch.empty_like(states), torch.zeros_like(items)
        low_states, low_items = states.to(dtype), items.to(dtype)
        total = torch.zeros((), device=states.device)
        for lo in range(0, len(states), rows):
            block, own, share = low_states[lo : lo + rows], targets[lo : lo + rows, None], weights[lo : lo + rows, None]
            scores = (block @ low_items.T).float()  # (rows, I)
            largest = scores.amax(1, keepdim=True)
            wanted = scores.gather(1, own) - largest
            mass = scores.sub_(largest).exp_().sum(1, keepdim=True)
            total += ((mass.log() - wanted) * share).sum()
            scores.mul_(share / mass)
            scores.scatter_add_(1, own, -share)
            low = scores.to(dtype)
            if dtype == torch.float32:
                torch.mm(low, items, out=grad_states[lo : lo + rows])
                grad_items.addmm_(low.T, states[lo : lo + rows])
            else:
                grad_states[lo : lo + rows] = low @ low_items
                grad_items += low.T @ block
        ctx.save_for_backward(grad_states[:count], grad_items)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_items = ctx.saved_tensors
        return grad_states * grad, grad_items * grad, None, None, None, None


def rows_at_once(device: torch.device, n_items: int) -> int:
    """Positions whose scores are in memory together.

    >>> [rows_at_once(torch.device(kind), 10_000) for kind in ("cpu", "cuda")]
    [128, 6710]
    """
    return ROWS if device.type == "cpu" else max(ROWS, SCORES // max(n_items, 1))


def cross_entropy_over_items(
    states: Tensor, items: Tensor, targets: Tensor, tau: float = 1.0, *, low: bool = False, weights: Tensor | None = None
) -> Tensor:
    """Mean cross entropy of each position's target among all items, in memory of a block of positions.

    Args:
        states: ``(M, D)`` float32.
        items: ``(I, D)`` float32.
        targets: ``(M,)`` int64.
        tau: temperature that divides every score.
        low: matrix products in bfloat16; the softmax stays in float32.
        weights: ``(M,)`` float32 of the positions; the result is then the weighted sum instead of the mean.

    >>> states, items = torch.eye(2), torch.eye(2)
    >>> round(cross_entropy_over_items(states, items, torch.tensor([0, 1])).item(), 6)
    0.313262
    """
    dtype = torch.bfloat16 if low else torch.float32
    if weights is None:
        weights = torch.full((len(states),), 1 / max(len(states), 1), device=states.device)
    loss: Tensor = _ChunkedCrossEntropy.apply(states / tau, items, targets, weights, dtype, rows_at_once(states.device, len(items)))
    return loss
