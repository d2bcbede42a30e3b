"""How far a ranking of systems can be trusted: draws of its items, tasks left out, spoilers.

Beside `turnout.bench.rank_aggregation`; from the analyses of robustness and noise of Colombo et
al., "What Are the Best Systems?" (2022, arXiv:2202.03799, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.bench._orders import points_of, tau_of
from turnout.bench.rank_aggregation import Scores, borda, mean, tau
from turnout.core import InputError, _check
from turnout.core._check import Float

__all__ = ["Robustness", "mallows", "robustness", "spoilers", "without_each_task"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Robustness:
    """How a ranking changes when its items, or its tasks, are drawn again.

    Parameters
    ----------
    drawn : str
        "items" or "tasks".
    tau : array (b,)
        Kendall's tau of each of b draws to the full ranking.
    places : array (b, m)
    first : array (m,)
        Share of the draws in which a system is best; tied systems share.
    """

    drawn: str
    tau: Float
    places: Float
    first: Float


def robustness(
    scores: Scores,
    *,
    rng: Generator,
    how: str = "borda",
    levels: int = 2,
    resamples: int = 1000,
    share: float = 1.0,
) -> Robustness:
    """Bootstrap of a ranking: of the items in each task, or of tasks where each has one item.

    Parameters
    ----------
    scores : Scores
    rng : Generator
    how : str
        "borda" or "mean".
    levels : int
        As in `rankings`.
    resamples : int
        Draws, b.
    share : float
        Size of a draw, of the items there are; in (0, 1].

    Raises
    ------
    InputError
    """
    _check.integer("levels", levels, low=1, high=2)
    _check.integer("resamples", resamples, low=1)
    _check.number("share", share, low=1e-9, high=1.0)
    if how not in ("borda", "mean"):
        raise InputError("how", "be borda or mean", how, "Choose one.")
    values = scores.upward()
    by_items = any(len(value) > 1 for value in values)
    if by_items:
        inside = [points_of(value) if how == "borda" else value for value in values]
        parts = [_draw(part, resamples, share, rng) for part in inside]
        if levels == 1:
            parts = [part * len(value) for part, value in zip(parts, values, strict=True)]
        elif how == "borda":
            parts = [points_of(part) for part in parts]
        drawn = np.sum(parts, axis=0)
    else:
        rows = np.vstack([points_of(v) for v in values] if how == "borda" else values)
        drawn = _draw(rows, resamples, share, rng)
    m = len(scores.systems)
    places = m - points_of(drawn)
    full = (borda if how == "borda" else mean)(scores, levels=levels).places()
    best = places == places.min(axis=1, keepdims=True)
    return Robustness(
        drawn="items" if by_items else "tasks",
        tau=np.array([tau_of(row, full) for row in places]),
        places=places,
        first=(best / best.sum(axis=1, keepdims=True)).mean(axis=0),
    )


def without_each_task(scores: Scores, *, levels: int = 2) -> dict[str, float]:
    """Kendall's tau between Borda's ranking with all tasks and without each; {} of one task."""
    if len(scores.tasks) < 2:
        return {}
    full = borda(scores, levels=levels)
    return {
        task: tau(full, borda(scores.only(tasks=set(scores.tasks) - {task}), levels=levels))
        for task in scores.tasks
    }


def spoilers(scores: Scores, *, levels: int = 2) -> dict[str, tuple[str, ...]]:
    """Systems whose mere presence changes who leads by Borda, and who leads without them.

    Compared is the best among the others, so that a leader does not spoil by leaving; a tie that
    is only broken is no change.
    """
    found: dict[str, tuple[str, ...]] = {}
    full = borda(scores, levels=levels)
    places = dict(zip(scores.systems, full.places().tolist(), strict=True))
    for name in scores.systems if len(scores.systems) > 2 else ():
        others = [other for other in scores.systems if other != name]
        top = min(places[other] for other in others)
        before = {other for other in others if places[other] == top}
        after = borda(scores.only(systems=others), levels=levels).groups()[0]
        if not before & set(after):
            found[name] = after
    return found


def mallows(centre: Sequence[int], theta: float, n: int, *, rng: Generator) -> Float:
    """Rankings drawn around a centre: probability falls by exp(-theta) a discordant pair.

    Drawn by repeated insertion (Doignon, Pekec and Regenwetter, "The repeated insertion model for
    rankings", 2004): the i-th system of the centre is put j places from the end of the i before it
    with probability proportional to exp(-theta j).

    Parameters
    ----------
    centre : sequence of int
        The m systems, best first.
    theta : float
        >= 0; 0 = any order alike.
    n : int
        Rankings to draw.
    rng : Generator

    Returns
    -------
    array (n, m)
        Points of each system, m - 1 for the best.
    """
    _check.number("theta", theta, low=0.0)
    m = len(centre)
    points = np.empty((n, m))
    odds = [np.exp(-theta * np.arange(i + 1)) for i in range(m)]
    for row in range(n):
        order: list[int] = []
        for i, system in enumerate(centre):
            back = int(rng.choice(i + 1, p=odds[i] / odds[i].sum()))
            order.insert(i - back, int(system))
        points[row, order] = np.arange(m - 1, -1, -1)
    return points


def _draw(rows: Float, resamples: int, share: float, rng: Generator) -> Float:
    """Means (b, m) of draws with replacement."""
    n = len(rows)
    size = max(1, round(share * n))
    found = np.empty((resamples, rows.shape[1]))
    step = max(1, 4_000_000 // n)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        weights = rng.multinomial(size, np.full(n, 1.0 / n), size=count)
        found[first : first + count] = weights @ rows / size
    return found
