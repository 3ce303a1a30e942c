"""What every model promises; a new model is covered by its line in ``MODELS``."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.data.messages import DataWarning
from lexirec.errors import InputError, NotFittedError, UnsupportedQueryError
from lexirec.evaluation.evaluate import evaluate
from lexirec.models import MODELS, create, load_model, model_class
from lexirec.models.contract import Recommender
from lexirec.query import Basis, Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard

FAST = {"epochs": 40, "eval_every": 10, "progress": False, "threads": 1, "monitor": "ndcg@5"}
SETTINGS: dict[str, dict] = {
    "popularity": {},
    "mf-bpr": {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "init_std": 0.1},
    "lightgcn": {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "init_std": 0.1},
    "lightgcn-infonce": {"lr": 0.05, "embedding_dim": 16, "batch_size": 64, "num_negs": 8, "init_std": 0.1},
    "gccf": {"lr": 0.05, "embedding_dim": 8, "num_layers": 2, "batch_size": 64},
    "rlmrec": {"lr": 0.05, "embedding_dim": 16, "num_layers": 2, "batch_size": 64, "encoder": "lsa"},
    "alpharec": {"lr": 0.01, "embedding_dim": 16, "batch_size": 64, "num_negs": 8, "encoder": "lsa"},
    "gru4rec": {"lr": 0.005, "embedding_dim": 16, "loss": "ce", "batch_size": 4},
    "sasrec": {"lr": 0.01, "embedding_dim": 16, "dropout": 0.2, "batch_size": 4},
    "bert4rec": {"lr": 0.007, "embedding_dim": 32, "inner": 32, "mask_last": 0.5, "batch_size": 4, "init": "xavier"},
    "bsarec": {
        "lr": 0.01,
        "embedding_dim": 16,
        "inner": 16,
        "num_layers": 1,
        "dropout": 0.2,
        "batch_size": 5,
        "targets": "all",
        "causal_filter": True,
    },
    "hstu": {"lr": 0.01, "embedding_dim": 16, "num_negs": 8, "num_layers": 1, "batch_size": 5},
    "fdsa": {
        "lr": 0.02,
        "embedding_dim": 16,
        "inner": 16,
        "num_layers": 1,
        "batch_size": 5,
        "targets": "all",
        "encoder": "lsa",
        "init_std": 0.1,
        "dropout": 0.2,
    },
    "s3rec": {"lr": 0.02, "embedding_dim": 16, "inner": 16, "num_layers": 1, "dropout": 0.1, "batch_size": 5, "pretrain_epochs": 1},
    "unisrec": {
        "lr": 0.02,
        "embedding_dim": 16,
        "inner": 16,
        "num_layers": 1,
        "batch_size": 10,
        "targets": "all",
        "encoder": "lsa",
        "experts": 2,
    },
    "recformer": {
        "lr": 0.01,
        "embedding_dim": 8,
        "num_heads": 1,
        "num_layers": 1,
        "batch_size": 10,
        "warmup": 5,
        "pretrain_lr": 0.01,
        "second_stage": False,
        "pretrain_epochs": 2,
        "max_tokens": 64,
        "init_std": 0.1,
    },
    "llmemb": {"lr": 0.01, "embedding_dim": 16, "batch_size": 4, "dropout": 0.1, "scft": None, "encoder": "lsa", "causal": True},
    "llm2x": {"lr": 0.01, "embedding_dim": 8, "batch_size": 4, "dropout": 0.1, "encoder": "lsa", "causal": True},
    "melt": {"lr": 0.02, "embedding_dim": 8, "batch_size": 20, "dropout": 0.1, "num_layers": 1, "causal": True, "pretrain_epochs": 5},
    "said": {"lr": 0.02, "embedding_dim": 8, "batch_size": 10, "backbone": "gru4rec", "freeze": False, "lm_dim": 16, "lm_epochs": 3},
    "tslrec": {"lr": 0.02, "embedding_dim": 8, "batch_size": 20, "backbone": "gru4rec", "lm_dim": 16, "lm_epochs": 3, "categories": 4},
    "calrec": {
        "text": "Title=title,Category=categories?",
        "lm_dim": 16,
        "lm_layers": 1,
        "lm_heads": 2,
        "lm_epochs": 10,
        "lm_lr": 0.02,
        "lr": 0.01,
        "warmup": 2,
        "vocabulary": 300,
        "batch_size": 10,
        "samples": 8,
        "max_new_tokens": 20,
    },
    "lir": {"text": "Title=title,Category=categories?"},
    "easyrec": {
        "encoder": "tiny",
        "num_layers": 1,
        "lr": 2e-3,
        "batch_size": 20,
        "epochs": 8,
        "mlm_weight": 0.0,
        "versions": 1,
        "read_precision": "float32",
    },
    "zero-shot": {"encoder": "random"},
}
"""Settings that learn the checkerboard in seconds; a new model adds its line."""
NAMES = sorted(MODELS)
LEARNS = [name for name in NAMES if name != "popularity"]
DRAWS = [name for name in LEARNS if name != "lir"]
"""Models with something random in them."""


@pytest.fixture(scope="module")
def train() -> TrainSet:
    return checkerboard()[0].train_set()


def fitted(name: str, train: TrainSet, **options: object) -> Recommender:
    return create(name, **SETTINGS[name]).fit(train, options=TrainingOptions(**{**FAST, **options}))


@pytest.fixture(scope="module")
def models(train: TrainSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommender]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXIREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return {name: fitted(name, train) for name in NAMES}


def test_every_model_is_covered() -> None:
    assert set(SETTINGS) == set(MODELS)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_fit_are_checked_before_anything_is_done(name: str, train: TrainSet, tmp_path: Path) -> None:
    whole = checkerboard()[0]
    for arguments, message in (
        ((whole,), "train is of type Dataset"),
        ((train, train), "valid is of type TrainSet"),
        ((train, None, {"epochs": 1}), r"pass TrainingOptions\(\*\*options\)"),
        ((train, None, 3), "options is of type int"),
    ):
        with pytest.raises(InputError, match=message):
            create(name, **SETTINGS[name]).fit(*arguments)
    assert not (tmp_path / "cache").exists()  # no stage was run


@pytest.mark.parametrize("name", LEARNS)
def test_checkerboard_has_a_known_answer(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    found = models[name].recommend(train.users.ids.to_list(), k=1)
    right = [row["item_id"][1:] == row["user_id"][1:] for row in found.iter_rows(named=True)]
    assert np.mean(right) == 1.0  # the only unseen item of the own parity


@pytest.mark.parametrize("name", NAMES)
def test_batch_equals_single(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    model = models[name]
    queries = [Query(user_id=u) for u in train.users.ids.to_list()]
    together = model.score(queries)
    alone = torch.cat([model.score([q]) for q in queries])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)  # a product of another shape sums in another order


@pytest.mark.parametrize("name", NAMES)
def test_second_fit_starts_anew(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    other, _ = checkerboard(12)
    model = create(name, **SETTINGS[name]).fit(other.train_set(), options=TrainingOptions(**FAST))
    model.fit(train, options=TrainingOptions(**FAST))
    assert torch.equal(model.score([Query(user_id="u03")]), models[name].score([Query(user_id="u03")]))


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_answer_alike(name: str, models: dict[str, Recommender], tmp_path: Path) -> None:
    model = models[name]
    model.save(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")
    assert loaded.config == model.config
    queries = [Query(user_id="u03"), Query(user_id="nobody")]
    if model.supports.history:
        queries.append(Query(history=["i01", "i05"]))
    if model.supports.intent:
        queries.append(Query(user_id="u03", intent="blue car", alpha=0.3))
    assert torch.equal(loaded.score(queries), model.score(queries))
    assert loaded.recommend(queries, k=3).equals(model.recommend(queries, k=3))
    assert loaded.explain("u03", "i03").equals(model.explain("u03", "i03"))
    with pytest.raises(InputError, match="exists already"):
        model.save(tmp_path / "saved")


@pytest.mark.parametrize("name", NAMES)
def test_unknown_person_gets_popularity_and_is_told(name: str, models: dict[str, Recommender]) -> None:
    model = models[name]
    found = model.recommend([Query(user_id="nobody"), Query()], k=3)
    assert found["answered_by"].str.starts_with("popularity").all()
    best = model.popularity[model.item_map.index(found["item_id"].to_list())]
    assert (best == np.sort(model.popularity)[::-1][:3].tolist() * 2).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_a_known_user_has_now_counts(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    """A basket beside a user_id is what the answer is made from; the same as the stored history, it changes nothing."""
    model = models[name]
    stored = train.item_map.name(train.history(2)).to_list()
    same = Query(user_id="u02", history=stored)
    if name != "popularity":
        assert model.answered_by(same) == model.answered_by(Query(user_id="u02")) == Basis(("user",))
    torch.testing.assert_close(model.score([same]), model.score([Query(user_id="u02")]))
    now = Query(user_id="u02", history=["i01", "i03"])  # of the other parity
    if not model.supports.history or name == "popularity":
        torch.testing.assert_close(model.score([now]), model.score([Query(user_id="u02")]))
        return
    assert model.answered_by(now) == Basis(("history",))
    torch.testing.assert_close(model.score([now]), model.score([Query(history=["i01", "i03"])]))
    shown = set(model.recommend(now, k=50)["item_id"])
    assert not shown & {*stored, "i01", "i03"}  # what was bought before stays out of sight


@pytest.mark.parametrize("name", LEARNS)
def test_histories(name: str, models: dict[str, Recommender]) -> None:
    model = models[name]
    if not model.supports.history:
        with pytest.raises(UnsupportedQueryError, match="history"):
            model.recommend(Query(history=["i01", "i03"]))
        return
    found = model.recommend(Query(history=["i01", "i03", "gone"]), k=4)
    assert all(int(item[1:]) % 2 == 1 for item in found["item_id"])  # its own parity
    assert not set(found["item_id"]) & {"i01", "i03"}
    assert found["answered_by"][0] == "history"
    nothing = model.recommend(Query(history=["gone"]), k=1)
    assert nothing["answered_by"][0] == "popularity"
    assert nothing["reason"][0] == "no item of the history is in the catalogue"
    assert model.recommend(Query(history=[]), k=1)["answered_by"][0].startswith("popularity")


@pytest.mark.parametrize("name", NAMES)
def test_words(name: str, models: dict[str, Recommender]) -> None:
    model = models[name]
    if not model.supports.intent:
        with pytest.raises(UnsupportedQueryError, match="can't read words"):
            model.recommend(Query(intent="blue car"))
        return
    found = model.recommend(Query(intent="blue car wheel"), k=5)
    assert all(int(item[1:]) % 2 == 1 for item in found["item_id"])
    assert model.recommend(Query(profile="likes red fruit"), k=1)["answered_by"][0] == "words"
    assert model.recommend(Query(user_id="u02", intent="blue car wheel"), k=1)["answered_by"][0] == "user+words"


@pytest.mark.parametrize("name", NAMES)
def test_new_items(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    new = pl.DataFrame(
        {"item_id": ["n0", "n1"], "title": ["red apple fruit fresh", "blue car wheel new"], "categories": [["Food"], ["Vehicles"]]}
    )
    model = fitted(name, train)
    if not model.supports.new_items:
        with pytest.raises(UnsupportedQueryError, match="by id only"):
            model.add_items(new)
        return
    before = model.score([Query(user_id="u04")])
    model.add_items(new)
    after = model.score([Query(user_id="u04")])
    if model.vector_scores:  # what a search engine says of a text depends on how rare its words are in the whole catalogue
        torch.testing.assert_close(after[:, : before.shape[1]], before)
    if name != "popularity":
        fruit, car = model.score([Query(user_id="u04")], items=["n0", "n1"])[0]
        assert fruit > car
    with pytest.raises(InputError, match="exist already"):
        model.add_items(new)


@pytest.mark.parametrize("name", NAMES)
def test_candidates_and_seen(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    model = models[name]
    assert set(model.recommend("u03", k=9, candidates=["i02", "i04"])["item_id"]) == {"i02", "i04"}
    seen = set(train.item_map.name(train.history(3)).to_list())
    assert not set(model.recommend("u03", k=20)["item_id"]) & seen
    assert len(model.recommend("u03", k=50, filter_seen=False)) == train.n_items
    with pytest.raises(InputError, match=r"none of 1 candidates is in the catalogue, such as 'i0' \(did you mean"):
        model.recommend("u03", candidates=["i0"])
    with pytest.warns(DataWarning, match=r"1 of 2 candidates are not in the catalogue \('soon'\); they are left out"):
        assert model.recommend("u03", candidates={"i02", "soon"})["item_id"].to_list() == ["i02"]
    assert set(model.recommend("u03", k=9, candidates=["i02", "i04"], exclude=["i04", "gone"])["item_id"]) == {"i02"}
    assert not set(model.recommend("u03", k=50, exclude={"i04"})["item_id"]) & {"i04"}
    with pytest.raises(InputError, match="k = 0"):
        model.recommend("u03", k=0)


@pytest.mark.parametrize("name", DRAWS)
def test_same_seed_same_answer_other_seed_other_weights(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    again, other = fitted(name, train), fitted(name, train, seed=2)
    assert torch.equal(again.score([Query(user_id="u03")]), models[name].score([Query(user_id="u03")]))
    assert not torch.equal(other.score([Query(user_id="u03")]), models[name].score([Query(user_id="u03")]))


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_and_recommend_ask_alike(name: str, models: dict[str, Recommender]) -> None:
    data, _ = checkerboard()
    split = data.split("leave-one-out")
    model = create(name, **SETTINGS[name]).fit(split.train, split.valid, TrainingOptions(**{**FAST, "epochs": 10}))
    result = evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["hr@3"])
    names = data.item_map.name
    histories = [[*names(split.train.history(k)), names(split.valid.item_index[k : k + 1])[0]] for k in range(data.n_users)]
    model.know_later([split.valid])
    reads = model.needs_history  # others are asked for the user that they learned
    lists = model.recommend([Query(user_id=u, history=h if reads else None) for u, h in zip(data.users.ids, histories, strict=True)], k=3)
    if result.optimistic == result.pessimistic:  # ties are settled in different ways
        hits = lists.group_by("query", maintain_order=True).agg("item_id")["item_id"].to_list()
        rate = np.mean([data.item_map.ids[int(split.test.item_index[k])] in row for k, row in enumerate(hits)])
        assert result.metrics["hr@3"] == pytest.approx(rate)


@pytest.mark.parametrize("name", NAMES)
def test_a_user_without_training_events_is_evaluated_by_popularity(name: str, models: dict[str, Recommender], train: TrainSet) -> None:
    late = pl.DataFrame({"user_id": ["u99", "u99"], "item_id": ["i00", "i02"], "timestamp": [98, 99]})
    log = pl.concat([train.interactions.select("user_id", "item_id", "timestamp").cast({"timestamp": pl.Int64}), late])
    data = Dataset(log, train.items, name="late")
    rows = (data.interactions["user_id"] != "u99").to_numpy()
    model = create(name, **SETTINGS[name]).fit(data.train_set(rows), options=TrainingOptions(**{**FAST, "epochs": 1}))
    result = evaluate(model, data.train_set(rows), data.heldout(~rows, "test"), metrics=["recall@20"])
    assert result.metrics["recall@20"] == 1.0  # all items are listed
    popular = model.score([Query(user_id="u99")])
    assert torch.equal(popular[0], torch.from_numpy(model.popularity.astype(np.float32)))


@pytest.mark.parametrize("name", NAMES)
def test_unfitted_model_says_so(name: str) -> None:
    with pytest.raises(NotFittedError, match="not fitted"):
        create(name).recommend("u")


@pytest.mark.parametrize("name", NAMES)
def test_unknown_setting_is_refused_with_the_nearest_name(name: str) -> None:
    with pytest.raises(InputError, match="has no setting"):
        create(name, nonsense=1)
    if "num_layers" in model_class(name).Config.model_fields:
        with pytest.raises(InputError, match="did you mean 'num_layers'"):
            create(name, num_layer=1)


@pytest.mark.parametrize("name", NAMES)
def test_transfer(name: str, models: dict[str, Recommender]) -> None:
    data, items = checkerboard(14)
    target = type(data)(data.interactions, items, name="other").train_set()
    model = models[name]
    if name not in ("alpharec", "popularity", "llmemb", "unisrec", "recformer", "calrec", "easyrec", "zero-shot", "lir"):
        with pytest.raises(UnsupportedQueryError, match="zero-shot"):
            model.transfer(target)
        return
    other = model.transfer(target)
    assert other.item_map.ids.to_list() == items["item_id"].to_list()
    assert other.recommend("u03", k=1).height == 1
