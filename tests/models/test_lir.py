"""LIR: number 22 of CALRec's conformance list, words, explanations, bad input, and the published level on real data."""

import os
from pathlib import Path

import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset
from lexirec.data.messages import DataWarning
from lexirec.errors import InputError, UnsupportedQueryError
from lexirec.evaluation.evaluate import evaluate
from lexirec.models.lir import LIR
from lexirec.query import Query
from lexirec.runs import load_parts, measure, resolve
from lexirec.training.options import TrainingOptions


def shop(*titles: str, **columns: list) -> LIR:
    ids = [f"i{i}" for i in range(len(titles))]
    log = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["i1", "i0"], "timestamp": [1, 2]})
    items = pl.DataFrame({"item_id": ids, "title": list(titles), **columns})
    text = "Title=title" + "".join(f",{name.capitalize()}={name}" for name in columns)
    return LIR(text=text).fit(Dataset(log, items).train_set(), options=TrainingOptions(progress=False))


def ranks(scores: torch.Tensor, target: int) -> tuple[int, int]:
    return 1 + int((scores > scores[target]).sum()), int((scores >= scores[target]).sum())


TITLES = ("red drill", "blue drill", "green saw")


def test_three_documents_and_a_twin() -> None:
    model = shop(*TITLES, brand=["acme", "acme", "zed"])
    scores = model.score([Query(history=["i2", "i0"])])[0]
    assert [ranks(scores, target) for target in range(3)] == [(1, 1), (2, 2), (3, 3)]
    twins = shop(*TITLES, "red drill", brand=["acme", "acme", "zed", "acme"]).score([Query(history=["i0"])])[0]
    assert ranks(twins, 0) == (1, 2)


def test_the_last_item_counts_and_stays_in_the_list() -> None:
    model = shop(*TITLES)
    assert torch.equal(model.score([Query(user_id="u")]), model.score([Query(history=["i0"])]))
    assert torch.equal(model.score([Query(history=["i2", "i0", "gone"])]), model.score([Query(history=["i0"])]))
    assert model.recommend("u", k=1, filter_seen=False)["item_id"][0] == "i0"
    assert model.recommend("u", k=3)["item_id"].to_list() == ["i2"]


def test_what_somebody_has_now_is_not_answered_from_what_is_stored() -> None:
    model = shop(*TITLES, "")
    mute, gone = Query(user_id="u", history=["i3"]), Query(user_id="u", history=["gone"])
    found = model.recommend([mute, gone], k=1, filter_seen=False)
    assert found["answered_by"].to_list() == ["popularity", "user"]
    assert found["reason"][0] == "no item of the history has a text"
    assert torch.equal(model.score([mute])[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert torch.equal(model.score([gone]), model.score([Query(user_id="u")]))


def test_words_alone_and_beside_a_person() -> None:
    model = shop(*TITLES)
    assert model.recommend(Query(intent="saw"), k=1)["item_id"][0] == "i2"
    assert model.recommend(Query(history=["i0"], intent="saw", alpha=1.0), k=1)["item_id"][0] == "i2"
    assert torch.equal(
        model.score([Query(history=["i0"], intent="saw", alpha=0.0)]).argsort(), model.score([Query(history=["i0"])]).argsort()
    )
    assert model.recommend(Query(intent="unheard of"), k=1)["answered_by"][0].startswith("popularity")
    assert model.recommend(Query(history=["i0"], intent="unheard of"), k=1)["answered_by"][0] == "history"


def test_explanations_and_neighbours() -> None:
    model = shop(*TITLES, brand=["acme", "acme", "zed"])
    found = model.explain(Query(history=["i0"]), "i1")
    assert found["kind"].to_list()[:3] == ["history", "word", "word"]
    assert "drill." in found["name"].to_list()
    assert found.filter(pl.col("kind") == "word")["weight"].sum() == pytest.approx(found["weight"][0], abs=1e-5)
    assert model.explain(Query(history=["i0"]), "i2").filter(pl.col("weight") <= 0).is_empty()
    assert model.explain(Query(history=["i0"], intent="saw"), "i2")["kind"].to_list()[-1] == "wish"  # the words answered too
    assert model.explain(Query(history=["i0"], intent="unheard of"), "i1").equals(found)  # the words did not
    assert model.explain(Query(intent="saw"), "i2")["kind"].to_list() == ["wish"]
    assert model.explain(Query(intent="saw"), "i1").is_empty()
    assert model.similar_items(["i0"], k=1)["similar_item_id"][0] == "i1"
    with pytest.raises(UnsupportedQueryError, match="no vectors"):
        model.encode_items()


def test_new_items_join_the_catalogue() -> None:
    model = shop(*TITLES)
    model.add_items(pl.DataFrame({"item_id": ["new"], "title": ["bit red drill"]}))
    assert model.recommend(Query(history=["i0"]), k=1)["item_id"][0] == "new"


def test_a_template_that_lacks_a_column_names_it() -> None:
    log = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1]})
    train = Dataset(log, pl.DataFrame({"item_id": ["a"], "title": ["x"], "brands": ["y"]})).train_set()
    with pytest.raises(InputError, match=r"Brand=brand.*did you mean 'brands'"):
        LIR(text="Title=title,Brand=brand").fit(train)
    with pytest.raises(InputError, match="b = 2"):
        LIR(b=2)


def test_items_without_text_and_items_all_alike() -> None:
    with pytest.warns(DataWarning, match=r"1 of 3 items have no attribute of the template \(item_id 'i1'\)"):
        silent = shop("red", "", "blue")
    assert not silent.answered_by(Query(history=["i1"]))
    assert silent.recommend(Query(history=["i2", "i1"]), k=1, filter_seen=False)["item_id"][0] == "i2"  # the latest with a text
    with pytest.warns(DataWarning, match=r"1 of 1 new items have no attribute of the template \(item_id 'mute'\)"):
        silent.add_items(pl.DataFrame({"item_id": ["mute"], "title": [""]}))
    with pytest.raises(InputError, match="no item of dataset has any attribute"):
        shop("", "")
    alike = shop("same", "same", "same")
    assert ranks(alike.score([Query(history=["i0"])])[0], 2) == (1, 3)


@pytest.mark.parametrize(("catalogue", "optimistic", "pessimistic"), [("interacted", 0.0976, 0.0885), ("all", 0.0943, 0.0855)])
def test_published_level_on_scientific(catalogue: str, optimistic: float, pessimistic: float) -> None:
    folder = Path(os.environ.get("LEXIREC_DATA", "")) / "amazon2018_scientific"
    if not os.environ.get("LEXIREC_DATA") or not folder.exists():
        pytest.skip("LEXIREC_DATA names no folder with amazon2018_scientific")
    config = Path(__file__).parents[2] / "configs" / "amazon2018_scientific" / "lir.yaml"
    experiment = resolve("lir", [folder], config_file=config, sets=[f"data.catalogue={catalogue}"])
    parts = load_parts(experiment.paths, experiment.data)
    model = LIR(**experiment.config).fit(parts.train)
    found = measure(model, parts)
    assert found.protocol == "full ranking, nothing masked"
    assert found.optimistic["recall@10"] == pytest.approx(optimistic, abs=5e-4)
    assert found.pessimistic["recall@10"] == pytest.approx(pessimistic, abs=5e-4)
    assert all(found.optimistic[key] >= found.pessimistic[key] for key in found.optimistic)


def test_nothing_is_masked_where_the_protocol_says_so() -> None:
    people = ["u"] * 4 + ["v"] * 4
    log = pl.DataFrame({"user_id": people, "item_id": ["i0", "i1", "i2", "i1"] * 2, "timestamp": [1, 2, 3, 4] * 2})
    data = Dataset(log, pl.DataFrame({"item_id": ["i0", "i1", "i2"], "title": list(TITLES)}))
    split = data.split("leave-one-out")
    model = LIR(text="Title=title").fit(split.train)
    found = evaluate(model, split.train, split.test, seen=(split.valid,), mask_seen=False, metrics=["recall@3"])
    assert found.metrics["recall@3"] == 1.0
    assert found.repeat_targets == 0
