"""One HTML file with everything inside: no links to the outside, plots inline, all text escaped; no script but one that the writer gives.

The building blocks take strings, numbers and rows and give :class:`Markup`; whatever is not :class:`Markup` is escaped, so that a
title such as ``<script>`` stays a title. A content security policy in the file forbids everything but its own styles, inline images and, by
its hash, that one script.
"""

import base64
import hashlib
import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from lexirec.errors import InputError
from lexirec.files import atomic_file

SIMULATED = "simulated"
"""The word by which data of the built-in shop is marked."""

BANNER = "All products, brands, shoppers and purchases in this report are simulated: drawn from a seeded generator."


LONG = 20
"""Characters of a table's cell from which its column is kept wide enough to be read; the table scrolls then."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: Any) -> Markup:
    """``value`` as HTML text; :class:`Markup` passes through.

    >>> escape("<b>")
    '&lt;b&gt;'
    """
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Sequence[Any], between: str = "") -> Markup:
    """Parts in a row, each escaped unless it is :class:`Markup`."""
    return Markup(between.join(escape(part) for part in parts))


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """An element; a trailing underscore of an attribute name is dropped (``class_``), ``None`` leaves an attribute out.

    >>> tag("p", "a & b", class_="note")
    '<p class="note">a &amp; b</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def paragraph(*children: Any) -> Markup:
    """A paragraph of prose."""
    return tag("p", *children)


def note(*children: Any) -> Markup:
    """A remark set off from the prose."""
    return tag("p", *children, class_="note")


def simulated_tag() -> Markup:
    """The mark of simulated data."""
    return tag("span", SIMULATED, class_="simulated", title="drawn from a random generator; no real products, brands or people")


def number(value: Any, digits: int = 4) -> str:
    """A number for a table: fixed digits for fractions, thousands separated for whole numbers, an en dash for nothing.

    >>> number(0.12345), number(12345), number(None), number(float("nan"))
    ('0.1235', '12,345', '–', '–')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    *,
    caption: str = "",
    formats: Mapping[str, Callable[[Any], Any]] | None = None,
    best: Sequence[str] = (),
) -> Markup:
    """A table that scrolls sideways where the window is narrow.

    Args:
        rows: one mapping per row; a missing value shows as an en dash.
        columns: keys in order, or a mapping from key to heading; by default the keys of the first row.
        caption: shown above.
        formats: how to write the values of a column; by default :func:`number`.
        best: columns whose largest number is set in bold; none where all are equal.
    """
    if columns is None:
        columns = list(rows[0]) if rows else []
    headings = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    formats = formats or {}
    top = {key: best_of([row.get(key) for row in rows]) for key in best}
    numeric = {key for key in headings if any(isinstance(row.get(key), (int, float)) for row in rows)}
    head = tag("tr", *(tag("th", heading, scope="col", class_="number" if key in numeric else None) for key, heading in headings.items()))
    body = []
    for row in rows:
        cells = []
        for position, key in enumerate(headings):
            value = row.get(key)
            shown: Any = value if isinstance(value, Markup) else formats.get(key, number)(value)
            if value is not None and value == top.get(key):
                shown = tag("strong", shown)
            long = not isinstance(shown, Markup) and len(str(shown)) > LONG
            kind = "number" if key in numeric else "long" if long else None
            cells.append(tag("th", shown, scope="row") if position == 0 else tag("td", shown, class_=kind))
        body.append(tag("tr", *cells))
    inside = [tag("caption", caption)] if caption else []
    whole = tag("table", *inside, tag("thead", head), tag("tbody", *body))
    # Focusable, so that a keyboard can scroll it.
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption or "table")


def best_of(values: Sequence[Any]) -> float | None:
    """The largest number, to be set in bold; ``None`` where no other is smaller: nothing is best then.

    >>> best_of([0.1, None, 0.3]), best_of([0.0, 0.0])
    (0.3, None)
    """
    known = [value for value in values if isinstance(value, (int, float)) and not math.isnan(value)]
    return max(known) if known and min(known) < max(known) else None


def facts(pairs: Mapping[str, Any]) -> Markup:
    """Names and values side by side."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", number(value) if not isinstance(value, Markup) else value))
            for name, value in pairs.items()
        ),
        class_="facts",
    )


def tiles(entries: Sequence[tuple[Any, Any, Any]]) -> Markup:
    """Large values in a row: (value, label, remark) each."""
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("div", value, class_="value"),
                tag("div", label, class_="label"),
                tag("div", remark, class_="remark"),
                class_="tile",
            )
            for value, label, remark in entries
        ),
        class_="tiles",
    )


def code(lines: str | Sequence[str]) -> Markup:
    """Commands or settings, as typed."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    return tag("pre", tag("code", text), tabindex="0")


def details(summary: Any, *children: Any) -> Markup:
    """A part that unfolds on a click."""
    return tag("details", tag("summary", summary), *children)


def grid(*children: Markup) -> Markup:
    """Blocks side by side where there is room."""
    return tag("div", *children, class_="grid")


def figure(pictures: bytes | tuple[bytes, bytes], alt: str, caption: Any = "") -> Markup:
    """A picture inside the file.

    Args:
        pictures: a PNG, or one for light and one for dark surroundings.
        alt: what it shows, for those who don't see it.
        caption: shown below.

    Raises:
        InputError: if the bytes are no PNG.
    """
    light, dark = pictures if isinstance(pictures, tuple) else (pictures, None)
    for picture in (light, dark):
        if picture is not None and not picture.startswith(b"\x89PNG"):
            raise InputError(f"the picture {alt[:40]!r} is no PNG (it starts with {picture[:8]!r}); give the bytes of lexirec.report.plots")
    image = Markup(f'<img src="{_data_uri(light)}" alt="{html.escape(alt)}">')
    if dark is not None:
        image = Markup(f'<picture><source media="(prefers-color-scheme: dark)" srcset="{_data_uri(dark)}">{image}</picture>')
    return tag("figure", image, *([tag("figcaption", caption)] if caption else []))


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: heading, also in the table of contents.
        body: blocks in order; strings become escaped paragraphs.
        simulated: mark the heading as showing simulated data.
    """

    title: str
    body: Sequence[Any]
    simulated: bool = False

    def render(self, anchor: str) -> Markup:
        """The section as HTML, its heading reachable as ``#anchor``."""
        heading = tag("h2", self.title, *([" ", simulated_tag()] if self.simulated else []))
        blocks = [block if isinstance(block, Markup) else paragraph(block) for block in self.body]
        return tag("section", heading, *blocks, id=anchor)


def render(
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    footer: str = "",
    simulated: bool = False,
    script: str = "",
    style: str = "",
) -> str:
    """The whole page as a string; see :func:`write_report`."""
    anchors = [f"part-{i + 1}" for i in range(len(sections))]
    links = tag("ul", *(tag("li", tag("a", part.title, href=f"#{anchor}")) for anchor, part in zip(anchors, sections, strict=True)))
    banner = [tag("p", simulated_tag(), f" {BANNER}", class_="banner")]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        if "</script" in script.lower():
            raise InputError("the script of a report holds '</script', which would end it early; write it in two parts")
        policy += f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
    head = "".join(
        [
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{html.escape(title)}{' (' + SIMULATED + ')' if simulated else ''}</title>",
            f"<style>{STYLE}{style}</style>",
        ]
    )
    body = join(
        [
            tag(
                "header",
                tag("p", "lexirec report", class_="kicker"),
                tag("h1", title),
                *([tag("p", subtitle, class_="lead")] if subtitle else []),
                *(banner if simulated else []),
            ),
            tag("nav", links, aria_label="contents"),
            tag("main", *(part.render(anchor) for anchor, part in zip(anchors, sections, strict=True))),
            *([tag("footer", footer)] if footer else []),
            *([Markup(f"<script>{script}</script>")] if script else []),
        ]
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}</body>\n</html>\n'


def write_report(
    path: str | PathLike[str],
    title: str,
    sections: Sequence[Section],
    *,
    subtitle: str = "",
    footer: str = "",
    simulated: bool = False,
    script: str = "",
    style: str = "",
) -> Path:
    """Write a report as one HTML file, whole or not at all.

    Args:
        path: file to write; an existing one is replaced.
        title: heading of the page.
        sections: its parts, in order; at least one.
        subtitle: a sentence below the heading.
        footer: a line at the end.
        simulated: mark the whole page as showing simulated data.
        script: the only script that the page may run, for :mod:`lexirec.report.interactive`.
        style: further style rules.

    Returns:
        The path.

    Raises:
        InputError: if there is no section, or the script can't stand in a page.
    """
    if not sections:
        raise InputError(f"the report {title!r} has no section; give at least one")
    with atomic_file(path) as temporary:
        page = render(title, sections, subtitle=subtitle, footer=footer, simulated=simulated, script=script, style=style)
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


STYLE = (
    """
:root{--page:#f5f6f8;--card:#fff;--ink:#1c2430;--soft:#5a6675;--line:#dfe3e8;--accent:#1f5fbf;--mark:#8a4b00;--mark-ground:#fff1da;
  --code:#f0f2f5;--zebra:#f9fafb;--stripe:#1c24300a;--shade:#1c243038}
@media (prefers-color-scheme:dark){:root{--page:#0f1318;--card:#171c23;--ink:#dfe5ec;--soft:#98a4b3;--line:#2c343f;--accent:#7fb2ff;
  --mark:#ffcf8f;--mark-ground:#3a2a12;--code:#10151b;--zebra:#1b212a;--stripe:#dfe5ec0a;--shade:#000000b0}}
*{box-sizing:border-box}
html{scroll-behavior:smooth}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0 auto;max-width:66rem;padding:0 1.25rem 4rem;background:var(--page);color:var(--ink);
  font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:break-word}
header{padding:3rem 0 1rem}
.kicker{margin:0;color:var(--accent);font-weight:600;letter-spacing:.08em;text-transform:uppercase;font-size:.78rem}
h1{margin:.2rem 0 .5rem;font-size:clamp(1.7rem,4.5vw,2.5rem);line-height:1.15;letter-spacing:-.015em;text-wrap:balance}
h2{margin:0 0 .8rem;font-size:1.35rem;line-height:1.25;letter-spacing:-.01em}
h3{margin:1.8rem 0 .5rem;font-size:1.05rem}
p{margin:.5rem 0;max-width:46rem}
.lead{color:var(--soft);font-size:1.08rem}
.banner{display:block;max-width:none;margin:1rem 0 0;padding:.6rem .9rem;border-radius:.5rem;background:var(--mark-ground);
  color:var(--mark)}
.simulated{display:inline-block;vertical-align:.12em;padding:.05rem .5rem;border:1px solid currentColor;border-radius:1rem;
  color:var(--mark);background:var(--mark-ground);font-size:.72rem;font-weight:600;letter-spacing:.04em;line-height:1.5}
nav ul{display:flex;flex-wrap:wrap;gap:.4rem;list-style:none;margin:.6rem 0 1.4rem;padding:0}
nav a{display:inline-block;padding:.2rem .75rem;border:1px solid var(--line);border-radius:1rem;background:var(--card);color:var(--ink);
  font-size:.88rem;text-decoration:none}
nav a:hover,nav a:focus-visible{border-color:var(--accent);color:var(--accent)}
section{margin:0 0 1.25rem;padding:1.5rem 1.6rem;border:1px solid var(--line);border-radius:.9rem;background:var(--card);
  scroll-margin-top:1rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1rem 0}
.tile{padding:.9rem 1rem;border:1px solid var(--line);border-radius:.7rem;background:var(--zebra)}
.tile .value{font-size:1.7rem;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}
.tile .label{font-size:.92rem}
.tile .remark,.small,figcaption,caption{color:var(--soft);font-size:.86rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem 1.5rem;align-items:start}
.grid>*{min-width:0}
.scroll{overflow-x:auto;margin:.8rem 0;background:linear-gradient(90deg,var(--card) 30%,transparent) local 0/2.5rem 100% no-repeat,
  linear-gradient(270deg,var(--card) 30%,transparent) local 100%/2.5rem 100% no-repeat,
  linear-gradient(90deg,var(--shade),transparent) 0/.7rem 100% no-repeat,
  linear-gradient(270deg,var(--shade),transparent) 100%/.7rem 100% no-repeat}
table{width:100%;border-collapse:collapse;font-size:.93rem}
caption{text-align:left;padding:0 0 .4rem}
th,td{padding:.45rem .5rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{border-bottom:2px solid var(--line);color:var(--soft);font-size:.82rem;font-weight:600;vertical-align:bottom}
tbody th{font-weight:600}
tbody tr:nth-child(even){background:var(--stripe)}
tbody tr:last-child>*{border-bottom:0}
td{white-space:nowrap}
.long{min-width:11rem;white-space:normal}
.spread{color:var(--soft);font-size:.74rem;font-weight:400}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.interval{display:block;color:var(--soft);font-size:.78rem;font-weight:400}
figure{margin:1rem 0}
figure img{display:block;max-width:100%;height:auto}
figcaption{margin-top:.35rem;max-width:46rem}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:0 1.6rem;margin:.6rem 0}
.facts>div{display:flex;justify-content:space-between;gap:1rem;padding:.35rem 0;border-bottom:1px solid var(--line)}
dt{color:var(--soft)}
dd{margin:0;flex-shrink:0;max-width:70%;text-align:right;font-variant-numeric:tabular-nums}
pre{overflow-x:auto;margin:.8rem 0;padding:.8rem 1rem;border:1px solid var(--line);border-radius:.6rem;background:var(--code);
  font:.86rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.note{padding:.6rem .9rem;border-left:3px solid var(--accent);background:var(--zebra)}
.asked{margin:.6rem 0;padding:0;list-style:none}
.asked li{padding:.15rem 0 .15rem .9rem;border-left:3px solid var(--line)}
ol.picks{margin:.6rem 0;padding:0;list-style:none;counter-reset:pick}
ol.picks>li{display:grid;grid-template-columns:2rem 1fr auto;gap:0 .6rem;padding:.55rem 0;border-bottom:1px solid var(--line);
  counter-increment:pick}
ol.picks>li::before{content:counter(pick);color:var(--soft);font-variant-numeric:tabular-nums}
ol.picks>li:last-child{border-bottom:0}
ol.picks .why{grid-column:2/-1;color:var(--soft);font-size:.87rem}
ol.picks .score{color:var(--soft);font-variant-numeric:tabular-nums;font-size:.87rem}
.new{margin-left:.4rem;padding:0 .45rem;border-radius:1rem;background:var(--accent);color:var(--card);font-size:.72rem;font-weight:600}
details{margin:.6rem 0}
summary{cursor:pointer;color:var(--accent)}
footer{color:var(--soft);font-size:.86rem}
a{color:var(--accent)}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
@media (max-width:36rem){section{padding:1.1rem 1rem}header{padding-top:1.6rem}body{padding:0 .7rem 2rem}th,td{padding:.4rem .5rem}}
@media print{body{background:#fff}section{break-inside:avoid}nav{display:none}}
""".strip()
    .replace("\n  ", "")
    .replace("\n", "")
)


__all__ = [
    "SIMULATED",
    "Markup",
    "Section",
    "best_of",
    "code",
    "details",
    "escape",
    "facts",
    "figure",
    "grid",
    "join",
    "note",
    "number",
    "paragraph",
    "render",
    "simulated_tag",
    "table",
    "tag",
    "tiles",
    "write_report",
]
