"""Writing profiles without a language model: 10,000 items and 20,000 users with reviews, on one thread.

    python benchmarks/speed/profiles.py [--data DIR]

Without DIR the shop is made here: titles, brands, category paths, descriptions and 200,000 events with reviews of 60 words. Read and write
of files are outside the clock; four versions of each text are inside. Processor seconds are what the
writing takes on a machine that does nothing else.
"""

import argparse
import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
from common import write

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.text.plain_writer import PlainWriter


def made(n_items: int, n_users: int, n_events: int) -> TrainSet:
    """A shop with tastes: each person keeps to three of a hundred categories."""
    rng = np.random.default_rng(0)
    words = np.array(
        [f"{a}{b}{c}" for a in ("ba", "ko", "li", "mu", "re") for b in ("nor", "tal", "vis", "dem") for c in "abcdefghijklmnopqrstuvwxy"]
    )
    kind = rng.integers(0, 100, n_items)

    def sentences(n: int, length: int) -> list[str]:
        picked = words[(rng.zipf(1.3, (n, length)) - 1) % len(words)]
        return [" ".join(row) for row in picked]

    items = pl.DataFrame(
        {
            "item_id": [f"{i:06}" for i in range(n_items)],
            "title": sentences(n_items, 9),
            "brand": words[rng.integers(0, 300, n_items)],
            "categories": [[f"Shop > Aisle {k // 10} > Shelf {k}"] for k in kind.tolist()],
            "description": sentences(n_items, 80),
        }
    )
    by_kind = [np.flatnonzero(kind == k) for k in range(100)]
    tastes = rng.integers(0, 100, (n_users, 3))
    users = np.sort(rng.integers(0, n_users, n_events))
    chosen = [int(rng.choice(by_kind[k])) for k in tastes[users, rng.integers(0, 3, n_events)].tolist()]
    log = pl.DataFrame(
        {
            "user_id": [f"u{u:06}" for u in users.tolist()],
            "item_id": items["item_id"].gather(chosen),
            "timestamp": np.arange(n_events),
            "review": sentences(n_events, 60),
        }
    )
    return Dataset.from_frames(log, items, name="made").train_set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    train = Dataset.read(args.data).split("all").train if args.data else made(10_000, 20_000, 200_000)
    table = []
    for what, writer in (("versions=3", PlainWriter(3)), ("versions=0, collaborative=False", PlainWriter(0, collaborative=False))):
        seconds, used = [], []
        for _ in range(args.repeats):
            start, processor = time.perf_counter(), time.process_time()
            profiles = writer.write(train)
            seconds.append(time.perf_counter() - start)
            used.append(time.process_time() - processor)
        median = sorted(seconds)[len(seconds) // 2]
        table.append(
            {
                "what": what,
                "seconds": round(median, 2),
                "min": round(min(seconds), 2),
                "max": round(max(seconds), 2),
                "processor seconds": round(sorted(used)[len(used) // 2], 2),
            }
        )
    histories = [train.history(u) for u in range(min(train.n_users, 5000))]
    start = time.perf_counter()
    writer.user_texts(histories)
    table.append({"what": f"user_texts of {len(histories):,} histories, on the fly", "seconds": round(time.perf_counter() - start, 3)})
    write("profiles", table, items=train.n_items, users=train.n_users, events=train.n_interactions, example=profiles.user_texts()[0])


if __name__ == "__main__":
    main()
