"""The seam towards routing: one request in, one decision out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, final

import numpy as np
from numpy.random import Generator

from turnout.core import Budget, Pool, Router
from turnout.parts.priced import columns
from turnout.serve.errors import RequestError
from turnout.serve.pace import FixedPrice, Pace
from turnout.serve.request import ChatRequest

__all__ = [
    "AUTO",
    "Decides",
    "Decision",
    "Fixed",
    "Named",
    "Opaque",
    "Policy",
    "Routed",
    "explored",
]

#: The model name that asks to be routed.
AUTO = "auto"


@dataclass(slots=True, kw_only=True)
class Decision:
    """Where one request goes, and why.

    Parameters
    ----------
    destination : str
        The choice.
    propensity : float, optional
        Probability with which the policy made it; None where that is not known.
    price : float
        Quality given up to save one unit of cost.
    names : tuple of str
        The candidates.
    quality, cost : tuple of float
        Predictions for each candidate; empty where the policy makes none.
    order : tuple of str
        The other candidates, best first, to fall back on; empty where nothing else will do.
    expected_cost : float, optional
        What was set aside for it in the budget; None for a request outside the budget.
    """

    destination: str
    propensity: float | None
    price: float = 0.0
    names: tuple[str, ...] = ()
    quality: tuple[float, ...] = ()
    cost: tuple[float, ...] = ()
    order: tuple[str, ...] = ()
    expected_cost: float | None = None


class Policy(Protocol):
    """Decides, and hears what its decisions cost.

    Attributes
    ----------
    pace : Pace
        What a unit of cost is worth at the moment.
    """

    @property
    def pace(self) -> Pace:
        """See above."""
        ...

    def decide(self, request: ChatRequest, allowed: frozenset[str] | None = None) -> Decision:
        """Choose a destination; where `allowed` is given, among these alone."""
        ...

    def settle(self, decision: Decision, cost: float) -> None:
        """Take in what a request has cost; once for each decision."""
        ...


@final
class Named:
    """Sends a request to the model it names; `auto` is left to another policy.

    Parameters
    ----------
    auto : Policy
        Decides for `auto`.
    names : sequence of str
        The pool.
    """

    def __init__(self, auto: Policy, names: Sequence[str]) -> None:
        self._auto = auto
        self._names = tuple(names)

    @property
    def pace(self) -> Pace:
        """That of `auto`."""
        return self._auto.pace

    def decide(self, request: ChatRequest, allowed: frozenset[str] | None = None) -> Decision:
        """The named destination and no other, allowed or not, or what `auto` decides.

        Raises
        ------
        RequestError
            No destination goes by that name.
        """
        if request.model == AUTO:
            return self._auto.decide(request, allowed)
        if request.model in self._names:
            return Decision(destination=request.model, propensity=1.0, names=(request.model,))
        rule = f"be one of {AUTO}, {', '.join(self._names)}"
        hint = f"Ask for {AUTO!r} to have it routed."
        model = request.model
        raise RequestError("model", rule, model, hint, status=404, code="model_not_found")

    def settle(self, decision: Decision, cost: float) -> None:
        """Pass it on, if it was decided there."""
        if decision.expected_cost is not None:
            self._auto.settle(decision, cost)


@final
class Fixed:
    """Sends everything to one destination.

    Parameters
    ----------
    destination : str
    """

    def __init__(self, destination: str) -> None:
        self._decision = Decision(destination=destination, propensity=1.0, names=(destination,))
        self.pace: Pace = FixedPrice()

    def decide(self, request: ChatRequest, allowed: frozenset[str] | None = None) -> Decision:
        """The one destination, allowed or not."""
        return self._decision

    def settle(self, decision: Decision, cost: float) -> None:
        """Nothing to learn."""


class Decides(Protocol):
    """Chooses for one text at a price; see `turnout.parts.decide.Decider`."""

    @property
    def pool(self) -> Pool:
        """Where a request can go."""
        ...

    def decide(
        self, text: str, price: float, up: Sequence[bool] | None = None
    ) -> tuple[int, list[float], list[float]]:
        """Position in the pool, and quality and cost (m,) of each destination."""
        ...


@final
class Routed:
    """Sends a request where quality is worth its price, by a predictor's figures.

    Parameters
    ----------
    decider : Decides
        A fitted predictor, compiled for the destinations that are served.
    pace : Pace
        The price of cost.
    explore : float
        Share of requests sent to a destination drawn evenly among all.
    rng : Generator
        Draws them.
    """

    def __init__(self, decider: Decides, pace: Pace, *, explore: float, rng: Generator) -> None:
        self._decider = decider
        self._names = decider.pool.names
        self.pace: Pace = pace
        self._explore = explore
        self._rng = rng

    def decide(self, request: ChatRequest, allowed: frozenset[str] | None = None) -> Decision:
        """`argmax_j quality[j] - price * cost[j]`, save for the explored share."""
        price, names = self.pace.price, self._names
        up = None if allowed is None else [name in allowed for name in names]
        best, quality, cost = self._decider.decide(request.prompt, price, up)
        open_ = range(len(names)) if up is None else [j for j, ok in enumerate(up) if ok]
        chosen, propensity = explored(best, open_, self._explore, self._rng)
        order = sorted(open_, key=lambda j: (price * cost[j] - quality[j], cost[j]))
        self.pace.decided(cost[chosen])
        return Decision(
            destination=names[chosen],
            propensity=propensity,
            price=price,
            names=names,
            quality=tuple(quality),
            cost=tuple(cost),
            order=tuple([names[j] for j in order if j != chosen]),
            expected_cost=cost[chosen],
        )

    def settle(self, decision: Decision, cost: float) -> None:
        """Let the price follow the spending."""
        self.pace.settled(decision.expected_cost or 0.0, cost)


@final
class Opaque:
    """Sends a request where a router says that gives no figures.

    Parameters
    ----------
    router : Router
        Fitted.
    pool : Pool
        The destinations that are served.
    price : float
        The price of cost.
    rng : Generator
        The router's source of randomness.

    Raises
    ------
    InputError
        The pool holds a destination the router does not know.
    """

    def __init__(self, router: Router, pool: Pool, price: float, *, rng: Generator) -> None:
        columns(router.names, pool)
        self._router = router
        self._pool = pool
        self._price = price
        self.pace: Pace = FixedPrice(price)
        self._rng = rng

    def decide(self, request: ChatRequest, allowed: frozenset[str] | None = None) -> Decision:
        """The router's choice; its propensity is not known.

        Raises
        ------
        RequestError
            The router sends this prompt nowhere.
        """
        budget = Budget(price=self._price)
        pool = self._pool
        if allowed is not None:
            pool = replace(pool, up=np.array([name in allowed for name in pool.names]))
        plan = self._router.route((request.prompt,), pool, budget=budget, rng=self._rng)
        chosen = int(plan.index[0, 0])
        if chosen < 0:
            hint = "Name a model of the pool to have it answered anyway."
            rule = "be one the router sends somewhere"
            raise RequestError("prompt", rule, "none", hint, status=422, code="no_destination")
        names = self._pool.names
        others = tuple(
            name
            for j, name in enumerate(names)
            if j != chosen and (allowed is None or name in allowed)
        )
        return Decision(
            destination=names[chosen],
            propensity=None,
            price=self._price,
            names=names,
            order=others,
        )

    def settle(self, decision: Decision, cost: float) -> None:
        """Nothing to learn."""


def explored(best: int, open_: Sequence[int], share: float, rng: Generator) -> tuple[int, float]:
    """The best of some destinations, or for a share of requests one drawn evenly among them.

    Returns
    -------
    int
        The choice.
    float
        The probability with which it was made.
    """
    if share == 0:
        return best, 1.0
    chosen = open_[int(rng.integers(len(open_)))] if rng.random() < share else best
    return chosen, share / len(open_) + (1 - share) * (chosen == best)
