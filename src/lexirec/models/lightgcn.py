"""LightGCN (He et al., SIGIR 2020) with BPR or InfoNCE, and matrix factorisation as its case without layers.

Paper: arXiv 2002.02126. How this differs: the layer-0 regulariser is weighted by ``reg`` and kept outside Adam, as in the official code
and in the
reproduction that the table in ``docs/alpharec.md`` compares with; the paper's own settings are ``configs/official/lightgcn.yaml``.
Numbers: ``lexirec fit lightgcn --data DIR --split ratio --config configs/amazon2014_beauty/lightgcn.yaml --out RUN``.

ID embeddings -> mean over neighbours x L -> dot -> BPR (or cosine / temperature -> cross entropy over sampled items)
"""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from lexirec.losses import bpr, layer0_regulariser
from lexirec.models.contract import Supports
from lexirec.models.graph import Batch, GraphConfig, IdGraphRecommender
from lexirec.models.layers.graph import gather


class LightGCNConfig(GraphConfig):
    """Settings of LightGCN; the defaults are the reproduction's on Amazon Beauty."""

    loss: Literal["bpr", "infonce"] = "bpr"
    """Training loss."""
    cosine: bool = False
    """Rank and train by cosine instead of the inner product."""
    num_negs: PositiveInt = 1
    """Negatives per positive; BPR averages over them."""
    lr: PositiveFloat = 1e-3
    """Learning rate of Adam."""
    reg: NonNegativeFloat = 1e-3
    """Weight of the layer-0 regulariser (outside Adam)."""
    init: Literal["normal", "xavier", "text"] = "normal"
    """Initial embeddings: N(0, init_std), Xavier normal, or the principal components of the items' language vectors (users: mean of
    their items)."""
    init_std: PositiveFloat = 1e-4
    """Standard deviation for ``normal`` and ``text``."""
    encoder: str = "minilm"
    """Encoder of the item texts, for ``init="text"``."""
    text: str = "title"
    """Text template, for ``init="text"``."""

    @model_validator(mode="after")
    def _bpr_draws(self) -> "LightGCNConfig":
        if self.loss == "bpr" and self.negatives in ("in-batch", "all"):
            raise ValueError(
                f"loss 'bpr' compares pairs, so negatives={self.negatives!r} has no meaning; use per-sample or shared, or loss='infonce'"
            )
        return self

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.loss == "bpr":
            found["tau"] = "loss = 'bpr'"
        if self.init == "xavier":
            found["init_std"] = "init = 'xavier'"
        if self.init != "text":
            found |= dict.fromkeys(("encoder", "text"), f"init = {self.init!r}")
        return found


class LightGCN(IdGraphRecommender):
    """Vectors by id, averaged over the user-item graph (He et al., SIGIR 2020); BPR. Other names of this class have other defaults."""

    name = "lightgcn"
    Config = LightGCNConfig

    def initialise(self) -> None:
        table = self.layer0()
        with torch.no_grad():
            if self.config.init == "xavier":
                # Users and items are two tables in the official code, and Xavier's scale depends on each one's size.
                nn.init.xavier_normal_(table[: self.n_users])
                nn.init.xavier_normal_(table[self.n_users :])
            elif self.config.init == "normal":
                nn.init.normal_(table, std=self.config.init_std)
            else:
                table.copy_(self._text_rows())

    def _text_rows(self) -> Tensor:
        from lexirec.text.embed import item_vectors
        from lexirec.text.reduce import check_dimensions

        vectors = torch.from_numpy(item_vectors(self.items, self.config.encoder, self.config.text))
        # A direction more than there are would be 0 in every row, for good.
        check_dimensions(len(vectors), vectors.shape[1], "pca", self.config.embedding_dim)
        vectors = vectors - vectors.mean(0)
        _, _, directions = torch.linalg.svd(vectors, full_matrices=False)
        items = vectors @ directions[: self.config.embedding_dim].T
        items = items * (self.config.init_std / items.std())
        assert self.graph is not None  # noqa: S101 (set by build)
        return torch.cat([self.graph.mean_of_items(items.to(self.device)).cpu(), items])

    @property
    def ranks_by_cosine(self) -> bool:
        return bool(self.config.cosine)

    def loss(self, batch: Batch) -> Tensor:
        assert self.graph is not None  # noqa: S101 (set by build)
        users, positives, negatives = batch
        layer0 = self.layer0()
        final = self.graph.mean_over_layers(layer0, self.config.num_layers)
        with torch.autocast(final.device.type, enabled=False):  # scores rank, so they stay in float32
            if self.config.loss == "infonce":
                value = self.contrast(gather(final, users), final[self.n_users :], batch)
            else:
                ranked = self.unit(final)
                user_rows = gather(ranked, users)  # (B, D)
                positive = (user_rows * gather(ranked, positives + self.n_users)).sum(1)
                negative = torch.einsum("bd,bnd->bn", user_rows, gather(ranked, self.negatives_of(batch) + self.n_users))
                value = bpr(positive[:, None], negative)
        if self.config.reg:
            rows = [gather(layer0, users), gather(layer0, positives + self.n_users)]
            # A negative set of hundreds would drown the positives' term, and the published InfoNCE code leaves negatives out in effect.
            if negatives is not None and self.config.loss == "bpr":
                rows.append(gather(layer0, (negatives + self.n_users).reshape(-1)))
            value = value + self.config.reg * layer0_regulariser(*rows)
        return value


class LightGCNInfoNCEConfig(LightGCNConfig):
    """LightGCN with InfoNCE over sampled items."""

    loss: Literal["bpr", "infonce"] = "infonce"
    cosine: bool = True
    num_negs: PositiveInt = 256
    lr: PositiveFloat = 5e-4
    reg: NonNegativeFloat = 1e-2


class LightGCNInfoNCE(LightGCN):
    """LightGCN trained with AlphaRec's loss: what the loss alone brings."""

    name = "lightgcn-infonce"
    Config = LightGCNInfoNCEConfig


class MFBPRConfig(LightGCNConfig):
    """Matrix factorisation with BPR."""

    num_layers: NonNegativeInt = 0
    reg: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 1e-6

    @model_validator(mode="after")
    def _no_graph(self) -> "MFBPRConfig":
        if self.num_layers:
            raise ValueError(f"mf-bpr has no graph, so num_layers = {self.num_layers} makes it another model; use lightgcn")
        return self


class MFBPR(LightGCN):
    """Matrix factorisation with BPR (Rendle et al., UAI 2009): no graph, so no answer for a history."""

    name = "mf-bpr"
    Config = MFBPRConfig
    supports = Supports(user_id=True)
