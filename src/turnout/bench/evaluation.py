"""Methods and landmarks on one table, out of fold, under one range of costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from turnout.bench import landmarks, measures, sweep
from turnout.bench.bands import frontier_band
from turnout.bench.folds import splits
from turnout.bench.reader import leaks
from turnout.bench.results import Evaluation, Row
from turnout.bench.sweep import Sweep
from turnout.bench.trial import Fold, Trial, pooled, run
from turnout.core import (
    DataError,
    Frontier,
    InputError,
    MissingExtraError,
    Outcomes,
    Recipe,
    _check,
)
from turnout.core._check import Bool, Int
from turnout.parts.learners.crossfit import take_training

__all__ = ["evaluate"]


def evaluate(
    outcomes: Outcomes,
    methods: Mapping[str, Recipe],
    *,
    test: Outcomes | None = None,
    folds: int = 5,
    leave_groups_out: bool = False,
    seed: int = 0,
    resamples: int = 1000,
    may_fail: Collection[str] = (),
    tick: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Evaluation:
    """Judge methods beside the landmarks.

    Every row is judged by what was fitted without it: by k folds, by folds of whole groups, or
    on another table. The predictions of all folds are pooled and swept under one price. Rows in
    which a destination was never seen teach, but do not judge: there the cost or quality of a
    choice would be unknown.

    Parameters
    ----------
    outcomes : Outcomes
        The table to learn from, and without `test` to judge on.
    methods : mapping of str to Recipe
        By the name to print.
    test : Outcomes, optional
        Judge on this table; it must hold the same destinations.
    folds : int
        Number of parts.
    leave_groups_out : bool
        Make the parts of whole groups.
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
        The table has one destination, or no row in which all were seen.
    InputError
        An option breaks a rule, or a method refuses the table.
    """
    _check.integer("resamples", resamples, low=1)
    _check.integer("seed", seed, low=0)
    truth, parts, protocol, notes = _arrange(outcomes, test, folds, leave_groups_out, seed)
    units = len(methods) * len(parts) + 1
    done = 0

    def ticked(name: str) -> Callable[[], None]:
        def one() -> None:
            nonlocal done
            done += 1
            tick(name, done, units)

        return one

    low, high = float(truth.mean_cost().min()), float(truth.mean_cost().max())
    best = landmarks.singles(truth).best
    target = float(truth.quality[:, best].mean())
    rows = _landmark_rows(truth, parts)
    sweeps: list[Sweep | None] = [found for _, found in rows]
    made = [row for row, _ in rows]
    skipped = []
    for name, recipe in methods.items():
        tick(name, done, units)
        before = done
        try:
            trial = run(recipe, parts, truth, seed=seed, tick=ticked(name))
        except (InputError, MissingExtraError) as error:
            if name not in may_fail:
                raise
            skipped.append((name, str(error)))
            done = before + len(parts)
            continue
        made.append(_method_row(name, trial))
        sweeps.append(trial.sweep)
    tick("intervals", done, units)
    curves = [found for found in sweeps if found is not None]
    rng = np.random.default_rng([seed, 1])
    samples = measures.resampled_aiq(
        [(found.cost, found.quality) for found in curves],
        truth.cost,
        resamples=resamples,
        rng=rng,
    )
    finished, column = [], 0
    for row, found in zip(made, sweeps, strict=True):
        if found is None:
            finished.append(row)
            continue
        finished.append(_measured(row, found, samples[:, column], (low, high), target))
        column += 1
    _band_of_best(finished, sweeps, high, resamples, np.random.default_rng([seed, 2]))
    tick("intervals", units, units)
    return Evaluation(
        rows=tuple(finished),
        names=truth.names,
        single_cost=truth.mean_cost(),
        single_quality=truth.mean_quality(),
        n=truth.n,
        total=(outcomes if test is None else test).n,
        groups=None if truth.group is None else len(set(truth.group)),
        protocol=protocol,
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _band_of_best(
    rows: list[Row],
    sweeps: list[Sweep | None],
    high: float,
    resamples: int,
    rng: np.random.Generator,
) -> None:
    """Give the method of highest AIQ the band of its curve."""
    ran = [k for k, row in enumerate(rows) if not row.landmark and not math.isnan(row.aiq)]
    if not ran:
        return
    best = max(ran, key=lambda k: rows[k].aiq)
    found, frontier = sweeps[best], rows[best].frontier
    assert found is not None
    assert frontier is not None
    band = frontier_band(found.cost, found.quality, frontier, high, resamples=resamples, rng=rng)
    rows[best] = replace(rows[best], band=band)


def _arrange(
    outcomes: Outcomes, test: Outcomes | None, folds: int, leave_groups_out: bool, seed: int
) -> tuple[Outcomes, list[Fold], str, list[str]]:
    """Rows that judge, the folds, and how to say so."""
    if outcomes.m < 2:
        hint = "With one destination there is nothing to route."
        raise DataError("the table", "hold at least two destinations", outcomes.m, hint)
    notes = []
    if test is not None:
        missing = [name for name in outcomes.names if name not in test.names]
        if missing:
            hint = f"It holds: {', '.join(test.names)}."
            raise DataError("the test table", f"hold {missing[0]!r}", "no such column", hint)
        judged = test.select(outcomes.names)
        found = [(np.arange(outcomes.n), np.arange(judged.n))]
        protocol = f"fitted on {outcomes.n:,} rows, judged on another table, seed {seed}"
        repeats = leaks(outcomes, judged)
        if repeats:
            notes.append(f"{repeats:,} of {judged.n:,} test rows repeat a training prompt")
    else:
        judged = outcomes
        found = splits(outcomes, folds=folds, leave_groups_out=leave_groups_out, seed=seed)
        kind = "whole groups left out" if leave_groups_out else "out of fold, pooled"
        protocol = f"{len(found)} folds, {kind}, seed {seed}"
    blank = np.isnan(judged.quality) | np.isnan(judged.cost)
    complete: Bool = np.asarray(~blank.any(axis=1))
    if not complete.any():
        rule = "hold rows in which every destination has a quality and a cost"
        hint = "A log of single choices is judged with its propensities, and in folds of rows only."
        if (~np.isnan(judged.quality)).all(axis=1).any():
            hint = "Give the cost of each answer, or a price table."
        raise DataError("the table", rule, f"none of {judged.n}", hint)
    where: Int = np.flatnonzero(complete)
    parts = []
    for train, held in found:
        rows = held[complete[held]]
        if len(rows):
            parts.append(
                Fold(
                    train=take_training(outcomes, train),
                    test=judged.take(rows),
                    at=np.searchsorted(where, rows),
                )
            )
    if not complete.all():
        use = "they teach, but do not judge" if test is None else "they do not judge"
        notes.append(f"{judged.n - len(where):,} of {judged.n:,} rows have a blank: {use}")
    return judged.take(where), parts, protocol, notes


def _landmark_rows(truth: Outcomes, parts: list[Fold]) -> list[tuple[Row, Sweep | None]]:
    ends = landmarks.singles(truth)
    quality, cost = truth.quality, truth.cost
    pair = [ends.cheapest, ends.best]

    def point(name: str, j: int) -> tuple[Row, None]:
        match = float(cost[:, j].mean()) if j == ends.best else math.nan
        return Row(
            method=name,
            landmark=True,
            quality=float(quality[:, j].mean()),
            cost=float(cost[:, j].mean()),
            cost_to_match=match,
        ), None

    def curve(name: str, found: Sweep, ece: float = math.nan) -> tuple[Row, Sweep]:
        return Row(method=name, landmark=True, quality=0.0, cost=0.0, ece=ece), found

    rows: list[tuple[Row, Sweep | None]] = [
        curve("random_mixture", _mixture(truth, pair)),
        point("cheapest", ends.cheapest),
        point("best_single", ends.best),
        curve("zero_router", _mixture(truth, list(range(truth.m)))),
    ]
    guess = pooled(parts, truth, lambda fold: landmarks.by_length(fold.train, fold.test))
    rows.append(
        curve(
            "prompt_length",
            sweep.from_predictions(*guess, truth),
            measures.ece(guess[0], truth.quality),
        )
    )
    rows.append(_group_row(truth, parts))
    rows.append(curve("oracle", sweep.from_predictions(quality, cost, truth)))
    return rows


def _group_row(truth: Outcomes, parts: list[Fold]) -> tuple[Row, Sweep | None]:
    """The group-mean landmark; without figures where the labels tell nothing."""
    found = [landmarks.by_group(fold.train, fold.test) for fold in parts]
    known = [guess for guess in found if guess is not None]
    if len(known) < len(parts):
        return Row(method="group_mean", landmark=True, quality=math.nan, cost=math.nan), None
    made = {id(fold): guess for fold, guess in zip(parts, known, strict=True)}
    quality, cost = pooled(parts, truth, lambda fold: made[id(fold)])
    row = Row(
        method="group_mean",
        landmark=True,
        quality=0.0,
        cost=0.0,
        ece=measures.ece(quality, truth.quality),
    )
    return row, sweep.from_predictions(quality, cost, truth)


def _mixture(truth: Outcomes, columns: list[int]) -> Sweep:
    """Random mixtures of some single destinations; with two, they know nothing of the input."""
    cost, quality = truth.cost[:, columns], truth.quality[:, columns]
    recovery = None
    if truth.m == 2 and quality[:, 0].mean() != quality[:, 1].mean():
        recovery = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    frontier = Frontier(cost.mean(axis=0), quality.mean(axis=0))
    return Sweep(frontier=frontier, cost=cost, quality=quality, recovery=recovery)


def _method_row(name: str, trial: Trial) -> Row:
    return Row(
        method=name,
        landmark=False,
        quality=0.0,
        cost=0.0,
        ece=trial.ece,
        decision_us_p50=trial.decision_us_p50,
        decision_us_p99=trial.decision_us_p99,
        fit_seconds=trial.fit_seconds,
    )


def _measured(
    row: Row, found: Sweep, samples: np.ndarray, costs: tuple[float, float], target: float
) -> Row:
    """The row with every measure of its frontier filled in.

    The policies kept for resampling may lack a vertex of the hull; the samples are moved by what
    that costs on the whole table, so that they lie around the figure they belong to.
    """
    hull = found.frontier.hull()
    aiq = hull.aiq(costs)
    kept = Frontier(found.cost.mean(axis=0, dtype=float), found.quality.mean(axis=0, dtype=float))
    samples = samples + (aiq - kept.aiq((min(kept.cost.min(), costs[0]), costs[1])))
    low, high = np.quantile(samples, [0.025, 0.975])
    two = found.recovery
    return replace(
        row,
        frontier=found.frontier,
        quality=float(hull.quality[-1]),
        cost=float(hull.cost[-1]),
        aiq=aiq,
        aiq_low=float(low),
        aiq_high=float(high),
        apgr=math.nan if two is None else measures.apgr(*two),
        cpt50=math.nan if two is None else measures.cpt(*two, 0.5),
        cpt80=math.nan if two is None else measures.cpt(*two, 0.8),
        cost_to_match=hull.cost_to_match(target),
        hypervolume=found.frontier.hypervolume((costs[1], 0.0)),
        samples=samples,
    )
