"""A router's knob swept over a table: every point it can reach, and what each row did there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.bench import measures
from turnout.core import Budget, Frontier, InputError, Outcomes, Pool, Router, Sequential
from turnout.core._check import Bool, Float, Int
from turnout.parts import prices

__all__ = ["Played", "Sweep", "cheapest", "from_predictions", "from_rows", "play", "route"]

#: Policies kept for resampling: vertices of the hull, and settings spread along the whole path.
_VERTICES, _SPREAD = 32, 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Sweep:
    """What one row of the report stands on.

    Parameters
    ----------
    frontier : Frontier
        Mean cost and quality at every setting. The cheapest destination's point is always among
        them, because any router can be mixed with it at random.
    cost, quality : array (n, p)
        Of each row, at p settings among which are the vertices of the hull (32 of them at most).
    recovery : (share (r,), recovered (r,)), optional
        Two destinations only: see `measures.recovery`.
    """

    frontier: Frontier
    cost: NDArray[np.floating[Any]]
    quality: NDArray[np.floating[Any]]
    recovery: tuple[Float, Float] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Played:
    """What one setting of a knob did to each row: (n,) each.

    Parameters
    ----------
    cost, quality : array (n,)
        Paid in all, and the quality of the last answer.
    asked : array of bool (n, m)
        Which destinations were asked.
    """

    cost: Float
    quality: Float
    asked: Bool


def cheapest(truth: Outcomes) -> int:
    """The destination of least mean cost, ties to the better."""
    return int(np.lexsort((-truth.mean_quality(), truth.mean_cost()))[0])


def from_predictions(quality: Float, cost: Float, truth: Outcomes) -> Sweep:
    """All breakpoints of `argmax_j quality - price * cost` on predictions, judged by the truth.

    Parameters
    ----------
    quality, cost : array (n, m)
        Predictions.
    truth : Outcomes
        The same n rows, no cell missing.
    """
    switches = prices.relax(quality, cost)
    path = switches.frontier(truth.quality, truth.cost)
    hull = path.hull()
    assert path.knob is not None
    assert hull.knob is not None
    vertices = _thinned(np.flatnonzero(np.isin(path.knob, hull.knob)), _VERTICES)
    spread = _thinned(np.arange(len(path)), _SPREAD)
    rows = np.arange(truth.n)
    counts = np.searchsorted(-switches.price, -path.knob, side="right")
    choices = [switches.after(int(counts[k])) for k in np.union1d(vertices, spread)]
    base = cheapest(truth)
    pair = _pair(truth)
    recovery = None
    if pair is not None:
        weak, strong = pair
        recovery = measures.recovery(
            quality[:, strong] - quality[:, weak], truth.quality[:, weak], truth.quality[:, strong]
        )
    return Sweep(
        frontier=_with_point(path, truth, base),
        cost=_stacked(truth.cost[:, base], [truth.cost[rows, c] for c in choices]),
        quality=_stacked(truth.quality[:, base], [truth.quality[rows, c] for c in choices]),
        recovery=recovery,
    )


def from_rows(
    played: list[Played], truth: Outcomes, prices_played: Sequence[float] | None = None
) -> Sweep:
    """A sweep over settings that were each played on every row, at these prices if at prices."""
    base = cheapest(truth)
    cost = _stacked(truth.cost[:, base], [one.cost for one in played])
    quality = _stacked(truth.quality[:, base], [one.quality for one in played])
    pair = _pair(truth)
    recovery = None
    if pair is not None and played:
        weak, strong = (float(truth.quality[:, j].mean()) for j in pair)
        share = np.array([float(one.asked[:, pair[1]].mean()) for one in played])
        reached = np.array([float(one.quality.mean()) for one in played])
        recovery = measures.recovery_of_points(share, reached, weak, strong)
    frontier = Frontier(
        np.array([truth.cost[:, base].mean(), *(one.cost.mean() for one in played)]),
        np.array([truth.quality[:, base].mean(), *(one.quality.mean() for one in played)]),
        None if prices_played is None else np.array([np.inf, *prices_played]),
    )
    return Sweep(frontier=frontier, cost=cost, quality=quality, recovery=recovery)


def route(router: Router, truth: Outcomes, pool: Pool, budget: Budget, rng: Generator) -> Played:
    """Route the rows once under a budget; one that cannot be met sends all to the cheapest."""
    rows = np.arange(truth.n)
    try:
        index = router.route(truth.inputs, pool, budget=budget, rng=rng).index[:, 0]
        choice = np.where(index < 0, cheapest(truth), index)
    except InputError as error:
        if not error.field.startswith("budget."):
            raise
        choice = np.full(truth.n, cheapest(truth))
    asked = np.zeros(truth.quality.shape, dtype=np.bool_)
    asked[rows, choice] = True
    return Played(cost=truth.cost[rows, choice], quality=truth.quality[rows, choice], asked=asked)


def play(router: Sequential, truth: Outcomes, pool: Pool, budget: Budget, rng: Generator) -> Played:
    """Play a cascade over the table: every answer asked for is paid, the last one counts.

    Where the table holds no answers, the router sees "" in their place.
    """
    n, m = truth.quality.shape
    cost, quality = np.zeros(n), np.zeros(n)
    asked = np.zeros((n, m), dtype=np.bool_)
    live = np.arange(n)
    steps = np.empty((n, 0), dtype=np.int64)
    answers: list[list[str]] = [[] for _ in range(n)]
    while len(live):
        inputs = (
            truth.inputs[live]
            if isinstance(truth.inputs, np.ndarray)
            else [truth.inputs[int(i)] for i in live]
        )
        going = router.proceed(inputs, steps, answers, pool, budget=budget, rng=rng)
        if steps.shape[1] == 0 and (going < 0).any():
            rule = "ask at least one destination of every input"
            raise InputError("proceed", rule, -1, "Return a destination while nothing is asked.")
        more = (going >= 0) if steps.shape[1] < m else np.zeros(len(live), dtype=np.bool_)
        kept = np.flatnonzero(more)
        live, step = live[kept], going[kept]
        cost[live] += truth.cost[live, step]
        quality[live] = truth.quality[live, step]
        asked[live, step] = True
        steps = np.column_stack([steps[kept], step])
        answers = [
            [*answers[int(row)], _answer(truth, int(i), int(j))]
            for row, i, j in zip(kept, live, step, strict=True)
        ]
    return Played(cost=cost, quality=quality, asked=asked)


def _stacked(first: Float, more: list[Float]) -> NDArray[np.float32]:
    """Columns side by side; single precision, because there are many and they are only averaged."""
    return np.stack([first, *more], axis=1).astype(np.float32)


def _thinned(index: Int, count: int) -> Int:
    """At most `count` entries, evenly spread, both ends among them."""
    if len(index) <= count:
        return index
    return np.asarray(index[np.linspace(0, len(index) - 1, count).round().astype(np.int64)])


def _answer(truth: Outcomes, row: int, column: int) -> str:
    said = None if truth.answers is None else truth.answers[row, column]
    return "" if said is None else str(said)


def _pair(truth: Outcomes) -> tuple[int, int] | None:
    """(weak, strong) of two destinations, by mean quality."""
    if truth.m != 2:
        return None
    mean = truth.mean_quality()
    return (0, 1) if mean[1] >= mean[0] else (1, 0)


def _with_point(path: Frontier, truth: Outcomes, base: int) -> Frontier:
    assert path.knob is not None
    cost = np.append(path.cost, truth.cost[:, base].mean())
    quality = np.append(path.quality, truth.quality[:, base].mean())
    return Frontier(cost, quality, np.append(path.knob, np.inf))
