"""What systems with a stage before the recommender share: its result is made once and kept, and plain models are trained on the way."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError
from lexirec.files import FULL, atomic_folder, free_space, read_json, storage_errno, write_json
from lexirec.models.contract import Recommender
from lexirec.models.earlier import refuse_leaks, same_histories
from lexirec.models.saving import read_config, write_manifest
from lexirec.text.encoders.batching import plan_batches
from lexirec.training.checkpoint import load_tensors, save_tensors
from lexirec.training.options import TrainingOptions

OF_THE_BACKBONE = frozenset({"items", "num_layers", "dropout", "targets", "block"})
"""Settings that a SASRec teacher does not take over: it is the same for every backbone."""
READ_BY_THE_TEACHER = frozenset({"causal", "num_heads", "inner", "attention_dropout", "activation", "positions"})
"""Settings that a SASRec teacher reads, whatever the backbone reads."""
DECIDES = {"epochs", "eval_every", "patience", "monitor", "mask_seen", "seed", "precision", "clip_norm"}
"""Training options that a trained model depends on."""
VERSION = 1
"""Of what the stages compute; a kept result of another version is made again."""
KEPT = ".kept.json"
"""End of the name of the file in a run's folder that says which result of a stage it took."""


def kept(name: str, depends: Mapping[str, Any], options: TrainingOptions, make: Callable[[TrainingOptions], Tensor]) -> Tensor:
    """The result of a stage, made once for everything that it depends on and kept in the cache.

    Args:
        name: of the system.
        depends: JSON-able; equal values give equal results.
        options: of the whole training. An interrupted stage leaves its checkpoints in a folder of its own in there and goes on from them.
        make: computes the result with the options it is given.

    Raises:
        InputError: if a resumed run had another result of this stage until now.

    Warns:
        CacheWarning: if the result can't be kept (a full disk, no permission); it is given all the same, and its checkpoints stay, so that
            a resumed run need not make it again.
    """
    from lexirec.text.cache import default_folder

    depends = {**depends, **({} if options.clip_norm is None else {"clip_norm": options.clip_norm})}
    key = hashlib.sha256(json.dumps([VERSION, depends], sort_keys=True).encode()).hexdigest()[:16]
    path = default_folder() / "stages" / f"{name}-{key}.safetensors"
    note = None if options.folder is None else options.folder / f"{name}{KEPT}"
    if note is not None and options.resume and note.exists() and (before := read_json(note)["key"]) != key:
        # Be it from the cache or not: what the first half of a training was aligned with must not change in the second.
        raise InputError(
            f"{options.folder} was begun with another result of the stage {name!r} ({before}) than its settings and data give now ({key});"
            " repeat the first command, or train anew into another folder"
        )
    result = _read_kept(path)
    if result is None:
        # The key is in the folder's name, so that checkpoints of other settings are never taken up.
        folder = None if options.folder is None else options.folder / f"{name}-{key}"
        own: dict[str, Any] = {"track": (), "max_minutes": None, "folder": folder}
        result = make(options.model_copy(update=own))
        try:
            save_tensors(path, {"result": result}, {"version": VERSION, "name": name})
        except OSError as error:
            not_kept(f"the result of the stage {name!r} isn't kept for other runs", error)
        else:
            if folder is not None:  # the stage is whole: its checkpoints would only make the run folder heavy
                shutil.rmtree(folder, ignore_errors=True)
    if note is not None:
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, {"key": key, "by_options": "options" in depends})
    return result


def _read_kept(path: Path) -> Tensor | None:
    """A result that was kept; none if there is none, or it is damaged or can't be read."""
    try:
        return load_tensors(path)[0]["result"] if path.exists() else None
    except (InputError, KeyError, OSError) as error:
        warn(f"{path}: what was kept there is damaged or can't be read, and is made again ({error})")
        return None


def not_kept(what: str, error: OSError) -> None:
    """Warn that the cache takes no file; what was made is in memory and is gone on with.

    Args:
        what: isn't kept, in words.
        error: of the attempt.
    """
    from lexirec.text.cache import CacheWarning, default_folder

    folder, number = default_folder(), storage_errno(error)
    why, cure = f"can't be written ({error if number is None else os.strerror(number)})", "Set"
    if number in FULL:
        why, cure = f"is on a full disk ({free_space(folder)})", "Make room, or set"
    warn(f"the cache folder {folder} {why}; {what}. {cure} LEXIREC_CACHE to another folder", CacheWarning)


def digest(*arrays: Any) -> str:
    """SHA-256 of arrays' types, shapes and values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape};".encode() + array.tobytes())
    return found.hexdigest()


def train_plain(
    kind: str, settings: Mapping[str, Any], train: TrainSet, valid: Heldout | None, options: TrainingOptions, place: str
) -> Recommender:
    """Train a plain model on the way to another; a resumed run that has it already reads it from the run's folder.

    Args:
        kind: the model's name.
        settings: settings to take over where the model has and reads them.
        train: the training part.
        valid: selects the epoch.
        options: of the whole training.
        place: name of the model's folder within the run's.

    Raises:
        InputError: if the folder of a resumed run has one of other settings or events.
    """
    from lexirec.models import model_class

    found = model_class(kind)
    config = found.Config.taken_from(settings)
    folder = None if options.folder is None else options.folder / place
    decides = options.model_dump(mode="json", include=DECIDES)
    if folder is not None and folder.exists():
        if options.resume:
            whole = found.load(folder)
            with_options = read_config(folder).get("training", decides)  # one of an older version doesn't say
            if whole.config != config or with_options != decides or not same_histories(whole, train):
                raise InputError(f"{folder} has other settings or another training part; begin the run anew, without resume")
            return whole
        shutil.rmtree(folder)
    # Without the time limit: a resumed run takes the model up as it is, so it must be the same however much time the run had.
    own: dict[str, Any] = {
        "track": (), "max_minutes": None, "folder": None if folder is None else folder.with_name(f"{place}.partial"),
    }  # fmt: skip
    model = found(config)
    model.stage = place
    model.fit(train, valid, options.model_copy(update=own))
    if folder is not None:
        with atomic_folder(folder) as temporary:
            model.save_files(temporary, {"training": decides})
            write_manifest(temporary)
        shutil.rmtree(folder.with_name(f"{place}.partial"), ignore_errors=True)  # whole now: its checkpoints are of no more use
    return model


def teacher_table(teacher: str, settings: Mapping[str, Any], train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Tensor:
    """Item vectors of a teacher in the order of this catalogue, ``(I, D)`` float32.

    Args:
        teacher: ``sasrec``, trained here first, or the run folder of any model with item vectors. The vectors of the former are kept in the
            cache (no user and no event), so that backbones, seeds of the system and ablations share one training.
        settings: of the system; ``sasrec`` takes them over but for those that the kind of the backbone decides.
        train: the training part.
        valid: selects the epoch.
        options: of the whole training.

    Raises:
        InputError: if the folder is none, or the teacher lacks items or item vectors, or has seen what may be held out here.
    """
    from lexirec.models import load_model, model_class

    if teacher == "sasrec":
        plain = model_class("sasrec").Config.taken_from({k: v for k, v in settings.items() if k not in OF_THE_BACKBONE})
        depends = {
            "config": plain.model_dump(mode="json"),
            "options": options.model_dump(mode="json", include=DECIDES),
            "log": train.content_hash,
            "asked": None if valid is None else digest(valid.user_index, valid.item_index),
        }

        def make(_: TrainingOptions) -> Tensor:
            own = {name: value for name, value in settings.items() if name not in OF_THE_BACKBONE}
            return train_plain("sasrec", own, train, valid, options, "teacher").item_vectors().float()

        return kept("teacher", depends, options, make)
    if not (Path(teacher) / "config.yaml").exists():
        raise InputError(f"teacher = {teacher!r} is neither 'sasrec' nor a run folder")
    model = load_model(teacher)
    at = model.item_map.index(train.items[c.ITEM_ID])
    if (at < 0).any():
        missing = train.items[c.ITEM_ID].filter(pl.Series(at < 0))
        raise InputError(
            f"teacher {teacher}: {len(missing):,} of {train.n_items:,} items are unknown to it (item_id {missing[0]!r}); train it on the"
            " same data"
        )
    refuse_leaks(f"teacher = {teacher!r}", model, train)
    vectors = model.item_vectors()[torch.from_numpy(at)].float() if model.vector_scores else None
    if vectors is None or vectors.shape[1] < 2:
        lacks = "no item vectors" if vectors is None else "one number an item"
        raise InputError(f"teacher = {teacher!r} is a {model.name}, which has {lacks}; name a run of a model that learns item vectors")
    if getattr(model.config, "cosine", False) and not settings.get("cosine", False):
        warn(
            f"teacher = {teacher!r} compares items by cosine, so its vectors have unit length, and those here have not (cosine=false); soft"
            " targets depend on lengths: set cosine=true, or take a teacher of the same kind"
        )
    return vectors


class Stage:
    """A stage as the loop drives it: texts of like length share a batch, and AdamW's rate falls in a line to 0. A subclass gives the loss.

    Args:
        network: what is trained; weights that need no gradient stay.
        lr: rate at the start.
        epochs: passes after which it is 0.
        lengths: ``(n,)`` tokens of each text.
        budget: most tokens of a batch, padding included.
        names: ``(n,)`` id of the item or user that each text is of; the series' name is that of the ids.
    """

    rate = "lm_lr"
    stage = "stage 1, the language model"

    def __init__(self, network: nn.Module, lr: float, epochs: int, lengths: NDArray[np.int64], budget: int, names: pl.Series) -> None:
        self.network, self.lr, self.lengths, self.budget, self.names = network, lr, lengths, budget, names
        self.total_steps = epochs * self.n_batches()

    def n_batches(self, train: Any = None) -> int:
        """Batches per epoch."""
        return len(plan_batches(self.lengths, self.budget))

    def batches(self, train: Any, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Places of texts of like length, each once."""
        order = rng.permutation(len(self.lengths))
        plan = plan_batches(self.lengths[order], self.budget)
        for number in rng.permutation(len(plan)):
            yield order[plan[number]]

    def optimiser(self) -> torch.optim.Optimizer:
        weights = [p for p in self.network.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=self.lr, weight_decay=0.0)

        def before_step(optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            # Read from the optimiser's own count, so that a resumed training goes on exactly.
            done = next((int(state["step"]) for state in optimiser.state.values() if "step" in state), 0)
            for group in optimiser.param_groups:
                group["lr"] = self.lr * max(0.0, 1 - done / self.total_steps)

        optimiser.register_step_pre_hook(before_step)
        return optimiser

    def culprits(self, batch: NDArray[np.int64]) -> str:
        """Whose texts or histories a batch has, in words for the error of a bad loss."""
        return f"{len(batch):,} take part: {self.names.name} {shown(self.names.gather(batch))}"

    def refresh(self) -> None:
        """Nothing is cached between epochs."""


__all__ = ["READ_BY_THE_TEACHER", "Stage", "digest", "kept", "not_kept", "teacher_table", "train_plain"]
