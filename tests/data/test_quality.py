"""What describe counts and what check finds: each problem is planted and looked for."""

import json
import time

import numpy as np
import polars as pl
import pytest

from lexirec.data import describe, from_frames, problems, split_dataset

pytestmark = pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")

LOG = pl.DataFrame({"user_id": list("uuuvvv"), "item_id": list("abcabd"), "timestamp": [1_500_000_000 + k for k in range(6)]})
ITEMS = pl.DataFrame({"item_id": list("abcd"), "title": ["Soap", "Brush", "Oil", "Cup"]})


def found(log: pl.DataFrame = LOG, items: pl.DataFrame = ITEMS, split: str | None = None, **options) -> list[str]:
    data = from_frames(log, items)
    return [f"{p.level} {p.place}: {p.finding}" for p in problems(data, None if split is None else split_dataset(data, split, **options))]


def test_clean_data_has_no_problem():
    assert found() == []


def test_html_in_texts_is_advised_on_and_signs_are_not_taken_for_it():
    items = ITEMS.with_columns(
        title=pl.Series(["<b>Soap</b>", "Salt &amp; Oil", "I <3 tea, 1 < 2 > 0", "AT&T; R&D <new>"]),
        description=pl.Series([None, "Tea<br/>green", "<script>x()</script>", None]),
    )
    assert found(items=items) == [
        "advice items.title: 2 of 4 texts hold HTML ('<b>Soap</b>', 'Salt &amp; Oil'); an encoder reads it as words",
        "advice items.description: 2 of 4 texts hold HTML ('Tea<br/>green', '<script>x()</script>'); an encoder reads it as words",
    ]


def test_describe():
    items = pl.concat([ITEMS, pl.DataFrame({"item_id": ["e"], "title": [None]}, schema_overrides={"title": pl.String})]).with_columns(
        tags=pl.Series([["x"], [], None, ["y"], ["z"]]), brand=pl.Series(["B", " ", None, None, None])
    )
    log = pl.concat([LOG, LOG[:1]]).with_columns(
        rating=pl.Series([1.0, 2, 3, 4, 5, 5, None]), split=pl.Series(["train"] * 5 + ["test"] * 2)
    )
    facts = describe(from_frames(log, items, name="shop"))
    json.dumps(facts, allow_nan=False)
    assert (facts["name"], facts["users"], facts["items"], facts["items_with_interactions"], facts["interactions"]) == ("shop", 2, 5, 4, 7)
    assert facts["density"] == 7 / 8
    assert facts["user_length"] == {"mean": 3.5, "median": 3.5, "min": 3, "max": 4}
    assert facts["item_count"] == {"mean": 1.75, "median": 1.5, "min": 1, "max": 3}
    assert facts["repeated_pairs"] == 1
    assert facts["timestamps"]["first_utc"] == "2017-07-14T02:40:00+00:00"
    assert (facts["timestamps"]["known"], facts["timestamps"]["order"]) == (7, "timestamp")
    assert {k: v["share"] for k, v in facts["text"].items()} == {"title": 0.8, "tags": 0.6, "brand": 0.2}
    assert facts["head_items"] == {"share_of_events": 0.8, "items": 3, "share_of_items": 0.75}
    assert facts["rating"] == {"known": 6, "mean": pytest.approx(20 / 6), "min": 1.0, "max": 5.0}
    assert facts["split"] == {"test": 2, "train": 5}
    assert len(facts["content_hash"]) == 64


@pytest.mark.parametrize(
    ("log", "items", "message"),
    [
        (
            LOG,
            ITEMS.with_columns(title=pl.Series(["Soap", "", None, "Cup"])),
            r"advice items.title: 2 of 4 items have no title \(item_id 'b', 'c'\)",
        ),
        (LOG, ITEMS.with_columns(title=pl.lit(None, dtype=pl.String)), "warning items.title: 4 of 4 items have no title"),
        (
            LOG,
            ITEMS.with_columns(title=pl.Series(["Soap", "x" * 2000, "Oil", "Cup"])),
            r"1 of 4 titles are longer than 1,000 characters \(item_id 'b'; the longest has 2,000\)",
        ),
        (
            LOG,
            ITEMS.with_columns(title=pl.Series(["Soap", "Soap", "Oil", "Cup"])),
            r"2 of 4 items share their title with another \('Soap'\)",
        ),
        (LOG, pl.concat([ITEMS, pl.DataFrame({"item_id": ["z"], "title": ["Zoo"]})]), "advice items: 1 of 5 items have no interactions"),
        (
            LOG.with_columns(user_id=pl.lit("u") + pl.col("user_id") + " "),
            ITEMS,
            r"interactions.user_id: 2 of 2 ids begin or end with white space \('uu ', 'uv '\)",
        ),
        (LOG.drop("timestamp"), ITEMS, "there are no timestamps; events are ordered by the order of the rows"),
        (LOG.with_columns(timestamp=pl.lit(5)), ITEMS, "4 of 6 events share the timestamp of the user's previous event"),
        (
            LOG.with_columns(position=pl.Series([2, 1, 0, 0, 1, 2])),
            ITEMS,
            "warning interactions.position: 2 of 6 events are earlier than the one at the user's previous",
        ),
        (LOG.with_columns(position=pl.Series([0, 0, 1, 0, 1, 2])), ITEMS, "warning interactions.position: 1 of 6 events share a position"),
        (
            LOG.with_columns(timestamp=pl.Series([1_500_000_000, *[1_500_000_000_000 + k for k in range(5)]])),
            ITEMS,
            "seconds and milliseconds seem mixed",
        ),
        (LOG.with_columns(pl.col("timestamp") + int(time.time())), ITEMS, "in the future"),
        (LOG[:5], ITEMS, "1 of 2 users have fewer than 3 events"),
        (
            LOG.with_columns(item_id=pl.Series(list("aabcda"))),
            ITEMS,
            "1 of 6 events repeat a user-item pair, 1 of them directly after the same item",
        ),
        (pl.concat([LOG, LOG[:1]]), ITEMS, "warning interactions: 1 of 7 rows are exact copies of another"),
        (LOG.with_columns(rating=pl.Series([1.0, 2, 3, 4, 5, 5])), ITEMS, "2 of 6 ratings are below 3"),
        (
            LOG.with_columns(split=pl.Series(["train", "train", "train", "train", "train", "test"])),
            ITEMS,
            "split column: 1 of 1 test events are of items without training events",
        ),
        (LOG.filter(pl.col("user_id") == "u"), ITEMS[:3], "there are 1 users and 3 items"),
    ],
)
def test_planted_problems_are_found(log, items, message):
    import re

    assert any(re.search(message, line) for line in found(log, items)), found(log, items)


def test_missing_times_are_found_where_position_is_the_order():
    log = LOG.with_columns(position=pl.int_range(6), timestamp=pl.when(pl.col("timestamp") != 1_500_000_002).then("timestamp"))
    assert any("1 of 6 events have no timestamp" in line for line in found(log))


def test_leaks_across_a_split_are_found():
    log = pl.concat([LOG, pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", "a"], "timestamp": [1_500_000_100, 1_500_000_101]})])
    leaks = [line for line in found(log, split="leave-one-out") if "split leave-one-out" in line]
    assert any("2 of 2 test events are user-item pairs that occur in an earlier part too" in line for line in leaks)
    assert any("training may hold events later" in line for line in found(split="leave-one-out"))
    assert not any("split" in line and "warning" in line for line in found(split="temporal", test_share=0.3))


def test_strangers_of_a_temporal_split_are_found():
    lines = found(split="temporal", test_share=0.3, valid_share=0.3)
    assert any("test events belong to users without training events" in line for line in lines)


def test_warnings_come_first():
    log = pl.concat([LOG, LOG[:1]])
    levels = [line.split()[0] for line in found(log, ITEMS.with_columns(title=pl.Series(["Soap", None, "Oil", "Cup"])))]
    assert levels == sorted(levels, key=lambda level: level != "warning")
    assert len(set(levels)) == 2


def test_describe_of_a_constant_log_is_finite():
    facts = describe(from_frames(pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})))
    assert facts["density"] == 1.0
    assert facts["timestamps"]["known"] == 0
    assert np.isfinite(facts["user_length"]["mean"])
