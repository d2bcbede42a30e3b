"""The price of spending, as it stands when a request is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

from turnout.core import ConfigError
from turnout.parts.pacing import Pacer, Pacing, Plan
from turnout.serve.config import BudgetConfig

__all__ = ["FixedPrice", "Pace", "make_pace"]

#: First price where nothing was measured: a tenth of quality for a mean request's money.
_GUESS = 0.1


class Pace(Protocol):
    """Says what a unit of cost is worth now, and learns what was really spent.

    `turnout.parts.pacing.Pacer` is one.
    """

    @property
    def price(self) -> float:
        """Quality to give up to save one unit of cost, >= 0."""
        ...

    def decided(self, expected_cost: float) -> None:
        """One request was sent; it is expected to cost this."""
        ...

    def settled(self, expected_cost: float, actual_cost: float) -> None:
        """What a request expected to cost this has cost; in any order, after any delay."""
        ...


@final
class FixedPrice:
    """The same price always.

    Parameters
    ----------
    price : float
    """

    def __init__(self, price: float = 0.0) -> None:
        self.price = price

    def decided(self, expected_cost: float) -> None:
        """Nothing to learn."""

    def settled(self, expected_cost: float, actual_cost: float) -> None:
        """Nothing to learn."""


def make_pace(budget: BudgetConfig, measured: Sequence[Mapping[str, Any]], rows: int) -> Pace:
    """The pace that keeps a budget.

    Parameters
    ----------
    budget : BudgetConfig
    measured : sequence of mapping
        What prices bought when the router was measured: `price`, `cost`, `quality`, by rising
        cost. Empty where nothing is known, or where it was measured on another pool.
    rows : int
        Requests it was measured on.

    Raises
    ------
    ConfigError
        The budget is below what the cheapest destinations cost, or the quality above what was
        ever reached, or cannot be looked up.
    """
    known = [point for point in measured if point.get("price") is not None]
    if budget.mean_quality is not None:
        return FixedPrice(_price_of(budget.mean_quality, known))
    if budget.mean_cost_usd is None:
        return FixedPrice(budget.price or 0.0)
    mean = budget.mean_cost_usd
    plan = _plan(known, rows)
    if plan is None:
        return Pacer(Pacing(mean_cost=mean, period=budget.period, price=_GUESS / mean))
    if mean < plan.spend[0] * (1 - 1e-9):
        rule = f"be at least {plan.spend[0]:.6g}, the mean cost of the cheapest destinations"
        hint = "Raise the budget or add a cheaper destination."
        raise ConfigError("budget.mean_cost_usd", rule, mean, hint)
    return Pacer(Pacing(mean_cost=mean, period=budget.period, plan=plan))


def _plan(known: Sequence[Mapping[str, Any]], rows: int) -> Plan | None:
    """Prices by rising spend; measuring makes both a little uneven, so they are evened out."""
    spend: list[float] = []
    price: list[float] = []
    for point in known:
        if not spend or point["cost"] > spend[-1]:
            spend.append(float(point["cost"]))
            price.append(min(float(point["price"]), price[-1] if price else float("inf")))
    return Plan(tuple(spend), tuple(price), max(rows, 1)) if spend else None


def _price_of(quality: float, known: Sequence[Mapping[str, Any]]) -> float:
    """The highest price at which a mean quality was reached."""
    if not known:
        rule = "come with a router that was measured on this pool"
        hint = "Fit it with `turnout fit` on a table of exactly this pool, or set budget.price."
        raise ConfigError("budget.mean_quality", rule, quality, hint)
    reached = [point for point in known if point["quality"] >= quality]
    if not reached:
        best = max(point["quality"] for point in known)
        rule = f"be at most {best:.6g}, the best that was measured"
        hint = "Lower it, or add a better destination."
        raise ConfigError("budget.mean_quality", rule, quality, hint)
    return max(float(point["price"]) for point in reached)
