"""What all connections of one server share."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol, final

from turnout.serve.wire.clock import NEVER, Clock, Timed
from turnout.serve.wire.head import HeadReader
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.reader import Room
from turnout.serve.wire.request import Request

__all__ = ["Open", "Worker"]


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

    Attributes
    ----------
    handle : callable
        Called with each request.
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

    def __init__(self, handle: Callable[[Request], None], limits: Limits, clock: Clock) -> None:
        self.handle = handle
        self.limits = limits
        self.clock = clock
        self.heads = HeadReader(limits)
        self.room = Room(limits.bodies_bytes)
        self.connections: set[Open] = set()
        self.draining = False
        self.emptied: Callable[[], None] | None = None
        self.accepted = self.turned_away = self.requests = self.refused = 0
        self.bytes_in = self.bytes_out = 0
        self.date = b""
        self.deadline = NEVER
        self.expired()
        clock.watch(self)

    def expired(self) -> None:
        """Make the `date` line, once a second."""
        self.date = f"date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        self.deadline = self.clock.now + 1.0
