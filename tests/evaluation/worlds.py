"""Small worlds and models for the evaluation tests."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from lexirec.data.dataset import Dataset, Heldout, TrainSet


def world(
    events: list[tuple[str, str, str]], titles: dict[str, str] | None = None, n_items: int | None = None, name: str = "world", **columns
):
    """A training set and its held-out parts from (user, item, part) in order of time."""
    ids = sorted(titles) if titles else [f"i{n:03}" for n in range(n_items or 0)]
    items = pl.DataFrame({"item_id": ids, "title": [titles[i] if titles else f"Title {i}" for i in ids], **columns})
    log = pl.DataFrame(events, schema=["user_id", "item_id", "part"], orient="row").with_columns(timestamp=pl.int_range(pl.len()))
    data = Dataset(log, items, name)
    part = data.interactions["part"].to_numpy()
    return data.train_set(part == "train"), data.heldout(part == "valid", "valid"), data.heldout(part == "test", "test")


def random_world(n_users: int, n_items: int, seed: int = 0, train: int = 5, valid: int = 2, test: int = 3, name: str = "world"):
    """Users with random distinct items; popularity falls with the item's number, so that positions carry popularity."""
    rng = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, n_items + 1)
    events = []
    for user in range(n_users):
        size = train + valid + int(rng.integers(1, test + 1))
        for place, item in enumerate(rng.choice(n_items, size, replace=False, p=weight / weight.sum())):
            part = "train" if place < train else "valid" if place < train + valid else "test"
            events.append((f"u{user:04}", f"i{item:03}", part))
    return world(events, n_items=n_items, name=name)


@dataclass
class Vectors:
    """Scores by vectors given per user and item."""

    train: TrainSet
    users: torch.Tensor
    items: torch.Tensor
    needs_history: bool = True
    vector_scores: bool = True

    def __post_init__(self):
        self.asked = []

    def encode_items(self):
        return self.items

    def encode_queries(self, queries):
        self.asked += queries
        return self.users[torch.from_numpy(self.train.users.index([q.user_id for q in queries]))]


@dataclass
class Matrix:
    """Scores given outright, users x items."""

    train: TrainSet
    matrix: torch.Tensor
    vector_scores: bool = False

    def score(self, queries):
        return self.matrix[torch.from_numpy(self.train.users.index([q.user_id for q in queries]))]


def random_vectors(train: TrainSet, dim: int = 8, seed: int = 0) -> Vectors:
    draw = torch.Generator().manual_seed(seed)
    return Vectors(train, torch.randn(train.n_users, dim, generator=draw), torch.randn(train.n_items, dim, generator=draw))


def constant(train: TrainSet) -> Matrix:
    return Matrix(train, torch.zeros(train.n_users, train.n_items))


def heldout(users, items, name="test") -> Heldout:
    return Heldout(np.array(users, dtype=np.int32), np.array(items, dtype=np.int32), name)
