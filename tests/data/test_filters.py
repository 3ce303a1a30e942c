"""Filters against counts by hand."""

import polars as pl
import pytest

from lexirec.data import Dataset, drop_duplicates, filter_rating, from_frames, interacted_only, k_core
from lexirec.data.filters import DUPLICATE_RULES
from lexirec.errors import InputError


def make(baskets: dict[str, str], **columns: list) -> Dataset:
    log = pl.DataFrame([(user, item) for user, items in baskets.items() for item in items], schema=["user_id", "item_id"], orient="row")
    return from_frames(log.with_columns(pl.Series(k, v) for k, v in columns.items()))


def baskets(data: Dataset) -> dict[str, str]:
    return {u: "".join(part) for u, part in data.interactions.group_by("user_id", maintain_order=True).agg("item_id").iter_rows()}


def test_single_pass_counts_users_first_and_does_not_return():
    # Once u3 is gone, c has one event left and goes too; u2 is then below the minimum and stays.
    data = make({"u1": "abab", "u2": "abc", "u3": "c"})
    assert baskets(k_core(data, 3, 2, "single-pass")) == {"u1": "abab", "u2": "ab"}
    assert baskets(k_core(data, 3, 2, "iterated")) == {"u1": "abab"}


def test_simultaneous_counts_on_the_raw_log():
    # LLMEmb's conformance item 14: both counts are of the raw log, then a minimum length.
    data = make({"u1": "abc", "u2": "ab", "u3": "abd"})
    once = k_core(data, 3, 3, "simultaneous")
    assert baskets(once) == {"u1": "ab", "u3": "ab"}
    with pytest.raises(
        InputError, match=r"k-core of user=3, item=0 \(single-pass\) leaves nothing of 4 events \(the longest history has 2\)"
    ):
        k_core(once, 3, 0, "single-pass")
    assert baskets(k_core(make({"u1": "abc", "u2": "abc", "u3": "abcd"}), 3, 3, "simultaneous")) == {"u1": "abc", "u2": "abc", "u3": "abc"}


def test_iterated_core_is_a_fixed_point_and_drops_items_from_the_catalogue():
    data = make({"u1": "abcx", "u2": "abc", "u3": "abcy", "u4": "ax"})
    core = k_core(data, 3, 3)
    assert baskets(core) == {"u1": "abc", "u2": "abc", "u3": "abc"}
    assert core.items["item_id"].to_list() == ["a", "b", "c"]
    assert k_core(core, 3, 3) is core
    assert k_core(data, 3, 3, keep_items=True).items["item_id"].to_list() == ["a", "b", "c", "x", "y"]


def test_item_minimum_alone():
    # AlphaRec's MovieLens: items once, users not filtered again.
    assert baskets(k_core(make({"u1": "ab", "u2": "a"}), 0, 2, "single-pass")) == {"u1": "a", "u2": "a"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "iterate"}, r"k-core mode is 'iterate'; choose one of iterated, .* \(did you mean 'iterated'\?\)"),
        ({"user": -1}, r"minima are user=-1, item=5; they are counts of at least 0"),
        ({"user": 9}, r"leaves nothing of 3 events \(the longest history has 2\); lower the minima"),
    ],
)
def test_bad_core(arguments, message):
    with pytest.raises(InputError, match=message):
        k_core(make({"u1": "ab", "u2": "a"}), **arguments)


def test_duplicate_rules():
    data = make({"u1": "aabaa", "u2": "aa"})
    assert baskets(drop_duplicates(data, "all")) == {"u1": "aabaa", "u2": "aa"}
    assert baskets(drop_duplicates(data, "first")) == {"u1": "ab", "u2": "a"}
    assert baskets(drop_duplicates(data, "last")) == {"u1": "ba", "u2": "a"}
    # CALRec: only an event equal to the one before it goes; the last a of u1 and the first a of u2 are neighbours, yet of two users.
    assert baskets(drop_duplicates(data, "consecutive")) == {"u1": "aba", "u2": "a"}
    with pytest.raises(
        InputError, match=r"4 of 7 events repeat a user-item pair \(user_id item_id: 'u1 a', 'u1 a', 'u1 a', ...\); choose which to keep"
    ):
        drop_duplicates(data, "error")
    with pytest.raises(InputError, match=r"duplicates is 'frist'; .* \(did you mean 'first'\?\)"):
        drop_duplicates(data, "frist")


def test_exact_copies_differ_from_repeats():
    data = make({"u1": "aaab"}, timestamp=[1, 1, 2, 3], position=[0, 1, 2, 3])
    assert drop_duplicates(data, "exact").interactions["timestamp"].to_list() == [1, 2, 3]


def test_consecutive_exact_keeps_an_item_bought_again():
    """The specification's example: A(t1, 5), A(t1, 5), B, A(t2, 5) leaves A, B, A; A(t1, 5), A(t1, 4) both stay."""
    again = make({"u1": "aaba"}, timestamp=[1, 1, 2, 3], rating=[5.0, 5.0, 3.0, 5.0], position=[0, 1, 2, 3])
    kept = drop_duplicates(again, "consecutive-exact")
    assert baskets(kept) == {"u1": "aba"} and kept.interactions["timestamp"].to_list() == [1, 2, 3]
    rated = make({"u1": "aa"}, timestamp=[1, 1], rating=[5.0, 4.0])
    assert drop_duplicates(rated, "consecutive-exact") is rated
    assert baskets(drop_duplicates(rated, "consecutive")) == {"u1": "a"}
    # Missing values are equal to each other and to nothing else; two users with the same event are no repeat.
    missing = make({"u1": "aaa", "u2": "a"}, timestamp=[1, 1, 1, 1], rating=[None, None, 5.0, 5.0])
    assert drop_duplicates(missing, "consecutive-exact").interactions["rating"].to_list() == [None, 5.0, 5.0]
    # A copy that is not next to its like stays, which "exact" drops.
    apart = make({"u1": "aba"}, timestamp=[1, 1, 1])
    assert drop_duplicates(apart, "consecutive-exact") is apart and baskets(drop_duplicates(apart, "exact")) == {"u1": "ab"}


def test_no_repeats_pass_every_rule():
    data = make({"u1": "ab"})
    for rule in DUPLICATE_RULES:
        assert drop_duplicates(data, rule) is data


def test_rating_filter():
    data = make({"u1": "abc", "u2": "a"}, rating=[4.0, 3.5, None, 5.0])
    kept = filter_rating(data, 4)
    assert baskets(kept) == {"u1": "a", "u2": "a"}
    assert kept.n_items == 3
    assert interacted_only(kept).items["item_id"].to_list() == ["a"]
    with pytest.raises(InputError, match=r"no event has a rating of at least 6; the highest is 5.0, so lower the minimum"):
        filter_rating(data, 6)
    with pytest.raises(InputError, match="no 'rating' column to filter by"):
        filter_rating(make({"u": "ab"}), 4)
