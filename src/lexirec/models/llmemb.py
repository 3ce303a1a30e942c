"""LLMEmb (Liu et al., AAAI 2025, arXiv 2409.19925).

Official code: liuqidong07/LLMEmb. How this differs: any encoder instead of LLaMA-7B (the bundled one by default), a mean over tokens in
both; the alignment may be capped (``align_cap``); the vector of the last item is not zeroed (``zero_last_item`` does what the released
SASRec and GRU4Rec do); windows are packed. PCA before the adapter, as in the code, is ``transform: pca`` with ``text_dim``.

stage 1 (SCFT): attribute prompts -> encoder tuned to tell items apart -> one vector per item, kept
stage 2 (RAT):  vectors -> two linear maps -> any sequence encoder -> its loss + alpha x contrast with a trained model's item vectors
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.losses import symmetric_infonce
from lexirec.models.backbones import BackboneConfig, BackboneRecommender
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.contrast import counted_soft_clip
from lexirec.models.sequential import SequenceBatch
from lexirec.models.stages import teacher_table
from lexirec.text.prompts import CUT, attribute_columns
from lexirec.training.finetune import ScftConfig
from lexirec.training.options import TrainingOptions

if TYPE_CHECKING:
    from lexirec.text.encoders import Encoder

PROMPTS = {"style": "prompt", "columns": "columns", "instruction": "instruction", "max_characters": "max_characters"}
"""Settings of the prompts: stage 1's name and this model's."""
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
    text: Literal["prompt"] = "prompt"
    """Items are read as attribute prompts; which attributes is said by ``columns``."""
    prompt: Literal["general", "beauty", "fashion", "yelp"] = "general"
    """Style of the attribute prompts of both stages, see :func:`~lexirec.text.prompts.attribute_prompts`."""
    columns: tuple[str, ...] | None = None
    """Attributes in the prompts; all but ids and links if not given."""
    instruction: str | None = None
    """In place of the style's first line."""
    max_characters: PositiveInt = CUT
    """Where the general style cuts a value."""
    teacher: str | None = "sasrec"
    """Whose item vectors the adapter is aligned with: ``sasrec`` (trained first, on the same data, with the same settings but two blocks
    and dropout .5, for every backbone), a run folder of any model with item vectors of ``embedding_dim``, or ``null``."""
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
    def _one_prompt(self) -> "LLMEmbConfig":
        for inner, outer in PROMPTS.items():
            value = None if self.scft is None else getattr(self.scft, inner)
            if self.scft is not None and value not in (ScftConfig.model_fields[inner].default, getattr(self, outer)):
                raise ValueError(f"scft.{inner} = {value!r}: both stages read the same prompts; set {outer} instead")
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

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        # What is read of new items is what was read of these, whatever other columns they bring.
        self.columns = self.config.columns or tuple(attribute_columns(train.items, self.config.prompt))
        trains_teacher = self.config.teacher == "sasrec"
        if not trains_teacher:  # a wrong run folder is told before hours of stage 1
            self.teacher_table = self.teacher_vectors(train, valid, options)
        self.tuned = self.tuned_encoder(train.items, options)
        if trains_teacher:
            self.teacher_table = self.teacher_vectors(train, valid, options)
        return super().learn(train, valid, options)

    # --- stage 1 -----------------------------------------------------------------------------------------------------------------

    def tuned_encoder(self, items: pl.DataFrame, options: TrainingOptions) -> "Encoder":
        """The encoder after stage 1. It depends on the catalogue and ``scft`` alone, so it is kept in the cache and tuned once.

        Of several encoders side by side (``join:``) the first is tuned, and the others stand beside it as they are.
        """
        from lexirec.text.cache import default_folder
        from lexirec.text.encoders import load_encoder
        from lexirec.text.encoders.joined import JoinedEncoder
        from lexirec.text.prompts import attribute_prompts
        from lexirec.training.finetune import finetune_items, tuned_name

        config = self.config
        encoder = load_encoder(config.encoder)
        parts = encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)
        if config.scft is None:
            for part in parts:
                self.check_recipe(part)
            return encoder
        first = parts[0].name
        if first.split("?")[0].split(":")[0] not in ("minilm", "hf", "st"):
            raise InputError(
                f"encoder = {config.encoder!r} has no weights that stage 1 could tune; set scft=null, or use minilm, hf:<model> or"
                " st:<model> (of join:, the first is tuned)"
            )
        own = {inner: getattr(config, outer) for inner, outer in PROMPTS.items()}
        scft = config.scft.model_copy(update={**own, "columns": self.columns})
        prompts = attribute_prompts(items, scft.style, scft.instruction, columns=scft.columns, max_characters=scft.max_characters)
        seen = json.dumps([scft.model_dump(mode="json"), options.precision, parts[0].fingerprint, prompts.texts()])
        folder = default_folder() / "encoders" / f"scft-{hashlib.sha256(seen.encode('utf-8', 'replace')).hexdigest()[:16]}"
        if folder.exists():
            tuned = load_encoder(tuned_name(folder))
        else:
            stage: dict[str, Any] = {"seed": 1, "epochs": 10_000, "max_minutes": None, "track": (), "folder": None, "resume": False}
            if options.folder is not None:  # an interrupted stage 1 goes on from here
                stage |= {"folder": options.folder / "stage-1", "resume": options.resume}
            tuned = finetune_items(items, scft, options.model_copy(update=stage), parts[0], out=folder)
            if options.folder is not None:  # the encoder is whole: its checkpoints would only make the run folder heavy
                shutil.rmtree(options.folder / "stage-1", ignore_errors=True)
        return JoinedEncoder((tuned, *parts[1:])) if parts[1:] else tuned

    def check_recipe(self, encoder: "Encoder") -> None:
        """An encoder that was tuned on prompts must be asked with the same ones.

        Raises:
            InputError: if its recipe has other prompts than this configuration.
        """
        from lexirec.training.finetune import RECIPE, read_recipe

        folder = Path(encoder.name.removeprefix("hf:").split("?")[0])
        if not encoder.name.startswith("hf:") or not (folder / RECIPE).exists():
            return
        recipe = ScftConfig.parse(read_recipe(folder)["config"])
        for inner, outer in PROMPTS.items():
            wanted, asked = getattr(recipe, inner), self.columns if outer == "columns" else getattr(self.config, outer)
            if wanted is None and inner == "columns":
                continue
            if wanted != asked:
                raise InputError(f"{encoder.name} was tuned with {inner} = {wanted!r} and {outer} is {asked!r}; set {outer} to the same")

    def make_encoder(self, train: TrainSet) -> "Encoder":
        return self.tuned

    def item_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        from lexirec.text.prompts import prompt_vectors

        encoder, config = self.reader.encoder, self.config
        columns = [name for name in self.columns if name in items.columns]
        found = prompt_vectors(items, encoder, config.prompt, config.instruction, columns=columns, max_characters=config.max_characters)
        return np.ascontiguousarray(found, dtype=np.float32)

    # --- stage 2 -----------------------------------------------------------------------------------------------------------------

    def teacher_vectors(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Tensor | None:
        """Item vectors of the teacher in this catalogue's order, ``(I, D)``.

        By default the teacher is a plain SASRec with the same settings, as the official scripts train it for every backbone.

        Raises:
            InputError: if the teacher's items or dimensions are others.
        """
        config = self.config
        if config.teacher is None or config.align_weight == 0:
            return None
        settings = {name: value for name, value in config.model_dump().items() if name not in OF_THE_BACKBONE}
        vectors = teacher_table(config.teacher, settings, train, valid, options.model_copy(update={"seed": TEACHER_SEED}))
        if vectors.shape[1] != config.embedding_dim:
            raise InputError(
                f"teacher {config.teacher}: its item vectors have {vectors.shape[1]} dimensions where embedding_dim is"
                f" {config.embedding_dim}; train one of that width"
            )
        return vectors

    def make_items(self, train: TrainSet) -> ItemVectors:
        found = super().make_items(train)
        if self.config.zero_last_item and found.text is not None:
            with torch.no_grad():
                found.text[-1] = 0.0
        if self.teacher_table is not None:
            self.teacher_table = self.teacher_table.to(self.device)
        return found

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        return tensors, {**values, "columns": list(self.columns)}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.columns = tuple(values["columns"])
        super().restore(tensors, values)

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
