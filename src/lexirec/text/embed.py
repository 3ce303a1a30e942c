"""A catalogue to checked vectors: template, encoder and cache in one call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError
from lexirec.text.cache import EmbeddingCache
from lexirec.text.encoders import Encoder, FloatArray, load_encoder
from lexirec.text.encoders.base import as_choice
from lexirec.text.encoders.file import FileEncoder
from lexirec.text.templates import parse_template, render

EMPTY_TEXT = ("mean", "attributes", "item_id", "placeholder", "error")
PLACEHOLDER = "unknown item"
_CATALOGUE: ContextVar[pl.DataFrame | None] = ContextVar("_CATALOGUE", default=None)


@contextmanager
def fill_from(catalogue: pl.DataFrame) -> Iterator[None]:
    """Inside, an item without text (or without attributes) gets the mean of this catalogue, not of the items it is given with.

    For items that join a catalogue: the few others that come with them say nothing of its middle. The catalogue's texts are read only
    where an item without text asks for it, and through the cache.
    """
    token = _CATALOGUE.set(catalogue)
    try:
        yield
    finally:
        _CATALOGUE.reset(token)


def joined_catalogue() -> pl.DataFrame | None:
    """The catalogue that items join, see :func:`fill_from`."""
    return _CATALOGUE.get()


def item_vectors(
    items: pl.DataFrame,
    encoder: str | Encoder = "minilm",
    template: str | Sequence[str] = "title",
    *,
    empty_text: str = "mean",
    cache: bool | EmbeddingCache = True,
    progress: bool = True,
    **options: Any,
) -> FloatArray:
    """Vectors of all items, ready for a model.

    Args:
        items: catalogue with ``item_id`` and the template's columns; ``I`` rows.
        encoder: a name (see :func:`lexirec.text.load_encoder`) or an encoder. Give an encoder where its fitted state is needed later
            (``lsa``), for example to encode wishes in the same space.
        template: columns that make the text; see :func:`lexirec.text.render`. ``file:`` reads none.
        empty_text: what an item without text gets. ``mean`` (default): the mean vector of the others, scaled to their mean length, so it
            ranks in the middle and stands for nothing; ``attributes``: the text of all its other columns, else the mean; ``item_id``: its
            id read as text; ``placeholder``: the words "unknown item"; ``error``: refused. All but ``error`` warn with count and examples.
        cache: keep vectors on disk (:class:`lexirec.text.EmbeddingCache`); false encodes anew.
        progress: show a bar on stderr for work of over two seconds.
        **options: options of an encoder given by name.

    Returns:
        ``(I, D)`` float32, row order of ``items``; finite, no zero rows.

    Raises:
        InputError: if columns are missing, the catalogue is empty, no item has a text, or vectors are NaN, infinite or zero (with
            item ids).

    >>> shop = pl.DataFrame({"item_id": ["a", "b"], "title": ["red lipstick", "hair brush"]})
    >>> item_vectors(shop, "lsa").shape
    (2, 2)
    """
    as_choice(empty_text, "empty_text", EMPTY_TEXT)
    if c.ITEM_ID not in items.columns:
        raise InputError(f"items have no column 'item_id'; they have {', '.join(items.columns)}")
    if not items.height:
        raise InputError("items: the catalogue is empty; give at least one item")
    if isinstance(encoder, str):
        encoder = load_encoder(encoder, **options)
    elif options:
        raise InputError(f"options {sorted(options)} belong to an encoder given by name; set them where the encoder is made")
    ids = items[c.ITEM_ID].cast(pl.String)
    if isinstance(encoder, FileEncoder):
        return check_vectors(encoder.lookup(ids), ids, encoder.name)
    known_items = joined_catalogue()
    texts, fill = _texts(items, ids, template, empty_text, joins=known_items is not None)
    store = cache if isinstance(cache, EmbeddingCache) else EmbeddingCache() if cache else None
    known = np.flatnonzero(~fill)

    def encoded(written: list[str]) -> FloatArray:
        return encoder.encode(written, progress=progress) if store is None else store.encode(encoder, written, progress=progress)

    found = encoded([texts[i] for i in known]) if len(known) else np.zeros((0, 0), dtype=np.float32)
    if not fill.any():
        return check_vectors(found, ids, encoder.name)
    check_vectors(found, ids.gather(known), encoder.name)
    mean = mean_vector(found if known_items is None else encoded(_some_text(known_items, template)))
    vectors = np.empty((items.height, len(mean)), dtype=np.float32)
    if len(known):
        vectors[known] = found
    vectors[fill] = mean
    return check_vectors(vectors, ids, encoder.name)


def mean_vector(vectors: FloatArray) -> FloatArray:
    """The mean of the rows, scaled to their mean length, ``(D,)``; unit vectors give a unit vector.

    Raises:
        InputError: if the rows cancel out, so that the mean has no direction.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(vectors, axis=1).mean())
    size = float(np.linalg.norm(mean))
    if size < 1e-6 * length:
        raise InputError(
            "the vectors of the items with text cancel out, so items without text have no mean to take; choose columns that each item has,"
            ' or encode with empty_text="placeholder" (lexirec embed --empty-text placeholder)'
        )
    return (mean * (length / size)).astype(np.float32)


def _some_text(catalogue: pl.DataFrame, template: str | Sequence[str]) -> list[str]:
    """The texts of the items that have one."""
    texts = [text for text in render(catalogue, template) if text]
    if not texts:
        raise InputError(f"no item of the catalogue has a text by template {template!r}, so a new one without text has no mean to take")
    return texts


def _texts(
    items: pl.DataFrame, ids: pl.Series, template: str | Sequence[str], empty_text: str, joins: bool
) -> tuple[list[str], NDArray[np.bool_]]:
    """Texts, and which items are left to be filled with the mean: that of the others, or of the catalogue that they join (``joins``)."""
    texts = render(items, template)
    empty = np.array([not text for text in texts])
    count = int(empty.sum())
    if not count:
        return texts, empty
    name = template if isinstance(template, str) else ",".join(template)
    place = f"items: {count:,} of {len(texts):,} have no text by template {name!r} (item_id {shown(ids.filter(pl.Series(empty)))})"
    if empty_text == "error":
        raise InputError(f'{place}; drop them, add columns to the template, or pass empty_text="mean" (--empty-text mean)')
    rows = np.flatnonzero(empty)
    if empty_text == "attributes":
        others = [column for column in items.columns if column != c.ITEM_ID and column not in parse_template(template)]
        if others:
            for i, text in zip(rows, render(items[rows.tolist()], others), strict=True):
                texts[i] = text
    elif empty_text in ("item_id", "placeholder"):
        for i in rows:
            texts[i] = PLACEHOLDER if empty_text == "placeholder" else str(ids[int(i)]).strip() or PLACEHOLDER
    fill = np.array([not text for text in texts])
    mean = f"the mean vector of the {'catalogue' if joins else 'others'}"
    gets = {
        "mean": f"they get {mean}",
        "attributes": f"{count - int(fill.sum()):,} get the text of their other columns, {int(fill.sum()):,} {mean}",
        "item_id": "their ids are read as text",
        "placeholder": f"they are read as {PLACEHOLDER!r}",
    }[empty_text]
    if fill.all() and not joins:
        raise InputError(
            f"{place}; no item is left to take a mean of: give the items titles (a table with item_id and title; lexirec data convert"
            ' --items FILE, or --item-columns), choose columns that have text, or encode with empty_text="item_id" (lexirec embed'
            " --empty-text item_id; models read the file as encoder=file:FILE)"
        )
    warn(f"{place}; {gets}")
    return texts, fill


def check_vectors(vectors: FloatArray, item_ids: pl.Series, source: str) -> FloatArray:
    """Refuse vectors that would spoil a model without a sound.

    Raises:
        InputError: for NaN, infinite or zero rows; gives the counts and the first item ids.
    """
    finite = np.isfinite(vectors).all(axis=1)
    kinds = {
        "with NaN or infinite values": ~finite,
        "of zeros only": finite & ~vectors.any(axis=1),
    }
    for what, rows in kinds.items():
        count = int(rows.sum())
        if count:
            raise InputError(
                f"{source}: {count:,} of {len(vectors):,} vectors are {what} (item_id {shown(item_ids.filter(pl.Series(rows)))}); "
                "drop these items, mend the file, or encode them again"
            )
    return vectors
