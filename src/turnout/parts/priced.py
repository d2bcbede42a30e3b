"""A predictor made a router: the decision that most methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import (
    Assignment,
    Budget,
    InputError,
    Inputs,
    Outcomes,
    Pool,
    Predictor,
    Recipe,
    Router,
)
from turnout.core._check import Float, Int
from turnout.parts import prices

__all__ = ["Priced", "as_router", "columns", "fit", "one_choice"]


def columns(names: Sequence[str], pool: Pool) -> Int:
    """Column in `names` of each destination of `pool`, (m,).

    Raises
    ------
    InputError
        The pool holds a destination the router has never seen.
    """
    where = {name: column for column, name in enumerate(names)}
    for name in pool.names:
        if name not in where:
            raise InputError(
                "pool.names",
                f"be among the destinations the router was fitted on ({', '.join(names)})",
                name,
                "Fit again on a table that holds it, or leave it out of the pool.",
            )
    return np.array([where[name] for name in pool.names], dtype=np.int64)


def one_choice(choice: Int, m: int) -> Assignment:
    """The assignment of one destination an item, with weight 1."""
    index = np.asarray(choice, dtype=np.int64)[:, None]
    return Assignment(index, np.ones(index.shape), m)


@dataclass(frozen=True, eq=False)
class Priced:
    """Routes by `argmax_j quality - price * cost` over a predictor's figures.

    Parameters
    ----------
    predictor : Predictor
        What says how good and how dear each destination would be.
    """

    predictor: Predictor

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations it knows."""
        return self.predictor.names

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """The predictor's quality (n, m) and cost (n, m)."""
        return self.predictor.predict(inputs)

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """One destination an item, within the budget by the predictor's own figures.

        Raises
        ------
        InputError
            The pool holds an unknown destination, or the budget cannot be met.
        """
        keep = columns(self.names, pool)
        if len(inputs) == 0:
            return one_choice(np.empty(0, dtype=np.int64), pool.m)
        quality, cost = self.predictor.predict(inputs)
        choice = prices.spend(quality[:, keep], cost[:, keep], budget, pool.available, rng=rng)
        return one_choice(choice, pool.m)


def as_router(fitted: Predictor | Router) -> Router:
    """The thing itself if it routes, else `Priced` around it."""
    return fitted if isinstance(fitted, Router) else Priced(fitted)


def fit(
    recipe: Recipe, outcomes: Outcomes, pool: Pool | None = None, *, rng: Generator | int = 0
) -> Router:
    """Fit a method to a table and return it as a router.

    Parameters
    ----------
    recipe : Recipe
        A method with its hyper-parameters, such as `turnout.llms.linear.Linear()`.
    outcomes : Outcomes
        What happened, (n, m).
    pool : Pool, optional
        Destinations to route to, all of them in the table; by default the table's own, priced
        at their mean cost.
    rng : Generator or int
        Source of randomness, or its seed.

    Raises
    ------
    InputError
        The pool names a destination the table does not hold.
    """
    pool = outcomes.pool() if pool is None else pool
    if pool.names != outcomes.names:
        outcomes = outcomes.select(pool.names)
    return as_router(recipe.fit(outcomes, pool, rng=np.random.default_rng(rng)))
