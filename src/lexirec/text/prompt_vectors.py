"""Attribute prompts to item vectors, and warnings of prompts that an encoder reads in part."""

import warnings
from collections.abc import Sequence

import numpy as np
import polars as pl

from lexirec.data.messages import shown, warn
from lexirec.errors import InputError
from lexirec.text.cache import EmbeddingCache
from lexirec.text.embed import check_vectors, joined_catalogue, mean_vector
from lexirec.text.encoders import Encoder, FloatArray
from lexirec.text.encoders.base import as_choice
from lexirec.text.encoders.transformer import TransformerEncoder
from lexirec.text.prompts import CUT, Prompts, attribute_prompts


def prompt_vectors(
    items: pl.DataFrame,
    encoder: Encoder,
    style: str = "general",
    instruction: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    skip_absent: bool = False,
    max_characters: int = CUT,
    empty_text: str = "mean",
    mean: FloatArray | None = None,
    cache: bool | EmbeddingCache = True,
    progress: bool = True,
) -> FloatArray:
    """Vectors of all items by their full prompts, as :func:`lexirec.text.item_vectors` gives them by a template.

    Args:
        items: catalogue, ``I`` rows.
        encoder: usually the fine-tuned one.
        style: see :func:`attribute_prompts`; the style the encoder was tuned with.
        instruction: see there.
        columns: see there.
        skip_absent: leave out columns that this table lacks, as one of new items may.
        max_characters: see there.
        empty_text: what items without attributes get: ``mean``, the mean vector of the others at their mean length (inside
            :func:`~lexirec.text.embed.fill_from` of the catalogue that they join), or ``error``.
        mean: ``(D,)`` that mean vector, where it is known already.
        cache: keep vectors on disk.
        progress: show a bar on stderr for work of over two seconds.

    Returns:
        ``(I, D)`` float32, finite, no zero rows.

    Raises:
        InputError: if no item has an attribute, one has none under ``error``, or vectors are NaN, infinite or zero (with item ids).
    """
    as_choice(empty_text, "empty_text", ("mean", "error"))

    def prompts_of(table: pl.DataFrame) -> Prompts:
        there = [name for name in columns if name in table.columns] if skip_absent and columns is not None else columns
        return attribute_prompts(table, style, instruction, columns=there, max_characters=max_characters)

    prompts = prompts_of(items)
    empty, texts, catalogue = prompts.empty(), prompts.texts(), joined_catalogue()
    if (empty.all() and catalogue is None and mean is None) or (empty.any() and empty_text == "error"):
        ids = pl.Series(prompts.item_ids, dtype=pl.String).filter(pl.Series(empty))
        wanted = "attribute" if columns is None else f"attribute among {', '.join(columns) or 'no columns'}"
        raise InputError(
            f"items: {int(empty.sum()):,} of {len(texts):,} have no {wanted} (item_id {shown(ids)}); the table has"
            f" {', '.join(items.columns)}: drop these items, add columns, or rename yours to those that are read"
        )
    store = cache if isinstance(cache, EmbeddingCache) else EmbeddingCache() if cache else None

    def encoded(written: list[str]) -> FloatArray:
        return encoder.encode(written, progress=progress) if store is None else store.encode(encoder, written, progress=progress)

    known = np.flatnonzero(~empty)
    found = encoded([texts[i] for i in known]) if len(known) else np.zeros((0, 0), dtype=np.float32)
    check_vectors(found, pl.Series(prompts.item_ids, dtype=pl.String).gather(known), encoder.name)
    if not empty.any():
        return found
    others = found
    if catalogue is not None and mean is None:
        with warnings.catch_warnings():  # the catalogue's own items without attributes were told of when it was read
            warnings.simplefilter("ignore")
            stock = prompts_of(catalogue)
        others = encoded([text for text in stock.texts() if text])
    mean = mean_vector(others) if mean is None else mean
    vectors = np.empty((len(texts), len(mean)), dtype=np.float32)
    if len(known):
        vectors[known] = found
    vectors[empty] = mean
    return vectors


def warn_of_cut_prompts(prompts: Prompts, encoder: Encoder) -> None:
    """Warn, with count and item ids, of prompts that fill what a transformer reads of a text: attributes beyond are left out."""
    if isinstance(encoder, TransformerEncoder):
        written = {item: text for item, text in zip(prompts.item_ids, prompts.texts(), strict=True) if text}
        lengths = [len(tokens) for tokens in encoder.tokenize(list(written.values()))]
        warn_of_filled(list(written), lengths, "max_length", encoder._length)


def warn_of_filled(item_ids: Sequence[str], lengths: Sequence[int], setting: str, limit: int) -> None:
    """Warn of prompts that fill ``limit`` tokens, which ``setting`` decides.

    Args:
        item_ids: ids of the items with a prompt.
        lengths: tokens that are read of each.
        setting: the limit's name.
        limit: most tokens.
    """
    long = [length >= limit for length in lengths]
    if any(long):
        ids = pl.Series(list(item_ids), dtype=pl.String).filter(pl.Series(long))
        warn(
            f"{sum(long):,} of {len(long):,} prompts fill {setting}={limit} tokens (item_id {shown(ids)}); attributes beyond are not "
            f"read: raise {setting} or name fewer columns"
        )
