"""One AlphaRec epoch (MLP 384-192-64, 3 layers, 256 negatives, batch 2048) beside a plain reference, in one run; first the losses are
compared.

    python benchmarks/speed/alpharec.py --data DIR

The reference is written as the formulas stand: MLP over the text vectors of all users and items, COO product of the whole adjacency,
negatives drawn with rejection
against a sorted list of all pairs and gathered, cross entropy, Adam.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import interleaved, rows, write
from torch import nn

from lexirec.data.dataset import TrainSet
from lexirec.data.readers import read_dataset
from lexirec.models.alpharec import AlphaRec


class Plain:
    """AlphaRec by the formulas, with the weights of a lexirec model."""

    def __init__(self, model: AlphaRec, train: TrainSet, n_negatives: int = 256, batch: int = 2048) -> None:
        self.tau, self.layers, self.n, self.batch = model.config.tau, model.config.num_layers, n_negatives, batch
        text = model.text
        self.text = torch.cat([model.graph.mean_of_items(text), text])
        network = model.network
        if network.second is None:
            self.network = nn.Sequential(nn.Linear(text.shape[1], 64, bias=False))
        else:
            self.network = nn.Sequential(
                nn.Linear(text.shape[1], network.first.out_features), nn.LeakyReLU(0.01), nn.Linear(network.first.out_features, 64)
            )
            self.network[2].load_state_dict(network.second.state_dict())
        self.network[0].load_state_dict(network.first.state_dict())
        rows_of = model.graph.adjacency
        size = len(self.text)
        self.adjacency = (
            torch.sparse_csr_tensor(rows_of.starts, rows_of.columns, rows_of.weights, (size, size), check_invariants=False)
            .to_sparse_coo()
            .coalesce()
        )
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=5e-4)
        starts, items = train.pairs
        self.users, self.items, self.n_users, self.n_items = train.user_index, items, train.n_users, train.n_items
        self.starts = starts
        self.keys = np.repeat(np.arange(train.n_users), np.diff(starts)) * self.n_items + items

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        users = rng.integers(0, self.n_users, self.batch)
        lengths = np.diff(self.starts)[users]
        positives = self.items[self.starts[users] + (rng.random(self.batch) * lengths).astype(np.int64)]
        negatives = rng.integers(0, self.n_items, (self.batch, self.n))
        while True:
            keys = users[:, None] * self.n_items + negatives
            at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            bad = self.keys[at] == keys
            if not bad.any():
                break
            negatives[bad] = rng.integers(0, self.n_items, int(bad.sum()))
        return torch.from_numpy(users), torch.from_numpy(positives.astype(np.int64)), torch.from_numpy(negatives)

    def loss(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
        layer = self.network(self.text)
        total = layer
        for _ in range(self.layers):
            layer = torch.sparse.mm(self.adjacency, layer)
            total = total + layer
        vectors = nn.functional.normalize(total / (self.layers + 1), dim=1)
        chosen = (
            torch.cat([positives[:, None], negatives if negatives.ndim == 2 else negatives.expand(len(users), -1)], dim=1) + self.n_users
        )
        logits = torch.einsum("bd,bnd->bn", vectors[users], vectors[chosen]) / self.tau
        return nn.functional.cross_entropy(logits, torch.zeros(len(users), dtype=torch.long))

    def steps(self, n: int, rng: np.random.Generator) -> None:
        for _ in range(n):
            loss = self.loss(*self.draw(rng))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--split", default="leave-one-out")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train = read_dataset(args.data).split(args.split).train
    variants = {
        "lexirec, per-sample negatives": ({}, False),
        "lexirec, per-sample negatives, bf16 products": ({}, True),
        "lexirec, shared negatives": ({"negatives": "shared"}, False),
        "lexirec, shared negatives, bf16 products": ({"negatives": "shared"}, True),
        "lexirec, linear projector, shared negatives": ({"negatives": "shared", "projector": "linear"}, False),
    }
    models = {}
    for name, (settings, low) in variants.items():
        model = AlphaRec(num_layers=3, **settings)
        model.remember(train)
        torch.manual_seed(0)
        model.build(train, np.random.default_rng(0))
        models[name] = (model, model.optimiser(), low)
    plain = Plain(models["lexirec, per-sample negatives"][0], train)
    plain_linear = Plain(models["lexirec, linear projector, shared negatives"][0], train)

    differences = {}
    for name, (model, _, low) in models.items():
        reference = plain_linear if "linear" in name else plain
        batch = next(model.batches(train, np.random.default_rng(2)))
        model.network.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            ours = model.loss(batch).item()
        differences[name] = abs(ours - reference.loss(*batch).item())

    rng = np.random.default_rng(3)

    def steps(name: str) -> None:
        model, optimiser, low = models[name]
        batches = model.batches(train, rng)
        for _ in range(args.steps):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                loss = model.loss(next(batches))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    jobs = {"plain reference": lambda: plain.steps(args.steps, rng)} | {name: (lambda name=name: steps(name)) for name in models}
    times = interleaved(jobs, args.repeats)
    per_epoch = models["lexirec, per-sample negatives"][0].n_batches(train) / args.steps
    table = rows(times, "plain reference", dict.fromkeys(times, per_epoch))
    for row in table:
        row["loss difference to the reference"] = differences.get(row["what"], 0.0)
    write("alpharec", table, data=train.name, steps_timed=args.steps)


if __name__ == "__main__":
    main()
