"""How time and memory grow with the log: 0.1, 1 and 10 million interactions.

    python benchmarks/speed/scale.py [--interactions 10000000] [--users 1000000] [--items 200000] [--json]

Each stage is timed in this process; the peak is of the whole process so far. The log is written to Parquet first, so that
reading is measured too.
"""

import argparse
import json
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lexirec.data import Dataset, k_core, read_dataset, split_dataset


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


def main() -> None:
    """Measure one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument("--users", type=int)
    parser.add_argument("--items", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n = options.interactions
    report: list[dict[str, Any]] = []
    data_part(n, options.users or max(n // 10, 10), options.items or max(n // 50, 10), report)
    if options.json:
        print(json.dumps({"interactions": n, "stages": report}))
        return
    for row in report:
        print(", ".join(f"{k} {v:,}" if isinstance(v, int | float) else f"{v:<12}" for k, v in row.items()))


if __name__ == "__main__":
    main()
