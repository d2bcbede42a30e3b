"""Methods and landmarks judged by a log of single choices, where no row tells all destinations.

A full table says what every choice would have earned; a log says it of one choice a row, and with
what probability that was made. Its rows are turned into the table of
`turnout.parts.feedback.offpolicy.credit`, whose means over the cells that a policy chooses are
doubly robust estimates of what that policy earns and spends. The predictions within are those of
the length of the prompt, out of fold, for every method alike: no method is judged by its own word.

What differs from a full table: figures are estimates, with wider intervals. AIQ is the area under
the estimated path at `POINTS` prices (`turnout.parts.feedback.offpolicy.path_area`) and not under
its hull, which would pick the lucky among noisy points; it is a little lower than the AIQ of the
same router on a full table. Best quality is that at price 0. Cost to match and the plotted curve
are still read off the hull, and flatter. There is no oracle and no group mean, and no decision is
timed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from turnout import catalog
from turnout.bench import measures
from turnout.bench.results import Evaluation, Row
from turnout.core import (
    DataError,
    Frontier,
    InputError,
    MissingExtraError,
    Outcomes,
    Recipe,
    _check,
)
from turnout.core._check import Float
from turnout.parts import prices
from turnout.parts.feedback.logged import Log
from turnout.parts.feedback.offpolicy import credit, dr, path_area, spread_prices
from turnout.parts.learners.crossfit import crossfit

__all__ = ["POINTS", "evaluate_log", "is_log"]

#: Prices at which a curve is estimated.
POINTS = 24


@dataclass(frozen=True, eq=False)
class _Sweep:
    """Estimated points, and each row's part in them, (n, p) twice."""

    frontier: Frontier
    cost: Float
    quality: Float
    recovery: tuple[Float, Float] | None = None


def is_log(outcomes: Outcomes) -> bool:
    """Whether a table has propensities and no row in which more than one destination was seen."""
    return outcomes.propensity is not None and int(outcomes.seen.sum(axis=1).max()) <= 1


def evaluate_log(
    outcomes: Outcomes,
    methods: Mapping[str, Recipe],
    *,
    folds: int = 5,
    seed: int = 0,
    resamples: int = 1000,
    may_fail: Collection[str] = (),
    tick: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Evaluation:
    """Judge methods beside the landmarks, by a log.

    Parameters
    ----------
    outcomes : Outcomes
        One seen cell a row, with its cost and propensity.
    methods : mapping of str to Recipe
        By the name to print.
    folds : int
        Number of parts; every row is decided by what was fitted without it.
    seed : int
        Of folds, fits and resamples.
    resamples : int
        Bootstrap samples of the rows, the same for every method.
    may_fail : collection of str
        Methods to pass over, with the reason, where this table is not for them.
    tick : callable (label, done, total)
        Told of progress.

    Raises
    ------
    DataError
        The table has one destination.
    InputError
        The table is no log, an option breaks a rule, or a method refuses the table.
    """
    _check.integer("resamples", resamples, low=1)
    _check.integer("seed", seed, low=0)
    if outcomes.m < 2:
        hint = "With one destination there is nothing to route."
        raise DataError("the table", "hold at least two destinations", outcomes.m, hint)
    log = Log.of(outcomes)
    units = len(methods) + 2

    def predicted(recipe: Recipe) -> tuple[Float, Float]:
        # the folds are dealt from the generator first, so that they are the same for all
        return crossfit(recipe, outcomes, folds=folds, rng=np.random.default_rng([seed, 2]))

    length = predicted(catalog.recipe("llms.length")())
    truth = credit(log, predicted=length)
    single_quality = truth[0].mean(axis=0)
    single_cost = np.maximum(truth[1].mean(axis=0), 0.0)
    cheapest = int(np.lexsort((-single_quality, single_cost))[0])
    best = int(np.lexsort((single_cost, -single_quality))[0])
    tick("landmarks", 1, units)

    def single(columns: list[int]) -> _Sweep:
        straight = (np.array([0.0, 1.0]), np.array([0.0, 1.0])) if outcomes.m == 2 else None
        return _sweep(truth[1][:, columns], truth[0][:, columns], straight)

    made: list[tuple[Row, _Sweep | None]] = [
        (_row("random_mixture", landmark=True), single([cheapest, best])),
        (_point("cheapest", cheapest, best, single_quality, single_cost), None),
        (_point("best_single", best, best, single_quality, single_cost), None),
        (_row("zero_router", landmark=True), single(_hull(single_cost, single_quality))),
        (_row("prompt_length", landmark=True), _routed(length, truth, best)),
        (_row("group_mean", landmark=True, quality=math.nan, cost=math.nan), None),
        (_row("oracle", landmark=True, quality=math.nan, cost=math.nan), None),
    ]
    skipped, effective = [], []
    for done, (name, recipe) in enumerate(methods.items(), start=1):
        tick(name, done, units)
        try:
            guess = predicted(recipe)
        except (InputError, MissingExtraError) as error:
            if name not in may_fail:
                raise
            skipped.append((name, str(error)))
            continue
        ece = measures.ece(np.clip(guess[0], 0.0, 1.0), outcomes.quality)
        made.append((_row(name, landmark=False, ece=ece), _routed(guess, truth, best)))
        freest = np.eye(outcomes.m)[prices.choose(*guess, 0.0)]
        effective.append(dr(log, freest, length).effective)
    tick("intervals", units - 1, units)
    weights = _bootstrap(outcomes.n, resamples, np.random.default_rng([seed, 1]))
    singles = weights @ truth[1]
    rows = []
    for row, found in made:
        if found is None:
            rows.append(row)
            continue
        samples = path_area(
            weights @ found.cost, weights @ found.quality, singles.min(axis=1), singles.max(axis=1)
        )
        rows.append(_measured(row, found, samples, single_cost, float(single_quality[best])))
    tick("intervals", units, units)
    notes = ["a log of single choices: all figures are doubly robust estimates"]
    if effective:
        least = f"{min(effective):,.0f}"
        notes.append(f"without a price, no method is judged by fewer than {least} effective rows")
    return Evaluation(
        rows=tuple(rows),
        names=outcomes.names,
        single_cost=single_cost,
        single_quality=single_quality,
        n=outcomes.n,
        total=outcomes.n,
        groups=None if outcomes.group is None else len(set(outcomes.group)),
        protocol=f"{folds} folds, out of fold, judged by the log, seed {seed}",
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _hull(cost: Float, quality: Float) -> list[int]:
    """Columns of the destinations whose mixtures are best, by rising cost."""
    kept = Frontier(cost, quality, np.arange(len(cost), dtype=np.float64)).hull().knob
    assert kept is not None
    return [int(j) for j in kept]


def _row(
    method: str,
    *,
    landmark: bool,
    quality: float = 0.0,
    cost: float = 0.0,
    ece: float = math.nan,
) -> Row:
    return Row(method=method, landmark=landmark, quality=quality, cost=cost, ece=ece)


def _point(method: str, j: int, best: int, quality: Float, cost: Float) -> Row:
    return Row(
        method=method,
        landmark=True,
        quality=float(quality[j]),
        cost=float(cost[j]),
        cost_to_match=float(cost[j]) if j == best else math.nan,
    )


def _sweep(cost: Float, quality: Float, recovery: tuple[Float, Float] | None = None) -> _Sweep:
    frontier = Frontier(np.maximum(cost.mean(axis=0), 0.0), quality.mean(axis=0))
    return _Sweep(frontier, cost, quality, recovery)


def _routed(guess: tuple[Float, Float], truth: tuple[Float, Float], best: int) -> _Sweep:
    """Estimated points of `argmax_j quality - price * cost`, from the cheapest to the freest."""
    quality, cost = truth
    rows = np.arange(len(quality))
    choices = [prices.choose(*guess, float(price)) for price in spread_prices(*guess, POINTS)]
    recovery = None
    if quality.shape[1] == 2:
        weak, strong = 1 - best, best
        score = guess[0][:, strong] - guess[0][:, weak]
        recovery = measures.recovery(score, quality[:, weak], quality[:, strong])
    return _sweep(
        np.stack([cost[rows, choice] for choice in choices], axis=1),
        np.stack([quality[rows, choice] for choice in choices], axis=1),
        recovery,
    )


def _bootstrap(n: int, resamples: int, rng: np.random.Generator) -> Float:
    """Weights (resamples, n) of the rows in each sample, summing to one."""
    counts = np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples)])
    return np.asarray(counts / n)


def _measured(row: Row, found: _Sweep, samples: Float, single_cost: Float, target: float) -> Row:
    """The row with every measure of its estimated path filled in."""
    hull = found.frontier.hull()
    low, high = np.quantile(samples, [0.025, 0.975])
    costs = (float(single_cost.min()), float(single_cost.max()))
    cost, quality = found.cost.mean(axis=0), found.quality.mean(axis=0)
    two = found.recovery
    return Row(
        method=row.method,
        landmark=row.landmark,
        quality=float(quality[-1]),
        cost=float(max(cost[-1], 0.0)),
        frontier=found.frontier,
        aiq=float(path_area(cost, quality, np.array(costs[0]), np.array(costs[1]))),
        aiq_low=float(low),
        aiq_high=float(high),
        apgr=math.nan if two is None else measures.apgr(*two),
        cpt50=math.nan if two is None else measures.cpt(*two, 0.5),
        cpt80=math.nan if two is None else measures.cpt(*two, 0.8),
        cost_to_match=hull.cost_to_match(target),
        ece=row.ece,
        hypervolume=found.frontier.hypervolume((costs[1], 0.0)),
        samples=samples,
    )
