"""A client's request that a strategy answers: played to its end, and entered in the books.

Every call is a request of its own to the pool, with all that guards one: turns, retries, breakers,
budgets, a row in the ledger that holds its cost. The client's request has a row, too, in the name
of the strategy and at no cost of its own, so that sums over the ledger count nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import Any, final

import orjson

from turnout.core import BudgetExceededError, Call, Reply
from turnout.parts.rounds.playing import Played, Playing
from turnout.serve import sse
from turnout.serve.desk import Desk
from turnout.serve.errors import JSON_LINE, AnswerError, RequestError, body, code_of, status_of
from turnout.serve.errors import where as where_of
from turnout.serve.exchange import CLIENT_GONE, Exchange
from turnout.serve.guard.refusal import RefusedError
from turnout.serve.money.entry import Entry
from turnout.serve.money.hold import Hold
from turnout.serve.money.units import Pico, to_usd
from turnout.serve.money.usage import Usage, output_cap, read_usage
from turnout.serve.policy import Decision
from turnout.serve.request import ChatRequest
from turnout.serve.stage import Stage
from turnout.serve.staged.inner import Inner, chat_of, reply_of
from turnout.serve.upstream import EVENT_STREAM
from turnout.serve.wire.server import Request

__all__ = ["Staged", "refuse_unplayable"]

_log = logging.getLogger("turnout.serve")

#: What a strategy itself reads and writes.
_NONE = Usage(0, 0)


def refuse_unplayable(chat: ChatRequest) -> None:
    """Refuse what a strategy cannot give.

    Raises
    ------
    RequestError
        More than one choice, or tools, are asked for.
    """
    if chat.choices > 1:
        hint = "Ask once for each, or ask a destination by its name."
        raise RequestError("n", "be 1 for a strategy", chat.choices, hint)
    for name in ("tools", "functions"):
        if chat.fields.get(name):
            hint = "A strategy answers with text. Ask a destination by its name."
            raise RequestError(name, "be left out for a strategy", "some", hint)


@final
class Staged:
    """One request under way.

    Parameters
    ----------
    desk : Desk
    stage : Stage
    http : Request
        Whom to answer.
    chat : ChatRequest
    hold : Hold
        Its place in the books.
    key : str
        Id of the client's key.
    arrived : float
        `time.perf_counter()` when the request arrived.
    max_prompt_chars : int
        Of one call.
    """

    def __init__(
        self,
        desk: Desk,
        stage: Stage,
        http: Request,
        chat: ChatRequest,
        *,
        hold: Hold,
        key: str,
        arrived: float,
        max_prompt_chars: int,
    ) -> None:
        self._desk = desk
        self._stage = stage
        self._http = http
        self._chat = chat
        self._hold = hold
        self._key = key
        self._arrived = arrived
        self._longest = max_prompt_chars
        self._ended = False
        self._status = 200
        self._error: str | None = None
        self._spent: Pico = 0
        self._tokens = [0, 0]
        self._calls = 0
        self._failed: Inner | None = None

    async def run(self) -> None:
        """Answer the client; whatever happens, the books are closed exactly once."""
        http = self._http
        try:
            played = await self._play()
            replies = played.replies
            if not played.answer and replies and all(reply.failed for reply in replies):
                self._all_failed(replies[-1].failed)
            else:
                self._answer(played)
        except asyncio.CancelledError:
            self._fail(CLIENT_GONE, "client_disconnected")
            self._end()
            http.abort()
            raise
        except Exception as error:
            _log.error("strategy %s failed: %s", self._stage.name, where_of(error))
            self._fail(status_of(error), code_of(error))
            self._end()
            self._desk.refuse(http, error, self._headers())

    def close(self) -> None:
        """Close the books of a request that was cancelled before it could begin to run."""
        if not self._ended:
            self._fail(CLIENT_GONE, "client_disconnected")
            self._end()

    async def _play(self) -> Played:
        """Play to the end; the strategy itself computes beside the event loop."""
        stage = self._stage
        play = stage.play(self._chat.prompt, self._desk.down)
        playing = await asyncio.to_thread(Playing, play, stage.pool, stage.entry.limits)
        while playing.ended is None:
            replies = await self._round(playing)
            await asyncio.to_thread(playing.take, replies)
        return playing.ended

    async def _round(self, playing: Playing) -> list[Reply]:
        """The replies to all calls under way, made at the same time."""
        tasks = [asyncio.create_task(self._call(call)) for call in playing.pending]
        try:
            await asyncio.wait(tasks, timeout=max(playing.left, 0.0))
        finally:
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        late = Reply(text="", failed="timeout")
        return [reply if isinstance(reply, Reply) else _told(reply, late) for reply in found]

    async def _call(self, call: Call) -> Reply:
        """One call, as a request of its own."""
        desk, inner = self._desk, Inner()
        self._calls += 1
        try:
            chat = chat_of(call, self._chat.fields, max_prompt_chars=self._longest)
            desk.gate.admit(self._key)
            try:
                hold = desk.reopen(
                    self._hold, call.to, chars=chat.chars, cap=output_cap(chat.fields)
                )
            except BaseException:
                desk.gate.release(self._key)
                raise
        except (RequestError, RefusedError, BudgetExceededError) as refusal:
            desk.refuse(inner, refusal)
            return self._counted(inner, 0)
        decision = Decision(
            destination=call.to, propensity=None, price=self._stage.entry.price, names=(call.to,)
        )
        exchange = Exchange(
            desk,
            inner,
            chat,
            decision,
            names=(call.to,),
            hold=hold,
            key=self._key,
            arrived=time.perf_counter(),
        )
        try:
            await exchange.run()
        finally:
            exchange.close()
            usage = read_usage(exchange.usage)
            if usage is not None:
                self._tokens[0] += usage.input_tokens
                self._tokens[1] += usage.output_tokens
            self._spent += exchange.spent
        return self._counted(inner, exchange.spent)

    def _counted(self, inner: Inner, spent: Pico) -> Reply:
        if inner.status != 200:
            self._failed = inner
        return reply_of(inner, to_usd(spent))

    def _answer(self, played: Played) -> None:
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self._stage.name,
        }
        finish = "length" if played.stopped else "stop"
        read, written = self._tokens
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }
        self._end()
        if self._chat.stream:
            self._stream(played, head, finish, usage)
            return
        message = {"role": "assistant", "content": played.answer}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        whole = {
            **head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage,
            "turnout": _steps(played),
        }
        headers = JSON_LINE + self._headers()
        self._http.reply(200, headers, orjson.dumps(whole))

    def _stream(
        self, played: Played, head: dict[str, Any], finish: str, usage: dict[str, int]
    ) -> None:
        """The answer as events; all at once, for it is known only at the end."""
        chunk = {**head, "object": "chat.completion.chunk"}
        delta = {"role": "assistant", "content": played.answer}
        rows: list[dict[str, Any]] = [
            {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
            {
                **chunk,
                "choices": [{"index": 0, "delta": {}, "finish_reason": finish}],
                "turnout": _steps(played),
            },
        ]
        if self._chat.wants_usage:
            rows.append({**chunk, "choices": [], "usage": usage})
        told = b"".join(sse.event(orjson.dumps(row)) for row in rows) + sse.event(sse.DONE)
        kind = f"content-type: {EVENT_STREAM}\r\ncache-control: no-cache\r\n".encode()
        self._http.start(200, kind + self._headers())
        self._http.write(told)
        self._http.end()

    def _all_failed(self, code: str) -> None:
        """Pass on the last failure: that of the pool, not of the strategy."""
        inner = self._failed
        if inner is None or inner.status == 0:
            rule, hint = "be answered in time", "Ask again, or raise timeout_seconds."
            late = AnswerError(self._stage.name, "timeout", rule, code, hint, status=504)
            self._fail(504, "timeout")
            self._end()
            self._http.reply(504, JSON_LINE + self._headers(), body(late))
            return
        self._fail(inner.status, code)
        self._end()
        lines = inner.headers.split(b"\r\n")
        after = [line + b"\r\n" for line in lines if line.startswith(b"retry-after:")]
        self._http.reply(inner.status, JSON_LINE + b"".join(after) + self._headers(), inner.body)

    def _fail(self, status: int, code: str) -> None:
        self._status, self._error = status, code

    def _end(self) -> None:
        """Close the books; once, and before the client can see the end of its answer."""
        if self._ended:
            return
        self._ended = True
        desk, seconds = self._desk, time.perf_counter() - self._arrived
        entry = Entry(
            status=self._status,
            usage=_NONE,
            cost=0,  # the calls have rows with theirs
            price=self._stage.entry.price,
            prompt_chars=len(self._chat.prompt),
            latency_s=seconds,
            error_type=self._error,
            tries=max(self._calls, 1),
        )
        desk.books.close(self._hold, entry)
        desk.gate.release(self._key)
        if desk.keep is not None:
            desk.keep(self._hold.id, self._hold.key, self._chat.prompt)
        desk.meters.answered(self._stage.name, self._status, seconds)

    def _headers(self) -> bytes:
        return (
            f"x-turnout-id: {self._hold.name}\r\nx-turnout-strategy: {self._stage.quoted}\r\n"
            f"x-turnout-calls: {self._calls}\r\nx-turnout-spent-usd: {to_usd(self._spent):.9g}\r\n"
        ).encode()


def _told(found: BaseException, late: Reply) -> Reply:
    """A call that was broken off is a late one; any other exception is a fault of ours."""
    if isinstance(found, asyncio.CancelledError):
        return late
    raise found


def _steps(played: Played) -> dict[str, Any]:
    """Who was called, for the client to see: no prompt and no answer."""
    calls = [
        {"to": call.to, "usd": reply.cost, "failed": reply.failed or None}
        for call, reply in zip(played.calls, played.replies, strict=True)
    ]
    return {"calls": calls, "stopped": played.stopped or None}
