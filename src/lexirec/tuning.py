"""Search for settings by validation (optuna, extra ``tune``): resumable, the same budget for every model, the test part never read."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from pydantic import ValidationError

from lexirec import runs
from lexirec.data.messages import warn
from lexirec.errors import InputError, NonFiniteLossError, nearest, require
from lexirec.files import atomic_file
from lexirec.models import model_class
from lexirec.models.contract import ModelConfig
from lexirec.settings import parse_set

SPACES: dict[str, str] = {
    "lr": "log:0.0001:0.005",
    "tau": "0.08:0.3",
    "num_layers": "1,2,3,4",
    "reg": "log:0.00001:0.1",
    "weight_decay": "log:0.00000001:0.0001",
    "num_negs": "64,256,512",
    "transform": "none,center,whiten",
    "projector": "mlp,linear",
}
"""Usual space of each setting. A model is searched over those that its other settings make it read, see :func:`default_space`."""
SAMPLING = ("infonce", "softmax", "gbce")
"""Losses that compare a positive with many sampled items at once."""
HOW = ("device", "threads", "folder", "resume", "track", "progress")
"""Training options that don't change what a trial finds, beyond rounding."""


def tune_model(
    model: str,
    paths: Sequence[str | Path],
    trials: int,
    out: str | Path,
    *,
    space: Sequence[str] = (),
    config_file: str | Path | None = None,
    sets: Sequence[str] = (),
    split: str | None = None,
    seed: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run trials until the study has ``trials`` finished ones, and write the best settings as a configuration file.

    Args:
        model: name of the model.
        paths: data folders.
        trials: trials wanted in all; one whose loss was not finite counts, as the worst.
        out: folder with ``study.db`` (every trial, so that the search resumes), ``trials.csv`` (the same to read, best first) and
            ``best.yaml``.
        space: ``key=low:high``, ``key=log:low:high`` or ``key=a,b,c``; if given, only these settings are searched, else
            :func:`default_space` without what ``sets`` fixes.
        config_file: the fixed part, as for :func:`lexirec.runs.resolve`; the same for the next three.
        sets: see there.
        split: see there.
        seed: see there.
        tell: given a line for each trial that ends.

    Returns:
        ``finished``, ``monitor``, ``best_value``, ``best_settings``, ``config``.

    Raises:
        InputError: for a bad space, if the study in ``out`` was made with other fixed settings, another monitor or another space, or if no
            trial of it had a finite loss.
    """
    optuna = require("optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out = Path(out)
    base = runs.resolve(model, paths, config_file=config_file, sets=sets, split=split, seed=seed)
    config_class = model_class(model).Config
    fixed = config_class.parse(base.config)
    chosen = given_space(fixed, space) if space else default_space(fixed, skip=[parse_set(text)[0] for text in sets])
    parts = runs.load_parts(base.paths, base.data)
    if parts.valid is None:
        raise InputError(f"{parts.name}: the split {base.data['split']!r} has no validation part, and tuning looks at nothing else")
    options = runs.parse_options(base.training).model_copy(update={"mask_seen": parts.mask_seen})
    out.mkdir(parents=True, exist_ok=True)
    name, storage = f"{model} {parts.train.content_hash[:12]}", f"sqlite:///{out / 'study.db'}"
    others = [other for other in optuna.get_all_study_names(storage) if other != name]
    if others:
        raise InputError(f"{out / 'study.db'} holds the search {others[0]!r} (model and data), and this is {name!r}; choose another --out")
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    _same_study(study, fixed, options.model_dump(mode="json", exclude=set(HOW)), base.data, chosen, out)

    def config_of(settings: Mapping[str, Any]) -> ModelConfig:
        # What one searched setting makes meaningless (tau with loss=bpr) is left out, and defaults that follow from another are its own.
        return config_class.taken_from({**base.given, **settings})

    def objective(trial: Any) -> float:
        settings = {key: searched.suggest(trial, key) for key, searched in chosen.items()}
        try:
            fitted = model_class(model)(config_of(settings))
        except InputError as error:  # settings that don't go together
            raise optuna.TrialPruned from error
        try:
            fitted.fit(parts.train, parts.valid, options)
        except NonFiniteLossError as error:  # part of the answer: these settings are no good
            warn(f"trial {trial.number} ({', '.join(f'{key}={value}' for key, value in settings.items())}): {error}")
            raise optuna.TrialPruned from error
        assert fitted.training_result is not None  # noqa: S101 (there is a validation part)
        trial.set_user_attr("best_epoch", fitted.training_result.best_epoch)
        trial.set_user_attr("seconds", fitted.training_result.seconds)
        return float(fitted.training_result.best_value or 0.0)

    def count(*states: str) -> int:
        return len(study.get_trials(deepcopy=False, states=[getattr(optuna.trial.TrialState, state) for state in states]))

    # A sampler seeded alike in each session would propose the same settings again.
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + len(study.get_trials(deepcopy=False)))
    while count("COMPLETE", "PRUNED") < trials:
        study.optimize(objective, n_trials=1)
        table = _trials(study, options.monitor)
        with atomic_file(out / "trials.csv") as temporary:
            table.write_csv(temporary)
        if tell is not None:
            last = table.filter(pl.col("trial") == table["trial"].max()).row(0, named=True)
            value = "left out" if last[options.monitor] is None else f"{options.monitor} {last[options.monitor]:.4f}"
            said = ", ".join(f"{key}={shown}" for key, shown in last.items() if key in chosen and shown is not None)
            tell(f"trial {last['trial']}: {value} ({said})")
    finished = count("COMPLETE", "PRUNED")
    if not count("COMPLETE"):
        raise InputError(
            f"none of {finished} trials had settings that go together and a finite loss; raise tau, or search smaller values of lr in"
            " another study (--space lr=log:0.00001:0.001 --out OTHER)"
        )
    best = study.best_trial
    config = config_of(best.params)
    document = {
        "model": model,
        "variant": "tuned",
        "config": config.model_dump(mode="json"),
        "training": dict(base.training),
        "data": dict(base.data),
    }
    with atomic_file(out / "best.yaml") as temporary:
        header = (
            f"# Best of {finished} trials by {options.monitor} on validation ({best.value:.5f}, epoch {best.user_attrs['best_epoch']}).\n"
        )
        temporary.write_text(header + yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return {
        "finished": finished,
        "monitor": options.monitor,
        "best_value": best.value,
        "best_settings": {key: value for key, value in best.params.items() if key not in config.unread()},
        "config": str(out / "best.yaml"),
    }


def _trials(study: Any, monitor: str) -> pl.DataFrame:
    """The trials so far, best first: ``trial``, the monitor (null where it was left out), ``best_epoch``, ``seconds``, and the settings."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    rows = [
        {
            "trial": trial.number,
            monitor: trial.value,
            "best_epoch": trial.user_attrs.get("best_epoch"),
            "seconds": trial.user_attrs.get("seconds"),
            **trial.params,
        }
        for trial in done
    ]
    return pl.DataFrame(rows, infer_schema_length=None, strict=False).sort(monitor, descending=True, nulls_last=True)


@dataclass(frozen=True)
class Range:
    """Values of one setting to search.

    Attributes:
        text: as written, ``low:high``, ``log:low:high`` or ``a,b,c``.
        choices: the values of a list; empty for a range.
        low, high: ends of a range.
        log: whether the range is searched by its logarithm.
        whole: whether only whole numbers are meant.
    """

    text: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @classmethod
    def parse(cls, key: str, text: str, whole: bool = False) -> "Range":
        """Read a range.

        Raises:
            InputError: if it is none.

        >>> Range.parse("lr", "log:0.001:0.1").high
        0.1
        """
        place = f"--space {key}={text}"
        if ":" not in text:
            try:
                return cls(text, choices=tuple(parse_set(f"{key}={value}")[1] for value in text.split(",")))
            except InputError as error:
                raise InputError(f"{place}: {error}") from error
        log = text.startswith("log:")
        try:
            low, high = (float(bound) for bound in text.removeprefix("log:").split(":"))
        except ValueError as error:
            raise InputError(f"{place}: {error}; write low:high or log:low:high with two numbers") from error
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"{place}: low must be below high, and both finite; write low:high with the smaller number first")
        if log and low <= 0:
            raise InputError(f"{place}: {low:g} has no logarithm; start above 0, or write {key}={low:g}:{high:g}")
        if whole and not (low.is_integer() and high.is_integer()):
            raise InputError(f"{place}: {key} is a whole number; write whole bounds")
        return cls(text, (), low, high, log, whole)

    def ends(self) -> tuple[Any, ...]:
        """The choices, or both ends."""
        return self.choices or tuple(int(end) if self.whole else end for end in (self.low, self.high))

    def suggest(self, trial: Any, key: str) -> Any:
        """A value for a trial."""
        if self.choices:
            return trial.suggest_categorical(key, self.choices)
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)


def default_space(config: ModelConfig, skip: Sequence[str] = ()) -> dict[str, Range]:
    """The usual space of a model: the settings of :data:`SPACES` that its configuration reads, without those in ``skip``.

    A range is widened to hold the configuration's own value with room on its other side.

    Raises:
        InputError: if there is nothing to search.
    """
    found = {}
    for key, text in SPACES.items():
        if key in skip or not _reads(config, key):
            continue
        usual, own = Range.parse(key, text), getattr(config, key)
        if usual.choices and own not in usual.choices:
            text = ",".join(str(choice) for choice in sorted({*usual.choices, own}))
        elif not usual.choices and 0 < own < usual.low:
            text = f"log:{own / 3:g}:{usual.high:g}"
        elif not usual.choices and own > usual.high:
            text = f"log:{usual.low:g}:{own * 3:g}"
        found[key] = Range.parse(key, text)
    if not found:
        kind, settings = type(config).__name__, ", ".join(type(config).model_fields)
        raise InputError(
            f"{kind} has no setting to search; give --space key=low:high for one of {settings}"
            if settings
            else "this model has no setting to search, since it has none"
        )
    return found


def _reads(config: ModelConfig, key: str) -> bool:
    """Whether a setting means anything beside the others; one that is ``None`` is left to the model."""
    value, loss = getattr(config, key, None), getattr(config, "loss", None)
    if value is None:
        return False
    if key == "projector":  # what belongs to one of them only is not given
        return bool(getattr(config, "hidden", "half") == "half" and not getattr(config, "linear_bias", False))
    if key == "transform":
        return hasattr(config, "projector")  # elsewhere it is tied to other settings
    if key == "num_layers":
        return bool(value > 0)  # 0: a model without layers, such as mf-bpr
    if key == "tau":
        # A temperature of unit vectors; sequential models score by inner products unless told to take the cosine.
        return loss != "bpr" and bool(getattr(config, "cosine", True))
    if key == "num_negs":
        return getattr(config, "negatives", "shared") in ("per-sample", "shared") and (value > 1 if loss is None else loss in SAMPLING)
    return True


def given_space(config: ModelConfig, given: Sequence[str]) -> dict[str, Range]:
    """The space that is written out.

    Raises:
        InputError: for an unknown setting, a bad range, or a value that the model refuses.
    """
    out: dict[str, Range] = {}
    known = type(config).model_fields
    for text in given:
        key, sign, values = text.partition("=")
        if not sign or key not in known:
            raise InputError(
                f"--space {text!r}: write key=low:high, key=log:low:high or key=a,b,c with a setting of the model{nearest(key, known)}"
            )
        own = getattr(config, key)
        out[key] = Range.parse(key, values, whole=isinstance(own, int) and not isinstance(own, bool))
        for value in out[key].ends():
            try:
                type(config).parse({key: value})
            except InputError as error:
                if isinstance(error.__cause__, ValidationError) and error.__cause__.errors()[0]["loc"]:  # no rule about several settings
                    raise InputError(f"--space {text!r}: {error}") from error
    return out


def _same_study(
    study: Any, fixed: ModelConfig, training: Mapping[str, Any], data: Mapping[str, Any], space: Mapping[str, Range], out: Path
) -> None:
    """Write into a new study what its trials have in common; refuse to go on with one that has something else in common."""
    config = {key: value for key, value in fixed.model_dump(mode="json").items() if key not in space}
    searched = {key: values.text for key, values in space.items()}
    groups = {"": config, "training.": training, "data.": data, "--space ": searched}
    wanted = {prefix + key: value for prefix, group in groups.items() for key, value in group.items()}
    wanted = json.loads(json.dumps(wanted, default=str))
    if not study.get_trials(deepcopy=False):
        study.set_user_attr("fixed", wanted)
        return
    there = study.user_attrs.get("fixed")
    if there is None:
        raise InputError(f"{out / 'study.db'} does not say which settings its trials had in common; choose another --out")
    for key in sorted({*there, *wanted}):
        if there.get(key) != wanted.get(key):
            raise InputError(
                f"the trials of {out / 'study.db'} had {key} = {there.get(key)!r} and now it is {wanted.get(key)!r}, so their values can't"
                " be compared; use the same settings, or another --out"
            )
