"""Encoding a catalogue's titles with `minilm` beside `SentenceTransformer.encode` at its defaults, in one run, same weights, same threads.

    python benchmarks/speed/encode.py --data DIR

DIR holds items.parquet. A sample of titles is encoded by both in turn (three turns, medians), then all titles once by each. Model loading
and the cache are outside the clock. Both precisions of lexirec are shown: `auto` is bfloat16 where the CPU multiplies it in hardware.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from common import interleaved, rows, write
from sentence_transformers import SentenceTransformer

from lexirec.text import load_encoder, render
from lexirec.text.encoders import hub

THEIRS, AUTO, FULL = "SentenceTransformer.encode, defaults", "lexirec minilm", "lexirec minilm, float32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--sample", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-full", action="store_true", help="leave out the run over all titles")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    titles = [title for title in render(pl.read_parquet(args.data / "items.parquet"), "title") if title]
    rng = np.random.default_rng(0)
    sample = [titles[i] for i in rng.choice(len(titles), min(args.sample, len(titles)), replace=False)]
    theirs = SentenceTransformer(str(hub.bundled_folder()), device="cpu")
    auto: Any = load_encoder("minilm", device="cpu")
    full = load_encoder("minilm", precision="float32", device="cpu")
    vectors: dict[str, np.ndarray] = {}

    def job(name: str, encode, texts: list[str]):
        def run() -> None:
            vectors[name] = encode(texts)

        return run

    def by_them(texts: list[str]) -> np.ndarray:
        return theirs.encode(texts, show_progress_bar=False)

    for encoder in (auto, full):
        encoder.encode(sample[:64], progress=False)  # loads the weights
    by_them(sample[:64])
    jobs = {
        THEIRS: by_them,
        AUTO: lambda texts: auto.encode(texts, progress=False),
        FULL: lambda texts: full.encode(texts, progress=False),
    }
    table = rows(interleaved({name: job(name, encode, sample) for name, encode in jobs.items()}, args.repeats, warmup=0), THEIRS)
    facts = {"titles": len(sample), "threads": args.threads, "precision": auto.precision}
    # Two threads beside other work lose most of their time in waiting for each other: both sides, but a reader should know.
    facts["load_average"] = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    facts["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "default")
    faster = f"times faster than {THEIRS}"
    facts["ratio"] = next(row for row in table if row["what"] == AUTO)[faster]
    facts["min_cosine"] = _least_cosine(vectors[AUTO], vectors[THEIRS])
    facts["min_cosine_float32"] = _least_cosine(vectors[FULL], vectors[THEIRS])
    if not args.no_full:
        del jobs[FULL]
        whole = rows(interleaved({name: job(name, encode, titles) for name, encode in jobs.items()}, 1, warmup=0), THEIRS)
        table += [{**row, "what": f"{row['what']}, all {len(titles):,} titles once"} for row in whole]
        facts["ratio_all_titles"] = whole[-1][faster]
        facts["min_cosine_all_titles"] = _least_cosine(vectors[AUTO], vectors[THEIRS])
    write("encode", table, data=args.data.name, **facts)


def _least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return round(float(((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()), 6)


if __name__ == "__main__":
    main()
