"""The part of a report on popularity: what is found and what is shown, by the items' training events."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from lexirec.evaluation.popularity import CLASSES
from lexirec.report import plots
from lexirec.report.html import Section, details, grid, number, table
from lexirec.report.interactive import Line, line_chart
from lexirec.report.sections import plot_or_note
from lexirec.report.tested import class_names

BEYOND = {"coverage": "catalogue shown", "gini": "Gini of the lists", "novelty": "novelty, bits"}
SHARES = {"share_events": "training events", "share_targets": "wanted items"}
RARER = pl.col("class") <= CLASSES // 2
"""The classes that hold the rarer half of the items, as nearly as items with equally many events let it be cut."""


def popularity_section(
    by_class: Mapping[str, pl.DataFrame],
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    *,
    title: str = "Popularity",
    kept: dict[str, bytes] | None = None,
    suffix: str = "",
) -> Section:
    """Charts of a metric and of the models' attention over popularity classes, with the numbers.

    Args:
        by_class: model -> what :func:`~lexirec.evaluation.popularity.by_popularity` gives, all of the same data.
        rows: the leaderboard, for the order (colours) of the models and their metrics of lists.
        metric: which metric is drawn.
        title: heading.
        kept: the pictures are put here as ``deciles<suffix>`` and ``shares<suffix>``.
        suffix: see ``kept``.
    """
    # With few distinct counts some classes are empty; they have no place in a chart.
    filled = {name: frame.filter(pl.col("n_items") > 0) for name, frame in by_class.items()}
    frame = next(iter(filled.values()))
    places = class_names(frame["least"].to_list(), frame["most"].to_list())
    position = {row["model"]: i for i, row in enumerate(rows)}
    lines = [
        Line(
            name,
            found[metric].to_list(),
            [
                f"{name}\n{n} training events: {u:,} users\n{metric} {number(v)}"
                for n, u, v in zip(places, found["n_users"], found[metric], strict=True)
            ],
            (1.96 * found[f"{metric} se"].to_numpy()).tolist(),
            position[name],
        )
        for name, found in filled.items()
    ]
    label = f"{metric} of each model by popularity of the wanted item"
    across = "training events of the wanted item"
    sizes = frame["n_items"].to_list()
    caption = (
        f"{metric} by popularity of the wanted item; bars: 95 % intervals over users. {len(places)} classes of {min(sizes):,} to "
        f"{max(sizes):,} items: deciles of the items by training events, where items with equally many events are never parted."
    )
    charts = [line_chart(lines, places, across=across, up=metric, label=label, caption=caption)]
    values = {name: found[metric].to_list() for name, found in filled.items()}
    still = [plot_or_note(plots.deciles, values, metric, places, alt=label, kept=kept, name=f"deciles{suffix}")]
    blocks: list[Any] = []
    listed = {name: found for name, found in filled.items() if found["share_lists"].null_count() == 0}
    if listed:
        compared = {f"share of {text}": frame[key].to_list() for key, text in SHARES.items()}
        shares = {name: found["share_lists"].to_list() for name, found in listed.items()}
        lines = [Line(name, held) for name, held in compared.items()]
        lines += [Line(name, held, colour=position[name]) for name, held in shares.items()]
        label = "share of the recommendations that each popularity class gets, beside its share of training events and of wanted items"
        caption = (
            "Share of the places in the users' first ten that each class gets. Above the dashed lines on the right and below them on "
            "the left is popularity bias: popular items are shown more often than they are bought (dashed) or wanted (dotted)."
        )
        across = "training events of the items"
        charts.append(line_chart(lines, places, across=across, up="share", percent=True, label=label, caption=caption))
        still.append(plot_or_note(plots.shares, shares, compared, places, alt=label, kept=kept, name=f"shares{suffix}"))
        bias = [{"model": f"(share of {text})", **_bias(frame, key)} for key, text in {"share_items": "items", **SHARES}.items()]
        bias += [{"model": name, **_bias(found), **_beyond(rows[position[name]])} for name, found in listed.items()]
        most = frame.filter(RARER)["most"].to_list()[-1:]
        rare = f"those with at most {most[0]:,} training event{'' if most == [1] else 's'}" if most else "none here"
        columns = list(dict.fromkeys(key for row in bias for key in row))
        blocks.append(table(bias, columns, caption=f"Popularity bias of the lists. Rarer half of the items: {rare}."))
    missing = [part for part in still if "plot left out" in part][:1]
    tables = [table(_class_rows(found, places, metric), caption=name) for name, found in filled.items()]
    return Section(title, [grid(*charts), *blocks, *missing, details("Numbers of the classes", *tables)])


def percent(value: float | None) -> str | None:
    r"""A share in per cent, not to be broken over two lines.

    >>> percent(0.1234)
    '12.3\xa0%'
    """
    return None if value is None else f"{100 * value:.1f}\u00a0%"


def _bias(frame: pl.DataFrame, share: str = "share_lists") -> dict[str, Any]:
    low = frame.filter(RARER)[share].sum()
    return {"rarer half of the items": percent(float(low)), "most popular class": percent(float(frame[share][-1]))}


def _beyond(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in BEYOND.items():
        key = next((key for key in row["test"] if key.startswith(f"{name}@")), None)
        if key:
            value = row["test"][key]
            found[f"{text} ({key})"] = percent(value) if name == "coverage" else f"{value:.2f}"
    return found


def _class_rows(frame: pl.DataFrame, names: Sequence[str], metric: str) -> list[dict[str, Any]]:
    rows = []
    for row, name in zip(frame.to_dicts(), names, strict=True):
        shares = {f"share of {text}": percent(row[key]) for key, text in {**SHARES, "share_lists": "recommendations"}.items()}
        rows.append({"training events": name, "items": row["n_items"], "wanted": row["n_targets"], metric: row[metric], **shares})
    return rows
