"""One request to a language model's server, which many workers ask at a time.

budget -> request, retried with growing pauses, or worded otherwise where the server says how -> answer
"""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from lexirec.text.encoders.api import api_key, redacted
from lexirec.text.llm_budget import BudgetError, Spending, most_tokens
from lexirec.text.llm_cache import Answer
from lexirec.text.llm_protocol import NotTheProtocolError, Prompt, asked_pause, read_answer
from lexirec.text.llm_verdict import LlmError, Verdict

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds. Pauses double; a server that asks for a longer pause (Retry-After) is taken to be down for this run."""
LIMITED = 429
"""Too many requests at a time: it says nothing against the server or the prompt."""
PATIENCE = 150.0
"""Seconds without any answer after which a prompt that the limit on the rate of requests puts off is left out: quotas are by the minute."""
PUT_OFF = 20
"""Times that one prompt is put off at most while others are answered: some ten minutes."""
AGAIN = frozenset({408, 409, 425, LIMITED})
"""Statuses after which the same request may be answered, beside all of at least 500: a server or its gateway is in trouble."""
NEVER = 501
"""Not implemented: another try is answered alike."""
SERVED = frozenset({504, 524})
"""A gateway waited for the server too long, which may have served the request all the same, and charged it."""
FATAL = frozenset({401, 402, 403, 404, 405})
"""What holds for every prompt: a wrong key, model or address, an account without money."""
UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
"""Errors of the HTTP client after which nothing can have been charged: the request never left."""
OTHER_NAME = re.compile(r"unsupported|not supported|unrecogni[sz]ed|unknown|unexpected|use\W+max_completion_tokens", re.IGNORECASE)
"""What servers say of ``max_tokens`` where they know it as ``max_completion_tokens`` only."""
SHOWN = 300
"""Characters of a server's message that an error repeats."""


class NoAnswerError(Exception):
    """This prompt gets no answer; others may."""


class Requests:
    """Sends requests to one server for many workers: what one learns of the server holds for all.

    Args:
        openai: the client library; ``None`` where nothing will be sent.
        model: the model's name at the server.
        base_url: address of the server.
        timeout: seconds to wait for one whole answer.
        tries: requests sent for one prompt at most.
        spent: where each request is paid for.
        verdict: is told what becomes of each, and may end the run.
    """

    def __init__(self, openai: Any, model: str, base_url: str, *, timeout: float, tries: int, spent: Spending, verdict: Verdict) -> None:
        self._openai, self._model, self._base_url, self._timeout, self._tries = openai, model, base_url, timeout, tries
        self._spent, self._verdict = spent, verdict
        self._client: Any = None
        self._json_refused = self._renamed = False
        self._pause_until = self._answered_at = 0.0

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Within it requests can be sent; a pause that was asked for in an earlier one is over."""
        self._pause_until = 0.0
        # Retries are ours (max_retries=0), so that every request is counted and Retry-After holds for all workers.
        key = api_key() or "none"
        # The client's limits hold for each read; the whole request has its own in `send`. Connecting has less time than that, since a
        # request that never left costs nothing.
        limits = self._openai.Timeout(self._timeout, connect=0.9 * self._timeout, pool=0.9 * self._timeout)
        self._client = self._openai.AsyncOpenAI(base_url=self._base_url, api_key=key, max_retries=0, timeout=limits)
        try:
            yield
        finally:
            await self._client.close()

    async def send(self, prompt: Prompt, messages: list[dict[str, str]], parameters: Mapping[str, Any]) -> Answer:
        """The server's answer, however many tries it takes.

        Args:
            prompt: whom the request is for.
            messages: what is asked: the prompt's own messages, or those and a request to mend the answer.
            parameters: as they were asked for; ``max_tokens`` among them.

        Raises:
            NoAnswerError: if this prompt is refused, or has no answer after all tries, or is put off too long (:data:`PATIENCE`).
            BudgetError: before the budget would be passed.
            LlmError: if the server refuses all prompts, asks for a long pause, or left too many in a row.
        """
        openai, client = self._openai, self._client
        most = most_tokens(messages), int(parameters["max_tokens"])
        reason, attempt, put_off, since = "", 0, 0, 0.0
        while attempt < self._tries:
            limited = False
            await self._wait_for_pause()
            sent = self._sent(parameters)
            await self._reserve(*most)
            self._verdict.asked(prompt)
            used = most  # unless more is known: it may have been served and charged
            try:
                # As `extra_body` the messages are merged into the request as they are; as `messages` the client walks through their types,
                # which costs as much time as sending them.
                request = client.chat.completions.with_raw_response.create(
                    model=self._model, messages=[], extra_body={"messages": messages, **sent}
                )
                raw = await asyncio.wait_for(request, self._timeout)
                answer = read_answer(raw.http_response.content, messages)
                used = (answer.input_tokens, answer.output_tokens)
                self._verdict.answered()
                self._answered_at = time.monotonic()
                return answer
            except (openai.APIConnectionError, asyncio.TimeoutError) as error:
                if type(error.__cause__).__name__ in UNSENT:
                    used = (0, 0)
                slow = isinstance(error, (openai.APITimeoutError, asyncio.TimeoutError))
                reason = f"no answer within {self._timeout:g} s" if slow else redacted(f"no connection ({error.__cause__ or error})", SHOWN)
                pause = None
            except openai.APIStatusError as error:
                used = most if error.status_code in SERVED else (0, 0)
                limited = error.status_code == LIMITED
                reason, pause = redacted(f"status {error.status_code}: {error.message}", SHOWN), asked_pause(error.response.headers)
                if error.status_code in (400, 422) and self._learned(sent, str(error.message)):
                    continue  # no try: the next request is another one
                if error.status_code in FATAL or error.code == "insufficient_quota":
                    cure = (
                        "check OPENAI_API_KEY" if error.status_code in (401, 403) else "check the model's name, the address and the account"
                    )
                    # `from None`: the library's error holds the request and with it the key.
                    raise LlmError(f"{self._verdict.place} refused ({reason}); {cure}") from None
                if error.status_code not in AGAIN and (error.status_code < 500 or error.status_code == NEVER):
                    self._verdict.left_out(reason, refused=True)
                    raise NoAnswerError(reason) from None
            except NotTheProtocolError as error:
                reason, pause = str(error), None
            finally:
                self._spent.settle(*most, *used)
            self._verdict.failed(reason)
            if pause is not None and pause > LONGEST_PAUSE:
                raise LlmError(f"{self._verdict.place} asks to come back in {pause:.0f} s ({reason}); all answers are kept: run again then")
            if limited:
                since, put_off = since if put_off else time.monotonic(), put_off + 1
                if time.monotonic() - max(since, self._answered_at) > PATIENCE or put_off >= PUT_OFF:
                    self._verdict.left_out(reason, limited=True)
                    raise NoAnswerError(f"put off {put_off} times by the limit on the rate of requests ({reason}); lower --concurrency")
            else:
                attempt += 1
            if attempt < self._tries:
                own = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** ((put_off if limited else attempt) - 1)) * random.uniform(0.5, 1.0)
                if limited or pause is not None:  # the server speaks to all of us
                    # A pause of none, or one that is over, is no reason to ask without end.
                    self._pause_until = max(self._pause_until, time.monotonic() + max(own, pause or 0.0))
                else:
                    await asyncio.sleep(own)
        self._verdict.left_out(reason)
        raise NoAnswerError(f"no answer after {self._tries} tries ({reason})")

    def _sent(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as this server takes them; in the cache an answer stands under those that were asked for."""
        sent = {k: v for k, v in parameters.items() if not (self._json_refused and k == "response_format")}
        if self._renamed:
            sent["max_completion_tokens"] = sent.pop("max_tokens")
        return sent

    def _learned(self, sent: Mapping[str, Any], message: str) -> bool:
        """Whether a refusal tells how to ask this server from now on; each thing is learned once for a request."""
        if "response_format" in sent and "response_format" in message:
            self._json_refused = True
            return True
        if "max_tokens" in sent and "max_tokens" in message and OTHER_NAME.search(message):
            self._renamed = True
            return True
        return False

    async def _reserve(self, most_input: int, most_output: int) -> None:
        while True:
            try:
                return self._spent.reserve(most_input, most_output)
            except BudgetError:
                if not self._spent.in_flight:
                    raise
            # Others have their worst case set aside; what they really use is known soon.
            await asyncio.sleep(0.01)

    async def _wait_for_pause(self) -> None:
        while (left := self._pause_until - time.monotonic()) > 0:
            # Not all at the same moment.
            await asyncio.sleep(left + random.uniform(0.0, 0.1) * min(left, 1.0))
