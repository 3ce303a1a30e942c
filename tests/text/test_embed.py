"""A catalogue to vectors: empty texts, checks, and the defaults on real data."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lexirec.errors import InputError
from lexirec.text import EmbeddingCache, item_vectors, mean_vector
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
