"""Measures whether promises about routing hold on rows they were not made on, and what they cost.

    python benchmarks/guarantees.py --data DIR [--json FILE] [--method NAME]

Two real tables; every row is predicted by a router fitted without it (five folds, rows of one
prompt together). Then, 200 times over, some rows are taken to calibrate on, three promises are made
at three levels each, and the price found is judged on rows it was not found on:

* *drawn*: half as many rows as the table has, drawn from it with replacement; judged on the whole
  table. Here the table is the world and its risk at a price is known, not estimated, so that this
  is the theorem's own case. A promise with confidence 0.9 must hold in nine draws of ten at least,
  which is a share of draws no lower than the lower end of the 95 % interval of a binomial; one of
  expectation must have a mean risk no higher than its level by more than two standard errors. Mark.
* *halves*: a random half; judged on the other half. That one has luck of its own, as large as that
  of the first, so that a promise about the truth may look broken on it more often than it says (and
  no mark is set); a promise of expectation is one about the next row, and keeps its mark.
* *other groups*: the rows of a random half of the groups (subjects, benchmarks); judged on those of
  the others. New requests are not drawn as the rows were, nothing is promised, and this shows what
  then happens. No mark.

Promises: few wrong answers from another than the strong model (`limit_wrong`, in expectation), the
mean quality at least a floor between that of the cheapest and of the best model (`keep_quality`),
and at most a margin below the best (`keep_up`). The strong model is the best of the whole table.
With nine models the router sends most requests to others than the strong one even at price zero, so
that the levels of wrong answers are higher there. A refusal counts as kept, and in expectation as
risk zero, for everything then goes to the strong model; other mean risks, and all costs, are over
the draws in which something was promised.

Beside each stands what happens without a test: the last price at which the calibration rows
themselves keep to the level ("untested"). Costs are given by the least cost of any price that
keeps to the level on the rows judged on ("oracle"), and by that of always asking the strong model.
`routellm` counts calls to the strong model; `llmrouter` is in US$.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from turnout.bench import contestants, read
from turnout.bench.folds import splits
from turnout.core import DataError, InputError, Outcomes, Recipe
from turnout.core._check import Float, Int
from turnout.parts import priced
from turnout.parts.guarantees.conformal import Guarantee, keep_quality, keep_up, limit_wrong
from turnout.parts.guarantees.heldout import HeldOut

TABLES = {"routellm": "routellm_gpt4_mixtral.csv.gz", "llmrouter": "llmrouter_9models.csv.gz"}
ALPHAS = {"routellm": (0.05, 0.1, 0.2), "llmrouter": (0.3, 0.35, 0.4)}
FLOORS, MARGINS = (0.5, 0.75, 0.9), (0.0, 0.02, 0.05)
CONFIDENCE, FOLDS, DRAWS = 0.9, 5, 200
SETTINGS = ("drawn", "halves", "other groups")


@dataclass(frozen=True, eq=False)
class World:
    """A table with predictions of every row by a router that has not seen it."""

    name: str
    quality: Float
    cost: Float
    true_quality: Float
    true_cost: Float
    group: Int
    strong: int
    cheapest: int

    def rows(self, rows: Int) -> HeldOut:
        """Some of the rows, with repeats."""
        tables = (self.quality, self.cost, self.true_quality, self.true_cost)
        return HeldOut(*(table[rows] for table in tables))

    def draws(self, setting: str, draws: int, seed: int) -> Iterator[tuple[Int, Int]]:
        """Rows to calibrate on and rows to judge on."""
        n, rng = len(self.quality), np.random.default_rng([seed, SETTINGS.index(setting)])
        for _ in range(draws):
            if setting == "drawn":
                yield rng.integers(0, n, n // 2), np.arange(n)
            elif setting == "halves":
                rows = rng.permutation(n)
                yield rows[: n // 2], rows[n // 2 :]
            else:
                order = rng.permutation(int(self.group.max()) + 1)
                size = np.cumsum(np.bincount(self.group)[order])
                mine = np.isin(self.group, order[size <= size[-1] / 2])
                yield np.flatnonzero(mine), np.flatnonzero(~mine)


@dataclass(frozen=True, eq=False)
class Promise:
    """What is asked for, and the limit on the mean of its loss."""

    kind: str
    level: float
    limit: float
    confidence: float | None
    make: Callable[[HeldOut], Guarantee]
    loss: Callable[[HeldOut], Float]


class Curve:
    """Mean loss and cost of some rows at every price."""

    def __init__(self, held: HeldOut, loss: Float) -> None:
        self.risk = held.totals(loss) / held.n
        self.cost = held.totals(held.true_cost) / held.n
        self._held, self._edges = held, held.edges

    def at(self, price: float) -> tuple[float, float]:
        """Risk and cost at a price."""
        point = int(np.searchsorted(-self._edges, -price, side="left")) - 1
        return float(self.risk[point]), float(self.cost[point])

    def least_cost(self, limit: float) -> float:
        """Of any price whose risk is within a limit; NaN where none is."""
        within = self.cost[self.risk <= limit]
        return float(within.min()) if len(within) else math.nan

    def untested(self, limit: float) -> float | None:
        """The last price, from 0 up, before the risk passes a limit."""
        over = np.flatnonzero(self.risk > limit)
        first = int(over[-1]) + 1 if len(over) else 0
        return None if first == len(self.risk) else self._held.within(first)


@dataclass(frozen=True)
class Row:
    """One promise at one level in one setting, over all draws."""

    table: str
    setting: str
    kind: str
    level: float
    limit: float
    confidence: float | None
    draws: int
    given: float
    held: float
    least_held: float | None
    risk: float
    risk_error: float
    untested_held: float
    cost: float
    by_oracle: float
    by_strong: float

    @property
    def marked(self) -> bool:
        """Whether the theorem speaks of this setting."""
        return self.setting == "drawn" or (self.setting == "halves" and self.confidence is None)

    @property
    def passes(self) -> bool:
        """Whether what was promised held, as far as so many draws can tell."""
        if self.least_held is None:
            return self.risk <= self.limit + 2 * self.risk_error
        return self.held >= self.least_held

    @property
    def verdict(self) -> str:
        """In a word."""
        return ("met" if self.passes else "missed") if self.marked else ""


def load(name: str, folder: Path, recipe: Recipe, rows: int | None, seed: int) -> World:
    """A real table, whole rows only, predicted out of fold."""
    outcomes = read(folder / TABLES[name]).outcomes
    blank = np.isnan(outcomes.quality) | np.isnan(outcomes.cost)
    outcomes = outcomes.take(np.flatnonzero(~blank.any(axis=1)))
    if rows is not None and rows < outcomes.n:
        outcomes = outcomes.take(np.random.default_rng(seed).permutation(outcomes.n)[:rows])
    if outcomes.group is None:
        raise DataError(name, "name the group of each row", "no groups", "Use another table.")
    quality, cost = predict(outcomes, recipe, seed)
    numbers = {label: k for k, label in enumerate(dict.fromkeys(outcomes.group))}
    means, costs = outcomes.mean_quality(), outcomes.mean_cost()
    return World(
        name,
        quality,
        cost,
        outcomes.quality,
        outcomes.cost,
        np.array([numbers[label] for label in outcomes.group]),
        int(np.lexsort((costs, -means))[0]),
        int(np.lexsort((-means, costs))[0]),
    )


def predict(outcomes: Outcomes, recipe: Recipe, seed: int) -> tuple[Float, Float]:
    """Quality and cost (n, m) of every row, by what was fitted without it."""
    quality, cost = np.empty(outcomes.quality.shape), np.empty(outcomes.quality.shape)
    for train, test in splits(outcomes, folds=FOLDS, seed=seed):
        router = priced.fit(recipe, outcomes.take(train), rng=seed)
        if not isinstance(router, priced.Priced):
            hint = "Choose one that predicts, such as linear."
            raise InputError("--method", "predict quality and cost", type(router).__name__, hint)
        quality[test], cost[test] = router.predict(outcomes.take(test).inputs)
    return quality, cost


def promises(world: World) -> list[Promise]:
    """Three kinds at three levels each."""
    strong = world.strong
    mean = world.true_quality.mean(axis=0)
    sure_quality = partial(keep_quality, confidence=CONFIDENCE)
    near = partial(keep_up, strong=strong, confidence=CONFIDENCE)
    floors = [
        float(mean[world.cheapest] + part * (mean[strong] - mean[world.cheapest]))
        for part in FLOORS
    ]

    def wrong(held: HeldOut) -> Float:
        loss = 1.0 - held.true_quality
        loss[:, strong] = 0.0
        return loss

    def short(held: HeldOut) -> Float:
        return 1.0 - held.true_quality

    def behind(held: HeldOut) -> Float:
        return np.asarray(held.true_quality[:, [strong]] - held.true_quality)

    return [
        *(
            Promise(
                "wrong weak <=", a, a, None, partial(limit_wrong, strong=strong, alpha=a), wrong
            )
            for a in ALPHAS[world.name]
        ),
        *(
            Promise("quality >=", f, 1 - f, CONFIDENCE, partial(sure_quality, floor=f), short)
            for f in floors
        ),
        *(
            Promise("behind best <=", e, e, CONFIDENCE, partial(near, margin=e), behind)
            for e in MARGINS
        ),
    ]


def measure(
    world: World, setting: str, draws: int, seed: int, tick: Callable[[int], None]
) -> list[Row]:
    """Every promise of a world in one setting."""
    asked = promises(world)
    found: list[list[tuple[float, ...]]] = [[] for _ in asked]
    judged: HeldOut | None = None
    for number, (fit, test) in enumerate(world.draws(setting, draws, seed)):
        tick(number)
        held = world.rows(fit)
        if judged is None or setting != "drawn":
            judged = world.rows(test)
            curves = {one.kind: Curve(judged, one.loss(judged)) for one in asked}
            always = float(judged.true_cost[:, world.strong].mean())
        mine = {one.kind: Curve(held, one.loss(held)) for one in asked}
        for promise, results in zip(asked, found, strict=True):
            curve = curves[promise.kind]
            price = promise.make(held).price
            bare = mine[promise.kind].untested(promise.limit)
            nothing = 0.0 if promise.confidence is None else math.nan
            risk, cost = (nothing, math.nan) if price is None else curve.at(price)
            kept = price is None or risk <= promise.limit
            naive = bare is None or curve.at(bare)[0] <= promise.limit
            oracle = curve.least_cost(promise.limit)
            by_oracle = cost / oracle if oracle > 0 else math.nan
            results.append((price is not None, kept, risk, naive, cost, by_oracle, cost / always))
    return [
        summary(world.name, setting, promise, np.array(results, dtype=float))
        for promise, results in zip(asked, found, strict=True)
    ]


def summary(table: str, setting: str, promise: Promise, results: Float) -> Row:
    """Means over the draws."""
    draws = len(results)

    def mean(column: int, power: int = 1) -> float:
        values = results[~np.isnan(results[:, column]), column]
        return float((values**power).mean()) if len(values) else math.nan

    confidence = promise.confidence
    return Row(
        table=table,
        setting=setting,
        kind=promise.kind,
        level=promise.level,
        limit=promise.limit,
        confidence=confidence,
        draws=draws,
        given=mean(0),
        held=mean(1),
        least_held=None
        if confidence is None
        else float(binom.ppf(0.025, draws, confidence)) / draws,
        risk=mean(2),
        risk_error=math.sqrt(max(mean(2, 2) - mean(2) ** 2, 0.0) / draws),
        untested_held=mean(3),
        cost=mean(4),
        by_oracle=mean(5),
        by_strong=mean(6),
    )


def show(rows: list[Row], setting: str, console: Console) -> None:
    """One line a promise."""
    table = Table("table", "promise", title=f"Promises judged on other rows: {setting}")
    titles = ("given", "held", "at least", "mean risk", "limit", "untested held")
    for title in (*titles, "cost/oracle", "cost/strong", "mark"):
        table.add_column(title, justify="right")
    for row in rows:
        sure = row.confidence is not None
        table.add_row(
            row.table,
            f"{row.kind} {row.level:.3g}",
            f"{row.given:.1%}",
            f"{row.held:.1%}" if sure else "",
            f"{row.least_held:.1%}" if row.least_held is not None and row.marked else "",
            "" if math.isnan(row.risk) else f"{row.risk:.4f}",
            f"{row.limit:.4f}",
            f"{row.untested_held:.1%}",
            "" if math.isnan(row.by_oracle) else f"{row.by_oracle:.3f}",
            "" if math.isnan(row.by_strong) else f"{row.by_strong:.3f}",
            row.verdict,
        )
    console.print(table)


def record(row: Row) -> dict[str, Any]:
    """The row as JSON; what is not a number is null."""
    plain = asdict(row) | {"verdict": row.verdict}
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in plain.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit status 1 where a mark is missed."""
    parser = argparse.ArgumentParser(description="Promises about routing on real tables.")
    parser.add_argument("--data", type=Path, help="folder of the tables (TURNOUT_DATA)")
    parser.add_argument("--json", type=Path, help="write every row here")
    parser.add_argument("--method", default="linear", help="method that predicts")
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of rows a setting")
    parser.add_argument("--rows", type=int, help="take only so many rows of each table")
    parser.add_argument("--seed", type=int, default=0, help="of folds, fits and draws")
    parser.add_argument("--table", action="append", choices=list(TABLES), help="only this table")
    options = parser.parse_args(arguments)
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 140
    if not (options.data or os.environ.get("TURNOUT_DATA")):
        progress.print("No tables: set TURNOUT_DATA or pass --data DIR.")
        return 2
    folder = options.data or Path(os.environ["TURNOUT_DATA"])
    (recipe,) = contestants.choose([options.method]).values()
    rows: list[Row] = []
    for name in options.table or TABLES:
        with progress.status(f"{name}: predicting out of fold") as status:
            world = load(name, folder, recipe, options.rows, options.seed)
            for setting in SETTINGS:

                def tick(number: int, label: str = f"{name}, {setting}") -> None:
                    status.update(f"{label}: draw {number + 1} of {options.draws}")

                rows += measure(world, setting, options.draws, options.seed, tick)
    for setting in SETTINGS:
        show([row for row in rows if row.setting == setting], setting, console)
    if options.json:
        document = {
            "settings": {
                "method": options.method,
                "confidence": CONFIDENCE,
                "folds": FOLDS,
                "draws": options.draws,
                "rows": options.rows,
                "seed": options.seed,
            },
            "rows": [record(row) for row in rows],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.passes for row in rows if row.marked) else 1


if __name__ == "__main__":
    sys.exit(main())
