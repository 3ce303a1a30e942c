"""Attribute prompts: the official strings, the general ones, and the two views."""

import math

import numpy as np
import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.text.prompt_vectors import prompt_vectors
from lexirec.text.prompts import Prompts, attribute_prompts, drop_attributes
from tests.text.worlds import HashEncoder

BEAUTY = "The beauty item has the following attributes: \n "
FASHION = "The fashion item has the following attributes: \n "
YELP = "The point of interest has the following attributes: \n "


def prompt(record: dict, style: str = "general", **options: object) -> str:
    return attribute_prompts(pl.DataFrame([{"item_id": "x", **record}]), style, **options).texts()[0]


def test_conformance_9_exact_beauty_prompt():
    assert prompt({"title": "A", "brand": "B; C", "price": 3}, "beauty") == BEAUTY + "title is A; brand is B. C; price is 3"


@pytest.mark.parametrize(
    ("style", "record", "expected"),
    [
        ("beauty", {"title": "A\nB", "imUrl": "http", "salesRank": 3, "related": "z", "asin": "q"}, BEAUTY + "title is A B"),
        ("beauty", {"categories": [["Beauty", "Hair; Care"], ["Other"]]}, BEAUTY + "categories is Beauty, Hair. Care"),
        ("beauty", {"categories": ["Beauty > Hair Care", "Beauty > Skin"]}, BEAUTY + "categories is Beauty, Hair Care"),
        ("beauty", {"categories": "Beauty > Hair Care"}, BEAUTY + "categories is Beauty, Hair Care"),
        ("beauty", {"categories": ["Beauty", "Hair Care"]}, BEAUTY + "categories is Beauty, Hair Care"),
        ("beauty", {"title": "t" * 130}, BEAUTY + "title is " + "t" * 100),
        ("beauty", {"price": 12.5}, BEAUTY + "price is 12.5"),
        # 98 characters and the separator make 100: nothing is lost; one more and two real characters go.
        ("fashion", {"feature": ["f" * 98]}, FASHION + "feature is " + "f" * 98),
        ("fashion", {"feature": ["f" * 99]}, FASHION + "feature is " + "f" * 98),
        ("fashion", {"feature": ["f" * 60, "g" * 60]}, FASHION + "feature is " + "f" * 60 + ", " + "g" * 36),
        ("fashion", {"title": "A", "feature": ["a", "b;c\nd"]}, FASHION + "title is A; feature is a, b.c d"),
        ("fashion", {"tech1": pl.Series([[]], dtype=pl.List(pl.String))[0], "fit": "tight"}, FASHION + "tech1 is none"),
        ("fashion", {"details": {"key": "v" * 120}}, FASHION + "details is {'key': '" + "v" * 120 + "'}"),
        ("yelp", {"name": "A\nB", "longitude": 1.5, "latitude": 2.5, "business_id": "q"}, YELP + "name is A, B"),
        ("yelp", {"title": "Cafe", "categories": ["Food", "Bars"]}, YELP + "name is Cafe; categories is Food, Bars"),
        ("yelp", {"name": "n" * 130, "open": True, "stars": 4.5}, YELP + "name is " + "n" * 130 + "; open is True; stars is 4.5"),
        ("yelp", {"name": "a;b", "categories": ["c\nd"]}, YELP + "name is a;b; categories is c\nd"),
    ],
)
def test_official_strings(style, record, expected):
    columns = {
        name: pl.Series([value], dtype=pl.List(pl.String)) if isinstance(value, pl.Series) else [value] for name, value in record.items()
    }
    assert attribute_prompts(pl.DataFrame({"item_id": ["x"], **columns}), style).texts() == [expected]


def test_a_dictionary_has_the_keys_of_its_own_row():
    """Rows of structs have the keys of all rows; the official text has those of one."""
    kind = pl.Struct({"Shoe": pl.String, "Colour": pl.String, "Size": pl.Struct({"EU": pl.String, "US": pl.String})})
    details = [{"Shoe": "4", "Size": {"EU": "36"}}, {"Colour": "red", "Size": {"US": "5"}}]
    shop = pl.DataFrame({"item_id": ["a", "b"], "details": pl.Series(details, dtype=kind)})
    assert attribute_prompts(shop, "fashion").phrases == [
        ["details is {'Shoe': '4', 'Size': {'EU': '36'}}"],
        ["details is {'Colour': 'red', 'Size': {'US': '5'}}"],
    ]


@pytest.mark.filterwarnings("ignore:items. 1 of 2")
@pytest.mark.parametrize("style", ["general", "beauty", "fashion", "yelp"])
def test_a_missing_field_has_no_phrase(style):
    shop = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", None], "brand": [None, " "], "price": [math.nan, None]})
    first = "name" if style == "yelp" else "title"
    assert attribute_prompts(shop, style).phrases == [[f"{first} is A"], []]


def test_general_each_category_level_is_its_own_attribute_and_written_once():
    record = {
        "title": "Rose  oil;\nlarge",
        "brand": "Ada",
        "categories": ["Beauty > Oils", "Beauty > Skin > Oils"],
        "tags": ["a", "a", "b"],
        "details": {"shoe_size": 4, "none": None},
        "price": 3.0,
        "in_stock": True,
        "store_id": "7",
        "imageURL": "http",
    }
    assert attribute_prompts(pl.DataFrame([{"item_id": "x", **record}])).phrases[0] == [
        "title is Rose oil, large",
        "brand is Ada",
        "category is Beauty",
        "category is Oils",
        "category is Skin",
        "tag is a",
        "tag is b",
        "shoe size is 4",
        "price is 3",
        "in stock is yes",
    ]


def test_general_cuts_at_words_takes_columns_in_order_and_another_instruction():
    record = {"title": "word " * 40, "brand": "B", "colour": "red"}
    assert prompt(record, columns=["colour", "title"], instruction="Item: ", max_characters=12) == "Item: colour is red; title is word word"
    assert prompt({"title": "A > B"}) == "The item has the following attributes: \n title is A > B"  # a title is no path


def test_a_float32_keeps_its_own_digits():
    assert attribute_prompts(pl.DataFrame({"item_id": ["x"], "price": pl.Series([4.2], dtype=pl.Float32)})).phrases == [["price is 4.2"]]


def test_bad_input_is_named():
    shop = pl.DataFrame({"item_id": ["a"], "title": ["A"], "blob": [b"x"]})
    with pytest.raises(InputError, match="did you mean 'title'"):
        attribute_prompts(shop, columns=["titel"])
    with pytest.raises(InputError, match="'beauty'"):
        attribute_prompts(shop, "beuty")
    with pytest.raises(InputError, match="bytes"):
        attribute_prompts(shop, columns=["blob"])
    assert attribute_prompts(shop).phrases == [["title is A"]]
    with pytest.raises(InputError, match="item_id"):
        attribute_prompts(shop.drop("item_id"))


def test_items_without_attributes_are_warned_about_and_take_the_mean():
    shop = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", None, "C"]})
    with pytest.warns(UserWarning, match=r"1 of 3 have no attribute among title \(item_id 'b'\)"):
        vectors = prompt_vectors(shop, encoder := HashEncoder(), cache=False)
    expected = [encoder.vector(f"The item has the following attributes: \n title is {x}") for x in "AC"]
    np.testing.assert_array_equal(vectors[[0, 2]], expected)
    mean = np.mean(expected, axis=0)
    np.testing.assert_allclose(vectors[1] / np.linalg.norm(vectors[1]), mean / np.linalg.norm(mean), rtol=1e-5)
    with pytest.warns(UserWarning, match="no attribute"), pytest.raises(InputError, match="'b'"):
        prompt_vectors(shop, HashEncoder(), empty_text="error", cache=False)
    with pytest.warns(UserWarning, match="no attribute"), pytest.raises(InputError, match="3 of 3"):
        prompt_vectors(shop.with_columns(title=pl.lit(None, pl.String)), HashEncoder(), cache=False)


def test_conformance_8_how_many_are_dropped_and_what_stays():
    dropped = []
    for n in range(1, 13):
        phrases = [f"k{i} is v" for i in range(n)]
        first, second = drop_attributes(phrases, 0.4, np.random.default_rng(n))
        assert len(first) == len(second) == len(set(first)) == len(set(second))
        assert set(first) <= set(phrases) and set(second) <= set(phrases)
        dropped.append(n - len(first))
        assert (first, second) == drop_attributes(phrases, 0.4, np.random.default_rng(n))  # same seed, same views
    assert dropped == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4]


def test_views_are_shuffled_apart_and_drop_everything_equally_often():
    rng, phrases = np.random.default_rng(0), list("abcdef")
    views = [drop_attributes(phrases, 0.4, rng) for _ in range(3000)]
    assert np.mean([sorted(a) == sorted(b) for a, b in views]) == pytest.approx(1 / 15, abs=0.02)  # 1 of C(6, 4) kept sets
    for letter in phrases:
        assert np.mean([letter in a for a, _ in views]) == pytest.approx(4 / 6, abs=0.03)
        assert np.mean([b[0] == letter for _, b in views]) == pytest.approx(1 / 6, abs=0.03)


def test_the_instruction_is_unchanged_and_a_semicolon_in_a_yelp_value_parts_it():
    prompts = Prompts("In: \n ", [["name is a;b", "open is True"], ["x is y"]], ["1", "2"])
    assert prompts.droppable(0) == ["name is a", "b", "open is True"]
    assert prompts.droppable(1) is prompts.phrases[1]
    assert prompts.text(["b", "open is True"]) == "In: \n b; open is True"
    assert prompts.text([]) == ""


def test_what_choices_make_is_no_attribute() -> None:
    shop = pl.DataFrame(
        {
            "item_id": ["a1", "b2"],
            "title": ["Red lipstick", "Blue pen"],
            "num_sold": [12, 3],
            "also_bought": [["b2"], ["a1"]],
            "related_topics": ["lips", "paper"],
        }
    )
    with pytest.warns(UserWarning, match="attribute prompts don't read the catalogue's (num_sold|also_bought)"):
        made = attribute_prompts(shop)
    assert made.phrases[0] == ["title is Red lipstick", "related topics is lips"]
    named = attribute_prompts(shop, columns=["title", "num_sold"])  # who names a column gets it
    assert named.phrases[0] == ["title is Red lipstick", "num sold is 12"]
