"""BM25 over the texts of a catalogue: ``bm25s`` weighs the words, sparse columns are added up here.

text -> lower case, composed (NFC), split -> sum of the weights of its words in every item
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.files import atomic_folder
from lexirec.training.checkpoint import load_tensors, save_tensors

Tokens = Literal["whitespace", "words"]
"""How a text is cut: at white space, punctuation kept (``whitespace``), or into words, punctuation left out (``words``)."""
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PLANES = 0x20000
"""Combining marks lie below, but for those that choose a variant of a sign."""
FORMAT = 2
"""Version of the saved form; the first cut words at their marks and composed none, which is the same where all letters are plain ones."""
COMMON = 0.01
"""A word in at least this share of the items is common."""
DENSE = 64 << 20
"""Bytes that the weights of common words may take in every item, however small the index is."""


@cache
def _word() -> re.Pattern[str]:
    """A word: one Chinese or Japanese character, or letters and digits with the marks that stand on them."""
    # \w lacks the marks, which are the vowels of most Indian scripts; what chooses the variant of a sign (U+FE00 on) is no part of a word.
    marks = "".join(chr(at) for at in range(0x300, _PLANES) if unicodedata.category(chr(at)) in ("Mn", "Mc") and not 0xFE00 <= at <= 0xFE0F)
    inside = re.sub(f"[{_CJK}]", "", marks) + "\u200c\u200d"  # and the joiners
    return re.compile(rf"[{_CJK}]|[^\W{_CJK}](?:[^\W{_CJK}]|[{inside}])*")


def tokenise(text: str, tokens: Tokens = "whitespace") -> list[str]:
    """The words of a text in lower case; a letter and its marks are one character where there is one (NFC).

    ``words`` leaves out punctuation and takes each Chinese or Japanese character as a word, since these scripts have no spaces.

    >>> tokenise("Title: Red Drill."), tokenise("Title: Red Drill.", "words")
    (['title:', 'red', 'drill.'], ['title', 'red', 'drill'])
    >>> tokenise("हिन्दी, cafe\u0301", "words")
    ['हिन्दी', 'café']
    """
    text = unicodedata.normalize("NFC", text.lower())
    return text.split() if tokens == "whitespace" else _word().findall(text)


class BM25:
    """An index of texts by words, with the idf of Lucene: ``ln(1 + (I - df + 0.5) / (df + 0.5))``, never negative.

    A word that stands twice in a query counts twice; words that no text has count nothing. New texts are added by building anew.

    Args:
        texts: one per item, ``I`` in all; equal ones and empty ones are fine (an empty text scores 0).
        k1: how soon further occurrences of a word stop counting, above 0.
        b: how much long texts are held back, in [0, 1].
        tokens: see :data:`Tokens`.
        fixed: words that a text has by its form, such as the labels of a template. They have weights as any, but a text that shares no
            others finds nothing, see :meth:`finds`.

    Raises:
        InputError: if there is no text, one is not a string, or a setting is out of range.

    Memory: 16 bytes per distinct word of each text, by word and by item. Weights of the commonest words, of those that are in at least 1 %
    of the texts, are kept for every text as well: at most as much again, or :data:`DENSE` where that is more.

    >>> index = BM25(["title: red drill. brand: acme.", "title: blue drill. brand: acme.", "title: green saw. brand: zed."])
    >>> index.scores(["title: red drill. brand: acme."]).round(6)
    array([[0.87516 , 0.482828, 0.106825]], dtype=float32)
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.5, b: float = 0.75, *, tokens: Tokens = "whitespace", fixed: str = "") -> None:
        if not 0 < k1 < float("inf"):
            raise InputError(f"k1 = {k1}; it must lie above 0 (1.5 by default)")
        if not 0 <= b <= 1:
            raise InputError(f"b = {b}; it must lie in [0, 1] (0.75 by default)")
        if tokens not in ("whitespace", "words"):
            raise InputError(f"tokens = {tokens!r}; choose 'whitespace' or 'words'")
        self.k1, self.b, self.tokens = float(k1), float(b), tokens
        self.fixed = frozenset(tokenise(fixed, tokens))
        self.n_items = len(texts)
        if not self.n_items:
            raise InputError("BM25: there is no text to index; give at least one item")
        vocabulary: dict[str, int] = {}
        number = vocabulary.setdefault
        ids = [[number(word, len(vocabulary)) for word in tokenise(text, tokens)] for text in _checked(texts)]
        self._set(*_weights(ids, vocabulary, self.k1, self.b), vocabulary)

    def _set(self, starts: NDArray[np.int64], items: NDArray[np.int32], weights: NDArray[np.float32], vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary
        shape = (max(len(vocabulary), 1), self.n_items)
        self.by_word = sp.csr_matrix((weights, items, starts), shape)
        """Weight of each word in each item, ``(V, I)`` CSR float32, items ascending."""
        self.by_item = self.by_word.T.tocsr()
        """The same by item, ``(I, V)``, words ascending."""
        sparse = sum(part.nbytes for matrix in (self.by_word, self.by_item) for part in (matrix.data, matrix.indices, matrix.indptr))
        times = np.diff(self.by_word.indptr)
        common = np.flatnonzero(times >= COMMON * self.n_items)
        room = max(sparse, DENSE) // (4 * self.n_items)
        common = common[np.argsort(-times[common], kind="stable")[:room]]
        self.column = np.full(shape[0], -1, dtype=np.int64)
        """Row of ``columns`` where the word's weights stand, -1 for a word without one, ``(V,)``."""
        self.column[common] = np.arange(len(common))
        self.columns: NDArray[np.float32] = self.by_word[common].toarray()
        """Weights of the commonest words in every item, ``(n, I)``: adding a whole row is faster than adding to many places."""

    def __len__(self) -> int:
        return self.n_items

    def finds(self, text: str) -> bool:
        """Whether a text shares a word with the catalogue that is not ``fixed``.

        >>> index = BM25(["name: red drill", "name: green saw"], fixed="name:")
        >>> index.finds("name: a red saw"), index.finds("name: blue"), index.finds("")
        (True, False, False)
        """
        return any(word in self.vocabulary and word not in self.fixed for word in tokenise(text, self.tokens))

    def counts(self, texts: Sequence[str]) -> "sp.csr_matrix":
        """How often each known word stands in each text, ``(n, V)`` CSR float32, words ascending."""
        known = self.vocabulary.get
        found = [[at for word in tokenise(text, self.tokens) if (at := known(word)) is not None] for text in _checked(texts)]
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
        flat = np.fromiter(chain.from_iterable(found), dtype=np.int32, count=int(lengths.sum()))
        starts = np.concatenate([[0], np.cumsum(lengths)])
        counts = sp.csr_matrix((np.ones(len(flat), dtype=np.float32), flat, starts), (len(found), self.by_word.shape[0]))
        counts.sum_duplicates()
        return counts

    def scores(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores of every item for each text, ``(n, I)`` float32; 0 where they share no word."""
        counts = self.counts(texts)
        out = np.zeros((counts.shape[0], self.n_items), dtype=np.float32)
        starts, items, weights = self.by_word.indptr, self.by_word.indices, self.by_word.data
        words, times, column = counts.indices.tolist(), counts.data, self.column[counts.indices].tolist()
        for row, (lo, hi) in zip(out, pairwise(counts.indptr.tolist()), strict=True):
            for at in range(lo, hi):
                part = slice(starts[words[at]], starts[words[at] + 1])
                value = weights[part] if column[at] < 0 else self.columns[column[at]]
                if times[at] != 1:
                    value = value * times[at]
                if column[at] < 0:
                    np.add.at(row, items[part], value)
                else:
                    row += value
        return out

    def save(self, folder: str | Path) -> Path:
        """Write ``bm25.safetensors`` (weights and settings) and ``words.parquet`` into a new folder, whole or not at all.

        Raises:
            InputError: if the folder exists.
        """
        matrix = self.by_word
        tensors = {
            "starts": torch.from_numpy(matrix.indptr.astype(np.int64)),
            "items": torch.from_numpy(matrix.indices.astype(np.int32)),
            "weights": torch.from_numpy(matrix.data),
        }
        settings = {
            "format": FORMAT,
            "k1": self.k1,
            "b": self.b,
            "tokens": self.tokens,
            "n_items": self.n_items,
            "fixed": sorted(self.fixed),
        }
        with atomic_folder(folder) as temporary:
            save_tensors(temporary / "bm25.safetensors", tensors, settings)
            pl.DataFrame({"word": pl.Series(list(self.vocabulary), dtype=pl.String)}).write_parquet(temporary / "words.parquet")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "BM25":
        """Read what :meth:`save` wrote; runs no code from the folder.

        Raises:
            InputError: if a file is missing, damaged or of another format, or the two files do not belong together.
        """
        folder = Path(folder)
        tensors, settings = load_tensors(folder / "bm25.safetensors")
        if settings.get("format") not in (1, FORMAT) or set(tensors) != {"starts", "items", "weights"}:
            raise InputError(f"{folder}/bm25.safetensors is no BM25 index of format {FORMAT}; build the index again")
        try:
            words = pl.read_parquet(folder / "words.parquet")["word"].to_list()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{folder}/words.parquet is missing or damaged ({error}); build the index again") from error
        if settings["format"] == 1 and not all(map(str.isascii, words)):
            raise InputError(f"{folder} was written by an older version, which cut words of many scripts apart; build the index again")
        index = cls.__new__(cls)
        index.k1, index.b, index.tokens = settings["k1"], settings["b"], settings["tokens"]
        index.n_items, index.fixed = settings["n_items"], frozenset(settings.get("fixed", ()))
        starts, items, weights = (tensors[name].numpy() for name in ("starts", "items", "weights"))
        ordered = len(starts) == max(len(words), 1) + 1 and starts[0] == 0 and (np.diff(starts) >= 0).all()
        whole = ordered and starts[-1] == len(items) == len(weights)
        if not whole or (len(items) and not 0 <= items.min() <= items.max() < len(index)):
            raise InputError(f"{folder}: bm25.safetensors and words.parquet do not belong together; build the index again")
        index._set(starts, items, weights, {word: at for at, word in enumerate(words)})
        return index


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):
        raise InputError(f"texts is the string {texts[:60]!r}; give a list of texts")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts: number {position} is {text!r}; give a string, an empty one where there is no text")
    return texts


def _weights(
    ids: list[list[int]], vocabulary: dict[str, int], k1: float, b: float
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Weights by word: starts ``(V + 1,)``, items and weights ``(nnz,)``."""
    if not vocabulary:  # no text has a word, and bm25s would divide by their mean length
        return np.zeros(2, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    import bm25s

    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    index.index((ids, dict(vocabulary)), create_empty_token=False, show_progress=False)
    found = index.scores
    return found["indptr"].astype(np.int64), found["indices"].astype(np.int32), found["data"].astype(np.float32)
