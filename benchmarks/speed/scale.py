"""How time and memory grow with the log: 0.1, 1 and 10 million interactions.

    python benchmarks/speed/scale.py --interactions 100000 1000000 10000000

Write, read, 5-core, split, one LightGCN epoch (64 dimensions, 3 layers), evaluation of 10,000 users. Each size runs in a process
of its own, so that the peak is its own. The log is written to Parquet first, so that reading is measured too. A step passes over the
whole graph, so the batch grows with the log: an epoch stays at about 40 steps.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from common import write

from lexirec.data import Dataset, k_core, read_dataset, split_dataset
from lexirec.data.dataset import Heldout
from lexirec.evaluation.evaluate import evaluate
from lexirec.models.lightgcn import LightGCN
from lexirec.training.options import TrainingOptions


def synthetic_log(n_interactions: int, n_users: int, n_items: int, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A log with popularity-skewed items (rank ** -0.8) and geometric user activity, and a catalogue with titles.

    Items are drawn independently of users, so there is nothing to learn: it is for time and memory only.

    Returns:
        ``interactions`` (user_id, item_id, timestamp) in random order and ``items`` (item_id, title).
    """
    rng = np.random.default_rng(seed)
    popularity = np.cumsum(np.arange(1, n_items + 1, dtype=np.float64) ** -0.8)
    activity = np.cumsum(rng.exponential(size=n_users) + 0.3)
    items = np.searchsorted(popularity, rng.random(n_interactions) * popularity[-1]).astype(np.int32)
    users = np.searchsorted(activity, rng.random(n_interactions) * activity[-1]).astype(np.int32)
    log = pl.DataFrame({"user": users, "item": items, "timestamp": rng.integers(1_400_000_000, 1_600_000_000, n_interactions)}).select(
        pl.format("u{}", "user").alias("user_id"), pl.format("i{}", "item").alias("item_id"), "timestamp"
    )
    words = ["red", "small", "oak", "steel", "soft", "garden", "travel", "kitchen", "lamp", "chair", "brush", "bag"]
    numbers = pl.int_range(n_items, eager=True)
    titles = pl.DataFrame(
        {
            "item_id": pl.select(pl.format("i{}", numbers)).to_series(),
            "title": [f"{words[i % 12]} {words[i // 12 % 12]} {words[i // 144 % 12]} {i}" for i in range(n_items)],
        }
    )
    return log, titles


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(report: list[dict[str, Any]], stage: str, work: Callable[[], Any]) -> Any:
    """Run ``work``, note its seconds on the clock, those of all its threads together (steadier on a busy machine) and the peak memory."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu_seconds = round(time.perf_counter() - start, 2), round(time.process_time() - cpu, 2)
    report.append({"stage": stage, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": round(peak_mb())})
    return result


def data_part(n_interactions: int, n_users: int, n_items: int, report: list[dict[str, Any]], seed: int = 0) -> Any:
    """Write, read, 5-core and cut a synthetic log; returns the split."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, titles = timed(report, "make", lambda: synthetic_log(n_interactions, n_users, n_items, seed))
        log.write_parquet(folder / "interactions.parquet")
        titles.write_parquet(folder / "items.parquet")
        del log, titles
        data: Dataset = timed(report, "read", lambda: read_dataset(folder))
    timed(report, "hash", lambda: data.content_hash)
    core = timed(report, "5-core", lambda: k_core(data, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        split = timed(report, "split ratio", lambda: split_dataset(core, "ratio"))
    report.append({"stage": "core", "users": core.n_users, "items": core.n_items, "interactions": core.n_interactions})
    return split


def model_part(split: Any, report: list[dict[str, Any]], threads: int) -> None:
    """One LightGCN epoch and the evaluation of 10,000 users."""
    torch.set_num_threads(threads)
    batch = max(2048, split.train.n_interactions // 40)
    model = LightGCN(batch_size=batch)
    timed(report, "LightGCN epoch", lambda: model.fit(split.train, options=TrainingOptions(epochs=1, progress=False, threads=threads)))
    users = np.unique(split.test.user_index)
    chosen = np.random.default_rng(0).choice(users, min(10_000, len(users)), replace=False)
    kept = np.isin(split.test.user_index, chosen)
    targets = Heldout(split.test.user_index[kept], split.test.item_index[kept])
    timed(report, "evaluate", lambda: evaluate(model, split.train, targets, seen=(split.valid,)))
    report.append({"stage": "model", "batch": batch, "users evaluated": len(chosen)})


def one_size(interactions: int, threads: int) -> list[dict[str, Any]]:
    """Every stage of one size, in this process; a user per 10 and an item per 50 interactions."""
    report: list[dict[str, Any]] = []
    split = data_part(interactions, max(interactions // 10, 10), max(interactions // 50, 10), report)
    model_part(split, report, threads)
    return report


def row_of(interactions: int, report: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table: seconds of each stage and the peak."""
    timings = {stage["stage"]: stage for stage in report if "seconds" in stage}
    seconds = {f"{name} s": stage["seconds"] for name, stage in timings.items() if name != "make"}
    (core,) = (stage for stage in report if stage["stage"] == "core")
    (model,) = (stage for stage in report if stage["stage"] == "model")
    left = {f"{name} left": f"{core[name]:,}" for name in ("users", "items", "interactions")}
    peak = max(stage["peak_mb"] for stage in timings.values())
    return {"interactions": f"{interactions:,}", **left, **seconds, "batch": f"{model['batch']:,}", "peak MB": peak}


def main() -> None:
    """Measure each size in a fresh process and write benchmarks/results/speed/scale.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="measure one size here and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_size(options.interactions[0], options.threads)))
        return
    reports = {}
    for size in options.interactions:
        command = [sys.executable, __file__, "--one", "--interactions", str(size), "--threads", str(options.threads)]
        reports[size] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        write("scale", [row_of(n, report) for n, report in reports.items()], stages={str(n): report for n, report in reports.items()})


if __name__ == "__main__":
    main()
