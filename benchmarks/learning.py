"""Measures what labels are worth: for a whole router, and for a model that joins one.

    python benchmarks/learning.py --data DIR [--part curves|newcomer] [--method NAME] [--json FILE]

`newcomer`: every model of a table in turn is taken for new. The method is fitted without it, and it
joins (`turnout.parts.newcomer`) from its price and description, then from 30, 100, 300 labels and
from all, chosen at random from the training rows. Every row is judged by folds that have not seen
it, over the whole pool. Beside it stand ignoring the new model, and taking the mean of its labels
for every prompt (with no label: the mean of the other models). The table shows

* the regret: AIQ of the method fitted on all models and all rows, less this AIQ;
* the gain: this AIQ less that of ignoring the new model. As in `turnout bench` any router can be
  mixed with the cheapest model at random, be it the new one;
* how far the predicted mean quality of the new model is from the true one, and the calibration
  error of its column, with their standard deviation over models.

Intervals are 95 %, of the mean over these models, from samples of the rows, the same for both
sides, and of the choices of labels; what was fitted is not fitted again. The known models' rows are
predicted on inner folds, which is what `turnout join` does. `--refit` adds the method fitted again
with so many labels of the new model.

Tables: `llmrouter` (nine open models, prices per token, descriptions, sizes), `routerbench` (eleven
models, nothing known but the mean cost of an answer and the name), `routellm` (two models, so that
one is known; a call to the stronger costs 1).

`curves`: methods on 100, 300, 1,000, 3,000 and 10,000 labelled prompts, where there are so many:
APGR of `routellm`, in domain and with whole subjects left out, AIQ of `llmrouter`. All rows are
judged, each by folds that have not seen it; the prompts that teach are nested, and chosen several
times. `--write` keeps the points in `results/learning.json`, from which `tools/docs.py` tells how
many labels a method needs; those of other methods and tables stay.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

import _learning_curves as curves  # type: ignore[import-not-found,unused-ignore]
import _learning_newcomer as newcomer  # type: ignore[import-not-found,unused-ignore]
import _learning_plot as plot  # type: ignore[import-not-found,unused-ignore]
from _learning_tables import load  # type: ignore[import-not-found,unused-ignore]
from turnout.bench import contestants, output
from turnout.core import InputError, TurnoutError

RESULTS = Path(__file__).with_name("results") / "learning.json"
PARTS = ("curves", "newcomer")
TABLES = {"curves": ("routellm", "llmrouter"), "newcomer": ("llmrouter", "routerbench", "routellm")}
METHODS = ("linear", "knn", "clusters", "length")
QUICK_ROWS = 1_500


def _plain(value: Any) -> Any:
    """A figure as JSON takes it."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _run_curves(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    methods = contestants.choose(options.method or METHODS)
    points: list[curves.Point] = []
    for name in options.table or TABLES["curves"]:
        table = load(name, folder, QUICK_ROWS if options.quick else None)
        for groups_out in (False, True) if name == "routellm" else (False,):
            with output.progress() as tick:
                points += curves.run(
                    table,
                    methods,
                    folds=options.folds,
                    seeds=options.seeds,
                    seed=options.seed,
                    groups_out=groups_out,
                    tick=tick,
                )
    curves.show(points, console)
    if options.plot:
        output.write("--plot", options.plot, plot.render(points, options.plot.suffix))
    return {
        "points": [asdict(one) | {"mean": one.mean, "spread": one.spread} for one in points],
    }


def _kept() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if RESULTS.is_file():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The kept curves with new points in place of old ones of the same.

    Raises
    ------
    InputError
        The two were made under other settings, and so cannot be compared.
    """
    if old and old["settings"] != new["settings"]:
        hint = "Run it with those settings, or every method again without the old file."
        raise InputError("settings", f"be those of {RESULTS.name}", new["settings"], hint)
    same = ("table", "protocol", "method", "prompts")
    points = {
        tuple(point[key] for key in same): point
        for document in (old, new)
        for point in document.get("curves", {}).get("points", [])
    }
    kept = [points[key] for key in sorted(points)]
    return {"settings": new["settings"], "curves": {"points": kept}}


def _run_newcomer(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for method, recipe in contestants.choose(options.method or METHODS[:1]).items():
        plan = newcomer.Plan(
            method, recipe, options.folds, options.seeds, options.seed, options.refit
        )
        for name in options.table or TABLES["newcomer"]:
            table = load(name, folder, QUICK_ROWS if options.quick else None)
            with output.progress() as tick:
                study = newcomer.run(table, plan, tick)
            newcomer.show(study, plan, console)
            found.setdefault(method, {})[name] = {
                "rows": study.rows,
                "aiq_all_fitted": study.full,
                "summary": [asdict(one) for one in study.summaries],
                "models": [asdict(one) for one in study.lines],
            }
    return found


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What labels are worth, on real tables.")
    parser.add_argument("--data", type=Path, help="folder of the tables (TURNOUT_DATA)")
    parser.add_argument("--part", choices=PARTS, help="only this part")
    parser.add_argument("--method", action="append", help="method by name; may be repeated")
    names = sorted({name for names in TABLES.values() for name in names})
    parser.add_argument("--table", action="append", choices=names, help="only this table")
    parser.add_argument("--folds", type=int, help="folds of the rows [5 for curves, 3]")
    parser.add_argument("--seeds", type=int, help="random choices of labels [3 for curves, 10]")
    parser.add_argument("--seed", type=int, default=0, help="seed of folds, fits and choices")
    parser.add_argument("--refit", action="store_true", help="newcomer: also fit all again")
    parser.add_argument("--quick", action="store_true", help="1,500 rows, two folds and choices")
    parser.add_argument("--plot", type=Path, help="draw the curves: .png or .html")
    parser.add_argument("--write", action="store_true", help=f"keep curves in {RESULTS.name}")
    parser.add_argument("--json", type=Path, help="write every figure here")
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace) -> Path:
    """The folder of the tables, once what is asked for can be written."""
    place = options.data or os.environ.get("TURNOUT_DATA")
    if not place:
        hint = "Set TURNOUT_DATA, or pass --data DIR."
        raise InputError("--data", "name the folder of the tables", "nothing", hint)
    if options.write and (options.quick or options.part != "curves"):
        hint = "Drop --quick, and ask for --part curves alone."
        raise InputError("--write", "keep whole curves", "something else", hint)
    if options.json:
        output.check_folder("--json", options.json)
    if options.plot:
        if options.plot.suffix not in (".png", ".html"):
            hint = "Choose one of the two."
            raise InputError("--plot", "end in .png or .html", str(options.plot), hint)
        output.check_folder("--plot", options.plot)
        if options.plot.suffix == ".png":
            plot.figure()
    return Path(place)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 140
    found: dict[str, Any] = {}
    try:
        folder = _check(options)
        asked = (options.folds, options.seeds)
        settings = {
            "seed": options.seed,
            "folds": asked[0],
            "seeds": asked[1],
            "quick": options.quick,
        }
        if options.write:
            merged(_kept(), {"settings": settings})  # refuses before minutes of work, not after
        for part, run in zip(PARTS, (_run_curves, _run_newcomer), strict=True):
            if options.part in (None, part):
                usual = (2, 2) if options.quick else (5, 3) if part == "curves" else (3, 10)
                options.folds, options.seeds = (
                    one or other for one, other in zip(asked, usual, strict=True)
                )
                found[part] = run(options, folder, console)
        document = _plain({"settings": settings, **found})
        if options.json:
            output.write_json("--json", options.json, document)
        if options.write:
            output.write_json("--write", RESULTS, merged(_kept(), document))
    except TurnoutError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
