"""Fusion of several scores of the same items: reciprocal ranks, or sums of scores brought into [0, 1]."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lexirec.errors import InputError, nearest

Fusion = Literal["rrf", "sum"]
RRF_K = 60.0
"""Constant of reciprocal rank fusion, as published."""


def ranks(scores: Tensor) -> Tensor:
    """Rank of each item in its row, 1 for the best, ``(B, I)`` float32; equal scores share the rank of the first of them.

    >>> ranks(torch.tensor([[0.2, 0.9, 0.2, 0.1]]))
    tensor([[2., 1., 2., 4.]])
    """
    ordered, order = torch.sort(scores, dim=1, descending=True)
    place = torch.arange(1, scores.shape[1] + 1, device=scores.device).repeat(len(scores), 1)
    place[:, 1:][ordered[:, 1:] == ordered[:, :-1]] = 0
    place = place.cummax(dim=1).values
    return torch.empty_like(place).scatter_(1, order, place).float()


def unit_range(scores: Tensor) -> Tensor:
    """Each row brought linearly into [0, 1], ``(B, I)``; a constant row becomes zeros."""
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    width = high - low
    return (scores - low) / torch.where(width > 0, width, 1.0)


def fuse(scores: Sequence[Tensor], method: Fusion = "rrf", weights: Sequence[float] | None = None, rrf_k: float = RRF_K) -> Tensor:
    """One score out of several.

    Args:
        scores: matrices ``(B, I)`` of any ranges, finite; of vectors, BM25 or anything else.
        method: ``rrf``: ``sum w / (rrf_k + rank)``, which sees ranks only and so needs no common range; ``sum``: ``sum w s`` of scores
            brought into [0, 1] row by row.
        weights: of each matrix, at least 0; all 1 if not given.
        rrf_k: how much the first places stand out, above 0; smaller is more.

    Returns:
        ``(B, I)`` float32.

    Raises:
        InputError: if shapes or lengths differ, a score is not finite, or an option is out of range.

    Source: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion", SIGIR 2009.

    >>> fuse([torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.0, 9.0, 5.0]])], "sum")
    tensor([[1.0000, 1.5000, 0.5556]])
    """
    if method not in get_args(Fusion):
        raise InputError(f"method = {method!r}{nearest(str(method), get_args(Fusion))}; choose rrf or sum")
    shares = [1.0] * len(scores) if weights is None else [float(weight) for weight in weights]
    if not scores or len(shares) != len(scores):
        raise InputError(f"{len(scores)} score matrices and {len(shares)} weights; give at least one matrix and a weight for each")
    if any(matrix.shape != scores[0].shape for matrix in scores):
        raise InputError(f"the score matrices have shapes {[tuple(matrix.shape) for matrix in scores]}; they must be of the same items")
    if not all(0 <= share < float("inf") for share in shares) or not sum(shares):
        raise InputError(f"weights = {shares}; they may not be negative, and one must be above 0")
    if not 0 < rrf_k < float("inf"):
        raise InputError(f"rrf_k = {rrf_k}; it must lie above 0")
    total = torch.zeros(scores[0].shape, device=scores[0].device)
    for matrix, share in zip(scores, shares, strict=True):
        matrix = matrix.float()
        if not torch.isfinite(matrix).all():
            raise InputError("a score to be fused is NaN or infinite; leave items out after the fusion, not before")
        total += share / (rrf_k + ranks(matrix)) if method == "rrf" else share * unit_range(matrix)
    return total


__all__ = ["Fusion", "fuse", "ranks", "unit_range"]
