"""The contract of every model: fit, encode, score, recommend, explain, add items, save and load."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.ids import IdMap, alike
from lexirec.errors import InputError, NotFittedError, UnsupportedQueryError
from lexirec.files import atomic_folder
from lexirec.models.config import LENIENT, ModelConfig, Supports
from lexirec.models.explaining import near_history, shared_attributes
from lexirec.models.listing import ANSWER, allowed_items, best_items, elsewhere, nearest_items, seen_items
from lexirec.models.new_items import joined_items
from lexirec.models.saving import read_model, write_manifest, write_model
from lexirec.models.turns import Turns, asks, changes
from lexirec.query import Basis, Query, as_id, as_id_list, as_query
from lexirec.training.loop import TrainingResult, cpu_threads, pick_device, run_training
from lexirec.training.options import TrainingOptions

BLOCK = 1024
"""Most queries scored at a time."""
SCORES = 16_000_000
"""Most scores held for them; fewer queries than 16 are never taken."""
TURNS = {"recommend": asks, "score": asks, "similar_items": asks, "explain": asks, "save_files": asks, "add_items": changes}
"""What many threads may call at a time, with the turn that it takes, in every subclass too."""


class Recommender(ABC):
    """Base of all models.

    A subclass states ``name``, ``Config`` and ``supports``, builds its parts in :meth:`build`, and answers through :meth:`encode_items` and
    :meth:`encode_queries` (scores are inner products) or overrides :meth:`score` and sets ``vector_scores = False``. A trained model also
    gives ``network``, :meth:`batches`, :meth:`n_batches` and :meth:`loss`. What it overrides of :data:`TURNS` waits by itself while another
    thread adds items, and is called with a checked ``k``.

    Args:
        config: a ``Config`` object; ``None`` for the defaults.
        **settings: single settings by name instead.

    Raises:
        InputError: for unknown or bad settings.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]] = ModelConfig
    supports: Supports = Supports()
    """What it can be asked with; may depend on the configuration."""
    vector_scores: ClassVar[bool] = True
    """Whether scores are inner products of query and item vectors."""
    needs_history: ClassVar[bool] = False
    """Whether a known user's answer needs the history in the query (sequence and text models do, graph models don't)."""
    samples_validation: ClassVar[bool] = False
    """Whether :meth:`validation` looks at a sample of the users because an answer is dear; a run then reports its values."""

    stage = "training"
    """What a progress bar calls its training."""
    network: nn.Module

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, turn in TURNS.items():
            if name in vars(cls):
                setattr(cls, name, turn(vars(cls)[name]))

    @property
    def seeded(self) -> bool:
        """Whether another seed can give another model; not where nothing is trained and nothing drawn."""
        return True

    def __init__(self, config: ModelConfig | None = None, **settings: Any) -> None:
        self.config: Any = (
            config if config is not None and not settings else self.Config.parse({**(config.model_dump() if config else {}), **settings})
        )
        self.network = nn.Module()
        self.device = torch.device("cpu")
        self.training_result: TrainingResult | None = None
        self._fitted = False
        self.mask_seen = True
        self.later: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None
        self.borders: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._turns = Turns()

    def __repr__(self) -> str:
        """The name, and of a fitted model what it knows."""
        known = f"{len(self.users):,} users, {self.items.height:,} items" if self._fitted else "not fitted"
        return f"{type(self).__name__}({known})"

    # --- fitting -----------------------------------------------------------------------------------------------------------------

    def fit(self, train: TrainSet, valid: Heldout | None = None, options: TrainingOptions | None = None) -> "Recommender":
        """Learn from ``train``; ``valid`` selects the epoch and nothing else. A second call starts anew.

        Args:
            train: the training part.
            valid: validation part in the same index space; without it the last epoch counts.
            options: see :class:`~lexirec.training.options.TrainingOptions`.

        Returns:
            The model itself.

        Raises:
            InputError: for an argument of another type, such as a whole data set in place of its training part.
        """
        from lexirec.evaluation.evaluate import check_heldout, check_train

        check_train(train)
        if valid is not None:
            check_heldout(valid, "valid")
        given: Any = options
        if given is not None and not isinstance(given, TrainingOptions):
            cure = "pass TrainingOptions(**options)" if isinstance(given, Mapping) else "pass TrainingOptions(epochs=..., ...)"
            raise InputError(f"options is of type {type(given).__name__}; {cure}")
        options = options or TrainingOptions()
        with cpu_threads(options.threads):
            return self.learn(train, valid, options)

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> "Recommender":
        """What :meth:`fit` does once its arguments are checked; systems with a stage before the training put it in front of this."""
        self.device = pick_device(options.device)
        torch.manual_seed(options.seed)
        self.remember(train)
        self.network = nn.Module()
        self.training_result = None
        self.mask_seen = options.mask_seen
        self.build(train, np.random.default_rng([options.seed, 0]))
        self.network.to(self.device)
        self._fitted = True
        if any(True for _ in self.network.parameters()):
            validate = None
            if valid is not None and len(valid):
                metrics = list(dict.fromkeys([options.monitor, "recall@20", "ndcg@20", "recall@10", "ndcg@10"]))

                def validate() -> Mapping[str, float]:
                    return self.validation(train, valid, metrics)

            self.training_result = run_training(cast(Any, self), train, validate, options)
        self.network.eval()
        self.refresh()
        return self

    def validation(self, train: TrainSet, valid: Heldout, metrics: Sequence[str]) -> Mapping[str, float]:
        """The values that select the epoch: a full ranking of the validation part with the present weights."""
        from lexirec.evaluation.evaluate import evaluate

        return evaluate(self, train, valid, metrics=metrics, mask_seen=self.mask_seen, beyond=False).metrics

    def remember(self, train: TrainSet) -> None:
        """Keep what answering needs: the catalogue, the users' histories and the popularity."""
        self.items = train.items
        self.item_map = IdMap(train.items[c.ITEM_ID])
        self.users = train.users
        self.history_offsets = train.offsets
        self.history_items = train.item_index
        self.popularity: NDArray[np.int64] = train.popularity
        self.later = None
        self.borders = (train.user_domains, train.item_domains) if train.n_domains > 1 else None
        self.trained_on = train.content_hash

    def identity(self) -> dict[str, Any]:
        """What a checkpoint of this training is made of, by name: one of other settings or another training part is not gone on with."""
        settings = self.config.model_dump(mode="json")
        return {"model": self.name, **{f"config.{name}": value for name, value in settings.items()}, "training part": self.trained_on}

    def know_later(self, parts: Sequence[Heldout]) -> None:
        """Let :meth:`recommend` leave out what the users chose after the training part, too.

        Nothing else looks at these events: scores, explanations and evaluations stay as they are.

        Args:
            parts: validation and test part in the index space of the training part.
        """
        users = np.concatenate([np.zeros(0, dtype=np.int32), *(part.user_index for part in parts)])
        items = np.concatenate([np.zeros(0, dtype=np.int32), *(part.item_index for part in parts)])
        counts = np.bincount(users, minlength=len(self.users))
        self.later = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items[np.argsort(users, kind="stable")]

    @abstractmethod
    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        """Make the parts that the configuration asks for, with fresh weights in ``self.network``."""

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[Any]:
        """The batches of one epoch, whole arrays."""
        raise NotImplementedError

    def n_batches(self, train: TrainSet) -> int:
        """Batches per epoch."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        """Scalar loss of one batch."""
        raise NotImplementedError

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam with ``lr`` and ``weight_decay`` of the configuration."""
        return torch.optim.Adam(
            self.network.parameters(),
            lr=self.config.lr,
            weight_decay=getattr(self.config, "weight_decay", 0.0),
            fused=self.device.type in ("cpu", "cuda"),
        )

    def refresh(self) -> None:
        """Recompute what answering uses from the present weights."""

    # --- answering ---------------------------------------------------------------------------------------------------------------

    def prepare(self, queries: Sequence[Query]) -> None:
        """Do at once for many queries what is dear one by one and decides what they are answered by; called before these are asked."""

    def diagnose(self, queries: Sequence[Query], progress: bool = False) -> dict[str, float]:
        """Numbers about the model's answers that no ranking shows, for the ``diagnostics`` of a run; nothing by default."""
        return {}

    @abstractmethod
    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        """Vectors of the catalogue in index order (``items=None``) or of new items by their text, ``(I, D)`` float32."""

    def item_vectors(self) -> Tensor:
        """Vectors that stand for the catalogue's items when another model learns from this one, ``(I, D)``."""
        return self.encode_items()

    @abstractmethod
    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        """Vectors of the queries, ``(B, D)`` float32.

        Raises:
            UnsupportedQueryError: if the model can't answer one of them.
        """

    @asks
    def score(self, queries: Sequence[Query], items: Sequence[str] | None = None) -> Tensor:
        """Scores, ``(B, I)`` float32, over the catalogue or the ``items`` named.

        A query that holds nothing known is scored by popularity.
        """
        self._check_fitted()
        known = [i for i, query in enumerate(queries) if self.answered_by(query)]
        answers = (self.encode_queries([queries[i] for i in known]) @ self.encode_items().T).cpu() if known else None
        if answers is not None and len(known) == len(queries):
            scores = answers
        else:
            scores = torch.from_numpy(self.popularity.astype(np.float32)).repeat(len(queries), 1)
            if answers is not None:
                scores[known] = answers
        return scores if items is None else scores[:, self._positions(items)]

    def answered_by(self, query: Query) -> Basis:
        """What this query is answered from: the user, the history, words, a person and words, or popularity, and why.

        Raises:
            UnsupportedQueryError: if the query holds something that this model can't read.
        """
        for kind, text in query.texts.items():
            if not getattr(self.supports, kind):
                raise UnsupportedQueryError(
                    f"{self.name} can't read words, and the query has {kind}={text[:60]!r}; ask a model with a text encoder, such as"
                    " alpharec"
                )
        person = self._person_of(query)
        parts = (*((person,) if person else ()), *(("words",) if query.texts else ()))
        if parts:
            return Basis(parts)
        if query.history is not None and len(query.history):
            there = (self.item_map.index(query.history) >= 0).any()
            return Basis(reason=f"no item of the history {'has a training event' if there else 'is in the catalogue'}")
        if query.user_id is None:
            return Basis(reason="nothing is known")
        known = query.user_id in self.users
        return Basis(reason=f"user {query.user_id!r} has no training history" if known else f"there is no user {query.user_id!r}")

    def speaking(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these items ``(n,)`` say something about a person whose history holds them: all, if a subclass says nothing."""
        return np.ones(len(items), dtype=bool)

    def _person_of(self, query: Query) -> str:
        """``"history"`` where one is given that can be read and is not the stored one, else ``"user"`` for one of the log, else nothing.

        Raises:
            UnsupportedQueryError: for a history that this model can't read and nobody known beside it.
        """
        at = self.users.position(query.user_id) if self.supports.user_id else -1
        lo, hi = (int(self.history_offsets[at]), int(self.history_offsets[at + 1])) if at >= 0 else (0, 0)
        given = query.history is not None and len(query.history) > 0
        if given and self.supports.history:
            items = self.item_map.index(query.history)  # type: ignore[arg-type]
            if self.speaking(items[items >= 0]).any() and not np.array_equal(items, self.history_items[lo:hi]):
                return "history"
        if hi > lo:
            return "user"
        if given and not self.supports.history:
            raise UnsupportedQueryError(
                f"{self.name} can't answer for a history it was not trained on; ask with a user_id of the training log, or use a model"
                " that supports histories"
            )
        return ""

    @asks
    def recommend(
        self,
        queries: Query | str | int | Sequence[Query | str | int],
        k: int = 10,
        filter_seen: bool = True,
        candidates: Iterable[str] | Iterable[int] | None = None,
        exclude: Iterable[str] | Iterable[int] | None = None,
    ) -> pl.DataFrame:
        """The best items for each query.

        A person of one of several data sets that the model was trained on is shown that one's items, as in an evaluation: scores of the
        others were never compared with these. A history is of the data sets that its items are of; words alone are looked for in all.

        Args:
            queries: one query or many; a bare string or whole number is a ``user_id``.
            k: list length, at least 1.
            filter_seen: leave out the items of the query's history and of the user's: the training part, and in a run folder also the
                validation and test part (see :meth:`know_later`).
            candidates: rank only these item ids, such as what is in stock. Those that the model does not know are left out, with a
                warning.
            exclude: never show these item ids; unknown ones are no matter, but a warning tells where none is known or one is another id's
                misspelling.

        Returns:
            A frame, best first per query: ``query`` (position in ``queries``), ``user_id`` (null if none), ``item_id``, ``score``
            (float32), ``rank`` (from 1), ``answered_by`` (``"user"``, ``"history"``, ``"words"``, a sum of these, or ``"popularity"``) and
            ``reason`` (why there was nothing better than popularity, else null). Fewer than ``k`` rows where fewer items remain.

        Raises:
            InputError: for ``k < 1``, candidates of which none is known, or something that is neither a query nor an id.
            UnsupportedQueryError: if the model can't answer one of the queries.
        """
        self._check_fitted()
        many = isinstance(queries, Iterable) and not isinstance(queries, (str, bytes, Mapping))
        asked = [as_query(query) for query in (cast(Iterable[Any], queries) if many else [queries])]
        allowed = allowed_items(self.item_map, candidates, exclude)
        frames = []
        size = min(BLOCK, max(16, SCORES // max(len(self.item_map), 1)))
        for start in range(0, len(asked), size):
            block = asked[start : start + size]
            scores = self.score(block)
            if allowed is not None:
                scores[:, ~allowed] = -torch.inf
            if self.borders is not None:
                scores.masked_fill_(elsewhere(self, block), -torch.inf)
            if filter_seen:
                rows, seen = seen_items(self, block, later=True)
                scores[rows, seen] = -torch.inf
            bases = [self.answered_by(query) for query in block]
            frames.append(best_items(self.item_map, block, scores, bases, k).with_columns(pl.col(c.QUERY) + start))
        return pl.concat(frames) if frames else pl.DataFrame(schema=ANSWER)

    @asks
    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        """Nearest items by the cosine of item vectors.

        Returns:
            A frame ``item_id`` (asked), ``similar_item_id``, ``score``, ``rank``; the item itself is left out.

        Raises:
            InputError: if an item is unknown.
        """
        self._check_fitted()
        at = self._positions(as_id_list(item_ids, "item_ids"))
        vectors = torch.nn.functional.normalize(self.encode_items(), dim=1)
        return nearest_items(self.item_map, at, (vectors[at] @ vectors.T).cpu(), k)

    @asks
    def explain(self, query: Query | str | int, item_id: str | int, k: int = 5) -> pl.DataFrame:
        """What pulled an item up: the history items closest to it in the model's own space, and the attributes that they share with it.

        Returns:
            A frame ``kind`` (``"history"`` or ``"attribute"``), ``name`` (item id, or ``column=value``), ``title`` (null for attributes),
            ``weight``: cosine to the item, or the share of the history that has the attribute; largest first within a kind.

        Raises:
            InputError: if the item is unknown.
        """
        self._check_fitted()
        query = as_query(query)
        target = int(self._positions([as_id(item_id, "item_id")])[0])
        seen = self._answered_from(query)
        seen = seen[seen != target]
        return pl.concat([near_history(self, target, seen, k), shared_attributes(self.items, target, seen, k)])

    @changes
    def add_items(self, items: Any, *, skip_known: bool = False) -> "Recommender":
        """Add new items by their text, without training. Other threads may ask meanwhile: they wait until it is done.

        Args:
            items: pandas, Polars or Arrow table with ``item_id`` and the columns that the model reads. An item without text is told; it
                gets the mean vector of the catalogue, or the score 0 where words are counted.
            skip_known: leave out, with a warning, what is in the catalogue already; refused by default.

        Raises:
            UnsupportedQueryError: if this model knows items by id only.
            InputError: if an id is missing, exists already or is given twice, or the columns don't go with the catalogue's.
        """
        from lexirec.text.embed import fill_from

        self._check_fitted()
        if not self.supports.new_items:
            raise UnsupportedQueryError(
                f"{self.name} knows items by id only, so a new item has no vector; use a model that reads text, such as alpharec"
            )
        items, catalogue = joined_items(self.items, self.item_map, items, skip_known=skip_known, read=self.read_of_items())
        if not items.height:
            return self
        with fill_from(self.items):
            self.append_items(items)
        self.items = catalogue
        self.item_map = IdMap(self.items[c.ITEM_ID])
        self.popularity = np.concatenate([self.popularity, np.zeros(items.height, dtype=np.int64)])
        return self

    def read_of_items(self) -> Sequence[str]:
        """Columns of the catalogue that an item's text is made of; a warning names those that new items lack."""
        from lexirec.text.templates import parse_template

        text = getattr(self.config, "text", None)
        return parse_template(text) if isinstance(text, str) else ()

    def append_items(self, items: pl.DataFrame) -> None:
        """Extend the model's own arrays by new items; called by :meth:`add_items` after its checks."""
        raise NotImplementedError

    def transfer(self, train: TrainSet) -> "Recommender":
        """The same weights on another data set, without training (zero-shot).

        Raises:
            UnsupportedQueryError: if the weights belong to the ids of one data set.
        """
        raise UnsupportedQueryError(
            f"{self.name} learns vectors of ids, which mean nothing in another data set; zero-shot needs a text model such as alpharec"
        )

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and JSON-able values that :meth:`restore` needs, besides weights, catalogue and histories."""
        return {}, {}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Undo :meth:`state`: make ``self.network`` ready for its weights and set the arrays."""

    def user_vectors(self) -> Tensor | None:
        """Vectors of the training users, ``(U, D)``, where the model has them."""
        return None

    def save(self, folder: str | Path) -> Path:
        """Write the model into a new folder, whole or not at all.

        Files: ``config.yaml``, ``model.safetensors``, ``vectors.safetensors``, ``items.parquet``, ``history.parquet``,
        ``later.parquet`` after :meth:`know_later`, and ``manifest.json`` with the SHA-256 of each.

        Raises:
            InputError: if the folder exists.
        """
        with atomic_folder(folder) as temporary:
            self.save_files(temporary)
            write_manifest(temporary)
        return Path(folder)

    @asks
    def save_files(self, folder: Path, extra: Mapping[str, Any] | None = None) -> None:
        """Write the model's files into an existing folder; ``extra`` is added to ``config.yaml``."""
        self._check_fitted()
        write_model(self, folder, extra or {})

    @classmethod
    def load(cls, folder: str | Path) -> "Recommender":
        """Read what :meth:`save` wrote; runs no code from the folder.

        Raises:
            RunFolderError: if the folder is not one, or a file in it is damaged.
        """
        token = LENIENT.set(True)
        try:
            model = read_model(cls, Path(folder))
        finally:
            LENIENT.reset(token)
        model._fitted = True
        return model

    # --- helpers -----------------------------------------------------------------------------------------------------------------

    def _check_fitted(self) -> None:
        if not self._fitted:
            raise NotFittedError(f"{self.name} is not fitted; call fit(train) or load a run folder first")

    def _positions(self, item_ids: Sequence[str] | Sequence[int]) -> NDArray[np.int64]:
        item_ids = as_id_list(item_ids, "item ids")
        at = self.item_map.index(item_ids)
        if (at < 0).any():
            missing = [name for name, position in zip(item_ids, at, strict=True) if position < 0]
            raise InputError(
                f"{len(missing)} unknown item ids, such as {missing[0]!r}{alike(missing[0], self.item_map.ids)}; add them with add_items"
                " (at the command line --items)"
            )
        return at

    def _answered_from(self, query: Query) -> NDArray[np.int64]:
        """Distinct items that the person's part of the answer is made from: those given, or the user's stored ones."""
        now = self._person_of(query) == "history"
        return np.unique(seen_items(self, [Query(history=query.history) if now else Query(user_id=query.user_id)])[1])


__all__ = ["ModelConfig", "Recommender", "Supports"]
