"""EasyRec (Ren and Huang, EMNLP 2025): a text encoder trained on interactions, so that a person's text is near the texts of chosen items.

Official code: HKUDS/EasyRec, commit 95c8ede. How this differs: the start is the bundled ``minilm`` with its own mean pooling (the published
RoBERTa with first token, linear map and tanh is a setting), profiles are written without a language model unless folders are given,
weights are float32 with products in bfloat16 if asked for, a text that occurs twice in a batch is encoded once, dropout is off by default.
Command: ``lexirec fit easyrec --data A --data B --out RUN``; table in ``docs/easyrec.md``.

profiles, a random version each -> encoder -> cosine / temperature -> cross entropy over the batch's positives and sampled negatives
                                                                      + weight x cross entropy of masked words
"""

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lexirec.data.dataset import Heldout, TrainSet
from lexirec.data.messages import warn
from lexirec.errors import InputError
from lexirec.losses import user_item_contrast
from lexirec.models.contract import Recommender
from lexirec.models.earlier import refuse_leaks
from lexirec.models.easyrec_config import EasyRecConfig
from lexirec.models.easyrec_start import going_on, kept_weights, start_network
from lexirec.models.layers.encoder import TextNetwork, Tokenizer, backbone_from, config_state, freeze_lowest, padded
from lexirec.models.textual import TextRecommender, unit
from lexirec.progress import track
from lexirec.text.encoders.families import position_limit
from lexirec.text.encoders.precision import resolve
from lexirec.text.profiles import RAW
from lexirec.training.gradients import Parts
from lexirec.training.options import TrainingOptions
from lexirec.training.products import fill_products
from lexirec.training.texts import ExampleSampler, TextBatch, TextPool, TokenStore, false_negatives, mask_words
from lexirec.training.weights import can_fuse, pack_sorted, set_dropout, use_float32_attention

PASS_TOKENS = 256
"""Tokens of one pass when texts are read: always as many texts of a length, so that a text's vector is the same in any company."""


class EasyRec(TextRecommender):
    """A text encoder trained on interactions, so that a person's text lies near those of chosen items.

    It holds nothing about ids, so other people, items and data sets are answered without training.

    >>> EasyRec(tau=0.1).config.pooling
    'auto'
    """

    name = "easyrec"
    Config = EasyRecConfig
    network: TextNetwork
    sampler: ExampleSampler
    _low: tuple[Any, TextNetwork] | None = None
    _kept: Mapping[str, Tensor] = {}

    # --- building ----------------------------------------------------------------------------------------------------------------

    def learn(self, train: TrainSet, valid: Heldout | None, options: TrainingOptions) -> Recommender:
        config = self.config
        # A learning rate that ends at 0 needs its end from the start.
        per_epoch = ExampleSampler(train, config.batch_size, config.batches, config.epoch_users).n_batches
        epochs = -(-config.steps // per_epoch) if config.steps else min(config.epochs, options.epochs)
        if not config.steps and epochs < config.epochs and "epochs" in config.model_fields_set:
            warn(f"epochs = {config.epochs} is cut to {epochs}, the upper bound of the training options")
        self.total_steps = config.steps or max(epochs * per_epoch, 1)
        options = options.model_copy(update={"epochs": epochs, "clip_norm": options.clip_norm or config.clip_norm})
        if valid is not None and config.valid_users is not None:
            valid = train.some_users(valid, config.valid_users, options.seed)
        super().learn(train, valid, options)
        if config.keep:
            self._average()
            self.refresh()
            self._kept = {}
        return self

    @property
    def tells_reviews(self) -> bool:  # type: ignore[override]
        """Not where training never told of them: a review of the positive would give it away."""
        return bool(self.config.person == "profile")

    def build(self, train: TrainSet, rng: np.random.Generator) -> None:
        self.read_texts(train)
        assert self.profiles is not None  # noqa: S101 (set by read_texts)
        if self.config.valid_versions > (there := self.profiles.n_versions + 1):
            raise InputError(
                f"valid_versions = {self.config.valid_versions} and the profiles of {train.name} have {there} versions, the first included;"
                f" set valid_versions={there}, or write them again with more (lexirec profile --versions)"
            )
        if self.config.person == "others" and self.written_users.height:
            warn(
                "person = 'others' trains on people's texts by the plain writer; the users' part of the profiles' folder"
                f" ({self.written_users.height:,} users) is read in answers only (person=profile trains on it)"
            )
        earlier = None if self.config.start is None else self._earlier(train)
        if earlier is None:
            self.network, self.tokenizer = start_network(self.config)
        else:
            self.network, self.tokenizer = going_on(earlier.network, self.config), earlier.tokenizer
        self._kept = kept_weights(self.network, self.config, None if earlier is None else earlier.config) if self.config.keep else {}
        self._ready_network()
        if self.config.mlm_weight and self.tokenizer.mask is None:
            raise InputError(f"{self.config.start or self.config.encoder}: its tokenizer has no mask token; set mlm_weight=0")
        self._optimiser: torch.optim.Optimizer | None = None
        self._digest = ""
        self._sample(train)

    def _earlier(self, train: TrainSet) -> "EasyRec":
        """The run that this training goes on from."""
        from lexirec.models import load_model

        start = str(self.config.start)
        other = load_model(start)
        if not isinstance(other, EasyRec):
            raise InputError(f"start = {start!r} is a run of {other.name}; name a run of easyrec")
        refuse_leaks(f"start = {start!r}", other, train)
        return other

    def _ready_network(self) -> None:
        backbone = self.network.backbone
        if self.device.type == "cpu":
            use_float32_attention(backbone)
            fill_products(self.network)
        if self.config.dropout is not None:
            set_dropout(backbone, self.config.dropout)
        if self.config.frozen_layers is not None:
            freeze_lowest(backbone, self.config.frozen_layers)
        config = backbone.config.to_dict()
        limit = position_limit(config, backbone)
        self.read_length = min(self.config.read_length, limit or self.config.read_length)

    def _sample(self, train: TrainSet) -> None:
        """What examples are drawn from: items, users and their pools of texts."""
        config, profiles = self.config, self.profiles
        assert profiles is not None  # noqa: S101 (set by read_texts)
        self.sampler = ExampleSampler(train, config.batch_size, config.batches, config.epoch_users)
        items = [*self.item_texts]
        if config.raw and config.item_text == "profile" and RAW in profiles.items.columns:
            items.append(profiles.items[RAW].fill_null("").to_list())
        self.item_pool = TextPool(items)
        self.user_pool = TextPool([profiles.user_texts(v) for v in range(profiles.n_versions + 1)])
        self.item_tokens = TokenStore(self.item_pool.texts, self._train_tokens)
        self.user_tokens = TokenStore(self.user_pool.texts, self._train_tokens)
        self.user_items = train.offsets, train.item_index

    def _train_tokens(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, self.config.max_length)

    # --- training ----------------------------------------------------------------------------------------------------------------

    def n_batches(self, train: TrainSet) -> int:
        return self.sampler.n_batches

    def batches(self, train: TrainSet, rng: np.random.Generator) -> Iterator[TextBatch]:
        for users, positives, negatives in self.sampler.batches(rng):
            if self._optimiser is not None and self.steps_done() >= self.total_steps:
                return
            yield self.batch(users, positives, negatives, rng)

    def batch(
        self, users: NDArray[np.int64], positives: NDArray[np.int64], negatives: NDArray[np.int64], rng: np.random.Generator
    ) -> TextBatch:
        """The step of some examples: a version of each text, each distinct text once, words masked."""
        b = len(users)
        texts, places = np.unique(self.item_pool.draw(np.concatenate([positives, negatives]), rng), return_inverse=True)
        tokens, offsets = self.item_tokens.gather(texts)
        if self.config.person == "others":
            own, own_offsets = self._others_tokens(users, positives, rng)
            own_places = np.arange(b)
        else:
            own_texts, own_places = np.unique(self.user_pool.draw(users, rng), return_inverse=True)
            own, own_offsets = self.user_tokens.gather(own_texts)
        rows = np.stack([own_places, *(places.reshape(2, b) + len(own_offsets) - 1)])
        tokens, offsets = np.concatenate([own, tokens]), np.concatenate([own_offsets, offsets[1:] + own_offsets[-1]])
        masked = labels = None
        if self.config.mlm_weight and self.tokenizer.mask is not None:
            size = self.tokenizer
            masked, labels = mask_words(tokens, size.special, self.tokenizer.mask, size.vocab_size, rng, self.config.mlm_share)
        return TextBatch(users, positives, negatives, rows, tokens, offsets, masked, labels)

    def _others_tokens(
        self, users: NDArray[np.int64], positives: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of texts that are written from each user's items without the positive."""
        offsets, items = self.user_items
        histories = []
        for user, positive in zip(users.tolist(), positives.tolist(), strict=True):
            history = items[offsets[user] : offsets[user + 1]].astype(np.int64)
            others = history[history != positive]
            histories.append(others if len(others) else history)
        versions = rng.integers(0, self.config.versions + 1, len(users))
        texts = [""] * len(users)
        for version in range(self.config.versions + 1):
            rows = np.flatnonzero(versions == version)
            written = self.writer.user_texts([histories[r] for r in rows], version, taken_out=positives[rows])
            for row, text in zip(rows, written, strict=True):
                texts[row] = text
        found = self._train_tokens(texts)
        lengths = np.fromiter(map(len, found), dtype=np.int64, count=len(found))
        return np.concatenate([np.asarray(ids, dtype=np.int64) for ids in found]), np.concatenate([[0], np.cumsum(lengths)])

    def loss(self, batch: TextBatch) -> Tensor:
        contrast = self.contrast(batch)
        if not self.config.mlm_weight:
            return contrast
        return contrast + float(self.config.mlm_weight) * self.masked_words(batch)

    def contrast(self, batch: TextBatch) -> Tensor:
        """The contrast of users with positives and negatives; with ``micro_batch`` its gradient is computed part by part."""
        groups = pack_sorted(batch.lengths, self.config.batch_tokens, self.config.micro_batch or len(batch.lengths))
        place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(self.device)
        if self.config.micro_batch is None or not torch.is_grad_enabled():
            return self._contrast_of(torch.cat([self._pass(batch, group) for group in groups])[place], batch)
        states, found = [], []
        with torch.no_grad():
            for group in groups:
                states.append(self._random_state())
                found.append(self._pass(batch, group))
        vectors = torch.cat(found)[place].requires_grad_()
        value = self._contrast_of(vectors, batch)
        (gradient,) = torch.autograd.grad(value, [vectors])
        parts, after = Parts(self.network), self._random_state()
        for group, state in zip(groups, states, strict=True):
            self._set_random_state(state)  # the same dropout as in the first pass
            parts.add(self._pass(batch, group), gradient[torch.from_numpy(group).to(gradient.device)])
        self._set_random_state(after)
        return parts.total(value)

    def _contrast_of(self, vectors: Tensor, batch: TextBatch) -> Tensor:
        left_out = None
        if self.config.mask_false_negatives:
            left_out = torch.from_numpy(false_negatives(self.sampler, batch)).to(vectors.device)
        with torch.autocast(vectors.device.type, enabled=False):  # cosines rank, so they stay in float32
            users, positives, negatives = vectors[torch.from_numpy(batch.rows).to(vectors.device)]
            return user_item_contrast(users, positives, negatives, self.config.tau, left_out)

    def masked_words(self, batch: TextBatch) -> Tensor:
        """Mean cross entropy of all masked words of the batch's texts; its gradient is computed pass by pass."""
        assert batch.masked is not None and batch.labels is not None  # noqa: S101 (the batch was made with masks)
        total = int((batch.labels >= 0).sum())
        parts = Parts(self.network)
        parts.add(torch.zeros((), device=self.device))
        for group in pack_sorted(batch.lengths, self.config.batch_tokens, self.config.micro_batch or len(batch.lengths)):
            ids, mask = padded(batch.masked, batch.offsets, group, self.tokenizer.pad)
            labels, _ = padded(batch.labels, batch.offsets, group, -100)
            asked = int((labels >= 0).sum())
            if asked:
                loss = self.network.masked_word_loss(ids.to(self.device), self._on_device(mask), labels.to(self.device))
                parts.add(loss * (asked / total))
        return parts.total()

    def _pass(self, batch: TextBatch, group: NDArray[np.int64]) -> Tensor:
        ids, mask = padded(batch.tokens, batch.offsets, group, self.tokenizer.pad)
        found: Tensor = self.network(ids.to(self.device), self._on_device(mask))
        return found

    def _on_device(self, mask: Tensor | None) -> Tensor | None:
        return None if mask is None else mask.to(self.device)

    def _random_state(self) -> Tensor | None:
        if self.config.dropout == 0:
            return None
        return torch.cuda.get_rng_state() if self.device.type == "cuda" else torch.get_rng_state()

    def _set_random_state(self, state: Tensor | None) -> None:
        if state is not None:
            (torch.cuda.set_rng_state if self.device.type == "cuda" else torch.set_rng_state)(state)

    def optimiser(self) -> torch.optim.Optimizer:
        """AdamW whose rate falls in a line, read from its own step count, so that a resumed training goes on exactly."""
        config = self.config
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=config.lr, eps=1e-8, weight_decay=config.weight_decay, fused=can_fuse(weights))

        def before_step(optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            done = self.steps_done()
            rate = config.lr * max(0.0, 1 - done / self.total_steps) * min(1.0, (done + 1) / (config.warmup + 1))
            for group in optimiser.param_groups:
                group["lr"] = rate

        optimiser.register_step_pre_hook(before_step)
        self._optimiser = optimiser
        return optimiser

    def steps_done(self) -> int:
        """Optimiser steps so far, those before a resume included."""
        if self._optimiser is None:
            return 0
        return next((int(state["step"]) for state in self._optimiser.state.values() if "step" in state), 0)

    def validation(self, train: TrainSet, valid: Heldout, metrics: Sequence[str]) -> Mapping[str, float]:
        """The mean over ``valid_versions`` of the profiles; version ``v`` of the people meets version ``v`` of the items.

        With ``keep`` the averaged weights are asked, and training goes on with its own.
        """
        found, trained = [], self._average()
        if trained:
            self.forget()
        try:
            for version in range(self.config.valid_versions):
                self.use_version(version)
                found.append(super().validation(train, valid, metrics))
        finally:
            self.use_version(0)
            if trained:
                self.network.load_state_dict(trained, strict=False)
                self.forget()
        return {name: float(np.mean([values[name] for values in found])) for name in found[0]}

    @torch.no_grad()
    def _average(self) -> dict[str, Tensor]:
        """Average the weights with those that are kept, in place; returns what they were."""
        weights, share, before = self.network.state_dict(), self.config.keep, {}
        for name, kept in self._kept.items():
            before[name] = weights[name].clone()
            if weights[name].is_floating_point():
                weights[name].lerp_(kept.to(weights[name].device), share)
        return before

    # --- answering ---------------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Drop the vectors if the weights have changed since they were made."""
        digest = hashlib.sha256()
        for weight in self.network.parameters():
            digest.update(weight.detach().float().cpu().contiguous().numpy().data)
        if self._digest not in ("", digest.hexdigest()):
            self.forget()
        self._digest = digest.hexdigest()

    def knows_words(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        # A mark of a word's beginning (SentencePiece) stands before an unknown word as before a known one.
        silent = {*self.tokenizer.special, *self.tokenizer(["\u2581"], self.read_length)[0]}
        return np.array([not silent.issuperset(tokens) for tokens in self.tokenizer(texts, self.read_length)], dtype=bool)

    def reads_by(self) -> str:
        return resolve(self.config.read_precision, self.device.type)

    @torch.no_grad()
    def encode_texts(self, texts: list[str]) -> Tensor:
        network = self.reading_network()
        tokens = self.tokenizer(texts, self.read_length)
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        out = torch.empty(len(texts), network.dim)
        for length in track(np.unique(lengths), "reading texts", enabled=False):  # shown where a caller shows
            rows = np.flatnonzero(lengths == length)
            ids = torch.tensor([tokens[row] for row in rows])
            # Texts of one length need no padding and no mask, and a pass is always of one shape (the last one is filled up with its first
            # text): then a row's arithmetic is the same whatever is read with it.
            size = max(1, PASS_TOKENS // max(int(length), 1))
            for start in range(0, len(rows), size):
                part = ids[start : start + size]
                full = torch.cat([part, part[:1].expand(size - len(part), -1)]) if len(part) < size else part
                out[rows[start : start + size]] = unit(network(full.to(self.device), None)[: len(part)])
        return out

    def reading_network(self) -> TextNetwork:
        """The network in evaluation mode, with the present weights in the precision that texts are read in."""
        self.network.eval()
        if self.reads_by() == "float32":
            return self.network
        state = (id(self.network), sum(weight._version for weight in self.network.parameters()))
        if self._low is None or self._low[0] != state:
            # A copy in bfloat16 instead of casting at each product: half again as fast.
            low = copy.deepcopy(self.network).bfloat16()
            if self.device.type == "cpu":
                low.backbone.set_attn_implementation("sdpa")  # in float32 it is only faster backwards
            self._low = state, low
        return self._low[1]

    def transfer(self, train: TrainSet) -> "EasyRec":
        """The trained encoder on another data set: its texts, no training (zero-shot)."""
        self._check_fitted()
        other = EasyRec(self.on_another(train))
        other.device = self.device
        other.remember(train)
        other.read_texts(train)
        other.network, other.tokenizer, other.read_length, other._digest = self.network, self.tokenizer, self.read_length, self._digest
        other._fitted = True
        return other

    # --- saving ------------------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().state()
        own = self.network
        network = {
            "backbone": config_state(own.backbone),
            "pooling": own.pooling,
            "head": own.head is not None,
            "decoder": own.decoder_kind,
        }
        return tensors, {**values, "network": network, "tokenizer": self.tokenizer.state()}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        made = values["network"]
        self.network = TextNetwork(backbone_from(made["backbone"]), made["pooling"], made["head"], made["decoder"])
        self.tokenizer = Tokenizer.restored(values["tokenizer"])
        self._ready_network()
        self._optimiser = None
        self._digest = ""


__all__ = ["EasyRec", "EasyRecConfig"]
