"""Ties and ranks in CALRec's protocol: items 17 to 19 of the conformance list, through the evaluation that every model goes through."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data.dataset import Dataset, Heldout
from lexirec.evaluation.evaluate import Evaluation, evaluate
from lexirec.query import Query

METRICS = ["ndcg@10", "recall@1", "recall@10", "mrr"]


class Fixed:
    """Gives the scores it was made with."""

    vector_scores, needs_history = False, True

    def __init__(self, rows: dict[str, list[float]]) -> None:
        self.rows = rows

    def score(self, queries: Sequence[Query]) -> torch.Tensor:
        return torch.tensor([self.rows[query.user_id or ""] for query in queries])


def judged(scores: list[list[float]], targets: list[int]) -> Evaluation:
    n = len(scores[0])
    names = [f"u{row}" for row in range(len(scores))]
    log = pl.DataFrame({"user_id": names, "item_id": ["i00"] * len(names), "timestamp": [0] * len(names)})
    items = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(n)], "title": [str(i) for i in range(n)]})
    train = Dataset(log, items).train_set()
    held_out = Heldout(np.arange(len(names), dtype=np.int32), np.array(targets, dtype=np.int32))
    model = Fixed(dict(zip(names, scores, strict=True)))
    return evaluate(model, train, held_out, metrics=METRICS, mask_seen=False, beyond=False)


@pytest.mark.parametrize(
    ("scores", "target", "optimistic", "pessimistic"),
    [([0.9, 0.7, 0.7, 0.7, 0.1], 2, 2, 4), ([1.0, 1.0, 0.5], 1, 1, 2), ([0.9, 0.4, 0.0, 0.0, 0.0], 3, 3, 5)],
)
def test_ranks_of_ties(scores: list[float], target: int, optimistic: int, pessimistic: int) -> None:
    found = judged([scores], [target])
    for values, rank in ((found.optimistic, optimistic), (found.pessimistic, pessimistic)):
        assert values["mrr"] == pytest.approx(1 / rank)
        assert values["ndcg@10"] == pytest.approx(1 / np.log2(rank + 1))


def test_four_ranks() -> None:
    """Ranks 1, 3, 12 and 2: MRR has no cut-off."""
    scores = [[float(-i) for i in range(15)] for _ in range(4)]
    values = judged(scores, [0, 2, 11, 1]).metrics
    assert {name: round(values[name], 6) for name in METRICS} == {"ndcg@10": 0.532732, "recall@1": 0.25, "recall@10": 0.75, "mrr": 0.479167}


def test_optimistic_is_never_below_pessimistic() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (50, 30)) / 4
    found = judged(scores.tolist(), rng.integers(0, 30, 50).tolist())
    assert all(found.optimistic[name] >= found.metrics[name] >= found.pessimistic[name] for name in METRICS)
    assert found.optimistic["mrr"] > found.pessimistic["mrr"]
