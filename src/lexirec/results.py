"""From run folders to published results: several seeds, intervals, paired tests, leaderboards."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from lexirec import runs
from lexirec.data.messages import warn
from lexirec.errors import InputError, nearest
from lexirec.evaluation.groups import GROUPS
from lexirec.evaluation.intention import evaluate_intention
from lexirec.evaluation.statistics import compare, standard_deviation, summarise
from lexirec.files import read_json, write_json
from lexirec.models import available, model_class
from lexirec.models.saving import read_config
from lexirec.training.options import TrainingOptions

TESTED = ("recall@20", "ndcg@20", "hr@10", "ndcg@10")
"""Metrics that published results carry paired tests for."""
CALREC_TESTED = ("recall@1", "mrr")
"""Besides, where nothing is masked: CALRec's table has them."""
TAIL = "tail_items"
"""Group that published results carry paired tests for too, as ``group``: it is what the text models are about."""
NOT_OF_THE_RESULT = ("seed", "threads", "device", "progress", "track", "folder", "resume")
"""Training options in which seeds of one model may differ."""
LEADERBOARD = ("recall@20", "ndcg@20", "ndcg@10")


def bench(
    data: str | Path,
    names: Sequence[str],
    out: str | Path,
    seeds: Sequence[int],
    *,
    configs: str | Path | None = None,
    sets: Sequence[str] = (),
    split: str | None = None,
    against: str | None = None,
) -> dict[str, Any]:
    """Train each named model with each seed, test it, and write one published result per model.

    Runs go to ``out/runs/<name>/seed-N``: a finished one is kept, an unfinished one goes on. Results go to ``out/results/<name>.json``.

    Args:
        data: data folder.
        names: models, or stems of files in ``configs``.
        out: see above.
        seeds: at least one; a model that trains and draws nothing is the same with each, so it has one run.
        configs: folder of ``<name>.yaml`` files; a name without a file is a model with its defaults.
        sets: ``key=value`` settings for all of them that have and read them; the others are named in a warning. ``name.key=value`` is for
            the one of that name.
        split: split for all of them, over the files'.
        against: name that the others are tested against; the first by default.

    Returns:
        ``leaderboard`` (a row per name) and ``results`` (name -> published object).
    """
    out = Path(out)
    folders: dict[str, list[Path]] = {}
    if not names or not seeds:
        raise InputError("give at least one model and one seed")
    if len(set(seeds)) < len(seeds):
        raise InputError(f"the seeds are {', '.join(map(str, seeds))}: one that is there twice is no further run; give each once")
    if against is not None and against not in names:
        raise InputError(f"--against {against!r} is not among the models {', '.join(names)}{nearest(against, names)}")
    plans = {name: _plan(name, configs) for name in names}  # every name is checked before the first training
    chosen = _settings_of(plans, sets)
    for name, (model, file) in plans.items():
        try:
            planned = runs.resolve(model, [data], config_file=file, sets=chosen[name], split=split, seed=seeds[0])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        if planned.data["split"] == "all":
            raise InputError(f"{name}: the split 'all' leaves nothing to test on, and a bench compares tests; choose another --split")
    hashes: dict[str, str] = {}  # of the data as each configuration reads it, looked at where runs are there already
    for name, (model, file) in plans.items():
        for seed in seeds:
            folder = out / "runs" / name / f"seed-{seed}"
            experiment = runs.resolve(model, [data], config_file=file, sets=chosen[name], split=split, seed=seed)
            if folder.exists():
                key = json.dumps([experiment.paths, experiment.data], sort_keys=True, default=str)  # borders of a split may be dates
                if key not in hashes:
                    hashes[key] = runs.load_parts(experiment.paths, experiment.data).train.content_hash
                runs.same_experiment(folder, experiment, hashes[key])
            else:
                runs.fit_run(experiment, folder, resume=True)
            folders.setdefault(name, []).append(folder)
            if not model_class(experiment.model)(**experiment.config).seeded:
                break
    published = publish(folders, out / "results", against or names[0])
    return {"leaderboard": leaderboard(published), "results": published}


def _settings_of(plans: Mapping[str, tuple[str, Path | None]], sets: Sequence[str]) -> dict[str, list[str]]:
    """The settings that each model has and reads.

    Raises:
        InputError: for a setting that none of them does.
    """
    # `lightgcn.lr=0.01` is for the one of that name.
    heads = {setting: setting.split("=")[0].partition(".")[0] for setting in sets}
    own = {name: [setting.partition(".")[2] for setting in sets if heads[setting] == name] for name in plans}
    sets = [setting for setting in sets if heads[setting] not in plans]
    chosen = {name: [*runs.read_by(model, file, sets), *own[name]] for name, (model, file) in plans.items()}
    for setting in sets:
        without = [name for name, kept in chosen.items() if setting not in kept]
        if len(without) == len(plans):
            model, file = plans[without[0]]
            runs.resolve(model, ["DATA"], config_file=file, sets=[*chosen[without[0]], setting])  # says what is wrong with it
        elif without:
            warn(f"--set {setting} is not read by {', '.join(without)}, which {'is' if len(without) == 1 else 'are'} trained without it")
    return chosen


def _plan(name: str, configs: str | Path | None) -> tuple[str, Path | None]:
    """Model and configuration file of a name."""
    file = Path(configs) / f"{name}.yaml" if configs is not None else None
    if file is not None and file.exists():
        return str(runs.read_experiment(file).get("model", name)), file
    if name not in available():
        stems = sorted(p.stem for p in Path(configs).glob("*.yaml")) if configs is not None else []
        raise InputError(
            f"{name!r} is neither a model ({', '.join(available())}) nor a file in --configs"
            f" ({', '.join(stems) or 'none'}){nearest(name, [*available(), *stems])}"
        )
    return name, None


def publish(folders: Mapping[str, Sequence[Path]], out: Path, against: str | None) -> dict[str, dict[str, Any]]:
    """Write ``out/<name>.json`` for each group of runs (the seeds of one model), in the published schema.

    Args:
        folders: name -> run folders, one per seed.
        out: folder for the results.
        against: baseline of the paired tests; ``None``: no tests.

    Raises:
        InputError: if the runs of one name differ in more than the seed or have the same one, or runs of different data are compared.
    """
    entries = {name: [read_json(runs.verify_run(f) / "result.json") for f in group] for name, group in folders.items()}
    documents = {name: read_config(group[0]) for name, group in folders.items()}
    for name, group in folders.items():
        for folder, result in zip(group[1:], entries[name][1:], strict=True):
            differing = _differing(_settings(read_config(folder), result), _settings(documents[name], entries[name][0]))
            if differing:
                raise InputError(
                    f"{folder} and {group[0]} differ in more than the seed ({', '.join(differing)}); publish them under two names"
                )
        _one_run_per_seed(group)
    hashes = {entry["data_hash"] for group in entries.values() for entry in group}
    if len(hashes) > 1:
        raise InputError(f"the runs were made on {len(hashes)} different data sets or splits; results can only be compared on the same one")
    _same_protocol({name: group[0] for name, group in entries.items()})
    frames = {name: [pl.read_parquet(f / "per_user.parquet") for f in group] for name, group in folders.items()}
    tests: list[dict[str, Any]] = []
    if against is not None and len(frames) > 1:
        unmasked = "nothing masked" in next(iter(entries.values()))[0]["protocol"]
        tests = compare(frames, (*TESTED, *CALREC_TESTED) if unmasked else TESTED, against)
        if all((f / "per_group.parquet").exists() for group in folders.values() for f in group):
            tails = {name: [_of_group(f, TAIL, least=0) for f in group] for name, group in folders.items()}
            if all(table.height > 1 for group in tails.values() for table in group):  # else there is nobody to pair
                among = [metric for metric in TESTED if metric in runs.GROUP_METRICS]
                tests += [{**test, "group": TAIL} for test in compare(tails, among, against)]
    out.mkdir(parents=True, exist_ok=True)
    published = {}
    for name, group in entries.items():
        published[name] = _published(documents[name], group, [t for t in tests if t["model"] == name])
        write_json(out / f"{name}.json", published[name])
    return published


def _published(document: Mapping[str, Any], group: Sequence[dict[str, Any]], tests: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = group[0]
    common = ("command", "versions", "data_hash", "protocol_split", "dataset", "protocol")
    return {
        "dataset": first["dataset"],
        "split": first.get("protocol_split", document["data"]["split"]),
        "protocol": first["protocol"],
        "model": document["model"],
        "variant": document.get("variant", ""),
        "config": _shown_config(document),
        "command": first.get("command", ""),
        "versions": first["versions"],
        "data_hash": first["data_hash"],
        "runs": [{k: v for k, v in entry.items() if k not in common} for entry in group],
        **summarise([entry["test"] for entry in group]),
        "tests": [{k: v for k, v in test.items() if k != "model"} for test in tests],
    }


def _shown_config(document: Mapping[str, Any], but: Sequence[str] = ("seed",)) -> dict[str, Any]:
    """Settings of a run: model, training, and how the data were read, less where they lie."""
    data = {name: value for name, value in document["data"].items() if name != "paths"}
    return {"model": document["config"], "training": {k: v for k, v in document["training"].items() if k not in but}, "data": data}


def leaderboard(published: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per model: overall metrics, the difference to the one that all are tested against, tail and cold items where there are any.

    ``sd`` has the standard deviation over seeds by column, where there are several.
    """
    rows = []
    tested = LEADERBOARD[0]
    for name, result in published.items():
        row: dict[str, Any] = {"model": name, **{metric: result["mean"][metric] for metric in LEADERBOARD}}
        for test in result["tests"]:
            if test["metric"] == tested and "group" not in test:
                relative = "" if test["relative"] is None else f"{test['relative']:+.1%} "
                row[f"{tested} vs {test['against']}"] = f"{relative}(Holm p {test['p_holm']:.1g})"
        row["best epoch"] = "/".join(str(run["best_epoch"]) for run in result["runs"])
        spread = {metric: standard_deviation([run["test"][metric] for run in result["runs"]]) for metric in LEADERBOARD}
        for group in ("tail_items", "cold_items"):
            values = [run["groups"][group]["recall@20"] for run in result["runs"] if group in run["groups"]]
            if values:
                row[f"{group} recall@20"] = sum(values) / len(values)
                spread[f"{group} recall@20"] = standard_deviation(values)
        row["sd"] = {column: value for column, value in spread.items() if value is not None}
        row["seeds"] = len(result["runs"])
        row["seconds"] = round(sum(run["seconds"] for run in result["runs"]) / len(result["runs"]), 1)
        rows.append(row)
    return rows


def _settings(document: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run in which seeds of one model are alike; training options that were not given have their defaults.

    A time limit that did not end the training is none.
    """
    given = {key: value for key, value in (document.get("training") or {}).items() if key in TrainingOptions.model_fields}
    training = TrainingOptions(**given).model_dump(mode="json", exclude=set(NOT_OF_THE_RESULT))
    if result.get("stopped") != "max_minutes":
        training["max_minutes"] = None
    config = document["config"]
    named = {f"training.{key}" if key in config else key: value for key, value in training.items()}  # EasyRec has epochs of its own
    protocol = {"data.mask_seen": (document.get("data") or {}).get("mask_seen", True)}
    return {"model": document["model"], "variant": document.get("variant", ""), **protocol, **named, **config}


def _differing(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """The settings that are other than those of another run, as ``key=value``."""
    return [f"{key}={settings.get(key)}" for key in {**others, **settings} if settings.get(key) != others.get(key)]


def _one_run_per_seed(folders: Sequence[Path]) -> None:
    """Check that no two runs of one model have the same seed: they would count as two independent trainings.

    Raises:
        InputError: naming both.
    """
    found: dict[int, Path] = {}
    for folder in folders:
        seed = read_json(folder / "result.json")["seed"]
        if seed in found:
            raise InputError(f"{found[seed]} and {folder} are the same model with the same seed {seed}; give one of them")
        found[seed] = folder


def label_runs(folders: Sequence[str | Path]) -> dict[str, list[Path]]:
    """Run folders by the name of their model: runs that differ in nothing but the seed, on the same data, are seeds of one.

    Runs of one model with other settings are other models, named by what differs from the first, as in ``"sasrec (lr=0.01)"``.

    Raises:
        InputError: if two runs have the same settings and the same seed.
    """
    groups: dict[str, list[Path]] = {}
    names: dict[str, str] = {}
    firsts: dict[str, dict[str, Any]] = {}
    for folder in map(Path, folders):
        document = read_config(runs.verify_run(folder))
        result = read_json(folder / "result.json")
        settings = _settings(document, result)
        key = json.dumps([settings, result["data_hash"]], sort_keys=True)
        if key not in names:
            label = "-".join(part for part in (document["model"], document.get("variant", "")) if part)
            differing = _differing(settings, firsts.setdefault(label, settings))
            said = [", ".join(differing)] if 0 < len(differing) <= 3 else []  # three at most: the name stands in tables
            said += [folder.name, f"{folder.resolve().parent.name}/{folder.name}", str(folder)]
            names[key] = next(one for one in (label, *(f"{label} ({words})" for words in said)) if one not in names.values())
        groups.setdefault(names[key], []).append(folder)
    for members in groups.values():
        _one_run_per_seed(members)
    return groups


def _same_protocol(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to compare what was ranked by different rules, such as with and without the items that a user has already."""
    protocols = {name: entry["protocol"] for name, entry in entries.items() if "protocol" in entry}
    if len(set(protocols.values())) > 1:
        said = "; ".join(f"{name}: {protocol}" for name, protocol in protocols.items())
        raise InputError(f"the runs were tested by different rules ({said}); test them by the same (data.mask_seen)")


def compare_runs(folders: Sequence[str | Path], metrics: Sequence[str], group: str | None = None, test: str = "t") -> list[dict[str, Any]]:
    """Paired tests between run folders; runs of the same model and settings are seeds of one. The first is the baseline.

    Args:
        folders: the runs.
        metrics: metric keys.
        group: compare inside a group such as ``"tail_items"``, by :data:`~lexirec.runs.GROUP_METRICS`; over all users by default.
        test: as :func:`~lexirec.evaluation.statistics.compare` has it.

    Returns:
        As there, with ``seeds`` and ``seeds_against``, the runs behind each side.

    Raises:
        InputError: for fewer than two models, runs of different data, the same settings and seed twice, an unknown group, or a metric that
            runs don't keep inside groups.
    """
    labelled = label_runs(folders)
    hashes, entries = {}, {}
    for folder in (folder for members in labelled.values() for folder in members):
        if not (folder / "per_user.parquet").exists():
            raise InputError(f"{folder} has no per_user.parquet, since its data had no test part; it can't be compared")
        entries[str(folder)] = read_json(folder / "result.json")
        hashes[str(folder)] = entries[str(folder)]["data_hash"]
    if len(set(hashes.values())) > 1:
        split = {folder: entry.get("protocol_split", "an unknown split") for folder, entry in entries.items()}
        told = (f"{folder} ({entries[folder].get('dataset')}, {split[folder]}, data {h[:8]})" for folder, h in hashes.items())
        raise InputError(
            f"the runs were tested on different data or splits: {', '.join(told)}; train one again with --data, --split and data.* of the"
            " other"
        )
    _same_protocol(entries)
    if len(labelled) < 2:
        raise InputError(f"{len(labelled)} model to compare; give at least two")
    _check_metrics(metrics, group)
    tables = {name: [_of_group(folder, group) for folder in members] for name, members in labelled.items()}
    rows = compare(tables, list(dict.fromkeys(metrics)), next(iter(tables)), test=test)
    return [{**row, "seeds": len(tables[row["model"]]), "seeds_against": len(tables[row["against"]])} for row in rows]


def _check_metrics(metrics: Sequence[str], group: str | None) -> None:
    for metric in metrics if group in GROUPS else ():
        if metric not in runs.GROUP_METRICS:
            known = runs.GROUP_METRICS
            raise InputError(
                f"runs keep no {metric!r} inside the group {group!r}{nearest(metric, known)}; inside groups they have {', '.join(known)}"
            )


def _of_group(folder: Path, group: str | None, least: int = 2) -> pl.DataFrame:
    """Values per user of a run, inside a group that has at least so many; a run that was written without them is tested again."""
    if group is None:
        return pl.read_parquet(folder / "per_user.parquet")
    if group not in GROUPS:
        raise InputError(f"unknown group {group!r}{nearest(group, GROUPS)}; known: {', '.join(GROUPS)}")
    path = folder / "per_group.parquet"
    table = pl.read_parquet(path) if path.exists() else runs.group_table(runs.evaluate_run(folder)[1])
    inside = table.filter(pl.col("group") == group).drop("group")
    if inside.height < least:
        raise InputError(f"{folder}: {inside.height} users are in the group {group!r}; a paired test needs at least {least}")
    return inside


def evaluate_intents(
    run: str | Path,
    paths: Sequence[str],
    split: str | None,
    alphas: Sequence[float],
    max_users: int | None,
    wishes: str | Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Wishes, one per target item, on the run's own data or on another (zero-shot).

    See :func:`~lexirec.evaluation.intention.evaluate_intention`.
    """
    model, document, result = runs.load_run(run)
    parts, data = runs.parts_for(document, paths, split)
    if parts.test is None:
        raise runs.no_test_part(parts)
    other = parts.train.content_hash != result["data_hash"]
    zero_shot = other and not runs.trained_on(model, parts, own=not paths)
    if other:
        model = runs.transferred(model, parts, run, document, data, own=not paths)
    seen = () if parts.valid is None else (parts.valid,)
    found = evaluate_intention(
        model, parts.train, parts.test, seen=seen, alphas=tuple(alphas), max_users=max_users, seed=seed, wishes=wishes, progress=True
    )
    return {"dataset": parts.name, "split": data["split"], "zero_shot": zero_shot, "seed": result["seed"], **found.to_dict()}


def save_single(run: str | Path, entry: Mapping[str, Any], path: str | Path) -> None:
    """Write one evaluation of a run as a published result of one seed."""
    document = read_config(Path(run))
    known = ("dataset", "split", "protocol", "data_hash", "versions")
    single = {k: v for k, v in entry.items() if k not in known}
    variant = (document.get("variant", ""), "zero-shot" if entry["zero_shot"] else "", "hybrid" if "hybrid" in entry else "")
    write_json(
        path,
        {
            "dataset": entry["dataset"],
            "split": entry["split"],
            "protocol": entry.get("protocol", "one wish per target item"),
            "model": document["model"],
            "variant": "-".join(filter(None, variant)),
            "trained_on": [Path(p).name for p in document["data"]["paths"]],
            "config": _shown_config(document, but=()),
            "command": runs.own_command(),
            "versions": runs.versions(),
            "runs": [single],
            **(summarise([entry["test"]]) if "test" in entry else {}),
            "tests": [],
        },
    )


__all__ = ["bench", "compare_runs", "evaluate_intents", "label_runs", "leaderboard", "publish", "save_single"]
