"""Vectors from files."""

import warnings

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.errors import InputError, LexirecError, UnsupportedQueryError
from lexirec.text import item_vectors, load_encoder, read_vectors, render, write_vectors
from lexirec.text.embed import fill_from, refuse_other_catalogue
from lexirec.text.encoders.file import texts_sha256

ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red", None, "blue"]})
VECTORS = np.arange(1, 13, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def file(tmp_path):
    write_vectors(tmp_path / "v.parquet", ["c", "a", "b"], VECTORS, {"encoder": "minilm", "fingerprint": "x"})
    return tmp_path / "v.parquet"


def test_joined_by_id_whatever_the_order(file):
    vectors = item_vectors(ITEMS, f"file:{file}")
    assert (vectors == VECTORS[[1, 2, 0]]).all()
    assert (item_vectors(ITEMS[:1], f"file:{file}") == VECTORS[[1]]).all()
    ids, rows, metadata = read_vectors(file)
    assert ids.to_list() == ["c", "a", "b"]
    assert (rows == VECTORS).all()
    assert rows.flags.writeable
    assert metadata == {"encoder": "minilm", "fingerprint": "x"}
    assert pl.read_parquet(file).schema == {"item_id": pl.String, "vector": pl.Array(pl.Float32, 4)}


def test_files_from_elsewhere(tmp_path):
    pl.DataFrame({"item_id": [3, 1], "vector": [[1.0, 2.0], [3.0, 4.0]]}).write_parquet(tmp_path / "v.parquet")
    assert load_encoder(f"file:{tmp_path}/v.parquet").lookup(["1", "3"]).tolist() == [[3, 4], [1, 2]]


def test_missing_items_are_named(file):
    with pytest.raises(InputError, match=r"2 of 3 items have no vector \(item_id 'x', 'y'\)"):
        load_encoder(f"file:{file}").lookup(["a", "x", "y"])


def test_words_are_refused_or_go_to_their_encoder(tmp_path, file):
    with pytest.raises(UnsupportedQueryError, match=r"can't encode words \('a wish'\).*\?words=minilm"):
        load_encoder(f"file:{file}").encode(["a wish"])
    lsa = load_encoder("lsa?dim=2")
    vectors = lsa.encode(["red soap", "blue soap", "red hair"])
    write_vectors(tmp_path / "w.parquet", ["a", "b", "c"], vectors, {})
    encoder = load_encoder(f"file:{tmp_path}/w.parquet?words=lsa?dim=2")
    assert encoder._words.name == "lsa?dim=2"
    encoder._words.fit(["red soap", "blue soap", "red hair"])
    assert (encoder.encode(["red soap"]) == vectors[:1]).all()
    assert load_encoder(encoder.name).name == encoder.name
    narrow = load_encoder(f"file:{tmp_path}/w.parquet", words="lsa?dim=1")
    narrow._words.fit(["red soap", "blue soap", "red hair"])
    with pytest.raises(InputError, match=r"has 2 dimensions, lsa\?dim=1 gives 1"):
        narrow.encode(["red", "blue"])


def test_words_of_another_model_are_refused(tmp_path):
    write_vectors(tmp_path / "v.parquet", ["a"], VECTORS[:1], {"encoder": "minilm", "fingerprint": '{"kind": "other"}'})
    with pytest.raises(InputError, match="their spaces differ"):
        load_encoder(f"file:{tmp_path}/v.parquet?words=lsa")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a"], "vectors": [[1.0]]}, r"no column 'vector' \(did you mean 'vectors'\?\)"),
        ({"item_id": ["a", "a"], "vector": [[1.0], [2.0]]}, "'a' stands there more than once"),
        ({"item_id": ["a", None], "vector": [[1.0], [2.0]]}, "1 rows have no item_id"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [2.0, 3.0]]}, r"2 different lengths \(1 to 2\)"),
        ({"item_id": ["a", "b"], "vector": [[1.0], None]}, r"1 vectors are null \(first: item_id 'b'\)"),
        ({"item_id": ["a"], "vector": ["1,2"]}, "column 'vector' is String"),
    ],
)
def test_bad_tables(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(InputError, match=message):
        load_encoder(f"file:{tmp_path}/v.parquet")


@pytest.mark.parametrize(
    ("value", "what"),
    [(float("nan"), "with NaN or infinite values"), (float("inf"), "with NaN or infinite values"), (0.0, "of zeros only")],
)
def test_spoilt_rows_are_refused_with_their_ids(tmp_path, value, what):
    vectors = VECTORS.copy()
    vectors[1] = value
    write_vectors(tmp_path / "v.parquet", ["a", "b", "c"], vectors, {})
    with pytest.raises(InputError, match=rf"1 of 3 vectors are {what} \(item_id 'b'\)"):
        item_vectors(ITEMS, f"file:{tmp_path}/v.parquet")


def test_null_numbers_are_refused(tmp_path):
    pl.DataFrame({"item_id": ["a", "b", "c"], "vector": [[1.0, 2.0], [1.0, None], [3.0, 4.0]]}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(InputError, match=r"1 of 3 vectors are with NaN.*'b'"):
        item_vectors(ITEMS, f"file:{tmp_path}/v.parquet")


def test_damaged_files(tmp_path, file):
    with pytest.raises(InputError, match="does not exist; lexirec embed"):
        load_encoder(f"file:{tmp_path}/none.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated or of another kind"):
        load_encoder(f"file:{file}")


def test_npy_rows_in_the_order_of_the_items(tmp_path):
    np.save(tmp_path / "v.npy", VECTORS.astype(np.float64))
    vectors = item_vectors(ITEMS, f"file:{tmp_path}/v.npy")
    assert vectors.dtype == np.float32
    assert (vectors == VECTORS).all()
    with pytest.raises(InputError, match="has 3 rows for 2 items"):
        item_vectors(ITEMS[:2], f"file:{tmp_path}/v.npy")
    np.save(tmp_path / "o.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled objects are never read"):
        load_encoder(f"file:{tmp_path}/o.npy")
    np.save(tmp_path / "flat.npy", np.ones(3))
    with pytest.raises(InputError, match="no matrix of numbers"):
        load_encoder(f"file:{tmp_path}/flat.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:-8])
    with pytest.raises(InputError, match=r"can't be read as a \.npy matrix"):
        load_encoder(f"file:{tmp_path}/cut.npy")


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(LexirecError, match=r"v\.parquet can't be written: the disk is full"):
        write_vectors(tmp_path / "v.parquet", ["a"], VECTORS[:1], {})
    assert list(tmp_path.iterdir()) == []


def made(tmp_path, items, template="title", hashes=True):
    """A file as ``lexirec embed`` writes it, or as an earlier version did."""
    texts = render(items, template)
    facts = {"encoder": "minilm", "template": template.split(","), "texts_sha256": texts_sha256(texts)}
    write_vectors(tmp_path / "m.parquet", items["item_id"], VECTORS[: items.height], facts, texts if hashes else None)
    return f"file:{tmp_path}/m.parquet"


SHOP = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red", "green", "blue"], "brand": ["X", "Y", None]})


@pytest.mark.parametrize("template", ["title", "title,brand"])
def test_a_changed_catalogue_is_told_and_another_one_refused(tmp_path, template):
    name = made(tmp_path, SHOP, template)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for items in (SHOP, SHOP[::-1], SHOP[1:], SHOP.with_columns(more=pl.lit(1)), SHOP.drop("title")):
            item_vectors(items, name)
    changed = SHOP.with_columns(title=pl.Series(["red", "grey", "blue"]))
    with pytest.warns(UserWarning, match=r"1 of 3 items have other texts than those that the file was made of \(item_id 'b'\); make"):
        vectors = item_vectors(changed, name)
    assert (vectors == VECTORS).all()
    with fill_from(SHOP), pytest.warns(UserWarning, match=r"1 of 1 items have other texts"):  # a new item, not another catalogue
        item_vectors(changed[1:2], name)
    with pytest.raises(InputError, match=r"3 of 3 items have other texts .*of another catalogue.*train with the encoder itself"):
        item_vectors(SHOP.with_columns(title=pl.Series(["hat", "coat", "sock"])), name)
    with pytest.raises(InputError, match=r"m\.parquet: 2 of 3 items have no vector \(item_id 'x', 'y'\)"):
        item_vectors(SHOP.with_columns(item_id=pl.Series(["x", "y", "c"])), name)


def test_a_file_of_an_earlier_version_tells_a_changed_catalogue(tmp_path):
    name = made(tmp_path, SHOP, hashes=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for items in (SHOP, SHOP[1:]):
            item_vectors(items, name)
    with pytest.warns(UserWarning, match=r"texts of the items have changed since the file was made; make the file again"):
        item_vectors(SHOP.with_columns(title=pl.Series(["red", "grey", "blue"])), name)


def test_a_template_that_nobody_reads_is_told(tmp_path):
    name = made(tmp_path, SHOP)
    with pytest.warns(UserWarning, match=r"text 'title,brand' is not read with .*which are of 'title'; leave the text out"):
        item_vectors(SHOP, name, "title,brand")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        item_vectors(SHOP, made(tmp_path, SHOP, "title,brand"), "title,brand")
        item_vectors(SHOP, made(tmp_path, SHOP, "title,brand"))


def test_a_model_is_not_transferred_by_ids(tmp_path):
    encoder = load_encoder(made(tmp_path, SHOP, hashes=False))
    untitled = SHOP.drop("title")
    for items in (SHOP, SHOP[1:], SHOP.vstack(SHOP.with_columns(item_id=pl.col("item_id") + "2"))):
        refuse_other_catalogue(encoder, SHOP, items)
    refuse_other_catalogue(encoder, untitled, untitled[:2])
    others = SHOP.with_columns(title=pl.Series(["hat", "coat", "sock"]))
    for items in (others, others.with_columns(item_id=pl.col("item_id") + "2"), untitled.with_columns(item_id=pl.Series(["a", "b", "z"]))):
        with pytest.raises(
            InputError, match=r"file:.* this is another catalogue, where an id is another item: train with the encoder itself"
        ):
            refuse_other_catalogue(encoder, SHOP, items)
    refuse_other_catalogue(load_encoder("lsa"), SHOP, others)


def test_a_hybrid_lets_bm25_read_the_words_that_a_file_can_not(tmp_path):
    from lexirec.models import create
    from lexirec.models.hybrid import Hybrid
    from lexirec.query import Query
    from lexirec.training.options import TrainingOptions
    from tests.models.toys import checkerboard

    data, items = checkerboard()
    vectors = np.random.default_rng(0).standard_normal((items.height, 8)).astype(np.float32)
    write_vectors(tmp_path / "v.parquet", items["item_id"], vectors, {"encoder": "minilm"})
    encoder = f"file:{tmp_path}/v.parquet"
    assert not load_encoder(encoder).readable(["a wish"]).any()
    options = TrainingOptions(epochs=1, progress=False, threads=1)
    model = create("alpharec", encoder=encoder, embedding_dim=8, num_negs=4).fit(data.train_set(), options=options)
    for query in (Query(intent="red apple"), Query(user_id="u03", intent="red apple")):
        with pytest.raises(UnsupportedQueryError, match=r"can't encode words \('red apple'\).*\?words=minilm"):
            model.recommend(query, k=2)
    hybrid = Hybrid(model, "sum")
    alone, both = hybrid.recommend([Query(intent="red apple"), Query(user_id="u03", intent="red apple")], k=2).partition_by("query")
    assert alone["answered_by"][0] == "bm25" and both["answered_by"][0] == "user+bm25"
    person = hybrid.score([Query(user_id="u03", intent="red apple", alpha=0.0)])[0].argsort(descending=True, stable=True)
    assert torch.equal(person, model.score([Query(user_id="u03")])[0].argsort(descending=True, stable=True))
