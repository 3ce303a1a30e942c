"""What every encoder promises: a list of texts in, finite float32 rows out, and a fingerprint that says how they were made."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError, nearest
from lexirec.query import as_text

FloatArray = NDArray[np.float32]
PLAIN_WORD = re.compile(r"(?<!\w)[A-Za-z0-9]{1,40}(?!\w)")
"""A word that every vocabulary of subwords can spell."""


class Encoder(ABC):
    """Texts to vectors.

    Attributes:
        name: the string that :func:`lexirec.text.load_encoder` takes to make this encoder again.
        cacheable: whether a text's vector depends on nothing but the text and the fingerprint.
    """

    name: str
    cacheable: ClassVar[bool] = True

    @property
    def fingerprint(self) -> str:
        """All that the vectors depend on (model, revision, pooling, prompt, precision, dims), as one line of JSON.

        Equal fingerprints mean vectors that may be mixed; the cache and saved models use it as a key.
        """
        return json.dumps(self.description(), sort_keys=True, ensure_ascii=False)

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length ``D`` of the vectors."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """The fields of the fingerprint, JSON-able."""

    @abstractmethod
    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        """Encode distinct, non-blank texts; ``(n, D)``."""

    def unload(self) -> None:
        """Free what is only needed while texts are read, such as weights; the next text loads it again."""

    def encode(self, texts: Sequence[str], progress: bool = True) -> FloatArray:
        """Encode texts; each distinct text is encoded once.

        Args:
            texts: strings, none of them blank.
            progress: show a bar on stderr for work of over two seconds.

        Returns:
            ``(n, D)`` float32, finite, row ``i`` for ``texts[i]``.

        Raises:
            InputError: if a text is blank or no string, or the model gives NaN or infinite values; the message names the rows.
        """
        clean = check_texts(texts)
        if not clean:
            return np.zeros((0, self.dim), dtype=np.float32)
        distinct = list(dict.fromkeys(clean))
        vectors = np.ascontiguousarray(self._encode(distinct, progress), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(distinct):
            raise InputError(f"{self.name}: {len(distinct)} texts gave vectors of shape {vectors.shape}; expected one row per text")
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.name}: {len(bad):,} of {len(distinct):,} texts gave NaN or infinite values (first: {shorten(distinct[bad[0]])}); "
                "the weights are damaged or the precision is too low: try precision=float32"
            )
        if len(distinct) == len(clean):
            return vectors
        row = {text: i for i, text in enumerate(distinct)}
        return vectors[np.fromiter((row[text] for text in clean), dtype=np.int64, count=len(clean))]

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which texts, none of them blank, the encoder knows anything of, ``(n,)``.

        All, but for encoders of a vocabulary: a text of which it has no word, no piece and no character gets a vector that says nothing
        (``minilm``, ``hf:``, ``st:``), or an error (``lsa``).
        """
        return np.ones(len(texts), dtype=bool)

    def prepare(self, texts: Sequence[str]) -> None:
        """Let an encoder that is fitted on the first texts it sees (``lsa``) be fitted on these; others have nothing to learn."""

    def check_reads_words(self, text: str) -> None:
        """Refuse words where the encoder reads none whatever they are.

        Args:
            text: the words, for the message.

        Raises:
            UnsupportedQueryError: if it has vectors of items alone (``file:``).
        """

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What :func:`lexirec.text.encoder_from_state` needs to make this encoder again: a JSON-able dict and arrays."""
        return {"name": self.name, "fingerprint": self.fingerprint}, {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "Encoder":
        """The encoder that :meth:`state` described. Only encoders with fitted arrays (``lsa``) override this."""
        raise InputError(f"{cls.__name__} has no fitted state; make it by its name {config.get('name')!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def shorten(text: str, width: int = 60) -> str:
    """A text for an error message: quoted, cut to ``width`` characters."""
    return repr(text if len(text) <= width else text[:width] + "...")


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list, lone surrogates replaced (no tokenizer and no hash can take them).

    Raises:
        InputError: for a bare string, a value that is no string, or a blank text.
    """
    if isinstance(texts, str):
        raise InputError(f"texts is the string {shorten(texts)}; give a list of strings")
    clean: list[str] = []
    blank: list[int] = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts[{i}] is {shorten(repr(text))} of type {type(text).__name__}; every text must be a string")
        if not text.strip():
            blank.append(i)
        clean.append(as_text(text))
    if blank:
        raise InputError(
            f"texts: {len(blank):,} of {len(clean):,} are empty (first: row {blank[0]}); "
            "an empty text has no meaning to encode: drop it, or use item_vectors(..., empty_text=...) for items"
        )
    return clean


def as_bool(value: Any, option: str) -> bool:
    """``true``/``false`` as written in an encoder's name, or a Python bool."""
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1", "yes"):
        return True
    if str(value).lower() in ("false", "0", "no"):
        return False
    raise InputError(f"{option} is {value!r}; give true or false")


def as_int(value: Any, option: str, least: int = 1) -> int:
    """A whole number of at least ``least``."""
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{option} is {value!r}; give a whole number") from error
    if number < least:
        raise InputError(f"{option} is {number}; it must be at least {least}")
    return number


def as_choice(value: Any, option: str, choices: Sequence[str]) -> str:
    """One of ``choices``."""
    if value not in choices:
        raise InputError(f"{option} is {value!r}{nearest(str(value), choices)}; choose one of {', '.join(choices)}")
    return str(value)
