"""Settings of LLMEmb."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lexirec.models.backbones import BackboneConfig
from lexirec.models.stages import READ_BY_THE_TEACHER
from lexirec.models.textual import ProfileFolders
from lexirec.text.prompts import CUT, PROFILE, STYLES
from lexirec.training.scft_config import ScftConfig

PLAIN = "plain"
"""Profiles that are written here, without a language model."""
CUTTING = tuple(name for name, style in STYLES.items() if style.cut is not None and name != "general")
"""Official prompts that cut values."""
PROMPTS = {"style": "prompt", "columns": "columns", "instruction": "instruction", "max_characters": "max_characters"}
"""Settings of the prompts: stage 1's name and this model's."""


class LLMEmbConfig(BackboneConfig):
    """Settings of LLMEmb."""

    items: Literal["text", "id+text"] = "text"
    """``text`` as published; ``id+text`` adds a vector of its own to each item (not in the paper)."""
    scft: ScftConfig | None = ScftConfig()
    """Stage 1; ``null`` takes the encoder as it is (the paper's "without SCFT", or an encoder tuned before)."""
    text: Literal["prompt"] = "prompt"
    """Items are read as attribute prompts; which attributes is said by ``columns``."""
    prompt: Literal["general", "beauty", "fashion", "yelp"] = "general"
    """Style of the attribute prompts of both stages, see :func:`~lexirec.text.prompts.attribute_prompts`."""
    columns: tuple[str, ...] | None = None
    """Attributes in the prompts; all but ids and links if not given."""
    instruction: str | None = None
    """In place of the style's first line."""
    max_characters: PositiveInt = CUT
    """Where the general style cuts a value; a profile is read whole."""
    profiles: ProfileFolders = ()
    """One more attribute of each item, ``profile``, which tells what the training part knows of it (not in the paper): ``plain`` writes it
    here without a language model, a folder of ``lexirec profile`` has what was written from this training part. That of a new item and of a
    wish is written without a language model and tells what it says itself."""
    teacher: str | None = "sasrec"
    """Whose item vectors the adapter is aligned with: ``sasrec`` (trained first, on the same data, with the same settings but two blocks
    of the kind ``original`` and dropout .5, for every backbone), a run folder of any model with item vectors of ``embedding_dim``, or
    ``null``."""
    align_weight: NonNegativeFloat = 0.01
    """``alpha`` of the paper; 0: without alignment."""
    align_tau: PositiveFloat = 2.0
    """Temperature of the alignment. The published 2 is for inner products of vectors without a bound: with ``cosine=true`` both sides have
    unit length, soft targets at 2 are then nearly uniform, and a temperature near that of the loss (.05 to .2) is needed."""
    align_loss: Literal["soft_clip", "infonce"] = "soft_clip"
    """``soft_clip`` as in the code, on inner products; ``infonce`` on cosines."""
    align_unique: bool = False
    """Whether each item of a batch counts once; in the code it counts at each of its places."""
    align_cap: PositiveInt | None = None
    """Places per step that are aligned at most, drawn at random: the contrast is their square."""
    zero_last_item: bool = False
    """Give the last item no text vector, as the released SASRec and GRU4Rec do by mistake."""

    @model_validator(mode="after")
    def _no_cut_profiles(self) -> "LLMEmbConfig":
        if self.profiles and self.prompt in CUTTING:
            raise ValueError(
                f"prompt = {self.prompt!r} cuts each value at {CUT} characters, where a profile has hardly begun; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _one_prompt(self) -> "LLMEmbConfig":
        for inner, outer in PROMPTS.items():
            value = None if self.scft is None else getattr(self.scft, inner)
            if self.scft is not None and value not in (ScftConfig.model_fields[inner].default, getattr(self, outer)):
                raise ValueError(f"scft.{inner} = {value!r}: both stages read the same prompts; set {outer} instead")
        return self

    @property
    def read_elsewhere(self) -> frozenset[str]:
        return READ_BY_THE_TEACHER if self.teacher == "sasrec" and self.aligns else frozenset()

    @property
    def told(self) -> tuple[str, ...]:
        """Attributes of the prompts that the catalogue hasn't."""
        return (PROFILE,) if self.profiles else ()

    @property
    def fixed(self) -> bool:
        """Whether item vectors are text vectors as they are, so that nothing about them is learned."""
        return self.items == "text" and self.adapter == "none" and self.freeze_text

    @property
    def aligns(self) -> bool:
        """Whether generated vectors are aligned with a teacher's."""
        return self.teacher is not None and self.align_weight > 0 and not self.fixed

    def unread(self) -> dict[str, str]:
        found = super().unread()
        if self.encoder.startswith("file:"):
            found |= dict.fromkeys(("prompt", "columns", "instruction", "max_characters", "profiles"), f"encoder = {self.encoder!r}")
        if self.prompt != "general":
            found["max_characters"] = f"prompt = {self.prompt!r}"
        if self.fixed:
            where = "adapter = 'none', which leaves text vectors as they are"
            found |= dict.fromkeys(("teacher", "align_weight", "align_tau", "align_loss", "align_unique", "align_cap"), where)
        elif not self.aligns:
            where = "teacher = None" if self.teacher is None else "align_weight = 0"
            found |= dict.fromkeys(("align_tau", "align_loss", "align_unique", "align_cap"), where)
            if self.teacher is None and self.align_weight:
                found["align_weight"] = where
            elif self.teacher is not None:
                found["teacher"] = where
        return found


__all__ = ["PLAIN", "PROMPTS", "LLMEmbConfig"]
