"""CALRec (Li et al., RecSys 2024, arXiv 2405.02429, doi 10.1145/3640457.3688121): writing the next item's text.

No official code is known; ``souradipp76/PixRec`` re-implements it with deviations. What differs here is in ``docs/calrec.md``.

history texts in one prompt -> language model -> several next-item texts, drawn -> BM25 over the catalogue, scaled, slightly less for the
less probable text -> maximum over texts
trained by: next-item loss + contrast(target after history, target alone) + contrast(history, target alone)
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec import columns as c
from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import shown, warn
from lexirec.errors import InputError, RunFolderError
from lexirec.models.calrec import diagnostics
from lexirec.models.calrec.config import ASKED, POOLED, CALRecConfig
from lexirec.models.calrec.kept import Kept
from lexirec.models.calrec.lm import HubDecoder, LanguageModel, drop, evaluating, make_lm, readable_tokens
from lexirec.models.calrec.sequences import Ints, Packed, Pieces
from lexirec.models.calrec.stage_zero import stage_zero
from lexirec.models.calrec.steps import LOSS, Batch, Histories, Step, Towers, adamw, answerable, groups_of, held_out_losses
from lexirec.models.calrec.texts import ItemTemplate
from lexirec.models.calrec.vocabulary import Vocabulary
from lexirec.models.calrec.writing import Sampling, Trie, Written, key_of, write
from lexirec.models.config import LENIENT
from lexirec.models.contract import Recommender
from lexirec.models.earlier import refuse_leaks
from lexirec.models.language import lm_folder
from lexirec.models.layers.sequence import ranges
from lexirec.models.lexical import NO_TEXT, LexicalRecommender, Reason
from lexirec.query import Query
from lexirec.retrieval.bm25 import BM25
from lexirec.retrieval.hybrid import Fusion
from lexirec.retrieval.pooling import pool
from lexirec.text.encoders.families import read_config
from lexirec.text.encoders.hub import identity
from lexirec.training.options import TrainingOptions

BUFFER = "buffer."
"""Of the names, among a run's tensors, of what a named model computes with and doesn't train."""
WRITING = 1
"""Of the code that writes texts; what another version wrote is not taken up."""


class CALRec(LexicalRecommender):
    """A language model writes the next item's text, and BM25 finds it; nothing is known by id.

    >>> CALRec(lm="tiny").config.alpha
    0.125
    """

    name = "calrec"
    Config = CALRecConfig
    samples_validation = True
    base: str | None = None
    """What tells a named language model from others, see :func:`~lexirec.text.encoders.hub.identity`."""
    shape: dict[str, Any] | None = None
    """The ``config.json`` of a named language model."""
    _kept: Kept | None = None
    _vectors: Tensor | None = None

    # --- training ----------------------------------------------------------------------------------------------------------------

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        self._options = options
        if valid is not None and len(valid):
            self._check_targets(train, self._asked(train, valid))
        return super().learn(train, valid, options)

    def _asked(self, train: TrainSet, valid: Heldout) -> Heldout:
        """What a validation asks: all targets of ``valid_users`` users."""
        return train.some_users(valid, self.config.valid_users, 0)

    def _check_targets(self, train: TrainSet, part: Heldout) -> None:
        """Refuse a validation that could tell no epoch from another, see :func:`held_out_losses`."""
        readable = np.array([bool(text) for text in ItemTemplate.parse(self.config.text).write(train.items)])
        if not answerable(train, part, readable).any():
            raise InputError(
                f"{part.name}: none of {len(part):,} targets of {len(np.unique(part.user_index)):,} users has a text by the template"
                f" {self.config.text!r} (item_id {shown(train.items[c.ITEM_ID][np.unique(part.item_index)])}) and a training history with"
                " one, so no epoch can be selected; give these items their columns, raise valid_users, or fit without a validation part"
            )

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        config = self.config
        self.texts = ItemTemplate.parse(config.text).read(train.items, train.name)
        readable = [text for text in self.texts if text]
        if len(set(readable)) == 1 and len(readable) > 1:
            warn(f"all {len(readable):,} items have the same text ({readable[0][:60]!r}), so none can be told from another")
        if config.start is not None:
            self._take_over(config.start, train)
        elif config.own:
            learned = (train.popularity > 0) & ~train.new_items  # others don't exist yet, or nobody took them
            texts = [text for text, known in zip(self.texts, learned, strict=True) if text and known]
            self.vocabulary = Vocabulary.trained(texts, config.vocabulary, ItemTemplate.parse(config.text).pieces, config.merges)
        else:
            folder = lm_folder(config.lm)
            self.vocabulary, self.base, self.shape = Vocabulary.of_model(folder), identity(folder), read_config(folder)
        self._kept = None
        self._index()
        if self.pieces.max_tokens < config.max_tokens:
            warn(
                f"lm = {config.lm} has {self.pieces.max_tokens + config.max_new_tokens} positions: inputs are cut to"
                f" {self.pieces.max_tokens} tokens where max_tokens is {config.max_tokens}, since max_new_tokens = {config.max_new_tokens}"
                " are kept for what is written"
            )
        self.histories = Histories(train, self.pieces.readable)
        if not len(self.histories.users):
            raise InputError(f"no user of {train.name} has two training events with item texts, so no next item can be learned")
        if config.start is None:
            self.network = make_lm(config, self.vocabulary)
        self.network.to(self.device)
        towers = self._towers()
        if config.passes:
            stage_zero(self.name, towers, self.histories, config, train, self._options, self.texts)
        self.step = Step(towers, config.tau, config.alpha, config.beta, config.micro_tokens, self.culprits)

    def _take_over(self, start: str, train: TrainSet) -> None:
        """Language model and vocabulary of an earlier run."""
        from lexirec.models import load_model

        other = load_model(start)
        if not isinstance(other, CALRec):
            raise InputError(f"start = {start!r} is a run of {other.name}; name a run of calrec")
        here, there = self.config.taken_over(), other.config.taken_over()
        if here != there:
            changed = [f"{name} {there.get(name)!r}" for name in {**here, **there} if here.get(name) != there.get(name)]
            raise InputError(f"start = {start!r} was made with {', '.join(changed)}; use the same settings")
        refuse_leaks(f"start = {start!r}", other, train)
        ours, theirs = ItemTemplate.parse(self.config.text), ItemTemplate.parse(other.config.text)
        if (ours.labels, ours.columns) != (theirs.labels, theirs.columns):
            warn(f"start = {start!r} wrote items as {other.config.text!r} and this training writes them as {self.config.text!r}")
        self.vocabulary, self.network, self.base, self.shape = other.vocabulary, other.network, other.base, other.shape
        drop(self.lm, self.config.lm_dropout)
        self.network.train()

    @property
    def lm(self) -> LanguageModel:
        """The language model."""
        return cast(LanguageModel, self.network)

    def _towers(self, pieces: Pieces | None = None) -> Towers:
        return Towers(self.lm, pieces or self.pieces, self.config.reduction)

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[Batch]:
        drawn = self.histories.draw(self._epoch_users(), self.config.mixing, rng)
        for start in range(0, len(drawn), self.config.batch_size):
            users = drawn[start : start + self.config.batch_size]
            yield self.histories.batch(users, self.histories.shortened(users, self.config.shorten, rng))

    def _epoch_users(self) -> int:
        return self.config.epoch_users or len(self.histories.users)

    def n_batches(self, train: TrainSet) -> int:
        return -(-self._epoch_users() // self.config.batch_size)

    def loss(self, batch: Batch) -> Tensor:
        self._kept = None
        return self.step.loss(batch)

    def culprits(self, batch: Batch) -> str:
        """Users of a batch whose loss is not finite, for the error."""
        names = self.users.name(batch.users[:5]).to_list()
        return f"user_id {', '.join(map(repr, names))}" + (f" and {len(batch.users) - 5:,} more" if len(batch.users) > 5 else "")

    def optimiser(self) -> torch.optim.Optimizer:
        config = self.config
        total = None if config.decay_epochs is None else config.decay_epochs * -(-self._epoch_users() // config.batch_size)
        return adamw(self.network, config.rate, config.weight_decay, config.warmup, total)

    def refresh(self) -> None:
        self._kept = None
        self._vectors = None

    def validation(self, train: TrainSet, valid: Heldout, metrics: Sequence[str]) -> Mapping[str, float]:
        """Loss of the validation targets of ``valid_users`` users, and, unless that is monitored, a ranking from a few samples each."""
        from lexirec.evaluation.evaluate import evaluate

        part = self._asked(train, valid)
        found = held_out_losses(self.step, train, part, self.config.batch_size)
        if self._options.monitor == LOSS:
            return found
        quick = self.with_settings(samples=min(self.config.samples, self.config.valid_samples))
        quick._kept = Kept(None)
        names = list(dict.fromkeys([*metrics, "recall@1"]))
        return {**found, **evaluate(quick, train, part, metrics=names, beyond=False, mask_seen=self.mask_seen).metrics}

    # --- answering ---------------------------------------------------------------------------------------------------------------

    def _index(self) -> None:
        """What answering needs of the present catalogue's texts."""
        self.pieces = Pieces(self.vocabulary, self.texts, readable_tokens(self.config, self.shape), self.config.max_new_tokens)
        self._search()

    def _search(self) -> None:
        self._look_up()
        if self.config.catalogue_only:  # else what is written for a history depends on no other text
            self._kept = None
        self._vectors = None

    def _look_up(self) -> None:
        config = self.config
        self.use_index(BM25(self.texts, config.k1, config.b, tokens=config.tokens, fixed=ItemTemplate.parse(config.text).bare))

    def with_settings(self, **settings: Any) -> "CALRec":
        """The same model answering with other settings, such as ``pooling="mean"``; texts that are written already are used again.

        Raises:
            InputError: for a setting that answers don't depend on, or one that the training fixed.
        """
        for name in settings:
            if name in self.Config.model_fields and name not in (*ASKED, *POOLED):
                raise InputError(f"{name} is fixed by the training; an answer can be had with other {', '.join((*ASKED, *POOLED))}")
        other = copy.copy(self)
        token = LENIENT.set(True)  # the other settings are those of a model that is there
        try:
            other.config = self.Config.parse({**self.config.model_dump(), **settings})
        finally:
            LENIENT.reset(token)
        if other.config.answers() != self.config.answers():
            other._kept = None
        if any(getattr(other.config, name) != getattr(self.config, name) for name in ("k1", "b", "tokens")):
            other._look_up()
        return other

    def _texts_kept(self) -> Kept:
        if self._kept is None:
            from lexirec.text.cache import default_folder

            made = {"version": WRITING, **self.config.taken_over(), **self.config.answers()}
            if not self.config.own:  # its weights are no parameters here as far as they are frozen
                made["lm"] = self.base
            digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode())
            for weight in (self.vocabulary.state(), *self.network.parameters()):
                digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
            if self.config.catalogue_only:
                digest.update("\0".join(self.texts).encode())
            self._kept = Kept(default_folder() / "written" / digest.hexdigest()[:32])
        return self._kept

    def _histories(self, queries: Sequence[Query]) -> tuple[Ints, Ints]:
        """Readable items of each query's person, see :meth:`items_of`, and their numbers."""
        found = [at[self.pieces.readable[at]] for at in map(self.items_of, queries)]
        return np.concatenate([*found, np.zeros(0, dtype=np.int64)]), np.array([len(at) for at in found], dtype=np.int64)

    def write(self, queries: Sequence[Query], progress: bool = False) -> list[Written]:
        """Texts of the next item for each query's history, most probable first; a history without readable items gives none."""
        self._check_fitted()
        history, counts = self._histories(queries)
        prompts = self.pieces.joined(history, counts)
        starts = np.cumsum(prompts.lengths) - prompts.lengths
        keys = np.array([key_of(prompts.tokens[s : s + n]) for s, n in zip(starts, prompts.lengths, strict=True)], dtype=np.uint64)
        kept = self._texts_kept()
        known = kept.known(dict.fromkeys(keys[counts > 0].tolist()))
        missing = [row for row, key in enumerate(keys.tolist()) if key not in known and counts[row]]
        if missing:
            _, first = np.unique(keys[missing], return_index=True)
            rows = np.array(missing)[first]
            lengths = prompts.lengths[rows]
            part = Packed(prompts.tokens[ranges(starts[rows], lengths)], lengths, lengths)
            config = self.config
            low, even = config.write_precision == "bf16", config.draws == "even"
            sampling = Sampling(config.samples, config.temperature, config.max_new_tokens, config.sampling_seed, low, even)
            trie = self._trie() if config.catalogue_only else None
            found = write(self.lm, self.vocabulary, part, sampling, trie=trie, progress=progress)
            kept.add(keys[rows], found)
            known.update(zip(keys[rows].tolist(), found, strict=True))
        nothing = Written([], np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int32))
        return [known[key] if count else nothing for key, count in zip(keys.tolist(), counts.tolist(), strict=True)]

    def _trie(self) -> Trie:
        some = np.flatnonzero(self.pieces.readable)
        targets = self.pieces.targets(some)
        return Trie(targets.tokens, targets.lengths, self.vocabulary.end)

    @property
    def wish_share(self) -> float:
        return float(self.config.wish_weight)

    @property
    def fusion(self) -> Fusion:
        """How a wish and the written texts are put together, see :func:`~lexirec.retrieval.hybrid.fuse`."""
        return cast(Fusion, self.config.fusion)

    def prepare(self, queries: Sequence[Query]) -> None:
        self.write(queries)

    def lacks_person(self, query: Query) -> str:
        written = self.write([query])[0]
        if not written.texts:
            return NO_TEXT
        finding = next(filter(self.bm25.finds, written.texts), None)
        if finding is None:
            return "nothing that was written for the history matches the catalogue"
        # One text that tells items apart is enough, and the first nearly always does. The least of several columns may be 0 all the same.
        if self.config.pooling != "min" and np.ptp(self.bm25.scores([finding])) > 0:
            return ""
        return "" if self._pooled([written]).any() else "what was written for the history fits all items alike"

    def score_people(self, queries: Sequence[Query]) -> Tensor:
        return torch.from_numpy(self._pooled(self.write(queries)))

    def _pooled(self, written: Sequence[Written]) -> NDArray[np.float32]:
        config = self.config
        return pool(
            self.bm25, [one.texts for one in written], [one.logprobs for one in written],
            n_preds=config.n_preds, epsilon=config.epsilon, pooling=config.pooling, modulate=config.modulate,
        )  # fmt: skip

    def encode_items(self, items: pl.DataFrame | None = None) -> Tensor:
        """Mean states of item texts read alone, the contrasts' targets, ``(I, D)``: :meth:`similar_items` compares them, no score does."""
        if items is None and self._vectors is not None:
            return self._vectors
        pieces = self.pieces if items is None else self.pieces.appended(ItemTemplate.parse(self.config.text).write(items))
        wanted = np.arange(len(pieces.readable))[0 if items is None else len(self.pieces.readable) :]
        vectors = torch.zeros(len(wanted), self.lm.dim)
        some = np.flatnonzero(pieces.readable[wanted])
        alone = pieces.targets(wanted[some])
        towers = self._towers(pieces)
        with evaluating(self.network):
            for group in groups_of(alone.lengths, self.config.micro_tokens):
                vectors[some[group]] = towers.alone(alone, group).cpu()
        if items is None:
            self._vectors = vectors
        return vectors

    def encode_queries(self, queries: Sequence[Query]) -> Tensor:
        """Mean states of histories, ``(B, D)``; what the user-target contrast sees, not what is ranked by."""
        self._check_fitted()
        history, counts = self._histories(queries)
        prompts = self.pieces.joined(history, counts)
        towers = self._towers()
        vectors = torch.zeros(len(queries), self.lm.dim)
        with evaluating(self.network):
            for group in groups_of(prompts.lengths, self.config.micro_tokens):
                states, layout, _ = towers.states(prompts, group)
                vectors[torch.from_numpy(group)] = towers.history_and_target(states, prompts, group, layout)[0].cpu()
        return vectors

    def similar_items(self, item_ids: Sequence[str] | Sequence[int], k: int = 10) -> pl.DataFrame:
        """Nearest items by the cosine of their vectors, see :meth:`encode_items`; BM25 would only see equal words."""
        return Recommender.similar_items(self, item_ids, k)

    def explain_person(self, query: Query, target: int, k: int) -> list[Reason]:
        """The written texts under which the item at ``target`` scores, best first, kind ``"written"``.

        ``name`` is the item that the text fits best, ``title`` the text with how often it was drawn and its log-probability, and ``weight``
        what the text gives the item, in [0, 1]: 1, a little less for a less probable text, for the item that it fits best.
        """
        written, config = self.write([query])[0], self.config
        looked_up = [at for at, text in enumerate(written.texts) if self.bm25.finds(text)][: config.n_preds]  # best first, each once
        texts, logprobs, counts = [written.texts[at] for at in looked_up], written.logprobs[looked_up], written.counts[looked_up]
        columns = pool(
            self.bm25, [[text] for text in texts], [[s] for s in logprobs], n_preds=1, epsilon=config.epsilon, modulate=config.modulate
        )
        rows: list[Reason] = []
        for place in np.argsort(-columns[:, target], kind="stable")[:k].tolist():
            given = float(columns[place, target])
            if given > 0:
                fits = self.item_map.ids[int(columns[place].argmax())]
                told = f"{texts[place]} [drawn x{int(counts[place])}, log-probability {logprobs[place]:.1f}, fits {fits}]"
                rows.append(("written", fits, told, given))
        return rows

    def diagnose(self, queries: Sequence[Query], progress: bool = False) -> dict[str, float]:
        """Diagnostics of the texts written for these queries and of the search, see :mod:`lexirec.models.calrec.diagnostics`."""
        search = diagnostics.self_retrieval(self.texts, self.config.k1, self.config.b, diagnostics.ASKED, self.config.tokens)
        return diagnostics.samples(self.write(queries, progress), self.texts) | {f"self_{name}": value for name, value in search.items()}

    def append_items(self, items: pl.DataFrame) -> None:
        new = ItemTemplate.parse(self.config.text).read(items)
        self.texts = [*self.texts, *new]
        self.pieces = self.pieces.appended(new)
        self._search()

    def transfer(self, train: TrainSet) -> "CALRec":
        """The same language model on another catalogue: its texts are read, and BM25 finds among them.

        Raises:
            InputError: if no item of it has a text.
        """
        self._check_fitted()
        other = copy.copy(self)
        other.remember(train)
        other.texts = ItemTemplate.parse(self.config.text).read(train.items, train.name)
        other._index()
        return other

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"vocabulary": self.vocabulary.state()}
        if self.config.own:
            return tensors, {}
        if self.config.tune == "lora":  # the weights that adapters are put on are not in the run: which they were is
            return tensors, {"base": self.base}
        assert isinstance(self.lm, HubDecoder)  # noqa: S101 (of a named model)
        buffers = {BUFFER + name: value for name, value in self.lm.buffers_of_whole().items()}
        return {**tensors, **buffers}, {"base": self.base, "shape": self.shape}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        config, shape = self.config, values.get("shape")
        if shape is not None:
            self.base, self.shape = values["base"], shape
        elif not config.own:  # adapters and runs of older versions need the folder
            folder = lm_folder(config.lm)
            self.base, self.shape = identity(folder), read_config(folder)
            if values.get("base", self.base) != self.base:  # older runs have none
                raise RunFolderError(
                    f"lm = {config.lm!r} holds other weights than those that this run's adapters were trained on; put these back"
                )
        self.vocabulary = Vocabulary.restored(tensors["vocabulary"])
        self.texts = ItemTemplate.parse(config.text).write(self.items)
        self.network = make_lm(config, self.vocabulary, shape)
        if isinstance(self.lm, HubDecoder):
            buffers = {name.removeprefix(BUFFER): value for name, value in tensors.items() if name.startswith(BUFFER)}
            self.lm.whole.load_state_dict(buffers, strict=False)
        self._index()
