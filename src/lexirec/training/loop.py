"""The one training loop that drives every model.

A model gives ``batches(train, rng)``, ``loss(batch)``, ``optimiser()`` and ``network``; it knows nothing of the loop. Batches are
drawn from a generator seeded by (seed, epoch), and weights, optimiser state and the best epoch are kept at each validation, so a
resumed run repeats the interrupted one bit for bit on the CPU. A time limit may end it within an epoch; checkpoints stand at whole epochs
only, so it goes on from the last of these.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError, LexirecError, NonFiniteLossError
from lexirec.files import atomic_file
from lexirec.progress import showing, track
from lexirec.training.checkpoint import load_checkpoint, read_position, save_checkpoint
from lexirec.training.gradients import gradients_are_finite
from lexirec.training.options import TrainingOptions
from lexirec.training.processes import Processes, check_shared
from lexirec.training.tracking import append_line, open_trackers, read_lines

MIN_DELTA = 0.0
"""A validation must be strictly better to count."""
SAVE_SECONDS = 60.0
"""A checkpoint is also written after an epoch if the last one is older than this."""
OUTCOME = ("seed", "precision", "clip_norm", "monitor", "eval_every", "mask_seen")
"""Options that the result depends on, beside how long the training is."""


class Trainable(Protocol):
    """What the loop asks of a model.

    It may have more: ``total_steps``, if its learning rate falls over a number of steps that ``epochs`` decides; ``culprits(batch)``, which
    says in words whose items or users are to blame for a loss or gradient that is no number; ``check_gradients()``, if it refuses such
    gradients itself; ``rate``, the name of its learning rate if that isn't ``lr``; ``stage``, what a progress bar calls its training;
    ``identity()``, its settings and data by name, JSON-able: a checkpoint of others is not gone on with.
    """

    network: nn.Module

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[Any]: ...
    def n_batches(self, train: TrainSet) -> int: ...
    def loss(self, batch: Any) -> Tensor: ...
    def optimiser(self) -> torch.optim.Optimizer: ...
    def refresh(self) -> None: ...


@dataclass
class TrainingResult:
    """How a training went.

    Attributes:
        best_epoch: epoch whose weights the model has (0: before training); an epoch that a time limit cut short counts as one.
        best_value: monitored value there; ``None`` if nothing was validated.
        history: a dictionary per validation: ``epoch``, ``loss``, ``seconds``, the validation metrics.
        seconds: wall seconds, those before a resume included.
        epoch_seconds: median wall seconds of a whole epoch, validation left out; 0 if none was whole.
        stopped: why it ended: ``"epochs"``, ``"patience"`` or ``"max_minutes"``.
    """

    best_epoch: int = 0
    best_value: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    stopped: str = "epochs"


def pick_device(name: str) -> torch.device:
    """The device named, or the best one present for ``"auto"``.

    Raises:
        InputError: if there is no such device here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, present in there.items() if present), "cpu")
    if not there.get(name, True):
        raise InputError(f"device = {name!r}: this torch finds none here; set device=auto or cpu, or install a build of torch for it")
    return torch.device(name)


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Keep torch to so many threads for a while; ``None`` leaves them as they are."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_training(
    model: Trainable, train: TrainSet, validate: Callable[[], Mapping[str, float]] | None, options: TrainingOptions
) -> TrainingResult:
    """Train ``model.network`` and leave it with the weights of the best epoch.

    Args:
        model: see :class:`Trainable`; its network is on the right device already.
        train: the training part.
        validate: gives the validation metrics of the model as it stands; ``None``: no validation, the last epoch counts.
        options: see :class:`TrainingOptions`.

    Raises:
        InputError: if a checkpoint can't be gone on with: it stands behind ``epochs``, the learning rate had another end, or settings or
            data were others. If several processes can't share the training.
        NonFiniteLossError: if the loss is not finite; the last checkpoint stays.
        KeyboardInterrupt: passed on; with ``options.folder`` the run can be resumed.
    """
    processes = Processes(next(model.network.parameters()).device)
    optimiser = model.optimiser()
    result = TrainingResult()
    folder = options.folder
    last = folder / "checkpoints" / "last.safetensors" if folder else None
    best_file = folder / "checkpoints" / "best.safetensors" if folder else None
    best: dict[str, Tensor] = {}
    waited, start_epoch, seconds_before, mean_loss, epoch_times = 0, 0, 0.0, 0.0, []
    total_steps = getattr(model, "total_steps", None)
    made_of = _made_of(model, options)
    cures = _cures(model, options)
    if processes.count > 1:
        check_shared(processes.count, model.n_batches(train), total_steps)

    def planned(epoch: int) -> bool:
        """Whether a validation stands there, however long the training is."""
        return validate is not None and epoch % options.eval_every == 0

    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    if options.resume and last and last.exists():
        _check_goes_on(last, options.epochs, total_steps, made_of)
        state = load_checkpoint(last, model.network, optimiser)
        start_epoch, waited, seconds_before = state["epoch"], state["waited"], state["seconds"]
        mean_loss = state.get("loss", 0.0)  # not in those of older versions
        result.best_epoch, result.best_value = state["best_epoch"], state["best_value"]
        # What came after the checkpoint, or where a training ended between two validations, will be written again.
        lines = read_lines(folder / "metrics.jsonl") if folder else []
        result.history = [line for line in lines if line["epoch"] <= start_epoch and planned(line["epoch"])]
        _rewrite_lines(options, result.history)
        if best_file and result.best_value is not None:
            if not (best_file.exists() and read_position(best_file)["epoch"] == result.best_epoch):
                # Killed between the two files. The last one is written first, so it holds the best weights.
                if result.best_epoch != start_epoch:
                    raise InputError(
                        f"{best_file} does not hold epoch {result.best_epoch}, the best one by {last.name}; remove {folder} and train anew"
                    )
                save_checkpoint(best_file, model.network, optimiser, {"epoch": start_epoch})
            best = _copy_of(model.network, best_file)
    elif folder:
        # One line alone may be of an end within the first epoch, which leaves no checkpoint.
        if options.resume and len(read_lines(folder / "metrics.jsonl")) > 1:
            warn(f"{folder} has validations and no checkpoints any more: the training begins anew")
        (folder / "metrics.jsonl").write_text("")
    started = last_saved = time.perf_counter()
    trackers = open_trackers(options.track, folder)
    steps = model.n_batches(train) // processes.count if options.progress else None

    def elapsed() -> float:
        return seconds_before + time.perf_counter() - started

    def out_of_time() -> bool:
        if options.max_minutes is None:
            return False
        # All processes must stop at the same step.
        return processes.mean(float(elapsed() > 60 * options.max_minutes)) > 0

    def save(epoch: int) -> None:
        nonlocal last_saved
        last_saved = time.perf_counter()
        if last is not None and processes.rank == 0:
            position = {
                "epoch": epoch,
                "waited": waited,
                "seconds": elapsed(),
                "loss": mean_loss,
                "best_epoch": result.best_epoch,
                "best_value": result.best_value,
                "total_steps": total_steps,
                "made_of": made_of,
            }
            save_checkpoint(last, model.network, optimiser, position)

    def look(epoch: int) -> bool:
        """Validate the present weights, write it down, and keep them in memory if they are the best so far."""
        nonlocal best
        entry: dict[str, Any] = {"epoch": epoch, "loss": mean_loss, "seconds": round(elapsed(), 3)}
        if validate is None:
            result.best_epoch = epoch
            append_line(folder, entry)
            return False
        model.refresh()
        with showing(options.progress):
            values = dict(validate())
        if options.monitor not in values:
            raise LexirecError(f"monitor {options.monitor!r} is not among the validation metrics {sorted(values)}")
        if not math.isfinite(values[options.monitor]):
            raise NonFiniteLossError(f"{options.monitor} is {values[options.monitor]} in the validation after epoch {epoch}; {cures}")
        entry |= {"seconds": round(elapsed(), 3), **values}
        result.history.append(entry)
        append_line(folder, entry)
        for tracker in trackers:
            tracker.log({k: float(v) for k, v in entry.items() if k != "epoch"}, epoch)
        if result.best_value is not None and not values[options.monitor] > result.best_value + MIN_DELTA:
            return False
        result.best_epoch, result.best_value = epoch, values[options.monitor]
        best = {name: value.detach().clone() for name, value in model.network.state_dict().items()}
        return True

    epoch, unseen = start_epoch, start_epoch > 0 and not planned(start_epoch)
    try:
        epochs = range(start_epoch + 1, options.epochs + 1)
        for epoch in track(epochs, f"{getattr(model, 'stage', 'training')} (epochs)", total=len(epochs), enabled=options.progress):
            if waited >= options.patience or (epoch > 1 and out_of_time()):
                # Ended before a resume, or between two epochs.
                result.stopped = "patience" if waited >= options.patience else "max_minutes"
                epoch -= 1
                break
            began = time.perf_counter()
            unseen = True
            mean_loss, whole = one_epoch(model, train, optimiser, processes, epoch, steps, out_of_time, options)
            refuse_lost(model.network, epoch, cures)
            if not whole:
                result.stopped = "max_minutes"
                break
            epoch_times.append(time.perf_counter() - began)
            if planned(epoch):
                unseen, better = False, look(epoch)
                waited = 0 if better else waited + 1
                save(epoch)
                if better and best_file is not None and processes.rank == 0:
                    save_checkpoint(best_file, model.network, optimiser, {"epoch": epoch})
            elif epoch == options.epochs or time.perf_counter() - last_saved > SAVE_SECONDS:
                save(epoch)
        if unseen:
            # Where a training ends between two validations its weights may be the best, but a longer one would not have looked here: no
            # checkpoint knows of it, so that going on gives the bits of a training that was never ended.
            look(epoch)
    finally:
        for tracker in trackers:
            tracker.close()
    if best:
        model.network.load_state_dict(best)
    result.seconds = elapsed()
    result.epoch_seconds = float(np.median(epoch_times)) if epoch_times else 0.0
    return result


def _made_of(model: Trainable, options: TrainingOptions) -> dict[str, Any]:
    """What a checkpoint must have been made of to be gone on with, by name."""
    identity = getattr(model, "identity", None)
    own: dict[str, Any] = json.loads(json.dumps(identity() if identity else {}))
    return {**own, **{name: getattr(options, name) for name in OUTCOME}}


def _cures(model: Trainable, options: TrainingOptions) -> str:
    """What may help where a training comes to NaN, and whether it is lost."""
    ways = [f"lower {getattr(model, 'rate', 'lr')}"]
    if getattr(getattr(model, "config", None), "tau", None) is not None:
        ways.append("raise tau")
    if options.precision != "fp32":
        ways.append("use precision='fp32'")
    cure = " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))
    return cure + (" (the last checkpoint is kept)" if options.folder else "")


def refuse_lost(network: nn.Module, epoch: int, cures: str) -> None:
    """Before anything is kept of an epoch: a step may overflow though its loss and its gradients were numbers.

    Raises:
        NonFiniteLossError: with the name of a weight that is lost.
    """
    for name, weight in network.named_parameters():
        # A sum is finite only where every value is; one that overflows by itself is looked at again.
        if not math.isfinite(weight.detach().sum().item()) and not bool(torch.isfinite(weight).all()):
            raise NonFiniteLossError(f"weights are NaN or infinite after epoch {epoch} ({name}); {cures}")


def refuse_gradients(model: Trainable, batch: Any, where: str, cures: str) -> None:
    """Before the weights are changed: a loss may be a number and its gradient none.

    A model with a ``check_gradients()`` looks itself, and tells in its own words.

    Raises:
        NonFiniteLossError: with the step and the items of the batch.
    """
    own = getattr(model, "check_gradients", None)
    if own is not None:
        own()
    elif not gradients_are_finite(model.network):
        raise NonFiniteLossError(f"a gradient is NaN or infinite in {where}{_culprits(model, batch)}; {cures}")


def _culprits(model: Trainable, batch: Any) -> str:
    """What a model says of a batch whose loss or gradient is no number."""
    culprits = getattr(model, "culprits", None)
    return f" ({culprits(batch)})" if culprits else ""


def one_epoch(
    model: Trainable,
    train: TrainSet,
    optimiser: torch.optim.Optimizer,
    processes: Processes,
    epoch: int,
    n_batches: int | None,
    out_of_time: Callable[[], bool],
    options: TrainingOptions,
) -> tuple[float, bool]:
    """One pass, of one step at least; returns the mean loss over its batches and whether it came to its end in time."""
    rng = np.random.default_rng([options.seed, epoch])
    torch.manual_seed((options.seed + processes.rank * 7_919) * 1_000_003 + epoch)  # each process has its own dropout
    model.network.train()
    total, steps, whole, cures = 0.0, 0, True, _cures(model, options)
    # Of several processes each takes every n-th batch and gradients are averaged: the effective batch is n times as large.
    batches = processes.share(model.batches(train, rng), lambda: model.n_batches(train))
    for batch in track(batches, f"epoch {epoch} (steps)", n_batches, options.progress and processes.rank == 0):
        if steps and out_of_time():
            whole = False
            break
        with torch.autocast(processes.device.type, dtype=torch.bfloat16, enabled=options.precision == "bf16"):
            loss = model.loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLossError(f"the loss is {value} in epoch {epoch}, step {steps + 1}{_culprits(model, batch)}; {cures}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(model.network)
        refuse_gradients(model, batch, f"epoch {epoch}, step {steps + 1}", cures)
        if options.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.network.parameters(), options.clip_norm)
        optimiser.step()
        total += value
        steps += 1
    return processes.mean(total / max(steps, 1)), whole


def _check_goes_on(last: Path, epochs: int, total_steps: int | None, made_of: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint where the result would not be that of an uninterrupted training.

    Raises:
        InputError: if it stands behind ``epochs``, the learning rate fell towards another end until there, or it was made of other
            settings or data (as far as both say; an older version's says nothing).
    """
    state = read_position(last)
    earlier: Mapping[str, Any] = state.get("made_of", {})
    differing = [name for name, value in made_of.items() if name in earlier and earlier[name] != value]
    if differing:
        raise InputError(
            f"{last} was made with other settings or data ({', '.join(differing)}); use those again, or begin another run in another folder"
        )
    if state["epoch"] > epochs:
        raise InputError(f"{last} stands at epoch {state['epoch']} and epochs = {epochs}; give at least as many, or begin another run")
    before = state.get("total_steps")
    if before is not None and before != total_steps:
        raise InputError(
            f"{last} stands at epoch {state['epoch']} of a training whose learning rate falls over {before:,} steps, and with these epochs"
            f" it would fall over {total_steps:,}; use the number of epochs that it was begun with, or begin another run"
        )


def _copy_of(network: nn.Module, path: Any) -> dict[str, Tensor]:
    """The weights in a checkpoint, without disturbing those in ``network``."""
    current = {name: value.detach().clone() for name, value in network.state_dict().items()}
    load_checkpoint(path, network, None)
    stored = {name: value.detach().clone() for name, value in network.state_dict().items()}
    network.load_state_dict(current)
    return stored


def _rewrite_lines(options: TrainingOptions, lines: list[dict[str, Any]]) -> None:
    if options.folder is not None:
        with atomic_file(options.folder / "metrics.jsonl") as temporary:
            temporary.write_text("")
            for line in lines:
                append_line_to(temporary, line)


def append_line_to(path: Any, entry: Mapping[str, Any]) -> None:
    """Add one JSON line to ``path``."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(entry) + "\n")
