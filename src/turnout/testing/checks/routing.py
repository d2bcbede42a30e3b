"""What a route must keep to: names, what is up, budgets, prices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from turnout.core import Budget, InputError, Inputs, Predictor, Sequential
from turnout.core._check import Float, Int
from turnout.parts.priced import columns
from turnout.testing.subject import PRICES, ContractError, Subject, episode

__all__ = [
    "columns_relabelled",
    "cost_budget_kept",
    "down_never_chosen",
    "impossible_budget_refused",
    "per_item",
    "pool_order",
    "price_monotone",
    "quality_floor_kept",
    "reads_inputs",
    "whole_curve",
]

#: Share of items that may differ where floating-point sums depend on the shape of a batch.
_ROUNDING = 0.01
#: A price at which nothing is worth more than the least cost.
_DEAREST = 1e12
#: Times the step from the dearest to the cheapest is looked into for a point between them.
_HALVINGS = 40


def pool_order(subject: Subject) -> None:
    """Handing the pool in another order sends every item to the same destination by name."""
    inputs, pool = subject.test.outcomes.inputs, subject.pool
    order = np.roll(np.arange(pool.m), 1)
    plain = np.asarray(subject.route(subject.quick, inputs, pool).dense())
    turned = pool.select([pool.names[j] for j in order])
    again = np.asarray(subject.route(subject.quick, inputs, turned).dense())
    _agree(plain[:, order], again, _ROUNDING, "the pool in another order")


def columns_relabelled(subject: Subject) -> None:
    """Fitted on renamed and reordered columns, it makes the same decisions on the easy problem."""
    table = subject.easy.outcomes
    names = tuple(f"zz{len(table.names) - j}" for j in range(table.m))
    order = np.arange(table.m)[::-1]
    turned = replace(table, names=names).select([names[j] for j in order])
    inputs = table.inputs
    plain = subject.route(subject.fit(table), inputs, table.pool(), Budget(price=80.0))
    again = subject.route(subject.fit(turned), inputs, turned.pool(), Budget(price=80.0))
    # a method that draws at random draws otherwise for other columns: most routes, not all
    _agree(
        np.asarray(plain.dense())[:, order], np.asarray(again.dense()), 0.2, "columns relabelled"
    )


def down_never_chosen(subject: Subject) -> None:
    """A destination that is down, or left out of the pool, receives nothing."""
    some, pool = subject.test.take(np.arange(80)), subject.pool
    inputs = some.outcomes.inputs
    for j, name in enumerate(pool.names):
        down = pool.with_down([name])
        for budget in (Budget(), Budget(price=40.0)):
            load = np.asarray(subject.route(subject.quick, inputs, down, budget).load())
            if load[j] > 0:
                raise ContractError(f"{name!r} is down, yet {load[j]:g} items go to it")
        if isinstance(subject.fitted, Sequential):
            asked, _ = episode(subject.fitted, some, down, Budget(price=40.0))
            if (asked == j).any():
                raise ContractError(f"{name!r} is down, yet `proceed` asks it")
        others = pool.select([other for other in pool.names if other != name])
        subject.route(subject.quick, inputs, others)


def cost_budget_kept(subject: Subject) -> None:
    """Under `Budget(mean_cost=...)` the spend stays within it, by the router's own predictions.

    A router that predicts no cost is held to what the answers really cost, within 15 %.
    """
    table, pool = subject.test.outcomes, subject.pool
    floor, ceiling = _cost_range(subject)
    for share in (0.1, 0.5, 0.9):
        limit = floor + share * (ceiling - floor)
        budget = Budget(mean_cost=limit)
        if isinstance(subject.fitted, Sequential):
            _, paid = episode(subject.fitted, subject.test, pool, budget)
            spent, slack = float(paid.mean()), 0.15
        else:
            dense = np.asarray(subject.route(subject.quick, table.inputs, pool, budget).dense())
            cost, exact = _costs(subject, table.inputs)
            spent, slack = float((dense * cost).sum(axis=1).mean()), 1e-6 if exact else 0.15
        if spent > limit * (1 + slack):
            raise ContractError(f"a budget of {limit:.6g} per item must be kept; spent {spent:.6g}")


def quality_floor_kept(subject: Subject) -> None:
    """Under `Budget(mean_quality=...)` the predicted quality reaches the floor, for less cost."""
    inputs, pool = subject.test.outcomes.inputs, subject.pool
    quality, cost = subject.quick_predictor.predict(inputs)
    rows = np.arange(len(quality))
    low = float(quality[rows, cost.argmin(axis=1)].mean())
    high = float(quality.max(axis=1).mean())
    target = 0.5 * (low + high)
    dense = np.asarray(
        subject.route(subject.quick, inputs, pool, Budget(mean_quality=target)).dense()
    )
    reached = float((dense * quality).sum(axis=1).mean())
    if reached < target - 1e-6:
        raise ContractError(f"a floor of {target:.6g} must be reached; predicted {reached:.6g}")
    free = np.asarray(subject.route(subject.quick, inputs, pool, Budget()).dense())
    if (dense * cost).sum() > (free * cost).sum() * (1 + 1e-9):
        raise ContractError("a floor must cost no more than the best quality at any cost")


def impossible_budget_refused(subject: Subject) -> None:
    """A budget below the cheapest destinations is refused with an `InputError` naming it."""
    floor, _ = _cost_range(subject)
    budget = Budget(mean_cost=0.5 * floor)
    try:
        subject.route(subject.quick, subject.test.outcomes.inputs, subject.pool, budget)
    except InputError as error:
        if "budget" not in error.field:
            raise ContractError(f"the refusal must name the budget; it says: {error}") from error
    else:
        raise ContractError(
            f"half of the cheapest price ({0.5 * floor:.6g}) must be refused; it was routed"
        )


def price_monotone(subject: Subject) -> None:
    """Raising the price of spending never raises the predicted spend."""
    cost, _ = _costs(subject, subject.test.outcomes.inputs)
    before = np.inf
    for price in PRICES:
        spent = _spent(subject, cost, Budget(price=price))
        if spent > before * (1 + 1e-9):
            raise ContractError(
                f"at price {price:g} the spend rises from {before:.6g} to {spent:.6g}"
            )
        before = spent


def whole_curve(subject: Subject) -> None:
    """Prices lead from the dearest mix to the cheapest destination of every item, over others."""
    cost, exact = _costs(subject, subject.test.outcomes.inputs)

    def spent(price: float) -> float:
        return _spent(subject, cost, Budget(price=price))

    # one that does not say what it expects is held to its one cheapest destination
    floor = float(cost.min(axis=1).sum() if exact else cost.sum(axis=0).min())
    most, least = spent(0.0), spent(_DEAREST)
    if least > floor * (1 + 1e-9):
        rule = f"at a price of {_DEAREST:g} the spend must fall to the least, {floor:.6g}"
        raise ContractError(f"{rule}; it is {least:.6g}")
    low, high = 1e-3, _DEAREST
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        between = spent(middle)
        if least * (1 + 1e-9) < between < most * (1 - 1e-9):
            return
        low, high = (middle, high) if between > least * (1 + 1e-9) else (low, middle)
    raise ContractError(f"between {most:.6g} and {least:.6g} some price must lead; none does")


def per_item(subject: Subject) -> None:
    """The route of an item depends on neither its place in the batch nor the rest of the batch."""
    inputs = subject.test.outcomes.inputs
    n = len(inputs)
    order = np.random.default_rng(5).permutation(n)
    whole = np.asarray(subject.route(subject.fitted, inputs).dense())
    turned = np.asarray(subject.route(subject.fitted, _pick(inputs, order)).dense())
    _agree(whole[order], turned, _ROUNDING, "a permuted batch")
    halves = [
        np.asarray(subject.route(subject.fitted, _pick(inputs, rows)).dense())
        for rows in np.array_split(np.arange(n), 3)
    ]
    _agree(whole, np.vstack(halves), _ROUNDING, "a batch in three parts")


def reads_inputs(subject: Subject) -> None:
    """Different items may go to different destinations."""
    router = subject.quick
    if isinstance(router, Predictor):
        quality, _ = router.predict(subject.test.outcomes.inputs)
        if float(np.ptp(quality, axis=0).max()) > 1e-9:
            return
        raise ContractError("it claims to read its inputs, but predicts the same for all of them")
    for price in PRICES:
        routed = subject.route(
            subject.quick, subject.test.outcomes.inputs, budget=Budget(price=price)
        )
        if float(np.ptp(np.asarray(routed.dense()), axis=0).max()) > 1e-9:
            return
    raise ContractError("it claims to read its inputs, but sends all of them one way")


def _agree(one: Float, two: Float, tolerance: float, what: str) -> None:
    differ = np.abs(one - two).max(axis=1) > 1e-6
    if differ.mean() > tolerance:
        count, n = int(differ.sum()), len(differ)
        raise ContractError(f"{what} must give the same route; {count} of {n} items differ")


def _costs(subject: Subject, inputs: Inputs) -> tuple[Float, bool]:
    """Cost (n, m) by the router's own predictions, else the true one; and whether it is its own."""
    router = subject.quick
    if isinstance(router, Predictor):
        return router.predict(inputs)[1][:, columns(router.names, subject.pool)], True
    return subject.test.outcomes.cost, False


def _spent(subject: Subject, cost: Float, budget: Budget) -> float:
    """What the test problem is expected to cost by a matrix of costs (n, m)."""
    routed = subject.route(subject.quick, subject.test.outcomes.inputs, subject.pool, budget)
    if isinstance(subject.fitted, Sequential):
        return _planned(np.asarray(routed.index), np.asarray(routed.weight), cost)
    return float((np.asarray(routed.dense()) * cost).sum())


def _cost_range(subject: Subject) -> tuple[float, float]:
    cost, _ = _costs(subject, subject.test.outcomes.inputs)
    return float(cost.min(axis=1).mean()), float(cost.max(axis=1).mean())


def _planned(index: Int, weight: Float, cost: Float) -> float:
    """Spend of a plan: step s is paid unless an earlier step was the last."""
    rows = np.arange(len(index))
    still = np.ones(len(index))
    total = 0.0
    for step in range(index.shape[1]):
        asked = index[:, step] >= 0
        total += float((still * np.where(asked, cost[rows, index[:, step]], 0.0)).sum())
        still = np.maximum(still - weight[:, step], 0.0)
    return total


def _pick(inputs: Inputs, rows: Int) -> Inputs:
    return inputs[rows] if isinstance(inputs, np.ndarray) else tuple(inputs[int(i)] for i in rows)
