"""A search validates and hands on as its runs train."""

from pathlib import Path

import polars as pl
import pytest

from lexirec import tuning
from lexirec.models import model_class
from tests.models.toys import write_shop

SETS = ["epochs=1", "eval_every=1", "embedding_dim=4", "batch_size=64", "threads=1", "progress=false"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return write_shop(tmp_path / "shop")


def test_the_best_trial_is_the_one_of_the_highest_value_under_the_protocol_asked_for(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    kind = model_class("mf-bpr")
    fit, masked = kind.fit, []
    monkeypatch.setattr(
        kind, "fit", lambda self, train, valid, options: masked.append(options.mask_seen) or fit(self, train, valid, options)
    )
    found = tuning.tune_model("mf-bpr", [shop], 4, tmp_path / "out", space=["lr=log:0.0001:1"], sets=[*SETS, "data.mask_seen=false"])
    values = pl.read_csv(tmp_path / "out" / "trials.csv")[found["monitor"]]
    assert values.n_unique() > 1
    assert found["best_value"] == pytest.approx(values.max()) and values[0] == values.max()
    assert masked == [False] * 4


def test_the_best_configuration_has_the_training_of_its_trials(tmp_path: Path, shop: Path) -> None:
    from lexirec import runs

    pytest.importorskip("optuna")
    found = tuning.tune_model("mf-bpr", [shop], 1, tmp_path / "out", space=["lr=0.01,0.1"], sets=[*SETS, "patience=3"], seed=5)
    training = runs.resolve("mf-bpr", [shop], config_file=found["config"]).training
    assert (training["epochs"], training["patience"], training["seed"]) == (1, 3, 5)
