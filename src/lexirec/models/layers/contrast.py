"""LLMEmb's soft-target contrast over items that may occur several times, at the cost of the distinct ones."""

from typing import Any

import torch
from torch import Tensor

RANGE = 60.0
"""Logits within this range of each other can share one exponential in float32 without a sum running to zero."""


class _CountedSoftClip(torch.autograd.Function):
    """Loss and gradients of :func:`counted_soft_clip` in one pass.

    With ``n`` the counts, ``M`` their sum, ``T`` the targets per distinct pair and ``c = n T`` its weighted column sums::

        loss = (sum_a n_a row_a + sum_b n_b c_b column_b - 2 sum_ab n_a n_b T_ab L_ab) / 2M

    where ``row`` and ``column`` are the log-sum-exp of ``L`` with counts. Written out because a plain graph keeps a dozen arrays of one
    number per pair and multiplies twice as much.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, counts: Tensor, tau: float) -> Tensor:
        n = counts.to(x.dtype)
        total, log_n = n.sum(), n.log()
        logits = (x @ y.T).div_(tau)  # (U, U)
        both = torch.cat([x, y], dim=1)
        targets = (both @ both.T).mul_(tau / 2).add_(log_n).softmax(1)  # n_b T_ab
        mass = n @ targets  # n_b c_b
        weighted = targets * n[:, None]  # n_a n_b T_ab
        low, high = torch.aminmax(logits)
        if high - low < RANGE:  # one exponential serves rows and columns
            powers = (logits - high).exp_()
            row_sum, column_sum = powers @ n, n @ powers
            row, column = row_sum.log() + high, column_sum.log() + high
            by_logits = powers.mul_((n / row_sum)[:, None] * n + n[:, None] * (mass / column_sum))
        else:
            row = (logits + log_n).logsumexp(1)
            column = (logits + log_n[:, None]).logsumexp(0)
            by_logits = (logits - row[:, None] + log_n).exp_().mul_(n[:, None])
            by_logits += (logits - column + log_n[:, None]).exp_().mul_(mass)
        # by the logits: n_a n_b (p_row + c_b p_column) - 2 n_a n_b T; the division by 2M comes last
        by_logits.sub_(weighted, alpha=2)
        # by the targets, through their softmax: the row's own log-sum-exp is constant along it and drops out
        slope = torch.addcmul(column, logits, torch.tensor(-2.0, device=x.device))
        inner = torch.einsum("ab,ab->a", targets, slope)
        value = (n @ row + n @ inner) / (2 * total)
        by_gram = slope.sub_(inner[:, None]).mul_(weighted)
        by_gram = (by_gram + by_gram.T).mul_(tau / 2)
        by_logits, by_gram = by_logits.div_(2 * total), by_gram.div_(2 * total)
        grad_y = (by_logits.T @ x).div_(tau).add_(by_gram @ y)
        grad_x = (by_logits @ y).div_(tau).add_(by_gram @ x) if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(grad_y, *([] if grad_x is None else [grad_x]))
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_y, *rest = ctx.saved_tensors
        return rest[0] * grad if rest else None, grad_y * grad, None, None


def counted_soft_clip(x: Tensor, y: Tensor, counts: Tensor, tau: float) -> Tensor:
    """:func:`~lexirec.losses.soft_clip` of ``x`` and ``y`` with row ``i`` repeated ``counts[i]`` times: same value, same gradients.

    Args:
        x: ``(U, D)`` float32, the teacher's vectors.
        y: ``(U, D)`` float32, the vectors to align.
        counts: ``(U,)`` how often each row occurs, at least 1.
        tau: temperature.

    Memory: a few arrays of ``U x U``, none kept for the backward pass.

    >>> round(counted_soft_clip(torch.eye(2), torch.eye(2), torch.tensor([1, 1]), 2.0).item(), 6)
    0.533678
    >>> round(counted_soft_clip(torch.eye(2), torch.eye(2), torch.tensor([2, 1]), 2.0).item(), 6)
    0.962453
    """
    value: Tensor = _CountedSoftClip.apply(x, y, counts, tau)
    return value
