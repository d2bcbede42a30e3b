"""Clusters against the best single model on nine open models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import turnout
from turnout.bench import evaluate, read
from turnout.core import Budget
from turnout.llms.clusters import Clusters


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "llmrouter_9models.csv.gz").outcomes
    order = np.random.default_rng(seed).permutation(table.n)
    cut = round(0.7 * table.n)
    train, test = table.take(order[:cut]), table.take(order[cut:])
    recipe = Clusters()
    found = evaluate(train, {"clusters": recipe}, test=test, seed=seed, resamples=1)
    router = turnout.fit(recipe, train, rng=seed)
    rng = np.random.default_rng(seed)
    chosen = router.route(test.inputs, test.pool(), budget=Budget(), rng=rng).index[:, 0]
    reached = float(test.quality[np.arange(test.n), chosen].mean())
    row, best = found.row("clusters"), found.row("best_single")
    match = row.cost_to_match
    return {
        "gain_over_best_single": reached - best.quality,
        # one that never matches pays all of it
        "cost_share_to_match": 1.0 if np.isnan(match) else match / best.cost,
        "aiq_minus_zero": row.aiq - found.row("zero_router").aiq,
        "aiq": row.aiq,
        "group_mean_aiq": found.row("group_mean").aiq,
        "oracle_aiq": found.row("oracle").aiq,
    }
