"""The server on real sockets, on both kinds of loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.serve.wire.server import Request

Run = Callable[[Callable[[], Awaitable[None]]], None]
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


def echo(request: Request) -> None:
    request.reply(200, b"", request.body[::-1])


def post(body: bytes) -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def read_all(client: socket.socket) -> None:
    while client.recv(65_536):
        pass


class Answer:
    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        self.status = status
        self.head = head
        self.body = body


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 1"):
        head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
    elif b"content-length: " in head:
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
    return Answer(int(head[9:12]), head, body)


@contextlib.asynccontextmanager
async def connected(port: int, **more: Any) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **more)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


def test_requests_and_answers(run: Run, served: Any) -> None:
    """A connection is kept over whole, large, chunked and split requests."""

    async def main() -> None:
        async with served(echo) as (server, port), connected(port) as (reader, writer):
            large = os.urandom(3_000_000)
            for body in (b"abc", b"", large):
                writer.write(post(body))
                answer = await read_answer(reader)
                assert (answer.status, answer.body) == (200, body[::-1])
            head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            for byte in head + b"3\r\nabc\r\n0\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
            assert (await read_answer(reader)).body == b"cba"
            writer.write(post(b"abc") * 50)
            for _ in range(50):
                assert (await read_answer(reader)).body == b"cba"
            assert (server.accepted, server.requests, server.refused) == (1, 54, 0)
            assert server.bytes_in > 3_000_000
            assert server.bytes_out > 3_000_000

    run(main)


def test_an_answer_later(run: Run, served: Any) -> None:
    """Requests are answered from tasks, each connection for itself."""

    async def main() -> None:
        came: asyncio.Queue[Request] = asyncio.Queue()
        async with (
            served(came.put_nowait) as (_, port),
            connected(port) as (one, to_one),
            connected(port) as (two, to_two),
        ):
            to_one.write(post(b"1"))
            to_two.write(post(b"2"))
            waiting = [await came.get(), await came.get()]
            for request in waiting:
                request.start(200, b"")
                request.write(b"to ")
            for request in reversed(waiting):
                request.write(request.body)
                request.end()
            assert (await read_answer(two)).body == b"to 2"
            assert (await read_answer(one)).body == b"to 1"

    run(main)


def test_a_client_that_stops_sending_is_answered(run: Run, served: Any) -> None:
    """A half-closed connection carries the answer, however late, and then ends."""
    waiting: list[Request] = []
    heard: list[str] = []

    async def main() -> None:
        async with served(waiting.append) as (_, port), connected(port) as (reader, writer):
            writer.write(post(b"abc"))
            writer.write_eof()
            assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            waiting[0].on_gone = lambda: heard.append("gone")
            assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            echo(waiting[0])
            answer = await read_answer(reader)
            assert answer.body == b"cba"
            assert b"connection: close" in answer.head
            assert await reader.read() == b""
        assert heard == []

    run(main)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away(run: Run, served: Any, started: bool, reset: bool) -> None:
    """Its request is told so once, whether it closes in good order or not."""
    gone: list[str] = []

    async def main() -> None:
        arrived = asyncio.Event()
        told = asyncio.Event()
        requests: list[Request] = []

        def on_gone() -> None:
            gone.append("gone")
            told.set()

        def handle(request: Request) -> None:
            requests.append(request)
            request.on_gone = on_gone
            request.on_doubt = lambda: request.write(b"y")
            if started:
                request.start(200, b"")
                request.write(b"x")
            arrived.set()

        async with served(handle) as (server, port):
            async with connected(port) as (reader, writer):
                writer.write(post(b"abc"))
                await arrived.wait()
                if started:
                    await reader.readuntil(b"x\r\n")
                if reset:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await told.wait()
            assert requests[0].gone
            assert server.open == 0
        assert gone == ["gone"]

    run(main)


def test_an_error_reaches_a_client_that_is_still_sending(run: Run, served: Any) -> None:
    """A body that is refused before its end does not destroy the answer."""

    async def main() -> None:
        async with served(echo, body_bytes=1000) as (server, port):
            async with connected(port) as (reader, writer):
                writer.write(post(b"x" * 2_000_000))
                answer = await read_answer(reader)
                assert answer.status == 413
                assert b'"code":"body_too_long"' in answer.body
                assert await reader.read() == b""
            assert server.requests == 0

    run(main)


def test_a_client_that_does_not_read(run: Run, served: Any) -> None:
    """The handler is told to stop, then told that the client, once cut, is gone."""

    async def main() -> None:
        flow: list[bool] = []
        told = asyncio.Event()
        requests: list[Request] = []

        def handle(request: Request) -> None:
            requests.append(request)
            request.on_flow = flow.append
            request.on_gone = told.set
            request.start(200, b"")
            while not flow:
                request.write(b"x" * 65_536)

        async with served(handle, unread_seconds=0.05) as (server, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(GET)
                await told.wait()
                assert flow == [True]
                assert server.open == 0
                client.settimeout(20)
                with pytest.raises(ConnectionResetError):
                    read_all(client)

    run(main)


def test_flow_goes_on(run: Run, served: Any) -> None:
    """A client that reads again gets every byte in order."""

    async def main() -> None:
        size = 8_000_000
        stops = 0

        def handle(request: Request) -> None:
            left = [size]
            full = [False]

            def go_on() -> None:
                while left[0] and not full[0]:
                    request.write(b"x" * 40_000)
                    left[0] -= 40_000
                if not left[0]:
                    request.end()

            def on_flow(value: bool) -> None:
                nonlocal stops
                stops += value
                full[0] = value
                if not value:
                    go_on()

            request.on_flow = on_flow
            request.start(200, b"")
            go_on()

        async with served(handle) as (_, port), connected(port, limit=1000) as (reader, writer):
            for _ in range(2):
                writer.write(GET)
                answer = await read_answer(reader)
                assert answer.body == b"x" * size
            assert stops

    run(main)


def test_drain(run: Run, served: Any) -> None:
    """Idle connections close, one in progress is finished, one without end is cut."""

    async def main() -> None:
        came: asyncio.Queue[Request] = asyncio.Queue()

        def handle(request: Request) -> None:
            if request.body == b"now":
                echo(request)
            else:
                came.put_nowait(request)

        async with (
            served(handle) as (server, port),
            connected(port) as (idle, to_idle),
            connected(port) as (busy, to_busy),
            connected(port) as (endless, to_endless),
        ):
            to_idle.write(post(b"now"))
            await read_answer(idle)
            to_busy.write(post(b"later"))
            to_endless.write(post(b"never"))
            waiting = [await came.get(), await came.get()]
            later, never = sorted(waiting, key=lambda request: request.body)
            never.start(200, b"")
            never.write(b"x")
            drained = asyncio.ensure_future(server.drain(0.5))
            assert await idle.read() == b""
            echo(later)
            answer = await read_answer(busy)
            assert answer.body == b"retal"
            assert b"connection: close" in answer.head
            await drained
            assert server.open == 0
            assert never.gone
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await read_answer(endless)

    run(main)


def test_abort(run: Run, served: Any) -> None:
    """A client sees all that was written, and that it is not whole."""

    async def main() -> None:
        def handle(request: Request) -> None:
            request.start(200, b"")
            request.write(b"abc")
            request.abort()

        async with served(handle) as (_, port):
            async with connected(port) as (reader, writer):
                writer.write(GET)
                told = await reader.read()
                assert told.endswith(b"3\r\nabc\r\n")
            async with connected(port) as (reader, writer):
                writer.write(GET.replace(b"1.1", b"1.0"))
                with pytest.raises(ConnectionResetError):
                    await reader.read()

    run(main)


def test_unix_sockets(run: Run, served: Any, tmp_path: Path) -> None:
    """A peer without an address is told as an empty one."""

    async def main() -> None:
        clients: list[str] = []

        def handle(request: Request) -> None:
            clients.append(request.client)
            echo(request)

        async with served(handle) as (server, port):
            path = str(tmp_path / "s")
            listener = await asyncio.get_running_loop().create_unix_server(server, path)
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(post(b"abc"))
            assert (await read_answer(reader)).body == b"cba"
            writer.close()
            await writer.wait_closed()
            async with connected(port) as (reader, writer):
                writer.write(post(b"abc"))
                await read_answer(reader)
            listener.close()
        assert clients == ["", "127.0.0.1"]

    run(main)
