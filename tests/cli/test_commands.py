"""The commands as typed: exit codes, JSON alone on stdout, errors with value, place and cure on stderr."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

import lexirec
from lexirec.cli.main import run
from tests.models.toys import write_shop

SETTINGS = ("epochs=4", "eval_every=2", "embedding_dim=8", "batch_size=64", "threads=1", "progress=false")
FAST = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("data") / "shop", ".csv")


@pytest.fixture(scope="module")
def alpharec(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXIREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("runs") / "alpharec"
        settings = ["--set", "encoder=lsa", "--set", "num_negs=4", "--set", "epochs=20", "--set", "lr=0.01"]
        assert run(["fit", "alpharec", "--data", str(data), "--out", str(out), *FAST, *settings]) == 0
    return out


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> object:
    assert run([*arguments, "--json"]) == 0
    out = capsys.readouterr().out
    return json.loads(out)  # nothing but one document


def test_recommend_for_a_user_a_history_and_a_wish(alpharec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = answer(capsys, "recommend", str(alpharec), "--user", "u03", "-k", "3", "--explain")
    assert user["answered_by"] == "user"
    assert len(user["items"]) == 3
    assert user["items"][0]["because"][0]["kind"] == "history"
    assert all(
        "blue car" in item["title"] for item in answer(capsys, "recommend", str(alpharec), "--history", "i01, i03", "-k", "4")["items"]
    )
    wish = answer(capsys, "recommend", str(alpharec), "--user", "u03", "--intent", "red apple", "--alpha", "1.0", "-k", "4")
    assert wish["answered_by"] == "user+words"
    assert all("red apple" in item["title"] for item in wish["items"])
    assert answer(capsys, "recommend", str(alpharec), "--user", "stranger")["answered_by"].startswith("popularity")


def test_people_read_tables(alpharec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recommend", str(alpharec), "--history", "i01,zzz"]) == 0
    captured = capsys.readouterr()
    assert "answered by: history" in captured.out
    assert "1 of 2 history items are not in the catalogue (zzz)" in captured.err


def test_both_kinds_of_words_count(alpharec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"--intent": "red apple", "--profile": "Drives a blue car."}
    both, joined, alone = (
        [item["score"] for item in answer(capsys, "recommend", str(alpharec), *asked)["items"]]
        for asked in ([w for pair in words.items() for w in pair], ["--intent", "red apple. Drives a blue car."], ["--intent", "red apple"])
    )
    assert both == joined != alone


def test_texts_cannot_steer_the_terminal(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "interactions.csv").write_bytes((data / "interactions.csv").read_bytes())
    items = pl.read_csv(data / "items.csv", infer_schema=False).with_columns(pl.format("{}\x1b[2J\u202e\nnext", "title").alias("title"))
    items.write_parquet(shop / "items.parquet")
    assert run(["fit", "lir", "--data", str(shop), "--out", str(tmp_path / "lir"), "--set", "text=Title=title"]) == 0
    capsys.readouterr()
    assert run(["recommend", str(tmp_path / "lir"), "--user", "u03", "--explain", "-k", "2"]) == 0
    shown = capsys.readouterr().out
    assert "\\x1b[2J\\u202e\\nnext" in shown and "\x1b" not in shown and "\u202e" not in shown
    assert run(["recommend", str(tmp_path / "\x1b[2J"), "--user", "u"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_evaluate_and_compare(alpharec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = answer(capsys, "evaluate", str(alpharec))
    assert {"seed", "test", "test_optimistic", "test_pessimistic", "groups", "users"} <= entry.keys()
    other = tmp_path / "pop"
    fitted = answer(capsys, "fit", "popularity", "--data", str(data), "--out", str(other))
    assert fitted["test"]["ndcg@10"] < entry["test"]["ndcg@10"]
    assert run(["evaluate", str(alpharec), "--metrics", "ndcg@3,hr@7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" +all: ndcg@3 \d\.\d{4}, hr@7 \d\.\d{4}", lines[1])
    assert re.search(r"head_items: ndcg@3 .* \([\d,]+ users, [\d,]+ targets\)$", lines[2])
    rows = answer(capsys, "compare", str(other), str(alpharec))
    assert {row["metric"] for row in rows} == {"recall@20", "ndcg@20", "ndcg@10"}
    assert run(["compare", str(other), str(alpharec)]) == 0


def test_bench_prints_a_leaderboard(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").mkdir()
    settings = "model: mf-bpr\ntraining: {epochs: 2, eval_every: 1, progress: false}\nconfig: {embedding_dim: 8}\n"
    (tmp_path / "configs" / "mf.yaml").write_text(settings)
    names = ["--models", "popularity,mf", "--configs", str(tmp_path / "configs")]
    common = ["bench", "--data", str(data), *names, "--out", str(tmp_path / "bench")]
    rows = answer(capsys, *common)["leaderboard"]
    assert [row["model"] for row in rows] == ["popularity", "mf"]
    assert "recall@20 vs popularity" not in rows[0]
    assert re.fullmatch(r"([+-][\d.]+% )?\(Holm p [\d.e-]+\)", rows[1]["recall@20 vs popularity"])
    assert rows[1]["sd"] == {}
    assert run(common) == 0
    shown = capsys.readouterr().out
    assert "mf" in shown and "(Holm p " in shown and "±" not in shown
    assert "recall@20 vs popularity: relative difference in recall@20, and p of the paired t test per user against popularity" in shown
    rows = answer(capsys, *common, "--seeds", "1,2")["leaderboard"]
    assert [row["seeds"] for row in rows] == [1, 2]  # nothing is trained or drawn by popularity
    assert not (tmp_path / "bench" / "runs" / "popularity" / "seed-2").exists()
    values = [json.loads((tmp_path / "bench/runs/mf" / f"seed-{n}" / "result.json").read_text())["test"]["ndcg@10"] for n in (1, 2)]
    assert rows[1]["sd"]["ndcg@10"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert run([*common, "--seeds", "1,2"]) == 0
    shown = capsys.readouterr().out
    assert f"{rows[1]['ndcg@10']:.4f} ± {rows[1]['sd']['ndcg@10']:.4f}" in shown
    assert "standard deviation over seeds" in shown


def test_a_table_in_a_file_is_not_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from lexirec.cli.results import print_leaderboard

    monkeypatch.setenv("COLUMNS", "40")
    row = {"model": "a name of many words [bold]:smile:", **{f"metric {n} of some length": 0.1 for n in range(12)}, "sd": {}, "seeds": 1}
    print_leaderboard([row, row])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "a name of many words [bold]:smile:" in lines[1]
    assert lines[1].count("0.1000") == 12 and all(f"metric {n} of some length" in lines[0] for n in range(12))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "alphrec", "--data", "DATA", "--out", "OUT"], "did you mean 'alpharec'"),
        (["fit", "lightgcn", "--data", "missing", "--out", "OUT"], "missing"),
        (["fit", "lightgcn", "--data", "DATA", "--out", "OUT", "--split", "leave-on-out"], "did you mean 'leave-one-out'"),
        (["fit", "lightgcn", "--data", "DATA", "--out", "OUT", "--set", "tua=1"], "did you mean 'tau'"),
        (["recommend", "RUN"], "nothing to ask with"),
        (["recommend", "RUN", "--user", "u03", "--alpha", "2", "--intent", "x"], "alpha is 2"),
        (["recommend", "nowhere", "--user", "u"], "there is no run folder nowhere"),
        (["evaluate", "RUN", "--data", "missing"], "missing"),
        (["evaluate", "RUN", "--split", "all"], "leaves no test part; name other data with --data DIR, or a --split that has one"),
        (["compare", "RUN"], "at least two"),
        (["fit"], "Missing argument"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_usage_exits_with_2_and_writes_nothing(
    arguments: list[str], message: str, alpharec: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"DATA": str(data), "OUT": str(tmp_path / "out"), "RUN": str(alpharec)}
    assert run([names.get(word, word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not list(tmp_path.glob("out*"))


def test_an_id_model_names_what_it_cannot_do(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fit", "lightgcn", "--data", str(data), "--out", str(tmp_path / "ids"), *FAST]) == 0
    assert run(["recommend", str(tmp_path / "ids"), "--intent", "blue car"]) == 2
    assert "can't read words" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("demo", "data", "embed", "fit", "evaluate", "bench", "compare", "report", "recommend", "tune", "doctor"):
        assert command in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"lexirec {lexirec.__version__}\n"


def test_a_warning_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    from lexirec.cli import main
    from lexirec.data.messages import warn

    before = warnings.showwarning
    monkeypatch.setattr(main, "app", lambda **_: warn("3 items have no text"))
    assert run([]) == 0
    assert capsys.readouterr().err == "warning: 3 items have no text\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize(("option", "value"), [("--alphas", "0,b"), ("--seeds", "1.5"), ("--seeds", "")])
def test_bad_numbers_are_bad_usage(option: str, value: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(tmp_path), "--intents"] if option == "--alphas" else ["bench", "--data", str(data), "--models", "popularity"]
    assert run([*command, *([] if option == "--alphas" else ["--out", str(tmp_path / "bench")]), option, value]) == 2
    assert f"{option} {value!r}" in capsys.readouterr().err


def test_borders_that_are_dates_are_said_again(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML makes dates of what looks like one, also in the setting that ``settings`` gives as its example."""
    log = pl.read_csv(data / "interactions.csv")
    shop = tmp_path / "shop"
    shop.mkdir()
    days = ["2018-06-01", "2018-06-15", "2018-07-01", "2018-07-15"]
    log.with_columns(timestamp=pl.Series([days[n % 4] for n in range(log.height)])).write_csv(shop / "interactions.csv")
    (shop / "items.csv").write_bytes((data / "items.csv").read_bytes())
    command = ["fit", "lightgcn", "--data", str(shop), "--split", "temporal", "--out", str(tmp_path / "run"), *FAST]
    assert run([*command, "--set", "data.split_options={test_from: 2018-07-15, valid_from: 2018-07-01}"]) == 0
    assert "2018-07-15" in capsys.readouterr().out.splitlines()[-1]


def test_the_last_epoch_is_told_where_more_may_be_better(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, stopped in (("last", "best epoch 2, the last one: more may be better (raise epochs, --resume), "), ("all", "2 epochs, ")):
        split = ["--split", "all"] if name == "all" else []
        command = ["fit", "lightgcn", "--data", str(data), "--out", str(tmp_path / name), *FAST, "--set", "epochs=2", *split]
        assert run(command) == 0
        assert capsys.readouterr().out.startswith(f"{tmp_path / name}: {stopped}")
    short = ["--set", "epochs=50", "--set", "max_minutes=0.0001"]
    assert run(["fit", "lightgcn", "--data", str(data), "--out", str(tmp_path / "short"), *FAST, *short]) == 0
    assert "ended by max_minutes: more may be better (raise it, --resume), " in capsys.readouterr().out
    assert run(["fit", "popularity", "--data", str(data), "--out", str(tmp_path / "popularity")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'popularity'}: 0.")


def test_a_bench_needs_a_test(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--data", str(data), "--models", "popularity", "--split", "all", "--out", str(tmp_path / "bench")]) == 2
    assert "leaves nothing to test on" in capsys.readouterr().err and not (tmp_path / "bench").exists()


def test_a_run_is_found_from_another_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    assert run(["fit", "popularity", "--data", data.name, "--out", str(tmp_path / "run")]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(["evaluate", "run", "--json"]) == 0
    assert "recall@20" in json.loads(capsys.readouterr().out)["test"]


def test_interrupted_commands_say_how_to_go_on_if_they_can(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from lexirec.cli import main

    monkeypatch.setattr(main, "app", lambda **_: 130)
    for command, told in (
        ("fit", "with the same command and --resume"),
        ("bench", "; the same command goes on"),
        ("recommend", "interrupted\n"),
    ):
        run([command])
        assert told in capsys.readouterr().err
