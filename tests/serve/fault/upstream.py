"""An upstream that misbehaves on purpose: bare TCP, every byte under control, all of it on record.

How it answers a request is its *manner*, named by the model in the body (`{"model": "slow-body"}`)
or by the path (`BadUpstream.by_path`); `manners` holds them all. Arguments follow after colons:
`status:503:7`. Every address is on the loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from .manners import EARLY, MANNERS, Dropped

CERTIFICATE = Path(__file__).with_name("self-signed.pem")
#: Seconds for which `BadUpstream.wait` waits before it fails the test.
PATIENCE = 15.0


@dataclass
class Seen:
    """A request as it arrived; times are of `time.monotonic`."""

    link: Link
    method: str
    path: str
    headers: list[tuple[str, str]]
    manner: str
    at: float
    body: bytes = b""
    whole: float | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(eq=False)
class Link:
    """A connection: when it was opened and closed, and how it ended.

    `ended` is `eof` (the client closed), `reset` (the client broke it) or `closed` (from here).
    """

    number: int
    tls: bool
    opened: float
    closed: float | None = None
    ended: str | None = None
    requests: int = 0
    received: int = 0


class Talk:
    """One request and the means to answer it; what a manner is given."""

    def __init__(self, connection: _Connection, seen: Seen, count: int) -> None:
        self.seen = seen
        self.count = count
        self.pace = connection.upstream.pace
        self.own_url = connection.upstream.origin + seen.path
        self._connection = connection
        self._data: Any = None

    @property
    def data(self) -> dict[str, Any]:
        """The request's JSON."""
        if self._data is None:
            try:
                self._data = json.loads(self.seen.body)
            except ValueError:
                self._data = {}
        return self._data if isinstance(self._data, dict) else {}

    @property
    def stream(self) -> bool:
        return self.data.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        return bool((self.data.get("stream_options") or {}).get("include_usage"))

    def send(self, data: bytes) -> None:
        self._connection.transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken what was sent, but for a buffer."""
        await asyncio.sleep(0)
        await self._connection.writable.wait()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def forever(self) -> None:
        """Until the connection is gone."""
        await asyncio.Event().wait()

    async def drop(self, how: str) -> None:
        """End the connection: `fin` in good order, `rst` by a reset."""
        transport = self._connection.transport
        if how == "rst":
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            assert how == "fin", how
            transport.close()
        raise Dropped


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: BadUpstream, *, tls: bool, deaf: bool = False) -> None:
        self.upstream = upstream
        self.writable = asyncio.Event()
        self.writable.set()
        self._tls = tls
        self._deaf = deaf
        self._buffer = bytearray()
        self._seen: Seen | None = None
        self._body: _Body | None = None
        self._task: asyncio.Task[None] | None = None
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        with self.upstream.noted():
            self.link = Link(len(self.upstream.links), self._tls, time.monotonic())
            self.upstream.links.append(self.link)
        self.upstream.open.add(self)

    def data_received(self, data: bytes) -> None:
        with self.upstream.noted():
            self.link.received += len(data)
        if not self._deaf:
            self._buffer += data
            self._advance()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def eof_received(self) -> None:
        self.link.ended = self.link.ended or "eof"

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        self.upstream.open.discard(self)
        if self._task is not None:
            self._task.cancel()
        with self.upstream.noted():
            self.link.closed = time.monotonic()
            self.link.ended = self.link.ended or ("reset" if error else "closed")

    def _advance(self) -> None:
        """Take what is there of the next request, and answer it when it is time."""
        if self._seen is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._seen = seen = self._read(head)
            self._body = _Body(seen)
            with self.upstream.noted():
                self.link.requests += 1
                self.upstream.seen.append(seen)
            if seen.manner.partition(":")[0] in EARLY:
                self._start(seen)
        assert self._body is not None
        if not self._body.feed(self._buffer):
            return
        seen = self._seen
        if seen.whole is None:
            with self.upstream.noted():
                seen.body = bytes(self._body.data)
                seen.whole = time.monotonic()
        if self._task is None:
            if not seen.manner:
                seen.manner = Talk(self, seen, 0).data.get("model", "good")
            self._start(seen)
        elif self._task.done():
            self._next()

    def _read(self, head: bytes) -> Seen:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        pairs = [line.split(":", 1) for line in lines]
        headers = [(name.lower(), value.strip()) for name, value in pairs]
        parts = path.split("/")
        manner = unquote(parts[2]) if parts[1] == "manner" else ""
        return Seen(self.link, method, path, headers, manner, time.monotonic())

    def _start(self, seen: Seen) -> None:
        self._task = asyncio.ensure_future(self._answer(seen))
        self._task.add_done_callback(self._answered)

    async def _answer(self, seen: Seen) -> None:
        counts = self.upstream.counts
        counts[seen.manner] += 1
        name, *words = seen.manner.split(":")
        with contextlib.suppress(Dropped):
            await MANNERS[name](Talk(self, seen, counts[seen.manner]), *words)

    def _answered(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.upstream.faults.append(error)
            self.transport.abort()
        elif self._gone or self.transport.is_closing() or self._seen is None:
            return
        elif self._seen.whole is not None:
            self._next()

    def _next(self) -> None:
        self._seen = self._body = self._task = None
        self._advance()


class _Body:
    """A request body on its way, by length or in chunks."""

    def __init__(self, seen: Seen) -> None:
        self.data = bytearray()
        self._chunked = seen.header("transfer-encoding") == "chunked"
        self._left = int(seen.header("content-length") or 0)
        self._ended = False

    def feed(self, buffer: bytearray) -> bool:
        """Take what belongs to it out of the buffer; whether it is whole."""
        if not self._chunked:
            taken = buffer[: self._left]
            del buffer[: len(taken)]
            self._left -= len(taken)
            self.data += taken
            return not self._left
        while not self._ended and (end := buffer.find(b"\r\n")) >= 0:
            size = int(bytes(buffer[:end]), 16)
            if len(buffer) < end + 2 + size + 2:
                break
            self.data += buffer[end + 2 : end + 2 + size]
            del buffer[: end + 2 + size + 2]
            self._ended = not size
        return self._ended


class BadUpstream:
    """A bad upstream in a thread of its own, while a `with` block runs.

    Parameters
    ----------
    pace : float
        Seconds between two pieces of what is slow, where a manner does not say.

    Attributes
    ----------
    seen : list of Seen
        Requests, when their head has arrived.
    links : list of Link
        Connections, in order.
    url, tls_url : str
        Base URLs, ending in `/v1`.
    hanging_tls_url : str
        Accepts and never begins a handshake.
    unaccepted_url : str
        Connects, because the system does that, but nobody ever accepts.
    unreachable_url : str
        Not even that: the queue of connections is full.
    """

    def __init__(self, *, pace: float = 1.0) -> None:
        self.pace = pace
        self.seen: list[Seen] = []
        self.links: list[Link] = []
        self.counts: Counter[str] = Counter()
        self.faults: list[BaseException] = []
        self.open: set[_Connection] = set()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BadUpstream:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        plain, tls, hanging = (self._listener(128) for _ in range(3))
        self._listeners = (
            (plain, None, False),
            (tls, context, False),
            (hanging, None, True),
        )
        self.origin = f"http://127.0.0.1:{plain.getsockname()[1]}"
        self.url = f"{self.origin}/v1"
        self.tls_url = f"https://127.0.0.1:{tls.getsockname()[1]}/v1"
        self.hanging_tls_url = f"https://127.0.0.1:{hanging.getsockname()[1]}/v1"
        self.unaccepted_url = self._http(self._listener(16))
        full = self._listener(0)
        self.unreachable_url = self._http(full)
        for _ in range(4):
            filler = self._stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="bad-upstream")
        self._thread.start()
        assert ready.wait(PATIENCE), "the thread did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._stack.close()
        if self.faults:
            raise self.faults[0]

    def by_path(self, manner: str, *, tls: bool = False) -> str:
        """A base URL of one manner, whatever the body says."""
        base = (self.tls_url if tls else self.url).removesuffix("/v1")
        return f"{base}/manner/{quote(manner, safe='')}/v1"

    def wait(self, found: Callable[[BadUpstream], Any], seconds: float = PATIENCE) -> Any:
        """Wait until something has happened, and return it; fail the test if it does not."""
        with self._changed:
            result = self._changed.wait_for(lambda: found(self), seconds)
        assert result, "what the test waits for did not happen"
        return result

    def wait_for_requests(self, count: int) -> list[Seen]:
        """The requests, once so many have arrived whole."""
        self.wait(lambda bad: sum(seen.whole is not None for seen in bad.seen) >= count)
        return self.seen

    def wait_for_closed(self, count: int) -> list[Link]:
        """The connections, once so many of them are closed."""
        self.wait(lambda bad: sum(link.closed is not None for link in bad.links) >= count)
        return self.links

    def clear(self) -> None:
        """Forget all that has happened; connections stay open."""
        with self._changed:
            self.seen.clear()
            self.links.clear()
            self.counts.clear()

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Change the record, and wake whoever waits for it."""
        with self._changed:
            yield
            self._changed.notify_all()

    def _listener(self, backlog: int) -> socket.socket:
        # asyncio sends small pieces at once only where the protocol is said
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener = self._stack.enter_context(made)
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        return listener

    def _http(self, listener: socket.socket) -> str:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        servers = []
        for listener, context, deaf in self._listeners:

            def made(tls: bool = context is not None, deaf: bool = deaf) -> _Connection:
                return _Connection(self, tls=tls, deaf=deaf)

            servers.append(await self._loop.create_server(made, sock=listener, ssl=context))
        ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        while self.open:
            for connection in list(self.open):
                connection.transport.abort()
            await asyncio.sleep(0)
