"""Run folders: whole or absent, verified, resumable; published results in the agreed form."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from lexirec import results, runs
from lexirec.data.dataset import Dataset
from lexirec.data.ids import IdMap
from lexirec.data.messages import DataWarning
from lexirec.data.splits import FutureLeakWarning
from lexirec.errors import InputError, RunFolderError, StorageError
from lexirec.files import read_json, storing
from lexirec.models import create, load_model
from lexirec.models.contract import Recommender
from lexirec.models.lightgcn import LightGCN
from lexirec.models.popularity import Popularity
from lexirec.models.saving import read_config
from lexirec.query import Query
from lexirec.training.tracking import read_lines
from tests.models.toys import checkerboard, of_others, write_shop

SETS = ["epochs=4", "eval_every=2", "lr=0.05", "embedding_dim=8", "batch_size=64", "threads=1", "init_std=0.1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("data") / "checkerboard")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lightgcn"
    return runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), out, progress=False)


def test_folder_holds_what_the_design_promises(run: Path) -> None:
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert names == {
        "config.yaml", "metrics.jsonl", "result.json", "per_user.parquet", "per_group.parquet", "by_popularity.parquet",
        "model.safetensors", "vectors.safetensors", "items.parquet", "history.parquet", "later.parquet",
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
    with pytest.raises(InputError, match=r"reads its own items as it was trained to; an own text needs another data set \(--data DIR\)"):
        runs.evaluate_run(run, text="title", progress=False)
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


def test_a_missing_run_names_what_is_like_it(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "sasrec-1")
    for asked, told in (
        ("sasrec_1", "did you mean 'sasrec-1'"),
        ("other", "beside it lies .*sasrec-1"),
        ("other", "lexirec fit MODEL --data DIR --out .*other makes one"),
    ):
        with pytest.raises(RunFolderError, match=told):
            runs.verify_run(tmp_path / asked)


def test_an_existing_folder_is_never_overwritten(run: Path, data: Path) -> None:
    before = (run / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        runs.fit_run(runs.resolve("popularity", [data]), run, progress=False)
    assert (run / "manifest.json").read_bytes() == before


def limited(arguments: list[str], size: int, cache: Path) -> subprocess.CompletedProcess[str]:
    """A command none of whose files may exceed ``size`` bytes: the operating system itself refuses, as on a full disk."""
    script = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\nfrom lexirec.cli.main import run\n"
    return subprocess.run(
        [sys.executable, "-c", script + "sys.exit(run(sys.argv[2:]))", str(size), *arguments],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "LEXIREC_CACHE": str(cache)},
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_full_disk_is_named_and_a_run_goes_on_once_there_is_room(data: Path, tmp_path: Path) -> None:
    sets = [part for text in SETS for part in ("--set", text)]
    fit = ["fit", "lightgcn", "--data", str(data), *sets, "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), whole, progress=False)
    largest = max(file.stat().st_size for file in (whole / "checkpoints").iterdir())
    for size, file in ((100, "config.yaml"), (largest - 1, "checkpoints")):
        made = limited([*fit, str(cut), "--resume"], size, tmp_path / "cache")
        assert made.returncode == 1, made.stderr
        assert "the disk is full (" in made.stderr and "--resume" in made.stderr and file in made.stderr
        assert "Traceback" not in made.stderr
        assert not cut.exists()
        assert not list(tmp_path.rglob("*.tmp-*"))
    again = limited([*fit, str(cut), "--resume"], 1 << 30, tmp_path / "cache")
    assert again.returncode == 0, again.stderr
    runs.verify_run(cut)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_place_that_takes_no_files_is_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"run.* can't be written: .*choose another place"):
        runs.fit_run(runs.resolve("popularity", [data]), tmp_path / "file" / "run", progress=False)


def test_what_is_no_matter_of_the_disk_is_told_as_it_is(tmp_path: Path) -> None:
    for error in (InputError("v.parquet is not readable (os error 13)"), PermissionError(13, "Permission denied", "/models/weights")):
        with pytest.raises(type(error)) as caught, storing(tmp_path / "run"):
            raise error
        assert caught.value is error


def test_an_empty_leftover_is_no_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "config.yaml.tmp-1-ab").touch()
    runs.verify_run(runs.fit_run(runs.resolve("popularity", [data]), tmp_path / "run", progress=False))


def test_a_saved_model_is_read_as_it_was_accepted(data: Path, tmp_path: Path) -> None:
    folder = runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), tmp_path / "run", progress=False)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("tau: 0.15", "tau: 0.33"))
    runs.write_manifest(folder)
    assert load_model(folder).config.tau == 0.33
    with pytest.raises(InputError, match=r"tau = 0\.33 has no effect"):
        create("lightgcn", tau=0.33)


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as POSIX does")
def test_ctrl_c_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lexirec", "fit", "lightgcn", "--data", str(data), "--out", str(tmp_path / "r")]
    command += [part for text in (*SETS, "epochs=100000", "patience=100000") for part in ("--set", text)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "LEXIREC_CACHE": str(tmp_path / "cache")})
    partial, end = tmp_path / "r.partial" / "metrics.jsonl", time.monotonic() + 120
    while not (partial.exists() and partial.read_text()) and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; an unfinished run goes on with the same command and --resume" in said
    assert "Traceback" not in said


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


def test_two_processes_never_train_in_one_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = runs.resolve("lightgcn", [data], sets=SETS)
    original, refused = LightGCN.loss, []

    def beside(self, batch):
        if not refused:
            code = "import sys, filelock\ntry: filelock.FileLock(sys.argv[1]).acquire(timeout=0)\nexcept filelock.Timeout: sys.exit(7)"
            lock = tmp_path / "run.lock"
            refused.append(subprocess.run([sys.executable, "-c", code, str(lock)], check=False, timeout=60).returncode)
            with pytest.raises(InputError, match="is being trained by another process"):
                runs.fit_run(experiment, tmp_path / "run", resume=True, progress=False)
        return original(self, batch)

    monkeypatch.setattr(LightGCN, "loss", beside)
    folder = runs.fit_run(experiment, tmp_path / "run", progress=False)
    assert refused == [7]
    runs.verify_run(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_that_its_time_limit_ended_goes_on_with_more_time(data: Path, tmp_path: Path) -> None:
    whole = runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), tmp_path / "whole", progress=False)
    short = runs.resolve("lightgcn", [data], sets=[*SETS, "max_minutes=0.000001"])
    cut = runs.fit_run(short, tmp_path / "cut", progress=False)
    assert read_json(cut / "result.json")["stopped"] == "max_minutes"
    more = runs.resolve("lightgcn", [data], sets=SETS)
    with pytest.raises(InputError, match="exists already"):
        runs.fit_run(more, cut, progress=False)
    with pytest.raises(InputError, match=r"other settings \(config.num_layers\)"):
        runs.fit_run(runs.resolve("lightgcn", [data], sets=[*SETS, "num_layers=1"]), cut, resume=True, progress=False)
    with pytest.raises(InputError, match="raise it, or set it to null"):
        runs.fit_run(short, cut, resume=True, progress=False)
    runs.verify_run(cut)  # refused, and nothing was lost
    assert runs.fit_run(more, cut, resume=True, progress=False) == cut
    runs.verify_run(cut)
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [line["epoch"] for line in read_lines(cut / "metrics.jsonl")] == [2, 4]  # nothing is left of where the limit fell
    assert not (tmp_path / "cut.partial").exists()
    with pytest.raises(InputError, match=r"ended at its epochs = \d+ and now has \d+; raise it to go on"):
        runs.fit_run(more, whole, resume=True, progress=False)
    popular = runs.fit_run(runs.resolve("popularity", [data], sets=[]), tmp_path / "popular", progress=False)
    with pytest.raises(InputError, match="nothing to go on with"):
        runs.fit_run(runs.resolve("popularity", [data], sets=[]), popular, resume=True, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sets": ["num_layer=2"]}, "did you mean 'num_layers'"),
        ({"sets": ["epoch=2"]}, "did you mean 'epochs'"),
        ({"sets": ["lr"]}, "has no '='"),
        ({"sets": ["lr=-1"]}, "lr = -1"),
        ({"sets": ["data.splitt=ratio"]}, "did you mean 'split'"),
        ({"config_file": "missing.yaml"}, "no configuration file"),
        ({"sets": ["data.k_core=abc"]}, "data.k_core = 'abc'; write a whole number"),
        ({"sets": ["data.k_core={users: 5}"]}, "data.k_core = .*user: 5"),
        ({"sets": ["data.k_core={user: many}"]}, "data.k_core = .*user: 5"),
        ({"sets": ["data.split_options=abc"]}, "data.split_options = 'abc'; write options by name"),
        ({"sets": ["data.split=5"]}, "data.split = 5; write the name of a split"),
        ({"sets": ["data.min_rating=good"]}, "data.min_rating = 'good'; write a number"),
        ({"sets": ["data.catalogue=5"]}, "data.catalogue = 5; write all or interacted"),
        ({"sets": ["data.duplicates=1"]}, "data.duplicates = 1; write a rule"),
        ({"sets": ["track=tensorbord"]}, "track.0 = 'tensorbord'"),
    ],
)
def test_bad_settings_are_named(data: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        runs.resolve("lightgcn", [data], **arguments)


def test_one_value_stands_for_a_list_of_one(data: Path) -> None:
    assert runs.resolve("lightgcn", [data], sets=["track=tensorboard"]).training["track"] == ["tensorboard"]
    assert runs.resolve("fdsa", [data], sets=["features=fields", "fields=title"]).config["fields"] == ["title"]


def test_filters_of_the_data_part(data: Path) -> None:
    cores = ["5", "{user: 5, item: 5, mode: single-pass, keep_items: true}"]
    trained = [runs.load_parts([str(data)], runs.resolve("popularity", [data], sets=[f"data.k_core={core}"]).data).train for core in cores]
    assert [part.n_interactions for part in trained] == [trained[0].n_interactions] * 2


def test_people_are_not_offered_what_they_chose_later(run: Path, data: Path, tmp_path: Path) -> None:
    parts = runs.load_parts([str(data)], {"split": "leave-one-out"})
    users, items = parts.train.users, parts.train.items["item_id"]
    held = [
        pair for part in (parts.valid, parts.test) for pair in zip(users.name(part.user_index), items.gather(part.item_index), strict=True)
    ]
    model, _, _ = runs.load_run(run)
    k = len(items)

    def offered(model: Recommender, **options: bool) -> set[tuple[str, str]]:
        found = model.recommend(users.ids.to_list(), k=k, **options)
        return set(zip(found["user_id"], found["item_id"], strict=True))

    assert not offered(model) & set(held)
    assert set(held) <= offered(model, filter_seen=False)
    # A folder of an earlier version has no such file, and offers them.
    old = tmp_path / "old"
    shutil.copytree(run, old)
    (old / "later.parquet").unlink()
    runs.write_manifest(old)
    before, _, _ = runs.load_run(old)
    assert set(held) <= offered(before)
    # Nothing but the list knows of them.
    asked = [Query(user_id=user) for user in users.ids]
    assert torch.equal(model.score(asked), before.score(asked))
    assert model.explain("u03", "i05").equals(before.explain("u03", "i05"))
    assert model.answered_by(asked[0]) == before.answered_by(asked[0])
    assert runs.evaluate_run(old, progress=False)[0]["test"] == runs.evaluate_run(run, progress=False)[0]["test"]


def test_a_user_without_training_events_is_not_known_by_later_ones(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": ["a"] * 4 + ["b"] * 4 + ["c"], "item_id": [*"wxyz", *"zyxw", "x"], "timestamp": [1, 2, 3, 4] * 2 + [9]})
    data = Dataset.from_frames(log, pl.DataFrame({"item_id": [*"wxyz"], "title": [*"wxyz"]}))
    split = data.split("temporal", test_share=0.3)
    model = Popularity().fit(split.train)
    model.know_later((split.valid, split.test))
    assert not model.answered_by(Query(user_id="c"))
    assert "x" not in model.recommend("c", k=4)["item_id"].to_list()
    model.save(tmp_path / "saved")
    assert load_model(tmp_path / "saved").recommend("c", k=4).equals(model.recommend("c", k=4))
    model.fit(split.train)
    assert "x" in model.recommend("c", k=4)["item_id"].to_list()  # a new training knows nothing of it


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file is a file; it is not a run folder"):
        load_model(tmp_path / "file")
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_model(tmp_path / "nowhere")


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
    assert (rows[0]["seeds"], rows[0]["seeds_against"], rows[0]["test"]) == (2, 2, "paired t")
    folders = [tmp_path / f"out/runs/{name}/seed-1" for name in names[1:]]
    ranked = results.compare_runs(folders, ["ndcg@10"], test="wilcoxon")
    assert (ranked[0]["seeds"], ranked[0]["test"]) == (1, "paired Wilcoxon signed rank")


def test_a_time_limit_that_ended_nothing_is_no_other_setting(data: Path, tmp_path: Path) -> None:
    for seed, more in ((1, ["max_minutes=30"]), (2, [])):
        runs.fit_run(runs.resolve("mf-bpr", [data], sets=[*SETS, *more], seed=seed), tmp_path / str(seed), progress=False)
    assert len(results.publish({"mf": [tmp_path / "1", tmp_path / "2"]}, tmp_path / "out", None)["mf"]["runs"]) == 2
    assert list(results.label_runs([tmp_path / "1", tmp_path / "2"])) == ["mf-bpr"]


def test_a_bench_sets_one_model_by_its_name(data: Path, tmp_path: Path) -> None:
    results.bench(data, ["mf-bpr", "lightgcn"], tmp_path / "out", [1], sets=[*SETS, "lightgcn.num_layers=1", "lightgcn.lr=0.02"])
    written = {name: read_config(tmp_path / f"out/runs/{name}/seed-1")["config"] for name in ("mf-bpr", "lightgcn")}
    assert (written["mf-bpr"]["lr"], written["lightgcn"]["lr"], written["lightgcn"]["num_layers"]) == (0.05, 0.02, 1)
    with pytest.raises(InputError, match=r"^lightgcn: loss = 'ce'"):
        results.bench(data, ["mf-bpr", "lightgcn"], tmp_path / "none", [1], sets=["lightgcn.loss=ce"])
    assert not (tmp_path / "none").exists()


def test_the_metric_that_selects_the_epoch_is_reported(data: Path, tmp_path: Path) -> None:
    out = runs.fit_run(runs.resolve("mf-bpr", [data], sets=[*SETS, "monitor=ndcg@7"]), tmp_path / "run", progress=False)
    found = json.loads((out / "result.json").read_text())
    assert "ndcg@7" in found["valid"]
    assert "ndcg@7" in found["test"]
    assert "ndcg@3" in runs.evaluate_run(out, metrics=["ndcg@3"], progress=False)[0]["test"]


def test_what_was_said_of_a_split_is_not_said_again_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = pl.DataFrame({"user_id": [f"u{k // 6}" for k in range(60)], "item_id": [f"i{k % 7}" for k in range(60)], "timestamp": range(60)})
    (tmp_path / "data").mkdir()
    log.write_parquet(tmp_path / "data" / "interactions.parquet")
    told: list[list[type[Warning]]] = []
    for act in (
        lambda: runs.fit_run(runs.resolve("popularity", [tmp_path / "data"], split="ratio"), tmp_path / "run", progress=False),
        lambda: runs.evaluate_run(tmp_path / "run", progress=False),
        lambda: runs.evaluate_run(tmp_path / "run", paths=[str(tmp_path / "data")], progress=False),
    ):
        monkeypatch.setattr("lexirec.data.splits._warned", set())  # as in a process of its own
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            act()
        told.append([one.category for one in seen])
    assert [FutureLeakWarning in kinds for kinds in told] == [True, False, True]


def test_a_model_that_learned_nothing_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)  # choices by popularity and nothing else
    log = pl.DataFrame(
        {
            "user_id": [f"u{k // 6:02d}" for k in range(480)],
            "item_id": [f"i{k}" for k in (40 * rng.random(480) ** 4).astype(int)],
            "timestamp": [k % 6 for k in range(480)],
        }
    )
    (tmp_path / "data").mkdir()
    log.write_parquet(tmp_path / "data" / "interactions.parquet")
    sets = [*SETS[:2], "lr=0.0000001", *SETS[3:], "data.mask_seen=false"]
    with pytest.warns(DataWarning, match=r"mf-bpr is no better on the validation part than popularity \(ndcg@20 "):
        runs.fit_run(runs.resolve("mf-bpr", [tmp_path / "data"], sets=sets), tmp_path / "run", progress=False)


def test_a_run_of_a_model_that_is_not_installed_names_it(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(re.sub(r"^model: .*", "model: of-a-plugin", config.read_text(), count=1))
    with pytest.raises(RunFolderError, match="a run of the model 'of-a-plugin', which no installed package brings"):
        load_model(tmp_path / "run")


def test_a_bench_gives_a_setting_to_the_models_that_read_it(data: Path, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "plain.yaml").write_text("model: rlmrec\nvariant: plain\nconfig: {method: none}\n")
    (configs / "text.yaml").write_text("model: rlmrec\nvariant: text\nconfig: {method: gen}\n")
    asked = [*SETS[:-1], "control=random", "weight=0.5"]
    with pytest.warns(DataWarning, match=r"--set control=random is not read by popularity, plain, which are trained without it"):
        results.bench(data, ["popularity", "plain", "text"], tmp_path / "out", [1], configs=configs, sets=asked)
    written = {name: read_config(tmp_path / f"out/runs/{name}/seed-1")["config"] for name in ("plain", "text")}
    assert (written["plain"]["control"], written["text"]["control"], written["text"]["weight"]) == ("none", "random", 0.5)
    with pytest.raises(InputError, match=r"--set wieght.*did you mean 'weight'"):
        results.bench(data, ["plain", "text"], tmp_path / "none", [1], configs=configs, sets=["wieght=0.5"])
    with pytest.raises(InputError, match=r"control = 'random' has no effect with method = 'none'"):
        results.bench(data, ["plain"], tmp_path / "none", [1], configs=configs, sets=["control=random"])
    with pytest.raises(InputError, match=r"control = 'random' has no effect with method = 'none'"):
        results.bench(data, ["text"], tmp_path / "none", [1], configs=configs, sets=["method=none", "control=random"])
    (configs / "wrong.yaml").write_text("model: rlmrec\nconfig: {method: none, control: random}\n")
    with pytest.raises(InputError, match="no effect"):  # before the first training
        results.bench(data, ["plain", "wrong"], tmp_path / "none", [1], configs=configs, sets=SETS[:-1])
    assert not (tmp_path / "none").exists()


def test_seeds_of_one_model_differ_in_nothing_else(data: Path, tmp_path: Path) -> None:
    def fitted(name: str, seed: int, *sets: str) -> Path:
        experiment = runs.resolve("mf-bpr", [data], sets=["embedding_dim=4", "epochs=2", "eval_every=1", "threads=1", *sets], seed=seed)
        return runs.fit_run(experiment, tmp_path / name, progress=False)

    first, second = fitted("first", 1), fitted("second", 2, "device=cpu")  # where it ran says nothing
    longer, faster = fitted("longer", 2, "epochs=3"), fitted("faster", 2, "lr=0.1", "patience=9")
    assert results.label_runs([first, second]) == {"mf-bpr": [first, second]}
    labelled = results.label_runs([first, second, longer, faster])
    assert list(labelled) == ["mf-bpr", "mf-bpr (epochs=3)", "mf-bpr (patience=9, lr=0.1)"]
    unmasked = fitted("unmasked", 1, "data.mask_seen=false")
    assert list(results.label_runs([first, unmasked])) == ["mf-bpr", "mf-bpr (data.mask_seen=False)"]
    many = []  # folders of one name, more settings apart than a name has room for
    for n in range(4):
        (tmp_path / f"g{n}").mkdir()
        many.append(fitted(f"g{n}/seed-1", 1, *(f"{name}={n + 3}" for name in ("patience", "embedding_dim", "batch_size", "epochs"))))
    assert list(results.label_runs(many)) == ["mf-bpr", "mf-bpr (seed-1)", "mf-bpr (g2/seed-1)", "mf-bpr (g3/seed-1)"]
    rows = results.compare_runs([first, longer], ["ndcg@10"])
    assert (rows[0]["model"], rows[0]["against"]) == ("mf-bpr (epochs=3)", "mf-bpr")
    with pytest.raises(InputError, match=r"longer and .*first differ in more than the seed \(epochs=3\)"):
        results.publish({"mf": [first, longer]}, tmp_path / "out", None)
    same = fitted("same", 1)
    for again in (first, same):
        with pytest.raises(InputError, match="are the same model with the same seed 1; give one of them"):
            results.compare_runs([first, again, longer], ["ndcg@10"])
        with pytest.raises(InputError, match="are the same model with the same seed 1"):
            results.publish({"mf": [first, second, again]}, tmp_path / "out", None)
    with pytest.raises(InputError, match="the seeds are 1, 2, 1: one that is there twice"):
        results.bench(data, ["mf-bpr"], tmp_path / "bench", [1, 2, 1])
    assert not (tmp_path / "bench").exists()


def test_runs_of_other_data_are_not_compared(run: Path, tmp_path: Path) -> None:
    dataset, items = checkerboard(12)
    folder = tmp_path / "small"
    folder.mkdir()
    dataset.interactions.write_parquet(folder / "interactions.parquet")
    items.write_parquet(folder / "items.parquet")
    other = runs.fit_run(runs.resolve("popularity", [folder]), tmp_path / "other", progress=False)
    with pytest.raises(
        InputError, match=r"different data or splits: .*lightgcn \(checkerboard, leave-one-out, data .*train one again with"
    ):
        results.compare_runs([run, other], ["ndcg@10"])
    with pytest.raises(RunFolderError, match=r"no manifest.json; .*it holds run folders, such as .*other: name these"):
        runs.load_run(tmp_path)


def test_a_device_that_is_not_here_is_refused_before_a_folder_is_made(data: Path, tmp_path: Path) -> None:
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    with pytest.raises(InputError, match=f"device = '{absent}': this torch finds none here; set device=auto or cpu"):
        runs.fit_run(runs.resolve("popularity", [data], sets=[f"device={absent}"]), tmp_path / "run", progress=False)
    assert not list(tmp_path.iterdir())


def test_the_configuration_of_a_run_can_be_given_again(run: Path, data: Path, tmp_path: Path) -> None:
    again = runs.resolve("lightgcn", [data], config_file=run / "config.yaml")
    assert again.whole() == yaml.safe_load((run / "config.yaml").read_text())


def test_zero_shot_from_several_data_sets(data: Path, tmp_path: Path) -> None:
    paths = []
    for n in (12, 16):
        dataset, items = checkerboard(n)
        folder = tmp_path / f"shop{n}"
        folder.mkdir()
        dataset = of_others(dataset)  # people of another name: the same ones would be known
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
    for ask in (runs.evaluate_run, lambda run: results.evaluate_intents(run, [], None, [0.0], None)):
        with pytest.raises(InputError, match=r"shop12\+shop16: several data sets have no common test part; name one.*--data DIR"):
            ask(folder)
    model, _, _ = runs.load_run(folder)
    for name, n in (("shop12", 12), ("shop16", 16)):  # of each data set, what its own users chose later
        here = of_others(checkerboard(n)[0])
        last, items = here.split("leave-one-out").test, here.items["item_id"]
        user, item = here.users.ids[int(last.user_index[0])], items[int(last.item_index[0])]
        assert f"{name}/{item}" not in model.recommend(f"{name}/{user}", k=28)["item_id"].to_list()
        assert f"{name}/{item}" in model.recommend(f"{name}/{user}", k=28, filter_seen=False)["item_id"].to_list()
    entry, _ = runs.evaluate_run(folder, [str(data)], progress=False)
    assert entry["zero_shot"]
    assert entry["test"]["hr@10"] == 1.0  # never trained on it, and all ten unseen items of the wrong parity come later
    titled, _ = runs.evaluate_run(folder, [str(data)], text="title", progress=False)
    assert titled["text"] == "title"
    same, _ = runs.evaluate_run(folder, [str(data)], text="title,categories", progress=False)
    assert same["test"] == entry["test"]
    with pytest.raises(InputError, match="items have no column 'colour'"):
        runs.evaluate_run(folder, [str(data)], text="title,colour", progress=False)
    with pytest.raises(InputError, match="popularity reads no text of items; leave the text"):
        runs.read_otherwise(create("popularity"), "title")
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
    table = pl.read_csv(tmp_path / "study" / "trials.csv")
    assert table.columns == ["trial", "ndcg@20", "best_epoch", "seconds", "lr", "num_layers"]
    assert sorted(table["trial"]) == [0, 1, 2]
    assert table["ndcg@20"][0] == pytest.approx(second["best_value"])
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

    def spy(*given: object, on_valid: bool = False, **others: object) -> object:
        ranked.append(on_valid)
        return real(*given, on_valid=on_valid, **others)

    monkeypatch.setattr(LightGCN, "samples_validation", True)
    monkeypatch.setattr("lexirec.runs.fitting.measure", spy)
    out = runs.fit_run(runs.resolve("lightgcn", [data], sets=SETS), tmp_path / "quick", progress=False)
    found = json.loads((out / "result.json").read_text())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = next(line for line in lines if line["epoch"] == found["best_epoch"])
    assert ranked == [False]
    assert found["valid"] == {key: value for key, value in best.items() if key not in ("epoch", "loss", "seconds")}


def test_what_a_killed_command_left_is_cleared_away(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = runs.resolve("lightgcn", [data], sets=SETS)
    monkeypatch.setattr(LightGCN, "refresh", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        runs.fit_run(experiment, tmp_path / "run", progress=False)
    monkeypatch.undo()
    (tmp_path / "run.partial" / "teacher.tmp-1-ab" / "deeper").mkdir(parents=True)
    (tmp_path / "run.partial" / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "run.partial" / "checkpoints" / "last.safetensors.tmp-1-cd").write_text("half")
    folder = runs.fit_run(experiment, tmp_path / "run", resume=True, progress=False)
    assert not list(tmp_path.rglob("*.tmp-*"))
    runs.verify_run(folder)


def test_a_run_is_held_until_it_stands(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another --resume while the files are written would replace a whole run by one without its checkpoints."""
    from lexirec.runs import fitting

    experiment = runs.resolve("popularity", [data])
    original = fitting.write_run

    def beside(*args: object, **named: object) -> None:
        with pytest.raises(InputError, match="is being trained by another process"):
            runs.fit_run(experiment, tmp_path / "run", resume=True, progress=False)
        original(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "write_run", beside)
    runs.verify_run(runs.fit_run(experiment, tmp_path / "run", progress=False))


def test_a_bench_where_nobody_wants_a_tail_item_is_published(tmp_path: Path) -> None:
    """All items alike: each has as many events as any other."""
    log = pl.DataFrame(
        [(f"u{u}", f"i{(u + k) % 12}", k) for u in range(12) for k in range(5)], schema=["user_id", "item_id", "timestamp"], orient="row"
    )
    (tmp_path / "even").mkdir()
    log.write_parquet(tmp_path / "even" / "interactions.parquet")
    pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"T {n}" for n in range(12)]}).write_parquet(
        tmp_path / "even" / "items.parquet"
    )
    found = results.bench(tmp_path / "even", ["popularity", "mf-bpr"], tmp_path / "out", [1], sets=["epochs=1", "embedding_dim=4"])
    assert found["results"]["mf-bpr"]["tests"] and not any("group" in test for test in found["results"]["mf-bpr"]["tests"])


def test_borders_that_are_dates_are_told_apart_again(tmp_path: Path) -> None:
    data = write_shop(tmp_path / "shop")
    log = pl.read_parquet(data / "interactions.parquet")
    days = pl.datetime_range(pl.datetime(2018, 7, 1), pl.datetime(2018, 7, 4), interval="1d", eager=True)
    log.with_columns(timestamp=days.dt.epoch("s").gather(pl.int_range(log.height, eager=True) % 4)).write_parquet(
        data / "interactions.parquet"
    )
    sets = ["data.split_options={test_from: 2018-07-04, valid_from: 2018-07-03}"]
    for _ in range(2):
        results.bench(data, ["popularity"], tmp_path / "out", [1], sets=sets, split="temporal")
    shown = read_json(tmp_path / "out" / "results" / "popularity.json")["config"]["data"]
    assert shown["split"] == "temporal" and "paths" not in shown and set(shown["split_options"]) == {"test_from", "valid_from"}


def test_only_items_with_an_event_after_the_filters(tmp_path: Path) -> None:
    data = write_shop(tmp_path / "shop")
    log = pl.read_parquet(data / "interactions.parquet")
    log.with_columns(rating=pl.when(pl.col("item_id") < "i05").then(1.0).otherwise(5.0)).write_parquet(data / "interactions.parquet")
    parts = runs.load_parts([str(data)], {"split": "all", "min_rating": 4, "catalogue": "interacted"})
    assert (parts.train.popularity > 0).all() and parts.train.n_items < 50


def test_another_split_has_its_own_options(data: Path, tmp_path: Path) -> None:
    sets = ["data.split=random-433", "data.split_options={seed: 3}"]
    run = runs.fit_run(runs.resolve("popularity", [data], sets=sets), tmp_path / "run", progress=False)
    document = read_config(run)
    assert runs.parts_for(document, [], "leave-one-out")[1] == {"split": "leave-one-out"}
    assert runs.parts_for(document, [], None)[1]["split_options"] == {"seed": 3}


def test_commands_are_published_without_the_paths_of_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["/usr/bin/lexirec", "fit", "sasrec", "--data=/home/x/shop", "--set", "teacher=/home/x/run", "--out", "/tmp/r"]
    )
    assert runs.own_command() == "lexirec fit sasrec --data=shop --set teacher=run --out r"


def test_a_manifest_names_that_of_a_model_inside(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    for name in ("manifest.json", "teacher/manifest.json", "teacher/model"):
        (tmp_path / name).write_text("{}")
    runs.write_manifest(tmp_path)
    assert set(read_json(tmp_path / "manifest.json")) == {"teacher/manifest.json", "teacher/model"}


def test_many_names_are_found_like_few() -> None:
    ids = IdMap([f"i{n}" for n in range(5000)])
    names = [f"i{n}" for n in (7, 4999, 5000, 0)]
    many = ids.index(names * 2000)
    assert many.dtype == "int64" and many[:4].tolist() == ids.index(names).tolist() == [7, 4999, -1, 0]
    assert ids.index(pl.Series(names * 2000)).tolist() == many.tolist()


def test_data_that_were_moved_and_what_is_no_run_are_named_with_their_cure(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    moved = runs.fit_run(runs.resolve("popularity", [tmp_path / "data"]), tmp_path / "run", progress=False)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="which the run was trained on, does not exist; say where the data lie now with --data DIR"):
        runs.evaluate_run(moved, progress=False)
    assert runs.evaluate_run(moved, [str(tmp_path / "elsewhere")], progress=False)[0]["zero_shot"] is False
    (tmp_path / "log.csv").touch()
    (tmp_path / "half.partial").mkdir()
    for name, told in (("log.csv", "is a file, not a run folder"), ("half.partial", "is an unfinished run: go on with")):
        with pytest.raises(RunFolderError, match=told):
            runs.verify_run(tmp_path / name)


def test_two_splits_are_not_taken_for_one(data: Path) -> None:
    with pytest.raises(InputError, match=r"--split ratio and --set data.split=temporal name two splits; give one"):
        runs.resolve("popularity", [data], sets=["data.split=temporal"], split="ratio")
    assert runs.resolve("popularity", [data], sets=["data.split=ratio"], split="ratio").data["split"] == "ratio"
