"""``lsa``: TF-IDF and a truncated singular value decomposition, fitted on the first texts seen. No model, no download.

words and character trigrams -> (1 + log count) x smooth idf -> unit rows -> top right singular vectors -> unit rows

Source: Deerwester et al. 1990; the weighting is scikit-learn's ``sublinear_tf`` and ``smooth_idf``. How this differs: character trigrams
beside the words, so that a wish with an unknown or misspelt word still has a vector.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.query import as_text
from lexirec.text.encoders.base import Encoder, FloatArray, as_int, check_texts, shorten

WORD = re.compile(r"\w+|[^\w\s]")
MAX_CHARACTERS = 20_000
"""Characters read of one text: a page or ten, far beyond any title."""
DENSE_LIMIT = 2_000_000
"""Matrices of up to this many cells are decomposed exactly."""
LEAST_NORM = 1e-6
"""A text whose vector is shorter holds nothing of the catalogue."""


def terms(text: str) -> list[str]:
    r"""Words and marks, and the trigrams of each word with its borders (written with a leading tab, which no word has).

    >>> terms("Red!")
    ['red', '\t<re', '\tred', '\ted>', '!']
    """
    found: list[str] = []
    for word in WORD.findall(text[:MAX_CHARACTERS].lower()):
        found.append(word)
        if len(word) > 1:
            padded = f"<{word}>"
            found.extend("\t" + padded[i : i + 3] for i in range(len(padded) - 2))
    return found


class LsaEncoder(Encoder):
    """Latent semantic analysis.

    Args:
        dim: length of the vectors; less where the texts have a lower rank.
        seed: seed of the random projection that starts the decomposition.

    The first call of :meth:`encode` (or :meth:`fit`) fixes the vocabulary and the space; later texts are placed into it. The same
    texts and seed give the same vectors; the sign of each dimension is fixed (its largest loading is positive).
    """

    cacheable: ClassVar[bool] = False  # a vector depends on the texts it was fitted with; fitting again is cheaper than a key for that

    def __init__(self, *, dim: int | str = 256, seed: int | str = 0) -> None:
        self.target_dim = as_int(dim, "dim")
        self.seed = as_int(seed, "seed", least=0)
        shown = [f"{key}={value}" for key, value, default in (("dim", self.target_dim, 256), ("seed", self.seed, 0)) if value != default]
        self.name = "lsa" + ("?" + "&".join(shown) if shown else "")
        self.vocabulary: dict[str, int] = {}
        self.idf: NDArray[np.float32] | None = None
        self.components: NDArray[np.float32] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the space is fixed."""
        return self.components is not None

    @property
    def dim(self) -> int:
        return self.target_dim if self.components is None else int(self.components.shape[1])

    def description(self) -> dict[str, Any]:
        space: str | None = None
        if self.components is not None:
            space = hashlib.sha256("\n".join(self.vocabulary).encode() + self.components.tobytes()).hexdigest()
        return {"kind": "lsa", "dim": self.dim, "seed": self.seed, "space": space}

    def fit(self, texts: Sequence[str]) -> "LsaEncoder":
        """Fix vocabulary, weights and space from these texts (distinct ones count once)."""
        distinct = sorted(set(check_texts(texts)))  # sorted: the space doesn't depend on the order of the texts
        if not distinct:
            raise InputError("lsa: no texts to fit; give the catalogue's texts first")
        counted = [Counter(terms(text)) for text in distinct]
        frequency: Counter[str] = Counter()
        for counts in counted:
            frequency.update(counts.keys())
        # A term of a single text ties it to no other; it is kept only where a catalogue is too small to spare it.
        least = 2 if len(distinct) > 50 else 1
        self.vocabulary = {term: i for i, term in enumerate(sorted(term for term, n in frequency.items() if n >= least))}
        if not self.vocabulary:
            raise InputError(f"lsa: no two of {len(distinct):,} texts share a word or trigram; they can't be compared by words")
        documents = np.array([frequency[term] for term in self.vocabulary])
        self.idf = (np.log((1 + len(distinct)) / (1 + documents)) + 1).astype(np.float32)
        self.components = _right_singular(self._matrix(counted, self.idf), self.target_dim, self.seed)
        return self

    def _matrix(self, counted: list[Counter[str]], idf: NDArray[np.float32]) -> sp.csr_matrix:
        """TF-IDF rows of unit length, ``(n, V)`` CSR; a text without any known term is a zero row."""
        columns: list[int] = []
        counts: list[int] = []
        offsets = [0]
        for counter in counted:
            for term, count in counter.items():
                column = self.vocabulary.get(term)
                if column is not None:
                    columns.append(column)
                    counts.append(count)
            offsets.append(len(columns))
        index = np.array(columns, dtype=np.int64)
        values = (1 + np.log(np.array(counts, dtype=np.float32))) * idf[index]
        matrix = sp.csr_matrix((values, index, np.array(offsets)), shape=(len(counted), len(self.vocabulary)))
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return sp.csr_matrix(sp.diags(1 / np.maximum(norms, 1e-12)).astype(np.float32) @ matrix)

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        self.prepare(texts)
        vectors, norms = self._projected(texts)
        unknown = np.flatnonzero(norms < LEAST_NORM)
        if len(unknown):
            raise InputError(
                f"lsa: {len(unknown):,} of {len(texts):,} texts hold no word or trigram of the catalogue "
                f"(first: {shorten(texts[unknown[0]])}); use other words, or an encoder that knows the language (minilm)"
            )
        return vectors / norms[:, None]

    def _projected(self, texts: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Vectors in the fitted space ``(n, D)``, not yet of unit length, and their lengths ``(n,)``."""
        idf, components = self.idf, self.components
        if idf is None or components is None:  # not reached: asked once fitted
            raise InputError("lsa is not fitted")
        vectors = np.asarray(self._matrix([Counter(terms(text)) for text in texts], idf) @ components, dtype=np.float32)
        return vectors, np.asarray(np.linalg.norm(vectors, axis=1), dtype=np.float32)

    def prepare(self, texts: Sequence[str]) -> None:
        if self.components is None:
            self.fit(texts)

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        if self.components is None:  # these texts would be what it is fitted with
            return super().readable(texts)
        return np.asarray(self._projected([as_text(text) for text in texts])[1] >= LEAST_NORM)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        config, _ = super().state()
        if self.components is None or self.idf is None:
            return config, {}
        return {**config, "vocabulary": list(self.vocabulary)}, {"idf": self.idf, "components": self.components}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "LsaEncoder":
        from lexirec.text.encoders import parse_name

        _, _, options = parse_name(str(config["name"]))
        encoder = cls(dim=options.get("dim", 256), seed=options.get("seed", 0))
        if "vocabulary" not in config:
            return encoder
        vocabulary = [str(term) for term in config["vocabulary"]]
        idf, components = arrays.get("idf"), arrays.get("components")
        if idf is None or components is None or components.ndim != 2 or not len(vocabulary) == len(idf) == len(components):
            raise InputError(f"lsa state: {len(vocabulary):,} terms don't fit the arrays {sorted(arrays)}; the saved encoder is damaged")
        encoder.vocabulary = {term: i for i, term in enumerate(vocabulary)}
        encoder.idf = np.asarray(idf, dtype=np.float32)
        encoder.components = np.ascontiguousarray(components, dtype=np.float32)
        return encoder


def _right_singular(matrix: sp.csr_matrix, dim: int, seed: int) -> NDArray[np.float32]:
    """The ``min(dim, rank)`` leading right singular vectors, ``(V, k)``, signs fixed.

    Exact where the matrix is small, else by random projection with four power iterations (Halko et al. 2011, algorithm 4.4; the factor in
    the middle of an iteration is left out, as the singular values of weighted texts lie close together). Dense products and factors are
    torch's: its QR takes half the time of numpy's, and its threads are those that a training is allowed.
    """
    n, width = matrix.shape
    if n * width <= DENSE_LIMIT or min(n, width) <= dim + 10:
        _, values, right = np.linalg.svd(matrix.toarray().astype(np.float64), full_matrices=False)
    else:
        rng = np.random.default_rng(seed)
        basis = _orthonormal(matrix @ rng.standard_normal((width, dim + 10)).astype(np.float32))
        for _ in range(4):
            basis = _orthonormal(matrix @ (matrix.T @ basis))
        small = torch.from_numpy(matrix.T @ basis).double()  # (V, k): what is left to be decomposed has k columns
        squares, turned = torch.linalg.eigh(small.T @ small)
        values = squares.flip(0).clamp(min=0).sqrt().numpy()
        right = (small @ turned.flip(1)).T.numpy() / np.maximum(values, 1e-12)[:, None]
    keep = min(dim, int((values > values[0] * 1e-6).sum()))
    vectors = right[:keep].T
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(keep)])
    return np.ascontiguousarray(vectors * signs, dtype=np.float32)


def _orthonormal(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orthonormal columns that span the same, ``(n, k)``."""
    return np.asarray(torch.linalg.qr(torch.from_numpy(columns)).Q.numpy())
