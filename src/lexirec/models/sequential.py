"""What the sequential models share: windows, item vectors from anywhere, losses, and answers for histories.

item vectors (id | text through an adapter | both) -> sequence encoder -> dot with item vectors -> loss over sampled or all items
"""

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.errors import InputError, UnsupportedQueryError
from lexirec.losses import bce, gbce, infonce
from lexirec.models.answering import VectorRecommender
from lexirec.models.config import LENIENT, ModelConfig, Supports
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import Adapter, ItemVectors
from lexirec.models.layers.graph import sampled_scores
from lexirec.models.layers.sequence import Layout, ranges
from lexirec.models.layers.softmax import cross_entropy_over_items
from lexirec.models.reading import TextReader
from lexirec.models.sequence_batches import SequenceBatch, SequenceSampler
from lexirec.models.sequence_config import SequenceConfig
from lexirec.models.sequence_culprits import culprits
from lexirec.models.sequence_network import SequenceNetwork, initialise
from lexirec.query import Query
from lexirec.text.reduce import check_dimensions, fit_reduction

if TYPE_CHECKING:
    from lexirec.text.encoders import Encoder

ENCODED_AT_ONCE = 2048
"""Histories that go through the network together."""


class SequentialRecommender(VectorRecommender):
    """Base of the sequential models.

    A subclass gives :meth:`make_body`. What is trained is decided by ``items``: any source of item vectors fits any encoder.
    """

    Config: ClassVar[type[ModelConfig]] = SequenceConfig
    needs_history = True
    cloze: bool = False
    """Whether training masks events and fills them in; asked, such a model reads the state of a mask put after the history."""
    reader: TextReader
    """Where ``items`` has text: what reads it, and wishes."""
    stored: bool = False

    def __init__(self, config: ModelConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        words = self.config.has_text
        if self.cloze and self.config.max_len < 2:
            raise InputError("max_len = 1 leaves no place for the history beside the mask; set at least 2")
        if self.cloze and self.config.targets == "last" and not LENIENT.get():
            raise InputError("targets = 'last' says nothing to a model that fills in masked events; set mask_last=1 to mask the last alone")
        self.supports = Supports(user_id=True, history=True, intent=words, profile=words, new_items=words)

    @abstractmethod
    def make_body(self) -> nn.Module:
        """The sequence encoder that the configuration asks for."""

    # --- building ----------------------------------------------------------------------------------------------------------------

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.n_items = self.trained = train.n_items
        self.stored = False
        self.network = self.make_network(self.make_items(train))
        self.initialise()
        config = self.config
        # A table by id gains by it too: one gradient of its size a step in place of one for each of the three that look items up.
        distinct = config.loss != "ce"
        self.sampler = SequenceSampler(train, config, cloze=self.cloze, distinct=distinct, device=self.device)
        known = ~train.new_items
        self.n_known = int(known.sum())
        # Items that don't exist yet while training are no candidates of the softmax over all items.
        self.candidates: Tensor | None = None
        if train.new_items.any():
            self.candidates = self._tensor(np.flatnonzero(known))
            self.place = self._tensor(np.cumsum(known) - 1)

    def check_log(self, train: TrainSet) -> None:
        """Refuse a log that nothing can be drawn from, for systems that train a stage before.

        Raises:
            InputError: as the training would.
        """
        SequenceSampler(train, self.config, cloze=self.cloze, distinct=False, device=torch.device("cpu"))

    def make_items(self, train: TrainSet) -> ItemVectors:
        """The source of item vectors that the configuration asks for."""
        config, dim = self.config, self.config.embedding_dim
        if config.items == "id":
            return ItemVectors(train.n_items, dim, None, None, by_id=True)
        self.reader = TextReader(self.make_encoder(train))
        raw = self.catalogue_text(train.items)
        self.reader.encoder.unload()  # it may be large, and is not needed again before somebody asks with words
        starts = config.items == "text-start"
        self.reader.reduction = fit_reduction(raw, config.transform, dim if starts else config.text_dim)
        text = torch.from_numpy(self.reader.reduce(raw))
        if starts:
            return ItemVectors(train.n_items, dim, None, None, by_id=True, start=text)
        self.text_dim = text.shape[1]
        return ItemVectors(
            train.n_items, dim, text, self.make_adapter(self.text_dim), by_id="id" in config.items, frozen=config.freeze_text
        )

    def identity(self) -> dict[str, Any]:
        """Besides, what made the text vectors: under the same name a file or folder may hold others than before an interruption."""
        reader = getattr(self, "reader", None)  # none where no text is read
        if reader is None:
            return super().identity()
        made = hashlib.sha256(reader.encoder.fingerprint.encode()).hexdigest()[:16]
        return super().identity() | {"what the encoder is made of": made}

    def make_adapter(self, text_dim: int) -> Adapter | None:
        """The map of text vectors, or none where they are used as they are."""
        config = self.config
        self.check_adapter(text_dim)
        return None if config.adapter == "none" else Adapter(text_dim, config.embedding_dim, config.adapter, config.adapter_dim)

    def check_adapter(self, text_dim: int) -> None:
        """Refuse reduced text vectors that are to be used as they are and have another width than item vectors."""
        dim = self.config.embedding_dim
        if self.config.adapter == "none" and text_dim != dim:
            raise InputError(
                f"adapter = 'none' uses the text vectors as they are, and they have {text_dim} dimensions where embedding_dim is"
                f" {dim}; set transform='pca' and text_dim={dim}"
            )

    def check_text(self, n_items: int, width: int) -> None:
        """Refuse text vectors ``(n_items, width)`` that can't become item vectors, for systems that know these before they train a stage.

        Raises:
            InputError: as :meth:`make_items` would.
        """
        check_dimensions(n_items, width, self.config.transform, self.config.text_dim)
        self.check_adapter(self.config.text_dim or width)

    def make_encoder(self, train: TrainSet) -> "Encoder":
        """The encoder of item texts and wishes."""
        from lexirec.text.encoders import load_encoder

        return load_encoder(self.config.encoder)

    def item_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """Raw text vectors of items, ``(n, text_dim)``."""
        from lexirec.text.embed import item_vectors

        return np.ascontiguousarray(item_vectors(items, self.reader.encoder, self.config.text), dtype=np.float32)

    def catalogue_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        """Raw text vectors of a whole catalogue, ``(I, text_dim)``."""
        return self.item_text(items)

    def make_network(self, items: ItemVectors) -> SequenceNetwork:
        """Item vectors, encoder and what a cloze model has besides."""
        dim = self.config.embedding_dim
        head = None
        if self.cloze and self.config.head:
            head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-12))
        return SequenceNetwork(items, self.make_body(), dim, self.cloze, head)

    def initialise(self) -> None:
        """First values of every matrix, see ``init``."""
        initialise(self._network, self.config)
        if self.config.has_text:
            # An item without a training event never learns anything of its own: its words alone speak for it, as for an item added later.
            # As a negative it would be pushed away from everybody.
            self._items.never_learn(torch.from_numpy(np.flatnonzero(self.popularity == 0)))

    # --- training ----------------------------------------------------------------------------------------------------------------

    def optimiser(self) -> torch.optim.Optimizer:
        kind = torch.optim.AdamW if self.config.optimiser == "adamw" else torch.optim.Adam
        fused = self.device.type in ("cpu", "cuda")
        # Text vectors that are trained aren't drawn towards 0: those of items that nobody took would go there by that alone.
        text = [weight for weight in self.network.parameters() if weight is self._items.text]
        others = [weight for weight in self.network.parameters() if weight is not self._items.text]
        groups: list[dict[str, Any]] = [{"params": others}, *([{"params": text, "weight_decay": 0.0}] if text else [])]
        return kind(groups, lr=self.config.lr, weight_decay=self.config.weight_decay, fused=fused)

    def n_batches(self, train: TrainSet) -> int:
        return self.sampler.n_batches

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[SequenceBatch]:
        return self.sampler.batches(rng)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    @property
    def _network(self) -> SequenceNetwork:
        assert isinstance(self.network, SequenceNetwork)  # noqa: S101 (set by build)
        return self.network

    @property
    def _items(self) -> ItemVectors:
        return self._network.items

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Loss of the configuration; item vectors are computed once per step, for the items that the batch speaks of."""
        low = torch.is_autocast_enabled(self.device.type)
        with torch.autocast(self.device.type, enabled=low and self.device.type != "cpu"):
            # On a CPU rows this narrow gain nothing from bfloat16; the softmax over all items does.
            table = self._items(batch.rows)
            states = self._network.states(table, batch.inputs, batch.masked, batch.layout, batch.at, batch.rows)
        with torch.autocast(self.device.type, enabled=False):
            return self.recommendation_loss(states.float(), table.float(), batch, low) + self.extra_loss(table, batch)

    def extra_loss(self, table: Tensor, batch: SequenceBatch) -> Tensor | float:
        """What a system adds to the recommendation loss."""
        return 0.0

    def recommendation_loss(self, states: Tensor, table: Tensor, batch: SequenceBatch, low: bool) -> Tensor:
        """``(M, D)`` states against the batch's targets and negatives."""
        config = self.config
        unit = self.unit
        targets, negatives = batch.targets, batch.negatives
        states = unit(states)
        if config.loss == "ce":
            table = unit(table)
            if self.candidates is not None:
                table, targets = table[self.candidates], self.place[targets]
            return cross_entropy_over_items(states, table, targets, config.tau, low=low)
        # Only the rows asked for are brought to unit length: the catalogue may be much larger than the batch.
        positive = (states * unit(F.embedding(targets, table))).sum(1)
        assert negatives is not None  # noqa: S101 (drawn for every other loss)
        if negatives.ndim == 1:
            scores = states @ unit(F.embedding(negatives, table)).T
            # A shared negative may be the target of another row: then it says nothing there.
            scores = scores.masked_fill(negatives[None, :] == targets[:, None], -torch.inf)
        elif negatives.shape[1] == 1:
            scores = (states * unit(F.embedding(negatives[:, 0], table))).sum(1, keepdim=True)
        else:
            scores = sampled_scores(states, unit(table), negatives)
        if config.loss == "softmax":
            return infonce(positive, scores, config.tau)
        positive, scores = positive / config.tau, scores / config.tau
        if config.loss == "bce":
            return bce(positive, scores)
        return gbce(positive, scores, self.n_known, config.calibration)

    def culprits(self, batch: SequenceBatch) -> str:
        """See :func:`~lexirec.models.sequence_culprits.culprits`."""
        return culprits(self, batch)

    def unit(self, rows: Tensor) -> Tensor:
        """Rows of unit length where scores are cosines, else as they are."""
        return F.normalize(rows, dim=1) if self.config.cosine else rows

    # --- answering ---------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self) -> None:
        if self.stored:  # loaded: the table was kept, the text vectors that it was made of were not
            return
        self.network.eval()
        self.use_table(self._items().float().detach())

    def use_table(self, table: Tensor) -> None:
        """Set the item vectors ``(I, D)`` that inputs are looked up in and answers are ranked by."""
        self.table = table
        self.item_rows = self.unit(table).cpu()

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        if items is None:
            return self.item_rows
        self._check_reads_text()
        return self.unit(self.vectors_of_text(self.item_text(items)))

    def _check_reads_text(self) -> None:
        if not self.config.has_text:
            raise UnsupportedQueryError(f"{self.name} knows items by id only here; set items='text' or items='id+text'")

    @torch.no_grad()
    def vectors_of_text(self, raw: NDArray[np.float32]) -> Tensor:
        """Raw text vectors through the reduction and the adapter: item vectors by words alone, ``(n, D)``."""
        self._check_reads_text()
        self.network.eval()
        return self._items.of_text(torch.from_numpy(self.reader.reduce(raw)).to(self.device)).float().cpu()

    def encode_words(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(self.vectors_of_text(self.reader.words(texts)), dim=1)

    def encode_people(self, queries: Sequence[Query], people: Sequence[str]) -> Tensor:
        return self.encode_histories(*self._histories(queries))

    def _histories(self, queries: Sequence[Query]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Known items of each query's history, one after another, and their numbers ``(B,)``.

        A history in the query is the whole history; without one (or with none of it known) the user's stored history is used.
        """
        given = [query.history if query.history is not None else () for query in queries]
        lengths = np.fromiter((len(h) for h in given), dtype=np.int64, count=len(given))
        flat = self.item_map.index(list(chain.from_iterable(given)))
        owners = np.repeat(np.arange(len(given)), lengths)[flat >= 0]
        flat, lengths = flat[flat >= 0], np.bincount(owners, minlength=len(given))
        empty = np.flatnonzero(lengths == 0)
        if len(empty):
            users = self.users.index([queries[int(row)].user_id or "" for row in empty])
            starts, counts = self.history_offsets[users], self.history_offsets[users + 1] - self.history_offsets[users]
            owners = np.concatenate([owners, np.repeat(empty, counts)])
            flat = np.concatenate([flat, self.history_items[ranges(starts, counts)].astype(np.int64)])
            flat = flat[np.argsort(owners, kind="stable")]
            lengths[empty] = counts
        return flat, lengths

    @torch.no_grad()
    def encode_histories(self, flat: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
        """States after histories, ``(B, D)`` float32.

        Args:
            flat: item positions, the histories one after another, oldest first.
            lengths: ``(B,)`` events of each, at least 1.
        """
        self.network.eval()
        ends = np.cumsum(lengths)
        kept = np.minimum(lengths, self.config.max_len - 1 if self.cloze else self.config.max_len)
        out = torch.empty(len(lengths), self.config.embedding_dim)
        order = np.argsort(-kept, kind="stable")
        for lo in range(0, len(order), ENCODED_AT_ONCE):
            part = order[lo : lo + ENCODED_AT_ONCE]
            out[torch.from_numpy(part)] = self._states(flat, ends[part] - kept[part], kept[part]).float().cpu()
        return self.unit(out)

    def _states(self, flat: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Tensor:
        """Last states of windows of ``flat``, longest first."""
        inputs, masked = flat[ranges(starts, lengths)], None
        if self.cloze:
            # a mask after each history
            inputs = np.insert(inputs, np.cumsum(lengths), 0)
            lengths = lengths + 1
            hidden = np.zeros(len(inputs), dtype=bool)
            hidden[np.cumsum(lengths) - 1] = True
            masked = self._tensor(hidden)
        layout = Layout(lengths, self.device)
        return self._network.states(self.table, self._tensor(inputs), masked, layout, layout.last)

    def user_vectors(self) -> Tensor:
        """States over the stored histories, ``(U, D)``; zeros for users without one."""
        lengths = np.diff(self.history_offsets)
        out = torch.zeros(len(lengths), self.item_rows.shape[1])
        some = np.flatnonzero(lengths)
        out[torch.from_numpy(some)] = self.encode_histories(self.history_items.astype(np.int64), lengths[some])
        return out

    def append_items(self, items: pl.DataFrame) -> None:
        self.use_table(torch.cat([self.table.cpu(), self.vectors_of_text(self.item_text(items))]).to(self.device))
        self.n_items += items.height

    def transfer(self, train: TrainSet) -> "Recommender":
        """The trained adapter and encoder on another data set, whose items are known by their texts alone (zero-shot)."""
        from lexirec.text.embed import refuse_other_catalogue

        self._check_fitted()
        if self.config.items != "text":
            raise UnsupportedQueryError(
                f"{self.name} with items={self.config.items!r} has vectors of ids, which mean nothing in another data set; zero-shot needs"
                " items='text'"
            )
        refuse_other_catalogue(self.reader.encoder, self.items, train.items)
        other = copy.copy(self)
        other.remember(train)
        other.n_items, other.stored = train.n_items, True
        other.use_table(other.vectors_of_text(other.catalogue_text(train.items)).to(self.device))
        return other

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        if not self.config.has_text:  # the table is among the weights
            return {}, {"trained": self.trained}
        tensors, encoder = self.reader.state()
        return {"table": self.table.cpu(), **tensors}, {"trained": self.trained, "text_dim": self.text_dim, "encoder": encoder}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.n_items = self.trained = values["trained"]
        adapter, text = None, None
        if self.config.has_text:
            self.reader = TextReader.restored(tensors, values["encoder"])
            self.text_dim = values["text_dim"]
            adapter = self.make_adapter(self.text_dim)
            text = None if self.config.freeze_text else torch.empty(self.trained, self.text_dim)
        by_id = self.config.items != "text"
        dim = self.config.embedding_dim
        items = ItemVectors(self.trained, dim, text, adapter, by_id=by_id, frozen=self.config.freeze_text)
        self.network = self.make_network(items)
        if "table" in tensors:
            self.n_items, self.stored = len(tensors["table"]), True
            self.use_table(tensors["table"])


__all__ = ["SequentialRecommender"]
