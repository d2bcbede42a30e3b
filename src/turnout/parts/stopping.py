"""Optimal stopping along a line: whom to ask next, and when to keep the last answer.

Destinations stand in the order in which they may be asked; each ask costs, shows a quality, and
forgets the answers before it. Backward induction gives the best rule exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.core import InputError, Outcomes, Pool
from turnout.core._check import Float, Int
from turnout.parts.priced import columns

__all__ = ["Line", "Stopping", "by_price", "edge", "line_up", "solve", "walk"]


def by_price(outcomes: Outcomes) -> Int:
    """Columns by rising mean cost, (m,); ties to the weaker, then by name."""
    cost, quality = outcomes.mean_cost(), outcomes.mean_quality()
    return np.array(
        sorted(range(outcomes.m), key=lambda j: (cost[j], quality[j], outcomes.names[j]))
    )


@dataclass(frozen=True, eq=False)
class Line:
    """The destinations of a pool that are up, in the order in which they may be asked.

    Parameters
    ----------
    column : array of int (u,)
        Their columns among all m that the router knows.
    place : array of int (u,)
        Their places in the pool.
    known : array of int (pool.m,)
        Column of each destination of the pool, up or down.
    rank : array of int (m,)
        Position of each column in the order of all.
    """

    column: Int
    place: Int
    known: Int
    rank: Int

    def passed(self, asked: Int, answers: Sequence[Sequence[str]], n: int) -> Int:
        """How many of the line are at or before the farthest one asked, (n,).

        Whoever goes on only to what comes later asks nothing twice.

        Raises
        ------
        InputError
            `asked` (n, s) and `answers` (n rows of s texts) are not aligned with n inputs.
        """
        if asked.ndim != 2 or len(asked) != n or len(answers) != n:
            rule = f"hold one row of steps for each of the {n} inputs"
            raise InputError("asked and answers", rule, asked.shape, "Pass them aligned.")
        farthest = np.where(asked >= 0, self.rank[self.known[asked]], -1).max(axis=1, initial=-1)
        return np.asarray((self.rank[self.column] <= farthest[:, None]).sum(axis=1))


def line_up(names: Sequence[str], order: Int, pool: Pool) -> Line:
    """The line of a pool; `order` (m,) lists the columns of `names` from first to last asked."""
    known = columns(names, pool)
    place_of = {int(c): j for j, c in enumerate(known) if pool.available[j]}
    column = np.array([c for c in order if int(c) in place_of], dtype=np.int64)
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    place = np.array([place_of[int(c)] for c in column], dtype=np.int64)
    return Line(column, place, known, rank)


@dataclass(frozen=True, eq=False)
class Stopping:
    """A rule for n items over m columns in the order they may be asked; all arrays (n, m).

    Parameters
    ----------
    value : array
        Worth of asking this column next: quality foreseen less price times spend.
    to : array of int
        Where to go on to from here; -1 = nowhere.
    leave : array
        Chance of going on once this column's answer is seen.
    cost, quality : array
        What a walk that starts here is expected to spend, and to end with.
    """

    value: Float
    to: Int
    leave: Float
    cost: Float
    quality: Float

    @property
    def first(self) -> Int:
        """Best column to start with, (n,); ties to the earlier."""
        return np.asarray(self.value.argmax(axis=1))

    def at_start(self, table: Float) -> float:
        """Mean of `table` (n, m) over the best starts."""
        return float(table[np.arange(len(table)), self.first].mean())


def solve(cases: Float, cost: Float, price: float, bar: Float | None = None) -> Stopping:
    """The rule that earns the most `quality - price * spend`.

    With `after[i, j]` the best `value[i, k]` over k > j, and minus infinity at the end,
    `value[i, j] = mean_s max(cases[i, j, s], after[i, j]) - price * cost[i, j]`; ties keep the
    answer, and start with the earlier column. Raising the price never raises the expected spend.
    With a bar, a case below it is not kept while there is a later column, whatever the price.

    Parameters
    ----------
    cases : array (n, m, q)
        Quality that each answer may turn out to have: q equally likely cases.
    cost : array (n, m)
        Expected cost of each ask, >= 0.
    price : float
        Quality per unit of cost, >= 0.
    bar : array (m,), optional
        Least case of each column that may be kept.
    """
    n, m, _ = cases.shape
    least = np.full(m, -np.inf) if bar is None else bar
    value, leave, quality = np.empty((n, m)), np.zeros((n, m)), np.empty((n, m))
    spend, to = cost.copy(), np.full((n, m), -1, dtype=np.int64)
    rows = np.arange(n)
    best, where = np.full(n, -np.inf), np.full(n, -1, dtype=np.int64)
    for j in reversed(range(m)):
        later = where >= 0
        good = (cases[:, j] >= least[j]) | ~later[:, None]
        accept = good & (cases[:, j] >= best[:, None])
        kept = np.where(accept, cases[:, j], 0.0).mean(axis=1)
        to[:, j], leave[:, j] = where, 1.0 - accept.mean(axis=1)
        on = np.where(later, leave[:, j], 0.0)
        value[:, j] = kept + on * np.where(later, best, 0.0) - price * cost[:, j]
        quality[:, j] = kept + on * np.where(later, quality[rows, where], 0.0)
        spend[:, j] += on * np.where(later, spend[rows, where], 0.0)
        better = value[:, j] >= best
        best, where = np.where(better, value[:, j], best), np.where(better, j, where)
    return Stopping(value, to, leave, spend, quality)


def walk(plan: Stopping) -> tuple[Int, Float]:
    """Columns in the order of asking and the chance that each is the last, both (n, k).

    k is the longest walk; -1 and 0 after the last.
    """
    n, m = plan.value.shape
    index, weight = np.full((n, m), -1, dtype=np.int64), np.zeros((n, m))
    rows, at, reach = np.arange(n), plan.first, np.ones(n)
    for step in range(m):
        live = (at >= 0) & (reach > 0)
        index[:, step] = np.where(live, at, -1)
        leave = np.where(live, plan.leave[rows, at], 0.0)
        weight[:, step] = np.where(live, reach * (1.0 - leave), 0.0)
        reach, at = reach * leave, np.where(live, plan.to[rows, at], -1)
    steps = max(int((index >= 0).sum(axis=1).max(initial=0)), 1)
    return index[:, :steps], weight[:, :steps]


def edge(holds: Callable[[float], bool], scale: float) -> tuple[float, float]:
    """The numbers on either side of where `holds` turns false.

    It must be true at 0 and, once false, stay false; doubling starts at `scale`. Where it is
    still true at 2^200 times that, both ends lie there.
    """
    low, high = 0.0, scale
    for _ in range(200):
        if not holds(high):
            break
        low, high = high, 2.0 * high
    else:
        return low, low
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high
