"""Frames and files: the same data by every way, and a clear error (value, place, cure) for everything that can't be used."""

import gzip
import json
import warnings
from datetime import datetime, timezone

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lexirec.data import Dataset, DataWarning, from_frames, interacted_only, read_dataset
from lexirec.data import readers as readers_module
from lexirec.data.tables import read_table
from lexirec.errors import InputError

LOG = pl.DataFrame(
    {"user_id": ["u1", "u1", "u2", "u3"], "item_id": ["a", "b", "a", "b"], "timestamp": [10, 20, 30, 40], "rating": [4.0, 5.0, 3.0, 1.0]}
)
ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ['Soap, "fine"', "Brush", "Ünïcode"]})
HASH = from_frames(LOG, ITEMS).content_hash


# --- the same data by every way -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        lambda f: f,
        lambda f: f.lazy(),
        lambda f: f.to_pandas(),
        lambda f: f.to_arrow(),
        lambda f: f.to_arrow().to_batches()[0],
        lambda f: pd.DataFrame(f.to_dict(as_series=False)).astype({"item_id": "category"}),
        lambda f: pd.DataFrame(f.to_dict(as_series=False)).set_index("item_id"),
        lambda f: pd.DataFrame(f.to_dict(as_series=False), dtype=object),
    ],
)
def test_frames_of_every_library(convert):
    assert from_frames(convert(LOG), convert(ITEMS)).content_hash == HASH


def test_pandas_without_pyarrow(monkeypatch):
    def absent(*_, **__):
        raise ModuleNotFoundError("pyarrow")

    monkeypatch.setattr(readers_module.pl, "from_pandas", absent)
    assert from_frames(pd.DataFrame(LOG.to_dict(as_series=False)), pd.DataFrame(ITEMS.to_dict(as_series=False))).content_hash == HASH


def write(frame: pl.DataFrame, path) -> None:
    name = path.name
    if name.endswith(".parquet"):
        frame.write_parquet(path)
    elif ".arrow" in name:
        frame.write_ipc(path)
    else:
        text = frame.write_ndjson() if "json" in name else frame.write_csv(separator="\t" if ".tsv" in name else ",")
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl", "ndjson", "arrow", "csv.gz", "tsv.gz", "jsonl.gz"])
def test_files_of_every_kind_hold_the_same_data(tmp_path, ending):
    write(LOG, tmp_path / f"interactions.{ending}")
    write(ITEMS, tmp_path / f"items.{ending}")
    data = read_dataset(tmp_path)
    assert data.content_hash == HASH
    assert data.name == tmp_path.name
    alone = read_dataset(tmp_path / f"interactions.{ending}", items=str(tmp_path / f"items.{ending}"))
    assert alone.content_hash == HASH


def test_json_array_and_bom_and_crlf(tmp_path):
    (tmp_path / "interactions.json").write_text(LOG.write_json())
    (tmp_path / "items.csv").write_bytes(b"\xef\xbb\xbf" + ITEMS.write_csv(line_terminator="\r\n").encode())
    assert read_dataset(tmp_path).content_hash == HASH


def test_csv_keeps_leading_zeros_and_reads_other_encodings(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\n007,0012,5\n7,0012,6\n")
    (tmp_path / "items.csv").write_bytes("item_id,title\n0012,Café\n".encode("latin-1"))
    data = read_dataset(tmp_path, encoding="latin-1")
    assert data.users.ids.to_list() == ["007", "7"]
    assert data.items.row(0) == ("0012", "Café")


def test_semicolons_are_told_and_said(tmp_path):
    (tmp_path / "log.csv").write_text("user_id;item_id\nu;a\nv;b\n")
    with pytest.warns(DataWarning, match="the header has ';' and no ','"):
        assert read_dataset(tmp_path / "log.csv").n_interactions == 2


def test_file_without_header(tmp_path):
    (tmp_path / "ratings.csv").write_text("u,a,5.0,100\nv,b,4.0,90\n")
    data = read_dataset(tmp_path / "ratings.csv", names=["user_id", "item_id", "rating", "timestamp"])
    assert data.interactions["rating"].to_list() == [5.0, 4.0]


def test_without_items_titles_are_unknown():
    data = from_frames(LOG)
    assert data.items.to_dict(as_series=False) == {"item_id": ["a", "b"], "title": [None, None]}


ORDERS = pl.DataFrame(
    {
        "user_id": ["u", "u", "v", "v"],
        "item_id": ["b", "a", "a", "b"],
        "product_name": ["Brush", "Soap", "Soap", None],
        "brand": ["Ada", None, None, "Bo"],
        "when": ["2024-01-02", "2024-01-01", "2024-01-03", "2024-01-04"],
    }
)


def test_items_of_a_log_that_describes_them():
    named = {"timestamp": "when"}
    with pytest.warns(DataWarning, match=r"no titles; if 'product_name' is theirs .*item_columns=\['product_name'\]"):
        data = from_frames(ORDERS, columns=named)
    assert data.items["title"].to_list() == [None, None]  # not read: it could be the event's
    assert data.interactions.columns == ["user_id", "item_id", "timestamp", "brand", "product_name"]
    with pytest.warns(DataWarning, match=r"brand: 1 of 2 items have several values \('b'\); the latest of each is taken") as caught:
        data = Dataset.from_frames(ORDERS, columns=named, item_columns=["product_name", "brand"])
    assert len(caught) == 1
    assert data.items.to_dict(as_series=False) == {"item_id": ["a", "b"], "title": ["Soap", "Brush"], "brand": [None, "Bo"]}
    assert data.interactions.columns == ["user_id", "item_id", "timestamp"]
    with pytest.warns(DataWarning, match="several values"):  # the latest event's value, not the last row's
        assert from_frames(ORDERS[::-1], columns=named, item_columns=["brand", "product_name"]).items["brand"].to_list() == [None, "Bo"]
    assert from_frames(ORDERS, columns=named, item_columns="product_name").items["title"].to_list() == ["Soap", "Brush"]
    both = from_frames(ORDERS.rename({"product_name": "words"}), columns={**named, "title": "words"})
    assert both.items["title"].to_list() == ["Soap", "Brush"]
    two = ORDERS.with_columns(pl.col("product_name").alias("title"))
    assert from_frames(two, columns=named, item_columns=["title"]).items["title"].to_list() == ["Soap", "Brush"]
    for columns, item_columns in ((named, ["title", "product_name"]), ({**named, "title": "product_name"}, ["title"])):
        with pytest.raises(InputError, match="could each be the title; leave one out, or rename one"):
            from_frames(two, columns=columns, item_columns=item_columns)
    with pytest.raises(InputError, match=r"item_columns: 'brnd' is no further column of the interactions \(did you mean 'brand'"):
        from_frames(ORDERS, columns=named, item_columns=["brnd"])
    with pytest.raises(InputError, match="there is a table of items; leave one of the two out"):
        from_frames(LOG, ITEMS, item_columns=["rating"])


@pytest.mark.filterwarnings("ignore:interactions.brand")
def test_a_column_that_looks_like_times_is_offered():
    named = {"item_columns": ["product_name", "brand"]}
    with pytest.warns(DataWarning, match=r"'when' could be: read it with columns=\{'timestamp': 'when'\}"):
        data = from_frames(ORDERS, **named)
    assert data.interactions["item_id"].to_list() == ["b", "a", "a", "b"]  # the order of the rows
    dates = ORDERS.with_columns(pl.col("when").str.to_date())
    with pytest.warns(DataWarning, match="'when' could be"):
        from_frames(dates, **named)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="interactions.brand")
        assert from_frames(ORDERS, columns={"timestamp": "when"}, **named).interactions["item_id"].to_list() == ["a", "b", "a", "b"]
        from_frames(ORDERS.drop("when"), **named)
        from_frames(ORDERS.with_columns(pl.lit("Monday").alias("when"), pl.duration(days=1).alias("for")), **named)


def test_catalogue(tmp_path):
    write(LOG, tmp_path / "interactions.parquet")
    write(ITEMS, tmp_path / "items.parquet")
    assert read_dataset(tmp_path, catalogue="interacted").content_hash == interacted_only(read_dataset(tmp_path)).content_hash
    with pytest.raises(InputError, match=r"catalogue is 'intracted'; choose 'all' or 'interacted' \(did you mean 'interacted'\?\)"):
        read_dataset(tmp_path, catalogue="intracted")


# --- ids ----------------------------------------------------------------------------------------------------------------------------------


def test_ids_of_different_types_agree():
    log = pl.DataFrame({"user_id": [1, 2], "item_id": [12.0, 7.0]})
    for ids in (["12", "7"], [12, 7], [12.0, 7.0]):
        assert from_frames(log, pl.DataFrame({"item_id": ids, "title": ["x", "y"]})).interactions["item_id"].to_list() == ["12", "7"]


def test_mixed_types_in_one_pandas_column():
    log = pd.DataFrame({"user_id": [1, "1", 2.0], "item_id": ["a", 5, 5.0]})
    assert from_frames(log).interactions.select("user_id", "item_id").rows() == [("1", "a"), ("1", "5"), ("2", "5")]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5, 2.0], r"interactions.user_id: 1 of 2 ids are not whole numbers \(1.5\); store ids as text or integers"),
        ([float("inf"), 2.0], r"1 of 2 ids are not whole numbers \(inf\)"),
        (
            [float("nan"), 2.0],
            r"interactions.user_id: 1 of 2 ids are missing, the first in row 0 \(counted from 0\); drop these rows or fill the ids",
        ),
        (["u", None], r"1 of 2 ids are missing, the first in row 1"),
        (["u", ""], r"1 of 2 ids are missing, the first in row 1"),
        ([None, None], r"interactions.user_id: every id is missing; fill the column"),
        ([True, False], r"interactions.user_id: ids are of type Boolean; store them as text or integers"),
        ([["u"], ["v"]], r"ids are of type List\(String\)"),
        ([b"u", b"\xff"], r"interactions.user_id: the bytes are not UTF-8; store text"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(InputError, match=message):
        from_frames(pl.DataFrame({"user_id": ids, "item_id": ["a", "b"]}, strict=False))


def test_duplicate_item_ids():
    items = pl.DataFrame({"item_id": ["a", "b", "a", "b", "c"], "title": list("vwxyz")})
    with pytest.raises(InputError, match=r"items.item_id: 2 ids occur more than once \('a', 'b'\); keep one row per item"):
        from_frames(LOG, items)


def test_unknown_items():
    with pytest.raises(
        InputError,
        match=r"interactions.item_id: 2 of 4 events name 1 items that the items table lacks \('b'\); add them",
    ):
        from_frames(LOG, ITEMS[:1])
    with pytest.warns(DataWarning, match="these events are dropped"):
        assert from_frames(LOG, ITEMS[:1], unknown_items="drop").n_interactions == 2
    with pytest.warns(DataWarning, match="added without a title") as caught:
        assert from_frames(LOG, ITEMS[:1], unknown_items="add").items.rows() == [("a", 'Soap, "fine"'), ("b", None)]
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match=r"no id matches at all, the items table has ids like 'x1'"):
        from_frames(LOG, pl.DataFrame({"item_id": ["x1"], "title": ["X"]}))
    with pytest.raises(InputError, match="unknown_items is 'ignore'; choose 'error', 'drop' or 'add'"):
        from_frames(LOG, ITEMS, unknown_items="ignore")


# --- columns ------------------------------------------------------------------------------------------------------------------------------


def test_named_columns_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = from_frames(
            LOG.rename({"user_id": "customer", "item_id": "sku", "timestamp": "when"}),
            ITEMS.rename({"item_id": "sku", "title": "label"}),
            columns={"user_id": "customer", "item_id": "sku", "timestamp": "when", "title": "label"},
        )
    assert data.content_hash == HASH


def test_common_names_are_read_and_said():
    with pytest.warns(DataWarning) as caught:
        data = from_frames(LOG.rename({"user_id": "userId", "item_id": "asin"}), ITEMS.rename({"title": "name"}))
    assert data.content_hash == HASH
    assert (
        str(caught[0].message)
        == "interactions: column 'userId' is read as 'user_id'; rename it, or say so with columns={'user_id': 'userId'} "
        "(--column user_id=userId), to silence this"
    )
    assert len(caught) == 3


@pytest.mark.parametrize(
    ("log", "items", "columns", "message"),
    [
        (
            LOG.rename({"user_id": "usr_id"}),
            None,
            {},
            (
                r"interactions: column 'user_id' is missing \(did you mean 'usr_id'\?\); the columns are 'usr_id', 'item_id', .*; "
                r"rename one or pass columns="
            ),
        ),
        (LOG.rename({"item_id": "thing"}), None, {}, r"interactions: column 'item_id' is missing; the columns are"),
        (LOG, ITEMS.rename({"title": "titel"}), {}, r"items: column 'title' is missing \(did you mean 'titel'\?\)"),
        (
            LOG.rename({"timestamp": "timestmp"}),
            None,
            {},
            r"interactions: column 'timestmp' looks like a misspelt 'timestamp' and would be overlooked; rename it",
        ),
        (
            LOG.rename({"user_id": "user"}).with_columns(userId=pl.lit("x")),
            None,
            {},
            r"'user_id' is missing and 'user', 'userId' could each be it; choose with columns=\{'user_id': 'user'\}",
        ),
        (
            LOG,
            None,
            {"user": "user_id"},
            r"columns: 'user' is not one of .*; columns maps our name to yours, so write \{'user_id': 'user'\}",
        ),
        (
            LOG,
            None,
            {"rating": "ratng"},
            r"columns: no table has the column 'ratng' that should be read as 'rating' \(did you mean 'rating'\?\)",
        ),
        (LOG, None, {"timestamp": "rating"}, r"columns= reads 'rating' as 'timestamp', but there is a column 'timestamp' too"),
    ],
)
def test_missing_or_misnamed_columns(log, items, columns, message):
    with pytest.raises(InputError, match=message):
        from_frames(log, items, columns=columns)


def test_duplicate_columns(tmp_path):
    twice = pd.DataFrame([["u", "a", "b"]], columns=["user_id", "item_id", "item_id"])
    message = r"interactions: the column 'item_id' occurs 2 times; rename or drop one"
    with pytest.raises(InputError, match=message):
        from_frames(twice)
    with pytest.raises(InputError, match=message):
        from_frames(pa.table([pa.array(["u"]), pa.array(["a"]), pa.array(["b"])], names=["user_id", "item_id", "item_id"]))
    (tmp_path / "interactions.csv").write_text("user_id,item_id,item_id\nu,a,b\n")
    with pytest.raises(InputError, match=r"interactions.csv: the column 'item_id' occurs 2 times in the header; rename or drop one"):
        read_dataset(tmp_path)


def test_other_types_are_refused():
    with pytest.raises(
        InputError, match=r"interactions is of type str; give a pandas, Polars or Arrow table; to read files use Dataset.read"
    ):
        from_frames("log.csv")
    with pytest.raises(InputError, match="items is of type dict"):
        from_frames(LOG, {"item_id": ["a"]})
    with pytest.raises(InputError, match=r"interactions.user_id: row 1 \(counted from 0\) holds a list among other types"):
        from_frames(pd.DataFrame({"user_id": ["u", ["v"]], "item_id": ["a", "b"]}))
    with pytest.raises(InputError, match=r"items.tags: the values are Python objects"):
        from_frames(LOG, ITEMS.with_columns(tags=pl.Series([object()] * 3, dtype=pl.Object)))


# --- sizes --------------------------------------------------------------------------------------------------------------------------------


def test_empty_tables(tmp_path):
    with pytest.raises(InputError, match="interactions: the table has no rows; give at least one row of user_id, item_id, timestamp"):
        from_frames(LOG.clear())
    with pytest.raises(InputError, match="items: the table has no rows"):
        from_frames(LOG, ITEMS.clear())
    (tmp_path / "interactions.csv").write_text("")
    with pytest.raises(InputError, match=r"interactions.csv is empty \(0 bytes\); write the table again"):
        read_dataset(tmp_path)
    (tmp_path / "interactions.csv").write_text("user_id,item_id\n")
    with pytest.raises(InputError, match="interactions: the table has no rows"):
        read_dataset(tmp_path)


def test_one_user_and_one_item_can_be_read_but_not_split():
    data = from_frames(LOG[:1], ITEMS[:1])
    assert (data.n_users, data.n_items) == (1, 1)
    with pytest.raises(InputError, match="one user"):
        data.split("ratio")


def test_huge_titles_are_refused_and_blank_ones_become_unknown():
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["x" * 2**20, "", " \t"]})
    with pytest.raises(
        InputError, match=r"items.title: 1 of 3 titles are longer than 100,000 characters \(item_id 'a': 1,048,576\); look for a quote"
    ):
        from_frames(LOG, items)
    assert from_frames(LOG, items.with_columns(title=pl.col("title").str.slice(0, 100_000))).items["title"].null_count() == 2


def test_titles_that_are_numbers():
    items = pd.DataFrame({"item_id": ["a", "b", "c"], "title": [1984, None, 2001]})
    assert from_frames(LOG, items).items["title"].to_list() == ["1984", None, "2001"]
    with pytest.raises(InputError, match=r"items.title: titles are of type List\(String\); store text"):
        from_frames(LOG, ITEMS.with_columns(title=pl.concat_list("title")))


# --- times, positions, ratings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1_600_000_000_123, 5], [1_600_000_000_123, 5]),
        ([5.0, 7.0], [5, 7]),
        ([datetime(1970, 1, 2), datetime(1970, 1, 1, 0, 0, 5)], [86_400, 5]),
        ([datetime(1970, 1, 2, tzinfo=timezone.utc), datetime(1969, 12, 31, tzinfo=timezone.utc)], [86_400, -86_400]),
        ([datetime(1970, 1, 2).date(), datetime(1970, 1, 1).date()], [86_400, 0]),
        (["1970-01-02", "1970-01-03"], [86_400, 172_800]),
        (["1970-01-02 00:00:01", "1970-01-03 00:00:00"], [86_401, 172_800]),
        (["1970-01-02T00:00:01Z", "1970-01-03T00:00:00Z"], [86_401, 172_800]),
        (["01 2, 1970", "12 31, 1970"], [86_400, 31_449_600]),
        (["31/01/1970", "2/1/1970"], [2_592_000, 86_400]),
        (["2/1/1970", "1/31/1970 00:00:05"], [2_678_400, 2_592_005]),
        (["1/31/1970 10:30", None], [2_629_800, None]),
        (["02.01.1970", "01.02.1970"], [86_400, 2_678_400]),
        (["01-01-1970", "02-02-1970"], [0, 2_764_800]),
        (["12", " 13 "], [12, 13]),
        (["12.0", "13"], [12, 13]),
        ([None, None], [None, None]),
    ],
)
def test_times_of_every_kind(values, expected):
    log = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], "timestamp": values, "position": [0, 0]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = from_frames(log)
    assert data.interactions.schema["timestamp"] == pl.Int64
    assert data.interactions["timestamp"].to_list() == expected


def test_dates_that_are_good_either_way_are_read_day_first_with_a_warning():
    log = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], "timestamp": ["02/02/1970", "01/12/1970"]})
    with pytest.warns(UserWarning, match=r"'01/12/1970' can be read.*day first \(1970-12-01, not 1970-01-12\); write dates with the year"):
        data = from_frames(log)
    assert data.interactions["timestamp"].to_list() == [32 * 86_400, 334 * 86_400]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the cure of the warning
        assert from_frames(log.with_columns(timestamp=pl.Series(["1970-02-02", "1970-12-01"]))).interactions.equals(data.interactions)


def test_fractions_of_a_second_keep_their_order():
    for values in ([5.75, 5.5, 5.25], [datetime(1970, 1, 1, 0, 0, 5, n) for n in (750, 500, 250)]):
        data = from_frames(pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "timestamp": values}))
        assert data.interactions["item_id"].to_list() == ["c", "b", "a"]
        assert data.interactions["timestamp"].to_list() == [5, 5, 5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1.0, float("nan")],
            (
                r"interactions.timestamp: 1 of 2 timestamps can't be read, the first in row 1 \(counted from 0\): nan; store Unix "
                r"seconds or dates like 2024-03-01 12:30:00, not both; "
                r"or leave such rows out with bad_rows='drop' \(lexirec data convert --bad-rows drop\)"
            ),
        ),
        ([float("-inf"), 1.0], r"1 of 2 timestamps can't be read, the first in row 0 \(counted from 0\): -inf;"),
        ([1e30, 1.0], r"interactions.timestamp: 1 of 2 timestamps can't be read, the first in row 0 \(counted from 0\): 1e\+30; store"),
        (
            ["2024-01-01", "yesterday"],
            r"interactions.timestamp: 1 of 2 timestamps can't be read, the first in row 1 \(counted from 0\): 'yesterday'; store Unix",
        ),
        (["nan", "5"], r"1 of 2 timestamps can't be read, the first in row 0 \(counted from 0\): 'nan'; store"),
        (["12/31/2023", "31/12/2023"], r"row 1 .*'31/12/2023' with the day first and row 0 '12/31/2023' with the month first; write all"),
        (["13/13/2023", "01/31/2023"], r"1 of 2 timestamps can't be read, the first in row 0 \(counted from 0\): '13/13/2023'; store"),
        (
            [None, 5],
            (
                r"interactions.timestamp: 1 of 2 timestamps are missing, the first in row 0 .* and no 'position' column orders them; "
                r"drop these rows, fill them, or add"
            ),
        ),
        ([True, False], r"timestamps are of type Boolean; store Unix seconds, dates or times"),
    ],
)
def test_bad_times(values, message):
    with pytest.raises(InputError, match=message):
        from_frames(pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], "timestamp": values}))


def test_missing_pandas_times_are_refused():
    with pytest.raises(InputError, match="1 of 2 timestamps are missing"):
        from_frames(pd.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], "timestamp": [1.0, float("nan")]}))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("position", [0, None], r"interactions.position: 1 of 2 places are missing; fill them, or drop the column to sort by timestamp"),
        ("position", [0, 2**40], r"interactions.position: values don't fit Int32"),
        (
            "rating",
            ["4", "good"],
            r"interactions.rating: row 1 \(counted from 0\) holds 'good', which is no number; mend it or leave it empty",
        ),
        ("rating", ["4,5", "1,000"], r"interactions.rating: row 0 \(counted from 0\) holds '4,5', which is no number"),
        ("rating", [4.0, float("inf")], r"interactions.rating: row 1 \(counted from 0\) is infinite"),
        ("rating", [[4.0], [5.0]], r"interactions.rating: the type is List\(Float64\), not a number"),
    ],
)
def test_bad_numbers(column, values, message):
    with pytest.raises(InputError, match=message):
        from_frames(pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], column: values}))


def test_ratings_may_have_a_decimal_comma():
    log = from_frames(pl.DataFrame({"user_id": ["u", "v", "w"], "item_id": ["a", "b", "c"], "rating": ["4,5", "3", None]})).interactions
    assert log["rating"].to_list() == [4.5, 3.0, None]


def test_missing_ratings_stay_missing():
    data = from_frames(pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "b"], "rating": [4.0, float("nan")]}))
    assert data.interactions["rating"].to_list() == [4.0, None]


# --- damaged files ------------------------------------------------------------------------------------------------------------------------


def test_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "interactions.parquet").write_bytes(b"")
    write(LOG, tmp_path / "interactions.parquet")
    (tmp_path / "items.csv").write_bytes("item_id,title\na,Soap\nb,Café\n".encode("latin-1"))
    with pytest.raises(
        InputError,
        match=r"items.csv: line 3 is not UTF-8 \(byte 0xe9 at place 6 of the line\); convert .* pass encoding='latin-1'",
    ):
        read_dataset(tmp_path)
    with pytest.raises(InputError, match=r"items.csv is not ascii"):
        read_dataset(tmp_path, encoding="ascii")
    with pytest.raises(InputError, match="encoding is 'latin-99', which Python does not know"):
        read_dataset(tmp_path, encoding="latin-99")
    (tmp_path / "items.csv").unlink()
    (tmp_path / "items.jsonl").write_bytes('{"item_id": "a", "title": "Soap"}\n{"item_id": "b", "title": "Café"}\n'.encode("latin-1"))
    with pytest.raises(InputError, match=r"items.jsonl: line 2 is not UTF-8 \(byte 0xe9 at place 31 of the line\); convert"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("parquet", r"interactions.parquet is not a readable Parquet file \(.*\); it is cut off or damaged, write or fetch it again"),
        ("arrow", r"interactions.arrow is not a readable Arrow file"),
        ("csv.gz", r"interactions.csv.gz is a cut off or damaged gzip file \(.*\); fetch it again"),
        ("jsonl.gz", r"interactions.jsonl.gz is a cut off or damaged gzip file"),
        ("jsonl", r"interactions.jsonl: line \d+ is not JSON \(.*\): .*; the file looks cut off, fetch or write it again"),
    ],
)
def test_truncated_files(tmp_path, ending, message):
    path = tmp_path / f"interactions.{ending}"
    write(pl.concat([LOG.with_columns(pl.col("timestamp") * k * 7919) for k in range(500)]), path)
    path.write_bytes(path.read_bytes()[: -max(path.stat().st_size // 3, 5)])
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path)


def test_corrupted_bytes(tmp_path):
    path = tmp_path / "interactions.csv.gz"
    write(pl.concat([LOG] * 3000), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"damaged|not a regular table|not UTF-8"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "user_id,item_id\nu,a\nv,b,c,d\n",
            r"interactions.csv is not a regular table with the separator ',' \(.*\); look for a quote that is never closed",
        ),
        ('user_id,item_id\nu,"a\nv,b\nw,c\n', r"interactions.csv is not a regular table"),
    ],
)
def test_irregular_csv(tmp_path, text, message):
    (tmp_path / "interactions.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_dataset(tmp_path)


def test_broken_json_line(tmp_path):
    (tmp_path / "interactions.jsonl").write_text(
        '{"user_id": "u", "item_id": "a"}\n{"user_id": "v" "item_id": "b"}\n{"user_id": "w", "item_id": "c"}\n'
    )
    with pytest.raises(InputError, match=r"line 2 is not JSON \(Expecting ',' delimiter.*\): .*; mend or remove the line"):
        read_dataset(tmp_path)
    (tmp_path / "interactions.jsonl").write_text("{'user_id': 'u', 'item_id': 'a'}\n")
    with pytest.raises(InputError, match="lines in Python notation are read by the formats amazon-2014 and steam"):
        read_dataset(tmp_path)


# --- folders ------------------------------------------------------------------------------------------------------------------------------


def test_paths_that_lead_nowhere(tmp_path):
    (tmp_path / "beauty").mkdir()
    with pytest.raises(InputError, match=r"beuaty does not exist \(did you mean 'beauty'\?\)"):
        read_dataset(tmp_path / "beuaty")
    with pytest.raises(InputError, match=r"holds nothing: no interactions.parquet, .csv, .tsv or .jsonl, and no known dump"):
        read_dataset(tmp_path / "beauty")
    (tmp_path / "beauty" / "interaction.csv").write_text("user_id,item_id\n")
    with pytest.raises(InputError, match=r"holds interaction.csv: no interactions.parquet, .* \(did you mean 'interaction'\?\)"):
        read_dataset(tmp_path / "beauty")
    with pytest.raises(InputError, match=r"format is 'movielens', which is not one of folder, file"):
        read_dataset(tmp_path / "beauty", format="movielens")


def test_two_tables_of_one_name(tmp_path):
    write(LOG, tmp_path / "interactions.csv")
    write(LOG, tmp_path / "interactions.parquet")
    with pytest.raises(InputError, match=r"has interactions.csv, interactions.parquet: which is the table of interactions"):
        read_dataset(tmp_path)


def test_unknown_options(tmp_path):
    write(LOG, tmp_path / "interactions.csv")
    with pytest.raises(
        InputError, match=r"the format 'folder' has no option 'encodng' \(did you mean 'encoding'\?\); its options are encoding, separator"
    ):
        read_dataset(tmp_path, encodng="utf-8")


def test_large_files_are_read_in_blocks(tmp_path, monkeypatch):
    from lexirec.data import json_tables

    monkeypatch.setattr(json_tables, "BLOCK", 100)
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"a": str(k), "b": k}) + "\n" for k in range(1000)))
    frame = json_tables.read_json_lines(path, ["b", "a", "c"])
    assert frame["a"].to_list() == [str(k) for k in range(1000)]
    assert frame["c"].null_count() == 1000
    path.write_text(path.read_text() + "{oops}\n")
    with pytest.raises(InputError, match="line 1001 is not JSON"):
        json_tables.read_json_lines(path, ["a"])


def test_dataset_methods_reach_the_readers(tmp_path):
    write(LOG, tmp_path / "interactions.csv")
    write(ITEMS, tmp_path / "items.csv")
    assert Dataset.read(tmp_path, name="shop").name == "shop"
    assert Dataset.from_frames(LOG, ITEMS).content_hash == HASH


def test_a_further_table_of_items(tmp_path):
    LOG.write_csv(tmp_path / "interactions.csv")
    ITEMS.write_csv(tmp_path / "items.csv")
    further = tmp_path / "profiles_items.csv"
    ids = read_dataset(tmp_path).items["item_id"]
    pl.DataFrame({"item_id": [ids[0], "of other data"], "profile": ["For those who like it", "x"]}).write_csv(further)
    data = read_dataset(tmp_path, item_table=further)
    assert data.items["profile"].to_list() == ["For those who like it"] + [None] * (len(ids) - 1)
    assert data.items.drop("profile").equals(read_dataset(tmp_path).items)
    assert data.content_hash != read_dataset(tmp_path).content_hash
    for table, message in (
        ({"item_id": [ids[0], ids[0]], "profile": ["a", "b"]}, "1 ids occur more than once"),
        ({"item_id": ["x", "y"], "profile": ["a", "b"]}, "the table belongs to other data"),
        ({"item_id": [ids[0]], "title": ["a"]}, "have a column 'title' already"),
        ({"profile": ["a"]}, "column 'item_id' is missing"),
        ({"item_id": [None, ids[0]], "profile": ["a", "b"]}, "1 of 2 ids are missing"),
    ):
        pl.DataFrame(table).write_csv(further)
        with pytest.raises(InputError, match=message):
            read_dataset(tmp_path, item_table=further)
    with pytest.raises(InputError, match="does not exist"):
        read_dataset(tmp_path, item_table=tmp_path / "nowhere.csv")


def test_two_columns_that_could_be_the_time_are_asked_about():
    log = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "created_at": [2, 1], "event_time": [2, 1]})
    with pytest.raises(InputError, match=r"'timestamp' is missing and 'created_at', 'event_time' could each be it; choose with columns="):
        from_frames(log)
    data = from_frames(log, columns={"timestamp": "event_time"})
    assert data.interactions["item_id"].to_list() == ["b", "a"]


@pytest.mark.parametrize(
    ("stamps", "order"),
    [
        (pl.Series([2**62, -(2**62) - 7, 0], dtype=pl.Int64), "bca"),
        (pl.Series([900, 100, 500]).cast(pl.Datetime("ns")), "bca"),
    ],
)
def test_far_and_fine_times_are_ordered(stamps, order):
    data = from_frames(pl.DataFrame({"user_id": ["u"] * 3, "item_id": list("abc"), "timestamp": stamps}))
    assert "".join(data.interactions["item_id"]) == order


def test_numbers_that_a_type_cannot_hold_are_named():
    log = {"user_id": ["u", "u"], "item_id": ["a", "b"]}
    with pytest.raises(InputError, match="1 of 2 timestamps can't be read, the first in row 1"):  # a missing time, as pandas casts it
        from_frames(pl.DataFrame({**log, "timestamp": pl.Series([5, -(2**63)], dtype=pl.Int64)}))
    with pytest.raises(InputError, match=r"interactions.position: row 1 \(counted from 0\) is no whole number"):
        from_frames(pl.DataFrame({**log, "position": [1.0, 1.5]}))
    with pytest.raises(InputError, match="1 of 2 ids are larger than Float64 tells apart"):
        from_frames(pl.DataFrame({**log, "user_id": [2.0**53, 1.0]}))
    with pytest.raises(InputError, match="time stamps such as 18446744073709551615 are no times"):
        from_frames(pl.DataFrame({**log, "timestamp": pl.Series([1, 2**64 - 1], dtype=pl.UInt64)}))
    with pytest.raises(InputError, match=r"'user_id' is both a column and the index; call reset_index\(drop=True\)"):
        from_frames(pd.DataFrame(log).set_index("user_id", drop=False))


@pytest.mark.parametrize("lines", [False, True])
def test_json_with_a_mark_before_it_is_read(tmp_path, lines):
    text = LOG.write_ndjson() if lines else LOG.write_json()
    (tmp_path / ("interactions.jsonl" if lines else "interactions.json")).write_bytes(b"\xef\xbb\xbf" + text.encode())
    (tmp_path / "items.csv").write_text(ITEMS.write_csv())
    assert read_dataset(tmp_path).content_hash == HASH


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (("order_id", "customer_email", "sku"), r" \(did you mean 'customer_email'\?\)"),
        (("order_id", "sku", "qty"), r"is missing; the columns are"),  # an order chooses once: never offered for a person
        (("usr_id", "sku"), r" \(did you mean 'usr_id'\?\)"),
    ],
)
def test_a_missing_person_is_not_looked_for_among_orders(columns, hint):
    with pytest.raises(InputError, match=f"column 'user_id' is missing{hint}" if "did" in hint else f"column 'user_id' {hint}"):
        from_frames(pl.DataFrame({name: ["a", "b"] for name in columns}))


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("user_id,item_id\nu1,A\nu2,B\n\n\n", ["user_id", "item_id"], [("u1", "A"), ("u2", "B")]),  # blank lines at the end
        ("user_id, item_id\nu1,A\n", ["user_id", "item_id"], [("u1", "A")]),  # a blank behind the comma
        ("user_id;item_id;price, EUR\nu1;A;2\n", ["user_id", "item_id", "price, EUR"], [("u1", "A", "2")]),  # a comma within a name
        ("user_id,item_id\nu1,A\n\\N,B\n", ["user_id", "item_id"], [("u1", "A"), (None, "B")]),  # as MySQL and Hive write what is missing
    ],
)
def test_tables_as_other_programs_write_them(tmp_path, text, columns, rows):
    (tmp_path / "log.csv").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = read_table(tmp_path / "log.csv")
    assert (table.columns, table.rows()) == (columns, rows)


@pytest.mark.parametrize(("name", "start", "kind"), [("log.zip", b"PK\x03\x04", "zip"), ("log.csv", b"\xfd7zXZ\x00", "xz")])
def test_what_is_packed_in_another_way_is_named(tmp_path, name, start, kind):
    (tmp_path / name).write_bytes(start + b"...")
    with pytest.raises(InputError, match=f"is packed by {kind}, which is not read; unpack it first"):
        Dataset.read(tmp_path / name)


def test_tables_of_a_folder_whatever_their_case(tmp_path):
    (tmp_path / "interactions.csv").write_text("user_id,item_id\na,1\nb,2\n")
    (tmp_path / "products.csv").write_text("item_id,title\n1,Rose\n2,Lily\n")
    with pytest.warns(DataWarning, match="no table of items, and products.csv is not read; name it items.csv"):
        Dataset.read(tmp_path)
    (tmp_path / "products.csv").rename(tmp_path / "Items.CSV")
    assert Dataset.read(tmp_path).items["title"].to_list() == ["Rose", "Lily"]
