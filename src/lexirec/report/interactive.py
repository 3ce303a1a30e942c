"""Charts and maps that answer to the pointer: drawn as SVG and on a canvas, alive by one small script inside the file.

No plotting library is shipped inside a report: plotly's script alone is over 4 MB, and a report needs lines, points and a zoom. The
charts are complete without the script too (the values show as the browser's own tips); the maps then show their still picture.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape as html_escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.report.html import Markup, tag
from lexirec.report.plots import DARK, LIGHT

WIDTH, HEIGHT = 460, 290
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 12, 46
DASHES = ("6 4", "1.5 3.5", "9 3 2 3")
"""Of the lines that others are compared with; the second is dotted."""


@cache
def script() -> str:
    """The script that the charts and maps need; give it to :func:`~lexirec.report.html.write_report`."""
    return Path(__file__).with_name("interactive.js").read_text(encoding="utf-8")


def _variables(theme: Any) -> str:
    return "".join(f"--series-{i}:{colour};" for i, colour in enumerate(theme.series)) + "".join(
        f"--class-{i}:{colour};" for i, colour in enumerate(theme.classes)
    )


STYLE = (
    f":root{{{_variables(LIGHT)}}}@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}"
    ".chart{margin:1rem 0}.chart>svg{display:block;width:100%;max-width:38rem;height:auto;overflow:visible}"
    ".chart text{fill:var(--soft);font-size:12px}"
    ".chart .grid-line{stroke:var(--line)}.chart .mark{cursor:default}.chart .mark:hover .dot,.chart .mark:focus .dot{stroke:var(--ink);"
    "stroke-width:2}.chart .mark:focus{outline:0}"
    ".legend{display:flex;flex-wrap:wrap;gap:.3rem .5rem;margin:.3rem 0}.legend button{display:inline-flex;align-items:center;gap:.4rem;"
    "padding:.1rem .55rem;border:1px solid var(--line);border-radius:1rem;background:none;color:var(--ink);font:inherit;font-size:.84rem;"
    "cursor:pointer}.legend button:disabled{color:inherit;cursor:default}.legend button[aria-pressed=false]{opacity:.4;"
    "text-decoration:line-through}.swatch{width:.75rem;height:.75rem;border-radius:50%}.dash{width:1.4rem;"
    "height:.5rem}.legend .plain{align-self:center;"
    "color:var(--soft);font-size:.84rem}"
    ".map .stage{position:relative}.map canvas{display:block;width:100%;touch-action:pan-y;border:1px solid var(--line);"
    "border-radius:.6rem;cursor:crosshair}.map .zoom{position:absolute;top:.5rem;right:.5rem;display:flex;gap:.3rem}"
    ".map .zoom button{width:2rem;height:2rem;"
    "border:1px solid var(--line);border-radius:.5rem;background:var(--card);color:var(--ink);font-size:1.05rem;cursor:pointer}"
    ".tip{position:absolute;z-index:9;max-width:22rem;padding:.35rem .6rem;border-radius:.4rem;background:var(--ink);color:var(--card);"
    "font-size:.84rem;line-height:1.4;white-space:pre-line;pointer-events:none}[hidden]{display:none!important}"
)


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: shown in the legend.
        values: one per place; NaN leaves a gap.
        tips: what each point says; by default name, place and value.
        errors: half lengths of the bars through the points, NaN for none.
        colour: number of the colour; ``None`` draws a dashed line in the colour of the text, for what the lines are compared with.
    """

    name: str
    values: Sequence[float]
    tips: Sequence[str] = ()
    errors: Sequence[float] = ()
    colour: int | None = None


def nice_ticks(top: float, n: int = 5) -> list[float]:
    """Round numbers from 0 to at least ``top``, about ``n`` steps.

    >>> nice_ticks(0.0431)
    [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    """
    if not math.isfinite(top) or top <= 0:
        return [0.0, 1.0]
    raw = top / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [float(f"{i * step:.10g}") for i in range(math.ceil(top / step - 1e-9) + 1)]


def line_chart(
    lines: Sequence[Line], places: Sequence[str], *, across: str, up: str, percent: bool = False, label: str, caption: Any = ""
) -> Markup:
    """Lines over named places, with a legend that hides and shows them.

    Args:
        lines: at least one, each with a value per place.
        places: names along the horizontal axis.
        across: name of the horizontal axis.
        up: name of the vertical axis.
        percent: write values as per cent.
        label: what the chart shows, for those who don't see it.
        caption: shown below.

    Raises:
        InputError: if a line has another number of values than there are places.
    """
    if not lines or not places or any(len(line.values) != len(places) for line in lines):
        raise InputError(f"{len(places)} places and lines of {[len(line.values) for line in lines]} values; give one value per place")
    tops = [
        value + (error if math.isfinite(error) else 0)
        for line in lines
        for value, error in zip(line.values, line.errors or [0.0] * len(places), strict=True)
        if math.isfinite(value)
    ]
    ticks = nice_ticks(max(tops, default=0.0))

    # Names that would run into each other are slanted, and get the room for it.
    slanted = max(len(place) for place in places) * 6.6 > (WIDTH - LEFT - RIGHT) / len(places)
    room = 7.0 * max(len(place) for place in places) * 0.55 - 4 if slanted else 0.0
    height = HEIGHT + room

    def x(i: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (i + 0.5) / len(places)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / ticks[-1])

    def written(value: float) -> str:
        return f"{value:.1%}" if percent else f"{value:.4f}"

    decimals = max(0, -math.floor(math.log10(ticks[1]) + 1e-9) - (2 if percent else 0)) + (
        1 if f"{ticks[1]:g}".rstrip("0").endswith("25") else 0
    )
    drawn = []
    for tick in ticks:
        shown = f"{tick * 100:.{decimals}f} %" if percent else f"{tick:.{decimals}f}"
        drawn.append(f'<line class="grid-line" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        drawn.append(f'<text x="{LEFT - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">{shown}</text>')
    foot = HEIGHT - BOTTOM
    for i, place in enumerate(places):
        at = (
            f'transform="translate({x(i) + 4:.1f} {foot + 14}) rotate(-35)" text-anchor="end"'
            if slanted
            else f'x="{x(i):.1f}" y="{foot + 18}" text-anchor="middle"'
        )
        drawn.append(f"<text {at}>{html_escape(place)}</text>")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    drawn.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{height - 7:.0f}" text-anchor="middle">{html_escape(across)}</text>')
    drawn.append(f'<text transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle">{html_escape(up)}</text>')
    buttons = []
    dashes = iter(DASHES * len(lines))
    for number, line in enumerate(lines):
        colour = "var(--soft)" if line.colour is None else f"var(--series-{line.colour % len(LIGHT.series)})"
        good = [i for i, value in enumerate(line.values) if math.isfinite(value)]
        # A gap where a value is missing: one path per stretch
        path = "".join(f"{'L' if i and i - 1 in good else 'M'}{x(i):.1f} {y(line.values[i]):.1f}" for i in good)
        dash = f' stroke-dasharray="{next(dashes)}"' if line.colour is None else ""
        drawn.append(f'<g data-series="{number}"><path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        for i in good:
            error = line.errors[i] if line.errors else math.nan
            if math.isfinite(error):
                low, high = y(max(line.values[i] - error, 0)), y(line.values[i] + error)
                drawn.append(f'<line x1="{x(i):.1f}" x2="{x(i):.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}" opacity=".5"/>')
            said = line.tips[i] if line.tips else f"{line.name}\n{places[i]}: {written(line.values[i])}"
            at = f'cx="{x(i):.1f}" cy="{y(line.values[i]):.1f}"'
            drawn.append(
                f'<g class="mark" data-mark="" tabindex="0"><title>{html_escape(said)}</title><circle {at} r="11" fill="transparent"/>'
                f'<circle class="dot" {at} r="{3 if line.colour is None else 4}" fill="{colour}"/></g>'
            )
        drawn.append("</g>")
        swatch = tag("span", class_="swatch", style=f"background:{colour}")
        if dash:
            swatch = Markup(f'<svg class="dash" viewBox="0 0 24 8"><path d="M0 4H24" stroke="{colour}" stroke-width="2"{dash}/></svg>')
        buttons.append(
            tag(
                "button",
                swatch,
                line.name,
                type="button",
                data_series=number,
                aria_pressed="true",
                disabled="",
            )
        )
    picture = Markup(f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="group" aria-label="{html_escape(label)}">{"".join(drawn)}</svg>')
    below = [tag("figcaption", caption)] if caption else []
    return tag("figure", picture, tag("div", *buttons, class_="legend"), *below, class_="chart")


def data_block(name: str, value: Any) -> Markup:
    """Data for the script, as JSON that can hold any text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return Markup(f'<script type="application/json" id="{html_escape(name)}">{text}</script>')


def map_items(name: str, titles: Sequence[str], events: NDArray[np.integer], classes: NDArray[np.integer]) -> Markup:
    """What the points of a map are, once for all maps of a catalogue: ``name`` is the block's id."""
    short = [title if len(title) <= 90 else title[:89] + "…" for title in titles]
    return data_block(name, {"title": short, "events": np.asarray(events).tolist(), "class": np.asarray(classes).tolist()})


def point_map(
    name: str, items: str, places: NDArray[np.floating], legend: Mapping[int, str], still: Markup, *, label: str, caption: Any = ""
) -> Markup:
    """A map of items that can be zoomed and asked.

    Args:
        name: id of the data block of the places.
        items: id of the block by :func:`map_items`.
        places: ``(n, 2)``.
        legend: number of each class -> its name.
        still: what is shown without the script.
        label: what the map shows, for those who don't see it.
        caption: shown below.
    """
    low, high = places.min(0), places.max(0)
    # One scale for both directions; whole numbers up to 10,000 are finer than any screen.
    span = float((high - low).max()) or 1.0
    middle = (low + high) / 2
    grid = np.rint((places - middle) / span * 10_000 + 5_000).astype(int)
    buttons = [
        tag(
            "button", tag("span", class_="swatch", style=f"background:var(--class-{number})"), text,
            type="button", data_class=number, aria_pressed="true", disabled="",
        )
        for number, text in legend.items()
    ]  # fmt: skip
    zoom = tag(
        "div",
        tag("button", "+", type="button", data_zoom="1.6", aria_label="zoom in", disabled=""),
        tag("button", "−", type="button", data_zoom="0.625", aria_label="zoom out", disabled=""),
        tag("button", "⤢", type="button", data_zoom="0.001", aria_label="whole map", disabled=""),
        class_="zoom",
    )
    below = [tag("figcaption", caption)] if caption else []
    return tag(
        "figure",
        # y grows downwards on a screen
        data_block(name, {"x": grid[:, 0].tolist(), "y": (10_000 - grid[:, 1]).tolist()}),
        tag("div", still, class_="still"),
        tag("div", tag("canvas", aria_label=label, role="img"), zoom, class_="stage", hidden=""),
        tag("div", tag("span", "training events:", class_="plain"), *buttons, class_="legend keys", hidden=""),
        *below,
        class_="map",
        data_items=items,
        data_places=name,
    )


__all__ = ["STYLE", "Line", "data_block", "line_chart", "map_items", "nice_ticks", "point_map", "script"]
