"""Corners of logs, checks, profiles and caches."""

import numpy as np
import polars as pl
import pytest

from lexirec.data import Dataset, from_frames, read_dataset, split_dataset
from lexirec.data.quality import problems
from lexirec.errors import InputError
from lexirec.text import plain_facts
from lexirec.text.cache import _whole

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_pair_that_the_file_has_more_often_than_the_log_is_no_other_pair(tmp_path):
    log = pl.DataFrame({"user_id": ["u", "u", "u", "v"], "item_id": ["a", "a", "b", "b"], "timestamp": [1, 2, 3, 4]})
    log.write_parquet(tmp_path / "interactions.parquet")
    split = pl.DataFrame({"user_id": ["u", "u", "u", "v"], "item_id": ["a", "a", "a", "b"], "split": ["train", "train", "test", "train"]})
    split.write_parquet(tmp_path / "s.parquet")
    with pytest.raises(InputError, match=r"1 of 4 .*events are not in the log"):
        split_dataset(read_dataset(tmp_path), "given:s")


def test_a_clean_log_of_several_people_has_no_problem_of_order():
    log = pl.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabc"), "timestamp": [1_600_000_000 + n for n in (5, 6, 7, 1, 2, 3)]})
    assert not [p for p in problems(from_frames(log)) if p.place.startswith("interactions")]


def test_test_events_that_validation_has_are_leaks_too():
    log = pl.DataFrame({"user_id": list("uuuuvvvv"), "item_id": list("abccabcd"), "timestamp": [1_600_000_000 + n for n in range(8)]})
    data = from_frames(log)
    (leak,) = [p for p in problems(data, data.split("leave-one-out")) if "earlier part" in p.finding]
    assert leak.finding.startswith("1 of 2") and "test events" in leak.finding


def test_only_the_last_events_of_a_person_count_for_what_is_chosen_together(monkeypatch):
    monkeypatch.setattr(plain_facts, "EVENTS_PER_USER", 2)
    log = pl.DataFrame({"user_id": list("uuuuvvvv"), "item_id": list("abcdabcd"), "timestamp": range(8)})
    near = plain_facts.neighbours(Dataset.from_frames(log).split("all").train, 3)[0].toarray()
    assert np.argwhere(near > 0).tolist() == [[2, 3], [3, 2]]


def test_vectors_behind_one_that_is_not_finite_are_not_kept():
    rows = np.array([[1, 1], [np.nan, 1], [1, 1]], dtype=np.float32)
    assert len(_whole(rows, None)) == 1
