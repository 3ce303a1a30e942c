"""Search for settings by validation (optuna, extra ``tune``): resumable, the same budget for every model, the test part never read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lexirec import runs
from lexirec.errors import InputError, nearest, require
from lexirec.files import atomic_file
from lexirec.models import model_class
from lexirec.models.contract import ModelConfig

SPACES: dict[str, str] = {
    "lr": "log:0.0001:0.005",
    "tau": "0.08:0.3",
    "num_layers": "1,2,3,4",
    "reg": "log:0.00001:0.1",
    "weight_decay": "log:0.00000001:0.0001",
    "num_negs": "64,256,512",
}
"""Usual space of each setting; a model is searched over those that it has."""


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
) -> dict[str, Any]:
    """Run trials until the study has ``trials`` finished ones, and write the best settings as a configuration file.

    Args:
        model: name of the model.
        paths: data folders.
        trials: finished trials wanted in all.
        out: folder with ``study.db`` (every trial, so that the search resumes) and ``best.yaml``.
        space: ``key=low:high``, ``key=log:low:high`` or ``key=a,b,c``; if given, only these settings are searched.
        config_file: the fixed part, as for :func:`lexirec.runs.resolve`; the same for the next three.
        sets: see there.
        split: see there.
        seed: see there.

    Returns:
        ``finished``, ``monitor``, ``best_value``, ``best_settings``, ``config``.
    """
    optuna = require("optuna", "tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out = Path(out)
    base = runs.resolve(model, paths, config_file=config_file, sets=sets, split=split, seed=seed)
    config_class = model_class(model).Config
    chosen = _space(config_class, space)
    parts = runs.load_parts(base.paths, base.data)
    if parts.valid is None:
        raise InputError(f"{parts.name}: the split {base.data['split']!r} has no validation part, and tuning looks at nothing else")
    options = runs.parse_options(base.training).model_copy(update={"mask_seen": parts.mask_seen})
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=f"{model} {parts.train.content_hash[:12]}", storage=f"sqlite:///{out / 'study.db'}", direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=options.seed),
    )  # fmt: skip

    def objective(trial: Any) -> float:
        settings = {key: _suggest(trial, key, text) for key, text in chosen.items()}
        fitted = model_class(model)(config_class.parse({**base.config, **settings}))
        fitted.fit(parts.train, parts.valid, options)
        assert fitted.training_result is not None  # noqa: S101 (there is a validation part)
        trial.set_user_attr("best_epoch", fitted.training_result.best_epoch)
        trial.set_user_attr("seconds", fitted.training_result.seconds)
        return float(fitted.training_result.best_value or 0.0)

    def finished() -> int:
        return len(study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))

    while finished() < trials:
        study.optimize(objective, n_trials=1)
    best = study.best_trial
    document = {
        "model": model,
        "variant": "tuned",
        "config": {**base.config, **best.params},
        "training": dict(base.training),
        "data": dict(base.data),
    }
    with atomic_file(out / "best.yaml") as temporary:
        header = (
            f"# Best of {finished()} trials by {options.monitor} on validation ({best.value:.5f}, epoch {best.user_attrs['best_epoch']}).\n"
        )
        temporary.write_text(header + yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return {
        "finished": finished(),
        "monitor": options.monitor,
        "best_value": best.value,
        "best_settings": best.params,
        "config": str(out / "best.yaml"),
    }


def _space(config_class: type[ModelConfig], given: Sequence[str]) -> dict[str, str]:
    """Settings to search, with their ranges as text."""
    if not given:
        found = {key: text for key, text in SPACES.items() if key in config_class.model_fields}
        if not found:
            raise InputError(
                f"{config_class.__name__} has no setting to search; give --space key=low:high for one of"
                f" {', '.join(config_class.model_fields)}"
            )
        return found
    out = {}
    for text in given:
        key, sign, values = text.partition("=")
        if not sign or key not in config_class.model_fields:
            raise InputError(
                f"--space {text!r}: write key=low:high, key=log:low:high or key=a,b,c with a setting of the"
                f" model{nearest(key, config_class.model_fields)}"
            )
        out[key] = values
    return out


def _suggest(trial: Any, key: str, text: str) -> Any:
    if ":" not in text:
        return trial.suggest_categorical(key, [yaml.safe_load(value) for value in text.split(",")])
    bounds = text.removeprefix("log:").split(":")
    try:
        low, high = (float(bound) for bound in bounds)
    except ValueError as error:
        raise InputError(f"--space {key}={text}: {error}; write low:high or log:low:high with two numbers") from error
    return trial.suggest_float(key, low, high, log=text.startswith("log:"))
