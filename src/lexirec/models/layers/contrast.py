"""Contrasts over items that may occur several times, at the cost of the distinct ones: LLMEmb's alignment, RLMRec's log-sum-exp."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor

RANGE = 60.0
"""Logits within this range of each other can share one exponential in float32 without a sum running to zero."""
ROWS = 128
"""Rows scored at a time against all candidates."""


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


def counted_infonce(x: Tensor, y: Tensor, counts: Tensor, tau: float) -> Tensor:
    """:func:`~lexirec.losses.symmetric_infonce` of ``x`` and ``y`` with row ``i`` repeated ``counts[i]`` times: same value, same gradients.

    Args:
        x: ``(U, D)`` float32.
        y: ``(U, D)`` float32, partner by partner.
        counts: ``(U,)`` how often each row occurs, at least 1.
        tau: temperature.

    Memory: a few arrays of ``U x U``.

    >>> round(counted_infonce(torch.eye(2), torch.eye(2), torch.tensor([1, 1]), 1.0).item(), 6)
    0.313262
    """
    n = counts.to(x.dtype)
    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / tau  # (U, U)
    rows = (logits + n.log()).logsumexp(1)
    columns = (logits + n.log()[:, None]).logsumexp(0)
    return (n @ ((rows + columns) / 2 - logits.diagonal())) / n.sum()


def _shares(x: Tensor, candidates: Tensor, bound: float, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
    """Blocks of rows with ``exp(x_a . c)`` to all candidates ``(rows, C)``, their sum ``(rows, 1)``, its logarithm, and the mean candidate.

    Args:
        x: ``(A, D)``.
        candidates: ``(C, D)``.
        bound: of the scores' size.
        dtype: of the matrix products and of the exponentials that are yielded.

    Nothing but the exponentials is of size ``rows x C``, and each is touched as seldom as possible: in full precision their sum comes
    out of the product that makes the mean, from a column of ones.
    """
    ones = candidates.new_ones(len(candidates), 1)
    across, beside = candidates.T.contiguous().to(dtype), torch.cat([candidates, ones], dim=1).to(dtype)
    for low in range(0, len(x), ROWS):
        rows = slice(low, min(low + ROWS, len(x)))
        powers = (x[rows].to(dtype) @ across).to(x.dtype)
        largest: Tensor | float = 0.0
        if bound > RANGE:  # else no exponential overflows, nor does a sum of them run to zero
            largest = powers.amax(1, keepdim=True)
            powers.sub_(largest)
        powers.exp_()
        rounded = powers.to(dtype)
        sums = (rounded @ beside).to(x.dtype)
        mass = sums[:, -1:] if dtype == x.dtype else powers.sum(1, keepdim=True)
        yield rows, rounded, mass, (mass.log() + largest)[:, 0], sums[:, :-1] / mass


class _TotalLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, candidates: Tensor, weights: Tensor, bound: float, dtype: torch.dtype) -> Tensor:
        grad_x, grad_candidates = torch.empty_like(x), torch.zeros_like(candidates)
        total = x.new_zeros(())
        for rows, powers, mass, value, mean in _shares(x, candidates, bound, dtype):
            share = weights[rows, None]
            total += (value * share[:, 0]).sum()
            torch.mul(mean, share, out=grad_x[rows])
            scaled = x[rows] * (share / mass)
            if dtype == x.dtype:
                grad_candidates.addmm_(powers.T, scaled)
            else:
                grad_candidates += powers.T @ scaled.to(dtype)
        ctx.save_for_backward(grad_x, grad_candidates)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_candidates = ctx.saved_tensors
        return grad_x * grad, grad_candidates * grad, None, None, None


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, candidates: Tensor, bound: float, dtype: torch.dtype) -> Tensor:
        means, values = torch.empty_like(x), x.new_empty(len(x))
        for rows, _, _, value, mean in _shares(x, candidates, bound, dtype):
            values[rows], means[rows] = value, mean
        ctx.save_for_backward(means)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (means,) = ctx.saved_tensors
        return grad[:, None] * means, None, None, None


def log_sum_exp(x: Tensor, candidates: Tensor, tau: float, *, low: bool = False) -> Tensor:
    """``log sum_c exp(x_a . c / tau)`` of each row, ``(A,)``, in memory of a block of rows.

    Args:
        x: ``(A, D)`` of length at most 1.
        candidates: ``(C, D)`` of length at most 1; they get no gradient.
        tau: temperature.
        low: matrix products in bfloat16.

    >>> log_sum_exp(torch.eye(2), torch.eye(2), 0.5).tolist()[0] == torch.tensor([2.0, 0.0]).logsumexp(0).item()
    True
    """
    values: Tensor = _LogSumExp.apply(x / tau, candidates.detach(), 1 / tau, torch.bfloat16 if low else x.dtype)
    return values


def total_log_sum_exp(
    x: Tensor, candidates: Tensor, tau: float, weights: Tensor, counts: Tensor | None = None, *, low: bool = False
) -> Tensor:
    """``sum_a w_a log sum_c n_c exp(x_a . c / tau)`` in memory of a block of rows, with both gradients in the same pass.

    Args:
        x: ``(A, D)`` of length at most 1.
        candidates: ``(C, D)`` of length at most 1.
        tau: temperature.
        weights: ``(A,)`` of the rows, such as how often each occurs.
        counts: ``(C,)`` how often each candidate occurs, at least 1; once if not given.
        low: matrix products in bfloat16.

    >>> rows, ones = torch.eye(2), torch.ones(2)
    >>> twice = total_log_sum_exp(rows, rows, 1.0, ones, torch.tensor([2, 1]))
    >>> torch.allclose(twice, total_log_sum_exp(rows, rows[[0, 0, 1]], 1.0, ones))
    True
    """
    bound = 1 / tau
    if counts is not None:  # the logarithm of the count is one more dimension of the product
        x = torch.cat([x, x.new_full((len(x), 1), tau)], dim=1)
        candidates = torch.cat([candidates, counts.to(candidates.dtype).log()[:, None]], dim=1)
        bound += float(counts.max().log())
    total: Tensor = _TotalLogSumExp.apply(x / tau, candidates, weights.to(x.dtype), bound, torch.bfloat16 if low else x.dtype)
    return total
