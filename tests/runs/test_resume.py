"""What may change when a run goes on: how long it trains, as long as nothing that is done hangs on it."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lexirec import results, runs
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


def test_a_model_kept_for_others_keeps_the_epochs_too(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher that another run made is no less a part of this one."""
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    sets = [*SETS, "scft=null", "encoder=lsa", "num_heads=1", "max_len=8", "epochs=2"]
    runs.fit_run(runs.resolve("llmemb", [data], sets=[*sets, "seed=1"]), tmp_path / "first", progress=False)
    (teacher,) = (tmp_path / "cache" / "stages").iterdir()
    second = runs.fit_run(runs.resolve("llmemb", [data], sets=[*sets, "seed=2"]), tmp_path / "second", progress=False)
    with pytest.raises(InputError, match=r"second holds a run with other settings \(training.epochs\)"):
        runs.fit_run(runs.resolve("llmemb", [data], sets=[*sets[:-1], "epochs=4", "seed=2"]), second, resume=True, progress=False)
    interrupt("llmemb", data, tmp_path / "third", [*sets, "seed=3"], 0, monkeypatch)
    with pytest.raises(InputError, match=r"\(training.epochs; teacher in it was trained with these\)"):
        runs.fit_run(
            runs.resolve("llmemb", [data], sets=[*sets[:-1], "epochs=4", "seed=3"]), tmp_path / "third", resume=True, progress=False
        )
    runs.fit_run(runs.resolve("llmemb", [data], sets=[*sets, "seed=3"]), tmp_path / "third", resume=True, progress=False)
    assert list((tmp_path / "cache" / "stages").iterdir()) == [teacher]


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


def per_epoch(data: Path) -> int:
    """Steps of an epoch with :data:`SETS`."""
    return -(-runs.load_parts([str(data)], {"split": "leave-one-out"}).train.n_interactions // 64)


def changed(folder: Path) -> None:
    """Turn the order of all events around: what was held out is trained on, and the other way round."""
    path = folder / "interactions.parquet"
    log = pl.read_parquet(path)
    log.with_columns(-pl.col("timestamp")).write_parquet(path)


def test_a_training_does_not_go_on_with_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, sets = write_shop(tmp_path / "shop"), [*SETS, "epochs=4"]
    interrupt("mf-bpr", data, tmp_path / "run", sets, 3 * per_epoch(data), monkeypatch)
    changed(data)
    with pytest.raises(InputError, match="was trained on other data"):
        runs.fit_run(runs.resolve("mf-bpr", [data], sets=sets), tmp_path / "run", resume=True, progress=False)
    changed(data)  # brought back
    out = runs.fit_run(runs.resolve("mf-bpr", [data], sets=sets), tmp_path / "run", resume=True, progress=False)
    assert not (out / "data.json").exists() and "data.json" not in read_json(out / "manifest.json")
    changed(data)
    with pytest.raises(InputError, match="was trained on other data"):
        runs.fit_run(runs.resolve("mf-bpr", [data], sets=[*sets, "epochs=6"]), out, resume=True, progress=False)
    assert (out / "result.json").exists()


def test_a_bench_does_not_mix_old_and_new_data_nor_different_rules(tmp_path: Path) -> None:
    data, configs = write_shop(tmp_path / "shop"), tmp_path / "configs"
    names = ["popularity", "mf-bpr"]
    results.bench(data, names, tmp_path / "out", [1], sets=["threads=1", "epochs=1"])
    changed(data)
    with pytest.raises(InputError, match="was made on other data"):
        results.bench(data, names, tmp_path / "out", [1], sets=["threads=1", "epochs=1"])
    configs.mkdir()
    (configs / "open.yaml").write_text("model: popularity\ndata: {mask_seen: false}\n")
    with pytest.raises(InputError, match=r"different rules.*nothing masked"):
        results.bench(data, ["popularity", "open"], tmp_path / "other", [1], configs=configs)
    runs_of = tmp_path / "other" / "runs"
    with pytest.raises(InputError, match="different rules"):
        results.compare_runs([runs_of / "popularity" / "seed-1", runs_of / "open" / "seed-1"], ["ndcg@10"])


def test_a_metric_named_twice_is_one_test(tmp_path: Path) -> None:
    data = write_shop(tmp_path / "shop")
    results.bench(data, ["popularity", "mf-bpr"], tmp_path / "out", [1], sets=["threads=1", "epochs=1"])
    folders = [tmp_path / "out" / "runs" / name / "seed-1" for name in ("popularity", "mf-bpr")]
    once, twice = (results.compare_runs(folders, metrics) for metrics in (["ndcg@10"], ["ndcg@10", "ndcg@10"]))
    assert once == twice and len(once) == 1


def test_killed_between_its_two_files_a_training_keeps_its_best_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lexirec.training import loop

    sets = [*SETS, "epochs=8", "init_std=0.1"]
    real = loop.save_checkpoint

    def dies(path: Path, network: Any, optimiser: Any, state: dict[str, Any]) -> None:
        if path.name.startswith("best") and state["epoch"] == 4:
            raise KeyboardInterrupt
        real(path, network, optimiser, state)

    experiment = runs.resolve("mf-bpr", [data], sets=sets)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            runs.fit_run(experiment, tmp_path / "cut", progress=False)
    assert len(read_lines(tmp_path / "cut.partial" / "metrics.jsonl")) == 2  # the second was the best so far
    stops = runs.resolve("mf-bpr", [data], sets=[*sets, "max_minutes=1e-9"])
    found = read_json(runs.fit_run(stops, tmp_path / "cut", resume=True, progress=False) / "result.json")
    assert found["best_epoch"] == 4
    values = read_lines(tmp_path / "cut" / "metrics.jsonl")[-1]
    assert found["valid"]["ndcg@20"] == pytest.approx(values["ndcg@20"])
