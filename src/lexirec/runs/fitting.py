"""One experiment, from a resolved configuration to a run folder that is whole or absent."""

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lexirec.data.messages import warn
from lexirec.errors import InputError, StorageError
from lexirec.evaluation.evaluate import Evaluation, evaluate
from lexirec.files import atomic_file, replace_folder, storing, write_json
from lexirec.models import model_class
from lexirec.models.contract import Recommender
from lexirec.models.popularity import Popularity
from lexirec.progress import showing
from lexirec.runs.evaluating import diagnosed, measure
from lexirec.runs.experiment import Experiment, Parts, load_parts, parse_options
from lexirec.runs.folder import write_run
from lexirec.runs.machine import device_name, own_command, peak_memory_mb, versions
from lexirec.runs.resuming import DATA, check_resumable, check_same_data, reopen
from lexirec.training.loop import cpu_threads, pick_device
from lexirec.training.options import TrainingOptions

LOCK = ".lock"
"""End of the name of the file beside a run that the process which trains it holds."""


def fit_run(experiment: Experiment, out: str | Path, *, resume: bool = False, progress: bool = True, command: str | None = None) -> Path:
    """Train, test and write a run folder.

    Args:
        experiment: from :func:`resolve`.
        out: the run folder; must not exist, but for ``resume``.
        resume: go on from ``OUT.partial``, perhaps with other ``epochs``, ``patience`` or ``max_minutes``, or with a finished run that one
            of these ended and that now gets more of it; it stays as it is until the longer one is whole.
        progress: progress on stderr.
        command: for the record; the present command line if not given.

    Returns:
        ``out``.

    Raises:
        InputError: if ``out`` exists, or ``OUT.partial`` belongs to another experiment or exists without ``resume``. If a launcher started
            several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("several processes can't write one run folder; call model.fit(...) in each and save in the first, or start one")
    out = Path(out)
    with held(out):
        return _fit_held(experiment, out, resume, progress, command or own_command())


def _fit_held(experiment: Experiment, out: Path, resume: bool, progress: bool, command: str) -> Path:
    """:func:`fit_run` in the one process that may write there."""
    partial = out.with_name(out.name + ".partial")
    if out.exists() and not resume:
        raise InputError(f"{out} exists already; choose another folder or remove it")
    document = experiment.whole()
    for leftover in sorted(partial.rglob("*.tmp-*")) if partial.exists() else ():  # of a command that was killed while it wrote
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    if partial.exists() and not any(partial.iterdir()):
        partial.rmdir()
    if partial.exists():
        if not resume:
            raise InputError(f"{partial} holds an unfinished run; go on with --resume, or remove it")
        check_resumable(partial, document)
    elif out.exists():
        reopen(out, partial, document)
    options = parse_options(experiment.training)
    pick_device(options.device)  # one that is not here is refused before a folder is made
    parts = load_parts(experiment.paths, experiment.data)
    check_same_data(partial, parts.train.content_hash)
    options = options.model_copy(update={"folder": partial, "resume": resume, "progress": progress, "mask_seen": parts.mask_seen})
    fit_parts(partial, experiment, parts, options, command)
    with storing(out):
        replace_folder(partial, out)
    return out


def fit_parts(
    folder: Path, experiment: Experiment, parts: Parts, options: TrainingOptions, command: str, notes: Mapping[str, Any] | None = None
) -> tuple[Recommender, Evaluation | None]:
    """Train on data at hand, test, and write all files of a run into ``folder``.

    Args:
        folder: where they go, what a resumed training needs among them; see :func:`held`.
        experiment: what ``config.yaml`` says of it.
        parts: the data.
        options: of the training; ``folder`` among them.
        command: for the record.
        notes: further entries of ``result.json``.

    Returns:
        The model and its evaluation on the test part, ``None`` where there is none.

    Raises:
        InputError: as the model does; what it refuses before it has learned anything leaves no folder.
        StorageError: if the files can't be written.
    """
    model = model_class(experiment.model)(model_class(experiment.model).Config.parse(experiment.config))
    begun = folder.exists()
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(experiment.whole(), sort_keys=False, allow_unicode=True), encoding="utf-8")
    write_json(folder / DATA, {"data_hash": parts.train.content_hash})
    started = time.perf_counter()
    with cpu_threads(options.threads):
        try:
            model.fit(parts.train, parts.valid, options)
        except InputError:
            # Refused before anything was learned: the corrected command must not meet a folder that it can neither resume nor replace.
            if not begun and not any((folder / name).exists() for name in ("checkpoints", *_stages(folder))):
                shutil.rmtree(folder)
            raise
        with showing(options.progress):
            result = result_entry(model, parts, options, time.perf_counter() - started)
            evaluation = measure(model, parts, metrics=_own_metric(options)) if parts.test is not None else None
        result |= {"command": command, "protocol_split": experiment.data["split"], "dataset": parts.name, **(notes or {})}
        result |= diagnosed(model, parts, options.progress)
        _beside_popularity(model, parts, options, result)
    model.know_later(parts.later)
    with storing(folder):
        (folder / DATA).unlink()
        write_run(folder, model, result, evaluation, experiment.document(), parts.train)
    return model, evaluation


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a run's place for this process, from the first look at it until the run stands there.

    Raises:
        InputError: if another process holds it.
        StorageError: if the lock can't be written.
    """
    made = not out.parent.exists()
    lock = FileLock(out.with_name(out.name + LOCK))
    try:
        with storing(out):
            if out.parent.exists() and not out.parent.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(out.parent))
            out.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout as error:
        if not Path(lock.lock_file).exists():  # nobody holds it: the place takes no files
            raise StorageError(errno.EACCES, f"{out} can't be written: no file may be made there; choose another place") from error
        raise InputError(f"{out} is being trained by another process; wait for it, or choose another folder") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held, so that no other's is taken away
        lock.release()
        if made and not any(out.parent.iterdir()):  # refused before anything was written
            out.parent.rmdir()


def _stages(partial: Path) -> list[str]:
    """Folders of stages before the training that have checkpoints."""
    return [folder.name for folder in partial.iterdir() if (folder / "checkpoints").exists()]


def _own_metric(options: TrainingOptions) -> list[str]:
    """The metric that selects the epoch, where it is one of rankings (CALRec can select by its loss)."""
    return [] if options.monitor.startswith("-") else [options.monitor]


def _beside_popularity(model: Recommender, parts: Parts, options: TrainingOptions, entry: Mapping[str, Any]) -> None:
    """Say where a training ended before it had learned more than what is popular: a baseline in a table must have been trained."""
    value = entry.get("valid", {}).get(options.monitor)
    if model.training_result is None or parts.valid is None or parts.train.n_domains > 1 or model.samples_validation or value is None:
        return
    popular = Popularity().fit(parts.train)
    with showing(options.progress):
        found = evaluate(popular, parts.train, parts.valid, metrics=[options.monitor], mask_seen=parts.mask_seen, beyond=False)
    counted = found.metrics[options.monitor]
    if value <= counted:
        warn(
            f"{model.name} is no better on the validation part than popularity ({options.monitor} {value:.4f}, popularity {counted:.4f}):"
            f" it has learned nothing of people by epoch {entry['best_epoch']}; raise epochs or patience (--resume), or lr"
        )


def result_entry(model: Recommender, parts: Parts, options: TrainingOptions, seconds: float) -> dict[str, Any]:
    """One element of ``runs`` in a published result, without the test values."""
    training = model.training_result
    entry: dict[str, Any] = {"seed": options.seed, "best_epoch": training.best_epoch if training else 0}
    if parts.valid is not None and parts.train.n_domains == 1 and not model.samples_validation:
        entry["valid"] = measure(model, parts, on_valid=True, metrics=_own_metric(options)).metrics
    elif training and training.history:
        best = [line for line in training.history if line["epoch"] == training.best_epoch]
        entry["valid"] = {k: v for k, v in best[0].items() if k not in ("epoch", "loss", "seconds")} if best else {}
    entry |= {
        "seconds": round(training.seconds if training else seconds, 2),
        "fit_seconds": round(seconds, 2),
        "epoch_seconds": round(training.epoch_seconds, 3) if training else 0.0,
        "stopped": training.stopped if training else "",
        "peak_memory_mb": peak_memory_mb(),
        "device": device_name(model.device),
        "versions": versions(),
        "data_hash": parts.train.content_hash,
    }
    return entry
