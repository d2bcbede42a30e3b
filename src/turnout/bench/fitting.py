"""Fit a method, measure it out of fold, and note what a gateway needs to know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.bench.evaluation import evaluate
from turnout.bench.results import Evaluation
from turnout.core import DataError, Frontier, Outcomes, Recipe, Router
from turnout.parts import priced

__all__ = ["Fitted", "budgets", "fit_and_measure", "price_points"]

#: Points of the frontier kept in a router file.
_POINTS = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """A router with what was measured of it.

    Parameters
    ----------
    router : Router
        Fitted on every row.
    evaluation : Evaluation, optional
        Of the same recipe, out of fold; None where no row tells all destinations.
    extra : dict
        JSON-able notes for the router file.
    """

    router: Router
    evaluation: Evaluation | None
    extra: dict[str, Any]


def fit_and_measure(
    name: str,
    recipe: Recipe,
    outcomes: Outcomes,
    *,
    seed: int = 0,
    folds: int = 5,
    tick: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Fitted:
    """Fit on all rows, and measure the same recipe out of fold where the table allows it.

    Raises
    ------
    DataError
        The table has one destination or one prompt.
    InputError
        The method refuses the table.
    """
    if outcomes.m < 2:
        hint = "With one destination there is nothing to route."
        raise DataError("the table", "hold at least two destinations", outcomes.m, hint)
    different = len({str(text) for text in outcomes.inputs})
    if different < 2:
        hint = "Add rows; a few hundred are a start."
        raise DataError("the table", "hold at least two different prompts", different, hint)
    quality, cost = outcomes.mean_quality(), outcomes.mean_cost()
    top = int(np.lexsort((cost, -quality))[0])
    extra: dict[str, Any] = {
        "rows": outcomes.n,
        "seed": seed,
        "best_single": outcomes.names[top],
        "best_single_quality": float(quality[top]),
        "best_single_cost": float(cost[top]),
        "cheapest": outcomes.names[int(np.lexsort((-quality, cost))[0])],
        "cost_range": [float(cost.min()), float(cost.max())],
    }
    complete = ~(np.isnan(outcomes.quality) | np.isnan(outcomes.cost)).any(axis=1)
    evaluation = None
    if int(complete.sum()) >= 2:
        evaluation = evaluate(
            outcomes, {name: recipe}, folds=min(folds, different), seed=seed, tick=tick
        )
        row = evaluation.row(name)
        assert row.frontier is not None
        extra["measured"] = "out of fold"
        extra["aiq"] = row.aiq
        extra["frontier"] = price_points(row.frontier)
    router = priced.fit(recipe, outcomes, rng=seed)
    return Fitted(router=router, evaluation=evaluation, extra=extra)


def price_points(frontier: Frontier) -> list[dict[str, float | None]]:
    """Vertices of the hull by rising cost: the price that gives each, and what it buys.

    A setting holds between two breakpoints; its price is taken midway between them, so that
    rounding cannot move it to a neighbour. `price` is None where the knob is no price.
    """
    hull = frontier.hull()
    keep = np.unique(np.linspace(0, len(hull) - 1, min(_POINTS, len(hull))).round().astype(int))
    result: list[dict[str, float | None]] = []
    knobs = None if frontier.knob is None else np.unique(frontier.knob)
    for k in keep:
        price: float | None = None
        if knobs is not None and hull.knob is not None:
            above = float(hull.knob[k])
            below = knobs[knobs < above]
            under = float(below[-1]) if len(below) else 0.0
            price = 2 * under + 1 if np.isinf(above) else (above + under) / 2
        result.append(
            {"price": price, "cost": float(hull.cost[k]), "quality": float(hull.quality[k])}
        )
    return result


def budgets(evaluation: Evaluation, name: str) -> list[tuple[float, float, float]]:
    """What a few budgets buy: (mean cost, mean quality, quality of a random mixture there)."""
    low, high = evaluation.cost_range
    ours, zero = evaluation.row(name).frontier, evaluation.row("zero_router").frontier
    assert ours is not None
    assert zero is not None
    result = []
    for part in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        cost = low + part * (high - low)
        # a hair above the cheapest, where rounding could put the budget below every point
        at = cost * (1 + 1e-9) + 1e-15
        result.append((cost, float(ours.quality_at(at)), float(zero.quality_at(at))))
    return result
