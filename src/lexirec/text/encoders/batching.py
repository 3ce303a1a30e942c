"""Which texts go through the model together: sorted by length, no padding where it can be avoided."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def plan_batches(lengths: Sequence[int] | NDArray[np.int64], budget: int, pad: bool = True) -> list[NDArray[np.int64]]:
    """Group texts by token count so that (almost) nothing is padded.

    Texts of one length share a batch, so the model sees no padding and no mask. Only lengths too rare to fill an eighth of the
    budget are put with their longer neighbours, and only while the longest is within a quarter (and two tokens) of the shortest.

    Args:
        lengths: tokens of each text.
        budget: most tokens of a batch, padding included; a longer text has a batch of its own.
        pad: allow neighbours to be mixed; false keeps every batch at one length.

    Returns:
        Index arrays that cover each text once, longest first (so that the peak of memory comes at the start).

    >>> [batch.tolist() for batch in plan_batches([3, 5, 3, 3, 90], budget=6)]
    [[4], [1], [3], [0, 2]]
    """
    size = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(size, kind="stable")
    batches: list[NDArray[np.int64]] = []
    start = 0
    for i in range(1, len(order) + 1):
        if i < len(order):
            here, first = int(size[order[i]]), int(size[order[start]])
            previous = int(size[order[i - 1]])
            count = i - start
            fits = (count + 1) * here <= budget
            small = count * previous * 8 < budget
            near = here <= first * 1.25 + 2
            if fits and (here == previous == first or (pad and near and (small or here == previous))):
                continue
        batches.append(order[start:i])
        start = i
    return batches[::-1]
