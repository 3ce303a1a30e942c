"""Any text encoder as it is, as a recommender: the baseline of EasyRec and its like.

profile of the person, profile of the item -> frozen encoder -> cosine

Nothing is trained. ``encoder=lsa`` is the TF-IDF baseline, ``encoder=random`` the control without any meaning, ``encoder=minilm`` what
EasyRec starts from; ``hf:``, ``st:`` and ``api:`` bring any other.
Command: ``lexirec fit zero-shot --data DIR --set encoder=lsa --out RUN``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lexirec.data.dataset import TrainSet
from lexirec.models.reading import TextReader
from lexirec.models.textual import TextConfig, TextRecommender, unit
from lexirec.text.encoders import load_encoder, parse_name


class ZeroShotConfig(TextConfig):
    """Settings of a frozen encoder as a recommender."""

    encoder: str = "minilm"
    """Encoder of the texts; see ``docs/encoders.md``. ``random`` without a seed of its own takes the run's."""


class ZeroShot(TextRecommender):
    """Cosine of texts by a frozen encoder.

    >>> ZeroShot(encoder="lsa").config.item_text
    'profile'
    """

    name = "zero-shot"
    Config = ZeroShotConfig

    @property
    def seeded(self) -> bool:
        """Only the encoder without a meaning is drawn."""
        kind, _, options = parse_name(self.config.encoder)
        return kind == "random" and "seed" not in options

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.read_texts(train)
        drawn = {"seed": int(rng.integers(2**31))} if self.seeded else {}
        self.reader = TextReader(load_encoder(self.config.encoder, **drawn))
        self._read_catalogue()

    def _read_catalogue(self) -> None:
        """Vectors of the items; an encoder that is fitted (lsa) is fitted on their texts, before it reads anybody's."""
        texts = self.item_texts[0]
        self.reader.encoder.check_reads_words(texts[0])
        self.reader.encoder.prepare(texts)
        self.encode_items()

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        return self.encode_texts(list(texts))  # the reader remembers them

    def encode_texts(self, texts: list[str]) -> Tensor:
        return unit(self.reader.words(texts))

    def transfer(self, train: TrainSet) -> "ZeroShot":
        """The encoder on another data set; ``lsa`` is fitted on its texts."""
        self._check_fitted()
        other = ZeroShot(self.on_another(train))
        other.remember(train)
        other.read_texts(train)
        fitted = parse_name(self.config.encoder)[0] == "lsa"
        other.reader = TextReader(load_encoder(self.config.encoder)) if fitted else self.reader
        other._fitted = True
        other._read_catalogue()
        return other

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        arrays, encoder = self.reader.state()
        return {**tensors, **arrays}, {**values, "encoder": encoder}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        self.reader = TextReader.restored(tensors, values["encoder"])
        self.network = torch.nn.Module()


__all__ = ["ZeroShot", "ZeroShotConfig"]
