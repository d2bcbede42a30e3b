"""Keeps running spend at a budget while requests arrive one by one and their costs arrive late.

The decision is the house's, `argmax_j quality[j] - price * cost[j]`; what is controlled is the
price. Let P be the offline curve that gives the price at which a mean spend of u is reached
(`Plan`, from the exact frontier of `turnout.parts.prices`). After t requests, with budget b::

    ratio  = settled cost / the cost that was expected for it              (what prediction missed)
    debt   = settled cost + ratio * cost still expected - b * t            (ahead of budget if > 0)
    left   = max(period - t mod period, LAG)                               (requests to even it out)
    y      = debt / (BAND * reach * left)
    target = b - reach * y * min(1, y^2)                                   (spend to aim at now)
    offset = offset - (ratio * expected cost - target) / (t + TRUST * plan.rows)  (a step a request)
    price  = P((target + offset) / ratio)

The step on `offset` is dual mirror descent: the nominal spend u = target + offset moves against
the constraint's subgradient, and reading the price off P makes P the inverse mirror map, so that
steps are in units of cost whatever the units of price, and a request's step moves the spend by as
much on a steep stretch of the frontier as on a flat one. Without a plan,
P(u) = price * exp((b - u) / b): the entropy mirror map, multiplicative weights.

The second part, `target`, is a feedback on the accumulated debt whose gain grows with the cube of
the debt and as the period runs out: a debt that the rest of the period can still even out is let
be, because traffic that comes in blocks (subject after subject) is served best at one price, and
is brought back in time. `reach` is how far spend can be moved from b by any price.

Sources: Balseiro, Lu and Mirrokni, "Dual Mirror Descent for Online Allocation Problems", 2020,
arXiv:2002.10421 (algorithm 1); the feedback on the integral of the error follows the use analysed
in Balseiro, Lu, Mirrokni and Sivan, "Analysis of Dual-Based PID Controllers through Convolutional
Mirror Descent", 2022, arXiv:2202.06152. What differs: the mirror map is fitted offline; the step
shrinks as 1 / (t + TRUST * rows) instead of being constant, so that a plan weighs as what it was
made from; costs are reserved when expected and corrected when known; the integral term is
non-linear; the budget is soft (overspend is paid back) and repeats every `period` requests.

What no controller without foresight can do: spend, on what comes last, money that only what came
first could have used. Where the budget is near what the freest routes cost and traffic comes in
blocks, spend can end below it, at price zero.

Cost: a few dozen scalar operations an event, no arrays, no clock, no randomness.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Bool, Float
from turnout.parts import prices

__all__ = ["Pacer", "Pacing", "Plan"]

# Set once for all tables: swept over streams of three real tables in five orders (shuffled, by
# subject forwards, backwards, and with subjects in two random orders). See benchmarks/budget.py.
_BAND = 0.5  # share of the reach that a debt may call for before it is corrected in full
_LAG = 50  # requests: no debt is corrected faster than this, feedback being late and noisy
_MEMORY = 500  # settlements that the ratio of true to expected cost looks back on
_WEIGHT = 20  # requests' worth of budget that the ratio is held at one by
_TRUST = 10  # requests that a row of a plan counts as: requests come in runs, rows do not
_COLD_ROWS = 20  # requests that a guessed price counts as
_KNOTS = 32
_LEAST, _MOST = 0.1, 1.0  # reach, in budgets
_FARTHEST = 15.0  # exponent, in budgets of nominal spend off the curve


@dataclass(frozen=True)
class Plan:
    """Price at which a mean spend is reached, as foreseen from predictions.

    Parameters
    ----------
    spend : tuple of float
        Mean cost per request, increasing, >= 0: the cheapest first, the freest last.
    price : tuple of float
        Price that gives each spend, not increasing, >= 0.
    rows : int
        Requests it was made from: what its word counts for against what is seen later. >= 1.

    Raises
    ------
    InputError
        The lengths differ, there is no knot, or a rule above is broken.
    """

    spend: tuple[float, ...]
    price: tuple[float, ...]
    rows: int

    def __post_init__(self) -> None:
        spend = _check.floats("plan.spend", self.spend, (None,), low=0.0)
        if len(spend) == 0 or bool((np.diff(spend) <= 0).any()):
            hint = "Make it with Plan.fit."
            raise InputError("plan.spend", "hold one or more increasing values", self.spend, hint)
        price = _check.floats("plan.price", self.price, (len(spend),), low=0.0)
        if bool((np.diff(price) > 0).any()):
            hint = "Make it with Plan.fit."
            raise InputError("plan.price", "not increase", self.price, hint)
        object.__setattr__(self, "spend", tuple(spend.tolist()))
        object.__setattr__(self, "price", tuple(price.tolist()))
        object.__setattr__(self, "rows", _check.integer("plan.rows", self.rows, low=1))

    @classmethod
    def fit(cls, quality: Float, cost: Float, up: Bool | None = None) -> Plan:
        """The plan of predictions (n, m), n >= 1, from their exact frontier."""
        if len(quality) == 0:
            raise InputError("quality", "hold at least one row", 0, "Pass predictions.")
        frontier = prices.relax(quality, cost, up).frontier(quality, cost)
        assert frontier.knob is not None
        spend, onward = frontier.cost, np.append(frontier.knob[1:], 0.0)
        wanted = np.linspace(spend[0], spend[-1], _KNOTS)
        knots = np.unique(np.searchsorted(spend, wanted).clip(max=len(spend) - 1))
        # rounding of the running sums can leave two knots at one spend
        keep = knots[np.concatenate(([True], np.diff(spend[knots]) > 0))]
        return cls(tuple(spend[keep].tolist()), tuple(onward[keep].tolist()), len(quality))

    def at(self, spend: float) -> float:
        """Price for a mean spend: 0 from the last knot on, rising without end below the first."""
        knots = self.spend
        if spend >= knots[-1]:
            return 0.0
        if spend < knots[0]:
            over = (knots[0] - spend) / (knots[1] - knots[0]) if len(knots) > 1 else 0.0
            return self.price[0] * math.exp(min(over, _FARTHEST))
        right = bisect_right(knots, spend)
        share = (spend - knots[right - 1]) / (knots[right] - knots[right - 1])
        low, high = self.price[right - 1], self.price[right]
        return low + (high - low) * share


@dataclass(frozen=True, kw_only=True)
class Pacing:
    """What to keep to.

    Parameters
    ----------
    mean_cost : float
        Mean cost per request to spend, > 0.
    period : int
        Requests after which spend is to be at the budget, again and again; >= 1. Spend may run
        ahead or behind inside a period where that buys quality: a short period holds spend
        closer, a long one buys more. Where the budget is for a known number of requests, that
        number.
    price : float, optional
        First price, in quality per unit of cost, > 0, where there is no plan.
    plan : Plan, optional
        What predictions foresee; exactly one of `price` and `plan`.

    Raises
    ------
    InputError
        A value is out of range, or not exactly one of `price` and `plan` is given.
    """

    mean_cost: float
    period: int = 1000
    price: float | None = None
    plan: Plan | None = None

    def __post_init__(self) -> None:
        for field in ("mean_cost", "price"):
            value = getattr(self, field)
            if value is None and field == "price":
                continue
            number = _check.number(f"pacing.{field}", value, low=0.0)
            if number == 0:
                hint = "Leave pacing off to send everything to the cheapest."
                raise InputError(f"pacing.{field}", "be above 0", value, hint)
            object.__setattr__(self, field, number)
        object.__setattr__(self, "period", _check.integer("pacing.period", self.period, low=1))
        if (self.price is None) == (self.plan is None):
            given = {"price": self.price, "plan": self.plan}
            rule = "give exactly one of price and plan"
            raise InputError("pacing", rule, given, "Use Pacer.for_budget to make a plan.")


class Pacer:
    """The controller: read `price`, say what was `decided`, and later what was `settled`.

    Not for use from several threads at once.

    Parameters
    ----------
    pacing : Pacing
        What to keep to.
    state : mapping of str to float, optional
        What `state()` gave, to go on from there.

    Raises
    ------
    InputError
        The state misses a number.

    Examples
    --------
    >>> pacer = Pacer(Pacing(mean_cost=0.01, price=5.0))
    >>> pacer.price
    5.0
    >>> for _ in range(100):
    ...     pacer.decided(0.02)  # every request costs twice the budget
    >>> pacer.settled(0.02, 0.02)
    >>> round(pacer.mean_spent, 6), round(pacer.price, 2)
    (0.02, 29.79)
    """

    __slots__ = (
        "_debt",
        "_expected",
        "_fresh",
        "_offset",
        "_price",
        "_ratio",
        "_reserved",
        "_rows",
        "_seen",
        "_t",
        "_target",
        "pacing",
    )

    def __init__(self, pacing: Pacing, state: Mapping[str, float] | None = None) -> None:
        self.pacing = pacing
        self._rows = _COLD_ROWS if pacing.plan is None else _TRUST * pacing.plan.rows
        kept = dict.fromkeys(_STATE, 0.0) if state is None else state
        for key in _STATE:
            if key not in kept:
                raise InputError(f"state.{key}", "be there", sorted(kept), "Pass Pacer.state().")
        self._t = _check.integer("state.decided", int(kept["decided"]), low=0)
        self._debt = _check.number("state.debt", kept["debt"])
        self._reserved = _check.number("state.reserved", kept["reserved"])
        self._offset = _check.number("state.offset", kept["offset"])
        self._expected = _check.number("state.expected", kept["expected"], low=0.0)
        self._seen = _check.number("state.seen", kept["seen"], low=0.0)
        self._fresh = False
        self._price = self._target = self._ratio = 0.0

    @classmethod
    def for_budget(
        cls,
        quality: Float,
        cost: Float,
        mean_cost: float,
        *,
        period: int = 1000,
        up: Bool | None = None,
    ) -> Pacer:
        """A pacer that starts from the exact frontier of predictions.

        Parameters
        ----------
        quality, cost : array (n, m)
            Predictions for requests like those to come, such as the training table's.
        mean_cost : float
            Mean cost per request to spend.
        period : int
            See `Pacing`.
        up : array of bool (m,), optional
            Destinations that may be chosen.

        Raises
        ------
        InputError
            The budget is below the mean cost of the cheapest destinations.
        """
        plan = Plan.fit(quality, cost, up)
        pacing = Pacing(mean_cost=mean_cost, period=period, plan=plan)
        if mean_cost < plan.spend[0] * (1 - 1e-9):
            raise InputError(
                "mean_cost",
                f"be at least {plan.spend[0]:.6g}, the mean cost of the cheapest destinations",
                mean_cost,
                "Raise the budget or add a cheaper destination.",
            )
        return cls(pacing)

    @property
    def price(self) -> float:
        """Price to decide the next request with: quality per unit of cost, >= 0, finite."""
        if not self._fresh:
            self._refresh()
        return self._price

    @property
    def count(self) -> int:
        """Requests decided so far."""
        return self._t

    @property
    def mean_spent(self) -> float:
        """Mean cost per request so far, costs not yet known at what they are expected to be."""
        if self._t == 0:
            return 0.0
        if not self._fresh:
            self._refresh()
        return self.pacing.mean_cost + (self._debt + self._ratio * self._reserved) / self._t

    def decided(self, expected_cost: float) -> None:
        """One request was sent; reserve what it is expected to cost."""
        if not 0.0 <= expected_cost < math.inf:
            _refuse("expected_cost", expected_cost)
        if not self._fresh:
            self._refresh()
        budget, plan, ratio = self.pacing.mean_cost, self.pacing.plan, self._ratio
        self._t += 1
        self._debt -= budget
        self._reserved += expected_cost
        aim = min(max(self._target, 0.0), 2.0 * budget)
        offset = self._offset - (ratio * expected_cost - aim) / (self._t + self._rows)
        # beyond the ends of the curve there is nothing to learn, only to unlearn later
        if plan is None:
            low, high = -_FARTHEST * budget, _FARTHEST * budget
        else:
            low = min(plan.spend[0] * ratio - budget, 0.0)
            high = max(plan.spend[-1] * ratio - budget, 0.0)
        self._offset = min(max(offset, low), high)
        self._fresh = False

    def settled(self, expected_cost: float, actual_cost: float) -> None:
        """The true cost of a request became known, in any order and after any delay.

        Parameters
        ----------
        expected_cost : float
            What `decided` was told for it.
        actual_cost : float
            What it cost; 0 if it never ran.
        """
        if not 0.0 <= expected_cost < math.inf:
            _refuse("expected_cost", expected_cost)
        if not 0.0 <= actual_cost < math.inf:
            _refuse("actual_cost", actual_cost)
        self._reserved -= expected_cost
        self._debt += actual_cost
        keep = 1.0 - 1.0 / _MEMORY
        self._seen = self._seen * keep + actual_cost
        self._expected = self._expected * keep + expected_cost
        self._fresh = False

    def retarget(self, mean_cost: float) -> None:
        """Aim at another mean cost from now on.

        For budgets over a time rather than a number of requests: whoever knows what is left, and
        how many requests are still to come, sets the quotient from time to time. What was spent
        before is forgotten, what is reserved counts as spent: both are in that quotient already.
        `count` and `mean_spent` start anew. What was learned about the predictions stays.

        Parameters
        ----------
        mean_cost : float
            Mean cost per request, > 0.

        Raises
        ------
        InputError
            It is not above 0 and finite.
        """
        before = self.pacing.mean_cost
        self.pacing = replace(self.pacing, mean_cost=mean_cost)
        if not self._fresh:
            self._refresh()
        self._t = 0
        self._debt = -self._ratio * self._reserved
        self._offset *= mean_cost / before
        self._fresh = False

    def state(self) -> dict[str, float]:
        """Six plain numbers from which `Pacer(pacing, state)` goes on exactly."""
        values = (
            self._t,
            self._debt,
            self._reserved,
            self._offset,
            self._expected,
            self._seen,
        )
        return dict(zip(_STATE, values, strict=True))

    def _refresh(self) -> None:
        pacing = self.pacing
        budget, plan = pacing.mean_cost, pacing.plan
        held = _WEIGHT * budget
        ratio = (self._seen + held) / (self._expected + held)
        debt = self._debt + ratio * self._reserved
        left = max(pacing.period - self._t % pacing.period, _LAG)
        if plan is None:
            reach = budget
        else:
            ahead, behind = budget - plan.spend[0] * ratio, plan.spend[-1] * ratio - budget
            reach = min(max(ahead if debt > 0 else behind, _LEAST * budget), _MOST * budget)
        y = debt / (_BAND * reach * left)
        target = budget - reach * y * min(1.0, y * y)
        nominal = target + self._offset
        if plan is None:
            assert pacing.price is not None
            steps = (budget - nominal) / budget
            self._price = pacing.price * math.exp(min(max(steps, -_FARTHEST), _FARTHEST))
        else:
            self._price = plan.at(nominal / ratio)
        self._target, self._ratio, self._fresh = target, ratio, True

    def __repr__(self) -> str:
        return (
            f"Pacer(budget={self.pacing.mean_cost:g}, spent={self.mean_spent:g}, "
            f"price={self.price:g}, count={self._t})"
        )


_STATE = ("decided", "debt", "reserved", "offset", "expected", "seen")


def _refuse(name: str, value: float) -> None:
    hint = "Pass the cost in the currency of the budget."
    raise InputError(name, "be a finite number >= 0", value, hint)
