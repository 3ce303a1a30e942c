"""Logs of a training: ``metrics.jsonl`` always, TensorBoard and MLflow on request (extra ``track``)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lexirec.errors import InputError, require


class Tracker(Protocol):
    """Receives numbers as training goes on."""

    def log(self, values: Mapping[str, float], step: int) -> None: ...
    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        require("tensorboard", "track")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class _Mlflow:
    """Logs to the server named by ``MLFLOW_TRACKING_URI``, else to files in the run folder; starts no server."""

    def __init__(self, folder: Path) -> None:
        import os

        mlflow = require("mlflow", "track")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            # Files need no database library; newer releases ask for this word before they write them.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            mlflow.set_tracking_uri((folder / "mlruns").absolute().as_uri())
        self.mlflow: Any = mlflow
        mlflow.set_experiment("lexirec")
        mlflow.start_run(run_name=folder.name)

    def log(self, values: Mapping[str, float], step: int) -> None:
        # MLflow allows no "@" in names.
        self.mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in values.items()}, step=step)

    def close(self) -> None:
        self.mlflow.end_run()


def open_trackers(names: Sequence[str], folder: Path | None) -> list[Tracker]:
    """The trackers named in ``names``.

    Raises:
        InputError: if trackers are asked for without a folder.
        MissingExtraError: if the library is not installed.
    """
    if names and folder is None:
        raise InputError(f"track={list(names)} needs a folder to write to; set folder=...")
    kinds: dict[str, Any] = {"tensorboard": _TensorBoard, "mlflow": _Mlflow}
    return [kinds[name](folder) for name in names]


def append_line(folder: Path | None, entry: Mapping[str, Any]) -> None:
    """Add one line to ``metrics.jsonl``; a line is written by one call, so a kill leaves at most one partial last line."""
    if folder is not None:
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a ``metrics.jsonl``; a partial last line (a kill while writing) is left out."""
    if not path.exists():
        return []
    out = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return out
