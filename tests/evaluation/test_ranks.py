"""Counting against a plain reference; blocks of any size; lists with ties settled by the shuffle."""

from functools import partial

import numpy as np
import pytest
import torch

from lexirec.errors import InputError
from lexirec.evaluation.ranks import rank_block


def reference(scores, rows, items, masked, depth, shuffle):
    """Sort every row by (score down, shuffle up)."""
    scores = scores.astype(np.float64).copy()
    scores[masked] = -np.inf
    values = scores[rows, items]
    greater = (scores[rows] > values[:, None]).sum(1)
    equal = (scores[rows] == values[:, None]).sum(1)
    order = np.lexsort((np.broadcast_to(shuffle, scores.shape), -scores), axis=-1)[:, :depth]
    top = np.where(np.isneginf(np.take_along_axis(scores, order, 1)), -1, order)
    return greater, equal, top


def case(seed, levels, n_rows=7, n_items=40):
    """Random scores of a few levels (0: no ties), 3 targets and 5 masked items a row."""
    rng = np.random.default_rng(seed)
    scores = (
        rng.integers(0, levels, (n_rows, n_items)).astype(np.float32) if levels else rng.normal(size=(n_rows, n_items)).astype(np.float32)
    )
    picks = np.stack([rng.choice(n_items, 8, replace=False) for _ in range(n_rows)])
    rows = np.repeat(np.arange(n_rows), 3)
    items = np.sort(picks[:, :3], axis=1).ravel()
    masked = (np.repeat(np.arange(n_rows), 5), picks[:, 3:].ravel())
    return scores, rows, items, masked, rng.permutation(n_items)


def ask(scores, lo, hi):
    return torch.from_numpy(scores[:, lo:hi].copy())


@pytest.mark.parametrize("levels", [0, 1, 2, 5])
@pytest.mark.parametrize("block_items", [None, 7, 40, 1])
def test_counts_and_lists_equal_a_full_sort(levels, block_items):
    for seed in range(4):
        scores, rows, items, masked, shuffle = case(seed, levels)
        greater, equal, top = reference(scores, rows, items, masked, 6, shuffle)
        found = rank_block(partial(ask, scores), 40, rows, items, *masked, depth=6, shuffle=shuffle, best_of=None, block_items=block_items)
        np.testing.assert_array_equal(found.greater, greater)
        np.testing.assert_array_equal(found.equal, equal)
        np.testing.assert_array_equal(found.top, top)


@pytest.mark.parametrize("levels", [0, 1, 3])
@pytest.mark.parametrize("block_items", [None, 9])
def test_only_the_best_target_is_exact_below_the_list(levels, block_items):
    scores, rows, items, masked, shuffle = case(5, levels)
    greater, equal, _ = reference(scores, rows, items, masked, 4, shuffle)
    everything = [np.ones(len(rows), dtype=bool)]
    found = rank_block(
        partial(ask, scores), 40, rows, items, *masked, depth=4, shuffle=shuffle, best_of=everything, block_items=block_items
    )
    best = greater == np.repeat(greater.reshape(-1, 3).min(1), 3)
    exact = (greater < 4) | best
    np.testing.assert_array_equal(found.greater[exact], greater[exact])
    np.testing.assert_array_equal(found.equal[exact], equal[exact])
    assert (found.greater[~exact] >= 4).all()
    if levels == 0:
        assert not exact.all()  # the test saw a target that needn't be counted


def test_a_row_with_fewer_candidates_than_the_list_is_short():
    scores = np.array([[3.0, 2.0, 1.0, 0.0]], dtype=np.float32)
    found = rank_block(
        partial(ask, scores),
        4,
        np.array([0]),
        np.array([3]),
        np.array([0, 0]),
        np.array([0, 1]),
        depth=4,
        shuffle=np.arange(4),
        best_of=None,
    )
    assert found.top.tolist() == [[2, 3, -1, -1]]
    assert found.greater.tolist() == [1]


def test_negative_zero_ties_with_zero():
    scores = np.array([[0.0, -0.0, -1.0]], dtype=np.float32)
    empty = np.zeros(0, dtype=np.int64)
    found = rank_block(
        partial(ask, scores), 3, np.array([0, 0]), np.array([0, 1]), empty, empty, depth=0, shuffle=np.arange(3), best_of=None
    )
    assert found.equal.tolist() == [2, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_named(bad):
    scores = np.zeros((3, 5), dtype=np.float32)
    scores[2, 4] = bad
    empty = np.zeros(0, dtype=np.int64)
    with pytest.raises(InputError, match=r"(nan|inf) row 2 item 4; a model must give finite scores"):
        rank_block(
            partial(ask, scores), 5, np.array([0]), np.array([1]), empty, empty,
            depth=2, shuffle=np.arange(5), block_items=3, check=lambda row, item: f"row {row} item {item}",
        )  # fmt: skip
