"""Text vectors of a training part's users and items, for models that learn beside them: from a saved text model or by any encoder.

profiles of the training part -> text model -> a vector per user and per item (or a control without meaning)
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor

from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError, UnsupportedQueryError
from lexirec.files import sha256_file
from lexirec.models.answering import VectorRecommender
from lexirec.models.contract import Recommender
from lexirec.models.earlier import refuse_leaks, same_histories
from lexirec.models.reading import read_otherwise
from lexirec.models.textual import TextRecommender, read_written
from lexirec.query import Query
from lexirec.text.cache import CacheWarning, default_folder
from lexirec.text.plain_writer import VERSION
from lexirec.training.checkpoint import load_tensors, save_tensors
from lexirec.training.options import TrainingOptions

BLOCK = 4096
"""Users encoded at a time."""
RANDOM_DIM = 384
"""Dimension of random vectors, the bundled encoder's."""


def semantic_vectors(train: TrainSet, config: Any, rng: np.random.Generator) -> Tensor:
    """Vectors of the users, then of the items, ``(U + I, D)`` float32.

    Args:
        train: the training part; nothing else is read, so held-out events can't reach a text.
        config: with ``vectors``, ``encoder``, ``profiles``, ``item_text`` and ``control``, as :class:`~lexirec.models.rlmrec.RLMRecConfig`.
        rng: of the controls.

    Raises:
        InputError: if the run folder holds no model that reads texts, or one that has seen what may be held out here, or vectors are not
            finite.
    """
    n_users, n_items = train.n_users, train.n_items
    if config.control == "random":
        return F.normalize(torch.from_numpy(rng.standard_normal((n_users + n_items, RANDOM_DIM), dtype=np.float32)), dim=1)
    users, items = _of_encoder(train, config) if config.vectors is None else _of_run(train, Path(config.vectors), config)
    found = torch.cat([users, items])
    if not torch.isfinite(found).all():
        at = int(torch.nonzero(~torch.isfinite(found).all(1))[0])
        who = f"user_id {train.users.ids[at]!r}" if at < n_users else f"item_id {train.item_map.ids[at - n_users]!r}"
        raise InputError(f"the text vector of {who} holds NaN or infinity; a text model must give finite vectors")
    if config.control == "shuffled":
        order = np.concatenate([rng.permutation(n_users), n_users + rng.permutation(n_items)])
        found = found[torch.from_numpy(order)]
    return found


def _of_encoder(train: TrainSet, config: Any) -> tuple[Tensor, Tensor]:
    from lexirec.models.zero_shot import ZeroShot

    model = ZeroShot(encoder=config.encoder, profiles=config.profiles, item_text=config.item_text or "profile", versions=0)
    model.fit(train, options=TrainingOptions(progress=False))
    return _vectors(model, train)


def _of_run(train: TrainSet, folder: Path, config: Any) -> tuple[Tensor, Tensor]:
    """Vectors by a saved model, which may be told how to read items and people; kept on disk, since five seeds ask for the same ones."""
    from lexirec.models import load_model

    item_text = config.item_text

    model = load_model(folder)
    if not model.vector_scores or not (model.supports.profile or model.supports.intent):
        raise InputError(f"{folder} holds {model.name}, which reads no texts of people; give the run of a text model such as easyrec")
    refuse_leaks(f"vectors = {str(folder)!r}", model, train)
    if item_text is not None:
        read_otherwise(model, item_text)
    if config.profiles:
        read_written(model, config.profiles, train)
    anew = item_text is not None or bool(config.profiles) or not same_histories(model, train)
    read = model.on_another(train).profiles if anew and isinstance(model, TextRecommender) else ()
    records = [sha256_file(Path(place) / "profiles.json") for place in read]  # which hold the hashes of the other files
    # Equal weights read a text otherwise by other settings (read_length), and on another machine in another precision.
    reads = model.reads_by() if isinstance(model, VectorRecommender) and (anew or isinstance(model, TextRecommender)) else ""
    settings = model.config.model_dump(mode="json")
    depends = [sha256_file(folder / "model.safetensors"), train.content_hash, item_text, VERSION, records, settings, reads]
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    path = default_folder() / "semantic" / f"{key}.safetensors"
    found = _kept(path)
    if found is not None:
        return found
    if anew:
        try:
            model = model.transfer(train)
        except UnsupportedQueryError as error:
            raise InputError(f"{folder} holds {model.name}, trained on other data, and {error}") from error
    users, items = _vectors(model, train)
    try:
        save_tensors(path, {"users": users, "items": items}, {"run": folder.name, "data": train.name})
    except OSError as error:
        warn(f"the vectors of {folder} aren't kept for the next training ({error}); set LEXIREC_CACHE to another folder", CacheWarning)
    return users, items


def _kept(path: Path) -> tuple[Tensor, Tensor] | None:
    """Vectors that were kept; none if there are none, or the file is damaged."""
    try:
        if not path.exists():
            return None
        tensors, _ = load_tensors(path)
        return tensors["users"], tensors["items"]
    except (InputError, KeyError, OSError) as error:
        warn(f"{path}: what was kept there is damaged and is made again ({error})", CacheWarning)
        return None


@torch.no_grad()
def _vectors(model: Recommender, train: TrainSet) -> tuple[Tensor, Tensor]:
    """Vectors of all users and items; a user without a training event, who has no text, gets the mean of the others."""
    items = model.encode_items().detach().float().cpu()
    known = np.flatnonzero(np.diff(train.offsets))
    users = torch.zeros(train.n_users, items.shape[1])
    ids = train.users.ids.to_list()
    for start in range(0, len(known), BLOCK):
        part = known[start : start + BLOCK]
        users[torch.from_numpy(part)] = model.encode_queries([Query(user_id=ids[at]) for at in part]).detach().float().cpu()
    if len(known) < train.n_users:
        silent = torch.ones(train.n_users, dtype=torch.bool).index_fill_(0, torch.from_numpy(known), False)
        users[silent] = users[torch.from_numpy(known)].mean(0)
    return users, items


__all__ = ["semantic_vectors"]
