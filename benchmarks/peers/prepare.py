"""The same leave-one-out parts for everybody: arrays for Python, atomic files for RecBole."""

from pathlib import Path

import numpy as np
import polars as pl

from lexirec.data.dataset import Dataset, Split


def load_split(folder: Path, n_users: int = 0) -> Split:
    """Leave-one-out of the data in ``folder``; ``n_users`` > 0 keeps only that many users (a trial)."""
    data = Dataset.read(folder, catalogue="interacted")
    if n_users:
        keep = data.users.ids.head(n_users)
        log = data.interactions.filter(pl.col("user_id").is_in(keep.implode()))
        data = Dataset(log, data.items.join(log.select("item_id").unique(), on="item_id", how="semi"), data.name)
    return data.split("leave-one-out")


def write_parts(split: Split, folder: Path, name: str) -> Path:
    """Write ``parts.npz`` and RecBole's ``<name>.<part>.inter`` files into ``folder/name``; returns that folder."""
    train = split.train
    parts = {
        "train": (train.user_index, train.item_index),
        "valid": (split.valid.user_index, split.valid.item_index),
        "test": (split.test.user_index, split.test.item_index),
    }
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    arrays = {f"{part}_{kind}": index for part, pair in parts.items() for kind, index in zip(("users", "items"), pair, strict=True)}
    np.savez(target / "parts.npz", n_users=train.n_users, n_items=train.n_items, **arrays)
    for part, (users, items) in parts.items():
        frame = pl.DataFrame({"user_id:token": users, "item_id:token": items})
        frame.write_csv(target / f"{name}.{part}.inter", separator="\t")
    return target
