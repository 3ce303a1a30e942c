"""Experiments: defaults, a configuration file and single settings put together and checked, and the data that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lexirec.data.dataset import Dataset, Heldout, Split, TrainSet
from lexirec.data.filters import interacted_only
from lexirec.data.mixing import mix
from lexirec.data.readers import read_dataset
from lexirec.data.splits import split_dataset
from lexirec.errors import InputError, nearest
from lexirec.models import model_class
from lexirec.models.config import LENIENT
from lexirec.settings import parse_set, parse_settings
from lexirec.training.options import TrainingOptions

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
        given: the model's settings that were written down; the others of ``config`` are defaults.
    """

    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    variant: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As written to ``config.yaml``, without the model and its configuration."""
        out: dict[str, Any] = {"training": dict(self.training), "data": {**self.data, "paths": list(self.paths)}}
        return out | ({"variant": self.variant} if self.variant else {})

    def whole(self) -> dict[str, Any]:
        """All of ``config.yaml``: what two runs of one experiment have in common."""
        return {"model": self.model, "config": dict(self.config), **self.document()}


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
        told = [value for key, value in map(parse_set, sets) if key == "data.split" and value != split]
        if told:
            raise InputError(f"--split {split} and --set data.split={told[-1]} name two splits; give one")
        data["split"] = split
    data.setdefault("split", "leave-one-out")
    data.pop("paths", None)  # of a run's own config.yaml: where the data lay then
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
    dumped, variant = parsed.model_dump(mode="json"), str(document.get("variant", ""))
    # Absolute, so that the run can be asked from anywhere.
    return Experiment(model, dumped, chosen, data, tuple(str(Path(p).absolute()) for p in paths), variant, given=config)


def read_by(model: str, config_file: str | Path | None, sets: Sequence[str]) -> list[str]:
    """Those of some settings that a model has and reads, beside its configuration file; the others are for other models.

    Args:
        model: name of the model.
        config_file: see :func:`read_experiment`.
        sets: ``key=value`` strings, see :func:`resolve`.
    """
    config_class = model_class(model).Config
    own = config_class.model_fields
    keys = {setting: parse_set(setting)[0].split(".")[0] for setting in sets}
    known = [setting for setting, head in keys.items() if head == "data" or head in own or head in TrainingOptions.model_fields]
    config = dict((read_experiment(config_file).get("config") if config_file else None) or {})
    config |= {key: value for key, value in map(parse_set, known) if key in own}
    token = LENIENT.set(True)
    try:
        unread = config_class.parse(config).unread()
    finally:
        LENIENT.reset(token)
    return [setting for setting in known if keys[setting] not in unread]


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
    catalogue = data.get("catalogue")
    dataset = _filtered(read_dataset(path, split_file=split_file or None, catalogue=catalogue), data)
    if catalogue == "interacted":  # again: filters leave items without an event
        dataset = interacted_only(dataset)
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
