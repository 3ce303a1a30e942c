"""Asking a model from the shell: one person, many into a file, and what may be shown."""

import json
from pathlib import Path

import polars as pl
import pytest

from lexirec import runs
from lexirec.cli.main import run
from lexirec.models import load_model
from tests.models.toys import checkerboard

SETS = ["encoder=lsa", "embedding_dim=8", "batch_size=64", "num_negs=4", "epochs=3", "eval_every=3", "threads=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    data, items = checkerboard()
    (folder / "data").mkdir()
    data.interactions.write_parquet(folder / "data" / "interactions.parquet")
    priced = items.with_columns(price=pl.int_range(pl.len()).cast(pl.String) + ",50 EUR")
    priced.write_parquet(folder / "data" / "items.parquet")
    runs.fit_run(runs.resolve("alpharec", [folder / "data"], sets=SETS, split="all"), folder / "run", progress=False)
    return folder


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict:
    assert run([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run([*map(str, arguments)]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_everybody_into_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    out = tmp_path / f"found{suffix}"
    assert run(["recommend", str(folder / "run"), "--users", "all", "-k", "3", "--out", str(out)]) == 0
    assert "60 rows for 20 users" in capsys.readouterr().out
    read = {".csv": pl.read_csv, ".tsv": lambda p: pl.read_csv(p, separator="\t"), ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}
    found = read[suffix](out)
    assert found.columns == ["user_id", "item_id", "score", "rank", "answered_by", "reason", "title"]
    model = load_model(folder / "run")
    expected = model.recommend(model.users.ids.to_list(), k=3)
    assert found["item_id"].to_list() == expected["item_id"].to_list()
    assert found["title"][0] == dict(model.items.select("item_id", "title").iter_rows())[found["item_id"][0]]


def test_some_users_of_a_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "users.csv").write_text("user_id\nu03\nstranger\nu03\n")
    out = tmp_path / "found.csv"
    assert run(["recommend", str(folder / "run"), "--users", str(tmp_path / "users.csv"), "-k", "2", "--out", str(out)]) == 0
    assert "1 of 2 users are not in the log" in capsys.readouterr().err
    found = pl.read_csv(out)
    assert found.filter(pl.col("user_id") == "stranger")["answered_by"].unique().to_list() == ["popularity"]
    assert found.filter(pl.col("user_id") == "stranger")["reason"][0] == "there is no user 'stranger'"


def test_what_may_be_shown(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["recommend", folder / "run", "--user", "u03", "--seen", "-k", "20"]

    def items(*arguments: object) -> set[str]:
        return {row["item_id"] for row in ask(capsys, *one, *arguments)["items"]}

    (tmp_path / "stock.txt").write_text("i01\ni02\n\ni19\n")
    (tmp_path / "sold.csv").write_text("item_id,since\ni02,x\n")
    assert items("--candidates", tmp_path / "stock.txt") == {"i01", "i02", "i19"}
    (tmp_path / "wide.txt").write_text("item_id\ni01\ni02\n", encoding="utf-16")
    assert items("--candidates", tmp_path / "wide.txt") == {"i01", "i02"}
    (tmp_path / "odd.txt").write_bytes(b"i01\n\x80\n")
    assert "is not UTF-8" in refused(capsys, *one, "--candidates", tmp_path / "odd.txt")
    assert items("--candidates", tmp_path / "stock.txt", "--exclude", tmp_path / "sold.csv") == {"i01", "i19"}
    assert items("--where", "price<3", "--where", "categories=food") == {"i00", "i02"}
    assert items("--where", "price<3", "--candidates", tmp_path / "stock.txt") == {"i01", "i02"}
    assert "loosen a condition" in refused(capsys, *one, "--where", "price>500")
    assert "has no column 'item_id'" in refused(capsys, *one, "--exclude", _table(tmp_path, "a,b\n1,2\n"))
    assert "does not exist" in refused(capsys, *one, "--candidates", tmp_path / "none.csv")


def _table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_new_items_and_saved_models(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.csv").write_text("item_id,title\nnew,red apple fruit 99\n")
    new = ["--items", tmp_path / "new.csv"]
    assert "new" in {
        row["item_id"] for row in ask(capsys, "recommend", folder / "run", "--intent", "red apple fruit", "-k", 8, *new)["items"]
    }
    near = ask(capsys, "similar", folder / "run", "--item", "new", "-k", 5, *new)
    assert [row["rank"] for row in near] == [1, 2, 3, 4, 5]
    assert all(row["title"].startswith("red") for row in near)
    load_model(folder / "run").save(tmp_path / "saved")
    assert ask(capsys, "recommend", tmp_path / "saved", "--user", "u03") == ask(capsys, "recommend", folder / "run", "--user", "u03")
    assert run(["similar", str(tmp_path / "saved"), "--item", "i00,i01", "-k", "2"]) == 0
    assert "like i01:" in capsys.readouterr().out


def test_new_items_may_call_their_title_as_a_catalogue_may(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.csv").write_text("item_id,product_name\nnew,red apple fruit 99\n")
    command = ["recommend", folder / "run", "--intent", "red apple fruit", "-k", 8, "--items", tmp_path / "new.csv"]
    assert "new" in {row["item_id"] for row in ask(capsys, *command)["items"]}
    (tmp_path / "new.csv").write_text("item_id,titel\nnew,red apple fruit 99\n")
    assert "did you mean 'titel'" in refused(capsys, *command)


def test_a_wish_is_explained_and_a_list_of_ids_is_no_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "recommend", folder / "run", "--intent", "red apple fruit", "-k", 2, "--explain")["items"]
    assert all(why["kind"] == "words" and 0.2 < why["weight"] <= 1 for item in found for why in item["because"][:1])
    command = ["recommend", folder / "run", "--user", "u03", "--seen", "--candidates"]
    for name in ("stock.csv", "stock.txt"):
        (tmp_path / name).write_text("i00\ni02\n")
    assert "ids alone, one per line, go into a .txt file" in refused(capsys, *command, tmp_path / "stock.csv")
    shown = ask(capsys, *command, tmp_path / "stock.txt")["items"]
    assert {row["item_id"] for row in shown} == {"i00", "i02"}


def test_what_is_popular_is_explained_by_its_count(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.fit_run(runs.resolve("popularity", [folder / "data"], split="all"), tmp_path / "popular", progress=False)
    (item,) = ask(capsys, "recommend", tmp_path / "popular", "--user", "u03", "-k", 1, "--explain")["items"]
    (why,) = item["because"]
    assert (why["kind"], why["name"]) == ("popularity", f"chosen {why['weight']:,.0f} times")


def test_tables_with_names_of_their_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.csv").write_text("nr,title\nnew,red apple fruit 99\ni00,red apple fruit 0\n")
    command = [
        "recommend",
        folder / "run",
        "--history",
        "new",
        "--items",
        tmp_path / "new.csv",
        "--column",
        "item_id=nr",
        "--seen",
        "--json",
    ]
    assert run([str(word) for word in [*command, "--candidates", tmp_path / "new.csv"]]) == 0
    said = capsys.readouterr()
    assert {row["item_id"] for row in json.loads(said.out)["items"]} == {"new", "i00"}
    assert "1 of 2 item ids exist already" in said.err
    assert run(["recommend", str(folder / "run"), "--user", "u03", "--items", str(tmp_path / "new.csv")]) == 2
    assert "--column item_id=YOURS" in capsys.readouterr().err
    assert run(["recommend", str(folder / "run"), "--user", "u03", "--exclude", str(tmp_path / "new.csv")]) == 2
    assert "--column item_id=YOURS" in capsys.readouterr().err
    (tmp_path / "common.csv").write_text("SKU\ni01\ni00\n")  # a common name, as where the log is read
    assert run(["recommend", str(folder / "run"), "--user", "u03", "--candidates", str(tmp_path / "common.csv"), "--seen", "--json"]) == 0
    assert {row["item_id"] for row in json.loads(capsys.readouterr().out)["items"]} == {"i00", "i01"}
    assert run(["recommend", str(folder / "run"), "--user", "u03", "--alpha", ".3"]) == 2
    assert run(["recommend", str(folder / "run"), "--history", ","]) == 2
    assert "names no item" in capsys.readouterr().err


def test_a_basket_beside_a_known_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(capsys, "recommend", folder / "run", "--user", "u02", "--history", "i01,gone", "-k", 3)
    assert found["answered_by"] == "history" and found["reason"] is None
    assert found["notes"] == ["1 of 2 history items are not in the catalogue (gone)"]
    assert all(int(row["item_id"][1:]) % 2 == 1 for row in found["items"])
    found = ask(capsys, "recommend", folder / "run", "--user", "u02", "--history", "i01", "-k", 2, "--explain")
    assert {why["name"] for row in found["items"] for why in row["because"] if why["kind"] == "history"} == {"i01"}


def test_what_does_not_go_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ["recommend", folder / "run"]
    assert "go together" in refused(capsys, *one, "--users", "all")
    assert "go together" in refused(capsys, *one, "--user", "u03", "--out", "x.csv")
    assert "leave out --user" in refused(capsys, *one, "--users", "all", "--user", "u03", "--out", "x.csv")
    assert "for one person" in refused(capsys, *one, "--users", "all", "--out", "x.csv", "--explain")
    assert "write a .csv" in refused(capsys, *one, "--users", "all", "--out", "x.xls")
    assert "nothing to ask with" in refused(capsys, *one)


def test_an_id_that_was_probably_meant_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, meant in (
        (("--user", "U03"), "there is no user 'U03' (did you mean 'u03'?)"),
        (("--history", "I00"), "(I00 (did you mean 'i00'?))"),
    ):
        assert run(["recommend", str(folder / "run"), *given]) == 0
        assert meant in capsys.readouterr().err


def test_what_should_never_be_shown_and_is_written_otherwise_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["recommend", str(folder / "run"), "--user", "u03", "--seen", "-k", "20"]
    for lines, told in (
        ("I02\ni03\n", "1 of 2 excluded ids are written otherwise in the catalogue, so they may be shown: 'I02' (did you mean 'i02'?)"),
        ("x\ny\n", "none of 2 excluded ids is in the catalogue, such as 'x': nothing is left out"),
    ):
        (tmp_path / "never.txt").write_text(lines)
        assert run([*one, "--exclude", str(tmp_path / "never.txt")]) == 0
        assert told in capsys.readouterr().err
    (tmp_path / "never.txt").write_text("i02\nx\n")  # a list for many shops holds others' ids too
    assert run([*one, "--exclude", str(tmp_path / "never.txt")]) == 0
    found = capsys.readouterr()
    assert "excluded" not in found.err
    assert "i02" not in found.out


@pytest.mark.parametrize(("text", "said"), [("item_id\tname\ni02\tx\n", ""), ("sku;name\ni02;x\n", "--column item_id=sku")])
def test_a_text_file_with_a_header_is_a_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (tmp_path / "never.txt").write_text(text)
    one = ["recommend", folder / "run", "--user", "u03", "--seen", "-k", "20", "--exclude", tmp_path / "never.txt", *said.split()]
    shown = {row["item_id"] for row in ask(capsys, *one)["items"]}
    assert "i03" in shown
    assert "i02" not in shown


def test_options_of_the_tables_beside_a_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "users.csv").write_bytes("user_id,Straße\nu03,Köln\nNULL,Ulm\n".encode("latin-1"))
    out = tmp_path / "found.csv"
    many = ["recommend", str(folder / "run"), "--users", str(tmp_path / "users.csv"), "-k", "2", "--out", str(out)]
    assert "--encoding latin-1" in refused(capsys, *many)
    assert "ids are missing" in refused(capsys, *many, "--encoding", "latin-1")
    assert run([*many, "--encoding", "latin-1", "--null-values", ""]) == 0
    assert set(pl.read_csv(out)["user_id"]) == {"u03", "NULL"}
    capsys.readouterr()
    (tmp_path / "new.csv").write_text("sku,Bezeichnung\nn1,square red\n")
    near = ["similar", folder / "run", "--item", "n1", "--items", tmp_path / "new.csv", "--column", "item_id=sku"]
    assert run([*map(str, near), "--column", "title=Bezeichnung"]) == 0
    assert "no column" not in capsys.readouterr().err
    assert run([*map(str, near)]) == 0
    assert "new items have no column 'title'" in capsys.readouterr().err
    assert "new.csv has a column 'Bezeichnug' (did you mean 'Bezeichnung'?)" in refused(capsys, *near, "--column", "title=Bezeichnug")
    assert "names no item" in refused(capsys, "similar", folder / "run", "--item", " ,")


def test_a_list_of_ids_has_its_encoding(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "never.txt").write_bytes("Käse\ni02\n".encode("latin-1"))
    one = ["recommend", folder / "run", "--user", "u03", "--seen", "-k", "20", "--exclude", tmp_path / "never.txt"]
    assert "line 1 is not UTF-8" in refused(capsys, *one)
    assert "i02" not in {row["item_id"] for row in ask(capsys, *one, "--encoding", "latin-1")["items"]}
    assert "which Python does not know" in refused(capsys, *one, "--encoding", "latin-99")
