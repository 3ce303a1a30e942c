"""Going on with a run: what may change, and what a finished one is laid out with whose end is put off."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lexirec.errors import InputError
from lexirec.files import atomic_folder, read_json, write_json
from lexirec.models.saving import read_config
from lexirec.models.stages import KEPT
from lexirec.runs.experiment import Experiment
from lexirec.training.checkpoint import read_position

DATA = "data.json"
"""Of an unfinished run: the hash of what it is trained on; a finished one has it in its result."""
LIMIT = "training.max_minutes"
"""No part of what a run is, while it can go on."""
ENDS = (LIMIT, "training.epochs", "training.patience")
"""What decides when a training ends; the loop refuses other ``epochs`` where the learning rate depends on them."""


def check_resumable(partial: Path, document: Mapping[str, Any]) -> None:
    """Check that an unfinished run can go on with these settings: its own, but for :data:`ENDS` as long as nothing hangs on them.

    Raises:
        InputError: naming the settings that differ and the epoch that its checkpoint stands at.
    """
    stages, second = _trained_on_the_way(partial), (partial / "stage-2").exists()
    differing = _other_settings(partial, document, () if second else (LIMIT,) if stages else ENDS)
    if not differing:
        return
    last = partial / "checkpoints" / "last.safetensors"
    stands = f"its checkpoint stands at epoch {read_position(last)['epoch']}" if last.exists() else "it has no checkpoint yet"
    why = ""
    if "config.epochs" in differing:
        why = "; the learning rate falls to 0 at the last of these epochs"
    elif set(differing) <= set(ENDS):
        why = f"; {'stage-2' if second else stages[0]} in it was trained with these"
    cure = "repeat the first command" + ("" if why or stages or second else " (only epochs, patience and max_minutes may change)")
    raise InputError(f"{partial} was made with other settings ({', '.join(differing)}{why}); {stands}: {cure}, or remove the folder")


def check_same_data(partial: Path, content_hash: str) -> None:
    """Check that an unfinished run goes on with the data that it began with: else it has been trained on what is held out now.

    Raises:
        InputError: if it doesn't.
    """
    began = read_json(partial / DATA)["data_hash"] if (partial / DATA).exists() else content_hash
    if began != content_hash:
        raise InputError(
            f"{partial} was trained on other data ({began[:12]}) than is there now ({content_hash[:12]}), so it may have seen what is held"
            " out now; train anew into another folder, or bring the data back"
        )


def _trained_on_the_way(folder: Path) -> list[str]:
    """Models that were trained for a run and are whole, be they in its folder or kept for others: they had its epochs and its patience."""
    kept = [path.name.removesuffix(KEPT) for path in sorted(folder.glob(f"*{KEPT}")) if read_json(path)["by_options"]]
    return [*[inner.name for inner in sorted(folder.iterdir()) if (inner / "config.yaml").exists()], *kept]


def _other_settings(folder: Path, document: Mapping[str, Any], but: Sequence[str] = ()) -> list[str]:
    """Names of the settings, such as ``config.lr``, in which a folder's experiment is another."""
    before, differing = read_config(folder), []
    if "paths" in before.get("data", {}):  # an older version kept them as they were typed
        before["data"]["paths"] = [str(Path(path).absolute()) for path in before["data"]["paths"]]
    for part, new in document.items():
        old = before.get(part)
        if old == new:
            continue
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)] if isinstance(old, dict) and isinstance(new, dict) else [""]
        differing += [f"{part}.{key}".rstrip(".") for key in keys]
    return [name for name in differing if name not in but]


def reopen(out: Path, partial: Path, document: Mapping[str, Any]) -> None:
    """Lay out what a finished run needs to go on: what ended it (``max_minutes``, ``epochs`` or ``patience``) must be raised.

    Raises:
        InputError: if it isn't, another setting differs, or the run has nothing to go on with.
    """
    differing = _other_settings(out, document, (LIMIT,) if _trained_on_the_way(out) or (out / "stage-2").exists() else ENDS)
    if differing:
        raise InputError(f"{out} holds a run with other settings ({', '.join(differing)}); choose another folder or remove it")
    stopped = read_json(out / "result.json").get("stopped")
    if f"training.{stopped}" not in ENDS:
        raise InputError(f"{out} holds a finished run (ended by {stopped or 'its model'}): there is nothing to go on with")
    before, now = read_config(out)["training"][stopped], document["training"][stopped]
    if now is not None and now <= before:
        null = ", or set it to null" if stopped == "max_minutes" else ""
        raise InputError(f"{out} ended at its {stopped} = {before:g} and now has {now:g}; raise it{null} to go on")
    with atomic_folder(partial) as temporary:
        # Models trained on the way, too. There is no checkpoint yet where the limit fell into the first epoch.
        for folder in out.iterdir():
            if folder.name == "checkpoints" or (folder / "config.yaml").exists():
                shutil.copytree(folder, temporary / folder.name)
        for path in (out / "config.yaml", out / "metrics.jsonl", *out.glob(f"*{KEPT}")):
            shutil.copy2(path, temporary / path.name)
        write_json(temporary / DATA, {"data_hash": read_json(out / "result.json")["data_hash"]})


def same_experiment(folder: Path, experiment: Experiment, content_hash: str) -> None:
    """Check that a finished run was made with these settings and on this data.

    Raises:
        InputError: naming the settings that differ.
    """
    document = experiment.whole()
    differing = _other_settings(folder, document)
    if differing:
        raise InputError(f"{folder} holds a run with other settings ({', '.join(differing)}); choose another --out, or remove that folder")
    if (before := read_json(folder / "result.json")["data_hash"]) != content_hash:
        raise InputError(
            f"{folder} was made on other data ({before[:12]}) than is there now ({content_hash[:12]}); choose another --out, or remove that"
            " folder"
        )
