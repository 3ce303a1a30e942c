"""``lexirec fit``, ``recommend`` and ``tune``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from lexirec.cli.terminal import printable
from lexirec.errors import InputError

Data = Annotated[
    list[Path], typer.Option("--data", help="Folder with interactions and items; repeat it to train on several data sets at once.")
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML with model, config, training, data.")]
Sets = Annotated[list[str], typer.Option("--set", help="key=value: a model setting, a training option or data.<key>. Repeatable.")]
SplitName = Annotated[
    str | None,
    typer.Option("--split", help="ratio, ratio-at-least-one, random-433, leave-one-out, temporal, cold-items, given[:FILE], all."),
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
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run, or one that max_minutes ended.")] = False,
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
    print(f"{folder}: best epoch {result['best_epoch']}, {result['seconds']} s")
    if "test" in result:
        print("test: " + ", ".join(f"{k} {v:.4f}" for k, v in result["test"].items()))
    else:
        print("no test part: evaluate it with: lexirec evaluate " + str(folder) + " --data DIR")


def recommend(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    user: Annotated[str | None, typer.Option("--user", help="A user of the training log.")] = None,
    history: Annotated[str | None, typer.Option("--history", help="Item ids, oldest first, separated by commas.")] = None,
    intent: Annotated[str | None, typer.Option("--intent", help="A wish in words.")] = None,
    profile: Annotated[str | None, typer.Option("--profile", help="A description of the person in words; with --intent, one text.")] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", help="Weight of the words against the person, 0 to 1.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    seen: Annotated[bool, typer.Option("--seen", help="Also show items that the person already has.")] = False,
    hybrid: Annotated[str | None, typer.Option("--hybrid", help="Fuse with BM25 over the items' texts: rrf or sum.")] = None,
    hybrid_weight: Annotated[float, typer.Option("--hybrid-weight", help="Share of BM25, 0 to 1.")] = 0.5,
    explain: Annotated[bool, typer.Option("--explain", help="Say what pulled each item up.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recommend from a run folder, for a user, a history, a wish or a profile."""
    from lexirec.query import Query
    from lexirec.runs import load_run

    if user is None and history is None and intent is None and profile is None:
        raise InputError("nothing to ask with; give --user, --history, --intent or --profile")
    items = [name.strip() for name in history.split(",") if name.strip()] if history is not None else None
    model, _, _ = load_run(run)
    if hybrid is not None:
        from lexirec.models.hybrid import Hybrid

        model = Hybrid(model, cast(Any, hybrid), weight=hybrid_weight)
    query = Query(user_id=user, history=items, intent=intent, profile=profile, alpha=alpha)
    if items:
        unknown = [name for name in items if name not in model.item_map]
        if unknown:
            print(
                f"note: {len(unknown)} of {len(items)} history items are not in the catalogue ({', '.join(unknown[:3])})", file=sys.stderr
            )
    found = model.recommend(query, k=k, filter_seen=not seen)
    titles = dict(zip(model.items["item_id"], model.items["title"], strict=True)) if "title" in model.items.columns else {}
    rows: list[dict[str, Any]] = []
    for row in found.iter_rows(named=True):
        entry = {"rank": row["rank"], "item_id": row["item_id"], "title": titles.get(row["item_id"]), "score": round(row["score"], 6)}
        if explain:
            entry["because"] = model.explain(query, row["item_id"], k=3).to_dicts()
        rows.append(entry)
    answered_by = found["answered_by"][0] if found.height else model.answered_by(query)
    if as_json:
        print(json.dumps({"answered_by": answered_by, "items": rows}, ensure_ascii=False))
        return
    print(f"answered by: {printable(answered_by)}")
    for entry in rows:
        print(f"{entry['rank']:>3}  {entry['score']:>9.4f}  {printable(entry['item_id'])}  {printable(entry['title'] or '')}")
        for why in entry.get("because", []):
            print(f"               {why['kind']}: {printable(why['title'] or why['name'])} ({why['weight']:.2f})")


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

    study = tune_model(model, data, trials, out, space=space, config_file=config, sets=set_, split=split, seed=seed)
    if as_json:
        print(json.dumps(study))
        return
    print(f"{study['finished']} trials, best {study['monitor']} {study['best_value']:.4f} on validation")
    print("settings: " + " ".join(f"--set {key}={value}" for key, value in study["best_settings"].items()))
    print(f"written to {study['config']}: lexirec fit {model} --config {study['config']} --data ... --out RUN")
