"""TSLRec (Liu et al., arXiv 2406.00333 v1; v2 is called P2Rec): a language model learns people's latent preferences from item ids alone.

No public code is known and the paper's body was not available; the stages follow its abstract and LLMEmb's leftovers, and what they leave
open is our reading: latent categories are k-means clusters of a trained model's item vectors, the target is the histogram of the categories
in a person's training history, states are averaged over events, and vectors are brought to unit mean square length.

Each item is one token of its own with a learned vector, and nothing else is read: the method is about ids, digits of an id would share
meaning that they don't have, and a history is as many tokens as events. Items without a training event take the mean token.

stage 1: history as item tokens -> causal language model -> mean -> linear -> cross entropy with the histogram of latent categories
stage 2: each item alone through the tuned model -> mean state -> principal components -> item vectors of any sequence encoder -> its loss
"""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.errors import InputError
from lexirec.models.backbones import BackboneRecommender
from lexirec.models.contract import Recommender
from lexirec.models.language import LanguageModelConfig, WithLM, lm_width, load_lm
from lexirec.models.layers.adapters import ItemVectors
from lexirec.models.layers.sequence import ranges
from lexirec.models.stages import READ_BY_THE_TEACHER, Stage, digest, kept, teacher_table
from lexirec.text.reduce import fit_reduction
from lexirec.training.loop import pick_device, run_training
from lexirec.training.options import TrainingOptions

READ_AT_ONCE = 4096
"""Items that go through the tuned model together."""


class TSLRecConfig(LanguageModelConfig):
    """Settings of TSLRec."""

    freeze: bool = False
    """Whether the vectors stay as stage 2 made them; else the table starts at them."""
    teacher: str = "sasrec"
    """Whose item vectors give the latent categories: ``sasrec`` (trained first, on the same data, with the same settings), or a run folder
    of any model with item vectors."""
    categories: PositiveInt = 64
    """Latent categories."""

    @property
    def read_elsewhere(self) -> frozenset[str]:
        return READ_BY_THE_TEACHER if self.teacher == "sasrec" else frozenset()


def kmeans(vectors: NDArray[Any], k: int, rng: np.random.Generator, iterations: int = 50) -> NDArray[np.int64]:
    """Cluster of each row, ``(n,)``: k-means++ starts, then Lloyd's iterations until nothing moves; no cluster is empty.

    Args:
        vectors: ``(n, D)``.
        k: clusters, at most ``n``.
        rng: source of the starts.
        iterations: upper bound.

    >>> kmeans(np.array([[0.0], [9.0], [0.1], [9.1]]), 2, np.random.default_rng(0)).tolist() in ([0, 1, 0, 1], [1, 0, 1, 0])
    True
    """
    rows = np.asarray(vectors, dtype=np.float64)
    square = (rows**2).sum(1)

    def distances(centres: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(square[:, None] - 2 * rows @ centres.T + (centres**2).sum(1), 0.0)

    chosen = [int(rng.integers(len(rows)))]
    nearest = distances(rows[chosen])[:, 0]
    for _ in range(k - 1):
        nearest[chosen] = 0.0
        mass = np.cumsum(nearest)
        if mass[-1] > 0:
            chosen.append(int(np.searchsorted(mass, rng.random() * mass[-1], side="right")))
        else:  # the rest are copies of rows chosen already
            chosen.append(int(np.setdiff1d(np.arange(len(rows)), chosen)[0]))
        nearest = np.minimum(nearest, distances(rows[chosen[-1:]])[:, 0])
    centres, labels = rows[chosen], np.full(len(rows), -1)
    for _ in range(iterations):
        apart = distances(centres)
        found = apart.argmin(1)
        own = apart[np.arange(len(rows)), found]
        for empty in np.flatnonzero(np.bincount(found, minlength=k) == 0):
            shared = np.bincount(found, minlength=k)[found] > 1
            far = int(np.where(shared, own, -1.0).argmax())  # the row that fits worst, of a cluster that keeps others
            found[far], own[far] = empty, 0.0
        if (found == labels).all():
            break
        labels = found
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, rows)
        centres = sums / np.bincount(labels, minlength=k)[:, None]
    return labels


def histograms(train: TrainSet, labels: NDArray[np.int64], k: int) -> NDArray[np.float32]:
    """Share of each category in every training history, ``(U, k)``; zeros without one.

    >>> import polars as pl
    >>> from lexirec.data.dataset import Dataset
    >>> log = pl.DataFrame({"user_id": ["u"] * 4, "item_id": ["a", "b", "a", "c"], "timestamp": [1, 2, 3, 4]})
    >>> histograms(Dataset.from_frames(log).train_set(), np.array([0, 1, 1]), 3).tolist()
    [[0.5, 0.5, 0.0]]
    """
    cells = train.user_index.astype(np.int64) * k + labels[train.item_index]
    counts = np.bincount(cells, minlength=train.n_users * k).reshape(-1, k)
    return (counts / np.maximum(counts.sum(1, keepdims=True), 1)).astype(np.float32)


class Reader(WithLM):
    """Item tokens, language model and head.

    Args:
        n_items: catalogue size.
        categories: outputs of the head.
        std: standard deviation of the tokens' first values.
        model: causal language model; its own tokens and its own head are not read.
    """

    def __init__(self, n_items: int, categories: int, std: float, model: Any) -> None:
        super().__init__()
        hidden = model.get_input_embeddings().weight.shape[1]
        self.tokens = nn.Embedding(n_items, hidden)
        nn.init.normal_(self.tokens.weight, std=std)
        self.head = nn.Linear(hidden, categories)
        model.get_input_embeddings().requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)
        self.attach(model)

    def pooled(self, items: Tensor, mask: Tensor) -> Tensor:
        """Mean last states of histories ``(n, L)`` with padding at the end, ``(n, H)``."""
        states = self.last_states(self.tokens(items))
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def forward(self, items: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """Cross entropy with target distributions ``(n, categories)``, mean over histories."""
        scores = self.head(self.pooled(items, mask)).float()
        return -(target * scores.log_softmax(1)).sum(1).mean()


class ReadHistories(Stage):
    """Stage 1 as the loop drives it.

    Args:
        train: the training part.
        targets: ``(U, categories)``.
        config: settings.
        device: where to train.
    """

    def __init__(self, train: TrainSet, targets: NDArray[np.float32], config: TSLRecConfig, device: torch.device) -> None:
        count = np.diff(train.offsets)
        self.users = np.flatnonzero(count)
        self.lengths = np.minimum(count[self.users], config.max_len)
        self.starts = train.offsets[1:][self.users] - self.lengths
        self.log, self.targets = train.item_index.astype(np.int64), targets
        self.seen = train.popularity > 0
        self.device = device
        model = load_lm(config, 1, config.max_len).to(device)
        network = Reader(train.n_items, targets.shape[1], config.lm_std, model).to(device)
        super().__init__(
            network, config.lm_rate, config.lm_epochs, self.lengths, config.lm_tokens, train.users.ids.rename(c.USER_ID).gather(self.users)
        )

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        lengths = self.lengths[batch]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        items = np.zeros(mask.shape, dtype=np.int64)
        items[mask] = self.log[ranges(self.starts[batch], lengths)]
        arrays = (torch.from_numpy(a).to(self.device) for a in (items, mask, self.targets[self.users[batch]]))
        loss: Tensor = self.network(*arrays)
        return loss

    @torch.no_grad()
    def item_states(self) -> Tensor:
        """Pooled state of each item alone, ``(I, H)``."""
        network = self.network
        assert isinstance(network, Reader)  # noqa: S101 (made above)
        network.eval()
        tokens = network.tokens.weight
        seen = torch.from_numpy(self.seen).to(self.device)
        tokens[~seen] = tokens[seen].mean(0)
        parts = torch.arange(len(tokens), device=self.device)[:, None].split(READ_AT_ONCE)
        return torch.cat([network.pooled(part, torch.ones_like(part, dtype=torch.bool)).float().cpu() for part in parts])


class TSLRec(BackboneRecommender):
    """A sequence model on item vectors of a language model that read histories of ids.

    >>> TSLRec(categories=32).config.freeze
    False
    """

    name = "tslrec"
    Config = TSLRecConfig
    vectors: Tensor | None = None

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        self.check_log(train)
        self.check_width(train.n_items, lm_width(self.config))  # before teacher and language model are trained
        self.vectors = self.reduced(self.read_states(train, self.teacher_vectors(train, valid, options), options))
        return super().learn(train, valid, options)

    def teacher_vectors(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> NDArray[np.float32]:
        """Item vectors of the teacher in this catalogue's order, ``(I, D)``.

        Raises:
            InputError: if the teacher lacks items, or there are fewer items than categories.
        """
        config = self.config
        if config.categories > train.n_items:
            raise InputError(f"categories = {config.categories} and the catalogue has {train.n_items} items; lower it")
        return np.ascontiguousarray(teacher_table(config.teacher, config.model_dump(), train, valid, options).numpy())

    def read_states(self, train: TrainSet, teacher: NDArray[np.float32], options: TrainingOptions) -> Tensor:
        """Stage 1, and the states of single items, ``(I, H)``."""
        config = self.config
        made_of = {"log": digest(train.offsets, train.item_index), "teacher": digest(teacher), "categories": config.categories}
        depends = {**config.stage(), **made_of, "max_len": config.max_len, "seed": options.seed, "precision": options.precision}

        def make(stage: TrainingOptions) -> Tensor:
            labels = kmeans(teacher, config.categories, np.random.default_rng([stage.seed, 0]))
            torch.manual_seed(stage.seed)
            model = ReadHistories(train, histograms(train, labels, config.categories), config, pick_device(stage.device))
            run_training(cast(Any, model), train, None, stage.model_copy(update={"epochs": config.lm_epochs}))
            return model.item_states()

        return kept(self.name, depends, options, make)

    def check_width(self, n_items: int, width: int) -> None:
        """Refuse states ``(n_items, width)`` whose principal components can't be item vectors.

        Raises:
            InputError: if they have fewer dimensions than ``embedding_dim``, or there are fewer items.
        """
        dim = self.config.embedding_dim
        if width < dim:
            raise InputError(f"the language model's states have {width} dimensions where embedding_dim is {dim}; raise lm_dim")
        if dim < width and dim > n_items:
            raise InputError(f"{dim} principal directions can't be fitted on {n_items} items; lower embedding_dim")

    def reduced(self, states: Tensor) -> Tensor:
        """Principal components ``(I, D)`` of the states, scaled by one number so that the mean square length of a row is 1.

        Raises:
            InputError: as :meth:`check_width`.
        """
        raw, dim = states.numpy(), self.config.embedding_dim
        self.check_width(*raw.shape)
        reduction = fit_reduction(raw, "pca", dim)
        assert reduction is not None  # noqa: S101 (only "none" gives none)
        found = reduction(raw)
        length = float(np.sqrt((found**2).sum(1).mean()))
        return torch.from_numpy(found / (length or 1.0))

    def make_items(self, train: TrainSet) -> ItemVectors:
        found = ItemVectors(train.n_items, self.config.embedding_dim, None, None, by_id=True, start=self.vectors)
        if self.config.freeze and found.own is not None:
            found.own.weight.requires_grad_(False)
        return found


__all__ = ["TSLRec", "TSLRecConfig"]
