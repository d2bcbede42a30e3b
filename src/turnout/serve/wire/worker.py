"""What all connections of one server share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol, final

from turnout.serve.errors import where
from turnout.serve.wire.clock import NEVER, Clock, Timed
from turnout.serve.wire.head import HeadReader
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.reader import Room
from turnout.serve.wire.request import Request

__all__ = ["Open", "Worker"]

_log = logging.getLogger("turnout.serve")


class Open(Timed, Protocol):
    """An open connection, as the server sees it.

    Attributes
    ----------
    written : int
        Bytes sent.
    """

    written: int

    def drain(self) -> None:
        """Close if idle."""
        ...

    def cut(self) -> None:
        """Close at once."""
        ...


@final
class Worker:
    """What the connections of one server share.

    Parameters
    ----------
    handle : callable
        Called with each request.
    limits : Limits
    clock : Clock
    on_refused : callable, optional
        Called with the status of each answer that `refused` counts.

    Attributes
    ----------
    handle : callable
    limits : Limits
    clock : Clock
    heads : HeadReader
    room : Room
    date : bytes
        The line that tells the time of day.
    deadline : float
        For the clock.
    connections : set of Open
        Those that are open.
    draining : bool
        No connection is kept after the answer that it waits for.
    emptied : callable, optional
        Called once no connection is left.
    accepted, turned_away, requests, refused, bytes_in, bytes_out : int
        Connections taken, and those beyond the limit; requests handed on, and those refused
        here; bytes read, and written by connections that are closed.
    """

    __slots__ = (
        "_on_refused",
        "accepted",
        "bytes_in",
        "bytes_out",
        "clock",
        "connections",
        "date",
        "deadline",
        "draining",
        "emptied",
        "handle",
        "heads",
        "limits",
        "refused",
        "requests",
        "room",
        "turned_away",
    )

    def __init__(
        self,
        handle: Callable[[Request], None],
        limits: Limits,
        clock: Clock,
        on_refused: Callable[[int], None] | None = None,
    ) -> None:
        self.handle = handle
        self.limits = limits
        self.clock = clock
        self.heads = HeadReader(limits)
        self.room = Room(limits.bodies_bytes)
        self.connections: set[Open] = set()
        self.draining = False
        self.emptied: Callable[[], None] | None = None
        self._on_refused = on_refused
        self.accepted = self.turned_away = self.requests = self.refused = 0
        self.bytes_in = self.bytes_out = 0
        self.date = b""
        self.deadline = NEVER
        self.expired()
        clock.watch(self)

    def refuse(self, status: int) -> None:
        """Count a request or connection that is answered with an error here."""
        self.refused += 1
        if self._on_refused is not None:
            try:
                self._on_refused(status)
            except Exception as error:
                _log.error("on_refused failed: %s", where(error))

    def expired(self) -> None:
        """Make the `date` line, once a second."""
        self.date = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        self.deadline = self.clock.now + 1.0
