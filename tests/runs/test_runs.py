"""Run folders: whole or absent, verified, resumable; published results in the agreed form."""

import errno
import json
import os
from pathlib import Path

import polars as pl
import pytest
import yaml

from lexirec import results, runs
from lexirec.errors import InputError, RunFolderError
from lexirec.models.lightgcn import LightGCN
from lexirec.query import Query
from tests.models.toys import checkerboard

SETS = ["epochs=4", "eval_every=2", "lr=0.05", "embedding_dim=8", "batch_size=64", "threads=1", "init_std=0.1"]


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "checkerboard"
    folder.mkdir()
    dataset, items = checkerboard()
    dataset.interactions.write_parquet(folder / "interactions.parquet")
    items.write_parquet(folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lightgcn"
    return runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), out, progress=False)


def test_folder_holds_what_the_design_promises(run: Path) -> None:
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert names == {
        "config.yaml", "metrics.jsonl", "result.json", "per_user.parquet", "per_group.parquet", "by_popularity.parquet",
        "model.safetensors", "vectors.safetensors", "items.parquet", "history.parquet",
        "checkpoints/best.safetensors", "checkpoints/last.safetensors", "manifest.json",
    }  # fmt: skip
    assert not run.with_name(run.name + ".partial").exists()
    result = json.loads((run / "result.json").read_text())
    assert {"seed", "best_epoch", "valid", "test", "test_optimistic", "test_pessimistic", "groups", "seconds", "peak_memory_mb",
    "versions", "data_hash",
            "command", "device", "users"} <= result.keys()  # fmt: skip
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"] == "lightgcn"
    assert config["config"]["lr"] == 0.05
    assert config["training"]["seed"] == 1
    assert config["data"]["split"] == "leave-one-out"


def test_vectors_rank_as_the_model_does(run: Path) -> None:
    from safetensors.torch import load_file

    model, _, _ = runs.load_run(run)
    vectors = load_file(run / "vectors.safetensors")
    history = pl.read_parquet(run / "history.parquet")
    scores = vectors["users"] @ vectors["items"].T
    asked = model.score([Query(user_id=user) for user in history["user_id"]])
    assert (scores - asked).abs().max() < 1e-6
    assert pl.read_parquet(run / "items.parquet")["item_id"].to_list() == model.item_map.ids.to_list()


def test_evaluating_a_run_again_gives_its_numbers(run: Path) -> None:
    entry, evaluation = runs.evaluate_run(run, progress=False)
    result = json.loads((run / "result.json").read_text())
    assert entry["test"] == pytest.approx(result["test"])
    assert not entry["zero_shot"]
    assert evaluation.per_user.equals(pl.read_parquet(run / "per_user.parquet"))


def test_a_changed_file_is_noticed(run: Path, tmp_path: Path) -> None:
    import shutil

    for name, damage, message in (
        ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-5]), "not the file that was written"),
        ("items.parquet", Path.unlink, "items.parquet is missing"),
        ("manifest.json", Path.unlink, "no manifest.json"),
        ("manifest.json", lambda p: p.write_text("{"), "not valid JSON"),
    ):
        copy = tmp_path / f"{name}-{len(message)}"
        shutil.copytree(run, copy)
        damage(copy / name)
        with pytest.raises(InputError, match=message):
            runs.load_run(copy)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="there is no run folder"):
        runs.load_run(tmp_path / "nothing")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text('{"../secret": "00"}')
    with pytest.raises(RunFolderError, match="outside the folder"):
        runs.load_run(tmp_path / "foreign")


def test_an_existing_folder_is_never_overwritten(run: Path, data: Path) -> None:
    before = (run / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        runs.fit_run(runs.resolve("popularity", [data]), run, progress=False)
    assert (run / "manifest.json").read_bytes() == before


def test_a_full_disk_leaves_no_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        runs.fit_run(runs.resolve("popularity", [data]), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    folder = runs.fit_run(runs.resolve("popularity", [data]), tmp_path / "run", resume=True, progress=False)  # goes on once there is room
    runs.verify_run(folder)


def test_an_interrupted_run_goes_on_with_resume_only(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = runs.resolve("lightgcn", [data], sets=SETS)
    whole = runs.fit_run(experiment, tmp_path / "whole", progress=False)
    original, calls = LightGCN.loss, 0

    def interrupted(self: LightGCN, batch: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 3 * 3:
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(LightGCN, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runs.fit_run(experiment, tmp_path / "cut", progress=False)
    monkeypatch.undo()
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    assert not (tmp_path / "cut").exists()
    with pytest.raises(RunFolderError, match="unfinished run"):
        runs.load_run(tmp_path / "cut")
    with pytest.raises(InputError, match="--resume"):
        runs.fit_run(experiment, tmp_path / "cut", progress=False)
    with pytest.raises(InputError, match="other settings"):
        runs.fit_run(runs.resolve("lightgcn", [data], sets=[*SETS, "num_layers=1"]), tmp_path / "cut", resume=True, progress=False)
    cut = runs.fit_run(experiment, tmp_path / "cut", resume=True, progress=False)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (cut / "per_user.parquet").read_bytes() == (whole / "per_user.parquet").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sets": ["num_layer=2"]}, "did you mean 'num_layers'"),
        ({"sets": ["epoch=2"]}, "did you mean 'epochs'"),
        ({"sets": ["lr"]}, "has no '='"),
        ({"sets": ["lr=-1"]}, "lr = -1"),
        ({"sets": ["data.splitt=ratio"]}, "did you mean 'split'"),
        ({"config_file": "missing.yaml"}, "no configuration file"),
    ],
)
def test_bad_settings_are_named(data: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runs.resolve("lightgcn", [data], **arguments)


def test_exponents_are_numbers(data: Path) -> None:
    assert runs.resolve("lightgcn", [data], sets=["lr=1e-3", "data.min_rating=3"]).config["lr"] == 0.001


def test_configuration_files_of_the_project_are_valid() -> None:
    files = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))
    assert files
    for file in files:
        document = runs.read_experiment(file)
        runs.resolve(document["model"], ["somewhere"], config_file=file)


def test_bench_writes_published_results_and_keeps_finished_runs(data: Path, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "one-layer.yaml").write_text("model: lightgcn\nvariant: one-layer\nconfig: {num_layers: 1}\n")
    names, sets = ["popularity", "lightgcn", "one-layer"], SETS
    with pytest.raises(InputError, match="did you mean 'one-layer'"):
        results.bench(data, ["onelayer"], tmp_path / "out", [1], configs=configs)
    assert not (tmp_path / "out").exists()
    (configs / "popularity.yaml").write_text("model: popularity\n")
    table = results.bench(data, ["lightgcn", "one-layer"], tmp_path / "out", [1, 2], configs=configs, sets=sets)
    stamp = (tmp_path / "out/runs/lightgcn/seed-1/manifest.json").stat().st_mtime_ns
    results.bench(data, ["lightgcn", "one-layer"], tmp_path / "out", [1, 2], configs=configs, sets=sets)
    assert (tmp_path / "out/runs/lightgcn/seed-1/manifest.json").stat().st_mtime_ns == stamp
    assert [row["model"] for row in table["leaderboard"]] == names[1:]
    published = json.loads((tmp_path / "out/results/one-layer.json").read_text())
    promised = ["dataset", "split", "protocol", "model", "variant", "config", "command", "versions", "runs", "mean", "interval95", "tests"]
    assert set(promised) <= published.keys()
    assert [run["seed"] for run in published["runs"]] == [1, 2]
    assert published["variant"] == "one-layer"
    assert published["tests"][0]["against"] == "lightgcn"
    assert len(published["interval95"]["recall@20"]) == 2
    rows = results.compare_runs([tmp_path / f"out/runs/{n}/seed-{s}" for n in ("lightgcn", "one-layer") for s in (1, 2)], ["ndcg@10"])
    assert [(row["model"], row["against"], row["metric"]) for row in rows] == [("lightgcn-one-layer", "lightgcn", "ndcg@10")]


def test_runs_of_other_data_are_not_compared(run: Path, tmp_path: Path) -> None:
    dataset, items = checkerboard(12)
    folder = tmp_path / "small"
    folder.mkdir()
    dataset.interactions.write_parquet(folder / "interactions.parquet")
    items.write_parquet(folder / "items.parquet")
    other = runs.fit_run(runs.resolve("popularity", [folder]), tmp_path / "other", progress=False)
    with pytest.raises(InputError, match="different data or splits"):
        results.compare_runs([run, other], ["ndcg@10"])


def test_zero_shot_from_several_data_sets(data: Path, tmp_path: Path) -> None:
    paths = []
    for n in (12, 16):
        dataset, items = checkerboard(n)
        folder = tmp_path / f"shop{n}"
        folder.mkdir()
        dataset.interactions.write_parquet(folder / "interactions.parquet")
        items.write_parquet(folder / "items.parquet")
        paths.append(folder)
    sets = [
        "epochs=20",
        "eval_every=10",
        "lr=0.01",
        "embedding_dim=8",
        "batch_size=64",
        "num_negs=4",
        "encoder=lsa",
        "text=title,categories",
        "threads=1",
    ]
    folder = runs.fit_run(runs.resolve("alpharec", paths, sets=sets), tmp_path / "mixed", progress=False)
    assert "test" not in json.loads((folder / "result.json").read_text())
    entry, _ = runs.evaluate_run(folder, [str(data)], progress=False)
    assert entry["zero_shot"]
    assert entry["test"]["hr@10"] == 1.0  # never trained on it, and all ten unseen items of the wrong parity come later
    found = results.evaluate_intents(folder, [str(data)], None, [0.0, 1.0], None)
    assert [row["alpha"] for row in found["rows"]] == [0.0, 1.0]
    results.save_single(folder, entry, tmp_path / "single.json")
    single = json.loads((tmp_path / "single.json").read_text())
    assert single["variant"] == "zero-shot"
    assert single["trained_on"] == ["shop12", "shop16"]


def test_tuning_resumes_and_never_reads_the_test_part(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    from lexirec import tuning

    asked = []
    real = runs.load_parts

    def spy(paths: object, settings: object) -> runs.Parts:
        parts = real(paths, settings)

        class Untouchable:
            def __getattr__(self, name: str) -> object:
                raise AssertionError(f"tuning read the test part ({name})")

        asked.append(parts)
        return runs.Parts(parts.train, parts.valid, Untouchable(), parts.name, parts.protocol)

    monkeypatch.setattr(runs, "load_parts", spy)
    arguments = {"space": ["lr=log:0.01:0.1", "num_layers=1,2"], "sets": [*SETS, "progress=false"]}
    first = tuning.tune_model("lightgcn", [data], 2, tmp_path / "study", **arguments)
    second = tuning.tune_model("lightgcn", [data], 3, tmp_path / "study", **arguments)
    assert (first["finished"], second["finished"]) == (2, 3)
    assert asked
    assert second["best_value"] >= first["best_value"]
    assert runs.resolve("lightgcn", [data], config_file=second["config"]).config["num_layers"] in (1, 2)
    with pytest.raises(InputError, match="--space"):
        tuning.tune_model("lightgcn", [data], 1, tmp_path / "other", space=["layers=1,2"])


def test_nothing_is_masked_where_the_protocol_says_so(data: Path, run: Path, tmp_path: Path) -> None:
    out = runs.fit_run(runs.resolve("lightgcn", [data], sets=[*SETS, "data.mask_seen=false"]), tmp_path / "open", progress=False)
    masked, found = (json.loads((folder / "result.json").read_text()) for folder in (run, out))
    assert masked["protocol"] == "full ranking, seen masked"
    assert found["protocol"] == "full ranking, nothing masked"
    assert found["test"]["mrr"] < masked["test"]["mrr"]  # the items of the history stand before the target now
    # The values that selected the epoch were ranked in the same way.
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = next(line for line in lines if line["epoch"] == found["best_epoch"])
    assert best["ndcg@20"] == pytest.approx(found["valid"]["ndcg@20"])
    assert found["valid"]["ndcg@20"] < masked["valid"]["ndcg@20"]
    entry, _ = runs.evaluate_run(out, progress=False)
    assert entry["test"] == pytest.approx(found["test"])
    with pytest.raises(InputError, match=r"data\.mask_seen"):
        runs.resolve("lightgcn", [data], sets=["mask_seen=false"])
    with pytest.raises(InputError, match="true or false"):
        runs.resolve("lightgcn", [data], sets=["data.mask_seen=maybe"])


def test_a_sampled_validation_is_reported_and_not_repeated_in_full(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked, real = [], runs.measure

    def spy(*given: object, on_valid: bool = False) -> object:
        ranked.append(on_valid)
        return real(*given, on_valid=on_valid)

    monkeypatch.setattr(LightGCN, "samples_validation", True)
    monkeypatch.setattr(runs, "measure", spy)
    out = runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), tmp_path / "quick", progress=False)
    found = json.loads((out / "result.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = next(line for line in lines if line["epoch"] == found["best_epoch"])
    assert ranked == [False]
    assert found["valid"] == {key: value for key, value in best.items() if key not in ("epoch", "loss", "seconds")}
