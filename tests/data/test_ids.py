"""Outside ids and inside positions, few and many."""

import numpy as np
import polars as pl
import pytest

from lexirec.data.ids import MANY, IdMap


@pytest.mark.parametrize("asked", [3, MANY + 1])  # few are looked up, many are joined
def test_both_ways_of_looking_up_say_the_same(asked: int) -> None:
    names = [f"item {n}" for n in range(2 * MANY)]
    ids = IdMap(names)
    rng = np.random.default_rng(1)
    at = rng.integers(0, len(names), asked)
    at[1] = -1
    wanted = [names[place] if place >= 0 else "unknown" for place in at]
    for given in (wanted, pl.Series(wanted)):
        found = ids.index(given)
        np.testing.assert_array_equal(found, at)
        assert found.dtype == np.int64
        assert found.flags.writeable  # torch warns of an array that is not, and can't share it
