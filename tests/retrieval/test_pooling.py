"""Quasi-round-robin: numbers 12 to 17 of CALRec's conformance list."""

import math

import numpy as np
import pytest

from lexirec.errors import InputError
from lexirec.retrieval.bm25 import BM25
from lexirec.retrieval.pooling import combine, factors, pool, predictions, scale
from tests.retrieval.test_bm25 import words

RAW = np.array([[8, 2, 0, 4], [1, 5, 3, 0], [6, 6, 2, 2]], dtype=np.float32)
LOGPROBS = np.array([-1.0, -2.0, -3.0])


def columns() -> np.ndarray:
    return scale(RAW.copy())


def test_texts_are_sorted_and_each_is_kept_once() -> None:
    kept, values = predictions(["x", "y", "x", "z", "w"], [-1.0, -3.0, -1.5, -2.0, -6.0], 3)
    assert (kept, values.tolist()) == (["x", "z", "y"], [-1.0, -2.0, -3.0])
    assert predictions(["a", "b"], [-1.0, -1.0], 5)[0] == ["a", "b"]  # fewer than asked for; equal ones keep their order
    assert predictions([], [], 5)[0] == []


def test_columns_are_scaled() -> None:
    np.testing.assert_allclose(columns(), [[1, 0.25, 0, 0.5], [0.2, 1, 0.6, 0], [1, 1, 0, 0]])
    assert scale(np.full((2, 3), 7, dtype=np.float32)).tolist() == [[0] * 3] * 2  # a constant column: zeros, no NaN


@pytest.mark.parametrize(
    ("epsilon", "modulate", "pooling", "expected", "order"),
    [
        (1 / 5000, True, "max", [0.99980002, 0.99960008, 0.59976005, 0.49990001], [0, 1, 2, 3]),
        (1.0, True, "max", [0.367879, 0.135335, 0.081201, 0.183940], [0, 3, 1, 2]),
        (1 / 5000, True, "mean", [0.733040, 0.749650, 0.199920, 0.166633], [1, 0, 2, 3]),
        (1 / 5000, True, "min", [0.199920, 0.249950, 0, 0], [1, 0, 2, 3]),
        (1.0, False, "max", [1, 1, 0.6, 0.5], [0, 1, 2, 3]),
        (0.0, True, "max", [1, 1, 0.6, 0.5], [0, 1, 2, 3]),
    ],
)
def test_final_scores(epsilon: float, modulate: bool, pooling: str, expected: list[float], order: list[int]) -> None:
    found = combine(columns(), factors(LOGPROBS, epsilon, modulate), pooling)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.argsort(-found, kind="stable").tolist() == order


def test_equal_logprobs_of_two_best_items_tie_exactly() -> None:
    found = combine(columns()[:2], factors(np.array([-1.5, -1.5]), 1 / 5000, True))
    assert found[0] == found[1] == found.max()


def test_ranks_of_ties() -> None:
    def both(scores: list[float], target: int) -> tuple[int, int]:
        s = np.array(scores)
        return 1 + int((s > s[target]).sum()), int((s >= s[target]).sum())

    tied = combine(columns(), factors(LOGPROBS, 0.0, True)).tolist()
    assert both(tied, 1) == (1, 2)
    assert both([0.9, 0.7, 0.7, 0.7, 0.1], 2) == (2, 4)
    assert [round(1 / math.log2(r + 1), 6) for r in (2, 4)] == [0.63093, 0.430677]


def test_pool_is_the_definition() -> None:
    index = BM25(words(200))
    texts, logprobs = [["w1 w2 b3", "w5 title:", "w1 w2 b3"], ["unheard of"], []], [[-3.0, -1.0, -2.0], [-1.0], []]
    found = pool(index, texts, logprobs, n_preds=2, epsilon=0.01)
    raw = index.scores(["w5 title:", "w1 w2 b3"]).astype(np.float64)
    scaled = (raw - raw.min(1, keepdims=True)) / np.ptp(raw, axis=1)[:, None] * np.exp(0.01 * np.array([-1.0, -2.0]))[:, None]
    np.testing.assert_allclose(found[0], scaled.max(0), atol=1e-6)
    assert not found[1:].any()


def test_a_text_that_has_labels_alone_in_common_takes_no_place() -> None:
    index = BM25(["Name: red drill.", "Name: green saw.", "Name: blue."], fixed="Name: Unknown.")
    found = pool(index, [["Name: qqq.", "Name: green saw."], ["Name: qqq."]], [[-1.0, -2.0], [-1.0]], n_preds=1)
    assert found[0].argmax() == 1 and found[0, 1] == pytest.approx(math.exp(-2 / 5000), rel=1e-6)
    assert not found[1].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logprobs": [[-1.0]]}, "one number for each"),
        ({"logprobs": [[-1.0, float("nan")]]}, "must be finite"),
        ({"logprobs": []}, "one list of each"),
        ({"n_preds": 0}, "n_preds = 0"),
        ({"epsilon": -1.0}, "epsilon = -1.0"),
        ({"pooling": "median"}, "choose max, mean or min"),
    ],
)
def test_bad_input_is_refused(change: dict, message: str) -> None:
    arguments = {"texts": [["w1", "w2"]], "logprobs": [[-1.0, -2.0]], **change}
    with pytest.raises(InputError, match=message):
        pool(BM25(words(20)), **arguments)
