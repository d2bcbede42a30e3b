"""The readers by themselves: what one of them refuses is refused even if the others let it pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.serve.errors import RequestError
from turnout.serve.wire.chunks import Dechunker
from turnout.serve.wire.head import CHUNKED, Head, HeadReader
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.reader import RequestReader, Room

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


def feed(reader: Any, stream: bytes, size: int) -> None:
    """In pieces of a size, none of which is the last of a message."""
    for start in range(0, len(stream), size):
        assert reader.feed(stream[start : start + size]) in (None, -1)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Content-Length: 3\r\nContent-Length: 3",
        b"Content-Length: 3, 3",
        b"Content-Length: +3",
        b"Content-Length: 3x",
        b"Content-Length: \xb2",
        b"Content-Length:",
        b"Content-Length: 9999999999999999999",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"A : b",
        b" A: b",
        b"A: b\r\n c",
        b"A",
        b": b",
        b"A: b\nB: c",
        b"A: b\rB: c",
        b"A: b\0",
        b"A: \x7f",
        b"A\xe9: b",
        b"Host: y",
    ],
)
def test_heads_are_judged_without_llhttp(lines: bytes) -> None:
    """Each rule holds by itself."""
    reader = HeadReader(Limits())
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            reader.read(GET + lines + b"\r\n\r\n")
        assert (caught.value.status, caught.value.code) == (400, "invalid_http")


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1 ",
        b"GET  / HTTP/1.1",
        b"GET /\tx HTTP/1.1",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.11",
        b"GET / HTTP/2.0",
        b"GET /",
        b"GET x HTTP/1.1",
        b"GET http://x/ HTTP/1.1",
        b"GET /#x HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"get / HTTP/1.1",
        b"CONNECT / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"",
    ],
)
def test_first_lines_are_judged_without_llhttp(first: bytes) -> None:
    """Each rule holds by itself."""
    with pytest.raises(RequestError, match=r"^request line must"):
        HeadReader(Limits()).read(first + b"\r\nHost: x\r\n\r\n")


def test_lengths() -> None:
    """None, a number, or chunks."""
    reader = HeadReader(Limits())
    for line, length in (
        (b"", 0),
        (b"Content-Length: 007\r\n", 7),
        (b"Transfer-Encoding: CHUNKED\r\n", CHUNKED),
    ):
        assert reader.read(GET + line + b"\r\n").length == length


def test_what_is_kept_of_heads() -> None:
    """No secrets, nothing long, and not without end; lines that are kept still say the same."""
    reader = HeadReader(Limits(headers=20, head_bytes=100_000))
    secret = b"sk-0123456789"
    for name in (b"Authorization", b"X-Api-Key", b"api-key", b"Cookie", b"Proxy-Authorization"):
        reader.read(GET + name + b": Bearer " + secret + b"\r\n\r\n")
    reader.read(b"GET /?key=" + secret + b" HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 300 + b"\r\n\r\n")
    kept = repr((reader._lines, reader._targets))
    assert secret.decode() not in kept
    assert "bbbb" not in kept
    assert "host" in kept
    for number in range(3000):
        first = b"GET /%d HTTP/1.1\r\nHost: x\r\n" % number
        head = reader.read(first + b"A: %d\r\nB: c\r\n\r\n" % number)
        assert head.path == f"/{number}"
        assert head.headers == [(b"host", b"x"), (b"a", b"%d" % number), (b"b", b"c")]
    assert len(reader._lines) <= 1024
    assert len(reader._targets) <= 256


BAD_CHUNKS = [
    b"\r\n",
    b"x\r\n",
    b"0x1\r\n",
    b"1_0\r\n",
    b"+1\r\n",
    b"-1\r\n",
    b" 1\r\n",
    b"1 \r\n",
    b"1;a\r\n",
    b"1\n",
    b"1\rx",
    b"0" * 17,
    b"1\r\nab",
    b"1\r\na\n",
    b"1\r\na\r\r",
    b"0\r\nA: b\r\n\r\n",
    b"0\r\n\n",
    b"0\r\n\rx",
    b"5\r\nabcde\r\n6\r\n",
]


@pytest.mark.parametrize("stream", BAD_CHUNKS)
def test_chunks_are_judged_without_llhttp(stream: bytes) -> None:
    """Whole or byte by byte, as soon as it is seen."""
    for size in (1, len(stream)):
        chunks = Dechunker(10)
        with pytest.raises(RequestError) as caught:
            feed(chunks, stream, size)
        assert caught.value.status == (413 if b"6" in stream else 400)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=5), st.data())
def test_chunks(pieces: list[bytes], more: bytes, data: st.DataObject) -> None:
    """The pieces come out in a row, however they are cut, and the end is found."""
    spelled = [b"%0*X\r\n%b\r\n" % (i + 1, len(piece), piece) for i, piece in enumerate(pieces)]
    stream = b"".join(spelled) + b"0\r\n\r\n" + more
    end = len(stream) - len(more)
    chunks = Dechunker(1000)
    fed = 0
    while True:
        size = data.draw(st.integers(1, len(stream)))
        used = chunks.feed(stream[fed : fed + size])
        if used >= 0:
            assert fed + used == end
            assert chunks.body == b"".join(pieces)
            return
        fed += size


class Lying:
    """Reads every head as if its body had so many bytes."""

    def __init__(self, length: int) -> None:
        self.length = length

    def read(self, head: bytes) -> Head:
        return Head("GET", "/", b"", "1.1", [], {}, self.length, True, False)


@pytest.mark.parametrize(
    ("told", "stream"),
    [
        (0, GET + b"Content-Length: 3\r\n\r\nabc"),
        (0, GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (3, GET + b"\r\nabc"),
        (2, GET + b"Content-Length: 3\r\n\r\nabc"),
        (4, GET + b"Content-Length: 3\r\n\r\nabcd"),
        (3, GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (8, GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nabc"),
        (CHUNKED, GET + b"Content-Length: 7\r\n\r\n0\r\n\r\n"),
        (CHUNKED, GET + b"Content-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n"),
    ],
)
def test_readers_that_differ(told: int, stream: bytes) -> None:
    """A request that llhttp ends elsewhere is refused, and nothing of it handed on."""
    for size in (1, len(stream)):
        heads: Any = Lying(told)
        reader = RequestReader(Limits(), heads, Room(1000))
        with pytest.raises(RequestError, match=r"every reader|HTTP/1\.1"):
            feed(reader, stream, size)


def test_limits_of_heads_that_repeat() -> None:
    """What is read the short way has the same limits."""
    room = Room(20)
    reader = RequestReader(Limits(body_bytes=10, head_bytes=64), HeadReader(Limits()), room)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n"
    assert reader.feed(head % b"5" + b"hello") == b""
    assert (reader.body, room.held) == (b"hello", 5)
    reader.release()
    assert reader.feed(head % b"10" + b"0123456789" + b"more") == b"more"
    assert (reader.body, reader.length, room.held) == (b"0123456789", b"10", 10)
    reader.release()
    with pytest.raises(RequestError) as caught:
        reader.feed(head % b"000000000000000011" + b"0" * 11)
    assert caught.value.status == 413
    other = RequestReader(Limits(body_bytes=10), HeadReader(Limits()), room)
    assert other.feed(head % b"5" + b"hello") == b""
    other.release()
    room.take(10)
    assert other.feed(head % b"10" + b"0123456789") == b""
    assert room.held == 20
    other.release()
    room.take(1)
    with pytest.raises(RequestError) as caught:
        other.feed(head % b"10" + b"0123456789")
    assert caught.value.status == 503
    long = RequestReader(Limits(head_bytes=65), HeadReader(Limits()), Room(1000))
    padded = head.replace(b"/ ", b"/" + b"a" * (63 - len(head % b"5")) + b" ")
    assert len(padded % b"5") == 63
    assert long.feed(padded % b"5" + b"hello") == b""
    assert long.feed(padded % b"005" + b"hello") == b""
    with pytest.raises(RequestError) as caught:
        long.feed(padded % b"0005" + b"hello")
    assert caught.value.status == 431
