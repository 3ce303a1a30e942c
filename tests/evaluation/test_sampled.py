"""Sampled negatives: distinct, allowed, uniform."""

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.evaluation.sampled import sample_negatives


@pytest.mark.parametrize("n", [1, 5, 17])
def test_negatives_are_distinct_and_never_excluded(n):
    rows, items = np.array([0, 0, 0, 2]), np.array([10, 15, 29, 12])
    drawn = sample_negatives(n, 10, 30, 3, rows, items, (0,))
    assert drawn.shape == (3, n)
    assert drawn.min() >= 10
    assert drawn.max() < 30
    for row in range(3):
        assert len(set(drawn[row].tolist())) == n
        assert not set(drawn[row].tolist()) & set(items[rows == row].tolist())


def test_negatives_are_uniform_over_what_is_left():
    drawn = sample_negatives(3, 0, 10, 20_000, np.arange(20_000), np.full(20_000, 4), (1,))
    shares = np.bincount(drawn.ravel(), minlength=10) / 20_000
    assert shares[4] == 0
    np.testing.assert_allclose(np.delete(shares, 4), 3 / 9, atol=0.015)


def test_too_few_items_left_is_an_error():
    with pytest.raises(InputError, match="sampled=9: a user has only 8 of 10 items left"):
        sample_negatives(9, 0, 10, 2, np.array([1, 1]), np.array([0, 1]), (0,))
