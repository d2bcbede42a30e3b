"""One request on its way: asked, passed on, and entered in the books whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from turnout.core import BudgetExceededError
from turnout.serve import sse
from turnout.serve.desk import Client, Desk, Lane
from turnout.serve.errors import JSON_LINE, AnswerError, body, code_of, status_of, where
from turnout.serve.guard.breaker import REFUSED
from turnout.serve.guard.refusal import RefusedError
from turnout.serve.money.entry import Entry
from turnout.serve.money.hold import Hold
from turnout.serve.money.units import Pico, to_usd
from turnout.serve.money.usage import read_usage
from turnout.serve.policy import Decision
from turnout.serve.request import ChatRequest
from turnout.serve.upstream import EVENT_STREAM, Reply

__all__ = ["CLIENT_GONE", "Exchange"]

_log = logging.getLogger("turnout.serve")

#: Status of a request whose client went away, as web servers log it.
CLIENT_GONE: Final = 499
#: Between events; every reader of events passes over it.
_COMMENT: Final = b":\n\n"
_STREAM_HEAD = f"content-type: {EVENT_STREAM}\r\ncache-control: no-cache\r\n".encode()


class Exchange:
    """Asks the destination decided on, or the next best, and passes the answer on.

    A streamed answer passes through the exchange itself (see `Passing`). A try that failed and may
    have been charged all the same has a row of its own in the books, and so does the one after it.

    Parameters
    ----------
    desk : Desk
        What the requests of a worker share.
    http : Client
        Whom to answer.
    chat : ChatRequest
    decision : Decision
    names : sequence of str
        Where to ask, in this order.
    hold : Hold
        Its place in the books, and what is set aside for it at the first of these.
    key : str
        Id of the client's key.
    arrived : float
        `time.perf_counter()` when the request arrived.
    """

    __slots__ = (
        *("_chat", "_decision", "_desk", "_ended", "_error", "_failed", "_first", "_hold", "_http"),
        *("_key", "_names", "_spent", "_status", "_worked", "arrived", "asked", "completion_id"),
        *("events", "on_flow", "tries", "usage"),
    )

    def __init__(
        self,
        desk: Desk,
        http: Client,
        chat: ChatRequest,
        decision: Decision,
        *,
        names: Sequence[str],
        hold: Hold,
        key: str,
        arrived: float,
    ) -> None:
        self.usage: Any = None
        self.completion_id: str | None = None
        self.events = 0
        self.on_flow: Callable[[bool], None] | None = None
        self.arrived = arrived
        self.asked = names[0]
        self.tries = 0
        self._desk = desk
        self._http = http
        self._chat = chat
        self._decision = decision
        self._names = names
        self._hold = hold
        self._key = key
        self._ended = False
        self._worked = False  # the destination may be at work, or have been, and charge for it
        self._failed: float  # when the last try failed; nobody asks before
        self._first: float | None = None
        self._spent: Pico = 0  # on tries that have rows of their own
        self._status = 200
        self._error: str | None = None

    @property
    def spent(self) -> Pico:
        """What all tries have cost, pico-dollars; once the request has ended."""
        return self._spent + (self._hold.cost or 0)

    async def run(self) -> None:
        """Answer the client; whatever happens, the books are closed exactly once."""
        http = self._http
        try:
            reply = await self._ask()
            if reply is not None:
                self._whole(reply)
        except (AnswerError, RefusedError, BudgetExceededError) as failure:
            self._fail(status_of(failure), code_of(failure))
            if http.started:
                self._break_off(failure)
            else:
                self._end()
                if isinstance(failure, RefusedError):
                    self._desk.meters.refused(failure.reason)
                self._desk.refuse(http, failure, self._headers())
        except asyncio.CancelledError:
            self._fail(CLIENT_GONE, "client_disconnected")
            self._end()
            http.abort()
            raise
        except Exception as error:
            _log.error("request failed: %s", where(error))
            self._fail(500, "internal_error")
            if http.started:
                self._break_off(error)
            else:
                self._end()
                self._desk.refuse(http, error, self._headers())

    def close(self) -> None:
        """Close the books of a request that was cancelled before it could begin to run."""
        if not self._ended:
            self._fail(CLIENT_GONE, "client_disconnected")
            self._end()

    def write(self, data: bytes) -> None:
        """Pass on some whole events; see `Passing`."""
        if self._first is None:
            self._begin()
        self._http.write(data)

    def finish(self, data: bytes) -> None:
        """Pass on the events that hold the end mark; see `Passing`."""
        if self._first is None:
            self._begin()
        # whoever gives feedback at once is to find the request on record
        self._end()
        self._http.write(data)
        self._http.end()

    async def _ask(self) -> Reply | None:
        """The answer of the first destination that gives one; None where it has been streamed."""
        desk, names = self._desk, self._names
        last: Exception | None = None
        for place, name in enumerate(names):
            lane = desk.lanes[name]
            lane.retries.begun()
            if place:
                desk.meters.left(names[place - 1])
            tries = 0
            wait: float | None = 0.0
            while wait is not None:
                if wait:
                    desk.meters.retried(name)
                    # the clock is coarse: whoever was told to wait is not to come a moment early
                    await asyncio.sleep(wait + 2 * desk.clock.period)
                wait = None
                try:
                    return await self._try(name, lane)
                except (RefusedError, BudgetExceededError) as refusal:
                    # there is no room: not this destination's failure, and no reason to wait here
                    last = last or refusal
                except AnswerError as failure:
                    if self._first is not None or not failure.retry:
                        raise
                    _log.warning("%s failed: %s", name, failure.code)
                    last = failure
                    tries += 1
                    # another destination is there at once
                    if place + 1 == len(names) and failure.passing:
                        wait = lane.retries.wait(tries, failure.retry_after)
        assert last is not None
        raise last

    async def _try(self, name: str, lane: Lane) -> Reply | None:
        desk = self._desk
        ticket = lane.breaker.admit()
        if ticket == REFUSED:
            raise lane.resting()
        outcome: AnswerError | None = None
        good = asked = False
        try:
            await self._turn(name)
            began = desk.clock.now
            try:
                if self.tries or name != self._hold.destination:
                    self._again(name)
                self.asked = name
                self.tries += 1
                asked = self._worked = True
                if self._chat.stream:
                    await lane.upstream.stream(self._chat, self)
                    reply = None
                else:
                    reply = await lane.upstream.complete(self._chat)
                good = True
                return reply
            except AnswerError as failure:
                outcome = failure
                self._worked = failure.charged
                self._failed = time.perf_counter()
                self._fail(failure.status, failure.code)
                raise
            finally:
                desk.gate.leave(name, desk.clock.now - began)
        finally:
            if good or (outcome is not None and outcome.status < 500 and outcome.status != 429):
                # a refusal of the request itself is an answer, too
                lane.breaker.success(ticket)
                lane.failure = None
                desk.meters.tried(name, 0)
            elif outcome is not None:
                lane.breaker.failure(ticket, outcome.retry_after)
                lane.failure = outcome.code
                desk.meters.tried(name, 1)
            else:
                lane.breaker.forget(ticket)
                if asked:
                    desk.meters.tried(name, 2)

    async def _turn(self, name: str) -> None:
        """Wait until there is room at a destination."""
        gate = self._desk.gate
        turn = gate.enter(name)
        if turn is not None:
            try:
                await turn
            except asyncio.CancelledError:
                gate.give_up(name, turn)
                raise

    def _again(self, name: str) -> None:
        """Set money aside for a further try, or for the first one at another destination.

        Nothing is waited for here, so that nobody can leave in between.
        """
        desk, hold = self._desk, self._hold
        if self._worked:
            # first the new hold: where there is no room for it, this try is the last one
            new = desk.reopen(hold, name)
            self.completion_id = None
            try:
                cost, tokens = self._settle(self._failed - self.arrived)
            except BaseException:
                desk.books.drop(new)
                raise
            self._spent += cost
            desk.meters.used(self.asked, tokens, cost)
            self._hold = new
        elif name != hold.destination:
            desk.move(hold, name)
        self.usage = self.completion_id = None
        self.events = 0
        self._worked = False
        self._status, self._error = 200, None

    def _whole(self, reply: Reply) -> None:
        self._first = time.perf_counter() - self.arrived
        self.usage, self.completion_id = reply.usage, reply.completion_id
        self._end()
        headers = JSON_LINE + self._headers()
        if not self._hold.estimated and self._hold.cost is not None:
            headers += b"x-turnout-spent-usd: %.9g\r\n" % to_usd(self._hold.cost)
        self._http.reply(200, headers, reply.body)

    def _begin(self) -> None:
        first = time.perf_counter() - self.arrived
        self._http.on_flow = self._flow
        self._http.on_doubt = self._ping
        self._http.start(200, _STREAM_HEAD + self._headers())
        self._first = first

    def _ping(self) -> None:
        """Send a comment, between events, to find out whether the client still listens."""
        self._http.write(_COMMENT)

    def _flow(self, full: bool) -> None:
        if self.on_flow is not None:
            self.on_flow(full)

    def _break_off(self, error: BaseException) -> None:
        """End a stream that has begun: say so, and never as if it were whole."""
        if self._ended:
            return
        _log.warning("%s broke in mid-stream: %s", self.asked, where(error))
        self._end()
        self._http.write(sse.event(body(error)))
        self._http.end()

    def _end(self) -> None:
        """Close the books; once, and before the client can see the end of its answer."""
        if self._ended:
            return
        self._ended = True
        desk, hold = self._desk, self._hold
        seconds = time.perf_counter() - self.arrived
        cost, tokens = self._settle(seconds)
        desk.gate.release(self._key)
        if desk.keep is not None:
            desk.keep(hold.id, hold.key, self._chat.prompt)
        desk.meters.answered(self.asked, self._status, seconds, self._first, tokens, cost)
        desk.policy.settle(self._decision, to_usd(cost + self._spent))

    def _settle(self, seconds: float) -> tuple[Pico, tuple[int, int] | None]:
        """Close the books of the last try, so long after the request arrived.

        Returns
        -------
        int
            What it cost, pico-dollars.
        tuple of int or None
            Input and output tokens, if they were told.
        """
        desk, decision, name = self._desk, self._decision, self.asked
        usage = read_usage(self.usage)
        charge = desk.lanes[name].charge
        entry = Entry(
            status=self._status,
            usage=usage,
            cost=None if usage is None or charge is None else charge(usage[0], usage[1]),
            charged=self._first is not None or self._worked,
            seen=self.events,
            price=decision.price,
            propensity=decision.propensity,
            quality=dict(zip(decision.names, decision.quality, strict=False)),
            predicted=dict(zip(decision.names, decision.cost, strict=False)),
            prompt_chars=len(self._chat.prompt),
            latency_s=seconds,
            first_token_s=self._first,
            error_type=self._error,
            fallback_from=None if name == decision.destination else decision.destination,
            completion_id=self.completion_id,
            tries=self.tries,
        )
        cost = desk.books.close(self._hold, entry)
        return cost, None if usage is None else (usage[0], usage[1])

    def _fail(self, status: int, code: str) -> None:
        self._status, self._error = status, code

    def _headers(self) -> bytes:
        """The decision, for the client to see; names are quoted so that any name is safe here."""
        decision = self._decision
        told = [
            f"x-turnout-id: {self._hold.name}\r\nx-turnout-destination: {_quoted(self.asked)}\r\n"
            f"x-turnout-price: {decision.price:.6g}\r\n"
        ]
        if decision.propensity is not None:
            told.append(f"x-turnout-propensity: {decision.propensity:.6g}\r\n")
        if self.asked != decision.destination:
            told.append(f"x-turnout-fallback-from: {_quoted(decision.destination)}\r\n")
        if decision.quality:
            names = [_quoted(name) for name in decision.names]
            for label, figures in (("quality", decision.quality), ("cost", decision.cost)):
                pairs = [f"{name}={value:.6g}" for name, value in zip(names, figures, strict=True)]
                told.append(f"x-turnout-{label}: {','.join(pairs)}\r\n")
        return "".join(told).encode()


@cache
def _quoted(name: str) -> str:
    return quote(name, safe="/:._-@+~ ()[]")
