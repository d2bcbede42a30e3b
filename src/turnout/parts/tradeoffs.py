"""Things built of destinations that trade quality against cost, latency and how many they are.

Cascades (`turnout.parts.chains`) and pools (`turnout.parts.pools`) are written as words, read from
them, and played on a table; what a play was worth becomes rewards in [0, 1]::

    quality   (quality - worst single) / (oracle - worst single)
    cost      1 - cost / mean cost of the dearest single
    latency   1 - latency / that of the slowest single
    size      1 - (destinations - 1) / (most - 1)

each clipped to [0, 1]; and under a preference w they become one number (Jain, Raparthy,
Hernandez-Garcia, Rector-Brooks, Bengio, Miret and Bengio, "Multi-Objective GFlowNets", 2022,
arXiv:2210.12765, section 2 and appendix)::

    sum           sum_i w_i R_i
    log           prod_i R_i^w_i
    tchebycheff   1 - max_i w_i |1 - R_i|

Shapes: b words, d objectives, p things. Costs in the table's currency, latency in seconds.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Budget
>>> quality, cost = np.array([0.5, 0.8, 0.9]), np.array([1.0, 2.0, 5.0])
>>> best_point(quality, cost, Budget(price=0.1)), best_point(quality, cost, Budget(mean_cost=5.0))
(1, 2)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from turnout.core import Budget, InputError
from turnout.core._check import Float, Int
from turnout.parts.pareto import non_dominated

__all__ = [
    "OBJECTIVES",
    "SCALARS",
    "Built",
    "Rewards",
    "Scalarise",
    "Space",
    "Table",
    "best_point",
    "filled",
    "signed",
    "tchebycheff",
    "unbeaten",
    "weighted_log",
    "weighted_sum",
]

#: What may be wanted, in the order of the figures of a play.
OBJECTIVES = ("quality", "cost", "latency", "size")

#: Scalar reward (b,) in [0, 1] of rewards (b, d) under one preference (d,).
Scalarise = Callable[[Float, Float], Float]


class Built(Protocol):
    """What is built of destinations."""

    @property
    def columns(self) -> tuple[int, ...]:
        """The destinations, none twice."""
        ...


X = TypeVar("X", bound=Built)
X_co = TypeVar("X_co", bound=Built, covariant=True)
X_contra = TypeVar("X_contra", bound=Built, contravariant=True)


class Space(Protocol[X_co]):
    """All there is to build of one kind."""

    @property
    def most(self) -> int:
        """Most destinations a thing is built of, >= 1."""
        ...

    def read(self, word: Sequence[int]) -> X_co:
        """What a word says."""
        ...


class Table(Protocol[X_contra]):
    """A table on which things are played; arrays (n, m) without blanks."""

    @property
    def quality(self) -> Float:
        """What each answer was worth, in [0, 1]."""
        ...

    @property
    def cost(self) -> Float:
        """What it cost."""
        ...

    @property
    def latency(self) -> Float:
        """How long it took; zeros where nobody knows."""
        ...

    def play(self, thing: X_contra) -> tuple[float, float, float]:
        """Mean quality, cost and latency of a thing."""
        ...


class Rewards(Generic[X]):
    """Rewards (b, d) in [0, 1] of words (b, length); each word is played once and remembered.

    Parameters
    ----------
    space : Space
    table : Table
    objectives : sequence of str
        Of `OBJECTIVES`, in the order of the columns.

    Attributes
    ----------
    figures : dict
        Quality, cost, latency and number of destinations of each word played, (4,).
    """

    def __init__(self, space: Space[X], table: Table[X], objectives: Sequence[str]) -> None:
        self.space, self.table = space, table
        self.figures: dict[tuple[int, ...], Float] = {}
        self._which = [OBJECTIVES.index(name) for name in objectives]
        single = table.quality.mean(axis=0)
        room = max(float(table.quality.max(axis=1).mean()) - float(single.min()), 1e-12)
        top = [table.cost.mean(axis=0).max(), table.latency.mean(axis=0).max()]
        self._zero = np.array([single.min(), *np.maximum(top, 1e-300), max(space.most, 2)])
        self._scale = np.array([room, *np.maximum(top, 1e-300), max(space.most - 1, 1)])

    def __call__(self, tokens: Int) -> Float:
        """Rewards of these words."""
        played = np.stack([self.play(tuple(word)) for word in tokens.tolist()])
        gained = signed(played) - signed(self._zero)
        return np.asarray(np.clip((gained / self._scale)[:, self._which], 0.0, 1.0))

    def play(self, word: tuple[int, ...]) -> Float:
        """Quality, cost, latency and number of destinations of one word, (4,)."""
        if word not in self.figures:
            thing = self.space.read(word)
            self.figures[word] = np.array([*self.table.play(thing), len(thing.columns)])
        return self.figures[word]


def signed(figures: Float) -> Float:
    """Figures (..., 4) as of `OBJECTIVES` with every one to be made large."""
    return np.asarray(figures * np.array([1.0, -1.0, -1.0, -1.0]))


def unbeaten(things: Sequence[Built], figures: Float, objectives: Sequence[str]) -> Int:
    """Rows of things that no other beats, and of those that do the same with the same the first.

    Parameters
    ----------
    things : sequence of Built (p,)
    figures : array (p, 4)
        As of `OBJECTIVES`.
    objectives : sequence of str
        Those that count.
    """
    which = [OBJECTIVES.index(name) for name in objectives]
    met: dict[object, int] = {}
    for row in np.flatnonzero(non_dominated(signed(figures)[:, which])).tolist():
        met.setdefault((things[row].columns, *figures[row].tolist()), row)
    return np.array(list(met.values()), dtype=np.int64)


def filled(values: Float) -> Float:
    """A table (n, m) without blanks (NaN): each counts as its column's mean, 0 where all are."""
    seen = ~np.isnan(values)
    mean = np.where(seen, values, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, values, mean)


def weighted_sum(rewards: Float, preference: Float) -> Float:
    """`sum_i w_i R_i`."""
    return np.asarray(rewards @ preference)


def weighted_log(rewards: Float, preference: Float) -> Float:
    """`prod_i R_i^w_i`; rewards below 1e-6 count as that."""
    return np.asarray(np.exp(np.log(np.maximum(rewards, 1e-6)) @ preference))


def tchebycheff(rewards: Float, preference: Float) -> Float:
    """`1 - max_i w_i |1 - R_i|`: the distance from the ideal, turned so that more is better."""
    return np.asarray(1.0 - (preference * np.abs(1.0 - rewards)).max(axis=1))


#: Ways to make one reward of several, by name.
SCALARS: dict[str, Scalarise] = {
    "sum": weighted_sum,
    "log": weighted_log,
    "tchebycheff": tchebycheff,
}


def best_point(quality: Float, cost: Float, budget: Budget) -> int:
    """The row that a budget takes: exact in these figures.

    `argmax quality - price * cost`; the best within a mean cost; the cheapest that reaches a mean
    quality. Ties to the cheaper, then to the lower row.

    Parameters
    ----------
    quality, cost : array (p,)
        p >= 1.
    budget : Budget

    Raises
    ------
    InputError
        The budget cannot be met.
    """
    if budget.mean_cost is not None:
        within = cost <= budget.mean_cost * (1 + 1e-12)
        if not within.any():
            rule = f"be at least {cost.min():.6g}, the mean cost of the cheapest there is"
            hint = "Raise the budget or add a cheaper model."
            raise InputError("budget.mean_cost", rule, budget.mean_cost, hint)
        worth = np.where(within, quality, -np.inf)
    elif budget.mean_quality is not None:
        reached = quality >= budget.mean_quality - 1e-12
        if not reached.any():
            rule = f"be at most {quality.max():.6g}, the best mean quality there is"
            hint = "Lower the floor or add a better model."
            raise InputError("budget.mean_quality", rule, budget.mean_quality, hint)
        worth = np.where(reached, -cost, -np.inf)
    else:
        worth = quality - (budget.price or 0.0) * cost
    best = np.flatnonzero(worth == worth.max())
    return int(best[np.argmin(cost[best])])
