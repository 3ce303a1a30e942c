"""The language-model client against local servers: faults, budget, cache, kill and resume."""

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from email.utils import formatdate

import pytest
from pydantic import BaseModel

from lexirec.errors import InputError, MissingExtraError
from lexirec.text import llm_requests
from lexirec.text.cache import CacheError
from lexirec.text.llm import Budget, BudgetError, LanguageModel, LlmError, Price, Prompt, json_answer
from lexirec.text.llm_budget import most_tokens
from lexirec.text.llm_cache import Answer, AnswerCache
from lexirec.text.llm_protocol import NotTheProtocolError, checked, read_answer
from lexirec.text.llm_verdict import ALIKE, GIVE_UP, USELESS
from tests.text.llm_server import HANG_UP, KEY, Drip, Faulty, error

pytest.importorskip("openai", reason="the language-model client needs the extra `llm`")


class Echo(BaseModel):
    """The schema of these tests."""

    n: int


def echo(body):
    return json.dumps({"n": int(body["messages"][1]["content"])})


def prompts(n):
    return [Prompt("Say the number as JSON.", str(i)) for i in range(n)]


PARSE = json_answer(Echo)


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setenv("LEXIREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(llm_requests, "FIRST_PAUSE", 0.005)


def model(server, **options):
    return LanguageModel("small", base_url=server.url, **{"timeout": 10.0, **options})


def values(results):
    return [result.value.n if result.value else None for result in results]


def test_in_order_equal_prompts_once_and_concurrency_is_kept_and_limited():
    with Faulty(echo, delay=0.02) as server:
        asked = model(server, concurrency=4)
        results = asked.ask([*prompts(20), *prompts(3)], PARSE)
        assert values(results) == [*range(20), 0, 1, 2]
        assert len(server.requests) == 20
        assert server.most_at_once == 4
        assert asked.spent.calls == 20
        assert (asked.spent.input_tokens, asked.spent.output_tokens) == (80, 40)
        body = server.requests[0]
        assert body["model"] == "small"
        assert body["response_format"] == {"type": "json_object"}
        assert [m["role"] for m in body["messages"]] == ["system", "user"]
        assert {h["authorization"] for h in server.headers} == {f"Bearer {KEY}"}


def test_known_answers_are_never_asked_again_by_another_object():
    with Faulty(echo) as server:
        model(server).ask(prompts(5), PARSE)
        again = model(server)
        assert values(again.ask(prompts(7), PARSE)) == list(range(7))
        assert len(server.requests) == 7
        assert again.spent.calls == 2
        # Another model name, another parameter: other prompts.
        LanguageModel("other", base_url=server.url).ask(prompts(1), PARSE)
        model(server, temperature=0.5).ask(prompts(1), PARSE)
        assert len(server.requests) == 9


def test_without_a_cache_everything_is_asked(tmp_path):
    with Faulty(echo) as server:
        for _ in range(2):
            model(server, cache=False).ask(prompts(2), PARSE)
        assert len(server.requests) == 4
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        (error(429, headers={"retry-after": "0"}), False),
        (error(429, headers={"retry-after-ms": "1"}), False),
        (error(500), False),
        (error(503, headers={"retry-after": formatdate(0, usegmt=True)}), False),
        (error(408), False),
        ((520, {}, b"<html>unknown error</html>"), False),
        ((522, {}, b"<html>connection timed out</html>"), False),
        ((530, {}, b"<html>origin</html>"), False),
        (error(599), False),
        (error(504), True),  # a gateway gave up waiting; the server may have answered
        ((524, {}, b"<html>a timeout occurred</html>"), True),
        ((200, {}, b'{"choices": [{"mess'), True),  # a body cut short
        ((200, {}, b'{"object": "list", "data": []}'), True),  # another protocol
        ((200, {}, b"<html>proxy</html>"), True),
        ((200, {"Content-Length": "900", "Connection": "close"}, b'{"choices": [{"mess'), True),  # broken in the middle of the answer
        (HANG_UP, True),  # broken before it
    ],
)
def test_passing_faults_are_retried(fault, charged):
    with Faulty(echo, faults=[fault, fault]) as server:
        asked = model(server, concurrency=1, max_tokens=50)
        assert values(asked.ask(prompts(2), PARSE)) == [0, 1]
        assert asked.spent.calls == 4
        # What may have been served counts at its most.
        most = most_tokens(prompts(1)[0].messages())
        assert asked.spent.input_tokens == 2 * 4 + (2 * most if charged else 0)
        assert asked.spent.output_tokens == 2 * 2 + (2 * 50 if charged else 0)
        assert asked.spent.in_flight == 0


def test_what_a_server_never_does_is_not_asked_again():
    with Faulty(echo) as server:
        asked = model(server, concurrency=1)
        asked.ask(prompts(1), PARSE)
        server.faults = [error(501, "no such mode")]
        assert values(asked.ask(prompts(3)[1:], PARSE)) == [None, 2]
        assert len(server.requests) == 3


def test_the_budget_holds_where_every_answer_is_cut():
    with Faulty(echo, every=(200, {}, b'{"choices": [{"mess')) as server:
        asked = model(server, concurrency=1, max_tokens=50, budget=Budget(tokens=500), tries=20)
        with pytest.raises(BudgetError, match="for this run"):
            asked.ask(prompts(5), PARSE)
        assert len(server.requests) <= 500 // 50


def test_retry_after_holds_for_all_workers():
    with Faulty(echo, faults=[error(429, headers={"retry-after-ms": "300"})], delay=0.01) as server:
        start = time.monotonic()
        assert values(model(server, concurrency=2).ask(prompts(6), PARSE)) == list(range(6))
        assert time.monotonic() - start > 0.3


@pytest.mark.parametrize("asked", ["0", formatdate(0, usegmt=True)])
def test_a_pause_of_none_is_no_reason_to_ask_without_end(monkeypatch, asked):
    monkeypatch.setattr(llm_requests, "FIRST_PAUSE", 0.2)
    with Faulty(echo, faults=[error(429, headers={"retry-after": asked})] * 3) as server:
        start = time.monotonic()
        assert values(model(server).ask(prompts(1), PARSE)) == [0]
        assert time.monotonic() - start > 0.7  # half of 0.2 + 0.4 + 0.8 at least
        assert len(server.requests) == 4


def test_one_that_is_put_off_pauses_all_workers(monkeypatch):
    with Faulty(echo, delay=0.05) as server:
        asked = model(server, concurrency=4, cache=False)
        asked.ask(prompts(1), PARSE)  # known to work: from now on all start at once
        monkeypatch.setattr(llm_requests, "FIRST_PAUSE", 2.0)
        server.requests.clear()
        server.faults = [error(429)]
        assert values(asked.ask(prompts(60), PARSE)) == list(range(60))
        sent = [body["messages"][1]["content"] for body in server.requests]
    put_off = next(number for number in sent if sent.count(number) == 2)
    assert sent.index(put_off, sent.index(put_off) + 1) < 25  # the others did not go on meanwhile


def test_a_limit_on_the_rate_is_waited_for_beyond_the_tries_and_named_where_it_lasts(monkeypatch):
    monkeypatch.setattr(llm_requests, "LONGEST_PAUSE", 0.02)
    limit = error(429, "Rate limit reached for requests per minute")
    with Faulty(echo, faults=[limit] * 12) as server:  # twice as many as a server in trouble gets
        asked = model(server, tries=2)
        assert values(asked.ask(prompts(1), PARSE)) == [0]
        assert asked.spent.calls == 13
    monkeypatch.setattr(llm_requests, "PATIENCE", 0.1)
    with Faulty(echo, every=limit) as server:
        told = pytest.raises(LlmError, match=r"limits the rate of requests, and left 8 prompts .*Rate limit reached.*lower --concurrency")
        with told:
            model(server, cache=False).ask(prompts(50), PARSE)
    # Of one prompt alone it is that prompt's fault, and does not take for ever.
    monkeypatch.setattr(llm_requests, "PUT_OFF", 4)
    monkeypatch.setattr(llm_requests, "PATIENCE", 60.0)
    with Faulty(echo, faults=[limit] * 4) as server:
        results = model(server, concurrency=1, cache=False).ask(prompts(3), PARSE)
        assert values(results) == [None, 1, 2]
        assert "put off 4 times" in results[0].error


def test_a_pause_beyond_the_longest_stops_the_run_at_once():
    with Faulty(echo, every=error(429, headers={"retry-after": "3600"})) as server, pytest.raises(LlmError, match="3600 s"):
        model(server).ask(prompts(3), PARSE)


def test_malformed_answers_get_one_repair_and_are_not_asked_a_third_time():
    with Faulty(echo, faults=['{"n": 1'], every=None) as server:
        asked = model(server, concurrency=1)
        assert values(asked.ask(prompts(1), PARSE)) == [0]
        repair = server.requests[1]["messages"]
        assert [m["role"] for m in repair] == ["system", "user", "assistant", "user"]
        assert repair[2]["content"] == '{"n": 1'
        assert "JSON" in repair[3]["content"]
    for wrong in ('{"m": 1}', '{"n": "many"}', "", "   ", "I can't.", '{"n": 3', "[1]"):
        with Faulty(echo, every=wrong) as server:
            asked = LanguageModel(f"wrong {wrong}", base_url=server.url)
            for _ in range(2):
                result = asked.ask(prompts(1), PARSE)[0]
                assert result.value is None
                assert result.error
            assert len(server.requests) == 2  # the answer and its repair, both kept
            server.every = None
            # The wish to try again is granted, once; then the answer is known.
            retrying = LanguageModel(f"wrong {wrong}", base_url=server.url, retry_failed=True)
            assert values(retrying.ask(prompts(1), PARSE)) == [0]
            assert values(retrying.ask(prompts(1), PARSE)) == [0]
            assert len(server.requests) == 3


def mended(body):
    """A model whose first answer is never valid, and whose repair is."""
    return echo(body) if len(body["messages"]) == 4 else "n is " + body["messages"][1]["content"]


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_known_repair_is_the_result_and_nothing_is_asked_again(retry_failed):
    with Faulty(mended) as server:
        model(server).ask(prompts(3), PARSE)
        server.reply = lambda body: "no longer able"
        dry = model(server, dry_run=True, retry_failed=retry_failed)
        assert values(dry.ask(prompts(4), PARSE)) == [0, 1, 2, None]
        assert (dry.plan.calls, dry.plan.cached) == (1, 3)
        assert values(model(server, retry_failed=retry_failed).ask(prompts(4), PARSE)) == [0, 1, 2, None]
        assert len(server.requests) == 3 * 2 + 2
        assert values(model(server).ask(prompts(4), PARSE)) == [0, 1, 2, None]
        # Answer and repair are no good: a dry run counts it where it would be asked again, and nowhere else.
        again = model(server, dry_run=True, retry_failed=retry_failed)
        again.ask(prompts(4), PARSE)
        assert (again.plan.calls, again.plan.cached) == ((1, 3) if retry_failed else (0, 4))


def test_an_answer_whose_repair_did_not_come_is_mended_by_one_call():
    with Faulty(echo, faults=["n is 0", error(400, "too long")]) as server:
        asked = model(server, concurrency=1)
        assert values(asked.ask(prompts(2), PARSE)) == [None, 1]
        dry = model(server, dry_run=True)
        dry.ask(prompts(2), PARSE)
        assert (dry.plan.calls, dry.plan.cached) == (1, 1)
        assert values(model(server).ask(prompts(2), PARSE)) == [0, 1]
        assert [len(body["messages"]) for body in server.requests] == [2, 4, 2, 4]


def test_asking_again_mends_anew_where_the_model_says_the_same():
    with Faulty(every="n is 0") as server:
        assert values(model(server).ask(prompts(1), PARSE)) == [None]
        server.reply, server.every = mended, None
        assert values(model(server, retry_failed=True).ask(prompts(1), PARSE)) == [0]
        assert values(model(server, retry_failed=True).ask(prompts(1), PARSE)) == [0]
        assert len(server.requests) == 4


def test_an_invalid_answer_does_not_replace_what_another_process_got_meanwhile():
    with Faulty(every="n is 0") as server:
        model(server).ask(prompts(1), PARSE)

    def meanwhile(body):
        if len(body["messages"]) == 2:
            with Faulty(mended) as other:
                assert values(model(other, retry_failed=True).ask(prompts(1), PARSE)) == [0]
        return "sorry"

    with Faulty(meanwhile) as server:
        assert values(model(server, retry_failed=True).ask(prompts(1), PARSE)) == [0]
        assert len(server.requests) == 1
    assert values(LanguageModel("small", dry_run=True).ask(prompts(1), PARSE)) == [0]


def test_a_fence_or_words_around_the_object_are_no_fault():
    with Faulty(lambda body: "Here:\n```json\n" + echo(body) + "\n```") as server:
        assert values(model(server).ask(prompts(2), PARSE)) == [0, 1]
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "text",
    [
        '<think>They want {json} like {"a": 1}, or {"n": 3}.</think>\n{"n": 7}',
        '{"n": 7}\n{"x": 1}',
        'It is {"n": 7} {}',
        '{{{ {"n": 7} }}}',
    ],
)
def test_the_object_is_found_among_other_braces(text):
    assert PARSE(text).n == 7


def test_braces_without_an_object():
    for text in (
        '{"x": "cut", "more": {"n": 7}',
        '{"n": 7',
        '{"text": "{\\"n\\": 7}',
        "{",
        "}{",
        "{" * 100_000,
        '{"a":' * 20_000,
        "[" * 100_000 + "{",
    ):
        with pytest.raises(ValueError, match="no complete JSON object"):
            PARSE(text)


def test_a_server_that_refuses_response_format_is_asked_without():
    with Faulty(echo, faults=[error(400, "unknown field response_format")]) as server:
        assert values(model(server, concurrency=1).ask(prompts(2), PARSE)) == [0, 1]
        assert ["response_format" in body for body in server.requests] == [True, False, False]


def test_one_bad_prompt_does_not_stop_the_others():
    with Faulty(echo, faults=[error(400, "too many tokens")]) as server:
        results = model(server, concurrency=1).ask(prompts(3), PARSE)
        assert values(results) == [None, 1, 2]
        assert "too many tokens" in results[0].error


def test_the_same_refusal_again_and_again_ends_the_run_whatever_was_answered_before():
    with Faulty(echo) as server:
        model(server).ask(prompts(3), PARSE)
        server.every = error(400, "this account is on hold")
        with pytest.raises(LlmError, match=r"5\d prompts in a row in the same words.*on hold"):
            model(server, concurrency=4).ask(prompts(500), PARSE)
        assert len(server.requests) <= 3 + ALIKE + 4
    # Refusals in other words are the prompts' own. (A server of their own: the run that ended may still have calls on the way.)
    with Faulty(echo, faults=[error(400, f"{n} tokens are too many") for n in range(200)]) as server:
        assert values(model(server).ask(prompts(250), PARSE)).count(None) == 200


def test_a_cut_text_is_no_answer_and_a_cut_object_is_if_it_is_whole():
    cut = {"choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": '{"n": 7}'}}]}
    with Faulty(echo, every=(200, {}, json.dumps(cut).encode())) as server:
        assert values(model(server).ask(prompts(1), PARSE)) == [7]
        result = model(server, cache=False).ask(prompts(1), PARSE, plain_text=True)[0]
        assert result.value is None
        assert "--max-tokens" in result.error
        assert len(server.requests) == 3  # the text and one attempt to mend it


def ended(reason, content, **more):
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": content, **more}}
    return (200, {}, json.dumps({"choices": [choice]}).encode())


def test_a_text_that_a_filter_ended_is_no_answer_and_a_whole_object_is():
    for reason in ("content_filter", "tool_calls", "abort"):
        with Faulty(every=ended(reason, "REVISED PROFILE: A lovely and then the")) as server:
            for _ in range(2):  # from the server, then from the file
                asked = LanguageModel(reason, base_url=server.url)
                result = asked.ask(prompts(1), str, plain_text=True)[0]
                assert result.error == f"the answer was cut by the server ({reason})"
            assert len(server.requests) == 2
        with Faulty(every=ended(reason, '{"n": 7}')) as server:
            assert values(model(server, cache=False).ask(prompts(1), PARSE)) == [7]
        with Faulty(every=ended(reason, "")) as server:
            assert model(server, cache=False).ask(prompts(1), PARSE)[0].error == f"the answer is empty; it was cut by the server ({reason})"
    for reason in ("stop", None, "eos_token"):
        with Faulty(every=ended(reason, "whole")) as server:
            assert model(server, cache=False).ask(prompts(1), str, plain_text=True)[0].value == "whole"


def test_a_refusal_is_told_in_its_own_words():
    with Faulty(every=ended("stop", None, refusal=f"I can't\nhelp with {KEY}.")) as server:
        for _ in range(2):
            assert model(server).ask(prompts(1), PARSE)[0].error == "the model refused: I can't help with ***."
        assert server.requests[1]["messages"][2]["content"] == "I can't\nhelp with ***."
        server.every = ended("stop", '{"n": 3}', refusal="no")
        assert values(model(server, cache=False).ask(prompts(1), PARSE)) == [3]


def test_answers_of_earlier_files_are_read(tmp_path):
    cache = AnswerCache()
    for key, old in ((b"a", 0), (b"b", 1)):
        cache._base.execute("INSERT INTO answers VALUES (?, 'm', 'x', 1, 1, ?)", (key, old))
    assert (cache.get(b"a"), cache.get(b"b")) == (Answer("x", 1, 1), Answer("x", 1, 1, "length"))
    cache.put(b"a", "m", Answer("x", 1, 1, "content_filter"))
    assert cache.get(b"a").ended == "content_filter"


@pytest.mark.parametrize("key", ["sk-proj-abcd\refgh12345678", "“sk-proj-abcdefgh12345678”", "two words-of-0123456789"])
def test_a_key_that_can_be_none_is_refused_without_its_value(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with Faulty(echo) as server:
        with pytest.raises(InputError, match="OPENAI_API_KEY holds white space") as caught:
            model(server)
        assert not any(part in str(caught.value) for part in ("abcd", "efgh", "0123456789"))
        model(server, dry_run=True)  # nothing is sent


@pytest.mark.parametrize("ending", ["\r", "\n", " \r\n"])
def test_white_space_around_a_key_is_not_part_of_it(monkeypatch, ending):
    monkeypatch.setenv("OPENAI_API_KEY", KEY + ending)
    with Faulty(lambda body: json.dumps({"n": 1, "note": KEY})) as server:
        assert model(server, cache=False).ask(prompts(1), json.loads)[0].value["note"] == "***"
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"


NO_MAX_TOKENS = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."


def test_a_server_that_knows_max_completion_tokens_only_is_asked_so_from_then_on():
    for tries in (6, 1):  # learning is no try
        with Faulty(echo, faults=[error(400, NO_MAX_TOKENS, code="unsupported_parameter")]) as server:
            asked = model(server, concurrency=1, max_tokens=77, tries=tries, cache=False)
            assert values(asked.ask(prompts(3), PARSE)) == [0, 1, 2]
            assert values(asked.ask(prompts(1), PARSE)) == [0]
            shown = [(body.get("max_tokens"), body.get("max_completion_tokens")) for body in server.requests]
            assert shown == [(77, None), *[(None, 77)] * 4]
    with Faulty(echo, every=error(400, NO_MAX_TOKENS)) as server:  # asked otherwise once, not for ever
        with pytest.raises(LlmError, match="Unsupported parameter"):
            model(server, concurrency=1).ask(prompts(1), PARSE)
        assert ["max_tokens" in body for body in server.requests] == [True, False]
    with Faulty(echo, every=error(400, "max_tokens is too large: 77. At most 50 are possible.")) as server:  # another name is no cure
        with pytest.raises(LlmError, match="too large"):
            model(server, concurrency=1).ask(prompts(1), PARSE)
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("n", [1, 5, 100])
def test_a_server_that_refuses_every_prompt_ends_the_run_with_its_reason(status, n):
    with Faulty(echo, every=error(status, "Unsupported value: 'temperature' does not support 0.3")) as server:
        asked = model(server, concurrency=4, temperature=0.3)
        with pytest.raises(LlmError, match=r"refused all \d+ prompts.*'temperature' does not support"):
            asked.ask(prompts(n), PARSE)
        assert len(server.requests) <= min(n, GIVE_UP + 4)
        assert asked.spent.in_flight == 0


def test_prompts_that_alone_are_refused_are_their_own_fault_however_many():
    with Faulty(echo) as server:
        model(server).ask(prompts(3), PARSE)
        server.every = error(400, "too many tokens")
        # All that is missing is refused, but the others have their answers.
        assert values(model(server).ask(prompts(30), PARSE)) == [0, 1, 2, *[None] * 27]
        # A server that is down is still noticed.
        server.faults, server.every = [error(400, "too long")] * 20, error(503)
        with pytest.raises(LlmError, match="8 prompts in a row"):
            model(server, concurrency=1, tries=1).ask(prompts(60), PARSE)


@pytest.mark.parametrize(
    ("status", "code", "cure"),
    [(401, None, "OPENAI_API_KEY"), (402, None, "account"), (404, None, "name"), (429, "insufficient_quota", "account")],
)
def test_what_holds_for_all_prompts_stops_the_run_and_no_message_holds_the_key(status, code, cure, caplog):
    caplog.set_level(logging.DEBUG, logger="lexirec")
    with Faulty(echo, every=error(status, f"no: {KEY} (sk-very***7890)", code=code)) as server:
        with pytest.raises(LlmError, match=cure) as caught:
            model(server, concurrency=2).ask(prompts(50), PARSE)
        assert len(server.requests) <= 4
    shown = "".join(
        str(e) for e in (caught.value, caught.value.__cause__, caught.value.__context__ if not caught.value.__suppress_context__ else "")
    )
    assert KEY not in shown + caplog.text
    assert "sk-very" not in str(caught.value)


def test_no_part_of_a_key_is_shown_of_a_strange_body(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "0wn.key+of/no=form")
    body = "x" * 90 + " 0wn.key+of/no=form"  # the message ends within the key
    with pytest.raises(NotTheProtocolError, match="xxx") as caught:
        read_answer(body.encode(), [])
    assert "0wn" not in str(caught.value)


@pytest.mark.parametrize("placeholder", ["x", "test", "none", "sk-none"])
def test_a_placeholder_for_a_key_changes_no_answer(monkeypatch, placeholder):
    monkeypatch.setenv("OPENAI_API_KEY", placeholder)
    said = f"An excellent tester kit, none greater: a test for {placeholder}."
    with Faulty(lambda body: said) as server:
        assert model(server, cache=False).ask(prompts(1), str)[0].value == said


def test_a_key_is_taken_out_of_answers_wherever_it_stands_as_a_word():
    said = {"alone": KEY, "in words": f"It is {KEY}.", "lines": f"a\n{KEY}\n", "longer": f"un{KEY}ly"}
    with Faulty(lambda body: json.dumps(said)) as server:
        shown = model(server, cache=False).ask(prompts(1), json.loads)[0].value
    assert shown == {"alone": "***", "in words": "It is ***.", "lines": "a\n***\n", "longer": f"un{KEY}ly"}


def test_the_key_is_in_no_file(tmp_path):
    with Faulty(lambda body: json.dumps({"n": 1, "note": KEY})) as server:
        model(server).ask(prompts(2), PARSE)
    for path in (tmp_path / "cache").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


def test_a_server_that_is_down():
    with Faulty(echo) as server:
        url = server.url
    for n in (1, 30):
        asked = LanguageModel("small", base_url=url, tries=2)
        with pytest.raises(LlmError, match="check the server"):
            asked.ask(prompts(n), PARSE)
        assert asked.spent.calls <= 2 * (GIVE_UP + asked.concurrency)
        # A refused connection costs nothing; those that were cancelled on their way may have been sent.
        assert asked.spent.output_tokens <= (0 if n == 1 else 400 * asked.concurrency)
        assert asked.spent.in_flight == 0


def test_a_slow_server_is_timed_out_retried_and_its_tokens_are_counted_at_worst():
    with Faulty(echo, faults=[1.0]) as server:
        asked = model(server, timeout=0.2, concurrency=1, max_tokens=50)
        assert values(asked.ask(prompts(2), PARSE)) == [0, 1]
        assert asked.spent.calls == 3
        assert asked.spent.output_tokens == 50 + 2 * 2


def test_an_answer_that_drips_for_ever_is_given_up_in_time_and_counted_at_worst():
    with Faulty(echo, faults=[Drip(0.1)]) as server:
        asked, start = model(server, timeout=0.5, tries=1, max_tokens=50), time.monotonic()
        with pytest.raises(LlmError, match=r"no answer within 0\.5 s"):
            asked.ask(prompts(1), PARSE)
        assert time.monotonic() - start < 3
        assert (asked.spent.input_tokens, asked.spent.output_tokens) == (most_tokens(prompts(1)[0].messages()), 50)
        assert asked.spent.in_flight == 0
        server.faults = [Drip(0.1)]
        assert values(model(server, timeout=0.5).ask(prompts(3), PARSE)) == [0, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue of connections refuses the next one")
def test_a_connection_that_is_not_made_in_time_costs_nothing():
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # nobody accepts these, so that further ones wait
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        asked = LanguageModel("small", base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1", timeout=0.5, tries=1)
        with pytest.raises(LlmError, match=r"no answer within 0\.5 s"):
            asked.ask(prompts(1), PARSE)
        assert (asked.spent.calls, asked.spent.input_tokens, asked.spent.output_tokens) == (1, 0, 0)


def test_down_in_the_middle_keeps_what_was_answered():
    with Faulty(echo, delay=0.005) as server:
        done = model(server)
        done.ask(prompts(10), PARSE)
        server.every = error(503)
        with pytest.raises(LlmError, match="kept"):
            model(server, tries=2).ask(prompts(100), PARSE)
        server.every = None
        assert values(model(server).ask(prompts(100), PARSE)) == list(range(100))
        assert sum(count > 0 for count in server.counts.values()) == 100


@pytest.mark.parametrize(
    ("budget", "price", "most"),
    [("calls=7", None, lambda s: s.calls <= 7), ("tokens=400", None, lambda s: s.input_tokens + s.output_tokens <= 400),
     ("cost=0.0005", "1,2", lambda s: s.cost <= 0.0005)],
)  # fmt: skip
def test_the_budget_holds_and_a_larger_one_asks_only_the_rest(budget, price, most):
    price = Price.parse(price) if price else None
    with Faulty(echo) as server:
        asked = model(server, concurrency=5, max_tokens=20, budget=Budget.parse(budget), price=price)
        with pytest.raises(BudgetError, match="kept"):
            asked.ask(prompts(120), PARSE)
        done = len(server.requests)
        assert most(asked.spent)
        assert 5 <= done == asked.spent.calls < 120
        assert asked.spent.in_flight == 0
        if not budget.startswith("calls"):
            # Reservations are worst cases that are given back, so most of the budget could be used.
            assert asked.spent.input_tokens + asked.spent.output_tokens > 200
        assert values(model(server, max_tokens=20).ask(prompts(120), PARSE)) == list(range(120))
        assert len(server.requests) == 120


def test_a_budget_of_nothing_asks_nothing():
    with Faulty(echo) as server:
        with pytest.raises(BudgetError):
            model(server, budget=Budget(calls=0)).ask(prompts(1), PARSE)
        assert not server.requests


def test_dry_run_counts_and_sends_nothing(monkeypatch):
    with Faulty(echo) as server:
        model(server).ask(prompts(2), PARSE)
        dry = model(server, dry_run=True, price=Price(1.0, 2.0))
        results = dry.ask(prompts(5), PARSE)
        assert [r.value is None for r in results] == [False, False, True, True, True]
        assert (dry.plan.calls, dry.plan.cached) == (3, 2)
        assert dry.plan.input_tokens > 3 * 5
        assert dry.plan.output_tokens == 3 * 133
        assert len(server.requests) == 2
    monkeypatch.delenv("OPENAI_API_KEY")
    assert LanguageModel("any", dry_run=True).ask(prompts(1), PARSE)[0].value is None  # no key, no server: fine


def test_a_dry_run_makes_no_file(tmp_path):
    dry = LanguageModel("any", dry_run=True)
    dry.ask(prompts(3), PARSE)
    assert dry.plan.calls == 3
    assert not (tmp_path / "cache").exists()


def test_two_processes_share_the_file(tmp_path):
    code = (
        "import sys; from lexirec.text.llm_cache import AnswerCache, Answer\n"
        "cache = AnswerCache()\n"
        "for i in range(300): cache.put(f'{sys.argv[1]} {i}'.encode(), 'm', Answer('x', 1, 1))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, name], env=os.environ) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(AnswerCache()) == 600


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "cache" / "llm").mkdir(parents=True)
    (tmp_path / "cache" / "llm" / "answers.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match=r"answers\.sqlite"):
        AnswerCache()


def test_a_page_that_was_damaged_later_is_named(tmp_path):
    cache = AnswerCache()
    for i in range(200):
        cache.put(bytes([i]) * 32, "m", Answer("x" * 500, 1, 1))
    cache.close()
    for path in cache.path.parent.glob("answers.sqlite-*"):
        path.unlink()
    content = cache.path.read_bytes()
    cache.path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    damaged = AnswerCache()
    with pytest.raises(CacheError, match=r"answers\.sqlite"):
        _ = [damaged.get(bytes([i]) * 32) for i in range(200)]


KILLED = """
import sys
from lexirec.text.llm import LanguageModel, json_answer, Prompt
from pydantic import BaseModel
class Echo(BaseModel):
    n: int
asked = LanguageModel("small", base_url=sys.argv[1], concurrency=8)
n = int(sys.argv[2])
results = asked.ask([Prompt("Say the number as JSON.", str(i)) for i in range(n)], json_answer(Echo), progress=False)
assert [r.value.n for r in results] == list(range(n))
print(asked.spent.calls)
"""


@pytest.mark.parametrize("n", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])  # ten seconds to a minute of a core
def test_killed_in_the_middle_and_resumed_no_call_repeated_no_row_lost(n):
    with Faulty(echo) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(n)]
        run = subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 1800
        while len(server.requests) < n // 2 and time.monotonic() < deadline:
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.wait()
        run.stdout.close()
        time.sleep(0.2)
        stored, sent = len(AnswerCache()), len(server.requests)
        assert n // 2 - 8 <= stored <= sent < n
        assert sent - stored <= 8  # those on their way
        resumed = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=1800, check=True)
        assert int(resumed.stdout) == n - stored
        assert len(AnswerCache()) == n
        assert len(server.counts) == n
        assert sum(count - 1 for count in server.counts.values()) == sent - stored


def test_interrupted_by_the_user_nothing_hangs():
    with Faulty(echo, delay=0.05) as server:
        asked = model(server, concurrency=2)
        steps = asked._results(prompts(100), lambda answer: checked(answer, PARSE), asked.parameters)
        next(steps)
        start = time.monotonic()
        steps.close()
        assert time.monotonic() - start < 2
        assert len(server.requests) < 10


def test_inside_a_running_event_loop():
    import asyncio

    async def notebook(server):
        return model(server).ask(prompts(3), PARSE)

    with Faulty(echo) as server:
        assert values(asyncio.run(notebook(server))) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "match"),
    [({"concurrency": 0}, "concurrency"), ({"tries": 0}, "tries"), ({"timeout": 0}, "timeout"), ({"base_url": "localhost:1"}, "http"),
     ({"budget": Budget(cost=1.0)}, "price")],
)  # fmt: skip
def test_bad_settings(options, match):
    with pytest.raises(InputError, match=match):
        LanguageModel("small", **{"base_url": "http://127.0.0.1:1/v1", **options})
    with pytest.raises(InputError, match="empty"):
        LanguageModel(" ")


def half(good):
    """A model that can do some prompts and not the others."""
    return lambda body: echo(body) if good(int(body["messages"][1]["content"])) else "I'd rather not"


def test_a_model_without_a_valid_answer_is_not_paid_for_the_whole_catalogue():
    with Faulty(echo, every="I'd rather not") as server:
        asked = model(server, concurrency=4)
        with pytest.raises(LlmError, match=r"none of the first 5\d prompts.*\(last: the answer holds no .*--max-tokens.*--prompts"):
            asked.ask(prompts(1000), PARSE)
        assert 2 * USELESS <= len(server.requests) <= 2 * (USELESS + 4)  # each answer and its repair
        assert asked.spent.in_flight == 0
        # All is kept: the same again ends alike and pays for nothing but what was dropped on its way.
        sent = len(server.requests)
        with pytest.raises(LlmError, match="none of the first 5"):
            model(server, concurrency=4).ask(prompts(1000), PARSE)
        assert len(server.requests) <= sent + 2 * 4
        server.every = None
        assert values(model(server, retry_failed=True).ask(prompts(200), PARSE)) == list(range(200))
    # Few prompts at a time count together as long as none had a valid answer.
    with Faulty(every="I'd rather not") as server:
        asked = model(server, cache=False)
        asked.ask(prompts(30), PARSE)
        with pytest.raises(LlmError, match=r"none of the first 5\d"):
            asked.ask(prompts(30), PARSE)


def test_prompts_that_alone_have_no_valid_answer_are_their_own_fault():
    with Faulty(half(lambda n: n == 40)) as server:  # one among the first
        assert values(model(server, concurrency=1).ask(prompts(200), PARSE)).count(None) == 199
        # The others have theirs from an earlier run.
        results = model(server).ask([*prompts(41), *[Prompt("Say it.", str(n)) for n in range(100)]], PARSE)
        assert values(results).count(None) == 139
    with Faulty(half(lambda n: n < 3)) as server:
        asked = model(server, cache=False)
        asked.ask(prompts(3), PARSE)
        for _ in range(3):  # another kind of prompts, each time
            assert values(asked.ask(prompts(33)[3:], PARSE)) == [None] * 30
        with pytest.raises(LlmError, match=r"none of the first 5\d prompts \(rewriting\)"):
            asked.ask(prompts(333)[3:], PARSE, what="rewriting")


EMPTY = (200, {}, b'{"choices": []}')
HTML = (200, {"Content-Type": "text/html"}, b"<html>welcome</html>")
CUT = (200, {}, b'{"choices": [{"mess')


@pytest.mark.parametrize(
    ("fault", "said"), [(error(500, "out of memory"), "out of memory"), (HTML, "welcome"), (EMPTY, "IndexError"), (CUT, "mess")]
)
def test_a_budget_does_not_hide_what_is_wrong_with_the_server(fault, said):
    with Faulty(echo, every=fault) as server:
        asked = model(server, budget=Budget(calls=4))
        with pytest.raises(BudgetError, match=f"none of the 1 prompts that were asked.*{said}.*would end alike") as caught:
            asked.ask(prompts(200), PARSE)
        assert "only what is missing" not in str(caught.value)
        # Of a server that is down, one prompt learns it first, then as many as it takes: not all workers.
        asked = model(server, budget=Budget(calls=60))
        with pytest.raises(LlmError, match=f"left 8 prompts in a row without an answer.*{said}"):
            asked.ask(prompts(200), PARSE)
        assert asked.spent.calls == asked.tries * GIVE_UP


def test_a_budget_error_tells_how_many_had_a_valid_answer():
    told = pytest.raises(BudgetError, match=r"6 of the 12 prompts that were asked .*\(last failure: the answer holds.*what is missing")
    with Faulty(half(lambda n: n % 2 == 0)) as server, told:
        model(server, concurrency=1, budget=Budget(calls=18)).ask(prompts(100), PARSE)
    told = pytest.raises(BudgetError, match="7 of the 7 prompts that were asked had a valid answer; all answers are kept")
    with Faulty(echo) as server, told:
        model(server, cache=False, budget=Budget(calls=7)).ask(prompts(100), PARSE)


def test_one_prompt_goes_first_and_alone():
    with Faulty(echo, delay=0.2) as server:
        asked = model(server, concurrency=16, cache=False)
        seen = []
        server.reply = lambda body: seen.append(len(server.requests)) or echo(body)
        asked.ask(prompts(17), PARSE)
        assert seen[0] == 1  # still alone when it was answered
        assert server.most_at_once > GIVE_UP
        seen.clear()
        server.requests.clear()
        asked.ask(prompts(16), PARSE)  # known to work: nobody goes first
        assert seen[0] > 1


@pytest.mark.parametrize(
    "text",
    ["", " ", "calls", "calls=x", "money=3", "calls=-1", "calls=1,calls=2", "cost=inf", "calls=1.9", "calls=5,tokens=0.5", "calls=nan"],
)
def test_bad_budgets(text):
    with pytest.raises(InputError, match="budget"):
        Budget.parse(text)


def test_whole_numbers_of_calls_in_any_form_and_fractions_of_money():
    assert Budget.parse("calls=1e3,tokens=2000000.0,cost=0.25") == Budget(1000, 2_000_000, 0.25)


@pytest.mark.parametrize("text", ["1", "a,b", "1,-1", "1,2,3"])
def test_bad_prices(text):
    with pytest.raises(InputError, match="price"):
        Price.parse(text)


def test_the_public_service_needs_a_key_and_the_library_an_extra(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        LanguageModel("small")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match="llm"):
        LanguageModel("small", base_url="http://127.0.0.1:1/v1")
