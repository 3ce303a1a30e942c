import json
import re
import time

import pytest
from typer.testing import CliRunner

from lexirec.cli import demo as cli
from lexirec.errors import InputError

SECONDS = 180


@pytest.fixture
def app():
    import typer

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(cli.demo)
    return app


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """One quick demo for all tests of this file: its folder, stdout, summary and seconds."""
    import typer

    out = tmp_path_factory.mktemp("demo") / "shop"
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(cli.demo)
    began = time.perf_counter()
    result = CliRunner().invoke(app, ["--fast", "--out", str(out), "--seed", "3"], catch_exceptions=False)
    assert result.exit_code == 0
    return out, result.stdout, json.loads((out / "demo.json").read_text(encoding="utf-8")), time.perf_counter() - began


@pytest.mark.slow
def test_models_rank_as_they_should(told):
    _, _, summary, _ = told
    rows = {row["model"]: row for row in summary["leaderboard"]}
    metric = "recall@20"
    assert list(rows) == ["Popularity", "LightGCN", "AlphaRec"]
    assert rows["Popularity"]["test"][metric] < rows["LightGCN"]["test"][metric] < rows["AlphaRec"]["test"][metric]
    assert rows["AlphaRec"]["groups"]["tail_items"][metric] > rows["LightGCN"]["groups"]["tail_items"][metric]
    assert rows["AlphaRec"]["groups"]["cold_items"][metric] > 0.05
    for row in rows.values():
        low, high = row["interval95_users"][metric]
        assert low <= row["test"][metric] <= high


@pytest.mark.slow
def test_stdout_tells_the_story(told):
    _, stdout, _, _ = told
    for word in ("Popularity", "LightGCN", "AlphaRec", "tail items", "cold items", "A wish in words", "An unknown shopper", "why:"):
        assert word in stdout
    assert stdout.lower().count("simulated") >= 5


@pytest.mark.slow
def test_three_questions_with_reasons(told):
    _, _, summary, _ = told
    shopper, wish, unknown = summary["answers"]
    assert (shopper["answered_by"], wish["answered_by"], unknown["answered_by"]) == ("user", "words", "history")
    assert len(unknown["query"]["history"]) == 3
    for answer in summary["answers"]:
        assert len(answer["items"]) == 5
        assert all(item["why"] for item in answer["items"])
        scores = [item["score"] for item in answer["items"]]
        assert scores == sorted(scores, reverse=True)
        assert not {item["item_id"] for item in answer["items"]} & set(answer["query"].get("history", ()))
    assert any("coffee" in item["title"].lower() for item in wish["items"])


@pytest.mark.slow
def test_run_folders_are_whole_and_answer(told):
    from lexirec.query import Query
    from lexirec.runs import evaluate_run, load_run

    out, _, summary, _ = told
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["alpharec", "lightgcn", "popularity"]
    for row, name in zip(summary["leaderboard"], cli.MODELS, strict=True):
        model, document, result = load_run(out / "runs" / name)
        assert document["data"]["paths"] == [str(out / cli.DATA)]
        assert result["test"]["recall@20"] == row["test"]["recall@20"]
        assert model.recommend(summary["answers"][0]["query"]["user_id"], k=3).height == 3
        again, _ = evaluate_run(out / "runs" / name)
        assert again["test"]["recall@20"] == pytest.approx(row["test"]["recall@20"], abs=1e-9)
        assert not again["zero_shot"]
    model, _, _ = load_run(out / "runs" / "alpharec")
    asked = summary["answers"][1]
    assert model.recommend(Query(**asked["query"]), k=5)["item_id"].to_list() == [item["item_id"] for item in asked["items"]]


@pytest.mark.slow
def test_report_is_self_contained_and_marked(told):
    out, _, summary, _ = told
    page = (out / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'(?:href|src|srcset)="([^"]*)"', page)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert "<script" not in page
    assert page.count('class="simulated"') >= 6
    assert str(out.parent) not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
    assert f"{summary['leaderboard'][2]['test']['recall@20']:.4f}" in page


@pytest.mark.slow
def test_data_folder_says_what_it_is(told):
    out, _, _, _ = told
    assert "Simulated" in (out / cli.DATA / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in (out / cli.DATA).iterdir()} == {"README.md", "interactions.parquet", "items.parquet"}


@pytest.mark.slow
def test_time(told):
    assert told[3] < SECONDS


def test_foreign_folder_is_not_touched(tmp_path, app):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"no folder of an earlier demo \(it has no demo.json\); choose another with --out"):
        CliRunner().invoke(app, ["--fast", "--out", str(mine)], catch_exceptions=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


def test_file_as_folder(tmp_path, app):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is no folder of an earlier demo"):
        CliRunner().invoke(app, ["--out", str(tmp_path / "file")], catch_exceptions=False)


def test_bad_dial_leaves_nothing(tmp_path, app):
    with pytest.raises(InputError, match=r"order is 2\.0; it is a chance"):
        CliRunner().invoke(app, ["--fast", "--order", "2", "--out", str(tmp_path / "o")], catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def test_interrupt_leaves_nothing_and_keeps_the_earlier_demo(tmp_path, monkeypatch, app):
    out = tmp_path / "o"
    out.mkdir()
    (out / cli.MARKER).write_text("{}")
    (out / "report.html").write_text("earlier")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_fit", interrupted)
    monkeypatch.setattr("lexirec.text.embed.item_vectors", lambda *_: None)
    result = CliRunner().invoke(app, ["--fast", "--out", str(out)])
    assert result.exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["o"]
    assert (out / "report.html").read_text() == "earlier"
