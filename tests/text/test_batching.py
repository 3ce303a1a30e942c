"""The plan of batches: every text once, little padding, budget kept."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lexirec.text.encoders.batching import plan_batches


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 2000), st.booleans())
def test_plan(lengths, budget, pad):
    size = np.array(lengths, dtype=np.int64)
    batches = plan_batches(lengths, budget, pad)
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest, shortest = size[batch].max(), size[batch].min()
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert longest <= shortest * 1.25 + 2
        assert pad or longest == shortest
    assert [size[batch].max() for batch in batches] == sorted((size[batch].max() for batch in batches), reverse=True)


def test_frequent_lengths_are_never_padded():
    lengths = np.random.default_rng(0).poisson(18, size=20_000) + 3
    batches = plan_batches(lengths, 4096)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded < 1.005 * lengths.sum()
    assert len(batches) < 1.5 * lengths.sum() / 4096
