"""Order of strengths from votes, against the order of means over the whole table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from turnout.bench import read
from turnout.core import Outcomes
from turnout.core._check import Float
from turnout.llms.ratings import FittedRatings, Ratings
from turnout.parts.learners.ratings import from_votes

VOTES = 2000


def run(seed: int, data: Path | None) -> dict[str, float]:
    assert data is not None
    table = read(data / "llmrouter_9models.csv.gz").outcomes
    truth = table.mean_quality()
    rng = np.random.default_rng(seed)
    votes, hard = _votes(table, rng), _confounded(table, rng)
    confounded = _tau(_fit(hard, rng).strength, truth)
    by_mean = _tau(hard.mean_quality(), truth)
    return {
        "tau_votes": _tau(_fit(votes, rng).strength, truth),
        "tau_table": _tau(_fit(table, rng).strength, truth),
        "tau_gain_confounded": confounded - by_mean,
        "tau_confounded": confounded,
        "tau_confounded_means": by_mean,
    }


def _fit(table: Outcomes, rng: np.random.Generator) -> FittedRatings:
    return Ratings().fit(table, table.pool(), rng=rng)


def _tau(one: Float, other: Float) -> float:
    return float(kendalltau(one, other).statistic)


def _votes(table: Outcomes, rng: np.random.Generator) -> Outcomes:
    """Two random models on random prompts: 1, 0 or a half to the first."""
    rows = rng.integers(0, table.n, VOTES)
    first = rng.integers(0, table.m, VOTES)
    second = (first + rng.integers(1, table.m, VOTES)) % table.m
    won = 0.5 + 0.5 * np.sign(table.quality[rows, first] - table.quality[rows, second])
    texts = [table.inputs[row] for row in rows]
    return from_votes(texts, table.names, first, second, won)


def _confounded(table: Outcomes, rng: np.random.Generator) -> Outcomes:
    """Two neighbours in strength a prompt, the stronger pairs on the harder prompts."""
    order = np.argsort(table.mean_quality())
    hardness = -table.quality.mean(axis=1) + 0.1 * rng.standard_normal(table.n)
    rank = np.argsort(np.argsort(hardness)) / table.n
    pair = np.minimum((rank * (table.m - 1)).astype(int), table.m - 2)
    rows = np.arange(table.n)
    quality = np.full_like(table.quality, np.nan)
    for column in (order[pair], order[pair + 1]):
        quality[rows, column] = table.quality[rows, column]
    return replace(table, quality=quality)
