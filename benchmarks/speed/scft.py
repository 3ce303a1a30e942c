"""A step of contrastive fine-tuning (SCFT) of `minilm` beside sentence-transformers' own training step, in one run, same texts, same
threads; then the peak memory of one step over 512 contrasts with gradient caching.

    python benchmarks/speed/scft.py --data DIR

DIR holds items.parquet; without it the built-in simulated shop is taken. The pairs of views are drawn once and given to both. Theirs is
what its trainer does at each step (tokenise a batch, two forward passes, MultipleNegativesRankingLoss, backward, AdamW), in training mode:
with the model's own dropout, which is their default, and without it, as lexirec trains. Tokens are real ones, padding not counted, so
tokens per second compare times on equal work. The trainer itself needs the `datasets` package and adds to each step what it logs.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from common import clocked, load_facts, mnrl_turns, training_rows, write

from lexirec.data.demo import simulated_shop
from lexirec.text.prompts import Prompts, attribute_prompts
from lexirec.training.scft import Batch, Scft
from lexirec.training.scft_config import ScftConfig
from lexirec.training.weights import base_encoder


def prompts_of(data: Path | None) -> Prompts:
    items = simulated_shop().items if data is None else pl.read_parquet(data / "items.parquet")
    prompts = attribute_prompts(items)
    kept = np.flatnonzero(~prompts.empty())
    return Prompts(prompts.instruction, [prompts.phrases[i] for i in kept], [prompts.item_ids[i] for i in kept])


def ours(prompts: Prompts, **settings) -> Scft:
    config = ScftConfig(loss="infonce", **settings)
    model = Scft(prompts, config, base_encoder("minilm", device="cpu", **config.reading), epochs=100)
    model.network.train()
    return model


def our_step(model: Scft, batch: Batch, optimiser: torch.optim.Optimizer, bf16: bool) -> float:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = model.loss(batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item()


def peak_mb() -> int | None:
    """This program's own peak; `getrusage` would count that of the parent it was forked from."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


def memory_of(data: Path | None, contrasts: int, micro_batch: int | None, bf16: bool, threads: int) -> None:
    """In a process of its own: resident memory before the step (model, optimiser, catalogue) and at its peak."""
    torch.set_num_threads(threads)
    prompts = prompts_of(data)
    model = ours(prompts, batch_size=contrasts, micro_batch=micro_batch)
    optimiser = model.optimiser()
    batch = next(model.batches(None, np.random.default_rng(0)))
    before = peak_mb()
    start = os.times().elapsed
    our_step(model, batch, optimiser, bf16)
    facts = {"contrasts": len(batch.rows), "micro_batch": micro_batch, "tokens": sum(map(len, batch.tokens)), "bf16": bf16}
    facts |= {"memory_mb_before": before, "peak_memory_mb": peak_mb(), "seconds": round(os.times().elapsed - start, 2)}
    print(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contrasts", type=int, default=512)
    parser.add_argument("--micro-batch", type=int, default=64)
    parser.add_argument("--uncached", action="store_true", help="also the peak of the large step without gradient caching")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory_of(args.data, args.contrasts, args.micro_batch or None, True, args.threads)
        return
    torch.set_num_threads(args.threads)

    prompts = prompts_of(args.data)
    model = ours(prompts, batch_size=args.batch_size)
    optimiser = model.optimiser()
    rng = np.random.default_rng(0)
    picked = [rng.choice(len(prompts), args.batch_size, replace=False) for _ in range(args.steps)]
    pairs = [[[prompts.text(model._cached[row][side]) for row in chosen] for side in (0, 1)] for chosen in picked]
    losses: dict[str, list[float]] = {}

    def our_turn(name: str, bf16: bool):
        def run() -> None:
            # Tokenising is in the clock on both sides.
            losses[name] = [our_step(model, model.batch(chosen, rng), optimiser, bf16) for chosen in picked]

        return run

    jobs = mnrl_turns(pairs, model.config.max_length, 2e-5, losses)
    jobs |= {name: our_turn(name, bf16) for name, bf16 in {"lexirec, float32": False, "lexirec, bf16": True}.items()}
    load = load_facts(args.threads)
    times, processor = clocked(jobs, args.repeats)
    lengths = [[len(ids) for ids in model.batch(chosen, rng).tokens] for chosen in picked]
    tokens = sum(map(sum, lengths))
    table = training_rows(times, processor, losses, tokens)
    n = args.batch_size
    ours_padded = sum(len(g) * max(ls[i] for i in g) for ls in lengths for g in model.groups([[0] * size for size in ls]))
    theirs_padded = sum(n * max(ls[:n]) + n * max(ls[n:]) for ls in lengths)
    memory = []
    for micro_batch in (args.micro_batch, *((0,) if args.uncached else ())):
        command = [sys.executable, __file__, "--memory", "--contrasts", str(args.contrasts), "--micro-batch", str(micro_batch)]
        command += ["--threads", str(args.threads), *(("--data", str(args.data)) if args.data else ())]
        memory.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    write(
        "scft",
        table,
        data=args.data.name if args.data else "simulated shop",
        items=len(prompts),
        batch_size=n,
        tokens_per_turn=tokens,
        padding_share={"lexirec": round(1 - tokens / ours_padded, 3), "sentence-transformers": round(1 - tokens / theirs_padded, 3)},
        **load,
        large_step=memory,
    )


if __name__ == "__main__":
    main()
