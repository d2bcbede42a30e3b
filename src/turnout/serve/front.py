"""Takes each request in: asks for its key, decides where it goes, reserves what it may cost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import final

from turnout.core import BudgetExceededError, TurnoutError
from turnout.serve.desk import Desk, no_room
from turnout.serve.errors import RequestError, status_of, where
from turnout.serve.exchange import Exchange
from turnout.serve.guard.key import Key, KeyLimits
from turnout.serve.guard.keys import Keyring, from_elsewhere
from turnout.serve.guard.refusal import RefusedError
from turnout.serve.metrics import NOBODY
from turnout.serve.money.board import BoardFullError
from turnout.serve.money.hold import Hold
from turnout.serve.money.journal import JournalFullError
from turnout.serve.money.rates import Rate
from turnout.serve.money.usage import output_cap
from turnout.serve.policy import Decision
from turnout.serve.request import ChatRequest, parse
from turnout.serve.staged.exchange import Staged, refuse_unplayable
from turnout.serve.wire.server import Request

__all__ = ["CHAT", "Doorman", "Front"]

_log = logging.getLogger("turnout.serve")

#: The one path that is answered here; all others are pages.
CHAT = "/v1/chat/completions"

#: Limits of a key as they were read, and what is to be taken of them.
_Rates = tuple[KeyLimits, tuple[tuple[Rate, int], ...], tuple[Rate, ...]]


@final
class Doorman:
    """Tells whose request it is.

    Parameters
    ----------
    keyring : Keyring, optional
        None where nobody is asked for a key.
    nobody : Key
        Stands for everybody in that case.
    local : bool
        Only this machine can ask.
    """

    def __init__(self, keyring: Keyring | None, nobody: Key, *, local: bool) -> None:
        self._keyring = keyring
        self._nobody = nobody
        self._local = local

    def check(self, authorization: bytes | None, origin: bytes | None, host: bytes | None) -> Key:
        """The key of a request.

        Raises
        ------
        RefusedError
            It has none that is good, or a page of another site sent it through a browser here.
        """
        if self._keyring is not None:
            return self._keyring.check(authorization)
        if self._local and from_elsewhere(origin, host):
            rule, hint = "come from this machine's own pages", "Make keys with `turnout keys new`."
            raise RefusedError(
                "origin", rule, "another site", hint,
                status=403, code="cross_site", kind="permission_error", reason="key",
            )  # fmt: skip
        return self._nobody


@final
class Front:
    """Answers `POST /v1/chat/completions`, and hands everything else to the pages.

    Parameters
    ----------
    desk : Desk
    doorman : Doorman
    pages : callable
        Answers a request for anything else.
    max_prompt_chars : int
    """

    def __init__(
        self,
        desk: Desk,
        doorman: Doorman,
        pages: Callable[[Request], None],
        *,
        max_prompt_chars: int,
    ) -> None:
        self.desk = desk
        self._doorman = doorman
        self._pages = pages
        self._longest = max_prompt_chars
        self._tasks: set[asyncio.Task[None]] = set()
        self._rates: dict[str, _Rates] = {}

    def __call__(self, http: Request) -> None:
        """Take in one request; returns at once."""
        if http.path != CHAT or http.method != "POST":
            self._pages(http)
            return
        arrived = time.perf_counter()
        try:
            self._chat(http, arrived)
        except (BoardFullError, JournalFullError):
            self._refuse(http, no_room(), arrived)
        except TurnoutError as error:
            self._refuse(http, error, arrived)
        except Exception as error:
            _log.error("request failed: %s", where(error))
            self._refuse(http, error, arrived)

    async def close(self) -> None:
        """Break off what is still in progress; its books are closed."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _chat(self, http: Request, arrived: float) -> None:
        desk = self.desk
        header = http.header
        key = self._doorman.check(header(b"authorization"), header(b"origin"), header(b"host"))
        chat = parse(http.body, max_prompt_chars=self._longest)
        stage = desk.stages.get(chat.model)
        if stage is not None:
            key.allow(stage.name)
            refuse_unplayable(chat)
        desk.gate.admit(key.id, key.limits.parallel)
        exchange: Exchange | Staged
        try:
            if stage is None:
                decision, names, hold = self._decide(chat, key)
                exchange = Exchange(
                    desk, http, chat, decision, names=names, hold=hold, key=key.id, arrived=arrived
                )
            else:
                hold = self._open(stage.name, chat, key)
                exchange = Staged(
                    desk,
                    stage,
                    http,
                    chat,
                    hold=hold,
                    key=key.id,
                    arrived=arrived,
                    max_prompt_chars=self._longest,
                )
        except BaseException:
            desk.gate.release(key.id)
            raise
        task = asyncio.get_running_loop().create_task(exchange.run())
        http.on_gone = task.cancel
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            exchange.close()

        task.add_done_callback(over)

    def _decide(self, chat: ChatRequest, key: Key) -> tuple[Decision, Sequence[str], Hold]:
        """Where to ask, in which order, and the money for the first of these that has some."""
        desk = self.desk
        allowed = desk.open_to(key.models)
        if allowed is not None and not allowed:
            key.allow(chat.model)  # it opens nothing that is served
        began = time.perf_counter()
        decision = desk.policy.decide(chat, allowed)
        desk.meters.decided(time.perf_counter() - began)
        names = [decision.destination, *decision.order]
        try:
            key.allow(decision.destination)
            short: BudgetExceededError | None = None
            for place, name in enumerate(names):
                try:
                    hold = self._open(name, chat, key)
                except BudgetExceededError as error:
                    # another destination may be cheaper, or have a budget of its own
                    short = short or error
                    continue
                return decision, names[place : place + 1 + desk.fallbacks], hold
            assert short is not None
            raise short
        except BaseException:
            desk.policy.settle(decision, 0.0)
            raise

    def _open(self, name: str, chat: ChatRequest, key: Key) -> Hold:
        """The place in the books of a request to a destination or a strategy."""
        _, rates, token_rates = self._rates_of(key)
        return self.desk.books.open(
            key=key.name,
            destination=name,
            model=chat.model,
            chars=chat.chars,
            cap=output_cap(chat.fields),
            choices=chat.choices,
            stream=chat.stream,
            rates=rates,
            token_rates=token_rates,
        )

    def _rates_of(self, key: Key) -> _Rates:
        """The rate limits of a key."""
        limits = key.limits
        known = self._rates.get(key.id)
        if known is None or known[0] is not limits:
            find = self.desk.books.rates.find
            requests: tuple[tuple[Rate, int], ...] = ()
            tokens: tuple[Rate, ...] = ()
            if limits.requests_per_minute is not None:
                rate = find("requests_per_minute", key.id, limits.requests_per_minute)
                requests = ((rate, 1),)
            if limits.tokens_per_minute is not None:
                tokens = (find("tokens_per_minute", key.id, limits.tokens_per_minute),)
            known = self._rates[key.id] = (limits, requests, tokens)
        return known

    def _refuse(self, http: Request, error: BaseException, arrived: float) -> None:
        meters = self.desk.meters
        reason = _reason_of(error)
        if reason is not None:
            meters.refused(reason)
        meters.answered(NOBODY, status_of(error), time.perf_counter() - arrived)
        self.desk.refuse(http, error)


def _reason_of(error: BaseException) -> str | None:
    """Under which reason the metrics count a request that was not let in."""
    if isinstance(error, RefusedError):
        return error.reason
    if isinstance(error, BudgetExceededError):
        return "budget"
    if isinstance(error, RequestError):
        return "too_large" if error.status == 413 else None
    return "rate" if status_of(error) == 429 else None
