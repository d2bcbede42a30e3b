"""Rows a router has not learnt from, with all that it would do to them at any price.

The decision is `argmax_j quality - price * cost`; as the price falls from infinity to zero it
changes at finitely many breakpoints (`turnout.parts.prices.relax`), so that sums over the rows at
every price are a cumulative sum over the changes. The points between breakpoints are counted from
an infinite price down.

Cost: O(n m h + n h log(n h)) for hulls of h vertices, then O(n h) a table for its sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Float, Int
from turnout.parts import prices
from turnout.parts.prices import Switches

__all__ = ["HeldOut"]

_UNSEEN = "Leave out the rows in which a destination was not seen; a promise is about whole rows."


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows the router has not learnt from, with all that it would do at any price.

    Parameters
    ----------
    quality, cost : array (n, m)
        Predicted.
    true_quality, true_cost : array (n, m)
        What happened; every cell seen.

    Raises
    ------
    InputError
        There is no row, shapes differ, a value is out of range, or a cell was never seen.
    """

    quality: Float
    cost: Float
    true_quality: Float
    true_cost: Float
    _switches: Switches = field(init=False, repr=False)
    _left: Int = field(init=False, repr=False)
    _last: Int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        quality = _check.floats("quality", self.quality, (None, None))
        if quality.size == 0:
            raise InputError("quality", "hold at least one row", quality.shape, "Add rows.")
        set_(self, "quality", quality)
        set_(self, "cost", _check.floats("cost", self.cost, quality.shape, low=0.0))
        for name, high in (("true_quality", 1.0), ("true_cost", math.inf)):
            table = np.asarray(getattr(self, name), dtype=np.float64)
            if table.shape == quality.shape and np.isnan(table).any():
                row, column = (int(place) for place in np.argwhere(np.isnan(table))[0])
                raise InputError(f"{name}[{row}, {column}]", "be seen", math.nan, _UNSEEN)
            set_(self, name, _check.floats(name, table, quality.shape, low=0.0, high=high))
        switches = prices.relax(quality, self.cost)
        set_(self, "_switches", switches)
        # where each switch comes from, told by how far it goes
        columns = np.broadcast_to(np.arange(quality.shape[1], dtype=np.float64), quality.shape)
        set_(self, "_left", switches.to - switches.deltas(columns).astype(np.int64))
        # switches at one price happen together: a point after the last of each
        steps = np.diff(switches.price, append=-np.inf)
        set_(self, "_last", np.flatnonzero(steps))

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.quality)

    @property
    def points(self) -> int:
        """Number of intervals of prices in which nothing changes, p >= 1."""
        return len(self._last) + 1

    @property
    def edges(self) -> Float:
        """Upper end of the interval of prices of each point, falling from infinity, (p,).

        A point's choices hold below its edge, down to that of the next point, which is still its
        own; the last's down to zero.
        """
        return np.append(np.inf, self._switches.price[self._last])

    def totals(self, table: Float) -> Float:
        """Sum over the rows of a table (n, m) at the choices of each point, (p,)."""
        item = self._switches.item
        base = table[np.arange(self.n), self._switches.start].sum()
        return self._summed(float(base), table[item, self._switches.to] - table[item, self._left])

    def at(self, table: Float, point: int) -> Float:
        """What each row has of a table (n, m) at the choices of one point, (n,)."""
        count = int(self._last[point - 1]) + 1 if point else 0
        return np.asarray(table[np.arange(self.n), self._switches.after(count)])

    def worst_totals(self, loss: Float) -> tuple[Float, bool]:
        """The same of each row's greatest loss at a point or any of lower price.

        Returns
        -------
        totals (p,), grows
            And whether every row's loss grew with the price as it was.
        """
        item, to = self._switches.item, self._switches.to
        count = np.bincount(item, minlength=self.n)
        order = np.argsort(item, kind="stable")  # an item's switches stay in order
        step = np.empty(len(item), dtype=np.int64)
        step[order] = np.arange(len(item)) - np.repeat(np.cumsum(count) - count, count)
        path = np.full((self.n, int(count.max()) + 1), -np.inf)
        path[:, 0] = loss[np.arange(self.n), self._switches.start]
        path[item, step + 1] = loss[item, to]
        worst = np.maximum.accumulate(path[:, ::-1], axis=1)[:, ::-1]
        totals = self._summed(float(worst[:, 0].sum()), worst[item, step + 1] - worst[item, step])
        return totals, bool(np.array_equal(worst, path))

    def within(self, point: int) -> float:
        """A price in the interval of a point: midway, so that rounding cannot leave it."""
        edges = self.edges
        low = float(edges[point + 1]) if point + 1 < len(edges) else 0.0
        high = float(edges[point])
        if math.isinf(high):
            return 2.0 * low + 1.0
        middle = low + (high - low) / 2.0
        return middle if middle < high else low

    def _summed(self, base: float, deltas: Float) -> Float:
        return np.append(base, base + np.cumsum(deltas)[self._last])
