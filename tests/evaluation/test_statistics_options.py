"""What a comparison is told reaches its tests."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from lexirec.errors import InputError
from lexirec.evaluation import compare, summarise
from lexirec.evaluation.statistics import bootstrap_interval, over_seeds, paired_t, randomisation, seed_interval, wilcoxon


def frame(values, metric="ndcg@10"):
    return pl.DataFrame({"user_id": [f"u{n}" for n in range(len(values))], metric: np.asarray(values, dtype=float)})


def test_users_without_a_difference_share_their_ranks():
    d = np.array([0.0, 0, 0, 0.3, -0.1, 0.2, 0.5, 0.4, -0.6, 0.7])
    assert wilcoxon(d) == pytest.approx(stats.wilcoxon(d, zero_method="pratt").pvalue)
    assert wilcoxon(d) != pytest.approx(stats.wilcoxon(d, zero_method="wilcox").pvalue)


def test_options_of_a_comparison_reach_its_tests():
    rng = np.random.default_rng(0)
    a, b = rng.random(9), rng.random(9)
    (row,) = compare({"a": [frame(a)], "b": [frame(b)]}, ["ndcg@10"], "a", test="randomisation", level=0.8, n=300, seed=7)
    assert row["interval80"] == list(bootstrap_interval(b - a, 0.8, 300, 7))
    assert row["p"] == randomisation(b - a, 300, 7) != randomisation(b - a, 300, 0)
    assert row["relative"] == pytest.approx((b - a).mean() / a.mean())


def test_a_constant_difference_is_certain():
    assert paired_t([0.5, 0.5, 0.5]) == 0.0


def test_summaries_have_what_all_runs_have_at_the_level_asked_for():
    runs = [{"hr@10": 0.1, "mrr": 0.2}, {"hr@10": 0.3}]
    found = summarise(runs, level=0.9)
    assert found["mean"] == {"hr@10": pytest.approx(0.2)}
    assert found["interval90"]["hr@10"] == pytest.approx(seed_interval([0.1, 0.3], 0.9))


def test_seeds_in_another_order_of_users_and_three_of_them():
    first, second, third = frame([1, 2, 3]), frame([4, 5, 9]).sort("user_id", descending=True), frame([7, 8, 0])
    assert over_seeds([first, second, third])["ndcg@10"].to_list() == [4, 5, 4]


def test_a_user_twice_is_refused_and_so_are_others_of_equal_number():
    twice = pl.concat([frame([1.0]), frame([1.0])])
    with pytest.raises(InputError, match="'u0' is in a per-user table twice"):
        over_seeds([twice])
    other = frame([1.0, 2.0]).with_columns(user_id=pl.Series(["u0", "x"]))
    with pytest.raises(InputError, match="different users"):
        compare({"a": [frame([1.0, 2.0])], "b": [other]}, ["ndcg@10"])
