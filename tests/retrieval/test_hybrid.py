"""Fusion of rankings, by itself and around a model."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.cli.main import run
from lexirec.data.dataset import Dataset
from lexirec.errors import InputError, NotFittedError
from lexirec.evaluation.evaluate import evaluate
from lexirec.models import create
from lexirec.models.hybrid import Hybrid
from lexirec.query import Basis, Query
from lexirec.retrieval.hybrid import fuse, ranks
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard, write_shop


def test_reciprocal_ranks_by_hand() -> None:
    a, b = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.0, 0.0, 5.0]])
    torch.testing.assert_close(fuse([a, b]), torch.tensor([[1 / 61 + 1 / 62, 1 / 62 + 1 / 62, 1 / 63 + 1 / 61]]))
    weighted = fuse([a, b], weights=[1.0, 0.0], rrf_k=1.0)
    torch.testing.assert_close(weighted, torch.tensor([[1 / 2, 1 / 3, 1 / 4]]))


def test_equal_scores_share_a_rank_wherever_they_stand() -> None:
    scores = torch.tensor([[0.0, 7.0, 0.0, 7.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert ranks(scores).tolist() == [[4, 1, 4, 1, 3], [1, 1, 1, 1, 1]]
    order = torch.randperm(5)
    assert torch.equal(ranks(scores[:, order]), ranks(scores)[:, order])


def test_rrf_sees_ranks_only_and_sum_the_range() -> None:
    a, b = torch.rand(4, 30), torch.rand(4, 30)
    torch.testing.assert_close(fuse([a, b]), fuse([a.exp() * 100, b]))
    torch.testing.assert_close(fuse([a, b], "sum"), fuse([a * 100 - 3, b], "sum"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([torch.zeros(1, 2), torch.zeros(1, 3)],), "shapes"),
        (([],), "at least one"),
        (([torch.zeros(1, 2)], "rff"), "did you mean 'rrf'"),
        (([torch.zeros(1, 2)], "sum", [-1.0]), "may not be negative"),
        (([torch.zeros(1, 2)], "rrf", None, 0.0), "rrf_k"),
        (([torch.tensor([[0.0, float("nan")]])],), "NaN"),
    ],
)
def test_bad_fusions_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fuse(*arguments)


FAST = TrainingOptions(epochs=30, progress=False, threads=1)


@pytest.fixture(scope="module")
def graph():
    return create("lightgcn", lr=0.05, embedding_dim=16, batch_size=64, init_std=0.1).fit(checkerboard()[0].train_set(), options=FAST)


@pytest.mark.parametrize("method", ["rrf", "sum"])
def test_words_reach_a_model_that_reads_none(graph, method: str) -> None:
    hybrid = Hybrid(graph, method)
    found = hybrid.recommend(Query(intent="A blue CAR!"), k=10)
    assert all(int(item[1:]) % 2 == 1 for item in found["item_id"])
    assert found["answered_by"][0] == "bm25"
    both = hybrid.recommend(Query(user_id="u02", intent="blue car"), k=1)
    assert both["answered_by"][0] == "user+bm25"


def test_weights_go_from_the_model_to_the_words(graph) -> None:
    query = [Query(user_id="u03", intent="red apple")]
    alone = torch.argsort(graph.score([Query(user_id="u03")]), descending=True)[0, :5]
    assert torch.equal(torch.argsort(Hybrid(graph, weight=0.0).score(query), descending=True)[0, :5], alone)
    words = Hybrid(graph, "sum", weight=1.0)
    assert all(item % 2 == 0 for item in torch.topk(words.score(query)[0], 5).indices.tolist())


def test_histories_people_and_strangers(graph) -> None:
    hybrid = Hybrid(graph)
    odd = hybrid.recommend(Query(history=["i01", "i03"]), k=3)
    assert all(int(item[1:]) % 2 == 1 for item in odd["item_id"])
    assert hybrid.recommend("u03", k=1)["item_id"][0] == "i03"
    for stranger in (Query(user_id="nobody"), Query()):
        assert hybrid.recommend(stranger, k=1)["answered_by"][0].startswith("popularity")
    queries = [Query(user_id="u04"), Query(intent="blue"), Query(), Query(history=["i01"], intent="red")]
    torch.testing.assert_close(hybrid.score(queries), torch.cat([hybrid.score([q]) for q in queries]))


def test_an_alpha_weighs_the_words_where_the_model_reads_none(graph) -> None:
    def asked(alpha: float | None, **known: object) -> Query:
        return Query(**{"user_id": "u03", "intent": "red apple", "alpha": alpha, **known})

    person, words = graph.score([Query(user_id="u03")]), torch.from_numpy(Hybrid(graph).bm25.scores(["red apple"]))
    for method in ("rrf", "sum"):
        hybrid = Hybrid(graph, method, weight=0.3)
        rows = hybrid.score([asked(alpha) for alpha in (0.0, None, 0.8, 1.0)])
        for row, share in zip(rows, (0.0, 0.3, 0.8, 1.0), strict=True):
            torch.testing.assert_close(row, fuse([person, words], method, (1 - share, share))[0])
    hybrid = Hybrid(graph, "sum")
    assert set(hybrid.explain(asked(1.0), "i02")["kind"]) == {"wish"}
    assert hybrid.explain(asked(0.0), "i02", k=3).equals(graph.explain("u03", "i02", k=3))
    # Nobody to weigh the words against, or no words: as without one.
    for known in ({"user_id": None}, {"user_id": "nobody"}, {"intent": None}):
        assert torch.equal(*hybrid.score([asked(None, **known), asked(0.0, **known)]))
    reader = create("alpharec", encoder="lsa", embedding_dim=8, num_negs=4).fit(checkerboard()[0].train_set(), options=FAST)
    low = Hybrid(reader, "sum", weight=0.3).score([asked(0.0)])  # the model has weighed them already
    torch.testing.assert_close(low, fuse([reader.score([asked(0.0)]), words], "sum", (0.7, 0.3)))


def test_without_a_word_for_bm25_the_basis_is_the_model_s(graph) -> None:
    log = pl.DataFrame(
        [("a", "x", 1), ("a", "y", 2), ("b", "y", 1), ("b", "x", 2), ("m", "mute", 1)], ["user_id", "item_id", "timestamp"], orient="row"
    )
    items = pl.DataFrame({"item_id": ["x", "y", "mute"], "title": ["red drill", "blue saw", None]})
    lir = create("lir", text="Title=title").fit(Dataset(log, items).train_set())
    for query in (Query(history=["mute"]), Query(user_id="m"), Query(history=["gone"]), Query(user_id="a", history=["mute"])):
        assert Hybrid(lir).answered_by(query) == lir.answered_by(query)
    mute = Hybrid(lir).recommend(Query(history=["mute"]), k=1)
    assert mute["answered_by"][0] == "popularity" and mute["reason"][0] == "no item of the history has a text"
    for query in (Query(intent="zzz"), Query(profile="zzz")):
        assert Hybrid(graph).answered_by(query) == Basis(reason="lightgcn can't read what is known, and no word of it is in the catalogue")
        assert torch.equal(Hybrid(graph).score([query])[0], torch.from_numpy(graph.popularity.astype(np.float32)))
    assert Hybrid(graph).answered_by(Query(user_id="nobody", intent="zzz")).reason == "there is no user 'nobody'"
    assert Hybrid(graph).answered_by(Query()).reason == "nothing is known"
    assert str(Hybrid(graph).answered_by(Query(user_id="u03", intent="zzz"))) == "user"


def test_explanations_name_the_words_beside_the_model(graph) -> None:
    query = Query(user_id="u03", intent="a blue car")
    model = graph.explain("u03", "i05", k=3)
    found = Hybrid(graph).explain(query, "i05", k=3)
    assert found.head(model.height).equals(model)
    words = found.tail(found.height - model.height)
    assert set(words["kind"]) == {"wish"} and set(words["name"]) == {"blue", "car"}
    hybrid = Hybrid(graph)
    assert words["weight"].sum() == pytest.approx(float(hybrid.bm25.scores(["a blue car"])[0, 5]), abs=1e-5)
    assert hybrid.explain(Query(intent="a blue car"), "i05")["kind"].to_list() == ["wish"] * 2  # the model had no part in it
    assert set(Hybrid(graph, weight=1.0).explain(query, "i05")["kind"]) == {"wish"}
    assert Hybrid(graph, weight=0.0).explain(query, "i05", k=3).equals(model)
    # Without words it is the latest item that BM25 was asked with.
    latest = hybrid.explain(Query(history=["i02", "i01"]), "i05").filter(pl.col("kind") == "word")
    assert {"blue", "car", "wheel"} <= set(latest["name"]) and "red" not in latest["name"].to_list()
    assert hybrid.explain(Query(), "i05").is_empty()
    with pytest.raises(InputError, match="unknown item ids"):
        hybrid.explain(query, "gone")


def test_every_model_can_be_wrapped_and_evaluated() -> None:
    data, _ = checkerboard()
    split = data.split("leave-one-out")
    for name in ("popularity", "lir", "alpharec"):
        settings = {"lir": {"text": "Title=title"}, "alpharec": {"encoder": "lsa", "embedding_dim": 8, "num_negs": 4}}.get(name, {})
        model = create(name, **settings).fit(split.train, options=TrainingOptions(epochs=2, progress=False, threads=1))
        found = evaluate(Hybrid(model, "sum"), split.train, split.test, seen=(split.valid,), metrics=["recall@10"])
        assert found.metrics["recall@10"] == 1.0  # no more than ten items of the own parity


@pytest.mark.parametrize("name", ["lightgcn", "sasrec"])
def test_an_evaluation_asks_bm25_with_the_latest_event_before_the_target(name: str) -> None:
    split = checkerboard()[0].split("leave-one-out")
    model = create(name, embedding_dim=8).fit(split.train, options=TrainingOptions(epochs=0, progress=False, threads=1))
    hybrid, asked = Hybrid(model, "sum"), []
    scores = hybrid.bm25.scores
    hybrid.bm25.scores = lambda texts: asked.extend(texts) or scores(texts)
    evaluate(hybrid, split.train, split.test, seen=(split.valid,), metrics=["recall@10"], beyond=False, progress=False)
    assert asked == [hybrid.texts[at] for at in split.valid.item_index]


def test_a_basket_reaches_a_model_that_has_learned_the_user(graph) -> None:
    hybrid, stored = Hybrid(graph, weight=0.0), graph.item_map.name(graph.history_items[: graph.history_offsets[1]]).to_list()
    user, basket = graph.users.ids[0], ["i02", "i05"]
    assert str(hybrid.answered_by(Query(user_id=user, history=basket))) == "history+bm25"
    alone, with_stored = (graph.score([Query(user_id=user, history=given)]) for given in (basket, None))
    torch.testing.assert_close(hybrid.score([Query(user_id=user, history=basket)]), fuse([alone]))
    for given in (stored, [*stored, "i05"], ["i05", *stored]):
        torch.testing.assert_close(hybrid.score([Query(user_id=user, history=given)]), fuse([with_stored]))


def test_new_items_and_other_catalogues() -> None:
    data, items = checkerboard()
    model = create("alpharec", encoder="lsa", embedding_dim=8, num_negs=4).fit(data.train_set(), options=FAST)
    hybrid = Hybrid(model, "sum", weight=0.9)
    hybrid.add_items(pl.DataFrame({"item_id": ["new"], "title": ["purple zither"], "categories": [["Music"]]}))
    assert hybrid.recommend(Query(intent="fruit zither"), k=1)["item_id"][0] == "new"
    other = type(data)(checkerboard(14)[0].interactions, checkerboard(14)[1], name="other").train_set()
    assert len(hybrid.transfer(other).item_map) == 14
    assert len(hybrid.item_map) == len(items) + 1


def test_bad_hybrids_are_refused(graph, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weight = 2"):
        Hybrid(graph, weight=2)
    with pytest.raises(InputError, match="recent = 0"):
        Hybrid(graph, recent=0)
    with pytest.raises(InputError, match="did you mean 'title'"):
        Hybrid(graph, text="titel")
    with pytest.raises(InputError, match="choose rrf or sum"):
        Hybrid(graph, "product")
    with pytest.raises(NotFittedError):
        Hybrid(create("popularity"))
    with pytest.raises(InputError, match="save its model"):
        Hybrid(graph).save(tmp_path / "x")
    with pytest.raises(InputError, match="nothing to learn"):
        Hybrid(graph).fit(checkerboard()[0].train_set())
    assert np.isfinite(Hybrid(graph).score([Query(user_id="u01")]).numpy()).all()


def test_the_command_line_fuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_shop(tmp_path / "data")
    assert run(["fit", "popularity", "--data", str(folder), "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    ask = ["recommend", str(tmp_path / "run"), "--intent", "blue car", "-k", "3", "--json"]
    assert run(ask) == 2  # popularity reads no words
    capsys.readouterr()
    assert run([*ask, "--hybrid", "sum", "--hybrid-weight", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answered_by"].endswith("bm25")
    assert all(int(row["item_id"][1:]) % 2 == 1 for row in found["items"])
    assert run([*ask[:-1], "--hybrid", "rrf", "--explain"]) == 0
    assert "wish: blue" in capsys.readouterr().out
    assert run([*ask, "--hybrid", "rff"]) == 2
    assert "did you mean 'rrf'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["lightgcn", "alpharec", "sasrec"])
def test_without_weight_a_hybrid_is_evaluated_as_its_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    settings = {"alpharec": {"encoder": "lsa", "num_negs": 4}, "lightgcn": {"init_std": 0.1}, "sasrec": {"max_len": 10}}[name]
    split = checkerboard()[0].split("leave-one-out")
    options = TrainingOptions(epochs=2, eval_every=2, threads=1, progress=False)
    model = create(name, embedding_dim=8, batch_size=64, **settings).fit(split.train, split.valid, options)
    plain, hybrid = (
        evaluate(
            asked, split.train, split.test, seen=(split.valid,), metrics=["ndcg@10", "recall@20"], beyond=False, progress=False
        ).metrics
        for asked in (model, Hybrid(model, "sum", weight=0.0))
    )
    assert hybrid == pytest.approx(plain, abs=1e-6)
