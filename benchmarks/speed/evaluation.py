"""Speed and memory of evaluation, beside the plain reference that it is measured against: blockwise matrix product + topk(20).

    python benchmarks/speed/evaluation.py --data DIR     # a folder with interactions and items; without it, a random log of Beauty's size
    python benchmarks/speed/evaluation.py --large        # also 100,000 users x 100,000 items, 64 dims (a few minutes)

Reference and lexirec take turns in one process with the same vectors and threads; the ratio is of the medians. Memory is measured in fresh
processes. Writes benchmarks/results/speed/evaluation.json.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lexirec.data.dataset import Dataset, Heldout, TrainSet
from lexirec.evaluation import evaluate
from lexirec.files import read_json, write_json

OUT = Path(__file__).resolve().parents[1] / "results" / "speed" / "evaluation.json"
BEAUTY = (22_363, 12_101, 8)
"""Users, items, events a user."""


class Vectors:
    """Random vectors: what a fitted model gives once its own work is done."""

    vector_scores = True

    def __init__(self, train: TrainSet, dim: int, needs_history: bool = True, whole_numbers: bool = False) -> None:
        draw = torch.Generator().manual_seed(0)
        self.needs_history = needs_history
        self.items = torch.randn(train.n_items, dim, generator=draw)
        self.users = torch.randn(train.n_users, dim, generator=draw)
        if whole_numbers:
            self.items, self.users = self.items.round(), self.users.round()
        self.index = {name: at for at, name in enumerate(train.users.ids.to_list())}

    def encode_items(self) -> torch.Tensor:
        return self.items

    def encode_queries(self, queries) -> torch.Tensor:
        return self.users[torch.tensor([self.index[query.user_id] for query in queries])]


def reference(users: torch.Tensor, items: torch.Tensor, block: int) -> None:
    """What no evaluation can do without: the scores of all users, and the first 20 of each."""
    for start in range(0, len(users), block):
        torch.topk(users[start : start + block] @ items.T, 20)


def random_split(n_users: int, n_items: int, events: int) -> tuple[TrainSet, Heldout, Heldout]:
    """A random log: the last event is test, the one before validation."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(n_users), events)
    picks = (rng.random(n_users * events) ** 2 * n_items).astype(np.int64)
    log = pl.DataFrame({"user_id": users, "item_id": picks, "timestamp": np.tile(np.arange(events), n_users)})
    log = log.with_columns(pl.col("user_id", "item_id").cast(pl.String).str.zfill(8)).unique(["user_id", "item_id"], maintain_order=True)
    ids = pl.Series(np.arange(n_items)).cast(pl.String).str.zfill(8)
    data = Dataset(log, pl.DataFrame({"item_id": ids, "title": ids}), "random")
    place = np.arange(data.n_interactions) - data.offsets[data.user_index]
    left = np.diff(data.offsets)[data.user_index] - place
    return data.train_set(left > 2), data.heldout(left == 2, "valid"), data.heldout(left == 1, "test")


def load(folder: str | None) -> tuple[TrainSet, Heldout, Heldout]:
    if folder is None:
        return random_split(*BEAUTY)
    split = Dataset.read(folder).split("ratio")
    return split.train, split.valid, split.test


def _memory(field: str) -> float:
    """A line of /proc/self/status in MB (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure_memory(folder: str | None, large: bool) -> dict[str, float]:
    """Peak memory of one evaluation in this process, over what was in use before it."""
    if large:
        train, valid, test = random_split(100_000, 100_000, 6)
    else:
        train, valid, test = load(folder)
    model = Vectors(train, 64)
    model.encode_items() @ model.encode_items()[:4].T  # the libraries' own buffers are not evaluation's
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = _memory("VmRSS")
    found = evaluate(model, train, test, seen=(valid,), groups=not large)
    return {
        "users": found.n_users,
        "items": train.n_items,
        "seconds": round(found.seconds, 2),
        "peak_extra_mb": round(_memory("VmHWM") - before, 1),
        "peak_total_mb": round(_memory("VmHWM"), 1),
    }


def in_fresh_process(arguments: list[str]) -> dict[str, float]:
    target = OUT.with_name(f"memory-{os.getpid()}.json")
    try:
        subprocess.run([sys.executable, __file__, *arguments, "--memory-to", str(target)], check=True)
        return read_json(target)
    finally:
        target.unlink(missing_ok=True)


def timed(function) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a data set folder; by default a random log of Beauty's size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="also 100,000 users x 100,000 items")
    parser.add_argument("--memory-to", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory_to:
        write_json(options.memory_to, measure_memory(options.data, options.large))
        return

    train, valid, test = load(options.data)
    model, light, ties = Vectors(train, 64), Vectors(train, 64, needs_history=False), Vectors(train, 64, whole_numbers=True)
    ranked = len(np.unique(test.user_index))
    users = model.users[torch.from_numpy(np.unique(test.user_index).astype(np.int64))]
    seen = (valid,)
    jobs = {
        "reference, blocks of 256": lambda: reference(users, model.items, 256),
        "reference, blocks of 4096": lambda: reference(users, model.items, 4096),
        "all metrics": lambda: evaluate(model, train, test, seen=seen),
        "all metrics, many ties": lambda: evaluate(ties, train, test, seen=seen),
        "all metrics and groups": lambda: evaluate(model, train, test, seen=seen, groups=True),
        "validation: recall@20 and ndcg@20": lambda: evaluate(light, train, test, metrics=["recall@20", "ndcg@20"], beyond=False),
        "sampled: 100 negatives": lambda: evaluate(model, train, test, seen=seen, sampled=100),
    }
    for job in jobs.values():
        job()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(options.rounds):
        for name, job in jobs.items():
            times[name].append(timed(job))
    wall = {name: statistics.median(t[0] for t in found) for name, found in times.items()}
    cpu = {name: statistics.median(t[1] for t in found) for name, found in times.items()}
    best = {name: min(t[0] for t in found) for name, found in times.items()}
    plain = min((name for name in jobs if name.startswith("reference")), key=lambda name: wall[name])
    rows = [
        {
            "what": name, "seconds": round(wall[name], 3), "seconds_best": round(best[name], 3), "cpu_seconds": round(cpu[name], 3),
            "ratio": round(wall[name] / wall[plain], 3), "ratio_best": round(best[name] / best[plain], 3),
            "ratio_cpu": round(cpu[name] / cpu[plain], 3),
        }
        for name in jobs
    ]  # fmt: skip
    memory = in_fresh_process([*(["--data", options.data] if options.data else []), "--threads", str(options.threads)])
    asked = [*(["--data DIR"] if options.data else []), *(["--large"] if options.large else [])]
    asked += [f"--threads {options.threads}", f"--rounds {options.rounds}"]
    result = {
        "what": "evaluation beside blockwise matrix product + topk(20)",
        "command": f"python benchmarks/speed/evaluation.py {' '.join(asked)}",
        "data": Path(options.data).name if options.data else "random",
        "users": ranked, "items": train.n_items, "targets": len(test), "dim": 64,
        "machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores", "threads": options.threads, "rounds": options.rounds,
        "load_average": round(os.getloadavg()[0], 2),
        "reference": plain, "rows": rows, "memory": [memory],
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__, "polars": pl.__version__},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }  # fmt: skip
    if options.large:
        result["memory"].append(in_fresh_process(["--large", "--threads", str(options.threads)]))
    elif OUT.exists():
        result["memory"] += read_json(OUT)["memory"][1:]
    write_json(OUT, result)
    for row in rows:
        print(
            f"{row['what']:36} {row['seconds']:8.3f} s  {row['ratio']:6.2f} x  (best {row['ratio_best']:.2f}, cpu {row['ratio_cpu']:.2f})"
        )
    print(f"peak extra memory {memory['peak_extra_mb']} MB", *result["memory"][1:])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(line.split("\t: ", 1) if "\t: " in line else (line, "") for line in lines)
    model = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return f"{model[0] if model else 'unknown'} (family {fields.get('cpu family', '?')})"


if __name__ == "__main__":
    main()
