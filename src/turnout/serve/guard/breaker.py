"""A circuit breaker: leaves a destination alone that fails, and tries it again with care.

Closed, all requests pass and their outcomes are counted in a sliding window. It opens after so
many failures in a row, or when too large a share of the window failed. Open, none passes. After a
while it is half-open: a few probes pass; when all do well it closes, when one fails it opens again
for longer. What was begun before a change of state no longer counts after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from turnout.core import InputError, _check

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "REFUSED", "Breaker", "BreakerRules"]

#: States, as the metrics tell them.
CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2
#: What `Breaker.admit` returns instead of a ticket.
REFUSED: Final = 0

_BUCKETS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens and for how long.

    Parameters
    ----------
    share : float
        Opens when at least this share of the window's requests failed. In (0, 1].
    window_seconds : float
        Length of the window.
    minimum : int
        Requests that the window must hold for its share to count. >= 1.
    in_a_row : int
        Opens after so many failures without a success between. >= 1.
    open_seconds, longest_seconds : float
        How long it stays open at first, and at most; each failed probe doubles it.
    probes : int
        Requests let through half-open at once, and successes that close it. >= 1.
    probe_seconds : float
        After so long without an outcome another probe is let through.
    longest_hold_seconds : float
        Most that a `Retry-After` counts for.
    """

    share: float = 0.5
    window_seconds: float = 30.0
    minimum: int = 10
    in_a_row: int = 5
    open_seconds: float = 5.0
    longest_seconds: float = 60.0
    probes: int = 2
    probe_seconds: float = 30.0
    longest_hold_seconds: float = 60.0

    def __post_init__(self) -> None:
        _check.number("share", self.share, low=1e-9, high=1.0)
        for name in ("minimum", "in_a_row", "probes"):
            _check.integer(name, getattr(self, name), low=1)
        for name in ("window_seconds", "open_seconds", "longest_seconds", "probe_seconds"):
            _check.number(name, getattr(self, name), low=1e-3)
        _check.number("longest_hold_seconds", self.longest_hold_seconds, low=0.0)
        if self.longest_seconds < self.open_seconds:
            hint = "Raise it, or lower open_seconds."
            raise InputError("longest_seconds", "be >= open_seconds", self.longest_seconds, hint)


class Breaker:
    """The breaker of one destination.

    Each request asks `admit` for a ticket and hands it back with its outcome, once: `success`,
    `failure`, or `forget` where it tells nothing of the destination (the client went away).

    Parameters
    ----------
    rules : BreakerRules
    clock : callable
        Seconds of a clock that only goes forward.
    on_change : callable, optional
        Called with the new state after each change.

    Attributes
    ----------
    openings : int
        How often it opened because of failures.
    holds : int
        How often a `Retry-After` held the destination off.
    """

    __slots__ = (
        *("_bucket", "_bucket_seconds", "_clock", "_failed", "_good", "_on_change", "_probed"),
        *("_probing", "_row", "_rules", "_state", "_ticket", "_times", "_total", "_until"),
        *("holds", "openings"),
    )

    def __init__(
        self,
        rules: BreakerRules,
        clock: Callable[[], float],
        on_change: Callable[[int], None] | None = None,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._on_change = on_change
        self._bucket_seconds = rules.window_seconds / _BUCKETS
        self._state = CLOSED
        self._ticket = 1
        self._until = -math.inf
        self._times = 0  # openings since it last closed
        self._probing = 0
        self._good = 0
        self._probed = -math.inf
        self._clear()
        self.openings = 0
        self.holds = 0

    @property
    def state(self) -> int:
        """`CLOSED`, `HALF_OPEN` or `OPEN`, at this moment."""
        if self._state == OPEN and self._clock() >= self._until:
            self._change(HALF_OPEN)
        return self._state

    @property
    def wait(self) -> float:
        """Seconds until requests may pass again; 0 unless open."""
        return max(0.0, self._until - self._clock()) if self.state == OPEN else 0.0

    def admit(self) -> int:
        """A ticket for one request, or `REFUSED`."""
        if self._state == CLOSED:
            return self._ticket
        if self.state == OPEN:
            return REFUSED
        now = self._clock()
        if self._probing >= self._rules.probes:
            if now - self._probed < self._rules.probe_seconds:
                return REFUSED
            # a probe was lost, or takes too long to say anything: another may pass in its place
            self._probing -= 1
        self._probing += 1
        self._probed = now
        return self._ticket

    def success(self, ticket: int) -> None:
        """The destination answered as it should."""
        if ticket != self._ticket:
            return
        if self._state == CLOSED:
            self._row = 0
            self._total[self._at(self._clock())] += 1
            return
        self._good += 1
        self._probing -= self._probing > 0
        if self._good >= self._rules.probes:
            self._times = 0
            self._change(CLOSED)

    def failure(self, ticket: int, retry_after: float | None = None) -> None:
        """The destination failed.

        Parameters
        ----------
        ticket : int
        retry_after : float, optional
            Seconds for which it said that it wants to be left alone.
        """
        if ticket == self._ticket:
            if self._state == HALF_OPEN:
                self._open()
            else:
                self._count()
        if retry_after is not None:
            self.hold(retry_after)

    def forget(self, ticket: int) -> None:
        """The outcome tells nothing."""
        if ticket == self._ticket and self._state == HALF_OPEN:
            self._probing -= self._probing > 0

    def hold(self, seconds: float) -> None:
        """Let nothing pass for so long, as the destination asked; bounded by the rules."""
        seconds = min(seconds, self._rules.longest_hold_seconds)
        until = self._clock() + seconds
        if not seconds > 0 or (self._state == OPEN and until <= self._until):
            return
        self.holds += 1
        self._until = until
        if self._state != OPEN:
            self._change(OPEN)

    def _count(self) -> None:
        """Enter one failure into the window, and open if it is one too many."""
        rules = self._rules
        at = self._at(self._clock())
        self._total[at] += 1
        self._failed[at] += 1
        self._row += 1
        total = sum(self._total)
        if self._row >= rules.in_a_row or (
            total >= rules.minimum and sum(self._failed) >= rules.share * total
        ):
            self._open()

    def _open(self) -> None:
        rules = self._rules
        # past that the doubling has long met its bound
        seconds = min(rules.longest_seconds, rules.open_seconds * 2.0 ** min(self._times, 60))
        self._times += 1
        self.openings += 1
        self._until = self._clock() + seconds
        self._change(OPEN)

    def _change(self, state: int) -> None:
        self._state = state
        self._ticket += 1
        self._probing = self._good = 0
        self._probed = -math.inf
        self._clear()
        if self._on_change is not None:
            self._on_change(state)

    def _clear(self) -> None:
        self._row = 0
        self._bucket = math.floor(self._clock() / self._bucket_seconds)
        self._total = [0] * _BUCKETS
        self._failed = [0] * _BUCKETS

    def _at(self, now: float) -> int:
        """The bucket of this moment, those that time has passed by emptied."""
        bucket = math.floor(now / self._bucket_seconds)
        passed = bucket - self._bucket
        if passed:
            for step in range(min(passed, _BUCKETS)):
                old = (bucket - step) % _BUCKETS
                self._total[old] = self._failed[old] = 0
            self._bucket = bucket
        return bucket % _BUCKETS
