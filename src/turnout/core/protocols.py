"""The protocols: at most three methods each, and no inherited behaviour.

A *recipe* is a frozen dataclass of hyper-parameters; fitting it gives another type, so that
"not fitted" cannot happen. What comes out is a `Predictor` (most routers of requests are only
this: the decision is shared, see `turnout.parts.priced`), a `Router`, or a `Sequential` router.
Fitted things are frozen dataclasses of arrays, numbers, strings, tuples and such dataclasses, so
that `turnout.parts.store` can save any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core._check import Float, Int
from turnout.core.assignment import Assignment
from turnout.core.budget import Budget
from turnout.core.outcomes import Outcomes
from turnout.core.pool import Pool

#: A batch: n texts, or an array (n, d).
Inputs = Sequence[Any] | NDArray[Any]

__all__ = ["Inputs", "Online", "Predictor", "Recipe", "Router", "Sequential"]


@runtime_checkable
class Predictor(Protocol):
    """Predicts how good each destination's answer would be, and what it would cost."""

    @property
    def names(self) -> tuple[str, ...]:
        """The m destinations, in column order."""
        ...

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) in [0, 1] and expected cost (n, m) >= 0; pure."""
        ...


@runtime_checkable
class Router(Protocol):
    """Sends a batch of inputs to the destinations of a pool."""

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations it knows; a pool may hold any of them, in any order."""
        ...

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """Choose for each input; `index` counts in the order of `pool.names`."""
        ...


@runtime_checkable
class Sequential(Protocol):
    """Asks one destination after another, seeing each answer before it goes on.

    Also a `Router`: its `route` is the plan before any answer is seen. Row i of `index` lists the
    destinations in the order they would be asked, `weight[i, s]` is the predicted probability that
    step s is the last.
    """

    def proceed(
        self,
        inputs: Inputs,
        asked: Int,
        answers: Sequence[Sequence[str]],
        pool: Pool,
        *,
        budget: Budget,
        rng: Generator,
    ) -> Int:
        """Next destination of each input, (n,); -1 = accept the last answer.

        `asked` (n, s) and `answers` (n rows of s texts) hold the steps so far, s >= 0.
        """
        ...


class Recipe(Protocol):
    """Hyper-parameters of a method, ready to fit."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> Predictor | Router:
        """Learn from a table. `pool` holds the table's destinations, in its order."""
        ...


@runtime_checkable
class Online(Protocol):
    """Learns while it serves."""

    def learn(self, inputs: Inputs, chosen: Int, outcome: Float) -> None:
        """Take in the outcome (n,) in [0, 1] of the chosen destinations (n,)."""
        ...
