"""One request to an upstream, and the owner of the connections it may go over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, final

from turnout.serve.errors import where
from turnout.serve.wire.clock import Clock, Timed
from turnout.serve.wire.limits import Limits
from turnout.serve.wire.receiver import Failure, Receiver, Times

__all__ = ["Call", "Pool", "Way"]

_log = logging.getLogger("turnout.serve")


class Way(Timed, Protocol):
    """A connection to the upstream, which carries one call at a time."""

    def take(self, call: Call, receiver: Receiver) -> None:
        """Send a request."""
        ...

    def hold(self, hold: bool) -> None:
        """Stop reading, or go on."""
        ...

    def leave(self) -> None:
        """Close; the call is told nothing."""
        ...

    def abandon(self) -> None:
        """Close; a call under way fails."""
        ...


class Pool(Protocol):
    """The owner of links."""

    clock: Clock
    limits: Limits
    times: Times
    bytes_in: int
    bytes_out: int

    def made(self, link: Way) -> None:
        """A link is connected."""
        ...

    def put_back(self, link: Way) -> None:
        """A link can be used again."""
        ...

    def lost(self, link: Way) -> None:
        """A link is closed, or about to be."""
        ...

    def gone(self, link: Way) -> None:
        """The loop has closed a link."""
        ...

    def again(self, call: Call) -> None:
        """A kept connection turned out to be closed: ask on a new one."""
        ...


@final
class Call:
    """One request to an upstream, from asking to the answer's end.

    Parameters
    ----------
    pool : Pool
    message : bytes
        The request as it is sent.
    receiver : Receiver
    total : float
        Time on the clock at which it is given up.
    """

    __slots__ = (
        "deadline",
        "give_up",
        "link",
        "message",
        "paused",
        "pool",
        "receiver",
        "sent",
        "total",
    )

    def __init__(self, pool: Pool, message: bytes, receiver: Receiver, total: float) -> None:
        self.pool = pool
        self.message = message
        self.receiver: Receiver | None = receiver  # None: it has heard the end
        self.total = total
        self.link: Way | None = None
        self.give_up: Callable[[], object] | None = None  # stops what connects for it
        self.sent = self.paused = False
        self.deadline: float

    def cancel(self) -> None:
        """Close the connection; the receiver hears nothing more, not even an end."""
        self.receiver = None
        self._let_go()

    def pause(self) -> None:
        """Read no more of the answer until `resume`."""
        self.paused = True
        if self.link is not None:
            self.link.hold(True)

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        if self.link is not None:
            self.link.hold(False)

    def over(self, failure: Failure | None) -> None:
        """Tell the receiver of the end, unless it has heard of it: for links and their owner."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            try:
                receiver.end(failure)
            except Exception as error:
                _log.error("receiver failed: %s", where(error))

    def fail(self, kind: str) -> None:
        """Give up while there is no connection: for the links' owner."""
        self._let_go()
        self.over(Failure(kind, self.sent, False))

    def expired(self) -> None:
        """No connection in time."""
        late = self.pool.clock.now >= self.total
        self.fail("total_timeout" if late else "connect_timeout")

    def _let_go(self) -> None:
        give_up, self.give_up = self.give_up, None
        if give_up is not None:
            self.pool.clock.forget(self)
            give_up()
        link, self.link = self.link, None
        if link is not None:
            link.leave()
