"""Quasi-round-robin: several written texts to one ranking of the catalogue.

texts with log-probabilities -> best first, each once -> BM25 column per text -> scaled into [0, 1] -> a little less for the less probable
-> maximum over the texts

Paper: CALRec (Li et al., RecSys 2024, arXiv 2405.02429). The best item of every text comes first, in the order of the language model's
confidence; an item that is second somewhere can come between only if it is scaled above about 0.998.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError, nearest
from lexirec.retrieval.bm25 import BM25

Pooling = Literal["max", "mean", "min"]
EPSILON = 1 / 5000
"""Weight of a log-probability; small, so that it only orders what the texts match best."""


def predictions(
    texts: Sequence[str], logprobs: Sequence[float] | NDArray[Any], n_preds: int = 10, finds: Callable[[str], bool] | None = None
) -> tuple[list[str], NDArray[np.float64]]:
    """The most probable texts, each once, best first; equal log-probabilities keep their order.

    Args:
        texts: texts of one person, in any order, repeats included.
        logprobs: log-probability of each.
        n_preds: how many are kept at most.
        finds: whether a text finds anything; one that doesn't takes no place. All do if not given.

    Raises:
        InputError: if the lengths differ or a log-probability is not finite.

    >>> predictions(["x", "y", "x", "z", "w"], [-1.0, -3.0, -1.5, -2.0, -6.0], n_preds=3)
    (['x', 'z', 'y'], array([-1., -2., -3.]))
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if isinstance(texts, str) or values.shape != (len(texts),):
        raise InputError(f"{len(texts)} texts and log-probabilities of shape {values.shape}; give a list of texts and one number for each")
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"the log-probability of text {at} ({texts[at][:60]!r}) is {values[at]}; it must be finite")
    if n_preds < 1:
        raise InputError(f"n_preds = {n_preds}; keep at least one text")
    kept: dict[str, float] = {}
    for at in np.argsort(-values, kind="stable"):
        if finds is not None and texts[at] not in kept and not finds(texts[at]):
            continue
        kept.setdefault(texts[at], float(values[at]))
        if len(kept) == n_preds:
            break
    return list(kept), np.array(list(kept.values()))


def factors(logprobs: NDArray[np.float64], epsilon: float, modulate: bool) -> NDArray[np.float32]:
    """``exp(epsilon s)`` of each text, or ones.

    Raises:
        InputError: if ``epsilon`` is negative or not finite.
    """
    if not 0 <= epsilon < np.inf:
        raise InputError(f"epsilon = {epsilon}; it is the weight of the log-probabilities and may not be negative")
    return np.exp((epsilon if modulate else 0.0) * logprobs).astype(np.float32)


def scale(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row brought linearly into [0, 1], in place; a constant row becomes zeros.

    >>> scale(np.array([[8, 2, 0, 4], [3, 3, 3, 3]], dtype=np.float32))
    array([[1.  , 0.25, 0.  , 0.5 ],
           [0.  , 0.  , 0.  , 0.  ]], dtype=float32)
    """
    low = columns.min(axis=1, keepdims=True)
    width = columns.max(axis=1, keepdims=True) - low
    columns -= low
    columns /= np.where(width > 0, width, 1)
    return columns


def combine(columns: NDArray[np.float32], weights: NDArray[np.float32], pooling: Pooling = "max") -> NDArray[np.float32]:
    """Scaled columns times their factors, pooled, ``(n, I) -> (I,)``; zeros without a column."""
    if not len(columns):
        return np.zeros(columns.shape[1], dtype=np.float32)
    columns *= weights[:, None]
    if pooling == "max":
        return columns.max(axis=0)
    return columns.mean(axis=0, dtype=np.float32) if pooling == "mean" else columns.min(axis=0)


def pool(
    bm25: BM25,
    texts: Sequence[Sequence[str]],
    logprobs: Sequence[Sequence[float] | NDArray[Any]],
    *,
    n_preds: int = 10,
    epsilon: float = EPSILON,
    pooling: Pooling = "max",
    modulate: bool = True,
) -> NDArray[np.float32]:
    """Scores of the whole catalogue for each person's texts.

    Args:
        bm25: the catalogue.
        texts: written texts of each of ``B`` persons.
        logprobs: their log-probabilities.
        n_preds: texts that count per person, of those that find something, see :meth:`~lexirec.retrieval.bm25.BM25.finds`.
        epsilon: see :data:`EPSILON`.
        pooling: ``max`` (CALRec), ``mean`` or ``min`` over the texts.
        modulate: multiply each column by ``exp(epsilon s)``.

    Returns:
        ``(B, I)`` float32; all 0 for a person without a text that finds something.

    Raises:
        InputError: as :func:`predictions` and :func:`factors` do, for an unknown pooling, or if there are not as many lists of
            log-probabilities as of texts.

    Memory: the answer, and one person's columns.

    >>> index = BM25(["red drill", "blue drill", "green saw"])
    >>> pool(index, [["red drill", "green saw"]], [[-1.0, -2.0]]).round(4)
    array([[0.9998, 0.3239, 0.9996]], dtype=float32)
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"pooling = {pooling!r}{nearest(str(pooling), get_args(Pooling))}; choose max, mean or min")
    if len(texts) != len(logprobs):
        raise InputError(f"texts of {len(texts)} persons and log-probabilities of {len(logprobs)}; give one list of each per person")
    out = np.empty((len(texts), len(bm25)), dtype=np.float32)
    for row, some, values in zip(out, texts, logprobs, strict=True):
        kept, sums = predictions(some, values, n_preds, bm25.finds)
        row[:] = combine(scale(bm25.scores(kept)), factors(sums, epsilon, modulate), pooling)
    return out
