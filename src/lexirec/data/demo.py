"""The built-in simulated shop: a believable catalogue, shoppers with tastes, a long tail, and a dial for the order of events.

Nothing in it is real: titles, brands, shoppers and purchases are drawn from a seeded generator, and every place that shows it
says "simulated". What is built in, so that models can find it:

* tastes for departments, product types, brands, styles, colours and price levels, most of which the item's *words* tell;
* popularity with a long tail, which words do not tell;
* a hidden affinity between shoppers and items, which only the log tells;
* order: with ``order=0`` the events of a shopper are exchangeable, with ``order=1`` each event's product type follows from the
  event before (a printer, then ink, then paper).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.dataset import Dataset, Split
from lexirec.data.demo_words import COLOURS, SERIES, STYLE_COLOURS, STYLES, ProductType, product_types, style_words
from lexirec.errors import InputError

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]

NAME = "simulated shop"
FIRST_DAY = 1_609_459_200  # 2021-01-01 UTC, seconds
DAY = 86_400
MAX_EVENTS = 40
FOLLOWING_SHARE = (0.7, 0.3)
"""Chance of the first and the second type that is usually bought next."""

# Strength of each part of a shopper's taste, as factors on the log-odds of an item within its product type.
POPULARITY, STYLE, BRAND, COLOUR, PRICE, HIDDEN = 1.0, 6.0, 2.0, 0.8, 0.3, 0.5
DEPARTMENT_SHAPE, SHELF_SHAPE, STYLE_SHAPE = 0.2, 0.15, 0.15
"""Gamma shapes of the tastes; the smaller, the fewer departments, shelves and styles a shopper goes for."""


@dataclass(frozen=True)
class _Catalogue:
    """Items as arrays: what the sampler needs beside the frame. All ``(I,)``."""

    frame: pl.DataFrame
    types: tuple[ProductType, ...]
    type_index: IndexArray
    style: IndexArray
    brand: IndexArray
    colour: IndexArray
    price_level: FloatArray
    n_brands: int


def simulated_shop(n_items: int = 3000, n_users: int = 4000, seed: int = 7, order: float = 0.3, mean_events: float = 11.0) -> Dataset:
    """A simulated shop: catalogue and log.

    The catalogue and the shoppers' tastes depend on ``seed`` only; turning the dial changes the log alone.

    Args:
        n_items: size of the catalogue, at least 20.
        n_users: number of shoppers, at least 1.
        seed: seed of all draws.
        order: chance, in [0, 1], that an event's product type follows from the event before. At 0 the events of a shopper are
            exchangeable (each order of the same events is equally likely); at 1 only the first event is drawn from taste.
        mean_events: mean number of events of a shopper, in [6, 20]; everybody has at least 5 unless the catalogue is tiny.

    Returns:
        A dataset with ``interactions`` (user_id, item_id, timestamp in seconds) and ``items`` (item_id, title, brand, categories
        as a list with one path, department, price, year). No shopper buys an item twice.

    Raises:
        InputError: if an argument is out of its range.

    >>> shop = simulated_shop(n_items=300, n_users=50)
    >>> shop.n_items, shop.n_users, shop.name
    (300, 50, 'simulated shop')
    """
    if n_items < 20:
        raise InputError(f"n_items is {n_items}; the simulated shop needs at least 20 items")
    if n_users < 1:
        raise InputError(f"n_users is {n_users}; the simulated shop needs at least one shopper")
    if not 0.0 <= order <= 1.0:
        raise InputError(f"order is {order}; it is a chance and lies in [0, 1]")
    if not 6.0 <= mean_events <= 20.0:
        raise InputError(f"mean_events is {mean_events}; it lies in [6, 20]")
    catalogue_seed, taste_seed, event_seed = np.random.SeedSequence(seed).spawn(3)
    catalogue = _catalogue(np.random.default_rng(catalogue_seed), n_items)
    log = _events(catalogue, n_users, order, mean_events, np.random.default_rng(taste_seed), np.random.default_rng(event_seed))
    return Dataset(log, catalogue.frame, name=NAME)


def _weights(rng: np.random.Generator, size: int, spread: float) -> FloatArray:
    weights = np.exp(rng.normal(0.0, spread, size))
    return weights / weights.sum()


def _catalogue(rng: np.random.Generator, n_items: int) -> _Catalogue:
    types, brand_table = product_types()
    departments = list(brand_table)
    brand_names = [name for names in brand_table.values() for name in names]
    brand_start = np.cumsum([0, *(len(names) for names in brand_table.values())])
    n_brands, n_styles = len(brand_names), len(STYLES)
    department_of_type = np.array([departments.index(kind.department) for kind in types])

    # A brand has a main style and a second one, a price tier that goes with them, and a way of writing its titles.
    brand_styles = np.argsort(rng.random((n_brands, n_styles)), axis=1)[:, :2]
    tier_of_style = np.array([{"premium": 0.45, "value": -0.45, "vintage": 0.15, "modern": 0.15}.get(style, 0.0) for style in STYLES])
    brand_tier = 0.7 * tier_of_style[brand_styles[:, 0]] + 0.3 * tier_of_style[brand_styles[:, 1]] + rng.normal(0, 0.12, n_brands)
    brand_form = rng.integers(0, 3, n_brands)
    brand_weight = np.exp(rng.normal(0, 0.6, n_brands))

    type_index = rng.choice(len(types), n_items, p=_weights(rng, len(types), 0.35))
    brand = np.zeros(n_items, dtype=np.int64)
    for d in range(len(departments)):
        rows = np.flatnonzero(department_of_type[type_index] == d)
        share = brand_weight[brand_start[d] : brand_start[d + 1]]
        brand[rows] = brand_start[d] + rng.choice(len(share), len(rows), p=share / share.sum())
    pick = rng.random(n_items)
    style = np.where(pick < 0.6, brand_styles[brand, 0], np.where(pick < 0.85, brand_styles[brand, 1], rng.integers(0, n_styles, n_items)))
    year = 2023 - np.minimum(rng.geometric(0.3, n_items) - 1, 9)

    titles: list[str] = []
    colour = np.full(n_items, -1, dtype=np.int64)
    size_step = np.zeros(n_items)
    seen: set[str] = set()
    for i in range(n_items):
        kind, look = types[type_index[i]], STYLES[style[i]]
        title = ""
        for attempt in range(30):
            # Two items of the same words are drawn anew; a second attempt always carries a series name, which tells them apart.
            title, colour[i], size_step[i] = _title(rng, kind, look, brand_names[brand[i]], int(brand_form[brand[i]]), attempt)
            if title not in seen:
                break
        seen.add(title)
        titles.append(title)

    type_price = np.array([kind.price for kind in types])[type_index]
    level = brand_tier[brand] + 0.6 * tier_of_style[style] + rng.normal(0, 0.12, n_items)
    price = np.maximum(np.round(type_price * np.exp(level + size_step)), 2.0) - np.where(rng.random(n_items) < 0.7, 0.01, 0.5)
    frame = pl.DataFrame(
        {
            c.ITEM_ID: [f"SIM-{i:0{max(5, len(str(n_items)))}d}" for i in range(n_items)],
            c.TITLE: titles,
            "brand": [brand_names[b] for b in brand],
            "categories": [[f"{types[t].department} > {types[t].subcategory} > {types[t].noun}"] for t in type_index],
            "department": [types[t].department for t in type_index],
            "price": price,
            "year": year,
        },
        schema_overrides={"categories": pl.List(pl.String), "year": pl.Int32},
    )
    return _Catalogue(frame, types, type_index, style, brand, colour, level, n_brands)


def _title(rng: np.random.Generator, kind: ProductType, style: str, brand: str, form: int, attempt: int) -> tuple[str, int, float]:
    """A title in the brand's way of writing, its colour (-1: none) and the price step of its size."""
    draw = rng.random(9)

    def one(words: tuple[str, ...], at: int) -> str:
        return words[int(draw[at] * len(words))] if words else ""

    material, size, feature = one(kind.materials, 0), one(kind.sizes, 1), one(kind.features, 2)
    word = one(style_words(kind, style), 3) if draw[4] < 0.88 else ""
    series = one(SERIES, 5) if attempt or (draw[6] < 0.5 and not kind.consumable) else ""
    coloured = kind.variants is COLOURS
    variant = one(STYLE_COLOURS.get(style, COLOURS) if coloured and draw[7] < 0.7 else kind.variants, 8)
    if form == 0:
        parts = [" ".join(p for p in (brand, series, word, material, kind.noun, feature) if p), size, variant]
        title = ", ".join(p for p in parts if p)
    elif form == 1:
        tail = ", ".join(p for p in (material, size, variant) if p)
        title = " ".join(p for p in (brand, word, series, kind.noun, feature) if p) + (f" - {tail}" if tail else "")
    else:
        title = " ".join(p for p in (word, material, kind.noun, feature, "by", brand, series) if p) + (f", {size}" if size else "")
        title += f" ({variant})" if variant else ""
    step = 0.18 * (kind.sizes.index(size) - (len(kind.sizes) - 1) / 2) if size else 0.0
    return title, COLOURS.index(variant) if coloured and variant else -1, step


def _tastes(shop: _Catalogue, n_users: int, rng: np.random.Generator) -> dict[str, Any]:
    """What each shopper likes: chances of product types ``(U, T)`` and factors on the items within one."""
    departments = sorted({kind.department for kind in shop.types})
    of_type = np.array([departments.index(kind.department) for kind in shop.types])
    offered = np.bincount(shop.type_index, minlength=len(shop.types)) > 0
    # A gamma shape below one makes tastes sparse: a shopper visits one to three departments and a few shelves in each.
    department = rng.gamma(DEPARTMENT_SHAPE, 1.0, (n_users, len(departments))) * np.exp(rng.normal(0, 0.3, len(departments))) + 1e-9
    shelf = rng.gamma(SHELF_SHAPE, 1.0, (n_users, len(shop.types))) * np.exp(rng.normal(0, 0.4, len(shop.types))) + 1e-9
    chance = department[:, of_type] / department.sum(1, keepdims=True) * shelf * offered
    style = rng.gamma(STYLE_SHAPE, 1.0, (n_users, len(STYLES))) + 1e-9
    n_items, hidden_dim = shop.frame.height, 6
    return {
        "type_cdf": np.cumsum(chance / chance.sum(1, keepdims=True), axis=1),
        "offered": offered,
        "style": STYLE * style / style.sum(1, keepdims=True),
        "brand": BRAND * rng.normal(0, 1, (n_users, shop.n_brands)),
        "colour": COLOUR * np.concatenate([rng.random((n_users, len(COLOURS))) < 0.2, np.zeros((n_users, 1), dtype=bool)], axis=1),
        "price": rng.normal(0, 0.35, n_users),
        "hidden_user": HIDDEN * rng.normal(0, 1, (n_users, hidden_dim)) / np.sqrt(hidden_dim),
        "hidden_item": rng.normal(0, 1, (n_items, hidden_dim)),
        "popularity": POPULARITY * rng.normal(0, 1, n_items),
    }


def _shelves(shop: _Catalogue) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Items of each type ``(T, M)``, padded by -1; types bought next ``(T, 2)`` that the shop offers, padded by -1; their chances."""
    n_types = len(shop.types)
    order = np.argsort(shop.type_index, kind="stable")
    counts = np.bincount(shop.type_index, minlength=n_types)
    items = np.full((n_types, counts.max()), -1, dtype=np.int64)
    items[shop.type_index[order], np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)] = order
    position = {kind.noun: t for t, kind in enumerate(shop.types)}
    following = np.array([[position[noun] for noun in kind.following] for kind in shop.types])
    chance = np.where(counts[following] > 0, FOLLOWING_SHARE, 0.0)
    return items, following, chance


def _events(
    shop: _Catalogue, n_users: int, order: float, mean_events: float, taste_rng: np.random.Generator, rng: np.random.Generator
) -> pl.DataFrame:
    taste = _tastes(shop, n_users, taste_rng)
    shelves, following, following_chance = _shelves(shop)
    # Few shoppers with long histories, many with short ones.
    extra = taste_rng.negative_binomial(2, 2 / (2 + mean_events - 5), n_users)
    wanted = np.minimum(5 + extra, min(MAX_EVENTS, shop.frame.height // 2))
    bought = np.full((n_users, int(wanted.max())), -1, dtype=np.int64)
    starts_chain = np.ones_like(bought, dtype=bool)
    last_type = np.full(n_users, -1, dtype=np.int64)
    for step in range(bought.shape[1]):
        users = np.flatnonzero(wanted > step)
        # Always drawn for all shoppers, so that the same seed with another dial starts from the same numbers.
        dice = rng.random((3, n_users))[:, users]
        chance = following_chance[last_type[users]]
        follows = (last_type[users] >= 0) & (dice[0] < order) & (chance.sum(1) > 0)
        kinds = (taste["type_cdf"][users] < dice[1][:, None]).sum(1).clip(max=len(shop.types) - 1)
        second = dice[2] * chance.sum(1) >= chance[:, 0]
        kinds[follows] = following[last_type[users], second.astype(np.int64)][follows]
        candidates = shelves[kinds]  # (B, M)
        open_ = candidates >= 0
        if step:
            open_ &= ~(candidates[:, :, None] == bought[users, None, :step]).any(2)
        # Gumbel noise: the largest is a draw from the softmax of the utilities.
        utility = _utility(shop, taste, users, candidates) + rng.gumbel(size=candidates.shape)
        best = np.where(open_, utility, -np.inf).argmax(1)
        found = open_[np.arange(len(users)), best]
        bought[users[found], step] = candidates[found, best[found]]
        starts_chain[users, step] = ~follows
        last_type[users[found]] = kinds[found]
    return _log(shop, bought, starts_chain, rng)


def _utility(shop: _Catalogue, taste: dict[str, Any], users: IndexArray, items: IndexArray) -> FloatArray:
    """Log-odds of the candidates for each shopper, ``(B, M)``; padded candidates hold any number."""
    row = users[:, None]
    price_gap = (shop.price_level[items] - taste["price"][users][:, None]) / 0.35
    hidden = np.einsum("bd,bmd->bm", taste["hidden_user"][users], taste["hidden_item"][items])
    utility: FloatArray = (
        taste["popularity"][items]
        + taste["style"][row, shop.style[items]]
        + taste["brand"][row, shop.brand[items]]
        + taste["colour"][row, shop.colour[items]]
        - PRICE * price_gap**2
        + hidden
    )
    return utility


def _log(shop: _Catalogue, bought: IndexArray, starts_chain: NDArray[np.bool_], rng: np.random.Generator) -> pl.DataFrame:
    """The log: chains of a shopper in random order (so that unchained events are exchangeable), then times."""
    users, steps = np.nonzero(bought >= 0)
    items, first = bought[users, steps], starts_chain[users, steps].copy()
    new_user = np.diff(users, prepend=-1) > 0
    first |= new_user
    chain = np.cumsum(first) - 1
    key = rng.random(chain[-1] + 1)
    order = np.lexsort((steps, key[chain], users))
    users, items, first = users[order], items[order], first[order]
    new_user = np.diff(users, prepend=-1) > 0
    # Within a chain days pass, between chains weeks.
    gap = np.where(first, rng.exponential(35 * DAY, len(users)), rng.exponential(2 * DAY, len(users))) + 60
    gap[new_user] = rng.uniform(0, 500 * DAY, new_user.sum())
    passed = np.cumsum(gap)
    start = passed[new_user] - gap[new_user]
    time = FIRST_DAY + passed - np.repeat(start, np.bincount(users)[np.unique(users)])
    width = max(4, len(str(bought.shape[0])))
    names = np.array([f"shopper-{u:0{width}d}" for u in range(bought.shape[0])])
    return pl.DataFrame({c.USER_ID: names[users], c.ITEM_ID: shop.frame[c.ITEM_ID].gather(items), c.TIMESTAMP: time.astype(np.int64)})


def demo_split(dataset: Dataset, new_share: float = 0.05, seed: int = 7) -> Split:
    """The demo's split: ratio 8:1:1 per shopper, and a share of the items brand new.

    Brand-new items don't exist while training: none of their events is in the train or validation part. They go on sale when a
    shopper's test part begins; what that shopper would have bought of them before is left out altogether. All other events are cut as
    the ``ratio`` split does.

    Args:
        dataset: the log, usually :func:`simulated_shop`.
        new_share: share of the items held out as brand new, in [0, 0.5].
        seed: seed of the choice of new items.

    Raises:
        InputError: if ``new_share`` is out of its range.

    >>> split = demo_split(simulated_shop(n_items=300, n_users=50))
    >>> int(split.train.new_items.sum())
    15
    """
    if not 0.0 <= new_share <= 0.5:
        raise InputError(f"new_share is {new_share}; it is the share of brand-new items and lies in [0, 0.5]")
    new = np.zeros(dataset.n_items, dtype=bool)
    new[np.random.default_rng(seed).permutation(dataset.n_items)[: round(new_share * dataset.n_items)]] = True
    cold_event = new[dataset.item_index]
    users = dataset.user_index[~cold_event]
    counts = np.bincount(users, minlength=dataset.n_users)
    position = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    n_train, n_valid = counts * 8 // 10, counts * 9 // 10 - counts * 8 // 10
    at = position - n_train[users]
    part = np.full(dataset.n_interactions, 3)
    part[~cold_event] = np.where(at < 0, 0, np.where(at < n_valid[users], 1, 2))
    # The part of the next ordinary event says where in a shopper's time an event of a new item lies (after the last one: test).
    before = np.cumsum(~cold_event) - np.concatenate([[0], np.cumsum(counts)])[dataset.user_index]  # ordinary events up to here
    first_test = (n_train + n_valid)[dataset.user_index]
    part[cold_event & (before >= first_test)] = 2
    return Split(
        name="ratio + brand-new items",
        train=dataset.train_set(part == 0, new_items=new, tag=f"demo:{new_share}:{seed}"),
        valid=dataset.heldout(part == 1, "valid"),
        test=dataset.heldout(part == 2, "test"),
        sees_future=True,
        options={"ratio": "8:1:1", "new_share": new_share, "seed": seed},
    )
