"""What the graph models share: propagation, contrast with sampled items, answers for hot, warm and worded queries.

layer 0 -> mean over neighbours x L -> (unit norm) -> dot / temperature -> loss over sampled items
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.errors import UnsupportedQueryError
from lexirec.losses import infonce, softmax_over_items
from lexirec.models.answering import VectorRecommender
from lexirec.models.contract import ModelConfig, Supports
from lexirec.models.layers.graph import Graph, gather, sampled_scores
from lexirec.query import Query
from lexirec.training.samplers import NegativeSampler, PositiveSampler, Sampling

Batch = tuple[Tensor, Tensor, Tensor | None]
"""Users ``(B,)``, positives ``(B,)``, negatives ``(B, n)`` or shared ``(n,)`` or none; int64."""


class GraphConfig(ModelConfig):
    """Settings that all graph models have."""

    embedding_dim: PositiveInt = 64
    """Dimension of the vectors that are ranked by."""
    num_layers: NonNegativeInt = 3
    """Graph layers; 0 switches the graph off."""
    tau: PositiveFloat = 0.15
    """Temperature of InfoNCE."""
    num_negs: PositiveInt = 256
    """Negatives per positive (``per-sample``) or per batch (``shared``)."""
    negatives: Literal["per-sample", "shared", "in-batch", "all"] = "per-sample"
    """``per-sample``: own unseen items for each sample, as published.

    ``shared``: one set for the batch. ``in-batch``: the other samples' positives. ``all``: every item.
    """
    sampling: Sampling = "user-uniform"
    """How (user, positive) are drawn; see :class:`~lexirec.training.samplers.PositiveSampler`."""
    lr: PositiveFloat = 5e-4
    """Learning rate of Adam."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay inside Adam."""
    batch_size: PositiveInt = 2048
    """Samples per step."""

    def unread(self) -> dict[str, str]:
        return super().unread() | ({"num_negs": f"negatives = {self.negatives!r}"} if self.negatives in ("in-batch", "all") else {})


class GraphRecommender(VectorRecommender):
    """Base of the graph models.

    A subclass gives :meth:`layer0` and :meth:`loss`, and makes ``network``, the module with the weights, in :meth:`build` and again in
    :meth:`restore`. Where layer 0 is one table of all users and items, :class:`IdGraphRecommender` does all of this but the loss.
    """

    Config = GraphConfig
    graph: Graph | None
    ids_alone: ClassVar[bool] = True
    """Whether a new person's row before the graph is zero, so that a history speaks through the graph alone."""

    def __init__(self, config: ModelConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        if self.ids_alone and not self.config.num_layers:
            self.supports = Supports(user_id=True)

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.n_users, self.n_items = train.n_users, train.n_items
        self.graph = Graph(train).to(self.device)
        self.item_degree = torch.from_numpy(self.graph.item_degree)
        self.item_domains = (
            torch.from_numpy(np.repeat(np.arange(train.n_domains), np.diff(train.item_domains))) if train.n_domains > 1 else None
        )
        self.user_domains = np.repeat(np.arange(train.n_domains), np.diff(train.user_domains))
        self.new_items = torch.from_numpy(train.new_items).to(self.device) if train.new_items.any() else None
        self.drawn_from: TrainSet | None = None

    def layer0(self) -> Tensor:
        """Rows before the graph, users first, ``(U + I, D)``."""
        raise NotImplementedError

    # --- training ----------------------------------------------------------------------------------------------------------------

    def n_batches(self, train: TrainSet) -> int:
        self._draw_from(train)
        return self.positive_sampler.n_batches

    def _draw_from(self, train: TrainSet) -> None:
        """Make the samplers, once: a model that goes to another data set without training needs none, and may have nothing to draw from."""
        if self.drawn_from is train:
            return
        self.positive_sampler = PositiveSampler(train, self.config.batch_size, self.config.sampling)
        own_draws = self.config.negatives == "per-sample"
        needs_draws = own_draws or self.config.negatives == "shared"
        self.negative_sampler = NegativeSampler(train, own_draws=own_draws) if needs_draws else None
        self.drawn_from = train

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[Batch]:
        self._draw_from(train)
        for users, positives in self.positive_sampler.batches(rng):
            yield self._tensor(users), self._tensor(positives), self._negatives(users, rng)

    def _negatives(self, users: NDArray[np.int64], rng: np.random.Generator) -> Tensor | None:
        if self.negative_sampler is None:
            return None
        if self.config.negatives == "shared":
            return self._tensor(self.negative_sampler.shared(self.config.num_negs, rng))
        return self._tensor(self.negative_sampler.draw(users, self.config.num_negs, rng))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def contrast(self, users: Tensor, items: Tensor, batch: Batch) -> Tensor:
        """InfoNCE of the batch with the negatives that the configuration asks for.

        Args:
            users: ``(B, D)`` vectors of the batch's users, float32.
            items: ``(I, D)`` vectors of all items, float32.
            batch: see :data:`Batch`.
        """
        user_index, positives, negatives = batch
        tau = self.config.tau
        if self.ranks_by_cosine:
            users, items = F.normalize(users, dim=1), F.normalize(items, dim=1)
        if self.config.negatives == "all":
            scores = users @ items.T  # (B, I)
            if self.item_domains is not None:
                own = self._own_domains(user_index)
                scores = scores.masked_fill(own[:, None] != self.item_domains.to(scores.device)[None, :], -torch.inf)
            if self.new_items is not None:  # they don't exist yet, so they are nobody's negatives
                scores = scores.masked_fill(self.new_items, -torch.inf)
            return softmax_over_items(scores, positives, tau)
        positive_rows = gather(items, positives)
        if self.config.negatives == "in-batch":
            scores = users @ positive_rows.T
            if self.item_domains is not None:
                own = self._own_domains(user_index)
                scores = scores.masked_fill(own[:, None] != own[None, :], -torch.inf)
            return softmax_over_items(scores, torch.arange(len(users), device=users.device), tau)
        positive = (users * positive_rows).sum(1)
        assert negatives is not None  # noqa: S101 (drawn for the two modes left)
        scores = users @ gather(items, negatives).T if negatives.ndim == 1 else sampled_scores(users, items, negatives)
        if negatives.ndim == 1 and self.item_domains is not None:  # as many of each data set, one set after the other
            drawn_for = torch.arange(len(negatives), device=users.device) // self.config.num_negs
            scores = scores.masked_fill(self._own_domains(user_index)[:, None] != drawn_for[None, :], -torch.inf)
        return infonce(positive, scores, tau)

    def _own_domains(self, user_index: Tensor) -> Tensor:
        """Data set of each user of a batch, ``(B,)``."""
        return self._tensor(self.user_domains[user_index.cpu().numpy()])

    def negatives_of(self, batch: Batch) -> Tensor:
        """Drawn negatives of each sample, ``(B, n)``: its own, or those that the batch shares (of its own data set)."""
        user_index, _, negatives = batch
        assert negatives is not None  # noqa: S101 (asked where negatives are drawn)
        if negatives.ndim == 2:
            return negatives
        if self.item_domains is not None:
            return negatives.view(-1, self.config.num_negs)[self._own_domains(user_index)]
        return negatives.expand(len(user_index), -1)

    @torch.no_grad()
    def culprits(self, batch: Batch) -> str:
        """Users and items whose rows before the graph are not finite, in words for the error of a loss that is not.

        Those of the batch, or, where these are finite, those that the graph joins to them.
        """
        users, positives, negatives = batch
        bad = ~torch.isfinite(self.layer0()).all(1)
        spoken_of = torch.zeros_like(bad)
        for index in (users, positives + self.n_users, *(() if negatives is None else (negatives.reshape(-1) + self.n_users,))):
            spoken_of[index] = True
        where = "of the batch" if bool((bad & spoken_of).any()) else "beside the batch"
        bad = (bad & spoken_of if where == "of the batch" else bad).cpu()
        found = []
        for kind, ids, rows in (("user", self.users, bad[: self.n_users]), ("item", self.item_map, bad[self.n_users :])):
            if rows.any():
                names = ids.name(rows.nonzero()[:, 0].numpy())
                found.append(f"{len(names):,} {kind}s {where} ({kind}_id {', '.join(map(repr, names.head(3)))})")
        return f"{' and '.join(found)} have vectors with NaN or infinity" if found else "all rows before the graph are finite"

    # --- answering ---------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self) -> None:
        if self.graph is None:  # loaded: the vectors were stored
            return
        self.network.eval()
        layers = self.graph.layers(self.layer0(), self.config.num_layers)
        self.item_layers = torch.stack([layer[self.n_users :] for layer in layers]).float().cpu()  # (L + 1, I, D)
        mean = (torch.stack(layers).sum(0) / len(layers)).float().cpu()
        self.hot_users = self.unit(mean[: self.n_users])
        self.item_rows = self.unit(mean[self.n_users :])

    def unit(self, rows: Tensor) -> Tensor:
        """Rows of unit length where the model ranks by cosine, else as they are."""
        return F.normalize(rows, dim=-1) if self.ranks_by_cosine else rows

    @property
    def ranks_by_cosine(self) -> bool:
        """Whether training and ranking compare by cosine; by inner product if a subclass says nothing."""
        return False

    def user_vectors(self) -> Tensor:
        return self.hot_users

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        if items is None:
            return self.item_rows
        raise UnsupportedQueryError(f"{self.name} knows items by id only; use a model that reads text, such as alpharec")

    def encode_people(self, queries: Sequence[Query], people: Sequence[str]) -> Tensor:
        out = torch.zeros(len(queries), self.item_rows.shape[1])
        hot = [row for row, kind in enumerate(people) if kind == "user"]
        if hot:
            out[hot] = self.hot_users[torch.from_numpy(self.users.index([queries[row].user_id or "" for row in hot]))]
        warm = [row for row, kind in enumerate(people) if kind == "history"]
        if warm:
            out[warm] = self.encode_histories([queries[row].history or [] for row in warm])
        return out

    def speaking(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        return self.item_degree.numpy()[items] > 0 if self.ids_alone else super().speaking(items)

    def _flat_histories(self, histories: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Distinct known items of each history: rows ``(n,)``, items ``(n,)`` and lengths ``(B,)``, int64."""
        rows, items = [], []
        for row, history in enumerate(histories):
            known = np.unique(self.item_map.index(history))
            known = known[known >= 0]
            rows.append(np.full(len(known), row))
            items.append(known)
        flat_rows = torch.from_numpy(np.concatenate(rows))
        return flat_rows, torch.from_numpy(np.concatenate(items)), torch.bincount(flat_rows, minlength=len(histories))

    def history_layer0(self, rows: Tensor, items: Tensor, lengths: Tensor) -> Tensor:
        """Layer 0 of a new person, ``(B, D)``; ID models have none: zeros."""
        return torch.zeros(len(lengths), self.item_layers.shape[2])

    def encode_histories(self, histories: Sequence[Sequence[str]]) -> Tensor:
        """Vectors of people who were not in training, ``(B, D)``: each joins the frozen graph with the history's items.

        Layer ``l + 1`` is the sum over the history of ``E_l[i] / sqrt(|history| degree_i)`` over the stored item layers; an item without
        training interactions has no edge weight and adds to layer 0 only.
        """
        rows, items, lengths = self._flat_histories(histories)
        degree = self.item_degree[items]
        weight = torch.where(degree > 0, (lengths[rows] * degree.clamp(min=1)) ** -0.5, 0.0)[:, None]
        total = self.history_layer0(rows, items, lengths)
        for layer in self.item_layers[:-1]:
            total = total.index_add(0, rows, layer[items] * weight)
        return self.unit(total / len(self.item_layers))

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {"item_layers": self.item_layers, "item_degree": self.item_degree, "users": self.hot_users}, {}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.graph = None
        self.item_layers, self.item_degree, self.hot_users = tensors["item_layers"], tensors["item_degree"], tensors["users"]
        self.item_rows = self.unit(self.item_layers.sum(0) / len(self.item_layers))
        self.n_users, self.n_items = len(self.hot_users), len(self.item_rows)


class IdGraphRecommender(GraphRecommender):
    """Base of the graph models whose layer 0 is one learned table of all users and items; a subclass gives :meth:`loss`."""

    supports = Supports(user_id=True, history=True)

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        super().build(train, rng)
        self.network = self.make_network()
        self.initialise()

    def make_network(self) -> nn.Module:
        """The module with the weights, for :meth:`build` and :meth:`restore`; one that has more adds it to this one's table."""
        return nn.ModuleDict({"embedding": nn.Embedding(self.n_users + self.n_items, self.config.embedding_dim)})

    def initialise(self) -> None:
        """First values of the table: N(0, 0.1)."""
        nn.init.normal_(self.layer0(), std=0.1)

    def layer0(self) -> Tensor:
        return self.network.get_parameter("embedding.weight")

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        self.network = self.make_network()
