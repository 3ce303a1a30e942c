"""What Holm corrects over, and what a leaderboard shows of it."""

from pathlib import Path

import numpy as np
import polars as pl

from lexirec.evaluation.statistics import holm
from lexirec.report.tested import Tested, paired_tests
from lexirec.results import leaderboard


def test_holm_is_over_all_tests_of_a_part_of_the_report() -> None:
    rng = np.random.default_rng(0)

    def tested(gain: float) -> Tested:
        users = pl.DataFrame({"user_id": [f"u{n}" for n in range(9)], "ndcg@10": rng.random(9) + gain, "hr@10": rng.random(9) + gain})
        return Tested(Path("run"), {}, users, users.select(pl.lit("tail_items").alias("group"), pl.all()), None)

    rows = paired_tests({"first": [tested(0.0)], "second": [tested(0.6)]}, ["tail_items"], ["ndcg@10", "hr@10"])
    assert [row["group"] for row in rows] == ["overall"] * 2 + ["tail_items"] * 2
    assert [row["p_holm"] for row in rows] == holm([row["p"] for row in rows])


def test_a_leaderboard_has_the_corrected_p_of_all_users() -> None:
    values = {"recall@20": 0.2, "ndcg@20": 0.1, "ndcg@10": 0.1}
    overall = {"metric": "recall@20", "against": "popularity", "relative": 0.5, "p": 0.001, "p_holm": 0.004}
    tail = {**overall, "relative": -0.9, "p": 0.2, "p_holm": 0.4, "group": "tail_items"}
    run = {"best_epoch": 3, "test": values, "groups": {}, "seconds": 1.0}
    (row,) = leaderboard({"m": {"mean": values, "tests": [overall, tail], "runs": [run]}})
    assert row["recall@20 vs popularity"] == "+50.0% (Holm p 0.004)"
