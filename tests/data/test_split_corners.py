"""Corners of the splits, of order and of identity."""

import numpy as np
import polars as pl
import pytest
import torch

from lexirec.data import Dataset, from_frames, split_dataset
from lexirec.losses import bce

pytestmark = pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")


def log_of(events):
    return from_frames(pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row"))


def square(n=10):
    return log_of([(f"u{u}", f"i{i}", n * u + i) for u in range(n) for i in range(n)])


@pytest.mark.parametrize("options", [{"share": 0.01}, {"share": 0.1, "valid_share": 0.9}])
def test_at_least_one_cold_item_is_tested(options):
    split = split_dataset(square(), "cold-items", **options)
    assert len(np.unique(split.test.item_index)) == 1 and not len(split.valid)


def test_items_that_were_never_dated_are_not_the_newest():
    events = [("u", "a", 1), ("v", "b", 2), ("u", "c", 3), ("v", "d", 4), ("u", "x", None), ("v", "x", None), ("v", "a", 5)]
    log = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row").with_columns(position=pl.int_range(7))
    split = split_dataset(from_frames(log), "cold-items", share=0.2, choose="newest", valid_share=0)
    assert split.train.items["item_id"].filter(pl.Series(split.train.new_items)).to_list() == ["d"]


def test_items_that_validation_shows_first_are_new():
    events = [("u", "a", 1), ("v", "a", 2), ("u", "b", 3), ("v", "c", 4), ("u", "b", 5), ("v", "a", 6)]
    split = split_dataset(log_of(events), "temporal", valid_from=3, test_from=5)
    assert split.train.new_items.tolist() == [False, True, True]


def test_events_of_one_moment_are_no_future_and_only_times_that_matter_must_be_known():
    at_once = log_of([("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("v", "a", 3), ("v", "b", 4), ("v", "c", 5)])
    assert not split_dataset(at_once, "leave-one-out").sees_future
    frame = pl.DataFrame(
        [("u", "a", 1), ("u", "b", 5), ("u", "a", 9), ("v", "a", 1), ("v", "b", 5), ("v", "c", 6)],
        schema=["user_id", "item_id", "timestamp"],
        orient="row",
    )
    frame = frame.with_columns(
        split=pl.Series(["train", "valid", "test"] * 2),
        timestamp=pl.when(pl.int_range(pl.len()) != 1).then("timestamp"),
        position=pl.int_range(pl.len()),
    )
    assert not split_dataset(from_frames(frame), "given").sees_future


def test_other_events_are_another_training_part():
    data = square()
    rows = np.arange(100) % 2 == 0
    assert data.train_set(rows).content_hash != data.train_set(~rows).content_hash


def test_events_without_a_time_come_first():
    log = pl.DataFrame({"user_id": ["u"] * 3 + ["v"] * 2, "item_id": list("abcab"), "timestamp": [5, None, 2, 1, None]})
    data = Dataset(log, pl.DataFrame({"item_id": list("abc"), "title": list("abc")}))
    assert data.interactions["item_id"].to_list() == ["b", "c", "a", "b", "a"]


def test_nanoseconds_of_many_people_are_in_order():
    rng = np.random.default_rng(0)
    start, year = 1_600_000_000 * 10**9, 31_536_000 * 10**9
    stamps = start + np.concatenate([[0, year], rng.integers(0, year, 4998)])
    users = [f"u{n % 500:03}" for n in range(5000)]
    data = Dataset(
        pl.DataFrame({"user_id": users, "item_id": ["a", "b"] * 2500, "timestamp": stamps}),
        pl.DataFrame({"item_id": ["a", "b"], "title": ["a", "b"]}),
    )
    found = data.interactions
    assert found.equals(found.sort("user_id", "timestamp"))
    assert (np.diff(data.user_index) >= 0).all()


def test_validation_is_sampled_at_random_and_by_its_seed():
    split = split_dataset(square(), "leave-one-out")
    drawn = [np.unique(split.train.some_users(split.valid, 4, seed).user_index).tolist() for seed in range(6)]
    assert all(len(users) == 4 for users in drawn) and len(set(map(tuple, drawn))) > 1
    assert drawn[1] == np.unique(split.train.some_users(split.valid, 4, 1).user_index).tolist()


def test_bce_is_a_mean_over_negatives():
    assert bce(torch.zeros(2), torch.zeros(2, 3)).item() == pytest.approx(2 * np.log(2))
