"""What the chat requests of one worker share: destinations, limits, books and counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, final

from turnout.serve.errors import JSON_LINE, AnswerError, body, headers_of, status_of
from turnout.serve.guard.breaker import OPEN, Breaker
from turnout.serve.guard.gate import Gate
from turnout.serve.guard.refusal import RefusedError
from turnout.serve.guard.retry import Retries
from turnout.serve.metrics import NOBODY, Metrics
from turnout.serve.money.board import BoardFullError
from turnout.serve.money.books import Books
from turnout.serve.money.hold import Hold
from turnout.serve.money.journal import JournalFullError
from turnout.serve.money.rates import RateExceededError
from turnout.serve.money.units import Pico, to_usd
from turnout.serve.policy import Policy
from turnout.serve.prompts.keeper import Keep
from turnout.serve.stage import Stage
from turnout.serve.upstream import Upstream
from turnout.serve.wire.clock import Clock

__all__ = ["Client", "Desk", "Lane", "Meters", "no_room"]

#: Cost of so many input and output tokens, where a destination computes it itself.
Charge = Callable[[int, int], Pico]

#: Why a request was refused before it was whole, by the status of the answer; else `malformed`.
_REASONS = {408: "slow", 413: "too_large", 431: "too_large", 503: "full"}


class Client(Protocol):
    """Whom a request is answered: see `turnout.serve.wire.request.Request`."""

    on_doubt: Callable[[], object] | None
    on_flow: Callable[[bool], None] | None

    @property
    def started(self) -> bool:
        """Whether some of an answer has been sent, or none can be sent any more."""
        ...

    def reply(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer."""
        ...

    def start(self, status: int, headers: bytes) -> None:
        """Send the head of an answer that comes in pieces."""
        ...

    def write(self, data: bytes) -> None:
        """Send a piece."""
        ...

    def end(self) -> None:
        """The answer is whole."""
        ...

    def abort(self) -> None:
        """Break off, so that nobody takes the answer for whole."""
        ...


@final
@dataclass(slots=True, eq=False, kw_only=True)
class Lane:
    """One destination and what guards it.

    Parameters
    ----------
    name : str
    upstream : Upstream
    breaker : Breaker
    retries : Retries
    charge : callable, optional
        Where the destination does not cost what its tokens do.
    failure : str, optional
        Code of its last failure; None once it has answered.
    """

    name: str
    upstream: Upstream
    breaker: Breaker
    retries: Retries
    charge: Charge | None = None
    failure: str | None = None

    def resting(self) -> AnswerError:
        """The failure of a destination that is left alone because it failed."""
        wait = self.breaker.wait
        rule, hint = "be well", f"It is tried again in {wait:.1f} s."
        value = f"failures, the last one {self.failure}"
        return AnswerError(
            self.name, "circuit_open", rule, value, hint, status=503, retry_after=wait
        )


@final
class Meters:
    """The counters, with the places of their cells looked up once.

    Parameters
    ----------
    metrics : Metrics
    names : sequence of str
        The pool.
    """

    def __init__(self, metrics: Metrics, names: tuple[str, ...]) -> None:
        self.metrics = metrics
        everywhere = (*names, NOBODY)
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds = {name: metrics.request_seconds.place(name) for name in everywhere}
        self._first = {name: metrics.first_token_seconds.place(name) for name in everywhere}
        self._decision = metrics.decision_seconds.place()
        self._read = {name: metrics.tokens.place(name, "input") for name in names}
        self._written = {name: metrics.tokens.place(name, "output") for name in names}
        self._cost = {name: metrics.cost_usd.place(name) for name in names}
        self._tries = {
            name: tuple(metrics.tries.place(name, o) for o in ("ok", "failed", "cancelled"))
            for name in names
        }

    def decided(self, seconds: float) -> None:
        """A request was decided."""
        self.metrics.decision_seconds.observe(self._decision, seconds)

    def tried(self, name: str, outcome: int) -> None:
        """A destination was asked: 0 it answered, 1 it failed, 2 nobody waited for it."""
        self.metrics.tries.inc(self._tries[name][outcome])

    def retried(self, name: str) -> None:
        """A destination is asked once more."""
        self.metrics.retries.inc(self.metrics.retries.place(name))

    def left(self, name: str) -> None:
        """A request leaves a destination for another."""
        self.metrics.fallbacks.inc(self.metrics.fallbacks.place(name))

    def refused(self, reason: str) -> None:
        """A request was not let in."""
        self.metrics.refused.inc(self.metrics.refused.place(reason))

    def turned_away(self, status: int) -> None:
        """The wire has refused what was no whole request yet: there is no time to tell of it."""
        metrics = self.metrics
        metrics.requests.inc(metrics.requests.place(NOBODY, metrics.status(status)))
        self.refused(_REASONS.get(status, "malformed"))

    def used(self, name: str, tokens: tuple[int, int] | None, cost: Pico) -> None:
        """A try has used so much; the request may go on."""
        metrics = self.metrics
        if tokens is not None:
            cells = metrics.tokens.cells
            cells[self._read[name]] += tokens[0]
            cells[self._written[name]] += tokens[1]
        if cost:
            metrics.cost_usd.inc(self._cost[name], to_usd(cost))

    def answered(
        self,
        name: str,
        status: int,
        seconds: float,
        first: float | None = None,
        tokens: tuple[int, int] | None = None,
        cost: Pico = 0,
    ) -> None:
        """A request has ended."""
        metrics = self.metrics
        place = self._requests.get((name, status))
        if place is None:
            place = metrics.requests.place(name, metrics.status(status))
            self._requests[name, status] = place
        metrics.requests.cells[place] += 1.0
        metrics.request_seconds.observe(self._seconds[name], seconds)
        if first is not None:
            metrics.first_token_seconds.observe(self._first[name], first)
        self.used(name, tokens, cost)


@final
@dataclass(slots=True, eq=False, kw_only=True)
class Desk:
    """What the chat requests of one worker share.

    Parameters
    ----------
    policy : Policy
    lanes : mapping of str to Lane
        The pool.
    gate : Gate
    books : Books
    meters : Meters
    clock : Clock
    fallbacks : int
        Further destinations that may be tried while nothing has been sent.
    keep : callable, optional
        Takes the prompts of requests that have ended; None where none is kept.
    stages : mapping of str to Stage
        Strategies by the name that asks for them; `auto` may be one.
    down : frozenset of str
        Destinations that are left alone because they fail, as of the last tick.
    """

    policy: Policy
    lanes: Mapping[str, Lane]
    gate: Gate
    books: Books
    meters: Meters
    clock: Clock
    fallbacks: int
    keep: Keep | None = None
    stages: Mapping[str, Stage] = field(default_factory=dict)
    down: frozenset[str] = frozenset()

    def open_to(self, models: frozenset[str] | None) -> frozenset[str] | None:
        """Where a request may go whose key may use some destinations; None: everywhere.

        A destination that is left alone because it fails is none, unless there is no other.
        """
        if not self.down:
            return models
        names = self.lanes.keys() if models is None else models & self.lanes.keys()
        return frozenset(names - self.down or names)

    def tick(self) -> None:
        """Look who is left alone now."""
        resting = [name for name, lane in self.lanes.items() if lane.breaker.state == OPEN]
        if resting or self.down:
            self.down = frozenset(resting)

    def move(self, hold: Hold, name: str) -> None:
        """Set money aside for another destination instead.

        Raises
        ------
        BudgetExceededError, RefusedError
            There is no room; what was set aside before still is.
        """
        try:
            hold.move(name)
        except (BoardFullError, JournalFullError) as error:
            raise no_room() from error

    def reopen(
        self, hold: Hold, name: str, *, chars: int | None = None, cap: int | None = None
    ) -> Hold:
        """Set money aside for one more try, or one more call, of a request that stays open.

        The client has asked once: no further request is taken of its rate limits. The tokens that
        the try may use are, but it is not refused for them.

        Parameters
        ----------
        hold : Hold
            Of the request.
        name : str
            Whom to ask.
        chars, cap : int, optional
            Of a call with a prompt of its own: its length, and most tokens to write.

        Raises
        ------
        BudgetExceededError, RefusedError
            There is no room; nothing was taken.
        """
        books = self.books
        try:
            new = books.open(
                key=hold.key,
                destination=name,
                model=hold.model,
                chars=hold.chars if chars is None else chars,
                cap=hold.cap if chars is None else cap,
                choices=hold.choices,
                stream=hold.stream and chars is None,
            )
        except (BoardFullError, JournalFullError) as error:
            raise no_room() from error
        new.token_rates = hold.token_rates
        tokens = new.input_tokens + new.output_tokens
        for rate in new.token_rates:
            try:
                books.rates.take(((rate, tokens),), time.monotonic_ns())
            except RateExceededError:
                books.rates.give(rate, tokens)
        return new

    def refuse(self, http: Client, error: BaseException, headers: bytes = b"") -> None:
        """Answer with an error in OpenAI's shape."""
        if not http.started:
            told = JSON_LINE + headers + headers_of(error)
            http.reply(status_of(error), told, body(error))


def no_room() -> RefusedError:
    """The refusal of a request that could not be put on record: board or journal are full."""
    rule, hint = "have room for another request", "Ask again later."
    return RefusedError(
        "ledger",
        rule,
        "none",
        hint,
        status=503,
        code="ledger_full",
        kind="overloaded_error",
        reason="shed",
        retry_after=1,
    )
