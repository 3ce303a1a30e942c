"""LLMEmb (Liu et al., AAAI 2025, arXiv 2409.19925).

Official code: liuqidong07/LLMEmb. How this differs: any encoder instead of LLaMA-7B (the bundled one by default), a mean over tokens in
both; the alignment may be capped (``align_cap``); the vector of the last item is not zeroed (``zero_last_item`` does what the released
SASRec and GRU4Rec do); windows are packed. PCA before the adapter, as in the code, is ``transform: pca`` with ``text_dim``.

stage 1 (SCFT): attribute prompts -> encoder tuned to tell items apart -> one vector per item, kept
stage 2 (RAT):  vectors -> two linear maps -> any sequence encoder -> its loss + alpha x contrast with a trained model's item vectors
"""

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError
from lexirec.models.backbones import BackboneRecommender
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.contrast import counted_infonce, counted_soft_clip
from lexirec.models.llmemb_config import PLAIN, PROMPTS, LLMEmbConfig
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.stages import digest, teacher_table
from lexirec.models.textual import WORDLESS, restored_writer, writer_state
from lexirec.text.embed import item_vectors, mean_vector
from lexirec.text.encoders.file import FileEncoder
from lexirec.text.plain_writer import PlainWriter
from lexirec.text.profiles import merge_profiles
from lexirec.text.prompt_vectors import prompt_vectors, warn_of_cut_prompts
from lexirec.text.prompts import PROFILE, Prompts, attribute_columns, attribute_prompts, check_columns, wish_prompt
from lexirec.training.options import TrainingOptions
from lexirec.training.scft_config import ScftConfig

if TYPE_CHECKING:
    from lexirec.text.encoders import Encoder

TEACHER_SEED = 42
"""Seed of the teacher in the official scripts."""


ALIGNED_ARRAYS = 6
"""Arrays of one number per pair of items that the alignment holds at a time."""
MUCH = 2 << 30
"""Bytes from which on they are told."""


def parts_of(encoder: "Encoder") -> tuple["Encoder", ...]:
    """The encoders that stand side by side in one, or the one itself."""
    from lexirec.text.encoders.joined import JoinedEncoder

    return encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,)


def _column(profiles: Sequence[str]) -> pl.Series:
    """Profiles as an attribute; one that says nothing is none."""
    return pl.Series(PROFILE, [None if text in WORDLESS else text for text in profiles], dtype=pl.String)


class LLMEmb(BackboneRecommender):
    """Item vectors generated from text, for any sequence encoder.

    From stage 2 on the generated table is all that is needed: no language model in memory, until a wish or a new item has to be read.

    >>> LLMEmb(backbone="gru4rec", scft=None).config.num_layers
    1
    """

    name = "llmemb"
    Config = LLMEmbConfig
    teacher_table: Tensor | None = None
    writer: PlainWriter | None = None
    log = ""
    """Content hash of the training part."""
    middle: NDArray[np.float32] | None = None
    """``(D,)`` what an item without attributes has: the mean of the catalogue's vectors, as they were read for the training."""

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        from lexirec.text.encoders import load_encoder

        train, self.log = self.described(train), train.content_hash
        trains_teacher = self.config.teacher == "sasrec" and self.config.aligns
        encoder = load_encoder(self.config.encoder)
        self.columns = self.read_columns(train.items, encoder)
        # A wrong log, encoder, width or run folder is told before hours of stage 1.
        self.check_log(train)
        self.check_encoder(encoder)
        self.check_text(train.n_items, self.text_width(train.items, encoder))
        self.warn_of_memory(train)
        if not trains_teacher:
            self.teacher_table = self.teacher_vectors(train, valid, options)
        self.tuned = self.tuned_encoder(train.items, encoder, options)
        for part in parts_of(self.tuned) if self.columns else ():
            warn_of_cut_prompts(self.prompts(train.items), part)
        if trains_teacher:
            self.teacher_table = self.teacher_vectors(train, valid, options)
        return super().learn(train, valid, options)

    def read_columns(self, items: pl.DataFrame, encoder: "Encoder") -> tuple[str, ...]:
        """Attributes of the prompts; none where vectors were made before and are looked up.

        What is read of new items is what was read of these, whatever other columns they bring.
        """
        if isinstance(encoder, FileEncoder):
            return ()
        chosen = self.config.columns
        named = attribute_columns(items, self.config.prompt) if chosen is None else (*chosen, *self.config.told)
        columns = tuple(dict.fromkeys(named))
        check_columns(items, columns)
        return columns

    # --- profiles ----------------------------------------------------------------------------------------------------------------

    def described(self, train: TrainSet) -> TrainSet:
        """A training part whose items have their profiles as a column, if the configuration asks for them.

        Raises:
            InputError: if no folder was written from this training part, or the catalogue has a column of that name.
        """
        folders = self.config.profiles
        if not folders:
            return train
        if PROFILE in train.items.columns:
            raise InputError(f"items have a column {PROFILE!r}, and profiles = {', '.join(folders)} makes one; rename it or leave one out")
        self.writer = PlainWriter(versions=0)
        written = self.writer.write(train)
        if folders != (PLAIN,):
            written, _ = merge_profiles(train, written, folders)
        return replace(train, items=train.items.with_columns(_column(written.item_texts())))

    def with_profiles(self, items: pl.DataFrame) -> pl.DataFrame:
        """Items, new ones among them, with the profiles that their own columns give."""
        if self.writer is None or PROFILE in items.columns:
            return items
        return items.with_columns(_column(self.writer.item_texts(items)))

    def remember(self, train: TrainSet) -> None:
        # Profiles are for the prompts: the catalogue that is kept is the shop's own.
        super().remember(replace(train, items=train.items.drop(self.config.told, strict=False)) if self.config.told else train)

    def transfer(self, train: TrainSet) -> Recommender:
        if not self.config.told:
            return super().transfer(train)
        other = copy.copy(self)
        # What a folder of profiles says is about the data that it was written from.
        other.config = self.config.model_copy(update={"profiles": (PLAIN,)})
        return super(LLMEmb, other).transfer(other.described(train))

    # --- stage 1 -----------------------------------------------------------------------------------------------------------------

    def check_encoder(self, encoder: "Encoder") -> None:
        """Refuse an encoder that stage 1 can't tune, or that was tuned on other prompts.

        Raises:
            InputError: if it is one.
        """
        from lexirec.text.encoders.joined import SIGN
        from lexirec.training.finetune import check_reading

        if self.config.scft is None:
            for part in parts_of(encoder):
                self.check_recipe(part)
        elif parts_of(encoder)[0].name.split("?")[0].split(":")[0] not in ("minilm", "hf", "st"):
            raise InputError(
                f"encoder = {self.config.encoder!r} has no weights that stage 1 could tune; set scft=null, or use minilm, hf:<model> or"
                " st:<model> (of join:, the first is tuned)"
            )
        else:
            check_reading(self.config.encoder.removeprefix("join:").split(SIGN)[0].strip(), self.config.scft)

    def text_width(self, items: pl.DataFrame, encoder: "Encoder") -> int:
        """Dimensions that the text vectors will have; what stage 1 leaves as it is has read the items then."""
        if self.config.scft is None:
            return int(self.vectors_by(encoder, items).shape[1])
        tuned, *beside = parts_of(encoder)
        return tuned.dim + sum(int(self.vectors_by(part, items).shape[1]) for part in beside)

    def tuned_encoder(self, items: pl.DataFrame, encoder: "Encoder", options: TrainingOptions) -> "Encoder":
        """The encoder after stage 1. It depends on the prompts and ``scft`` alone, so it is kept in the cache and tuned once.

        Of several encoders side by side (``join:``) the first is tuned, and the others stand beside it as they are.
        """
        from lexirec.text.cache import default_folder
        from lexirec.text.encoders import load_encoder
        from lexirec.text.encoders.joined import JoinedEncoder
        from lexirec.training.finetune import finetune_items
        from lexirec.training.tuned_encoder import tuned_name

        config, parts = self.config, parts_of(encoder)
        if config.scft is None:
            return encoder
        own = {inner: getattr(config, outer) for inner, outer in PROMPTS.items()}
        scft = config.scft.model_copy(update={**own, "columns": self.columns})
        clipped = [] if options.clip_norm is None else [options.clip_norm]
        seen = json.dumps([scft.model_dump(mode="json"), options.precision, parts[0].fingerprint, self.prompts(items).texts(), *clipped])
        folder = default_folder() / "encoders" / f"scft-{hashlib.sha256(seen.encode('utf-8', 'replace')).hexdigest()[:16]}"
        if not folder.exists():
            stage: dict[str, Any] = {"seed": 1, "epochs": 10_000, "max_minutes": None, "track": (), "folder": None, "resume": False}
            if options.folder is not None:  # an interrupted stage 1 goes on from here
                stage |= {"folder": options.folder / "stage-1", "resume": options.resume}
            made = folder.with_name(f"{folder.name}.{os.getpid()}")
            shutil.rmtree(made, ignore_errors=True)  # of a process of that number that was killed at the end
            log = self.log if config.told else ""
            finetune_items(items, scft, options.model_copy(update=stage), parts[0], out=made, log=log)
            try:
                made.rename(folder)
            except OSError:  # another run that shares this stage was first
                if not folder.exists():
                    raise
                shutil.rmtree(made)
            if options.folder is not None:  # the encoder is whole: its checkpoints would only make the run folder heavy
                shutil.rmtree(options.folder / "stage-1", ignore_errors=True)
        tuned = load_encoder(tuned_name(folder))
        return JoinedEncoder((tuned, *parts[1:])) if parts[1:] else tuned

    def check_recipe(self, encoder: "Encoder") -> None:
        """An encoder that was tuned on prompts must be asked with the same ones, and read as it was tuned.

        Columns that nobody chose when it was tuned, since all were taken, may be others here; that is warned of.

        Raises:
            InputError: if its recipe has other prompts or another reading than this configuration.
        """
        from lexirec.training.tuned_encoder import RECIPE, read_recipe, tuned_name

        folder = Path(encoder.name.removeprefix("hf:").split("?")[0])
        if not encoder.name.startswith("hf:") or not (folder / RECIPE).exists():
            return
        made = read_recipe(folder)
        if made.get("log", self.log) != self.log:
            raise InputError(
                f"{encoder.name} was tuned on profiles of another training part, which may tell of held-out events; tune one on this part"
            )
        recipe = ScftConfig.parse(made["config"])
        other = {name: value for name, value in recipe.reading.items() if encoder.description()[name] != value}
        if other:
            raise InputError(
                f"{encoder.name} was tuned with {', '.join(f'{name} = {value!r}' for name, value in other.items())} and is read otherwise;"
                f" set encoder={tuned_name(folder)}"
            )
        for inner, outer in PROMPTS.items():
            wanted, asked = getattr(recipe, inner), self.columns if outer == "columns" else getattr(self.config, outer)
            if wanted is None and inner == "columns":
                if set(taken := made.get("columns", asked)) != set(asked):
                    warn(f"{encoder.name} was tuned on the attributes {', '.join(taken)}; here it reads {', '.join(asked)}")
                continue
            if wanted != asked:
                raise InputError(f"{encoder.name} was tuned with {inner} = {wanted!r} and {outer} is {asked!r}; set {outer} to the same")

    def make_encoder(self, train: TrainSet) -> "Encoder":
        return self.tuned

    def prompts(self, items: pl.DataFrame) -> Prompts:
        """The attribute prompts of both stages."""
        config = self.config
        return attribute_prompts(items, config.prompt, config.instruction, columns=self.columns, max_characters=config.max_characters)

    def vectors_by(self, encoder: "Encoder", items: pl.DataFrame) -> NDArray[np.float32]:
        """Vectors of the items' prompts, ``(n, D)``."""
        config = self.config
        if isinstance(encoder, FileEncoder):
            return item_vectors(items, encoder)
        found = prompt_vectors(
            self.with_profiles(items),
            encoder,
            config.prompt,
            config.instruction,
            columns=self.columns,
            skip_absent=True,
            max_characters=config.max_characters,
            mean=self.middle,
        )
        return np.ascontiguousarray(found, dtype=np.float32)

    def catalogue_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        self.middle = None
        found = self.item_text(items)
        if self.columns:
            with suppress(InputError):  # vectors that cancel out have no mean; that is told where one is asked for
                self.middle = mean_vector(found[~self.prompts(items).empty()])
        return found

    def item_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        return self.vectors_by(self.reader.encoder, items)

    def encode_words(self, texts: Sequence[str]) -> Tensor:
        # As items are written: of 800 items of Amazon Beauty, asked for by their title alone, 77 % come first instead of 51 %.
        if c.TITLE not in self.columns:
            return super().encode_words(texts)
        wishes = [wish_prompt(text, self.config.prompt, self.config.instruction) for text in texts]
        if self.writer is not None:
            told = self.writer.item_texts(pl.DataFrame({c.TITLE: list(texts)}, schema={c.TITLE: pl.String}))
            wishes = [f"{wish}; {PROFILE} is {text.replace(';', ',')}" for wish, text in zip(wishes, told, strict=True)]
        return super().encode_words(wishes)

    def identity(self) -> dict[str, Any]:
        """Besides, what the vectors of a teacher that is a folder are: it may have been trained anew. One trained here is kept."""
        if self.teacher_table is None or self.config.teacher == "sasrec":
            return super().identity()
        return super().identity() | {"the teacher's vectors": digest(self.teacher_table.cpu().numpy())[:16]}

    # --- stage 2 -----------------------------------------------------------------------------------------------------------------

    def teacher_vectors(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Tensor | None:
        """Item vectors of the teacher in this catalogue's order, ``(I, D)``.

        By default the teacher is a plain SASRec with the same settings, as the official scripts train it for every backbone.

        Raises:
            InputError: if the teacher's items or dimensions are others.
        """
        config = self.config
        if config.teacher is None or not config.aligns:
            return None
        seeded = options.model_copy(update={"seed": TEACHER_SEED})
        vectors = teacher_table(config.teacher, config.model_dump(), train, valid, seeded)
        if vectors.shape[1] != config.embedding_dim:
            raise InputError(
                f"teacher {config.teacher}: its item vectors have {vectors.shape[1]} dimensions where embedding_dim is"
                f" {config.embedding_dim}; train one of that width"
            )
        return vectors

    def warn_of_memory(self, train: TrainSet) -> None:
        """Warn where a step would align so many items that their pairs take gigabytes."""
        config = self.config
        places = config.batch_size * float(np.minimum(np.diff(train.offsets), config.max_len).mean())
        items = int(min(places, train.n_items, config.align_cap or places))
        size = ALIGNED_ARRAYS * 4 * items**2
        if config.aligns and size > MUCH:
            warn(
                f"a step aligns up to {items:,} items, each with each: about {size / 2**30:.0f} GB; set align_cap=4096 (a sample of the"
                " step's places), or a smaller batch_size"
            )

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
        values["columns"] = list(self.columns)
        if self.middle is not None:
            tensors["middle"] = torch.from_numpy(self.middle)
        if self.writer is not None:
            written, values["writer"] = writer_state(self.writer)
            tensors |= written
        return tensors, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.columns = tuple(values["columns"])
        self.middle = tensors["middle"].numpy() if "middle" in tensors else None  # not in those of older versions
        if "writer" in values:
            self.writer = restored_writer(tensors, values["writer"])
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
        # Both as this model's answers compare items: of unit length with cosine=true.
        teacher, generated = self.unit(self.teacher_table[items]), self.unit(table.index_select(0, places).float())
        contrast = counted_infonce if config.align_loss == "infonce" else counted_soft_clip
        return float(config.align_weight) * contrast(teacher, generated, counts, config.align_tau)


__all__ = ["LLMEmb", "LLMEmbConfig"]
