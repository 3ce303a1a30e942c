"""What is known of a person at the moment of asking; one type for evaluation, batches and the live service."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from lexirec.errors import InputError


def as_id(value: Any, place: str) -> str:
    """One id as text, by the rule of :func:`lexirec.data.checks.as_ids`: ``12``, ``12.0`` and ``"12"`` are one id.

    Args:
        value: text, bytes or a whole number, those of NumPy and pandas included.
        place: where it stands, for the message.

    Raises:
        InputError: for a missing or empty id, a float that is not whole, and anything else.

    >>> as_id(12.0, "user_id"), as_id("012", "user_id")
    ('12', '012')
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: the bytes {value!r} are not UTF-8; give text") from error
    if isinstance(value, str):
        if not value:
            raise InputError(f"{place}: the id is empty; give an id, or leave it out")
        return str(value)
    number_like = isinstance(value, Real) and not isinstance(value, bool)
    if number_like and isinstance(value, Integral):
        return str(int(value))
    if number_like:
        number = float(value)
        if number.is_integer() and abs(number) <= 2**53:
            return str(int(number))
        missing = number != number
    else:
        missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    if missing:
        raise InputError(f"{place}: an id is missing ({value!r}); drop it or fill it")
    raise InputError(f"{place}: {str(value)[:60]!r} ({type(value).__name__}) is no id; give text or a whole number")


def as_text(text: str) -> str:
    """A text without lone surrogates (half a character, of a string cut in the middle), which nothing can write or take apart.

    >>> as_text("a gift" + chr(0xD83C))
    'a gift?'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def as_id_list(values: Any, place: str) -> list[str]:
    """Ids as a list of text; ``values`` is any sequence, array or column of a table.

    Raises:
        InputError: for a single id, something without an order, or an id that :func:`as_id` refuses.

    >>> as_id_list((3, "4", 5.0), "history")
    ['3', '4', '5']
    """
    if isinstance(values, (str, bytes)):
        raise InputError(f"{place} is the string {values!r}; give a list of item ids{', oldest first' if place == 'history' else ''}")
    if not isinstance(values, Iterable) or isinstance(values, (Mapping, Set)):
        raise InputError(f"{place} is {str(values)[:60]!r} ({type(values).__name__}); give a list of item ids")
    for method in ("to_list", "tolist", "to_pylist"):  # Polars and pandas; NumPy; Arrow
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    ids = values if isinstance(values, list) else list(values)
    if all(type(value) is str and value for value in ids):
        return ids
    return [as_id(value, place) for value in ids]


@dataclass(frozen=True, slots=True)
class Query:
    """All that is known of a person, any subset of four things.

    Attributes:
        user_id: id of a user of the training log (hot). Whole numbers become text, as in the log.
        history: item ids, oldest first (warm). Any sequence, array or column of a table; kept as a list of text. Beside a ``user_id`` it is
            what this person has *now*, a basket or a session, and the answer is made from it; the user's stored items are then only left
            out of what is shown. A model that reads no histories answers for the user.
        intent: a wish in words; lone surrogates are replaced.
        profile: a description of the person in words; beside a wish the two are read as one text.
        alpha: weight of the words against the person, in [0, 1]; ``None`` leaves it to the model. Used only where words
            and a person (``user_id`` or ``history``) are both given.

    Raises:
        InputError: if ``alpha`` is outside [0, 1], ``history`` is a bare string, an id is none, or a text is not text.

    >>> Query(history=["B001", "B002"], intent="a gift for a gardener", alpha=0.5).intent
    'a gift for a gardener'
    >>> Query(user_id=7, history=[3, 4.0]).history
    ['3', '4']
    """

    user_id: str | None = None
    history: Sequence[str] | None = None
    intent: str | None = None
    profile: str | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.user_id is not None and (type(self.user_id) is not str or not self.user_id):
            object.__setattr__(self, "user_id", as_id(self.user_id, "user_id"))
        if self.history is not None:
            object.__setattr__(self, "history", as_id_list(self.history, "history"))
        given: list[tuple[str, Any]] = [("intent", self.intent), ("profile", self.profile)]
        for name, text in given:
            if text is not None and not isinstance(text, str):
                raise InputError(f"{name} is {str(text)[:60]!r} ({type(text).__name__}); give words")
            if text is not None:
                object.__setattr__(self, name, as_text(text))
        alpha: Any = self.alpha
        if alpha is not None and (not isinstance(alpha, Real) or not 0.0 <= float(alpha) <= 1.0):
            raise InputError(f"alpha is {self.alpha!r}; it is the weight of the wish and lies in [0, 1]")

    @property
    def texts(self) -> dict[str, str]:
        """Those of ``intent`` and ``profile`` that are given, by these names; blank text counts as absent."""
        given = {"intent": self.intent, "profile": self.profile}
        return {name: text for name, text in given.items() if text is not None and text.strip()}

    @property
    def words(self) -> str | None:
        """All words as one text, the wish before the profile; ``None`` without any.

        >>> Query(intent="a warm hat", profile="Hikes in winter.").words
        'a warm hat. Hikes in winter.'
        """
        texts = list(self.texts.values())
        if len(texts) < 2:
            return texts[0] if texts else None
        wish = texts[0].strip()
        return f"{wish}{'' if wish[-1] in '.!?' else '.'} {texts[1].strip()}"


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer is made from.

    Attributes:
        parts: ``"user"`` or ``"history"`` first, where a person is known, then ``"words"``; of a hybrid ``"bm25"`` besides. Nothing:
            popularity.
        reason: why it is popularity.

    >>> str(Basis(("user", "words"))), str(Basis(reason="nothing is known"))
    ('user+words', 'popularity')
    """

    parts: tuple[str, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        return "+".join(self.parts) or "popularity"

    @property
    def person(self) -> str:
        """``"user"``, ``"history"`` or nothing."""
        return self.parts[0] if self.parts and self.parts[0] in ("user", "history") else ""

    @property
    def words(self) -> bool:
        """Whether words are read."""
        return "words" in self.parts


def as_query(query: Any) -> Query:
    """A query as it is; an id is that of a user.

    Raises:
        InputError: for anything else, as a mapping or a list.

    >>> as_query(12) == Query(user_id="12")
    True
    """
    if isinstance(query, Query):
        return query
    if isinstance(query, (Mapping, list, tuple)):
        raise InputError(f"{str(query)[:60]} is of type {type(query).__name__}; write Query(user_id=..., history=..., intent=...)")
    return Query(user_id=as_id(query, "user_id"))
