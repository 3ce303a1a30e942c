"""``api:<model>``: embeddings over HTTP from any server that speaks the OpenAI protocol (hosted, vLLM, Ollama, llama.cpp, ...)."""

import os
import re
from itertools import chain
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from lexirec.errors import InputError, LexirecError, require
from lexirec.progress import track
from lexirec.text.encoders import hub
from lexirec.text.encoders.base import Encoder, FloatArray, as_bool, as_int, shorten

DEFAULT_URL = "https://api.openai.com/v1"
SECRET_CHARACTERS = 16
"""A key of fewer characters (``none``, ``test``, ``EMPTY``) is a placeholder for a server that wants none: it may be a word of any text."""
REQUEST_BYTES = 600_000
"""Most bytes of the texts of one request: the public service takes 300,000 tokens, and two bytes of nearly any text make one at most."""
TOO_LONG = re.compile(r"context|length|too (long|large|many)|tokens", re.IGNORECASE)
"""What servers say of a request whose texts are too long, one alone or all together; by :data:`TOO_LONG_STATUS`."""
TOO_LONG_STATUS = frozenset({400, 413, 422})


class ApiError(LexirecError, RuntimeError):
    """The embedding service did not answer, or not with embeddings. The message never holds the key.

    Attributes:
        finished: ``(m, D)`` vectors of the first ``m`` texts of the call that failed, which are paid for; ``None`` for none. The cache
            stores them.
    """

    finished: FloatArray | None = None


class _TooLongError(ApiError):
    """The server finds a request's texts too long: fewer of them may do."""


class ApiEncoder(Encoder):
    """A hosted embedding model.

    Args:
        model: the model's name at the server.
        dimensions: shortened vectors, for models that offer them.
        prompt: put in front of every text.
        batch_size: texts per request; fewer where they are long (:data:`REQUEST_BYTES`), or where the server says that they are too long.
        retries: tries after the first, with growing pauses, on time-outs, broken connections and the answers 408, 409, 429 and 5xx.
        timeout: seconds to wait for one answer.
        base_url: address of the server; the environment's ``OPENAI_BASE_URL``, else the public service.
        max_characters: longer texts are cut at a space (the services refuse texts over 8,192 tokens). A character counts as many as it has
            bytes in UTF-8, since scripts of several bytes a letter take more tokens.
        normalize: scale each vector to unit length.

    The key comes from the environment's ``OPENAI_API_KEY`` and from nowhere else; it stands in no name, fingerprint, log or error. A local
    server that wants no key needs none.
    """

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | str | None = None,
        prompt: str = "",
        batch_size: int | str = 128,
        retries: int | str = 5,
        timeout: float | str = 60.0,
        base_url: str | None = None,
        max_characters: int | str = 20_000,
        normalize: bool | str = False,
    ) -> None:
        self.openai = require("openai", "llm")
        self.model_name = model
        self.dimensions = None if dimensions is None else as_int(dimensions, "dimensions")
        self.prompt = prompt
        self.batch_size = as_int(batch_size, "batch_size")
        self.retries = as_int(retries, "retries", least=0)
        try:
            self.timeout = float(timeout)
        except ValueError as error:
            raise InputError(f"timeout is {timeout!r}; give seconds") from error
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        if urlsplit(self.base_url).scheme not in ("http", "https"):
            raise InputError(f"base_url is {public_url(self.base_url)!r}; give an address like http://localhost:8000/v1")
        self.max_characters = as_int(max_characters, "max_characters")
        self.normalize = as_bool(normalize, "normalize")
        options: dict[str, Any] = {}
        if self.dimensions is not None:
            options["dimensions"] = self.dimensions
        if prompt:
            options["prompt"] = prompt
        if base_url:
            options["base_url"] = public_url(base_url)
        if self.normalize:
            options["normalize"] = "true"
        if self.max_characters != 20_000:
            options["max_characters"] = self.max_characters
        self.name = hub.join_name("api", model, options)
        self._client: Any = None
        self._dim: int | None = self.dimensions

    @property
    def dim(self) -> int:
        """Length of the vectors; asks the server once where it isn't known."""
        if self._dim is None:
            self._dim = int(self._request(["dimension"]).shape[1])
        return self._dim

    def description(self) -> dict[str, Any]:
        return {
            "kind": "api",
            "model": self.model_name,
            "server": public_url(self.base_url),
            "dimensions": self.dimensions,
            "prompt": self.prompt,
            "max_characters": self.max_characters,
            "normalize": self.normalize,
        }

    def client(self) -> Any:
        """The HTTP client, made at first use.

        Raises:
            InputError: if the key is needed and missing, or no key can be like it.
        """
        if self._client is None:
            key = api_key()
            if key is None and self.base_url == DEFAULT_URL:
                raise InputError("OPENAI_API_KEY is not set; set it, or set OPENAI_BASE_URL to a server of your own")
            # A server of one's own may want no key, but the client insists on one.
            self._client = self.openai.OpenAI(base_url=self.base_url, api_key=key or "none", max_retries=self.retries, timeout=self.timeout)
        return self._client

    def _request(self, texts: list[str]) -> FloatArray:
        options: dict[str, Any] = {} if self.dimensions is None else {"dimensions": self.dimensions}
        try:
            # Plain numbers: several servers don't know the base64 form that the client asks for by default.
            answer = self.client().embeddings.create(model=self.model_name, input=texts, encoding_format="float", **options)
        except self.openai.OpenAIError as error:
            status = getattr(error, "status_code", None)
            cure = {401: "check OPENAI_API_KEY", 403: "check OPENAI_API_KEY", 404: "check the model's name and OPENAI_BASE_URL"}.get(
                status or 0, "check OPENAI_BASE_URL and the server, then run again"
            )
            reason = redacted(f"{type(error).__name__}: {error}", 500)
            # `from None`: the library's error holds the request and with it the key.
            place = f"api:{self.model_name} at {public_url(self.base_url)}"
            if status in TOO_LONG_STATUS and TOO_LONG.search(str(error)):
                longest = max(texts, key=_bytes)
                raise _TooLongError(
                    f"{place} refused the text {shorten(longest)} of {_bytes(longest):,} bytes ({reason}); if that is too long for it, "
                    f"give max_characters= below {_bytes(longest)}, else check OPENAI_BASE_URL and the settings"
                ) from None
            raise ApiError(f"{place} failed after up to {self.retries} retries ({reason}); {cure}") from None
        rows = sorted(answer.data or [], key=lambda entry: entry.index)
        if [entry.index for entry in rows] != list(range(len(texts))):
            raise ApiError(
                f"api:{self.model_name} answered {len(texts)} texts with {len(rows)} vectors; the server speaks another protocol"
            )
        sizes = {len(entry.embedding) for entry in rows}
        if len(sizes) > 1 or (self._dim is not None and sizes != {self._dim}):
            raise ApiError(f"api:{self.model_name} gave vectors of {sorted(sizes)} numbers, expected {self._dim or 'one length'}")
        self._dim = sizes.pop()
        return np.array([entry.embedding for entry in rows], dtype=np.float32)

    def _encode(self, texts: list[str], progress: bool) -> FloatArray:
        batches = self._batches([_cut(self.prompt + text, self.max_characters) for text in texts])
        found: list[FloatArray] = []
        try:
            for batch in track(batches, f"encoding with {self.name} (requests)", enabled=progress):
                self._read(batch, found)
        except ApiError as error:
            error.finished = self._together(found) if found else None
            raise
        return self._together(found)

    def _batches(self, texts: list[str]) -> list[list[str]]:
        """Texts by request, in order."""
        batches: list[list[str]] = []
        room = 0
        for text in texts:
            room -= _bytes(text)
            if not batches or room < 0 or len(batches[-1]) == self.batch_size:
                batches.append([])
                room = REQUEST_BYTES - _bytes(text)
            batches[-1].append(text)
        return batches

    def _read(self, texts: list[str], found: list[FloatArray]) -> None:
        """Append the vectors of texts, by halves where the server finds them too long together."""
        try:
            found.append(self._request(texts))
        except _TooLongError:
            if len(texts) == 1:
                raise
            self._read(texts[: len(texts) // 2], found)
            self._read(texts[len(texts) // 2 :], found)

    def _together(self, found: list[FloatArray]) -> FloatArray:
        vectors = np.concatenate(found)
        if self.normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def api_key() -> str | None:
    """The key of the environment's ``OPENAI_API_KEY`` without white space around it; ``None`` if there is none.

    Raises:
        InputError: if it holds what no key and no header of a request can hold. The message doesn't hold the value.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise InputError(
            "OPENAI_API_KEY holds white space, a control character or a letter that is not ASCII (a curly quote, maybe); set it to the key "
            "alone"
        )
    return key or None


def redacted(message: str, limit: int) -> str:
    """A message without the key and without what servers echo of keys, cut at ``limit`` characters; a placeholder is hidden as a word.

    >>> redacted("Not a valid token: sk-abc123***xyz.", 300)
    'Not a valid token: ***.'
    """
    value = os.environ.get("OPENAI_API_KEY", "")
    key = value.strip()
    # As it is, and as errors of Python and of the HTTP client write it, with escapes; the longer form first.
    written = [(text, repr(text)[1:-1], ascii(text)[1:-1], repr(text.encode("utf-8", "replace"))[2:-1]) for text in (value, key) if key]
    for form in dict.fromkeys(chain(*written)):
        if len(key) >= SECRET_CHARACTERS:
            message = message.replace(form, "***")
        else:
            message = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", "***", message)
    return re.sub(r"\b(sk|key|Bearer)[-_ ][\w*\-]{4,}", "***", message)[:limit]


def public_url(url: str) -> str:
    """An address without user, password, query and fragment, any of which may hold a key.

    >>> public_url("https://me:secret@host:8000/v1?key=abc")
    'https://host:8000/v1'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _cut(text: str, most: int) -> str:
    """The first ``most`` bytes of a text, back to the last space so that no word is cut, unless half of it would go."""
    if _bytes(text) <= most:
        return text
    head = text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
    space = head.rfind(" ")
    return head[:space] if 2 * space > len(head) else head
