"""Judges every method of requests on every real table, in domain and out of it, beside others.

    python benchmarks/routers.py --data DIR [--task NAME] [--method NAME] [--write] [--quick]

Tasks: RouteLLM's two models in domain, with whole MMLU subjects left out, and learnt on one
benchmark and judged on the other; LLMRouter's nine models in domain and with each task left out in
turn; RouterBench's eleven models on two benchmarks that have training and test rows of their own.
Methods: all that fit quickly (`turnout.bench.contestants.default`), at their own settings, and
the peers of `_router_peers.py` where they are installed, whose times are taken in their own
process.

`--write` puts the figures into `results/routers.json`, from which `tools/docs.py` makes the table
of `docs/methods/llms.md`. Tasks and methods that were not run keep the figures they had there; so
a long run can be made in pieces. What was sampled (`--quick`) is never written there.

Figures: AIQ with its 95 % bootstrap interval, APGR and CPT of two models, the share of the best
single model's cost at which a method is as good, calibration error, microseconds to decide
(median, processor time; for a peer from the text to its scores, and without the encoder where
it has one), seconds to fit, and how far AIQ is above that of prompt length alone,
with its paired interval. Rounded, so that a second run on another machine differs in times alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from _router_peers import PEERS, Peer, present, timed  # type: ignore[import-not-found,unused-ignore]
from _router_tables import TASKS, Data  # type: ignore[import-not-found,unused-ignore]
from turnout.bench import contestants, evaluate, output, series, show
from turnout.bench.results import Evaluation, Row
from turnout.core import InputError, MissingExtraError, Recipe, TurnoutError

RESULTS = Path(__file__).with_name("results") / "routers.json"
QUICK_ROWS = 800
RESAMPLES = 1000


def entries(data: Data, asked: list[str] | None) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Methods to judge on one table, ours and others', and why the rest is left out."""
    every = contestants.default if asked is None else contestants.everything
    chosen, left = every(data.train)
    peers, absent = present()
    away = dict(left) | absent
    everything: dict[str, Recipe] = {**chosen, **peers}
    if asked is None:
        return everything, away
    for name in asked:
        if name not in everything and name not in away:
            hint = f"Choose among: {', '.join(sorted({*everything, *away}))}."
            raise InputError("--method", "be a method or a peer", name, hint)
    kept = {name: recipe for name, recipe in everything.items() if name in asked}
    return kept, {name: why for name, why in away.items() if name in asked}


def judge(data: Data, methods: dict[str, Recipe], seed: int) -> Evaluation:
    """All methods on one table; one that refuses it is passed over. Peers tell their own times."""
    with output.progress() as tick:
        found = evaluate(
            data.train,
            methods,
            test=data.test,
            folds=data.folds,
            leave_groups_out=data.groups_out,
            seed=seed,
            resamples=RESAMPLES,
            may_fail=tuple(methods),
            tick=tick,
        )
    told: Evaluation = timed(found, methods)
    return told


def record(
    name: str, found: Evaluation, away: dict[str, str], methods: dict[str, Recipe]
) -> dict[str, Any]:
    """What is kept of an evaluation."""
    top = series.best_single(found)
    return {
        "title": TASKS[name].title,
        "measure": TASKS[name].measure,
        "protocol": found.protocol,
        "judged": found.n,
        "groups": found.groups,
        "models": len(found.names),
        "best_single": {"name": top.name, "quality": _round(top.quality, 4)},
        "notes": list(found.notes),
        "left_out": dict(sorted((away | dict(found.skipped)).items())),
        "rows": {row.method: _figures(row, found, methods.get(row.method)) for row in found.rows},
    }


def _figures(row: Row, found: Evaluation, recipe: Recipe | None) -> dict[str, Any]:
    full = series.best_single(found).cost
    against = None if row.landmark else found.difference(row.method, "prompt_length")
    figures: dict[str, Any] = {
        "landmark": row.landmark,
        "peer": row.method in PEERS,
        "aiq": _interval(row.aiq, row.aiq_low, row.aiq_high),
        "apgr": _round(row.apgr, 3),
        "cpt50": _round(row.cpt50, 3),
        "cpt80": _round(row.cpt80, 3),
        "quality": _round(row.quality, 3),
        "cost_to_match": _round(row.cost_to_match / full if full > 0 else math.nan, 2),
        "ece": _round(row.ece, 3),
        "above_length": None if against is None else _interval(*against),
    }
    if not row.landmark:
        figures["decision_us"] = _short(row.decision_us_p50)
        figures["fit_seconds"] = _short(row.fit_seconds)
    if isinstance(recipe, Peer) and any(recipe.times.encoding):
        figures["decision_us_without_encoder"] = _short(recipe.times.median_us()[1])
    return figures


def _round(value: float, digits: int) -> float | None:
    return None if math.isnan(value) else round(float(value), digits)


def _interval(value: float, low: float, high: float) -> list[float] | None:
    return None if math.isnan(value) else [round(float(each), 3) for each in (value, low, high)]


def _short(value: float) -> float | None:
    """Two leading digits: more of a time is weather."""
    return None if math.isnan(value) else float(f"{value:.2g}")


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old document with what was run again in place of what was there.

    Raises
    ------
    InputError
        The two were made under other settings, and so cannot be compared.
    """
    if old and old["settings"] != new["settings"]:
        hint = "Run every task again, without the old file."
        raise InputError("settings", f"be those of {RESULTS.name}", new["settings"], hint)
    tasks = dict(old.get("tasks", {}))
    for name, task in new["tasks"].items():
        before = tasks.get(name, {})
        same = all(before.get(key) == task[key] for key in ("protocol", "judged", "models"))
        rows = {**(before["rows"] if same else {}), **task["rows"]}
        away = {**(before["left_out"] if same else {}), **task["left_out"]}
        left_out = {key: why for key, why in sorted(away.items()) if key not in rows}
        tasks[name] = {**task, "rows": rows, "left_out": left_out}
    return {"settings": new["settings"], "tasks": tasks}


def document_text(document: dict[str, Any]) -> str:
    """The results as they are kept: keys in order, a line for what holds no further objects."""

    def lines(value: Any, depth: int) -> str:
        if not isinstance(value, dict) or not any(isinstance(v, dict) for v in value.values()):
            return json.dumps(value, sort_keys=True, allow_nan=False)
        indent = " " * (depth + 1)
        parts = [
            f"{indent}{json.dumps(key)}: {lines(value[key], depth + 1)}" for key in sorted(value)
        ]
        return "{\n" + ",\n".join(parts) + "\n" + " " * depth + "}"

    return lines(document, 0) + "\n"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Every router on every real table.")
    parser.add_argument("--data", type=Path, help="folder of the tables (TURNOUT_DATA)")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task")
    parser.add_argument("--method", action="append", help="only this method or peer")
    parser.add_argument("--seed", type=int, default=0, help="of folds, fits and intervals")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS} rows, three folds")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    parser.add_argument("--json", type=Path, help="write the figures of this run here")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = 120
    try:
        place = options.data or os.environ.get("TURNOUT_DATA")
        if not place:
            hint = "Set TURNOUT_DATA, or pass --data DIR."
            raise InputError("--data", "name the folder of the tables", "nothing", hint)
        if options.write and options.quick:
            raise InputError("--write", "not come with --quick", "both", "Drop one of the two.")
        if options.json:
            output.check_folder("--json", options.json)
        document: dict[str, Any] = {
            "settings": {"seed": options.seed, "resamples": RESAMPLES},
            "tasks": {},
        }
        for name in options.task or TASKS:
            data = TASKS[name].load(Path(place))
            if options.quick:
                data = data.sample(QUICK_ROWS, options.seed)
            methods, away = entries(data, options.method)
            found = judge(data, methods, options.seed)
            document["tasks"][name] = record(name, found, away, methods)
            _print(name, found, document["tasks"][name]["left_out"], console)
            if options.write:
                _write(document)
    except (TurnoutError, MissingExtraError) as error:
        errors.print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    if options.json:
        output.write("--json", options.json, document_text(document).encode())
    return 0


def _write(document: dict[str, Any]) -> None:
    """After each task, so that a run that is cut off has not been for nothing."""
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    output.write("--write", RESULTS, document_text(merged(old, document)).encode())


def _print(name: str, found: Evaluation, away: dict[str, str], console: Console) -> None:
    console.print(f"\n{TASKS[name].title}", style="bold")
    console.print(show.table(found))
    console.print(f"{found.protocol}; {found.n:,} rows judged.")
    for line in (*found.notes, *show.conclusion(found)):
        console.print(line, markup=False, soft_wrap=True)
    for method, why in away.items():
        console.print(f"left out: {method}: {why}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
