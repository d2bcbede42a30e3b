"""Measures what partial feedback teaches, and which labels are worth their price.

    python benchmarks/feedback.py --data DIR [--part bandit|buying] [--method NAME] [--json FILE]

*bandit*: a router in service sees one answer a prompt, the one it asked for.

- *What it teaches*: the same prompts with every answer ("full"), with one answer each, drawn evenly
  or by a router that learns as it goes (greedy nine times in ten, refitted as the stream goes on),
  and with every answer on a share of the prompts as large as gives as many labels. Score on rows
  kept apart: APGR with two models, AIQ with nine. "weighted" and "resampled" ask whether the greedy
  log should be weighted by 1 / propensity: the weighted rows are one logistic regression over words
  whose rows weigh nothing, 1 / sqrt(p) or 1 / p, with the penalty fixed and nothing calibrated, so
  that only the weights differ; compare those three with each other.
- *What it earns*: mean utility, quality - price * cost, of a stream served while learning, beside
  the best single destination chosen by hindsight, and beside a router that is told all answers.
  The price is half the slope from the cheapest destination to the best.
- *What it tells*: bias, error and coverage of the estimates of `turnout.parts.feedback.offpolicy`
  from many logs, against the truth of the full table. A third of the rows fits the policies judged;
  logs are drawn from the others with replacement.

*buying*: labels are bought in rounds, at the cost of asking each model. Score at equal spend, as
difference from random cells, paired by seed. RouteLLM counts calls; here its cells cost what its
paper counts for a million tokens of each model, US$ 0.24 and 24.7, a ratio of about 100, unless
`--costs calls` is given (0 and 1: the weak model's labels are then free). `routerbench` is in US$
paid. The strategies' settings were chosen on half of the prompts of `llmrouter` and `routellm`
(a hash of the prompt); `--half other` measures on the other half and is the untouched run, as is
`routerbench`.

Intervals are 95 %, by Student's t over seeds: other prompts, other rows kept apart, other luck.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from _feedback_bandit import (  # type: ignore[import-not-found,unused-ignore]
    Served,
    Taught,
    stream_ways,
    teach,
)
from _feedback_buying import (  # type: ignore[import-not-found,unused-ignore]
    BASE,
    SPENDS,
    STRATEGIES,
    Bought,
    buy,
)
from _feedback_estimates import Told, tell  # type: ignore[import-not-found,unused-ignore]
from _feedback_tables import (  # type: ignore[import-not-found,unused-ignore]
    HELD,
    MEASURE,
    load,
    part,
)
from turnout.bench import contestants
from turnout.bench.output import check_folder, progress, write_json
from turnout.core import Outcomes, Recipe
from turnout.parts.feedback.buying import Strategy

SIZES = {"routellm": (300, 1000, 3000, 10000), "llmrouter": (300, 1000, 3000, 4000)}
STREAM = {"routellm": 5000, "llmrouter": 5000}
OFFER = {"routellm": 3000, "llmrouter": 2000, "routerbench": 2000}
BANDIT, BUYING = ("routellm", "llmrouter"), ("routellm", "llmrouter", "routerbench")


def show_taught(rows: list[Taught], console: Console) -> None:
    """Score by kind of feedback and number of prompts."""
    for name in dict.fromkeys(row.table for row in rows):
        mine = [row for row in rows if row.table == name]
        sizes = list(dict.fromkeys(row.n for row in mine))
        table = Table(title=f"What feedback teaches: {name}, {MEASURE[name]}")
        table.add_column("feedback")
        for n in sizes:
            table.add_column(f"{n:,} prompts", justify="right", no_wrap=True)
        for kind in dict.fromkeys(row.feedback for row in mine):
            cells = {row.n: str(row.score) for row in mine if row.feedback == kind}
            table.add_row(kind, *(cells.get(n, "") for n in sizes))
        console.print(table)


def show_served(rows: list[Served], console: Console) -> None:
    """Utility of a stream."""
    for name in dict.fromkeys(row.table for row in rows):
        mine = [row for row in rows if row.table == name]
        table = Table(title=f"What a stream earns: {name}, {mine[0].requests:,} requests")
        table.add_column("way")
        for column in ("utility", "against best single", "later half", "quality", "cost"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in mine:
            table.add_row(
                row.way,
                str(row.utility),
                row.gain.signed(),
                str(row.last_half),
                f"{row.quality:.4f}",
                f"{row.cost:.3g}",
            )
        console.print(table)


def show_told(rows: list[Told], console: Console) -> None:
    """Bias, error and coverage of the estimates."""
    for name in dict.fromkeys(row.table for row in rows):
        table = Table(title=f"What logs tell of quality: {name}")
        for column in ("log", "policy", "estimate"):
            table.add_column(column)
        for column in ("truth", "bias", "RMSE", "covered", "cost covered", "ESS"):
            table.add_column(column, justify="right", no_wrap=True)
        last = ""
        for row in (row for row in rows if row.table == name):
            group = f"{row.logger}, {row.rows:,} rows"
            table.add_row(
                group if group != last else "",
                row.policy,
                row.estimator,
                f"{row.truth:.4f}",
                row.bias.signed(),
                f"{row.error:.4f}",
                _percent(row.covered),
                _percent(row.cost_covered),
                "" if math.isnan(row.effective) else f"{row.effective:.0f}",
            )
            last = group
        console.print(table)


def show_bought(rows: list[Bought], console: Console) -> None:
    """Score of random cells by spend, and what the others are above it."""
    for name in dict.fromkeys(row.table for row in rows):
        mine = [row for row in rows if row.table == name]
        table = Table(title=f"What money teaches: {name}, {MEASURE[name]}, against random cells")
        table.add_column("strategy")
        for share in SPENDS:
            table.add_column(f"1/{round(1 / share)} of all", justify="right", no_wrap=True)
        table.add_column("mean", justify="right", no_wrap=True)
        for at, strategy in enumerate(dict.fromkeys(row.strategy for row in mine)):
            own = [row for row in mine if row.strategy == strategy]
            table.add_row(strategy, *(str(r.score) if at == 0 else r.gain.signed() for r in own))
        console.print(table)


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.0%}"


def bandit(
    tables: dict[str, Outcomes], recipe: Recipe, quick: bool, seeds: int, logs: int, tick: Any
) -> tuple[list[Taught], list[Served], list[Told]]:
    """All three questions on each table."""
    taught: list[Taught] = []
    served: list[Served] = []
    told: list[Told] = []
    for name, outcomes in tables.items():
        room = outcomes.n - HELD[name]
        sizes = tuple(n for n in SIZES[name] if n <= room)
        taught += teach(name, outcomes, recipe, sizes[:2] if quick else sizes, seeds, tick)
        requests = 1500 if quick else min(STREAM[name], outcomes.n)
        served += stream_ways(name, outcomes, recipe, requests, seeds, tick)
        told += tell(name, outcomes, recipe, (1000,) if quick else (1000, 3000), logs, tick)
    return taught, served, told


def steps(options: argparse.Namespace) -> int:
    """How often progress will be told."""
    total = 0
    for name in options.table or BUYING:
        if name in BANDIT and options.part != "buying":
            sizes = SIZES[name][:2] if options.quick else SIZES[name]
            seeds, logs = repetitions(options)
            drawn = 2 * logs * (1 if options.quick else 2)
            total += 1 + seeds * len(sizes) + seeds + drawn
        if options.part != "bandit":
            total += 1 + len(ways(options)) * (options.seeds or (2 if options.quick else 10))
    return total


def ways(options: argparse.Namespace) -> dict[str, Strategy]:
    """Ways of buying to compare."""
    asked = options.strategy or list(STRATEGIES)
    return {name: way for name, way in STRATEGIES.items() if name == BASE or name in asked}


def repetitions(options: argparse.Namespace) -> tuple[int, int]:
    """Seeds and logs of the part on single answers."""
    return options.seeds or (2 if options.quick else 5), options.logs or (
        6 if options.quick else 30
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Partial feedback, and labels for money.")
    parser.add_argument("--data", type=Path, help="folder of the tables (TURNOUT_DATA)")
    parser.add_argument("--part", choices=("bandit", "buying"), help="only this part")
    parser.add_argument("--table", action="append", choices=BUYING, help="only this table")
    parser.add_argument("--method", default="linear", help="any method that predicts")
    parser.add_argument("--seeds", type=int, default=0, help="repetitions (bandit 5, buying 10)")
    parser.add_argument("--logs", type=int, default=0, help="logs an estimate is made from (30)")
    parser.add_argument("--costs", choices=("list", "calls"), default="list", help="of RouteLLM")
    parser.add_argument(
        "--strategy",
        action="append",
        choices=STRATEGIES,
        help="only this way of buying, beside random cells; may be repeated",
    )
    parser.add_argument("--half", choices=("all", "own", "other"), default="all")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--json", type=Path, help="write every row here")
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = 150
    if not (options.data or os.environ.get("TURNOUT_DATA")):
        Console(stderr=True).print("No tables: set TURNOUT_DATA or pass --data DIR.")
        return 2
    if options.json:
        check_folder("--json", options.json)
    folder = options.data or Path(os.environ["TURNOUT_DATA"])
    ((_, recipe),) = contestants.choose([options.method]).items()
    document: dict[str, Any] = {"method": options.method, "half": options.half}
    total = steps(options)
    with progress() as bar:
        done = 0

        def tick(label: str) -> None:
            nonlocal done
            done += 1
            bar(label, done, total)

        def tables(names: tuple[str, ...], list_prices: bool) -> dict[str, Outcomes]:
            found = {}
            for name in names:
                if options.table and name not in options.table:
                    continue
                whole = load(name, folder, list_prices=list_prices)
                if options.half != "all":
                    whole = part(whole, 0 if options.half == "own" else 1)
                found[name] = whole
                tick(f"{name}: read")
            return found

        if options.part != "buying":
            seeds, logs = repetitions(options)
            three = bandit(tables(BANDIT, False), recipe, options.quick, seeds, logs, tick)
            for key, value in zip(("taught", "served", "told"), three, strict=True):
                document[key] = [asdict(row) for row in value]
        if options.part != "bandit":
            seeds = options.seeds or (2 if options.quick else 10)
            bought: list[Bought] = []
            for name, outcomes in tables(BUYING, options.costs == "list").items():
                offer = min(600 if options.quick else OFFER[name], outcomes.n - HELD[name])
                bought += buy(name, outcomes, recipe, offer, seeds, tick, ways(options))
            document["bought"] = [asdict(row) for row in bought]
    if options.part != "buying":
        show_taught(three[0], console)
        show_served(three[1], console)
        show_told(three[2], console)
    if options.part != "bandit":
        show_bought(bought, console)
    if options.json:
        write_json("--json", options.json, _finite(document))
    return 0


def _finite(value: Any) -> Any:
    """The same with null in place of NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    sys.exit(main())
