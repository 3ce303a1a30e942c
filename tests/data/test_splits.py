"""Split sizes of the specification, order, leaks and messages."""

import re
import warnings

import numpy as np
import polars as pl
import pytest

from lexirec.data import SPLITS, Dataset, FutureLeakWarning, Split, from_frames, read_dataset, split_dataset
from lexirec.data import splits as splits_module
from lexirec.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")


def log_of(lengths: list[int], items: int = 200) -> pl.DataFrame:
    """Users with these numbers of events; item k is the user's k-th, timestamps grow over the whole log."""
    rows = [(f"u{u:03}", f"i{k % items:03}") for u, n in enumerate(lengths) for k in range(n)]
    return pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row").with_row_index("timestamp")


def sizes(split: Split) -> list[tuple[int, int, int]]:
    n = split.train.n_users
    held = [np.bincount(part.user_index, minlength=n) for part in (split.valid, split.test)]
    return list(zip(np.diff(split.train.offsets).tolist(), held[0].tolist(), held[1].tolist(), strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (  # AlphaRec's official rule, from its MovieLens files
            "random-433",
            {3: (1, 1, 1), 5: (2, 2, 1), 9: (4, 2, 3), 21: (8, 6, 7), 25: (10, 8, 7), 31: (12, 10, 9), 53: (21, 16, 16), 129: (52, 38, 39)},
        ),
        ("ratio", {1: (1, 0, 0), 5: (4, 0, 1), 9: (7, 1, 1), 11: (8, 1, 2), 25: (20, 2, 3)}),
        ("ratio-at-least-one", {1: (1, 0, 0), 2: (1, 0, 1), 3: (1, 1, 1), 4: (2, 1, 1), 5: (3, 1, 1), 6: (4, 1, 1), 11: (8, 1, 2)}),
        ("leave-one-out", {1: (1, 0, 0), 2: (2, 0, 0), 3: (1, 1, 1), 7: (5, 1, 1)}),
    ],
)
def test_sizes_of_the_specification(name, expected):
    # spec/alpharec.md, section 9, item 15
    split = split_dataset(from_frames(log_of(list(expected))), name)
    assert sizes(split) == list(expected.values())


@pytest.mark.parametrize("name", ["ratio", "ratio-at-least-one"])
def test_ratio_rules_equal_the_published_formula(name):
    lengths = list(range(1, 200))
    l_of = {"ratio": lambda n: max(int(0.8 * n), 1), "ratio-at-least-one": lambda n: max(min(int(0.8 * n), n - 2), 1)}[name]
    r_of = {"ratio": lambda n, left: max(int(0.9 * n), left), "ratio-at-least-one": lambda n, left: max(min(int(0.9 * n), n - 1), left)}[
        name
    ]
    expected = [(l_of(n), r_of(n, l_of(n)) - l_of(n), n - r_of(n, l_of(n))) for n in lengths]
    assert sizes(split_dataset(from_frames(log_of(lengths)), name)) == expected


@pytest.mark.parametrize("name", ["ratio", "ratio-at-least-one", "leave-one-out"])
def test_parts_follow_time(name):
    split = split_dataset(from_frames(log_of([11, 30])), name)
    for user, n in ((0, 11), (1, 30)):
        valid, test = (part.item_index[part.user_index == user].tolist() for part in (split.valid, split.test))
        assert [*split.train.history(user).tolist(), *valid, *test] == list(range(n))


def test_other_ratios():
    assert sizes(split_dataset(from_frames(log_of([10])[:].vstack(log_of([0, 10]))), "ratio", ratios=(6, 2, 2))) == [(6, 2, 2), (6, 2, 2)]


def test_random_split_is_seeded_and_not_chronological():
    data = from_frames(log_of([100] * 20))
    first, again, other = (split_dataset(data, "random-433", seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.test.item_index, again.test.item_index)
    assert not np.array_equal(first.test.item_index, other.test.item_index)
    # Items are places in the history: a chronological cut would have a mean near 20 in training and near 85 in test.
    assert abs(first.train.item_index.mean() - first.test.item_index.mean()) < 6


def test_temporal_cut_is_global():
    rng = np.random.default_rng(0)
    log = log_of([20] * 20).with_columns(timestamp=pl.Series(rng.integers(0, 100, 400)))
    data = from_frames(log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = split_dataset(data, "temporal", test_share=0.2, valid_share=0.1)
    assert not split.sees_future
    stamps = data.interactions["timestamp"].to_numpy()
    edge = np.sort(stamps)[[int(400 * 0.7), int(400 * 0.8)]]
    assert split.train.n_interactions == (stamps < edge[0]).sum()
    assert len(split.test) == (stamps >= edge[1]).sum()
    assert split.train.interactions["timestamp"].max() < edge[0]
    assert np.array_equal(split.train.new_items, split.train.popularity == 0)


def test_temporal_cut_by_date():
    log = log_of([4, 4]).with_columns(
        pl.Series("timestamp", ["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"] * 2).str.to_datetime()
    )
    for given in (log, log.with_columns(pl.col("timestamp").dt.epoch("ms"))):
        split = split_dataset(from_frames(given), "temporal", valid_from="2020-03-01", test_from="2020-04-01")
        assert sizes(split) == [(2, 1, 1), (2, 1, 1)]


def test_temporal_needs_times():
    log = log_of([5, 5]).with_columns(position=pl.int_range(10))
    with pytest.raises(InputError, match="has no timestamps, so it can't be cut by time; choose another split"):
        split_dataset(from_frames(log.drop("timestamp")), "temporal")
    gap = log.with_columns(timestamp=pl.when(pl.col("timestamp") != 3).then("timestamp"))
    with pytest.raises(InputError, match=r"1 of 10 events have no timestamp, .* pass missing_time='drop'"):
        split_dataset(from_frames(gap), "temporal")
    split = split_dataset(from_frames(gap), "temporal", test_share=0.3, missing_time="drop")
    assert split.train.n_interactions + len(split.valid) + len(split.test) == 9


def test_cold_items_are_never_trained_on():
    data = from_frames(log_of([40] * 10, items=40))
    split = split_dataset(data, "cold-items", share=0.25, seed=3)
    new = np.flatnonzero(split.train.new_items)
    assert len(new) == 10
    assert not np.isin(split.train.item_index, new).any()
    assert set(split.valid.item_index.tolist()) | set(split.test.item_index.tolist()) == set(new.tolist())
    assert not set(split.valid.item_index.tolist()) & set(split.test.item_index.tolist())
    assert len(set(split.valid.item_index.tolist())) == 5
    assert (split.train.popularity[~split.train.new_items] == 10).all()


def test_newest_items_can_be_the_cold_ones():
    log = log_of([20] * 5, items=20).with_columns(timestamp=pl.Series([k for _ in range(5) for k in range(20)]))
    split = split_dataset(from_frames(log), "cold-items", share=0.2, choose="newest")
    assert np.flatnonzero(split.train.new_items).tolist() == [16, 17, 18, 19]
    with pytest.raises(InputError, match="its newest items are not known; pass choose='random'"):
        split_dataset(from_frames(log.drop("timestamp")), "cold-items", choose="newest")


def test_given_column_with_every_spelling():
    values = ["train", "trn", "Training", "valid", "val", "validation", "dev", "test", "tst", " TEST "]
    split = split_dataset(from_frames(log_of([10, 10]).with_columns(split=pl.Series(values * 2))), "given")
    assert sizes(split) == [(3, 4, 3), (3, 4, 3)]
    wrong = log_of([2, 2]).with_columns(split=pl.Series(["train", "test", "tran", "tran"]))
    with pytest.raises(
        InputError, match=r"2 of 4 events have a split that is not understood \('tran'\) \(did you mean 'train'\?\); use train"
    ):
        split_dataset(from_frames(wrong), "given")
    with pytest.raises(InputError, match="has no 'split' column; give it one, or name a split file"):
        split_dataset(from_frames(log_of([3, 3])), "given")


def folder_with_split(tmp_path, split: pl.DataFrame):
    log = log_of([6, 6, 6], items=6)
    log.write_parquet(tmp_path / "interactions.parquet")
    names = [*log["item_id"].unique().sort().to_list(), "unused"]
    pl.DataFrame({"item_id": names, "title": names}).write_parquet(tmp_path / "items.parquet")
    split.write_parquet(tmp_path / "split_mine.parquet")
    return read_dataset(tmp_path)


def test_given_file_restricts_the_log(tmp_path):
    table = log_of([6, 6, 6], items=6).filter(pl.col("item_id") != "i005").select("user_id", "item_id").with_row_index("n")
    table = table.with_columns(
        split=pl.when(pl.col("n") % 5 < 3).then(pl.lit("train")).when(pl.col("n") % 5 == 3).then(pl.lit("val")).otherwise(pl.lit("tst"))
    ).drop("n")
    data = folder_with_split(tmp_path, table.sample(fraction=1, shuffle=True, seed=0))
    split = split_dataset(data, "given:split_mine")
    assert sizes(split) == [(3, 1, 1)] * 3
    assert split.train.items["item_id"].to_list() == ["i000", "i001", "i002", "i003", "i004"]
    assert split.test.item_index.tolist() == [4, 4, 4]
    assert split_dataset(data, "given:split_mine", catalogue="all").train.n_items == 7
    read = read_dataset(tmp_path, split_file="split_mine")
    assert read.n_items == 5
    assert sizes(split_dataset(read, "given")) == [(3, 1, 1)] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.with_columns(item_id=pl.lit("zz")),
            r"split file split_mine: 18 of 18 events are not in the log \(user_id, item_id: \('u000', 'zz'\)\)",
        ),
        (lambda t: pl.concat([t, t[:1]]), r"1 of 19 events are not in the log"),
        (lambda t: t.drop("split"), r"split file split_mine: column 'split' is missing"),
        (lambda t: t.with_columns(split=pl.lit(None, dtype=pl.String)), r"18 of 18 events have no split"),
        (lambda t: t.clear(), r"split file split_mine: the table has no rows"),
    ],
)
def test_bad_split_file(tmp_path, change, message):
    table = log_of([6, 6, 6], items=6).select("user_id", "item_id", split=pl.lit("train"))
    with pytest.raises(InputError, match=message):
        split_dataset(folder_with_split(tmp_path, change(table)), "given:split_mine")


def test_missing_split_file_is_named(tmp_path):
    data = folder_with_split(tmp_path, log_of([2]).select("user_id", "item_id", split=pl.lit("train")))
    with pytest.raises(InputError, match=r"split file 'split_min' in .*: there is no such table \(did you mean 'split_mine.parquet'\?\)"):
        split_dataset(data, "given:split_min")
    with pytest.raises(InputError, match="made from frames; give the log a 'split' column"):
        split_dataset(from_frames(log_of([3, 3])), "given:split_mine")
    with pytest.raises(InputError, match="is a path; give the name of a file"):
        split_dataset(data, "given:../secret")


def test_repeated_pairs_in_a_split_file_match_in_order(tmp_path):
    log = pl.DataFrame({"user_id": ["u", "u", "u", "v"], "item_id": ["a", "b", "a", "b"], "timestamp": [1, 2, 3, 4]})
    log.write_parquet(tmp_path / "interactions.parquet")
    log.select("user_id", "item_id", split=pl.Series(["train", "train", "test", "train"])).write_parquet(tmp_path / "s.parquet")
    split = split_dataset(read_dataset(tmp_path), "given:s")
    assert split.train.interactions["timestamp"].to_list() == [1, 2, 4]


def test_all_keeps_everything():
    split = split_dataset(from_frames(log_of([3, 4])), "all")
    assert (split.train.n_interactions, len(split.valid), len(split.test), split.sees_future) == (7, 0, 0, False)


def test_future_is_warned_of_once(monkeypatch):
    monkeypatch.setattr(splits_module, "_warned", set())
    data = from_frames(log_of([5, 5]))
    with pytest.warns(FutureLeakWarning, match=r"split 'ratio': training holds events later .*; the split 'temporal' does not") as caught:
        assert split_dataset(data, "ratio").sees_future
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_dataset(data, "ratio")
    with pytest.warns(FutureLeakWarning, match="leave-one-out"):
        data.split("leave-one-out")


def test_no_warning_where_no_future_is_seen(monkeypatch):
    monkeypatch.setattr(splits_module, "_warned", set())
    # Every test event is later than every training event, so there is nothing to warn of.
    log = log_of([5, 5]).with_columns(timestamp=pl.Series([0, 1, 2, 3, 90, 0, 1, 2, 3, 91]))
    assert not split_dataset(from_frames(log), "ratio").sees_future
    with pytest.warns(FutureLeakWarning, match="split 'ratio': not all times are known, so training may hold events later"):
        assert split_dataset(from_frames(log.drop("timestamp")), "ratio").sees_future


@pytest.mark.parametrize("name", sorted(set(SPLITS) - {"given"}))
def test_one_user_or_one_item_is_refused(name):
    with pytest.raises(
        InputError, match=re.escape("the data have one user ('u000'), and nothing can be learned or ranked from one; collect at least two")
    ):
        split_dataset(from_frames(log_of([5])), name)
    with pytest.raises(
        InputError, match=re.escape("the data have one item ('i000'), and nothing can be learned or ranked from one; list at least two")
    ):
        split_dataset(from_frames(log_of([5, 5], items=1)), name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("leave-one", {}, r"split is 'leave-one', which is not one of ratio, .* \(did you mean 'leave-one-out'\?\)"),
        ("ratio", {"sed": 1}, r"the split 'ratio' has no option 'sed'; its options are ratios"),
        ("random-433", {"sed": 1}, r"no option 'sed' \(did you mean 'seed'\?\)"),
        ("leave-one-out", {"seed": 1}, r"no option 'seed'; it has no options"),
        ("ratio", {"ratios": (8, 2)}, r"ratios are \[8, 2\]; give three whole numbers"),
        ("ratio", {"ratios": (0, 1, 1)}, r"ratios are \[0, 1, 1\]"),
        ("cold-items", {"share": 1.5}, r"share is 1.5"),
        ("cold-items", {"choose": "newst"}, r"choose is 'newst'; .*\(did you mean 'newest'\?\)"),
        ("temporal", {"test_share": 0.0}, r"test_share is 0.0"),
        ("temporal", {"test_from": "soon"}, r"test_from is 'soon'; give a time stamp or a date"),
        ("temporal", {"test_from": 3, "valid_from": 5}, r"valid_from \(5\) is later than test_from \(3\)"),
        (
            "temporal",
            {"test_from": 99, "valid_from": 99},
            r"leaves no test events of 10 \(the longest history has 5\); choose another split",
        ),
        ("ratio:file", {}, r"only 'given' takes a file"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(InputError, match=message):
        split_dataset(from_frames(log_of([5, 5])), name, **options)


def test_no_test_events_is_an_error():
    with pytest.raises(InputError, match=r"split 'leave-one-out' leaves no test events of 4 \(the longest history has 2\)"):
        split_dataset(from_frames(log_of([2, 2])), "leave-one-out")


def test_options_are_recorded():
    data: Dataset = from_frames(log_of([9, 9]))
    assert split_dataset(data, "random-433", seed=4).options == {"seed": 4}
    assert split_dataset(data, "ratio").options == {"ratios": [8, 1, 1]}


def test_borders_are_in_the_unit_of_the_log():
    dates = pl.Series("timestamp", ["2020-01-01", "2020-02-01", "2020-03-01", "2020-04-01"] * 2).str.to_datetime()
    for unit in (10**3, 10**6, 10**9):
        data = from_frames(log_of([4, 4]).with_columns(dates.dt.epoch("s") * unit))
        assert sizes(split_dataset(data, "temporal", valid_from="2020-03-01", test_from="2020-04-01")) == [(2, 1, 1), (2, 1, 1)]
    data = from_frames(log_of([4, 4]).with_columns(timestamp=pl.Series([1, 2, 3, 4] * 2)))
    assert sizes(split_dataset(data, "temporal", valid_from=3.0, test_from=4.0)) == [(2, 1, 1), (2, 1, 1)]
    with pytest.raises(InputError, match=r"test_from is 3\.5; give a whole time stamp"):
        split_dataset(data, "temporal", valid_from=3, test_from=3.5)


@pytest.mark.parametrize("border", [30, 60, 99])
def test_validation_has_its_share_before_a_border_that_was_given(border):
    data = from_frames(log_of([50, 50]).with_columns(timestamp=pl.int_range(100)))
    train, valid, test = np.sum(sizes(split_dataset(data, "temporal", test_from=border, valid_share=0.1)), axis=0)
    assert (train, valid, test) == (border - 10, 10, 100 - border)
