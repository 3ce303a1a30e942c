"""``random``: a random direction for each word, added up. No model and no fitting: the control that knows words but no meaning.

words -> (1 + log count) x one Gaussian direction per word -> sum -> unit length

Source: random projection of a bag of words (Johnson and Lindenstrauss 1984): inner products of word counts survive, up to noise of
``1 / sqrt(dim)``; two different words are strangers however alike they are.
"""

import hashlib
import re
from collections import Counter
from typing import Any

import numpy as np
import scipy.sparse as sp

from lexirec.text.encoders.base import Encoder, FloatArray, as_int
from lexirec.text.encoders.lsa import MAX_CHARACTERS

WORD = re.compile(r"\w+|[^\w\s]")


class RandomEncoder(Encoder):
    """Random projection of a bag of words.

    Args:
        dim: length of the vectors.
        seed: of the directions; the same seed gives every word the same direction in every catalogue.
    """

    def __init__(self, *, dim: int | str = 256, seed: int | str = 0) -> None:
        self._dim = as_int(dim, "dim")
        self.seed = as_int(seed, "seed", least=0)
        shown = [f"{key}={value}" for key, value, default in (("dim", self._dim, 256), ("seed", self.seed, 0)) if value != default]
        self.name = "random" + ("?" + "&".join(shown) if shown else "")

    @property
    def dim(self) -> int:
        return self._dim

    def description(self) -> dict[str, Any]:
        return {"kind": "random", "dim": self._dim, "seed": self.seed}

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        vocabulary: dict[str, int] = {}
        columns: list[int] = []
        counts: list[int] = []
        offsets = [0]
        for text in texts:
            for word, count in Counter(WORD.findall(text[:MAX_CHARACTERS].lower())).items():
                columns.append(vocabulary.setdefault(word, len(vocabulary)))
                counts.append(count)
            offsets.append(len(columns))
        directions = np.stack([self._direction(word) for word in vocabulary])  # (V, D)
        weights = 1 + np.log(np.array(counts, dtype=np.float32))
        matrix = sp.csr_array((weights, np.array(columns), np.array(offsets)), shape=(len(texts), len(vocabulary)))
        vectors = np.asarray(matrix @ directions, dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def _direction(self, word: str) -> FloatArray:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8, key=str(self.seed).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(self._dim).astype(np.float32)
