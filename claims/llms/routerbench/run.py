"""Replays of a capped cascade with an error-prone judge against the zero router."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from turnout.bench import evaluate, read
from turnout.core import Frontier, Outcomes
from turnout.llms.linear import Linear
from turnout.llms.routerbench import replay
from turnout.parts.stopping import by_price

SUBSETS = ("arc_challenge", "winogrande")
ERRORS = (0.0, 0.1, 0.2, 0.4)
CAPS = (*np.geomspace(1e-4, 1e-1, 23), np.inf)
DRAWS = 5


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = _pooled(
        [
            read(data / f"routerbench_0shot_{subset}_{part}.csv.gz").outcomes
            for subset in SUBSETS
            for part in ("train", "test")
        ]
    )
    order = np.random.default_rng(seed).permutation(table.n)
    cut = round(0.7 * table.n)
    train, test = table.take(order[:cut]), table.take(order[cut:])
    found = evaluate(train, {"linear": Linear()}, test=test, seed=seed, resamples=1)
    blank = np.isnan(test.quality) | np.isnan(test.cost)
    test = test.take(np.flatnonzero(~blank.any(axis=1)))
    zero = found.row("zero_router").aiq
    bar = float(np.nanquantile(train.quality, 0.95))
    aiq = [_cascade(train, test, bar, error, seed) for error in ERRORS]
    return {
        "error_0_minus_zero": aiq[0] - zero,
        "error_10_minus_zero": aiq[1] - zero,
        "error_20_minus_zero": aiq[2] - zero,
        "error_40_minus_zero": aiq[3] - zero,
        "least_step_down": float(-np.diff(aiq).max()),
        "linear_minus_zero": found.row("linear").aiq - zero,
        "oracle_minus_zero": found.row("oracle").aiq - zero,
        "zero_aiq": zero,
    }


def _cascade(train: Outcomes, test: Outcomes, bar: float, error: float, seed: int) -> float:
    """AIQ of the cascade's hull over its caps, each point the mean of some draws."""
    order = by_price(train)
    cost, quality = [], []
    for cap in CAPS:
        played = [
            replay(
                test.quality,
                test.cost,
                order=order,
                bar=bar,
                error=error,
                max_cost=float(cap),
                rng=np.random.default_rng([seed, draw]),
            )
            for draw in range(DRAWS)
        ]
        cost.append(np.mean([one.cost.mean() for one in played]))
        quality.append(np.mean([one.quality.mean() for one in played]))
    ends = (float(test.mean_cost().min()), float(test.mean_cost().max()))
    return Frontier(np.array(cost), np.array(quality)).aiq(ends)


def _pooled(tables: list[Outcomes]) -> Outcomes:
    first = tables[0]
    same = [table.select(first.names) for table in tables]
    return Outcomes(
        inputs=tuple(text for table in same for text in table.inputs),
        names=first.names,
        quality=np.concatenate([table.quality for table in same]),
        cost=np.concatenate([table.cost for table in same]),
    )
