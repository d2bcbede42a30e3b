"""Rate limits that hold over all workers: how many requests or tokens a minute a key may use.

The generic cell rate algorithm: each limit has one shared cell, the time at which it would be back
at rest. Taking u units moves it u steps ahead; it may be ahead of now by at most the burst. Times
are those of the system's monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from turnout.core import TurnoutError, _check
from turnout.serve.money._lock import Lock
from turnout.serve.money.board import Board

__all__ = ["Rate", "RateExceededError", "Rates"]

_MINUTE = 60_000_000_000
_FOREVER = 2**62


class RateExceededError(TurnoutError):
    """A rate limit does not admit the request now.

    Parameters
    ----------
    name : str
        The limit.
    wait_s : float
        Seconds after which it would be admitted, if nothing else is by then.
    """

    def __init__(self, name: str, wait_s: float) -> None:
        self.name = name
        self.wait_s = wait_s
        hint = f"Ask again in {math.ceil(wait_s)} s."
        super().__init__(f"rate limit {name!r}", "have room", "none left", hint)

    def __reduce__(self) -> tuple[type[RateExceededError], tuple[str, float]]:
        return type(self), (self.name, self.wait_s)


@final
class Rate:
    """One limit for one holder, made by `Rates.find`.

    Attributes
    ----------
    name : str
    cell : int
        Of the board.
    step : float
        Nanoseconds that one unit takes.
    burst : int
        Nanoseconds that may be used at once.
    """

    __slots__ = ("burst", "cell", "name", "step")

    def __init__(self, name: str, cell: int, step: float, burst: int) -> None:
        self.name = name
        self.cell = cell
        self.step = step
        self.burst = burst


@final
class Rates:
    """The rate limits as one worker sees them.

    Parameters
    ----------
    board : Board
    lock : Lock
        Of the board.
    """

    __slots__ = ("_board", "_cells", "_found", "_lock")

    def __init__(self, board: Board, lock: Lock) -> None:
        self._board = board
        self._cells = board.cells
        self._lock = lock
        self._found: dict[tuple[str, str, float, float], Rate] = {}

    def find(self, name: str, holder: str, per_minute: float, burst: float | None = None) -> Rate:
        """The limit of a holder, the same for all workers.

        Parameters
        ----------
        name : str
            Of the limit, for errors.
        holder : str
            Whose requests count together, such as a key's name.
        per_minute : float
            Units (requests or tokens) a minute, > 0.
        burst : float, optional
            Units that may be used at once after a rest; those of a minute unless said.

        Raises
        ------
        BoardFullError
            There is no room for another one.
        """
        burst = per_minute if burst is None else burst
        known = self._found.get((name, holder, per_minute, burst))
        if known is None:
            _check.number("per_minute", per_minute, low=1e-6)
            _check.number("burst", burst, low=1e-6)
            self._lock.take()
            try:
                cell = self._board.rate(f"{name}\0{holder}")
            finally:
                self._lock.drop()
            step = _MINUTE / per_minute
            known = Rate(name, cell, step, round(burst * step))
            self._found[name, holder, per_minute, burst] = known
        return known

    def take(self, wanted: Sequence[tuple[Rate, int]], now_ns: int) -> None:
        """Take units of several limits, all or none.

        Parameters
        ----------
        wanted : sequence of (Rate, int)
        now_ns : int
            `time.monotonic_ns()`.

        Raises
        ------
        RateExceededError
            One of them has no room; the one that has to be waited for longest is named.
        """
        self._lock.take()
        try:
            short = self.short(wanted, now_ns)
            if short is None:
                self.advance(wanted, now_ns)
        finally:
            self._lock.drop()
        if short is not None:
            raise RateExceededError(short[0].name, short[1] / 1e9)

    def give(self, rate: Rate, units: int) -> None:
        """Correct what was taken by so many units: below 0 gives back, above 0 takes more."""
        if units:
            self._lock.take()
            try:
                after = self._cells[rate.cell] + round(units * rate.step)
                self._cells[rate.cell] = min(max(after, 0), _FOREVER)
            finally:
                self._lock.drop()

    def left(self, rate: Rate, now_ns: int) -> float:
        """Units that could be taken at once now."""
        ahead = max(self._cells[rate.cell] - now_ns, 0)
        return max((rate.burst - ahead) / rate.step, 0.0)

    def short(self, wanted: Sequence[tuple[Rate, int]], now_ns: int) -> tuple[Rate, int] | None:
        """The limit that has to be waited for longest, and nanoseconds; None where all have room.

        The caller holds the lock. Who wants more than the burst waits for all of it.
        """
        worst = None
        longest = 0
        for rate, units in wanted:
            ahead = max(self._cells[rate.cell] - now_ns, 0)
            wait = ahead + min(round(units * rate.step), rate.burst) - rate.burst
            if wait > longest:
                worst, longest = rate, wait
        return None if worst is None else (worst, longest)

    def advance(self, wanted: Sequence[tuple[Rate, int]], now_ns: int) -> None:
        """Take the units; the caller holds the lock."""
        cells = self._cells
        for rate, units in wanted:
            time = cells[rate.cell]
            after = (time if time > now_ns else now_ns) + round(units * rate.step)
            cells[rate.cell] = after if after < _FOREVER else _FOREVER
