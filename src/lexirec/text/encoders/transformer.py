"""``minilm`` and ``hf:<model>``: any transformers model, with the pooling and padding that its family needs.

text -> tokens -> batches of one length -> last hidden state -> pooling -> (unit length)

Source: AlphaRec's extraction (last position, after the final norm, not normalised) and sentence-transformers (mean, unit length).
How this differs from both: batches hold texts of one token count, so almost no token is padding, and where lengths are mixed the
positions are given explicitly, since learned absolute positions (GPT-2, GPT-Neo, OPT, BERT) would otherwise shift with the padding.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lexirec.errors import InputError
from lexirec.progress import track
from lexirec.query import as_text
from lexirec.text.encoders import hub
from lexirec.text.encoders.base import PLAIN_WORD, Encoder, FloatArray, as_bool, as_choice, as_int, shorten
from lexirec.text.encoders.batching import plan_batches
from lexirec.text.encoders.families import default_device, is_causal, pad_token, position_limit, position_offset, read_config
from lexirec.text.encoders.precision import PRECISIONS, resolve, torch_dtype

POOLINGS = ("auto", "last", "mean", "cls", "pooler")
PADDINGS = ("right", "left", "none")
CHARACTERS_PER_TOKEN = 32
"""A first cut of long texts; doubled until the cut text fills ``max_length``, so the tokens are those of the whole text."""
TOKENIZE_BLOCK = 8192


class TransformerEncoder(Encoder):
    """A transformers model as an encoder.

    Args:
        model: a folder, or a name on the hub (local copies first; the network is asked only if there is none).
        pooling: ``last`` (last real token; causal models), ``mean`` (over real tokens), ``cls`` (first token), ``pooler`` (the
            model's own pooler output); ``auto`` takes ``last`` for causal families and ``mean`` for others.
        max_length: most tokens of a text, special tokens included; further ones are cut. Never above the model's positions.
        normalize: scale each vector to unit length.
        prompt: put in front of every text, as it is.
        revision: branch, tag or commit, for a name on the hub.
        precision: ``float32``, ``bfloat16`` or ``auto`` (bfloat16 where the device has it in hardware).
        device: torch device; ``None`` takes the GPU if there is one.
        padding: side to pad where lengths must be mixed; ``none`` never mixes. The vectors agree within the tolerance.
        batch_tokens: most tokens per batch.
        name: the name to be known by; by default built from the options.
        label: the model's name in the fingerprint; by default the name, or the folder's own name.
        sha256: expected SHA-256 of ``model.safetensors``, checked before loading.

    Batch invariance: the same text gives the same vector in any company up to rounding: in float32 cosine above 1 - 1e-6 and
    elements within 1e-4 of the row's largest; in bfloat16 cosine above 0.999 (tested).

    Only safetensors weights are read and no code from the model's folder is ever run.
    """

    def __init__(
        self,
        model: str,
        *,
        pooling: str = "auto",
        max_length: int | str = 256,
        normalize: bool | str = False,
        prompt: str = "",
        revision: str | None = None,
        precision: str = "auto",
        device: str | None = None,
        padding: str = "right",
        batch_tokens: int | str = 4096,
        name: str | None = None,
        label: str | None = None,
        sha256: str | None = None,
    ) -> None:
        self.model_name = model
        self.pooling = as_choice(pooling, "pooling", POOLINGS)
        self.max_length = as_int(max_length, "max_length")
        self.normalize = as_bool(normalize, "normalize")
        self.prompt = prompt
        self.label = label or (Path(model).expanduser().name if Path(model).expanduser().is_dir() else model)
        self.revision = revision
        self.padding = as_choice(padding, "padding", PADDINGS)
        self.batch_tokens = as_int(batch_tokens, "batch_tokens")
        self.device = device or default_device()
        self.precision = resolve(as_choice(precision, "precision", PRECISIONS), self.device)
        self.sha256 = sha256
        self.folder = hub.resolve(model, revision)
        self.config = read_config(self.folder)
        if self.pooling == "auto":
            self.pooling = "last" if is_causal(self.config) else "mean"
        self.name = name or self._name()
        self._identity: str | None = sha256
        self._loaded: tuple[Any, Any] | None = None
        self._tokenizer: Any = None
        self._lock = threading.RLock()
        self._positions: str | None = None
        self._offset = 0

    def _name(self) -> str:
        options: dict[str, Any] = {"pooling": self.pooling, "max_length": self.max_length, "normalize": str(self.normalize).lower()}
        if self.prompt:
            options["prompt"] = self.prompt
        if self.revision:
            options["revision"] = self.revision
        if self.padding != "right":
            options["padding"] = self.padding
        return hub.join_name("hf", self.model_name, options)

    @property
    def dim(self) -> int:
        # The order matters: T5 has d_model, OPT-350m projects its states to word_embed_proj_dim, GPT-2's old name is n_embd.
        for key in ("word_embed_proj_dim", "hidden_size", "d_model", "n_embd", "dim"):
            value = self.config.get(key)
            if isinstance(value, int):
                return value
        return int(self._encode(["dimension"], False).shape[1])

    def description(self) -> dict[str, Any]:
        if self._identity is None:
            self._identity = hub.identity(self.folder)
        return {
            "kind": "transformers",
            "model": self.label,
            "revision": self._identity,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "max_length": self.max_length,
            "prompt": self.prompt,
            "precision": self.precision,
            "dim": self.dim,
        }

    def unload(self) -> None:
        with self._lock:
            self._loaded = self._tokenizer = None

    def load(self) -> tuple[Any, Any]:
        """The tokenizer and the model, loaded at first use."""
        if self._loaded is None:
            if self.sha256 is not None:
                hub.check_sha256(self.folder / "model.safetensors", self.sha256)
            tokenizer, model = hub.load_transformer(self.folder, torch_dtype(self.precision), self.device)
            self._loaded = tokenizer, model
            self._limit_length(tokenizer, model)
        return self._loaded

    def _limit_length(self, tokenizer: Any, model: Any) -> None:
        limits = (tokenizer.model_max_length, position_limit(self.config, model))
        self._length = max(1, min(self.max_length, *(int(limit) for limit in limits if limit is not None and limit > 0)))

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, prompt and special tokens included, at most ``max_length``.

        A text of megabytes is cut before tokenizing; the cut is taken back until it no longer shows in the tokens.
        """
        tokenizer, _ = self.load()
        ids = _tokens(tokenizer, texts, self._length, self.prompt)
        for text, tokens in zip(texts, ids, strict=True):
            if not tokens:
                raise InputError(f"{self.name}: the tokenizer finds nothing in {shorten(text)}; use other text for it")
        return ids

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        # Most texts are settled without a tokenizer; it is loaded without the weights, which may be large.
        found = np.array([PLAIN_WORD.search(text) is not None for text in texts], dtype=bool)
        odd = np.flatnonzero(~found).tolist()
        if odd:
            with self._lock:
                if self._tokenizer is None:
                    self._tokenizer = hub.load_tokenizer(self.folder)
                tokens = _tokens(self._tokenizer, [as_text(texts[i]) for i in odd], self.max_length)
                found[odd] = hub.says_something(self._tokenizer, tokens)
        return found

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        # Fast tokenizers refuse to be used by two threads at once ("Already borrowed"); a service encodes wishes from several.
        with self._lock:
            return self._encode_alone(texts, progress)

    def _encode_alone(self, texts: list[str], progress: bool) -> FloatArray:
        import torch

        ids = self.tokenize(texts)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        batches = plan_batches(lengths, self.batch_tokens, pad=self._pads())
        parts: list[FloatArray] = []
        with torch.inference_mode():
            for batch in _by_texts(batches, f"encoding with {self.name}", len(texts), progress):
                pooled = self._forward([ids[i] for i in batch])
                if self.normalize:
                    pooled = torch.nn.functional.normalize(pooled, dim=1)
                parts.append(pooled.cpu().numpy())
        out = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
        out[np.concatenate(batches)] = np.concatenate(parts)
        return out

    def _pads(self) -> bool:
        return self.padding != "none" and self._position_rule() != "none"

    def _position_rule(self) -> str:
        """How positions are given where a batch is padded; found by trying on an unpadded text, where the model's own are right.

        ``model``: the model takes no ``position_ids`` (rotary or relative ones inside); ``given``: they count from 0, or from
        the padding index + 1 (RoBERTa's way); ``none``: neither reproduces the model's own, so batches are never padded.
        """
        if self._positions is None:
            import inspect

            import torch

            tokenizer, model = self.load()
            if "position_ids" not in inspect.signature(model.forward).parameters:
                # T5, ALiBi and the like: right padding can't move a token; left padding might, so it isn't done.
                self._positions = "model" if self.padding == "right" else "none"
                return self._positions
            tokens = list(tokenizer("positions are checked", truncation=True, max_length=self._length)["input_ids"]) or [0]
            ids = torch.tensor([tokens], device=self.device)
            with torch.inference_mode():
                own = model(input_ids=ids).last_hidden_state.float()
                self._positions = "none"
                for offset in dict.fromkeys((position_offset(model), 0)):
                    positions = torch.arange(len(tokens), device=self.device)[None] + offset
                    given = model(input_ids=ids, position_ids=positions).last_hidden_state.float()
                    if torch.allclose(own, given, rtol=1e-3, atol=1e-3 * float(own.abs().nan_to_num().max()), equal_nan=True):
                        self._positions, self._offset = "given", offset
                        break
        return self._positions

    def _forward(self, ids: list[list[int]]) -> Any:
        """Pooled vectors ``(B, D)`` float32 of one batch, not normalised."""
        import torch

        tokenizer, model = self.load()
        lengths = torch.tensor([len(tokens) for tokens in ids], device=self.device)
        width = int(lengths.max())
        inputs: dict[str, Any] = {}
        if int(lengths.min()) == width:
            # No padding: the model's own positions are right in every family, and no mask keeps the fast attention kernel.
            first, last = torch.zeros_like(lengths), lengths - 1
            tokens = torch.tensor(ids, device=self.device)  # (B, L)
            mask = None
        else:
            pad = pad_token(tokenizer)
            left = self.padding == "left"
            rows = [[pad] * (width - len(t)) + t if left else t + [pad] * (width - len(t)) for t in ids]
            tokens = torch.tensor(rows, device=self.device)  # (B, L)
            first = width - lengths if left else torch.zeros_like(lengths)
            last = first + lengths - 1
            place = torch.arange(width, device=self.device)[None] - first[:, None]  # (B, L), position within the text
            # From the lengths, never from token ids: where the padding token is also the end token, real ones would be masked.
            mask = (place >= 0) & (place < lengths[:, None])
            inputs["attention_mask"] = mask.long()
            if self._position_rule() == "given":
                inputs["position_ids"] = place.clamp(min=0).minimum(lengths[:, None] - 1) + self._offset
        output = model(input_ids=tokens, **inputs)
        rows_index = torch.arange(len(ids), device=self.device)
        if self.pooling == "pooler":
            pooled = getattr(output, "pooler_output", None)
            if pooled is None or model.lexirec_pooler_is_random:
                raise InputError(f"{self.model_name} has no trained pooler; use pooling=cls, mean or last")
            if self.padding == "left" and mask is not None:
                raise InputError("pooling=pooler reads the first position, which left padding fills; use padding=right")
            return pooled.float()
        hidden = output.last_hidden_state.float()  # (B, L, D); float32 before summing, bfloat16 sums lose digits
        if self.pooling == "last":
            return hidden[rows_index, last]
        if self.pooling == "cls":
            return hidden[rows_index, first]
        if mask is None:
            return hidden.mean(dim=1)
        return torch.einsum("bld,bl->bd", hidden, mask.float()) / lengths[:, None]


def _tokens(tokenizer: Any, texts: list[str], length: int, prompt: str = "") -> list[list[int]]:
    """Token ids of each text behind the prompt, at most ``length``; see :meth:`TransformerEncoder.tokenize`."""
    ids: list[list[int]] = [[]] * len(texts)
    pending = list(range(len(texts)))
    width = CHARACTERS_PER_TOKEN * length
    while pending:
        for start in range(0, len(pending), TOKENIZE_BLOCK):
            rows = pending[start : start + TOKENIZE_BLOCK]
            block = [prompt + cut(texts[i], width) for i in rows]
            found = tokenizer(block, truncation=True, max_length=length, padding=False, return_attention_mask=False)["input_ids"]
            for i, tokens in zip(rows, found, strict=True):
                ids[i] = tokens
        pending = [i for i in pending if len(texts[i]) > width and len(ids[i]) < length]
        width *= 4
    return ids


def _by_texts(batches: list[NDArray[np.int64]], description: str, total: int, progress: bool) -> Any:
    # The bar counts texts, which a reader knows, while the loop runs over batches.
    steps = (batch if k == 0 else None for batch in batches for k in range(len(batch)))
    return (batch for batch in track(steps, description, total=total, enabled=progress) if batch is not None)


def cut(text: str, width: int) -> str:
    """The first ``width`` characters, back to the last space so that no word is cut (unless there is none).

    >>> cut("red lipstick", 7)
    'red'
    """
    if len(text) <= width:
        return text
    head = text[:width]
    space = head.rfind(" ")
    return head[:space] if space > 0 else head
