"""One coarse clock for a loop: a cached time, and deadlines that cost a number each.

A timer of the loop for every request would cost more than the request's parsing. Here one tick
every few hundredths of a second reads the time and looks at the deadline of every watched object;
to set, move or drop a deadline is to store a float.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from turnout.core import _check

__all__ = ["NEVER", "Clock", "Timed"]

#: A deadline that does not come.
NEVER: Final = math.inf

#: A tick this many periods late finds answers waiting unread in the sockets; they come first.
_LATE = 4.0


class Timed(Protocol):
    """What a clock can watch.

    Attributes
    ----------
    deadline : float
        Time on the clock at which `expired` is to be called; `NEVER` for not at all.
    """

    deadline: float

    def expired(self) -> None:
        """The deadline has come; it stands at `NEVER` until it is set again."""
        ...


class Clock:
    """A cached time and the deadlines that hang on it.

    Deadlines are kept to one period: one set `s` seconds ahead comes after more than
    `s - period` and, in a loop that is not held up, less than `s + period` seconds.

    Parameters
    ----------
    period : float
        Seconds between two ticks. In [0.001, 10].
    time : callable
        Seconds from any fixed point, never falling.

    Attributes
    ----------
    now : float
        The time at the last tick, seconds.
    period : float

    Raises
    ------
    InputError
        The period is out of its range.
    """

    __slots__ = ("_handle", "_time", "_watched", "now", "period")

    def __init__(self, period: float = 0.04, *, time: Callable[[], float] = time.monotonic) -> None:
        self.period = _check.number("period", period, low=0.001, high=10.0)
        self.now = time()
        self._time = time
        self._watched: set[Timed] = set()
        self._handle: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> int:
        """Number of watched objects."""
        return len(self._watched)

    def start(self) -> None:
        """Tick in the loop that runs now; more than one start is the same as one."""
        if self._handle is None:
            self.now = self._time()
            self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """Tick no more; deadlines stay where they are."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def watch(self, timed: Timed) -> None:
        """Look at an object's deadline from now on."""
        self._watched.add(timed)

    def forget(self, timed: Timed) -> None:
        """Look at it no more; no matter whether it was watched."""
        self._watched.discard(timed)

    def tick(self) -> None:
        """Read the time and call `expired` of every object whose deadline has come.

        After a tick that comes far too late nothing expires until the next one: the loop was
        held up, and what was waited for may have arrived meanwhile.
        """
        late = self.now + _LATE * self.period
        self.now = now = self._time()
        if self._handle is not None and now > late:
            return
        due = [timed for timed in self._watched if timed.deadline <= now]
        for timed in due:
            # an earlier one may have moved or dropped it
            if timed.deadline <= now and timed in self._watched:
                timed.deadline = NEVER
                timed.expired()

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = loop.call_later(self.period, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule(loop)
        self.tick()
