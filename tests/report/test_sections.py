import re

import numpy as np
import pytest

from lexirec.errors import MissingExtraError
from lexirec.report import plots, sections
from lexirec.report.html import render
from lexirec.report.plots import Curve

ROWS = [
    {"model": "Popularity", "test": {"recall@20": 0.04, "ndcg@20": 0.02}, "groups": {"cold_items": {"recall@20": 0.0}}, "seconds": 0.2},
    {
        "model": "AlphaRec",
        "test": {"recall@20": 0.2, "ndcg@20": 0.09},
        "interval95_users": {"recall@20": [0.19, 0.21]},
        "groups": {"cold_items": {"recall@20": 0.07}},
        "seconds": 40.0,
    },
    {"model": "Unfinished", "test": {}},
]


def text(section):
    return re.sub(r"<[^>]+>", " ", render("t", [section]).split("<main>")[1].split("</main>")[0])


@pytest.fixture
def no_plots(monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"{module} is not installed; it comes with an extra: pip install 'lexirec[{extra}]'")

    monkeypatch.setattr(plots, "require", missing)


def test_leaderboard():
    metrics = ["recall@20", "ndcg@20"]
    part = sections.leaderboard_section(ROWS, metrics, ["cold_items"], protocol="full ranking, seen masked", simulated=True)
    page = render("t", [part])
    shown = text(part)
    for word in ("Popularity", "AlphaRec", "0.2000", "0.1900 – 0.2100", "0.0700", "full ranking, seen masked", "simulated"):
        assert word in shown
    assert page.count("<strong>") == 3  # the best of each scored column
    assert "<strong>0.2000</strong>" in page


def test_leaderboard_marks_no_best_where_nothing_is_known():
    rows = [{"model": "a", "test": {"recall@20": 0.1}}, {"model": "b", "test": {"recall@20": 0.2}}]
    part = sections.leaderboard_section(rows, ["recall@20", "ndcg@20"], ["tail_items"])
    page = render("t", [part])
    assert page.count("<strong>") == 1
    assert "seconds" not in page.split("<main>")[1]
    assert "simulated" not in page.split("<main>")[1]


def test_leaderboard_marks_no_best_where_all_are_equal():
    rows = [
        {"model": name, "test": {"ndcg@10": value}, "groups": {"cold_items": {"ndcg@10": 0.0}}} for name, value in (("a", 0.1), ("b", 0.2))
    ]
    page = render("t", [sections.leaderboard_section(rows, ["ndcg@10"], ["cold_items"])])
    assert re.findall("<strong>(.*?)</strong>", page) == ["0.2000"]
    alone = render("t", [sections.leaderboard_section(rows[:1], ["ndcg@10"])])
    assert "<strong>" not in alone and "bold" not in alone.split("<main>")[1]


def test_leaderboard_says_the_protocol_once():
    key = "ndcg@10 (100 sampled)"
    rows = [{"model": "a", "test": {key: 0.1}, "groups": {"tail_items": {key: 0.05}}}]
    table = sections.leaderboard_section(rows, [key], ["tail_items"], protocol="100 sampled negatives per user").body[0]
    assert "sampled" not in table and table.count("ndcg@10") == 2
    assert key in sections.leaderboard_section(rows, [key]).body[0]  # no word of it elsewhere


def test_analysis_says_which_seconds_and_how_many_classes():
    curve = Curve([{"epoch": 5, "loss": 1.5, "seconds": 2.0, "recall@20": 0.1}], 5, "recall@20")
    shown = text(sections.analysis_section({"a": [curve]}, "recall@20", {"a": [0.1] * 7}))
    assert "what came before it, such as encoding texts, is not among them" in shown
    assert "Items in 7 classes" in shown


def test_analysis_keeps_lines_and_models_without_curve():
    curve = Curve([{"epoch": 5, "loss": 1.5, "seconds": 2.0, "recall@20": 0.1, "nested": {"a": 1}}], 5, "recall@20")
    shown = text(sections.analysis_section({"Popularity": [Curve([])], "AlphaRec": [curve]}, "recall@20", {"AlphaRec": [0.1] * 10}))
    assert "recall@20 on the validation part, by which the epoch was chosen. A ring marks" in shown
    assert "seeds" not in shown and "another metric" not in shown
    assert "AlphaRec: 1 validations" in shown
    assert "Popularity: 0" not in shown
    assert "1.5000" in shown
    assert "nested" not in shown


def test_analysis_says_which_lines_are_seeds_and_which_epochs_another_metric_chose():
    line = {"epoch": 1, "seconds": 1.0, "ndcg@20": 0.1, "hr@10": 0.2}
    runs = {
        "a": [Curve([line], 1, "ndcg@20", 1), Curve([line, line], 1, "ndcg@20", 7)],
        "b": [Curve([line], 1, "hr@10", 1)],
        "c": [Curve([{"epoch": 1, "seconds": 1.0, "-loss": -2.0}], 1, "-loss", 1)],
    }
    shown = text(sections.analysis_section(runs, "ndcg@20"))
    assert "ndcg@20 on the validation part, by which the epoch was chosen in most runs" in shown
    assert "Several lines of one colour are the seeds of a model." in shown
    assert "Chosen by another metric, so that the ring needn&#x27;t be at the top: b (hr@10), c (-loss)." in shown
    assert "Without ndcg@20, so not drawn: c." in shown
    assert "a: 3 validations of 2 seeds" in shown


def test_leaderboard_shows_the_spread_over_seeds():
    several = {"model": "a", "seeds": 3, "test": {"ndcg@10": 0.2}, "sd": {"ndcg@10": 0.0123}, "group_sd": {"tail_items": {"ndcg@10": 0.02}}}
    rows = [
        {**several, "groups": {"tail_items": {"ndcg@10": 0.1}}},
        {"model": "b", "seeds": 1, "test": {"ndcg@10": 0.1}, "sd": {"ndcg@10": None}},
    ]
    shown = " ".join(text(sections.leaderboard_section(rows, ["ndcg@10"], ["tail_items"])).split())
    assert "a 3 0.2000 ± 0.0123 0.1000 ± 0.0200 b 1 0.1000 –" in shown
    assert "standard deviation over the seeds" in shown
    assert "±" not in text(sections.leaderboard_section(rows[1:], ["ndcg@10"]))
    assert "seeds" not in text(sections.leaderboard_section(ROWS, ["recall@20"]))


def test_analysis_without_anything():
    assert "<img" not in render("t", [sections.analysis_section({"Popularity": [Curve([])]}, "recall@20")])


def test_recommendations_escape_titles_and_mark_new_items():
    answers = [
        {
            "asked": "A wish: “<i>tea</i>”",
            "known": ["bought: <b>pot</b>"],
            "answered_by": "words",
            "items": [
                {"title": "Tea <Pot>", "score": 0.5, "detail": "9.99", "new": True, "why": ["near to “Cup”"]},
                {"title": "Cup"},
            ],
        }
    ]
    page = render("t", [sections.recommendations_section(answers, intro="hello")])
    assert "Tea &lt;Pot&gt;" in page
    assert "<i>" not in page
    assert page.count('class="new"') == 1
    assert "0.500" in page
    assert "Answered by: words." in text(sections.recommendations_section(answers))


def test_data_and_reproduction():
    rng = np.random.default_rng(0)
    part = sections.data_section(
        {"items": 3000}, np.arange(10), rng.normal(size=(10, 4)), ["x", "y"] * 5, [{"item_id": "a", "title": "<t>"}], simulated=True
    )
    page = render("t", [part])
    assert "3,000" in page
    assert "&lt;t&gt;" in page
    assert page.count("data:image/png") == 4
    assert "simulated log" in page
    assert "simulated" not in text(sections.data_section({"items": 1}, np.arange(10)))
    again = text(sections.reproduce_section(["lexirec demo --seed 7"], {"torch": "2.13"}, "tau: 0.15"))
    assert "lexirec demo --seed 7" in again
    assert "2.13" in again
    assert "tau: 0.15" in again


def test_without_the_extra_the_report_is_still_written(no_plots):
    page = render("t", [sections.leaderboard_section(ROWS, ["recall@20"]), sections.data_section({"items": 1}, np.arange(10))])
    assert "data:image" not in page
    assert page.count("pip install &#x27;lexirec[plot]&#x27;") == 2
    assert "0.2000" in page
