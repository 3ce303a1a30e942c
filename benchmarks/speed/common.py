"""What the speed benches share: interleaved timing, machine facts, one result file."""

import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from lexirec.runs import peak_memory_mb, versions

RESULTS = Path(__file__).parents[1] / "results" / "speed"


def machine() -> str:
    """Processor and threads."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        name += "".join(f" {flag}" for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {flag} " in f"{flags} ")
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def interleaved(jobs: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 1) -> dict[str, list[float]]:
    """Seconds of each job, run in turn (A B C, A B C, ...), so that a drift of the machine's speed hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(warmup + repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return times


def rows(times: Mapping[str, list[float]], baseline: str, scale: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """A row per job: median, range, and how many times faster than ``baseline`` (median of the turns' ratios)."""
    out = []
    for name, seconds in times.items():
        factor = (scale or {}).get(name, 1.0)
        base = (scale or {}).get(baseline, 1.0)
        ratio = statistics.median(b * base / (s * factor) for b, s in zip(times[baseline], seconds, strict=True))
        out.append(
            {
                "what": name,
                "seconds": round(statistics.median(seconds) * factor, 4),
                "min": round(min(seconds) * factor, 4),
                "max": round(max(seconds) * factor, 4),
                f"times faster than {baseline}": round(ratio, 2),
            }
        )
    return out


def write(name: str, table: list[dict[str, Any]], **facts: Any) -> None:
    """Write ``benchmarks/results/speed/<name>.json`` and show it on stderr."""
    words = [Path(w).name if "/" in w and not w.startswith("benchmarks") else w for w in sys.argv]
    document = {
        "command": shlex.join(["python", *words]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(),
        "peak_memory_mb": peak_memory_mb(),
        **facts,
        "rows": table,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1), file=sys.stderr)
