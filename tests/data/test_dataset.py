"""The contracts: order of events, hash, parts that can't see held-out events, mixes."""

import numpy as np
import polars as pl
import pytest

from lexirec.data import Dataset, from_frames, k_core, mix, split_dataset
from lexirec.errors import InputError

LOG = pl.DataFrame(
    {
        "user_id": ["v", "u", "u", "v", "u"],
        "item_id": ["b", "c", "a", "a", "b"],
        "timestamp": [5, 30, 10, 1, 20],
        "rating": [1.0, 2, 3, 4, 5],
    }
)
ITEMS = pl.DataFrame({"item_id": ["c", "a", "b"], "title": ["Cup", "Axe", None], "tags": [["x", "y"], None, []], "price": [1.5, None, 2.0]})


def random_log(n: int = 400, users: int = 30, items: int = 20, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in rng.integers(0, users, n)],
            "item_id": [f"i{i}" for i in rng.integers(0, items, n)],
            "timestamp": rng.permutation(n),
        }
    )


def histories(data: Dataset) -> dict[str, list[str]]:
    return {
        user: data.item_map.ids.gather(data.item_index[data.offsets[i] : data.offsets[i + 1]]).to_list()
        for i, user in enumerate(data.users.ids)
    }


def test_events_are_ordered_by_timestamp():
    assert histories(from_frames(LOG, ITEMS)) == {"u": ["a", "b", "c"], "v": ["a", "b"]}


def test_position_wins_over_timestamp():
    log = LOG.with_columns(position=pl.Series([0, 0, 2, 1, 1]))
    assert histories(from_frames(log, ITEMS)) == {"u": ["c", "b", "a"], "v": ["b", "a"]}


def test_file_order_decides_without_times_and_in_ties():
    assert histories(from_frames(LOG.drop("timestamp"), ITEMS)) == {"u": ["c", "a", "b"], "v": ["b", "a"]}
    assert histories(from_frames(LOG.with_columns(timestamp=pl.lit(7)), ITEMS)) == {"u": ["c", "a", "b"], "v": ["b", "a"]}


def test_missing_time_counts_as_earliest_where_position_is_not_the_order():
    log = LOG.with_columns(timestamp=pl.Series([None, 3, 2, None, 1], dtype=pl.Int64))
    assert histories(Dataset(log, ITEMS)) == {"u": ["b", "a", "c"], "v": ["b", "a"]}


@pytest.mark.parametrize("stretch", [1, 2**55])
def test_order_holds_for_any_time_range(stretch):
    # With a wide range of times, user and time don't fit one 64-bit key and the two-column sort is taken.
    log = random_log().with_columns(pl.col("timestamp") * (stretch // 400 or 1) - 5)
    data = from_frames(log)
    expected = {
        key[0]: part.sort("timestamp", maintain_order=True)["item_id"].to_list()
        for key, part in log.group_by(["user_id"], maintain_order=True)
    }
    assert histories(data) == expected


def test_positions_are_ranks_of_sorted_ids():
    data = from_frames(LOG, ITEMS)
    assert data.items["item_id"].to_list() == ["a", "b", "c"]
    assert data.users.ids.to_list() == ["u", "v"]
    assert data.item_map.name(data.item_index).to_list() == data.interactions["item_id"].to_list()
    assert data.users.name(data.user_index).to_list() == data.interactions["user_id"].to_list()
    assert data.offsets.tolist() == [0, 3, 5]


def test_hash_is_stable():
    data = from_frames(LOG, ITEMS)
    shuffled = from_frames(LOG[[4, 0, 2, 3, 1]], ITEMS[[2, 0, 1]])
    chunked = from_frames(pl.concat([LOG[:2], LOG[2:]], rechunk=False), pl.concat([ITEMS[:1], ITEMS[1:]], rechunk=False))
    assert data.content_hash == shuffled.content_hash == chunked.content_hash
    # A fixed value: the hash must not change with the Polars version, since results name their data by it.
    assert data.content_hash == "2e5c7071243488f768a312002732768ca74257f385fd649fee6d94525f1e7e05"


@pytest.mark.parametrize(
    "items",
    [
        ITEMS.with_columns(title=pl.Series(["Cup", "Axe", "Saw"])),
        ITEMS.with_columns(tags=pl.Series([["x"], None, ["y"]])),
        ITEMS.with_columns(tags=pl.Series([["xy"], None, []])),
        ITEMS.with_columns(price=pl.Series([1.5, 0.0, 2.0])),
        ITEMS.rename({"price": "cost"}),
    ],
)
def test_hash_sees_every_change(items):
    assert from_frames(LOG, items).content_hash != from_frames(LOG, ITEMS).content_hash


def test_hash_of_nested_and_other_types():
    items = ITEMS.with_columns(
        box=pl.Series([{"w": 1, "n": "a"}, {"w": 2, "n": None}, None]),
        day=pl.Series([1, 2, 3]).cast(pl.Date),
        kind=pl.Series(["p", "q", "p"]).cast(pl.Categorical),
        flag=pl.Series([True, None, False]),
        pair=pl.Series([[1, 2], [3, 4], [5, 6]], dtype=pl.Array(pl.Int64, 2)),
        nothing=pl.Series([None] * 3),
    )
    first, again = (from_frames(LOG, frame).content_hash for frame in (items, items[[1, 2, 0]]))
    assert first == again
    other = items.with_columns(box=pl.Series([{"w": 1, "n": "a"}, {"w": 3, "n": None}, None]))
    assert from_frames(LOG, other).content_hash != first


def test_order_within_ties_is_content():
    tied = LOG.with_columns(timestamp=pl.lit(1))
    assert from_frames(tied, ITEMS).content_hash != from_frames(tied[::-1], ITEMS).content_hash


def test_train_set_counts():
    log = pl.concat([LOG, LOG[:1].with_columns(timestamp=pl.lit(99, dtype=pl.Int64))])
    train = from_frames(log, ITEMS).train_set()
    offsets, items = train.pairs
    assert offsets.tolist() == [0, 3, 5]
    assert items.tolist() == [0, 1, 2, 0, 1]
    assert train.popularity.tolist() == [2, 3, 1]
    assert train.history(1).tolist() == [0, 1, 1]
    assert train.user_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.n_domains == 1


@pytest.mark.parametrize("name", ["ratio", "ratio-at-least-one", "random-433", "leave-one-out", "temporal", "cold-items"])
@pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")
def test_parts_are_disjoint_and_complete(name):
    data = from_frames(random_log())
    split = split_dataset(data, name)
    stamps = data.interactions["timestamp"]
    held = data.n_interactions - split.train.n_interactions
    assert held == len(split.valid) + len(split.test)
    # Timestamps are unique here, so they name the events: no held-out event is in the training part, in any of its arrays.
    trained = set(split.train.interactions["timestamp"].to_list())
    assert len(trained) == split.train.n_interactions == len(split.train.item_index) == split.train.offsets[-1]
    kept = data.interactions.filter(stamps.is_in(list(trained)))
    assert split.train.interactions.equals(kept)
    assert split.train.users.name(split.train.user_index).to_list() == kept["user_id"].to_list()
    assert split.train.item_map.name(split.train.item_index).to_list() == kept["item_id"].to_list()
    rest = data.interactions.filter(~stamps.is_in(list(trained))).select("user_id", "item_id").sort(pl.all())
    parts = [
        pl.DataFrame({"user_id": split.train.users.name(p.user_index), "item_id": split.train.item_map.name(p.item_index)})
        for p in (split.valid, split.test)
    ]
    assert pl.concat(parts).sort(pl.all()).equals(rest)


@pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")
def test_planted_test_pair_is_in_no_derived_array():
    log = pl.concat([random_log(), pl.DataFrame({"user_id": ["u0"], "item_id": ["secret"], "timestamp": [10**6]})])
    split = split_dataset(from_frames(log), "leave-one-out")
    secret = split.train.item_map.index(["secret"])[0]
    assert secret in split.test.item_index
    assert split.train.popularity[secret] == 0
    assert secret not in split.train.pairs[1]
    assert "secret" not in split.train.interactions["item_id"].to_list()


@pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")
def test_split_hash_names_the_cut():
    data = from_frames(random_log())
    hashes = [
        split_dataset(data, name, **o).train.content_hash for name, o in (("ratio", {}), ("random-433", {}), ("random-433", {"seed": 1}))
    ]
    assert len({*hashes, data.content_hash}) == 4
    assert split_dataset(data, "random-433", seed=1).train.content_hash == hashes[2]


def test_subset_equals_a_fresh_dataset():
    data = from_frames(random_log(), None)
    rows = data.item_index % 3 != 0
    part = data.subset(rows, np.arange(data.n_items) % 3 != 0)
    fresh = Dataset(data.interactions.filter(pl.Series(rows)), data.items.filter(pl.Series(np.arange(data.n_items) % 3 != 0)))
    assert part.content_hash == fresh.content_hash
    for name in ("user_index", "item_index", "offsets"):
        assert np.array_equal(getattr(part, name), getattr(fresh, name)), name
    assert part.users.ids.equals(fresh.users.ids)
    with pytest.raises(ValueError, match="not kept"):
        data.subset(rows, np.zeros(data.n_items, dtype=bool))


@pytest.mark.filterwarnings("ignore::lexirec.data.FutureLeakWarning")
def test_mix_keeps_blocks_apart():
    splits = [split_dataset(from_frames(random_log(seed=s, users=10 + s, items=8 + s), name=f"d{s}"), "leave-one-out") for s in (0, 1, 2)]
    mixed, valid = mix([(s.train, s.valid) for s in splits])
    assert mixed.n_domains == 3
    assert valid is not None
    assert mixed.n_interactions == sum(s.train.n_interactions for s in splits)
    assert len(valid) == sum(len(s.valid) for s in splits)
    for domain, split in enumerate(splits):
        users = slice(*mixed.user_domains[domain : domain + 2])
        low, high = mixed.item_domains[domain : domain + 2]
        assert users.stop - users.start == split.train.n_users
        assert high - low == split.train.n_items
        rows = slice(mixed.offsets[users.start], mixed.offsets[users.stop])
        assert np.array_equal(mixed.item_index[rows], split.train.item_index + low)
        assert np.array_equal(mixed.user_index[rows], split.train.user_index + users.start)
        inside = (valid.user_index >= users.start) & (valid.user_index < users.stop)
        assert np.array_equal(valid.item_index[inside], split.valid.item_index + low)
    # Ids that occur in several catalogues stay apart.
    assert mixed.items["item_id"].n_unique() == mixed.n_items
    assert mixed.items["item_id"][0] == "d0/i0"
    assert mixed.item_map.name(mixed.item_index).to_list() == mixed.interactions["item_id"].to_list()


def test_mix_keeps_reviews():
    def part(name, **columns):
        return from_frames(LOG.with_columns(**columns), ITEMS, name=name).train_set()

    texts = ["fine", "dull", None, "", "so so"]
    told, silent = part("told", review=pl.Series(texts)), part("silent")
    labels = part("labels", review=pl.Series(texts, dtype=pl.Categorical))
    mixed, _ = mix([(told, None), (silent, None), (labels, None)])
    own = told.interactions["review"].to_list()
    assert mixed.interactions["review"].to_list() == [*own, *[None] * 5, *own]
    assert set(own) == set(texts)
    rows = mixed.interactions.select("user_id", "item_id", "review").rows()
    assert ("told/u", "told/c", "dull") in rows
    assert ("labels/v", "labels/b", "fine") in rows
    assert ("silent/u", "silent/c", None) in rows
    assert mixed.interactions["user_id"].to_list() == mixed.users.ids.gather(mixed.user_index).to_list()
    assert "review" not in mix([(silent, None), (part("other"), None)])[0].interactions.columns


def test_mix_of_columns_of_unlike_types():
    def part(name, values, dtype=None):
        return from_frames(LOG, ITEMS.with_columns(x=pl.Series([values] * ITEMS.height, dtype=dtype)), name=name).train_set(), None

    lists, text, number = part("lists", ["a", "b"]), part("text", "a|b"), part("number", 1.5)
    labels = part("labels", "c", pl.Enum(["c"]))
    mixed, _ = mix([lists, text, labels, part("none", None, pl.String)])
    assert mixed.items["x"].to_list() == [x for x in (["a", "b"], ["a|b"], ["c"], None) for _ in range(ITEMS.height)]
    assert set(mix([text, number, labels, part("others", "d", pl.Enum(["d"]))])[0].items["x"]) == {"a|b", "1.5", "c", "d"}
    assert mix([number, part("whole", 2)])[0].items["x"].dtype == pl.Float64
    told = r"items column 'x' is Struct.* in struct, String in text, which .* give it one type in all data sets of the mix, or leave it out"
    with pytest.raises(InputError, match=told):
        mix([part("struct", {"a": 1}), text])
    for other in (number, part("truth", True), part("deep", [{"a": 1}])):
        with pytest.raises(InputError, match=r"items column 'x' is .* in lists, .* in (number|truth|deep), which can't be read as one"):
            mix([lists, other])


def test_mix_without_validation():
    train = from_frames(LOG, ITEMS).train_set()
    mixed, valid = mix([(train, None)])
    assert valid is None
    assert mixed.n_domains == 1


def test_repeated_use_gives_the_same():
    data = from_frames(random_log())
    assert k_core(data, 5, 5).content_hash == k_core(data, 5, 5).content_hash
