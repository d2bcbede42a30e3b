from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import orjson
import pytest
import uvloop

from turnout.serve.wire.client import Failure, Origin, Times
from turnout.serve.wire.clock import Clock
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.server import Request, Server

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


class Time:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeTransport(asyncio.Transport):
    """Keeps what is written; the test says what the peer takes of it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("192.0.2.7", 4321)})
        self.protocol = protocol
        self.out = b""
        self.unread = 0  # bytes that the peer has not taken
        self.eof = self.closed = self.aborted = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.eof
        assert not self.closed
        self.out += bytes(data)

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unread


@pytest.fixture
def transport_of() -> type[FakeTransport]:
    return FakeTransport


class Peer:
    """A client of a server whose clock stands still, without a socket."""

    def __init__(self, server: Server, clock: Clock, time: Time) -> None:
        self.time = time
        self.clock = clock
        self.protocol = server()
        self.transport = FakeTransport(self.protocol)
        self.protocol.connection_made(self.transport)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if piece and not self.over:
                self.protocol.data_received(piece)

    def wait(self, seconds: float) -> None:
        self.time.now += seconds
        self.clock.tick()

    def lose(self, error: Exception | None = None) -> None:
        self.protocol.connection_lost(error)

    @property
    def over(self) -> bool:
        """Whether the server takes nothing more."""
        return self.transport.closed or self.transport.eof

    @property
    def out(self) -> bytes:
        return self.transport.out

    @property
    def status(self) -> int:
        """Of the last answer."""
        return int(self.out.rsplit(b"HTTP/1.1 ", 1)[1][:3]) if self.out else 0

    @property
    def error(self) -> dict[str, Any]:
        told: dict[str, Any] = orjson.loads(self.out.rsplit(b"\r\n\r\n", 1)[1])["error"]
        assert set(told) == {"message", "type", "param", "code"}
        return told


class Desk:
    """A server without sockets that keeps the requests it is handed, or answers them at once."""

    def __init__(
        self,
        answers: bool = False,
        on_refused: Callable[[int], None] | None = None,
        **limits: Any,
    ) -> None:
        self.time = Time()
        self.clock = Clock(time=self.time)
        self.requests: list[Request] = []
        self.answers = answers
        self.server = Server(self.handle, Limits(**limits), self.clock, on_refused)

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if self.answers:
            request.reply(200, b"", b"ok")

    def connect(self) -> Peer:
        return Peer(self.server, self.clock, self.time)


@pytest.fixture(scope="session")
def desk() -> Callable[..., Desk]:
    return Desk


@pytest.fixture
def time() -> Time:
    """A time that is moved by hand, for an origin's clock."""
    return Time()


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Runs a coroutine function on each kind of loop; whatever goes wrong in a callback fails."""

    def runner(main: Callable[[], Awaitable[None]]) -> None:
        async def watched() -> None:
            wrong: list[dict[str, Any]] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: wrong.append(context))
            async with asyncio.timeout(20):
                await main()
            # connections that were cut are told so by the loop a little later
            for _ in range(3):
                await asyncio.sleep(0)
            assert wrong == []

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as made:
            made.run(watched())

    return runner


class Ears:
    """A receiver that remembers what it hears."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.ends: list[Failure | None] = []
        self.began = asyncio.Event()
        self.some = asyncio.Event()
        self.ended = asyncio.Event()

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        assert not self.status
        assert not self.ends
        self.status = status
        self.fields: Any = headers
        self.first = tuple(self.fields.get(name) for name in (b"x-b", b"empty", b"x"))
        self.headers = list(headers)
        self.began.set()

    def data(self, data: bytes) -> None:
        assert data
        assert self.status
        assert not self.ends
        self.pieces.append(data)
        self.some.set()

    def end(self, failure: Failure | None) -> None:
        assert not self.ends
        self.ends.append(failure)
        self.ended.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def failure(self) -> Failure | None:
        assert self.ends
        return self.ends[0]


@pytest.fixture
def ears() -> type[Ears]:
    return Ears


#: One step of a scripted upstream: bytes to send, or what to do.
Step = bytes | str


class Script:
    """An upstream in a thread that plays a script on each connection, one after the other.

    A script is a list of steps: `read` waits for a whole request, `begin` for some of one, bytes
    are sent as they are, `close` ends the connection, after `reset` hard, `wait` holds it until
    the peer has gone, `go` waits until the test says so.
    """

    def __init__(self, scripts: Iterable[Sequence[Step]], host: str = "127.0.0.1") -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.gone = threading.Event()
        self.go = threading.Event()
        self.listener = socket.create_server((host, 0))
        self.listener.settimeout(20)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.errors: list[BaseException] = []
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def play(self) -> None:
        try:
            for script in self.scripts:
                connection, _ = self.listener.accept()
                connection.settimeout(20)
                with connection:
                    for step in script:
                        if step == "close":
                            break
                        self.step(connection, step)
                self.gone.set()
        except BaseException as error:
            self.errors.append(error)

    def step(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif step == "read":
            self.requests.append(read_request(connection))
        elif step == "begin":
            assert connection.recv(1000)
        elif step == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif step == "go":
            assert self.go.wait(20)
        else:
            assert step == "wait"
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass

    def stop(self) -> None:
        self.thread.join(20)
        self.listener.close()
        assert not self.thread.is_alive()
        assert self.errors == []


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, "the connection was closed before a request came"
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def script() -> Callable[..., AbstractContextManager[Script]]:
    @contextmanager
    def make(*scripts: Sequence[Step], host: str = "127.0.0.1") -> Iterator[Script]:
        made = Script(scripts, host)
        try:
            yield made
        finally:
            made.go.set()
            made.stop()

    return make


@pytest.fixture
def origin_of() -> Callable[..., Any]:
    """An origin with a clock that ticks, closed afterwards; `time` makes it stand still."""

    @contextlib.asynccontextmanager
    async def make(url: str, **more: Any) -> Any:
        time = more.pop("time", None)
        clock = Clock(period=0.005) if time is None else Clock(time=time)
        if time is None:
            clock.start()
        settings = {
            "times": Times(),
            "limits": Limits(),
            "address_ok": lambda address: True,
            **more,
        }
        origin = Origin(url, clock=clock, **settings)
        try:
            yield origin
        finally:
            await origin.close()
            clock.stop()
            assert origin.open == 0
            assert origin.idle == 0
            assert clock.watched == 0

    return make


@pytest.fixture
def served() -> Callable[..., Any]:
    """A server on a socket with a clock that ticks, drained afterwards."""

    @contextlib.asynccontextmanager
    async def make(handle: Callable[[Request], None], **more: Any) -> Any:
        clock = Clock(period=0.005)
        clock.start()
        server = Server(handle, Limits(**more), clock)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        try:
            yield server, port
        finally:
            listener.close()
            await server.drain(5)
            clock.stop()
            assert server.open == 0
            assert server.body_bytes == 0
            assert clock.watched == 0

    return make
