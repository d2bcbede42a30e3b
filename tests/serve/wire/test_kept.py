"""Connections to an upstream that are kept: closed meanwhile, grown old, or spoken on unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from turnout.serve.wire.client import Failure
from turnout.serve.wire.limits import Limits

Run = Callable[[Callable[[], Awaitable[None]]], None]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
HELLO = HEAD + b"hello"


def test_a_kept_connection_that_was_closed(
    run: Run, script: Any, origin_of: Any, ears: Any
) -> None:
    """The request is sent once more, on a new connection; a new one that closes is a failure."""

    async def main() -> None:
        first = ["read", HELLO, "go", "read", "close"]
        with script(first, ["read", HELLO, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                for body in (b"one", b"two"):
                    heard = ears()
                    origin.post(b"/", b"", body, heard)
                    upstream.go.set()
                    await heard.ended.wait()
                    assert (heard.failure, heard.body) == (None, b"hello")
                assert (origin.connected, origin.reused, origin.tried_again) == (2, 1, 1)
                bodies = [request[-3:] for request in upstream.requests]
                assert bodies == [b"one", b"two", b"two"]

    run(main)


@pytest.mark.parametrize(
    ("second", "third", "failure"),
    [
        (["read", "reset", "close"], ["read", "close"], Failure("closed", True, False)),
        (["read", b"HTTP/1.1 ", "close"], None, Failure("closed", True, False)),
        (["read", b"nonsense", "close"], None, Failure("protocol", True, False)),
        (["read", HEAD, "close"], None, Failure("closed", True, True)),
    ],
)
def test_it_is_tried_again_once_and_only_unheard(
    run: Run,
    script: Any,
    origin_of: Any,
    ears: Any,
    second: list[Any],
    third: list[Any] | None,
    failure: Failure,
) -> None:
    """Not after the first byte of an answer, and not twice."""

    async def main() -> None:
        scripts = [["read", HELLO, *second], *([] if third is None else [third])]
        with script(*scripts) as upstream:
            async with origin_of(upstream.url) as origin:
                for _ in range(2):
                    heard = ears()
                    origin.post(b"/", b"", b"", heard)
                    await heard.ended.wait()
                assert heard.failure == failure
                assert origin.tried_again == (third is not None)

    run(main)


def test_a_second_try_that_cannot_connect(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """The failure says that the request may have been heard the first time."""

    async def main() -> None:
        with script(["read", HELLO, "go", "read", "close"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                upstream.listener.close()
                upstream.go.set()
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.failure == Failure("connect", True, False)

    run(main)


@pytest.mark.parametrize("what", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", "close", "reset"])
def test_idle_connections_that_speak_or_end(
    run: Run, script: Any, origin_of: Any, ears: Any, what: Any
) -> None:
    """They are not used again: what came would be taken for the next answer."""

    async def main() -> None:
        then = ["close"] if what == "reset" else ["wait"]
        with script(["read", HELLO, "go", what, *then], ["read", HELLO, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert origin.idle == 1
                upstream.go.set()
                while origin.open:
                    await asyncio.sleep(0.001)
                assert origin.idle == 0
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.failure is None
                assert (origin.connected, origin.tried_again) == (2, 0)

    run(main)


def test_idle_connections_grow_old(
    run: Run, script: Any, origin_of: Any, ears: Any, time: Any
) -> None:
    """After their time they are closed."""

    async def main() -> None:
        with script(["read", HELLO, "wait"]) as upstream:
            limits = Limits(pool_seconds=30)
            async with origin_of(upstream.url, time=time, limits=limits) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                time.now += 29
                origin.clock.tick()
                assert origin.idle == 1
                time.now += 1
                origin.clock.tick()
                assert origin.idle == 0
                assert await asyncio.to_thread(upstream.gone.wait, 20)

    run(main)
