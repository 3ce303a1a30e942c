"""CALRec's own language models beside each other: the same processor time of stage 0, then the loss of held-out items and a ranking.

    python benchmarks/calrec_decoders.py --data DIR [--decoder tiny=2@0.002 --decoder minilm=0.5@0.0005 ...] [--users N] --out OUT
    python benchmarks/calrec_decoders.py --data DIR --decoder tiny=1.5@0.002,vocabulary=8192,lm_tokens=4096 --decoder ... --out OUT

Stage 0 is what replaces web pretraining (docs/calrec.md); its cost decides what can be had here, so passes are given such that the
processor seconds, which are measured, come out alike. A part of a pass reads that share of the histories and items. Losses an item can
be compared between all of them, losses a token where the vocabulary is the same. The validation part is asked, since a default is chosen
by this. Nothing is taken from the cache.

OUT/calrec-decoders/<dataset>/<name>.json are published results (docs/protocol.md).
"""

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lexirec import runs
from lexirec.errors import InputError
from lexirec.evaluation.evaluate import evaluate
from lexirec.evaluation.statistics import compare, summarise
from lexirec.files import write_json
from lexirec.models.calrec.model import CALRec
from lexirec.models.calrec.steps import LOSS, Step, Towers, held_out_losses
from lexirec.settings import parse_set
from lexirec.training.options import TrainingOptions

METRICS = ("recall@1", "recall@10", "ndcg@10", "mrr")
DATA = {"split": "leave-one-out", "catalogue": "interacted", "duplicates": "consecutive", "mask_seen": False}
SETTINGS: dict[str, Any] = {
    "merges": "phrases", "vocabulary": 8192, "lm_tokens": 4096, "micro_tokens": 32768, "max_tokens": 512, "samples": 16,
    "write_precision": "bf16",
}  # fmt: skip

DECODERS = [("tiny", 2.0, 0.002, {}), ("small", 1.0, 0.002, {}), ("minilm", 0.5, 0.0005, {})]
"""Language model, passes of stage 0, highest rate, further settings."""


def plan_of(text: str) -> tuple[str, float, float, dict[str, Any]]:
    """``minilm=0.5@0.0005`` as language model, passes and highest rate; further settings stand behind commas, ``lm_tokens=1024``."""
    first, *further = text.split(",")
    name, _, numbers = first.partition("=")
    passes, _, rate = numbers.partition("@")
    try:
        return name, float(passes), float(rate), dict(parse_set(one) for one in further)
    except (ValueError, InputError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not LM=PASSES@RATE[,SETTING=VALUE...], such as tiny=2@0.002: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--decoder", action="append", type=plan_of, metavar="LM=PASSES@RATE[,SETTING=VALUE...]")
    parser.add_argument("--users", type=int, default=1000, help="random users of the validation part who are asked")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LEXIREC_CACHE"] = cache
        measure(args)


def alone(model: CALRec, reduction: str) -> Step:
    """The step of a model with the next-item loss as it is asked for, and without contrasts."""
    towers = Towers(model.step.towers.lm, model.step.towers.pieces, reduction)
    return Step(towers, model.step.tau, 0.0, 0.0, model.step.budget)


def measure(args: argparse.Namespace) -> None:
    """Train, ask and write the results."""
    parts = runs.load_parts([str(args.data)], DATA)
    train = parts.train
    if parts.valid is None:
        raise InputError(f"{parts.name}: the split leaves no validation part")
    asked = train.some_users(parts.valid, args.users, 0)
    frames: dict[str, list[pl.DataFrame]] = {}
    documents: dict[str, dict[str, Any]] = {}
    for lm, passes, rate, further in args.decoder or DECODERS:
        name = "-".join([lm, *(f"{value:g}" if isinstance(value, int | float) else str(value) for value in further.values())])
        name = f"{name}-{rate:g}" if name in frames else name
        whole = max(math.ceil(passes), 1)
        epochs = {"lm_epochs": whole, "epoch_users": round(train.n_users * passes / whole)}
        model = CALRec(CALRec.Config.parse({**SETTINGS, "lm": lm, "lm_lr": rate, **epochs, **further}))
        started, begun = time.process_time(), time.perf_counter()
        model.fit(train, None, TrainingOptions(epochs=0, precision="bf16", threads=args.threads, seed=1, progress=True))
        processor, seconds = time.process_time() - started, time.perf_counter() - begun
        losses = {
            f"held-out loss{what}": -held_out_losses(alone(model, reduction), train, asked, 64)[LOSS]
            for what, reduction in (("", "mean"), (" an item", "sum"))
        }
        found = evaluate(model, train, asked, metrics=METRICS, beyond=False, mask_seen=False)
        frames[name] = [found.per_user]
        size = sum(weight.numel() for weight in model.network.parameters())
        documents[name] = {
            "dataset": parts.name,
            "split": DATA["split"],
            "protocol": f"{found.protocol}; validation part",
            "model": model.name,
            "variant": name,
            "config": {"model": model.config.model_dump(), "training": {"precision": "bf16", "seed": 1}},
            "command": runs.own_command(),
            "versions": runs.versions(),
            "data_hash": train.content_hash,
            "runs": [
                {
                    "seed": 1,
                    "best_epoch": 0,
                    "test": {**found.metrics, **losses},
                    "test_optimistic": {**found.optimistic, **losses},
                    "test_pessimistic": {**found.pessimistic, **losses},
                    "users": found.n_users,
                    "weights": size,
                    "passes": passes,
                    "seconds": round(seconds, 1),
                    "processor_seconds": round(processor, 1),
                }
            ],
            **summarise([found.metrics]),
        }
        target = args.out / "calrec-decoders" / parts.name
        write_json(target / f"{name}.json", documents[name])  # an hour's work; the tests, which need the others, are added at the end
        kind = {m: (round(found.optimistic[m], 4), round(found.pessimistic[m], 4)) for m in METRICS}
        said = ", ".join(f"{what} {value:.3f}" for what, value in losses.items())
        print(f"{name}: {size:,} weights, {processor:.0f} processor seconds, {said}, {kind}", file=sys.stderr, flush=True)
    first = next(iter(frames))
    tests = compare(frames, METRICS, first)
    for name, document in documents.items():
        document["tests"] = [{k: v for k, v in one.items() if k != "model"} for one in tests if one["model"] == name]
        write_json(target / f"{name}.json", document)


if __name__ == "__main__":
    main()
