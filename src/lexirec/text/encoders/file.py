"""``file:<vectors>``: vectors made before, joined by item id (Parquet) or taken row by row (.npy)."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lexirec import columns as c
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError, UnsupportedQueryError, nearest
from lexirec.files import atomic_file, sha256_file
from lexirec.text.encoders.base import Encoder, FloatArray, shorten
from lexirec.text.templates import parse_template, render

VECTOR = "vector"
TEXT = "text_sha256"
METADATA = "lexirec"


def write_vectors(
    path: str | Path,
    item_ids: Sequence[str] | pl.Series,
    vectors: FloatArray,
    metadata: Mapping[str, Any],
    texts: Sequence[str] | None = None,
) -> None:
    """Write ``item_id`` and ``vector`` (a fixed-size list of float32) as Parquet, whole or not at all.

    Args:
        path: the file to write; replaced if it exists.
        item_ids: ``I`` ids.
        vectors: ``(I, D)`` float32.
        metadata: what made the vectors (``encoder``, ``fingerprint``, ``template``, ``texts_sha256``), JSON-able; goes into the footer.
        texts: ``I`` texts that the vectors are of, by the ``template`` of the metadata; their SHA-256 becomes the column ``text_sha256``,
            by which a changed or another catalogue is noticed when the file is read.

    Raises:
        StorageError: if the file can't be written (a full disk, no permission).
    """
    table = pl.DataFrame({c.ITEM_ID: item_ids, VECTOR: pl.Series(np.ascontiguousarray(vectors, dtype=np.float32))})
    if texts is not None:
        table = table.with_columns(pl.Series(TEXT, _hashes(texts), dtype=pl.Binary))
    with atomic_file(path) as temporary:
        table.write_parquet(temporary, metadata={METADATA: json.dumps(dict(metadata), ensure_ascii=False)})


def read_vectors(path: str | Path) -> tuple[pl.Series, FloatArray, dict[str, Any]]:
    """Item ids, vectors ``(I, D)`` float32 and metadata of a Parquet file.

    Any Parquet with ``item_id`` and a list column ``vector`` is read; metadata is empty for files from elsewhere.

    Raises:
        InputError: if the file is missing, truncated, lacks a column, has vectors of several lengths or an id twice.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file} does not exist; lexirec embed --out {file} writes such a file")
    try:
        table = pl.read_parquet(file)
        footer = pl.read_parquet_metadata(file).get(METADATA)
        metadata = json.loads(footer) if footer else {}
    except (pl.exceptions.PolarsError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"{file} can't be read as Parquet ({error}); the file is truncated or of another kind") from error
    for column in (c.ITEM_ID, VECTOR):
        if column not in table.columns:
            raise InputError(f"{file} has no column {column!r}{nearest(column, table.columns)}; it has {', '.join(table.columns)}")
    ids = table[c.ITEM_ID].cast(pl.String)
    if ids.null_count():
        raise InputError(f"{file}: {ids.null_count():,} rows have no item_id; drop them")
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())[0]
        raise InputError(f"{file}: item_id {twice!r} stands there more than once; keep one row per item")
    vectors = table[VECTOR]
    if vectors.dtype.base_type() is pl.List:
        sizes = vectors.list.len().unique().drop_nulls().sort().to_list()
        if len(sizes) > 1:
            raise InputError(f"{file}: vectors have {len(sizes)} different lengths ({sizes[0]} to {sizes[-1]}); they must all be as long")
        if sizes:
            vectors = vectors.list.to_array(sizes[0])
    if vectors.dtype.base_type() is not pl.Array:
        raise InputError(f"{file}: column 'vector' is {vectors.dtype}; expected lists of numbers of one length")
    if vectors.null_count():
        missing = ids.filter(vectors.is_null())[0]
        raise InputError(f"{file}: {vectors.null_count():,} vectors are null (first: item_id {missing!r}); drop these rows")
    width = vectors.dtype.size  # type: ignore[attr-defined]
    flat = vectors.explode(empty_as_null=False) if len(vectors) else pl.Series([], dtype=pl.Float32)
    # A null number inside a vector becomes NaN here and is refused with its item id by the check on all vectors.
    return ids, flat.cast(pl.Float32).fill_null(float("nan")).to_numpy().reshape(len(ids), width).copy(), metadata


def texts_sha256(texts: Sequence[str]) -> str:
    """One SHA-256 over the texts of a catalogue in their order."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()


def _hashes(texts: Sequence[str]) -> list[bytes]:
    return [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]


def _read_hashes(path: Path) -> pl.Series | None:
    """The column of the texts' hashes, row by row; none in files of earlier versions and from elsewhere."""
    return pl.read_parquet(path, columns=[TEXT])[TEXT] if pl.read_parquet_schema(path).get(TEXT) == pl.Binary else None


class FileEncoder(Encoder):
    """Vectors by item id; no texts are read.

    Args:
        path: a Parquet file as :func:`write_vectors` makes it (or any with ``item_id`` and ``vector``), or a ``.npy`` matrix with one row
            per item in the catalogue's order.
        words: name of the encoder that made the vectors; wishes in words then go to it. Without it, words are a named error.
    """

    cacheable: ClassVar[bool] = False

    def __init__(self, path: str, *, words: str | None = None) -> None:
        self.path = Path(path).expanduser()
        self.name = f"file:{path}" + (f"?words={_quoted(words)}" if words else "")
        self.metadata: dict[str, Any] = {}
        self.item_ids: pl.Series | None = None
        self.text_hashes: pl.Series | None = None
        if self.path.suffix == ".npy":
            self.vectors = _read_npy(self.path)
        else:
            self.item_ids, self.vectors, self.metadata = read_vectors(self.path)
            self.text_hashes = _read_hashes(self.path)
        self._row: dict[str, int] | None = None
        self._sha256: str | None = None
        self._words: Encoder | None = None
        if words:
            from lexirec.text.encoders import comparable, load_encoder

            self._words = load_encoder(words)
            made_by = self.metadata.get("fingerprint")
            if made_by and comparable(made_by) != comparable(self._words.fingerprint):
                raise InputError(f"{self.path} was made by {made_by}; words={words} is {self._words.fingerprint}: their spaces differ")

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def description(self) -> dict[str, Any]:
        if self._sha256 is None:
            self._sha256 = sha256_file(self.path)
        return {"kind": "file", "sha256": self._sha256, "dim": self.dim, "made_by": self.metadata.get("fingerprint")}

    def lookup(self, item_ids: Sequence[str] | pl.Series) -> FloatArray:
        """Vectors of these items, ``(n, D)`` float32.

        Raises:
            InputError: if items have no vector (count and first ids), or a ``.npy`` has another number of rows.
        """
        wanted = [str(item) for item in item_ids]
        if self.item_ids is None:
            if len(wanted) != len(self.vectors):
                raise InputError(
                    f"{self.path} has {len(self.vectors):,} rows for {len(wanted):,} items; a .npy is taken row by row in the order of the "
                    "items: give one row per item, or a Parquet file with item_id and vector"
                )
            return self.vectors.copy()
        row = self._rows(self.item_ids)
        missing = [item for item in wanted if item not in row]
        if missing:
            raise InputError(
                f"{self.path}: {len(missing):,} of {len(wanted):,} items have no vector (item_id {shown(pl.Series(missing))}); "
                "make the file from the whole catalogue: lexirec embed --items FILE --out FILE"
            )
        return self.vectors[np.fromiter((row[item] for item in wanted), dtype=np.int64, count=len(wanted))]

    def _rows(self, item_ids: pl.Series) -> dict[str, int]:
        """The row of each item of the file."""
        if self._row is None:
            self._row = {item: i for i, item in enumerate(item_ids)}
        return self._row

    def check_catalogue(self, items: pl.DataFrame, template: str | Sequence[str] = "title", joins: bool = False) -> None:
        """Compare a catalogue with the one that the file was made of, as far as the file tells (one of ``lexirec embed`` does).

        Args:
            items: with ``item_id`` and the columns that the file's texts were made of.
            template: that the caller asked for, which is read by nobody here.
            joins: whether the items join a catalogue that was read by this file; then other texts are warned about, however many.

        Raises:
            InputError: if half of the items or more have other texts than those of the same ids in the file: another catalogue's.

        Warns:
            DataWarning: if some have, or the template is another than the file's.
        """
        made_of = self.metadata.get("template")
        asked = list(parse_template(template))
        if asked not in (made_of, ["title"]):
            said = "" if made_of is None else f", which are of {','.join(made_of)!r}"
            warn(f"text {','.join(asked)!r} is not read with {self.name}: it has the vectors of the items{said}; leave the text out")
        if made_of is None or self.item_ids is None or any(column not in items.columns for column in made_of):
            return
        ids, texts = items[c.ITEM_ID].cast(pl.String), render(items, made_of)
        cure = "make the file again: lexirec embed --items FILE --out FILE"
        if self.text_hashes is None:
            known = self.metadata.get("texts_sha256")
            if known and ids.equals(self.item_ids) and known != texts_sha256(texts):
                warn(f"{self.path}: texts of the items have changed since the file was made; {cure}")
            return
        row = self._rows(self.item_ids)
        there = [i for i, item in enumerate(ids) if item in row]
        before = self.text_hashes.gather([row[ids[i]] for i in there]).to_list()
        changed = [i for i, old, new in zip(there, before, _hashes([texts[i] for i in there]), strict=True) if old != new]
        if not changed:
            return
        place = f"{self.path}: {len(changed):,} of {len(there):,} items have other texts than those that the file was made of (item_id"
        place = f"{place} {shown(ids.gather(changed))})"
        if 2 * len(changed) >= len(there) and not joins:
            raise InputError(
                f"{place}, so it is of another catalogue, where the same ids are other items: train with the encoder itself"
                f" (encoder=minilm), which reads any catalogue, or {cure}"
            )
        warn(f"{place}; {cure}")

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        self.check_reads_words(texts[0])
        assert self._words is not None  # noqa: S101 (else refused)
        vectors = self._words.encode(texts, progress=progress)
        if vectors.shape[1] != self.dim:
            raise InputError(
                f"{self.path} has {self.dim} dimensions, {self._words.name} gives {vectors.shape[1]}: it did not make this file; "
                "name the encoder that did"
            )
        return vectors

    def readable(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        return np.zeros(len(texts), dtype=bool) if self._words is None else self._words.readable(texts)

    def check_reads_words(self, text: str) -> None:
        if self._words is None:
            raise UnsupportedQueryError(
                f"{self.name} holds vectors of items and can't encode words ({shorten(text)}); name the encoder that made it: "
                f"file:{self.path}?words={self.metadata.get('encoder') or '<encoder>'}"
            )


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe=":/")


def _read_npy(path: Path) -> FloatArray:
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    try:
        matrix = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} can't be read as a .npy matrix ({error}); pickled objects are never read") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.number) or np.iscomplexobj(matrix):
        raise InputError(f"{path} is no matrix of numbers with one row per item")
    return np.ascontiguousarray(matrix, dtype=np.float32)
