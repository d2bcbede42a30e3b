"""Calendar periods in UTC, after which a budget starts anew."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["FOREVER", "PERIODS", "bounds", "iso"]

#: End of the period that never ends, milliseconds since 1970.
FOREVER = 2**61

_FIXED = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
_DAY = 86_400_000
_WEEK = 7 * _DAY

#: The periods there are.
PERIODS = (*_FIXED, "week", "month", "total")


def bounds(period: str, ms: int) -> tuple[int, int]:
    """Start and end of the period that holds a moment, in milliseconds since 1970.

    Weeks start on Monday. `total` is one period that never ends.

    Parameters
    ----------
    period : str
        One of `PERIODS`.
    ms : int
        Milliseconds since 1970.
    """
    fixed = _FIXED.get(period)
    if fixed is not None:
        start = ms - ms % fixed
        return start, start + fixed
    if period == "week":
        # the first day of 1970 was a Thursday
        start = ms - (ms + 3 * _DAY) % _WEEK
        return start, start + _WEEK
    if period == "month":
        now = datetime.fromtimestamp(ms // 1000, UTC)
        first = datetime(now.year, now.month, 1, tzinfo=UTC)
        carry, month = divmod(now.month, 12)
        after = datetime(now.year + carry, month + 1, 1, tzinfo=UTC)
        return int(first.timestamp()) * 1000, int(after.timestamp()) * 1000
    return 0, FOREVER


def iso(ms: int) -> str:
    """A moment as people write it: 2026-11-28T00:00:00Z."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
