"""Settings of the fine-tuning of an encoder (SCFT)."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lexirec.settings import parse_settings
from lexirec.text.prompts import CUT

ADAPTERS = ("lora_r", "lora_alpha", "lora_dropout", "lora_targets")
"""Settings of low-rank adapters."""


class ScftConfig(BaseModel):
    """Settings of the fine-tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    style: Literal["general", "beauty", "fashion", "yelp"] = "general"
    """How the attribute prompts are written (:func:`lexirec.text.prompts.attribute_prompts`)."""
    instruction: str | None = None
    """In place of the style's first line."""
    columns: tuple[str, ...] | None = None
    """Attributes to use; all but ids and links if not given."""
    max_characters: PositiveInt = CUT
    """Where the general style cuts a value."""
    attribute_dropout: float = Field(default=0.4, ge=0, lt=1)
    """Share of an item's attributes that each view drops, rounded down."""
    views: Literal["cached", "redrawn"] = "cached"
    """``cached``: an item's two views are drawn once (the official code); ``redrawn``: at each step."""
    loss: Literal["soft_clip", "infonce"] = "soft_clip"
    """``soft_clip``: soft targets on inner products (the official code); ``infonce``: one partner, cosine (as the paper words it)."""
    tau: PositiveFloat | None = None
    """Temperature; 3 for ``soft_clip``, 0.05 for ``infonce`` if not given."""
    learn_tau: bool = True
    """Whether ``soft_clip`` learns its temperature from there (the official code does); ``infonce`` keeps it."""
    tau_lr: PositiveFloat = 2e-4
    """Learning rate of the temperature, falling in a line as that of the weights does; the official code has 2e-4 for both."""
    pooling: Literal["mean", "last"] = "mean"
    """Mean over tokens, or the last token (causal models)."""
    normalize: bool = False
    """Whether the tuned encoder gives unit vectors; the losses see them as they are in either case."""
    lora: bool | Literal["auto"] = "auto"
    """Low-rank adapters instead of all weights; ``auto``: for causal language models."""
    lora_r: PositiveInt = 8
    """Rank of the adapters."""
    lora_alpha: PositiveFloat = 32.0
    """Adapters are scaled by ``lora_alpha / lora_r``."""
    lora_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in front of the adapters."""
    lora_targets: tuple[str, ...] = ()
    """Last parts of the names of the layers to adapt (``q_proj``); empty: all projections of attention and MLP."""
    dropout: float | None = Field(default=0.0, ge=0, lt=1)
    """The encoder's own dropout while it is tuned; ``null`` keeps the one it was made with. 0 is much faster on a CPU."""
    batch_size: PositiveInt = 64
    """Items of a contrast."""
    micro_batch: PositiveInt | None = None
    """Texts with a graph in memory at a time (gradient caching: one more forward pass, any batch size); ``null``: all of the batch."""
    batch_tokens: PositiveInt = 4096
    """Most tokens of one pass through the encoder; texts of like length share a pass."""
    max_length: PositiveInt = 256
    """Most tokens of a prompt."""
    gradient_checkpointing: bool = False
    """Keep only each block's input for the backward pass and compute the rest again."""
    lr: PositiveFloat | None = None
    """Learning rate at the start, falling in a line to 0; 2e-4 with adapters, 2e-5 without if not given."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's."""
    epochs: PositiveInt = 10
    """Passes over the catalogue (``TrainingOptions.epochs`` is an upper bound on it)."""
    steps: PositiveInt | None = None
    """Optimiser steps instead of ``epochs``."""

    @model_validator(mode="after")
    def _all_is_read(self) -> "ScftConfig":
        unread: dict[str, str] = {}
        if self.lora is False:
            unread |= dict.fromkeys(ADAPTERS, "lora = False")
        if self.loss == "infonce":
            unread |= dict.fromkeys(("learn_tau", "tau_lr"), "loss = 'infonce'")
        elif not self.learn_tau:
            unread["tau_lr"] = "learn_tau = False"
        if self.style != "general":
            unread["max_characters"] = f"style = {self.style!r}"
        if self.steps is not None:
            unread["epochs"] = f"steps = {self.steps}"
        for name, where in unread.items():
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {value!r} has no effect with {where}; leave it out")
        return self

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> "ScftConfig":
        """Build from a mapping.

        Raises:
            InputError: for an unknown key (nearest name offered) or a value out of range.
        """
        return parse_settings(cls, settings, "fine-tuning has no setting")

    @property
    def temperature(self) -> float:
        """``tau``, or the loss's own start."""
        return self.tau or {"soft_clip": 3.0, "infonce": 0.05}[self.loss]

    @property
    def reading(self) -> dict[str, Any]:
        """How a text becomes a vector, as :func:`~lexirec.training.weights.base_encoder` takes it."""
        return {"pooling": self.pooling, "max_length": self.max_length, "normalize": self.normalize}
