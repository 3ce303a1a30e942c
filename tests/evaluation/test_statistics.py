"""Tests and intervals against closed forms, scipy and enumeration."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lexirec.errors import InputError
from lexirec.evaluation import compare, summarise
from lexirec.evaluation.statistics import bootstrap_interval, holm, over_seeds, paired_t, randomisation, seed_interval, wilcoxon


def frame(values, metric="ndcg@10"):
    return pl.DataFrame({"user_id": [f"u{n}" for n in range(len(values))], metric: np.asarray(values, dtype=float)})


def test_p_values_equal_scipy_and_enumeration():
    rng = np.random.default_rng(0)
    a, b = rng.random(11), rng.random(11)
    assert paired_t(a - b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert wilcoxon(a - b) == pytest.approx(stats.wilcoxon(a, b, zero_method="pratt").pvalue)
    d = a - b
    every = np.abs(np.array(list(product([1, -1], repeat=11))) @ d)
    exact = np.mean(every >= abs(d.sum()) - 1e-12)
    assert randomisation(d, n=40_000) == pytest.approx(exact, abs=0.01)


def test_randomisation_with_repeated_values_equals_enumeration():
    d = np.array([1.0, 1, 1, -1, 0.5, 0.5, 0, 0])  # grouped users: the binomial shortcut
    every = np.abs(np.array(list(product([1, -1], repeat=8))) @ d)
    assert randomisation(d, n=40_000) == pytest.approx(np.mean(every >= abs(d.sum()) - 1e-12), abs=0.01)


def test_false_alarms_come_at_the_stated_rate():
    rng = np.random.default_rng(1)
    for test in (paired_t, wilcoxon, lambda d: randomisation(d, n=400)):
        alarms = np.mean([test(rng.normal(size=40)) < 0.05 for _ in range(400)])
        assert 0.02 < alarms < 0.09


def test_no_difference_at_all_gives_p_of_one():
    for test in (paired_t, wilcoxon, randomisation):
        assert test(np.zeros(9)) == 1.0


@pytest.mark.parametrize("distinct", [True, False])
def test_bootstrap_interval_agrees_with_the_normal_one(distinct):
    rng = np.random.default_rng(2)
    values = rng.normal(size=3000) if distinct else rng.integers(0, 2, 3000)
    half = 1.96 * values.std() / np.sqrt(3000)
    low, high = bootstrap_interval(values, n=2000)
    assert low == pytest.approx(values.mean() - half, abs=half / 8)
    assert high == pytest.approx(values.mean() + half, abs=half / 8)
    assert bootstrap_interval(values, n=100, seed=3) == bootstrap_interval(values, n=100, seed=3)


def test_seed_interval_is_students():
    values = [0.1, 0.12, 0.11, 0.13, 0.09]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert seed_interval(values) == pytest.approx(expected)
    assert seed_interval([0.1]) is None
    found = summarise([{"recall@20": v, "mrr": 0.5} for v in values])
    assert found["mean"] == {"recall@20": pytest.approx(0.11), "mrr": pytest.approx(0.5)}
    assert found["interval95"]["recall@20"] == pytest.approx(list(expected))
    assert found["sd"] == {"recall@20": pytest.approx(np.sqrt(0.001 / 4)), "mrr": 0.0}


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_seeds_are_averaged_per_user_first():
    one, two = frame([0.0, 1.0, 0.0]), frame([1.0, 1.0, 0.0])
    assert over_seeds([one, two.reverse()])["ndcg@10"].to_list() == [0.5, 1.0, 0.0]  # rows in any order
    rng = np.random.default_rng(0)
    base = rng.random(200)
    seeds = [frame(base + rng.normal(0, 0.2, 200) + 0.05) for _ in range(5)]
    others = [frame(base + rng.normal(0, 0.2, 200)) for _ in range(5)]
    found = compare({"ours": seeds, "theirs": others}, ["ndcg@10"], baseline="theirs")
    assert len(found) == 1
    assert found[0]["n"] == 200  # users, not users x seeds
    expected = stats.ttest_rel(np.mean([f["ndcg@10"] for f in seeds], axis=0), np.mean([f["ndcg@10"] for f in others], axis=0))
    assert found[0]["p"] == pytest.approx(expected.pvalue)
    low, high = found[0]["interval95"]
    assert low < found[0]["difference"] < high
    assert found[0]["relative"] == pytest.approx(found[0]["difference"] / found[0]["mean_against"])


@pytest.mark.parametrize("test", ["t", "wilcoxon", "randomisation"])
def test_compare_corrects_over_all_comparisons(test):
    rng = np.random.default_rng(0)
    frames = {name: [frame(rng.random(50) + add)] for name, add in (("a", 0), ("b", 0.1), ("c", 0.5))}
    found = compare(frames, ["ndcg@10"], test=test, n=500)
    assert [(one["model"], one["against"]) for one in found] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert [one["p_holm"] for one in found] == pytest.approx(holm([one["p"] for one in found]))
    assert {"model", "against", "metric", "mean", "difference", "relative", "interval95", "p", "p_holm", "test", "n"} <= set(found[0])
    zero = compare({"a": [frame([0, 0, 0])], "b": [frame([0, 1, 0])]}, ["ndcg@10"])
    assert zero[0]["relative"] is None


def test_comparing_what_cannot_be_compared_is_refused():
    a, b = frame([0.1, 0.2, 0.3]), frame([0.1, 0.2])
    with pytest.raises(InputError, match=r"'b' and 'a' were evaluated on different users \(2 and 3, 1 in one only\)"):
        compare({"a": [a], "b": [b]}, ["ndcg@10"])
    with pytest.raises(InputError, match=r"no per-user 'ndgc@10' \(did you mean 'ndcg@10'\?\)"):
        compare({"a": [a], "b": [a]}, ["ndgc@10"])
    with pytest.raises(InputError, match="unknown baseline 'lightgc'"):
        compare({"lightgcn": [a], "b": [a]}, ["ndcg@10"], baseline="lightgc")
    with pytest.raises(InputError, match="unknown test 'tt'"):
        compare({"a": [a], "b": [a]}, ["ndcg@10"], test="tt")
    with pytest.raises(InputError, match="give at least two"):
        compare({"a": [a]}, ["ndcg@10"])
    with pytest.raises(InputError, match="two seeds of one model were evaluated on different users"):
        over_seeds([a, b])
    with pytest.raises(InputError, match="user_id 'u0' is in a per-user table twice"):
        over_seeds([pl.concat([a, a])])
    with pytest.raises(InputError, match="NaN or infinite"):
        paired_t([0.1, float("nan")])
    with pytest.raises(InputError, match="at least 2"):
        bootstrap_interval([0.1])
