"""Subject: one method under test, with the fits and tables its checks share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import (
    Assignment,
    Budget,
    Card,
    Frontier,
    InputError,
    Inputs,
    Outcomes,
    Pool,
    Predictor,
    Router,
    Sequential,
)
from turnout.core._check import Float, Int
from turnout.parts.priced import as_router
from turnout.testing import planted
from turnout.testing.case import Case
from turnout.testing.planted import Planted
from turnout.testing.watch import bytes_of, changed, global_rng, other_global_rng

__all__ = [
    "PRICES",
    "ContractError",
    "NotApplicable",
    "Refit",
    "Subject",
    "card_of",
    "episode",
    "gain",
    "singles",
    "watched_fit",
]

#: Knobs of a sweep: quality given up per dollar saved. They span the planted problems' frontiers.
PRICES = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1e4)

_TRAIN, _TEST = 240, 200


class ContractError(AssertionError):
    """A method breaks the contract."""


class NotApplicable(Exception):  # noqa: N818 - it tells the suite to skip, it is no error
    """A check has nothing to say about this method; the reason is its message."""


def card_of(recipe: Any) -> Card:
    """The `CARD` of the module in which a recipe's class is defined.

    Raises
    ------
    InputError
        The module declares none.
    """
    card = getattr(sys.modules.get(type(recipe).__module__), "CARD", None)
    if not isinstance(card, Card):
        rule = "be defined in a module with a CARD"
        raise InputError("recipe", rule, type(recipe), "Declare CARD = Card(...) or pass card=.")
    return card


@dataclass(frozen=True)
class Refit:
    """A fit that was watched.

    Parameters
    ----------
    fitted : Predictor or Router
        What came out.
    touched : tuple of str
        What it changed and should not have: "rng", "outcomes", "pool".
    """

    fitted: Predictor | Router
    touched: tuple[str, ...]


def watched_fit(case: Case, table: Outcomes) -> Refit:
    """Fit with the global generators in another state, on a table of its own, and compare."""
    table = table.take(np.arange(table.n))
    pool = table.pool()
    before = bytes_of(table), bytes_of(pool)
    with other_global_rng():
        state = global_rng()
        fitted = case.recipe.fit(table, pool, rng=np.random.default_rng(0))
        drawn = changed(state, global_rng())
    touched = {
        "rng": drawn,
        "outcomes": bytes_of(table) != before[0],
        "pool": bytes_of(pool) != before[1],
    }
    return Refit(fitted, tuple(name for name, was in touched.items() if was))


def _predictor(router: Router) -> Predictor:
    if isinstance(router, Predictor):
        return router
    raise NotApplicable("it routes without predicting quality and cost")


@dataclass(eq=False)
class _Remembered:
    """A predictor that predicts the batch it saw last only once."""

    inner: Predictor
    last: Inputs | None = None
    figures: tuple[Float, Float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        if inputs is not self.last or self.figures is None:
            self.last, self.figures = inputs, self.inner.predict(inputs)
        return self.figures


@dataclass
class Subject:
    """A method under test. Fits are made once and shared by the checks.

    Parameters
    ----------
    case : Case
        The recipe and what it reads.
    card : Card
        What the method claims.
    """

    case: Case
    card: Card

    @cached_property
    def train(self) -> Planted:
        """The planted hard problem to fit on."""
        return _problem(planted.hard, _TRAIN, 1, self.case.inputs)

    @cached_property
    def test(self) -> Planted:
        """Fresh rows of the same problem to judge on."""
        return _problem(planted.hard, _TEST, 2, self.case.inputs)

    @cached_property
    def easy(self) -> Planted:
        """A planted problem without noise to fit on."""
        return _problem(planted.easy, 120, 3, self.case.inputs)

    @cached_property
    def fitted(self) -> Predictor | Router:
        """What the recipe fits on `train`."""
        return self.fit(self.train.outcomes)

    @cached_property
    def router(self) -> Router:
        """The fitted thing as a router."""
        return as_router(self.fitted)

    @cached_property
    def quick(self) -> Router:
        """The same router for checks of the shared decision: predicts a known batch only once.

        Whether predicting itself is pure, is judged on `fitted`.
        """
        if isinstance(self.fitted, Router):
            return self.fitted
        return as_router(_Remembered(self.fitted))

    @cached_property
    def again(self) -> Refit:
        """A second fit with the same rng, watched."""
        return watched_fit(self.case, self.train.outcomes)

    @cached_property
    def reached(self) -> Frontier:
        """What the fitted router reaches on `test` as the price rises."""
        return self.sweep(self.quick, self.test)

    @property
    def pool(self) -> Pool:
        """The destinations of `train` at their mean prices."""
        return self.train.outcomes.pool()

    @property
    def predictor(self) -> Predictor:
        """The fitted thing as a predictor; checks of predictions pass over what has none."""
        return _predictor(self.router)

    @property
    def quick_predictor(self) -> Predictor:
        """`quick` as a predictor."""
        return _predictor(self.quick)

    @property
    def sequential(self) -> Sequential:
        """The fitted thing as a sequential router."""
        if not isinstance(self.fitted, Sequential):
            raise ContractError(
                f"the card claims 'sequential', but {type(self.fitted).__name__} has no `proceed`"
            )
        return self.fitted

    def fit(self, outcomes: Outcomes, seed: int = 0) -> Predictor | Router:
        """Fit the recipe anew."""
        return self.case.recipe.fit(outcomes, outcomes.pool(), rng=np.random.default_rng(seed))

    def route(
        self,
        router: Predictor | Router,
        inputs: Inputs,
        pool: Pool | None = None,
        budget: Budget | None = None,
        seed: int = 7,
    ) -> Assignment:
        """Route a batch; what comes back must be an `Assignment` over the pool."""
        pool = self.pool if pool is None else pool
        budget = Budget(price=40.0) if budget is None else budget
        rng = np.random.default_rng(seed)
        assignment = as_router(router).route(inputs, pool, budget=budget, rng=rng)
        if not isinstance(assignment, Assignment):
            raise ContractError(f"route must return an Assignment; got {type(assignment).__name__}")
        if assignment.n != len(inputs) or assignment.m != pool.m:
            raise ContractError(
                f"route must assign {len(inputs)} items to {pool.m} destinations; "
                f"got {assignment.n} and {assignment.m}"
            )
        return assignment

    def sweep(
        self, router: Predictor | Router, problem: Planted, prices: tuple[float, ...] | None = None
    ) -> Frontier:
        """Mean cost and quality as the price rises, judged by what really happens.

        A one-shot router is judged by the expected quality of where it sends each item. A
        sequential one sees the answers, so it is judged by the answers it accepts.
        """
        table = problem.outcomes
        pool = table.pool()
        if not isinstance(router, Router):
            router = as_router(_Remembered(router))
        spent, reached = [], []
        # playing out a sequence is many calls: every second price will do
        knobs: tuple[float, ...] = PRICES[::2] if isinstance(router, Sequential) else PRICES
        if prices is not None:
            knobs = prices
        for price in knobs:
            budget = Budget(price=price)
            if isinstance(router, Sequential):
                asked, cost = episode(router, problem, pool, budget)
                rows, last = np.arange(table.n), (asked >= 0).sum(axis=1) - 1
                reached.append(float(table.quality[rows, asked[rows, last]].mean()))
                spent.append(float(cost.mean()))
            else:
                dense = np.asarray(self.route(router, table.inputs, pool, budget).dense())
                reached.append(float((dense * problem.expected).sum(axis=1).mean()))
                spent.append(float((dense * table.cost).sum(axis=1).mean()))
        return Frontier(np.array(spent), np.array(reached), np.array(knobs))


@cache
def _problem(draw: Callable[[int, Generator], Planted], n: int, seed: int, inputs: str) -> Planted:
    """A planted problem; its arrays are read-only, so all subjects share it."""
    rng = np.random.default_rng(seed)
    problem = draw(n, rng)
    return planted.as_arrays(problem, rng) if inputs == "array" else problem


def singles(problem: Planted, *, drawn: bool = False) -> Frontier:
    """What each single destination costs and earns: the curve that a router must rise above.

    By the expected quality, or by the answers `drawn`, as a sequential router is judged.
    """
    quality = problem.outcomes.quality if drawn else problem.expected
    return Frontier(problem.outcomes.cost.mean(axis=0), quality.mean(axis=0))


def gain(reached: Frontier, base: Frontier) -> float:
    """Largest quality above any mixture of single destinations (`base`) of the same mean cost."""
    inside = reached.cost >= base.cost.min() * (1 - 1e-9)
    if not inside.any():
        return -1.0
    return float((reached.quality - base.quality_at(reached.cost))[inside].max())


def episode(
    router: Sequential, problem: Planted, pool: Pool, budget: Budget, seed: int = 7
) -> tuple[Int, Float]:
    """Play a sequential router to its end on a table with answers.

    Returns
    -------
    asked : array of int (n, s)
        Destinations asked, in order; -1 after the last.
    cost : array (n,)
        What all the answers asked for cost together.

    Raises
    ------
    ContractError
        It asks nothing at all, asks a destination twice, asks outside the pool, or does not stop.
    """
    table = problem.outcomes.select(pool.names)
    assert table.answers is not None
    rng = np.random.default_rng(seed)
    n, m = table.n, table.m
    asked = np.full((n, 0), -1, dtype=np.int64)
    cost = np.zeros(n)
    live = np.arange(n)
    for step in range(m + 1):
        batch = _rows(table.inputs, live)
        answers = [[str(table.answers[i, j]) for j in asked[i]] for i in live]
        following = np.asarray(
            router.proceed(batch, asked[live], answers, pool, budget=budget, rng=rng)
        )
        if following.shape != (len(live),):
            raise ContractError(f"proceed must return shape ({len(live)},); got {following.shape}")
        if (following < -1).any() or (following >= m).any():
            raise ContractError(f"proceed must answer -1 ... {m - 1}; got {following.tolist()}")
        if step == 0 and (following < 0).any():
            raise ContractError("proceed must ask one destination at least before it accepts")
        if (asked[live] == following[:, None])[following >= 0].any():
            raise ContractError("proceed must not ask a destination twice for one item")
        going = following >= 0
        live, following = live[going], following[going]
        if not len(live):
            break
        column = np.full((n, 1), -1, dtype=np.int64)
        column[live, 0] = following
        asked = np.hstack([asked, column])
        cost[live] += table.cost[live, following]
    return asked, cost


def _rows(inputs: Inputs, rows: Int) -> Inputs:
    if isinstance(inputs, np.ndarray):
        return np.asarray(inputs[rows])
    texts: Sequence[Any] = tuple(inputs[int(i)] for i in rows)
    return texts
