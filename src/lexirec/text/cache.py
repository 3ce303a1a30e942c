"""Vectors kept on disk, so that a text is encoded once ever, by whichever process comes first.

    <cache folder>/embeddings/<SHA-256 of the fingerprint>/encoder.json           what made the vectors
                                                          /<random name>.safetensors   keys (n, 32) uint8, vectors (n, D) float32

A shard is written under a temporary name and renamed, and never changed afterwards; a process only ever adds shards under names of
its own. So two processes need no lock, lose nothing and corrupt nothing. Each shard holds a SHA-256 of its contents, checked when read;
a damaged shard is removed with a warning and its texts are encoded again. Many small shards are merged: the merged one is written
first, the old ones are removed after, so that a vector is always in at least one whole file.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lexirec.data.messages import warn
from lexirec.errors import InputError, LexirecError
from lexirec.files import FULL, REFUSED, atomic_file, free_space, write_json
from lexirec.text.encoders.api import ApiError
from lexirec.text.encoders.base import Encoder, FloatArray, check_texts

SHARD_BYTES = 32 << 20
"""Vectors are stored after each so many bytes, so that an interrupted run keeps what it has encoded."""
MIN_CHUNK, MAX_CHUNK = 256, 16384
MERGE_ABOVE = 16
"""Small shards (below half of SHARD_BYTES) are merged once there are more than this many."""
STALE_SECONDS = 86_400.0
_OFF: ContextVar[bool] = ContextVar("_OFF", default=False)


class CacheWarning(UserWarning):
    """The cache had to be mended, or can't be used; the vectors are right all the same."""


class CacheError(LexirecError, OSError):
    """The cache folder can't take a file (a full disk); no partial file is left."""


def _reason(error: OSError) -> str:
    return str(error) if error.errno is None else os.strerror(error.errno)


def default_folder() -> Path:
    """``LEXIREC_CACHE`` if set, else the user's cache folder (``~/.cache/lexirec`` on Linux)."""
    chosen = os.environ.get("LEXIREC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lexirec"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lexirec"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lexirec"


@contextlib.contextmanager
def off_disk() -> Iterator[None]:
    """Inside, every cache only encodes, those within encoders (``join:``) too: for a few texts that have to be answered at once."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)


def text_key(text: str) -> bytes:
    """SHA-256 of a text, 32 bytes."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


class EmbeddingCache:
    """Vectors by text and encoder.

    Args:
        folder: where to keep them; :func:`default_folder` if ``None``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = (Path(folder) if folder is not None else default_folder()) / "embeddings"

    def encode(self, encoder: Encoder, texts: Sequence[str], progress: bool = True) -> FloatArray:
        """Vectors of texts: from disk where known, else encoded and stored.

        Args:
            encoder: any encoder; one that is not ``cacheable`` is simply called.
            texts: strings, none of them blank.
            progress: show a bar on stderr for work of over two seconds.

        Returns:
            ``(n, D)`` float32, as ``encoder.encode(texts)`` gives it.

        Raises:
            InputError: as the encoder raises it, or if it gives vectors of another length than those that are stored under its fingerprint.
            ApiError: as the encoder raises it. The vectors that a service gave before that are stored, and the message says so.

        Warns:
            CacheWarning: if the vectors can't be stored (a full disk, no permission); they are given all the same. What was stored before
                stays, and no partial file is left.
        """
        clean = check_texts(texts)
        if not encoder.cacheable or not clean or _OFF.get():
            return encoder.encode(clean, progress=progress)
        rows = {text: i for i, text in enumerate(dict.fromkeys(clean))}
        distinct = list(rows)
        keys = [text_key(text) for text in distinct]
        place = self._place(encoder)
        found, vectors = self._read(place, keys)
        missing = np.flatnonzero(~found)
        if len(missing) or vectors is None:
            vectors = self._fill(encoder, place, distinct, keys, missing, vectors, progress)
        return vectors[np.fromiter((rows[text] for text in clean), dtype=np.int64, count=len(clean))]

    def _place(self, encoder: Encoder) -> Path:
        return self.folder / hashlib.sha256(encoder.fingerprint.encode()).hexdigest()[:32]

    def _fill(
        self,
        encoder: Encoder,
        place: Path,
        texts: list[str],
        keys: list[bytes],
        missing: NDArray[np.int64],
        vectors: FloatArray | None,
        progress: bool,
    ) -> FloatArray:
        writable = self._prepare(encoder, place)
        start = 0
        size = MIN_CHUNK if vectors is None else _chunk(vectors.shape[1])
        while start < len(missing):
            part = missing[start : start + size]
            try:
                fresh = encoder.encode([texts[i] for i in part], progress=progress)
            except ApiError as error:
                paid = _whole(error.finished, vectors)
                known = start + len(paid)
                if writable and known and (not len(paid) or self._stored(place, [keys[i] for i in part[: len(paid)]], paid)):
                    raise ApiError(f"{error}; {known:,} finished texts are in the cache: the same again asks only for the others") from None
                raise
            if vectors is None:
                vectors = np.empty((len(texts), fresh.shape[1]), dtype=np.float32)
            elif fresh.shape[1] != vectors.shape[1]:
                raise InputError(
                    f"{encoder.name} gives {fresh.shape[1]} dimensions, {place} holds {vectors.shape[1]} for the same fingerprint; "
                    "the model behind that name has changed: remove that folder"
                )
            vectors[part] = fresh
            writable = writable and self._stored(place, [keys[i] for i in part], fresh)
            start += len(part)
            size = _chunk(fresh.shape[1])
        if writable:
            self._merge(place)
        if vectors is None:  # not reached: there is at least one text, and it is stored or missing
            raise InputError("no texts to encode")
        return vectors

    def _prepare(self, encoder: Encoder, place: Path) -> bool:
        """Make the folder; false (with a warning) where it can't be written."""
        try:
            place.mkdir(parents=True, exist_ok=True)
            if not (place / "encoder.json").exists():
                write_json(place / "encoder.json", {"name": encoder.name, "fingerprint": encoder.fingerprint})
            for leftover in place.glob("*.tmp-*"):
                # Of a process that was killed; a living one renames its file within seconds, maybe just now.
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                        leftover.unlink()
        except OSError as error:
            warn(self._not_kept(error), CacheWarning)
            return False
        return True

    def _not_kept(self, error: OSError) -> str:
        if error.errno in REFUSED:
            return f"the cache folder {self.folder} can't be written ({_reason(error)}); vectors aren't kept. Set LEXIREC_CACHE"
        what = "is on a full disk" if error.errno in FULL else "can't be written"
        return (
            f"the cache folder {self.folder} {what} ({_reason(error)}; {free_space(self.folder)}); new vectors aren't kept. Make room, or"
            " set LEXIREC_CACHE to another folder"
        )

    def _stored(self, place: Path, keys: list[bytes], vectors: FloatArray) -> bool:
        """Whether a new shard could be written; a warning says why not."""
        try:
            self._write(place, keys, vectors)
        except CacheError as error:
            warn(str(error), CacheWarning)
            return False
        return True

    def _write(self, place: Path, keys: list[bytes], vectors: FloatArray) -> Path:
        """A new shard, whole or absent."""
        from safetensors.numpy import save

        key_rows = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 32)
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        data = save({"keys": key_rows, "vectors": rows}, metadata={"sha256": _digest(key_rows, rows)})
        path = place / f"{uuid.uuid4().hex}.safetensors"
        try:
            with atomic_file(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise CacheError(self._not_kept(error)) from error
        return path

    def _shards(self, place: Path) -> list[Path]:
        return sorted(place.glob("*.safetensors")) if place.is_dir() else []

    def _load(self, path: Path) -> tuple[list[bytes], FloatArray] | None:
        """Keys and vectors of a shard; ``None`` if it has gone (merged by another process) or is damaged (then removed)."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            tensors = load(data)
            keys, vectors = tensors["keys"], tensors["vectors"]
            if _digest(keys, vectors) != _metadata(data).get("sha256") or keys.shape != (len(vectors), 32) or vectors.dtype != np.float32:
                raise ValueError("its contents don't match its SHA-256")
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            warn(f"cache file {path} is damaged ({error}); it is removed and its texts are encoded again", CacheWarning)
            path.unlink(missing_ok=True)
            return None
        blob = keys.tobytes()
        return [blob[i : i + 32] for i in range(0, len(blob), 32)], vectors

    def _read(self, place: Path, keys: list[bytes]) -> tuple[NDArray[np.bool_], FloatArray | None]:
        """Which keys are stored, and an array ``(n, D)`` filled for those; ``None`` if there are none."""
        wanted = {key: i for i, key in enumerate(keys)}
        found = np.zeros(len(keys), dtype=bool)
        vectors: FloatArray | None = None
        done: set[Path] = set()
        while True:
            fresh = [path for path in self._shards(place) if path not in done]
            for path in fresh:
                done.add(path)
                if found.all():
                    return found, vectors
                shard = self._load(path)
                if shard is None:
                    continue
                pairs = [(row, wanted[key]) for row, key in enumerate(shard[0]) if key in wanted]
                if pairs:
                    source, target = np.array(pairs).T
                    if vectors is None:
                        vectors = np.empty((len(keys), shard[1].shape[1]), dtype=np.float32)
                    vectors[target] = shard[1][source]
                    found[target] = True
            # Another process may have merged shards between the listing and the reading: look again until nothing is new.
            if not fresh:
                return found, vectors

    def _merge(self, place: Path) -> None:
        small = [path for path in self._shards(place) if _size(path) < SHARD_BYTES // 2]
        if len(small) <= MERGE_ABOVE:
            return
        keys: list[bytes] = []
        parts: list[FloatArray] = []
        merged: list[Path] = []
        seen: set[bytes] = set()
        total = 0
        for path in small:
            shard = self._load(path)
            if shard is None:
                continue
            rows = [row for row, key in enumerate(shard[0]) if key not in seen]
            seen.update(shard[0])
            keys += [shard[0][row] for row in rows]
            parts.append(shard[1][rows])
            merged.append(path)
            total += parts[-1].nbytes
            if total > SHARD_BYTES:
                break
        if len(merged) < 2:
            return
        try:
            self._write(place, keys, np.concatenate(parts))
        except CacheError as error:
            # The vectors are safe in their small shards; merging is only tidying.
            warn(f"the cache could not be tidied: {error}", CacheWarning)
            return
        for path in merged:
            try:
                path.unlink(missing_ok=True)
            except PermissionError:  # Windows: another process is reading it; the next merge takes it
                continue


def _whole(finished: FloatArray | None, others: FloatArray | None) -> FloatArray:
    """Vectors of a call that failed, up to the first that is not finite; none where they are of another length than the others."""
    if finished is None or (others is not None and finished.shape[1] != others.shape[1]):
        return np.zeros((0, 0), dtype=np.float32)
    return finished[: int(np.isfinite(finished).all(axis=1).cumprod().sum())]


def _chunk(dim: int) -> int:
    return int(np.clip(SHARD_BYTES // (4 * max(dim, 1)), MIN_CHUNK, MAX_CHUNK))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(keys: NDArray[np.uint8], vectors: FloatArray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(keys).tobytes())
    digest.update(str(vectors.shape).encode())
    digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()


def _metadata(data: bytes) -> dict[str, str]:
    # The file starts with the length of a JSON header, whose "__metadata__" safetensors.numpy doesn't return.
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.get("__metadata__") or {}
    return {str(key): str(value) for key, value in metadata.items()}
