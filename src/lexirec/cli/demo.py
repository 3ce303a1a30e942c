"""``lexirec demo``: the whole story on the built-in simulated shop."""

import json
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lexirec.errors import InputError

if TYPE_CHECKING:
    from lexirec.data.dataset import Dataset, Split
    from lexirec.evaluation.evaluate import Evaluation
    from lexirec.models.contract import Recommender
    from lexirec.query import Query
    from lexirec.report.plots import Curve
    from lexirec.runs import Experiment
    from lexirec.training.options import TrainingOptions

MARKER = "demo.json"
"""File that tells an output folder of the demo; only such a folder is replaced."""
DATA = "simulated-shop"
SPLIT_NOTE = "split: ratio 8:1:1 per shopper by time (training may be later than another shopper's test)"
METRICS = ("recall@20", "ndcg@20")
GROUPS = ("tail_items", "cold_items")
WISH = "a gift for a friend who loves making coffee"
KIT = ("Dome Tent", "Sleeping Bag", "Camping Stove")
"""Product types of the unknown shopper's three items."""
MODELS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "lightgcn": {"lr": 2e-2},
    # The linear projector: on 3,000 titles the MLP forgets what the encoder knows of other words (wishes, cold items) and gains little.
    # One set of negatives for a batch is a fraction of the work of own negatives for each sample.
    "alpharec": {"projector": "linear", "negatives": "shared", "num_negs": 512, "lr": 5e-3, "num_layers": 2},
}
EPOCHS = {"popularity": 0, "lightgcn": 80, "alpharec": 30}
"""Upper bounds; validation may end a training earlier."""
MINUTES = {"popularity": 0.1, "lightgcn": 0.6, "alpharec": 1.0}
"""Time limits that keep the demo under three minutes on a slow or busy machine; two free cores stay well below them."""
LABELS = {"popularity": "Popularity", "lightgcn": "LightGCN", "alpharec": "AlphaRec"}


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, runs and report; an earlier demo's is replaced.")] = Path(
        "lexirec-demo"
    ),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the simulated shop and of the training.")] = 7,
    order: Annotated[float, typer.Option("--order", help="How learnable the order of purchases is, 0 to 1.")] = 0.3,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="At most so many epochs for each model.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="A fifth of the shop and a few epochs: quicker, and weaker models.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
) -> None:
    """Build a simulated shop, train Popularity, LightGCN and AlphaRec on it, recommend, explain, and write runs and a report."""
    from lexirec.files import atomic_folder, write_json

    _check_out(out)
    try:
        with atomic_folder(out, replace=out.exists()) as folder:
            story = _Story(folder, out.absolute(), seed, order, epochs, fast)
            summary = _tell(story)
            write_json(folder / MARKER, summary)
    except KeyboardInterrupt:
        print("interrupted; the demo leaves no half folder, start it again", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
        return
    _show(summary, out)


def _check_out(out: Path) -> None:
    """Refuse a folder that is not an earlier demo's: it may hold somebody's work.

    Raises:
        InputError: if ``out`` is a file, or a folder with anything else in it.
    """
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).exists()):
        raise InputError(f"{out} exists and is no folder of an earlier demo (it has no {MARKER}); choose another with --out")
    if out.absolute() == Path.cwd():
        raise InputError(f"{out} is the present folder, which can't be replaced; choose another with --out")


@dataclass
class _Story:
    """What the steps of the demo hand to each other."""

    folder: Path
    final: Path
    seed: int
    order: float
    epochs: int | None
    fast: bool
    started: float = field(default_factory=time.perf_counter)
    step: int = 0

    def say(self, text: str) -> None:
        self.step += 1
        print(f"[{time.perf_counter() - self.started:5.1f} s] {self.step}. {text}", file=sys.stderr, flush=True)


@dataclass
class _Fitted:
    name: str
    model: "Recommender"
    evaluation: "Evaluation"
    row: dict[str, Any]
    curve: "Curve"


def _tell(story: _Story) -> dict[str, Any]:
    import yaml

    from lexirec.cli.demo_report import write_demo_report
    from lexirec.data.demo import simulated_shop
    from lexirec.runs import device_name, peak_memory_mb, versions
    from lexirec.text.embed import item_vectors

    size = {"n_items": 600, "n_users": 800} if story.fast else {}
    story.say("building the simulated shop")
    shop = simulated_shop(seed=story.seed, order=story.order, **size)
    split = _write_data(story, shop)
    story.say(f"reading {shop.n_items:,} simulated titles with the bundled encoder (minilm)")
    began = time.perf_counter()
    vectors = item_vectors(split.train.items, "minilm", "title")
    encoding = time.perf_counter() - began
    fitted = [_fit(story, name, split) for name in MODELS]
    story.say("recommending and explaining")
    answers = _answers(fitted[-1].model, split)
    story.say("writing the report")
    classes = _by_class(fitted, split)
    train = split.train
    summary: dict[str, Any] = {
        "simulated": True,
        "shop": {
            "items": shop.n_items,
            "shoppers": shop.n_users,
            "events": shop.n_interactions,
            "brand_new_items": int(train.new_items.sum()),
            "order": story.order,
            "seed": story.seed,
            "train_events": train.n_interactions,
            "valid_events": len(split.valid),
            "test_events": len(split.test),
            "never_bought_items": int((train.popularity == 0).sum() - train.new_items.sum()),
        },
        "protocol": f"{fitted[-1].evaluation.protocol}; {SPLIT_NOTE}; {train.new_items.mean():.0%} of the items brand new",
        "leaderboard": [entry.row for entry in fitted],
        "answers": answers,
        "seconds": {"encoding": round(encoding, 1)},
        "device": device_name(fitted[-1].model.device),
        "versions": versions(),
        "command": _command(story),
    }
    summary["seconds"]["total"] = round(time.perf_counter() - story.started, 1)
    summary["peak_memory_mb"] = peak_memory_mb()
    settings = yaml.safe_dump({e.name: e.model.config.model_dump(mode="json") for e in fitted}, sort_keys=False, allow_unicode=True)
    write_demo_report(
        story.folder / "report.html",
        summary,
        {entry.row["model"]: [entry.curve] for entry in fitted},
        classes,
        train,
        vectors,
        metrics=METRICS,
        groups=GROUPS,
        commands=_commands(story, summary),
        settings=settings,
    )
    summary["seconds"]["total"] = round(time.perf_counter() - story.started, 1)
    return summary


def _command(story: _Story) -> str:
    words = ["lexirec demo", f"--seed {story.seed}", f"--order {story.order:g}"]
    words += [f"--epochs {story.epochs}"] if story.epochs else []
    return " ".join(words + (["--fast"] if story.fast else []))


def _commands(story: _Story, summary: dict[str, Any]) -> list[str]:
    """This run, and what to try next."""
    runs = Path(os.path.relpath(story.final)) / "runs"
    kit = ",".join(summary["answers"][2]["query"]["history"])
    return [
        summary["command"],
        f"lexirec recommend {runs / 'alpharec'} --intent '{WISH}' --explain",
        f"lexirec recommend {runs / 'alpharec'} --history {kit}",
        f"lexirec evaluate {runs / 'alpharec'}",
        f"lexirec compare {runs / 'lightgcn'} {runs / 'alpharec'}",
    ]


def _write_data(story: _Story, shop: "Dataset") -> "Split":
    """Write the log with its split as plain files, and read them back as any user's data would be."""
    import numpy as np
    import polars as pl

    from lexirec.data.demo import NAME, demo_split
    from lexirec.data.readers import read_dataset
    from lexirec.data.splits import FutureLeakWarning

    made = demo_split(shop, seed=story.seed)
    pairs = [(part.user_index, part.item_index) for part in (made.train, made.valid, made.test)]
    keys = [users.astype(np.int64) * shop.n_items + items for users, items in pairs]
    part_of = pl.DataFrame({"key": np.concatenate(keys), "split": np.repeat(["train", "valid", "test"], [len(k) for k in keys])})
    # No shopper buys an item twice, so a pair names its event. Events that no part holds happened before their item was on sale.
    log = shop.interactions.with_columns(pl.Series("key", shop.user_index.astype(np.int64) * shop.n_items + shop.item_index))
    log = log.join(part_of, on="key", how="inner", maintain_order="left").drop("key")
    folder = story.folder / DATA
    folder.mkdir()
    log.write_parquet(folder / "interactions.parquet")
    shop.items.write_parquet(folder / "items.parquet")
    about = f"# {NAME}\n\nSimulated data, made by `{_command(story)}`: no real products, brands, shoppers or purchases.\n"
    (folder / "README.md").write_text(about, encoding="utf-8")
    with warnings.catch_warnings():
        # The protocol line says it: one shopper's training may be later than another's test.
        warnings.simplefilter("ignore", FutureLeakWarning)
        split = read_dataset(folder).split("given")
    return replace(split, train=replace(split.train, new_items=made.train.new_items))


def _fit(story: _Story, name: str, split: "Split") -> _Fitted:
    """Train and test one model and write its run folder."""
    from lexirec import runs
    from lexirec.evaluation.statistics import bootstrap_interval
    from lexirec.files import read_json
    from lexirec.report.plots import Curve
    from lexirec.training.options import TrainingOptions
    from lexirec.training.tracking import read_lines

    most = min(EPOCHS[name], 10 if story.fast else EPOCHS[name], story.epochs or EPOCHS[name])
    training: dict[str, Any] = {"epochs": most, "eval_every": 5, "patience": 4, "monitor": "recall@20", "seed": story.seed}
    folder = story.folder / "runs" / name
    partial = folder.with_name(name + ".partial")
    options = TrainingOptions(**training, max_minutes=MINUTES[name], folder=partial)
    experiment = _experiment(story, name, options)
    story.say(f"fitting {LABELS[name]}" + (f" (at most {most} epochs)" if most else ""))
    parts = runs.Parts(split.train, split.valid, split.test, split.train.name, "given", later=(split.valid, split.test))
    model, evaluation = runs.fit_parts(partial, experiment, parts, options, _command(story), {"simulated": True})
    assert evaluation is not None  # noqa: S101 (there is a test part)
    runs.remove_checkpoints(partial)
    os.replace(partial, folder)
    written = read_json(folder / "result.json")
    row: dict[str, Any] = {
        "model": LABELS[name],
        "test": {metric: evaluation.metrics[metric] for metric in METRICS},
        "interval95_users": {metric: list(bootstrap_interval(evaluation.per_user[metric], n=1000)) for metric in METRICS},
        "groups": {
            group: {metric: evaluation.groups[group][metric] for metric in METRICS} for group in GROUPS if group in evaluation.groups
        },
        "group_sizes": {group: evaluation.group_sizes[group] for group in GROUPS},
        "best_epoch": written["best_epoch"],
        "stopped": written["stopped"],
        "seconds": written["seconds"],
    }
    curve = Curve(read_lines(folder / "metrics.jsonl"), written["best_epoch"], options.monitor, story.seed)
    return _Fitted(name, model, evaluation, row, curve)


def _experiment(story: _Story, name: str, options: "TrainingOptions") -> "Experiment":
    from lexirec.models import model_class
    from lexirec.runs import Experiment

    config = model_class(name).Config.parse(MODELS[name]).model_dump(mode="json")
    chosen = options.model_dump(mode="json", exclude={"folder", "resume", "progress"})
    return Experiment(name, config, chosen, {"split": "given"}, (str(story.final / DATA),), "simulated")


def _by_class(fitted: Sequence[_Fitted], split: "Split", metric: str = "recall@20") -> dict[str, list[float]]:
    """The metric of each model by the popularity of the wanted item; brand-new items, which have none, are left out."""
    from lexirec.evaluation.popularity import by_popularity

    known = ~split.train.new_items
    return {entry.row["model"]: by_popularity(entry.evaluation, split.train, include=known)[metric].to_list() for entry in fitted}


# --- asking ----------------------------------------------------------------------------------------------------------------------------


def _answers(model: "Recommender", split: "Split", k: int = 5) -> list[dict[str, Any]]:
    """Three questions to AlphaRec: a shopper of the log, a wish in words, and an unknown shopper with three items."""
    import numpy as np

    from lexirec.query import Query

    train = split.train
    lengths = np.diff(train.offsets)
    # The first shopper with about ten purchases: no choice by how good the answer looks.
    shopper = int(np.argmax(lengths >= min(8, lengths.max())))
    name = train.users.ids[shopper]
    bought = train.items["item_id"].gather(train.history(shopper)).to_list()
    kit = _kit(split)
    asked = [
        ("A shopper of the log", f"shopper {name}, {len(bought)} purchases; the last:", bought[-4:], Query(user_id=name)),
        ("A wish in words, nothing else known", f"“{WISH}”", [], Query(intent=WISH)),
        ("An unknown shopper with three items", "never seen in training; bought:", kit, Query(history=kit)),
    ]
    return [_answer(model, split, heading, known, items, query, k) for heading, known, items, query in asked]


def _kit(split: "Split") -> list[str]:
    """Three items that someone setting out to camp might have: the most popular of each type, or popular items where a type is missing."""
    import numpy as np

    train = split.train
    leaf = train.items["categories"].list.first().str.split(" > ").list.last().to_numpy()
    ranked = np.argsort(-train.popularity, kind="stable")
    chosen: list[int] = []
    for noun in KIT:
        of_type = ranked[leaf[ranked] == noun]
        pool = of_type if len(of_type) and train.popularity[of_type[0]] > 0 else ranked
        chosen.append(int(next(i for i in pool if i not in chosen)))
    return [train.items["item_id"][i] for i in chosen]


def _answer(model: "Recommender", split: "Split", heading: str, known: str, items: Sequence[str], query: "Query", k: int) -> dict[str, Any]:
    frame = split.train.items
    row_of = {name: i for i, name in enumerate(frame["item_id"])}
    titles = frame["title"]
    best = model.recommend(query, k=k)
    picks = []
    for row in best.iter_rows(named=True):
        at = row_of[row["item_id"]]
        picks.append(
            {
                "item_id": row["item_id"],
                "title": titles[at],
                "score": round(float(row["score"]), 4),
                "detail": f"{frame['price'][at]:.2f}",
                "new": bool(split.train.new_items[at]),
                "why": _reasons(model, query, row["item_id"], titles[at]),
            }
        )
    return {
        "asked": heading,
        "known": [known, *(titles[row_of[name]] for name in items)],
        "query": {
            key: value
            for key, value in (("user_id", query.user_id), ("intent", query.intent), ("history", query.history))
            if value is not None
        },
        "answered_by": best["answered_by"][0],
        "items": picks,
    }


def _reasons(model: "Recommender", query: "Query", item_id: str, title: str) -> list[str]:
    """Why an item came up, in words: the closest purchase, a shared attribute; for a wish the words in common."""
    lines: list[str] = []
    why = model.explain(query, item_id, k=5)
    near = why.filter(why["kind"] == "history").head(1)
    lines += [f"near to “{row['title']}” (cosine {row['weight']:.2f})" for row in near.iter_rows(named=True)]
    attributes = why.filter(why["kind"] == "attribute").iter_rows(named=True)
    shared = [row for row in attributes if row["name"].partition("=")[0] in ("brand", "categories", "department")]
    if shared:
        best = max(shared, key=lambda row: (row["name"].startswith(("brand", "categories")), row["weight"]))
        column, _, value = best["name"].partition("=")
        lines.append(f"same {column.replace('categories', 'category')} as {best['weight']:.0%} of the history: {value}")
    if query.words:
        wish = query.words.lower().split()
        common = [word for word in title.replace(",", " ").split() if len(word) > 3 and word.lower() in wish]
        how = f"words in common: {', '.join(common)}" if common else "no word in common"
        lines.append(f"its title lies near the wish; {how}")
    return lines


# --- showing ---------------------------------------------------------------------------------------------------------------------------


def _show(summary: dict[str, Any], out: Path) -> None:
    """The story on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=False)
    shop = summary["shop"]
    items = f"{shop['items']:,} items ({shop['brand_new_items']} brand new)"
    size = f"{items}, {shop['shoppers']:,} shoppers, {shop['train_events']:,} training events"
    console.print(f"\n[bold]Simulated shop[/bold]: {size}")
    table = Table(title=f"Leaderboard on simulated data: {METRICS[0]} ({METRICS[1]})", title_justify="left")
    table.caption, table.caption_justify = summary["protocol"], "left"
    table.add_column("model")
    for heading in ("overall", "tail items", "cold items", "seconds"):
        table.add_column(heading, justify="right")
    for row in summary["leaderboard"]:
        cells = [row["test"], *(row["groups"].get(group) for group in GROUPS)]
        written = ["–" if cell is None else f"{cell[METRICS[0]]:.4f} ({cell[METRICS[1]]:.4f})" for cell in cells]
        table.add_row(row["model"], *written, f"{row['seconds']:.1f}")
    console.print(table)
    for answer in summary["answers"]:
        console.print(f"\n[bold]{escape(answer['asked'])}[/bold] [dim](simulated)[/dim]")
        for line in answer["known"]:
            console.print(f"  {escape(line)}", style="dim")
        for rank, item in enumerate(answer["items"], 1):
            new = " [bold](brand new)[/bold]" if item["new"] else ""
            console.print(f"  {rank}. {escape(item['title'])}  [dim]{item['score']:.3f}[/dim]{new}")
            for line in item["why"][:1]:
                console.print(f"     why: {escape(line)}", style="dim")
    console.print(f"\n{summary['seconds']['total']:.0f} s, peak {summary['peak_memory_mb']:,} MB, {summary['device']}")
    console.print(f"report: {out / 'report.html'}\nruns:   {out / 'runs'}\ndata:   {out / DATA} (simulated)", soft_wrap=True)
    wish = "something for a rainy weekend"
    console.print(f"next:   lexirec recommend {out / 'runs' / 'alpharec'} --intent '{wish}' --explain", soft_wrap=True)
