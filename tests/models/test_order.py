"""What the systems on top of a sequence encoder must all do: learn an order where there is one, and learn a little data by heart."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from lexirec.data.dataset import Dataset
from lexirec.evaluation.evaluate import evaluate
from lexirec.models import create
from lexirec.query import Query
from lexirec.training.options import TrainingOptions
from tests.models.toys import markov

SMALL = {"embedding_dim": 16, "max_len": 8, "batch_size": 16, "lr": 0.01, "loss": "ce", "dropout": 0.0}
SYSTEMS: dict[str, dict[str, Any]] = {
    "llmemb": {"scft": None, "encoder": "lsa"},
    "llm2x": {"encoder": "lsa", "embedding_dim": 8},
    "melt": {"pretrain_epochs": 10, "tail_share": 0.1},  # most items are frequent, so that few rows are rewritten
    "said": {"lm_dim": 16, "lm_layers": 1, "lm_epochs": 10, "freeze": False},
    "tslrec": {"lm_dim": 16, "lm_layers": 1, "lm_epochs": 3, "categories": 4, "freeze": False},
}
LAST_EVENT: dict[str, dict[str, Any]] = {
    "sasrec": {"targets": "last", "causal": True},
    "bert4rec": {"mask_last": 1.0, "inner": 32},
    "gru4rec": {"targets": "last"},
}
"""How an encoder is taught the last event alone."""
QUIET = {"progress": False, "threads": 1}


def hit_rate(name: str, dial: float, **settings: Any) -> float:
    """hr@1 of the last events of histories on a ring, 5 to 9 events long, trained at one strength of the order."""
    whole = markov(dial, users=150)
    data = whole.subset(whole.interactions["timestamp"].to_numpy() < 5 + whole.user_index % 5)
    split = data.split("leave-one-out")
    options = TrainingOptions(epochs=20, eval_every=10, monitor="hr@1", **QUIET)
    settings = settings or {"causal": True}
    model = create(name, **{**SMALL, **SYSTEMS[name], **settings}).fit(split.train, split.valid, options)
    return evaluate(model, split.train, split.test, seen=(split.valid,), metrics=["hr@1"], mask_seen=False).metrics["hr@1"]


ON_OTHERS: tuple[dict[str, Any], ...] = (
    {"backbone": "sasrec", "causal": False, "targets": "last"},  # looking both ways it sees what it is asked for but at the last place
    {"backbone": "bert4rec", "mask_last": 1.0, "positions": "last", "inner": 32},
    {"backbone": "gru4rec"},
)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*((name, {}) for name in SYSTEMS), *(("llmemb", of) for of in ON_OTHERS)],
)
def test_order_that_can_be_learned_is_and_order_that_cannot_is_not(name: str, settings: dict[str, Any]) -> None:
    none, some, nearly_all = (hit_rate(name, dial, **settings) for dial in (0.0, 0.6, 0.95))
    assert none < 0.2  # one of twelve by chance
    assert none + 0.15 < some < nearly_all
    assert some < 0.8  # .63 can be known
    assert nearly_all > 0.75


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec", "gru4rec"])
@pytest.mark.parametrize("name", ["llmemb", "llm2x"])
def test_overfits_twenty_sequences(name: str, backbone: str) -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{u:02d}", f"i{i:02d}", t) for u in range(20) for t, i in enumerate(rng.permutation(30)[:5])]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    names = [f"i{i:02d}" for i in range(30)]
    train = Dataset(log, pl.DataFrame({"item_id": names, "title": [f"thing {name}" for name in names]})).train_set()
    settings = {**SMALL, "batch_size": 32, **LAST_EVENT[backbone]}
    settings |= {"scft": None} if name == "llmemb" else {}
    model = create(name, **settings, encoder="lsa", backbone=backbone).fit(train, options=TrainingOptions(epochs=80, **QUIET))
    histories = [train.item_map.name(train.history(user)).to_list() for user in range(20)]
    found = model.recommend([Query(history=h[:-1]) for h in histories], k=1)["item_id"].to_list()
    assert sum(a == h[-1] for a, h in zip(found, histories, strict=True)) >= 18
