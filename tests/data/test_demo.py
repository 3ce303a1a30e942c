import numpy as np
import pytest

from lexirec.data.demo import COLOURS, NAME, demo_split, simulated_shop
from lexirec.data.demo_words import STYLES, product_types, style_words
from lexirec.errors import InputError


@pytest.fixture(scope="module")
def shop():
    return simulated_shop()


def nouns(data):
    return data.items["categories"].list.first().str.split(" > ").list.last().to_numpy()[data.item_index]


def asymmetry(data) -> float:
    """Share of type pairs (a then b) whose direction is one-sided; 0.5 + sampling noise where events are exchangeable."""
    kinds = np.unique(nouns(data), return_inverse=True)[1]
    inside = data.user_index[1:] == data.user_index[:-1]
    a, b = kinds[:-1][inside], kinds[1:][inside]
    keys, counts = np.unique(a * 1000 + b, return_counts=True)
    count = dict(zip(keys.tolist(), counts.tolist(), strict=True))
    pairs = {(min(k // 1000, k % 1000), max(k // 1000, k % 1000)) for k in count if k // 1000 != k % 1000}
    both = [(count.get(x * 1000 + y, 0), count.get(y * 1000 + x, 0)) for x, y in pairs]
    frequent = [(m, n) for m, n in both if m + n >= 20]
    return float(np.mean([max(m, n) / (m + n) for m, n in frequent]))


def follows(data) -> float:
    """Share of events whose type is among the types usually bought after the event before."""
    types, _ = product_types()
    after = {kind.noun: set(kind.following) for kind in types}
    names = nouns(data)
    inside = data.user_index[1:] == data.user_index[:-1]
    return float(np.mean([b in after[a] for a, b in zip(names[:-1][inside], names[1:][inside], strict=True)]))


def test_size_and_columns(shop):
    assert (shop.n_items, shop.n_users, shop.name) == (3000, 4000, NAME)
    assert shop.items.columns == ["item_id", "title", "brand", "categories", "department", "price", "year"]
    assert shop.interactions.columns == ["user_id", "item_id", "timestamp"]
    assert shop.items.null_count().sum_horizontal().item() == 0
    assert "simulated" in shop.name


def test_events_per_shopper(shop):
    lengths = np.diff(shop.offsets)
    assert 8 <= lengths.mean() <= 14
    assert lengths.min() >= 4
    assert lengths.max() <= 40


def test_titles_are_distinct_and_carry_their_words(shop):
    titles = shop.items["title"]
    assert titles.n_unique() >= 0.999 * len(titles)
    for row in shop.items.iter_rows(named=True):
        department, _, noun = row["categories"][0].split(" > ")
        assert noun in row["title"]
        assert row["brand"] in row["title"]
        assert department == row["department"]
        assert "  " not in row["title"]
        assert 10 < len(row["title"]) < 140


def test_prices_and_years(shop):
    assert shop.items["price"].min() > 0
    assert shop.items["price"].max() < 1000
    assert shop.items["year"].is_between(2014, 2023).all()


def test_all_departments_are_there(shop):
    counts = shop.items["department"].value_counts()["count"]
    assert len(counts) == 12
    assert counts.min() > 100


def test_long_tail(shop):
    counts = np.sort(np.bincount(shop.item_index, minlength=shop.n_items))[::-1]
    assert 0.45 < counts[:600].sum() / counts.sum() < 0.75  # a fifth of the items holds about half of the events
    assert counts[0] > 6 * counts.mean()
    assert np.median(counts) < counts.mean()


def test_nobody_buys_an_item_twice_and_time_goes_on(shop):
    assert shop.interactions.select("user_id", "item_id").is_unique().all()
    same_user = shop.user_index[1:] == shop.user_index[:-1]
    gaps = np.diff(shop.interactions["timestamp"].to_numpy())[same_user]
    assert gaps.min() >= 59
    assert shop.interactions["timestamp"].min() >= 1_609_459_200


def test_same_seed_same_shop_other_seed_another():
    a, b, other = (simulated_shop(200, 100, seed=s) for s in (3, 3, 4))
    assert a.content_hash == b.content_hash != other.content_hash


def test_dial_leaves_catalogue_and_tastes():
    low, high = (simulated_shop(400, 200, order=o) for o in (0.0, 1.0))
    assert low.items.equals(high.items)
    assert not low.interactions.equals(high.interactions)
    first = [set(data.item_index[data.offsets[u] : data.offsets[u + 1]]) for u in range(40) for data in (low, high)]
    # The first event starts from the same numbers.
    assert np.mean([bool(a & b) for a, b in zip(first[::2], first[1::2], strict=True)]) > 0.5


def test_order_dial_zero_is_exchangeable():
    # In random order each direction is a fair coin: the larger side of 20 to 100 throws is near .57.
    assert asymmetry(simulated_shop(order=0.0)) < 0.60


def test_order_dial_one_is_directed():
    data = simulated_shop(order=1.0)
    assert asymmetry(data) > 0.75
    assert follows(data) > 0.9


def test_order_dial_is_monotone():
    shares = [follows(simulated_shop(1500, 800, order=o)) for o in (0.0, 0.3, 0.6, 1.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.25
    assert 0.2 < shares[1] - shares[0] < 0.45


def test_tastes_show_in_words(shop):
    """A shopper's departments and styles repeat more often than chance."""
    department = np.unique(shop.items["department"].to_numpy(), return_inverse=True)[1][shop.item_index]
    rng = np.random.default_rng(0)
    same = shop.user_index[1:] == shop.user_index[:-1]
    observed = (department[1:] == department[:-1])[same].mean()
    assert observed > 3 * (rng.permutation(department)[1:] == department[:-1]).mean()
    brand = np.unique(shop.items["brand"].to_numpy(), return_inverse=True)[1][shop.item_index]
    within = same & (department[1:] == department[:-1])
    assert (brand[1:] == brand[:-1])[within].mean() > 1.5 / 8


def test_split_holds_new_items_back(shop):
    split = demo_split(shop)
    new = split.train.new_items
    assert new.sum() == 150
    assert not new[split.train.item_index].any()
    assert not new[split.valid.item_index].any()
    assert 100 < new[split.test.item_index].sum() < 1500
    assert split.sees_future
    assert split.train.n_users == shop.n_users


@pytest.mark.filterwarnings("ignore::lexirec.data.splits.FutureLeakWarning")
def test_split_of_ordinary_items_is_ratio(shop):
    split = demo_split(shop, new_share=0.0)
    ratio = shop.split("ratio")
    for part in ("valid", "test"):
        ours, theirs = getattr(split, part), getattr(ratio, part)
        assert np.array_equal(ours.user_index, theirs.user_index)
        assert np.array_equal(ours.item_index, theirs.item_index)
    assert np.array_equal(split.train.item_index, ratio.train.item_index)


def test_new_items_are_bought_only_after_test_begins(shop):
    split = demo_split(shop)
    events = zip(shop.user_index.tolist(), shop.item_index.tolist(), shop.interactions["timestamp"].to_list(), strict=True)
    time = {(u, i): t for u, i, t in events}
    known = np.full(shop.n_users, -1)
    for part in (split.train, split.valid):
        for u, i in zip(part.user_index.tolist(), part.item_index.tolist(), strict=True):
            known[u] = max(known[u], time[u, i])
    assert all(time[u, i] > known[u] for u, i in zip(split.test.user_index.tolist(), split.test.item_index.tolist(), strict=True))


def test_split_parts_do_not_overlap(shop):
    split = demo_split(shop)
    keys = [part.user_index.astype(np.int64) * shop.n_items + part.item_index for part in (split.train, split.valid, split.test)]
    everything = np.concatenate(keys)
    assert len(np.unique(everything)) == len(everything)
    assert 0.95 * shop.n_interactions < len(everything) < shop.n_interactions


def test_small_shop():
    data = simulated_shop(20, 1)
    assert data.n_items == 20
    assert data.n_users <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_items": 3}, "n_items is 3; .* at least 20"),
        ({"n_users": 0}, "n_users is 0; .* at least one shopper"),
        ({"order": 1.5}, r"order is 1.5; .* \[0, 1\]"),
        ({"order": float("nan")}, "order is nan"),
        ({"mean_events": 3.0}, "mean_events is 3.0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(InputError, match=message):
        simulated_shop(**{"n_items": 50, "n_users": 5, **options})


def test_bad_share(shop):
    with pytest.raises(InputError, match=r"new_share is 0\.9"):
        demo_split(shop, new_share=0.9)


def test_word_lists_are_consistent():
    types, brands = product_types()
    names = [kind.noun for kind in types]
    assert len(set(names)) == len(names) >= 150
    everyone = [name for group in brands.values() for name in group]
    assert len(set(everyone)) == len(everyone)
    for kind in types:
        assert kind.department in brands
        assert len(kind.following) == 2
        assert set(kind.following) <= set(names)
        assert kind.sizes or kind.materials
        assert all(style_words(kind, style) for style in STYLES)
        assert kind.price > 0
    assert len(COLOURS) == len(set(COLOURS))
