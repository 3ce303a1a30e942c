"""Published dumps, each from a few lines in its own layout."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from lexirec.data import FORMATS, DataWarning, Tables, read_dataset, read_tables
from lexirec.data.formats import detect_format, register
from lexirec.errors import InputError


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        raw = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return folder


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def literal(*rows: dict) -> str:
    return "".join(repr(row) + "\n" for row in rows)


FLAGS = ["0"] * 19
ML100K = {
    "u.data": "196\t242\t3\t881250949\n186\t1\t4\t891717742\n196\t1\t5\t881250940\n",
    "u.item": (
        "|".join(["1", "Toy Story (1995)", "01-Jan-1995", "", "http://x", *["0", "0", "0", "1", "1", "1", *["0"] * 13]])
        + "\n"
        + "|".join(["242", "Misérables, Les (1995)", "", "", "", *FLAGS[:8], "1", *FLAGS[:10]])
        + "\n"
    ).encode("latin-1"),
    "u.user": "196|49|M|writer|55105\n186|39|F|executive|00000\n",
}
ML1M = {
    "ratings.dat": "1::1193::5::978300760\r\n1::661::3::978302109\r\n2::1193::4::978300100\r\n",
    "movies.dat": '661::James and the Giant Peach (1996)::Animation|Children\'s|Musical\n1193::Café "Flesh": One (1975)::Drama\n'.encode(
        "latin-1"
    ),
    "users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}
MLCSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n1,29,3.5,1112484676\n2,2,4.0,974820889\n",
    "movies.csv": 'movieId,title,genres\n2,Jumanji (1995),Adventure|Children\n29,"City of Lost Children, The (1995)",(no genres listed)\n',
}


def test_movielens_100k(tmp_path):
    data = read_dataset(put(tmp_path / "ml-100k", ML100K))
    assert data.items.rows() == [
        ("1", "Toy Story", 1995, ["Animation", "Children's", "Comedy"]),
        ("242", "Misérables, Les", 1995, ["Drama"]),
    ]
    assert data.interactions.rows() == [("186", "1", 891717742, 4.0), ("196", "1", 881250940, 5.0), ("196", "242", 881250949, 3.0)]
    users = read_tables(tmp_path / "ml-100k").users
    assert users is not None
    assert users.row(1) == ("186", "39", "F", "executive", "00000")


def test_movielens_1m(tmp_path):
    data = read_dataset(put(tmp_path / "ml-1m", ML1M))
    assert data.items.rows() == [
        ("1193", 'Café "Flesh": One', 1975, ["Drama"]),
        ("661", "James and the Giant Peach", 1996, ["Animation", "Children's", "Musical"]),
    ]
    assert data.interactions["timestamp"].to_list() == [978300760, 978302109, 978300100]
    assert read_tables(tmp_path / "ml-1m" / "ratings.dat").format == "movielens-1m"


def test_movielens_csv(tmp_path):
    data = read_dataset(put(tmp_path / "ml-20m", MLCSV))
    assert data.items.rows() == [("2", "Jumanji", 1995, ["Adventure", "Children"]), ("29", "City of Lost Children, The", 1995, None)]
    assert data.interactions["rating"].to_list() == [3.5, 3.5, 4.0]


@pytest.mark.parametrize(
    ("files", "change", "message"),
    [
        (
            ML1M,
            {"ratings.dat": "1::1193::5::978300760\n1::661::3\n"},
            r"ratings.dat: line 2 has 3 values separated by '::', not 4 \(user_id, item_id, rating, timestamp\): '1::661::3'; mend",
        ),
        (ML100K, {"u.data": "196 242 3 881250949\n"}, r"u.data: line 1 has 1 values separated by '\\t', not 4"),
        (ML1M, {"ratings.dat": ""}, r"ratings.dat is empty; fetch it again"),
        (
            MLCSV,
            {"movies.csv": "movieID,title,genres\n2,x,y\n"},
            r"movies.csv: column 'movieId' is missing \(did you mean 'movieID'\?\); the columns are 'movieID'",
        ),
        (
            MLCSV,
            {"ratings.csv": "userId,movieId,rating,timestamp\n1,2,x,5\n"},
            r"interactions.rating: row 0 \(counted from 0\) holds 'x', which is no number",
        ),
    ],
)
def test_broken_movielens(tmp_path, files, change, message):
    with pytest.raises(InputError, match=message):
        read_dataset(put(tmp_path / "ml", files | change))


REVIEWS = [
    {
        "reviewerID": "A1",
        "asin": "B1",
        "overall": 5.0,
        "unixReviewTime": 1400000000,
        "reviewText": "Good &amp;  cheap",
        "summary": "ok",
        "helpful": [0, 0],
    },
    {"reviewerID": "A1", "asin": "B2", "overall": 2.0, "unixReviewTime": 1300000000, "reviewText": "", "summary": "bad"},
    {"reviewerID": "A2", "asin": "B3", "overall": 4.0, "unixReviewTime": 1350000000, "reviewText": "fine"},
]
META_2014 = [
    {
        "asin": "B1",
        "title": "Tom &amp; Jerry's 'Soap'",
        "brand": "Ace",
        "price": 9.99,
        "categories": [["Beauty", "Bath"], ["Gifts"]],
        "description": "a  b",
    },
    {"asin": "B2", "categories": [["Beauty"]], "related": {"also_bought": ["B1"]}, "price": 5.0},
    {"asin": "B2", "title": "again"},
]


@pytest.mark.parametrize("notation", [lines, literal])
@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_amazon_2014(tmp_path, notation, ending):
    folder = put(tmp_path / "a", {f"reviews_Beauty_5.{ending}": lines(*REVIEWS), f"meta_Beauty.{ending}": notation(*META_2014)})
    with pytest.warns(DataWarning) as caught:
        data = read_dataset(folder, reviews=True)
    said = [str(w.message) for w in caught]
    assert any("1 of 3 rows repeat an item id; the first row of each is kept" in s for s in said)
    assert any("1 items of 1 of 3 events are not in the items table ('B3'); they are added without a title" in s for s in said)
    assert data.items.row(0, named=True) == {
        "item_id": "B1",
        "title": "Tom & Jerry's 'Soap'",
        "brand": "Ace",
        "categories": ["Beauty > Bath", "Gifts"],
        "description": "a b",
        "price": "9.99",
    }
    assert data.items["title"].to_list()[1:] == [None, None]
    assert data.interactions["item_id"].to_list() == ["B2", "B1", "B3"]
    assert data.interactions["review"].to_list() == [None, "Good & cheap", "fine"]
    with pytest.warns(DataWarning, match="repeat an item id"):
        plain = read_tables(folder)
    assert "review" not in plain.interactions.columns


def test_literal_lines_run_no_code(tmp_path):
    mark = tmp_path / "ran"
    evil = "{'asin': __import__('pathlib').Path(" + repr(str(mark)) + ").touch()}\n"
    folder = put(tmp_path / "a", {"reviews_X.json": lines(*REVIEWS), "meta_X.json": literal(META_2014[0]) + evil})
    with pytest.raises(InputError, match=r"meta_X.json: line 2 is not JSON .*; mend or remove the line"):
        read_dataset(folder)
    assert not mark.exists()
    put(folder, {"meta_X.json": "[" * 100_000 + "\n"})
    with pytest.raises(InputError, match=r"meta_X.json: line 1 is not JSON"):
        read_dataset(folder)
    put(folder, {"meta_X.json": "('asin', 'B1')\n"})
    with pytest.raises(InputError, match=r"line 1 is not an object but tuple"):
        read_dataset(folder)


def test_amazon_2018(tmp_path):
    meta = [
        {
            "asin": "B1",
            "title": "Soap",
            "brand": "Ace",
            "main_cat": "Beauty",
            "category": ["Beauty", "Bath"],
            "description": ["one", "two"],
            "price": "$5",
        },
        {"asin": "B2", "title": "Oil", "category": [], "description": []},
        {"asin": "B3", "title": ""},
    ]
    folder = put(tmp_path / "a", {"All_Beauty_5.json.gz": lines(*REVIEWS), "meta_All_Beauty.json.gz": lines(*meta)})
    tables = read_tables(folder)
    assert tables.format == "amazon-2018"
    data = read_dataset(folder)
    assert data.items.row(0, named=True) == {
        "item_id": "B1",
        "title": "Soap",
        "brand": "Ace",
        "main_category": "Beauty",
        "categories": ["Beauty > Bath"],
        "description": "one two",
        "price": "$5",
    }
    assert data.items.row(1) == ("B2", "Oil", None, None, None, None, None)


def test_amazon_2023(tmp_path):
    reviews = [
        {
            "user_id": "U1",
            "parent_asin": "P1",
            "asin": "B9",
            "rating": 4.0,
            "timestamp": 1588687728923,
            "title": "Nice",
            "text": "yes<br />",
        },
        {"user_id": "U1", "parent_asin": "P2", "asin": "B8", "rating": 1.0, "timestamp": 1588687728100, "title": "No", "text": "no"},
    ]
    meta = [
        {
            "parent_asin": "P1",
            "title": "Soap",
            "store": "Ace",
            "main_category": "All Beauty",
            "categories": ["Beauty", "Bath"],
            "description": ["d"],
            "price": 3.5,
        },
        {"parent_asin": "P2", "title": "Oil", "store": None, "categories": [], "description": [], "price": None},
    ]
    folder = put(tmp_path / "a", {"All_Beauty.jsonl.gz": lines(*reviews), "meta_All_Beauty.jsonl.gz": lines(*meta)})
    data = read_dataset(folder, reviews=True)
    assert read_tables(folder).format == "amazon-2023"
    # Milliseconds become seconds; the two events of one second keep their order.
    assert data.interactions.select("item_id", "timestamp", "summary").rows() == [("P2", 1588687728, "No"), ("P1", 1588687728, "Nice")]
    assert data.items.row(0) == ("P1", "Soap", "Ace", "All Beauty", ["Beauty > Bath"], "d", "3.5")


def test_amazon_file_by_path_and_meta_by_name(tmp_path):
    folder = put(
        tmp_path / "a",
        {
            "reviews_X.json": lines(*REVIEWS),
            "reviews_Y.json": lines(*REVIEWS),
            "meta_X.json": lines(*META_2014[:2]),
            "m.json": lines({"asin": "B1", "title": "T"}),
        },
    )
    with pytest.raises(InputError, match=r"has 2 review files \(reviews_X.json, reviews_Y.json\); give the path of the one to read"):
        read_dataset(folder)
    with pytest.warns(DataWarning):
        assert read_dataset(folder / "reviews_X.json").items["brand"][0] == "Ace"
    with pytest.warns(DataWarning):
        assert read_dataset(folder / "reviews_Y.json", meta=str(folder / "m.json")).items["title"][0] == "T"
    with pytest.warns(DataWarning, match="there is no metadata file"):
        assert read_dataset(folder / "reviews_Y.json").items["title"].null_count() == 3
    with pytest.raises(InputError, match=r"reviews_X.json: no line has the field 'user_id'; the file is of another edition"):
        read_dataset(folder / "reviews_X.json", format="amazon-2023")


def test_truncated_dump(tmp_path):
    folder = put(tmp_path / "a", {"reviews_X.json.gz": lines(*REVIEWS * 500), "meta_X.json.gz": lines(*META_2014)})
    path = folder / "reviews_X.json.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"reviews_X.json.gz is a cut off or damaged gzip file"):
        read_dataset(folder)


def test_yelp(tmp_path):
    reviews = [
        {"review_id": "r", "user_id": "u1", "business_id": "b1", "stars": 4.0, "date": "2016-03-09 00:00:00", "text": "Great!\n\nFood"},
        {"review_id": "s", "user_id": "u2", "business_id": "b2", "stars": 1.0, "date": "2017-03-09 10:00:00", "text": ""},
    ]
    places = [
        {
            "business_id": "b1",
            "name": "Caf\u00e9 &amp; Co",
            "city": "Tampa",
            "state": "FL",
            "categories": "Cafes, Food",
            "attributes": {"WiFi": "u'free'"},
        },
        {"business_id": "b2", "name": "Bar", "city": "Tampa", "state": "FL", "categories": None},
    ]
    folder = put(
        tmp_path / "y", {"yelp_academic_dataset_review.json": lines(*reviews), "yelp_academic_dataset_business.json": lines(*places)}
    )
    data = read_dataset(folder, reviews=True)
    assert data.items.rows() == [("b1", "Café & Co", ["Cafes", "Food"], "Tampa", "FL"), ("b2", "Bar", None, "Tampa", "FL")]
    assert data.interactions["timestamp"].to_list() == [1457481600, 1489053600]
    assert data.interactions["review"].to_list() == ["Great! Food", None]


def test_steam(tmp_path):
    reviews = "{u'username': u'Chaos Syren', u'hours': 0.1, u'product_id': u'725280', u'date': u'2017-12-17', u'text': u'ok'}\n" + literal(
        {"username": "Ariman1", "hours": 13.2, "product_id": "328100", "date": "2017-08-02", "text": ""},
        {"product_id": "328100", "date": "2017-08-02"},
    )
    games = literal(
        {
            "id": "725280",
            "app_name": "Psycho",
            "title": "Psycho!",
            "genres": ["Action", "Indie"],
            "tags": ["VR"],
            "developer": "D",
            "price": 4.99,
        },
        {"id": "328100", "title": "SNOW", "price": "Free"},
        {"app_name": "no id"},
    )
    folder = put(tmp_path / "s", {"steam_reviews.json.gz": reviews, "steam_games.json.gz": games})
    with pytest.warns(DataWarning, match="1 of 3 reviews have no username; they are dropped"):
        data = read_dataset(folder)
    assert data.interactions.select("user_id", "item_id", "timestamp").rows() == [
        ("Ariman1", "328100", 1501632000),
        ("Chaos Syren", "725280", 1513468800),
    ]
    assert data.items["title"].to_list() == ["SNOW", "Psycho"]
    assert data.items["categories"].to_list() == [None, ["Action", "Indie"]]


RECBOLE = {
    "x.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t3\t881250949\n2\t7\t4\t881250950\n2\t8\t\t881250951\n",
    "x.item": 'item_id:token\tmovie_title:token_seq\tclass:token_seq\tprice:float\n7\tToy "Story\tAnimation Comedy\t2.5\n8\tHeat\t\t\n',
    "x.user": "user_id:token\tage:token\n1\t24\n2\t53\n",
}


def test_recbole(tmp_path):
    folder = put(tmp_path / "r", RECBOLE)
    data = read_dataset(folder)
    assert data.items.rows() == [("7", 'Toy "Story', ["Animation", "Comedy"], 2.5), ("8", "Heat", None, None)]
    assert data.interactions.rows() == [("1", "7", 881250949, 3.0), ("2", "7", 881250950, 4.0), ("2", "8", 881250951, None)]
    tables = read_tables(folder / "x.inter")
    assert tables.users is not None
    assert tables.users.rows() == [("1", "24"), ("2", "53")]


@pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")
def test_recbole_split_files(tmp_path):
    head = "user_id:token\titem_id:token\n"
    folder = put(
        tmp_path / "r", {"x.train.inter": head + "1\t7\n1\t8\n2\t7\n", "x.valid.inter": head + "2\t8\n", "x.test.inter": head + "1\t9\n"}
    )
    split = read_dataset(folder).split("given")
    assert (split.train.n_interactions, len(split.valid), len(split.test)) == (3, 1, 1)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"x.inter": "user_id\titem_id\n1\t2\n"}, {}, r"x.inter: the header field 'user_id' has no type; RecBole's are name:token"),
        ({"x.inter": RECBOLE["x.inter"] + "3\t7\n"}, {}, r"x.inter: line 5 has 2 values separated by '\\t', not 4"),
        ({"x.inter": RECBOLE["x.inter"] + "3\t7\tfive\t1\n"}, {}, r"x.inter: line 5 holds 'five' in rating:float, which is no number"),
        (
            {"x.item": "item_id:token\tclass:token_seq\n7\ta\n8\tb\n"},
            {},
            r"which field is the title\? None is not there; name one of item_id, class with title=FIELD",
        ),
        ({}, {"title": "movie_titel"}, r"'movie_titel' is not there \(did you mean 'movie_title'\?\)"),
        ({"y.inter": RECBOLE["x.inter"]}, {}, r"has 2 .inter files \(x.inter, y.inter\); give the path"),
    ],
)
def test_broken_recbole(tmp_path, change, options, message):
    with pytest.raises(InputError, match=message):
        read_dataset(put(tmp_path / "r", RECBOLE | change), **options)


def test_every_format_is_told_by_its_files(tmp_path):
    layouts = {
        "folder": ["interactions.csv", "items.csv"],
        "movielens-100k": ["u.data", "u.item", "u.user", "u1.base"],
        "movielens-1m": ["ratings.dat", "movies.dat", "users.dat", "README"],
        "movielens-csv": ["ratings.csv", "movies.csv", "tags.csv"],
        "amazon-2014": ["reviews_X_5.json.gz", "meta_X.json.gz"],
        "amazon-2018": ["X.json.gz", "meta_X.json.gz"],
        "amazon-2023": ["X.jsonl.gz", "meta_X.jsonl.gz"],
        "yelp": ["yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json", "yelp_academic_dataset_user.json"],
        "steam": ["steam_reviews.json.gz", "steam_games.json.gz"],
        "recbole": ["x.inter", "x.item"],
    }
    assert set(layouts) == set(FORMATS) - {"file"}
    for name, files in layouts.items():
        assert detect_format(put(tmp_path / name, dict.fromkeys(files, ""))) == name
    assert detect_format(put(tmp_path / "one", {"log.csv": ""}) / "log.csv") == "file"
    both = put(tmp_path / "both", dict.fromkeys([*layouts["movielens-1m"], *layouts["recbole"]], ""))
    with pytest.raises(InputError, match=r"could be movielens-1m or recbole .*; name the format"):
        detect_format(both)


def test_every_format_says_its_layout():
    for entry in FORMATS.values():
        assert len(entry.layout) > 20


def test_a_new_format_is_one_function(tmp_path):
    @register("pairs", "*.pairs")
    def pairs(path: Path) -> Tables:
        """One file of user-item pairs, separated by a space."""
        (source,) = path.glob("*.pairs")
        return Tables(pl.DataFrame([line.split() for line in source.read_text().splitlines()], schema=["user_id", "item_id"], orient="row"))

    try:
        assert read_dataset(put(tmp_path / "p", {"x.pairs": "u a\nv b\n"})).n_interactions == 2
    finally:
        del FORMATS["pairs"]


def test_recbole_split_files_are_stacked_in_one_order(tmp_path):
    """Of one moment: the order of the parts is that of the history, whatever a set of names makes of it."""
    head = "user_id:token\titem_id:token\ttimestamp:float\n"
    names = {"x.train.inter": "abcd", "x.valid.inter": "e", "x.test.inter": "f"}
    folder = put(tmp_path / "r", {name: head + "".join(f"u\t{item}\t7\n" for item in items) for name, items in names.items()})
    code = "import sys\nfrom lexirec.data import read_dataset\nprint(''.join(read_dataset(sys.argv[1]).interactions['item_id']))"
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(folder)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)}, capture_output=True, text=True, check=True, timeout=60,
        ).stdout.strip()
        for seed in range(3)
    }  # fmt: skip
    assert found == {"abcdef"}
