"""`turnout fit`: from a table to a router file."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("fit")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Router file to write."
)
@click.option("--method", "-m", default="stacked", show_default=True, help="Method to fit.")
@click.option("--seed", default=0, show_default=True, help="Seed of folds and fit.")
@click.option("--prices", type=click.Path(path_type=Path), help="Price table, JSON.")
@click.option("--trust-pickle", is_flag=True, help="Open pickles, which can run any code.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON; - is stdout.")
def command(
    data: Path,
    output: Path,
    method: str,
    seed: int,
    prices: Path | None,
    trust_pickle: bool,
    json_file: str | None,
) -> None:
    """Fit a router to DATA, a table of what each destination answered, at what cost.

    Prints what each budget buys, measured out of fold, and writes a file that `turnout serve`
    and `turnout.load` read.
    """
    from rich.console import Console
    from rich.table import Table as RichTable

    from turnout import catalog
    from turnout.bench import contestants, fitting, read, show
    from turnout.bench import output as out_files
    from turnout.core import InputError
    from turnout.parts import store

    out_files.check_folder("--output", output)
    if json_file is not None:
        out_files.check_folder("--json", json_file)
    recipes = contestants.choose([method])
    if len(recipes) != 1:
        raise InputError("--method", "name one method", method, "Fit them one by one.")
    ((name, recipe),) = recipes.items()
    table = read(data, trust_pickle=trust_pickle, prices=prices)
    console = Console(stderr=json_file == "-", highlight=False)
    console.print(f"{data.name} ({table.layout})", style="bold")
    for line in table.report.lines():
        console.print(f"  {line}", markup=False, soft_wrap=True)
    with out_files.progress() as tick:
        fitted = fitting.fit_and_measure(name, recipe, table.outcomes, seed=seed, tick=tick)
    full = catalog.find(name).name
    store.save(
        output,
        fitted.router,
        table.outcomes.pool(),
        fingerprint=table.outcomes.fingerprint(),
        method=full,
        extra={**fitted.extra, "data": data.name, "layout": table.layout},
    )
    size = output.stat().st_size
    if json_file is not None:
        report = {
            "file": str(output),
            "bytes": size,
            "method": full,
            **fitted.extra,
            "rows_judged": None if fitted.evaluation is None else fitted.evaluation.n,
            "results": [] if fitted.evaluation is None else fitted.evaluation.records(),
        }
        out_files.write_json("--json", json_file, report)
    console.print()
    if fitted.evaluation is None:
        console.print(
            "Too few rows tell every destination's quality and cost: fitted, but not measured.",
            markup=False,
            soft_wrap=True,
        )
    else:
        bought = RichTable(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("mean cost", "quality", "zero-router hull"):
            bought.add_column(title, justify="right")
        for cost, quality, mixed in fitting.budgets(fitted.evaluation, name):
            bought.add_row(f"{cost:.4g}", f"{quality:.3f}", f"{mixed:.3f}")
        console.print("What a budget buys, out of fold:", style="bold")
        console.print(bought)
        console.print()
        for line in show.conclusion(fitted.evaluation):
            console.print(line, markup=False, soft_wrap=True)
    console.print(f"Wrote {output} ({_bytes(size)}, {full}).", markup=False, soft_wrap=True)


def _bytes(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KiB" if size < 1024**2 else f"{size / 1024**2:.1f} MiB"
