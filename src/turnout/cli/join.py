"""`turnout join`: a new model joins a fitted router."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.core import Outcomes, Pool, Predictor, Recipe
    from turnout.core._check import Float
    from turnout.parts.newcomer import Joined
    from turnout.parts.store import SavedRouter

__all__ = ["command"]

#: Seed of the folds and of the credible interval that is printed.
_SEED = 0


@click.command("join")
@click.argument("router", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The new model, as the pool shall call it.")
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Router file to write."
)
@click.option("--price", type=float, help="Price of one answer, in the table's currency.")
@click.option("--input-price", type=float, help="Price of a million tokens read.")
@click.option("--output-price", type=float, help="Price of a million tokens written.")
@click.option("--answer-tokens", type=float, help="Tokens of an answer. [default: 200]")
@click.option("--description", default="", help="What is said of it, in a sentence or two.")
@click.option(
    "--descriptions",
    type=click.Path(path_type=Path),
    help='What is said of each model, JSON: {"name": "text"}, or a price table with "feature".',
)
@click.option("--labels", type=click.Path(path_type=Path), help="Table of its graded answers.")
@click.option(
    "--folds",
    type=int,
    help="Folds of DATA by which it is predicted; 0 = by ROUTER itself, which has not seen it. "
    "[default: 4 if ROUTER was fitted on DATA, else 0]",
)
@click.option("--prices", type=click.Path(path_type=Path), help="Price table, JSON.")
@click.option("--trust", multiple=True, help="Package whose classes the router file may name.")
@click.option("--trust-pickle", is_flag=True, help="Open pickles, which can run any code.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; - is stdout.")
def command(
    router: Path,
    data: Path,
    name: str,
    output: Path,
    price: float | None,
    input_price: float | None,
    output_price: float | None,
    answer_tokens: float | None,
    description: str,
    descriptions: Path | None,
    labels: Path | None,
    folds: int | None,
    prices: Path | None,
    trust: tuple[str, ...],
    trust_pickle: bool,
    json_file: str | None,
) -> None:
    """Add a model to ROUTER from its price and description, and from labels if there are any.

    DATA is a table of what the models of ROUTER answered: it tells how models differ. Labels are a
    column of DATA with the new model's name, or a table of their own (--labels); with none, what is
    known of models like it has to do. Nothing in ROUTER is fitted again.
    """
    from rich.console import Console

    from turnout.bench import joining, read
    from turnout.bench import output as out_files
    from turnout.core import RouterFileError
    from turnout.parts import store
    from turnout.parts.newcomer import join
    from turnout.parts.priced import Priced

    out_files.check_folder("--output", output)
    if json_file is not None:
        out_files.check_folder("--json", json_file)
    newcomer = _newcomer(name, (price, input_price, output_price), description)
    saved = store.load(router, trust=trust)
    if not isinstance(saved.router, Priced):
        hint = "It only says where to go; fit a method that predicts, such as linear."
        raise RouterFileError("router", "predict quality and cost", saved.method, hint)
    base = saved.router.predictor
    console = Console(stderr=json_file == "-", highlight=False)

    def say(line: str) -> None:
        console.print(f"  {line}", markup=False, soft_wrap=True)

    table = read(data, trust_pickle=trust_pickle, prices=prices)
    console.print(f"{data.name} ({table.layout})", style="bold")
    for line in table.report.lines():
        say(line)
    outcomes = table.outcomes
    recipe, parts = _recipe(saved, base, outcomes, folds)
    with Console(stderr=True).status(f"predicting {data.name}"):
        predicted = _predicted(base, outcomes, recipe, parts)
    say(
        f"its rows are predicted by {saved.method}, fitted on {parts} folds of them"
        if recipe is not None
        else "its rows are predicted by the router itself, as if it had not learned from them"
    )
    if labels is not None:
        more = read(labels, trust_pickle=trust_pickle, prices=prices)
        outcomes, added = joining.merge_labels(outcomes, more.outcomes, name)
        if added:
            import numpy as np

            say(f"labels of prompts that are not in {data.name}: {added:,}")
            fresh = base.predict(outcomes.inputs[-added:])[0]
            predicted = np.vstack((predicted, fresh))
    pool, newcomer = _described(base, saved, newcomer, descriptions)
    joined = join(
        base, outcomes, newcomer, pool=pool, predicted=predicted, answer_tokens=answer_tokens
    )
    report = _report(joined, outcomes, predicted)
    store.save(
        output,
        joined,
        _pool(saved, pool, newcomer, report),
        fingerprint=saved.fingerprint,
        method=saved.method,
        extra=_extra(saved, joined, outcomes, predicted),
    )
    report |= {"file": str(output), "bytes": output.stat().st_size, "method": saved.method}
    if json_file is not None:
        out_files.write_json("--json", json_file, report)
    _show(console, report)
    console.print(f"Wrote {output}.", markup=False, soft_wrap=True)


def _newcomer(
    name: str, prices: tuple[float | None, float | None, float | None], description: str
) -> Pool:
    import numpy as np

    from turnout.core import Pool

    def one(value: float | None, scale: float = 1.0) -> Float | None:
        return None if value is None else np.array([value / scale])

    item, read, written = prices
    return Pool(
        names=(name,),
        usd_per_item=one(item),
        usd_per_input_token=one(read, 1e6),
        usd_per_output_token=one(written, 1e6),
        description=(description,),
    )


def _recipe(
    saved: SavedRouter, base: Predictor, outcomes: Outcomes, folds: int | None
) -> tuple[Recipe | None, int]:
    """What predicts rows that the router has learned from, and on how many folds."""
    from turnout import catalog
    from turnout.core import InputError
    from turnout.parts.newcomer import Joined

    while isinstance(base, Joined):  # the one that was fitted
        base = base.base
    if folds is None:
        names = set(base.names) <= set(outcomes.names)
        learned = names and outcomes.select(base.names).fingerprint() == saved.fingerprint
        folds = 4 if learned and saved.method else 0
    if folds == 0:
        return None, 0
    if not saved.method:
        hint = "Pass --folds 0 if the router has not learned from the table."
        raise InputError("router", "say by which method it was fitted", "nothing", hint)
    return catalog.recipe(saved.method)(), folds


def _predicted(base: Predictor, outcomes: Outcomes, recipe: Recipe | None, folds: int) -> Float:
    """Quality (n, m) of the known models by what has not learned from each row."""
    import numpy as np

    from turnout.parts.learners.crossfit import crossfit
    from turnout.parts.newcomer import Joined

    if recipe is None:
        quality = base.predict(outcomes.inputs)[0]
    elif isinstance(base, Joined):
        inner = _predicted(base.base, outcomes, recipe, folds)
        quality = np.column_stack((inner, base.expected(inner)))
    else:
        known, rng = outcomes.select(base.names), np.random.default_rng(_SEED)
        quality, _ = crossfit(recipe, known, folds=folds, rng=rng)
    return quality.clip(0.0, 1.0)


def _described(
    base: Predictor, saved: SavedRouter, newcomer: Pool, path: Path | None
) -> tuple[Pool, Pool]:
    """The known pool and the new model with the descriptions that a file adds."""
    from dataclasses import replace

    from turnout.bench.files import load_json
    from turnout.core import DataError

    known = saved.pool.select(base.names)
    if path is None:
        return known, newcomer
    document = load_json(path)
    hint = 'For example {"small": "A quick model for short answers."}.'
    if not isinstance(document, dict):
        raise DataError(str(path), "map each model to a text", document, hint)

    def text(name: str, before: str) -> str:
        entry = document.get(name, before)
        if isinstance(entry, dict):
            entry = entry.get("description", entry.get("feature", before))
        if not isinstance(entry, str):
            raise DataError(f"{path}: {name!r}", "be a text", entry, hint)
        return entry

    had = known.description or ("",) * known.m
    told = tuple(text(name, one) for name, one in zip(known.names, had, strict=True))
    (name,), (said,) = newcomer.names, newcomer.description or ("",)
    return (
        replace(known, description=told),
        replace(newcomer, description=(said or text(name, ""),)),
    )


def _report(joined: Joined, outcomes: Outcomes, predicted: Float) -> dict[str, Any]:
    """What is expected of each model on the prompts of the table."""
    import numpy as np

    mean, low, high = joined.outlook(predicted, rng=np.random.default_rng(_SEED))
    cost = float(joined.costs.predict(outcomes.inputs).mean())
    paid = outcomes.select(joined.base.names).mean_cost()
    known = zip(joined.base.names, predicted.mean(axis=0), paid, strict=True)
    return {
        "name": joined.name,
        "labels": joined.labels,
        "quality": mean,
        "quality_low": low,
        "quality_high": high,
        "cost": cost,
        "known": [
            {"name": name, "quality": float(quality), "cost": float(one)}
            for name, quality, one in known
        ],
    }


def _pool(saved: SavedRouter, known: Pool, newcomer: Pool, report: dict[str, Any]) -> Pool:
    """All destinations, priced by the answer as in a file that `turnout fit` writes."""
    import numpy as np

    from turnout.core import Pool

    paid = [one["cost"] for one in report["known"]]
    if saved.pool.usd_per_item is not None and known.usd_per_item is not None:
        paid = known.usd_per_item.tolist()
    return Pool(
        names=(*known.names, *newcomer.names),
        usd_per_item=np.array([*paid, report["cost"]]),
        description=(*(known.description or ("",) * known.m), *(newcomer.description or ("",))),
    )


def _extra(
    saved: SavedRouter, joined: Joined, outcomes: Outcomes, predicted: Float
) -> dict[str, Any]:
    """Notes of the file: what was measured no longer holds, so its frontier is a forecast."""
    import numpy as np

    from turnout.bench.fitting import price_points
    from turnout.parts import prices

    quality = np.column_stack((predicted, joined.expected(predicted)))
    cost = joined.predict(outcomes.inputs)[1]
    frontier = prices.relax(quality, cost).frontier(quality, cost)
    kept = {key: saved.extra[key] for key in ("seed", "data", "layout") if key in saved.extra}
    return kept | {
        "rows": outcomes.n,
        "measured": "forecast",
        "frontier": price_points(frontier),
        "joined": [*saved.extra.get("joined", []), {"name": joined.name, "labels": joined.labels}],
    }


def _show(console: Any, report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("destination")
    for title in ("expected quality", "95 % interval", "mean cost"):
        table.add_column(title, justify="right")
    for one in sorted([*report["known"], report], key=lambda one: -one["quality"]):
        new = one is report
        span = f"{report['quality_low']:.3f} - {report['quality_high']:.3f}" if new else ""
        figures = (f"{one['quality']:.3f}", span, f"{one['cost']:.4g}")
        table.add_row(one["name"], *figures, style="bold" if new else None)
    console.print()
    console.print(table)
    console.print()
    count = report["labels"]
    told = f"{count:,} label{'' if count == 1 else 's'}" if count else "its price and description"
    console.print(f"{report['name']} is told from {told}.", markup=False, soft_wrap=True)
