"""What becomes of prompts: counts in a row and in all, what starts them again, and the errors that they end in."""

import pytest

from lexirec.text.llm_budget import BudgetError
from lexirec.text.llm_protocol import Prompt
from lexirec.text.llm_verdict import ALIKE, GIVE_UP, USELESS, LlmError, Verdict

ONE = Prompt("Say it.", "1")


def begun(known: bool = False) -> Verdict:
    verdict = Verdict("small at http://here", tries=3)
    verdict.begin("profiles", known)
    return verdict


def refuse(verdict: Verdict, times: int, words: str = "too long") -> None:
    for _ in range(times):
        verdict.left_out(words, refused=True)


def leave(verdict: Verdict, times: int) -> None:
    for _ in range(times):
        verdict.left_out("no answer within 1 s")


def invalid(verdict: Verdict, times: int) -> None:
    for _ in range(times):
        verdict.judge(ONE, "no JSON")


def test_eight_in_a_row_without_an_answer_stop():
    verdict = begun()
    leave(verdict, GIVE_UP - 1)
    verdict.answered()
    leave(verdict, GIVE_UP - 1)
    with pytest.raises(LlmError, match=r"^small at http://here left 8 prompts .* after up to 3 tries each \(last: no answer within 1 s\)"):
        leave(verdict, 1)


def test_a_limit_on_the_rate_is_named_where_most_were_put_off():
    verdict = begun()
    leave(verdict, 3)
    for _ in range(4):
        verdict.left_out("status 429", limited=True)
    with pytest.raises(LlmError, match=r"^small at http://here limits the rate .* left 8 .*\(last: status 429\); lower --concurrency"):
        verdict.left_out("status 429", limited=True)
    verdict = begun()
    verdict.left_out("status 429", limited=True)
    verdict.answered()
    with pytest.raises(LlmError, match="check the server"):
        leave(verdict, GIVE_UP)


def test_refusals_count_as_long_as_nothing_was_answered():
    verdict = begun()
    refuse(verdict, GIVE_UP - 1)
    with pytest.raises(LlmError, match=r"refused all 8 prompts that it was asked \(last: too long\); check the model's name"):
        refuse(verdict, 1)
    mixed = begun()
    refuse(mixed, 3)
    with pytest.raises(LlmError, match="left 8 prompts"):  # together with those that had no answer
        leave(mixed, 5)
    answered, known = begun(), begun(known=True)
    answered.answered()
    for good in (answered, known):
        refuse(good, GIVE_UP)
        leave(good, GIVE_UP - 1)
        with pytest.raises(LlmError, match="left 8 prompts"):
            leave(good, 1)


def test_fifty_refusals_in_the_same_words_stop_whatever_was_answered():
    verdict = begun(known=True)
    verdict.answered()
    refuse(verdict, ALIKE - 1)
    verdict.left_out("another reason", refused=True)
    refuse(verdict, ALIKE - 1)
    verdict.answered()
    refuse(verdict, ALIKE - 1)
    leave(verdict, 1)
    refuse(verdict, ALIKE - 1)
    with pytest.raises(LlmError, match=r"refused 50 prompts in a row in the same words \(last: too long\); check the account"):
        refuse(verdict, 1)


def test_fifty_without_a_valid_answer_stop_unless_one_was_valid():
    verdict = begun()
    invalid(verdict, USELESS - 1)
    with pytest.raises(LlmError, match=r"none of the first 50 prompts \(profiles\).*\(last: no JSON\)"):
        invalid(verdict, 1)
    verdict = begun()
    invalid(verdict, USELESS - 1)
    verdict.judge(ONE, None)
    invalid(verdict, 3 * USELESS)
    invalid(begun(known=True), 3 * USELESS)


def test_calls_count_together_until_something_was_valid_and_alone_after_that():
    verdict = begun()
    invalid(verdict, 30)
    verdict.begin("rewriting", known=False)
    with pytest.raises(LlmError, match=r"first 50 prompts \(rewriting\)"):
        invalid(verdict, 20)
    for known in (False, True):
        verdict = begun(known)
        if not known:
            verdict.judge(ONE, None)
        invalid(verdict, 30)
        for _ in range(2):
            verdict.begin("rewriting", known=False)
            invalid(verdict, USELESS - 1)
        with pytest.raises(LlmError, match="first 50"):
            invalid(verdict, 1)


def test_a_new_call_starts_its_counts_in_a_row_again():
    verdict = begun()
    leave(verdict, GIVE_UP - 1)
    verdict.begin("rewriting", known=False)
    leave(verdict, GIVE_UP - 1)
    verdict.begin("rewriting", known=False)
    verdict.answered()
    verdict.begin("rewriting", known=False)
    with pytest.raises(LlmError, match="refused all 8"):  # that the last call was answered says nothing of this one
        refuse(verdict, GIVE_UP)


def test_few_prompts_and_none_answered():
    for note in (leave, refuse):
        verdict = begun()
        note(verdict, 2)
        with pytest.raises(LlmError, match=r"2 prompts"):
            verdict.finish()
        verdict.answered()
        note(verdict, 2)
        verdict.finish()
    verdict = begun(known=True)
    refuse(verdict, 2)
    verdict.finish()
    begun().finish()


def test_a_server_is_known_to_work_once_it_gave_a_valid_answer():
    verdict = begun(known=True)
    verdict.judge(ONE, None)  # a known repair: nobody was asked
    assert not verdict.served
    verdict.asked(ONE)
    verdict.judge(ONE, "no JSON")
    assert not verdict.served
    verdict.judge(ONE, None)
    assert verdict.served
    verdict.begin("rewriting", known=False)
    assert verdict.served


def test_what_the_budget_was_spent_on():
    over = BudgetError("no more")
    verdict = begun()
    assert str(verdict.spent_on(over)).startswith("no more; all answers are kept")
    verdict.asked(ONE)
    verdict.failed("status 500")
    told = str(verdict.spent_on(over))
    assert told == (
        "no more; none of the 1 prompts that were asked had a valid answer (last failure: status 500); "
        "the same command would end alike until that is mended"
    )
    verdict.judge(ONE, None)
    told = str(verdict.spent_on(over))
    assert told.startswith(
        "no more; 1 of the 1 prompts that were asked had a valid answer (last failure: status 500); all answers are kept"
    )
    verdict.begin("rewriting", known=True)
    assert str(verdict.spent_on(over)).startswith("no more; all answers are kept")
    verdict.failed("status 500")
    assert "would end alike" not in str(verdict.spent_on(over))  # others have theirs
