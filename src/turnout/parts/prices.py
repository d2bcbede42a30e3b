"""The economy of the house: one dual price turns quality and cost into a decision.

Every level decides `argmax_j quality[i, j] - price * cost[i, j]`. Offline, the whole Lagrangian
frontier of that rule is exact and finite: as the price falls from infinity to zero each item
walks up the concave hull of its own (cost, quality) points, one *switch* at a time, and sorting
all switches by the price at which they happen gives every breakpoint of the frontier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Budget, Frontier, InputError
from turnout.core._check import Bool, Float, Int

__all__ = ["Switches", "choose", "relax", "spend"]


def choose(quality: Float, cost: Float, price: float, up: Bool | None = None) -> Int:
    """Best destination of each item at one price: `argmax_j quality - price * cost`.

    Ties go to the cheaper destination, then to the lower column. At an infinite price the
    cheapest wins, ties to the better.

    Parameters
    ----------
    quality, cost : array (n, m)
    price : float
        Quality per unit of cost, >= 0; may be infinite.
    up : array of bool (m,), optional
        Destinations that may be chosen.

    Returns
    -------
    array of int (n,)
    """
    first, second = (-cost, quality) if np.isinf(price) else (quality - price * cost, -cost)
    if up is not None:
        first = np.where(up, first, -np.inf)
    best = first == first.max(axis=1, keepdims=True)
    return np.asarray(np.where(best, second, -np.inf).argmax(axis=1))


@dataclass(frozen=True, eq=False)
class Switches:
    """Every decision of `choose` as the price falls from infinity to zero.

    Parameters
    ----------
    start : array of int (n,)
        Choice of each item at an infinite price: the cheapest.
    price : array (s,)
        Breakpoints, not increasing: at prices below `price[r]`, switch r has happened.
    item, to : array of int (s,)
        The item that switches, and the destination it switches to.
    """

    start: Int
    price: Float
    item: Int
    to: Int

    def deltas(self, table: Float) -> Float:
        """What each switch adds to the sum of `table` (n, m) over the choices, (s,)."""
        order = np.argsort(self.item, kind="stable")  # an item's switches stay in order
        item, to = self.item[order], self.to[order]
        first = np.concatenate(([True], item[1:] != item[:-1]))[: len(item)]
        came_from = np.where(first, self.start[item], np.roll(to, 1))
        previous = np.empty_like(self.to)
        previous[order] = came_from
        return np.asarray(table[self.item, self.to] - table[self.item, previous])

    def frontier(self, quality: Float, cost: Float) -> Frontier:
        """Mean (cost, quality) after each breakpoint, on any table (n, m): predicted or true.

        Switches at equal prices happen together, so that the curve does not depend on the order
        of the items. `knob` is the price just below which the point holds.
        """
        n = len(self.start)
        rows = np.arange(n)
        keep = np.append(np.flatnonzero(np.diff(self.price)), len(self.price) - 1)
        if len(self.price) == 0:
            keep = keep[:0]

        def curve(table: Float) -> Float:
            base = table[rows, self.start].sum()
            return np.concatenate(([base], base + np.cumsum(self.deltas(table))[keep])) / n

        knob = np.concatenate(([np.inf], self.price[keep]))
        # Sums of switches may leave a zero cost a rounding error below zero.
        return Frontier(np.maximum(curve(cost), 0.0), curve(quality), knob)

    def after(self, count: int) -> Int:
        """Choices (n,) once the first `count` switches have happened."""
        choice = self.start.copy()
        choice[self.item[:count]] = self.to[:count]  # later switches of an item overwrite earlier
        return choice


def relax(
    quality: Float, cost: Float, up: Bool | None = None, *, rng: Generator | None = None
) -> Switches:
    """Solve the Lagrangian relaxation exactly: all breakpoints, not a grid.

    Each item's choice at price p is the point of its (cost, quality) set touched by a line of
    slope p, so it walks the vertices of the set's upper concave hull; a vertex's slope is its
    breakpoint. Time O(n m h) for hulls of h vertices, then one sort.

    Parameters
    ----------
    quality, cost : array (n, m)
        Predictions, or the truth for the best that any router can do.
    up : array of bool (m,), optional
        Destinations that may be chosen.
    rng : Generator, optional
        Breaks ties between items at the same price at random; by row without it.
    """
    n, m = quality.shape
    rows = np.arange(n)
    current = choose(quality, cost, np.inf, up)
    start = current.copy()
    allowed = np.ones(m, dtype=np.bool_) if up is None else up
    prices, items, targets = [], [], []
    live, last = rows, np.full(n, np.inf)
    while len(live):
        now = current[live]
        gain = quality[live] - quality[live, now][:, None]
        extra = cost[live] - cost[live, now][:, None]
        rises = (gain > 0) & (extra > 0) & allowed
        slope = np.where(rises, gain / np.where(rises, extra, 1.0), 0.0)
        best = slope.max(axis=1)
        # of several points on one line take the farthest: the nearer ones are no vertices
        reach = np.where(rises & (slope == best[:, None]), extra, -1.0)
        target = reach.argmax(axis=1)
        moving = best > 0
        live, best, target = live[moving], best[moving], target[moving]
        # a hull's slopes fall; rounding must not let a later switch sort before an earlier one
        best = np.minimum(best, last[live])
        last[live] = best
        prices.append(best)
        items.append(live)
        targets.append(target)
        current[live] = target
    price = np.concatenate(prices) if prices else np.empty(0)
    item = np.concatenate(items) if items else np.empty(0, dtype=np.int64)
    to = np.concatenate(targets) if targets else np.empty(0, dtype=np.int64)
    # Rounds are appended in order and lexsort is stable, so one item's switches keep theirs even
    # where rounding makes two of its slopes equal.
    tie = item if rng is None else rng.permutation(n)[item]
    order = np.lexsort((tie, -price))
    return Switches(start, price[order], item[order], to[order])


def spend(quality: Float, cost: Float, budget: Budget, up: Bool, *, rng: Generator) -> Int:
    """Choices (n,) under a budget, by the predictions given.

    A mean-cost budget is met from below to within one switch of one item.

    Raises
    ------
    InputError
        The budget is below what the cheapest destinations cost, or the floor above what the
        best are predicted to reach.
    """
    if budget.price is not None:
        return choose(quality, cost, budget.price, up)
    if budget.mean_cost is None and budget.mean_quality is None:
        return choose(quality, cost, 0.0, up)
    switches = relax(quality, cost, up, rng=rng)
    n = len(quality)
    rows = np.arange(n)
    if budget.mean_cost is not None:
        spent = cost[rows, switches.start].sum()
        limit = budget.mean_cost * n
        if spent > limit * (1 + 1e-12):
            raise InputError(
                "budget.mean_cost",
                f"be at least {spent / n:.6g}, the mean cost of the cheapest destinations",
                budget.mean_cost,
                "Raise the budget or add a cheaper destination.",
            )
        total = spent + np.cumsum(switches.deltas(cost))
        return switches.after(int(np.searchsorted(total, limit * (1 + 1e-12), side="right")))
    assert budget.mean_quality is not None
    reached = quality[rows, switches.start].sum()
    total = np.concatenate(([reached], reached + np.cumsum(switches.deltas(quality))))
    target = budget.mean_quality * n
    if total[-1] < target * (1 - 1e-12):
        raise InputError(
            "budget.mean_quality",
            f"be at most {total[-1] / n:.6g}, the best mean quality predicted",
            budget.mean_quality,
            "Lower the floor or add a better destination.",
        )
    return switches.after(int(np.searchsorted(total, target * (1 - 1e-12), side="left")))
