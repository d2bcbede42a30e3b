"""ASGI applications behind the bridge, on real sockets and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from turnout.serve.wire.asgi import Bridge

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def show(request: Request) -> JSONResponse:
    assert request.client is not None
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "id": request.path_params["id"],
            "query": request.url.query,
            "header": request.headers["x-a"],
            "body": (await request.body()).decode(),
            "client": request.client.host,
            "scheme": request.url.scheme,
        },
        headers={"x-b": "c"},
    )


async def stream(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "one "
        yield "two"

    return StreamingResponse(pieces(), media_type="text/plain")


async def plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello", background=None)


PAGES = Starlette(
    routes=[
        Route("/show/{id}", show, methods=["POST"]),
        Route("/stream", stream),
        Route("/plain", plain),
    ]
)


class Sent:
    """A request that keeps what it is answered."""

    def __init__(self, desk: Any, head: bytes, body: bytes = b"") -> None:
        self.peer = desk.connect()
        self.peer.send(head + b"Host: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        (self.request,) = desk.requests
        desk.requests.clear()

    @property
    def head(self) -> list[bytes]:
        return self.peer.out.partition(b"\r\n\r\n")[0].split(b"\r\n")

    @property
    def body(self) -> bytes:
        return self.peer.out.partition(b"\r\n\r\n")[2]


async def idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def answered(desk: Any, app: Any, head: bytes, body: bytes = b"") -> Sent:
    sent = Sent(desk(), head, body)

    async def main() -> None:
        bridge = Bridge(app)
        bridge(sent.request)
        await idle()
        await bridge.close()

    asyncio.run(main())
    return sent


def test_starlette_sees_the_request(desk: Any) -> None:
    """Every part arrives, the path decoded; the answer is one with a length."""
    sent = answered(
        desk, PAGES, b"POST /show/a%20b?c=%20d HTTP/1.1\r\nX-A: 1\r\n", "\u00e9".encode()
    )
    assert sent.head[0] == b"HTTP/1.1 200 OK"
    assert b"x-b: c" in sent.head
    assert sum(line.startswith(b"content-length: ") for line in sent.head) == 1
    assert (
        sent.body
        == (
            '{"method":"POST","path":"/show/a b","id":"a b","query":"c=%20d","header":"1",'
            '"body":"\u00e9","client":"192.0.2.7","scheme":"http"}'
        ).encode()
    )


def test_streams(desk: Any) -> None:
    """What comes in pieces goes in chunks."""
    sent = answered(desk, PAGES, b"GET /stream HTTP/1.1\r\n")
    assert b"transfer-encoding: chunked" in sent.head
    assert sent.body == b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"


def test_head(desk: Any) -> None:
    """It has the length of the page, and no page."""
    sent = answered(desk, PAGES, b"HEAD /plain HTTP/1.1\r\n")
    assert b"content-length: 5" in sent.head
    assert b"transfer-encoding: chunked" not in sent.head
    assert sent.body == b""
    assert not sent.peer.over


@pytest.mark.parametrize(("path", "status"), [("/none", 404), ("/show/1", 405)])
def test_pages_that_are_not_there(desk: Any, path: str, status: int) -> None:
    """The application's own answers pass."""
    sent = answered(desk, PAGES, b"GET %b HTTP/1.1\r\n" % path.encode())
    assert sent.head[0].startswith(b"HTTP/1.1 %d " % status)


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("sk-secret")


async def forgets(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def splits(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"location", b"/\r\nset-cookie: x")]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body"})


async def body_first(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.body", "body": b"x"})


@pytest.mark.parametrize("app", [raises, forgets, splits, body_first])
def test_applications_that_fail(desk: Any, app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Status 500 as JSON; neither answer nor log quotes the error."""
    sent = answered(desk, app, b"GET / HTTP/1.1\r\n")
    assert sent.head[0] == b"HTTP/1.1 500 Internal Server Error"
    assert b'"code":"internal_error"' in sent.body
    assert b"sk-secret" not in sent.peer.out
    assert b"set-cookie" not in sent.peer.out
    assert "application failed: " in caplog.text
    assert "sk-secret" not in caplog.text
    assert not sent.peer.over


async def breaks(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    raise ValueError


async def stops(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})


async def waits(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await asyncio.Event().wait()


@pytest.mark.parametrize("app", [breaks, stops, waits])
def test_answers_that_break(desk: Any, app: Any) -> None:
    """The connection ends without the last chunk, also where the bridge is closed."""
    sent = answered(desk, app, b"GET / HTTP/1.1\r\n")
    assert sent.body == b"1\r\nx\r\n"
    assert sent.peer.transport.closed


async def goes_on(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"x"})
    assert (await receive())["type"] == "http.request"
    assert (await receive())["type"] == "http.disconnect"
    raise ValueError


def test_work_after_the_answer(desk: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is nothing to the client; it hears that there is nobody any more."""
    sent = answered(desk, goes_on, b"GET / HTTP/1.1\r\n")
    assert sent.body == b"x"
    assert "application failed: ValueError at " in caplog.text
    assert not sent.peer.over


def test_a_client_that_goes_away(desk: Any) -> None:
    """The application hears of it, at once or later, and may go on sending for nothing."""

    async def main() -> None:
        heard: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            heard.append((await receive())["type"])
            await send({"type": "http.response.body", "body": b"y", "more_body": True})
            heard.append((await receive())["type"])

        for before in (False, True):
            heard.clear()
            sent = Sent(desk(), b"GET / HTTP/1.1\r\n")
            bridge = Bridge(app)
            if before:
                sent.peer.lose()
            bridge(sent.request)
            await idle()
            if not before:
                assert heard == []
                sent.peer.lose()
                await idle()
            assert heard == ["http.disconnect"] * 2
            assert b"y" not in sent.body
            await bridge.close()

    asyncio.run(main())


def test_a_client_that_reads_slowly(desk: Any) -> None:
    """The application waits until it can send again, or until nobody is there to send to."""

    async def main() -> None:
        sends = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sends
            await send({"type": "http.response.start", "status": 200})
            while sends < 4:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                sends += 1
            await send({"type": "http.response.body"})

        sent = Sent(desk(), b"GET / HTTP/1.1\r\n")
        bridge = Bridge(app)
        write = sent.peer.transport.write

        def full(data: bytes) -> None:
            write(data)
            if data.startswith(b"1\r\n"):
                sent.peer.protocol.pause_writing()

        sent.peer.transport.write = full
        bridge(sent.request)
        for count in (0, 1, 2):
            await idle()
            assert sends == count
            sent.peer.protocol.resume_writing()
        await idle()
        sent.peer.lose()
        await idle()
        assert sends == 4
        await bridge.close()

    asyncio.run(main())


def test_over_a_socket(run: Run, served: Any, origin_of: Any, ears: Any) -> None:
    """Server, bridge and client together."""

    async def main() -> None:
        bridge = Bridge(PAGES, scheme="https")
        async with (
            served(bridge) as (_, port),
            origin_of(f"http://127.0.0.1:{port}") as origin,
        ):
            heard = ears()
            origin.post(b"/show/1", b"x-a: 2\r\n", b"body", heard)
            await heard.ended.wait()
            assert heard.status == 200
            assert b'"client":"127.0.0.1","scheme":"https"' in heard.body
            assert origin.idle == 1
        await bridge.close()

    run(main)
