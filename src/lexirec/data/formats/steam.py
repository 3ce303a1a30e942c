"""Steam reviews and games."""

from pathlib import Path

import polars as pl

from lexirec import columns as c
from lexirec.data.formats.base import Tables, need_file, need_ids, register
from lexirec.data.formats.texts import clean, labels, one_row
from lexirec.data.json_tables import read_json_lines
from lexirec.data.messages import warn


@register("steam", "steam_reviews.json*|steam_new.json*", "steam_games.json*", alone=True)
def steam(path: Path, reviews: bool = False) -> Tables:
    """steam_reviews.json(.gz) and steam_games.json(.gz) in Python notation; a user is a username."""
    names = {"username": c.USER_ID, "product_id": c.ITEM_ID, "date": c.TIMESTAMP, "hours": "hours"} | (
        {"text": c.REVIEW} if reviews else {}
    )
    source = need_file(path, "steam_reviews.json*", "steam_new.json*")
    log = read_json_lines(source, list(names)).rename(names)
    need_ids(log, source, names)
    nameless = log[c.USER_ID].is_null() | (log[c.USER_ID] == "")
    if nameless.any():
        warn(f"{source.name}: {int(nameless.sum()):,} of {log.height:,} reviews have no username; they are dropped")
        log = log.filter(~nameless)
    if reviews:
        log = log.with_columns(clean(log[c.REVIEW]))
    games = need_file(path, "steam_games.json*")
    raw = read_json_lines(games, ["id", "app_name", "title", "genres", "tags", "developer", "publisher", "price", "release_date"])
    need_ids(raw, games, {"id": c.ITEM_ID})
    title = clean(raw["app_name"]).to_frame("a").with_columns(clean(raw["title"]).alias("t")).select(pl.coalesce("a", "t").alias(c.TITLE))
    items = pl.DataFrame(
        [
            raw["id"].rename(c.ITEM_ID),
            title[c.TITLE],
            labels(raw["genres"], "categories"),
            labels(raw["tags"], "tags"),
            *(clean(raw[name]) for name in ("developer", "publisher", "price", "release_date")),
        ]
    )
    return Tables(log, one_row(items, games.name))
