"""Streams that readers may cut at different places: read here and by h11, side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .sides import CHUNKED, GET, NEXT, POST, ours, theirs

BOTH_TAKE = {
    "plain": GET + b"\r\n",
    "two in a row": GET + b"\r\n" + NEXT,
    "body": POST + b"Content-Length: 3\r\n\r\nabc" + NEXT,
    "body of a GET": GET + b"Content-Length: 3\r\n\r\nabc" + NEXT,
    "empty body": POST + b"Content-Length: 0\r\n\r\n" + NEXT,
    "leading zeros": POST + b"Content-Length: 003\r\n\r\nabc" + NEXT,
    "chunks": CHUNKED + b"3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n" + NEXT,
    "a body that looks like a request": POST
    + b"Content-Length: %d\r\n\r\n" % len(NEXT)
    + NEXT
    + NEXT,
    "chunks that look like an end": CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n" + NEXT,
    "coding in capitals": POST + b"TRANSFER-ENCODING: Chunked\r\n\r\n0\r\n\r\n" + NEXT,
    "spaces around a value": GET + b"A: \t b c \t\r\n\r\n",
    "empty value": GET + b"A:\r\nB: \r\n\r\n",
    "bytes beyond ASCII": GET + b"A: \xff\x80\r\n\r\n",
    "a header twice": GET + b"A: 1\r\na: 2\r\n\r\n",
    "close": GET + b"Connection: close\r\n\r\n" + NEXT,
    "close among others": GET + b"Connection: x, Close ,y\r\n\r\n" + NEXT,
    "close in a second line": GET + b"Connection: x\r\nConnection: close\r\n\r\n" + NEXT,
    "version 1.0": b"GET / HTTP/1.0\r\n\r\n" + NEXT,
    "version 1.0 that would be kept": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT,
    "a wish to switch protocols": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
    + NEXT,
    "the same in chunks": POST
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\na\r\n0\r\n\r\n"
    + NEXT,
    "many methods": b"".join(
        method + NEXT[3:] for method in (b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")
    ),
    "port in the host": b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
}

BOTH_REFUSE = {
    "two different lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": POST + b"Content-Length: 3, 4\r\n\r\nabcd",
    "signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "length with underscore": POST + b"Content-Length: 1_0\r\n\r\n0123456789",
    "no length in the header": POST + b"Content-Length:\r\n\r\nabc",
    "endless length": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc",
    "other coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "quoted coding": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "vertical tab before coding": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": GET + b"A : b\r\n\r\n",
    "space before the length's colon": POST + b"Content-Length : 3\r\n\r\nabc",
    "tab before the colon": GET + b"A\t: b\r\n\r\n",
    "no name": GET + b": b\r\n\r\n",
    "no colon": GET + b"A\r\n\r\n",
    "folded first line": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a value": GET + b"A: b\0c\r\n\r\n",
    "NUL in a name": GET + b"A\0: b\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare CR in a value": GET + b"A: b\rc\r\n\r\n",
    "bare CR before a header": GET + b"A: b\rContent-Length: 3\r\n\r\nabc",
    "CR CR LF": GET + b"A: b\r\r\n\r\n",
    "bytes beyond ASCII in a name": GET + b"\xff: b\r\n\r\n",
    "bytes beyond ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab in the first line": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "space at its end": b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: x\r\n\r\n",
    "version in small letters": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "version with two digits": b"GET / HTTP/1.11\r\nHost: x\r\n\r\n",
    "another protocol": b"GET / RTSP/1.0\r\nHost: x\r\n\r\n",
    "blank lines first": b"\r\n\r\n" + NEXT,
    "one blank line first": b"\r\n" + NEXT,
    "blank line between": NEXT + b"\r\n" + NEXT,
    "space first": b" " + NEXT,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no size": CHUNKED + b"\r\nabc\r\n0\r\n\r\n",
    "signed size": CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n",
    "negative size": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "size with 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "size with underscore": CHUNKED + b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "space before the size": CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n",
    "size beyond any": CHUNKED + b"F" * 40 + b"\r\nabc\r\n0\r\n\r\n",
    "chunk longer than its size": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "chunk shorter than its size": CHUNKED + b"4\r\nabc\r\n0\r\n\r\n",
    "bare LF after the size": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "bare LF after the chunk": CHUNKED + b"3\r\nabc\n0\r\n\r\n",
    "bare CR after the size": CHUNKED + b"3\rabc\r\n0\r\n\r\n",
    "bare LF in an extension": CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "no end": CHUNKED + b"3\r\nabc\r\n",
    "half a head": GET,
    "half a body": POST + b"Content-Length: 3\r\n\r\nab",
}

#: What only h11 takes, and why it is refused here.
ONLY_H11 = {
    "bare LF": (
        b"GET / HTTP/1.1\nHost: x\n\n",
        "a reader on the way that wants CR LF sees another head",
    ),
    "bare LF after a value": (
        GET + b"A: b\nContent-Length: 3\r\n\r\nabc",
        "the same; the length is part of a value to others",
    ),
    "bare LF before the body": (
        POST + b"Content-Length: 3\r\n\nabc",
        "the same",
    ),
    "folded line": (GET + b"A: b\r\n c\r\n\r\n", "obsolete; readers disagree on what it means"),
    "folded length": (
        POST + b"Content-Length:\r\n 3\r\n\r\nabc",
        "the same, about where the body ends",
    ),
    "length and coding": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "readers disagree on which one counts",
    ),
    "coding and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "the same",
    ),
    "the same length twice": (
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "nobody honest sends it",
    ),
    "a list of the same length": (POST + b"Content-Length: 3, 3\r\n\r\nabc", "the same"),
    "chunks in version 1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "version 1.0 has no chunks; others read no body",
    ),
    "chunk extension": (
        CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n",
        "readers disagree on where it ends",
    ),
    "spaces after the size": (CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", "not in the grammar"),
    "trailer": (
        CHUNKED + b"0\r\nContent-Length: 3\r\n\r\n" + NEXT,
        "some readers take trailers for headers, of this request or the next",
    ),
    "size of many digits": (CHUNKED + b"0" * 17 + b"3\r\nabc\r\n0\r\n\r\n", "readers overflow"),
    "target of a proxy": (
        b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "two hosts, and this is no proxy",
    ),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "no path is meant by it"),
    "target without a slash": (b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", "not in the grammar"),
    "tunnel": (b"CONNECT y:1 HTTP/1.1\r\nHost: y:1\r\n\r\n", "this is no proxy"),
    "tunnel to a path": (b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", "the same"),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", "never sent to servers"),
    "version 2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "another protocol"),
    "version 1.2": (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", "there is none"),
    "version 0.9": (b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", "it has no headers"),
    "unknown method": (b"FETCH / HTTP/1.1\r\nHost: x\r\n\r\n", "llhttp knows its methods"),
    "method in small letters": (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", "the same"),
    "control byte in a value": (GET + b"A: b\x01c\r\n\r\n", "not in the grammar"),
    "DEL in a value": (GET + b"A: b\x7fc\r\n\r\n", "the same"),
    "host with a space": (b"GET / HTTP/1.1\r\nHost: x y\r\n\r\n", "no host is written so"),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "the same"),
    "host with a user": (b"GET / HTTP/1.1\r\nHost: x@y\r\n\r\n", "the same"),
    "list of hosts": (b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", "the same"),
    "two keys": (GET + b"Authorization: a\r\nAuthorization: b\r\n\r\n", "whose request is it"),
    "two types": (GET + b"Content-Type: a\r\nContent-Type: b\r\n\r\n", "readers pick either"),
    "another expectation": (GET + b"Expect: 200-ok\r\n\r\n", "it cannot be met: status 417"),
}


@pytest.mark.parametrize("name", BOTH_TAKE)
def test_what_both_take(desk: Callable[..., Any], name: str) -> None:
    """The same requests, however the bytes arrive."""
    stream = BOTH_TAKE[name]
    wanted = theirs(stream)
    assert wanted
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        assert ours(desk, pieces) == (wanted, False)


@pytest.mark.parametrize("name", BOTH_REFUSE)
def test_what_both_refuse(desk: Callable[..., Any], name: str) -> None:
    """Neither takes the message; a whole one that stood before it counts."""
    stream = BOTH_REFUSE[name]
    wanted = theirs(stream)
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        messages, _ = ours(desk, pieces)
        assert messages == wanted
    assert len(wanted) == (name == "blank line between")


@pytest.mark.parametrize("name", ONLY_H11)
def test_what_is_refused_here_alone(desk: Callable[..., Any], name: str) -> None:
    """Every difference is one where this server is the stricter, and tells so."""
    stream, reason = ONLY_H11[name]
    assert reason
    assert theirs(stream)
    for pieces in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        assert ours(desk, pieces) == ([], True)


@pytest.mark.parametrize(
    "digits", ["3", "003", "0", "+3", "0x3", "3 3", "", " 3", "9" * 19, "3\r\nA: b"]
)
@pytest.mark.parametrize("more", [b"", b"A: b\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
def test_a_head_that_repeats_the_last_one(
    desk: Callable[..., Any], more: bytes, digits: str
) -> None:
    """It is read as if it were the first, whatever stands where its length should."""
    first = POST + b"Content-Length: 5\r\n" + more + b"\r\nhello"
    again = POST + b"Content-Length: %b\r\n" % digits.encode() + more + b"\r\n"
    again += b"" if digits == "0" else b"abc"
    stream = first + first + again + first
    wanted = theirs(stream)
    assert len(wanted) >= 2
    for pieces in ([stream], [first, first, again, first], [stream[:-1], stream[-1:]]):
        assert ours(desk, pieces)[0] == wanted


@pytest.mark.parametrize("place", ["method", "target", "name", "value", "size", "after"])
def test_every_byte_everywhere(desk: Callable[..., Any], place: str) -> None:
    """Of all 256 bytes, in each place, none is taken that h11 does not take the same way."""
    for code in range(256):
        byte = bytes([code])
        stream = {
            "method": b"GET" + byte + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
            "target": b"GET /a" + byte + b"b HTTP/1.1\r\nHost: x\r\n\r\n",
            "name": GET + b"A" + byte + b"B: c\r\n\r\n",
            "value": GET + b"A: b" + byte + b"c\r\n\r\n",
            "size": CHUNKED + b"1" + byte + b"\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n",
            "after": GET + b"\r\n" + byte,
        }[place]
        messages, _ = ours(desk, [stream])
        wanted = theirs(stream)
        if messages != wanted:
            assert messages == wanted[: len(messages)]
            assert (
                code < 0x20
                or code == 0x7F
                or place == "method"  # llhttp knows its methods
                or (place == "target" and byte == b"#")
                or (place == "size" and byte in b"; \t")
            ), byte
