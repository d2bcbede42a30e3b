"""What an origin asks and hears, from scripted upstreams on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from turnout.core import InputError
from turnout.serve.wire.client import Failure, Origin, Times
from turnout.serve.wire.clock import Clock
from turnout.serve.wire.limits import Limits

Run = Callable[[Callable[[], Awaitable[None]]], None]

OK = b"HTTP/1.1 200 OK\r\n"
HELLO = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def test_what_is_sent(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """The request is the given lines and nothing but host and length; both ends are counted."""

    async def main() -> None:
        with script(["read", HELLO, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/v1/x?y=z", b"a: b\r\nc: d\r\n", b"body", heard)
                assert not heard.began.is_set()  # nothing is called before post returns
                await heard.ended.wait()
                request = (
                    b"POST /v1/x?y=z HTTP/1.1\r\nhost: 127.0.0.1:%d\r\na: b\r\nc: d\r\n"
                    b"content-length: 4\r\n\r\nbody" % upstream.port
                )
                assert upstream.requests == [request]
                assert (origin.bytes_out, origin.bytes_in) == (len(request), len(HELLO))
                assert (origin.connected, origin.reused, origin.open, origin.idle) == (1, 0, 1, 1)

    run(main)


#: Answer, status, body, whether the connection is kept. Steps after bytes are the script's.
WHOLE: dict[str, tuple[list[bytes | str], int, bytes, bool]] = {
    "length": ([HELLO], 200, b"hello", True),
    "no body": ([OK + b"Content-Length: 0\r\n\r\n"], 200, b"", True),
    "chunks": ([CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"], 200, b"hello", True),
    "extensions and trailers": (
        [CHUNKED + b"5;a=b\r\nhello\r\n0\r\nT: u\r\n\r\n"],
        200,
        b"hello",
        True,
    ),
    "status 204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b"", True),
    "status 304": ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"], 304, b"", True),
    "status without a name": ([b"HTTP/1.1 529\r\nContent-Length: 2\r\n\r\nno"], 529, b"no", True),
    "interim answers": (
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + HELLO],
        200,
        b"hello",
        True,
    ),
    "wish to switch protocols": (
        [OK + b"Connection: upgrade\r\nUpgrade: h2\r\nContent-Length: 5\r\n\r\nhello"],
        200,
        b"hello",
        True,
    ),
    "close": ([OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"], 200, b"hello", False),
    "until it closes": ([OK + b"\r\nhel", b"lo", "close"], 200, b"hello", False),
    "nothing until it closes": ([OK + b"\r\n", "close"], 200, b"", False),
    "version 1.0": ([b"HTTP/1.0 200 OK\r\n\r\nhello", "close"], 200, b"hello", False),
    "version 1.0 with a length": (
        [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"],
        200,
        b"hello",
        False,
    ),
    "bytes after the end": ([HELLO + b"x"], 200, b"hello", False),
    "bytes after chunks": ([CHUNKED + b"5\r\nhello\r\n0\r\n\r\nx"], 200, b"hello", False),
    "some of another answer": ([HELLO + b"HTTP/1.1 2"], 200, b"hello", False),
    "another answer": ([HELLO + HELLO], 200, b"hello", False),
    "bytes after status 204": ([b"HTTP/1.1 204 No Content\r\n\r\nx"], 204, b"", False),
    "bytes after close": (
        [OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhellox"],
        200,
        b"hello",
        False,
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_answers(run: Run, script: Any, origin_of: Any, ears: Any, name: str) -> None:
    """Status and body are handed on; the connection is kept where nothing is in doubt."""
    steps, status, body, kept = WHOLE[name]

    async def main() -> None:
        with script(["read", *steps, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.failure is None
                assert (heard.status, heard.body) == (status, body)
                assert origin.idle == kept

    run(main)


#: Answer, kind of the failure, whether the head was handed on.
BROKEN: dict[str, tuple[list[bytes | str], str, bool]] = {
    "nothing": (["close"], "closed", False),
    "reset": (["reset", "close"], "closed", False),
    "half a head": ([OK, "close"], "closed", False),
    "only interim": ([b"HTTP/1.1 100 Continue\r\n\r\n", "close"], "closed", False),
    "half a body": ([HELLO[:-1], "close"], "closed", True),
    "half a body, reset": ([HELLO[:-1], "reset", "close"], "closed", True),
    "no last chunk": ([CHUNKED + b"5\r\nhello\r\n", "close"], "closed", True),
    "half a chunk": ([CHUNKED + b"5\r\nhel", "close"], "closed", True),
    "no end of the last chunk": ([CHUNKED + b"5\r\nhello\r\n0\r\n", "close"], "closed", True),
    "until it is reset": ([OK + b"\r\nhello", "go", "reset", "close"], "closed", True),
    "garbage": ([b"SSH-2.0-OpenSSH_9.2\r\n"], "protocol", False),
    "bare LF": ([b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"], "protocol", False),
    "version 2.0": ([b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"], "protocol", False),
    "another protocol": ([b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"], "protocol", False),
    "blank lines first": ([b"\r\n\r\n" + HELLO], "protocol", False),
    "switch": ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"], "protocol", False),
    "two lengths": ([OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"], "protocol", False),
    "length and chunks": (
        [OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"],
        "protocol",
        False,
    ),
    "chunks and length": (
        [OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"],
        "protocol",
        False,
    ),
    "other coding": (
        [OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
        "protocol",
        False,
    ),
    "unknown coding": ([OK + b"Transfer-Encoding: gzip\r\n\r\nxyz"], "protocol", False),
    "coding twice": (
        [OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        "protocol",
        False,
    ),
    "chunks in version 1.0": (
        [b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        "protocol",
        False,
    ),
    "folded line": ([OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n"], "protocol", False),
    "bad size": ([CHUNKED + b"x\r\n"], "protocol", True),
    "bad chunk": ([CHUNKED + b"1\r\nabc"], "protocol", True),
    "long head": ([OK + b"A: " + b"b" * 300], "too_large", False),
    "long head, whole": ([OK + b"A: " + b"b" * 300 + b"\r\n\r\n"], "too_large", False),
    "many interim answers": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 20], "too_large", False),
    "long body": ([OK + b"Content-Length: 101\r\n\r\n" + b"x" * 101], "too_large", True),
    "long chunks": ([CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n1\r\ny"], "too_large", True),
    "long until it closes": ([OK + b"\r\n" + b"x" * 101], "too_large", True),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answers(run: Run, script: Any, origin_of: Any, ears: Any, name: str) -> None:
    """They fail by their kind, after what came of them, and the connection is closed."""
    steps, kind, began = BROKEN[name]

    async def main() -> None:
        with script(["read", *steps, "wait"]) as up:
            limits = Limits(answer_head_bytes=200, answer_bytes=100)
            async with origin_of(up.url, limits=limits) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                if "go" in steps:
                    await heard.some.wait()
                    up.go.set()
                await heard.ended.wait()
                assert heard.failure == Failure(kind, True, began)
                assert bool(heard.status) == began
                assert len(heard.body) <= 100
                assert origin.idle == 0

    run(main)


@pytest.mark.parametrize("name", ["chunks", "interim answers", "extensions and trailers"])
def test_answers_in_single_bytes(
    run: Run, script: Any, origin_of: Any, ears: Any, name: str
) -> None:
    """However they are cut, they say the same."""
    steps, status, body, kept = WHOLE[name]
    (answer,) = steps

    async def main() -> None:
        cut = [answer[i : i + 1] for i in range(len(answer))]
        with script(["read", *cut, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.failure is None
                assert (heard.status, heard.body, origin.idle) == (status, body, kept)

    run(main)


@pytest.mark.parametrize(
    ("rest", "failure"),
    [(b"0\r\n\r\n", None), (b"nonsense\r\n", Failure("protocol", True, True))],
)
def test_chunks_that_come_together_are_heard_together(
    run: Run, script: Any, origin_of: Any, ears: Any, rest: bytes, failure: Failure | None
) -> None:
    """One piece for all chunks of a read, also before what is wrong in the same read."""
    chunks = b"2\r\nhe\r\n2\r\nll\r\n1\r\no\r\n"

    async def main() -> None:
        with script(["read", CHUNKED + chunks + rest, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.pieces == [b"hello"]
                assert heard.failure == failure

    run(main)


def test_headers_of_an_answer(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """Names are in lower case, values without outer spaces, in order; `get` finds the first."""

    async def main() -> None:
        lines = b"X-B:\tone \r\nContent-Length: 0\r\nx-b: two\r\nEmpty:\r\n\r\n"
        with script(["read", OK + lines, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                for fields in (heard.fields, heard.headers):
                    assert list(fields) == [
                        (b"x-b", b"one"),
                        (b"content-length", b"0"),
                        (b"x-b", b"two"),
                        (b"empty", b""),
                    ]
                assert heard.first == (b"one", b"", None)
                assert heard.fields.get(b"x-b") == b"one"
                assert heard.fields.get(b"x") is None
                assert (len(heard.fields), heard.fields[-1]) == (4, (b"empty", b""))

    run(main)


def test_connections_are_used_again(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """One request after the other goes over the same one."""

    async def main() -> None:
        steps = ["read", HELLO, "read", CHUNKED + b"0\r\n\r\n", "read", HELLO, "wait"]
        with script(steps) as upstream:
            async with origin_of(upstream.url) as origin:
                for body in (b"hello", b"", b"hello"):
                    heard = ears()
                    origin.post(b"/", b"", b"", heard)
                    await heard.ended.wait()
                    assert (heard.failure, heard.body) == (None, body)
                assert (origin.connected, origin.reused, origin.idle) == (1, 2, 1)

    run(main)


def test_no_more_than_the_limit_are_kept(run: Run, served: Any, origin_of: Any, ears: Any) -> None:
    """Connections beyond it are closed after their answer; the last one back is the first out."""

    async def main() -> None:
        def handle(request: Any) -> None:
            waiting.put_nowait(request)

        waiting: asyncio.Queue[Any] = asyncio.Queue()
        async with (
            served(handle) as (server, port),
            origin_of(f"http://127.0.0.1:{port}", limits=Limits(pool=2)) as origin,
        ):
            heard = [ears() for _ in range(3)]
            for one in heard:
                origin.post(b"/", b"", b"", one)
            requests = [await waiting.get() for _ in heard]
            for request in requests:
                request.reply(200, b"", b"")
            for one in heard:
                await one.ended.wait()
            assert (origin.connected, origin.idle) == (3, 2)
            again = ears()
            origin.post(b"/", b"", b"", again)
            last = await waiting.get()
            assert last._wire is requests[1]._wire
            last.reply(200, b"", b"")
            await again.ended.wait()
            assert (origin.reused, origin.idle, server.requests) == (1, 2, 4)

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://x",
        "http://",
        "http://x/v1",
        "http://x?y",
        "http://x#y",
        "http://user:sk-secret@x",
        "http://x:0",
        "http://x:99999",
        "http://x:y",
        "http://x y",
        "http://x\r\nA: b",
        "http://[::1",
        "http://[x]",
        "http://\u00e9",
    ],
)
def test_what_is_no_origin(url: str) -> None:
    """It is refused without being quoted."""
    with pytest.raises(InputError, match=r"^upstream must be http") as caught:
        Origin(
            url,
            times=Times(),
            limits=Limits(),
            clock=Clock(),
            address_ok=lambda address: True,
        )
    assert len(url) < 8 or url not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Example.com", b"example.com"),
        ("http://example.com:80/", b"example.com"),
        ("https://example.com:443", b"example.com"),
        ("https://example.com:80", b"example.com:80"),
        ("http://[::1]:8000", b"[::1]:8000"),
    ],
)
def test_the_host_header(url: str, host: bytes) -> None:
    """The port stands in it unless it is the scheme's own."""
    origin = Origin(
        url, times=Times(), limits=Limits(), clock=Clock(), address_ok=lambda address: True
    )
    assert origin._first(b"/x") == b"POST /x HTTP/1.1\r\nhost: " + host + b"\r\n"


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (b"", b""),
        (b"x", b""),
        (b"/x y", b""),
        (b"/x\r\nA: b", b""),
        (b"/\xff", b""),
        (b"/", b"a: b"),
        (b"/", b"a: b\r\n\r\nGET / HTTP/1.1\r\n"),
        (b"/", b"\r\n"),
        (b"/", b" a: b\r\n"),
    ],
)
def test_what_would_be_another_request(
    run: Run, origin_of: Any, ears: Any, path: bytes, headers: bytes
) -> None:
    """A path or headers that end too early are refused before anything is sent."""

    async def main() -> None:
        async with origin_of("http://127.0.0.1:9") as origin:
            with pytest.raises(InputError):
                origin.post(path, headers, b"", ears())
            assert (origin.connected, origin.open) == (0, 0)

    run(main)


@pytest.mark.parametrize("name", ["connect", "headers", "first", "idle", "total"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "1"])
def test_times_are_positive(name: str, value: Any) -> None:
    """Anything else is refused by name."""
    with pytest.raises(InputError, match=f"^{name} must"):
        Times(**{name: value})
