"""The part of `feedback.py` on estimates: what logs tell of policies whose value is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.random import Generator

from _feedback_tables import (  # type: ignore[import-not-found,unused-ignore]
    Spread,
    Tick,
    blanked,
    fair_price,
    fit,
    spread,
)
from turnout.core import Frontier, Outcomes, Recipe
from turnout.core._check import Float
from turnout.parts import prices
from turnout.parts.feedback import offpolicy
from turnout.parts.feedback.logged import Log
from turnout.parts.feedback.offpolicy import Judge, Value
from turnout.parts.learners.crossfit import crossfit

CLIP = 10.0


@dataclass(frozen=True)
class Told:
    """How well one estimator told the value of policies from logs."""

    table: str
    logger: str
    rows: int
    policy: str
    estimator: str
    logs: int
    truth: float
    bias: Spread
    error: float
    covered: float
    cost_covered: float
    effective: float


def tell(
    name: str,
    outcomes: Outcomes,
    recipe: Recipe,
    sizes: tuple[int, ...],
    logs: int,
    tick: Tick,
) -> list[Told]:
    """Estimates of policies whose value is known, from many logs of the same world.

    A third of the rows fits the policies; the others are the world, from which logs are drawn
    with replacement, so that the truth of a policy is its mean over them.
    """
    rng = np.random.default_rng(2)
    order = rng.permutation(outcomes.n)
    cut = outcomes.n // 3
    world = outcomes.take(order[cut:])
    quality, cost = fit(recipe, outcomes.take(order[:cut]), 0).predict(world.inputs)
    price = fair_price(outcomes)
    eye = np.eye(outcomes.m)
    utility = (world.quality - price * world.cost).mean(axis=0)
    policies = {
        "router, half price": eye[prices.choose(quality, cost, price / 2)],
        "router": eye[prices.choose(quality, cost, price)],
        "router, double price": eye[prices.choose(quality, cost, 2 * price)],
        "always one": np.tile(eye[int(utility.argmax())], (world.n, 1)),
    }
    knobs = offpolicy.spread_prices(quality, cost, 12)
    greedy = 0.2 / outcomes.m + 0.8 * policies["router"]
    loggers = {"uniform": np.full(greedy.shape, 1.0 / outcomes.m), "greedy 0.8": greedy}
    truth = {p: (dense * world.quality).sum(axis=1).mean() for p, dense in policies.items()}
    paid = {p: (dense * world.cost).sum(axis=1).mean() for p, dense in policies.items()}
    area = _true_area(quality, cost, world, knobs)
    rows = []
    for logger, chance in loggers.items():
        for n in sizes:
            found: dict[tuple[str, str], list[Value]] = {}
            areas: dict[str, list[float]] = {}
            for number in range(logs):
                source = np.random.default_rng([number, n, 5])
                for estimator, values, line in judged(
                    recipe, world, chance, n, (quality, cost), policies, knobs, source
                ):
                    for policy, value in values.items():
                        found.setdefault((policy, estimator), []).append(value)
                    areas.setdefault(estimator, []).append(line)
                tick(f"{name}: logs of {n:,} rows, {logger}")
            rows += [
                _told(name, logger, n, policy, estimator, values, truth[policy], paid[policy])
                for (policy, estimator), values in found.items()
            ]
            rows += _areas(name, logger, n, areas, area)
    return rows


def judged(
    recipe: Recipe,
    world: Outcomes,
    chance: Float,
    n: int,
    decides: tuple[Float, Float],
    policies: dict[str, Float],
    knobs: Float,
    rng: Generator,
) -> list[tuple[str, dict[str, Value], float]]:
    """By estimator, what one log of n rows tells of each policy and of the whole curve's AIQ."""
    at = rng.integers(world.n, size=n)
    table = _drawn(world.take(at), chance[at], rng)
    log = Log.of(table)
    predicted = crossfit(recipe, table, folds=3, rng=rng)
    judges: dict[str, Judge] = {
        "IPS": offpolicy.ips,
        "SNIPS": offpolicy.snips,
        "DR": partial(offpolicy.dr, predicted=predicted),
        f"DR, clip {CLIP:g}": partial(offpolicy.dr, predicted=predicted, clip=CLIP),
    }
    found = []
    for estimator, judge in judges.items():
        values = {policy: judge(log, dense[at]) for policy, dense in policies.items()}
        line = offpolicy.curve(log, decides[0][at], decides[1][at], judge=judge, at=knobs)
        found.append((estimator, values, _area(line.frontier(), world)))
    return found


def _drawn(world: Outcomes, chance: Float, rng: Generator) -> Outcomes:
    """A log of these rows: one cell each, drawn by its chance."""
    index = (rng.random((len(chance), 1)) >= np.cumsum(chance, axis=1)[:, :-1]).sum(axis=1)
    mask = np.zeros(chance.shape, dtype=np.bool_)
    mask[np.arange(len(chance)), index] = True
    table: Outcomes = blanked(world, mask)
    return replace(table, propensity=chance)


def _told(
    name: str,
    logger: str,
    n: int,
    policy: str,
    estimator: str,
    values: list[Value],
    truth: float,
    paid: float,
) -> Told:
    quality = np.array([value.quality.value for value in values])
    return Told(
        table=name,
        logger=logger,
        rows=n,
        policy=policy,
        estimator=estimator,
        logs=len(values),
        truth=float(truth),
        bias=spread(quality - truth),
        error=float(np.sqrt(((quality - truth) ** 2).mean())),
        covered=float(
            np.mean([value.quality.low <= truth <= value.quality.high for value in values])
        ),
        cost_covered=float(
            np.mean([value.cost.low - 1e-12 <= paid <= value.cost.high + 1e-12 for value in values])
        ),
        effective=float(np.mean([value.effective for value in values])),
    )


def _area(frontier: Frontier, world: Outcomes) -> float:
    single = world.mean_cost()
    return float(frontier.hull().aiq((float(single.min()), float(single.max()))))


def _true_area(quality: Float, cost: Float, world: Outcomes, knobs: Float) -> float:
    rows = np.arange(world.n)
    choices = [prices.choose(quality, cost, float(price)) for price in knobs]
    true = Frontier(
        np.array([world.cost[rows, choice].mean() for choice in choices]),
        np.array([world.quality[rows, choice].mean() for choice in choices]),
    )
    return _area(true, world)


def _areas(
    name: str, logger: str, n: int, areas: dict[str, list[float]], truth: float
) -> list[Told]:
    rows = []
    for estimator, values in areas.items():
        missed = np.array(values) - truth
        rows.append(
            Told(
                table=name,
                logger=logger,
                rows=n,
                policy="whole curve (AIQ)",
                estimator=estimator,
                logs=len(values),
                truth=truth,
                bias=spread(missed),
                error=float(np.sqrt((missed**2).mean())),
                covered=math.nan,
                cost_covered=math.nan,
                effective=math.nan,
            )
        )
    return rows
