"""``join:A|B``: the vectors of several encoders side by side, such as meaning (``minilm``) beside wording (``lsa``)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.text.encoders.base import Encoder, FloatArray, shorten

if TYPE_CHECKING:
    from lexirec.text.cache import EmbeddingCache

SIGN = "|"
_CACHE: ContextVar["EmbeddingCache | None"] = ContextVar("_CACHE", default=None)


@contextmanager
def kept_in(cache: "EmbeddingCache") -> Iterator[None]:
    """Inside, the parts of a joined encoder keep their vectors in this cache, not in that of the default folder."""
    token = _CACHE.set(cache)
    try:
        yield
    finally:
        _CACHE.reset(token)


class JoinedEncoder(Encoder):
    """Several encoders side by side, each with the same share: rows of unit length, divided by the root of their number.

    The inner product of two texts is then the mean of the parts' cosines. Where a part knows nothing of a text it has zeros, and the others
    read it alone. Each part keeps its own cache.

    Args:
        parts: at least two encoders.
    """

    cacheable: ClassVar[bool] = False  # the parts' vectors are cached; to put them together costs nothing

    def __init__(self, parts: Sequence[Encoder]) -> None:
        if len(parts) < 2:
            raise InputError(f"join: needs at least two encoders with {SIGN!r} between them, such as join:minilm{SIGN}lsa")
        self.parts = tuple(parts)
        self.name = "join:" + SIGN.join(part.name for part in self.parts)
        files = [part.name for part in self.parts if part.name.startswith("file:")]
        if files:
            raise InputError(f"join: {files[0]} is looked up by item and not by text; join encoders that read texts")

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    def description(self) -> dict[str, Any]:
        return {"kind": "join", "parts": [part.description() for part in self.parts]}

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        from lexirec.text.cache import EmbeddingCache

        cache = _CACHE.get() or EmbeddingCache()
        self.prepare(texts)
        known = [part.readable(texts) for part in self.parts]
        unread = np.flatnonzero(~np.logical_or.reduce(known))
        if len(unread):
            raise InputError(
                f"{self.name}: none of the encoders knows a word of {len(unread):,} of {len(texts):,} texts"
                f" (first: {shorten(texts[unread[0]])}); use other words, or join an encoder that knows the language"
            )
        scale = len(self.parts) ** -0.5
        rows = []
        for part, some in zip(self.parts, known, strict=True):
            found = cache.encode(part, [text for text, read in zip(texts, some, strict=True) if read], progress=progress)
            row = np.zeros((len(texts), found.shape[1]), dtype=np.float32)
            row[some] = scale * found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
            rows.append(row)
        return np.concatenate(rows, axis=1)

    def unload(self) -> None:
        for part in self.parts:
            part.unload()

    def prepare(self, texts: Sequence[str]) -> None:
        for part in self.parts:
            part.prepare(texts)

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.asarray(np.logical_or.reduce([part.readable(texts) for part in self.parts]))

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        config, _ = super().state()
        states = [part.state() for part in self.parts]
        config["parts"] = [values for values, _ in states]
        return config, {f"{i}.{name}": array for i, (_, own) in enumerate(states) for name, array in own.items()}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "JoinedEncoder":
        from lexirec.text.encoders import encoder_from_state

        parts = []
        for i, values in enumerate(config["parts"]):
            own = {name.partition(".")[2]: array for name, array in arrays.items() if name.partition(".")[0] == str(i)}
            parts.append(encoder_from_state(values, own))
        return cls(parts)
