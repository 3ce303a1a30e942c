"""What the speed benches share: interleaved timing, machine facts, sentence-transformers' training step, one result file."""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from lexirec.runs import peak_memory_mb, versions
from lexirec.text.encoders import hub

MNRL = "sentence-transformers, MNRL, defaults (float32)"
"""Name of :func:`mnrl_turns`' job with the defaults."""
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


def load_facts(threads: int) -> dict[str, Any]:
    """Facts for :func:`write` on what else ran; to be asked before the turns."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "threads": threads,
        "load_average_at_start": None if load is None else round(load, 1),
        "note": "a load average above the threads used means that other jobs shared the cores: then read processor seconds, with one"
        " thread",
    }


def clocked(jobs: Mapping[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """As :func:`interleaved` with one turn to warm up, and the processor's seconds of the same turns."""
    processor: dict[str, list[float]] = {name: [] for name in jobs}

    def timed(name: str, job: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            start = time.process_time()
            job()
            processor[name].append(time.process_time() - start)

        return run

    times = interleaved({name: timed(name, job) for name, job in jobs.items()}, repeats, warmup=1)
    return times, {name: seconds[1:] for name, seconds in processor.items()}


def training_rows(
    times: Mapping[str, list[float]], processor: Mapping[str, list[float]], losses: Mapping[str, list[float]], tokens: int
) -> list[dict[str, Any]]:
    """As :func:`rows` beside :data:`MNRL`, with tokens per second and each job's last loss; ``tokens`` are those of a turn."""
    table = rows(times, MNRL)
    for row in table:
        row["tokens per second"] = round(tokens / row["seconds"])
        spent = statistics.median(processor[row["what"]])
        row["processor seconds"] = round(spent, 2)
        row["tokens per processor second"] = round(tokens / spent)
        row["last loss"] = round(losses[row["what"]][-1], 4)
    return table


def mnrl_turns(
    steps: Sequence[Sequence[list[str]]], max_length: int, lr: float, losses: dict[str, list[float]]
) -> dict[str, Callable[[], None]]:
    """sentence-transformers' own training of the bundled encoder with MultipleNegativesRankingLoss, a job per way of training.

    Args:
        steps: texts of each step: anchors, positives and, where there are any, negatives.
        max_length: tokens of a text at most.
        lr: learning rate of AdamW.
        losses: filled with each step's loss of each job's last turn.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    def turn(name: str, bf16: bool, dropout: bool) -> Callable[[], None]:
        model = SentenceTransformer(str(hub.bundled_folder()), device="cpu")
        model.max_seq_length = max_length
        if not dropout:
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        loss_of = MultipleNegativesRankingLoss(model)
        optimiser = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)

        def run() -> None:
            model.train()
            losses[name] = []
            for texts in steps:
                features = [model.preprocess(side) for side in texts]
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    loss = loss_of(features, None)
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                losses[name].append(loss.item())

        return run

    ways = {
        MNRL: (False, True),
        "sentence-transformers, MNRL, no dropout (float32)": (False, False),
        "sentence-transformers, MNRL, no dropout, bf16": (True, False),
    }
    return {name: turn(name, *way) for name, way in ways.items()}


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
