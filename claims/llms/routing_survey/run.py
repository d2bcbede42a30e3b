"""Before, after, and neither: quality at one mean cost, on models that complement each other.

It fails at its last step alone: random (0.57) is better than the best single model that costs no
more on average (0.54). The band took for granted that the best single model is at least as good as
chance at the same cost. Within a mean cost a mixture may pay for the dearest model now and then,
and a single model may not; that is why the benchmarks here compare with the hull of mixtures. The
other steps are as the survey says: oracle 0.99, cascade with a perfect judge 0.99, neighbours 0.81.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.random import Generator

from turnout import catalog
from turnout.core import Frontier, InputError, Outcomes
from turnout.llms import routing_survey
from turnout.llms.knn import Knn
from turnout.llms.routerbench import replay
from turnout.parts.prices import choose

N, DRAWS = 600, 10
COST = np.array([1.0, 2.0, 3.0, 5.0, 9.0])
PRICES = (0.0, *np.geomspace(1e-3, 3.0, 60))
CAPS = np.linspace(1.0, 25.0, 49)
#: Seconds of an answer, by unit of cost, and their spread.
SECONDS, SPREAD = 0.5, 0.3


def run(seed: int, data: Path | None) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    figures = [_draw(rng) for _ in range(DRAWS)]
    mean = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
    order = [mean[name] for name in ("oracle", "good", "pre", "single", "random")]
    return {
        "least_step": float(-np.diff(order).max()),
        "pre_above_bad_cascade": mean["pre"] - mean["bad"],
        "latency_ratio": mean["latency_good"] / mean["latency_pre"],
        "placed": _placed(),
        **mean,
    }


def _table(rng: Generator) -> Outcomes:
    """Vectors around four centres; model j answers cluster j best, the last all of them well."""
    cluster = rng.integers(0, 4, N)
    inputs = 2.0 * np.eye(4)[cluster] + 0.7 * rng.standard_normal((N, 4))
    chance = np.array([0.35, 0.4, 0.45, 0.5, 0.75])[None] + np.zeros((N, 5))
    chance[np.arange(N), cluster] += 0.4
    quality = (rng.random((N, 5)) < np.minimum(chance, 0.95)).astype(float)
    cost = COST * rng.uniform(0.8, 1.2, (N, 5))
    return Outcomes(inputs=inputs, names=tuple("abcde"), quality=quality, cost=cost)


def _draw(rng: Generator) -> dict[str, float]:
    table = _table(rng)
    train, test = table.take(np.arange(N // 2)), table.take(np.arange(N // 2, N))
    budget = float(test.cost.mean())
    fitted = Knn(k=30).fit(train, train.pool(), rng=rng)
    time = SECONDS * test.cost * np.exp(SPREAD * rng.standard_normal(test.cost.shape))
    rows = np.arange(test.n)
    pre = [choose(*fitted.predict(test.inputs), price) for price in PRICES]
    ideal = [choose(test.quality, test.cost, price) for price in PRICES]
    within = test.cost.mean(axis=0) <= budget
    single = int(np.argmax(np.where(within, train.quality.mean(axis=0), -1.0)))
    good, good_time = _cascade(test, 0.0, budget, time, rng)
    bad, _ = _cascade(test, 0.4, budget, time, rng)
    costs = np.array([test.cost[rows, choice].mean() for choice in pre])
    near = pre[int(np.argmin(np.abs(costs - budget)))]
    return {
        "oracle": _at(test, ideal, budget),
        "good": good,
        "pre": _at(test, pre, budget),
        "single": float(test.quality[:, single].mean()),
        "random": float(test.quality.mean()),
        "bad": bad,
        "latency_pre": float(np.quantile(time[rows, near], 0.95)),
        "latency_good": good_time,
    }


def _at(test: Outcomes, choices: list[np.ndarray], budget: float) -> float:
    """Quality of the hull of some decisions at a mean cost."""
    rows = np.arange(test.n)
    frontier = Frontier(
        cost=np.array([test.cost[rows, choice].mean() for choice in choices]),
        quality=np.array([test.quality[rows, choice].mean() for choice in choices]),
    )
    return float(frontier.hull().quality_at(budget))


def _cascade(
    test: Outcomes, error: float, budget: float, time: np.ndarray, rng: Generator
) -> tuple[float, float]:
    """Quality of a cascade's hull at a mean cost, every call paid; 95th percentile of its time."""
    order = np.argsort(test.cost.mean(axis=0))
    played = [
        replay(test.quality, test.cost, order=order, bar=0.5, error=error, max_cost=cap, rng=rng)
        for cap in CAPS
    ]
    costs = np.array([one.cost.mean() for one in played])
    hull = Frontier(cost=costs, quality=np.array([one.quality.mean() for one in played])).hull()
    near = played[int(np.argmin(np.abs(costs - budget)))]
    asked = np.arange(len(order))[None] < near.steps[:, None]
    waited = (time[:, order] * asked).sum(axis=1)
    return float(hull.quality_at(budget)), float(np.quantile(waited, 0.95))


def _placed() -> float:
    entries = [entry for entry in catalog.methods("llms") if entry.recipe]
    found = 0
    for entry in entries:
        try:
            found += len(routing_survey.survey([entry]))
        except InputError:
            continue
    return found / len(entries)
