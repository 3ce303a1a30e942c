"""What may change when a run goes on: how long it trains, as long as nothing that is done hangs on it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from lexirec import runs
from lexirec.errors import InputError
from lexirec.files import read_json
from lexirec.models.contract import Recommender
from lexirec.training.tracking import read_lines
from tests.models.toys import write_shop

SETS = ["eval_every=2", "lr=0.05", "embedding_dim=8", "batch_size=64", "threads=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("data") / "checkerboard")


def interrupt(model: str, data: Path, out: Path, sets: list[str], after: int, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Begin a run that stops at the ``after``-th loss of a model of that name."""
    from lexirec.models import model_class

    kind: Any = model_class(model)
    original, calls = kind.loss, 0

    def dies(self: Recommender, batch: object) -> object:
        nonlocal calls
        calls += type(self) is kind
        if calls > after:
            raise KeyboardInterrupt
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "loss", dies)
        with pytest.raises(KeyboardInterrupt):
            runs.fit_run(runs.resolve(model, [data], sets=[*sets, *more]), out, progress=False)


def test_an_unfinished_run_goes_on_with_other_epochs_patience_and_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [*SETS, "init_std=0.1"]
    longer = runs.resolve("lightgcn", [data], sets=[*sets, "epochs=6", "patience=7", "max_minutes=30"])
    whole = runs.fit_run(longer, tmp_path / "whole", progress=False)
    interrupt("lightgcn", data, tmp_path / "cut", sets, 3 * 3, monkeypatch, "epochs=4", "patience=5")
    with pytest.raises(
        InputError, match=r"settings \(config.lr\); its checkpoint stands at epoch 2: .*only epochs, patience and max_minutes"
    ):
        runs.fit_run(runs.resolve("lightgcn", [data], sets=[*sets, "epochs=6", "lr=0.1"]), tmp_path / "cut", resume=True, progress=False)
    with pytest.raises(InputError, match="stands at epoch 2 and epochs = 1"):
        runs.fit_run(runs.resolve("lightgcn", [data], sets=[*sets, "epochs=1"]), tmp_path / "cut", resume=True, progress=False)
    cut = runs.fit_run(longer, tmp_path / "cut", resume=True, progress=False)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (cut / "config.yaml").read_bytes() == (whole / "config.yaml").read_bytes()


def test_a_model_trained_on_the_way_keeps_its_epochs(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [*SETS, "backbone=sasrec", "num_layers=1", "num_heads=1", "max_minutes=60"]
    interrupt("melt", data, tmp_path / "cut", sets, 0, monkeypatch, "epochs=2")
    with pytest.raises(InputError, match=r"\(training.epochs; backbone in it was trained with these\); it has no checkpoint yet: repeat"):
        runs.fit_run(runs.resolve("melt", [data], sets=[*sets, "epochs=4"]), tmp_path / "cut", resume=True, progress=False)
    whole = runs.fit_run(runs.resolve("melt", [data], sets=[*sets, "epochs=2"]), tmp_path / "whole", progress=False)
    more = runs.resolve("melt", [data], sets=[*sets[:-1], "epochs=2"])  # time bounds no model on the way
    cut = runs.fit_run(more, tmp_path / "cut", resume=True, progress=False)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_model_trained_on_the_way_is_taken_along_by_more_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [*SETS, "backbone=sasrec", "num_layers=1", "num_heads=1", "epochs=2"]
    whole = runs.fit_run(runs.resolve("melt", [data], sets=sets), tmp_path / "whole", progress=False)
    cut = runs.fit_run(runs.resolve("melt", [data], sets=[*sets, "max_minutes=1e-9"]), tmp_path / "cut", progress=False)
    assert read_json(cut / "result.json")["stopped"] == "max_minutes"
    from lexirec.models.sasrec import SASRec

    monkeypatch.setattr(SASRec, "loss", None)  # not trained again
    cut = runs.fit_run(runs.resolve("melt", [data], sets=sets), cut, resume=True, progress=False)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_time_that_ends_within_the_first_epoch_leaves_a_run(data: Path, tmp_path: Path) -> None:
    sets = [*SETS, "init_std=0.1", "epochs=3"]
    cut = runs.fit_run(runs.resolve("lightgcn", [data], sets=[*sets, "max_minutes=1e-9"]), tmp_path / "cut", progress=False)
    result = read_json(cut / "result.json")
    assert (result["stopped"], result["best_epoch"]) == ("max_minutes", 1)
    assert result["test"]["recall@20"] >= 0
    whole = runs.fit_run(runs.resolve("lightgcn", [data], sets=sets), tmp_path / "whole", progress=False)
    cut = runs.fit_run(runs.resolve("lightgcn", [data], sets=sets), cut, resume=True, progress=False)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("end", "more"), [("epochs=4", "epochs=8"), ("patience=1", "patience=3")])
def test_a_finished_run_goes_on_with_more_of_what_ended_it(data: Path, tmp_path: Path, end: str, more: str) -> None:
    sets = [*SETS, "lr=2", "init_std=0.1", "epochs=8"]  # a rate at which validation soon gets worse
    whole = runs.fit_run(runs.resolve("lightgcn", [data], sets=[*sets, more]), tmp_path / "whole", progress=False)
    short = runs.fit_run(runs.resolve("lightgcn", [data], sets=[*sets, end]), tmp_path / "short", progress=False)
    assert read_json(short / "result.json")["stopped"] == end.split("=")[0]
    assert len(read_lines(short / "metrics.jsonl")) < len(read_lines(whole / "metrics.jsonl"))
    longer = runs.fit_run(runs.resolve("lightgcn", [data], sets=[*sets, more]), short, resume=True, progress=False)
    assert (longer / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [line["epoch"] for line in read_lines(longer / "metrics.jsonl")] == [
        line["epoch"] for line in read_lines(whole / "metrics.jsonl")
    ]


def test_lost_checkpoints_are_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt("lightgcn", data, tmp_path / "cut", [*SETS, "init_std=0.1"], 3 * 5, monkeypatch, "epochs=6")
    shutil.rmtree(tmp_path / "cut.partial" / "checkpoints")
    with pytest.warns(UserWarning, match="no checkpoints any more: the training begins anew"):
        runs.fit_run(
            runs.resolve("lightgcn", [data], sets=[*SETS, "init_std=0.1", "epochs=6"]), tmp_path / "cut", resume=True, progress=False
        )
