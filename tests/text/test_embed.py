"""A catalogue to vectors: empty texts, checks, and the defaults on real data."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.text import EmbeddingCache, item_vectors, load_encoder, mean_vector
from lexirec.text.embed import fill_from
from tests.text.worlds import HashEncoder

SHOP = pl.DataFrame(
    {"item_id": ["a", "b", "c", "d"], "title": ["red", None, " ", "red"], "brand": ["X", "Y", None, None], "year": [1, 2, None, None]}
)


class Fixed(HashEncoder):
    """Gives one vector for all texts."""

    cacheable = False

    def __init__(self, value):
        super().__init__(len(value))
        self.value = np.array(value, dtype=np.float32)

    def vector(self, text):
        return self.value if text == "red" else np.ones_like(self.value)


def test_items_without_text_get_the_mean_by_default(tmp_path):
    encoder = HashEncoder()
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red", None, "blue"]})
    with pytest.warns(
        UserWarning, match=r"1 of 3 have no text by template 'title' \(item_id 'b'\); they get the mean vector of the others"
    ):
        vectors = item_vectors(items, encoder, cache=EmbeddingCache(tmp_path))
    assert (vectors[0] == encoder.vector("red")).all()
    mean = vectors[[0, 2]].mean(axis=0)
    assert vectors[1] @ mean / np.linalg.norm(vectors[1]) / np.linalg.norm(mean) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(vectors[1]) == pytest.approx(np.linalg.norm(vectors[[0, 2]], axis=1).mean(), rel=1e-5)


def test_policies_for_items_without_text():
    encoder = HashEncoder()
    with pytest.warns(UserWarning, match="1 get the text of their other columns, 1 the mean"):
        vectors = item_vectors(SHOP, encoder, empty_text="attributes", cache=False)
    assert (vectors[1] == encoder.vector("Brand: Y. Year: 2")).all()
    with pytest.warns(UserWarning, match="2 of 4 have no text .*their ids are read as text"):
        assert (item_vectors(SHOP, encoder, empty_text="item_id", cache=False)[2] == encoder.vector("c")).all()
    with pytest.warns(UserWarning, match="they are read as 'unknown item'"):
        assert (item_vectors(SHOP, encoder, empty_text="placeholder", cache=False)[1] == encoder.vector("unknown item")).all()
    with pytest.raises(InputError, match=r"2 of 4 have no text by template 'title' \(item_id 'b', 'c'\); drop them"):
        item_vectors(SHOP, encoder, empty_text="error", cache=False)
    with pytest.raises(InputError, match="choose one of mean, attributes"):
        item_vectors(SHOP, encoder, empty_text="zero", cache=False)


def test_no_text_at_all_is_an_error():
    with pytest.raises(InputError, match="no item is left to take a mean of"):
        item_vectors(SHOP[1:3], HashEncoder(), cache=False)
    with pytest.raises(InputError, match="the catalogue is empty"):
        item_vectors(SHOP.clear(), HashEncoder(), cache=False)
    with pytest.raises(InputError, match="no column 'item_id'"):
        item_vectors(SHOP.drop("item_id"), HashEncoder(), cache=False)
    with pytest.raises(InputError, match="belong to an encoder given by name"):
        item_vectors(SHOP, HashEncoder(), cache=False, pooling="last")


def test_a_mean_without_direction_is_an_error():
    with pytest.raises(InputError, match="cancel out"):
        mean_vector(np.array([[1, 0], [-1, 0]], dtype=np.float32))


@pytest.mark.parametrize(
    ("value", "message"), [([0, 0], "2 of 4 vectors are of zeros only .item_id 'a', 'd'"), ([1, np.nan], "NaN or infinite")]
)
def test_spoilt_vectors_are_refused(value, message):
    items = SHOP.with_columns(title=pl.Series(["red", "blue", "oil", "red"]))
    with pytest.raises(InputError, match=message):
        item_vectors(items, Fixed(value), cache=False)


def test_one_item_and_doubled_titles():
    assert item_vectors(SHOP[:1], "lsa", cache=False).shape == (1, 1)
    encoder = HashEncoder()
    vectors = item_vectors(pl.DataFrame({"item_id": ["a", "b"], "title": ["red", "red"]}), encoder, cache=False)
    assert (vectors[0] == vectors[1]).all()
    assert encoder.asked == ["red"]


@pytest.mark.parametrize(("name", "empty"), [("amazon2014_beauty", 7), ("amazon2014_toys", 59)])
def test_real_catalogues_work_out_of_the_box(name, empty, tmp_path):
    folder = os.environ.get("LEXIREC_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"LEXIREC_DATA names no folder with {name}")
    items = pl.read_parquet(Path(folder) / name / "items.parquet")
    with pytest.warns(UserWarning, match=rf"{empty} of {items.height:,} have no text"):
        vectors = item_vectors(items, HashEncoder(), cache=EmbeddingCache(tmp_path))
    assert vectors.shape == (items.height, 8)
    rich = item_vectors(items, HashEncoder(), "title,categories", cache=EmbeddingCache(tmp_path))  # no warning: categories give text
    assert rich.shape == vectors.shape


ODD = "無線電話"


def with_an_odd_title(odd=ODD):
    """60 titles that share words, and one that shares none with them."""
    texts = [f"{a} {b} for {c}" for a in ("red", "blue", "green") for b in ("soap", "brush", "towel", "oil") for c in "xyzuv"]
    return pl.DataFrame({"item_id": [f"i{n}" for n in range(61)], "title": [*texts, odd], "note": [None] * 60 + ["a phone for x"]})


@pytest.mark.parametrize("name", ["lsa?dim=8", "join:lsa?dim=8|lsa?dim=4"])
def test_one_odd_title_leaves_the_catalogue_readable(name):
    items, encoder = with_an_odd_title(), load_encoder(name)
    with pytest.warns(UserWarning, match=r"1 of 61 have a text by template 'title' that .* knows nothing of \(item_id 'i60'\)"):
        vectors = item_vectors(items, encoder)
    np.testing.assert_allclose(vectors[60], mean_vector(vectors[:60]), atol=1e-6)
    np.testing.assert_array_equal(vectors[:60], encoder.encode(items["title"].to_list()[:60]))
    with pytest.raises(InputError, match=r"hold no word or trigram|none of the encoders knows"):
        encoder.encode([ODD])  # words are refused as before
    with pytest.warns(UserWarning, match="1 get the text of their other columns, 0 the mean"):
        other = item_vectors(items, name, empty_text="attributes")
    assert np.linalg.norm(other[60] - mean_vector(other[:60])) > 0.1
    with pytest.warns(UserWarning, match="their ids are read as text; of 1 of them the encoder knows nothing of that either"):
        item_vectors(items.with_columns(pl.col("item_id").replace("i60", "香水")), name, empty_text="item_id")
    with pytest.raises(InputError, match=r"1 of 61 have a text .* knows nothing of .*'i60'.*empty_text=\"mean\""):
        item_vectors(items, name, empty_text="error")


def test_an_odd_title_that_joins_a_catalogue_gets_its_mean():
    items, encoder = with_an_odd_title(), load_encoder("lsa?dim=8")
    known = item_vectors(items[:60], encoder)
    with fill_from(items[:60]), pytest.warns(UserWarning, match="the mean vector of the catalogue"):
        vectors = item_vectors(items[60:], encoder)
    np.testing.assert_allclose(vectors[0], mean_vector(known), atol=1e-6)
    with fill_from(items), pytest.warns(UserWarning, match="the mean vector of the catalogue"):  # an odd title in there has no part in it
        np.testing.assert_allclose(item_vectors(items[60:], encoder)[0], mean_vector(known), atol=1e-6)
