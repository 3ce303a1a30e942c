"""Ready parts of a report, from plain dictionaries and arrays in the form of ``result.json`` and ``metrics.jsonl``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import MissingExtraError
from lexirec.report import plots
from lexirec.report.html import Markup, Section, best_of, code, details, facts, figure, grid, join, number, paragraph, table, tag
from lexirec.report.plots import Curve, Pictures

GROUP_NAMES = {
    "overall": "overall",
    "head_items": "head items",
    "tail_items": "tail items",
    "cold_items": "cold items",
    "short_users": "short histories",
    "long_users": "long histories",
    "cold_users": "new users",
}


COLD = "Cold items have no event in training: a model that knows items by id alone can't find them."
BEST = "The best value of each column is bold, where they differ."
INTERVAL = "Below a value stands its 95 % interval over users."
SPREAD = "Behind ± stands the standard deviation over the seeds of a model that has several; its value is their mean."


def plot_or_note(
    draw: Any, *arguments: Any, alt: str, caption: Any = "", kept: dict[str, bytes] | None = None, name: str = "", **options: Any
) -> Markup:
    """A plot as a figure; without the extra ``plot`` a line that names it, so that the report is still written.

    With ``kept`` the light picture is put there under ``name``, for a file beside the page.
    """
    try:
        pictures: Pictures = draw(*arguments, **options)
    except MissingExtraError as error:
        return tag("p", f"(plot left out: {error})", class_="small")
    if kept is not None:
        kept[name] = pictures[0]
    return figure(pictures, alt, caption)


def leaderboard_section(
    rows: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    groups: Sequence[str] = (),
    *,
    protocol: str = "",
    title: str = "Leaderboard",
    simulated: bool = False,
    kept: dict[str, bytes] | None = None,
    name: str = "leaderboard",
) -> Section:
    """Models side by side: a table with intervals, and bars of the first metric.

    Args:
        rows: one mapping per model: ``model``, ``test`` (metric to value), and any of ``interval95_users`` (metric to [low,
            high]), ``sd`` (metric to standard deviation over seeds), ``groups`` (group to metric to value), ``group_interval95_users``,
            ``group_sd``, ``seeds``, ``seconds``, ``peak_memory_mb``.
        metrics: columns, the first also as bars.
        groups: groups shown for the first metric.
        protocol: how it was measured, in words; the headings then name the metrics without it.
        title: heading.
        simulated: mark the heading as showing simulated data.
        kept: the picture is put here under ``name``.
        name: see ``kept``.
    """
    first = metrics[0]
    flat, intervals, spreads = [], {}, {}
    for i, row in enumerate(rows):
        line: dict[str, Any] = {"model": row["model"], "seeds": row.get("seeds")}
        for metric in metrics:
            line[metric] = row.get("test", {}).get(metric)
            intervals[i, metric] = row.get("interval95_users", {}).get(metric)
            spreads[i, metric] = row.get("sd", {}).get(metric)
        for group in groups:
            line[group] = row.get("groups", {}).get(group, {}).get(first)
            intervals[i, group] = row.get("group_interval95_users", {}).get(group, {}).get(first)
            spreads[i, group] = row.get("group_sd", {}).get(group, {}).get(first)
        line["seconds"] = row.get("seconds")
        flat.append(line)
    called = bare if protocol else str
    headings = {
        "model": "model",
        "seeds": "seeds",
        **{m: called(m) for m in metrics},
        **{g: join([GROUP_NAMES.get(g, g), tag("span", called(first), class_="interval")]) for g in groups},
        "seconds": "seconds of training",
    }
    for key in ("seeds", "seconds"):
        if not any(line[key] is not None for line in flat):
            headings.pop(key)
    scored = [key for key in headings if key not in ("model", "seeds", "seconds")]
    best = {key: best_of([line[key] for line in flat]) for key in scored}
    shown = []
    for i, line in enumerate(flat):
        cells: dict[str, Any] = dict(line)
        for key in scored:
            value: Any = number(line[key])
            if line[key] is not None and line[key] == best[key]:
                value = tag("strong", value)
            interval = intervals.get((i, key))
            below = [tag("span", f"{interval[0]:.4f} – {interval[1]:.4f}", class_="interval")] if interval else []
            cells[key] = tag("div", value, plus_minus(spreads.get((i, key))), *below, class_="number")
        if line["seeds"] is not None:
            cells["seeds"] = tag("div", number(line["seeds"]), class_="number")
        if line["seconds"] is not None:
            cells["seconds"] = tag("div", f"{line['seconds']:,.1f}", class_="number")
        shown.append(cells)
    body = [
        table(
            shown,
            {key: (text if key == "model" else tag("div", text, class_="number")) for key, text in headings.items()},
            formats=dict.fromkeys(headings, str_or_markup),
        ),
        tag(
            "p",
            *([protocol, ". "] if protocol else []),
            *([BEST, " "] if any(value is not None for value in best.values()) else []),
            INTERVAL,
            *([" ", SPREAD] if any(value is not None for value in spreads.values()) else []),
            class_="small",
        ),
        plot_or_note(
            plots.leaderboard_bars,
            rows,
            first,
            groups,
            GROUP_NAMES,
            alt=f"{first} of each model, overall and per group, with intervals",
            caption=f"{first} of the wanted items: overall and by group. {COLD if 'cold_items' in groups else ''}",
            kept=kept,
            name=name,
        ),
    ]
    return Section(title, body, simulated)


def bare(metric: str) -> str:
    """A metric without its protocol, for tables beside which that stands once.

    >>> bare("ndcg@10 (100 sampled)")
    'ndcg@10'
    """
    return metric.split(" ")[0]


def plus_minus(spread: float | None) -> Markup:
    """What stands behind a mean over seeds; nothing for a single seed.

    >>> plus_minus(0.00123).split()
    ['<span', 'class="spread">', '±', '0.0012</span>']
    >>> plus_minus(None)
    ''
    """
    return Markup() if spread is None else tag("span", f"\u2009±\u2009{number(spread)}", class_="spread")


def str_or_markup(value: Any) -> Any:
    """A table cell as it is; an en dash for nothing."""
    return "–" if value is None else value


def analysis_section(
    curves: Mapping[str, Sequence[Curve]],
    monitor: str,
    per_class: Mapping[str, Sequence[float]] | None = None,
    metric: str = "recall@20",
    *,
    title: str = "How they learn, and for which items",
    simulated: bool = False,
    kept: dict[str, bytes] | None = None,
    name: str = "curves",
) -> Section:
    """Learning curves on validation, and a metric by the popularity of the wanted item.

    Args:
        curves: for each model its runs.
        monitor: the validation metric that is drawn.
        per_class: for each model one value of ``metric`` per popularity class, rarest first.
        metric: what ``per_class`` holds.
        title: heading.
        simulated: mark the heading as showing simulated data.
        kept: the picture of the curves is put here under ``name``.
        name: see ``kept``.
    """
    blocks = []
    if any(monitor in line for runs in curves.values() for run in runs for line in run.lines):
        blocks.append(
            plot_or_note(
                plots.learning_curves,
                curves,
                monitor,
                alt=f"validation {monitor} of each model over seconds of training",
                wide=not per_class,
                caption=_about_curves(curves, monitor),
                kept=kept,
                name=name,
            )
        )
    if per_class:
        blocks.append(
            plot_or_note(
                plots.deciles,
                per_class,
                metric,
                alt=f"{metric} of each model by popularity of the wanted item",
                caption=f"Items in {len(next(iter(per_class.values())))} classes of about equal size by their training events; brand-new "
                "items are left out here.",
            )
        )
    log = []
    for name, runs in curves.items():
        several = len(runs) > 1
        lines = [
            {**({"seed": run.seed} if several else {}), **{k: v for k, v in line.items() if not isinstance(v, (dict, list))}}
            for run in runs
            for line in run.lines
        ]
        if lines:
            log.append(details(f"{name}: {len(lines)} validations" + (f" of {len(runs)} seeds" if several else ""), table(lines)))
    return Section(title, [grid(*blocks), *log], simulated)


def _about_curves(curves: Mapping[str, Sequence[Curve]], monitor: str) -> str:
    """What the learning curves show: whose metric it is, what a ring means, and which models chose their epoch by another one."""
    trained = {name: [run for run in runs if run.lines] for name, runs in curves.items()}
    others = {
        name: sorted({run.monitor for run in runs if run.monitor and run.monitor != monitor})
        for name, runs in trained.items()
        if any(run.monitor and run.monitor != monitor for run in runs)
    }
    parts = [f"{monitor} on the validation part, by which the epoch was chosen{' in most runs' if others else ''}."]
    parts.append("A ring marks the epoch that was kept; the test part plays no role in that choice.")
    parts.append("The seconds are those of the training: what came before it, such as encoding texts, is not among them.")
    if any(len(runs) > 1 for runs in trained.values()):
        parts.append("Several lines of one colour are the seeds of a model.")
    if others:
        parts.append(f"Chosen by another metric, so that the ring needn't be at the top: {_listed(others)}.")
    missing: dict[str, list[str]] = {
        name: [] for name, runs in trained.items() if runs and not any(monitor in line for run in runs for line in run.lines)
    }
    if missing:
        parts.append(f"Without {monitor}, so not drawn: {_listed(missing)}.")
    return " ".join(parts)


def _listed(names: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(name + (f" ({', '.join(words)})" if words else "") for name, words in names.items())


def recommendations_section(
    answers: Sequence[Mapping[str, Any]], *, title: str = "Recommendations, and why", intro: str = "", simulated: bool = False
) -> Section:
    """Answers to queries with reasons.

    Args:
        answers: one mapping per query: ``asked`` (heading), ``known`` (lines about what is known, for example the history's titles),
            ``answered_by``, and ``items``: mappings with ``title`` and any of ``detail``, ``score``, ``why`` (lines), ``new`` (brand new).
        title: heading.
        simulated: mark the heading as showing simulated data.
        intro: a paragraph above.
    """
    blocks: list[Any] = [paragraph(intro)] if intro else []
    for answer in answers:
        blocks.append(tag("h3", answer["asked"]))
        known = list(answer.get("known", ()))
        if known:
            blocks.append(tag("ul", *(tag("li", line, class_="small") for line in known), class_="asked"))
        picks = []
        for item in answer["items"]:
            mark = [tag("span", "brand new", class_="new")] if item.get("new") else []
            detail = [tag("span", f" · {item['detail']}", class_="small")] if item.get("detail") else []
            score = tag("span", number(float(item["score"]), 3), class_="score") if item.get("score") is not None else tag("span")
            why = [tag("div", line, class_="why") for line in item.get("why", ())]
            picks.append(tag("li", tag("div", item["title"], *detail, *mark), score, *why))
        blocks.append(tag("ol", *picks, class_="picks"))
        if answer.get("answered_by"):
            blocks.append(tag("p", f"Answered by: {answer['answered_by']}.", class_="small"))
    return Section(title, blocks, simulated)


def data_section(
    pairs: Mapping[str, Any],
    popularity: NDArray[np.integer] | None = None,
    vectors: NDArray[np.floating] | None = None,
    labels: Sequence[str] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    *,
    title: str = "The data",
    intro: str = "",
    simulated: bool = False,
) -> Section:
    """What the data are: facts, the long tail, a map of the items, a few rows.

    Args:
        pairs: names and values.
        popularity: ``(I,)`` events per item.
        vectors: item vectors ``(I, D)``, for the map.
        labels: one per item, by which the map is coloured.
        examples: a few items.
        title: heading.
        simulated: mark the heading as showing simulated data.
        intro: a paragraph above.
    """
    word = "simulated " if simulated else ""
    blocks: list[Any] = [*([paragraph(intro)] if intro else []), facts(pairs)]
    if popularity is not None:
        blocks.append(
            plot_or_note(plots.long_tail, popularity, alt="events per item, most popular first", caption=f"The long tail of the {word}log.")
        )
    if vectors is not None and labels is not None:
        blocks.append(
            plot_or_note(
                plots.item_map,
                vectors,
                labels,
                alt="map of the items by their text vectors, coloured by label",
                caption=f"The {word}catalogue as the encoder reads it: first two principal components "
                "of the item vectors, before any training.",
            )
        )
    if examples:
        blocks.append(details("A few items", table(examples)))
    return Section(title, blocks, simulated)


def reproduce_section(commands: Sequence[str], versions: Mapping[str, Any], settings: str = "", *, title: str = "Run it again") -> Section:
    """Commands, machine and versions; ``settings`` unfolds on a click."""
    blocks: list[Any] = [code(commands), facts(versions)]
    if settings:
        blocks.append(details("Settings of the models", code(settings)))
    return Section(title, blocks)
