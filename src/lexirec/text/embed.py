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
from lexirec.text.cache import EmbeddingCache, off_disk
from lexirec.text.encoders import Encoder, FloatArray, load_encoder
from lexirec.text.encoders.base import as_choice
from lexirec.text.encoders.file import FileEncoder
from lexirec.text.encoders.joined import kept_in
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
            So does an item whose text the encoder knows nothing of (``Encoder.readable``), such as a title in a script of another language.
        cache: keep vectors on disk (:class:`lexirec.text.EmbeddingCache`); false encodes anew.
        progress: show a bar on stderr for work of over two seconds.
        **options: options of an encoder given by name.

    Returns:
        ``(I, D)`` float32, row order of ``items``; finite, no zero rows.

    Raises:
        InputError: if columns are missing, the catalogue is empty, no item has a text that the encoder can read, vectors are NaN, infinite
            or zero (with item ids), or a file's vectors were made of another catalogue.

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
    known_items = joined_catalogue()
    if isinstance(encoder, FileEncoder):
        encoder.check_catalogue(items, template, joins=known_items is not None)
        return check_vectors(encoder.lookup(ids), ids, encoder.name)
    texts, fill = _texts(items, ids, template, empty_text, encoder, joins=known_items is not None)
    store = cache if isinstance(cache, EmbeddingCache) else EmbeddingCache() if cache else None
    known = np.flatnonzero(~fill)

    def encoded(written: list[str]) -> FloatArray:
        if store is None:
            with off_disk():
                return encoder.encode(written, progress=progress)
        with kept_in(store):
            return store.encode(encoder, written, progress=progress)

    found = encoded([texts[i] for i in known]) if len(known) else np.zeros((0, 0), dtype=np.float32)
    if not fill.any():
        return check_vectors(found, ids, encoder.name)
    check_vectors(found, ids.gather(known), encoder.name)
    mean = mean_vector(found if known_items is None else encoded(_some_text(known_items, template, encoder)))
    vectors = np.empty((items.height, len(mean)), dtype=np.float32)
    if len(known):
        vectors[known] = found
    vectors[fill] = mean
    return check_vectors(vectors, ids, encoder.name)


def refuse_other_catalogue(encoder: Encoder, own: pl.DataFrame, items: pl.DataFrame) -> None:
    """Refuse to look up another catalogue's items in a file of vectors by id (``file:``), which would give those of its namesakes.

    Args:
        encoder: of a trained model; any that reads texts may read any catalogue.
        own: the items that the model was trained with.
        items: those that it is transferred to.

    Raises:
        InputError: if most of the items that both have differ in their titles, or, without titles, if one of ``items`` is not in ``own``.
    """
    if not isinstance(encoder, FileEncoder):
        return
    if c.TITLE in items.columns and c.TITLE in own.columns:
        both = items.select(c.ITEM_ID, c.TITLE).join(own.select(c.ITEM_ID, pl.col(c.TITLE).alias("known")), on=c.ITEM_ID)
        same = 2 * both.filter(pl.col(c.TITLE).eq_missing(pl.col("known"))).height >= both.height > 0
    else:
        same = items.join(own, on=c.ITEM_ID, how="anti").is_empty()
    if not same:
        raise InputError(
            f"{encoder.name} has the vectors of the items that the model was trained with, and this is another catalogue, where an id is"
            " another item: train with the encoder itself (encoder=minilm), which reads any catalogue"
        )


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


def _some_text(catalogue: pl.DataFrame, template: str | Sequence[str], encoder: Encoder) -> list[str]:
    """The texts of the items that have one which the encoder can read."""
    texts = [text for text in render(catalogue, template) if text]
    texts = [text for text, read in zip(texts, encoder.readable(texts), strict=True) if read]
    if not texts:
        raise InputError(f"no item of the catalogue has a text by template {template!r}, so a new one without text has no mean to take")
    return texts


def _texts(
    items: pl.DataFrame, ids: pl.Series, template: str | Sequence[str], empty_text: str, encoder: Encoder, joins: bool
) -> tuple[list[str], NDArray[np.bool_]]:
    """Texts, and which items are left to be filled with the mean: that of the others, or of the catalogue that they join (``joins``)."""
    texts = render(items, template)
    name = template if isinstance(template, str) else ",".join(template)
    empty = np.array([not text for text in texts])
    _stand_in(items, ids, template, empty_text, texts, empty, f"no text by template {name!r}", None, joins)
    rows = [i for i, text in enumerate(texts) if text]
    if rows:
        written = [texts[i] for i in rows]
        encoder.prepare(written)
        unread = np.zeros(len(texts), dtype=bool)
        unread[rows] = ~encoder.readable(written)
        what = f"a text by template {name!r} that {encoder.name} knows nothing of"
        _stand_in(items, ids, template, empty_text, texts, unread, what, encoder, joins)
    return texts, np.array([not text for text in texts])


def _stand_in(
    items: pl.DataFrame,
    ids: pl.Series,
    template: str | Sequence[str],
    empty_text: str,
    texts: list[str],
    silent: NDArray[np.bool_],
    what: str,
    encoder: Encoder | None,
    joins: bool,
) -> None:
    """Give items that say nothing another text in place, or none where they are left for the mean.

    Args:
        items: the catalogue.
        ids: its item ids.
        template: see :func:`item_vectors`.
        empty_text: see :func:`item_vectors`.
        texts: of all items; changed.
        silent: which items say nothing, ``(I,)``.
        what: they have, for the message.
        encoder: must be able to read what stands in for a text; not asked if ``None``.
        joins: whether the items join a catalogue.
    """
    count = int(silent.sum())
    if not count:
        return
    place = f"items: {count:,} of {len(texts):,} have {what} (item_id {shown(ids.filter(pl.Series(silent)))})"
    if empty_text == "error":
        raise InputError(f'{place}; drop them, add columns to the template, or pass empty_text="mean" (--empty-text mean)')
    rows = np.flatnonzero(silent).tolist()
    found = [""] * count
    if empty_text == "attributes":
        others = [column for column in items.columns if column != c.ITEM_ID and column not in parse_template(template)]
        if others:
            found = render(items[rows], others)
    elif empty_text in ("item_id", "placeholder"):
        found = [PLACEHOLDER if empty_text == "placeholder" else str(ids[i]).strip() or PLACEHOLDER for i in rows]
    if encoder is not None and any(found):
        at = [i for i, text in enumerate(found) if text]
        for i, read in zip(at, encoder.readable([found[i] for i in at]), strict=True):
            found[i] = found[i] if read else ""
    for i, text in zip(rows, found, strict=True):
        texts[i] = text
    unfilled = found.count("")
    mean = f"the mean vector of the {'catalogue' if joins else 'others'}"
    gets = {
        "mean": f"they get {mean}",
        "attributes": f"{count - unfilled:,} get the text of their other columns, {unfilled:,} {mean}",
        "item_id": "their ids are read as text",
        "placeholder": f"they are read as {PLACEHOLDER!r}",
    }[empty_text]
    if unfilled and empty_text in ("item_id", "placeholder"):
        gets = f"{gets}; of {unfilled:,} of them the encoder knows nothing of that either, so they get {mean}"
    if not any(texts) and not joins:
        cure = "choose an encoder that knows the language (lsa, or a multilingual model by hf: or st:), or columns that this one can read"
        if encoder is None:
            cure = (
                "give the items titles (a table with item_id and title; lexirec data convert --items FILE, or --item-columns), choose"
                ' columns that have text, or encode with empty_text="item_id" (lexirec embed --empty-text item_id; models read the file as'
                " encoder=file:FILE)"
            )
        raise InputError(f"{place}; no item is left to take a mean of: {cure}")
    warn(f"{place}; {gets}")


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
