"""Ids as a log gives them: 12, 12.0 and "12" are one id, in questions and in new items; and arguments of a wrong type."""

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lexirec import Query
from lexirec.data.dataset import Dataset
from lexirec.errors import InputError
from lexirec.evaluation import evaluate
from lexirec.models import create
from lexirec.models.contract import Recommender
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard

FAST = TrainingOptions(epochs=2, eval_every=2, threads=1, device="cpu", progress=False)
ALPHAREC = {"encoder": "lsa", "embedding_dim": 8, "batch_size": 64, "num_negs": 4}


def numbered() -> Dataset:
    """The checkerboard with whole numbers as ids."""
    data, items = checkerboard()
    log = data.interactions.with_columns(pl.col("user_id", "item_id").str.slice(1).cast(pl.Int64))
    return Dataset.from_frames(log, items.with_columns(pl.col("item_id").str.slice(1).cast(pl.Int64)))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return numbered()


@pytest.fixture(scope="module")
def model(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXIREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return create("alpharec", **ALPHAREC).fit(data.train_set(), options=FAST)


@pytest.mark.parametrize(
    "history",
    [[3, 4], (3.0, "4"), np.array([3, 4]), np.array([3.0, 4.0]), pd.Series([3, 4]), pd.Series(["3", "4"]), pl.Series([3, 4]),
     pl.Series(["3", "4"])],
)  # fmt: skip
def test_a_history_of_any_kind_is_the_same_question(model: Recommender, history: object) -> None:
    found = model.recommend(Query(history=history), k=3)
    assert found["answered_by"][0] == "history"
    assert found.equals(model.recommend(Query(history=["3", "4"]), k=3))


def test_user_and_item_ids_may_be_numbers(model: Recommender) -> None:
    expected = model.recommend("7", k=3)
    assert expected["answered_by"][0] == "user"
    for asked in (7, np.int64(7), 7.0, Query(user_id=7), [7], pd.Series([7]), np.array([7])):
        assert model.recommend(asked, k=3).equals(expected)
    assert model.recommend(7, candidates=[3, 4], filter_seen=False).height == 2
    assert model.similar_items([3], k=2).equals(model.similar_items(["3"], k=2))
    assert model.explain(7, 3).equals(model.explain("7", "3"))
    assert model.score([Query(user_id=7)], items=[3]).shape == (1, 1)


@pytest.mark.parametrize(
    "arguments",
    [{"user_id": 7.5}, {"user_id": True}, {"user_id": ""}, {"user_id": float("nan")}, {"history": 3}, {"history": "3"}, {"history": {3, 4}},
     {"history": [3, None]}, {"history": [3, pd.NA]}, {"history": [[3]]}, {"intent": 5}, {"alpha": "much"}, {"alpha": float("nan")}],
)  # fmt: skip
def test_what_is_no_question_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        Query(**arguments)


def test_what_is_neither_query_nor_id_is_refused(model: Recommender) -> None:
    for asked in ({"user_id": 7}, [[3, 4]], None, [None]):
        with pytest.raises(InputError):
            model.recommend(asked)
    with pytest.raises(InputError, match="a list of item ids"):
        model.similar_items("3")


def test_fit_and_evaluate_name_the_right_argument(data: Dataset) -> None:
    split, fresh = data.split("leave-one-out"), create("popularity")
    for wrong, cure in ((data, r"data\.train_set\(\)"), (split, r"split\.train"), (data.interactions, "from_frames"), (None, "train_set")):
        with pytest.raises(InputError, match=cure):
            fresh.fit(wrong)
        with pytest.raises(InputError, match=cure):
            evaluate(fresh, wrong, split.test)
    with pytest.raises(InputError, match=r"split\.valid"):
        fresh.fit(split.train, split)
    with pytest.raises(InputError, match=r"TrainingOptions\(\*\*options\)"):
        fresh.fit(split.train, options={"epochs": 2})
    with pytest.raises(InputError, match=r"split\.test"):
        evaluate(fresh.fit(split.train), split.train, data)
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        TrainingOptions(epoch=2)


def test_new_items_from_pandas_and_without_text(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path))
    model = create("alpharec", **ALPHAREC).fit(data.train_set(), options=FAST)
    with pytest.raises(InputError, match="missing"):
        model.add_items(pl.DataFrame({"item_id": ["n", None], "title": ["red apple", "blue car"]}))
    with pytest.raises(InputError, match="no rows"):
        model.add_items(pl.DataFrame({"item_id": [], "title": []}))
    with pytest.raises(InputError, match="exist already"):
        model.add_items(pd.DataFrame({"item_id": [3.0], "title": ["red apple"]}))
    with pytest.raises(InputError, match="pandas, Polars or Arrow"):
        model.add_items([{"item_id": 100}])
    raw = model._raw_text(data.items)
    expected = model._reduced(raw.mean(axis=0, keepdims=True))  # of the whole catalogue, not of the car that comes with it
    with pytest.warns(UserWarning, match="mean vector of the catalogue"):
        model.add_items(pd.DataFrame({"item_id": [100.0, 101.0], "title": ["blue car", None]}))
    assert model.item_map.ids.to_list()[-2:] == ["100", "101"]
    got, wanted = model.text[-1].numpy(), expected[0].numpy()
    assert got @ wanted / np.linalg.norm(got) / np.linalg.norm(wanted) == pytest.approx(1.0, abs=1e-5)
    with pytest.warns(UserWarning, match="mean vector of the catalogue"):
        model.add_items(pd.DataFrame({"item_id": [102], "title": [None]}))  # alone
    np.testing.assert_allclose(model.text[-1].numpy(), got, atol=0.1)  # the blue car has moved the mean a little
