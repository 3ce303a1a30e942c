"""Yelp Open Dataset."""

from pathlib import Path

import polars as pl

from lexirec import columns as c
from lexirec.data.formats.base import Tables, need_file, need_ids, register
from lexirec.data.formats.texts import clean, one_row
from lexirec.data.json_tables import read_json_lines


@register("yelp", "yelp_academic_dataset_review.json*", "yelp_academic_dataset_business.json*", alone=True)
def yelp(path: Path, reviews: bool = False) -> Tables:
    """yelp_academic_dataset_review.json and yelp_academic_dataset_business.json (.gz)."""
    names = {"user_id": c.USER_ID, "business_id": c.ITEM_ID, "date": c.TIMESTAMP, "stars": c.RATING} | (
        {"text": c.REVIEW} if reviews else {}
    )
    source = need_file(path, "yelp_academic_dataset_review.json*")
    log = read_json_lines(source, list(names)).rename(names)
    need_ids(log, source, names)
    if reviews:
        log = log.with_columns(clean(log[c.REVIEW]))
    places = need_file(path, "yelp_academic_dataset_business.json*")
    raw = read_json_lines(places, ["business_id", "name", "categories", "city", "state"])
    need_ids(raw, places, {"business_id": c.ITEM_ID})
    labels = raw["categories"].str.split(", ")
    items = pl.DataFrame(
        [
            raw["business_id"].rename(c.ITEM_ID),
            clean(raw["name"]).rename(c.TITLE),
            labels.rename("categories"),
            clean(raw["city"]),
            clean(raw["state"]),
        ]
    )
    return Tables(log, one_row(items, places.name))
