"""How many requests are in progress at once: in all, at each destination, and of each key.

Where there is room a request passes by counting; where there is none it waits in a queue, first
come first served, bounded in length and in time. What the queue cannot take is refused with an
honest estimate of when to come back. Before the queues stand two more limits: all that one worker
holds in hand, waiting ones included, and the lag of its event loop.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from turnout.core import _check
from turnout.serve.guard.refusal import RefusedError, whole_seconds

__all__ = ["Gate", "GateRules", "LaneRules"]

#: Weight of the newest service time in the mean of recent ones.
_NEWEST = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRules:
    """What one destination, or all together, may have in progress.

    Parameters
    ----------
    parallel : int, optional
        Requests at once; None = no limit, and then nothing waits.
    queue : int
        Requests that may wait. >= 0.
    """

    parallel: int | None = None
    queue: int = 100

    def __post_init__(self) -> None:
        if self.parallel is not None:
            _check.integer("parallel", self.parallel, low=1)
        _check.integer("queue", self.queue, low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """Limits of one worker.

    Parameters
    ----------
    every : LaneRules
        All destinations together.
    in_hand : int
        Requests in progress or waiting; more are shed at once. >= 1.
    longest_wait_seconds : float
        Longest that a request waits for its turn.
    lag_seconds : float
        Lag of the event loop from which requests are shed: at this lag none yet, at twice the
        lag all, between them a share that grows evenly.
    """

    every: LaneRules = LaneRules()
    in_hand: int = 2000
    longest_wait_seconds: float = 10.0
    lag_seconds: float = 0.5

    def __post_init__(self) -> None:
        _check.integer("in_hand", self.in_hand, low=1)
        _check.number("longest_wait_seconds", self.longest_wait_seconds, low=0.0)
        _check.number("lag_seconds", self.lag_seconds, low=1e-3)


class _Waiter:
    """A request that waits."""

    __slots__ = ("due", "future", "lane")

    def __init__(self, future: asyncio.Future[None], lane: _Lane, due: float) -> None:
        self.future = future
        self.lane = lane
        self.due = due


class _Lane:
    """Room for so many, and a queue."""

    __slots__ = ("inside", "last", "limit", "places", "queue", "service")

    def __init__(self, rules: LaneRules, now: float) -> None:
        self.limit = rules.parallel if rules.parallel is not None else 1 << 62
        self.places = rules.queue
        self.inside = 0
        # by future, in order of arrival: whoever gives up is found and taken out at once
        self.queue: OrderedDict[asyncio.Future[None], _Waiter] = OrderedDict()
        self.service = 0.0  # mean of recent service times, seconds; 0 = none known
        self.last = now  # when one left, or the lane became full

    def served(self, seconds: float, now: float) -> None:
        self.last = now
        self.service += (seconds - self.service) * (_NEWEST if self.service else 1.0)

    def estimate(self, now: float) -> float:
        """Seconds until all that wait now, and one more, will have been let in."""
        # at a full lane one leaves every service / limit seconds; when none has left for longer
        # than that, the past is no guide any more
        pace = max((self.service or 1.0) / self.limit, now - self.last)
        return pace * (len(self.queue) + 1)


class Gate:
    """The gate of one worker, for one event loop.

    A request calls `admit` once, then for each try `enter` and `leave`, then `release`. `tick`
    has to be called regularly, or nobody's wait ends by time.

    Parameters
    ----------
    rules : GateRules
    lanes : mapping of str to LaneRules
        By destination.
    clock : callable
        Seconds of a clock that only goes forward.

    Attributes
    ----------
    lag : float
        Lag of the event loop, seconds; whoever measures it sets it.
    in_hand : int
        Requests admitted and not yet released.
    """

    __slots__ = ("_clock", "_debt", "_every", "_keys", "_lanes", "_rules", "in_hand", "lag")

    def __init__(
        self, rules: GateRules, lanes: Mapping[str, LaneRules], clock: Callable[[], float]
    ) -> None:
        now = clock()
        self._rules = rules
        self._clock = clock
        self._every = _Lane(rules.every, now)
        self._lanes = {name: _Lane(lane, now) for name, lane in lanes.items()}
        self._keys: dict[str, int] = {}
        self._debt = 0.0
        self.lag = 0.0
        self.in_hand = 0

    def admit(self, key: str, parallel: int | None = None) -> None:
        """Take a request in hand.

        Parameters
        ----------
        key : str
            Id of its key.
        parallel : int, optional
            Requests that this key may have in hand at once.

        Raises
        ------
        RefusedError
            The worker has too much in hand or its loop lags (status 503), or the key has too
            much in hand (status 429).
        """
        rules, every = self._rules, self._every
        if self.in_hand >= rules.in_hand:
            pace = max((every.service or 1.0) / rules.in_hand, self._clock() - every.last)
            raise _refused(f"have less than {rules.in_hand} in hand", self.in_hand, pace, _SHED)
        if self.lag > rules.lag_seconds:
            # the share is met without drawing: so many of the next hundred, evenly spread
            self._debt += min(1.0, self.lag / rules.lag_seconds - 1.0)
            if self._debt >= 1.0:
                self._debt -= 1.0
                raise _refused("keep up", f"a lag of {self.lag:.3g} s", self.lag, _SHED)
        held = self._keys.get(key, 0)
        if parallel is not None and held >= parallel:
            hint = "Wait for one of them to end."
            rule = f"have at most {parallel} requests in progress"
            after = whole_seconds((every.service or 1.0) / held)
            raise RefusedError("key", rule, held, hint, retry_after=after, **_TOO_MANY)
        self._keys[key] = held + 1
        self.in_hand += 1
        if self.in_hand == rules.in_hand:
            every.last = self._clock()

    def release(self, key: str) -> None:
        """Let go of a request that was admitted."""
        self.in_hand -= 1
        held = self._keys[key] - 1
        if held:
            self._keys[key] = held
        else:
            del self._keys[key]

    def enter(self, destination: str) -> asyncio.Future[None] | None:
        """Go to a destination, or wait for a turn.

        Returns
        -------
        future or None
            None: there is room, and it is taken. A future: it gets its result when it is this
            request's turn, and `RefusedError` where that takes too long. Whoever does not want
            to wait any more calls `give_up`; `leave` is for those who have been there.

        Raises
        ------
        RefusedError
            The queue is full; status 503.
        """
        lane, every = self._lanes[destination], self._every
        if lane.inside < lane.limit:
            if every.inside < every.limit:
                lane.inside += 1
                every.inside += 1
                if lane.inside == lane.limit or every.inside == every.limit:
                    self._filled(lane)
                return None
            full = every
        else:
            full = lane
        now = self._clock()
        if len(full.queue) >= full.places:
            rule = "have room in its queue" if full is lane else "wait for room at the gateway"
            raise _refused(rule, len(full.queue), full.estimate(now), _QUEUE)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(future, lane, now + self._rules.longest_wait_seconds)
        if full is every:
            lane.inside += 1
            if lane.inside == lane.limit:
                lane.last = now
        full.queue[future] = waiter
        future.add_done_callback(lambda _: self._gone(waiter))
        return future

    def leave(self, destination: str, seconds: float) -> None:
        """A request is done with a destination.

        Parameters
        ----------
        destination : str
        seconds : float
            How long it was there.
        """
        lane, every, now = self._lanes[destination], self._every, self._clock()
        lane.inside -= 1
        every.inside -= 1
        lane.served(seconds, now)
        every.served(seconds, now)
        if every.queue:
            self._next(every)
        if lane.queue:
            self._next(lane)

    def give_up(self, destination: str, future: asyncio.Future[None]) -> None:
        """Wait no more, at whatever moment: also one to whom the turn has just been given."""
        if future.cancel() or future.cancelled():
            for queue in (self._lanes[destination].queue, self._every.queue):
                if future in queue:
                    self._take_out(queue[future])
        elif future.exception() is None:
            lane = self._lanes[destination]
            self.leave(destination, lane.service)  # as if it had been like the others

    def waiting(self, destination: str | None = None) -> int:
        """Requests that wait for a destination; without one, all that wait."""
        if destination is not None:
            return len(self._lanes[destination].queue)
        return sum(len(lane.queue) for lane in self._lanes.values()) + len(self._every.queue)

    def inside(self, destination: str | None = None) -> int:
        """Requests in progress at a destination; without one, at all of them."""
        return (self._every if destination is None else self._lanes[destination]).inside

    def tick(self, now: float) -> None:
        """Refuse all that have waited too long."""
        for lane in self._lanes.values():
            # all wait equally long, so that the first is the first to be due
            while lane.queue and (first := next(iter(lane.queue.values()))).due <= now:
                self._refuse(first, lane, now)
        for waiter in [item for item in self._every.queue.values() if item.due <= now]:
            self._refuse(waiter, self._every, now)

    def _filled(self, lane: _Lane) -> None:
        """Remember since when there is no room."""
        now = self._clock()
        for full in (lane, self._every):
            if full.inside == full.limit:
                full.last = now

    def _next(self, lane: _Lane) -> None:
        """Give the room of a lane to those who wait for it."""
        every = self._every
        while lane.queue and lane.inside < lane.limit:
            future, waiter = lane.queue.popitem(last=False)
            if future.done():  # cancelled, and its callback is still to come
                self._freed(waiter, lane)
            elif lane is every or (every.inside < every.limit and not every.queue):
                lane.inside += 1
                every.inside += lane is not every
                future.set_result(None)
            else:
                lane.inside += 1
                every.queue[future] = waiter

    def _refuse(self, waiter: _Waiter, lane: _Lane, now: float) -> None:
        rule = f"get to a request within {self._rules.longest_wait_seconds:g} s"
        error = _refused(rule, f"{len(lane.queue)} waiting", lane.estimate(now), _QUEUE)
        self._take_out(waiter)
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _gone(self, waiter: _Waiter) -> None:
        """A future is done; one that was cancelled may still stand in a queue."""
        if waiter.future.cancelled():
            self._take_out(waiter)

    def _take_out(self, waiter: _Waiter) -> None:
        for lane in (waiter.lane, self._every):
            if lane.queue.pop(waiter.future, None) is not None:
                self._freed(waiter, lane)

    def _freed(self, waiter: _Waiter, lane: _Lane) -> None:
        """A waiter is out of a queue; one that waited for the whole had room at its destination."""
        if lane is self._every:
            waiter.lane.inside -= 1
            self._next(waiter.lane)


def _refused(rule: str, value: Any, seconds: float, more: dict[str, Any]) -> RefusedError:
    field = "gateway" if more is _SHED else "destination"
    hint = "Ask again later."
    return RefusedError(field, rule, value, hint, retry_after=whole_seconds(seconds), **more)


_TOO_MANY: dict[str, Any] = {
    "status": 429,
    "code": "too_many_parallel",
    "kind": "rate_limit_error",
    "reason": "rate",
}
_QUEUE: dict[str, Any] = {
    "status": 503,
    "code": "queue",
    "kind": "overloaded_error",
    "reason": "queue",
}
_SHED: dict[str, Any] = {**_QUEUE, "code": "overloaded", "reason": "shed"}
