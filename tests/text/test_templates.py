"""Item rows to texts."""

import datetime as dt
import time

import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.text import render


def one(template, **columns):
    return render(pl.DataFrame({"item_id": ["a"], **{name: [value] for name, value in columns.items()}}), template)[0]


def test_a_title_is_the_bare_title():
    assert one("title", title="  Prada\tCandy \n 1.7 Oz. ") == "Prada Candy 1.7 Oz."
    assert one("title", title="A > B") == "A > B"
    assert one("title", title=None) == ""
    assert one("title", title=" \x00 ") == ""


def test_all_attributes_in_order():
    row = {"title": "Candy 1.7 Oz.", "brand": "Prada", "categories": ["Beauty > Fragrance > Women's", "Beauty > Gifts"], "year": 2011}
    assert (
        one("title,brand,categories,year", **row) == "Candy 1.7 Oz. Brand: Prada. Categories: Beauty, Fragrance, Women's, Gifts. Year: 2011"
    )
    assert one("title+brand", **row) == "Candy 1.7 Oz. Brand: Prada"
    assert one(["year", "title"], **row) == "Year: 2011. Candy 1.7 Oz."


def test_what_is_absent_is_left_out():
    assert one("title,brand,categories", title="Oil", brand=None, categories=[]) == "Oil"
    assert one("title,brand,categories", title=None, brand="Ada", categories=[None, " "]) == "Brand: Ada"
    assert one("title,brand", title=" ", brand=None) == ""
    assert one("title,price", title="Oil", price=float("nan")) == "Oil"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"),
        (12.0, "12"),
        (0.1, "0.1"),
        (True, "yes"),
        ("Beauty > Hair > Beauty", "Beauty, Hair"),
        ([["Beauty", "Hair"], ["Beauty", "Skin"]], "Beauty, Hair, Skin"),
        (["Drama", "Comedy"], "Drama, Comedy"),
        ({"colour": "red", "size": None}, "colour red"),
        (dt.date(2014, 7, 3), "2014-07-03"),
        ([1.5, 2.0], "1.5, 2"),
    ],
)
def test_values_of_any_kind(value, text):
    assert one("title,main_fact", title="Oil", main_fact=value) == f"Oil. Main fact: {text}"
    assert one("main_fact", main_fact=value) == text


def test_categoricals_and_no_rows():
    frame = pl.DataFrame({"title": ["a", "b"], "brand": pl.Series(["X", None], dtype=pl.Categorical)})
    assert render(frame, "title,brand") == ["a. Brand: X", "b"]
    assert render(frame.clear(), "title,brand") == []


def test_bad_templates():
    frame = pl.DataFrame({"title": ["a"], "brand": [b"x"]})
    for template, message in (
        ("titel", r"no column 'titel' \(did you mean 'title'\?\)"),
        ("title,,brand", "empty part"),
        ("", "empty part"),
        ([], "empty part"),
        ("title,title", "names 'title' twice"),
        ("title,brand", "'brand' holds bytes"),
    ):
        with pytest.raises(InputError, match=message):
            render(frame, template)


def test_a_megabyte_is_rendered_fast():
    frame = pl.DataFrame({"title": ["word \t " * 150_000] * 3, "categories": [["x > y"]] * 3})
    start = time.process_time()
    texts = render(frame, "title,categories")
    assert time.process_time() - start < 3
    assert texts[0].endswith("word. Categories: x, y")
    assert "  " not in texts[0]
