"""Supervised contrastive fine-tuning (SCFT) of a text encoder on items' attributes, as the training loop drives it.

attribute phrases -> two views (shuffled, some dropped) -> encoder -> pooling -> contrast of the two views within the batch

Source: LLMEmb (arXiv 2409.19925), stage 1; official code commit 3458a5e. Gradient caching: Gao et al., arXiv 2101.06983.

How this differs from the official code: texts are tokenised as the encoder will read them later (its own special tokens, no added end
token), the encoder's own dropout is off by default (the views differ by their attributes already), small encoders are tuned in full,
views can be drawn anew at each step, and a contrast may be larger than what memory holds at once.

Low-rank adapters are merged into the weights when saved: the folder is an ordinary model that ``hf:`` reads, without peft.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lexirec.data.messages import shown, warn
from lexirec.errors import InputError, LexirecError
from lexirec.files import write_json
from lexirec.losses import soft_clip, symmetric_infonce
from lexirec.text.encoders.batching import plan_batches
from lexirec.text.encoders.families import is_causal
from lexirec.text.encoders.transformer import TransformerEncoder
from lexirec.text.prompt_vectors import warn_of_cut_prompts
from lexirec.text.prompts import Prompts, drop_attributes
from lexirec.training.gradients import gradients_are_finite
from lexirec.training.products import fill_products
from lexirec.training.scft_config import ScftConfig
from lexirec.training.tuned_encoder import RECIPE
from lexirec.training.weights import add_adapters, can_fuse, pack_sorted, save_weights, set_dropout, use_float32_attention

LORA_LR, FULL_LR = 2e-4, 2e-5


@dataclass(frozen=True)
class Batch:
    """Token ids of a step: the first views of its items, then the second ones.

    Attributes:
        rows: ``(B,)`` places in ``prompts``.
        tokens: ``2 B`` lists of token ids.
    """

    rows: NDArray[np.int64]
    tokens: list[list[int]]


class TunedWeights(nn.Module):
    """The weights that are trained, and the temperature: what a checkpoint holds. The frozen base is read from its own folder."""

    def __init__(self, model: nn.Module, tau: float, learn_tau: bool) -> None:
        super().__init__()
        self._model = [model]  # in a list, so that its frozen weights aren't part of the state
        self.tuned = nn.ParameterList([p for p in model.parameters() if p.requires_grad])
        device = next(model.parameters()).device
        self.tau = nn.Parameter(torch.tensor(tau, device=device), requires_grad=learn_tau)

    def train(self, mode: bool = True) -> "TunedWeights":
        super().train(mode)
        self._model[0].train(mode)
        return self


class Scft:
    """The fine-tuning as the loop drives it.

    Args:
        prompts: of items that all have an attribute.
        config: settings.
        base: the encoder to tune, which nobody else uses: its weights are changed in place.
        seed: of adapters and cached views.
        epochs: passes over the catalogue.

    Attributes:
        network: see :class:`TunedWeights`.
        total_steps: optimiser steps after which the learning rate is 0.
        peft: the model inside its adapters, or ``None``.
    """

    stage = "stage 1, tuning the encoder"

    def __init__(self, prompts: Prompts, config: ScftConfig, base: TransformerEncoder, *, seed: int = 1, epochs: int = 1) -> None:
        self.prompts, self.config, self.base = prompts, config, base
        if len(prompts) < 2:
            raise InputError(f"fine-tuning contrasts items with each other and {len(prompts)} has attributes; at least 2 are needed")
        if config.batch_size < 2:
            raise InputError("batch_size is 1; a contrast needs at least 2 items")
        _, model = base.load()
        base._position_rule()  # found by trying, on the untouched model
        if base.device == "cpu":
            use_float32_attention(model)
            fill_products(model)
        if config.dropout is not None:
            set_dropout(model, config.dropout)
        lora = is_causal(base.config) if config.lora == "auto" else config.lora
        torch.manual_seed(seed)
        self.peft = add_adapters(model, config.lora_r, config.lora_alpha, config.lora_dropout, config.lora_targets) if lora else None
        for name, parameter in model.named_parameters():
            if name.startswith("pooler."):
                parameter.requires_grad = False  # not read by mean or last pooling
        if config.gradient_checkpointing:
            if not getattr(model, "supports_gradient_checkpointing", False):
                raise InputError(f"{base.name} has no gradient checkpointing; use micro_batch to save memory")
            # Renamed in transformers 5; the old name warns there.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        weights = TunedWeights(model, config.temperature, config.loss == "soft_clip" and config.learn_tau)
        self.network: nn.Module = weights
        self.tau: Tensor = weights.tau
        # Dropout draws once per pass: only then must the second pass of gradient caching repeat the first's draws.
        self._draws = config.dropout != 0 or any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
        self.lr = config.lr or (LORA_LR if lora else FULL_LR)
        self._droppable = [prompts.droppable(row) for row in range(len(prompts))]
        self._cached: list[tuple[list[str], list[str]]] | None = None
        if config.views == "cached":
            rng = np.random.default_rng([seed, 0])
            self._cached = [drop_attributes(phrases, config.attribute_dropout, rng) for phrases in self._droppable]
        self.total_steps = config.steps or epochs * self.n_batches()
        self._optimiser: torch.optim.Optimizer | None = None
        self._step_rows = np.zeros(0, dtype=np.int64)
        self._bad_rows: NDArray[np.int64] | None = None
        self._check_prompts()

    def _check_prompts(self) -> None:
        n = len(self.prompts)
        still = sum(int(len(phrases) * self.config.attribute_dropout) == 0 for phrases in self._droppable)
        if self.config.attribute_dropout > 0 and 2 * still > n:
            warn(
                f"attribute_dropout={self.config.attribute_dropout} drops nothing from {still:,} of {n:,} items, which have too few "
                "attributes (their views differ by order only); add columns, or use style=general, which takes each category level"
            )
        warn_of_cut_prompts(self.prompts, self.base)

    # --- what the loop asks for ------------------------------------------------------------------------------------------------------

    def batches(self, train: Any, rng: np.random.Generator) -> Iterator[Batch]:
        """Shuffled items with their two views; a last batch of one item is left out."""
        order = rng.permutation(len(self.prompts))
        for start in range(0, len(order), self.config.batch_size):
            rows = order[start : start + self.config.batch_size]
            if len(rows) < 2 or (self._optimiser is not None and self.steps_done() >= self.total_steps):
                return
            yield self.batch(rows, rng)

    def batch(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """The step of some items."""
        if self._cached is not None:
            views = [self._cached[row] for row in rows]
        else:
            views = [drop_attributes(self._droppable[row], self.config.attribute_dropout, rng) for row in rows]
        texts = [self.prompts.text(view[side]) for side in (0, 1) for view in views]
        return Batch(np.asarray(rows, dtype=np.int64), self.base.tokenize(texts))

    def n_batches(self, train: Any = None) -> int:
        """Batches of a pass."""
        whole, rest = divmod(len(self.prompts), self.config.batch_size)
        return whole + (rest >= 2)

    def loss(self, batch: Batch) -> Tensor:
        """The contrast of a step; with ``micro_batch``, its backward pass runs the encoder again, a part at a time."""
        self._step_rows, self._bad_rows = batch.rows, None
        groups = self.groups(batch.tokens)
        place = torch.from_numpy(np.argsort(np.concatenate(groups)))
        if self.config.micro_batch is None:
            vectors = torch.cat([self._embed(batch, group) for group in groups])[place]  # (2 B, D)
            vectors.register_hook(self._watch)
            return self._contrast(vectors, batch)
        states, parts = [], []
        with torch.no_grad():
            for group in groups:
                states.append(self._random_state())
                parts.append(self._embed(batch, group))
        vectors = torch.cat(parts)[place].requires_grad_()  # (2 B, D)
        kind = vectors.device.type
        mixed, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def again(gradient: Tensor) -> None:
            self._watch(gradient)
            after = self._random_state()
            for group, state in zip(groups, states, strict=True):
                self._set_random_state(state)
                with torch.enable_grad(), torch.autocast(kind, dtype=dtype, enabled=mixed):
                    part = self._embed(batch, group)
                torch.autograd.backward(part, gradient[torch.from_numpy(group).to(gradient.device)])
            self._set_random_state(after)

        vectors.register_hook(again)
        return self._contrast(vectors, batch)

    def optimiser(self) -> torch.optim.Optimizer:
        """AdamW whose rate falls in a line, read from its own step count, so that a resumed training goes on exactly."""
        weights = [p for p in self.network.parameters() if p is not self.tau]
        groups: list[dict[str, Any]] = [{"params": weights}, {"params": [self.tau], "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=self.lr, eps=1e-8, weight_decay=self.config.weight_decay, fused=can_fuse(weights))

        def before_step(optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            left = max(0.0, 1 - self.steps_done() / self.total_steps)
            for group, rate in zip(optimiser.param_groups, (self.lr, self.config.tau_lr), strict=True):
                group["lr"] = rate * left

        optimiser.register_step_pre_hook(before_step)
        self._optimiser = optimiser
        return optimiser

    def refresh(self) -> None:
        """Nothing is cached between epochs."""

    # --- parts -----------------------------------------------------------------------------------------------------------------------

    def steps_done(self) -> int:
        """Optimiser steps so far, those before a resume included."""
        if self._optimiser is None:
            return 0
        return next((int(state["step"]) for state in self._optimiser.state.values() if "step" in state), 0)

    def groups(self, tokens: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
        """Texts that go through the encoder together: of like length, at most ``batch_tokens`` tokens and ``micro_batch`` texts."""
        lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
        most = self.config.micro_batch or len(tokens)
        if not self.base._pads():
            plan = plan_batches(lengths, self.config.batch_tokens, pad=False)
            return [group[start : start + most] for group in plan for start in range(0, len(group), most)]
        return pack_sorted(lengths, self.config.batch_tokens, most)

    def _embed(self, batch: Batch, group: NDArray[np.int64]) -> Tensor:
        """Pooled vectors ``(n, D)`` float32 of some texts; refuses NaN and infinity, naming the items."""
        vectors = self.base._forward([batch.tokens[i] for i in group])
        finite = torch.isfinite(vectors.detach()).all(dim=1)
        if not bool(finite.all()):
            bad = batch.rows[np.unique(group[~finite.cpu().numpy()] % len(batch.rows))]
            raise self._not_finite("vectors", bad)
        return vectors

    def _contrast(self, vectors: Tensor, batch: Batch) -> Tensor:
        tau = self.tau
        if float(tau.detach()) <= 0:
            raise LexirecError(f"the learned temperature fell to {float(tau.detach()):.3g}; lower lr, or set learn_tau=false")
        with torch.autocast(vectors.device.type, enabled=False):
            first, second = vectors.float().chunk(2)
            loss = (soft_clip if self.config.loss == "soft_clip" else symmetric_infonce)(first, second, tau)
        if not bool(torch.isfinite(loss.detach())):
            norms = vectors.detach().norm(dim=1).view(2, -1).amax(dim=0)
            raise self._not_finite(f"products (norms up to {float(norms.max()):.3g})", batch.rows[int(norms.argmax())][None])
        return loss

    def _watch(self, gradient: Tensor) -> None:
        """Remember whose vectors got a gradient that is not finite; the weights' gradients are refused before the step."""
        bad = ~torch.isfinite(gradient).all(dim=1)
        if bool(bad.any()):
            self._bad_rows = self._step_rows[np.unique(np.flatnonzero(bad.cpu().numpy()) % len(self._step_rows))]

    def check_gradients(self) -> None:
        """Before a step.

        Raises:
            LexirecError: with the items whose vectors' gradients are NaN or infinite.
        """
        if not gradients_are_finite(self.network):
            raise self._not_finite("gradients", self._step_rows if self._bad_rows is None else self._bad_rows)

    def _not_finite(self, what: str, rows: NDArray[np.int64]) -> LexirecError:
        ids = pl.Series([self.prompts.item_ids[row] for row in rows], dtype=pl.String)
        return LexirecError(
            f"NaN or infinite {what} in step {self.steps_done() + 1} for {len(ids):,} of its {len(self._step_rows):,} items (item_id "
            f"{shown(ids)}); the weights were not changed by it and the last checkpoint is kept: use precision='fp32', a lower lr, or set "
            "clip_norm"
        )

    def _random_state(self) -> tuple[Tensor, ...]:
        if not self._draws:
            return ()
        return (torch.get_rng_state(), *((torch.cuda.get_rng_state(),) if self.base.device.startswith("cuda") else ()))

    def _set_random_state(self, state: tuple[Tensor, ...]) -> None:
        if state:
            torch.set_rng_state(state[0])
        if len(state) > 1:
            torch.cuda.set_rng_state(state[1])

    def save(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        """Write weights (adapters merged), configuration, tokenizer and recipe into an existing folder."""
        tokenizer, model = self.base.load()
        if self.peft is not None:
            model = self.peft.merge_and_unload()
        weights = model.state_dict()
        if getattr(model, "lexirec_pooler_is_random", False):
            weights = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
        save_weights(folder, model, weights)
        tokenizer.save_pretrained(folder)
        write_json(folder / RECIPE, dict(recipe))
