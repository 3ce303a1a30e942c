import base64
import hashlib
import json
import re

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.report import Section, write_report
from lexirec.report.html import paragraph, render
from lexirec.report.interactive import STYLE, Line, data_block, line_chart, map_items, nice_ticks, point_map, script
from tests.report.test_html import EVIL, check


def chart(lines, places=("0–3", "4"), **options):
    return line_chart(lines, list(places), across="events", up="ndcg@10", label="a chart", **options)


def test_a_chart_says_each_value_and_leaves_gaps():
    page = chart([Line(EVIL, [0.1, float("nan")], colour=0), Line("compared", [0.2, 0.4], errors=[0.1, float("nan")])])
    assert page.count("<title>") == 3
    assert "compared\n4: 0.4000" in page
    assert page.count("stroke-dasharray") == 2  # the line and its mark in the legend
    assert page.count("<button") == 2
    assert "<script>" not in page
    # each value stands at its height: the axis ends at 0.4, and 0.1 lies at a quarter of it
    heights = [float(y) for y in re.findall(r'class="dot" cx="[\d.]+" cy="([\d.]+)"', page)]
    lines = [float(y) for y in re.findall(r'class="grid-line".*?y1="([\d.]+)"', page)]
    floor, ceiling = max(lines), min(lines)
    assert [(floor - y) / (floor - ceiling) for y in heights] == pytest.approx([0.25, 0.5, 1.0], abs=0.002)
    assert "20.0%" in chart([Line("a", [0.2, 0.1])], percent=True)


def test_long_names_are_slanted():
    assert "rotate(-35)" not in chart([Line("a", [1, 2])])
    assert "rotate(-35)" in chart([Line("a", [1.0] * 10)], [f"{10**i:,}–{10**i * 9:,}" for i in range(10)])


@pytest.mark.parametrize(("top", "last", "n"), [(0.0431, 0.05, 6), (1.0, 1.0, 6), (0.0, 1.0, 2), (float("nan"), 1.0, 2), (37.0, 40.0, 5)])
def test_ticks_are_round_and_reach_the_top(top, last, n):
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] == pytest.approx(last)
    assert len(ticks) == n


def test_bad_lines():
    with pytest.raises(InputError, match=r"2 places and lines of \[1\] values"):
        chart([Line("a", [1.0])])
    with pytest.raises(InputError, match=r"lines of \[\] values"):
        chart([])


def test_data_can_hold_any_text():
    block = data_block("x", {"title": [EVIL, "\u2028 é"]})
    assert block.count("</script>") == 1
    inside = re.search(r">(.*)</script>", block, re.DOTALL)[1]
    assert "<" not in inside
    assert json.loads(inside) == {"title": [EVIL, "\u2028 é"]}


def test_a_map_keeps_places_in_whole_numbers_of_one_scale():
    places = np.array([[0.0, 0.0], [2.0, 1.0], [4.0, 2.0]])
    page = point_map("places-0", "items-0", places, {3: "5–9"}, paragraph("still"), label="map")
    data = json.loads(re.search(r'id="places-0">(.*?)</script>', page)[1])
    assert data == {"x": [0, 5000, 10000], "y": [7500, 5000, 2500]}  # half as high as wide, and the top is small
    assert "still" in page
    assert 'data-class="3"' in page
    items = json.loads(re.search(r">(.*)</script>", map_items("items-0", ["x" * 200], np.array([4]), np.array([3])))[1])
    assert items["events"] == [4]
    assert len(items["title"][0]) == 90
    alike = point_map("p", "i", np.zeros((2, 2)), {}, paragraph("still"), label="map")
    assert '"x":[5000,5000]' in alike


def test_the_page_allows_this_one_script_by_its_hash(tmp_path):
    path = write_report(tmp_path / "r.html", "t", [Section("s", [chart([Line("a", [1.0, 2.0])])])], script=script(), style=STYLE)
    page = path.read_text(encoding="utf-8")
    check(page)
    policy = re.search(r"script-src '(sha256-[^']+)'", page)[1]
    inside = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    assert policy == "sha256-" + base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
    assert not re.search(r"https?://|fetch\(|XMLHttp|import\(|eval\(|innerHTML", inside)
    assert "script-src" not in render("t", [Section("s", ["x"])])
    with pytest.raises(InputError, match="holds '</script'"):
        render("t", [Section("s", ["x"])], script="a = '</SCRIPT>'")
