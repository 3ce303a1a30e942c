"""Amazon reviews of 2014, 2018 and 2023."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from lexirec import columns as c
from lexirec.data.formats.base import Tables, in_folder, need_ids, register
from lexirec.data.formats.texts import category_paths, clean, one_row, paragraphs
from lexirec.data.json_tables import read_json_lines
from lexirec.data.messages import warn
from lexirec.errors import InputError


def _amazon_files(path: Path, meta: str | None, reviews_like: Sequence[str]) -> tuple[Path, Path | None]:
    """The review file and the metadata file of the same category beside it."""
    if path.is_dir():
        found = sorted({p for pattern in reviews_like for p in path.glob(pattern) if p.is_file() and not p.name.startswith("meta_")})
        if len(found) != 1:
            listed = ", ".join(p.name for p in found[:6])
            raise InputError(f"{path} has {len(found)} review files{f' ({listed})' if found else ''}; give the path of the one to read")
        path = found[0]
    if meta is not None:
        return path, Path(meta)
    stem = path.name.removeprefix("reviews_").split(".")[0].removesuffix("_5")
    return path, in_folder(path, f"meta_{stem}.json*", need=False)


def _amazon(path: Path, meta: Path | None, names: dict[str, str], texts: dict[str, str], milliseconds: bool) -> Tables:
    """Reviews and metadata under our names. ``names``, ``texts``: field of the dump -> column, for events and for plain item texts."""
    log = read_json_lines(path, list(names)).rename(names)
    need_ids(log, path, names)
    for name in (c.REVIEW, "summary"):
        if name in log.columns:
            log = log.with_columns(clean(log[name]))
    if milliseconds:
        # Whole seconds as everywhere else; the stable sort keeps the order of events within one second.
        log = log.with_columns(pl.col(c.TIMESTAMP).cast(pl.Int64, strict=False)).sort(c.TIMESTAMP, maintain_order=True)
        log = log.with_columns(pl.col(c.TIMESTAMP) // 1000)
    if meta is None:
        warn(
            f"{path}: there is no metadata file meta_*.json beside it, so items have no titles; name it with meta=PATH"
            " (lexirec data convert --meta PATH)"
        )
        return Tables(log)
    fields = [*texts, "categories", "category", "description", "price"]
    raw = read_json_lines(meta, list(dict.fromkeys(fields)))
    need_ids(raw, meta, texts)
    items = pl.DataFrame([clean(raw[theirs]).rename(ours) for theirs, ours in texts.items()])
    paths = raw["categories"] if raw["categories"].null_count() < raw.height else raw["category"]
    items = items.with_columns(category_paths(paths), paragraphs(raw["description"], "description"), clean(raw["price"]).alias("price"))
    return Tables(log, one_row(items, meta.name))


def _with_reviews(names: dict[str, str], reviews: bool) -> dict[str, str]:
    return {theirs: ours for theirs, ours in names.items() if reviews or ours not in (c.REVIEW, "summary")}


_AMAZON: Final = {
    "reviewerID": c.USER_ID,
    "asin": c.ITEM_ID,
    "unixReviewTime": c.TIMESTAMP,
    "overall": c.RATING,
    "reviewText": c.REVIEW,
    "summary": "summary",
}


@register("amazon-2014", "reviews_*.json*", alone=True)
def amazon_2014(path: Path, meta: str | None = None, reviews: bool = False) -> Tables:
    """reviews_X.json(.gz) or reviews_X_5.json(.gz) and meta_X.json(.gz) in JSON or Python notation."""
    log, items = _amazon_files(path, meta, ("reviews_*.json*",))
    return _amazon(log, items, _with_reviews(_AMAZON, reviews), {"asin": c.ITEM_ID, "title": c.TITLE, "brand": "brand"}, milliseconds=False)


@register("amazon-2018", "*.json|*.json.gz", "meta_*.json|meta_*.json.gz", without="reviews_*.json*|yelp_*|*.jsonl*")
def amazon_2018(path: Path, meta: str | None = None, reviews: bool = False) -> Tables:
    """X.json(.gz) or X_5.json(.gz) and meta_X.json(.gz)."""
    log, items = _amazon_files(path, meta, ("*.json", "*.json.gz"))
    texts = {"asin": c.ITEM_ID, "title": c.TITLE, "brand": "brand", "main_cat": "main_category"}
    return _amazon(log, items, _with_reviews(_AMAZON, reviews), texts, milliseconds=False)


@register("amazon-2023", "*.jsonl|*.jsonl.gz", "meta_*.jsonl|meta_*.jsonl.gz")
def amazon_2023(path: Path, meta: str | None = None, reviews: bool = False) -> Tables:
    """X.jsonl(.gz) and meta_X.jsonl(.gz); items are parent_asin, milliseconds become seconds."""
    log, items = _amazon_files(path, meta, ("*.jsonl", "*.jsonl.gz"))
    names = {
        "user_id": c.USER_ID,
        "parent_asin": c.ITEM_ID,
        "timestamp": c.TIMESTAMP,
        "rating": c.RATING,
        "text": c.REVIEW,
        "title": "summary",
    }
    texts = {"parent_asin": c.ITEM_ID, "title": c.TITLE, "store": "brand", "main_category": "main_category"}
    return _amazon(log, items, _with_reviews(names, reviews), texts, milliseconds=True)
