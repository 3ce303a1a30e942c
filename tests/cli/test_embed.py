"""``lexirec embed`` and reading its file back."""

import json

import numpy as np
import polars as pl
import pytest
import typer

from lexirec.cli.embed import embed
from lexirec.errors import InputError
from lexirec.text import item_vectors, read_vectors

ITEMS = pl.DataFrame({"item_id": ["b", "a", "c"], "title": ["red soap", "blue soap", "red hair"], "brand": ["X", None, "Y"]})


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """The command as a user types it; gives stdout."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    app = typer.Typer()
    app.command()(embed)

    def call(*arguments):
        app(list(map(str, arguments)), standalone_mode=False)
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_written_and_read_back(tmp_path, run, suffix):
    file, out = tmp_path / f"items.{suffix}", tmp_path / "v.parquet"
    ITEMS.write_parquet(file) if suffix == "parquet" else ITEMS.write_csv(file)
    report = json.loads(run("--items", file, "--encoder", "lsa", "--template", "title,brand", "--out", out, "--json"))
    assert {key: report[key] for key in ("items", "dim", "encoder", "template", "empty_text")} == {
        "items": 3,
        "dim": 3,
        "encoder": "lsa",
        "template": ["title", "brand"],
        "empty_text": "mean",
    }
    ids, vectors, metadata = read_vectors(out)
    assert dict(zip(ids, vectors.tolist(), strict=True)) == dict(
        zip(ITEMS["item_id"], item_vectors(ITEMS, "lsa", "title,brand").tolist(), strict=True)
    )
    assert json.loads(metadata["fingerprint"]) == report["fingerprint"]
    assert metadata["template"] == ["title", "brand"]
    assert len(metadata["texts_sha256"]) == 64
    with pytest.raises(InputError, match="of another catalogue"):
        item_vectors(ITEMS.with_columns(title=pl.Series(["hat", "coat", "sock"])), f"file:{out}")
    by_id = dict(zip(ids, vectors, strict=True))
    assert (item_vectors(ITEMS, f"file:{out}") == np.stack([by_id[item] for item in ITEMS["item_id"]])).all()


def test_the_report_for_people(tmp_path, run):
    ITEMS.write_parquet(tmp_path / "items.parquet")
    out = tmp_path / "v.parquet"
    assert f"{out}: 3 items x 3 by lsa" in run("--items", tmp_path / "items.parquet", "--encoder", "lsa", "--out", out)
    # From a file to a file: no template is claimed.
    copy = tmp_path / "w.parquet"
    run("--items", tmp_path / "items.parquet", "--encoder", f"file:{out}", "--out", copy)
    assert read_vectors(copy)[2]["template"] is None


def test_bad_input_leaves_no_file(tmp_path, run):
    items, out = tmp_path / "items.parquet", tmp_path / "v.parquet"
    ITEMS.write_parquet(items)
    for arguments, message in (
        (("--items", items, "--encoder", "lsaa", "--out", out), "did you mean 'lsa'"),
        (("--items", items, "--encoder", "lsa", "--template", "brnd", "--out", out), "did you mean 'brand'"),
        (("--items", tmp_path / "none.parquet", "--encoder", "lsa", "--out", out), "does not exist"),
        (("--items", items, "--encoder", "lsa", "--empty-text", "nothing", "--out", out), "choose one of mean"),
        (("--items", items, "--encoder", "lsa", "--out", tmp_path / "v.csv"), "ending in .parquet"),
    ):
        with pytest.raises(InputError, match=message):
            run(*arguments)
    assert not out.exists()
