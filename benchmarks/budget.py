"""Measures whether the online controller keeps a budget, and what quality that costs.

    python benchmarks/budget.py --data DIR [--json FILE]

Three real tables, replayed as streams, shuffled and sorted by subject, each true cost known only
50 requests after its decision. For five budgets between what the cheapest routes cost and what
the predictor's unconstrained policy spends (more than that it would not spend whatever it is
given), the table shows

* the true spend as a share of the budget: mark, within 2 % of it;
* the true quality as a share of the offline optimum for the same predictions, which is the one
  price that, with the whole stream known beforehand, truly spends the budget: mark, at least 98 %;
* how far the running mean was ever off the budget after the first 500 requests: no mark, but what
  the freedom inside a period looks like.

Predictions are those of a method (`--method`, by default `stacked`), each half of a table from the
other half. The controller starts from the exact frontier of the predictions of a random fifth of
the table, which is not in the stream, and is told the length of the stream (the period its budget
is for). Then each table comes once more with *new subjects*: fitted and planned on half of them,
the controller is given the stream of the other half. All its constants are those of
`turnout.parts.pacing`, the same everywhere. They were set by sweeping over streams of these tables:
these rows show that one setting serves all of them, not that it was guessed.
`claims/parts/budget_controller` adds traffic it was not set on.

Costs: `routellm` counts calls to the stronger model (cost 1; the weaker is free); `llmrouter` is in
US$ from the public prices beside the table, an input of c characters taken as c / 4 tokens and an
answer as 200; `routerbench` is in US$ truly paid for each answer, rows with blanks left out.

A row that misses by ending below its budget with the price at zero is told apart ("under, at
price 0"): the last tenth of the stream spends no more whatever it is given, and nobody knew that
when the first came. It counts as missed.

A second table repeats every stream under harder conditions and shows its worst rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from turnout.bench import contestants, read
from turnout.bench.folds import splits
from turnout.core import DataError, Outcomes, Recipe
from turnout.core._check import Float, Int
from turnout.parts import priced, prices
from turnout.parts.pacing import Pacer, Pacing, Plan
from turnout.parts.replay import replay

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
SPEND_MARK, QUALITY_MARK = 0.02, 0.98
FOLDS, DELAY, SETTLING = 2, 50, 500
TABLES = {
    "routellm": ("routellm_gpt4_mixtral.csv.gz",),
    "llmrouter": ("llmrouter_9models.csv.gz",),
    "routerbench": tuple(
        f"routerbench_0shot_{name}_{split}.csv.gz"
        for name in ("arc_challenge", "winogrande")
        for split in ("train", "test")
    ),
}


@dataclass(frozen=True)
class Goal:
    """A budget, and the best quality that one price known beforehand buys for it."""

    fraction: float
    budget: float
    optimum: float


@dataclass(frozen=True, eq=False)
class Stream:
    """Predictions and truth (n, m) of the requests to come, and of the rows to plan by."""

    name: str
    quality: Float
    cost: Float
    true_quality: Float
    true_cost: Float
    subject: tuple[str, ...]
    plan_quality: Float
    plan_cost: Float

    def __len__(self) -> int:
        return len(self.quality)

    def order(self, kind: str, seed: int) -> Int:
        """Rows shuffled, or sorted by subject and shuffled within."""
        rows = np.random.default_rng(seed).permutation(len(self))
        if kind == "sorted":
            rows = rows[np.argsort(np.array(self.subject)[rows], kind="stable")]
        return rows

    def goals(self) -> list[Goal]:
        """Five true mean costs between the cheapest routes and the unconstrained policy.

        And for each the true quality of the predictions' frontier where its true spend is that.
        """
        rows = np.arange(len(self))
        low = self.true_cost[rows, prices.choose(self.quality, self.cost, np.inf)].mean()
        high = self.true_cost[rows, prices.choose(self.quality, self.cost, 0.0)].mean()
        switches = prices.relax(self.quality, self.cost)
        frontier = switches.frontier(self.true_quality, self.true_cost)
        goals = []
        for fraction in FRACTIONS:
            budget = float(low + fraction * (high - low))
            last = np.flatnonzero(frontier.cost <= budget)[-1]
            goals.append(Goal(fraction, budget, float(frontier.quality[last])))
        return goals


@dataclass(frozen=True)
class Row:
    """One stream under one budget."""

    table: str
    order: str
    fraction: float
    budget: float
    spend: float
    quality: float
    optimum: float
    worst: float
    free: bool

    @property
    def spend_share(self) -> float:
        """True spend by budget."""
        return self.spend / self.budget

    @property
    def quality_share(self) -> float:
        """True quality by that of the offline optimum."""
        return self.quality / self.optimum

    @property
    def verdict(self) -> str:
        """The marks in a word; underspend at price zero is missed, but not for want of trying."""
        if self.passes:
            return "met"
        return "under, at price 0" if self.free and self.spend_share < 1 else "missed"

    @property
    def passes(self) -> bool:
        """Whether both marks are met."""
        return abs(self.spend_share - 1) <= SPEND_MARK and self.quality_share >= QUALITY_MARK


@dataclass(frozen=True)
class Conditions:
    """How the stream is served; the defaults are those of the marks."""

    label: str = "as marked"
    delay: int = DELAY
    dear: float = 1.0  # expected cost of the dearer half of the destinations is this many times off
    start: float | None = None  # no plan: a first price this many times the right one
    period: int | None = None  # not told the length of the stream


STRESS = (
    Conditions(),
    Conditions("costs known after 200 requests", delay=200),
    Conditions("dear costs foretold 30 % too low", dear=0.7),
    Conditions("dear costs foretold 40 % too high", dear=1.4),
    Conditions("no plan, first price 4 times too high", start=4.0),
    Conditions("no plan, first price 4 times too low", start=0.25),
    Conditions("length unknown, period 1000", period=1000),
)


def load(name: str, folder: Path) -> Outcomes:
    """One real table, its files one after another, rows with blanks left out."""
    parts = [read(folder / file).outcomes for file in TABLES[name]]
    whole = parts[0]
    if len(parts) > 1:
        whole = Outcomes(
            inputs=[text for part in parts for text in part.inputs],
            names=whole.names,
            quality=np.concatenate([part.quality for part in parts]),
            cost=np.concatenate([part.cost for part in parts]),
            group=[label for part in parts for label in part.group or ()],  # type: ignore[arg-type]
        )
    blank = np.isnan(whole.quality) | np.isnan(whole.cost)
    return whole.take(np.flatnonzero(~blank.any(axis=1)))


def stream(
    name: str, outcomes: Outcomes, recipe: Recipe, seed: int, *, shifted: bool = False
) -> Stream:
    """Predict every row out of fold, then set a random fifth aside to plan by.

    Shifted, the folds are of whole subjects, and one of them is what the other is planned by: the
    stream has subjects that neither the predictions nor the plan have seen.
    """
    if outcomes.group is None:
        raise DataError(name, "name the subject of each row", "no groups", "Use another table.")
    rng = np.random.default_rng(seed)
    quality, cost = np.empty(outcomes.quality.shape), np.empty(outcomes.quality.shape)
    parts = splits(outcomes, folds=FOLDS, leave_groups_out=shifted, seed=seed)
    for train, held in parts:
        router = priced.fit(recipe, outcomes.take(train), rng=seed)
        assert isinstance(router, priced.Priced)
        quality[held], cost[held] = router.predict(outcomes.take(held).inputs)
    if shifted:
        plan, rest = parts[0][1], parts[1][1]
    else:
        rows = rng.permutation(outcomes.n)
        plan, rest = rows[: outcomes.n // 5], np.sort(rows[outcomes.n // 5 :])
    return Stream(
        f"{name}, new subjects" if shifted else name,
        quality[rest],
        cost[rest],
        outcomes.quality[rest],
        outcomes.cost[rest],
        tuple(outcomes.group[int(i)] for i in rest),
        quality[plan],
        cost[plan],
    )


def serve(source: Stream, order: str, goal: Goal, how: Conditions, seed: int) -> Row:
    """Replay one stream under one budget."""
    budget = goal.budget
    dear = source.plan_cost.mean(axis=0) > np.median(source.plan_cost.mean(axis=0))
    wrong = np.where(dear, how.dear, 1.0)
    period = len(source) if how.period is None else how.period
    if how.start is None:
        plan = Plan.fit(source.plan_quality, source.plan_cost * wrong)
        pacing = Pacing(mean_cost=budget, period=period, plan=plan)
    else:
        plan = Plan.fit(source.plan_quality, source.plan_cost)
        # a budget that does not bind has no price of its own: then a part of that of half of it
        right = plan.at(budget) or 0.1 * plan.at(budget / 2)
        pacing = Pacing(mean_cost=budget, period=period, price=right * how.start)
    rows = source.order(order, seed)
    served = replay(
        Pacer(pacing),
        source.quality[rows],
        source.cost[rows] * wrong,
        source.true_cost[rows],
        delay=how.delay,
    )
    spent = source.true_cost[rows, served.choice]
    running = np.cumsum(spent) / np.arange(1, len(rows) + 1) / budget - 1
    return Row(
        source.name,
        order,
        goal.fraction,
        budget,
        float(spent.mean()),
        float(source.true_quality[rows, served.choice].mean()),
        goal.optimum,
        float(np.abs(running[SETTLING:]).max()),
        bool((served.price[-(len(rows) // 10) :] == 0).all()),
    )


def show(rows: list[Row], console: Console) -> None:
    """One line a row, and whether it meets the marks."""
    table = Table(title=f"Online spend control (costs known {DELAY} requests late)")
    for column in ("table", "order"):
        table.add_column(column)
    for column in ("", "budget", "spend/budget", "quality", "/offline", "worst on way", "marks"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.table,
            row.order,
            f"{row.fraction:.0%}",
            f"{row.budget:.3g}",
            f"{row.spend_share:.4f}",
            f"{row.quality:.4f}",
            f"{row.quality_share:.4f}",
            f"{row.worst:.1%}",
            row.verdict,
            end_section=row.fraction == FRACTIONS[-1],
        )
    console.print(table)


def show_stress(stress: dict[str, list[Row]], console: Console) -> None:
    """The worst rows of each set of conditions."""
    table = Table(title="The same streams under harder conditions (worst rows; no marks)")
    table.add_column("conditions")
    for column in ("spend/budget", "quality/offline", "rows in both marks"):
        table.add_column(column, justify="right", no_wrap=True)
    for label, rows in stress.items():
        shares = [row.spend_share for row in rows]
        table.add_row(
            label,
            f"{min(shares):.3f} to {max(shares):.3f}",
            f"{min(row.quality_share for row in rows):.3f}",
            f"{sum(row.passes for row in rows)} of {len(rows)}",
        )
    console.print(table)


def record(row: Row) -> dict[str, Any]:
    """The row as JSON."""
    shares = {"spend_share": row.spend_share, "quality_share": row.quality_share}
    return asdict(row) | shares | {"passes": row.passes, "verdict": row.verdict}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; exit status 1 where a mark is missed."""
    parser = argparse.ArgumentParser(description="Online spend control on real tables.")
    parser.add_argument("--data", type=Path, help="folder of the tables (TURNOUT_DATA)")
    parser.add_argument("--json", type=Path, help="write every row here")
    parser.add_argument("--seed", type=int, default=0, help="folds and order of the streams")
    parser.add_argument("--table", action="append", choices=list(TABLES), help="only this table")
    parser.add_argument("--method", default="stacked", help="method that predicts")
    parser.add_argument("--quick", action="store_true", help="leave the harder conditions out")
    options = parser.parse_args(arguments)
    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 120
    folder = options.data or Path(os.environ.get("TURNOUT_DATA") or "")
    if not (options.data or os.environ.get("TURNOUT_DATA")):
        progress.print("No tables: set TURNOUT_DATA or pass --data DIR.")
        return 2
    conditions = STRESS[:1] if options.quick else STRESS
    results: dict[str, list[Row]] = {how.label: [] for how in conditions}
    (recipe,) = contestants.choose([options.method]).values()
    sources = [(name, shifted) for shifted in (False, True) for name in options.table or TABLES]
    for name, shifted in sources:
        with progress.status(f"{name}: predicting out of fold"):
            source = stream(name, load(name, folder), recipe, options.seed, shifted=shifted)
            goals = source.goals()
        for how in conditions:
            with progress.status(f"{name}: {how.label}"):
                results[how.label] += [
                    serve(source, order, goal, how, options.seed + 1)
                    for order in ("shuffled", "sorted")
                    for goal in goals
                ]
    marked = results[STRESS[0].label]
    show(marked, console)
    if len(conditions) > 1:
        show_stress(results, console)
    if options.json:
        document = {
            "marks": {"spend": SPEND_MARK, "quality": QUALITY_MARK},
            "settings": {"delay": DELAY, "folds": FOLDS, "seed": options.seed},
            "rows": {label: [record(row) for row in rows] for label, rows in results.items()},
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.passes for row in marked) else 1


if __name__ == "__main__":
    sys.exit(main())
