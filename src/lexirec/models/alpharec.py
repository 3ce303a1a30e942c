"""AlphaRec (Sheng et al., ICLR 2025, arXiv 2407.05441).

Official code: LehengTHU/AlphaRec. How this differs: the defaults are those of the independent reproduction on Amazon Beauty (three
layers, hidden size D/2, uniform random users), the best epoch is chosen on validation (the official code chooses on test), and the
loss goes through log-sum-exp. The official rules are settings: ``configs/official/alpharec.yaml``.
Numbers: ``lexirec fit alpharec --data DIR --split ratio --out RUN``; table in ``docs/alpharec.md``.

frozen text vectors -> MLP -> mean over neighbours x L -> unit norm -> dot / temperature -> cross entropy over sampled items
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from lexirec.data.dataset import TrainSet
from lexirec.models.contract import Supports
from lexirec.models.graph import Batch, GraphConfig, GraphRecommender
from lexirec.models.layers.graph import Graph, gather, product
from lexirec.models.reading import TextReader
from lexirec.text.reduce import fit_reduction

OFFICIAL_HIDDEN = {768: 6144, 1536: 3072, 3072: 1536}
"""Hidden sizes of the official code by text dimension: they keep the number of weights alike."""
SLOPE = 0.01
"""Slope of the leaky rectifier below zero."""


class AlphaRecConfig(GraphConfig):
    """Settings of AlphaRec."""

    encoder: str = "minilm"
    """Encoder of the item texts and of wishes; see ``docs/encoders.md``."""
    text: str = "title"
    """Text template: ``title`` as in the paper, or columns such as ``title,brand,categories``."""
    transform: Literal["none", "center", "whiten"] = "none"
    """What is done to the language vectors before the projector: nothing (as published), the catalogue's mean taken off, or also equal
    variance in every direction (PCA whitening)."""
    projector: Literal["mlp", "linear"] = "mlp"
    """``linear`` is the paper's linear mapping; with shared negatives it trains on precomputed rows."""
    hidden: PositiveInt | Literal["half", "official"] = "half"
    """Hidden size of the MLP: half the text dimension (reproduction), the official rule, or a number."""
    linear_bias: bool = False
    """Bias of the linear projector (the reproduction has one, the official code none)."""
    decay: Literal["adam", "ignored"] = "adam"
    """``ignored``: as the official code, which reads ``weight_decay`` and never hands it to Adam."""
    shuffle_text: NonNegativeInt | None = None
    """Seed of a row shuffle of the text vectors: the control in which words mean nothing. ``None``: no shuffle."""
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    """Weight of a wish against the person, where a query gives no own."""

    def unread(self) -> dict[str, str]:
        name = "hidden" if self.projector == "linear" else "linear_bias"
        return super().unread() | {name: f"projector = {self.projector!r}"}


def hidden_size(rule: int | str, text_dim: int) -> int:
    """Hidden size of the MLP.

    Args:
        rule: ``"half"``, ``"official"`` or the size itself.
        text_dim: dimension of the text vectors.

    >>> hidden_size("official", 4096), hidden_size("official", 768), hidden_size("half", 384)
    (1152, 6144, 192)
    """
    if rule == "half":
        return max(text_dim // 2, 1)
    if rule == "official":
        return OFFICIAL_HIDDEN.get(text_dim, max(int(9 * text_dim / 32), 1))
    return int(rule)


class Projector(nn.Module):
    """The only weights of AlphaRec: one map for users and items, ``(N, text_dim) -> (N, embedding_dim)``.

    The first layer is linear, so it commutes with the users' averages: it runs on the items alone and its output is averaged (exact).
    """

    def __init__(self, text_dim: int, config: AlphaRecConfig) -> None:
        super().__init__()
        if config.projector == "linear":
            self.first = nn.Linear(text_dim, config.embedding_dim, bias=config.linear_bias)
            self.second = None
        else:
            size = hidden_size(config.hidden, text_dim)
            self.first = nn.Linear(text_dim, size)
            self.second = nn.Linear(size, config.embedding_dim)

    def before_bias(self, text: Tensor) -> Tensor:
        """First product without its bias, ``(N, hidden)`` float32."""
        return F.linear(text, self.first.weight).float()

    def after_bias(self, hidden: Tensor) -> Tensor:
        """From the first product to the output, ``(N, embedding_dim)`` float32."""
        if self.first.bias is not None:
            hidden = hidden + self.first.bias
        return hidden if self.second is None else self.second(F.leaky_relu(hidden, SLOPE)).float()

    def forward(self, text: Tensor) -> Tensor:
        return self.after_bias(self.before_bias(text))


class _ProjectNodes(torch.autograd.Function):
    """The MLP over all nodes of the graph: first product on the items alone, averaged for the users, then the second layer.

    Written out because the hidden rows, ``(U + I, hidden)``, are the largest arrays of a step: here they are made once and changed in
    place, and kept in bfloat16 where products run in it. Same values as ``Projector.forward`` of each node's text vector.
    """

    @staticmethod
    def forward(ctx: Any, text: Tensor, graph: Graph, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, dtype: torch.dtype) -> Tensor:
        n_users = graph.n_users
        hidden = torch.empty(n_users + len(text), len(w1), device=text.device)
        hidden[n_users:] = text @ w1.to(dtype).T
        hidden[:n_users] = product(graph.user_mean, hidden[n_users:])
        hidden.add_(b1)
        activated = F.leaky_relu_(hidden, SLOPE).to(dtype)
        ctx.graph, ctx.dtype = graph, dtype
        ctx.save_for_backward(text, w2, activated)
        return (activated @ w2.to(dtype).T).float().add_(b2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        text, w2, activated = ctx.saved_tensors
        graph, n_users = ctx.graph, ctx.graph.n_users
        low = grad.to(ctx.dtype)
        # The slope keeps the sign, so the output tells which side of zero the input was on.
        hidden = torch.ops.aten.leaky_relu_backward(low @ w2.to(ctx.dtype), activated, SLOPE, True).float()
        items = product(graph.user_mean_transposed, hidden[:n_users]).add_(hidden[n_users:])
        return None, None, (items.to(ctx.dtype).T @ text).float(), hidden.sum(0), (low.T @ activated).float(), grad.sum(0), None


class AlphaRec(GraphRecommender):
    """AlphaRec: language vectors of titles, one small projector, the graph, InfoNCE.

    There are no ID embeddings, so it also answers for new items, new users, wishes in words and other catalogues.

    >>> AlphaRec(tau=0.2, num_layers=2).config.tau
    0.2
    """

    name = "alpharec"
    Config = AlphaRecConfig
    supports = Supports(user_id=True, history=True, intent=True, profile=True, new_items=True)
    ranks_by_cosine = True
    ids_alone = False

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        from lexirec.text.encoders import load_encoder

        self.reader = TextReader(load_encoder(self.config.encoder))
        raw = self._raw_text(train.items)
        self.reader.reduction = fit_reduction(raw, self.config.transform)
        self._build(train, rng, raw)

    def _build(self, train: TrainSet, rng: np.random.Generator, raw: NDArray[np.float32]) -> None:
        super().build(train, rng)
        if self.config.shuffle_text is not None:
            raw = raw[np.random.default_rng(self.config.shuffle_text).permutation(len(raw))]
        self.use_text(self._reduced(raw))
        self.network = Projector(self.text.shape[1], self.config)

    def use_text(self, text: Tensor) -> None:
        """Set the frozen item vectors ``(I, text_dim)`` and what can be computed from them once."""
        assert self.graph is not None  # noqa: S101 (set by build)
        self.text = text.to(self.device)
        self.low_text = self.text.bfloat16()
        self.smooth: Tensor | None = None
        if self.config.projector == "linear":
            # A linear map commutes with the whole propagation, so the smoothed text vectors are computed once.
            nodes = torch.cat([self.graph.mean_of_items(self.text), self.text])
            self.smooth = self.graph.mean_over_layers(nodes, self.config.num_layers)  # (U + I, text_dim)
            ones = torch.ones(len(nodes), 1, device=self.device)
            self.smooth_bias = self.graph.mean_over_layers(ones, self.config.num_layers)  # (U + I, 1)

    def optimiser(self) -> torch.optim.Optimizer:
        decay = self.config.weight_decay if self.config.decay == "adam" else 0.0
        return torch.optim.Adam(self.network.parameters(), lr=self.config.lr, weight_decay=decay, fused=self.device.type in ("cpu", "cuda"))

    def layer0(self) -> Tensor:
        assert isinstance(self.network, Projector) and self.graph is not None  # noqa: S101 (set by build)
        first, second = self.network.first, self.network.second
        # Users average language vectors and are then projected (official code); for the MLP that is not the mean of projections.
        if second is None:
            items = self.network.before_bias(self.text)  # (I, D)
            return self.network.after_bias(torch.cat([self.graph.mean_of_items(items), items]))
        low = self.network.training and torch.is_autocast_enabled(self.text.device.type)
        text, dtype = (self.low_text, torch.bfloat16) if low else (self.text, torch.float32)
        with torch.autocast(self.text.device.type, enabled=False):
            rows: Tensor = _ProjectNodes.apply(text, self.graph, first.weight, first.bias, second.weight, second.bias, dtype)
        return rows

    def loss(self, batch: Batch) -> Tensor:
        assert self.graph is not None  # noqa: S101 (set by build)
        users = batch[0]
        if self.smooth is not None:
            return self._linear_loss(batch)
        final = self.graph.mean_over_layers(self.layer0(), self.config.num_layers)
        with torch.autocast(final.device.type, enabled=False):  # scores rank, so they stay in float32
            return self.contrast(gather(final, users), final[self.n_users :], batch)

    def _linear_loss(self, batch: Batch) -> Tensor:
        """The same loss on precomputed rows: only the rows of the batch are projected where the negatives allow it."""
        users, positives, negatives = batch
        user_rows = self._project_smooth(users).float()
        if self.config.negatives in ("per-sample", "all"):
            items = self._project_smooth(torch.arange(self.n_users, self.n_users + self.n_items, device=self.device))
        else:
            own = positives if negatives is None else torch.cat([positives, negatives])
            items = self._project_smooth(own + self.n_users)  # (B + n, D)
            here = torch.arange(len(own), device=self.device)
            batch = (users, here[: len(users)], None if negatives is None else here[len(users) :])
        with torch.autocast(items.device.type, enabled=False):  # scores rank, so they stay in float32
            return self.contrast(user_rows, items.float(), batch)

    def _project_smooth(self, rows: Tensor) -> Tensor:
        assert isinstance(self.network, Projector) and self.smooth is not None  # noqa: S101 (set by build)
        out = self.network.before_bias(self.smooth[rows])
        if self.network.first.bias is not None:
            out = out + self.smooth_bias[rows] * self.network.first.bias
        return out

    # --- answering ---------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def project(self, text: Tensor) -> Tensor:
        """Text vectors through the projector, ``(n, text_dim) -> (n, embedding_dim)``."""
        self.network.eval()
        out: Tensor = self.network(text.to(self.device)).cpu()
        return out

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        if items is None:
            return self.item_rows
        return self.unit(self.project(self._text_of(items)))

    def _text_of(self, items: pl.DataFrame) -> Tensor:
        return self._reduced(self._raw_text(items))

    def _raw_text(self, items: pl.DataFrame) -> NDArray[np.float32]:
        from lexirec.text.embed import item_vectors

        return np.ascontiguousarray(item_vectors(items, self.reader.encoder, self.config.text), dtype=np.float32)

    def _reduced(self, raw: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(self.reader.reduce(raw))

    def encode_words(self, texts: Sequence[str]) -> Tensor:
        return self.unit(self.project(self._reduced(self.reader.words(texts))))

    def history_layer0(self, rows: Tensor, items: Tensor, lengths: Tensor) -> Tensor:
        mean = torch.zeros(len(lengths), self.text.shape[1]).index_add(0, rows, self.text.cpu()[items]) / lengths[:, None].clamp(min=1)
        return self.project(mean)

    def append_items(self, items: pl.DataFrame) -> None:
        text = self._text_of(items)
        layers = torch.zeros(len(self.item_layers), len(text), self.item_layers.shape[2])
        layers[0] = self.project(text)
        self.text = torch.cat([self.text.cpu(), text]).to(self.device)
        self.item_layers = torch.cat([self.item_layers, layers], dim=1)
        self.item_degree = torch.cat([self.item_degree, torch.zeros(len(text))])
        self.item_rows = torch.cat([self.item_rows, self.unit(layers[0])])
        self.n_items += len(text)

    def transfer(self, train: TrainSet) -> "AlphaRec":
        """The trained projector on another data set: its texts, its graph, no training (zero-shot)."""
        from lexirec.text.embed import refuse_other_catalogue

        self._check_fitted()
        refuse_other_catalogue(self.reader.encoder, self.items, train.items)
        other = AlphaRec(self.config)
        other.device = self.device
        other.remember(train)
        # The reader itself goes along: an encoder that was fitted on texts (lsa) would span another space if it were fitted anew.
        other.reader = self.reader
        other._build(train, np.random.default_rng(0), self._raw_text(train.items))
        other.network.load_state_dict(self.network.state_dict())
        other.network.to(self.device).eval()
        other._fitted = True
        other.refresh()
        return other

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        reader, encoder = self.reader.state()
        return {**tensors, **reader, "text": self.text.cpu()}, {**values, "encoder": encoder}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        self.smooth = None
        self.reader = TextReader.restored(tensors, values["encoder"])
        self.text = tensors["text"]
        self.network = Projector(self.text.shape[1], self.config)


__all__ = ["AlphaRec", "AlphaRecConfig", "Projector", "hidden_size"]
