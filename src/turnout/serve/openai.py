"""Destinations that speak OpenAI's interface over HTTP.

Bytes go through as they are: of the request only `model` changes (and `stream_options`, so that
a stream tells its usage), of the answer only the usage event nobody asked for is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from turnout.serve.errors import AnswerError
from turnout.serve.events import StreamReader, as_object
from turnout.serve.guard.retry import failure_may_pass, read_retry_after, status_may_pass
from turnout.serve.request import ChatRequest
from turnout.serve.splice import respell, splice
from turnout.serve.upstream import EVENT_STREAM, JSON, Passing, Reply, truncated
from turnout.serve.wire.client import Call, Failure, Origin
from turnout.serve.wire.fields import Fields

__all__ = ["OpenAIUpstream", "Secret"]

#: Statuses by which an upstream says that the request itself is wrong: passed on, never retried
#: elsewhere.
_CLIENT_FAULTS = frozenset({400, 409, 413, 415, 422})
#: Statuses by which an upstream asks to be left alone for a while.
_ASKING = frozenset({429, 503})
#: What asks a stream to tell its usage.
_TELL = b'"stream_options":{"include_usage":true},'
#: Longest event kept while waiting for its end.
_MAX_EVENT = 16 * 1024 * 1024
#: Longest refusal read for its words.
_MAX_REFUSAL = 64 * 1024

#: What became of a call, by the kind of the connection's failure: code, rule, value, status.
_FAILURES = {
    "connect": ("connection", "be reachable", "no connection", 502),
    "connect_timeout": ("connect_timeout", "accept a connection in time", "none", 504),
    "tls": ("tls", "prove who it is", "a certificate or handshake that is not good", 502),
    "address": ("address", "be at an address that may be called", "another one", 502),
    "headers_timeout": ("headers_timeout", "begin its answer in time", "no headers", 504),
    "first_timeout": ("first_token_timeout", "send a first piece in time", "none", 504),
    "idle_timeout": ("idle_timeout", "go on with its answer in time", "a pause too long", 504),
    "total_timeout": ("timeout", "answer in time", "no whole answer before the time limit", 504),
    "protocol": ("bad_reply", "speak HTTP/1.1", "something else", 502),
    "too_large": ("bad_reply", "answer within the limits", "too much", 502),
}


@dataclass(frozen=True)
class Secret:
    """A key that never shows: not in `repr`, not in an error.

    Parameters
    ----------
    value : str
        Printable ASCII without spaces.
    """

    value: str = field(repr=False)


class OpenAIUpstream:
    """One model behind an OpenAI-compatible base URL.

    Parameters
    ----------
    name : str
        Name in the pool, for errors.
    whole, streamed : Origin
        Connections to its host, for answers at once and for those in pieces, whose time limits
        differ; `close` closes them.
    path : str
        Of the base URL, such as `/v1`.
    model : str
        What the upstream calls the model.
    key : Secret, optional
        Sent as a bearer token.
    max_answer_bytes : int
        Longest whole answer.
    """

    def __init__(
        self,
        *,
        name: str,
        whole: Origin,
        streamed: Origin,
        path: str,
        model: str,
        key: Secret | None = None,
        max_answer_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.name = name
        self._origins = (whole, streamed)
        self._path = path.rstrip("/").encode() + b"/chat/completions"
        self._model = orjson.dumps(model)
        self._key = key
        self._limit = max_answer_bytes
        self._headers = tuple(_headers(accept, key) for accept in (JSON, EVENT_STREAM))

    async def complete(self, request: ChatRequest) -> Reply:
        """The whole answer; see `Upstream`."""
        body = respell(request.body, "model", request.model, self._model)
        whole = _Whole(self, self._limit)
        await self._ask(body, whole, False)
        answer = b"".join(whole.pieces)
        data = as_object(answer)
        if data is None or data.get("error") is not None:
            raise self.bad("be answered with a JSON completion")
        name = data.get("id")
        return Reply(
            body=answer,
            usage=data.get("usage"),
            completion_id=name if isinstance(name, str) else None,
        )

    async def stream(self, request: ChatRequest, passing: Passing) -> None:
        """The answer in pieces; see `Upstream`."""
        body = self._telling(request)
        reader = StreamReader(keep_usage=request.wants_usage, failed=self.error_event)
        await self._ask(body, _Pieces(self, reader, passing), True)

    def _telling(self, request: ChatRequest) -> bytes:
        """The request as the upstream is to see it: asked to tell the usage of its stream."""
        if request.wants_usage:
            return respell(request.body, "model", request.model, self._model)
        if "stream_options" not in request.fields:
            return respell(request.body, "model", request.model, self._model, _TELL)
        options = request.fields["stream_options"] or {}
        told = orjson.dumps({**options, "include_usage": True})
        return splice(request.body, {"model": self._model, "stream_options": told})

    async def close(self) -> None:
        """Close every connection."""
        for origin in self._origins:
            await origin.close()

    @property
    def traffic(self) -> tuple[int, int, int]:
        """Connections that are open, and bytes read and written so far."""
        ways = self._origins
        read, written = sum(way.bytes_in for way in ways), sum(way.bytes_out for way in ways)
        return sum(way.open for way in ways), read, written

    async def _ask(self, body: bytes, taker: _Taker, streamed: bool) -> None:
        """Send a request and wait for the end of its answer; let go of it when cancelled."""
        hearing = _Hearing(self, taker)
        call = self._origins[streamed].post(self._path, self._headers[streamed], body, hearing)
        hearing.call = call
        if streamed:
            taker.flow(lambda full: call.pause() if full else call.resume())
        try:
            await hearing.over
        finally:
            if hearing.listening:
                hearing.listening = False
                call.cancel()
            elif not hearing.over.cancelled():
                hearing.over.exception()  # it may have failed in the moment it was cancelled

    def refused(self, status: int, headers: Fields, text: bytes) -> AnswerError:
        """The failure that a bad status stands for."""
        rule, code = "answer with status 200", f"status_{status}"
        if status in _CLIENT_FAULTS:
            # the upstream's words help here, and are about the client's own request
            shown = text if self._may_show(text) else None
            hint = "Change the request as the upstream asks."
            return AnswerError(
                self.name, code, rule, status, hint, status=status, retry=False, reply=shown
            )
        wait = headers.get(b"retry-after")
        hint = "Check key_env and model of this pool entry." if status in (401, 403, 404) else ""
        return AnswerError(
            self.name,
            code,
            rule,
            status,
            hint or "Ask again later.",
            # the client is to hear how long to wait, and that this is no fault of its own
            status=status if status in _ASKING else 502,
            passing=status_may_pass(status),
            retry_after=read_retry_after(wait, time.time()) if status in _ASKING else None,
        )

    def failed(self, failure: Failure) -> AnswerError:
        """The failure that a broken connection stands for."""
        if failure.kind == "closed" and failure.began:
            return truncated(self.name)
        code, rule, value, status = _FAILURES.get(failure.kind, _FAILURES["connect"])
        hint = "Ask again, or look at the upstream."
        return AnswerError(
            self.name,
            code,
            rule,
            value,
            hint,
            status=status,
            passing=failure_may_pass(failure),
            charged=failure.began or (failure.sent and status == 504),
        )

    def error_event(self, text: bytes) -> AnswerError:
        """The failure that an error event in a stream stands for."""
        shown = text if self._may_show(text) else None
        rule, hint = "stream its answer", "What arrived is not whole; ask again."
        return AnswerError(self.name, "error_event", rule, "an error event", hint, reply=shown)

    def bad(self, rule: str) -> AnswerError:
        """The failure of an upstream that answers with something else."""
        hint = "Check that its base URL is an OpenAI-compatible one."
        return AnswerError(self.name, "bad_reply", rule, "something else", hint)

    def _may_show(self, text: bytes) -> bool:
        data = as_object(text)
        if data is None or not isinstance(data.get("error"), dict):
            return False
        return self._key is None or self._key.value.encode() not in text


class _Taker(Protocol):
    """Takes an answer whose status is good."""

    kind: str

    def data(self, data: bytes) -> AnswerError | None:
        """Some of the body; what is wrong with it, if anything."""
        ...

    def complete(self) -> bool:
        """Whether nothing more is wanted."""
        ...

    def end(self) -> AnswerError | None:
        """The body has ended; what is wrong with that, if anything."""
        ...

    def flow(self, hold: Callable[[bool], None]) -> None:
        """Who is to be told when the client cannot take more."""
        ...


class _Hearing:
    """Hears a connection out and resolves `over`: with nothing once all is well, else a failure."""

    __slots__ = (
        *("_headers", "_refusal", "_size", "_status", "_taker", "_upstream"),
        *("call", "listening", "over"),
    )

    def __init__(self, upstream: OpenAIUpstream, taker: _Taker) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call: Call | None = None
        self.listening = True
        self._upstream = upstream
        self._taker = taker
        self._status = 0
        self._headers = Fields(b"")
        self._refusal: list[bytes] = []
        self._size = 0

    def head(self, status: int, headers: Fields) -> None:
        """The status line and headers; see `Receiver`."""
        self._status, self._headers = status, headers
        if status == 200:
            kind = headers.get(b"content-type") or b""
            if kind.partition(b";")[0].strip().lower() != self._taker.kind.encode():
                self._break(self._upstream.bad(f"answer with {self._taker.kind}"))

    def data(self, data: bytes) -> None:
        """Some of the body; see `Receiver`."""
        if not self.listening:
            return
        if self._status == 200:
            failure = self._taker.data(data)
            if failure is not None:
                self._break(failure)
            elif self._taker.complete():
                # the rest of the answer is its end mark: let the connection find it, for reuse
                self._resolve(None)
            return
        self._size += len(data)
        if self._size <= _MAX_REFUSAL:
            self._refusal.append(data)
        else:
            self._break(self._upstream.refused(self._status, self._headers, b""))

    def end(self, failure: Failure | None) -> None:
        """Nothing comes after; see `Receiver`."""
        if not self.listening:
            return
        if failure is not None and self._status in (0, 200):
            self._resolve(self._upstream.failed(failure))
        elif self._status != 200:
            text = b"" if failure is not None else b"".join(self._refusal)
            self._resolve(self._upstream.refused(self._status, self._headers, text))
        else:
            self._resolve(self._taker.end())

    def _break(self, failure: AnswerError) -> None:
        self._resolve(failure)
        if self.call is not None:
            self.call.cancel()

    def _resolve(self, failure: AnswerError | None) -> None:
        self.listening = False
        if self.over.done():
            return
        if failure is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(failure)


class _Whole:
    """Keeps a whole answer."""

    __slots__ = ("_limit", "_size", "_upstream", "pieces")
    kind = JSON

    def __init__(self, upstream: OpenAIUpstream, limit: int) -> None:
        self.pieces: list[bytes] = []
        self._upstream = upstream
        self._limit = limit
        self._size = 0

    def data(self, data: bytes) -> AnswerError | None:
        self._size += len(data)
        if self._size > self._limit:
            return self._upstream.bad(f"answer with at most {self._limit} bytes")
        self.pieces.append(data)
        return None

    def complete(self) -> bool:
        return False

    def end(self) -> AnswerError | None:
        return None

    def flow(self, hold: Callable[[bool], None]) -> None:
        """A whole answer is small enough to be taken."""


class _Pieces:
    """Passes a streamed answer on."""

    __slots__ = ("_passing", "_reader", "_upstream")
    kind = EVENT_STREAM

    def __init__(self, upstream: OpenAIUpstream, reader: StreamReader, passing: Passing) -> None:
        self._upstream = upstream
        self._reader = reader
        self._passing = passing

    def data(self, data: bytes) -> AnswerError | None:
        reader = self._reader
        return self._pass(reader.feed(data))

    def complete(self) -> bool:
        return self._reader.done

    def end(self) -> AnswerError | None:
        rest = self._reader.finish()
        return self._pass(rest) if self._reader.done else truncated(self._upstream.name)

    def flow(self, hold: Callable[[bool], None]) -> None:
        self._passing.on_flow = hold

    def _pass(self, data: bytes) -> AnswerError | None:
        reader, passing = self._reader, self._passing
        passing.usage, passing.completion_id = reader.usage, reader.completion_id
        passing.events = reader.events
        if reader.done:
            passing.finish(data)
        elif data:
            passing.write(data)
        if reader.failure is None and reader.pending > _MAX_EVENT:
            return self._upstream.bad("send events that end")
        return reader.failure


def _headers(accept: str, key: Secret | None) -> bytes:
    lines = [f"content-type: {JSON}", f"accept: {accept}", "accept-encoding: identity"]
    if key is not None:
        lines.append(f"authorization: Bearer {key.value}")
    return "".join(f"{line}\r\n" for line in lines).encode()
