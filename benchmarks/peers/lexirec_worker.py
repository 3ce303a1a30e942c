"""lexirec: epochs by its own training loop (LightGCN, or the model asked for), evaluation by ``evaluate``."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from prepare import load_split
from worker import peak_memory_mb, serve

from lexirec import models
from lexirec.evaluation.evaluate import evaluate as full_ranking
from lexirec.models.sequential import SequentialRecommender
from lexirec.runs import versions
from lexirec.training.loop import one_epoch
from lexirec.training.options import TrainingOptions

LIGHTGCN = {
    "model": "lightgcn",
    "precision": "fp32",
    "config": {"embedding_dim": 64, "num_layers": 3, "batch_size": 2048, "num_negs": 1, "lr": 1e-3, "loss": "bpr"},
}
folder, n_users, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
job = json.loads(sys.argv[4]) if len(sys.argv) > 4 else LIGHTGCN
torch.set_num_threads(threads)
split = load_split(folder, n_users)
options = TrainingOptions(epochs=0, seed=1, device="cpu", threads=threads, precision=job["precision"], progress=False)
model = models.create(job["model"], **job["config"])
model.fit(split.train, None, options)  # no epoch: builds the weights and what training needs
optimiser, accelerator = model.optimiser(), Accelerator(cpu=True)
epochs = 0


def describe(_):
    windows = {}
    if isinstance(model, SequentialRecommender):
        lengths = model.sampler.windows.lengths
        windows = {"sequences": len(lengths), "places": int(lengths.sum()), "candidates": int((~split.train.new_items).sum())}
    return {
        **windows,
        "versions": versions(),
        "train": split.train.n_interactions,
        "batches": model.n_batches(split.train),
        "users": split.train.n_users,
        "items": split.train.n_items,
        "threads": torch.get_num_threads(),
        "config": model.config.model_dump(mode="json"),
    }


def epoch(_):
    global epochs
    epochs += 1
    started = time.perf_counter()
    loss, _ = one_epoch(model, split.train, optimiser, accelerator, epochs, None, lambda: False, options)
    return {"loss": loss, "seconds": time.perf_counter() - started, "peak_memory_mb": peak_memory_mb()}


def evaluate(request):
    # RecBole's evaluation propagates first, so ours does as well.
    model.refresh()
    some = {} if request["metrics"] == "all" else {"metrics": request["metrics"], "beyond": False}
    found = full_ranking(model, split.train, split.test, seen=(split.valid,), **some)
    return {"metrics": {k: float(v) for k, v in found.metrics.items()}, "users": found.n_users, "peak_memory_mb": peak_memory_mb()}


def vectors(request):
    model.refresh()
    np.savez(request["to"], users=model.user_vectors().numpy(), items=model.encode_items().numpy())
    return {}


def curve(request):
    """Metrics of the validation part after some epochs."""
    points, seconds = [], 0.0
    for number in range(1, max(request["at"]) + 1):
        seconds += epoch({})["seconds"]
        if number in request["at"]:
            model.network.eval()
            model.refresh()
            found = full_ranking(model, split.train, split.valid, metrics=["recall@10", "ndcg@10"], beyond=False)
            points.append({"epoch": number, **{key: found.metrics[key] for key in ("recall@10", "ndcg@10")}})
    return {"points": points, "seconds": seconds}


serve({"describe": describe, "epoch": epoch, "curve": curve, "evaluate": evaluate, "vectors": vectors})
