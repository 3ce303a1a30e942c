"""What is known of a person at the moment of asking; one type for evaluation, batches and the live service."""

from collections.abc import Sequence
from dataclasses import dataclass

from lexirec.errors import InputError


@dataclass(frozen=True, slots=True)
class Query:
    """All that is known of a person, any subset of four things.

    Attributes:
        user_id: id of a user of the training log (hot).
        history: item ids, oldest first (warm). Any sequence of strings, a Polars series included.
        intent: a wish in words.
        profile: a description of the person in words.
        alpha: weight of the words against the person, in [0, 1]; ``None`` leaves it to the model. Used only where words
            and a person (``user_id`` or ``history``) are both given.

    Raises:
        InputError: if ``alpha`` is outside [0, 1], or ``history`` is a bare string.

    >>> Query(history=["B001", "B002"], intent="a gift for a gardener", alpha=0.5).intent
    'a gift for a gardener'
    """

    user_id: str | None = None
    history: Sequence[str] | None = None
    intent: str | None = None
    profile: str | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.history, str):
            raise InputError(f"history is the string {self.history!r}; give a list of item ids, oldest first")
        if self.alpha is not None and not 0.0 <= self.alpha <= 1.0:
            raise InputError(f"alpha is {self.alpha}; it is the weight of the wish and lies in [0, 1]")

    @property
    def words(self) -> str | None:
        """The wish, else the profile, else ``None``; blank text counts as absent."""
        for text in (self.intent, self.profile):
            if text is not None and text.strip():
                return text
        return None
