"""One prompt and one answer: messages, what comes back, how it is checked, and what a server's errors say."""

import email.utils
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from lexirec.text.encoders.api import SECRET_CHARACTERS, redacted
from lexirec.text.llm_budget import likely_tokens
from lexirec.text.llm_cache import Answer

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Parse = Callable[[str], T]
"""Turns an answer into a value, or raises :class:`ValueError` saying what is wrong with it."""


@dataclass(frozen=True)
class Prompt:
    """A system message (instructions) and a user message (data).

    Attributes:
        likely_words: words expected in the answer, for estimates of cost.
    """

    system: str
    user: str
    likely_words: int = 100

    def messages(self) -> list[dict[str, str]]:
        """In the protocol's form."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class Result(Generic[T]):
    """The checked answer to a prompt, or why there is none.

    Attributes:
        value: what the parser made of the answer; ``None`` if there is none.
        error: why not; ``None`` if there is a value.
    """

    value: T | None
    error: str | None = None


ENDED = frozenset({"stop", "end_turn", "eos", "eos_token", "stop_sequence"})
"""What servers call the end of a whole answer (``finish_reason``), if they say anything."""
Check = Callable[[Answer], Result[T]]
"""Turns what a server said into a result."""


class NotTheProtocolError(Exception):
    """A body that is no chat completion: truncated, or another kind of server."""


def read_answer(content: bytes, messages: list[dict[str, str]]) -> Answer:
    """The answer in a response's body, read without the client's typed objects, which cost as much time as a request.

    Args:
        content: the body.
        messages: what was asked, for an estimate of its tokens where the server doesn't count them.

    Raises:
        NotTheProtocolError: if it is no chat completion.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        text, refusal = choice["message"]["content"] or "", choice["message"].get("refusal")
        usage = body.get("usage") or {}
        read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(text, str):
            raise TypeError("content is not a string")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        # Cut after redacting: half a key would not be known as one.
        shown = redacted(content[:2000].decode("utf-8", "replace"), 100)
        raise NotTheProtocolError(f"the body is no chat completion ({type(error).__name__}: {shown!r})") from None
    ended = re.sub(r"\W", "_", str(choice.get("finish_reason") or ""))[:40]
    if ended in ENDED:
        ended = ""
    if isinstance(refusal, str) and refusal.strip() and not text.strip():
        text, ended = refusal, "refusal"
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if key and len(key) >= SECRET_CHARACTERS:
        # Not inside a longer word, but after an escape of JSON: in `\nsk-...` the key follows a letter.
        text = re.sub(rf"(?:(?<!\w)|(?<=\\[bfnrt])){re.escape(key)}(?!\w)", "***", text)
    return Answer(
        text.encode("utf-8", "replace").decode(),  # half a surrogate pair can't be kept in a file
        read if isinstance(read, int) and read >= 0 else likely_tokens(messages),
        written if isinstance(written, int) and written >= 0 else len(text.encode()) // 4 + 1,
        ended,
    )


def checked(answer: Answer, parse: Parse[T], plain_text: bool = False) -> Result[T]:
    """An answer's value, or why it has none; plain text that was cut has none, since nothing in it says where it should end."""
    if answer.ended == "refusal":
        return Result(None, f"the model refused: {' '.join(answer.text.split())}"[:500])
    cut = "at the limit of tokens (--max-tokens)" if answer.ended == "length" else f"by the server ({answer.ended})" if answer.ended else ""
    if plain_text and cut:
        return Result(None, f"the answer was cut {cut}")
    cut = cut and f"; it was cut {cut}"
    if not answer.text.strip():
        return Result(None, f"the answer is empty{cut}")
    try:
        return Result(parse(answer.text))
    except ValueError as error:
        return Result(None, f"{error}{cut}"[:500])


def asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date; ``None`` if it doesn't.

    >>> asked_pause({"retry-after": "2"})
    2.0
    """
    try:
        if headers.get("retry-after-ms"):
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if not value:
            return None
        if re.fullmatch(r"\s*[\d.]+\s*", value):
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


TRIES = 1000
"""Braces of an answer that are looked at: no answer of use has more."""


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Whole JSON objects in a text that are not within another one, even a cut one, in order; line breaks in strings are let pass."""
    decoder, at = json.JSONDecoder(strict=False), 0
    for _ in range(TRIES):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            found, at = decoder.raw_decode(text, at)
            yield found
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
                return  # the answer was cut within this object: what is inside it is no answer
            at += 1
        except RecursionError:
            at += 1


def json_answer(schema: type[M]) -> Parse[M]:
    """A parser for :meth:`LanguageModel.ask`: the last JSON object that fits ``schema``, alone or among other words, braces and fences.

    >>> class Colour(BaseModel):
    ...     name: str
    >>> json_answer(Colour)('Here you are: {"name": "red"}')
    Colour(name='red')
    """

    def parse(text: str) -> M:
        problem = "the answer holds no complete JSON object"
        for found in reversed(list(_objects(text))):
            try:
                return schema.model_validate_json(json.dumps(found))
            except ValidationError as error:
                if problem.startswith("the answer"):  # of the last object: a model that thinks aloud ends with its answer
                    problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'JSON'}: {e['msg']}" for e in error.errors()[:3])
                    problem = f"the JSON doesn't fit ({problems})"
        raise ValueError(problem)

    return parse


def repair(answer: str, problem: str) -> list[dict[str, str]]:
    """Messages that show the model its answer and what is wrong with it."""
    return [
        {"role": "assistant", "content": answer[:4000] or "(nothing)"},
        {
            "role": "user",
            "content": f"This answer can't be used: {problem}. Answer the first message again, in exactly the form it asks for.",
        },
    ]
