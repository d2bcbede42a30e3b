"""Servers that answer several requests at once, each the slower for it: an exact simulation.

Destination j works on up to `slots[j]` requests at a time (continuous batching); the others wait
in order of arrival. With b of them under way each goes on at the pace of its own::

    pace_j(b) = 1 / (1 + slope_j (b - 1))           seconds of work done in a second

which is what a step latency l_j(b) = alpha_j + beta_j b gives for slope_j = beta_j / (alpha_j +
beta_j): `work` is counted in the seconds a request would take if it were alone. All requests under
way at a server move alike, so one virtual clock a server orders their ends, and the simulation
jumps from end to end: nothing is rounded to time steps. A request that was handed over stays where
it is.

Times are in seconds from any origin. Cost: O(log slots) an arrival and an end.

Examples
--------
>>> import numpy as np
>>> queues = Queues(Servers(slope=np.array([0.5]), slots=np.array([2])))
>>> for who in range(3):
...     queues.submit(who, 0, work=1.0)
>>> queues.in_flight
[3]
>>> queues.advance(10.0)
[(0, 1.5), (1, 1.5), (2, 2.5)]
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, _check
from turnout.core._check import Float, Int

__all__ = ["Arrivals", "Load", "Queues", "Served", "Servers", "bursts", "serve"]


@dataclass(frozen=True, eq=False)
class Servers:
    """What m destinations can carry.

    Parameters
    ----------
    slope : array (m,)
        How much slower each further request at the same time makes all of them; >= 0. 0 = not at
        all, 1 = they take turns.
    slots : array of int (m,)
        Most requests at the same time, >= 1.

    Raises
    ------
    InputError
        The lengths differ or a value is out of range.
    """

    slope: Float
    slots: Int

    def __post_init__(self) -> None:
        slope = _check.floats("servers.slope", self.slope, (None,), low=0.0)
        slots = _check.floats("servers.slots", self.slots, (len(slope),), low=1.0)
        if len(slope) == 0 or bool((slots != np.floor(slots)).any()):
            hint = "Give each destination one number."
            raise InputError("servers.slots", "hold whole numbers >= 1", self.slots, hint)
        object.__setattr__(self, "slope", slope)
        object.__setattr__(self, "slots", _check.frozen(slots.astype(np.int64)))

    @property
    def m(self) -> int:
        """Number of destinations."""
        return len(self.slope)

    @property
    def capacity(self) -> Float:
        """Most work each can do in a second, (m,): its slots at their common pace."""
        return np.asarray(self.slots / (1.0 + self.slope * (self.slots - 1)))

    def shares(self, k: float) -> Servers:
        """Each destination with `k` times the hardware, over which its requests are spread.

        A lone request is as fast as before; k times as many are slowed alike.
        """
        k = _check.number("k", k, low=1.0)
        return Servers(self.slope / k, np.floor(self.slots * k).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Load:
    """How busy the destinations are, as a decision may know it.

    Parameters
    ----------
    in_flight : array (m,)
        Requests sent to each and not yet answered, >= 0.
    rate : float
        Requests a second that have been coming lately, >= 0; 0 where nothing came yet.

    Raises
    ------
    InputError
        A count or the rate is negative or not finite.
    """

    in_flight: Float
    rate: float = 0.0

    def __post_init__(self) -> None:
        counts = _check.floats("load.in_flight", self.in_flight, (None,), low=0.0)
        object.__setattr__(self, "in_flight", counts)
        object.__setattr__(self, "rate", _check.number("load.rate", self.rate, low=0.0))


class Arrivals:
    """The rate of arrivals lately: how many in the last `window` seconds, over the window.

    It knows the past alone; before the first arrival the rate is 0.

    Parameters
    ----------
    window : float
        Seconds, > 0.
    """

    def __init__(self, window: float) -> None:
        self.window = _check.number("window", window, low=1e-12)
        self._times: deque[float] = deque()

    def rate(self, at: float) -> float:
        """Arrivals a second in the window that ends at `at`."""
        times = self._times
        while times and times[0] <= at - self.window:
            times.popleft()
        return len(times) / self.window

    def came(self, at: float) -> None:
        """One arrived; times do not decrease."""
        self._times.append(at)


class _Server:
    """One destination: a heap of those under way by the virtual time of their end, and a line."""

    __slots__ = ("clock", "heap", "line", "now", "slope", "slots")

    def __init__(self, slope: float, slots: int) -> None:
        self.slope, self.slots = slope, slots
        self.clock = self.now = 0.0
        self.heap: list[tuple[float, int]] = []
        self.line: deque[tuple[int, float]] = deque()

    def advance(self, to: float, ended: list[tuple[int, float]]) -> None:
        heap, line = self.heap, self.line
        while heap:
            slow = 1.0 + self.slope * (len(heap) - 1)
            end = self.now + (heap[0][0] - self.clock) * slow
            if end > to:
                self.clock += (to - self.now) / slow
                break
            self.clock, who = heapq.heappop(heap)
            self.now = end
            ended.append((who, end))
            if line:
                following, work = line.popleft()
                heapq.heappush(heap, (self.clock + work, following))
        if math.isfinite(to):
            self.now = to

    def submit(self, who: int, work: float) -> None:
        if len(self.heap) < self.slots:
            heapq.heappush(self.heap, (self.clock + work, who))
        else:
            self.line.append((who, work))

    def copy(self) -> _Server:
        twin = _Server(self.slope, self.slots)
        twin.clock, twin.now = self.clock, self.now
        twin.heap, twin.line = self.heap.copy(), self.line.copy()
        return twin


class Queues:
    """The state of m servers as time goes on; see the module.

    Parameters
    ----------
    servers : Servers
    """

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        pairs = zip(servers.slope.tolist(), servers.slots.tolist(), strict=True)
        self._each = [_Server(slope, slots) for slope, slots in pairs]
        self.now = 0.0

    @property
    def in_flight(self) -> list[int]:
        """Requests under way or waiting at each, m numbers."""
        return [len(server.heap) + len(server.line) for server in self._each]

    def submit(self, who: int, j: int, work: float) -> None:
        """Hand request `who` to server `j` now: at the time last advanced to."""
        self._each[j].submit(who, work)

    def advance(self, to: float) -> list[tuple[int, float]]:
        """Let time pass until `to` (infinity = until all is done): (who, when) of each end.

        `to` must not lie before the last one.
        """
        ended: list[tuple[int, float]] = []
        for server in self._each:
            server.advance(to, ended)
        if math.isfinite(to):
            self.now = to
        if len(ended) > 1:
            ended.sort(key=lambda pair: (pair[1], pair[0]))
        return ended

    def wait(self, j: int, work: float) -> float:
        """Seconds a request of this much work would take at `j`, as far as counts tell.

        Exact where there is a free slot and nobody comes or goes; a line is expected to take as
        long as requests of the same work would.
        """
        server = self._each[j]
        busy, line = len(server.heap), len(server.line)
        if busy < server.slots:
            return work * (1.0 + server.slope * busy)
        slow = work * (1.0 + server.slope * (server.slots - 1))
        return slow * (1.0 + (line + 1) / server.slots)

    def copy(self) -> Queues:
        """Another of the same state, to try things on."""
        twin = Queues.__new__(Queues)
        twin.servers, twin.now = self.servers, self.now
        twin._each = [server.copy() for server in self._each]
        return twin


@dataclass(frozen=True, eq=False)
class Served:
    """What became of n requests.

    Parameters
    ----------
    choice : array of int (n,)
        Where each was sent.
    seconds : array (n,)
        From its arrival to its end.
    """

    choice: Int
    seconds: Float


def serve(
    arrivals: Float, work: Float, servers: Servers, choose: Callable[[int, float, Queues], int]
) -> Served:
    """Play a stream of requests to its end.

    Parameters
    ----------
    arrivals : array (n,)
        Times in seconds, not decreasing.
    work : array (n, m)
        Seconds each would take alone at each destination, > 0.
    servers : Servers
    choose : callable
        `choose(i, at, queues)` says where request i goes; it must leave the queues as they are.

    Raises
    ------
    InputError
        Shapes disagree, times decrease, or a piece of work is not above zero.
    """
    times = _check.floats("arrivals", arrivals, (None,))
    cells = _check.floats("work", work, (len(times), servers.m), low=1e-300)
    if bool((np.diff(times) < 0).any()):
        raise InputError("arrivals", "not decrease", "a step back", "Sort them.")
    queues = Queues(servers)
    start = float(times[0]) if len(times) else 0.0
    choice = np.empty(len(times), dtype=np.int64)
    seconds = np.empty(len(times))
    rows = cells.tolist()
    for i, time in enumerate((times - start).tolist()):
        for who, when in queues.advance(time):
            seconds[who] = when
        j = choose(i, time, queues)
        choice[i] = j
        queues.submit(i, j, rows[i][j])
    for who, when in queues.advance(math.inf):
        seconds[who] = when
    return Served(choice, seconds - (times - start))


def bursts(n: int, rates: Float, hold: float, *, rng: Generator) -> Float:
    """Arrival times (n,) of a Poisson stream whose rate jumps among `rates`.

    Parameters
    ----------
    n : int
        Arrivals, >= 1.
    rates : array (r,)
        Requests a second, > 0; drawn anew, evenly, at each jump.
    hold : float
        Mean number of arrivals between jumps, >= 1.
    rng : Generator
    """
    n = _check.integer("n", n, low=1)
    levels = _check.floats("rates", rates, (None,), low=1e-300)
    jump = rng.random(n) < 1.0 / _check.number("hold", hold, low=1.0)
    jump[0] = True
    drawn = levels[rng.integers(len(levels), size=n)]
    rate = drawn[np.maximum.accumulate(np.where(jump, np.arange(n), 0))]
    return np.asarray(np.cumsum(rng.exponential(size=n) / rate))
