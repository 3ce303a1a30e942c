"""What graph models must do on any data: the same bits with two threads, no future items, no empty answers, one data set at a time."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from lexirec import Query
from lexirec.data.dataset import Dataset
from lexirec.data.mixing import mix
from lexirec.errors import InputError, UnsupportedQueryError
from lexirec.losses import bpr
from lexirec.models import create, load_model
from lexirec.models.contract import Recommender
from lexirec.training.options import TrainingOptions

QUIET = {"progress": False, "device": "cpu"}
WORDS = ["red", "blue", "car", "fruit", "apple", "wheel", "green", "saw", "oil", "rose", "drill", "hat"]


def shop(users: int = 20, taken: int = 20, cold: int = 3, per: int = 6, seed: int = 0) -> Dataset:
    """Random choices among ``taken`` items; ``cold`` more have no event."""
    rng = np.random.default_rng(seed)
    items = pl.DataFrame(
        {
            "item_id": [f"i{k:03d}" for k in range(taken + cold)],
            "title": [" ".join(rng.choice(WORDS, 3, replace=False)) for _ in range(taken + cold)],
        }
    )
    chosen = np.concatenate([rng.choice(taken, per, replace=False) for _ in range(users)])
    log = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{u:04d}" for u in range(users)], per),
            "item_id": [f"i{k:03d}" for k in chosen],
            "timestamp": np.tile(np.arange(per), users),
        }
    )
    return Dataset.from_frames(log, items)


def trained(name: str, data: Dataset, epochs: int = 1, threads: int = 1, **settings: object) -> Recommender:
    return create(name, **settings).fit(data.train_set(), options=TrainingOptions(epochs=epochs, threads=threads, **QUIET))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lightgcn", {}),
        ("mf-bpr", {}),
        ("lightgcn-infonce", {"num_negs": 8}),
        ("lightgcn-infonce", {"num_negs": 8, "negatives": "shared"}),
        ("gccf", {"batch_size": 2048}),
        ("alpharec", {"encoder": "lsa", "num_negs": 8}),
        ("rlmrec", {"encoder": "random", "embedding_dim": 64, "batch_size": 2048}),
    ],
)
def test_two_threads_give_the_same_bits(name: str, settings: dict) -> None:
    # Batches of 2,048 rows of 64 numbers: torch takes a second thread from 32,768 on.
    data = shop(users=600, taken=300, per=8)
    fits = [trained(name, data, threads=2, **settings).network.state_dict() for _ in range(3)]
    for other in fits[1:]:
        assert all(torch.equal(other[key], value) for key, value in fits[0].items())


def test_threads_of_one_training_are_not_those_of_the_next() -> None:
    before = torch.get_num_threads()
    trained("mf-bpr", shop(), threads=before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["lightgcn", "lightgcn-infonce"])
def test_bpr_by_cosine_trains_what_it_ranks_by(name: str) -> None:
    data = shop()
    model = create(name, loss="bpr", cosine=True, init="xavier", reg=0.0).fit(data.train_set(), options=TrainingOptions(epochs=0, **QUIET))
    users, positives, negatives = batch = next(model.batches(data.train_set(), np.random.default_rng(0)))
    rows = F.normalize(model.graph.mean_over_layers(model.layer0(), 3), dim=1)
    own, items = rows[users], rows[model.n_users :]
    expected = bpr((own * items[positives]).sum(1)[:, None], (own[:, None] * items[negatives]).sum(2))
    assert model.loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lightgcn", {}),
        ("lightgcn-infonce", {"negatives": "shared", "num_negs": 8}),
        ("lightgcn-infonce", {"negatives": "all"}),
        ("alpharec", {"encoder": "lsa", "projector": "linear", "negatives": "shared", "num_negs": 8}),
        ("alpharec", {"encoder": "lsa", "projector": "linear", "negatives": "all"}),
    ],
)
def test_scores_stay_in_float32_under_bfloat16(name: str, settings: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    import lexirec.models.graph as graph
    import lexirec.models.lightgcn as lightgcn

    data, seen = shop(), []
    model = trained(name, data, **settings)
    batch = next(model.batches(data.train_set(), np.random.default_rng(0)))
    for place, loss in ((lightgcn, "bpr"), (graph, "infonce"), (graph, "softmax_over_items")):
        true = getattr(place, loss)
        monkeypatch.setattr(place, loss, lambda *given, true=true: (seen.extend(given), true(*given))[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.loss(batch)
    kinds = {value.dtype for value in seen if isinstance(value, torch.Tensor)} - {torch.int64}
    assert kinds == {torch.float32}


@pytest.mark.parametrize(("name", "settings"), [("alpharec", {"encoder": "lsa"}), ("lightgcn-infonce", {})])
def test_items_that_do_not_exist_yet_are_nobodys_negatives(name: str, settings: dict) -> None:
    split = shop().split("cold-items")
    train = split.train
    assert train.new_items.any()
    model = create(name, negatives="all", **settings).fit(train, options=TrainingOptions(epochs=1, **QUIET))
    rows = torch.randn(train.n_items, 4, requires_grad=True)
    batch = next(model.batches(train, np.random.default_rng(0)))
    model.contrast(torch.randn(len(batch[0]), 4), rows, batch).backward()
    moved = rows.grad.abs().sum(1) > 0
    assert not moved[torch.from_numpy(train.new_items)].any()
    assert moved[torch.from_numpy(~train.new_items)].all()


@pytest.mark.parametrize("name", ["lightgcn", "lightgcn-infonce", "gccf"])
def test_a_history_of_which_nothing_is_known_is_answered_by_popularity(name: str) -> None:
    data = shop(per=3, taken=9)
    model = trained(name, data)
    silent = model.recommend(Query(history=["i010"]), k=3)
    assert silent["answered_by"].unique().to_list() == ["popularity"]
    assert silent["reason"].unique().to_list() == ["no item of the history has a training event"]
    assert model.recommend(Query(history=["i010", "i001"]), k=3)["answered_by"][0] == "history"
    assert model.recommend(Query(history=["nowhere"]), k=3)["reason"][0] == "no item of the history is in the catalogue"


@pytest.mark.parametrize("name", ["lightgcn", "lightgcn-infonce", "gccf"])
def test_without_layers_a_history_can_not_speak(name: str, tmp_path: Path) -> None:
    trained(name, shop(), num_layers=0).save(tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.recommend("u0001", k=3)["answered_by"][0] == "user"
    with pytest.raises(UnsupportedQueryError, match="can't answer for a history"):
        model.recommend(Query(history=["i001"]))


def test_text_speaks_for_items_without_events() -> None:
    model = trained("alpharec", shop(), encoder="lsa", num_negs=4)
    assert model.recommend(Query(history=["i021"]), k=3)["answered_by"][0] == "history"


@pytest.mark.parametrize(("name", "settings"), [("alpharec", {"encoder": "lsa", "num_negs": 8}), ("lightgcn", {}), ("gccf", {})])
def test_people_of_a_mix_are_shown_their_own_data_set(name: str, settings: dict, tmp_path: Path) -> None:
    parts = [dataclasses.replace(shop(seed=seed).train_set(), name=shelf) for seed, shelf in ((1, "books"), (2, "games"))]
    train, _ = mix([(part, None) for part in parts])
    create(name, batch_size=64, **settings).fit(train, options=TrainingOptions(epochs=2, **QUIET)).save(tmp_path / "run")
    model = load_model(tmp_path / "run")
    found = model.recommend(train.users.ids.to_list(), k=30)
    shelves = found.select(pl.col("user_id", "item_id").str.split("/").list.first())
    assert (shelves["user_id"] == shelves["item_id"]).all()
    assert found.height == 2 * 20 * (23 - 6)
    newcomer = model.recommend(Query(history=["games/i001"]), k=40)["item_id"].str.starts_with("games/")
    assert newcomer.all() and len(newcomer) == 22
    assert len(model.recommend(Query(history=["games/i001", "books/i001"]), k=46)) == 44
    if model.supports.intent:
        assert len(model.recommend(Query(intent="a red car"), k=46)) == 46
        model.add_items(pl.DataFrame({"item_id": ["new"], "title": ["red car"]}))
        assert "new" in model.recommend(Query(history=["games/i001"]), k=40)["item_id"]


def test_another_shop_needs_nothing_to_train_on() -> None:
    model = trained("alpharec", shop(), encoder="lsa", num_negs=4)
    everything = shop(users=5, taken=6, cold=0, per=6)
    moved = model.transfer(everything.train_set())
    assert moved.recommend(Query(intent="red"), k=3).height == 3


def test_a_table_wider_than_its_text_is_refused() -> None:
    with pytest.raises(InputError, match="64 dimensions are wanted of text vectors that have 8"):
        trained("lightgcn", shop(), init="text", encoder="lsa?dim=8")


def test_records_and_vectors_are_no_shared_attributes() -> None:
    data = shop()
    extra = [{"w": 1, "h": k} for k in range(data.items.height)]
    items = data.items.with_columns(
        size=pl.Series(extra),
        vector=pl.Series([[0.5, float(k)] for k in range(data.items.height)], dtype=pl.Array(pl.Float32, 2)),
        colour=pl.lit("red"),
    )
    found = trained("lightgcn", Dataset.from_frames(data.interactions, items)).explain("u0001", "i005")
    assert "colour=red" in found["name"].to_list()
    assert not found["name"].str.contains("size|vector").any()


def test_one_odd_row_leaves_a_column_of_numbers_alone() -> None:
    data = shop()
    items = data.items.with_columns(year=pl.lit(1990, dtype=pl.Int64))
    model = trained("alpharec", Dataset.from_frames(data.interactions, items), encoder="lsa", num_negs=4)
    model.add_items(pl.DataFrame({"item_id": ["a"], "title": ["red car"], "year": ["1995"]}))
    assert model.items["year"].dtype == pl.Int64
    assert model.items["year"][-1] == 1995
    with pytest.raises(InputError, match="'year' is String, Int64 in the catalogue"):
        model.add_items(pl.DataFrame({"item_id": ["b"], "title": ["red car"], "year": ["about 1995"]}))
    assert model.items.height == 24
