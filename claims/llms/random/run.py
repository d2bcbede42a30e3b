"""Random mixtures of two models against the straight line between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import turnout
from turnout.bench import read
from turnout.core import Budget, Frontier
from turnout.llms.random import Random


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "routellm_gpt4_mixtral.csv.gz").outcomes
    order = np.random.default_rng(seed).permutation(table.n)
    cut = round(0.7 * table.n)
    train, test = table.take(order[:cut]), table.take(order[cut:])
    router = turnout.fit(Random(), train, rng=seed)
    rng, rows = np.random.default_rng([seed, 1]), np.arange(test.n)
    ends = Frontier(test.mean_cost(), test.mean_quality())
    low, high = float(test.mean_cost().min()), float(test.mean_cost().max())
    budgets = np.linspace(low, high, 11)[1:-1]
    spent, reached = np.empty(len(budgets)), np.empty(len(budgets))
    for i, limit in enumerate(budgets):
        budget = Budget(mean_cost=float(limit))
        chosen = router.route(test.inputs, test.pool(), budget=budget, rng=rng).index[:, 0]
        spent[i] = test.cost[rows, chosen].mean()
        reached[i] = test.quality[rows, chosen].mean()
    # the raw points, not their hull: a hull would keep the lucky ones
    cost = np.concatenate(([low], spent, [high]))
    quality = np.concatenate(([test.mean_quality()[0]], reached, [test.mean_quality()[1]]))
    area = float(np.trapezoid(quality, cost) / (high - low))
    return {
        "aiq_minus_line": area - ends.aiq((low, high)),
        "farthest_from_line": float(np.abs(reached - ends.quality_at(spent)).max()),
        "most_overspent": float((spent - budgets).max()),
        "aiq": area,
    }
