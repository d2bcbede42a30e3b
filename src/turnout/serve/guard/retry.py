"""Trying again on the same destination: when it may help, how long to wait, and how often in all.

The wait before try k is drawn evenly from zero to `base * 2**(k - 2)` seconds ("full jitter"),
so that many clients that failed together do not come back together. A budget bounds the share of
requests that are retries: when a destination dies, it is asked little more often than before.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, Protocol

from turnout.core import _check

__all__ = [
    "RETRY_STATUSES",
    "Broken",
    "Retries",
    "RetryRules",
    "failure_may_pass",
    "read_retry_after",
    "status_may_pass",
]

#: Statuses that speak of the moment and not of the request. 529: overloaded, as some say it.
RETRY_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})

#: What breaks before the destination can have read the request.
_BEFORE = frozenset({"connect", "connect_timeout", "closed"})


class Broken(Protocol):
    """What is known of a connection that failed."""

    @property
    def kind(self) -> str:
        """Such as `connect`, `closed`, `headers_timeout`."""
        ...

    @property
    def sent(self) -> bool:
        """Whether any of the request was sent."""
        ...

    @property
    def began(self) -> bool:
        """Whether any of the answer has come."""
        ...


def status_may_pass(status: int) -> bool:
    """Whether the same request may fare better with the same destination after a while."""
    return status in RETRY_STATUSES


def failure_may_pass(failure: Broken) -> bool:
    """Whether to try again on the same destination after a connection failed.

    Never once an answer began: part of it may have been passed on. After the request was sent,
    only where the connection was closed without a word, as happens to one kept open that the
    destination has just given up. Not after a timeout: a silent destination is silent again, and
    the client has waited enough; that is what other destinations are for.
    """
    if failure.began:
        return False
    return failure.kind == "closed" if failure.sent else failure.kind in _BEFORE


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRules:
    """How often and how fast to try again.

    Parameters
    ----------
    tries : int
        Tries on one destination, the first included. 1 = never again.
    base_seconds, longest_seconds : float
        Bound of the wait before the second try, which doubles with each further one, and its
        own bound.
    longest_after_seconds : float
        A `Retry-After` above this is not waited for here.
    share : float
        Retries that each request earns. In [0, 1].
    per_second : float
        Retries earned by time alone, so that a gateway with few requests can retry.
    burst : float
        Most retries that can be saved up. >= 1.
    """

    tries: int = 3
    base_seconds: float = 0.2
    longest_seconds: float = 5.0
    longest_after_seconds: float = 3.0
    share: float = 0.1
    per_second: float = 0.2
    burst: float = 10.0

    def __post_init__(self) -> None:
        _check.integer("tries", self.tries, low=1)
        for name in ("base_seconds", "longest_seconds", "longest_after_seconds", "per_second"):
            _check.number(name, getattr(self, name), low=0.0)
        _check.number("share", self.share, low=0.0, high=1.0)
        _check.number("burst", self.burst, low=1.0)


class Retries:
    """The retries of one destination.

    Parameters
    ----------
    rules : RetryRules
    clock : callable
        Seconds of a clock that only goes forward.
    rng : random.Random
        Draws the waits.

    Attributes
    ----------
    granted, denied : int
        Retries that the budget paid for, and those it could not.
    """

    __slots__ = ("_clock", "_rng", "_rules", "_saved", "_then", "denied", "granted")

    def __init__(self, rules: RetryRules, clock: Callable[[], float], rng: random.Random) -> None:
        self._rules = rules
        self._clock = clock
        self._rng = rng
        self._saved = rules.burst
        self._then = clock()
        self.granted = 0
        self.denied = 0

    def begun(self) -> None:
        """A request asks this destination for the first time, and earns its share of a retry."""
        self._saved += self._rules.share  # bounded when it is spent

    def wait(self, tries: int, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next try, which is hereby paid for; None = try no more here.

        Parameters
        ----------
        tries : int
            Tries on this destination so far, >= 1; the last one failed in a way that may pass.
        retry_after : float, optional
            What the destination asked for, seconds.
        """
        rules = self._rules
        if tries >= rules.tries:
            return None
        if retry_after is not None and not retry_after <= rules.longest_after_seconds:
            return None
        now = self._clock()
        self._saved = min(rules.burst, self._saved + (now - self._then) * rules.per_second)
        self._then = now
        # ten shares of a tenth make a whole in spite of rounding
        if self._saved < 1.0 - 1e-9:
            self.denied += 1
            return None
        self._saved -= 1.0
        self.granted += 1
        # past that the doubling has long met its bound
        bound = min(rules.longest_seconds, rules.base_seconds * 2.0 ** min(tries - 1, 60))
        return (retry_after or 0.0) + self._rng.uniform(0.0, bound)


def read_retry_after(value: bytes | None, now: float) -> float | None:
    """Seconds that a `retry-after` header asks for, or None where it says nothing of use.

    Parameters
    ----------
    value : bytes, optional
        Seconds, whole or not, or a date.
    now : float
        Seconds since 1970.
    """
    if value is None or len(value) > 64 or not value.isascii():
        return None
    text = value.decode().strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
            # without a zone it is meant in UTC, as all dates of HTTP
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            seconds = moment.timestamp() - now
        except (ValueError, OverflowError):
            return None
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), 1e9)
