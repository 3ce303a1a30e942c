"""Small shops with two tastes, for profiles: co-purchases, reviews and attributes that are known."""

import polars as pl

from lexirec.data.dataset import Dataset

BASKETBALL = ["Leather basketball", "Basketball hoop", "Court shoes", "Ball pump"]
SWIMMING = ["Swimming goggles", "Swim cap", "Fast swimsuit", "Pool towel"]


def shop(reviews=False, extra=()):
    """Eight items, six people: three buy basketball things, three swimming things; each leaves one of the four out.

    Args:
        reviews: with a review per event.
        extra: further (user, item, timestamp, review) events.
    """
    items = pl.DataFrame(
        {
            "item_id": [*(f"b{i}" for i in range(4)), *(f"s{i}" for i in range(4))],
            "title": [*BASKETBALL, *SWIMMING],
            "brand": ["Hoopers"] * 4 + ["Finley"] * 3 + [None],
            "categories": [
                *[["Sports > Basketball > Balls"], ["Sports > Basketball > Hoops"], ["Sports > Shoes"], None],
                *[["Sports > Swimming > Eyewear"], ["Sports > Swimming > Caps"], ["Sports > Swimming > Suits"], ["Home > Towels"]],
            ],
            "year": [2001, None, 2003, 2004, 2005, 2006, 2007, 2008],
        }
    )
    rows = []
    for kind, first in (("b", 0), ("s", 3)):
        for user in range(3):
            for item in range(4):
                if item != user:
                    text = f"The {'bouncy grip' if kind == 'b' else 'water tight'} feel is great, item {item}."
                    rows.append((f"u{first + user}", f"{kind}{item}", 10 * item + user, text))
    rows += extra
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "review"], orient="row")
    return Dataset.from_frames(log if reviews else log.drop("review"), items, name="shop")
