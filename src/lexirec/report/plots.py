"""Plots of a report as PNG bytes, each drawn for light and for dark surroundings.

Drawn on matplotlib's own canvas without ``pyplot``: no global state, no window, safe in threads. Everything comes in as arrays and
dictionaries.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError, require

Pictures = tuple[bytes, bytes]
"""The same plot for light and dark surroundings."""
MAX_POINTS = 6000
"""Points of a map; more are thinned by a seeded draw."""


@dataclass(frozen=True)
class Theme:
    """Colours of a plot. ``series`` is told apart by people with any colour vision in its first six entries; ``classes`` are an order."""

    ink: str
    soft: str
    line: str
    ground: str
    series: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """How one run learned.

    Attributes:
        lines: of its ``metrics.jsonl``.
        best_epoch: whose weights were kept; ``None`` if that is not known.
        monitor: validation metric that chose it.
        seed: of the run.
    """

    lines: Sequence[Mapping[str, Any]]
    best_epoch: int | None = None
    monitor: str = ""
    seed: int | None = None


VIRIDIS = ("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c", "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725")
"""matplotlib's order of colours in steps of a tenth; each ground goes without the step that it would swallow."""

LIGHT = Theme(
    "#1c2430",
    "#5a6675",
    "#dfe3e8",
    "#ffffff",
    ("#1f5fbf", "#d55e00", "#008f6b", "#b0388f", "#8f6a00", "#3b8fc4", "#7a4fd0", "#c2334d", "#4d7a1f", "#6b5b53", "#00808f", "#a05a2c"),
    VIRIDIS[:10],
)
DARK = Theme(
    "#dfe5ec",
    "#98a4b3",
    "#2c343f",
    "#171c23",
    ("#7fb2ff", "#ff9d57", "#3ecfa5", "#ef83cd", "#e3c04f", "#8ad0f5", "#b79cff", "#ff8095", "#a4cf6b", "#bdaea6", "#4fd0df", "#dba27c"),
    VIRIDIS[1:],
)


def _draw(paint: Callable[[Any, Theme], None], width: float, height: float) -> Pictures:
    require("matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = []
    for theme in (LIGHT, DARK):
        picture = Figure(figsize=(width, height), dpi=150, layout="constrained")
        FigureCanvasAgg(picture)
        axes = picture.add_subplot()
        axes.set_facecolor("none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(theme.line)
        axes.tick_params(colors=theme.soft, labelcolor=theme.soft, labelsize=9, length=0)
        axes.grid(color=theme.line, linewidth=0.7)
        axes.set_axisbelow(True)
        paint(axes, theme)
        axes.xaxis.label.set_color(theme.soft)
        axes.yaxis.label.set_color(theme.soft)
        if legend := axes.get_legend():
            legend.get_frame().set_alpha(0)
            for text in legend.get_texts():
                text.set_color(theme.ink)
        buffer = io.BytesIO()
        # No date inside: the same data give the same file.
        # The ground is that of a report's card, and the file can be read outside of it too.
        picture.savefig(buffer, format="png", facecolor=theme.ground, metadata={"Software": None})
        made.append(buffer.getvalue())
    return made[0], made[1]


def leaderboard_bars(
    rows: Sequence[Mapping[str, Any]], metric: str, groups: Sequence[str] = (), labels: Mapping[str, str] | None = None
) -> Pictures:
    """Bars of one metric per model, overall and per group, with intervals where they are known.

    Args:
        rows: leaderboard rows as in :func:`lexirec.report.sections.leaderboard_section`.
        metric: which metric.
        groups: groups shown beside the overall value.
        labels: names of the groups to show.

    Raises:
        InputError: if no row holds the metric.
    """
    if not any(metric in row.get("test", {}) for row in rows):
        raise InputError(
            f"no row of the leaderboard holds {metric!r}; the first holds {sorted(rows[0].get('test', {})) if rows else 'nothing'}"
        )
    names = ["overall", *groups]
    shown = [(labels or {}).get(name, name.replace("_", " ")) for name in names]

    def paint(axes: Any, theme: Theme) -> None:
        step = 0.8 / max(len(rows), 1)
        # Points that a bar has on the page; four digits of this size are wider than 22 and then stand upright.
        upright = 72 * 7.5 / len(names) * step < 22
        for position, row in enumerate(rows):
            at = np.arange(len(names)) + (position - (len(rows) - 1) / 2) * step
            parts = [(row.get("test", {}), row.get("interval95_users", {}))] + [
                (row.get("groups", {}).get(group, {}), row.get("group_interval95_users", {}).get(group, {})) for group in groups
            ]
            values = np.array([part.get(metric, np.nan) for part, _ in parts], dtype=float)
            spans = [interval.get(metric) for _, interval in parts]
            error = np.array([[v - s[0], s[1] - v] if s else [0.0, 0.0] for v, s in zip(values, spans, strict=True)]).T.clip(min=0)
            axes.bar(at, values, step * 0.92, color=theme.series[position % len(theme.series)], label=str(row["model"]))
            known = np.array([s is not None for s in spans]) & np.isfinite(values)
            axes.errorbar(at[known], values[known], yerr=error[:, known], fmt="none", ecolor=theme.ink, elinewidth=1.1, capsize=2.5)
            for x, value, top in zip(at, values, error[1], strict=True):
                if np.isfinite(value):
                    axes.annotate(
                        f"{value:.3f}" if value else "0",
                        (x, value + top),
                        xytext=(0, 3),
                        textcoords="offset points",
                        ha="center",
                        va="bottom",
                        rotation=90 if upright else 0,
                        fontsize=7.5,
                        color=theme.ink,
                    )
        axes.set_xticks(np.arange(len(names)), shown)
        axes.tick_params(axis="x", labelcolor=theme.ink)
        axes.grid(axis="x", visible=False)
        axes.set_ylabel(metric)
        axes.margins(y=0.18 if upright else 0.12)
        axes.set_ylim(bottom=0)
        # Above the plot: inside it the bars of some run would lie beneath.
        axes.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=min(len(rows), 4))

    return _draw(paint, 8.4, 3.6)


def learning_curves(curves: Mapping[str, Sequence[Curve]], metric: str, over: str = "seconds", *, wide: bool = False) -> Pictures:
    """Validation metric of each model over ``seconds`` or ``epoch``, one line per seed, a ring around the epoch that was kept.

    Args:
        curves: for each model its runs; lines without the metric are skipped. A model without lines keeps its colour free, so that a model
            has one colour in all plots of a report.
        metric: which metric.
        over: the line's key for the horizontal axis.
        wide: as wide as a page, not half of it.

    Raises:
        InputError: if no line holds the metric.
    """
    points = {
        name: [
            ([(float(line[over]), float(line[metric]), line.get("epoch")) for line in run.lines if metric in line and over in line], run)
            for run in runs
        ]
        for name, runs in curves.items()
    }
    values = [value for runs in points.values() for places, _ in runs for _, value, _ in places]
    if not values:
        raise InputError(f"no line of the training curves holds {metric!r} and {over!r}")

    def paint(axes: Any, theme: Theme) -> None:
        for position, (name, runs) in enumerate(points.items()):
            colour = theme.series[position % len(theme.series)]
            drawn = [(places, run) for places, run in runs if places]
            width, dot = (1.8, 3.0) if len(drawn) == 1 else (1.0, 1.8)
            for number, (places, run) in enumerate(drawn):
                x, y, epochs = zip(*places, strict=True)
                axes.plot(x, y, color=colour, linewidth=width, marker="o", markersize=dot, label=name if number == 0 else None)
                kept = [k for k, epoch in enumerate(epochs) if epoch is not None and epoch == run.best_epoch]
                if kept:
                    at, value = x[kept[-1]], y[kept[-1]]
                    axes.plot(at, value, marker="o", markersize=9, markerfacecolor="none", markeredgecolor=colour, linestyle="none")
        axes.set_xlabel({"seconds": "seconds of training", "epoch": "epoch"}.get(over, over))
        axes.set_ylabel(f"validation {metric}")
        axes.set_xlim(left=0)
        if min(values) >= 0:  # a monitored loss is negative
            axes.set_ylim(0, 1.08 * max(values) or 1)
        axes.legend(fontsize=9, loc="lower right")

    return _draw(paint, 8.4 if wide else 4.9, 3.4)


def long_tail(popularity: NDArray[np.integer]) -> Pictures:
    """Events per item, most popular first, and the share of all events that the first items hold.

    Args:
        popularity: ``(I,)`` events per item.

    Raises:
        InputError: if there is no event.
    """
    counts = np.sort(np.asarray(popularity))[::-1]
    if not len(counts) or counts[0] <= 0:
        raise InputError("no item has an event; the popularity curve needs at least one")
    share = np.cumsum(counts) / counts.sum()
    head = int(np.searchsorted(share, 0.8)) + 1

    def paint(axes: Any, theme: Theme) -> None:
        place = np.arange(1, len(counts) + 1)
        axes.fill_between(
            place[:head], counts[:head], color=theme.series[0], alpha=0.85, linewidth=0, label=f"80 % of the events: {head:,} items"
        )
        axes.fill_between(
            place[head - 1 :],
            counts[head - 1 :],
            color=theme.series[1],
            alpha=0.85,
            linewidth=0,
            label=f"20 % of the events: {len(counts) - head:,} items",
        )
        axes.set_xlabel("items, most popular first")
        axes.set_ylabel("events")
        axes.set_xlim(0, len(counts))
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=9)

    return _draw(paint, 8.4, 3.0)


def deciles(values: Mapping[str, Sequence[float]], metric: str, labels: Sequence[str] | None = None) -> Pictures:
    """A metric per popularity class of the wanted item, one line per model.

    Args:
        values: for each model one value per class, rarest first; NaN leaves a gap.
        metric: what the values are.
        labels: names of the classes; by default 1, 2, ...

    Raises:
        InputError: if the models' lists differ in length.
    """
    lengths = {len(row) for row in values.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"the models have {sorted(lengths)} values; give each one value per class")
    n = lengths.pop()
    names = list(labels) if labels is not None else [str(i + 1) for i in range(n)]

    def paint(axes: Any, theme: Theme) -> None:
        for position, (name, row) in enumerate(values.items()):
            axes.plot(
                np.arange(n),
                np.asarray(row, dtype=float),
                color=theme.series[position % len(theme.series)],
                linewidth=1.8,
                marker="o",
                markersize=4,
                label=name,
            )
        axes.set_xticks(np.arange(n), names)
        axes.set_xlabel("popularity class of the wanted item, rarest first")
        axes.set_ylabel(metric)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=9, loc="upper left")

    return _draw(paint, 4.9, 3.4)


def shares(values: Mapping[str, Sequence[float]], compared: Mapping[str, Sequence[float]], labels: Sequence[str]) -> Pictures:
    """Share of the places in recommendation lists that each popularity class gets, beside what it is compared with.

    Args:
        values: for each model one share per class, rarest first.
        compared: name -> one share per class, for example of the training events; drawn dashed.
        labels: names of the classes.

    Raises:
        InputError: if a row has another number of values than there are labels.
    """
    if any(len(row) != len(labels) for row in (*values.values(), *compared.values())):
        raise InputError(f"{len(labels)} classes and {[len(row) for row in (*values.values(), *compared.values())]} values; give one each")

    def paint(axes: Any, theme: Theme) -> None:
        at = np.arange(len(labels))
        for dash, (name, row) in zip(((0, (4, 3)), (0, (1, 2)), (0, (6, 2, 1, 2))), compared.items(), strict=False):
            axes.plot(at, 100 * np.asarray(row, dtype=float), color=theme.soft, linewidth=1.6, linestyle=dash, label=name)
        for position, (name, row) in enumerate(values.items()):
            colour = theme.series[position % len(theme.series)]
            axes.plot(at, 100 * np.asarray(row, dtype=float), color=colour, linewidth=1.8, marker="o", markersize=4, label=name)
        axes.set_xticks(at, labels)
        axes.set_xlabel(f"training events of the items, {len(labels)} classes, rarest first")
        axes.set_ylabel("share, %")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8.5, loc="upper left")

    return _draw(paint, 6.4, 3.6)


def class_map(places: NDArray[np.floating], classes: NDArray[np.integer], names: Mapping[int, str], title: str = "") -> Pictures:
    """Items in the plane, coloured by popularity class.

    Args:
        places: ``(n, 2)``, painted in this order.
        classes: ``(n,)`` class of each item, 0 to 9.
        names: class -> what the legend calls it.
        title: written above, for example how the map was made.

    Raises:
        InputError: if places and classes differ in number.
    """
    if len(places) != len(classes):
        raise InputError(f"{len(places)} places and {len(classes)} classes; give one class per place")

    def paint(axes: Any, theme: Theme) -> None:
        from matplotlib.lines import Line2D

        axes.scatter(*np.asarray(places).T, s=8, linewidths=0, alpha=0.85, c=[theme.classes[number] for number in classes])
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        dots = [
            Line2D([], [], marker="o", linestyle="none", markersize=6, color=theme.classes[number], label=names[number]) for number in names
        ]
        legend = axes.legend(handles=dots, fontsize=9, title="training events", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        legend.get_title().set_color(theme.soft)
        legend.get_title().set_fontsize(9)
        if title:
            axes.set_title(title, fontsize=9, color=theme.soft, loc="left")

    return _draw(paint, 8.4, 5.8)


def pca(vectors: NDArray[np.floating], dims: int = 2) -> NDArray[np.float64]:
    """First principal components, ``(n, D) -> (n, dims)``; the sign is fixed by the largest loading.

    >>> pca(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), dims=1).round(3).ravel().tolist()
    [-1.414, 0.0, 1.414]
    """
    centred = np.asarray(vectors, dtype=np.float64)
    centred = centred - centred.mean(0)
    # By the covariance: D x D stays small where n is large.
    _, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :dims]
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    return centred @ directions


def item_map(vectors: NDArray[np.floating], labels: Sequence[str], seed: int = 0) -> Pictures:
    """Items in the plane of their vectors' first two principal components, coloured and named by label.

    Args:
        vectors: ``(I, D)``, or ``(I, 2)`` positions that are taken as they are.
        labels: one per item, for example its department; the twelve most frequent get a colour.
        seed: of the draw of points where there are more than :data:`MAX_POINTS`.

    Raises:
        InputError: if labels and vectors differ in number, or there are fewer than three items.
    """
    if len(vectors) != len(labels) or len(vectors) < 3:
        raise InputError(f"{len(vectors)} vectors and {len(labels)} labels; the map needs one label per item and at least three items")
    place = np.asarray(vectors, dtype=np.float64) if vectors.shape[1] == 2 else pca(vectors)
    kinds = np.asarray(labels, dtype=str)
    names, counts = np.unique(kinds, return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][: len(LIGHT.series)]
    rng = np.random.default_rng(seed)
    # Shuffled, so that no label lies on top of all others.
    chosen = rng.permutation(len(place))[:MAX_POINTS]

    def paint(axes: Any, theme: Theme) -> None:
        from matplotlib import patheffects

        colour_of = dict(zip(names, theme.series, strict=False))
        axes.scatter(*place[chosen].T, s=9, linewidths=0, alpha=0.75, c=[colour_of.get(kind, theme.soft) for kind in kinds[chosen]])
        at = np.array([np.median(place[kinds == name], axis=0) for name in names])
        low, high = place[:, 1].min(), place[:, 1].max()
        # Names that would overlap are pushed apart vertically, lowest first.
        order, gap = np.argsort(at[:, 1]), (high - low) * 0.055
        for i, j in pairwise(order):
            at[j, 1] = max(at[j, 1], at[i, 1] + gap)
        for name, (x, y) in zip(names, at, strict=True):
            outline = [patheffects.withStroke(linewidth=3, foreground=theme.ground)]
            axes.annotate(
                name, (x, y), ha="center", va="center", fontsize=9.5, fontweight="bold", color=colour_of[name], path_effects=outline
            )
        axes.set_xticks([])
        axes.set_yticks([])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return _draw(paint, 8.4, 5.4)
