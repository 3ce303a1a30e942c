"""Epochs of the sequential models beside plain references that pad every window to 50 places, in one run.

    python benchmarks/speed/sequential.py --data DIR

Sides, each timed on a number of steps and scaled to the epoch (the same windows, batch and width for both):
SASRec with binary cross entropy; SASRec with cross entropy over all items (fp32 and bf16 products), the plain one at the real places
only and, as most toolkits do, at all 50; BERT4Rec; LLMEmb's second stage against the same encoder with ids; one step of sampled softmax
over a million items.
"""

import argparse
import math
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from common import interleaved, rows, write
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.data.readers import read_dataset
from lexirec.models import create
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.sequential import SequentialRecommender
from lexirec.training.options import TrainingOptions

PLACES = 50
FIRST = "times faster than the group's first"
SASREC = {"embedding_dim": 64, "max_len": PLACES, "num_layers": 2, "dropout": 0.5, "batch_size": 512}


class Plain(nn.Module):
    """A transformer over windows padded on the left to ``PLACES``, as in the well-known public code: own attention modules of PyTorch."""

    def __init__(self, n_items: int, dim: int, heads: int, inner: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 2, dim, padding_idx=0)
        self.places = nn.Embedding(PLACES, dim)
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(4)])
        self.attention = nn.ModuleList([nn.MultiheadAttention(dim, heads, dropout, batch_first=True) for _ in range(2)])
        self.forward_parts = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(dim, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, dim), nn.Dropout(dropout))
                for _ in range(2)
            ]
        )
        self.drop, self.causal = nn.Dropout(dropout), causal

    def forward(self, items: Tensor) -> Tensor:
        hidden = self.drop(self.items(items) * math.sqrt(self.items.embedding_dim) + self.places.weight)
        mask = torch.ones(PLACES, PLACES, dtype=torch.bool).triu(1) if self.causal else None
        pads = None if self.causal else items == 0
        for i in range(2):
            mixed, _ = self.attention[i](hidden, hidden, hidden, attn_mask=mask, key_padding_mask=pads, need_weights=False)
            hidden = self.norms[2 * i](hidden + mixed)
            hidden = self.norms[2 * i + 1](hidden + self.forward_parts[i](hidden))
            hidden = hidden * (items > 0)[:, :, None]
        return hidden


def padded(batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Item numbers from 1, and targets (0 where there is none), ``(B, PLACES)`` each."""
    items = torch.zeros(len(batch.layout.lengths), PLACES, dtype=torch.int64)
    targets = torch.zeros_like(items)
    every = torch.full((batch.layout.total,), 0)
    every[slice(None) if batch.at is None else batch.at] = batch.targets + 1
    for i, (start, n) in enumerate(zip(batch.layout.starts, batch.layout.lengths, strict=True)):
        items[i, PLACES - n :] = batch.inputs[start : start + n] + 1
        targets[i, PLACES - n :] = every[start : start + n]
    return items, targets


def plain_steps(model: Plain, data: list[tuple[Tensor, Tensor]], loss: str, n_items: int) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def bce(hidden: Tensor, targets: Tensor) -> Tensor:
        negatives = torch.randint(1, n_items + 1, targets.shape)
        up, down = (hidden * model.items(targets)).sum(-1), (hidden * model.items(negatives)).sum(-1)
        real = targets > 0
        return F.softplus(-up[real]).mean() + F.softplus(down[real]).mean()

    def run() -> None:
        model.train()
        for items, targets in data:
            hidden = model(items)
            if loss == "bce":
                value = bce(hidden, targets)
            elif loss == "ce":
                real = targets > 0
                value = F.cross_entropy(hidden[real] @ model.items.weight.T, targets[real])
            else:
                value = F.cross_entropy((hidden @ model.items.weight.T).view(-1, n_items + 2), targets.view(-1), ignore_index=0)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()

    return run


def our_steps(model: SequentialRecommender, train: TrainSet, steps: int, low: bool = False) -> Callable[[], None]:
    optimiser, rng = model.optimiser(), np.random.default_rng(1)

    def run() -> None:
        model.network.train()
        for i, batch in enumerate(model.batches(train, rng)):
            if i == steps:
                break
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                loss = model.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

    return run


def built(name: str, train: TrainSet, **settings: object) -> SequentialRecommender:
    model = create(name, **settings).fit(train, options=TrainingOptions(epochs=0, progress=False, device="cpu"))
    assert isinstance(model, SequentialRecommender)
    return model


def million_items() -> dict[str, object]:
    """One step of sampled softmax with a million items: seconds and peak memory of this process afterwards."""
    rng = np.random.default_rng(0)
    n_items, users, length = 1_000_000, 4096, 10
    import polars as pl

    from lexirec.data.dataset import Dataset

    names = np.array([f"i{i:07d}" for i in range(n_items)])
    log = pl.DataFrame(
        {
            "user_id": np.repeat([f"u{u:05d}" for u in range(users)], length),
            "item_id": names[rng.integers(0, n_items, users * length)],
            "timestamp": np.tile(np.arange(length), users),
        }
    )
    train = Dataset(log, pl.DataFrame({"item_id": names, "title": names}), "million").train_set()
    model = built("sasrec", train, **{**SASREC, "loss": "softmax", "negatives": "shared", "num_negs": 4096})
    times = interleaved({"step": our_steps(model, train, 4)}, 3)["step"]
    return {
        "what": "SASRec, sampled softmax (4,096 shared), 1,000,000 items: one step of 512 windows (peak memory: of the whole bench)",
        "seconds": round(float(np.median(times)) / 4, 4),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train = read_dataset(args.data).split("leave-one-out").train
    steps, n_items = args.steps, train.n_items
    table = []
    epoch = -(-int((np.diff(train.offsets) >= 2).sum()) // 512) / steps

    def compare(jobs: dict[str, Callable[[], None]], baseline: str, scale: float) -> None:
        times = interleaved(jobs, args.repeats)
        for row in rows(times, baseline, dict.fromkeys(times, scale)):
            table.append({(FIRST if key.startswith("times") else key): value for key, value in row.items()})

    model = built("sasrec", train, **SASREC)
    data = [padded(batch) for batch, _ in zip(model.batches(train, np.random.default_rng(0)), range(steps), strict=False)]
    compare(
        {"SASRec BCE epoch, plain": plain_steps(Plain(n_items, 64, 1, 64, 0.5, True), data, "bce", n_items),
         "SASRec BCE epoch, lexirec": our_steps(model, train, steps)},
        "SASRec BCE epoch, plain", epoch,
    )  # fmt: skip
    full = built("sasrec", train, **SASREC, loss="ce")
    compare(
        {"SASRec CE epoch, plain, real places": plain_steps(Plain(n_items, 64, 1, 64, 0.5, True), data, "ce", n_items),
         "SASRec CE epoch, lexirec fp32": our_steps(full, train, steps),
         "SASRec CE epoch, lexirec bf16": our_steps(full, train, steps, low=True)},
        "SASRec CE epoch, plain, real places", epoch,
    )  # fmt: skip
    one = data[:1]
    slow = interleaved({"all": plain_steps(Plain(n_items, 64, 1, 64, 0.5, True), one, "all", n_items)}, 1, 0)["all"]
    table.append({"what": "SASRec CE epoch, plain, all 50 places (one step timed)", "seconds": round(slow[0] * epoch * steps, 2)})
    bert = built("bert4rec", train, embedding_dim=64, max_len=PLACES, num_heads=4, batch_size=512)
    masked = [padded(batch) for batch, _ in zip(bert.batches(train, np.random.default_rng(0)), range(steps), strict=False)]
    compare(
        {"BERT4Rec epoch, plain, masked places": plain_steps(Plain(n_items, 64, 4, 256, 0.2, False), masked, "ce", n_items),
         "BERT4Rec epoch, lexirec fp32": our_steps(bert, train, steps),
         "BERT4Rec epoch, lexirec bf16": our_steps(bert, train, steps, low=True)},
        "BERT4Rec epoch, plain, masked places", epoch,
    )  # fmt: skip
    harness = {"embedding_dim": 128, "max_len": 200, "causal": False, "init": "xavier", "batch_size": 128, "dropout": 0.5}
    ids = built("sasrec", train, **harness)
    alone = built("llmemb", train, scft=None, teacher=None)
    rat = built("llmemb", train, scft=None)
    compare(
        {"SASRec with ids, LLMEmb's harness": our_steps(ids, train, 4 * steps),
         "the same on text through the adapter": our_steps(alone, train, 4 * steps),
         "the same with alignment (RAT)": our_steps(rat, train, 4 * steps)},
        "SASRec with ids, LLMEmb's harness", epoch,
    )  # fmt: skip
    table.append(million_items())
    write("sequential", table, data=train.name, steps_timed=steps, epoch_batches=round(epoch * steps))


if __name__ == "__main__":
    main()
