"""A gateway in processes of its own, many clients at once, and an upstream that keeps count.

The clients and the upstream share one event loop of the test's process. Each request has a number;
the upstream hears it in the prompt and gives it back in the completion's name, so that what the
clients got, what the ledger says and what was served can be held against each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

__all__ = ["Crowd", "Process", "Upstream", "output_tokens", "run", "started"]

_NUMBER = re.compile(rb"request (\d+)")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run on the loop that the gateway uses, too; what hangs fails in the end."""

    async def bounded() -> Any:
        async with asyncio.timeout(100):
            return await main

    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bounded())


def output_tokens(number: int) -> int:
    """What the upstream says that the answer to a request took."""
    return 20 + number % 61


@dataclass
class Upstream:
    """Answers every request after a while, whole or streamed, and keeps count.

    Parameters
    ----------
    pause : float
        Seconds before an answer.
    """

    pause: float = 0.004
    served: list[int] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)
    url: str = ""
    _server: asyncio.Server | None = None
    _open: set[asyncio.BaseTransport] = field(default_factory=set)

    async def __aenter__(self) -> Upstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Served(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in list(self._open):
            transport.close()
        while self._open:
            await asyncio.sleep(0)
        await self._server.wait_closed()


class _Served(asyncio.Protocol):
    """A connection of the gateway to the upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.upstream._open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.upstream._open.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, rest = self.buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(rest) < int(length[1]):
            return
        self.buffer = b""
        found = _NUMBER.search(rest)
        assert found is not None
        for line in head.split(b"\r\n"):
            if line.startswith(b"authorization: "):
                self.upstream.keys.add(line[15:])
        loop = asyncio.get_running_loop()
        stream = b'"stream":true' in rest
        loop.call_later(self.upstream.pause, self.answer, int(found[1]), stream)

    def answer(self, number: int, stream: bool) -> None:
        if self.transport.is_closing():
            return
        self.upstream.served.append(number)
        usage = {"prompt_tokens": 10, "completion_tokens": output_tokens(number)}
        told = {"id": f"number-{number}", "object": "chat.completion", "choices": []}
        if stream:
            events = [{**told, "choices": [{"index": 0, "delta": {"content": "x"}}]}] * 3
            lines = [orjson.dumps(one) for one in (*events, {**told, "usage": usage})] + [b"[DONE]"]
            body = b"".join(b"data: %b\n\n" % line for line in lines)
            kind = b"text/event-stream"
        else:
            body, kind = orjson.dumps({**told, "usage": usage}), b"application/json"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (kind, len(body)) + body)


@dataclass
class Crowd:
    """Many clients of one gateway, each with one request at a time.

    Attributes
    ----------
    answers : dict of int to (int, str)
        Status and `x-turnout-id`, by the request's number; 0 where the connection was lost.
    errors : dict of int to int
        Requests by status that is not 200.
    wrong : list of int
        Requests whose answer was not theirs, or not whole.
    """

    url: str
    headers: bytes = b""
    answers: dict[int, tuple[int, str]] = field(default_factory=dict)
    wrong: list[int] = field(default_factory=list)
    _seen: asyncio.Condition = field(default_factory=asyncio.Condition)

    def count(self, status: int) -> int:
        """Answers with a status."""
        return sum(told == status for told, _ in self.answers.values())

    async def ask(self, numbers: Iterator[int], *, fresh: bool = False) -> None:
        """Ask one request after the other; `fresh`: each on a connection of its own."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        loop = asyncio.get_running_loop()
        client: _Client | None = None
        try:
            for number in numbers:
                if client is None or client.closed:
                    _, client = await loop.create_connection(_Client, host, int(port))
                status, name, body = await client.ask(number, self.headers)
                self.answers[number] = (status, name)
                whole = b"[DONE]" in body if number % 2 else body.endswith(b"}")
                if status == 200 and not (whole and b'"number-%d"' % number in body):
                    self.wrong.append(number)
                if fresh:
                    client.close()
                    client = None
        finally:
            if client is not None:
                client.close()

    async def all(self, clients: int, numbers: Iterator[int], *, fresh: int = 0) -> None:
        """So many clients at once, until the numbers are at an end."""
        async with asyncio.TaskGroup() as group:
            for i in range(clients):
                group.create_task(self.ask(numbers, fresh=i < fresh))


class _Client(asyncio.Protocol):
    """A connection to the gateway."""

    def __init__(self) -> None:
        self.closed = False
        self.buffer = b""
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.tell()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.whole():
            self.tell()

    def whole(self) -> bool:
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        length = _LENGTH.search(head)
        return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")

    def tell(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        self.closed = True
        self.transport.close()

    async def ask(self, number: int, headers: bytes) -> tuple[int, str, bytes]:
        """Status, name and body; status 0 where the connection was lost before the end."""
        message = {"role": "user", "content": f"request {number}"}
        chat = {"model": "auto", "stream": number % 2 > 0, "messages": [message]}
        body = orjson.dumps(chat)
        self.buffer = b""
        self.done = asyncio.get_running_loop().create_future()
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n%bcontent-length: %d\r\n\r\n"
        )
        self.transport.write(head % (headers, len(body)) + body)
        await self.done
        if not self.whole():
            self.closed = True
            return 0, "", self.buffer
        head, _, body = self.buffer.partition(b"\r\n\r\n")
        lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if lines.get(b"connection") == b"close":
            self.closed = True
        return int(head[9:12]), lines.get(b"x-turnout-id", b"").decode(), body


@dataclass
class Process:
    """A gateway that was started by its command."""

    url: str
    config: Path
    log: Path
    process: subprocess.Popen[bytes]
    said: list[str] = field(default_factory=list)

    def workers(self) -> list[int]:
        """The processes that serve."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]

    def tell(self, number: int) -> None:
        self.process.send_signal(number)

    def stopped(self, seconds: float = 60.0) -> int:
        """Tell it to stop, wait until it has, and return its exit status."""
        self.tell(signal.SIGTERM)
        return self.process.wait(seconds)

    async def logged(self, text: str, times: int = 1) -> None:
        """Wait until it has written something to its log."""
        await until(lambda: self.log.read_text().count(text) >= times)


async def until(found: Callable[[], object], seconds: float = 30.0) -> None:
    """Look again until something is so, while clients and upstream go on."""
    async with asyncio.timeout(seconds):
        while not found():
            await asyncio.sleep(0.01)


@contextmanager
def started(
    config: Path, command: Sequence[str] = ("-m", "turnout", "serve"), **environ: str
) -> Iterator[Process]:
    """A gateway as `turnout serve` starts it, or another command, while a block runs."""
    log = config.with_suffix(".log")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, *command, str(config)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **environ},
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode()
        found = re.match(r"ready: (http://127\.0\.0\.1:\d+) serves", line)
        assert found, line + log.read_text()
        yield Process(found[1], config, log, process, [line])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        if process.poll() is None:
            for pid in (*Process("", config, log, process).workers(), process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
