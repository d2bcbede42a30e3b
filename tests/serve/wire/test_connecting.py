"""Which address a connection goes to, and how it fails: names, TLS, time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from turnout.serve.wire.client import Failure, Times

Run = Callable[[Callable[[], Awaitable[None]]], None]

PEM = Path(__file__).with_name("localhost.pem")
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
TIMES = Times(connect=1, headers=10, first=20, idle=30, total=100)


def test_addresses_are_shown_first(run: Run, script: Any, origin_of: Any, ears: Any) -> None:
    """What may not be connected to is not; where none may, the call fails without sending."""

    async def main() -> None:
        shown: list[str] = []

        def none(address: str) -> bool:
            shown.append(address)
            return False

        async with origin_of("http://localhost:9", address_ok=none) as origin:
            heard = ears()
            origin.post(b"/", b"", b"", heard)
            await heard.ended.wait()
            assert heard.failure == Failure("address", False, False)
            assert set(shown) <= {"127.0.0.1", "::1"}
            assert shown
            assert origin.connected == 0
        for url in ("http://127.0.0.1:9", "http://[::1]:9", "http://0x7f.1:9", "http://127.1:9"):
            shown.clear()
            async with origin_of(url, address_ok=none) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.failure == Failure("address", False, False)
                assert shown == ["::1" if "[" in url else "127.0.0.1"]

    run(main)


def test_the_connection_goes_to_the_address_shown(
    run: Run, script: Any, origin_of: Any, ears: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once for a connection; addresses are tried in order."""
    looked: list[str] = []

    async def main() -> None:
        with script(["read", HELLO, "wait"]) as upstream:
            tcp = (socket.AF_INET, socket.SOCK_STREAM, 6, "")

            async def looked_up(host: str, *_: Any, **__: Any) -> Any:
                looked.append(host)
                names = ("192.0.2.1", "::1", "127.0.0.1", "127.0.0.1")
                return [(*tcp, (name, 0)) for name in names]

            wrapped = Loop(asyncio.get_running_loop(), getaddrinfo=looked_up)
            monkeypatch.setattr(
                "turnout.serve.wire.client.asyncio.get_running_loop", lambda: wrapped
            )
            shown: list[str] = []

            def ours(address: str) -> bool:
                shown.append(address)
                return address != "192.0.2.1"

            url = f"http://upstream.example:{upstream.port}"
            async with origin_of(url, address_ok=ours) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert (heard.failure, heard.body) == (None, b"hello")
                assert shown == ["192.0.2.1", "::1", "127.0.0.1"]
                assert looked == ["upstream.example"]
            monkeypatch.undo()

    run(main)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "http://upstream.invalid:{}"])
def test_nobody_there(run: Run, origin_of: Any, ears: Any, url: str) -> None:
    """A port nobody listens on, or a name nobody knows."""

    async def main() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with origin_of(url.format(closed.getsockname()[1])) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert heard.failure == Failure("connect", False, False)

    run(main)


@pytest.mark.parametrize(("seconds", "kind"), [(1, "connect_timeout"), (100, "total_timeout")])
def test_no_connection_in_time(
    run: Run, origin_of: Any, ears: Any, time: Any, seconds: float, kind: str
) -> None:
    """Also while TLS is agreed on."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            async with origin_of(url, time=time, times=TIMES) as origin:
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                loop = asyncio.get_running_loop()
                connection, _ = await loop.run_in_executor(None, silent.accept)
                with connection:
                    connection.settimeout(20)
                    assert await loop.run_in_executor(None, connection.recv, 1)
                    assert heard.ends == []
                    time.now += seconds
                    origin.clock.tick()
                    assert heard.failure == Failure(kind, False, False)
                    # and what was begun is given up
                    await loop.run_in_executor(None, read_all, connection)

    run(main)


def read_all(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while connection.recv(65_536):
            pass


class Loop:
    """The loop, but for some of its methods."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **others: Any) -> None:
        self.loop = loop
        self.others = others

    def __getattr__(self, name: str) -> Any:
        return self.others.get(name) or getattr(self.loop, name)


@pytest.mark.parametrize(("scheme", "kind"), [("http", "closed"), ("https", "tls")])
def test_a_connection_that_is_closed_when_it_is_made(
    run: Run,
    origin_of: Any,
    ears: Any,
    transport_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    kind: str,
) -> None:
    """Nothing is sent over it."""

    async def main() -> None:
        async def create_connection(factory: Any, *_: Any, **__: Any) -> Any:
            link = factory()
            transport = transport_of(link)
            if scheme == "http":
                link.connection_made(transport)
                loop.call_soon(link.connection_lost, None)
            transport.close()
            return transport, link

        loop = asyncio.get_running_loop()
        wrapped = Loop(loop, create_connection=create_connection)
        monkeypatch.setattr("turnout.serve.wire.client.asyncio.get_running_loop", lambda: wrapped)
        async with origin_of(f"{scheme}://127.0.0.1:9") as origin:
            heard = ears()
            origin.post(b"/", b"", b"", heard)
            await heard.ended.wait()
            assert heard.failure == Failure(kind, False, False)
        monkeypatch.undo()

    run(main)


@contextlib.asynccontextmanager
async def tls_server() -> Any:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(HELLO)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def test_tls(run: Run, origin_of: Any, ears: Any) -> None:
    """A certificate that is trusted for the host's name, and a connection that is kept."""

    async def main() -> None:
        trusting = ssl.create_default_context(cafile=str(PEM))
        async with (
            tls_server() as port,
            origin_of(f"https://localhost:{port}", tls=trusting) as origin,
        ):
            for _ in range(2):
                heard = ears()
                origin.post(b"/", b"", b"", heard)
                await heard.ended.wait()
                assert (heard.failure, heard.body) == (None, b"hello")
            assert (origin.connected, origin.reused) == (1, 1)

    run(main)


@pytest.mark.parametrize("fault", ["unknown authority", "other name", "not TLS", "hangs up"])
def test_tls_that_fails(run: Run, script: Any, origin_of: Any, ears: Any, fault: str) -> None:
    """Nothing is sent to a server that cannot show who it is."""

    async def main() -> None:
        trusting = ssl.create_default_context(cafile=str(PEM))
        tls = None if fault == "unknown authority" else trusting
        host = "127.0.0.1" if fault == "other name" else "localhost"
        async with contextlib.AsyncExitStack() as stack:
            if fault in ("not TLS", "hangs up"):
                steps = [b"HTTP/1.1 400 Bad Request\r\n\r\n"] if fault == "not TLS" else []
                port = stack.enter_context(script([*steps, "close"])).port
            else:
                port = await stack.enter_async_context(tls_server())
            origin = await stack.enter_async_context(origin_of(f"https://{host}:{port}", tls=tls))
            heard = ears()
            origin.post(b"/", b"", b"", heard)
            await heard.ended.wait()
            assert heard.failure == Failure("tls", False, False)

    run(main)
