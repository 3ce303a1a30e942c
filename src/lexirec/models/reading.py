"""The reader of texts inside a model: an encoder and what is done to its vectors, saved with the model."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
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
MANY = 256
"""From so many new texts on, vectors are looked up and kept on disk: below, encoding is quicker than reading a large cache."""
REMEMBERED_BYTES = 64 << 20
"""Vectors of texts that are kept in memory, those asked for last: 43,690 of ``minilm``."""


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
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()  # the one asked for last at the end
        self._lock = threading.Lock()  # of _known: a service asks from several threads

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
        """Raw vectors of wishes or profiles, ``(n, D)``.

        Those asked for last are in memory. Of the others, a few are encoded without a look at the disk, so that a wish takes as long
        however much is kept there; many (:data:`MANY`) go through the cache on disk, for the next evaluation.
        """
        from lexirec.text.cache import EmbeddingCache, off_disk

        distinct = list(dict.fromkeys(texts))
        found = self._remembered(distinct)
        missing = [text for text in distinct if text not in found]
        if missing or not distinct:
            with off_disk() if len(missing) < MANY else nullcontext():
                fresh = EmbeddingCache().encode(self.encoder, missing)
            self._remember(missing, fresh)
            if len(missing) == len(texts):
                return fresh
            found.update(zip(missing, fresh, strict=True))
        return np.stack([found[text] for text in texts])

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which texts :meth:`words` can turn into vectors, ``(n,)``."""
        return self.encoder.readable(texts)

    def _remembered(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
            for text in found:
                self._known.move_to_end(text)
        return found

    def _remember(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        room = max(1, REMEMBERED_BYTES // max(4 * vectors.shape[1], 1))
        rows = [row.copy() for row in vectors[-room:]]  # a view would keep the whole batch
        with self._lock:
            self._known.update(zip(texts[-room:], rows, strict=True))
            while len(self._known) > room:
                self._known.popitem(last=False)

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
