"""``st:<model>``: any sentence-transformers model, with the modules (pooling, dense layers, prompts) that its folder describes."""

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
from lexirec.text.encoders.base import PLAIN_WORD, Encoder, FloatArray, as_bool, as_int
from lexirec.text.encoders.families import default_device
from lexirec.text.encoders.transformer import CHARACTERS_PER_TOKEN

CHUNK = 1024
"""Texts between two steps of the progress bar."""


class SentenceTransformersEncoder(Encoder):
    """A sentence-transformers model, run by that library in float32, whatever precision its weights are stored in.

    Args:
        model: a folder, or a name on the hub (local copies first).
        normalize: scale each vector to unit length on top of what the model does.
        prompt: put in front of every text. A default prompt in the model's own files applies where this is empty.
        revision: branch, tag or commit, for a name on the hub.
        max_length: most tokens of a text; the model's own value where ``None``.
        device: torch device; ``None`` takes the GPU if there is one.
        batch_size: texts per batch.
    """

    def __init__(
        self,
        model: str,
        *,
        normalize: bool | str = False,
        prompt: str = "",
        revision: str | None = None,
        max_length: int | str | None = None,
        device: str | None = None,
        batch_size: int | str = 32,
    ) -> None:
        self.model_name = model
        self.normalize = as_bool(normalize, "normalize")
        self.prompt = prompt
        self.revision = revision
        self.max_length = None if max_length is None else as_int(max_length, "max_length")
        self.device = device or default_device()
        self.batch_size = as_int(batch_size, "batch_size")
        self.folder = hub.resolve(model, revision)
        if any(self.folder.rglob("*.bin")) and not any(self.folder.rglob("*.safetensors")):
            raise InputError(f"{self.folder} has pickled weights only; lexirec reads .safetensors (pickled files can run code)")
        options: dict[str, Any] = {}
        if self.normalize:
            options["normalize"] = "true"
        if prompt:
            options["prompt"] = prompt
        if revision:
            options["revision"] = revision
        if self.max_length is not None:
            options["max_length"] = self.max_length
        self.name = hub.join_name("st", model, options)
        self._model: Any = None
        self._identity: str | None = None
        self._precision: str | None = None
        self._lock = threading.RLock()

    def unload(self) -> None:
        self._model = None

    def load(self) -> Any:
        """The model, loaded at first use."""
        if self._model is None:
            import torch
            from sentence_transformers import SentenceTransformer

            try:
                with hub.quiet_loading():
                    self._model = SentenceTransformer(
                        str(self.folder),
                        device=self.device,
                        trust_remote_code=False,
                        local_files_only=True,
                        model_kwargs={"use_safetensors": True, "dtype": torch.float32},  # by default that of the stored weights
                    )
            except (OSError, ValueError, KeyError) as error:
                raise InputError(f"{self.folder} can't be loaded by sentence-transformers: {error}") from error
            if self.max_length is not None:
                self._model.max_seq_length = self.max_length
        return self._model

    @property
    def dim(self) -> int:
        model = self.load()
        # Renamed in sentence-transformers 5.
        size = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        return int(size())

    def description(self) -> dict[str, Any]:
        if self._identity is None or self._precision is None:
            self._identity, self._precision = hub.identity(self.folder), self._run_precision()
        return {
            "kind": "sentence-transformers",
            "model": Path(self.model_name).name if Path(self.model_name).is_dir() else self.model_name,
            "revision": self._identity,
            "normalize": self.normalize,
            "max_length": self.max_length,
            "prompt": self.prompt,
            "precision": self._precision,
        }

    def _run_precision(self) -> str:
        """``float32``, and that of the stored weights where it is a lower one.

        Their vectors were once made in that lower precision and kept as those of float32: under this name they aren't found again.
        """
        from safetensors import SafetensorError, safe_open

        stored: set[str] = set()
        for path in sorted(self.folder.rglob("*.safetensors")):
            try:
                with safe_open(path, framework="np") as handle:
                    stored |= {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118 (not a dict)
            except SafetensorError as error:
                raise InputError(f"{path} is damaged or no safetensors file ({error}); copy the model's folder again") from error
        low = sorted(stored & {"BF16", "F16"})
        return f"float32 of {'+'.join(low)} weights" if low else "float32"

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        found = np.array([PLAIN_WORD.search(text) is not None for text in texts], dtype=bool)  # settled without the model
        odd = np.flatnonzero(~found).tolist()
        if odd:
            with self._lock:
                model = self.load()
                tokenizer = model.tokenizer
                if not hasattr(tokenizer, "all_special_ids"):  # of a table of word vectors
                    return super().readable(texts)
                block = [as_text(texts[i])[: self._width()] for i in odd]
                tokens = tokenizer(block, truncation=True, max_length=model.max_seq_length)["input_ids"]
            found[odd] = hub.says_something(tokenizer, tokens)
        return found

    def _width(self) -> int:
        """Characters read of a text: one of megabytes would be tokenized whole, only to be cut to ``max_seq_length`` tokens."""
        return 4 * CHARACTERS_PER_TOKEN * int(self.load().max_seq_length or 8192)

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        with self._lock:  # a fast tokenizer can't be asked by two threads in two ways at once
            return self._encode_alone(texts, progress)

    def _encode_alone(self, texts: list[str], progress: bool) -> FloatArray:
        model, width = self.load(), self._width()
        options: dict[str, Any] = {"prompt": self.prompt} if self.prompt else {}
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in track(range(0, len(order), CHUNK), f"encoding with {self.name} (blocks of {CHUNK:,})", enabled=progress):
            rows = order[start : start + CHUNK]
            part = model.encode(
                [texts[i][:width] for i in rows],
                batch_size=self.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=self.normalize,
                **options,
            )
            out[rows] = part
        return out
