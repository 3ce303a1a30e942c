"""``lexirec data``: one JSON document on stdout, errors as InputError, conversion whole or absent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import lexirec
from lexirec.cli.data import app
from lexirec.data import DataWarning, read_dataset
from lexirec.errors import InputError, StorageError

LOG = pl.DataFrame(
    {
        "user_id": list("uuuvvvw"),
        "item_id": list("abbabca"),
        "timestamp": [1_500_000_000 + k for k in range(7)],
        "rating": [5.0, 4, 4, 5, 1, 5, 5],
    }
)
ITEMS = pl.DataFrame({"item_id": list("abcd"), "title": ["Soap", "Brush", None, "Cup"], "tags": [["x"], None, ["y", "z"], []]})


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "shop"
    place.mkdir()
    LOG.write_csv(place / "interactions.csv")
    ITEMS.write_parquet(place / "items.parquet")
    return place


def call(*arguments) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_describe(folder):
    facts = json.loads(call("describe", folder, "--json"))
    assert facts["content_hash"] == read_dataset(folder).content_hash
    text = call("describe", folder)
    assert "interactions                7" in text
    assert "items.title                 75.0% filled, String" in text
    assert "rating                      mean 4.14, 1 to 5, 7 known" in text


def test_check(folder):
    report = json.loads(call("check", folder, "--json", "--split", "leave-one-out"))
    places = {p["place"] for p in report["problems"]}
    assert {"items", "items.title", "split leave-one-out"} <= places
    assert "advice: items.title: 1 of 4 items have no title" in call("check", folder)


def test_strict_check_fails_on_a_warning(folder):
    result = CliRunner().invoke(app, ["check", str(folder), "--split", "leave-one-out", "--strict"])
    assert result.exit_code == 1
    assert call("check", folder, "--strict")


def test_convert_round_trip(folder, tmp_path):
    facts = json.loads(call("convert", folder, "--out", tmp_path / "new", "--json"))
    again = read_dataset(tmp_path / "new")
    assert again.content_hash == facts["content_hash"] == read_dataset(folder).content_hash
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["dataset.json", "interactions.parquet", "items.parquet"]
    with pytest.raises(InputError, match=r"new exists already; choose another folder or remove it"):
        call("convert", folder, "--out", tmp_path / "new")


def test_convert_files_of_a_shop(tmp_path):
    (tmp_path / "products.csv").write_text("sku,name,brand\na,Soap,Ada\nb,Brush,\n")
    (tmp_path / "orders.csv").write_text("customer,sku,when\nu,b,2024-01-02\nu,a,2024-01-01\n")
    (tmp_path / "lines.csv").write_text("customer,sku,name,brand,when\nu,b,Brush,,2024-01-02\nu,a,Soap,Ada,2024-01-01\n")
    columns = [word for pair in ("user_id=customer", "item_id=sku", "timestamp=when", "title=name") for word in ("--column", pair)]
    call("convert", tmp_path / "orders.csv", "--items", tmp_path / "products.csv", *columns, "--out", tmp_path / "one")
    call("convert", tmp_path / "lines.csv", "--item-columns", "name,brand", *columns, "--out", tmp_path / "two")
    one, two = read_dataset(tmp_path / "one"), read_dataset(tmp_path / "two")
    assert one.content_hash == two.content_hash
    assert one.items.rows() == [("a", "Soap", "Ada"), ("b", "Brush", None)]
    assert one.interactions["item_id"].to_list() == ["a", "b"]


def test_html_of_a_shop_is_seen_and_taken_out_on_request(tmp_path):
    (tmp_path / "products.csv").write_text(
        "item_id,title,description\na,<b>Soap</b> &amp; Oil,Line<br>next <script>alert(1)</script>\nb,I <3 tea,<p></p>\n"
    )
    (tmp_path / "orders.csv").write_text("user_id,item_id,review\nu,b,so &lt;so&gt;\nu,a,<i>fine</i>\n")
    source = (tmp_path / "orders.csv", "--items", tmp_path / "products.csv")
    said = call("check", *source)
    assert "advice: items.title: 1 of 2 texts hold HTML ('<b>Soap</b> &amp; Oil')" in said
    assert "--clean-html" in said
    call("convert", *source, "--out", tmp_path / "kept")
    assert read_dataset(tmp_path / "kept").items["title"][0] == "<b>Soap</b> &amp; Oil"
    call("convert", *source, "--out", tmp_path / "new", "--clean-html")
    data = read_dataset(tmp_path / "new")
    assert data.items.rows() == [("a", "Soap & Oil", "Line next"), ("b", "I <3 tea", None)]
    assert data.interactions["review"].to_list() == ["so <so>", "fine"]
    assert "HTML" not in call("check", tmp_path / "new")
    assert json.loads((tmp_path / "new" / "dataset.json").read_text())["made"]["clean_html"] is True
    # Lists of text, as Parquet has them.
    lists = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"], "tags": [["x &amp; y", "<p>"], None, []]})
    lists.write_parquet(tmp_path / "lists.parquet")
    call("convert", tmp_path / "orders.csv", "--items", tmp_path / "lists.parquet", "--out", tmp_path / "lists", "--clean-html")
    assert read_dataset(tmp_path / "lists").items["tags"].to_list() == [["x & y"], None, []]


def test_reviews_of_own_tables_are_kept_without_asking(folder, tmp_path):
    with pytest.raises(InputError, match=r"column 'review' of your own tables is always kept .*leave --reviews \(reviews=...\) out"):
        call("convert", folder, "--out", tmp_path / "new", "--reviews")
    with pytest.raises(InputError, match="the format 'movielens-1m' has no reviews; leave --reviews"):
        call("convert", folder, "--format", "movielens-1m", "--out", tmp_path / "new", "--reviews")
    assert not (tmp_path / "new").exists()


def test_convert_filters_in_order(folder, tmp_path):
    options = ("--min-rating", "4", "--duplicates", "consecutive", "--k-core-user", "2", "--k-core-item", "2", "--core-mode", "single-pass")
    call("convert", folder, "--out", tmp_path / "new", *options)
    data = read_dataset(tmp_path / "new")
    # v's b goes for its rating, u's second b as a repeat, w for one event, then b and c with one event each.
    assert data.interactions.select("user_id", "item_id").rows() == [("u", "a"), ("v", "a")]
    made = json.loads((tmp_path / "new" / "dataset.json").read_text())["made"]
    assert made["k_core"] == {"user": 2, "item": 2, "mode": "single-pass"}
    assert made["duplicates"] == "consecutive"


def test_failed_convert_leaves_nothing(folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="leaves nothing"):
        call("convert", folder, "--out", tmp_path / "new", "--k-core-user", "50")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lexirec.data.convert.write_json", full)
    with pytest.raises(StorageError, match=r"new can't be written: the disk is full \(.*make room"):
        call("convert", folder, "--out", tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["shop"]


def test_convert_dump_with_users_and_options(tmp_path):
    dump = tmp_path / "ml"
    dump.mkdir()
    (dump / "ratings.dat").write_text("1::10::5::100\n2::10::4::90\n2::20::1::95\n")
    (dump / "movies.dat").write_text("10::Heat (1995)::Action\n20::Jaws (1975)::Horror\n")
    (dump / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n9::M::56::16::70072\n")
    call("convert", dump, "--format", "movielens-1m", "--out", tmp_path / "new", "--min-rating", "4", "--catalogue", "interacted")
    data = read_dataset(tmp_path / "new")
    assert data.items["title"].to_list() == ["Heat"]
    assert pl.read_parquet(tmp_path / "new" / "users.parquet")["user_id"].to_list() == ["1", "2"]


def test_columns_encoding_and_errors(tmp_path):
    (tmp_path / "log.csv").write_bytes("kunde;ware\nMüller;a\nMaier;b\n".encode("latin-1"))
    arguments = (
        "describe",
        tmp_path / "log.csv",
        "--encoding",
        "latin-1",
        "--option",
        "separator=;",
        "--column",
        "user_id=kunde",
        "--column",
        "item_id=ware",
    )
    assert json.loads(call(*arguments, "--json"))["users"] == 2
    with pytest.raises(InputError, match="--column is 'kunde'; write key=value"):
        call("describe", tmp_path / "log.csv", "--column", "kunde")
    with pytest.raises(InputError, match="not UTF-8"):
        call("describe", tmp_path / "log.csv", "--option", "separator=;")
    with pytest.raises(InputError, match="does not exist"):
        call("check", tmp_path / "nothing")
    with pytest.raises(InputError, match=r"--catalogue is 'al'; choose all or interacted \(did you mean 'all'\?\)"):
        call("convert", tmp_path / "log.csv", "--out", tmp_path / "x", "--catalogue", "al")


def test_stdout_holds_json_alone(folder):
    # Warnings and progress must not reach stdout: the items table lacks c, which is said on stderr.
    ITEMS.filter(pl.col("item_id") != "c").write_parquet(folder / "items.parquet")
    code = "from lexirec.cli.data import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "describe", str(folder), "--unknown-items", "add", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(lexirec.__file__).parents[1])},
    )
    assert json.loads(done.stdout)["items"] == 4
    assert "added without a title" in done.stderr


def test_convert_joins_a_further_table_of_items(folder, tmp_path):
    ITEMS.select("item_id", profile=pl.lit("For all")).write_parquet(tmp_path / "more.parquet")
    call("convert", folder, "--item-table", tmp_path / "more.parquet", "--out", tmp_path / "new")
    assert read_dataset(tmp_path / "new").items["profile"].to_list() == ["For all"] * 4
    assert json.loads((tmp_path / "new" / "dataset.json").read_text())["made"]["item_table"] == "more.parquet"
    assert "items.profile" in call("describe", folder, "--item-table", tmp_path / "more.parquet")
    (tmp_path / "more.parquet").rename(folder / "beside.parquet")
    call("convert", folder, "--item-table", "beside.parquet", "--out", tmp_path / "again")  # by its name in the data set's folder
    assert (tmp_path / "again" / "items.parquet").read_bytes() == (tmp_path / "new" / "items.parquet").read_bytes()


def test_bad_rows_and_words_for_missing_values(tmp_path):
    (tmp_path / "orders.csv").write_text("user_id,item_id\nNULL,a\nnone,b\nu,b\n")
    with (
        pytest.raises(InputError, match=r"user_id: 1 of 3 ids are missing.*--bad-rows drop"),
        pytest.warns(DataWarning, match="--null-values"),
    ):
        call("convert", tmp_path / "orders.csv", "--out", tmp_path / "new")
    with pytest.warns(DataWarning, match="read as missing values|rows are left out"):
        call("convert", tmp_path / "orders.csv", "--out", tmp_path / "one", "--bad-rows", "drop", "--null-values", "NULL, none")
    assert read_dataset(tmp_path / "one").users.ids.to_list() == ["u"]
    call("convert", tmp_path / "orders.csv", "--out", tmp_path / "three", "--null-values", "")
    assert read_dataset(tmp_path / "three").users.ids.to_list() == ["NULL", "none", "u"]
