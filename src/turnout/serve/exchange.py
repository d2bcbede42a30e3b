"""One request on its way: asked, passed on, and entered in the ledger whatever happens."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from urllib.parse import quote

from starlette.types import Receive, Send

from turnout.serve import http, sse
from turnout.serve.errors import AnswerError, body, status_of, where
from turnout.serve.ledger import Entry
from turnout.serve.policy import Decision
from turnout.serve.request import ChatRequest
from turnout.serve.upstream import EVENT_STREAM, Chunk, Upstream, Usage, truncated

__all__ = ["Exchange"]

_log = logging.getLogger("turnout.serve")

#: Status of a request whose client went away, as web servers log it.
CLIENT_GONE = 499


class Exchange:
    """Asks the destination decided on, or the next best, and passes the answer on.

    Parameters
    ----------
    request : ChatRequest
    decision : Decision
    upstreams : mapping of str to Upstream
        The pool.
    fallbacks : int
        How many further destinations may be tried while nothing has been sent.
    arrived : float
        `time.perf_counter()` when the request arrived.
    health : dict of str to str or None
        Kept up to date: code of each destination's last failure, None once it has answered.
    on_end : callable
        Called once with the exchange when all about it is known: before the client can see the
        end of its answer, so that whoever gives feedback at once finds the request on record.
    """

    def __init__(
        self,
        request: ChatRequest,
        decision: Decision,
        upstreams: Mapping[str, Upstream],
        *,
        fallbacks: int,
        arrived: float,
        health: dict[str, str | None],
        on_end: Callable[[Exchange], None],
    ) -> None:
        self.id = f"tn-{uuid.uuid4().hex}"
        self.request = request
        self.decision = decision
        self._upstreams = upstreams
        self._left = [decision.destination, *decision.order[:fallbacks]]
        self._arrived = arrived
        self._time = time.time()
        self._asked = decision.destination
        self._usage = Usage()
        self._completion_id: str | None = None
        self._first: float | None = None
        self._health = health
        self._on_end = on_end
        self._ended = False
        self._status = 200
        self._error: str | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the client; stop all work as soon as it goes away."""
        work = asyncio.ensure_future(self._answer(send))
        gone = asyncio.ensure_future(http.disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if self._ended:
                await work
            elif not work.done():
                self._fail(CLIENT_GONE, "client_disconnected")
        except asyncio.CancelledError:
            self._fail(CLIENT_GONE, "cancelled")
            raise
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            broken = None if work.cancelled() else work.exception()
            if broken is not None:
                self._fail(500, "internal_error")
            self._end()
        if broken is not None:
            raise broken

    def entry(self) -> Entry:
        """What the ledger is to remember."""
        decision, usage = self.decision, self._usage
        moved = self._asked != decision.destination
        return Entry(
            id=self.id,
            time=self._time,
            model=self.request.model,
            destination=self._asked,
            price=decision.price,
            propensity=decision.propensity,
            quality=dict(zip(decision.names, decision.quality, strict=False)),
            cost=dict(zip(decision.names, decision.cost, strict=False)),
            prompt_chars=len(self.request.prompt),
            stream=self.request.stream,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd,
            latency_s=time.perf_counter() - self._arrived,
            first_token_s=self._first,
            status=self._status,
            error_type=self._error,
            fallback_from=decision.destination if moved else None,
            completion_id=self._completion_id,
        )

    def spent(self) -> float:
        """USD this has cost: as the destination counted, else as predicted once it had begun."""
        if self._usage.cost_usd is not None:
            return self._usage.cost_usd
        if self._first is None:
            return 0.0
        predicted = dict(zip(self.decision.names, self.decision.cost, strict=False))
        return predicted.get(self._asked, 0.0)

    async def _answer(self, send: Send) -> None:
        try:
            await (self._streamed(send) if self.request.stream else self._whole(send))
        except AnswerError as failure:  # nothing has been sent yet
            self._fail(status_of(failure), failure.code)
            self._end()
            await http.send_error(send, failure, self._headers())

    async def _whole(self, send: Send) -> None:
        while True:
            try:
                reply = await self._next().complete(self.request)
            except AnswerError as failure:
                self._give_up_or_go_on(failure)
                continue
            break
        self._begun()
        self._usage, self._completion_id = reply.usage, reply.completion_id
        headers = self._headers()
        if reply.usage.cost_usd is not None:
            headers.append((b"x-turnout-spent-usd", f"{reply.usage.cost_usd:.9g}".encode()))
        self._end()
        await http.send_json(send, 200, reply.body, headers)

    async def _streamed(self, send: Send) -> None:
        while True:
            chunks = self._next().stream(self.request)
            async with aclosing(chunks):
                try:
                    first = await anext(chunks, None)
                    if first is None:
                        raise truncated(self._asked)
                except AnswerError as failure:
                    self._give_up_or_go_on(failure)
                    continue
                await self._pass_on(first, chunks, send)
                return

    async def _pass_on(self, first: Chunk, chunks: AsyncIterator[Chunk], send: Send) -> None:
        """Send a stream that has begun; if it breaks, say so; never end it as if it were whole."""
        self._begun()
        headers = [*self._headers(), (b"cache-control", b"no-cache")]
        await http.start(send, 200, EVENT_STREAM, headers)
        try:
            await self._piece(first, send)
            async for chunk in chunks:
                await self._piece(chunk, send)
        except Exception as error:
            code = error.code if isinstance(error, AnswerError) else "internal_error"
            self._fail(status_of(error), code)
            _log.warning("%s broke in mid-stream: %s", self._asked, where(error))
            self._end()
            await self._send_piece(sse.event(body(error)), send)
        self._end()
        await send({"type": "http.response.body", "body": b""})

    async def _piece(self, chunk: Chunk, send: Send) -> None:
        self._usage = chunk.usage or self._usage
        self._completion_id = chunk.completion_id or self._completion_id
        if chunk.last:
            self._end()
        if chunk.data:
            await self._send_piece(chunk.data, send)

    async def _send_piece(self, data: bytes, send: Send) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})

    def _next(self) -> Upstream:
        self._asked = self._left.pop(0)
        return self._upstreams[self._asked]

    def _give_up_or_go_on(self, failure: AnswerError) -> None:
        _log.warning("%s failed: %s", self._asked, failure.code)
        if failure.status >= 500:
            self._health[self._asked] = failure.code
        if not failure.retry or not self._left:
            raise failure

    def _begun(self) -> None:
        self._health[self._asked] = None
        self._first = time.perf_counter() - self._arrived

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self)

    def _fail(self, status: int, code: str) -> None:
        self._status, self._error = status, code

    def _headers(self) -> list[tuple[bytes, bytes]]:
        """The decision, for the client to see; names are quoted so that any name is safe here."""
        decision = self.decision
        headers = {
            "id": self.id,
            "destination": _name(self._asked),
            "price": f"{decision.price:.6g}",
        }
        if decision.propensity is not None:
            headers["propensity"] = f"{decision.propensity:.6g}"
        if self._asked != decision.destination:
            headers["fallback-from"] = _name(decision.destination)
        for label, figures in (("quality", decision.quality), ("cost", decision.cost)):
            if figures:
                pairs = zip(decision.names, figures, strict=True)
                headers[label] = ",".join(f"{_name(name)}={value:.6g}" for name, value in pairs)
        return [(f"x-turnout-{key}".encode(), value.encode()) for key, value in headers.items()]


def _name(name: str) -> str:
    return quote(name, safe="/:._-@+~ ()[]")
