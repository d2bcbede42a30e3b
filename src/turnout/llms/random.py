"""Sends a prompt to a model drawn at random, mixed so that the budget is spent.

Routes whole requests to language models without reading them: the baseline whose frontier is a
straight line from model to model, which any router must rise above.

Equations, with the variable of each symbol::

    q_j, c_j = mean quality, mean cost of model j              `quality`, `cost` (m,)
    hull     = upper concave, non-decreasing hull of (c_j, q_j) over the models that are up
    Budget():              each model that is up, equally often
    Budget(mean_cost=B):   neighbours a, b on the hull with c_a <= B <= c_b;
                           b for a share (B - c_a) / (c_b - c_a) of the items, a for the others
    Budget(mean_quality=): likewise in q
    Budget(price=p):       argmax_j q_j - p c_j for every item

Shares are kept by count, rounded so that the budget holds, over a random order of the items. Costs
are in the currency of the table. Cost: O(n + m log m) a batch.

Examples
--------
>>> import numpy as np
>>> import turnout
>>> from turnout.core import Budget, Outcomes
>>> table = Outcomes(
...     inputs=["a", "b"],
...     names=("small", "large"),
...     quality=np.array([[0.5, 1.0], [0.5, 1.0]]),
...     cost=np.array([[1.0, 9.0], [1.0, 9.0]]),
... )
>>> router = turnout.fit(Random(), table)
>>> rng = np.random.default_rng(0)
>>> sent = router.route(["x"] * 100, table.pool(), budget=Budget(mean_cost=3.0), rng=rng)
>>> [float(load) for load in sent.load()]
[75.0, 25.0]
"""

from __future__ import annotations

from dataclasses import dataclass

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
    _check,
)
from turnout.core._check import Float, Int
from turnout.parts.priced import columns, one_choice
from turnout.parts.prices import choose

__all__ = ["CARD", "FittedRandom", "Random"]

CARD = Card(
    name="llms.random",
    system="Zero router",
    title="RouterBench: A Benchmark for Multi-LLM Routing System",
    authors="Hu, Bieker, Li, Jiang, Keigwin, Ranganath, Keutzer, Upadhyay",
    year=2024,
    id="arXiv:2403.12031",
    routes="a prompt to a language model",
    kind="policy",
    recipe="Random",
    signal=("outcomes",),
    covers=("Section 3: linear interpolation of models, the non-decreasing hull, the zero router",),
    differs=(
        "The paper draws the curve; here it is a router that can be served.",
        "Shares are kept by count in each batch in place of one draw an item, so that a budget "
        "holds in every batch and not only on average.",
        "With no budget it draws evenly, which no point of the hull does: plain chance.",
    ),
    properties=("price_monotone", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("chance", "mixture", "interpolation"),
    cost="fit: two means a model; route: O(n + m log m) a batch",
)


@dataclass(frozen=True)
class Random:
    """Recipe of the random mixture; it has no settings."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedRandom:
        """Take the mean quality and cost of each model."""
        return FittedRandom(outcomes.names, outcomes.mean_quality(), outcomes.mean_cost())


@dataclass(frozen=True, eq=False)
class FittedRandom:
    """The means the mixture is made of.

    Parameters
    ----------
    names : tuple of str
    quality, cost : array (m,)
        Mean quality and mean cost of each model.
    """

    names: tuple[str, ...]
    quality: Float
    cost: Float

    def __post_init__(self) -> None:
        m = len(_check.names("random.names", self.names))
        quality = _check.floats("random.quality", self.quality, (m,), low=0, high=1)
        object.__setattr__(self, "quality", quality)
        object.__setattr__(self, "cost", _check.floats("random.cost", self.cost, (m,), low=0))

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """The means again for every input, (n, m) twice."""
        shape = (len(inputs), len(self.names))
        return np.broadcast_to(self.quality, shape).copy(), np.broadcast_to(self.cost, shape).copy()

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """One destination an item, by shares that meet the budget.

        Raises
        ------
        InputError
            The pool holds an unknown destination, or the budget cannot be met.
        """
        where = columns(self.names, pool)
        n = len(inputs)
        position = np.full(len(self.names), -1, dtype=np.int64)
        position[where] = np.arange(pool.m)
        up = np.zeros(len(self.names), dtype=np.bool_)
        up[where] = pool.available
        # Drawn in the router's own order, so that the order of the pool changes nothing.
        if budget.price is not None:
            one = choose(self.quality[None], self.cost[None], budget.price, up)
            chosen = np.repeat(one, n)
        elif budget.mean_cost is None and budget.mean_quality is None:
            chosen = rng.choice(np.flatnonzero(up), size=n)
        else:
            chosen = self._mixture(n, np.flatnonzero(up), budget, rng)
        return one_choice(position[chosen], pool.m)

    def _mixture(self, n: int, up: Int, budget: Budget, rng: Generator) -> Int:
        """Two neighbours on the hull, in the shares that meet the budget."""
        hull = Frontier(self.cost[up], self.quality[up], up.astype(np.float64)).hull()
        assert hull.knob is not None
        vertex = hull.knob.astype(np.int64)
        if budget.mean_cost is not None:
            along, target, name = hull.cost, budget.mean_cost, "mean_cost"
            slack = along[0] * 1e-12
            if target < along[0] - slack:
                rule = f"be at least {along[0]:.6g}, the mean cost of the cheapest destination"
                hint = "Raise the budget or add a cheaper destination."
                raise InputError("budget.mean_cost", rule, target, hint)
        else:
            assert budget.mean_quality is not None
            along, target, name = hull.quality, budget.mean_quality, "mean_quality"
            if target > along[-1] + 1e-12:
                rule = f"be at most {along[-1]:.6g}, the mean quality of the best destination"
                hint = "Lower the floor or add a better destination."
                raise InputError("budget.mean_quality", rule, target, hint)
        if target >= along[-1]:
            return np.repeat(vertex[-1], n)
        right = max(int(np.searchsorted(along, target, side="right")), 1)
        low, high = along[right - 1], along[right]
        share = max((target - low) / (high - low), 0.0)
        # Down for a ceiling on cost, up for a floor under quality; 1e-9 forgives a rounding error.
        count = int(
            np.floor(share * n + 1e-9) if name == "mean_cost" else np.ceil(share * n - 1e-9)
        )
        chosen = np.repeat(vertex[right - 1], n)
        chosen[rng.permutation(n)[:count]] = vertex[right]
        return chosen
