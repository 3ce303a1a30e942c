"""What every model's settings have in common, and what a model says that it can be asked with."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from lexirec.settings import parse_settings

LENIENT: ContextVar[bool] = ContextVar("lenient", default=False)
"""True while a saved model is read: what was accepted when it was made is accepted still."""


class ModelConfig(BaseModel):
    """Settings of a model: typed, ranges in the type, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> "ModelConfig":
        """Build from a mapping.

        Raises:
            InputError: for an unknown key (nearest name offered) or a value out of range.
        """
        return parse_settings(cls, settings, f"{cls.__name__} has no setting")

    @classmethod
    def taken_from(cls, settings: Mapping[str, Any]) -> "ModelConfig":
        """The configuration that has the settings of another model, as far as this one has and reads them."""
        own = {name: value for name, value in settings.items() if name in cls.model_fields}
        token = LENIENT.set(True)
        try:
            unread = cls.parse(own).unread()
        finally:
            LENIENT.reset(token)
        return cls.parse({name: value for name, value in own.items() if name not in unread})

    def unread(self) -> dict[str, str]:
        """Settings that nothing reads beside the others, each with what makes it so; giving one is refused."""
        return {}

    @model_validator(mode="after")
    def _all_is_read(self) -> "ModelConfig":
        for name, where in () if LENIENT.get() else self.unread().items():
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(f"{name} = {value!r} has no effect with {where}; leave it out")
        return self


@dataclass(frozen=True)
class Supports:
    """What a model can be asked with; what it can't is a named error, never silent zeros.

    Attributes:
        user_id: a user of the training log (hot).
        history: item ids of someone new (warm).
        intent, profile: words.
        new_items: items added by their text after training (cold).
    """

    user_id: bool = True
    history: bool = False
    intent: bool = False
    profile: bool = False
    new_items: bool = False


__all__ = ["LENIENT", "ModelConfig", "Supports"]
