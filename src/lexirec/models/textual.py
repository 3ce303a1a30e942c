"""Models that read people and items as texts and rank by the cosine of the two: no vector belongs to an id.

catalogue and log -> a text per item and per person -> encoder -> cosine
"""

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import TrainSet
from lexirec.data.ids import IdMap
from lexirec.data.messages import shown, warn
from lexirec.data.mixing import domain_part
from lexirec.errors import InputError
from lexirec.models.answering import VectorRecommender
from lexirec.models.contract import ModelConfig, Recommender, Supports
from lexirec.models.reading import REMEMBERED_BYTES
from lexirec.query import Query
from lexirec.text.embed import PLACEHOLDER
from lexirec.text.plain_wording import NO_ITEM
from lexirec.text.plain_writer import PlainWriter
from lexirec.text.profiles import OtherPartError, Profiles, merge_profiles, read_part, read_record, version_column
from lexirec.text.templates import render

WORDLESS = frozenset({f"{NO_ITEM}.", PLACEHOLDER})
"""Texts of items that nothing is said of."""
WRITER = "writer."
"""Of the plain writer's arrays among a model's tensors."""


def _folders(value: Any) -> Any:
    """One folder as a list of one."""
    return (value,) if isinstance(value, str) else value


ProfileFolders = Annotated[tuple[str, ...], BeforeValidator(_folders)]
"""A setting that names folders of written profiles: one (``profiles=FOLDER``) or a list of several."""


def writer_state(writer: PlainWriter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A writer's arrays as tensors to be saved with a model's, and its settings (JSON-able); :func:`restored_writer` reads them."""
    values, arrays = writer.state()
    return {WRITER + name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}, values


def restored_writer(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> PlainWriter:
    """The writer whose arrays stand among a model's tensors."""
    arrays = {name.removeprefix(WRITER): value.numpy() for name, value in tensors.items() if name.startswith(WRITER)}
    return PlainWriter.restore(values, arrays)


class TextConfig(ModelConfig):
    """Settings of the texts."""

    profiles: ProfileFolders = ()
    """Folders of written profiles (``lexirec profile``); a data set takes the one that was written from its training part, the others are
    written without a language model."""
    versions: int = Field(default=3, ge=0, le=12)
    """Rephrased versions of each profile that the plain writer makes beside the first; a folder of ``profiles`` has its own number."""
    collaborative: bool = True
    """Whether the plain writer may tell what others chose (co-purchases, popularity, for whom), in training and in answers alike."""
    item_text: str = "profile"
    """What an item is read as: its profile, or a template of columns such as ``title,brand,categories``."""
    profile_first: bool = True
    """Whether a user of a ``profiles`` folder is read by that profile even where a query's history goes further (as EasyRec tests: profiles
    are of the training part). If not, the text is then written anew from the longer history, without a language model: a test, whose
    histories hold the validation events, never reads the users' part of the folder."""
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of a wish against the person, where a query gives no own."""

    def unread(self) -> dict[str, str]:
        return super().unread() | ({} if self.profiles else {"profile_first": "no folder of profiles"})


class TextRecommender(VectorRecommender):
    """Base of the models that rank by the cosine of a person's text and an item's text.

    A wish or a profile in a query is the person's text. A history is written up without a language model, and so is the stored history of
    a known user, unless a folder of profiles has that user: the same history gives the same text and the same vector either way. Only what
    a known user's own reviews of the training part mention is told by ``user_id`` alone.

    A subclass gives :meth:`encode_texts`, and calls :meth:`read_texts` in ``build``.
    """

    Config = TextConfig
    supports = Supports(user_id=True, history=True, intent=True, profile=True, new_items=True)
    needs_history = True

    version = 0
    """Which version of the profiles is asked with; see :meth:`use_version`."""
    item_rows: Tensor | None = None
    folders: Mapping[str, str] = {}
    """Content hash of the training part that each folder of ``profiles`` was written from."""
    tells_reviews = True
    """Whether a known user's text tells what the own reviews mention."""
    _known: OrderedDict[str, Tensor]
    """Vectors of texts, the one asked for last at the end."""
    _remembering = threading.Lock()  # of _known, for moments: a service asks from several threads

    # --- texts -------------------------------------------------------------------------------------------------------------------

    def read_texts(self, train: TrainSet) -> None:
        """Write or read the profiles of a training part, and prepare to write those of new people and items."""
        config = self.config
        self.writer = PlainWriter(config.versions, collaborative=config.collaborative)
        written = self.writer.write(train)
        self.profiles: Profiles | None = written
        self.written_users = pl.DataFrame(schema={c.USER_ID: pl.String})
        if config.profiles:
            self.profiles, self.written_users = merge_profiles(train, written, config.profiles)
        self.folders = {folder: read_record(folder)["content_hash"] for folder in config.profiles}
        self._index_users()
        if config.item_text != "profile":
            self.item_texts = [[readable(text) for text in render(train.items, config.item_text)]]
        else:
            self.item_texts = [self.profiles.item_texts(v) for v in range(self.profiles.n_versions + 1)]
        self.new_texts: list[str] = []
        self.forget()

    def _index_users(self) -> None:
        self._written = IdMap(self.written_users[c.USER_ID])

    def use_version(self, version: int) -> None:
        """Ask with another version of the profiles, for items and people alike; for evaluations over several versions.

        Raises:
            InputError: if there is no such version; a loaded model has only the first (``transfer`` writes all of them again).
        """
        known = 0 if self.profiles is None else self.profiles.n_versions
        if not 0 <= version <= known:
            raise InputError(f"version {version} of the profiles is not at hand; there are 0 to {known}")
        if version != self.version:
            self.version, self.item_rows = version, None

    def person_texts(self, queries: Sequence[Query]) -> list[str]:
        """The text of each query's person; see :class:`TextRecommender`."""
        texts = [""] * len(queries)
        histories: list[NDArray[np.int64]] = []
        rows: list[int] = []
        known: list[int] = []
        column = version_column(self.version)
        for row, query in enumerate(queries):
            stored, given = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
            if query.history is not None and len(query.history):
                given = self.item_map.index(query.history)
                given = given[given >= 0]
            if (at := self.users.position(query.user_id)) >= 0:
                stored = self.history_items[self.history_offsets[at] : self.history_offsets[at + 1]].astype(np.int64)
                place = self._written.position(query.user_id)
                if place >= 0 and (self.config.profile_first or not len(given) or np.array_equal(given, stored)):
                    texts[row] = self.written_users[column][place]
                    continue
            rows.append(row)
            known.append(at)
            histories.append(given if len(given) else stored)
        users = known if self.tells_reviews else None
        for row, text in zip(rows, self.writer.user_texts(histories, self.version, users), strict=True):
            texts[row] = text
        return texts

    def _person_of(self, query: Query) -> str:
        found = super()._person_of(query)
        written = found == "history" and self.config.profile_first and query.user_id is not None and query.user_id in self._written
        return "user" if written else found

    def on_another(self, train: TrainSet) -> Any:
        """Settings on another data set: of the folders of profiles those that were written from this training part.

        Raises:
            InputError: if one of them is missing or damaged, unless it is known to be of other data.
        """
        parts = [domain_part(train, number) for number in range(train.n_domains)]
        here, fits = {part.content_hash for part in parts}, []
        for folder in self.config.profiles:
            if not Path(folder).exists() and folder in self.folders and self.folders[folder] not in here:
                continue  # a run that was moved
            try:
                read_part(folder, parts)
            except OtherPartError:
                continue
            fits.append(folder)
        return self.config.model_copy(update={"profiles": tuple(fits)})

    # --- vectors -----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def encode_texts(self, texts: list[str]) -> Tensor:
        """Vectors of distinct texts, ``(n, D)`` float32 of unit length; a text's vector does not depend on its company."""

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """As :meth:`encode_texts`; while the weights stay the same, the texts asked for last are in memory and aren't read again."""
        with self._remembering:
            found = {text: self._known[text] for text in dict.fromkeys(texts) if text in self._known}
            for text in found:
                self._known.move_to_end(text)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            rows = self.encode_texts(missing)
            found.update(zip(missing, rows, strict=True))
            room = max(1, REMEMBERED_BYTES // max(4 * rows.shape[1], 1))
            kept = {text: found[text].clone() for text in missing[-room:]}  # a view would keep the whole batch
            with self._remembering:
                self._known.update(kept)
                while len(self._known) > room:
                    self._known.popitem(last=False)
        return torch.stack([found[text] for text in texts])

    def forget(self) -> None:
        """Drop all vectors: the weights or texts have changed."""
        self._known = OrderedDict()
        self.item_rows = None

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        if items is not None:
            return self._rows_of(self.new_item_texts(items), items[c.ITEM_ID], self.encode_items())
        if self.item_rows is None:
            texts = self.item_texts[min(self.version, len(self.item_texts) - 1)] + self.new_texts
            self.item_rows = self._rows_of(texts, self.items[c.ITEM_ID])
        return self.item_rows

    def _rows_of(self, texts: Sequence[str], ids: pl.Series, others: Tensor | None = None) -> Tensor:
        """Vectors of items by their texts, ``(n, D)``; items of which nothing is said, or nothing can be read, have the mean of the others.

        A placeholder is a text too, and the nearest one to a vague wish. The mean is not brought to unit length: its score for anybody is
        the mean of all items' scores, neither first nor last. Vectors are not kept by text, since they are kept as the catalogue's.

        Args:
            texts: of the items.
            ids: of the items, for the warning of texts that can't be read.
            others: ``(m, D)`` vectors to take the mean of; by default those of these items that have words.

        Raises:
            InputError: if there is no text that can be read and there are no others.
        """
        distinct = list(dict.fromkeys(texts))
        known = dict(zip(distinct, self.knows_words(distinct).tolist(), strict=True))
        read, unread = ([i for i, text in enumerate(texts) if known[text] is so] for so in (True, False))
        silent = torch.tensor([not known[text] or text in WORDLESS for text in texts], dtype=torch.bool)
        if unread:
            which = f"{len(unread):,} of {len(texts):,} items (item_id {shown(ids.gather(unread))})"
            place = f"{self.name} knows nothing of the texts of {which}"
            if silent.all() and others is None:
                raise InputError(f"{place}; choose an encoder that knows the language, or an item_text of columns that this one can read")
            warn(f"{place}; they get the mean vector")
        asked = [text for text in distinct if known[text]]
        vectors, row = self.encode_texts(asked), {text: i for i, text in enumerate(asked)}
        rows = torch.zeros(len(texts), vectors.shape[1])
        rows[read] = vectors[[row[texts[i]] for i in read]]
        if others is None:
            others = rows[~silent]
        if silent.any() and len(others):
            rows[silent] = others.to(rows).mean(0)
        return rows

    def encode_people(self, queries: Sequence[Query], people: Sequence[str]) -> Tensor:
        return self.text_vectors(self.person_texts(queries))

    def encode_words(self, texts: Sequence[str]) -> Tensor:
        return self.text_vectors(texts)

    def new_item_texts(self, items: pl.DataFrame) -> list[str]:
        """Texts of new items, by their own columns."""
        if self.config.item_text == "profile":
            return self.writer.item_texts(items)
        return [readable(text) for text in render(items, self.config.item_text)]

    def append_items(self, items: pl.DataFrame) -> None:
        before, texts = self.encode_items(), self.new_item_texts(items)
        self.item_rows = torch.cat([before, self._rows_of(texts, items[c.ITEM_ID], before)])
        silent = items[c.ITEM_ID].filter(pl.Series([text in WORDLESS for text in texts]))
        if len(silent):
            warn(f"{len(silent):,} of {len(texts):,} new items have no text (item_id {shown(silent)}); they get the mean vector")
        self.new_texts += texts
        self.writer.add_items(items)

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def save_files(self, folder: Path, extra: Mapping[str, Any] | None = None) -> None:
        asked = self.version
        self.use_version(0)  # the only one that a loaded model has
        try:
            super().save_files(folder, extra)
        finally:
            self.use_version(asked)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = writer_state(self.writer)
        tensors["items"] = self.encode_items()
        for name, texts in (("new_texts", self.new_texts), *((n, self.written_users[n].to_list()) for n in self.written_users.columns)):
            tensors[f"texts.{name}"] = pack_texts(texts)
        return tensors, {"writer": values, "folders": dict(self.folders)}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.writer = restored_writer(tensors, values["writer"])
        if self.writer.n_items < self.items.height:  # a model saved before the writer learned of added items
            self.writer.add_items(self.items[self.writer.n_items :])
        self.folders = values.get("folders", {})  # a model saved before doesn't say
        texts = {n.removeprefix("texts."): unpack_texts(v) for n, v in tensors.items() if n.startswith("texts.")}
        self.new_texts = texts.pop("new_texts")
        self.written_users = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))
        self._index_users()
        self.profiles, self.item_texts = None, []
        self.forget()
        # A copy: products differ in the last bit with where memory begins, and in a file that may be anywhere.
        self.item_rows = tensors["items"].clone()


def read_written(model: Recommender, folders: Sequence[str], train: TrainSet) -> None:
    """Let a loaded model read the data that it is transferred to next by folders of written profiles.

    Args:
        model: its settings are changed.
        folders: of profiles, in place of those that it was trained with.
        train: the training part that they were written from, or a mix with it.

    Raises:
        InputError: for a model that reads no profiles, and if a folder is missing, damaged or of another training part.
    """
    if not isinstance(model, TextRecommender):
        raise InputError(f"{model.name} reads no profiles of people and items; leave the folders (profiles, --profiles) out")
    if model.config.item_text != "profile":
        warn(f"items are read by item_text = {model.config.item_text!r}, so of these profiles only the users' part is")
    parts = [domain_part(train, number) for number in range(train.n_domains)]
    for folder in folders:
        read_part(folder, parts)
    model.config = model.config.model_copy(update={"profiles": tuple(folders)})


def readable(text: str) -> str:
    """The text, or a placeholder where it is blank."""
    return text if text.strip() else PLACEHOLDER


def pack_texts(texts: Sequence[str]) -> Tensor:
    """Texts as bytes with their lengths in front, so that they go into a file of arrays; ``(n,)`` uint8.

    >>> unpack_texts(pack_texts(["", "Rose oil", "mío"]))
    ['', 'Rose oil', 'mío']
    """
    written = [text.encode("utf-8", "replace") for text in texts]
    lengths = np.array([len(written), *map(len, written)], dtype=np.int64)
    return torch.from_numpy(np.concatenate([lengths.view(np.uint8), np.frombuffer(b"".join(written), dtype=np.uint8)]))


def unpack_texts(packed: Tensor) -> list[str]:
    """Undo :func:`pack_texts`."""
    raw = packed.numpy().tobytes()
    count = int.from_bytes(raw[:8], "little")
    lengths = np.frombuffer(raw[8 : 8 * (count + 1)], dtype=np.int64)
    ends = np.cumsum(lengths) + 8 * (count + 1)
    return [raw[end - length : end].decode() for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def unit(vectors: NDArray[np.float32] | Tensor) -> Tensor:
    """Rows of unit length, float32 on the CPU."""
    rows = torch.from_numpy(vectors) if isinstance(vectors, np.ndarray) else vectors
    return F.normalize(rows.float(), dim=1).cpu()


__all__ = [
    "ProfileFolders",
    "TextConfig",
    "TextRecommender",
    "pack_texts",
    "unit",
    "unpack_texts",
]
