"""Run folders: one experiment from a resolved configuration to a folder that is whole or absent.

While a run trains, everything is in ``RUN.partial`` (resumable); when all files are written, it is renamed to ``RUN``.
"""

import platform
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml

from lexirec import columns as c
from lexirec.data.dataset import Dataset, Heldout, Split, TrainSet, mix
from lexirec.data.messages import warn
from lexirec.data.readers import read_dataset
from lexirec.data.splits import split_dataset
from lexirec.errors import InputError, RunFolderError, nearest
from lexirec.evaluation.evaluate import Evaluation, evaluate
from lexirec.evaluation.groups import GroupRules
from lexirec.evaluation.popularity import by_popularity
from lexirec.files import atomic_file, atomic_folder, read_json, replace_folder, sha256_file, storing, write_json
from lexirec.models import load_model, model_class
from lexirec.models.contract import Recommender
from lexirec.models.saving import read_config
from lexirec.progress import showing
from lexirec.settings import parse_set, parse_settings
from lexirec.training.checkpoint import read_position
from lexirec.training.options import TrainingOptions

PACKAGES = ("lexirec", "torch", "numpy", "polars", "transformers", "sentence-transformers", "scipy")
DATA_KEYS = {
    "split": "How events are held out: ratio, ratio-at-least-one, random-433, leave-one-out, temporal, cold-items, given[:FILE], all.",
    "split_options": "Options of the split, such as {seed: 1} or {test_from: 2018-06-30}.",
    "catalogue": "all, or interacted: only items with an event are ranked.",
    "min_rating": "Events rated lower are left out.",
    "k_core": "Least number of events of users and items, iterated; or {user: 5, item: 5, mode: single-pass}.",
    "duplicates": "Repeated user-item pairs: all, first, last, error, consecutive, consecutive-exact or exact.",
    "mask_seen": "Whether items that a user has already are left out of the ranking (CALRec: no).",
}
"""What can be set about the data, and what it means."""


@dataclass(frozen=True)
class Experiment:
    """A resolved experiment: what ``config.yaml`` of a run holds.

    Attributes:
        model: name of the model.
        config: the model's settings.
        training: training options (without folder and resume).
        data: ``split`` with ``split_options``, how the log is read and filtered (``catalogue``, ``min_rating``, ``k_core``,
        ``duplicates``), and ``mask_seen``: whether items that a user has already are left out of the ranking (CALRec: no).
        paths: data folders; several are mixed as blocks.
        variant: free label, part of the name of published results.
    """

    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    variant: str = ""

    def document(self) -> dict[str, Any]:
        """As written to ``config.yaml``, without the model and its configuration."""
        out: dict[str, Any] = {"training": dict(self.training), "data": {**self.data, "paths": list(self.paths)}}
        return out | ({"variant": self.variant} if self.variant else {})


def read_experiment(path: str | Path) -> dict[str, Any]:
    """A configuration file: YAML with any of ``model``, ``variant``, ``config``, ``training``, ``data``.

    Raises:
        InputError: if the file is missing, no YAML mapping, or has another key.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise InputError(f"there is no configuration file {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    known = ("model", "variant", "config", "training", "data")
    if not isinstance(document, dict):
        raise InputError(f"{path} holds a {type(document).__name__}, not a mapping with {', '.join(known)}")
    for key in document:
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}{nearest(str(key), known)}; a configuration has {', '.join(known)}")
    return document


def resolve(
    model: str,
    paths: Sequence[str | Path],
    *,
    config_file: str | Path | None = None,
    sets: Sequence[str] = (),
    split: str | None = None,
    seed: int | None = None,
) -> Experiment:
    """Put defaults, a configuration file and ``key=value`` settings together and check every key and value.

    Args:
        model: name of the model.
        paths: data folders.
        config_file: see :func:`read_experiment`.
        sets: ``key=value`` strings; the key is a model setting, a training option or ``data.<key>``; the value is read as YAML.
        split: name of the split; over the file's.
        seed: over the file's.

    Raises:
        InputError: for unknown keys (nearest offered) and bad values.
    """
    document = read_experiment(config_file) if config_file else {}
    if document.get("model", model) != model:
        raise InputError(f"{config_file} is for {document['model']!r}, and {model!r} was asked for")
    config_class = model_class(model).Config
    config, training, data = (dict(document.get(part) or {}) for part in ("config", "training", "data"))
    for setting in sets:
        key, value = parse_set(setting)
        if key.startswith("data."):
            data[key.removeprefix("data.")] = value
        elif key in config_class.model_fields:
            config[key] = value
        elif "." in key and key.split(".")[0] in config_class.model_fields:  # a setting within a setting, such as scft.epochs
            head, _, inner = key.partition(".")
            present = config.get(head)
            config[head] = {**(present if isinstance(present, Mapping) else {}), inner: value}
        elif key in TrainingOptions.model_fields:
            training[key] = value
        else:
            known = [*config_class.model_fields, *TrainingOptions.model_fields, *(f"data.{k}" for k in DATA_KEYS)]
            raise InputError(
                f"--set {key}: neither {model} nor the training has this setting{nearest(key, known)}; there are {', '.join(known)}"
            )
    if split is not None:
        data["split"] = split
    data.setdefault("split", "leave-one-out")
    for key in data:
        if key not in DATA_KEYS:
            raise InputError(f"data.{key}: unknown{nearest(key, DATA_KEYS)}; there are {', '.join(DATA_KEYS)}")
    _check_data(data)
    if "mask_seen" in training:
        raise InputError("mask_seen belongs to the protocol; write data.mask_seen")
    if seed is not None:
        training["seed"] = seed
    parsed = config_class.parse(config)
    options = parse_options(training)
    chosen = options.model_dump(mode="json", exclude={"folder", "resume", "progress", "mask_seen"})
    return Experiment(model, parsed.model_dump(mode="json"), chosen, data, tuple(str(p) for p in paths), str(document.get("variant", "")))


def _check_data(data: Mapping[str, Any]) -> None:
    """Types of the ``data`` part's values; readers, filters and splits check what they mean.

    Raises:
        InputError: for a value of another type.
    """

    def whole(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    core = data.get("k_core")
    kinds = {"user": whole, "item": whole, "mode": lambda v: isinstance(v, str), "keep_items": lambda v: isinstance(v, bool)}
    fits = {
        "split": (isinstance(data["split"], str), "the name of a split, such as leave-one-out"),
        "split_options": (isinstance(data.get("split_options") or {}, Mapping), "options by name, such as {seed: 1}"),
        "catalogue": (data.get("catalogue") in (None, "all", "interacted"), "all or interacted"),
        "min_rating": (isinstance(data.get("min_rating") or 0, (int, float)), "a number"),
        "duplicates": (isinstance(data.get("duplicates") or "", str), "a rule, such as first"),
        "mask_seen": (isinstance(data.get("mask_seen", True), bool), "true or false"),
        "k_core": (
            all(name in kinds and kinds[name](v) for name, v in core.items()) if isinstance(core, Mapping) else core is None or whole(core),
            "a whole number, such as 5, or {user: 5, item: 10, mode: iterated}",
        ),
    }
    for key, (fine, form) in fits.items():
        if not fine:
            raise InputError(f"data.{key} = {data[key]!r}; write {form}")


def parse_options(settings: Mapping[str, Any]) -> TrainingOptions:
    """Training options from a mapping.

    Raises:
        InputError: for an unknown option (nearest offered) or a bad value.
    """
    return parse_settings(TrainingOptions, settings, "there is no training option")


@dataclass(frozen=True)
class Parts:
    """What an experiment trains and tests on."""

    train: TrainSet
    valid: Heldout | None
    test: Heldout | None
    name: str
    protocol: str
    mask_seen: bool = True
    later: tuple[Heldout, ...] = ()
    """Validation and test parts, those of a mix included, in the index space of ``train``: for :meth:`Recommender.know_later` alone."""


def load_parts(paths: Sequence[str], data: Mapping[str, Any]) -> Parts:
    """Read, filter and split one data set, or several as blocks (no common test part then: evaluate on each or on another one).

    Raises:
        InputError: as the readers and splits do.
    """
    if not paths:
        raise InputError("no data was given; use --data DIR")
    splits = [_split_of(path, data) for path in paths]
    if len(splits) == 1:
        only = splits[0]
        valid, test = (part if len(part) else None for part in (only.valid, only.test))
        return Parts(only.train, valid, test, only.train.name, only.name, data.get("mask_seen", True), (only.valid, only.test))
    train, valid = mix([(s.train, s.valid if len(s.valid) else None) for s in splits], "+".join(s.train.name for s in splits))
    later = [
        Heldout((part.user_index + user).astype(np.int32), (part.item_index + item).astype(np.int32), part.name)
        for split, user, item in zip(splits, train.user_domains[:-1], train.item_domains[:-1], strict=True)
        for part in (split.valid, split.test)
    ]
    return Parts(train, valid, None, train.name, splits[0].name, data.get("mask_seen", True), tuple(later))


def _split_of(path: str, data: Mapping[str, Any]) -> Split:
    name, _, split_file = str(data["split"]).partition(":")
    dataset = read_dataset(path, split_file=split_file or None, catalogue=data.get("catalogue"))
    dataset = _filtered(dataset, data)
    return split_dataset(dataset, name, **(data.get("split_options") or {}))


def _filtered(dataset: Dataset, data: Mapping[str, Any]) -> Dataset:
    from lexirec.data import filters

    if data.get("min_rating") is not None:
        dataset = filters.filter_rating(dataset, data["min_rating"])
    if data.get("duplicates") is not None:
        dataset = filters.drop_duplicates(dataset, data["duplicates"])
    if data.get("k_core") is not None:
        core = data["k_core"]
        dataset = filters.k_core(dataset, **core) if isinstance(core, Mapping) else filters.k_core(dataset, core, core)
    return dataset


def fit_run(experiment: Experiment, out: str | Path, *, resume: bool = False, progress: bool = True, command: str | None = None) -> Path:
    """Train, test and write a run folder.

    Args:
        experiment: from :func:`resolve`.
        out: the run folder; must not exist, but for ``resume``.
        resume: go on from ``OUT.partial``, perhaps with other ``epochs``, ``patience`` or ``max_minutes``, or with a finished run that its
            ``max_minutes`` ended and now gets more; it stays as it is until the longer one is whole.
        progress: progress on stderr.
        command: for the record; the present command line if not given.

    Returns:
        ``out``.

    Raises:
        InputError: if ``out`` exists, or ``OUT.partial`` belongs to another experiment or exists without ``resume``.
    """
    out = Path(out)
    partial = out.with_name(out.name + ".partial")
    if out.exists() and not resume:
        raise InputError(f"{out} exists already; choose another folder or remove it")
    document = {"model": experiment.model, "config": dict(experiment.config), **experiment.document()}
    for leftover in partial.glob("*.tmp-*") if partial.exists() else ():  # of a command that was killed while it began
        leftover.unlink()
    if partial.exists() and not any(partial.iterdir()):
        partial.rmdir()
    if partial.exists():
        if not resume:
            raise InputError(f"{partial} holds an unfinished run; go on with --resume, or remove it")
        _check_resumable(partial, document)
    elif out.exists():
        _reopen(out, partial, document)
    parts = load_parts(experiment.paths, experiment.data)
    options = parse_options(experiment.training).model_copy(
        update={"folder": partial, "resume": resume, "progress": progress, "mask_seen": parts.mask_seen}
    )
    _fit_into(partial, experiment, parts, options, document, command)
    with storing(out):
        replace_folder(partial, out)
    return out


def _fit_into(
    partial: Path, experiment: Experiment, parts: "Parts", options: TrainingOptions, document: Mapping[str, Any], command: str | None
) -> None:
    """Train, test and write all files of a run."""
    model = model_class(experiment.model)(model_class(experiment.model).Config.parse(experiment.config))
    begun = partial.exists()
    with storing(partial):
        partial.mkdir(parents=True, exist_ok=True)
    with atomic_file(partial / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    started = time.perf_counter()
    try:
        model.fit(parts.train, parts.valid, options)
    except InputError:
        # Refused before anything was learned: the corrected command must not meet a folder that it can neither resume nor replace.
        if not begun and not any((partial / name).exists() for name in ("checkpoints", *_stages(partial))):
            shutil.rmtree(partial)
        raise
    with showing(options.progress):
        result = result_entry(model, parts, options, time.perf_counter() - started)
        evaluation = measure(model, parts) if parts.test is not None else None
    result |= {"command": command or own_command(), "protocol_split": experiment.data["split"], "dataset": parts.name}
    model.know_later(parts.later)
    with storing(partial):
        write_run(partial, model, result, evaluation, experiment.document(), parts.train)


LIMIT = "training.max_minutes"
"""No part of what a run is, while it can go on."""
ENDS = (LIMIT, "training.epochs", "training.patience")
"""What decides when a training ends; the loop refuses other ``epochs`` where the learning rate depends on them."""


def _check_resumable(partial: Path, document: Mapping[str, Any]) -> None:
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


def _trained_on_the_way(folder: Path) -> list[str]:
    """Models in a run's folder that were trained for it and are whole: they had its epochs and its patience."""
    return [inner.name for inner in sorted(folder.iterdir()) if (inner / "config.yaml").exists()]


def _other_settings(folder: Path, document: Mapping[str, Any], but: Sequence[str] = ()) -> list[str]:
    """Names of the settings, such as ``config.lr``, in which a folder's experiment is another."""
    before, differing = read_config(folder), []
    for part, new in document.items():
        old = before.get(part)
        if old == new:
            continue
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)] if isinstance(old, dict) and isinstance(new, dict) else [""]
        differing += [f"{part}.{key}".rstrip(".") for key in keys]
    return [name for name in differing if name not in but]


def _reopen(out: Path, partial: Path, document: Mapping[str, Any]) -> None:
    """Lay out what a run needs to go on that its time limit ended."""
    differing = _other_settings(out, document, (LIMIT,) if _trained_on_the_way(out) or (out / "stage-2").exists() else ENDS)
    if differing:
        raise InputError(f"{out} holds a run with other settings ({', '.join(differing)}); choose another folder or remove it")
    stopped, limit = read_json(out / "result.json").get("stopped"), document["training"].get("max_minutes")
    if stopped != "max_minutes":
        raise InputError(f"{out} holds a finished run (ended by {stopped or 'its model'}): there is nothing to go on with")
    before = read_config(out)["training"]["max_minutes"]
    if limit is not None and limit <= before:
        raise InputError(f"{out} ended at its max_minutes = {before:g} and now has {limit:g}; raise it, or set it to null")
    with atomic_folder(partial) as temporary:
        # Models trained on the way, too. There is no checkpoint yet where the limit fell into the first epoch.
        for folder in out.iterdir():
            if folder.name == "checkpoints" or (folder / "config.yaml").exists():
                shutil.copytree(folder, temporary / folder.name)
        for name in ("config.yaml", "metrics.jsonl"):
            shutil.copy2(out / name, temporary / name)


def same_experiment(folder: Path, experiment: Experiment) -> None:
    """Check that a finished run was made with these settings.

    Raises:
        InputError: naming the settings that differ.
    """
    document = {"model": experiment.model, "config": dict(experiment.config), **experiment.document()}
    differing = _other_settings(folder, document)
    if differing:
        raise InputError(f"{folder} holds a run with other settings ({', '.join(differing)}); choose another --out, or remove that folder")


def _stages(partial: Path) -> list[str]:
    """Folders of stages before the training that have checkpoints."""
    return [folder.name for folder in partial.iterdir() if (folder / "checkpoints").exists()]


def measure(
    model: Recommender,
    parts: Parts,
    *,
    on_valid: bool = False,
    groups: GroupRules | None = None,
    sampled: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Evaluate on the test part (validation items masked too) or on the validation part.

    Args:
        model: a fitted model.
        parts: the data.
        on_valid: the validation part, full ranking, no groups.
        groups: cuts of the groups; 80/20 by default.
        sampled: rank among this many random items instead, as LLMEmb's harness does: repeats are ranked too.
        seed: of the random items.
        progress: a bar on stderr.
    """
    if on_valid:
        assert parts.valid is not None  # noqa: S101 (the caller looked)
        with showing(progress):
            return evaluate(model, parts.train, parts.valid, mask_seen=parts.mask_seen)
    if parts.test is None:
        raise no_test_part(parts)
    seen = () if parts.valid is None else (parts.valid,)
    with showing(progress):
        return evaluate(
            model, parts.train, parts.test, seen=seen, groups=groups or GroupRules(), sampled=sampled,
            mask_seen=parts.mask_seen and sampled is None, seed=seed,
        )  # fmt: skip


def no_test_part(parts: Parts) -> InputError:
    """The error where there is nothing to test on."""
    if parts.train.n_domains > 1:
        return InputError(f"{parts.name}: several data sets have no common test part; name one, of these or another, with --data DIR")
    return InputError(
        f"{parts.name}: the split {parts.protocol!r} leaves no test part; name other data with --data DIR, or a --split that has one"
    )


def result_entry(model: Recommender, parts: Parts, options: TrainingOptions, seconds: float) -> dict[str, Any]:
    """One element of ``runs`` in a published result, without the test values."""
    training = model.training_result
    entry: dict[str, Any] = {"seed": options.seed, "best_epoch": training.best_epoch if training else 0}
    if parts.valid is not None and parts.train.n_domains == 1 and not model.samples_validation:
        entry["valid"] = measure(model, parts, on_valid=True).metrics
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


def with_test(entry: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """Add an evaluation's values under the names of the published schema."""
    return {
        **entry,
        "test": evaluation.metrics,
        "test_optimistic": evaluation.optimistic,
        "test_pessimistic": evaluation.pessimistic,
        "groups": evaluation.groups,
        "group_sizes": evaluation.group_sizes,
        "users": evaluation.n_users,
        "repeat_targets": evaluation.repeat_targets,
        "protocol": evaluation.protocol,
        "evaluation_seconds": round(evaluation.seconds, 3),
    }


GROUP_METRICS = ("recall@20", "ndcg@20", "hr@10", "ndcg@10")
"""Metrics kept per user inside the groups, for paired tests on them."""


def group_table(evaluation: Evaluation) -> pl.DataFrame:
    """``group``, ``user_id`` and the :data:`GROUP_METRICS` of each user in it: what ``per_group.parquet`` holds."""
    tables = []
    for name in evaluation.inside:
        table = evaluation.of_group(name)
        kept = [key for key in table.columns[1:] if key.split(" ")[0] in GROUP_METRICS]
        tables.append(table.select(pl.lit(name).alias("group"), c.USER_ID, *kept))
    return pl.concat(tables) if tables else pl.DataFrame(schema={"group": pl.String, c.USER_ID: pl.String})


def write_run(
    folder: Path,
    model: Recommender,
    result: Mapping[str, Any],
    evaluation: Evaluation | None,
    extra: Mapping[str, Any],
    train: TrainSet,
) -> None:
    """Write a run's files into ``folder`` and the manifest last; ``train`` is what was ranked over."""
    model.save_files(folder, extra)
    if evaluation is not None:
        evaluation.per_user.write_parquet(folder / "per_user.parquet")
        group_table(evaluation).write_parquet(folder / "per_group.parquet")
        by_popularity(evaluation, train).write_parquet(folder / "by_popularity.parquet")
        result = with_test(result, evaluation)
    write_json(folder / "result.json", result)
    (folder / "metrics.jsonl").touch()
    write_manifest(folder)


def write_manifest(folder: Path) -> None:
    """``manifest.json``: SHA-256 of every other file of the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    write_json(folder / "manifest.json", {p.relative_to(folder).as_posix(): sha256_file(p) for p in files})


def verify_run(folder: str | Path) -> Path:
    """Check that a folder is a whole run and that no file changed since it was written.

    Raises:
        RunFolderError: if it is no run folder, or a file is missing or differs from its hash.
    """
    folder = Path(folder)
    if not folder.is_dir():
        partial = folder.with_name(folder.name + ".partial")
        hint = f"; {partial} holds an unfinished run: go on with lexirec fit ... --resume" if partial.exists() else ""
        raise RunFolderError(f"there is no run folder {folder}{hint}")
    if not (folder / "manifest.json").exists():
        raise RunFolderError(f"{folder} has no manifest.json; it is not a run folder of lexirec, or it is incomplete")
    manifest = read_json(folder / "manifest.json")
    if not isinstance(manifest, dict):
        raise RunFolderError(f"{folder}/manifest.json is no table of files; the folder is damaged")
    for name, expected in manifest.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RunFolderError(f"{folder}/manifest.json names {name!r}, which lies outside the folder; the folder was tampered with")
        if not path.is_file():
            raise RunFolderError(f"{folder}: {name} is missing; the folder is incomplete, copy it again or train again")
        if sha256_file(path) != expected:
            raise RunFolderError(f"{folder}: {name} is not the file that was written (its SHA-256 differs); copy it again or train again")
    return folder


def load_run(folder: str | Path) -> tuple[Recommender, dict[str, Any], dict[str, Any]]:
    """A verified run: the model, ``config.yaml`` and ``result.json``."""
    folder = verify_run(folder)
    return load_model(folder), read_config(folder), read_json(folder / "result.json")


def evaluate_run(
    folder: str | Path, paths: Sequence[str] = (), split: str | None = None, **options: Any
) -> tuple[dict[str, Any], Evaluation]:
    """As :func:`retest`, without the training set."""
    entry, evaluation, _ = retest(folder, paths, split, **options)
    return entry, evaluation


def retest(
    folder: str | Path,
    paths: Sequence[str] = (),
    split: str | None = None,
    *,
    groups: GroupRules | None = None,
    sampled: int | None = None,
    seed: int = 0,
    text: str | None = None,
    progress: bool = True,
) -> tuple[dict[str, Any], Evaluation, TrainSet]:
    """Evaluate a run on its own data, or on another data set without training (zero-shot, for models that can).

    Args:
        folder: the run.
        paths: other data.
        split: another split.
        groups: cuts of the groups.
        sampled: see :func:`measure`.
        seed: of the random items.
        text: how the items of other data are read, as the model's setting of that kind says it; as in training by default.
        progress: a bar on stderr.

    Raises:
        InputError: for ``text`` without other data, or with a model that reads no text.

    Returns:
        A ``runs`` entry of the published schema with ``zero_shot`` (bool), the evaluation, and the training set that was ranked over.
    """
    model, document, result = load_run(folder)
    data = dict(document["data"])
    own = [str(path) for path in data.pop("paths")]
    if split is not None:
        data["split"] = split
    parts = load_parts([str(path) for path in paths] or own, data)
    other = parts.train.content_hash != result["data_hash"]
    zero_shot = other and not _trained_on(model, parts, own=not paths)
    if text is not None:
        if not other:
            raise InputError(f"{folder} reads its own items as it was trained to; an own text needs another data set (--data DIR)")
        read_otherwise(model, text)
    if other:
        model = model.transfer(parts.train)
    evaluation = measure(model, parts, groups=groups, sampled=sampled, seed=seed, progress=progress)
    keep: dict[str, Any] = {
        k: result[k] for k in ("seed", "best_epoch", "valid", "seconds", "peak_memory_mb", "device", "versions") if k in result
    }
    entry = with_test(keep, evaluation) | {
        "zero_shot": zero_shot,
        "dataset": parts.name,
        "data_hash": parts.train.content_hash,
        "split": data["split"],
    }
    return entry | ({} if text is None else {"text": text}), evaluation, parts.train


def read_otherwise(model: Recommender, text: str) -> None:
    """Let a loaded model read the items of the data that it is transferred to next in another way than those it was trained on.

    Args:
        model: its settings are changed.
        text: what its setting ``text`` (or ``item_text``) takes, such as ``"title,year,categories"``.

    Raises:
        InputError: for a model that reads no text of items.
    """
    name = next((name for name in ("text", "item_text") if name in type(model.config).model_fields), None)
    if name is None:
        raise InputError(f"{model.name} reads no text of items; leave --text out")
    model.config = type(model.config).parse({**model.config.model_dump(), name: text})


LEAKED = 0.01
"""Share of the test events seen in training from which an evaluation is refused; copies of a few events in two published sets are told."""


def _trained_on(model: Recommender, parts: Parts, own: bool) -> bool:
    """Whether the run was trained on events of this data set, under its own ids or as a part of a mix.

    Raises:
        InputError: if test events are among them.
    """
    trained: list[pl.DataFrame] = []
    owners = np.repeat(np.arange(len(model.users)), np.diff(model.history_offsets))
    learned = pl.DataFrame({c.USER_ID: model.users.name(owners), c.ITEM_ID: model.item_map.name(model.history_items)})
    prefix = f"{parts.name}/"
    if len(model.users) and "/" in model.users.ids[0]:
        mine = learned.filter(pl.col(c.USER_ID).str.starts_with(prefix) & pl.col(c.ITEM_ID).str.starts_with(prefix))
        trained.append(mine.select(pl.all().str.strip_prefix(prefix)))
    trained.append(learned)
    both = pl.concat(trained).unique()
    users, items = parts.train.users, parts.train.items[c.ITEM_ID]
    if parts.test is not None and len(parts.test):
        asked = pl.DataFrame({c.USER_ID: users.name(parts.test.user_index), c.ITEM_ID: items.gather(parts.test.item_index)})
        seen = asked.join(both, on=[c.USER_ID, c.ITEM_ID], how="semi").height
        if seen >= LEAKED * asked.height:
            raise InputError(
                f"{seen:,} of {asked.height:,} test events of {parts.name} were in the run's training part; evaluate it with the split that"
                f" it was trained with{'' if own else ', or on other data'}"
            )
        if seen:
            warn(f"{seen:,} of {asked.height:,} test events of {parts.name} were in the run's training part under the same ids")
    here = parts.train.interactions.select(c.USER_ID, c.ITEM_ID)
    return here.join(both, on=[c.USER_ID, c.ITEM_ID], how="semi").height > LEAKED * here.height


def versions() -> dict[str, str]:
    """Versions of Python and the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """``"2 CPU threads"`` or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"


def peak_memory_mb() -> int:
    """Peak resident memory of this process so far, in MB; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1 << 20) if sys.platform == "darwin" else peak / 1024)


def own_command() -> str:
    """The present command line with paths shortened to their last part, so that results can be published."""
    words = [Path(sys.argv[0]).name if sys.argv else "lexirec", *sys.argv[1:]]
    return shlex.join([Path(w).name if Path(w).is_absolute() or w.startswith("..") else w for w in words])


def remove_checkpoints(folder: str | Path) -> None:
    """Delete a finished run's checkpoints and renew its manifest."""
    shutil.rmtree(Path(folder) / "checkpoints", ignore_errors=True)
    write_manifest(Path(folder))
