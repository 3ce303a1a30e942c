r"""FDSA (Zhang et al., IJCAI 2019): the order of items and the order of their features, each read by a causal Transformer of its own.

Code read: RecBole's FDSA and RUCAIBox/UniSRec's ``baselines/fdsa.py``. How this differs: windows are packed instead of padded; an item
without a value in a field has a learned vector for that, where RecBole reads its padding row.

item vectors + positions -> norm, dropout -> causal blocks \\
                                                            concat -> linear -> norm, dropout -> dot with item vectors
feature vectors + the same positions, norm -> causal blocks /
"""

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from pydantic import PositiveInt
from torch import Tensor, nn

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.models.contract import Recommender
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.dropout import dropout
from lexirec.models.layers.features import FIELDS, FieldFeatures, TextFeatures, bags, present_columns
from lexirec.models.layers.sequence import Layout, Stack
from lexirec.models.reading import TextReader
from lexirec.models.sasrec import transformer
from lexirec.models.sequence_batches import SequenceBatch
from lexirec.models.sequence_config import TEXT, TransformerConfig
from lexirec.models.sequence_network import SequenceNetwork
from lexirec.models.sequential import SequentialRecommender
from lexirec.text.reduce import fit_reduction
from lexirec.training.options import TrainingOptions
from lexirec.training.sequences import Targets


class FDSAConfig(TransformerConfig):
    """Settings of FDSA."""

    items: Literal["id"] = "id"
    """Candidates are items by id; text enters as a feature."""
    features: Literal["text", "fields"] = "text"
    """``text``: frozen text vectors through a linear layer and a rectifier (UniSRec's variant). ``fields``: categorical columns merged by
    attention (the paper, RecBole)."""
    fields: tuple[str, ...] | None = None
    """Columns of ``fields``; if not given, the first there of ``categories``, ``category``, ``genres`` ... and of ``brand``,
    ``manufacturer`` ..."""
    block: Literal["post-norm"] = "post-norm"
    """See :data:`~lexirec.models.layers.sequence.Block`."""
    num_heads: PositiveInt = 2
    """Attention heads; must divide ``embedding_dim``."""
    inner: PositiveInt | None = 256
    """Width inside the feed-forward part."""
    activation: Literal["relu", "gelu"] = "gelu"
    """Of the feed-forward part."""
    loss: Literal["bce", "gbce", "softmax", "ce"] = "ce"
    """See :class:`~lexirec.models.sequential.SequenceConfig`."""
    targets: Targets = "prefixes"
    """Which events are predicted, see :data:`~lexirec.training.sequences.Targets`."""

    @property
    def read_elsewhere(self) -> frozenset[str]:
        return TEXT if self.features == "text" else frozenset()

    def unread(self) -> dict[str, str]:
        return super().unread() | ({"fields": "features = 'text'"} if self.features == "text" else {})


class TwoStreams(nn.Module):
    """Two encoders of the same shape that share positions and norm, and the layer that joins their states."""

    def __init__(self, items: Stack, features: Stack, dim: int) -> None:
        super().__init__()
        self.items, self.features = items.blocks, features.blocks
        self.positions, self.norm, self.merge = items.positions, items.norm, nn.Linear(2 * dim, dim)
        self.max_len, self.dropout, self.counted = items.max_len, items.dropout, items.counted

    def forward(self, items: Tensor, features: Tensor, layout: Layout, at: Tensor | None) -> Tensor:
        """States at the rows ``at`` (all if not given), ``(M, D)``, from item and feature vectors, ``(T, D)`` each."""
        places = self.positions(layout.positions(self.max_len, self.counted))
        states = []
        for rows, blocks in ((items, self.items), (features, self.features)):
            found = dropout(self.norm(rows + places), self.dropout, self.training)
            for block in blocks:
                found = block(found, layout)
            states.append(found if at is None else found.index_select(0, at))
        return dropout(self.norm(self.merge(torch.cat(states, 1))), self.dropout, self.training)


class FDSANetwork(SequenceNetwork):
    """Item vectors, features and both encoders.

    Attributes:
        finished: ``(I, D)`` feature vectors as they stand while answering; ``None`` while training, when they are computed for the
            distinct items of the batch.
    """

    def __init__(self, items: ItemVectors, body: TwoStreams, features: TextFeatures | FieldFeatures, dim: int) -> None:
        super().__init__(items, body, dim)
        self.features = features
        self.finished: Tensor | None = None

    def states(
        self, table: Tensor, inputs: Tensor, masked: Tensor | None, layout: Layout, at: Tensor | None, rows: Tensor | None = None
    ) -> Tensor:
        if self.finished is not None:
            features = F.embedding(inputs, self.finished)
        else:
            distinct, places = inputs.unique(return_inverse=True)
            features = F.embedding(places, self.features(distinct if rows is None else rows[distinct]))
        found: Tensor = self.body(F.embedding(inputs, table), features, layout, at)
        return found


class FDSA(SequentialRecommender):
    """Attention over items beside attention over their features.

    >>> FDSA(features="fields", fields=["brand"]).config.fields
    ('brand',)
    """

    name = "fdsa"
    Config = FDSAConfig

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.features = self.make_features(train)
        super().build(train, rng)

    def make_features(self, train: TrainSet) -> TextFeatures | FieldFeatures:
        """The source of feature vectors that the configuration asks for.

        Raises:
            InputError: if a column is missing, or no item has a text or value.
        """
        config, dim = self.config, self.config.embedding_dim
        if config.features == "fields":
            columns = present_columns(train.items, config.fields, FIELDS, "fields=[...] or features=text")
            found = [bags(train.items, [column]) for column in columns]
            return FieldFeatures(found, [len(field.names) for field in found], dim)
        self.reader = TextReader(self.make_encoder(train))
        raw = self.item_text(train.items)
        self.reader.reduction = fit_reduction(raw, config.transform, config.text_dim)
        text = torch.from_numpy(self.reader.reduce(raw))
        return TextFeatures(text, text.shape[1], dim)

    def make_body(self) -> nn.Module:
        return TwoStreams(transformer(self.config, causal=True), transformer(self.config, causal=True), self.config.embedding_dim)

    def make_network(self, items: ItemVectors) -> SequenceNetwork:
        body = self.make_body()
        assert isinstance(body, TwoStreams)  # noqa: S101 (made above)
        return FDSANetwork(items, body, self.features, self.config.embedding_dim)

    @property
    def _streams(self) -> FDSANetwork:
        assert isinstance(self.network, FDSANetwork)  # noqa: S101 (set by build)
        return self.network

    def loss(self, batch: SequenceBatch) -> Tensor:
        self._streams.finished = None  # the features are trained too
        return super().loss(batch)

    def refresh(self) -> None:
        super().refresh()
        if self.loaded is None:
            with torch.no_grad():
                self._streams.finished = self._streams.features()
        else:
            self._streams.finished = self.loaded

    # --- saving ------------------------------------------------------------------------------------------------------------------

    loaded: Tensor | None = None
    """Finished feature vectors of a loaded model, which has neither texts nor fields."""

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        self.loaded = None
        return super().learn(train, valid, options)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        assert self._streams.finished is not None  # noqa: S101 (a fitted model was refreshed)
        features = self._streams.features
        sizes = (
            [field.table.num_embeddings - 1 for field in features.fields]  # type: ignore[union-attr, operator]
            if isinstance(features, FieldFeatures)
            else [features.linear.in_features]
        )
        return {**tensors, "features": self._streams.finished.cpu()}, {**values, "sizes": sizes}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        dim = self.config.embedding_dim
        sizes = values["sizes"]
        self.features = FieldFeatures(None, sizes, dim) if self.config.features == "fields" else TextFeatures(None, sizes[0], dim)
        super().restore(tensors, values)
        self.loaded = tensors["features"]


__all__ = ["FDSA", "FDSAConfig"]
