"""Cuts requests out of the bytes of one connection.

llhttp and the readers of this package read the same bytes, each on its own; a request counts only
where both end it at the same byte. A head that repeats the last one of its connection, but for the
digits of the length, says the same again and is not read a second time.
"""

from __future__ import annotations

import re
from typing import Final, final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from turnout.serve.errors import RequestError
from turnout.serve.wire._refusals import body_too_long, full, head_too_long, malformed
from turnout.serve.wire.chunks import Dechunker
from turnout.serve.wire.head import CHUNKED, Head, HeadReader
from turnout.serve.wire.limits import Limits

__all__ = ["BODY", "EMPTY", "HEAD", "RequestReader", "Room"]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE).search
#: Digits of a length.
_DIGITS = 18

#: Nothing of a request has come.
EMPTY: Final = 0
#: Some of a head has come.
HEAD: Final = 1
#: The head and perhaps some of the body have come.
BODY: Final = 2


@final
class Room:
    """Counts the bytes of all bodies in memory.

    Parameters
    ----------
    limit : int

    Attributes
    ----------
    limit : int
    held : int
        Bytes now; who gives some back subtracts them.
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.held = 0
        self.limit = limit

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises
        ------
        RequestError
            There is no room for them; status 503.
        """
        if self.held + size > self.limit:
            raise full("bytes of all requests", self.limit)
        self.held += size


@final
class RequestReader:
    """Reads one request after the other.

    Parameters
    ----------
    limits : Limits
    heads : HeadReader
    room : Room

    Attributes
    ----------
    stage : int
        `EMPTY`, `HEAD` or `BODY`.
    head : Head
        Of the last whole head.
    length : bytes or None
        The length that stands in the last head.
    body : bytes
        Of the last whole request.
    held : int
        Bytes of the body that stand in `room`.
    asks : bool
        The client waits for leave to send the body; for the connection to take back.
    """

    __slots__ = (
        "_after",
        "_alone",
        "_before",
        "_chunks",
        "_got",
        "_heads",
        "_longest",
        "_missing",
        "_most",
        "_parser",
        "_part",
        "_read",
        "_room",
        "_upgrade",
        "_whole",
        "asks",
        "body",
        "head",
        "held",
        "length",
        "stage",
    )

    def __init__(self, limits: Limits, heads: HeadReader, room: Room) -> None:
        self.stage = EMPTY
        self.head: Head
        self.length: bytes | None = None
        self.body = b""
        self.held = 0
        self.asks = False
        self._longest = limits.head_bytes
        self._most = limits.body_bytes
        self._read = heads.read
        self._room = room
        self._parser = HttpRequestParser(self)
        self._before = b""  # the last head up to the length, where it may be repeated
        self._after: bytes | None = None  # and from there to its end; None: it has no length
        self._part = b""  # of a head
        self._heads = 0  # that llhttp has seen
        self._whole = False  # llhttp has seen the end of the message
        self._upgrade = False
        self._alone = False  # llhttp does not read this body
        self._missing = 0
        self._got = bytearray()
        self._chunks: Dechunker | None = None

    def feed(self, data: bytes) -> bytes | None:
        """Take in some bytes, at least one.

        Returns
        -------
        bytes or None
            What follows the request, once it is whole; None while it is not.

        Raises
        ------
        RequestError
            This is no request, or one beyond the limits. Nothing more can be read.
        """
        if self.stage == BODY:
            return self._feed_body(data)
        before = self._before
        if before and data.startswith(before) and self.stage == EMPTY:
            start = len(before)
            after = self._after
            if after is None:
                self.body = b""
                return data[start:]
            stop = data.find(b"\r", start, start + _DIGITS + 1)
            digits = data[start:stop]
            if digits.isdigit() and data.startswith(after, stop):
                size = int(digits)
                start = stop + len(after)
                end = start + size
                room = self._room
                if (
                    size <= self._most
                    and end <= len(data)
                    and room.held + size <= room.limit
                    and start <= self._longest
                ):
                    room.held += size
                    self.held += size
                    self.length = digits
                    self.body = data[start:end]
                    return data[end:]
        return self._feed_head(data)

    def release(self) -> None:
        """The last request is done with: its body no longer counts."""
        if self.held:
            self._room.held -= self.held
            self.held = 0

    def close(self) -> None:
        """Let go of everything; nothing more is read."""
        self.release()
        del self._parser, self._read
        self._part = self._before = self.body = b""
        self._after = None
        self._got = bytearray()
        self._chunks = None

    def on_headers_complete(self) -> None:
        """For llhttp: a head is whole."""
        self._heads += 1

    def on_message_complete(self) -> None:
        """For llhttp: a message is whole."""
        self._whole = True

    def _feed_head(self, data: bytes) -> bytes | None:
        self.stage = HEAD
        part = self._part
        fed = len(part)
        if fed:
            data = part + data
        end = data.find(b"\r\n\r\n", max(0, fed - 3)) + 4
        if end < 4:
            if len(data) > self._longest:
                raise head_too_long(self._longest)
            self._check(data[fed:])
            if self._heads:
                raise _differs()
            self._part = data
            return None
        if end > self._longest:
            raise head_too_long(self._longest)
        self._part = self._before = b""
        self._check(data[fed:end])
        raw = data[:end]
        self.head = head = self._read(raw)
        self.length = head.fields.get(b"content-length")
        size = head.length
        if self._heads != 1 or self._whole != (size == 0 or self._upgrade):
            raise _differs()
        self._heads = 0
        self._whole = False
        self._alone = self._upgrade
        self._upgrade = False
        self._remember(raw)
        if size == 0:
            self.body = b""
            self.stage = EMPTY
            return data[end:]
        if size == CHUNKED:
            self._chunks = Dechunker(self._most)
        elif size > self._most:
            raise body_too_long(self._most, size)
        self._missing = size
        self.stage = BODY
        if end < len(data):
            return self._feed_body(data[end:])
        self.asks = head.waits
        return None

    def _remember(self, raw: bytes) -> None:
        """Keep a head that may be repeated: one without a body, or whose body has a length."""
        if self.length is not None:
            found = _LENGTH(raw)
            if found is not None:
                self._before, self._after = raw[: found.start(1)], raw[found.end(1) :]
        elif self.head.length == 0:
            self._before, self._after = raw, None

    def _feed_body(self, data: bytes) -> bytes | None:
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        missing = self._missing
        size = len(data)
        if size < missing:
            self._take(size)
            self._got += data
            self._missing = missing - size
            if not self._alone:
                self._check(data)
                if self._whole:
                    raise _differs()
            return None
        self._take(missing)
        rest = b""
        if size > missing:
            data, rest = data[:missing], data[missing:]
        if self._got:
            self.body = bytes(self._got + data)
            self._got = bytearray()
        else:
            self.body = data
        self._end(data)
        return rest

    def _feed_chunks(self, chunks: Dechunker, data: bytes) -> bytes | None:
        before = len(chunks.body)
        used = chunks.feed(data)
        self._take(len(chunks.body) - before)
        if used < 0:
            if not self._alone:
                self._check(data)
                if self._whole:
                    raise _differs()
            return None
        self.body = bytes(chunks.body)
        self._chunks = None
        self._end(data[:used])
        return data[used:]

    def _end(self, data: bytes) -> None:
        """The body ends with these bytes; llhttp is to think so too."""
        if not self._alone:
            self._check(data)
            if not self._whole:
                raise _differs()
            self._whole = False
        self.stage = EMPTY

    def _take(self, size: int) -> None:
        self._room.take(size)
        self.held += size

    def _check(self, data: bytes) -> None:
        """Let llhttp read."""
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            # Nobody switches protocols here. The head counts, the wish does not; llhttp takes
            # the message to end with its head, so its body is read without it.
            self._upgrade = True
        except HttpParserError:
            rule = "be HTTP/1.1"
            raise malformed("request", rule, "something else", "Correct the client.") from None


def _differs() -> RequestError:
    rule = "end where every reader sees its end"
    return malformed("request", rule, "one that is ambiguous", "Correct the client.")
