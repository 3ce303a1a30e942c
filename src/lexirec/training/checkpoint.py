"""Checkpoints as safetensors and JSON: weights, optimiser state and where training stands."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lexirec.errors import InputError
from lexirec.files import as_umask_allows, atomic_file


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors with JSON metadata into one safetensors file, whole or not at all."""
    with atomic_file(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, {"json": json.dumps(metadata)})
        as_umask_allows(temporary)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        InputError: if the file is missing, truncated or of another kind.
    """
    return _read(path, with_tensors=True)


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = json.loads((handle.metadata() or {}).get("json", "{}"))
            return {name: handle.get_tensor(name) for name in handle.keys() if with_tensors}, metadata  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error}); train again or restore it") from error


def read_position(path: Path) -> dict[str, Any]:
    """The ``state`` of a checkpoint, without its tensors.

    Raises:
        InputError: if the file is missing or damaged.
    """
    return _read(path, with_tensors=False)[1]


def save_checkpoint(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Weights, optimiser state and ``state`` (JSON) in one file."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for index, entries in optimiser.state_dict()["state"].items():
        for name, value in entries.items():
            tensors[f"optimiser.{index}.{name}"] = torch.as_tensor(value)
    save_tensors(path, tensors, state)


def load_checkpoint(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer | None) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote and return its ``state``.

    Raises:
        InputError: if the file is damaged or belongs to a network of another shape.
    """
    tensors, state = load_tensors(path)
    try:
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    except RuntimeError as error:
        raise InputError(
            f"{path} belongs to a model with other settings ({error}); remove it or use the settings it was made with"
        ) from error
    if optimiser is not None:
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                entries.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})
    return state
