"""Dropout whose draw costs little on a processor."""

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor

LEVELS = 1 << 16
"""Places of 16 random bits: a probability is met to half a part in so many, and the scale is that of the probability met."""


def dropout(rows: Tensor, p: float, training: bool = True) -> Tensor:
    """Each element is set to zero with probability ``p`` and else divided by ``1 - p``, as by ``torch.nn.functional.dropout``.

    There, on a processor, one Bernoulli draw per element takes longer than many of the products around it; here four elements share a
    draw of 64 bits.

    Args:
        rows: floats of any shape, on any device.
        p: in [0, 1).
        training: whether to draw at all.

    >>> _ = torch.manual_seed(0)
    >>> dropout(torch.ones(8), 0.5).unique().tolist()
    [0.0, 2.0]
    >>> dropout(torch.ones(2), 0.5, training=False).tolist()
    [1.0, 1.0]
    """
    if not training or not p:
        return rows
    if rows.device.type != "cpu":
        return F.dropout(rows, p)
    n, below = rows.numel(), min(round(p * LEVELS), LEVELS - 1)
    bits = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:n]
    kept = (bits >= below - LEVELS // 2).to(rows.dtype).mul_(LEVELS / (LEVELS - below))
    return rows * kept.view(rows.shape)
