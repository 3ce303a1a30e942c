"""One LightGCN epoch (64 dimensions, 3 layers, batch 2048, BPR, Adam) beside its sparse products alone, in one run.

    python benchmarks/speed/lightgcn.py --data DIR

Sides: lexirec's step; the six products of a step alone as PyTorch CSR and COO products of the same adjacency (forward and backward
through three layers);
the same six as lexirec computes them. Each is timed on a number of steps and scaled to the epoch.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import interleaved, rows, write

from lexirec.data.readers import read_dataset
from lexirec.models.layers.graph import product
from lexirec.models.lightgcn import LightGCN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="leave-one-out")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train = read_dataset(args.data).split(args.split).train
    model = LightGCN(num_layers=3)
    model.remember(train)
    model.build(train, np.random.default_rng(0))
    optimiser = model.optimiser()
    rng = np.random.default_rng(1)
    rows_of = model.graph.adjacency
    n = train.n_users + train.n_items
    csr = torch.sparse_csr_tensor(rows_of.starts, rows_of.columns, rows_of.weights, (n, n), check_invariants=False)
    coo = csr.to_sparse_coo()
    x = torch.randn(n, 64)

    def epoch_part() -> None:
        batches = model.batches(train, rng)
        for _ in range(args.steps):
            loss = model.loss(next(batches))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    def products(matrix: torch.Tensor | None) -> None:
        for _ in range(args.steps * 6):
            if matrix is None:
                product(rows_of, x)
            else:
                torch.sparse.mm(matrix, x)

    with torch.no_grad():
        jobs = {
            "lexirec epoch": torch.enable_grad()(epoch_part),
            "products alone, PyTorch CSR": lambda: products(csr),
            "products alone, PyTorch COO": lambda: products(coo),
            "products alone, lexirec": lambda: products(None),
        }
        times = interleaved(jobs, args.repeats)
    per_epoch = model.n_batches(train) / args.steps
    table = rows(times, "products alone, PyTorch CSR", dict.fromkeys(times, per_epoch))
    write("lightgcn", table, data=train.name, batches_per_epoch=model.n_batches(train), steps_timed=args.steps)


if __name__ == "__main__":
    main()
