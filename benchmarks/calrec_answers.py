"""CALRec's answers varied: pooling, modulation and the weight of the log-probabilities, from the same written texts, with paired tests.

    python benchmarks/calrec_answers.py RUN --data DIR [--against RUN...] [--max-users N] --out OUT

RUN is a trained `calrec` run; its texts are written once (and kept, so a second call takes seconds). Runs named by --against are other
models on the same split, whose values per user are read from their folders. The tests are against the paper's setting (maximum, modulated,
epsilon 1/5000), and of that setting against each other run. Nothing is selected here: the table shows the test part.

OUT/calrec-answers/<dataset>/<name>.json are published results (docs/protocol.md).
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lexirec import runs
from lexirec.errors import InputError
from lexirec.evaluation.evaluate import Evaluation
from lexirec.evaluation.statistics import compare, summarise
from lexirec.files import write_json
from lexirec.models.calrec.model import CALRec

VARIANTS: dict[str, dict[str, Any]] = {
    "maximum": {},
    "mean": {"pooling": "mean"},
    "minimum": {"pooling": "min"},
    "not-modulated": {"modulate": False},
    "epsilon-1e-4": {"epsilon": 1e-4},
    "epsilon-1e-3": {"epsilon": 1e-3},
    "epsilon-1e-2": {"epsilon": 1e-2},
    "epsilon-1e-1": {"epsilon": 1e-1},
    "epsilon-1": {"epsilon": 1.0},
    "one-text": {"n_preds": 1},
    "five-texts": {"n_preds": 5},
}
"""Name -> settings that differ from the run's."""
PAPER = "maximum"
METRICS = ("recall@1", "recall@10", "ndcg@10", "mrr")


def entry(found: Evaluation, seed: int, seconds: float) -> dict[str, Any]:
    """One element of ``runs`` in a published result."""
    return {
        "seed": seed,
        "test": found.metrics,
        "test_optimistic": found.optimistic,
        "test_pessimistic": found.pessimistic,
        "users": found.n_users,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--against", action="append", default=[], type=Path, metavar="RUN")
    parser.add_argument("--max-users", type=int, help="random users of the test part; all by default")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model, document, result = runs.load_run(args.run)
    if not isinstance(model, CALRec):
        raise InputError(f"{args.run} is a run of {model.name}; name a run of calrec")
    parts = runs.load_parts([str(args.data)], document["data"])
    if parts.train.content_hash != result["data_hash"]:
        raise InputError(f"{args.data} is not what {args.run} was trained on (their training parts differ)")
    test = parts.test
    if test is None:
        raise InputError(f"{parts.name}: the split leaves no test part")
    if args.max_users is not None:
        test = parts.train.some_users(test, args.max_users, 0)
    parts = replace(parts, test=test)
    frames: dict[str, list[pl.DataFrame]] = {}
    documents: dict[str, dict[str, Any]] = {}
    for name, settings in VARIANTS.items():
        start = time.perf_counter()
        # Always from the loaded model, so that its written texts are shared.
        found = runs.measure(model.with_settings(**settings), parts, progress=not frames)
        frames[name] = [found.per_user]
        documents[name] = {
            "dataset": parts.name,
            "split": document["data"]["split"],
            "protocol": found.protocol,
            "model": model.name,
            "variant": name,
            "config": {"model": {**document["config"], **settings}, "training": document["training"]},
            "command": runs.own_command(),
            "versions": runs.versions(),
            "data_hash": result["data_hash"],
            "runs": [{**entry(found, result["seed"], time.perf_counter() - start), "best_epoch": result["best_epoch"]}],
            **summarise([found.metrics]),
        }
        print(name, {m: (round(found.optimistic[m], 4), round(found.pessimistic[m], 4)) for m in METRICS}, file=sys.stderr, flush=True)
    tests, models = compare(frames, METRICS, PAPER), []
    for folder in args.against:
        other = runs.read_config(runs.verify_run(folder))
        users = pl.read_parquet(folder / "per_user.parquet").join(frames[PAPER][0].select("user_id"), on="user_id", how="semi")
        models += compare({PAPER: frames[PAPER], other["model"]: [users]}, METRICS, other["model"])
    for name, found_document in documents.items():
        found_document["tests"] = [{k: v for k, v in one.items() if k != "model"} for one in tests if one["model"] == name]
        if name == PAPER:
            found_document["tests_against_models"] = [{k: v for k, v in one.items() if k != "model"} for one in models]
        write_json(args.out / "calrec-answers" / parts.name / f"{name}.json", found_document)
    for one in models:
        print({k: one[k] for k in ("against", "metric", "mean", "mean_against", "p_holm")}, file=sys.stderr)


if __name__ == "__main__":
    main()
