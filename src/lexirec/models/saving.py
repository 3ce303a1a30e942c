"""How a model is written and read: safetensors, JSON, YAML and Parquet; reading runs no code."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
import yaml
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.ids import IdMap
from lexirec.errors import RunFolderError
from lexirec.files import read_json, sha256_file, write_json
from lexirec.training.checkpoint import load_tensors, save_tensors

if TYPE_CHECKING:
    from lexirec.models.contract import Recommender

FILES = ("config.yaml", "model.safetensors", "items.parquet", "history.parquet", "later.parquet")
"""Of a saved model, as far as loading reads them."""
FORMAT = 1
"""Version of the saved form; a loader for the previous one is kept when it changes."""


def write_model(model: "Recommender", folder: Path, extra: Mapping[str, Any]) -> None:
    """Write a model's files into an existing folder; ``extra`` is added to ``config.yaml``."""
    tensors, values = model.state()
    weights = {f"network.{name}": value for name, value in model.network.state_dict().items()}
    borders = {} if model.borders is None else {"borders": [border.tolist() for border in model.borders]}
    arrays = {"popularity": torch.from_numpy(model.popularity), **{f"state.{name}": value for name, value in tensors.items()}}
    save_tensors(folder / "model.safetensors", {**weights, **arrays}, {"format": FORMAT, "model": model.name, "values": values, **borders})
    if model.vector_scores:
        vectors = {"items": model.encode_items()}
        users = model.user_vectors()
        if users is not None:
            vectors["users"] = users
        save_tensors(folder / "vectors.safetensors", vectors, {})
    model.items.write_parquet(folder / "items.parquet")
    # A row per user, those without an event included: row u of the user vectors is row u of this file.
    _lists(model, model.history_offsets, model.history_items).write_parquet(folder / "history.parquet")
    if model.later is not None:
        _lists(model, *model.later).write_parquet(folder / "later.parquet")
    document = {"model": model.name, "config": model.config.model_dump(mode="json"), **extra}
    (folder / "config.yaml").write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _lists(model: "Recommender", offsets: NDArray[np.int64], items: NDArray[np.int32]) -> pl.DataFrame:
    """``user_id`` and ``item_ids`` (oldest first), a row per user."""
    everybody = np.arange(len(model.users))
    owners = np.repeat(everybody, np.diff(offsets))
    events = pl.DataFrame({"owner": owners, c.ITEM_IDS: model.item_map.name(items)}).group_by("owner", maintain_order=True).all()
    rows = pl.DataFrame({"owner": everybody, c.USER_ID: model.users.ids}).join(events, on="owner", how="left", maintain_order="left")
    return rows.select(c.USER_ID, pl.col(c.ITEM_IDS).fill_null([]))


def _positions(model: "Recommender", lists: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Offsets and item positions of what :func:`_lists` gave."""
    lengths = lists[c.ITEM_IDS].list.len().to_numpy()
    items = model.item_map.index(lists[c.ITEM_IDS].explode().drop_nulls()).astype(np.int32)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items


def write_manifest(folder: Path, but: str = "") -> None:
    """``manifest.json``: SHA-256 of every other file of the folder, less one folder in it."""
    own = folder / "manifest.json"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != own and p.relative_to(folder).parts[0] != but)
    write_json(folder / "manifest.json", {p.relative_to(folder).as_posix(): sha256_file(p) for p in files})


def verify_files(folder: Path, among: Callable[[str], bool] = lambda name: True) -> None:
    """Check the files that ``manifest.json`` names, or some of them.

    Raises:
        RunFolderError: if the manifest is damaged, or a file is missing, differs from its hash or lies outside the folder.
    """
    try:
        manifest = read_json(folder / "manifest.json")
    except ValueError as error:
        raise RunFolderError(f"{folder}/manifest.json is damaged ({error}); copy the folder again or train again") from error
    if not isinstance(manifest, dict):
        raise RunFolderError(f"{folder}/manifest.json is no table of files; the folder is damaged")
    for name, expected in manifest.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RunFolderError(f"{folder}/manifest.json names {name!r}, which lies outside the folder; the folder was tampered with")
        if not among(name):
            continue
        if not path.is_file():
            raise RunFolderError(f"{folder}: {name} is missing; the folder is incomplete, copy it again or train again")
        if sha256_file(path) != expected:
            raise RunFolderError(f"{folder}: {name} is not the file that was written (its SHA-256 differs); copy it again or train again")


def read_model(kind: "type[Recommender]", folder: Path) -> "Recommender":
    """Read what :func:`write_model` wrote.

    Raises:
        RunFolderError: if the folder is not one of this model's, a file in it is damaged, or the model's ``restore`` makes another network
            than was saved.
    """
    document = read_config(folder)
    if (folder / "manifest.json").exists():  # the model's own files: a run's checkpoints, which may be large, are not read here
        verify_files(folder, lambda name: name in FILES)
    model = kind(kind.Config.parse(document["config"]))
    tensors, metadata = load_tensors(folder / "model.safetensors")
    found = (metadata.get("model"), metadata.get("format"))
    if found != (kind.name, FORMAT):
        raise RunFolderError(f"{folder}: model.safetensors holds {found[0]!r} in format {found[1]}, not {kind.name!r} in format {FORMAT}")
    try:
        model.items = pl.read_parquet(folder / "items.parquet")
        history = pl.read_parquet(folder / "history.parquet")
        # Runs of earlier versions and models without a split have no such file.
        later = pl.read_parquet(folder / "later.parquet") if (folder / "later.parquet").exists() else None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunFolderError(f"{folder}: items.parquet, history.parquet or later.parquet is missing or damaged ({error})") from error
    model.item_map, model.users = IdMap(model.items[c.ITEM_ID]), IdMap(history[c.USER_ID])
    model.history_offsets, model.history_items = _positions(model, history)
    model.later = None if later is None else _positions(model, later)
    model.popularity = tensors["popularity"].numpy()
    # Of a mix of data sets; runs of earlier versions have none.
    borders = metadata.get("borders")
    model.borders = (np.array(borders[0], dtype=np.int64), np.array(borders[1], dtype=np.int64)) if borders else None
    model.restore({k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}, metadata["values"])
    try:
        model.network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    except RuntimeError as error:
        differences = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise RunFolderError(
            f"{folder}: the network that restore() of {kind.__name__} makes does not fit the weights saved by {kind.name!r}"
            f" ({differences.rstrip('. ')}); make the network in restore() as in build(): the weights are whole, and the folder can"
            " then be read"
        ) from error
    model.network.eval()
    model.refresh()
    return model


def read_config(folder: Path) -> dict[str, Any]:
    """``config.yaml`` of a saved model.

    Raises:
        RunFolderError: if it is missing or not what :meth:`Recommender.save` writes.
    """
    try:
        document = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "has no config.yaml" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise RunFolderError(f"{folder} {what}; it is not a run folder of lexirec") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{folder / 'config.yaml'} is damaged ({error})") from error
    if not isinstance(document, dict) or "model" not in document or "config" not in document:
        raise RunFolderError(f"{folder / 'config.yaml'} names no model; it is not a run folder of lexirec")
    return document
