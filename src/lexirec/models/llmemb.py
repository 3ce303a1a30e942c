"""LLMEmb (Liu et al., AAAI 2025, arXiv 2409.19925).

Official code: liuqidong07/LLMEmb. How this differs: any encoder instead of LLaMA-7B (the bundled one by default), a mean over tokens in
both; the alignment may be capped (``align_cap``); the vector of the last item is not zeroed (``zero_last_item`` does what the released
SASRec and GRU4Rec do); windows are packed. PCA before the adapter, as in the code, is ``transform: pca`` with ``text_dim``.

stage 1 (SCFT): attribute prompts -> encoder tuned to tell items apart -> one vector per item, kept
stage 2 (RAT):  vectors -> two linear maps -> any sequence encoder -> its loss + alpha x contrast with a trained model's item vectors
"""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.losses import symmetric_infonce
from lexirec.models.backbones import BackboneConfig, BackboneRecommender
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.contrast import counted_soft_clip
from lexirec.models.sequential import SequenceBatch
from lexirec.models.stages import train_plain
from lexirec.training.finetune import ScftConfig
from lexirec.training.options import TrainingOptions

if TYPE_CHECKING:
    from lexirec.text.encoders import Encoder

OF_THE_BACKBONE = {"items", "num_layers", "dropout", "targets"}
"""Settings that the teacher does not take over: it is the same for every backbone."""
TEACHER_SEED = 42
"""Seed of the teacher in the official scripts."""


class LLMEmbConfig(BackboneConfig):
    """Settings of LLMEmb."""

    items: Literal["text", "id+text"] = "text"
    """``text`` as published; ``id+text`` adds a vector of its own to each item (not in the paper)."""
    scft: ScftConfig | None = ScftConfig()
    """Stage 1; ``null`` takes the encoder as it is (the paper's "without SCFT", or an encoder tuned before)."""
    prompt: Literal["general", "beauty", "fashion", "yelp"] = "general"
    """Style of the attribute prompts, see :func:`~lexirec.text.prompts.attribute_prompts`; also of stage 1's."""
    teacher: str | None = "sasrec"
    """Whose item vectors the adapter is aligned with: ``sasrec`` (trained first, on the same data, with the same settings), a run folder
    of any model with item vectors of ``embedding_dim``, or ``null``."""
    align_weight: NonNegativeFloat = 0.01
    """``alpha`` of the paper; 0: without alignment."""
    align_tau: PositiveFloat = 2.0
    """Temperature of the alignment."""
    align_loss: Literal["soft_clip", "infonce"] = "soft_clip"
    """``soft_clip`` as in the code, on inner products; ``infonce`` on cosines."""
    align_unique: bool = False
    """Whether each item of a batch counts once; in the code it counts at each of its places."""
    align_cap: PositiveInt | None = None
    """Places per step that are aligned at most, drawn at random: the contrast is their square."""
    zero_last_item: bool = False
    """Give the last item no text vector, as the released SASRec and GRU4Rec do by mistake."""

    @model_validator(mode="after")
    def _one_style(self) -> "LLMEmbConfig":
        if self.scft is not None and self.scft.style not in ("general", self.prompt):
            raise ValueError(f"scft.style = {self.scft.style!r} and prompt = {self.prompt!r}: tune and embed with the same prompts")
        return self


class LLMEmb(BackboneRecommender):
    """Item vectors generated from text, for any sequence encoder.

    Once trained, the generated table is all that is needed: no language model in memory, until a wish or a new item has to be read.

    >>> LLMEmb(backbone="gru4rec", scft=None).config.num_layers
    1
    """

    name = "llmemb"
    Config = LLMEmbConfig
    teacher_table: Tensor | None = None

    def fit(self, train: TrainSet, valid: Heldout | None = None, options: TrainingOptions | None = None) -> Recommender:
        options = options or TrainingOptions()
        self.tuned = self.tuned_encoder(train.items, options)
        self.teacher_table = self.teacher_vectors(train, valid, options)
        return super().fit(train, valid, options)

    # --- stage 1 -----------------------------------------------------------------------------------------------------------------

    def tuned_encoder(self, items: pl.DataFrame, options: TrainingOptions) -> "Encoder":
        """The encoder after stage 1. It depends on the catalogue and ``scft`` alone, so it is kept in the cache and tuned once."""
        from lexirec.text.cache import default_folder
        from lexirec.text.encoders import load_encoder
        from lexirec.text.prompts import attribute_prompts
        from lexirec.training.finetune import finetune_items, tuned_name

        config = self.config
        if config.scft is None:
            return load_encoder(config.encoder)
        scft = config.scft.model_copy(update={"style": config.prompt})
        prompts = attribute_prompts(items, scft.style, scft.instruction, columns=scft.columns, max_characters=scft.max_characters)
        seen = json.dumps([scft.model_dump(mode="json"), options.precision, load_encoder(config.encoder).fingerprint, prompts.texts()])
        folder = default_folder() / "encoders" / f"scft-{hashlib.sha256(seen.encode('utf-8', 'replace')).hexdigest()[:16]}"
        if folder.exists():
            return load_encoder(tuned_name(folder))
        stage: dict[str, Any] = {"seed": 1, "epochs": 10_000, "max_minutes": None, "track": (), "folder": None, "resume": False}
        if options.folder is not None:  # an interrupted stage 1 goes on from here
            stage |= {"folder": options.folder / "stage-1", "resume": options.resume}
        return finetune_items(items, scft, options.model_copy(update=stage), config.encoder, out=folder)

    def make_encoder(self, train: TrainSet) -> "Encoder":
        return self.tuned

    def item_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        from lexirec.text.prompts import prompt_vectors

        assert self.encoder is not None  # noqa: S101 (set by make_items)
        scft = self.config.scft or ScftConfig()
        found = prompt_vectors(items, self.encoder, self.config.prompt, scft.instruction, columns=scft.columns)
        return np.ascontiguousarray(found, dtype=np.float32)

    # --- stage 2 -----------------------------------------------------------------------------------------------------------------

    def teacher_vectors(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Tensor | None:
        """Item vectors of the teacher in this catalogue's order, ``(I, D)``.

        Raises:
            InputError: if the teacher's items or dimensions are others.
        """
        from lexirec.models import load_model
        from lexirec.models.saving import read_config

        config = self.config
        if config.teacher is None or config.align_weight == 0:
            return None
        if config.teacher == "sasrec":
            teacher = self.train_teacher(train, valid, options)
        else:
            read_config(Path(config.teacher))
            teacher = load_model(config.teacher)
        at = teacher.item_map.index(train.items[c.ITEM_ID])
        if (at < 0).any():
            missing = train.items[c.ITEM_ID].filter(pl.Series(at < 0))
            raise InputError(
                f"teacher {config.teacher}: {len(missing):,} of {train.n_items:,} items are unknown to it (item_id {missing[0]!r});"
                " train it on the same data"
            )
        vectors = teacher.encode_items()[torch.from_numpy(at)].float()
        if vectors.shape[1] != config.embedding_dim:
            raise InputError(
                f"teacher {config.teacher}: its item vectors have {vectors.shape[1]} dimensions where embedding_dim is"
                f" {config.embedding_dim}; train one of that width"
            )
        return vectors

    def train_teacher(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        """A plain SASRec with the same settings, as the official scripts train it for every backbone."""
        settings = {name: value for name, value in self.config.model_dump().items() if name not in OF_THE_BACKBONE}
        return train_plain("sasrec", settings, train, valid, options.model_copy(update={"seed": TEACHER_SEED}), "teacher")

    def make_items(self, train: TrainSet) -> ItemVectors:
        found = super().make_items(train)
        if self.config.zero_last_item and found.text is not None:
            with torch.no_grad():
                found.text[-1] = 0.0
        if self.teacher_table is not None:
            self.teacher_table = self.teacher_table.to(self.device)
        return found

    def extra_loss(self, table: Tensor, batch: SequenceBatch) -> Tensor | float:
        if self.teacher_table is None:
            return 0.0
        config, places = self.config, batch.targets
        if config.align_cap is not None and len(places) > config.align_cap:
            places = places[torch.randperm(len(places), device=places.device)[: config.align_cap]]
        places, counts = places.unique(return_counts=True)
        if config.align_unique:
            counts = torch.ones_like(counts)
        items = places if batch.rows is None else batch.rows[places]
        teacher, generated = self.teacher_table[items], table.index_select(0, places).float()
        if config.align_loss == "infonce":
            again = torch.repeat_interleave(torch.arange(len(places), device=places.device), counts)
            return float(config.align_weight) * symmetric_infonce(teacher[again], generated[again], config.align_tau)
        return float(config.align_weight) * counted_soft_clip(teacher, generated, counts, config.align_tau)


__all__ = ["LLMEmb", "LLMEmbConfig"]
