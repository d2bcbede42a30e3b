"""The server's side of HTTP/1.1: all connections of one worker, and how they are closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from turnout.serve.wire.clock import Clock
from turnout.serve.wire.connection import Connection
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.request import Request
from turnout.serve.wire.worker import Worker

__all__ = ["Request", "Server"]

#: Seconds in which a connection that was cut is told so by the loop.
_TOLD = 1.0


class Server:
    """Makes the protocol of each connection, for `loop.create_server`.

    Parameters
    ----------
    handle : callable
        Called with each request, in the order of their arrival on a connection. It answers then
        or later; what it raises is answered with status 500.
    limits : Limits
    clock : Clock
        Has to tick while the server is used.
    on_refused : callable, optional
        Called with the status of each answer to what was refused before it was a request.
    """

    def __init__(
        self,
        handle: Callable[[Request], None],
        limits: Limits,
        clock: Clock,
        on_refused: Callable[[int], None] | None = None,
    ) -> None:
        self._worker = Worker(handle, limits, clock, on_refused)

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return Connection(self._worker)

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._worker.connections)

    @property
    def accepted(self) -> int:
        """Connections taken so far."""
        return self._worker.accepted

    @property
    def turned_away(self) -> int:
        """Connections beyond the limit so far."""
        return self._worker.turned_away

    @property
    def requests(self) -> int:
        """Requests handed on so far."""
        return self._worker.requests

    @property
    def refused(self) -> int:
        """Requests and connections answered with an error here so far."""
        return self._worker.refused

    @property
    def body_bytes(self) -> int:
        """Bytes of request bodies held now."""
        return self._worker.room.held

    @property
    def bytes_in(self) -> int:
        """Bytes read so far."""
        return self._worker.bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes written so far."""
        worker = self._worker
        return worker.bytes_out + sum(connection.written for connection in worker.connections)

    async def drain(self, seconds: float) -> None:
        """Finish what is in progress and close all connections.

        Requests that have come, in whole or in part, are still answered, the last one of each
        connection with `connection: close`. Idle connections are closed after a moment in which
        what is already on its way to them can arrive. To be called when nobody listens for new
        connections any more.

        Parameters
        ----------
        seconds : float
            After these, what is still open is cut.
        """
        worker = self._worker
        worker.draining = True
        for connection in list(worker.connections):
            connection.drain()
        await self._emptied(seconds)
        for connection in list(worker.connections):
            connection.cut()
        await self._emptied(_TOLD)
        worker.clock.forget(worker)

    async def _emptied(self, seconds: float) -> None:
        if not self._worker.connections:
            return
        empty = asyncio.Event()
        self._worker.emptied = empty.set
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await empty.wait()
        self._worker.emptied = None
