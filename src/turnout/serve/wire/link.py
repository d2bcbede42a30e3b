"""One connection to an upstream: a request out, its answer in."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Final, cast, final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from turnout.serve.errors import where
from turnout.serve.wire.call import Call, Pool
from turnout.serve.wire.clock import NEVER
from turnout.serve.wire.fields import Fields
from turnout.serve.wire.receiver import Failure, Receiver

__all__ = ["Link"]

_log = logging.getLogger("turnout.serve")

#: What has come of an answer: not the whole head, nothing of the body, some of it, everything.
_HEAD: Final = 0
_FIRST: Final = 1
_MORE: Final = 2
_WHOLE: Final = 3
#: Failures by the stage whose next step does not come.
_LATE: Final = ("headers_timeout", "first_timeout", "idle_timeout")

_LENGTH = b"\r\ncontent-length:"
_CODING = b"\r\ntransfer-encoding:"
_CHUNKED = re.compile(_CODING + rb"[ \t]*chunked[ \t]*(?:\r\n|\Z)").search
#: Answers that have no body.
_BODILESS = frozenset((204, 304))


@final
class Link(asyncio.Protocol):
    """The protocol of one connection to an upstream: one request at a time.

    Parameters
    ----------
    pool : Pool

    Attributes
    ----------
    deadline : float
        For the clock.
    """

    __slots__ = (
        "_call",
        "_data",
        "_ends_by_closing",
        "_interim",
        "_keep",
        "_left",
        "_parser",
        "_paused",
        "_pieces",
        "_pool",
        "_raw",
        "_receiver",
        "_seen",
        "_stage",
        "_start",
        "_transport",
        "_used",
        "_wrong",
        "deadline",
    )

    def __init__(self, pool: Pool) -> None:
        self.deadline = NEVER
        self._pool = pool
        self._transport: asyncio.Transport
        self._parser = HttpResponseParser(self)
        self._call: Call | None = None
        self._receiver: Receiver | None = None
        self._data = _nothing
        self._used = 0
        self._paused = False
        # Of the answer
        self._stage: int = _HEAD
        self._seen: int = _HEAD  # the stage that the deadline belongs to
        self._raw = b""  # all that has come before the end of the head
        self._start = 0  # of the head in it, after interim answers
        self._left = 0  # bytes that the body may still have
        self._pieces: list[bytes] = []  # of the body, out of the bytes that are being read
        self._interim = False
        self._keep = False  # the connection can carry another request
        self._ends_by_closing = False
        self._wrong = ""

    # From its owner

    @property
    def closing(self) -> bool:
        """Whether it cannot carry a request any more."""
        return self._transport.is_closing()

    def take(self, call: Call, receiver: Receiver) -> None:
        """Send a request."""
        pool = self._pool
        self._call = call
        self._receiver = receiver
        self._data = receiver.data
        self._stage = self._seen = _HEAD
        self._left = pool.limits.answer_bytes
        self._used += 1
        call.link = self
        call.sent = True
        by = pool.clock.now + pool.times.headers
        self.deadline = by if by < call.total else call.total
        message = call.message
        pool.bytes_out += len(message)
        self._transport.write(message)
        if call.paused:
            self.hold(True)

    def hold(self, hold: bool) -> None:
        """Stop reading, or go on."""
        if hold == self._paused or self._transport.is_closing():
            return
        self._paused = hold
        if hold:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        call = self._call
        if call is not None and self._stage == _MORE:
            self._wait(call, NEVER if hold else self._pool.times.idle)

    def leave(self) -> None:
        """Close; the call is told nothing."""
        self._call = None
        self.close()

    def abandon(self) -> None:
        """Close; a request under way fails."""
        if self._call is not None:
            self._fail("closed")
        else:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self.deadline = NEVER
        self._receiver = None
        self._data = _nothing
        self._pool.lost(self)
        self._transport.abort()

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._pool.made(self)
        self._pool.clock.watch(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        pool = self._pool
        pool.bytes_in += len(data)
        call = self._call
        if call is None:  # nobody asked, so the next answer would be to the wrong request
            self.close()
            return
        if self._stage == _HEAD:
            self._raw = self._raw + data if self._raw else data
        try:
            self._parser.feed_data(data)
        except HttpParserCallbackError as error:
            _log.error("receiver failed: %s", where(error.__context__ or error))
            self._stop("receiver")
        except (HttpParserError, HttpParserUpgrade):
            if self._stage == _WHOLE:
                self._keep = False
            else:
                self._stop("protocol")
        if self._pieces:
            self._hand_on()
        if self._call is not call:  # the receiver has cancelled
            return
        stage = self._stage
        if self._wrong:
            self._fail(self._wrong)
        elif stage == _WHOLE:
            self._complete(call)
        elif stage == _MORE:
            self._wait(call, NEVER if self._paused else pool.times.idle)
        elif stage == _HEAD:
            if len(self._raw) > pool.limits.answer_head_bytes:
                self._fail("too_large")
        elif self._seen == _HEAD:
            self._seen = _FIRST
            self._wait(call, pool.times.first)

    def eof_received(self) -> bool:
        """The upstream sends no more."""
        call = self._call
        if call is None:
            self._pool.lost(self)
        elif self._ends_by_closing and self._stage != _HEAD:
            self._complete(call)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is no more."""
        pool = self._pool
        self.deadline = NEVER
        pool.clock.forget(self)
        pool.lost(self)
        pool.gone(self)
        del self._parser
        self._receiver = None
        self._data = _nothing
        call, self._call = self._call, None
        if call is None:
            return
        call.link = None
        heard = self._stage != _HEAD or self._raw
        if self._used > 1 and not heard:
            pool.again(call)
        else:
            call.over(Failure("closed", True, self._stage != _HEAD))

    # From the clock

    def expired(self) -> None:
        """What was waited for has not come in time."""
        call = self._call
        if call is None:
            self.close()
        else:
            late = self._pool.clock.now >= call.total
            self._fail("total_timeout" if late else _LATE[self._stage])

    # From llhttp

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self._stage == _WHOLE:
            self._keep = False

    def on_headers_complete(self) -> None:
        """The head of an answer is whole."""
        if self._stage == _WHOLE or self._wrong:
            return
        raw, start = self._raw, self._start
        end = raw.find(b"\r\n\r\n", start)
        status = self._parser.get_status_code()
        if end < 0 or status == 101:
            self._stop("protocol")
            return
        if status < 200:
            self._interim = True
            self._start = end + 4
            return
        if end - start > self._pool.limits.answer_head_bytes:
            self._stop("too_large")
            return
        head = raw[start:end]
        lower = head.lower()
        new = head.startswith(b"HTTP/1.1 ")
        codings = lower.count(_CODING)
        # llhttp takes other codings, several of them, and chunks in version 1.0
        if (codings and not (new and codings == 1 and _CHUNKED(lower))) or not (
            new or head.startswith(b"HTTP/1.0 ")
        ):
            self._stop("protocol")
            return
        keep = self._parser.should_keep_alive()  # and then the body's end is known
        self._keep = keep and new
        self._ends_by_closing = not (keep or codings or _LENGTH in lower or status in _BODILESS)
        self._raw = b""
        self._start = 0
        receiver = self._receiver
        if receiver is not None:
            self._stage = _FIRST
            receiver.head(status, Fields(head))

    def on_body(self, data: bytes) -> None:
        """A piece of a body has come."""
        if not _HEAD < self._stage < _WHOLE:  # of an answer that was refused, or not asked for
            return
        self._stage = _MORE
        self._left -= len(data)
        if self._left >= 0:
            # an upstream's chunks are not passed on one by one where several have come at once
            self._pieces.append(data)
        else:
            self._stop("too_large")

    def on_message_complete(self) -> None:
        """An answer is whole."""
        if self._interim:
            self._interim = False
        elif self._stage == _WHOLE:
            self._keep = False
        elif not self._wrong:
            self._stage = _WHOLE

    # Its own

    def _hand_on(self) -> None:
        """Give the receiver what has come of the body."""
        pieces, self._pieces = self._pieces, []
        try:
            self._data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        except Exception as error:
            _log.error("receiver failed: %s", where(error))
            self._stop("receiver")

    def _complete(self, call: Call) -> None:
        """The answer is whole."""
        self._call = call.link = self._receiver = None
        self._data = _nothing
        if self._paused:
            self.hold(False)
        pool = self._pool
        # an answer that came before the request was sent leaves the rest of it in the way
        if self._keep and not self._transport.get_write_buffer_size():
            self.deadline = pool.clock.now + pool.limits.pool_seconds
            pool.put_back(self)
        else:
            self.close()
        call.over(None)

    def _fail(self, kind: str) -> None:
        call, self._call = self._call, None
        self.close()
        if call is not None:
            call.link = None
            call.over(Failure(kind, True, self._stage != _HEAD))

    def _stop(self, kind: str) -> None:
        """The answer fails; the first reason counts."""
        if self._pieces:
            self._hand_on()
        self._data = _nothing
        self._wrong = self._wrong or kind

    def _wait(self, call: Call, seconds: float) -> None:
        """Expire so many seconds from now, or when the time for all is over."""
        by = self._pool.clock.now + seconds
        self.deadline = by if by < call.total else call.total


def _nothing(data: bytes) -> None:
    """Nobody hears it."""
