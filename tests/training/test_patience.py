"""Patience counts from the last improvement."""

import sys

import pytest

from lexirec.models.lightgcn import LightGCN
from lexirec.training.options import TrainingOptions
from tests.models.toys import checkerboard

SMALL = {"lr": 0.02, "embedding_dim": 8, "batch_size": 32, "init_std": 0.1, "reg": 0.0}


def test_patience_counts_from_the_last_improvement(monkeypatch: pytest.MonkeyPatch) -> None:
    split = checkerboard()[0].split("leave-one-out")
    values = iter([0.1, 0.0, 0.2, 0.1, 0.3, 0.2, 0.1, 0.9])

    class Fake:
        def __init__(self, value: float) -> None:
            self.metrics = {"ndcg@5": value}

    monkeypatch.setattr(sys.modules["lexirec.evaluation.evaluate"], "evaluate", lambda *_, **__: Fake(next(values)))
    options = TrainingOptions(epochs=100, patience=2, eval_every=2, progress=False, threads=1, monitor="ndcg@5")
    model = LightGCN(**SMALL).fit(split.train, split.valid, options)
    assert (model.training_result.best_epoch, model.training_result.history[-1]["epoch"]) == (10, 14)
