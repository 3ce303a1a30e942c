"""``lexirec report``, and the options of ``evaluate`` and ``compare`` that look at the long tail, on two small runs."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lexirec import results, runs
from lexirec.cli.main import run
from lexirec.errors import InputError, MissingExtraError
from lexirec.evaluation.groups import GroupRules
from lexirec.report import plots, tested, tsne
from tests.report.test_html import PNG, check

pytest.importorskip("matplotlib", reason="the report's pictures need the extra 'plot'")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data of 60 users and 130 items with popular and rare ones, and runs of three models (one with two seeds)."""
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(1, 131)
    rows = [
        (f"u{user:02}", f"i{item:03}", place)
        for user in range(60)
        for place, item in enumerate(rng.choice(130, 8, replace=False, p=weight / weight.sum()))
    ]
    (root / "shop").mkdir()
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(root / "shop" / "interactions.csv")
    items = pl.DataFrame({"item_id": [f"i{n:03}" for n in range(130)], "title": [f"<b>Title</b> {n}" for n in range(130)]})
    items.write_csv(root / "shop" / "items.csv")
    found = {"data": root / "shop"}
    sets = ["epochs=2", "eval_every=1", "embedding_dim=8", "batch_size=64", "threads=1"]
    for name, model, seed in (("pop", "popularity", 1), ("mf-1", "mf-bpr", 1), ("mf-2", "mf-bpr", 2)):
        experiment = runs.resolve(model, [root / "shop"], sets=[] if model == "popularity" else sets, seed=seed)
        found[name] = runs.fit_run(experiment, root / name, progress=False)
    return found


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_report_of_several_models(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openTSNE", reason="maps need the extra 'plot'")
    out = tmp_path / "out"
    found = answer(
        capsys, "report", folders["pop"], folders["mf-1"], folders["mf-2"], "--out", out, "--map-items", "40", "--perplexity", "5"
    )  # fmt: skip
    page = (out / "report.html").read_text(encoding="utf-8")
    checker = check(page)
    assert not [link for link in checker.links if not link.startswith(("#", "data:"))]
    assert checker.tags.count("canvas") == 1
    assert "<h3>popularity</h3>" not in page  # it has no vectors worth a map
    assert "No map: popularity (no item vectors, or fewer than 10 items or 3 dimensions)." in page
    assert "ten classes" not in page
    assert "perplexity 5, seed 0" in page
    assert "<b>Title" not in page  # titles are text
    assert "\\u003cb>Title\\u003c/b>" in page
    assert "mf-bpr, run mf-1: t-SNE of 40 of 130 items, 8 dimensions" in page  # of two seeds
    assert found["notes"] == []
    assert found["maps"][0] | {"popularity_of_neighbours": 0} == {
        "model": "mf-bpr", "run": "mf-1",
        "items": 40, "of": 130, "dimensions": 8, "perplexity": 5.0, "seed": 0, "popularity_of_neighbours": 0,
    }  # fmt: skip
    assert set(found["pictures"]) == {"curves.png", "deciles.png", "leaderboard.png", "map-mf-bpr.png", "shares.png"}
    for name in found["pictures"]:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "report.json").read_text())["datasets"] == found["datasets"]
    (one,) = found["datasets"]
    entries = [json.loads((folders[name] / "result.json").read_text()) for name in ("mf-1", "mf-2")]
    (popular, factors) = one["leaderboard"]
    assert (popular["seeds"], factors["seeds"]) == (1, 2)
    assert factors["test"]["ndcg@10"] == pytest.approx(np.mean([entry["test"]["ndcg@10"] for entry in entries]))
    assert factors["groups"]["tail_items"]["ndcg@10"] == pytest.approx(
        np.mean([entry["groups"]["tail_items"]["ndcg@10"] for entry in entries])
    )
    low, high = factors["group_interval95_users"]["head_items"]["ndcg@10"]
    assert low <= factors["groups"]["head_items"]["ndcg@10"] <= high
    # All users are equally long, so short histories would be the overall value once more, and their tests would weigh on the others.
    assert {row["group"] for row in one["tests"]} >= {"overall", "head_items", "tail_items"}
    assert not {row["group"] for row in one["tests"]} & {"short_users", "long_users"}
    assert "short_users" not in popular["groups"] and "short_users" in entries[0]["groups"]
    assert "Not shown apart, since all that was tested lies in them: short histories." in page
    assert popular["sd"]["ndcg@10"] is None
    assert factors["sd"]["ndcg@10"] == pytest.approx(np.std([entry["test"]["ndcg@10"] for entry in entries], ddof=1))
    tails = [entry["groups"]["tail_items"]["hr@10"] for entry in entries]
    assert factors["group_sd"]["tail_items"]["hr@10"] == pytest.approx(np.std(tails, ddof=1))
    assert "interval95" not in factors and factors["interval95_users"].keys() == factors["sd"].keys()
    assert f"±\u2009{factors['sd']['ndcg@10']:.4f}</span>" in page
    assert "ndcg@20 on the validation part" in page  # by which the runs chose their epochs
    rows = results.compare_runs([folders["pop"], folders["mf-1"], folders["mf-2"]], ["ndcg@10"], "tail_items")
    (same,) = [row for row in one["tests"] if row["group"] == "tail_items" and row["metric"] == "ndcg@10"]
    assert (same["difference"], same["p"]) == pytest.approx((rows[0]["difference"], rows[0]["p"]))
    assert same["p_holm"] >= same["p"]
    assert sum(row["n_targets"] for row in one["by_popularity"]["mf-bpr"]) == 60


def test_seconds_have_the_stages_before_the_training_in_them(folders: dict[str, Path], tmp_path: Path) -> None:
    from lexirec.report.compare import report_runs

    staged = shutil.copytree(folders["mf-1"], tmp_path / "staged")
    entry = json.loads((staged / "result.json").read_text()) | {"seconds": 3.33, "fit_seconds": 4747.23}
    (staged / "result.json").write_text(json.dumps(entry))
    runs.write_manifest(staged)
    for sampled in (None, 20):  # from the files, and tested again
        found = report_runs([staged], tmp_path / "out", sampled=sampled, maps=None, progress=False)
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        table = page.split("<h2>The runs</h2>")[1].split("</section>")[0]
        assert ">seconds to fit<" in table and ">4,747<" in table
        assert "Seconds to fit: the training with its validations, and what comes before it" in table
        (row,) = found["datasets"][0]["leaderboard"]
        assert (row["seconds"], row["fit_seconds"]) == (3.33, 4747.23)


def test_one_file_another_protocol_and_old_runs(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = shutil.copytree(folders["mf-1"], tmp_path / "old")
    (old / "per_group.parquet").unlink()
    (old / "by_popularity.parquet").unlink()
    runs.write_manifest(old)
    fresh = answer(capsys, "report", folders["mf-1"], "--out", tmp_path / "a.html", "--no-maps")
    again = answer(capsys, "report", old, "--out", tmp_path / "sub" / "b.html", "--no-maps")
    assert (tmp_path / "a.html").exists()
    assert (tmp_path / "sub" / "b-deciles.png").exists()
    assert again["datasets"][0]["by_popularity"] == fresh["datasets"][0]["by_popularity"]
    assert (
        again["datasets"][0]["leaderboard"][0]["group_interval95_users"] == fresh["datasets"][0]["leaderboard"][0]["group_interval95_users"]
    )
    sampled = answer(
        capsys, "report", old, "--out", tmp_path / "c", "--no-maps", "--sampled", "100", "--groups", "item=5,user=3,count=all", "--data",
        folders["data"],
    )  # fmt: skip
    (one,) = sampled["datasets"]
    assert one["protocol"] == "100 sampled negatives per user (seed 0), repeats ranked too"
    assert one["groups"] == "tail items: fewer than 5 events of all parts; short histories: fewer than 3 items"
    assert "ndcg@10 (100 sampled)" in one["leaderboard"][0]["test"]
    headings = re.findall(
        r"<thead>.*?</thead>", (tmp_path / "c" / "report.html").read_text(encoding="utf-8").split("<h2>Leaderboard</h2>")[1]
    )
    assert not [heading for heading in headings[:2] if "sampled" in heading]  # the line below says it
    assert one["by_popularity"]["mf-bpr"][0]["share_lists"] is None
    # The data are gone: what the folder holds is shown, and the rest is named.
    config = (old / "config.yaml").read_text().replace(str(folders["data"]), str(tmp_path / "gone"))
    (old / "config.yaml").write_text(config)
    runs.write_manifest(old)
    left = answer(capsys, "report", old, "--out", tmp_path / "d", "--no-maps")
    assert left["datasets"][0]["by_popularity"] == {}
    assert left["datasets"][0]["leaderboard"][0]["test"] == fresh["datasets"][0]["leaderboard"][0]["test"]
    assert "groups and popularity are not known" in left["notes"][0]
    assert run(["report", str(old), "--out", str(tmp_path / "e"), "--no-maps", "--sampled", "5"]) == 2
    assert "gone" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_curves_show_the_metric_that_chose_and_every_seed(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lexirec.report import compare, sections

    seen: list[tuple[dict, str]] = []
    monkeypatch.setattr(sections.plots, "learning_curves", lambda curves, metric, **_: seen.append((curves, metric)) or (PNG, PNG))
    sets = ["epochs=2", "eval_every=1", "embedding_dim=8", "batch_size=64", "threads=1", "monitor=hr@10"]
    other = runs.fit_run(runs.resolve("mf-bpr", [folders["data"]], sets=sets, seed=1), tmp_path / "other", progress=False)
    compare.report_runs([folders["mf-1"], folders["mf-2"], other], tmp_path / "out", maps=None, progress=False)
    ((curves, metric),) = seen
    assert metric == "ndcg@20"
    best = [json.loads((folders[name] / "result.json").read_text())["best_epoch"] for name in ("mf-1", "mf-2")]
    assert [(run.seed, run.best_epoch, len(run.lines)) for run in curves["mf-bpr"]] == [(1, best[0], 2), (2, best[1], 2)]
    assert "Chosen by another metric, so that the ring needn&#x27;t be at the top: mf-bpr (monitor=hr@10) (hr@10)." in (
        tmp_path / "out" / "report.html"
    ).read_text(encoding="utf-8")
    compare.report_runs([other], tmp_path / "alone", maps=None, progress=False)
    assert seen[1][1] == "hr@10"


def test_a_second_stage_goes_on_where_the_first_ended(folders: dict[str, Path], tmp_path: Path) -> None:
    from lexirec.report.compare import _curve

    run = shutil.copytree(folders["mf-1"], tmp_path / "two")
    (run / "stage-2").mkdir()
    shutil.copy(run / "metrics.jsonl", run / "stage-2" / "metrics.jsonl")
    found = _curve(run)
    assert [line["epoch"] for line in found.lines] == [1, 2, 3, 4]
    assert found.lines[2]["seconds"] == pytest.approx(found.lines[0]["seconds"] + found.lines[1]["seconds"])


def test_a_command_is_shown_once_and_every_title_names_its_protocol(folders: dict[str, Path], tmp_path: Path) -> None:
    from lexirec.report.compare import report_runs

    made = []
    for name, masked, seed in (("a", "true", 1), ("b", "true", 2), ("c", "false", 1)):
        experiment = runs.resolve("popularity", [folders["data"]], sets=[f"data.mask_seen={masked}"], seed=seed)
        made.append(runs.fit_run(experiment, tmp_path / name, progress=False, command="lexirec bench --seeds 1,2"))
    report_runs(made, tmp_path / "out", maps=None, progress=False)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    check(page)
    assert page.count("lexirec bench --seeds 1,2") == 1
    for protocol in ("full ranking, seen masked", "full ranking, nothing masked"):
        assert re.search(rf"<h2>Leaderboard, shop \([\w-]+\), {protocol}</h2>", page)


def test_titles_say_what_differs() -> None:
    def entry(dataset: str, protocol: str, data_hash: str) -> dict:
        told = {"dataset": dataset, "split": "ratio", "protocol": protocol, "data_hash": data_hash}
        return {"model": [tested.Tested(Path("x"), told, pl.DataFrame(), None, None)]}

    shop, other = entry("shop", "seen masked", "abcdef0"), entry("shop", "seen masked", "1234567")
    assert tested.set_titles({"1": shop}) == ["shop (ratio)"]
    assert tested.set_titles({"1": shop, "2": other}) == ["shop (ratio), abcdef", "shop (ratio), 123456"]
    sets = {"1": shop, "2": entry("shop", "nothing masked", "abcdef0"), "3": entry("shops", "seen masked", "abcdef0")}
    assert tested.set_titles(sets) == ["shop (ratio), seen masked", "shop (ratio), nothing masked", "shops (ratio)"]


def test_without_the_extra_the_report_says_what_to_install(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} is not installed; it comes with an extra: pip install 'lexirec[{extra}]'")

    for module in (plots, tsne):
        monkeypatch.setattr(module, "require", missing)
    found = answer(capsys, "report", folders["pop"], folders["mf-1"], "--out", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    check(page)
    assert "openTSNE is not installed; it comes with an extra: pip install &#x27;lexirec[plot]&#x27;" in page
    assert "matplotlib is not installed" in page
    assert found["pictures"] == []
    assert page.count('class="chart"') == 2  # these need no library


def test_evaluate_and_compare_in_groups(folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    entry = answer(capsys, "evaluate", folders["mf-1"], "--sampled", "100", "--groups", "item=5,user=7")
    assert {"hr@10 (100 sampled)", "ndcg@10 (100 sampled)"} <= entry["test"].keys()
    assert not [key for key in entry["test"] if "sampled" not in key]
    assert entry["group_sizes"]["short_users"]["users"] == 0  # 7 known items each
    assert answer(capsys, "evaluate", folders["mf-1"], "--sampled", "100", "--seed", "1")["test"] != entry["test"]
    assert answer(capsys, "evaluate", folders["mf-1"], "--groups", "80/20")["groups"] == runs.evaluate_run(folders["mf-1"])[0]["groups"]
    assert run(["evaluate", str(folders["mf-1"]), "--sampled", "10"]) == 0
    assert "ndcg@10 (10 sampled)" in capsys.readouterr().out
    alone = answer(capsys, "evaluate", folders["mf-1"])
    silent, fused = (answer(capsys, "evaluate", folders["mf-1"], "--hybrid", "rrf", "--hybrid-weight", w) for w in ("0", "1"))
    assert silent["test"].items() <= alone["test"].items() and (fused["hybrid"], fused["hybrid_weight"]) == ("rrf", 1.0)
    assert not fused["test"].items() <= alone["test"].items()
    rows = answer(capsys, "compare", folders["pop"], folders["mf-1"], "--group", "tail_items", "--metrics", "ndcg@10")
    sizes = json.loads((folders["pop"] / "result.json").read_text())["group_sizes"]
    assert rows[0]["n"] == sizes["tail_items"]["users"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "RUN", "--out", "OUT", "--groups", "llmemb:beuty"], "did you mean 'beauty'"),
        (["report", "nowhere", "--out", "OUT"], "there is no run folder nowhere"),
        (["report", "RUN", "--out", "OUT", "--sampled", "500"], "sampled=500: a user has only"),
        (["report", "RUN"], "Missing option"),
        (["evaluate", "RUN", "--groups", "half"], "says nothing about groups"),
        (["evaluate", "RUN", "--intents", "--sampled", "5"], "has no --groups, --sampled, --text, --profiles, --hybrid or --metrics"),
        (["evaluate", "RUN", "--hybrid-weight", "0.3"], "--hybrid-weight 0.3: only --hybrid reads this"),
        (["evaluate", "RUN", "--hybrid", "sums"], "rrf"),
        (["compare", "RUN", "POP", "--group", "tails"], "unknown group 'tails'"),
        (
            ["compare", "RUN", "POP", "--group", "tail_items", "--metrics", "mrr"],
            "no 'mrr' inside the group 'tail_items'; inside groups they have recall@20, ndcg@20, hr@10, ndcg@10",
        ),
        (["compare", "RUN", "POP", "--group", "cold_users"], "users are in the group 'cold_users'"),
    ],
)
def test_bad_usage(
    arguments: list[str], message: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"RUN": str(folders["mf-1"]), "POP": str(folders["pop"]), "OUT": str(tmp_path / "out")}
    assert run([names.get(word, word) for word in arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_a_map_that_cannot_be_drawn_is_refused() -> None:
    from lexirec.report.maps import MapOptions

    with pytest.raises(InputError, match="a map of 5 items"):
        MapOptions(items=5)
    assert GroupRules().describe().startswith("head items: the most popular that together hold 80 % of the training events")


def test_pictures_of_an_earlier_report_are_not_left_beside_a_new_one(tmp_path: Path) -> None:
    from lexirec.report.compare import _remove_earlier

    for name in ("map-one.png", "map-two.png", "own.png"):
        (tmp_path / name).touch()
    record = tmp_path / "report.json"
    _remove_earlier(record, but=())  # there was none
    record.write_text(json.dumps({"pictures": ["map-one.png", "map-two.png", "../own.png"]}))
    _remove_earlier(record, but=("map-two.png",))
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["map-two.png", "own.png"]
