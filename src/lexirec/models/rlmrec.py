"""RLMRec (Ren et al., "Representation Learning with Large Language Models for Recommendation", WWW 2024): text beside ID embeddings.

Paper: arXiv 2310.15950. Official code: HKUDS/RLMRec, commit 2241375; EasyRec's code (HKUDS/EasyRec, commit 95c8ede) has the contrastive
variant with EasyRec's vectors. How this differs: see the table in ``docs/rlmrec.md``.
Numbers: ``lexirec fit rlmrec --data DIR --config configs/amazon2014_beauty/rlmrec-con-lightgcn.yaml --out RUN``.

con: ID embeddings -> graph -> vectors e;  text vectors s -> MLP -> P(s);  BPR + contrast of e with P(s)
gen: ID embeddings, some replaced by one token -> graph -> vectors e -> MLP -> Q(e);  BPR + contrast of Q(e) with s of the replaced
"""

import math
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.models.gccf import Frame, FrameConfig
from lexirec.models.graph import Batch
from lexirec.models.layers.contrast import log_sum_exp, total_log_sum_exp
from lexirec.models.layers.graph import gather
from lexirec.models.semantic import semantic_vectors
from lexirec.models.textual import ProfileFolders

SLOPE = 0.01
"""Of LeakyReLU."""
KEEP = {"lightgcn": 0.8, "gccf": 1.0}


class RLMRecConfig(FrameConfig):
    """Settings of RLMRec."""

    backbone: Literal["lightgcn", "gccf"] = "lightgcn"
    """``lightgcn``: layers added up, edges dropped while training. ``gccf``: layers side by side, no self-loops."""
    method: Literal["con", "gen", "none"] = "con"
    """Contrastive, generative, or the backbone alone (the pair to compare with)."""
    edge_keep: float | None = Field(default=None, gt=0.0, le=1.0)
    """Probability that an entry of the matrix stays in a training step; .8 for lightgcn and 1 for gccf if not given."""
    reg: NonNegativeFloat = 1e-7
    """Weight of the squared norm of all parameters."""
    weight: NonNegativeFloat = 1e-2
    """Weight of the text's loss (``kd_weight``, ``recon_weight`` in the code)."""
    tau: PositiveFloat = 0.2
    """Temperature of the text's loss."""
    contrast: Literal["all", "batch"] = "all"
    """con: what a user's text is told from: all users' texts as in the code, or the batch's as in the paper."""
    mask_ratio: float = Field(default=0.1, gt=0.0, le=1.0)
    """gen: share of users and items whose embeddings are replaced in a step."""
    vectors: str | None = None
    """Run folder of a text model, such as ``easyrec`` or ``zero-shot``, that gives the vectors of users and items."""
    encoder: str = "minilm"
    """Without ``vectors``: encoder of the profiles."""
    profiles: ProfileFolders = ()
    """Folders of written profiles (``lexirec profile``) of this data, for the run of ``vectors`` too; else they are written without a
    language model."""
    item_text: str | None = None
    """What an item is read as: its ``profile``, or a template of columns such as ``title,brand,categories``. By default as the run of
    ``vectors`` reads its own items; without ``vectors`` its profile."""
    control: Literal["none", "shuffled", "random"] = "none"
    """Controls: the vectors shuffled among the users and among the items, or random ones of 384 dimensions."""

    def unread(self) -> dict[str, str]:
        found, texts = super().unread(), ("vectors", "encoder", "profiles", "item_text")
        if self.control == "random":
            found |= dict.fromkeys(texts, "control = 'random'")
        elif self.vectors is not None:
            found |= {"encoder": "vectors"}
        if self.method == "none":
            found |= dict.fromkeys(("tau", "weight", "contrast", "mask_ratio", "control", *texts), "method = 'none'")
        else:
            found["mask_ratio" if self.method == "con" else "contrast"] = f"method = {self.method!r}"
        return found


class RLMRec(Frame):
    """LightGCN or GCCF with text vectors beside the ID embeddings while training; answering needs no text."""

    name = "rlmrec"
    Config = RLMRecConfig

    @property
    def side_by_side(self) -> bool:
        return bool(self.config.backbone == "gccf")

    @property
    def keep(self) -> float:
        return float(self.config.edge_keep or KEEP[self.config.backbone])

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.semantic: Tensor | None = None
        self.text_dim = 0
        if self.config.method != "none":
            self.semantic = semantic_vectors(train, self.config, rng).to(self.device)
            self.text_dim = self.semantic.shape[1]
        super().build(train, rng)

    def _network(self) -> nn.Module:
        parts = {"embedding": nn.Embedding(self.n_users + self.n_items, self.config.embedding_dim)}
        network = nn.ModuleDict(parts)
        if self.config.method != "none":
            network["mlp"] = projection(self.text_dim, self.final_dim, to_text=self.config.method == "gen")
        if self.config.method == "gen":
            network.register_parameter("token", nn.Parameter(torch.zeros(1, self.config.embedding_dim)))
        return network

    # --- training ----------------------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        if self.config.method == "gen":
            return self._generative(batch)
        vectors = self.propagated(self.layer0())
        value = self.ranking_loss(vectors, batch) + self.regulariser()
        return value if self.config.method == "none" else value + self.config.weight * self._contrastive(vectors, batch)

    def _contrastive(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Text's loss of the contrastive variant before its weight."""
        users, positives, negatives = batch
        assert self.semantic is not None and negatives is not None  # noqa: S101 (made by build, drawn)
        mlp, tau = self.network.get_submodule("mlp"), self.config.tau
        texts = self.semantic
        # The loss is over the rows of the batch; a user or an item that occurs several times is computed once and counted.
        distinct, counts = torch.unique(users, return_counts=True)
        if self.config.contrast == "all":
            total = contrast_sum(gather(vectors, distinct), mlp(texts[: self.n_users]), distinct, tau, counts)
        else:
            total = self._within(vectors, distinct, counts)
        for items in (positives, *(negatives.T if negatives.ndim == 2 else negatives[:, None])):
            total = total + self._within(vectors, *torch.unique(items + self.n_users, return_counts=True))
        return total / len(users)

    def _within(self, vectors: Tensor, nodes: Tensor, counts: Tensor) -> Tensor:
        """The contrast of distinct nodes with their own texts among all of theirs."""
        assert self.semantic is not None  # noqa: S101 (made by build)
        texts = self.network.get_submodule("mlp")(self.semantic[nodes])
        own = torch.arange(len(nodes), device=nodes.device)
        return contrast_sum(gather(vectors, nodes), texts, own, self.config.tau, counts, counts)

    def _generative(self, batch: Batch) -> Tensor:
        assert self.semantic is not None  # noqa: S101 (made by build)
        n_nodes = self.n_users + self.n_items
        masked = torch.randperm(n_nodes, device=self.semantic.device)[: mask_count(n_nodes, self.config.mask_ratio)]
        chosen = torch.zeros(n_nodes, 1, dtype=torch.bool, device=masked.device).index_fill_(0, masked, True)
        vectors = self.propagated(torch.where(chosen, self.network.get_parameter("token"), self.layer0()))
        written = self.network.get_submodule("mlp")(gather(vectors, masked))
        rebuilt = reconstruction(written, self.semantic[masked], self.config.tau)
        return self.ranking_loss(vectors, batch) + self.regulariser() + self.config.weight * rebuilt

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        return tensors, {**values, "text_dim": self.text_dim}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        self.text_dim, self.semantic = int(values["text_dim"]), None
        super().restore(tensors, values)


def projection(text_dim: int, final_dim: int, to_text: bool = False) -> nn.Sequential:
    """The MLP between text vectors and the model's, hidden size ``(text_dim + final_dim) // 2``.

    Args:
        text_dim: dimension of the text vectors.
        final_dim: dimension of the vectors that are ranked by.
        to_text: from the model's vectors to the text's (Q) instead of the other way (P).

    >>> projection(1024, 32)
    Sequential(
      (0): Linear(in_features=1024, out_features=528, bias=True)
      (1): LeakyReLU(negative_slope=0.01)
      (2): Linear(in_features=528, out_features=32, bias=True)
    )
    """
    ends = (final_dim, text_dim) if to_text else (text_dim, final_dim)
    hidden = (text_dim + final_dim) // 2
    mlp = nn.Sequential(nn.Linear(ends[0], hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, ends[1]))
    for layer in (mlp[0], mlp[2]):
        nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
    return mlp


def mask_count(n_nodes: int, ratio: float) -> int:
    """Nodes to be replaced: the share rounded down, one at least.

    >>> mask_count(28_547, 0.15)
    4282
    """
    return max(int(ratio * n_nodes), 1)


def _full(rows: Tensor) -> Tensor:
    """In float32 at least: exponentials of cosines over a small temperature need it."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def _unit(rows: Tensor) -> Tensor:
    """Rows over ``sqrt(|z|^2 + 1e-8)``, as the official code scales them."""
    rows = _full(rows)
    return rows / (rows.square().sum(1, keepdim=True) + 1e-8).sqrt()


def contrast_sum(
    x: Tensor, candidates: Tensor, own: Tensor, tau: float, counts: Tensor | None = None, candidate_counts: Tensor | None = None
) -> Tensor:
    """``sum_b [-x_b . c_own(b) / tau + log sum_c exp(x_b . c / tau)]`` by cosine: cross entropy of each row's own candidate, summed.

    | input | holds |
    |---|---|
    | ``x`` | ``(B, D)`` rows |
    | ``candidates`` | ``(C, D)``; equal ones all count |
    | ``own`` | ``(B,)`` int64, position of each row's partner among the candidates |
    | ``counts`` | ``(B,)`` how often each row stands for itself; once if not given |
    | ``candidate_counts`` | ``(C,)`` likewise of the candidates |

    Memory: a block of rows' scores, not ``B x C``. Under autocast the matrix products are in bfloat16.
    Source: ``cal_infonce_loss`` of HKUDS/RLMRec.

    >>> x, c = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    >>> round(contrast_sum(x, c, torch.tensor([0, 1]), 0.5).item(), 5)
    1.24596
    >>> twice, once = torch.tensor([0, 0, 1]), torch.tensor([2, 1])
    >>> torch.allclose(contrast_sum(x[twice], c[twice], torch.arange(3), 0.5), contrast_sum(x, c, torch.arange(2), 0.5, once, once))
    True
    """
    low = torch.is_autocast_enabled(x.device.type)
    with torch.autocast(x.device.type, enabled=False):
        x, candidates = _unit(x), _unit(candidates)
        weights = x.new_ones(len(x)) if counts is None else counts.to(x.dtype)
        pairs = ((x * gather(candidates, own)).sum(1) * weights).sum() / tau
        return total_log_sum_exp(x, candidates, tau, weights, candidate_counts, low=low) - pairs


def reconstruction(written: Tensor, texts: Tensor, tau: float) -> Tensor:
    """``mean -log(exp(cos(q_m, s_m) / tau) / (sum_j exp(cos(q_m, s_j) / tau) + 1e-8) + 1e-8)`` over the replaced nodes.

    | input | holds |
    |---|---|
    | ``written`` | ``(M, D)`` vectors of the replaced nodes, brought to the text's dimension |
    | ``texts`` | ``(M, D)`` their text vectors; they get no gradient |

    Source: ``ssl_con_loss`` of HKUDS/RLMRec. Computed through the logarithm of the quotient: ``exp(1 / tau)`` may overflow. Under
    autocast the matrix products are in bfloat16.

    >>> round(reconstruction(torch.eye(3), torch.eye(3), 0.5).item(), 6)
    0.239545
    """
    low = torch.is_autocast_enabled(written.device.type)
    with torch.autocast(written.device.type, enabled=False):
        written, texts = F.normalize(_full(written), dim=1), F.normalize(_full(texts.detach()), dim=1)
        own = (written * texts).sum(1) / tau
        # The small number in the denominator is one more candidate with the score log 1e-8.
        mass = torch.logaddexp(log_sum_exp(written, texts, tau, low=low), own.new_tensor(math.log(1e-8)))
        return -torch.log(torch.exp(own - mass) + 1e-8).mean()


__all__ = ["RLMRec", "RLMRecConfig", "contrast_sum", "mask_count", "projection", "reconstruction"]
