"""Sequences of tokens put together from pieces that were tokenised once: whole arrays, no text and no Python per token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.models.calrec.texts import DEVICES
from lexirec.models.calrec.vocabulary import Vocabulary
from lexirec.models.layers.sequence import ranges

Ints = NDArray[np.int64]
PREFIX, FIRST, LATER, SUFFIX, END = range(5)
"""Places of the devices and of the end-of-text token in the pool; items follow."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Token sequences one after another.

    Attributes:
        tokens: ``(T,)`` int32.
        lengths: ``(B,)``.
        borders: ``(B,)`` tokens of the input; the target's follow.
    """

    tokens: NDArray[np.int32]
    lengths: Ints
    borders: Ints


class Pieces:
    """The pool of token pieces: devices, end of text, and every item's text.

    Args:
        vocabulary: tokenises.
        texts: item texts in index order; an empty one marks an item that can be neither read nor written.
        max_tokens: most tokens of an input.
        max_new_tokens: most tokens of a target, the end not counted.

    Attributes:
        readable: ``(I,)`` bool, which items have a text.
    """

    def __init__(self, vocabulary: Vocabulary, texts: Sequence[str], max_tokens: int, max_new_tokens: int) -> None:
        self.vocabulary, self.max_tokens, self.max_new_tokens = vocabulary, max_tokens, max_new_tokens
        device_tokens, device_offsets = vocabulary.encode(DEVICES)
        if vocabulary.start is not None:  # in front of the prefix, and so of every prompt
            device_tokens = np.concatenate([np.array([vocabulary.start], dtype=np.int32), device_tokens])
            device_offsets = device_offsets + (np.arange(len(device_offsets)) > 0)
        item_tokens, item_offsets = vocabulary.encode(texts)
        end = np.array([vocabulary.end], dtype=np.int32)
        base = int(device_offsets[-1]) + 1
        self.pool = np.concatenate([device_tokens, end, item_tokens])
        self.starts = np.concatenate([device_offsets[:-1], [base - 1], item_offsets[:-1] + base])
        self.lengths = np.concatenate([np.diff(device_offsets), [1], np.diff(item_offsets)])
        self.readable = self.lengths[END + 1 :] > 0
        longest = int(max(self.lengths[FIRST], self.lengths[LATER]))
        room = max_tokens - int(self.lengths[PREFIX] + self.lengths[SUFFIX]) - longest
        if room < 1:
            raise InputError(f"max_tokens = {max_tokens} leaves no place for an item beside the {max_tokens - room} tokens of the prompt")
        self.room = room + longest
        # A single item that alone is too long is cut; otherwise whole oldest items go.
        self.read_lengths = np.minimum(self.lengths, np.where(np.arange(len(self.lengths)) > END, room, self.lengths))
        self.written_lengths = np.minimum(self.lengths, max_new_tokens)

    def appended(self, texts: Sequence[str]) -> "Pieces":
        """The pool with the texts of further items; those that are there aren't tokenised again."""
        more = Pieces(self.vocabulary, texts, self.max_tokens, self.max_new_tokens)
        skipped = int(more.starts[END]) + 1
        both = object.__new__(Pieces)
        both.__dict__.update(self.__dict__)
        both.pool = np.concatenate([self.pool, more.pool[skipped:]])
        both.starts = np.concatenate([self.starts, more.starts[END + 1 :] - skipped + len(self.pool)])
        for name in ("lengths", "read_lengths", "written_lengths"):
            setattr(both, name, np.concatenate([getattr(self, name), getattr(more, name)[END + 1 :]]))
        both.readable = np.concatenate([self.readable, more.readable])
        return both

    def item(self, index: int) -> NDArray[np.int32]:
        """Tokens of one item's text as it is written."""
        start = self.starts[END + 1 + index]
        return self.pool[start : start + self.written_lengths[END + 1 + index]]

    def targets(self, items: Ints) -> Packed:
        """The texts of items alone, ``borders`` 0."""
        lengths = self.written_lengths[items + END + 1]
        return Packed(self.pool[ranges(self.starts[items + END + 1], lengths)], lengths, np.zeros_like(lengths))

    def joined(self, history: Ints, counts: Ints, targets: Ints | None = None) -> Packed:
        """History inputs, with the target behind them where one is given (its end is left out: nothing is read after it).

        Args:
            history: items of all histories one after another, oldest first; those without text are passed over.
            counts: ``(B,)`` items of each.
            targets: ``(B,)``.

        An input that would pass ``max_tokens`` loses whole items, oldest first; never the suffix or the target.
        """
        if not len(counts):
            return Packed(np.zeros(0, dtype=np.int32), counts, counts)
        owners = np.repeat(np.arange(len(counts)), counts)
        kept = self.readable[history]
        pieces, owners = history[kept] + END + 1, owners[kept]
        size = self.read_lengths[pieces] + max(self.lengths[FIRST], self.lengths[LATER])
        total = np.cumsum(size)
        ends = np.searchsorted(owners, np.arange(len(counts)), side="right")
        behind = total[ends[owners] - 1] - total + size if len(owners) else total  # tokens from this item to the newest
        kept = behind <= self.room
        pieces, owners = pieces[kept], owners[kept]
        counts = np.bincount(owners, minlength=len(counts))
        # prefix, (device, item) x count, suffix, target
        width = 2 * counts + 2 + (targets is not None)
        first = np.cumsum(width) - width
        parts = np.empty(int(width.sum()), dtype=np.int64)
        at = first[owners] + 1 + 2 * (np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners])
        parts[at], parts[at + 1] = LATER, pieces
        some = counts > 0
        parts[first[some] + 1] = FIRST
        parts[first] = PREFIX
        parts[first + 1 + 2 * counts] = SUFFIX
        last = first + width - 1
        if targets is not None:
            parts[last] = targets + END + 1
        lengths = self.read_lengths[parts]
        if targets is not None:
            lengths[last] = self.written_lengths[parts[last]]
        whole = np.add.reduceat(lengths, first)
        borders = whole if targets is None else whole - lengths[last]
        return Packed(self.pool[ranges(self.starts[parts], lengths)], whole, borders)


__all__ = ["END", "Packed", "Pieces"]
