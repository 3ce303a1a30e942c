import re
from html.parser import HTMLParser

import pytest

from lexirec.errors import InputError
from lexirec.report import Markup, Section, write_report
from lexirec.report.html import code, details, escape, facts, figure, note, number, paragraph, render, table, tag, tiles

EVIL = "<script>alert('x')</script> & \"quotes\""
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
VOID = {"meta", "img", "source"}


class Checker(HTMLParser):
    """Collects tags and attributes, and fails where elements are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        if name not in VOID:
            self.open.append(name)
        self.links += [value for key, value in attributes if key in ("href", "src", "srcset", "action", "poster", "data")]
        assert not [key for key, _ in attributes if key.startswith("on")]

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        self.text.append(text)


def check(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def page(**options):
    blocks = [
        "prose " + EVIL,
        note(EVIL),
        paragraph("a", EVIL),
        facts({EVIL: EVIL, "n": 12345}),
        tiles([(EVIL, EVIL, EVIL)]),
        code([EVIL]),
        details(EVIL, EVIL),
        table([{"model": EVIL, EVIL: 0.5}, {"model": "b", EVIL: None}], caption=EVIL, best=(EVIL,)),
        figure((PNG, PNG), EVIL, EVIL),
    ]
    return render(EVIL, [Section(EVIL, blocks, **options)], subtitle=EVIL, footer=EVIL, simulated=options.get("simulated", False))


def test_cells_that_are_elements_stay_elements():
    shown = str(table([{"model": "a", "value": tag("div", "0.1", class_="number")}]))
    assert '<td><div class="number">0.1</div></td>' in shown and "&lt;" not in shown


def test_all_text_is_escaped():
    checker = check(page())
    assert "script" not in checker.tags
    assert "".join(checker.text).count("alert('x')") >= 12
    assert "<script" not in page()


def test_nothing_comes_from_outside():
    links = check(page()).links
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not re.search(r"@import|url\(", page())
    assert "default-src 'none'" in page()
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(check(page()).tags)


def test_simulated_is_marked_only_where_asked():
    shown = page(simulated=True)
    assert shown.count('class="simulated"') == 2  # the banner and the heading
    assert "(simulated)</title>" in shown
    assert 'class="simulated"' not in page()


def test_contents_lead_to_the_parts():
    shown = render("t", [Section("One", ["x"]), Section("Two", ["y"])])
    assert re.findall(r'href="#(part-\d)"', shown) == re.findall(r'<section id="(part-\d)"', shown) == ["part-1", "part-2"]


def test_light_and_dark_pictures():
    both = figure((PNG, PNG + b"dark"), "what it shows")
    assert both.count("data:image/png") == 2
    assert 'media="(prefers-color-scheme: dark)"' in both
    assert "prefers-color-scheme:dark" in page()
    assert figure(PNG, "alone").count("data:image/png") == 1


def test_no_png():
    with pytest.raises(InputError, match="is no PNG"):
        figure(b"GIF89a", "a picture")


def test_table_bold_only_for_the_largest():
    shown = table([{"m": "a", "v": 0.25}, {"m": "b", "v": 0.5}, {"m": "c", "v": float("nan")}], best=("v",))
    assert shown.count("<strong>") == 1
    assert "<strong>0.5000</strong>" in shown
    assert shown.count("–") == 1
    assert 'scope="col"' in shown
    assert 'scope="row"' in shown


def test_nothing_is_bold_where_all_are_equal():
    shown = table([{"m": "a", "v": 0.0, "w": 0.1}, {"m": "b", "v": 0.0, "w": 0.2}, {"m": "c", "w": None}], best=("v", "w"))
    assert shown.count("<strong>") == 1
    assert "<strong>0.2000</strong>" in shown
    assert "<strong>" not in table([{"m": "alone", "v": 0.5}], best=("v",))


def test_table_without_rows():
    assert check(table([])).tags.count("tr") == 1


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5000"), (1234567, "1,234,567"), (None, "–"), (float("nan"), "–"), (True, "True"), ("x", "x")]
)
def test_number(value, shown):
    assert number(value) == shown


def test_tag_attributes():
    assert tag("a", "x", class_="y", aria_label='say "hi"', id=None) == '<a class="y" aria-label="say &quot;hi&quot;">x</a>'
    assert escape(Markup("<b>")) == "<b>"


def test_file_is_whole_or_absent(tmp_path, monkeypatch):
    target = tmp_path / "deep" / "report.html"
    write_report(target, "title", [Section("a", ["b"])])
    first = target.read_text(encoding="utf-8")
    assert first.startswith("<!DOCTYPE html>")

    def broken(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", broken)
    with pytest.raises(OSError, match="the disk is full"):
        write_report(target, "other", [Section("a", ["b"])])
    monkeypatch.undo()
    assert target.read_text(encoding="utf-8") == first
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_no_section(tmp_path):
    with pytest.raises(InputError, match="'t' has no section"):
        write_report(tmp_path / "r.html", "t", [])
    assert not list(tmp_path.iterdir())
