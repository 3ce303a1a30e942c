"""Tables as shops, Excel and pandas write them: read as meant, or refused with a cure."""

import codecs
import gzip
import re
import warnings
from datetime import datetime, timezone

import polars as pl
import pytest

from lexirec.data import DataWarning, from_frames, problems, read_dataset
from lexirec.errors import InputError

TEXT = "user_id,item_id,timestamp\nu,a,1500000000\nv,ä,1500000001\n"


def read(tmp_path, data: str | bytes, name: str = "orders.csv", **options):
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_dataset(path, **options)


def silent(tmp_path, data, name: str = "orders.csv", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(tmp_path, data, name, **options)


def times(values, **others) -> list:
    frame = pl.DataFrame({"user_id": ["u"] * len(values), "item_id": ["a"] * len(values), "timestamp": values, "position": 0, **others})
    return [stamp and datetime.fromtimestamp(stamp, timezone.utc) for stamp in from_frames(frame).interactions["timestamp"].to_list()]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)


# --- encodings ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"encoding": "utf-16"}, {"encoding": "latin-1"}])
@pytest.mark.parametrize(
    ("mark", "codec"), [(codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF8, "utf-8")]
)
def test_a_byte_order_mark_tells_the_encoding(tmp_path, mark, codec, options):
    data = silent(tmp_path, mark + TEXT.encode(codec), **options)
    assert data.items["item_id"].to_list() == ["a", "ä"]
    assert silent(tmp_path, gzip.compress(mark + TEXT.encode(codec)), "orders.csv.gz", **options).content_hash == data.content_hash


def test_excel_unicode_text(tmp_path):
    text = TEXT.replace(",", "\t").replace("\n", "\r\n")
    assert silent(tmp_path, text.encode("utf-16"), "orders.txt").items["item_id"].to_list() == ["a", "ä"]


def test_utf16_without_a_mark(tmp_path):
    for encoding, codec in (("utf-16", "utf-16-le"), ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")):
        assert silent(tmp_path, TEXT.encode(codec), encoding=encoding).items["item_id"].to_list() == ["a", "ä"]
    with pytest.raises(InputError, match=r"orders.csv: line 1 holds zero bytes, as UTF-16 without .*; pass encoding='utf-16-le'"):
        read(tmp_path, TEXT.encode("utf-16-le"))
    with pytest.raises(InputError, match=r"orders.csv is not utf-16 \(.*\); name its encoding"):
        read(tmp_path, TEXT.encode("utf-16")[:-1])


def test_a_header_that_cannot_be_split(tmp_path):
    for separator, data in ((",", "a" * 200_000 + ",b\nu,v\n"), (";;", TEXT)):
        with pytest.raises(InputError, match=rf"orders.csv: the header .* can't be split at '{separator}' \(.*\); give the separator="):
            read(tmp_path, data, separator=separator)


def test_windows_files_are_told(tmp_path):
    text = "user_id,item_id,price\nu,a,5 é\nv,b,7 €\n"
    with pytest.raises(InputError, match=r"line 2 is not UTF-8 .*iconv -f cp1252 .*pass encoding='cp1252' \(--encoding cp1252\)"):
        read(tmp_path, text.encode("cp1252"))
    with pytest.raises(InputError, match="pass encoding='latin-1'"):
        read(tmp_path, text.replace("€", "ß").encode("latin-1"))
    assert silent(tmp_path, text.encode("cp1252"), encoding="cp1252").interactions["price"].to_list() == ["5 é", "7 €"]
    with pytest.warns(DataWarning, match=r"line 3 holds the control character '\\x80', read as iso8859-1; .* pass encoding='cp1252'"):
        assert read(tmp_path, text.encode("cp1252"), encoding="latin-1").interactions["price"].to_list() == ["5 é", "7 \x80"]


# --- layouts ------------------------------------------------------------------------------------------------------------------------------


def test_the_separator_line_of_excel(tmp_path):
    for start in ("sep=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"):
        data = silent(tmp_path, start + TEXT.replace(",", ";"))
        assert data.interactions.rows() == [("u", "a", 1_500_000_000), ("v", "ä", 1_500_000_001)]
    names = ["user_id", "item_id", "timestamp"]
    assert silent(tmp_path, "sep=|\nu|a|5\n", names=names).interactions.rows() == [("u", "a", 5)]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_text_files_are_tables(tmp_path, sign):
    text = TEXT.replace(",", sign)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = read(tmp_path, TEXT).content_hash
        assert read(tmp_path, text, "orders.txt").content_hash == read(tmp_path, text).content_hash == expected
        folder = tmp_path / "shop"
        folder.mkdir()
        (folder / "interactions.txt").write_text(text)
        assert read_dataset(folder).content_hash == expected


def test_spreadsheets_are_refused_with_a_way_out(tmp_path):
    message = r"\.xlsx is a spreadsheet, which is not read; save it as 'CSV UTF-8', or read it with pandas.*Dataset\.from_frames"
    with pytest.raises(InputError, match="orders" + message):
        read(tmp_path, b"PK", "orders.xlsx")
    (tmp_path / "products.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match="products" + message):
        read(tmp_path, TEXT, items=str(tmp_path / "products.xlsx"))
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "interactions.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match="interactions" + message):
        read_dataset(folder)


def test_index_columns_are_left_out(tmp_path):
    for name in ("", "Unnamed: 0"):
        with pytest.warns(DataWarning, match=rf"columns without a name \('{name}', ''\) are taken for a frame's index"):
            data = read(tmp_path, f"{name},user_id,item_id,timestamp,\n0,u,a,1500000000,x\n1,u,a,1500000000,y\n2,v,b,1500000001,z\n")
        assert data.interactions.columns == ["user_id", "item_id", "timestamp"]
        assert any("rows are exact copies" in p.finding for p in problems(data))
    with pytest.warns(DataWarning, match="without a name"), pytest.raises(InputError, match="column 'user_id' is missing"):
        read(tmp_path, ",\n0,1\n")


# --- missing values and bad rows ----------------------------------------------------------------------------------------------------------


def test_words_for_missing_values(tmp_path):
    words = ["NULL", "null", "None", "NaN", "nan", "N/A", "n/a", "#N/A"]
    lines = "".join(f"u{k},a,{word}\n" for k, word in enumerate(words))
    with pytest.warns(DataWarning, match=r"NULL and n/a are read as missing values \(brand 8 of 9\); null_values=\[\] keeps them"):
        data = read(tmp_path, "user_id,item_id,brand\nv,b,Ada\n" + lines)
    assert data.interactions["brand"].drop_nulls().to_list() == ["Ada"]
    kept = silent(tmp_path, "user_id,item_id,brand\nv,b,Ada\n" + lines, null_values=[])
    assert set(kept.interactions["brand"]) == {"Ada", *words}
    with pytest.warns(DataWarning, match=r"\(brand 1 of 9\)"):
        assert read(tmp_path, "user_id,item_id,brand\nv,b,Ada\n" + lines, null_values="N/A").interactions["brand"].null_count() == 1


def test_words_for_missing_ids_are_no_ids(tmp_path):
    text = "user_id,item_id\nNULL,a\nu,n/a\nv,b\n"
    with (
        pytest.warns(DataWarning, match=r"read as missing values \(user_id 1 of 3, item_id 1 of 3\)"),
        pytest.raises(
            InputError, match=r"user_id: 1 of 3 ids are missing, the first in row 0 \(counted from 0; line 2 of the file\); drop"
        ),
    ):
        read(tmp_path, text)
    assert silent(tmp_path, text, null_values=[]).users.ids.to_list() == ["NULL", "u", "v"]


BAD = 'user_id,item_id,timestamp,note\nu,a,2024-01-01,"two\nlines"\n,b,2024-01-02,\nv,,2024-01-03,\nv,a,soon,\n\nw,a,,\nw,b,2024-01-05,\n'


def test_bad_rows_can_be_dropped(tmp_path):
    with pytest.warns(DataWarning) as caught:
        data = read(tmp_path, BAD, bad_rows="drop")
    assert data.interactions.select("user_id", "item_id").rows() == [("u", "a"), ("w", "b")]
    assert str(caught[0].message) == (
        "interactions: 5 of 7 rows are left out: user_id: 2 of 7 ids are missing, the first in row 1 (counted from 0; line 4 of the file); "
        "item_id: 2 of 7 ids are missing, the first in row 2 (counted from 0; line 5 of the file); "
        "timestamp: 1 of 7 timestamps can't be read, the first in row 3 (counted from 0; line 6 of the file): 'soon'; "
        "timestamp: 2 of 7 timestamps are missing, the first in row 4 (counted from 0; line 7 of the file)"
    )
    with pytest.raises(InputError, match=r"3 of 3 rows are left out: .*; nothing is left, look at the columns"):
        from_frames(pl.DataFrame({"user_id": ["", "", ""], "item_id": ["a", "b", "c"]}), bad_rows="drop")
    with pytest.raises(InputError, match=r"bad_rows is 'dorp'; choose 'error' or 'drop' \(did you mean 'drop'\?\)"):
        read(tmp_path, BAD, bad_rows="dorp")


def test_dropped_rows_take_their_other_values_along():
    frame = pl.DataFrame(
        {"user_id": ["u"] * 4, "item_id": ["a", None, "c", "d"], "timestamp": ["3.5", "1", "x", "3.25"], "rating": [1.0, 2, 3, 4]}
    )
    with pytest.warns(DataWarning, match="2 of 4 rows are left out"):
        data = from_frames(frame, bad_rows="drop")
    assert data.interactions.rows() == [("u", "d", 3, 4.0), ("u", "a", 3, 1.0)]
    with pytest.warns(DataWarning, match="1 of 2 rows are left out: item_id"):  # with positions, a time may be missing
        kept = from_frames(frame[:2].with_columns(timestamp=pl.Series(["", "1"]), position=pl.Series([0, None])), bad_rows="drop")
    assert kept.interactions["timestamp"].to_list() == [None]


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (
            "",
            r"user_id: 2 of 7 ids are missing, the first in row 1 \(counted from 0; line 4 of the file\); drop these rows or fill the ids",
        ),
        (
            r"^,b.*\n|^v,,.*\n|^\n",
            r"timestamp: 1 of 4 timestamps can't be read, the first in row 1 \(.*; line 4 of the file\): 'soon'; store",
        ),
        (r"^,b.*\n|^v,.*\n|^\n", r"timestamp: 1 of 3 timestamps are missing, the first in row 1 \(.*; line 4 of the file\), and no"),
    ],
)
def test_the_error_of_a_bad_row_names_its_line_and_the_option(tmp_path, old, message):
    text = re.sub(old, "", BAD, flags=re.MULTILINE) if old else BAD
    with pytest.raises(
        InputError, match=rf"interactions\.{message}.*; or leave such rows out with bad_rows='drop' \(lexirec data convert --bad"
    ):
        read(tmp_path, text)


# --- times --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [["20230729", "20240223"], [20230729, 20240223], [20230729.0, 20240223.0], ["20230729.0", "20240223"]])
def test_dates_without_signs(values):
    with pytest.warns(DataWarning, match=r"timestamp: whole numbers such as 20230729 are read as dates \(2023-07-29\), not as Unix"):
        assert times(values) == [utc(2023, 7, 29), utc(2024, 2, 23)]


@pytest.mark.parametrize("values", [[20230729, 20231301], [20230729, 1_500_000_000], [19891231, 20230729], ["20230229"]])
def test_numbers_that_are_not_all_dates_stay(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert times(values) == [datetime.fromtimestamp(int(value), timezone.utc) for value in values]


def test_days_of_excel():
    with pytest.warns(
        DataWarning, match=r"timestamp: numbers such as 45000 are read as days of Excel \(2023-03-15 00:00:00\), not as Unix"
    ):
        assert times(["45000", "45000.5", "45000.9583333333", None]) == [
            utc(2023, 3, 15),
            utc(2023, 3, 15, 12),
            utc(2023, 3, 15, 23),
            None,
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert times([45_000]) == [utc(1970, 1, 1, 12, 30)]  # numbers, not text
        assert times(["45000", "70000"]) == [utc(1970, 1, 1, 12, 30), utc(1970, 1, 1, 19, 26, 40)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["29.07.2023 23:00", "2024-02-23 19:00:00"], [utc(2023, 7, 29, 23), utc(2024, 2, 23, 19)]),
        (["2024-02-23 19:00:00", "29.07.2023 23:00"], [utc(2024, 2, 23, 19), utc(2023, 7, 29, 23)]),
        (["2024-02-23", "7/29/2023", "2/1/2023"], [utc(2024, 2, 23), utc(2023, 7, 29), utc(2023, 2, 1)]),
        (["01.02.23", "2.12.98 10:30"], [utc(2023, 2, 1), utc(1998, 12, 2, 10, 30)]),
        (
            ["7/29/23 3:15 PM", "7/1/23 12:05:09 am", "1/2/2023 12:00 p.m."],
            [utc(2023, 7, 29, 15, 15), utc(2023, 7, 1, 0, 5, 9), utc(2023, 1, 2, 12)],
        ),
        (["2024-02-23 19:00:00 UTC", "2024-02-23T19:00:01Z"], [utc(2024, 2, 23, 19), utc(2024, 2, 23, 19, 0, 1)]),
        (["2024-02-23 19:00 UTC"], [utc(2024, 2, 23, 19)]),
        (["2024/2/3 19:00:00+02:00", "2024-02-23 01:00 -0130", None], [utc(2024, 2, 3, 17), utc(2024, 2, 23, 2, 30), None]),
        (["29.07.2023, 23:00", "July 3, 2020"], [utc(2023, 7, 29, 23), utc(2020, 7, 3)]),
    ],
)
def test_dates_of_several_styles(values, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert times(values) == expected


def test_dates_of_several_styles_keep_their_fractions():
    frame = pl.DataFrame(
        {"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": ["29.07.2023 23:00:00.75", "2023-07-29 23:00:00,5 UTC"]}
    )
    assert from_frames(frame).interactions["item_id"].to_list() == ["b", "a"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["2024-01-01", "12/31/2023", "31/12/2023", "30/12/2023"],
            (
                r"row 2 \(counted from 0\) holds '31/12/2023' with the day first and row 1 '12/31/2023' with the month first; "
                r"write .* as in 2023-12-31 \(2 of 4 need the day first, 1 of 4 the month\)"
            ),
        ),
        (["29-07-23", "2024-01-01"], "1 of 2 timestamps can't be read, .*row 0 .*'29-07-23'"),
        (["2024-01-01 25:00", "2024-01-01"], "1 of 2 timestamps can't be read, .*row 0 .*'2024-01-01 25:00'"),
        (["1500000000", "soon", "1500000001"], "1 of 3 timestamps can't be read, .*row 1 .*'soon'"),
        (["2024-01-01", "soon", "5", "later", "2024-02-30"], "4 of 5 timestamps can't be read, .*row 1 .*'soon', '5', 'later', ...;"),
    ],
)
def test_times_that_still_fail(values, message):
    with pytest.raises(InputError, match=message):
        times(values)


def test_columns_with_other_clocks_are_offered_as_times():
    for when in ("12/31/2023 1:05 PM", "2024-01-01 10:00:00 UTC", "31.12.2023, 10:00"):
        with pytest.warns(DataWarning, match="'when' could be"):
            from_frames(pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "when": [when]}))


# --- ids and checks -----------------------------------------------------------------------------------------------------------------------


def test_lost_leading_zeros_are_told():
    log = pl.DataFrame({"user_id": ["u", "v", "v"], "item_id": [1, 20, 7]})
    items = pl.DataFrame({"item_id": ["000001", "000020", "8"], "title": ["A", "B", "C"]})
    with pytest.raises(
        InputError, match=r"2 of them match but for leading zeros, '.0', blanks or case \('1' here, '000001' there\): read both .*dtype=str"
    ):
        from_frames(log, items)
    with pytest.raises(InputError, match="name 1 items") as error:
        from_frames(log[2:], items)
    assert "zeros" not in str(error.value)


def found(**columns) -> list[str]:
    log = pl.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabd"), **columns})
    log = log if "timestamp" in columns else log.with_columns(timestamp=1_500_000_000 + pl.int_range(6))
    return [f"{p.level} {p.place}: {p.finding} {p.cure}" for p in problems(from_frames(log)) if p.place not in ("items.title")]


def test_times_out_of_range_are_found():
    assert found() == []
    assert any(
        "warning interactions.timestamp: the earliest is 20230729" in line for line in found(timestamp=[20230729, *[1_500_000_000] * 5])
    )
    late = found(timestamp=[5, *[4_000_000_000_000] * 5])
    assert [line[:47] for line in late if line.startswith("warn")] == [
        "warning interactions.timestamp: the earliest is",
        "warning interactions.timestamp: the latest is 4",
    ]
    for unit, said in ((1, "seconds and milliseconds"), (1000, "milliseconds and microseconds")):
        lines = found(timestamp=[1_500_000_000_000 * unit, *[1_500_000_000 * unit] * 5])
        assert any(f"{said} seem mixed (5 {said.split()[0]}, 1 {said.split()[2]})" in line for line in lines)
    for unit in (1000, 10**6):
        assert not any("warning" in line for line in found(timestamp=[(1_500_000_000 + k) * unit for k in range(6)]))


@pytest.mark.parametrize("name", ["qty", "Quantity", "amount", "Menge"])
@pytest.mark.parametrize("values", [["1", "-1", "2", "-1,5", "x", None], [1, -1, 2, -2, 3, None]])
def test_returns_are_found(name, values):
    lines = found(**{name: values})
    assert any(
        f"warning interactions.{name}: 2 of 6 values are negative" in line and f"--column rating={name} --min-rating 1" in line
        for line in lines
    )
    assert not any("negative" in line for line in found(**{name: [1, 1, 1, 1, 1, 1], "change": [-1] * 6}))


def test_prices_in_text_are_found():
    for price in ("€ 1.234,56", "12,50", "$5", "1 234.50 EUR", "CHF 1'234.50"):
        assert any(f"price looks like a number: {price!r}, {price!r}, ..." in line for line in found(price=[price] * 5 + [None])), price
    for price in ("12.50", "1234", "cheap", "ABC 123", ""):
        assert not any("looks like a number" in line for line in found(price=[price] * 6)), price
    items = pl.DataFrame({"item_id": ["a"], "title": ["5 €"], "price": ["5 €"]})
    advice = [p for p in problems(from_frames(pl.DataFrame({"user_id": ["u"], "item_id": ["a"]}), items)) if "number" in p.finding]
    assert [(p.level, p.place) for p in advice] == [("advice", "items.price")]
