"""Small data whose right answers are known."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from lexirec.data.dataset import Dataset, TrainSet
from lexirec.models.alpharec import AlphaRec, Projector
from lexirec.models.reading import TextReader
from lexirec.testing import checkerboard


def toy() -> TrainSet:
    """The toy of the conformance list: u0 has items 0 and 1, u1 has item 1, item 2 has nobody."""
    log = pl.DataFrame({"user_id": ["u0", "u0", "u1"], "item_id": ["i0", "i1", "i1"], "timestamp": [1, 2, 3]})
    return Dataset(log, pl.DataFrame({"item_id": ["i0", "i1", "i2"], "title": ["a", "b", "c"]}), name="toy").train_set()


Z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
"""Text vectors of the toy's items."""


def alpharec(train: TrainSet, text: torch.Tensor, **settings: object) -> AlphaRec:
    """An untrained AlphaRec with given text vectors."""
    model = AlphaRec(embedding_dim=settings.pop("embedding_dim", 2), **settings)
    model.remember(train)
    super(AlphaRec, model).build(train, np.random.default_rng(0))
    model.reader = TextReader(None)
    model.use_text(text)
    model.network = Projector(text.shape[1], model.config)
    model._fitted = True
    return model


def identity(train: TrainSet, num_layers: int, text: torch.Tensor = Z, **settings: object) -> AlphaRec:
    """AlphaRec whose projector is the identity without bias."""
    model = alpharec(train, text, projector="linear", num_layers=num_layers, **settings)
    with torch.no_grad():
        model.network.first.weight.copy_(torch.eye(2))
    model.refresh()
    return model


def markov(dial: float, users: int = 60, items: int = 12, length: int = 9) -> Dataset:
    """Histories on a ring of items: with probability ``dial`` the next item is the successor, else any; at 0 there is no order to learn.

    Titles name the item, so that text models can tell items apart.
    """
    rng = np.random.default_rng(7)
    words = ["apple", "brush", "candle", "drum", "easel", "fork", "glove", "harp", "inkpot", "jacket", "kettle", "lamp"]
    rows = []
    for user in range(users):
        item = int(rng.integers(items))
        for t in range(length):
            rows.append((f"u{user:03d}", f"i{item:02d}", t))
            item = (item + 1) % items if rng.random() < dial else int(rng.integers(items))
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    catalogue = pl.DataFrame({"item_id": [f"i{i:02d}" for i in range(items)], "title": [words[i % 12] for i in range(items)]})
    return Dataset(log, catalogue, name="markov")


def of_others(data: Dataset, name: str = "other") -> Dataset:
    """The same log of other people: another data set, which equal people and items of another name are not."""
    return Dataset(data.interactions.with_columns(user_id="of " + pl.col("user_id")), data.items, name=name)


def write_shop(folder: Path, suffix: str = ".parquet") -> Path:
    """The checkerboard as the tables of a data folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    data, items = checkerboard()
    log = data.interactions
    if suffix == ".csv":
        log.write_csv(folder / "interactions.csv")
        items.select("item_id", "title").write_csv(folder / "items.csv")
    else:
        log.write_parquet(folder / "interactions.parquet")
        items.write_parquet(folder / "items.parquet")
    return folder


__all__ = ["Z", "alpharec", "checkerboard", "identity", "markov", "toy", "write_shop"]
