"""``lexirec evaluate``, ``bench`` and ``compare``."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from lexirec.cli.models import AsJson, Sets, SplitName
from lexirec.errors import InputError

GroupCuts = Annotated[
    str | None,
    typer.Option(
        "--groups",
        help="How head and tail are cut: 80/20 (default: head items hold 80 % of the events), items:80/20 (80 % of the items are tail), "
        "llmemb:yelp, llmemb:fashion, llmemb:beauty, or item=20,user=10 (tail and short lie below); ,count=all counts held-out events too.",
    ),
]
Sampled = Annotated[
    int | None,
    typer.Option(
        "--sampled", min=1, help="Rank among this many random items instead of all, as LLMEmb's code does with 100; named as such."
    ),
]
SampleSeed = Annotated[int, typer.Option("--seed", help="Seed of the random items of --sampled, and of the order of tied items in lists.")]

Number = TypeVar("Number", int, float)

UNBOUNDED = 10_000
"""Characters of a line where no terminal folds it."""
SHOWN = ("recall@20", "ndcg@20", "hr@10", "ndcg@10")


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        list[Path], typer.Option("--data", help="Another data set: zero-shot, for models that can. Default: the run's own.")
    ] = [],  # noqa: B006
    split: SplitName = None,
    intents: Annotated[
        bool, typer.Option("--intents", help="Evaluate spoken wishes: one per target item, written from its attributes without the title.")
    ] = False,
    alphas: Annotated[
        str | None, typer.Option("--alphas", help="Weights of the wish, with --intents; 0 to 1 in steps of .1 if not given.")
    ] = None,
    wishes: Annotated[
        Path | None,
        typer.Option(
            "--wishes",
            help="With --intents: a table with item_id, intent and perhaps user_id (CSV, TSV, Parquet, JSON lines), asked in place of"
            " wishes written from attributes; targets without one are left out.",
        ),
    ] = None,
    max_users: Annotated[int | None, typer.Option("--max-users", min=1, help="Random users asked, with --intents.")] = None,
    groups: GroupCuts = None,
    sampled: Sampled = None,
    seed: SampleSeed = 0,
    text: Annotated[
        str | None,
        typer.Option("--text", help="How the items of --data are read, for example title,year,categories. Default: as in training."),
    ] = None,
    profiles: Annotated[
        list[Path],
        typer.Option("--profiles", help="Folder of profiles (lexirec profile) of this data, to be read in place of the plain writer's."),
    ] = [],  # noqa: B006
    hybrid: Annotated[str | None, typer.Option("--hybrid", help="Fuse with BM25 over the items' texts: rrf or sum.")] = None,
    hybrid_weight: Annotated[float | None, typer.Option("--hybrid-weight", help="Share of BM25, 0 to 1. Default: 0.5.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Metric keys separated by commas, such as ndcg@50,recall@5: printed in place of the usual ones."),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Also write the values as a published result (JSON).")] = None,
    as_json: AsJson = False,
) -> None:
    """Test a run again, on its own data or on another data set."""
    from lexirec import results, runs
    from lexirec.evaluation.groups import GroupRules

    wanted = [name.strip() for name in metrics.split(",")] if metrics is not None else []
    if intents and (groups is not None or sampled is not None or text is not None or profiles or hybrid is not None or wanted):
        raise InputError(
            "--intents asks with wishes over all items; it has no --groups, --sampled, --text, --profiles, --hybrid or --metrics"
        )
    if hybrid_weight is not None and hybrid is None:
        raise InputError(f"--hybrid-weight {hybrid_weight:g}: only --hybrid reads this; add it")
    useless = [] if intents else [name for name, given in (("--max-users", max_users), ("--alphas", alphas)) if given is not None]
    if useless:
        raise InputError(f"{' and '.join(useless)}: only --intents reads this; add it")
    if wishes is not None and not intents:
        raise InputError(f"--wishes {wishes} belongs to --intents; add it")
    paths = [str(path) for path in data]
    rules = GroupRules.parse(groups) if groups is not None else None
    if intents:
        weights = _numbers("--alphas", alphas or "0,.1,.2,.3,.4,.5,.6,.7,.8,.9,1", float)
        entry = results.evaluate_intents(run, paths, split, weights, max_users, wishes, seed)
    else:
        told = [str(folder) for folder in profiles]
        options: dict[str, Any] = {"groups": rules, "sampled": sampled, "seed": seed, "text": text, "profiles": told}
        options |= {"metrics": wanted}
        if hybrid is not None:
            options |= {"hybrid": hybrid} | ({} if hybrid_weight is None else {"hybrid_weight": hybrid_weight})
        entry, _ = runs.evaluate_run(run, paths, split, **options)
    if save is not None:
        results.save_single(run, entry, save)
    if as_json:
        print(json.dumps(entry))
        return
    if intents:
        print(f"{entry['dataset']}: {entry['n_queries']:,} wishes of {entry['n_users']:,} users, such as {entry['examples'][0]!r}")
        if entry["skipped"]:
            lacking = "a wish" if wishes is not None else "attributes"
            print(f"{entry['skipped']:,} targets without {lacking} are left out")
        for row in entry["rows"]:
            print(f"alpha {row['alpha']:.2f}: " + ", ".join(f"{k} {v:.4f}" for k, v in row.items() if "@" in k))
        return
    marks = ["zero-shot" if entry["zero_shot"] else "", f"hybrid {hybrid}" if hybrid else ""]
    how = [entry["protocol"], f"{entry['users']:,} users", *filter(None, marks)]
    print(f"{entry['dataset']} ({', '.join(how)})")
    if rules is not None:
        print(entry["groups_are"])
    for name, values in (("all", entry["test"]), *entry["groups"].items()):
        shown = {k.split(" ")[0]: f"{k} {v:.4f}" for k, v in values.items()}
        size = entry["group_sizes"].get(name)
        sized = f" ({size['users']:,} users, {size['targets']:,} targets)" if size else ""
        print(f"{name:>12}: " + ", ".join(shown[k] for k in wanted or SHOWN if k in shown) + sized)
    if "diagnostics" in entry:
        print("diagnostics: " + ", ".join(f"{k} {v:.4g}" for k, v in entry["diagnostics"].items()))


def bench(
    data: Annotated[Path, typer.Option("--data", help="Folder with interactions and items.")],
    models: Annotated[str, typer.Option("--models", help="Names separated by commas: a model, or the stem of a file in --configs.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for runs and results; finished runs are kept, unfinished ones go on.")],
    seeds: Annotated[
        str, typer.Option("--seeds", help="Seeds separated by commas; a model that trains nothing is the same with each and runs once.")
    ] = "1",
    configs: Annotated[Path | None, typer.Option("--configs", help="Folder with <name>.yaml for each model.")] = None,
    set_: Sets = [],  # noqa: B006 (typer reads the default)
    split: SplitName = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Name that the others are compared with (paired tests). Default: the first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train several models over several seeds and compare them under one protocol."""
    from lexirec import results

    names = [name.strip() for name in models.split(",") if name.strip()]
    table = results.bench(
        data, names, out, _numbers("--seeds", seeds, int, "whole numbers"), configs=configs, sets=set_, split=split, against=against
    )
    if as_json:
        print(json.dumps(table))
        return
    print_leaderboard(table["leaderboard"])
    print(f"results: {out}/results", file=sys.stderr)
    print("to learn from the whole log: lexirec fit MODEL --split all --set epochs=BEST_EPOCH ...", file=sys.stderr)


def _numbers(option: str, text: str, kind: Callable[[str], Number], what: str = "numbers") -> list[Number]:
    """The numbers of an option, separated by commas."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not a list of {what}; give {what} separated by commas") from error


def compare(
    run: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more run folders of the same data and split; the first is the baseline. "
            "Folders of several seeds of one model are averaged per user."
        ),
    ],
    metrics: Annotated[
        str, typer.Option("--metrics", help="Metric keys separated by commas; with --group of those that it names.")
    ] = "recall@20,ndcg@20,ndcg@10",
    group: Annotated[
        str | None,
        typer.Option(
            "--group",
            help="Inside a group only: head_items, tail_items, cold_items, short_users, long_users, with the metrics recall@20, ndcg@20, "
            "hr@10, ndcg@10.",
        ),
    ] = None,
    test: Annotated[str, typer.Option("--test", help="Paired test over users: t, wilcoxon or randomisation.")] = "t",
    as_json: AsJson = False,
) -> None:
    """Paired tests per user between runs, with bootstrap intervals and Holm's correction."""
    from lexirec import results

    rows = results.compare_runs(run, [m.strip() for m in metrics.split(",")], group, test)
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        low, high = row["interval95"]
        seeds = {row["seeds"], row["seeds_against"]}
        means = f", means of {' and '.join(map(str, sorted(seeds)))} seeds" if seeds != {1} else ""
        relative = "" if row["relative"] is None else f" ({row['relative']:+.1%})"
        print(
            f"{row['model']} - {row['against']}  {row['metric']}: {row['mean']:.4f} - {row['mean_against']:.4f} = {row['difference']:+.4f}"
            f"{relative} [{low:+.4f}, {high:+.4f}]  p {row['p']:.2g}  Holm {row['p_holm']:.2g}  ({row['test']}, n = {row['n']:,}{means})"
        )


def print_leaderboard(rows: list[dict[str, Any]]) -> None:
    """A table of models and metrics on stdout, and what ± and p in it mean; on a terminal folded to its width, in a file never."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = UNBOUNDED
    table = Table(box=None)
    columns = [column for column in dict.fromkeys(column for row in rows for column in row) if column != "sd"]
    for column in columns:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=not console.is_terminal)
    for row in rows:
        table.add_row(*[_cell(row, column) for column in columns])
    console.print(table)
    if any(row.get("sd") for row in rows):
        console.print("±: standard deviation over seeds (n - 1)")
    for column in columns:
        metric, vs, against = column.partition(" vs ")
        if vs:
            console.print(
                f"{column}: relative difference in {metric}, and p of the paired t test per user against {against}, corrected by Holm over"
                " all models and the metrics that are tested"
            )


def _cell(row: Mapping[str, Any], column: str) -> str:
    """A value as the leaderboard shows it: mean ± standard deviation where there are several seeds."""
    value, spread = row.get(column, ""), row.get("sd", {}).get(column)
    shown = f"{value:.4f}" if isinstance(value, float) and column != "seconds" else str(value)
    return shown if spread is None else f"{shown} ± {spread:.4f}"
