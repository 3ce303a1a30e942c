"""The zero-shot table: data sets that no model was trained on, ranked by text alone; what EasyRec's training brings over its own start.

    python benchmarks/zero_shot.py RUN [RUN...] --data DIR [--data DIR...] --split ratio --out OUT

RUN are trained `easyrec` runs, told apart by --names. For each target: popularity, `lsa` (TF-IDF), `random`, raw `minilm` and whatever
`--encoders` names, all on the same texts (the first run's settings of the texts), then the runs. Each is asked with every version of the
profiles and the mean is reported, as EasyRec reports it (one version with --versions 1). People are asked by texts of their training
events alone, and nothing but training items is masked: validation items stay candidates, as EasyRec tests (`lexirec evaluate` tells
models of the validation events and masks them). Paired tests are on each user's mean over the versions, against raw `minilm`, and of the
runs against popularity and `lsa` too.

A run that was trained on events of a target is refused there: nothing about it would be zero-shot.

OUT/<dataset>/<name>.json are published results (docs/protocol.md), OUT/summary.json is the table with gains, p values and what did not run.
Encoders by name whose weights can't be had here are listed as "not run here" with the reason.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lexirec import runs
from lexirec.errors import InputError, LexirecError
from lexirec.evaluation.evaluate import evaluate
from lexirec.evaluation.statistics import compare, summarise
from lexirec.files import write_json
from lexirec.models import create
from lexirec.models.contract import Recommender
from lexirec.models.textual import TextConfig, read_written
from lexirec.text.encoders import load_encoder
from lexirec.text.profiles import read_record
from lexirec.training.options import TrainingOptions

OTHERS = {
    "bert": "hf:bert-base-uncased?pooling=cls&normalize=true",
    "roberta": "hf:roberta-base?pooling=cls&normalize=true",
    "simcse": "hf:princeton-nlp/sup-simcse-bert-base-uncased?pooling=cls&normalize=true",
    "gtr": "st:sentence-transformers/gtr-t5-base",
    "bge": "hf:BAAI/bge-base-en-v1.5?pooling=cls&normalize=true",
    "blair": "hf:hyp1231/blair-roberta-base?pooling=cls&normalize=true",
    "text-embedding-3-small": "api:text-embedding-3-small",
    "text-embedding-3-large": "api:text-embedding-3-large",
}
"""The published table's encoders beside those bundled here."""
METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20", "hr@10")
TESTED = ("recall@20", "ndcg@20")
PROTOCOL = "full ranking, training items masked, people's texts of the training part only; mean over {} versions of the texts"


def asked(model: Recommender, parts: runs.Parts, versions: int) -> tuple[dict[str, float], pl.DataFrame, list[dict[str, float]], float]:
    """Mean over the versions: metrics and per user; then each version's metrics and the seconds in all.

    Validation events are in nobody's text, and their items stay candidates.
    """
    start = time.perf_counter()
    assert parts.test is not None
    found, tables = [], []
    for version in range(versions):
        if hasattr(model, "use_version"):
            model.use_version(version)
        result = evaluate(model, parts.train, parts.test, metrics=METRICS, beyond=False)
        found.append(result.metrics)
        tables.append(result.per_user)
        if not hasattr(model, "use_version"):  # the same for every version
            break
    mean = {name: float(np.mean([values[name] for values in found])) for name in found[0]}
    keys = [name for name in tables[0].columns if name != "user_id"]
    users = tables[0].select("user_id", *(pl.mean_horizontal(*(table[name] for table in tables)).alias(name) for name in keys))
    return mean, users, found, time.perf_counter() - start


def reachable(name: str) -> str:
    """Why an encoder can't be had here, or an empty string."""
    try:
        load_encoder(name).encode(["a text"], progress=False)
    except (LexirecError, OSError, ValueError) as error:
        return str(error)
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="+", type=Path)
    parser.add_argument("--names", help="names of the runs, separated by commas; easyrec, easyrec-2, ... by default")
    parser.add_argument("--data", action="append", required=True, type=Path, help="target; DIR or DIR=SPLIT")
    parser.add_argument("--split", default="ratio")
    parser.add_argument("--encoders", default="lsa,random,minilm", help="frozen encoders beside the runs, separated by commas")
    parser.add_argument("--others", action="store_true", help="also try the published table's encoders, by name")
    parser.add_argument("--item-text", help="what items are read as: a template of columns such as title,profile; the runs' own by default")
    parser.add_argument("--profiles", action="append", default=[], help="folder of written profiles of a target, repeatable")
    parser.add_argument("--versions", type=int, default=4)
    parser.add_argument("--max-users", type=int, help="random users of each target; all by default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    names = args.names.split(",") if args.names else ["easyrec", *(f"easyrec-{k}" for k in range(2, len(args.run) + 1))]
    if len(names) != len(args.run):
        raise InputError(f"{len(names)} names for {len(args.run)} runs")
    loaded = {name: runs.load_run(run) for name, run in zip(names, args.run, strict=True)}
    if args.item_text is not None:
        for model, _, _ in loaded.values():
            runs.read_otherwise(model, args.item_text)
    first = next(iter(loaded.values()))[0].config
    texts = {key: getattr(first, key) for key in TextConfig.model_fields if key not in ("alpha", "profiles", "profile_first")}
    frozen = {encoder: encoder for encoder in args.encoders.split(",") if encoder}
    not_run: dict[str, str] = {}
    if args.others:
        for label, encoder in OTHERS.items():
            why = reachable(encoder)
            if why:
                not_run[label] = why
            else:
                frozen[label] = encoder
    options = TrainingOptions(threads=args.threads, progress=False)
    table: list[dict[str, Any]] = []
    for target in args.data:
        folder, _, own_split = str(target).partition("=")
        split = own_split or args.split
        parts = runs.load_parts([folder], {"split": split})
        if args.max_users is not None and parts.test is not None:
            from dataclasses import replace

            parts = replace(parts, test=parts.train.some_users(parts.test, args.max_users, 0))
        written = [place for place in args.profiles if read_record(place)["content_hash"] == parts.train.content_hash]
        told = {**texts, "profiles": tuple(written)}
        for name, (model, _, _) in loaded.items():
            if runs.trained_on(model, parts):
                raise InputError(f"{name} was trained on events of {parts.name}, so it isn't zero-shot there; take that target out")
        # A folder of written profiles has its own number of versions; texts that are written here have the runs' own.
        there = [int(read_record(place)["versions"]) for place in written] or [first.versions]
        versions = min(args.versions, *(n + 1 for n in there))
        frames: dict[str, list[pl.DataFrame]] = {}
        documents: dict[str, dict[str, Any]] = {}

        def record(
            name: str,
            model: Recommender,
            trained_on: list[str],
            seed: int = 1,
            parts=parts,
            split=split,
            frames=frames,
            documents=documents,
            versions=versions,
        ):
            mean, users, each, seconds = asked(model, parts, versions)
            frames[name] = [users]
            documents[name] = {
                "dataset": parts.name,
                "split": split,
                "protocol": PROTOCOL.format(len(each)),
                "model": model.name,
                "variant": "zero-shot" if model.name == "easyrec" else name,
                "trained_on": trained_on,
                "config": {"model": model.config.model_dump(mode="json"), "training": {}},
                "command": runs.own_command(),
                "versions": runs.versions(),
                "data_hash": parts.train.content_hash,
                "runs": [
                    {
                        "seed": seed,
                        "best_epoch": 0,
                        "test": mean,
                        "by_version": each,
                        "users": users.height,
                        "seconds": round(seconds, 1),
                        "device": runs.device_name(model.device),
                    }
                ],
                **summarise([mean]),
            }
            print(f"{parts.name:>24} {name:>16}: " + ", ".join(f"{k} {v:.4f}" for k, v in mean.items()), file=sys.stderr, flush=True)

        record("popularity", create("popularity").fit(parts.train, options=options), [])
        for label, encoder in frozen.items():
            record(label, create("zero-shot", **{**told, "encoder": encoder}).fit(parts.train, options=options), [])
        for name, (model, document, result) in loaded.items():
            if args.profiles:
                read_written(model, written, parts.train)
            record(name, model.transfer(parts.train), [Path(path).name for path in document["data"]["paths"]], result["seed"])
        base = "minilm" if "minilm" in frames else next(iter(frames))
        tests = compare(frames, TESTED, base)
        for rival in ("popularity", "lsa"):
            if rival in frames and rival != base:
                some = {name: frames[name] for name in (rival, *loaded)}
                tests += compare(some, TESTED, rival)
        for name, document in documents.items():
            document["tests"] = [{k: v for k, v in test.items() if k != "model"} for test in tests if test["model"] == name]
            file = name.replace(":", "-").replace("/", "-").split("?")[0]
            write_json(args.out / parts.name / f"{file}.json", document)
            row: dict[str, Any] = {
                "dataset": parts.name,
                "model": name,
                "versions_of_texts": versions,
                **documents[name]["runs"][0]["test"],
            }
            for test in document["tests"]:
                if test["metric"] == "recall@20":
                    row[f"against {test['against']}"] = {"relative": test["relative"], "p": test["p"], "p_holm": test["p_holm"]}
            table.append(row)
    summary = {
        "command": runs.own_command(),
        "rows": table,
        "not_run_here": not_run,
        "gains": gains(table, names),
    }
    write_json(args.out / "summary.json", summary)
    print(json.dumps({"gains": summary["gains"], "not_run_here": sorted(not_run)}, indent=1))


def gains(table: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """Of each run: the mean relative gain in recall@20 over raw `minilm`, and on how many targets it is higher than each rival."""
    value = {(row["dataset"], row["model"]): row["recall@20"] for row in table}
    targets = list(dict.fromkeys(row["dataset"] for row in table))
    out: dict[str, Any] = {}
    for name in names:
        entry: dict[str, Any] = {}
        for rival in ("minilm", "lsa", "popularity", "random"):
            pairs = [(value[t, name], value[t, rival]) for t in targets if (t, rival) in value]
            if pairs:
                entry[f"higher than {rival}"] = f"{sum(a > b for a, b in pairs)} of {len(pairs)}"
                entry[f"mean gain over {rival}"] = float(np.mean([a / b - 1 for a, b in pairs if b > 0]))
        out[name] = entry
    return out


if __name__ == "__main__":
    main()
