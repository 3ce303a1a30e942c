"""A language model behind any address that speaks the OpenAI protocol (hosted, vLLM, Ollama, llama.cpp, ``transformers serve``).

prompt -> cache -> budget -> request, retried with growing pauses -> checked answer (one repair attempt) -> cache

Made for thousands of prompts: many at a time, each answer kept when it arrives, nothing asked twice, a limit on what is spent. The key
comes from the environment's ``OPENAI_API_KEY`` and from nowhere else; it stands in no error, log, cache or result.
"""

import asyncio
import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeGuard, TypeVar
from urllib.parse import urlsplit

from lexirec.errors import InputError, require
from lexirec.progress import track
from lexirec.text.encoders.api import DEFAULT_URL, api_key, public_url
from lexirec.text.llm_budget import Budget, BudgetError, Price, Spending, likely_tokens
from lexirec.text.llm_cache import Answer, AnswerCache, answer_file, answer_key
from lexirec.text.llm_protocol import Check, Parse, Prompt, Result, checked, json_answer, repair
from lexirec.text.llm_requests import NoAnswerError, Requests
from lexirec.text.llm_verdict import GIVE_UP, LlmError, Verdict

__all__ = ["Budget", "BudgetError", "LanguageModel", "LlmError", "Plan", "Price", "Prompt", "Result", "json_answer"]

T = TypeVar("T")
DRY_RUN = "dry run"
"""Error of a result that only a dry run lacks."""


@dataclass
class Plan:
    """What a dry run would ask.

    Attributes:
        calls: requests, without retries and without repairs of answers to come.
        cached: prompts that nothing is asked for: a valid answer or a valid repair of one is known, or neither is valid and they are not
            to be asked again.
        input_tokens, output_tokens: estimates.
    """

    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class LanguageModel:
    """Asks many prompts.

    Args:
        model: the model's name at the server.
        base_url: address of the server; the environment's ``OPENAI_BASE_URL``, else the public service.
        concurrency: requests on their way at a time.
        timeout: seconds to wait for one whole answer.
        tries: requests sent for one prompt at most, where the server is slow, overloaded or unreachable; those that it puts off because of
            its limit on the rate of requests (429) don't count.
        max_tokens: longest answer; a server that knows it as ``max_completion_tokens`` only is asked so.
        temperature, seed: as the server understands them; left out of the request if ``None``.
        json_mode: ask the server for JSON by ``response_format``; some servers ignore it, and one that refuses it is asked without.
        price: money per million tokens, for estimates and the budget.
        budget: most calls, tokens and money of this object; what earlier ones spent doesn't count.
        cache: folder of the answers; the usual cache folder if ``None``; ``False`` keeps nothing.
        dry_run: send nothing and make no file; :attr:`plan` counts what would be sent.
        retry_failed: ask again where neither the known answer nor a known repair of it passes the check.

    Raises:
        InputError: for a bad setting, if the public service is to be asked without a key, or if no key can be like the one that is set.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        concurrency: int = 16,
        timeout: float = 60.0,
        tries: int = 6,
        max_tokens: int = 400,
        temperature: float | None = None,
        seed: int | None = None,
        json_mode: bool = True,
        price: Price | None = None,
        budget: Budget | None = None,
        cache: "str | os.PathLike[str] | bool | None" = None,
        dry_run: bool = False,
        retry_failed: bool = False,
    ) -> None:
        for name, value in (("concurrency", concurrency), ("tries", tries), ("max_tokens", max_tokens)):
            if value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        if not timeout > 0:
            raise InputError(f"timeout is {timeout}; give seconds")
        if not model.strip():
            raise InputError("the language model's name is empty; give the name that the server knows it by")
        if budget is not None and budget.cost is not None and price is None:
            raise InputError("a budget in money needs a price (--price): give the money per million tokens read and written")
        self.model = model
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        if urlsplit(self.base_url).scheme not in ("http", "https"):
            raise InputError(
                f"the server's address (--base-url, OPENAI_BASE_URL) is {public_url(self.base_url)!r}; give one like http://localhost:8000/v1"
            )
        self.concurrency, self.timeout, self.tries = concurrency, timeout, tries
        self.parameters: dict[str, Any] = {"max_tokens": max_tokens}
        if temperature is not None:
            self.parameters["temperature"] = temperature
        if seed is not None:
            self.parameters["seed"] = seed
        if json_mode:
            self.parameters["response_format"] = {"type": "json_object"}
        self.spent = Spending(price or Price(), budget or Budget())
        self.plan = Plan()
        self.dry_run, self.retry_failed = dry_run, retry_failed
        place = None if cache is None or cache is True or cache is False else cache
        self._cache = None if cache is False or (dry_run and not answer_file(place).exists()) else AnswerCache(place)
        openai = None if dry_run else require("openai", "llm")
        self._verdict = Verdict(f"{model} at {public_url(self.base_url)}", tries)
        self._requests = Requests(openai, model, self.base_url, timeout=timeout, tries=tries, spent=self.spent, verdict=self._verdict)
        if not dry_run and api_key() is None and self.base_url == DEFAULT_URL:
            raise InputError("OPENAI_API_KEY is not set; set it, or give the address of a server of your own (--base-url)")

    def ask(
        self,
        prompts: Sequence[Prompt],
        parse: Parse[T],
        *,
        plain_text: bool = False,
        what: str = "asking the language model",
        progress: bool = True,
    ) -> list[Result[T]]:
        """Ask prompts, many at a time; equal prompts are asked once.

        Args:
            prompts: any number.
            parse: turns an answer into a value, or raises :class:`ValueError` saying what is wrong with it; then the model is asked
                once to mend its answer. See :func:`json_answer`.
            plain_text: the answer is not JSON (no ``response_format``); one that was cut is no answer.
            what: in front of the progress bar.
            progress: show a bar on stderr for work of over two seconds.

        Returns:
            One result per prompt, in order. A prompt without a valid answer has a result with an error.

        Raises:
            BudgetError: before the budget would be passed.
            LlmError: if the server doesn't answer at all, or refuses key, model or address, or every one of the prompts, or if none of
                the first :data:`~lexirec.text.llm_verdict.USELESS` prompts has a valid answer (those of earlier calls count as long as none
                had one).
        """
        parameters = {k: v for k, v in self.parameters.items() if not (plain_text and k == "response_format")}
        check: Check[T] = partial(checked, parse=parse, plain_text=plain_text)
        distinct = list(dict.fromkeys(prompts))
        found: dict[Prompt, Result[T]] = {}
        missing: list[Prompt] = []
        for prompt in distinct:
            known, request = self._known(prompt.messages(), parameters, check)
            if self._settles(known):
                self.plan.cached += 1
            else:
                self.plan.calls += 1
                self.plan.input_tokens += likely_tokens(request)
                self.plan.output_tokens += min(prompt.likely_words * 4 // 3, self.parameters["max_tokens"])
            if known is not None and known.error is None:
                found[prompt] = known
            elif self.dry_run:
                found[prompt] = known if self._settles(known) else Result(None, DRY_RUN)
            else:
                missing.append(prompt)  # what is settled and not valid, too: the run may have to end because of it
        if missing:
            self._verdict.begin(what, known=bool(found))
            steps = track(self._results(missing, check, parameters), what, total=len(missing), enabled=progress)
            found.update(steps)
        return [found[prompt] for prompt in prompts]

    def useless(self) -> LlmError:
        """The error that says that no prompt had a valid answer, why, and what to do."""
        return self._verdict.useless()

    # --- many at a time ----------------------------------------------------------------------------------------------------------

    def _results(self, prompts: list[Prompt], check: Check[T], parameters: Mapping[str, Any]) -> Iterator[tuple[Prompt, Result[T]]]:
        """Results as they come. The event loop runs in a thread of its own, so that a notebook's running loop is no obstacle."""
        arrived: queue.SimpleQueue[tuple[Prompt, Result[T]] | BaseException | None] = queue.SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._work(prompts, check, parameters, arrived.put))

        def run() -> None:
            try:
                loop.run_until_complete(task)
                arrived.put(None)
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, whatever it is
                arrived.put(error)
            finally:
                loop.close()

        thread = threading.Thread(target=run, name="lexirec-llm", daemon=True)
        thread.start()
        try:
            while True:
                entry = arrived.get()
                if entry is None:
                    return
                if isinstance(entry, BaseException):
                    raise entry
                yield entry
        finally:
            if thread.is_alive():  # interrupted: requests on their way are dropped, what arrived is in the cache
                with contextlib.suppress(RuntimeError):  # the loop may just have ended by itself
                    loop.call_soon_threadsafe(task.cancel)
                thread.join()

    async def _work(
        self, prompts: list[Prompt], check: Check[T], parameters: Mapping[str, Any], done: Callable[[tuple[Prompt, Result[T]]], None]
    ) -> None:
        waiting = iter(prompts)

        async def one(prompt: Prompt) -> None:
            result = await self._one(prompt, check, parameters)
            done((prompt, result))
            self._verdict.judge(prompt, result.error)

        async with self._requests.connected():
            # One prompt alone, then as many as show that the server is down: its faults are not paid for by all workers at once.
            for size in (1, GIVE_UP - 1):
                if not self._verdict.served:
                    await self._together(islice(waiting, size), one, min(size, len(prompts)))
            await self._together(waiting, one, len(prompts))
            self._verdict.finish()

    async def _together(self, waiting: Iterator[Prompt], one: Callable[[Prompt], Awaitable[None]], most: int) -> None:
        """Each of the prompts, up to ``most`` of them at a time where the concurrency allows it."""

        async def worker() -> None:
            for prompt in waiting:
                await one(prompt)

        workers = [asyncio.ensure_future(worker()) for _ in range(min(self.concurrency, most))]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            failed = next((w for w in workers if w.done() and w.exception() is not None), None)
            if failed is not None:
                error = failed.exception()
                if isinstance(error, BudgetError):
                    # What is on its way is paid for: it is awaited and kept. Each worker ends at the first call that doesn't fit.
                    await asyncio.wait(workers)
                    raise self._verdict.spent_on(error)
                failed.result()
        finally:
            # Before Python 3.12 `wait_for` swallows a cancellation that meets an answer: that worker finds no further prompt.
            deque(waiting, maxlen=0)
            for other in workers:
                other.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    # --- one prompt --------------------------------------------------------------------------------------------------------------

    async def _one(self, prompt: Prompt, check: Check[T], parameters: Mapping[str, Any]) -> Result[T]:
        messages = prompt.messages()
        known, request = self._known(messages, parameters, check)
        if self._settles(known):
            return known
        try:
            answer, result = await self._asked(prompt, request, parameters, check)
            if result.error is None or request is not messages:
                return result
            self._verdict.failed(result.error)
            again = [*messages, *repair(answer.text, result.error)]
            repaired = self._kept(again, parameters)  # the model may have said the same before
            known = None if repaired is None else check(repaired)
            return known if self._settles(known) else (await self._asked(prompt, again, parameters, check))[1]
        except NoAnswerError as error:
            return Result(None, str(error))

    def _settles(self, known: Result[T] | None) -> TypeGuard[Result[T]]:
        """Whether nothing is asked because of what is known."""
        return known is not None and (known.error is None or not self.retry_failed)

    def _known(
        self, messages: list[dict[str, str]], parameters: Mapping[str, Any], check: Check[T]
    ) -> tuple[Result[T] | None, list[dict[str, str]]]:
        """What the cache knows, and what is to be asked where that doesn't settle it.

        Returns:
            The result of the known answer, or, where that isn't valid, of its known repair; ``None`` where one of the two is missing.
            The request: ``messages`` themselves, or those that ask to mend a known answer.
        """
        answer = self._kept(messages, parameters)
        if answer is None:
            return None, messages
        result = check(answer)
        if result.error is None:
            return result, messages
        again = [*messages, *repair(answer.text, result.error)]
        repaired = self._kept(again, parameters)
        if repaired is None:
            return None, messages if self.retry_failed else again
        return check(repaired), messages

    def _kept(self, messages: list[dict[str, str]], parameters: Mapping[str, Any]) -> Answer | None:
        return None if self._cache is None else self._cache.get(answer_key(self.model, parameters, messages))

    async def _asked(
        self, prompt: Prompt, messages: list[dict[str, str]], parameters: Mapping[str, Any], check: Check[T]
    ) -> tuple[Answer, Result[T]]:
        """From the server, and kept."""
        answer = await self._requests.send(prompt, messages, parameters)
        result = check(answer)
        if result.error is not None:
            # Another process may have got a valid one meanwhile: it is not lost for this one.
            known, _ = self._known(messages, parameters, check)
            if known is not None and known.error is None:
                return answer, known
        if self._cache is not None:
            self._cache.put(answer_key(self.model, parameters, messages), self.model, answer)
        return answer, result
