"""Conditions on a catalogue."""

import polars as pl
import pytest

from lexirec.data.numbers import number
from lexirec.data.where import matching
from lexirec.errors import InputError

SHOP = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "price": ["€ 1.234,56", "12.50", None, "free"],
        "stock": [3, 0, 5, None],
        "brand": ["Acme", "acme", None, "Best & Co"],
        "categories": [["Garden > Tools", "Outdoor"], ["Kitchen"], None, []],
    }
)


@pytest.mark.parametrize(
    ("conditions", "met"),
    [
        ([], "abcd"), (["price<50"], "b"), (["price >= 1.234,56"], "a"), (["stock>0"], "ac"), (["stock=0"], "b"), (["stock!=0"], "acd"),
        (["brand=ACME"], "ab"), (["brand != Acme"], "cd"), (["brand~best"], "d"), (["categories=tools"], "a"),
        (["categories=garden > tools"], "a"), (["categories~tool"], "a"), (["categories=tool"], ""), (["brand=acme", "stock>0"], "a"),
    ],
)  # fmt: skip
def test_what_meets_the_conditions(conditions: list[str], met: str) -> None:
    assert "".join(SHOP["item_id"].filter(matching(SHOP, conditions))) == met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price", "write column<value"), ("prise<5", r"no column 'prise' \(did you mean 'price'"), ("price<cheap", "'cheap' is no number"),
        ("=5", "write column<value"), ("stock=many", "'many' is no number"), ("stock!=many", "'many' is no number"),
    ],
)  # fmt: skip
def test_what_is_no_condition(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        matching(SHOP, [text])


@pytest.mark.parametrize(
    ("text", "value"),
    [("1234.5", 1234.5), ("1,234.50", 1234.5), ("1.234,50 €", 1234.5), ("1.234.567", 1234567.0), ("12,5", 12.5), ("-3", -3.0),
     ("1'200.00", 1200.0), ("1.234", 1.234), ("n/a", None), ("", None), ("0,500 kg", 0.5), (".99", 0.99), ("1’234.50", 1234.5),
     ("EUR9.90", 9.9), ("1 234,56 €", 1234.56), ("A4 paper 5.00", 5.0), ("12 sheets, 3.99 €", 3.99), ("v.2", 2.0), ("٣٫٥", 3.5),
     ("1e3", 1e3)],
)  # fmt: skip
def test_numbers_as_shops_write_them(text: str, value: float | None) -> None:
    assert number(text) == value


def test_a_missing_number_meets_nothing() -> None:
    shop = pl.DataFrame({"item_id": ["a", "b"], "price": [1.0, float("nan")]})
    assert matching(shop, ["price>0.5"]).to_list() == [True, False]
    assert matching(shop, ["price!=1"]).to_list() == [False, True]


def test_a_column_tells_what_a_point_before_three_digits_means() -> None:
    german = pl.DataFrame({"item_id": ["a", "b", "c"], "price": ["9,90 €", "1.200 €", "1.234,56 €"]})
    assert matching(german, ["price<50"]).to_list() == [True, False, False]
    assert matching(german, ["price<1.210"]).to_list() == [True, True, False]  # as the column writes it
    english = german.with_columns(price=pl.Series(["9.90", "1,200", "1.234"]))
    assert matching(english, ["price<50"]).to_list() == [True, False, True]


def test_signs_of_other_languages_mean_what_they_say() -> None:
    shop = pl.DataFrame({"item_id": ["a", "b", "c"], "price": ["2 €", "3 €", "49 €"]})
    for condition, met in (
        ("price<>3", "ac"), ("price==49 €", "c"), ("price=49", "c"), ("price!=3", "ac"), ("price=>3", "bc"), ("price=<3", "ab"),
        ("price<1e1", "ab"),
    ):  # fmt: skip
        assert "".join(shop["item_id"].filter(matching(shop, [condition]))) == met, condition


@pytest.mark.parametrize("text", ["price<50 and price>3", "price<50,price>3", "price<1k", "price<3 for 2"])
def test_a_bound_is_one_number(text: str) -> None:
    with pytest.raises(InputError, match="is no number"):
        matching(SHOP, [text])
