"""One connection of a client: bytes in, requests out, answers back in the same order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from typing import Final, cast, final

from turnout.serve.errors import JSON_LINE, RequestError, body, where
from turnout.serve.wire._refusals import full, too_slow
from turnout.serve.wire.clock import NEVER
from turnout.serve.wire.reader import BODY, EMPTY, HEAD, RequestReader
from turnout.serve.wire.request import Request
from turnout.serve.wire.status import FIRST_LINES, unnamed
from turnout.serve.wire.worker import Worker

__all__ = ["Connection"]

_log = logging.getLogger("turnout.serve")

#: What a connection is at.
_READS: Final = 0
_BUSY: Final = 1  # a request waits for its answer
_LINGERS: Final = 2  # the last answer is sent; what still comes is thrown away
_CLOSED: Final = 3

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
#: Connections beyond the limit that are told so at the same time; more are just closed.
_TOLD = 64
#: Seconds for what is already on its way to an idle connection when the server drains.
_GRACE = 0.1
#: Seconds after which a client that sends no more is first asked again whether it is there.
_PROBE = 0.05
_RESET = struct.pack("ii", 1, 0)


@final
class Connection(asyncio.Protocol):
    """The protocol of one client's connection.

    Requests are answered one after the other. What a client sends ahead waits as bytes, and
    reading pauses when these are many.

    Parameters
    ----------
    worker : Worker

    Attributes
    ----------
    deadline : float
        For the clock.
    written : int
        Bytes sent.
    """

    __slots__ = (
        "_blocked",
        "_by",
        "_client",
        "_ending",
        "_eof",
        "_flushed",
        "_gap",
        "_last",
        "_mode",
        "_paused",
        "_pumping",
        "_reader",
        "_request",
        "_rest",
        "_transport",
        "_worker",
        "deadline",
        "written",
    )

    def __init__(self, worker: Worker) -> None:
        self.deadline = NEVER
        self.written = 0
        self._worker = worker
        self._reader = RequestReader(worker.limits, worker.heads, worker.room)
        self._transport: asyncio.Transport
        self._client = ""
        self._request: Request | None = None
        self._mode = _READS
        self._rest = b""  # what came after the request in progress
        self._by = NEVER  # when the request that arrives is to be whole
        self._gap = _PROBE
        self._flushed = 0  # bytes that the kernel had taken when it was last looked at
        self._blocked = self._eof = self._last = self._paused = self._pumping = False
        self._ending = False  # no request is to be taken that has not begun to come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._client = peer[0]
        worker = self._worker
        limit = worker.limits.connections
        worker.connections.add(self)
        worker.clock.watch(self)
        if len(worker.connections) > limit:
            worker.turned_away += 1
            if len(worker.connections) > limit + _TOLD:
                self.cut()
            else:
                self._refuse(full("connections", limit))
            return
        worker.accepted += 1
        self.deadline = worker.clock.now + worker.limits.head_seconds
        if worker.draining:
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        worker = self._worker
        worker.bytes_in += len(data)
        if self._mode == _READS and not self._blocked:
            self._rest = data
            self._pump()
        elif self._mode <= _BUSY:
            self._rest += data
            if len(self._rest) > worker.limits.ahead_bytes and not self._paused:
                self._paused = True
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; if it still waits for an answer, it gets it."""
        self._eof = self._ending = True
        if self._mode == _BUSY:
            # TLS has no half-closed connections
            half = self._transport.get_extra_info("sslcontext") is None
            if half:
                self._doubt()
            return half
        if self._mode == _READS and self._rest:
            return True
        if self._mode == _READS:
            self._shut()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is no more."""
        worker = self._worker
        self._mode = _CLOSED
        self.deadline = NEVER
        worker.clock.forget(self)
        worker.connections.discard(self)
        worker.bytes_out += self.written
        self.written = 0
        self._reader.close()
        self._rest = b""
        request, self._request = self._request, None
        if request is not None:
            request.lose()
        if worker.emptied is not None and not worker.connections:
            worker.emptied()

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        self._blocked = True
        self._await_flush()
        if self._request is not None:
            self._request.flow(True)

    def resume_writing(self) -> None:
        """The client has taken what was sent."""
        self._blocked = False
        if self._mode == _BUSY:
            self.deadline = NEVER
            self._doubt()
            if self._request is not None:
                self._request.flow(False)
        elif self._mode == _READS and not self._pumping:
            self._pump()

    def expired(self) -> None:
        """What was waited for has not come in time."""
        limits = self._worker.limits
        mode = self._mode
        waiting = self._transport.get_write_buffer_size()
        if mode == _BUSY and not self._blocked:
            self._probe()
        elif waiting and (self._blocked or mode >= _LINGERS):
            if self.written - waiting > self._flushed:
                self._await_flush()
            else:
                self.cut()
        elif waiting or mode == _CLOSED:
            self.cut()
        elif mode == _READS and self._reader.stage == HEAD:
            self._refuse(too_slow("request head", limits.head_seconds))
        elif mode == _READS and self._reader.stage == BODY:
            self._refuse(too_slow("request body", limits.body_seconds))
        else:
            self._shut()

    def reply(self, status: int, headers: bytes, body: bytes, size: int | None) -> None:
        """Send a whole answer; `size` is the length to tell, None for none."""
        reader = self._reader
        last = not reader.head.keep or (self._ending and not self._rest)
        length = b"" if size is None else b"content-length: %d\r\n" % size
        told = b"%b%b%b%b%b\r\n%b" % (
            FIRST_LINES.get(status) or unnamed(status),
            headers,
            length,
            self._worker.date,
            _CLOSE if last else b"",
            body,
        )
        self.written += len(told)
        self._transport.write(told)
        self._last = last
        if last or self._pumping or self._rest or self._ending or self._paused or self._blocked:
            self.finish()
            return
        # what `finish` comes to, most of the time
        worker = self._worker
        worker.room.held -= reader.held
        reader.held = 0
        self._request = None
        self._mode = _READS
        self.deadline = worker.clock.now + worker.limits.idle_seconds

    def start(self, status: int, headers: bytes) -> None:
        """Send the head of an answer."""
        self._last = not self._reader.head.keep or (self._ending and not self._rest)
        first = FIRST_LINES.get(status) or unnamed(status)
        close = _CLOSE if self._last else b""
        self.put(b"%b%b%b%b\r\n" % (first, headers, self._worker.date, close))

    def put(self, data: bytes) -> None:
        """Send."""
        self.written += len(data)
        self._transport.write(data)

    def finish(self) -> None:
        """The answer is whole: go on with what has come meanwhile."""
        self._request = None
        self._reader.release()
        if self._last:
            self._leave()
            return
        self._mode = _READS
        if not self._pumping:
            self._pump()

    def break_off(self, *, reset: bool) -> None:
        """Close without finishing; `reset`: so that even an answer without a length is broken."""
        self._request = None
        if reset:
            self.cut()
        else:
            self._shut()

    def drain(self) -> None:
        """Close if idle, but not before what is already on its way has been read."""
        self._ending = True
        if self._mode == _READS and self._reader.stage == EMPTY and not self._rest:
            self.deadline = min(self.deadline, self._worker.clock.now + _GRACE)

    def cut(self) -> None:
        """Close at once, so that the client cannot take what it has for a whole answer."""
        self._mode = _CLOSED
        self.deadline = NEVER
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):  # it may be closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _pump(self) -> None:
        """Hand on the requests that have come whole, one after the other."""
        worker, reader = self._worker, self._reader
        self._pumping = True
        while self._rest and self._mode == _READS and not self._blocked:
            data, self._rest = self._rest, b""
            before = reader.stage
            try:
                rest = reader.feed(data)
            except RequestError as error:
                self._refuse(error)
                break
            if rest is None:
                self._await_more(before)
                break
            self._rest = rest
            self._mode = _BUSY
            self.deadline = NEVER
            worker.requests += 1
            request = Request(self, self._client, reader.head, reader.length, reader.body)
            self._request = request
            reader.body = b""
            try:
                worker.handle(request)
            except Exception as error:
                self._failed(request, error)
            if self._eof:
                self._doubt()
        self._pumping = False
        if self._mode == _READS and not self._blocked:
            if self._eof:
                self._shut()
                return
            if reader.stage == EMPTY:
                limits = worker.limits
                seconds = _GRACE if worker.draining else limits.idle_seconds
                self.deadline = worker.clock.now + seconds
        if self._paused and len(self._rest) <= worker.limits.ahead_bytes:
            self._paused = False
            self._transport.resume_reading()

    def _await_more(self, before: int) -> None:
        """The request is not whole: say until when there is time."""
        limits, now, reader = self._worker.limits, self._worker.clock.now, self._reader
        if before == EMPTY:
            self._by = now + limits.request_seconds
            self.deadline = now + limits.head_seconds
        if reader.stage == BODY:
            self.deadline = min(now + limits.body_seconds, self._by)
            if reader.asks:
                reader.asks = False
                self.put(_CONTINUE)

    def _failed(self, request: Request, error: Exception) -> None:
        """The handler raised."""
        _log.error("request failed: %s", where(error))
        if request.started:
            request.abort()
        else:
            request.reply(500, JSON_LINE, body(error))

    def _refuse(self, error: RequestError) -> None:
        """Tell the client what is wrong, and hear it no more."""
        self._worker.refuse(error.status)
        told = body(error)
        self._reader.release()
        self.put(
            b"%b%bcontent-length: %d\r\n%b%b\r\n%b"
            % (FIRST_LINES[error.status], JSON_LINE, len(told), self._worker.date, _CLOSE, told)
        )
        self._leave()

    def _doubt(self) -> None:
        """Before long find out whether a client that sends no more still waits for its answer."""
        if self._eof and self._mode == _BUSY and not self._blocked:
            self._gap = _PROBE
            self.deadline = self._worker.clock.now + _PROBE

    def _probe(self) -> None:
        """Send something without meaning to a client that sends no more.

        Whether it closed one direction or both looks the same from here. An interim answer is
        nothing to a client that listens; one that is gone refuses it, and the next write fails.
        """
        request = self._request
        if request is None:
            return
        if not request.started and request.http_version == "1.1":
            self.put(_CONTINUE)
        elif not request.doubt():
            return
        if self._mode == _BUSY:
            self.deadline = self._worker.clock.now + self._gap
            self._gap *= 2

    def _await_flush(self) -> None:
        """Give the client some time to take something of what waits for it."""
        self._flushed = self.written - self._transport.get_write_buffer_size()
        self.deadline = self._worker.clock.now + self._worker.limits.unread_seconds

    def _leave(self) -> None:
        """Close in good order: with bytes still unread, a plain close would destroy the answer."""
        transport = self._transport
        if self._eof or transport.is_closing() or not transport.can_write_eof():
            self._shut()
            return
        self._mode = _LINGERS
        self._rest = b""
        transport.write_eof()
        if self._paused:
            transport.resume_reading()
        if transport.get_write_buffer_size():
            self._await_flush()
        else:
            self.deadline = self._worker.clock.now + self._worker.limits.linger_seconds

    def _shut(self) -> None:
        """Close once everything is sent."""
        self._mode = _CLOSED
        self._rest = b""
        self._transport.close()
        self._await_flush()
