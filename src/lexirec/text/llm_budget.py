"""What calls cost, and a limit that holds: each call reserves its worst case before it is sent."""

from dataclasses import dataclass, field

from lexirec.errors import InputError, LexirecError


class BudgetError(LexirecError, RuntimeError):
    """The budget doesn't allow the next call. All answers so far are kept."""


@dataclass(frozen=True)
class Price:
    """Money per million tokens, in any currency.

    >>> Price.parse("0.5,1.5").of(2_000_000, 1_000_000)
    2.5
    """

    input: float = 0.0
    output: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Price":
        """From ``"INPUT,OUTPUT"`` per million tokens.

        Raises:
            InputError: if it isn't two numbers of at least 0.
        """
        try:
            read, written = (float(part) for part in text.split(","))
        except ValueError as error:
            raise InputError(f"price is {text!r}; write two numbers per million tokens, read and written: 0.5,1.5") from error
        if not (0 <= read < float("inf") and 0 <= written < float("inf")):
            raise InputError(f"price is {text!r}; prices are at least 0")
        return cls(read, written)

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Money for so many tokens."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True)
class Budget:
    """Most calls, tokens (read and written together) and money of one run of a command; ``None`` for no limit.

    >>> Budget.parse("calls=1000,cost=2.5")
    Budget(calls=1000, tokens=None, cost=2.5)
    """

    calls: int | None = None
    tokens: int | None = None
    cost: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """From ``"calls=1000,tokens=2000000,cost=5"``, any of the three.

        Raises:
            InputError: for an unknown name, a value that is no number of at least 0, or a fraction of a call or token.
        """
        found: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name not in ("calls", "tokens", "cost") or name in found:
                raise InputError(f"budget {text!r}: {part.strip()!r} is none of calls=N, tokens=N and cost=MONEY, each once")
            try:
                found[name] = float(value)
            except ValueError as error:
                raise InputError(f"budget {text!r}: {value!r} is no number") from error
            if not 0 <= found[name] < float("inf"):
                raise InputError(f"budget {text!r}: {name} must be at least 0")
            if name != "cost" and not found[name].is_integer():
                raise InputError(f"budget {text!r}: {name} are counted whole; write {name}={int(found[name])}")
        calls, tokens = (None if name not in found else int(found[name]) for name in ("calls", "tokens"))
        return cls(calls, tokens, found.get("cost"))

    def passed(self, calls: int, tokens: int, cost: float) -> list[str]:
        """The limits that so much would pass, in words.

        >>> Budget(calls=10, tokens=9_000, cost=0.5).passed(28, 9_000, 0.7)
        ['10 calls', 'a cost of 0.5']
        """
        found = []
        if self.calls is not None and calls > self.calls:
            found.append(f"{self.calls:,} calls")
        if self.tokens is not None and tokens > self.tokens:
            found.append(f"{self.tokens:,} tokens")
        if self.cost is not None and cost > self.cost:
            found.append(f"a cost of {self.cost:g}")
        return found


@dataclass
class Spending:
    """Counts what was spent and what is reserved.

    Attributes:
        calls: requests sent, retries included.
        input_tokens, output_tokens: tokens of answered requests; a request that was sent and got no whole answer (too late, cut, the
            connection broken) counts with its worst case, because it may have been served and charged.
        in_flight: calls that are reserved and not settled.
    """

    price: Price = field(default_factory=Price)
    budget: Budget = field(default_factory=Budget)
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    in_flight: int = 0
    _reserved_input: int = 0
    _reserved_output: int = 0

    @property
    def cost(self) -> float:
        """Money for the tokens so far."""
        return self.price.of(self.input_tokens, self.output_tokens)

    def reserve(self, most_input: int, most_output: int) -> None:
        """Set a call's worst case aside, or refuse the call.

        Raises:
            BudgetError: if it could pass the budget.
        """
        read = self.input_tokens + self._reserved_input + most_input
        written = self.output_tokens + self._reserved_output + most_output
        limit = self.budget
        if limit.calls is not None and self.calls >= limit.calls:
            raise self._over(f"{limit.calls:,} calls")
        if limit.tokens is not None and read + written > limit.tokens:
            raise self._over(f"{limit.tokens:,} tokens")
        if limit.cost is not None and self.price.of(read, written) > limit.cost:
            raise self._over(f"a cost of {limit.cost:g}")
        self.calls += 1
        self.in_flight += 1
        self._reserved_input += most_input
        self._reserved_output += most_output

    def settle(self, most_input: int, most_output: int, input_tokens: int, output_tokens: int) -> None:
        """Replace a reservation by what the call used."""
        self.in_flight -= 1
        self._reserved_input -= most_input
        self._reserved_output -= most_output
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    def _over(self, limit: str) -> BudgetError:
        return BudgetError(
            f"the budget of {limit} for this run doesn't allow another call (spent in it: {self.calls:,} calls, {self.input_tokens:,} + "
            f"{self.output_tokens:,} tokens, cost {self.cost:.4g})"
        )


def most_tokens(messages: "list[dict[str, str]]") -> int:
    """More tokens than these messages can have: a tokenizer makes at most one token of a byte, and some to mark each message."""
    return sum(len(message["content"].encode("utf-8", "replace")) + 16 for message in messages)


def likely_tokens(messages: "list[dict[str, str]]") -> int:
    """An estimate for English: four bytes a token, and four to mark each message."""
    return sum(len(message["content"].encode("utf-8", "replace")) // 4 + 4 for message in messages)
