"""Calls that wait, stop, fail, and are asked a second time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from turnout.core import InputError
from turnout.serve.wire.client import Failure, Times

from .hello import HEAD, HELLO, TIMES, pass_time

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.mark.parametrize(
    ("sent", "seconds", "kind"),
    [
        ([], 10, "headers_timeout"),
        ([b"HTTP/1.1 200 OK\r\n"], 10, "headers_timeout"),
        ([HEAD], 20, "first_timeout"),
        ([HEAD + b"hel"], 30, "idle_timeout"),
    ],
)
def test_each_step_has_its_time(
    run: Run,
    script: Any,
    origin_of: Any,
    ears: Any,
    time: Any,
    sent: list[bytes],
    seconds: float,
    kind: str,
) -> None:
    """Not a moment less, and then the call fails by the step that did not come."""

    async def main() -> None:
        with script(["read", *sent, "wait"]) as upstream:
            async with origin_of(upstream.url, time=time, times=TIMES) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                while origin.bytes_in < len(b"".join(sent)) or not upstream.requests:
                    await asyncio.sleep(0.001)
                pass_time(origin, time, seconds - 1)
                assert heard.ends == []
                pass_time(origin, time, 1)
                assert heard.failure == Failure(kind, True, HEAD in b"".join(sent))
                assert origin.idle == 0
            assert upstream.gone.wait(20)

    run(main)


def test_the_total_counts_where_it_is_the_shorter(
    run: Run, script: Any, origin_of: Any, ears: Any, time: Any
) -> None:
    """A step that may take longer than all together is cut by the total."""

    async def main() -> None:
        with script(["read", "wait"]) as upstream:
            times = Times(headers=200, total=100)
            async with origin_of(upstream.url, time=time, times=times) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                while not upstream.requests:
                    await asyncio.sleep(0.001)
                pass_time(origin, time, 99)
                assert heard.ends == []
                pass_time(origin, time, 1)
                assert heard.failure == Failure("total_timeout", True, False)

    run(main)


def test_pieces_buy_time_but_not_without_end(
    run: Run, served: Any, origin_of: Any, ears: Any, time: Any
) -> None:
    """Each piece starts the time between pieces again; the total does not move."""

    async def main() -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()
        async with (
            served(came.put_nowait) as (_, port),
            origin_of(f"http://127.0.0.1:{port}", time=time, times=TIMES) as origin,
        ):
            heard = ears()
            origin.post(b"/", b"", b"", heard)
            request = await came.get()
            request.start(200, b"")
            await heard.began.wait()
            for count in range(4):
                heard.some.clear()
                request.write(b"x")
                await heard.some.wait()
                pass_time(origin, time, 24)
                assert heard.ends == [], count
            pass_time(origin, time, 4)
            assert heard.failure == Failure("total_timeout", True, True)
            request.abort()

    run(main)


@pytest.mark.parametrize(
    "when", ["at once", "waiting", "in head", "in data", "in the last data", "between"]
)
def test_cancel(run: Run, script: Any, origin_of: Any, ears: Any, when: str) -> None:
    """The receiver hears nothing more, the upstream that its client has gone."""

    async def main() -> None:
        steps = [] if when == "at once" else ["read"]
        answers = {"at once": [], "waiting": [], "in the last data": [HELLO]}
        answer = answers.get(when, [HEAD + b"hel"])
        with script([*steps, *answer, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                call = origin.post(b"/", b"", b"", heard)
                if when == "waiting":
                    while not upstream.requests:
                        await asyncio.sleep(0.001)
                elif when == "in head":
                    heard.head = lambda *_: (heard.began.set(), call.cancel())
                    await heard.began.wait()
                elif when in ("in data", "in the last data"):
                    cancelled = asyncio.Event()
                    heard.pieces = Cancelling(call, cancelled)
                    while not cancelled.is_set():
                        await asyncio.sleep(0)
                        assert origin.idle == 0
                elif when == "between":
                    await heard.some.wait()
                call.cancel()
                call.cancel()
                call.pause()
                call.resume()
                if when == "at once":  # the upstream is to see some connection
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
                        writer.close()
                        await writer.wait_closed()
                while not upstream.gone.is_set():
                    await asyncio.sleep(0.001)
                assert heard.ends == []
                assert origin.idle == 0

    run(main)


class Cancelling(list[bytes]):
    def __init__(self, call: Any, done: asyncio.Event) -> None:
        super().__init__()
        self.call, self.done = call, done

    def append(self, piece: bytes) -> None:
        super().append(piece)
        self.call.cancel()
        self.done.set()


def test_an_answer_before_the_request_is_sent(
    run: Run, script: Any, origin_of: Any, ears: Any
) -> None:
    """It counts, but the rest of the request stands in the way of another."""

    async def main() -> None:
        refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
        with script(["begin", refusal, "go", "close"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()
                origin.post(b"/", b"", b"x" * 30_000_000, heard)
                await heard.ended.wait()
                assert (heard.failure, heard.status, origin.idle) == (None, 413, 0)

    run(main)


@pytest.mark.parametrize("steps", [["close"], ["reset", "close"], [HELLO, "wait"]])
def test_an_upstream_that_acts_first(
    run: Run, script: Any, origin_of: Any, ears: Any, steps: list[Any]
) -> None:
    """What closes or speaks before it was asked has not answered."""

    async def main() -> None:
        count = 1 if HELLO in steps else 5  # what is kept is asked again
        with script(*[steps] * count) as upstream:
            async with origin_of(upstream.url) as origin:
                for _ in range(count):
                    heard = ears()
                    origin.post(b"/", b"", b"x", heard)
                    await heard.ended.wait()
                    if heard.failure is None:  # it was asked just before
                        assert heard.body == b"hello"
                        continue
                    assert heard.failure.kind in ("closed", "connect")
                    assert not heard.failure.began

    run(main)


def test_close(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """Calls under way fail, also one that is still connecting, and no new ones are taken."""

    async def main() -> None:
        with script(["read", HEAD, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard, later = ears(), ears()
                origin.post(b"/", b"", b"", heard)
                await heard.began.wait()
                origin.post(b"/", b"", b"", later)
                await origin.close()
                assert heard.failure == Failure("closed", True, True)
                assert later.failure == Failure("closed", False, False)
                with pytest.raises(InputError, match=r"^origin must be open"):
                    origin.post(b"/", b"", b"", ears())

    run(main)


@pytest.mark.parametrize("where", ["head", "data", "end"])
def test_a_receiver_that_raises(
    run: Run,
    script: Any,
    origin_of: Any,
    ears: Any,
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It hears of the end, the log of the place, and nobody of the error's words."""

    async def main() -> None:
        with script(["read", HELLO, "wait"]) as upstream:
            async with origin_of(upstream.url) as origin:
                heard = ears()

                def broken(*_: object) -> None:
                    heard.ended.set()
                    raise ValueError("sk-secret")

                setattr(heard, where, broken)
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                if where != "end":
                    while not heard.ends:
                        await asyncio.sleep(0)
                    assert heard.failure == Failure("receiver", True, True)
        assert "receiver failed: ValueError at " in caplog.text
        assert "sk-secret" not in caplog.text

    run(main)


class Forward:
    """Request, call and receiver that hold each other while they last."""

    def __init__(self, request: Any, origin: Any) -> None:
        self.request = request
        self.body = b""
        self.call = origin.post(b"/", b"", request.body, self)
        request.on_gone = self.call.cancel
        request.on_flow = lambda full: self.call.pause() if full else self.call.resume()

    def head(self, status: int, headers: Any) -> None:
        self.status = status

    def data(self, data: bytes) -> None:
        self.body += data

    def end(self, failure: Failure | None) -> None:
        if failure is None:
            self.request.reply(self.status, b"", self.body)
        else:
            self.request.abort()


def test_what_is_over_is_let_go(run: Run, served: Any, origin_of: Any, ears: Any) -> None:
    """Requests and calls that held each other are freed without the collector of cycles."""

    async def main() -> None:
        refs: list[weakref.ref[Any]] = []

        def answer(request: Any) -> None:
            if request.body == b"broken":
                request.abort()
            else:
                request.reply(200, b"", b"hello")

        async with (
            served(answer) as (_, port),
            origin_of(f"http://127.0.0.1:{port}") as origin,
            served(lambda request: refs.append(weakref.ref(Forward(request, origin)))) as (
                _,
                front,
            ),
            origin_of(f"http://127.0.0.1:{front}") as client,
        ):
            for body in (b"x", b"x", b"broken"):
                heard = ears()
                client.post(b"/", b"", body, heard)
                await heard.ended.wait()
                assert heard.body == (b"" if body == b"broken" else b"hello")
            assert len(refs) == 4  # what was broken off was tried again
            assert [ref() for ref in refs] == [None] * 4

    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()
