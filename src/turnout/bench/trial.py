"""One method on all folds: fitted, swept, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.bench import measures, sweep
from turnout.bench.sweep import Played, Sweep
from turnout.core import Budget, InputError, Outcomes, Predictor, Recipe, Router, Sequential
from turnout.core._check import Float, Int
from turnout.parts.decide import compile_decider
from turnout.parts.priced import Priced, as_router

__all__ = ["Fold", "Trial", "pooled", "run"]

#: Settings of the knob for what cannot be swept exactly.
_SETTINGS = 12
#: Prompts timed one by one, and the most seconds spent on it.
_TIMED, _TIMED_SECONDS = 2000, 3.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Fold:
    """What to learn from and what to judge on.

    Parameters
    ----------
    train, test : Outcomes
        No cell of `test` is missing.
    at : array (n_test,)
        Where the test rows stand among all rows judged.
    """

    train: Outcomes
    test: Outcomes
    at: Int


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """What came of a method: its sweep, and figures that are not about the frontier."""

    sweep: Sweep
    ece: float
    decision_us_p50: float
    decision_us_p99: float
    fit_seconds: float


def pooled(
    folds: Sequence[Fold], truth: Outcomes, predict: Callable[[Fold], tuple[Float, Float]]
) -> tuple[Float, Float]:
    """Predictions of all rows judged, each by what was learnt without it.

    Raises
    ------
    InputError
        A prediction is not finite, or of another shape than (n, m).
    """
    quality, cost = np.empty((truth.n, truth.m)), np.empty((truth.n, truth.m))
    for fold in folds:
        for table, value, name in zip(
            (quality, cost), predict(fold), ("quality", "cost"), strict=True
        ):
            if value.shape != fold.test.quality.shape or not np.isfinite(value).all():
                rule = f"be finite and of shape {fold.test.quality.shape}"
                raise InputError(f"predicted {name}", rule, value.shape, "Correct the method.")
            table[fold.at] = value
    return quality, cost


def run(
    recipe: Recipe,
    folds: Sequence[Fold],
    truth: Outcomes,
    *,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Trial:
    """Fit on each fold and sweep the knob over all test rows together.

    A predictor's frontier is exact: every breakpoint of its predictions. A cascade is played at
    `_SETTINGS` prices, a plain router at as many mean costs.
    """
    fitted: list[Predictor | Router] = []
    seconds = 0.0
    for number, fold in enumerate(folds):
        start = time.perf_counter()
        rng = np.random.default_rng([seed, number])
        fitted.append(recipe.fit(fold.train, fold.train.pool(), rng=rng))
        seconds += time.perf_counter() - start
        tick()
    low, high = truth.mean_cost().min(), truth.mean_cost().max()
    scale = 1.0 / (high - low) if high > low else 1.0
    first = fitted[0]
    calibration = float("nan")
    if isinstance(first, Sequential):
        at = [*(scale * np.logspace(2, -2, _SETTINGS - 1)), 0.0]
        knobs = [Budget(price=float(price)) for price in at]
        found = sweep.from_rows(_played(fitted, folds, truth, knobs, seed), truth, at)
    elif isinstance(first, Router):
        knobs = [*(Budget(mean_cost=c) for c in np.linspace(low, high, _SETTINGS - 1)), Budget()]
        found = sweep.from_rows(_played(fitted, folds, truth, knobs, seed), truth)
    else:
        by_fold = {id(fold): router for fold, router in zip(folds, fitted, strict=True)}

        def predict(fold: Fold) -> tuple[Float, Float]:
            predictor = by_fold[id(fold)]
            assert isinstance(predictor, Predictor)
            return predictor.predict(fold.test.inputs)

        quality, cost = pooled(folds, truth, predict)
        calibration = measures.ece(np.clip(quality, 0.0, 1.0), truth.quality)
        found = sweep.from_predictions(quality, cost, truth)
    p50, p99 = _decision_times(first, folds[0], Budget(price=scale))
    return Trial(
        sweep=found,
        ece=calibration,
        decision_us_p50=p50,
        decision_us_p99=p99,
        fit_seconds=seconds,
    )


def _played(
    fitted: Sequence[Predictor | Router],
    folds: Sequence[Fold],
    truth: Outcomes,
    knobs: Sequence[Budget],
    seed: int,
) -> list[Played]:
    """Each setting on all rows judged, every row by the router of its fold."""
    result = []
    for setting, budget in enumerate(knobs):
        cost, quality = np.empty(truth.n), np.empty(truth.n)
        asked = np.zeros((truth.n, truth.m), dtype=np.bool_)
        for number, (router, fold) in enumerate(zip(fitted, folds, strict=True)):
            pool = fold.train.pool()
            rng = np.random.default_rng([seed, number, setting])
            if isinstance(router, Sequential):
                part = sweep.play(router, fold.test, pool, budget, rng)
            else:
                assert isinstance(router, Router)
                part = sweep.route(router, fold.test, pool, budget, rng)
            cost[fold.at], quality[fold.at], asked[fold.at] = part.cost, part.quality, part.asked
        result.append(Played(cost=cost, quality=quality, asked=asked))
    return result


def _decision_times(fitted: Predictor | Router, fold: Fold, budget: Budget) -> tuple[float, float]:
    """Median and 99th percentile of one decision on one prompt, in microseconds.

    The processor time of this thread, not wall time: on a quiet machine they are the same, and
    on a busy one the other programs' share is not this method's. A predictor decides through the
    compiled path that the gateway takes; a cascade is timed on its first step.
    """
    pool, rng = fold.train.pool(), np.random.default_rng(0)
    router = as_router(fitted)
    decider = compile_decider(router, pool) if isinstance(router, Priced) else None
    price = 0.0 if budget.price is None else budget.price
    inputs = fold.test.inputs
    nothing = np.empty((1, 0), dtype=np.int64)
    taken: list[float] = []
    began = time.perf_counter()
    for i in range(min(len(inputs), _TIMED)):
        one = inputs[i : i + 1]
        start = time.thread_time_ns()
        if decider is not None:
            decider.decide(inputs[i], price)
        elif isinstance(router, Sequential):
            router.proceed(one, nothing, [[]], pool, budget=budget, rng=rng)
        else:
            router.route(one, pool, budget=budget, rng=rng)
        taken.append((time.thread_time_ns() - start) / 1000)
        if time.perf_counter() - began > _TIMED_SECONDS:
            break
    p50, p99 = np.quantile(taken, [0.5, 0.99])
    return float(p50), float(p99)
