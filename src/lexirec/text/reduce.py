"""Fewer or evener dimensions for text vectors, by fixed affine maps fitted on a catalogue without looking at the log."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lexirec.errors import InputError

Kind = Literal["none", "center", "whiten", "pca", "random"]
FLOOR = 1e-3
"""Smallest variance that whitening scales up, as a share of the largest: below it a direction is noise."""
NONE = 1e-12
"""Share of the mean square below which a variance is what rounding left."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """An affine map ``(v - mean) @ matrix``.

    Being affine it commutes with means: a person's mean vector may be mapped before or after averaging.

    Sentence vectors share a large common part, which says nothing about an item: taking the mean off and whitening bring out the rest.

    Attributes:
        mean: ``(D,)`` float32.
        matrix: ``(D, d)`` float32.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    @property
    def dim(self) -> int:
        """Dimensions after the map."""
        return int(self.matrix.shape[1])

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(n, D) -> (n, d)`` float32."""
        return np.asarray((vectors - self.mean) @ self.matrix, dtype=np.float32)


def check_dimensions(n: int, width: int, kind: Kind, dim: int | None) -> None:
    """Refuse a reduction of ``(n, width)`` vectors that :func:`fit_reduction` can't fit.

    Raises:
        InputError: if more dimensions are wanted than the vectors have, or than there are items to fit them on.
    """
    if dim is None or kind in ("none", "center"):
        return
    if dim > width:
        raise InputError(
            f"{dim} dimensions are wanted of text vectors that have {width}; lower text_dim (embedding_dim for a table that"
            " starts at the text), or use a wider encoder"
        )
    if dim < width and kind in ("pca", "whiten") and dim > n:
        raise InputError(
            f"{dim} principal directions can't be fitted on {n} items; lower text_dim (embedding_dim for a table that starts at the text),"
            " or use transform='random'"
        )


def fit_reduction(vectors: NDArray[np.float32], kind: Kind, dim: int | None = None, seed: int = 0) -> Reduction | None:
    """Fit a reduction on the vectors of a catalogue.

    ``none`` leaves vectors alone (there is no map then), ``center`` takes the mean off, ``whiten`` also gives every principal direction
    the same variance (unit rows on average), ``pca`` keeps the ``dim`` directions of largest variance unscaled (columns have mean 0),
    ``random`` projects on ``dim`` Gaussian directions (Johnson-Lindenstrauss: distances keep their expectation).

    Args:
        vectors: ``(n, D)`` float32.
        kind: see above.
        dim: dimensions wanted by ``pca``, ``random`` and ``whiten``; all if not given.
        seed: of ``random``.

    Raises:
        InputError: if more dimensions are wanted than the vectors have, or than there are items to fit them on, or ``whiten`` is asked of
            vectors that are all the same.

    >>> map = fit_reduction(np.array([[0.0, 2.0], [0.0, -2.0]], dtype=np.float32), "pca", 1)
    >>> map(np.array([[5.0, 2.0]], dtype=np.float32)).round(3)
    array([[2.]], dtype=float32)
    """
    n, width = vectors.shape
    if kind == "none":
        return None
    if kind == "center":
        return Reduction(vectors.mean(0).astype(np.float32), np.eye(width, dtype=np.float32))
    check_dimensions(n, width, kind, dim)
    dim = width if dim is None else dim
    if kind == "random":
        matrix = np.random.default_rng(seed).standard_normal((width, dim)) / np.sqrt(dim)
        return Reduction(np.zeros(width, dtype=np.float32), matrix.astype(np.float32))
    mean = vectors.mean(0, dtype=np.float64)
    # torch keeps to the threads that a training was given; numpy's own products would take every core.
    centred = torch.from_numpy(vectors - mean)
    found = torch.linalg.eigh(centred.T @ centred / n)
    values, directions = found.eigenvalues.numpy()[::-1][:dim], found.eigenvectors.numpy()[:, ::-1][:, :dim]
    # The sign of a direction is arbitrary; the largest entry is made positive, so that two machines agree.
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(dim)])
    if kind == "whiten":
        if values[0] <= NONE * np.square(vectors, dtype=np.float64).mean(0).sum():
            raise InputError(
                f"the text vectors of all {n:,} items are the same, so transform='whiten' has no variance to even out; let the text"
                " template (text) name columns that tell the items apart, or set transform='none'"
            )
        directions = directions / np.sqrt(np.maximum(values, FLOOR * values[0]) * dim)
    return Reduction(mean.astype(np.float32), directions.astype(np.float32))
