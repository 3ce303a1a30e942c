"""Text to token ids and back: an own byte-level BPE, or the tokenizer of a named language model."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from lexirec.errors import InputError
from lexirec.models.calrec.texts import DEVICES

END = "<|end|>"
Merges = Literal["words", "phrases"]
"""``words``: a token lies within a word, a number or a run of signs. ``phrases``: it may span several, such as a whole brand."""


class Vocabulary:
    """Tokens of an own language model, or of a named one.

    Args:
        tokenizer: of the ``tokenizers`` library.
        end: id of the end-of-text token.
        start: id of the token that the model's texts begin with, where there is one.

    An own vocabulary holds the template's fixed pieces and the devices as tokens of their own: the same text in about three quarters of
    the tokens.
    """

    def __init__(self, tokenizer: Tokenizer, end: int, start: int | None = None) -> None:
        self.tokenizer, self.end, self.start = tokenizer, end, start
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # a title that holds the end token's name is text, and ends nothing

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    @classmethod
    def trained(cls, texts: Sequence[str], size: int, pieces: Sequence[str], merges: Merges = "words") -> "Vocabulary":
        """Learn byte pairs from item texts.

        Args:
            texts: of the catalogue.
            size: tokens at most; at least 256 bytes and the fixed pieces are there. Fewer where no further pair occurs twice.
            pieces: the template's fixed pieces, which become tokens.
            merges: see :data:`Merges`.
        """
        # Tokens that are a single full stop or the like would be torn from words: only pieces with a label are whole tokens.
        whole = [AddedToken(piece, normalized=False, special=False) for piece in [*DEVICES, *(p for p in pieces if len(p) > 2)]]
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=merges == "words")
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        learned = max(size - len(whole), 257)
        # A pair that stands in one place only is not merged: whole texts of a small catalogue would become tokens that share nothing.
        trainer = trainers.BpeTrainer(
            vocab_size=learned, min_frequency=2, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        )
        torn = re.compile("|".join(re.escape(piece) for piece in pieces if len(piece) > 2))
        parts = [part for text in texts for part in torn.split(text) if part]
        tokenizer.train_from_iterator(parts, trainer, length=len(parts))
        tokenizer.add_tokens(whole)
        return cls(tokenizer, tokenizer.token_to_id(END) or 0)

    @classmethod
    def of_model(cls, folder: Path) -> "Vocabulary":
        """The tokenizer of a model folder.

        Raises:
            InputError: if the folder has none that needs no code of its own, or it has no end-of-text token.
        """
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, use_fast=True)
            backend = found.backend_tokenizer
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"lm: {folder} has no fast tokenizer (tokenizer.json): {error}") from error
        end = found.eos_token_id if found.eos_token_id is not None else found.sep_token_id
        if end is None:
            raise InputError(f"lm: the tokenizer of {folder} has no end-of-text token, so writing would never stop; set eos_token there")
        tokenizer = Tokenizer.from_str(backend.to_str())
        begun = tokenizer.encode("").ids  # what it puts around every text; a name for a start that it never writes doesn't count
        return cls(tokenizer, int(end), begun[0] if begun and begun[0] == found.bos_token_id else None)

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token ids of all texts one after another, and where each starts, ``(n + 1,)``; nothing is added to them."""
        found = [one.ids for one in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in found])]).astype(np.int64)
        flat = np.fromiter((token for ids in found for token in ids), dtype=np.int32, count=int(offsets[-1]))
        return flat, offsets

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts of lists of token ids, ends left out; surrounding white space is cut."""
        return [text.strip() for text in self.tokenizer.decode_batch([list(one) for one in ids], skip_special_tokens=True)]

    def state(self) -> Tensor:
        """As bytes in a tensor."""
        written = json.dumps({"end": self.end, "start": self.start, "tokenizer": self.tokenizer.to_str()})
        return torch.from_numpy(np.frombuffer(written.encode(), dtype=np.uint8).copy())

    @classmethod
    def restored(cls, state: Tensor) -> "Vocabulary":
        """Undo :meth:`state`."""
        read: dict[str, Any] = json.loads(state.numpy().tobytes().decode())
        return cls(Tokenizer.from_str(read["tokenizer"]), int(read["end"]), read.get("start"))  # older ones have no start


__all__ = ["END", "Merges", "Vocabulary"]
