"""How a run is measured."""

from pathlib import Path

import pytest

from lexirec import results, runs
from lexirec.evaluation import evaluate
from lexirec.models.popularity import Popularity
from lexirec.runs.evaluating import measure
from tests.models.toys import write_shop


def test_the_test_part_of_a_run_is_ranked_without_the_validation_items(tmp_path: Path) -> None:
    parts = runs.load_parts([str(write_shop(tmp_path / "shop"))], {"split": "leave-one-out"})
    model = Popularity().fit(parts.train)
    found = measure(model, parts)
    known, unknown = (evaluate(model, parts.train, parts.test, seen=seen).metrics for seen in ((parts.valid,), ()))
    assert found.metrics["ndcg@10"] == pytest.approx(known["ndcg@10"]) != unknown["ndcg@10"]


def test_where_nothing_is_masked_the_metrics_of_calrec_are_tested_too(tmp_path: Path) -> None:
    shop = write_shop(tmp_path / "shop")
    sets = ["epochs=1", "eval_every=1", "embedding_dim=4", "threads=1", "progress=false"]
    for masked, tested in (
        (True, {"recall@20", "ndcg@20", "hr@10", "ndcg@10"}),
        (False, {"recall@20", "ndcg@20", "hr@10", "ndcg@10", "recall@1", "mrr"}),
    ):
        chosen = [*sets, f"data.mask_seen={str(masked).lower()}"]
        found = results.bench(shop, ["popularity", "mf-bpr"], tmp_path / str(masked), [0], sets=chosen)["results"]
        assert {test["metric"] for test in found["mf-bpr"]["tests"] if "group" not in test} == tested
