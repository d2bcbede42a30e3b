"""The price of spending, as it stands when a request is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

from turnout.core import ConfigError
from turnout.parts.pacing import Pacer, Pacing, Plan
from turnout.serve.tables import BudgetConfig

__all__ = ["FixedPrice", "Pace", "PeriodPace", "make_pace"]

#: First price where nothing was measured: a tenth of quality for a mean request's money.
_GUESS = 0.1
#: Milliseconds between two targets, and seconds of requests that a budget is first taken to last.
_EVERY, _FIRST = 5_000, 1_000
#: Part of a period over which the rate of requests is remembered, and its bounds in milliseconds.
_SHARE, _SHORTEST, _LONGEST = 1 / 24, 30_000, 3_600_000
#: Least target, as a share of the mean so far: a budget that is spent needs no price to say so.
_LEAST = 1e-3


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


@final
class PeriodPace:
    """Spreads a hard budget over its period: what is left, over the requests still to come.

    From time to time the target of a `Pacer` is set to that quotient. How many requests are still
    to come is told by their rate so far, and the time that is left. Each worker keeps a pace of its
    own, and sees a fair share of the requests.

    Parameters
    ----------
    pacer : Pacer
        Its first target counts until the first tick.
    workers : int
        Workers that share the budget.
    """

    def __init__(self, pacer: Pacer, workers: int) -> None:
        self._pacer = pacer
        self._workers = workers
        self._seen = 0
        self._rate = 0.0  # requests a millisecond, of this worker
        self._weight = 0.0  # milliseconds that the rate was seen over
        self._then = 0
        self._ends = 0

    @property
    def price(self) -> float:
        """See `Pace`."""
        return self._pacer.price

    def decided(self, expected_cost: float) -> None:
        """See `Pace`."""
        self._seen += 1
        self._pacer.decided(expected_cost)

    def settled(self, expected_cost: float, actual_cost: float) -> None:
        """See `Pace`."""
        self._pacer.settled(expected_cost, actual_cost)

    def due(self, ms: int) -> bool:
        """Whether a tick is due, milliseconds since 1970."""
        return not self._then <= ms < self._then + _EVERY or ms >= self._ends

    def tick(self, ms: int, left_usd: float, ends_ms: int, length_ms: int) -> None:
        """Set the target.

        Parameters
        ----------
        ms : int
            Now, milliseconds since 1970.
        left_usd : float
            What is neither spent nor reserved of the budget, of all workers.
        ends_ms, length_ms : int
            When its period ends, and how long it is.
        """
        then, self._then, self._ends = self._then, ms, ends_ms
        if not then:  # the first tick has nothing to compare with
            self._seen = 0
            return
        passed = max(ms - then, 1)
        span = min(max(length_ms * _SHARE, _SHORTEST), _LONGEST)
        self._weight = min(self._weight + passed, span)
        self._rate += (self._seen / passed - self._rate) * min(passed / self._weight, 1.0)
        self._seen = 0
        to_come = max(self._rate * self._workers * max(ends_ms - ms, 0), 1.0)
        mean = self._pacer.pacing.mean_cost
        self._pacer.retarget(max(left_usd / to_come, _LEAST * mean))


def make_pace(
    budget: BudgetConfig,
    measured: Sequence[Mapping[str, Any]],
    rows: int,
    paced: tuple[float, int] | None = None,
) -> Pace:
    """The pace that keeps a budget.

    Parameters
    ----------
    budget : BudgetConfig
    measured : sequence of mapping
        What prices bought when the router was measured: `price`, `cost`, `quality`, by rising
        cost. Empty where nothing is known, or where it was measured on another pool.
    rows : int
        Requests it was measured on.
    paced : (float, int), optional
        The hard budget to spread over its period, in USD, and the workers that share it.

    Raises
    ------
    ConfigError
        The budget is below what the cheapest destinations cost, or the quality above what was
        ever reached, or cannot be looked up.
    """
    known = [point for point in measured if point.get("price") is not None]
    if budget.mean_quality is not None:
        return FixedPrice(_price_of(budget.mean_quality, known))
    plan = _plan(known, rows)
    if paced is not None:
        usd, workers = paced
        mean = usd / _FIRST if plan is None else (plan.spend[0] + plan.spend[-1]) / 2
        return PeriodPace(Pacer(_pacing(mean, budget.period, plan)), workers)
    if budget.mean_cost_usd is None:
        return FixedPrice(budget.price or 0.0)
    mean = budget.mean_cost_usd
    if plan is not None and mean < plan.spend[0] * (1 - 1e-9):
        rule = f"be at least {plan.spend[0]:.6g}, the mean cost of the cheapest destinations"
        hint = "Raise the budget or add a cheaper destination."
        raise ConfigError("budget.mean_cost_usd", rule, mean, hint)
    return Pacer(_pacing(mean, budget.period, plan))


def _pacing(mean: float, period: int, plan: Plan | None) -> Pacing:
    if plan is None:
        return Pacing(mean_cost=mean, period=period, price=_GUESS / mean)
    return Pacing(mean_cost=mean, period=period, plan=plan)


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
