"""``join:A|B``: the vectors of several encoders side by side, such as meaning (``minilm``) beside wording (``lsa``)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.text.encoders.base import Encoder, FloatArray

SIGN = "|"


class JoinedEncoder(Encoder):
    """Several encoders side by side, each with the same share: rows of unit length, divided by the root of their number.

    The inner product of two texts is then the mean of the parts' cosines. Each part keeps its own cache.

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

        cache = EmbeddingCache()
        rows = [cache.encode(part, texts, progress=progress) for part in self.parts]
        scale = len(rows) ** -0.5
        return np.concatenate([scale * row / np.maximum(np.linalg.norm(row, axis=1, keepdims=True), 1e-12) for row in rows], axis=1)

    def unload(self) -> None:
        for part in self.parts:
            part.unload()

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.logical_and.reduce([part.readable(texts) for part in self.parts])

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
