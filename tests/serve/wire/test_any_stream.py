"""Streams made of good and bad lines in any order: read here and by h11, side by side."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from .sides import ours, theirs

HEADERS = st.sampled_from(
    [
        b"Host: x",
        b"host: y",
        b"A: b",
        b"A:",
        b"A: b c\t",
        b" c",
        b"\tc",
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"content-length: 3",
        b"Content-Length: 5, 5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding:\tchunked ",
        b"transfer-encoding: gzip, chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"A : b",
        b"A",
        b"A: \0",
        b"A: \r",
        b"",
    ]
)
FIRSTS = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /a?b=c HTTP/1.1",
        b"HEAD / HTTP/1.0",
        b"POST / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"GET http://x/ HTTP/1.1",
        b"CONNECT x:1 HTTP/1.1",
        b"GET / HTTP/2.0",
        b"GET /",
        b"OPTIONS * HTTP/1.1",
    ]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r"])
BODIES = st.sampled_from(
    [
        b"",
        b"hello",
        b"abc",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;x\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"00005\r\nhello\r\n000\r\n\r\n",
    ]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    lines = [draw(FIRSTS)]
    if draw(st.integers(0, 9)):
        lines.append(b"Host: x")
    lines += draw(st.lists(HEADERS, max_size=4))
    return b"".join(line + draw(ENDS) for line in lines) + draw(ENDS) + draw(BODIES)


#: Reasons for which h11 may take more, to be seen in the bytes alone.
STRICTER = re.compile(
    rb"(?<!\r)\n"  # bare LF
    rb"|\n[ \t]"  # folded lines
    rb"|transfer-encoding(?s:.)*content-length|content-length(?s:.)*transfer-encoding"
    rb"|content-length(?s:.)*content-length|content-length: 5, 5"
    rb"|expect(?s:.)*expect"
    rb"|http/1\.0\r\n(?s:.)*transfer-encoding"
    rb"|5[; ][^\r]*\r\n|0\r\na: b"  # extensions, trailers
    rb"|http://x|connect |options \*|http/2\.0"
    rb"|[^\r\n](?:get|post|head|options) ",  # no method, for a body without a length before it
    re.IGNORECASE,
)


@settings(deadline=None, max_examples=250)
@given(st.lists(messages(), min_size=1, max_size=3), st.data())
def test_any_stream(desk: Callable[..., Any], parts: list[bytes], data: st.DataObject) -> None:
    """Cut anywhere: the same requests as h11, or fewer for a reason that is listed."""
    stream = b"".join(parts * data.draw(st.integers(1, 2)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[i:j] for i, j in itertools.pairwise(edges) if i < j]
    whole, _ = ours(desk, [stream])
    cut, _ = ours(desk, pieces)
    wanted = theirs(stream)
    assert cut == whole
    assert whole == wanted[: len(whole)]
    assert len(whole) == len(wanted) or STRICTER.search(stream)
