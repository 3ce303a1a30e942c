"""Shares that floats do not reach, undated events, lines of bad rows."""

import numpy as np
import polars as pl
import pytest

from lexirec.data import from_frames, split_dataset
from lexirec.data.checks import check_log
from lexirec.errors import InputError
from lexirec.evaluation.groups import head_threshold, lower_threshold


def test_shares_are_reached_whatever_the_rounding():
    assert 0.55 * 100 > 55  # in floats
    assert head_threshold(np.array([55, *[1] * 45]), 0.55) == 55
    assert lower_threshold(np.arange(1, 101), 0.55) == 56


def test_the_line_of_a_bad_row_counts_the_breaks_in_quoted_texts():
    log = pl.DataFrame(
        {"user_id": ["u", "u", None], "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3], "review": ["two\nlines", "x", "y"]}
    )
    with pytest.raises(InputError, match=r"row 2 \(counted from 0; line 5 of the file\)"):
        check_log(log, first_line=2)


@pytest.mark.filterwarnings("ignore")
def test_events_without_a_time_are_in_no_part_even_before_1970():
    stamps = [-9, -8, None, -1, -9, None, -4, -1]
    log = pl.DataFrame({"user_id": list("uuuuvvvv"), "item_id": list("abcdabcd"), "timestamp": stamps, "position": range(8)})
    split = split_dataset(from_frames(log), "temporal", valid_from=-5, test_from=-2, missing_time="drop")
    assert (split.train.n_interactions, len(split.valid), len(split.test)) == (3, 1, 2)
