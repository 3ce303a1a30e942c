"""``lexirec evaluate --intents`` with wishes of one's own."""

import hashlib
import json
from pathlib import Path

import pytest

from lexirec.cli.main import run
from lexirec.runs import load_parts, load_run
from tests.models.toys import write_shop

SETTINGS = ("epochs=2", "eval_every=2", "embedding_dim=8", "batch_size=64", "threads=1", "encoder=lsa", "num_negs=4")
FAST = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def alpharec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_shop(tmp_path_factory.mktemp("data") / "shop", ".csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXIREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("runs") / "alpharec"
        assert run(["fit", "alpharec", "--data", str(folder), "--out", str(out), *FAST]) == 0
    return out


def test_own_wishes_are_asked_counted_and_named(alpharec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = load_run(alpharec)[1]["data"]
    parts = load_parts([str(path) for path in document.pop("paths")], document)
    ids = parts.train.item_map.name(parts.test.item_index).unique().sort()
    wishes, saved = tmp_path / "wishes.tsv", tmp_path / "saved.json"
    wishes.write_text("item_id\tintent\n" + "".join(f"{name}\tred apple {name}\n" for name in ids[:4]))
    asked = parts.train.item_map.name(parts.test.item_index).is_in(ids[:4].to_list())
    capsys.readouterr()
    command = ["evaluate", str(alpharec), "--intents", "--wishes", str(wishes)]
    assert run([*command, "--json", "--save", str(saved)]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["n_queries"], entry["skipped"]) == (asked.sum(), (~asked).sum())
    assert entry["wishes"] == {"file": "wishes.tsv", "sha256": hashlib.sha256(wishes.read_bytes()).hexdigest()}
    assert all(text.startswith("red apple") for text in entry["examples"])
    assert [row["alpha"] for row in entry["rows"]] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert json.loads(saved.read_text())["runs"][0]["wishes"] == entry["wishes"]
    assert run([*command, "--alphas", "0,1"]) == 0
    assert f"{entry['skipped']} targets without a wish are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("item_id,wish\ni01,red\n", ["--intents"], "no column 'intent'"),
        ("item_id,intent\nnone,red\n", ["--intents"], "1 of 1 item_ids are unknown, such as 'none'"),
        ("item_id,intent\ni01,\n", ["--intents"], "1 of 1 intents are empty, the first in row 1"),
        ("item_id,intent\ni01,red\n", [], "belongs to --intents"),
    ],
)
def test_bad_wishes_are_bad_usage(
    text: str, more: list[str], message: str, alpharec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wishes.csv").write_text(text)
    assert run(["evaluate", str(alpharec), *more, "--wishes", str(tmp_path / "wishes.csv")]) == 2
    said = capsys.readouterr().err
    assert message in said and "wishes.csv" in said


def test_wishes_are_not_asked_of_a_run_that_saw_the_answers(alpharec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another split of its own data is no other data."""
    for more in ([], ["--intents"]):
        assert run(["evaluate", str(alpharec), "--split", "random-433", *more]) == 2
        assert "were in the run's training part" in capsys.readouterr().err
