"""Items as tokens, made once and kept as flat arrays; sequences of items are then gathered without a loop over people."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.models.layers.sequence import Layout, ranges
from lexirec.text.column_roles import KINDS, MAKERS

ATTRIBUTES = (("title",), MAKERS, KINDS)
"""Columns read where none are named: the first of each that is there, such as ``title``, ``brand`` and ``categories``."""
START, NAME, VALUE = 0, 1, 2
"""Kinds of tokens."""


@lru_cache(maxsize=1)
def vocabulary() -> "Vocabulary":
    """Tokens of the bundled encoder."""
    from tokenizers import Tokenizer

    from lexirec.text.encoders.hub import bundled_folder

    tokenizer = Tokenizer.from_file(str(bundled_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    size = tokenizer.get_vocab_size()
    continues = np.array([str(tokenizer.id_to_token(token)).startswith("##") for token in range(size)])
    start, mask = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[MASK]")
    assert start is not None and mask is not None  # noqa: S101 (the bundled file has them)
    return Vocabulary(tokenizer, size, start, mask, continues)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer and its special tokens.

    Attributes:
        tokenizer: of the library ``tokenizers``.
        size: number of tokens.
        start, mask: special tokens.
        continues: ``(size,)`` bool, tokens that go on with a word.
    """

    tokenizer: Any
    size: int
    start: int
    mask: int
    continues: NDArray[np.bool_]

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Tokens of each text, none of an empty one."""
        return [found.ids for found in self.tokenizer.encode_batch(texts, add_special_tokens=False)]


@dataclass(frozen=True, eq=False)
class ItemTokens:
    """Tokens of each item, one item after another.

    Attributes:
        tokens: ``(N,)`` int64.
        kinds: ``(N,)`` int64, :data:`NAME` or :data:`VALUE`.
        offsets: ``(I + 1,)``.
    """

    tokens: NDArray[np.int64]
    kinds: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Tokens of each item, ``(I,)``."""
        return np.diff(self.offsets)

    def and_more(self, other: "ItemTokens") -> "ItemTokens":
        """These items and others after them."""
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return ItemTokens(np.concatenate([self.tokens, other.tokens]), np.concatenate([self.kinds, other.kinds]), offsets)


def tokenise(items: pl.DataFrame, columns: Sequence[str], attribute_tokens: int) -> ItemTokens:
    """Name and value of each attribute that an item has, one after another.

    Args:
        items: catalogue.
        columns: attributes in order.
        attribute_tokens: tokens of an attribute at most, its name included.
    """
    from lexirec.text.templates import render

    words = vocabulary()
    per_column = []
    for column in columns:
        # a new item may lack a column that the training's catalogue had
        texts = render(items, [column]) if column in items.columns else [""] * items.height
        name = words.encode([column.replace("_", " ")])[0]
        per_column.append([(name, found) if found else ([], []) for found in words.encode(texts)])
    tokens: list[int] = []
    kinds: list[int] = []
    offsets = [0]
    for attributes in zip(*per_column, strict=True):
        for name, value in attributes:
            tokens += (name + value)[:attribute_tokens]
            kinds += ([NAME] * len(name) + [VALUE] * len(value))[:attribute_tokens]
        offsets.append(len(tokens))
    return ItemTokens(np.array(tokens, dtype=np.int64), np.array(kinds, dtype=np.int64), np.array(offsets, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Sequences of items as tokens, longest first.

    Attributes:
        layout: where they lie.
        tokens, kinds, items: ``(T,)``, see :class:`~lexirec.models.layers.longformer.Longformer`.
        back: ``(B,)`` place of each sequence, as they were asked for, in the layout.
    """

    layout: Layout
    tokens: Tensor
    kinds: Tensor
    items: Tensor
    back: Tensor


def latest_first(
    tokens: ItemTokens, flat: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64], max_tokens: int,
    device: torch.device,
) -> TokenBatch:  # fmt: skip
    """Start token and the items of each window in reverse time order, cut at ``max_tokens``.

    Args:
        tokens: of all items.
        flat: items.
        starts: ``(B,)`` where the windows of ``flat`` begin, oldest event first.
        lengths: ``(B,)`` events of each; may be 0.
        max_tokens: longest sequence.
        device: of the tensors.
    """
    total = np.concatenate([[0], np.cumsum(tokens.counts[flat[ranges(starts, lengths)]])])
    ends = np.cumsum(lengths)
    own = np.minimum(total[ends] - total[ends - lengths], max_tokens - 1)  # tokens of each window
    order = np.argsort(-own, kind="stable")
    starts, lengths, own = starts[order], lengths[order], own[order]
    nearness = ranges(np.zeros_like(lengths), lengths)  # 0: the latest
    items = flat[np.repeat(starts + lengths - 1, lengths) - nearness]
    counts = tokens.counts[items]
    source = ranges(tokens.offsets[items], counts)
    owner = np.repeat(np.repeat(np.arange(len(lengths)), lengths), counts)
    number = np.repeat(nearness + 1, counts)
    step = np.arange(len(owner)) - np.searchsorted(owner, owner)
    kept = step < own[owner] if len(owner) else np.zeros(0, dtype=bool)
    source, number = source[kept], number[kept]
    at = np.cumsum(own) - own
    words = vocabulary()
    arrays = (
        np.insert(tokens.tokens[source], at, words.start), np.insert(tokens.kinds[source], at, START), np.insert(number, at, 0),
        np.argsort(order),
    )  # fmt: skip
    return TokenBatch(Layout(own + 1, device), *(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))


def hide_words(batch: TokenBatch, share: float, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Whole words to be filled in: about ``share`` of each sequence's tokens; 80 % become the mask, 10 % a random token, 10 % stay.

    Words are taken in random order as long as their tokens fit.

    Returns:
        Tokens with some hidden ``(T,)``, rows of the hidden ones ``(M,)``, and what they were ``(M,)``.
    """
    words = vocabulary()
    tokens, lengths = batch.tokens.cpu().numpy(), batch.layout.lengths
    owner = np.repeat(np.arange(len(lengths)), lengths)
    is_start = batch.layout.steps == 0
    begins = ~words.continues[tokens] | is_start
    begins[1:] |= is_start[:-1]  # the start token is no word's beginning
    word = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    size = np.bincount(word)
    of = owner[first]
    draw = np.where(is_start[first], 2.0, rng.random(len(first)))  # start tokens come last
    order = np.lexsort((draw, of))
    taken = np.cumsum(size[order])
    before = np.concatenate([[0], np.cumsum(lengths)])[of[order]]
    wanted = np.maximum(np.rint(lengths * share), 1)[of[order]]
    hidden_word = np.zeros(len(first), dtype=bool)
    hidden_word[order] = (taken - before <= wanted) & ~is_start[first][order]
    at = np.flatnonzero(hidden_word[word])
    labels = tokens[at]
    fate = rng.random(len(at))
    changed = tokens.copy()
    changed[at[fate < 0.8]] = words.mask
    swapped = at[(fate >= 0.8) & (fate < 0.9)]
    changed[swapped] = rng.integers(0, words.size, len(swapped))
    device = batch.tokens.device
    return tuple(torch.from_numpy(array).to(device) for array in (changed, at, labels))  # type: ignore[return-value]


__all__ = ["ATTRIBUTES", "ItemTokens", "TokenBatch", "Vocabulary", "hide_words", "latest_first", "tokenise", "vocabulary"]
