"""Lets an ASGI application answer requests of the server: for pages that need not be fast."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, final
from urllib.parse import unquote

from turnout.core import InputError
from turnout.serve.errors import JSON_LINE, body, where
from turnout.serve.wire.request import Request

__all__ = ["App", "Bridge"]

_log = logging.getLogger("turnout.serve")

_Message = MutableMapping[str, Any]

#: An ASGI 3 application.
App = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]],
    Awaitable[None],
]

#: What the server itself says of an answer.
_OURS = frozenset((b"connection", b"content-length", b"date", b"transfer-encoding"))


@final
class Bridge:
    """Runs an ASGI application for each request it is called with.

    Http only: no websockets, and the application's start and stop (`lifespan`) are its owner's
    business. An application that raises is answered for with status 500, or, where it has begun
    its answer, with a broken connection.

    Parameters
    ----------
    app : App
    scheme : str
        `http` or `https`: what clients speak.
    """

    def __init__(self, app: App, *, scheme: str = "http") -> None:
        self._app = app
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: Request) -> None:
        """Answer a request, in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._run(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop the application wherever it is still at work."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, request: Request) -> None:
        answer = _Answer(request)
        try:
            await self._app(self._scope(request), answer.receive, answer.send)
            if not answer.over and not request.gone:
                raise InputError("application", "finish its answer", "an unfinished one", "")
        except Exception as error:
            _log.error("application failed: %s", where(error))
            answer.fail(error)
        except BaseException:
            request.abort()
            raise

    def _scope(self, request: Request) -> _Message:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.http_version,
            "method": request.method,
            "scheme": self._scheme,
            "path": unquote(request.path),
            "raw_path": request.path.encode("ascii"),
            "query_string": request.query,
            "root_path": "",
            "headers": request.headers,
            "client": (request.client, 0),
            "server": None,
        }


@final
class _Answer:
    """The two channels of one request."""

    __slots__ = ("_asked", "_flows", "_gone", "_head", "_request", "over")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._asked = False
        self._gone = asyncio.Event()
        self._flows = asyncio.Event()
        self._flows.set()
        self._head: tuple[int, bytes] | None = None
        self.over = False
        request.on_gone = self._on_gone
        request.on_flow = self._on_flow
        if request.gone:
            self._on_gone()

    async def receive(self) -> _Message:
        """The request, and from then on only that the client has gone or heard everything."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: _Message) -> None:
        """Send what the application says; waits while the client cannot take it."""
        kind = message["type"]
        request = self._request
        if kind == "http.response.start" and self._head is None:
            self._head = (message["status"], self._lines(message.get("headers", ())))
            return
        if kind != "http.response.body" or self._head is None or self.over:
            raise InputError("application", "start an answer, then send its body", kind, "")
        data = message.get("body", b"")
        more = message.get("more_body", False)
        if not request.started and not more and request.method != "HEAD":
            self._end()
            request.reply(*self._head, data)
            return
        if not request.started:
            request.start(*self._head)
        request.write(data)
        if not more:
            self._end()
            request.end()
        elif not self._flows.is_set():
            await self._flows.wait()

    def fail(self, error: Exception) -> None:
        """The application raised."""
        if self._request.started:
            if not self.over:
                self._request.abort()
        else:
            self._end()
            self._request.reply(500, JSON_LINE, body(error))

    def _end(self) -> None:
        self.over = True
        self._gone.set()

    def _on_gone(self) -> None:
        self._gone.set()
        self._flows.set()

    def _on_flow(self, full: bool) -> None:
        if full:
            self._flows.clear()
        else:
            self._flows.set()

    def _lines(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Header lines; the length of what is not sent is the application's to tell."""
        lines = []
        for name, value in headers:
            line = b"%b: %b" % (name, value)
            if b"\r" in line or b"\n" in line:
                raise InputError("header", "be one line", "several", "")
            bare = self._request.method == "HEAD" and name.lower() == b"content-length"
            if bare or name.lower() not in _OURS:
                lines.append(line + b"\r\n")
        return b"".join(lines)
