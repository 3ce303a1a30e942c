"""What a report knows of runs: their tests, from their files or made again; averaged over seeds, cut by group, compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lexirec import runs
from lexirec.errors import InputError
from lexirec.evaluation.groups import GROUPS
from lexirec.evaluation.popularity import by_popularity
from lexirec.evaluation.statistics import bootstrap_interval, compare, holm, over_seeds, standard_deviation
from lexirec.files import read_json


@dataclass
class Tested:
    """What a report knows of one run.

    Attributes:
        folder: the run folder.
        entry: the ``runs`` entry of the published schema, with ``protocol``, ``dataset``, ``data_hash``, ``split``.
        per_user: ``user_id`` and metrics.
        per_group: ``group``, ``user_id`` and metrics; ``None`` if not known.
        by_popularity: as of :func:`~lexirec.evaluation.popularity.by_popularity`; ``None`` if not known.
        note: why something is not known.
    """

    folder: Path
    entry: dict[str, Any]
    per_user: pl.DataFrame
    per_group: pl.DataFrame | None
    by_popularity: pl.DataFrame | None
    note: str = ""


def test_of(folder: Path, data: Sequence[str], split: str | None, again: bool, options: Mapping[str, Any]) -> Tested:
    """The test of a run: from its files, or made again."""
    entry = read_json(folder / "result.json")
    if not again:
        if not (folder / "per_user.parquet").exists():
            raise InputError(f"{folder} was not tested, since its data had no test part; name other data with --data DIR")
        users = pl.read_parquet(folder / "per_user.parquet")
        entry = entry | {"split": entry.get("protocol_split", ""), "zero_shot": False}
        groups, classes = folder / "per_group.parquet", folder / "by_popularity.parquet"
        if groups.exists() and classes.exists():
            return Tested(folder, entry, users, pl.read_parquet(groups), pl.read_parquet(classes))
    try:
        fresh, evaluation, train = runs.retest(folder, data, split, progress=False, **options)
    except InputError as error:
        if again:
            raise
        return Tested(folder, entry, users, None, None, f"groups and popularity are not known, since it can't be tested again ({error})")
    if "fit_seconds" in entry:  # of the training, so no part of a test
        fresh["fit_seconds"] = entry["fit_seconds"]
    return Tested(folder, fresh, evaluation.per_user, runs.group_table(evaluation), by_popularity(evaluation, train))


def set_titles(sets: Mapping[str, Mapping[str, list[Tested]]]) -> list[str]:
    """A name for each data set and protocol that occur: those that would be called alike are all told apart by what differs."""
    entries = [next(iter(models.values()))[0].entry for models in sets.values()]
    titles = [f"{entry['dataset']} ({entry['split']})" if entry.get("split") else str(entry["dataset"]) for entry in entries]
    for more in (str(entry["protocol"]) for entry in entries), (str(entry["data_hash"])[:6] for entry in entries):
        added = list(more)
        alike = {title: {word for other, word in zip(titles, added, strict=True) if other == title} for title in titles}
        titles = [f"{title}, {word}" if len(alike[title]) > 1 else title for title, word in zip(titles, added, strict=True)]
    return titles


def key_of(entry: Mapping[str, Any], metric: str) -> str | None:
    """A metric as the protocol calls it: ``ndcg@10`` or ``ndcg@10 (100 sampled)``."""
    return next((key for key in entry["test"] if key.split(" ")[0] == metric), None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _sd(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return standard_deviation(known) if len(known) == len(values) else None


def whole_groups(entry: Mapping[str, Any]) -> list[str]:
    """The groups that hold all wanted items or all users, such as short histories where a log is cut at so many events a user.

    What is measured inside them is the overall value once more. None where the sizes of the groups aren't known.
    """
    sizes: Mapping[str, Mapping[str, int]] = entry.get("group_sizes", {})
    for halves in ("head_items", "tail_items"), ("long_users", "short_users"):
        if all(half in sizes for half in halves):
            every = sum(sizes[half]["targets"] for half in halves)
            return [group for group in GROUPS if group in sizes and sizes[group]["targets"] == every]
    return []


def fit_seconds(entry: Mapping[str, Any]) -> float | None:
    """Seconds of a whole fit: stages before the training, and trainings before a resume, included; ``None`` if they aren't known."""
    return max(entry["seconds"], entry["fit_seconds"]) if "fit_seconds" in entry else None


def row_of(name: str, members: Sequence[Tested], metrics: Sequence[str], shown: Sequence[str] = GROUPS) -> dict[str, Any]:
    """One row of the leaderboard: means over seeds with their standard deviation, intervals over users; with the groups ``shown``."""
    groups = [group for group in shown if all(group in one.entry["groups"] for one in members)]
    values = over_seeds([one.per_user for one in members])
    row: dict[str, Any] = {
        "model": name,
        "seeds": len(members),
        "test": {key: _mean([one.entry["test"].get(key) for one in members]) for key in members[0].entry["test"]},
        "sd": {key: _sd([one.entry["test"].get(key) for one in members]) for key in metrics},
        "interval95_users": {key: list(bootstrap_interval(values[key], n=2000)) for key in metrics},
        "groups": {g: {key: _mean([one.entry["groups"][g].get(key) for one in members]) for key in metrics} for g in groups},
        "group_sizes": {g: members[0].entry["group_sizes"][g] for g in groups if "group_sizes" in members[0].entry},
        "group_sd": {g: {key: _sd([one.entry["groups"][g].get(key) for one in members]) for key in metrics} for g in groups},
        "group_interval95_users": {},
        "seconds": _mean([one.entry.get("seconds") for one in members]),
        "fit_seconds": _mean([fit_seconds(one.entry) for one in members]),
    }
    for group in groups:
        inside = inside_group(members, group)
        if inside is not None and inside.height >= 2:
            row["group_interval95_users"][group] = {k: list(bootstrap_interval(inside[k], n=2000)) for k in metrics if k in inside.columns}
    return row


def inside_group(members: Sequence[Tested], group: str) -> pl.DataFrame | None:
    """Per-user values inside a group, averaged over seeds; ``None`` if a run doesn't know them."""
    tables = [one.per_group.filter(pl.col("group") == group).drop("group") for one in members if one.per_group is not None]
    return over_seeds(tables) if len(tables) == len(members) and all(t.height for t in tables) else None


def paired_tests(models: Mapping[str, Sequence[Tested]], groups: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Paired tests of each model against the first, overall and inside each group; Holm's correction over all of them."""
    first = next(iter(models))
    frames = {"overall": {name: [one.per_user for one in members] for name, members in models.items()}}
    for group in groups:
        found = {name: inside_group(members, group) for name, members in models.items()}
        inside = {name: [values] for name, values in found.items() if values is not None and values.height >= 2}
        if len(inside) == len(models):
            frames[group] = inside
    rows = [{"group": group, **row} for group, tables in frames.items() for row in compare(tables, metrics, first)]
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def mean_popularity(members: Sequence[Tested]) -> pl.DataFrame | None:
    """Popularity classes, averaged over seeds; the standard errors too, which is a little too cautious."""
    frames = [one.by_popularity for one in members if one.by_popularity is not None]
    if len(frames) != len(members):
        return None
    first = frames[0]
    floats = [name for name, kind in first.schema.items() if kind == pl.Float64]
    return first.with_columns(
        pl.Series(name, np.mean([frame[name].to_numpy() for frame in frames], axis=0)) for name in floats if first[name].null_count() == 0
    )


def class_names(least: Sequence[int | None], most: Sequence[int | None]) -> list[str]:
    """Popularity classes by the training events of their items.

    >>> class_names([0, 3, None], [2, 3, None])
    ['0–2', '3', '–']
    """
    return ["–" if low is None else f"{low:,}" if low == high else f"{low:,}–{high:,}" for low, high in zip(least, most, strict=True)]
