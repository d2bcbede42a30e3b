"""Receivers that hold an answer back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from turnout.serve.wire.client import Failure

from .hello import HEAD, HELLO, TIMES, pass_time

Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_holding_back(run: Run, served: Any, origin_of: Any, ears: Any, time: Any) -> None:
    """While the receiver holds the answer back nothing comes, and only the total time runs."""

    async def main() -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()
        size = 20_000_000
        async with (
            served(came.put_nowait, unread_seconds=100) as (_, port),
            origin_of(f"http://127.0.0.1:{port}", time=time, times=TIMES) as origin,
        ):
            heard = ears()
            call = origin.post(b"/", b"", b"", heard)
            stopped = asyncio.Event()

            def on_data(data: bytes) -> None:
                heard.pieces.append(data)
                if not stopped.is_set():
                    call.pause()
                    call.pause()
                    stopped.set()

            heard.data = on_data
            # what hears the pieces is looked up when the request is sent
            request = await came.get()
            request.reply(200, b"", b"x" * size)
            await stopped.wait()
            held = len(heard.body)
            assert held < size
            pass_time(origin, time, 90)
            for _ in range(20):
                await asyncio.sleep(0)
            assert (len(heard.body), heard.ends) == (held, [])
            call.resume()
            call.resume()
            await heard.ended.wait()
            assert (heard.failure, heard.body) == (None, b"x" * size)
            assert origin.idle == 1

    run(main)


def test_holding_back_between_pieces(
    run: Run, script: Any, origin_of: Any, ears: Any, time: Any
) -> None:
    """The time between pieces does not run meanwhile, and starts again with reading."""

    async def main() -> None:
        with script(["read", HEAD + b"hel", "wait"]) as upstream:
            async with origin_of(upstream.url, time=time, times=TIMES) as origin:
                heard = ears()
                call = origin.post(b"/", b"", b"", heard)
                await heard.some.wait()
                call.pause()
                pass_time(origin, time, 60)
                call.resume()
                pass_time(origin, time, 29)
                assert heard.ends == []
                pass_time(origin, time, 1)
                assert heard.failure == Failure("idle_timeout", True, True)

    run(main)


def test_held_back_at_the_end(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """A whole answer leaves the connection fit for the next one."""

    async def main() -> None:
        with script(["read", HELLO, "read", HELLO, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                for _ in range(2):
                    heard = ears()
                    call = origin.post(b"/", b"", b"", heard)
                    heard.began.set = call.pause  # type: ignore[method-assign]
                    await heard.ended.wait()
                    assert heard.failure is None
                assert (origin.connected, origin.idle) == (1, 1)

    run(main)


def test_held_back_from_the_start(
    run: Run, script: Any, origin_of: Any, ears: Any, time: Any
) -> None:
    """A call that is paused before its connection stands reads nothing, in time or out of it."""

    async def main() -> None:
        with script(["read", HELLO, "wait"]) as upstream:
            async with origin_of(upstream.url, time=time, times=TIMES) as origin:
                heard = ears()
                call = origin.post(b"/", b"", b"", heard)
                call.pause()
                while not upstream.requests:
                    await asyncio.sleep(0.001)
                assert (heard.status, origin.bytes_in) == (0, 0)
                call.resume()
                await heard.ended.wait()
                assert heard.body == b"hello"

    run(main)
