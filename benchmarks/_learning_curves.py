"""What a method is worth after 100, 300, 1,000, ... labelled prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

from _learning_tables import Table  # type: ignore[import-not-found,unused-ignore]
from turnout.bench import landmarks, measures, sweep
from turnout.bench.folds import splits
from turnout.core import InputError, Outcomes, Predictor, Recipe
from turnout.core._check import Float, Int

SIZES = (100, 300, 1_000, 3_000, 10_000)
LANDMARKS = ("prompt length", "group mean (sees label)")

Tick = Callable[[str, int, int], None]
#: From what is learned to the prediction of quality and cost.
Guess = Callable[[Outcomes, Outcomes, int], tuple[Float, Float] | None]


@dataclass(frozen=True)
class Point:
    """One method on so many labelled prompts, over random choices of these."""

    table: str
    protocol: str
    measure: str
    method: str
    prompts: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the choices; NaN where one could not be judged."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation over the choices; NaN of one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


def run(
    table: Table,
    methods: dict[str, Recipe],
    *,
    folds: int,
    seeds: int,
    seed: int,
    groups_out: bool,
    tick: Tick,
) -> list[Point]:
    """Every row judged once by what was fitted on so many rows of the other folds.

    The rows that teach are nested: the first 100 of a random order are among the first 300.
    """
    truth = table.outcomes
    parts = splits(truth, folds=folds, leave_groups_out=groups_out, seed=seed)
    guesses = dict(_guesses(methods, seed))
    if groups_out:
        del guesses[LANDMARKS[1]]  # no label is known there
    least = min(len(train) for train, _ in parts)
    sizes = [size for size in SIZES if size <= least]
    protocol = "subjects left out" if groups_out else "in domain"
    points = []
    done, total = 0, len(guesses) * len(sizes) * seeds
    for size in sizes:
        values: dict[str, list[float]] = {name: [] for name in guesses}
        for choice in range(seeds):
            for name, guess in guesses.items():
                tick(f"{table.name}, {protocol}: {name}, {size:,} prompts", done, total)
                values[name].append(_value(truth, parts, guess, size, [seed, choice]))
                done += 1
        measure = "APGR" if truth.m == 2 else "AIQ"
        points += [
            Point(table.name, protocol, measure, name, size, tuple(found))
            for name, found in values.items()
        ]
    tick(f"{table.name}, {protocol}", total, total)
    return points


def _guesses(methods: dict[str, Recipe], seed: int) -> Iterator[tuple[str, Guess]]:
    length, group = LANDMARKS
    yield length, lambda train, test, number: landmarks.by_length(train, test)
    yield group, lambda train, test, number: landmarks.by_group(train, test)
    for name, recipe in methods.items():
        yield name, _fitting(name, recipe, seed)


def _fitting(name: str, recipe: Recipe, seed: int) -> Guess:
    def guess(train: Outcomes, test: Outcomes, number: int) -> tuple[Float, Float]:
        fitted = recipe.fit(train, train.pool(), rng=np.random.default_rng([seed, number]))
        if not isinstance(fitted, Predictor):
            raise InputError("--method", "predict quality and cost", name, "Such as linear.")
        return fitted.predict(test.inputs)

    return guess


def _value(
    truth: Outcomes, parts: list[tuple[Int, Int]], guess: Guess, size: int, key: list[int]
) -> float:
    """APGR of two models, AIQ of more, over all rows; NaN where nothing can be told."""
    quality, cost = np.empty(truth.quality.shape), np.empty(truth.quality.shape)
    for number, (train, held) in enumerate(parts):
        order = np.random.default_rng([*key, number]).permutation(train)
        found = guess(truth.take(order[:size]), truth.take(held), number)
        if found is None:
            return math.nan
        quality[held], cost[held] = found
    made = sweep.from_predictions(quality, cost, truth)
    if truth.m == 2:
        return math.nan if made.recovery is None else measures.apgr(*made.recovery)
    mean = truth.mean_cost()
    return made.frontier.hull().aiq((float(mean.min()), float(mean.max())))


def show(points: list[Point], console: Console) -> None:
    """One table for each set of rows and protocol, a column for each number of prompts."""
    keys = dict.fromkeys((one.table, one.protocol, one.measure) for one in points)
    for name, protocol, measure in keys:
        mine = [one for one in points if (one.table, one.protocol) == (name, protocol)]
        count = max(len(one.values) for one in mine)
        table = RichTable(
            title=f"{measure} by labelled prompts: {name}, {protocol} "
            f"(mean ± standard deviation over {count} choices of prompts)"
        )
        table.add_column("method", no_wrap=True)
        sizes = sorted({one.prompts for one in mine})
        for size in sizes:
            table.add_column(f"{size:,}", justify="right", no_wrap=True)
        for method in dict.fromkeys(one.method for one in mine):
            cells = {one.prompts: one for one in mine if one.method == method}
            table.add_row(
                method,
                *(_cell(cells[size]) for size in sizes),
                style="dim" if method in LANDMARKS else None,
            )
        console.print(table)


def _cell(point: Point) -> str:
    if math.isnan(point.mean):
        return "-"
    spread = "" if math.isnan(point.spread) else f" ± {point.spread:.3f}"
    return f"{point.mean:.3f}{spread}"
