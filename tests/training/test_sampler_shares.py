"""Shares of positives and negatives, and what is never drawn."""

import numpy as np
import polars as pl

from lexirec.data.dataset import Dataset
from lexirec.training.samplers import NegativeSampler, PositiveSampler


def shop(n_items=12):
    events = [("a", i, n) for n, i in enumerate((0, 3, 4, 11))] + [("b", 5, 0), ("b", 5, 1)]
    log = pl.DataFrame([(u, f"i{i:02}", t) for u, i, t in events], schema=["user_id", "item_id", "timestamp"], orient="row")
    ids = [f"i{n:02}" for n in range(n_items)]
    return Dataset(log, pl.DataFrame({"item_id": ids, "title": ids}))


def test_negatives_are_uniform_over_what_a_user_has_not_taken():
    drawn = NegativeSampler(shop().train_set()).draw(np.zeros(400, dtype=np.int64), 200, np.random.default_rng(0))
    shares = np.bincount(drawn.ravel(), minlength=12) / drawn.size
    taken = [0, 3, 4, 11]
    assert (shares[taken] == 0).all()
    np.testing.assert_allclose(np.delete(shares, taken), 1 / 8, atol=0.005)


def test_items_that_do_not_exist_yet_are_no_negatives():
    new = np.isin(np.arange(12), (1, 7))
    sampler = NegativeSampler(shop().train_set(new_items=new))
    rng = np.random.default_rng(0)
    for drawn in (sampler.draw(np.zeros(100, dtype=np.int64), 100, rng), sampler.shared(10_000, rng)):
        assert not np.isin(drawn, (1, 7)).any()
    assert set(sampler.draw(np.zeros(100, dtype=np.int64), 100, rng).ravel().tolist()) == {2, 5, 6, 8, 9, 10}


def test_positives_of_each_mode_have_the_shares_that_the_mode_promises():
    train = shop().train_set()  # a has four items, b one (twice)
    rng = np.random.default_rng(0)

    def counts(mode):
        drawn = [pair for _ in range(400) for batch in PositiveSampler(train, 2, mode).batches(rng) for pair in zip(*batch, strict=True)]
        users = np.bincount([u for u, _ in drawn], minlength=2) / len(drawn)
        items = np.bincount([i for u, i in drawn if u == 0], minlength=12)
        return len(drawn), users, items[[0, 3, 4, 11]] / items.sum()

    n, users, items = counts("user-uniform")
    assert n == 400 * 5  # the partial batch is kept
    np.testing.assert_allclose(users, 0.5, atol=0.04)
    np.testing.assert_allclose(items, 0.25, atol=0.05)
    n, users, items = counts("interaction-uniform")
    assert n == 400 * 5 and users[0] == 0.8 and (items == 0.25).all()
    assert counts("user-cycled")[0] == 400 * 4  # and dropped here
