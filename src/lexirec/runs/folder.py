"""The files of a run folder: written with a manifest of hashes last, verified before they are read."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.errors import RunFolderError, nearest
from lexirec.evaluation.evaluate import Evaluation
from lexirec.evaluation.popularity import by_popularity
from lexirec.files import read_json, write_json
from lexirec.models import load_model
from lexirec.models.contract import Recommender
from lexirec.models.saving import read_config, verify_files, write_manifest


def with_test(entry: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """Add an evaluation's values under the names of the published schema."""
    return {
        **entry,
        "test": evaluation.metrics,
        "test_optimistic": evaluation.optimistic,
        "test_pessimistic": evaluation.pessimistic,
        "groups": evaluation.groups,
        "group_sizes": evaluation.group_sizes,
        "groups_are": evaluation.groups_are,
        "users": evaluation.n_users,
        "repeat_targets": evaluation.repeat_targets,
        "protocol": evaluation.protocol,
        "evaluation_seconds": round(evaluation.seconds, 3),
    }


GROUP_METRICS = ("recall@20", "ndcg@20", "hr@10", "ndcg@10")
"""Metrics kept per user inside the groups, for paired tests on them."""


def group_table(evaluation: Evaluation) -> pl.DataFrame:
    """``group``, ``user_id`` and the :data:`GROUP_METRICS` of each user in it: what ``per_group.parquet`` holds."""
    tables = []
    for name in evaluation.inside:
        table = evaluation.of_group(name)
        kept = [key for key in table.columns[1:] if key.split(" ")[0] in GROUP_METRICS]
        tables.append(table.select(pl.lit(name).alias("group"), c.USER_ID, *kept))
    return pl.concat(tables) if tables else pl.DataFrame(schema={"group": pl.String, c.USER_ID: pl.String})


def write_run(
    folder: Path,
    model: Recommender,
    result: Mapping[str, Any],
    evaluation: Evaluation | None,
    extra: Mapping[str, Any],
    train: TrainSet,
) -> None:
    """Write a run's files into ``folder`` and the manifest last; ``train`` is what was ranked over."""
    model.save_files(folder, extra)
    if evaluation is not None:
        evaluation.per_user.write_parquet(folder / "per_user.parquet")
        group_table(evaluation).write_parquet(folder / "per_group.parquet")
        by_popularity(evaluation, train).write_parquet(folder / "by_popularity.parquet")
        result = with_test(result, evaluation)
    write_json(folder / "result.json", result)
    (folder / "metrics.jsonl").touch()
    write_manifest(folder)


def verify_run(folder: str | Path) -> Path:
    """Check that a folder is a whole run and that no file changed since it was written.

    Raises:
        RunFolderError: if it is no run folder, or a file is missing or differs from its hash.
    """
    folder = Path(folder)
    if not folder.is_dir():
        partial = folder.with_name(folder.name + ".partial")
        if partial.exists():
            raise RunFolderError(f"there is no run folder {folder}; {partial} holds an unfinished run: go on with lexirec fit ... --resume")
        beside = {path.parent.name: path.parent for path in sorted(folder.parent.glob("*/manifest.json"))}
        like = nearest(folder.name, beside)
        if not like and beside:
            like = f"; beside it lies {next(iter(beside.values()))}"
        if folder.is_file():
            raise RunFolderError(f"{folder} is a file, not a run folder{like}; give the folder that lexirec fit wrote (--out)")
        raise RunFolderError(f"there is no run folder {folder}{like}; lexirec fit MODEL --data DIR --out {folder} makes one")
    if not (folder / "manifest.json").exists() and folder.name.endswith(".partial"):
        raise RunFolderError(f"{folder} is an unfinished run: go on with the same lexirec fit ... --resume")
    if not (folder / "manifest.json").exists():
        # As deep as those of a bench lie, BENCH/runs/<model>/<seed>; whatever else the folder is isn't searched.
        inside = [path.parent for depth in (1, 2, 3) for path in sorted(folder.glob("*/" * depth + "manifest.json"))]
        hint = f"; it holds run folders, such as {inside[0]}: name these" if inside else ""
        raise RunFolderError(f"{folder} has no manifest.json; it is not a run folder of lexirec, or it is incomplete{hint}")
    verify_files(folder)
    return folder


def load_run(folder: str | Path) -> tuple[Recommender, dict[str, Any], dict[str, Any]]:
    """A verified run: the model, ``config.yaml`` and ``result.json``."""
    folder = verify_run(folder)
    return load_model(folder), read_config(folder), read_json(folder / "result.json")


def remove_checkpoints(folder: str | Path) -> None:
    """Delete a finished run's checkpoints and renew its manifest."""
    write_manifest(Path(folder), but="checkpoints")  # first: what is killed in between is a whole run with files beside it
    shutil.rmtree(Path(folder) / "checkpoints", ignore_errors=True)
