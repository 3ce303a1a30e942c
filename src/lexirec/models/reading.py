"""The reader of texts inside a model: an encoder and what is done to its vectors, saved with the model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.errors import InputError, LexirecError
from lexirec.models.config import LENIENT
from lexirec.text.reduce import Reduction

if TYPE_CHECKING:
    from lexirec.models.contract import Recommender
    from lexirec.text.encoders import Encoder

PREFIX = "encoder."
"""Of the encoder's arrays among a model's tensors."""


class TextReader:
    """Texts to vectors, as one model reads them.

    A reader that was loaded makes its encoder at the first text: users, histories and similar items are answered without it.

    Args:
        encoder: what reads the texts.
        reduction: what is done to the vectors; ``None``: nothing.
    """

    def __init__(self, encoder: "Encoder | None", reduction: Reduction | None = None) -> None:
        self._encoder = encoder
        self._state: tuple[dict[str, Any], dict[str, NDArray[Any]]] | None = None
        self.reduction = reduction

    @property
    def encoder(self) -> "Encoder":
        """The encoder.

        Raises:
            InputError: if a loaded model's encoder can't be had any more, such as a folder that was moved.
        """
        if self._encoder is None:
            from lexirec.text.encoders import encoder_from_state

            assert self._state is not None  # noqa: S101 (a reader has one or the other)
            try:
                self._encoder = encoder_from_state(*self._state)
            except LexirecError as error:
                raise InputError(
                    f"this needs the encoder of the item texts, which can't be had ({error}); users, histories and similar items are"
                    " answered without it"
                ) from error
        return self._encoder

    def reduce(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw vectors ``(n, D)`` as the model gets them."""
        return np.ascontiguousarray(raw if self.reduction is None else self.reduction(raw), dtype=np.float32)

    def words(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Raw vectors of wishes or profiles, ``(n, D)``; none is encoded twice."""
        from lexirec.text.cache import EmbeddingCache

        return EmbeddingCache().encode(self.encoder, list(texts))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and values from which :meth:`restored` makes the same reader."""
        if self._encoder is None:
            assert self._state is not None  # noqa: S101 (a reader has one or the other)
            values, arrays = self._state
        else:
            values, arrays = self._encoder.state()
        tensors = {PREFIX + name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        if self.reduction is not None:
            tensors |= {"mean": torch.from_numpy(self.reduction.mean), "matrix": torch.from_numpy(self.reduction.matrix)}
        return tensors, values

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], values: dict[str, Any]) -> "TextReader":
        """The reader that :meth:`state` was asked of; other tensors may lie beside its own."""
        reader = cls(None, Reduction(tensors["mean"].numpy(), tensors["matrix"].numpy()) if "mean" in tensors else None)
        reader._state = values, {name.removeprefix(PREFIX): value.numpy() for name, value in tensors.items() if name.startswith(PREFIX)}
        return reader


def read_otherwise(model: "Recommender", text: str) -> None:
    """Let a loaded model read the items of the data that it is transferred to next in another way than those it was trained on.

    Args:
        model: its settings are changed.
        text: what its setting ``text`` (or ``item_text``) takes, such as ``"title,year,categories"``.

    Raises:
        InputError: for a model that reads no text of items.
    """
    kind = type(model.config)
    name = next((name for name in ("text", "item_text") if name in kind.model_fields), None)
    if name is None:
        raise InputError(f"{model.name} reads no text of items; leave the text (--text, item_text) out")
    token = LENIENT.set(True)  # the other settings were accepted when the model was made
    try:
        model.config = kind.parse({**model.config.model_dump(), name: text})
    finally:
        LENIENT.reset(token)


__all__ = ["TextReader", "read_otherwise"]
