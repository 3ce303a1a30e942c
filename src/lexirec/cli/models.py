"""``lexirec fit``, ``recommend`` and ``tune``."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[
    list[Path], typer.Option("--data", help="Folder with interactions and items; repeat it to train on several data sets at once.")
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML with model, config, training, data.")]
Sets = Annotated[list[str], typer.Option("--set", help="key=value: a model setting, a training option or data.<key>. Repeatable.")]
SplitName = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="ratio, ratio-at-least-one, random-433, leave-one-out, temporal, cold-items, given[:FILE], all. Default: leave-one-out, or"
        " what the run was trained with.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]


def fit(
    model: Annotated[str, typer.Argument(help="Name of the model; an unknown name lists them.")],
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="The run folder to write.")],
    config: Config = None,
    set_: Sets = [],  # noqa: B006 (typer reads the default)
    split: SplitName = None,
    seed: Seed = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run, or with a finished one that now has more of what ended it: epochs, patience, max_minutes.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model, test it and write a run folder."""
    from lexirec import runs

    experiment = runs.resolve(model, data, config_file=config, sets=set_, split=split, seed=seed)
    folder = runs.fit_run(experiment, out, resume=resume)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(result))
        return
    seconds = max(result["seconds"], result["fit_seconds"])  # stages before the training, and trainings before a resume, included
    print(f"{folder}: {_trained(result, experiment.training)}{seconds:,.1f} s")
    if "test" in result:
        shown = [name for name in ("recall@20", "ndcg@20", "hr@10", "ndcg@10") if name in result["test"]] or list(result["test"])
        print("test: " + ", ".join(f"{name} {result['test'][name]:.4f}" for name in shown) + f" (all metrics: {folder / 'result.json'})")
        if result["repeat_targets"]:
            repeats = f"{result['repeat_targets']:,} repeats of what they had are left out"
            print(f"{result['users']:,} users were asked; {repeats} (--set data.mask_seen=false ranks them)")
        if model != "popularity":
            own = [f"--data {shlex.quote(str(path))}" for path in data]
            own += [f"--set data.{key}={shlex.quote(_written(value))}" for key, value in experiment.data.items()]
            print(f"is that good? lexirec fit popularity {' '.join(own)} --out POPULAR; lexirec compare POPULAR {shlex.quote(str(folder))}")
    elif experiment.data["split"] == "all":
        print(f"all events were learned from and none is left to test on; ask it: lexirec recommend {folder} --users all --out FILE.csv")
    else:
        print("no test part: evaluate it with: lexirec evaluate " + str(folder) + " --data DIR")


def _trained(result: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """The best epoch and, where a limit ended the training, what may help; nothing of a model that is not trained."""
    best, stopped = result["best_epoch"], result["stopped"]
    if not stopped:
        return ""
    if not result.get("valid"):
        return f"{best} epochs, "
    if stopped == "max_minutes":
        return f"best epoch {best}, ended by max_minutes: more may be better (raise it, --resume), "
    if best and stopped == "epochs" and best == training["epochs"]:
        return f"best epoch {best}, the last one: more may be better (raise epochs, --resume), "
    return f"best epoch {best}, "


def _written(value: Any) -> str:
    """A setting as ``--set`` reads it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)  # YAML makes dates of what looks like one


def tune(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    data: Data,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trials in all, those of earlier calls included.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; an existing one is gone on with.")] = Path("tuning"),
    space: Annotated[
        list[str], typer.Option("--space", help="key=low:high, key=log:low:high or key=a,b,c; over the model's usual space. Repeatable.")
    ] = [],  # noqa: B006 (typer reads the default)
    config: Config = None,
    set_: Sets = [],  # noqa: B006 (typer reads the default)
    split: SplitName = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Search settings by validation (optuna, resumable); the test part is never looked at."""
    from lexirec.tuning import tune_model

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    study = tune_model(model, data, trials, out, space=space, config_file=config, sets=set_, split=split, seed=seed, tell=tell)
    if as_json:
        print(json.dumps(study))
        return
    print(f"{study['finished']} trials, best {study['monitor']} {study['best_value']:.4f} on validation")
    print("settings: " + " ".join(f"--set {key}={value}" for key, value in study["best_settings"].items()))
    print(f"written to {study['config']}: lexirec fit {model} --config {study['config']} --data ... --out RUN")
