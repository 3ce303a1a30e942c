"""How to train, as opposed to what (which is the model's configuration)."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from lexirec.errors import InputError, nearest
from lexirec.settings import given_singly, refused


class TrainingOptions(BaseModel):
    """Options of one training; never part of a saved model's behaviour.

    ``seed`` fixes initial weights, batches and dropout; on the CPU the same seed, threads and versions give the same bits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: NonNegativeInt = 500
    """Upper bound on epochs."""
    eval_every: PositiveInt = 5
    """Epochs between validations."""
    patience: PositiveInt = 10
    """Validations without a better value before training stops."""
    monitor: str = "ndcg@20"
    """Validation metric that selects the best epoch (expected value over ties)."""
    mask_seen: bool = True
    """Whether validation leaves out the items that a user has already."""
    seed: NonNegativeInt = 1
    """Seed of everything random."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16``: matrix products in bfloat16, weights and scores in float32. On a processor the sequential models have it in cross entropy
    over all items alone, where it pays."""
    threads: PositiveInt | None = None
    """CPU threads; all cores if not given."""
    clip_norm: PositiveFloat | None = None
    """Largest gradient norm; no clipping if not given."""
    max_minutes: PositiveFloat | None = None
    """Stop training at the step in which this time is over, validate there, and say so in the result.

    It bounds the training proper, validations between its epochs included. Reading and encoding, stages before the training (they have
    epochs of their own, and what they make is kept and taken up again, so it must be whole), the last validation and the test come on top.
    """
    folder: Path | None = None
    """Where ``metrics.jsonl`` and ``checkpoints/`` go; nothing is written if not given."""
    resume: bool = False
    """Go on from ``folder``'s last checkpoint, with the same bits as without the interruption (on the CPU, with as many threads)."""
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Further logs (extra ``track``)."""
    progress: bool = True
    """Progress on stderr."""

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in type(self).model_fields:
                known = type(self).model_fields
                raise InputError(f"there is no training option {name!r}{nearest(name, known)}; there are {', '.join(known)}")
        try:
            super().__init__(**options)
        except ValidationError as error:
            singles = given_singly(error)
            if not singles:
                raise refused(type(self), error) from None
            super().__init__(**{**options, **singles})
