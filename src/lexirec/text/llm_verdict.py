"""What became of a language model's prompts, and when to ask no further: a server that is down or refuses, a model that can't do it.

request refused or without an answer -> too many in a row? -> stop;  prompt without a valid answer -> none valid so far? -> stop
"""

from dataclasses import dataclass, field

from lexirec.errors import LexirecError
from lexirec.text.llm_budget import BudgetError
from lexirec.text.llm_protocol import Prompt

GIVE_UP = 8
"""So many prompts in a row without an answer stop the run: the server is down, not the prompt hard. One that its limit on the rate
of requests puts off counts once it has waited for minutes. Refused prompts count as long as none
was answered; after that they are those prompts' own fault (too long, filtered)."""
ALIKE = 50
"""So many prompts in a row that are refused in the very same words stop the run, whatever was answered before."""
USELESS = 50
"""So many prompts without one valid answer among them, repairs included, stop the run: this model can't do what it is asked."""


class LlmError(LexirecError, RuntimeError):
    """The language model's server doesn't answer, or refuses. The message never holds the key; all answers so far are kept."""


@dataclass
class _Call:
    """What is counted from one call of ``ask`` to the next.

    Attributes:
        what: what is asked, in words.
        known: whether some of its prompts had a valid answer in the cache.
        wrong: prompts without a valid answer; starts with those of earlier calls as long as nothing was ever valid.
        valid: whether a prompt had a valid answer, from the cache or from the server.
        asked: prompts that the server was asked.
        useful: how many of them had a valid answer.
        answered: whether the server answered a request.
        unanswered, refused: prompts since the last answer that had none, and that were refused.
        limited: how many of the unanswered ones were put off by a limit on the rate of requests.
        alike: refusals in a row in the same words.
        last_reason: why the last prompt was left without an answer.
        last_failure: why the last request or answer was no good.
    """

    what: str = ""
    known: bool = False
    wrong: int = 0
    valid: bool = False
    asked: set[Prompt] = field(default_factory=set)
    useful: int = 0
    answered: bool = False
    unanswered: int = 0
    refused: int = 0
    limited: int = 0
    alike: int = 0
    last_reason: str = ""
    last_failure: str = ""

    @property
    def in_a_row(self) -> int:
        """Prompts since the last answer that speak against the server or the settings."""
        return self.unanswered + (0 if self.answered or self.known else self.refused)


class Verdict:
    """Counts what becomes of prompts; a method that notes something raises the error that ends the run where that is too much.

    Args:
        place: the model and its server, as errors name them.
        tries: requests for one prompt at most, as errors name them.

    Attributes:
        place: as given.
        served: whether the server ever gave a valid answer: it is known to work.
    """

    def __init__(self, place: str, tries: int) -> None:
        self.place, self._tries = place, tries
        self.served = False
        self._able = False  # whether any prompt ever had a valid answer
        self._call = _Call()

    def begin(self, what: str, known: bool) -> None:
        """Start to count anew, for the next prompts.

        Args:
            what: what is asked, in words.
            known: whether other prompts of this kind have valid answers from an earlier run.
        """
        self._able = self._able or known
        # Each kind of prompt is judged alone; as long as nothing was valid, all of them together.
        self._call = _Call(what, known, wrong=0 if self._able else self._call.wrong, valid=known)

    # --- requests ----------------------------------------------------------------------------------------------------------------

    def asked(self, prompt: Prompt) -> None:
        """Note that the server is asked for this prompt."""
        self._call.asked.add(prompt)

    def answered(self) -> None:
        """Note that the server answered, whether validly or not: what is counted in a row starts again."""
        call = self._call
        call.answered, call.unanswered, call.refused, call.limited, call.alike = True, 0, 0, 0, 0

    def failed(self, reason: str) -> None:
        """Note why a request or an answer was no good; there may be further tries."""
        self._call.last_failure = reason

    def left_out(self, reason: str, refused: bool = False, limited: bool = False) -> None:
        """Note a prompt that gets no answer.

        Args:
            reason: why.
            refused: whether the server refused it, rather than being silent.
            limited: whether the server put it off again and again because of its limit on the rate of requests.

        Raises:
            LlmError: if it is one too many in a row.
        """
        call = self._call
        if refused:
            call.refused += 1
            call.alike = call.alike + 1 if reason == call.last_reason else 1
        else:
            call.unanswered += 1
            call.limited += limited
            call.alike = 0
        call.last_reason = reason
        if call.in_a_row >= GIVE_UP or call.alike >= ALIKE:
            raise self._down()

    # --- prompts -----------------------------------------------------------------------------------------------------------------

    def judge(self, prompt: Prompt, error: str | None) -> None:
        """Note what became of a prompt.

        Args:
            prompt: which one.
            error: why it has no valid answer; ``None`` if it has one.

        Raises:
            LlmError: if none of the first :data:`USELESS` has a valid answer.
        """
        call = self._call
        if error is None:
            call.valid = self._able = True
            if prompt in call.asked:
                call.useful, self.served = call.useful + 1, True
            return
        call.wrong, call.last_failure = call.wrong + 1, error
        if not call.valid and call.wrong >= USELESS:
            raise self.useless()

    def finish(self) -> None:
        """All prompts are done with.

        Raises:
            LlmError: if they were fewer than :data:`GIVE_UP` and none was answered. What alone is refused where others have their answers
                from an earlier run is no fault of the server.
        """
        if not self._call.answered and self._call.in_a_row:
            raise self._down()

    # --- errors ------------------------------------------------------------------------------------------------------------------

    def useless(self) -> LlmError:
        """The error that says that no prompt had a valid answer, why, and what to do."""
        call = self._call
        return LlmError(
            f"{self.place} gave a valid answer to none of the first {call.wrong:,} prompts ({call.what}), nor when it was asked to "
            f"mend it (last: {call.last_failure}); take another model, a larger --max-tokens or other --prompts; all answers are kept, "
            "and --retry-failed asks these prompts again"
        )

    def spent_on(self, error: BudgetError) -> BudgetError:
        """What the budget was spent on, and whether more of it would help."""
        call = self._call
        last = f" (last failure: {call.last_failure})" if call.last_failure else ""
        had = ""
        if call.asked:
            had = f"{call.useful or 'none'} of the {len(call.asked):,} prompts that were asked had a valid answer{last}; "
        if last and not (call.useful or call.known):
            return BudgetError(f"{error}; {had}the same command would end alike until that is mended")
        return BudgetError(
            f"{error}; {had}all answers are kept: the same command again asks only what is missing, with a budget of its own"
        )

    def _down(self) -> LlmError:
        call = self._call
        if call.alike >= ALIKE:
            how, cure = f"refused {call.alike} prompts in a row in the same words", "check the account and the settings"
        elif 2 * call.limited > call.in_a_row:
            how = f"limits the rate of requests, and left {call.in_a_row} prompts in a row without an answer for minutes"
            cure = "lower --concurrency, or ask when the limit allows more"
        elif call.unanswered:
            how = f"left {call.in_a_row} prompts in a row without an answer after up to {self._tries} tries each"
            cure = "check the server"
        else:
            how, cure = f"refused all {call.refused} prompts that it was asked", "check the model's name and the settings"
        return LlmError(
            f"{self.place} {how} (last: {call.last_reason}); {cure}; all answers are kept: the same command asks only what is missing"
        )
