"""GCCF (Chen et al., "Revisiting Graph Based Collaborative Filtering", AAAI 2020) and the frame that RLMRec's code trains CF models in.

Paper: arXiv 2001.10167. Official code of the frame: HKUDS/RLMRec, commit 2241375. How this differs: see the table in ``docs/rlmrec.md``.
Numbers: ``lexirec fit gccf --data DIR --config configs/amazon2014_beauty/gccf.yaml --out RUN``.

ID embeddings -> propagation without nonlinearity x L -> all layers side by side -> dot -> BPR + weight of all parameters
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.losses import bpr
from lexirec.models.contract import ModelConfig, Supports
from lexirec.models.graph import Batch, GraphRecommender
from lexirec.models.layers.graph import gather
from lexirec.models.layers.propagation import Propagation
from lexirec.training.samplers import Sampling


class FrameConfig(ModelConfig):
    """Settings of the frame; the defaults are RLMRec's."""

    embedding_dim: PositiveInt = 32
    """Dimension of the embeddings; GCCF ranks by ``num_layers + 1`` times as many."""
    num_layers: NonNegativeInt = 3
    """Graph layers."""
    reg: NonNegativeFloat = 1e-6
    """Weight of the squared norm of all parameters, those of no batch row included."""
    lr: PositiveFloat = 1e-3
    """Learning rate of Adam."""
    batch_size: PositiveInt = 4096
    """Interactions per step."""
    num_negs: PositiveInt = 1
    """Unseen items drawn per interaction, anew in each epoch."""
    negatives: Literal["per-sample", "shared"] = "per-sample"
    """Negatives of each interaction, or one set per batch (which may hold an own item)."""
    sampling: Sampling = "interaction-uniform"
    """How (user, positive) are drawn; see :class:`~lexirec.training.samplers.PositiveSampler`."""


class Frame(GraphRecommender):
    """ID embeddings, propagation and BPR. A subclass says how layers become vectors, and may add to the loss."""

    Config = FrameConfig  # type: ignore[assignment]  # of its own: there is no InfoNCE here
    supports = Supports(user_id=True, history=True)

    @property
    def side_by_side(self) -> bool:
        """Whether the layers stand side by side (GCCF) or are added up (LightGCN as RLMRec's code has it)."""
        raise NotImplementedError

    @property
    def self_loops(self) -> bool:
        """Whether every node is its own neighbour."""
        return False

    @property
    def keep(self) -> float:
        """Probability that an entry of the matrix stays in a training step."""
        raise NotImplementedError

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        super().build(train, rng)
        self.propagation = Propagation(train, self.self_loops).to(self.device)
        self.network = self._network()
        table = self.network.get_parameter("embedding.weight")
        with torch.no_grad():
            # Two tables in the official code, and Xavier's range depends on each one's size.
            nn.init.xavier_uniform_(table[: train.n_users])
            nn.init.xavier_uniform_(table[train.n_users :])

    def _network(self) -> nn.Module:
        return nn.ModuleDict({"embedding": nn.Embedding(self.n_users + self.n_items, self.config.embedding_dim)})

    @property
    def ranks_by_cosine(self) -> bool:
        return False

    @property
    def final_dim(self) -> int:
        """Dimension of the vectors that are ranked by."""
        return int(self.config.embedding_dim * (self.config.num_layers + 1 if self.side_by_side else 1))

    def layer0(self) -> Tensor:
        return self.network.get_parameter("embedding.weight")

    def final(self, layers: Sequence[Tensor]) -> Tensor:
        """The vectors that are ranked by, from all layers."""
        return torch.cat(list(layers), dim=-1) if self.side_by_side else torch.stack(list(layers)).sum(0)

    def propagated(self, layer0: Tensor) -> Tensor:
        """Vectors of all nodes in a training step, ``(U + I, final_dim)``."""
        return self.final(self.propagation.layers(layer0, self.config.num_layers, self.keep if self.network.training else 1.0))

    # --- training ----------------------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        return self.ranking_loss(self.propagated(self.layer0()), batch) + self.regulariser()

    def ranking_loss(self, vectors: Tensor, batch: Batch) -> Tensor:
        """BPR of the batch."""
        users, positives, _ = batch
        drawn = self.negatives_of(batch)
        rows = gather(vectors, users)
        positive = (rows * gather(vectors, positives + self.n_users)).sum(1)
        # As the positives: a product would be in bfloat16 under autocast.
        negative = (rows[:, None] * gather(vectors, drawn + self.n_users)).sum(2)
        return bpr(positive[:, None], negative)

    def regulariser(self) -> Tensor:
        """``reg`` times the squared norm of every parameter."""
        return self.config.reg * torch.stack([p.square().sum() for p in self.network.parameters()]).sum()

    # --- answering ---------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self) -> None:
        if self.graph is None:  # loaded: the vectors were stored
            return
        layers = self.propagation.layers(self.layer0().detach(), self.config.num_layers)
        self.item_layers = torch.stack([layer[self.n_users :] for layer in layers]).float().cpu()
        vectors = self.final(layers).float().cpu()
        self.hot_users, self.item_rows = vectors[: self.n_users], vectors[self.n_users :]

    def encode_histories(self, histories: Sequence[Sequence[str]]) -> Tensor:
        """Vectors of people who were not in training, ``(B, final_dim)``: each joins the frozen graph with the history's items.

        Layer 0 is zero, since an id of their own would have to be learned. An item without training interactions gives nothing.
        """
        rows, items, lengths = self._flat_histories(histories)
        loop = 1.0 if self.self_loops else 0.0
        degree = self.item_degree[items]
        weight = torch.where(degree > 0, ((lengths[rows] + loop) * (degree + loop).clamp(min=1)) ** -0.5, 0.0)[:, None]
        layers = [torch.zeros(len(lengths), self.item_layers.shape[2])]
        for layer in self.item_layers[:-1]:
            own = layers[-1] * (loop / (lengths + loop))[:, None]
            layers.append(own.index_add(0, rows, layer[items] * weight))
        return self.final(layers)

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.graph = None
        self.item_layers, self.item_degree, self.hot_users = tensors["item_layers"], tensors["item_degree"], tensors["users"]
        self.item_rows = self.final(list(self.item_layers))
        self.n_users, self.n_items = len(self.hot_users), len(self.item_rows)
        self.network = self._network()


class GCCFConfig(FrameConfig):
    """Settings of GCCF."""

    self_loops: bool = True
    """Whether every node is its own neighbour, as in the paper and the plain model of the code; RLMRec on GCCF has none."""
    edge_keep: float = Field(default=1.0, gt=0.0, le=1.0)
    """Probability that an entry of the matrix stays in a training step."""


class GCCF(Frame):
    """GCCF as RLMRec's code has it: the layers' matrices ``W`` of the paper are not applied."""

    name = "gccf"
    Config = GCCFConfig

    @property
    def side_by_side(self) -> bool:
        return True

    @property
    def self_loops(self) -> bool:
        return bool(self.config.self_loops)

    @property
    def keep(self) -> float:
        return float(self.config.edge_keep)


__all__ = ["GCCF", "Frame", "FrameConfig", "GCCFConfig"]
