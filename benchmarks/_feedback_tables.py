"""Tables, scores and intervals of `feedback.py`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from turnout.bench import measures, read, sweep
from turnout.core import Outcomes, Predictor, Recipe
from turnout.core._check import Bool, Float
from turnout.parts.learners.crossfit import identities

TABLES = {
    "routellm": ("routellm_gpt4_mixtral.csv.gz",),
    "llmrouter": ("llmrouter_9models.csv.gz",),
    "routerbench": tuple(
        f"routerbench_0shot_{name}_{split}.csv.gz"
        for name in ("arc_challenge", "winogrande")
        for split in ("train", "test")
    ),
}
#: US$ per million tokens of the two models of RouteLLM, as its paper counts them (2024,
#: arXiv:2406.18665, cost analysis). The table itself counts calls to the stronger: 0 and 1.
LIST_PRICES = (0.24, 24.7)
#: Told of each step done.
Tick = Callable[[str], None]
#: Rows kept apart to judge on.
HELD = {"routellm": 2500, "llmrouter": 1500, "routerbench": 600}
#: What each table's first measure is.
MEASURE = {"routellm": "APGR", "llmrouter": "AIQ", "routerbench": "AIQ"}


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and half of its 95 % interval by Student's t; NaN with one seed."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ±{self.half:.4f}"

    def signed(self, digits: int = 4) -> str:
        """With a sign, for differences."""
        return f"{self.mean:+.{digits}f} ±{self.half:.{digits}f}"


def spread(values: list[float] | Float) -> Spread:
    """Mean and half interval of figures of several seeds."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return Spread(float(x.mean()), math.nan)
    half = float(student.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Spread(float(x.mean()), half)


def load(name: str, folder: Path, *, list_prices: bool = False) -> Outcomes:
    """A table without blanks and with each prompt once.

    With `list_prices` a cell of RouteLLM costs what its model's tokens cost, and not 0 or 1.
    """
    parts = [read(folder / file).outcomes for file in TABLES[name]]
    whole = parts[0]
    if len(parts) > 1:
        whole = Outcomes(
            inputs=[text for part in parts for text in part.inputs],
            names=whole.names,
            quality=np.concatenate([part.quality for part in parts]),
            cost=np.concatenate([part.cost for part in parts]),
        )
    blank = np.isnan(whole.quality) | np.isnan(whole.cost)
    _, first = np.unique(identities(whole.inputs), return_index=True)
    kept = whole.take(first[~blank[first].any(axis=1)])
    if name == "routellm" and list_prices:
        kept = replace(kept, cost=np.tile(LIST_PRICES, (kept.n, 1)))
    return replace(kept, latency=None, answers=None)


def part(outcomes: Outcomes, which: int) -> Outcomes:
    """One of two halves, by a hash of the prompt, so that no order or seed moves a row."""
    marks = [zlib.crc32(text.encode("utf-8", "surrogatepass")) % 2 for text in outcomes.inputs]
    return outcomes.take(np.array(marks) == which)


def blanked(outcomes: Outcomes, seen: Bool) -> Outcomes:
    """The rows in which something was seen, and only what was seen."""
    rows = np.flatnonzero(seen.any(axis=1))
    table, mask = outcomes.take(rows), seen[rows]
    return replace(
        table,
        quality=np.where(mask, table.quality, np.nan),
        cost=np.where(mask, table.cost, np.nan),
    )


def fit(recipe: Recipe, outcomes: Outcomes, seed: int) -> Predictor:
    """The predictor of a recipe."""
    fitted = recipe.fit(outcomes, outcomes.pool(), rng=np.random.default_rng(seed))
    assert isinstance(fitted, Predictor)
    return fitted


def score(fitted: Predictor, held: Outcomes, name: str) -> float:
    """APGR for two models, AIQ for more, on rows kept apart."""
    found = sweep.from_predictions(*fitted.predict(held.inputs), held)
    if MEASURE[name] == "APGR":
        assert found.recovery is not None
        return measures.apgr(*found.recovery)
    single = held.mean_cost()
    return found.frontier.hull().aiq((float(single.min()), float(single.max())))


def fair_price(outcomes: Outcomes) -> float:
    """Half the slope from the cheapest destination to the best: a price at which both are used."""
    quality, cost = outcomes.mean_quality(), outcomes.mean_cost()
    cheap, best = int(cost.argmin()), int(quality.argmax())
    return 0.5 * float((quality[best] - quality[cheap]) / (cost[best] - cost[cheap]))
