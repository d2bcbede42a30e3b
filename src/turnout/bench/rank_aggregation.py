r"""Orders systems by how often they beat each other on many tasks, whatever scale each task has.

Routes: nothing. Says which router, model or system is best over several tasks, where a mean of
scores would be decided by the task whose scores spread most.

Systems are ranked inside each task, and the rankings are joined. Equations, with the variable of
each symbol::

    p_t[j] = systems that j beats on t + (systems that tie with j) / 2     points (n, m)
    B[j]   = sum_t p_t[j]                                                  `borda`
    W[i, j] = rankings with i above j, a tie counting 1/2                  `wins` (m, m)
    K      = argmin over orders of sum over i above j of W[j, i]           `kemeny`

With many items a task there are two ways. *One level* pools the rankings of all items of all tasks,
so that a task of many items decides. *Two levels*, which the paper advises, joins the items of a
task into one ranking first, so that each task counts once.

K is exact. Systems fall into blocks, the strong components of "wins or ties a majority against":
every best order keeps the blocks in order. A block of at most seven systems is solved by trying
all orders, a larger one by an integer program in x_ij (i above j), where the three pairs of every
i, j, k keep 0 <= x_ij + x_jk - x_ik <= 1. A second solution without the first tells whether the
order is the only best one.

Shapes: m systems, n items a task. Ties share their average place. Points have no unit. Items that
some system did not answer say nothing fair and are left out (`Scores.complete`).

Differs from the paper: see `CARD.differs`. Cost: O(n m log m) for Borda; Kemeny is exponential in
the largest block at worst.

Examples
--------
>>> import numpy as np
>>> scores = Scores(
...     systems=("a", "b", "c"),
...     tasks=("right", "wrong", "thousands"),
...     values=(np.array([[0.9, 0.8, 0.1]]), np.array([[0.7, 0.6, 0.2]]),
...             np.array([[1000.0, 2000.0, 9000.0]])),
... )
>>> mean(scores).groups()[0], borda(scores).groups()[0]
(('c',), ('a',))
>>> float(kemeny(scores).cost)
3.0
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from turnout.bench._orders import best_order, blocks, points_of, tau_of
from turnout.core import Card, DataError, InputError, _check
from turnout.core._check import Float

__all__ = [
    "CARD",
    "Consensus",
    "Ranking",
    "Scores",
    "borda",
    "disagreement",
    "kemeny",
    "mean",
    "rankings",
    "tau",
    "wins",
]

CARD = Card(
    name="bench.rank_aggregation",
    system="Borda and Kemeny consensus of tasks",
    title="What Are the Best Systems? New Perspectives on NLP Benchmarking",
    authors="Colombo, Noiry, Irurozki, Clemencon",
    year=2022,
    id="arXiv:2202.03799",
    routes="nothing: ranks systems over tasks",
    kind="score",
    recipe="",
    signal=("outcomes",),
    covers=(
        "Kemeny consensus, exact, and Borda's count as its approximation",
        "Task level: one ranking a task; instance level: one and two levels",
        "Mean aggregation, Kendall's tau between aggregations, robustness to fewer items",
    ),
    differs=(
        "Ties share their average rank. The published code breaks them by the order of the rows, "
        "inside tasks and again in the final ranking.",
        "Each column has a direction; the published code takes all scores as the more the better.",
        "An item that some system lacks is left out and counted; the published code pairs rows by "
        "their order.",
        "Kemeny's order is solved exactly, block by block; the paper says it is costly and uses "
        "Borda.",
        "It is said when the best order is not the only one, and which weak systems change the "
        "leader by being there: Borda's count depends on who takes part.",
    ),
    aliases=("borda", "kemeny", "rank aggregation", "leaderboard"),
    cost="O(n m log m) for Borda; Kemeny exponential in the largest block at worst",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """What m systems scored on each item of each task.

    Parameters
    ----------
    systems : sequence of str
        Names, m of them.
    tasks : sequence of str
    values : sequence of arrays (n_t, m)
        One a task; a task known by one score a system has one row. NaN = no score.
    lower : sequence of str
        Tasks in which less is better, such as costs and error rates.

    Raises
    ------
    InputError
        Names repeat, shapes disagree, a score is infinite, or `lower` names no task.
    """

    systems: tuple[str, ...]
    tasks: tuple[str, ...]
    values: tuple[Float, ...]
    lower: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "systems", _check.names("scores.systems", self.systems, what="system"))
        set_(self, "tasks", _check.names("scores.tasks", self.tasks, what="task"))
        if len(self.values) != len(self.tasks):
            rule = f"hold one array for each of {len(self.tasks)} tasks"
            raise InputError("scores.values", rule, len(self.values), "Pass one a task.")
        shape = (None, len(self.systems))
        clean = tuple(
            _check.floats(f"scores.values of {task!r}", value, shape, nan=True)
            for task, value in zip(self.tasks, self.values, strict=True)
        )
        set_(self, "values", clean)
        unknown = sorted(set(self.lower) - set(self.tasks))
        if unknown:
            rule = f"be among {', '.join(self.tasks)}"
            raise InputError("scores.lower", rule, unknown, "Correct the spelling.")
        set_(self, "lower", tuple(self.lower))

    @property
    def n(self) -> int:
        """Items of all tasks."""
        return sum(len(value) for value in self.values)

    @property
    def incomplete(self) -> int:
        """Items that some system lacks."""
        return sum(int(np.isnan(value).any(axis=1).sum()) for value in self.values)

    def complete(self) -> Scores:
        """The items that every system has.

        Raises
        ------
        DataError
            A task has none.
        """
        if not self.incomplete and all(len(value) for value in self.values):
            return self
        kept = tuple(value[~np.isnan(value).any(axis=1)] for value in self.values)
        for task, value in zip(self.tasks, kept, strict=True):
            if not len(value):
                hint = "Leave out the task, or the systems without a score."
                rule = "have an item that every system scored"
                raise DataError(f"task {task!r}", rule, "none", hint)
        return replace(self, values=kept)

    def only(
        self, *, systems: Iterable[str] | None = None, tasks: Iterable[str] | None = None
    ) -> Scores:
        """Some systems, some tasks, or both, in the order they stand here."""
        who = set(self.systems if systems is None else systems)
        what = set(self.tasks if tasks is None else tasks)
        columns = [j for j, name in enumerate(self.systems) if name in who]
        kept = [t for t, name in enumerate(self.tasks) if name in what]
        return Scores(
            systems=tuple(self.systems[j] for j in columns),
            tasks=tuple(self.tasks[t] for t in kept),
            values=tuple(self.values[t][:, columns] for t in kept),
            lower=tuple(name for name in self.lower if name in what),
        )

    def upward(self) -> tuple[Float, ...]:
        """The complete items with every task turned so that more is better."""
        whole = self.complete()
        return tuple(
            -value if task in self.lower else value
            for task, value in zip(whole.tasks, whole.values, strict=True)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranking:
    """An order of systems in which some may tie.

    Parameters
    ----------
    systems : tuple of str
    points : array (m,)
        The more the better; equal to ten digits = tied.
    """

    systems: tuple[str, ...]
    points: Float

    def places(self) -> Float:
        """Place of each system, (m,): 1 is the best, tied systems share their average."""
        places: Float = len(self.systems) - points_of(self.points[None])[0]
        return places

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The systems, best first; those that tie stand together, by name."""
        found: dict[float, list[str]] = {}
        for place, name in zip(self.places().tolist(), self.systems, strict=True):
            found.setdefault(place, []).append(name)
        return tuple(tuple(sorted(found[place])) for place in sorted(found))


@dataclass(frozen=True, eq=False, kw_only=True)
class Consensus:
    """Kemeny's order.

    Parameters
    ----------
    ranking : Ranking
        Without ties; where it is not unique, one of the best orders.
    cost : float
        Pairs of systems on which it and a ranking disagree, summed over the rankings.
    unique : bool
        Whether no other order costs as little.
    """

    ranking: Ranking
    cost: float
    unique: bool


def rankings(scores: Scores, *, levels: int = 2) -> Float:
    """Points (r, m) that each ranking gives: systems beaten, a tie counting half.

    Parameters
    ----------
    scores : Scores
    levels : int
        2 = one ranking a task, Borda's of its items; 1 = one ranking an item.

    Raises
    ------
    InputError
    DataError
        A task has no item that all systems scored.
    """
    _check.integer("levels", levels, low=1, high=2)
    inside = [points_of(value) for value in scores.upward()]
    if levels == 1:
        return np.vstack(inside)
    return np.vstack([points_of(part.sum(axis=0)[None]) for part in inside])


def borda(scores: Scores, *, levels: int = 2) -> Ranking:
    """Systems by the points of all rankings; section 3 of the paper.

    Parameters
    ----------
    scores : Scores
    levels : int
        As in `rankings`; the two are the same where every task has one item.
    """
    points = rankings(scores, levels=levels).sum(axis=0)
    return Ranking(systems=scores.systems, points=points)


def mean(scores: Scores, *, levels: int = 2) -> Ranking:
    """Systems by their mean score: over the means of tasks (2) or over all items (1).

    Where less is better a score counts with its sign turned.
    """
    _check.integer("levels", levels, low=1, high=2)
    values = scores.upward()
    parts = [value.mean(axis=0)[None] for value in values] if levels == 2 else list(values)
    return Ranking(systems=scores.systems, points=np.vstack(parts).mean(axis=0))


def wins(points: Float) -> Float:
    """How many rankings put i above j, (m, m); ties count 1/2, the diagonal 0."""
    m = points.shape[1]
    table = np.zeros((m, m))
    for j in range(m):
        difference = points - points[:, j : j + 1]
        table[:, j] = (difference > 0).sum(axis=0) + 0.5 * (difference == 0).sum(axis=0)
    np.fill_diagonal(table, 0.0)
    return table


def disagreement(ranking: Ranking, points: Float) -> float:
    """Kendall's distance from one ranking to those of `points` (r, m), summed.

    A pair that is tied on either side counts 1/2.
    """
    table, own = wins(points), wins(ranking.points[None])
    return float((own * table.T).sum() / 2 + (own.T * table).sum() / 2)


def tau(one: Ranking, other: Ranking) -> float:
    """Kendall's tau-b of two rankings of the same systems; NaN where one is all ties.

    Raises
    ------
    InputError
        They rank different systems.
    """
    if one.systems != other.systems:
        hint = "Rank the same systems in the same order."
        raise InputError("other.systems", "be those of the first", other.systems, hint)
    return tau_of(one.places(), other.places())


def kemeny(scores: Scores, *, levels: int = 2, most: int = 60) -> Consensus:
    """The order that disagrees least with all rankings, exactly.

    Which of several best orders is returned does not depend on the order of the columns: systems
    enter by their Borda points, then by name.

    Parameters
    ----------
    scores : Scores
    levels : int
        As in `rankings`.
    most : int
        Largest block to solve.

    Raises
    ------
    InputError
        A block is larger than `most`, or the solver gave up.
    """
    points = rankings(scores, levels=levels)
    total = points.sum(axis=0)
    entry = sorted(range(len(total)), key=lambda j: (-round(total[j], 9), scores.systems[j]))
    start = np.array(entry, dtype=np.int64)
    table = wins(points)[np.ix_(start, start)]
    order: list[int] = []
    unique = True
    for block in blocks(table):
        if len(block) > most:
            rule = f"fall into blocks of at most {most}"
            hint = "Raise `most`, rank fewer systems, or use borda."
            raise InputError("systems", rule, len(block), hint)
        inner, alone = best_order(table[np.ix_(block, block)])
        order += [int(start[block[j]]) for j in inner]
        unique = unique and alone
    placed = np.empty(len(order))
    placed[order] = np.arange(len(order), 0, -1)
    ranking = Ranking(systems=scores.systems, points=placed)
    return Consensus(ranking=ranking, cost=disagreement(ranking, points), unique=unique)
