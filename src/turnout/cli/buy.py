"""`turnout buy`: which answers to have made and graded next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from turnout.core import Outcomes
    from turnout.core._check import Float

__all__ = ["command"]

#: Cells shown where no file is asked for, and characters of a prompt.
_SHOWN, _WIDE = 12, 48


@click.command("buy")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--spend", required=True, type=float, help="Most to spend, in DATA's currency.")
@click.option("--method", "-m", default="stacked", show_default=True, help="Method to be fitted.")
@click.option("--seed", default=0, show_default=True, help="Seed of the order.")
@click.option("--prices", type=click.Path(path_type=Path), help="Price table, JSON.")
@click.option("--trust-pickle", is_flag=True, help="Open pickles, which can run any code.")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Write all cells as CSV: prompt, model, cost; - is stdout.",
)
def command(
    data: Path,
    spend: float,
    method: str,
    seed: int,
    prices: Path | None,
    trust_pickle: bool,
    output: str | None,
) -> None:
    """Choose which blank cells of DATA, a table of answers and grades, to fill next.

    A row may be all blank: a prompt that nobody has answered yet. The cells come in the order in
    which they are worth their expected cost, and cost at most --spend together.
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from turnout.bench import contestants, read
    from turnout.bench import output as out_files
    from turnout.core import InputError
    from turnout.parts.feedback.buying import plan

    if output is not None:
        out_files.check_folder("--output", output)
    recipes = contestants.choose([method])
    if len(recipes) != 1:
        raise InputError("--method", "name one method", method, "Buy for one at a time.")
    (recipe,) = recipes.values()
    table = read(data, trust_pickle=trust_pickle, prices=prices).outcomes
    cost = _expected(table)
    with Console(stderr=True).status("choosing"):
        order = plan(table.inputs, cost, table, spend, recipe, np.random.default_rng(seed))
    console = Console(stderr=output == "-", highlight=False)
    if len(order):
        counted = Table("model", box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title in ("cells", "expected cost"):
            counted.add_column(title, justify="right")
        for j, name in enumerate(table.names):
            mine = order.cells[:, 1] == j
            counted.add_row(Text(name), f"{int(mine.sum()):,}", f"{order.cost[mine].sum():.4g}")
        console.print(counted)
    cells = [
        (str(table.inputs[int(i)]), table.names[int(j)], float(c))
        for (i, j), c in zip(order.cells, order.cost, strict=True)
    ]
    if output is not None:
        _write(output, cells)
    elif cells:
        console.print()
        first = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        first.add_column("prompt", no_wrap=True, overflow="ellipsis")
        first.add_column("model", no_wrap=True)
        first.add_column("expected cost", justify="right", no_wrap=True)
        for prompt, name, paid in cells[:_SHOWN]:
            line = " ".join(prompt.split())
            short = line if len(line) <= _WIDE else f"{line[: _WIDE - 3]}..."
            first.add_row(Text(short), Text(name), f"{paid:.4g}")
        console.print(first)
        if len(cells) > _SHOWN:
            console.print(f"... and {len(cells) - _SHOWN:,} more: --output FILE writes them all.")
        console.print()
    cell = "1 cell" if len(order) == 1 else f"{len(order):,} cells"
    console.print(f"{cell} for an expected {order.spend:.6g} of {spend:.6g}.")


def _expected(table: Outcomes) -> Float:
    """Expected cost (n, m): as told, and by the length of the prompt where it is not.

    Raises
    ------
    DataError
        No cost of a destination is known.
    """
    import numpy as np

    from turnout.core import DataError
    from turnout.parts.costs import fit_costs

    never = np.isnan(table.cost).all(axis=0)
    if never.any():
        name = table.names[int(np.flatnonzero(never)[0])]
        hint = "Fill in the column `cost`, or pass --prices FILE."
        raise DataError(f"cost of {name!r}", "be known in at least one row", "only blanks", hint)
    line = fit_costs(table).predict(table.inputs)
    return np.where(np.isnan(table.cost), line, table.cost)


def _write(path: str, cells: list[tuple[str, str, float]]) -> None:
    """CSV with a header; `turnout fit` reads it once a column `quality` is added."""
    import csv
    import io
    import sys

    from turnout.bench import output

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("prompt", "model", "cost"))
    writer.writerows(cells)
    if path == "-":
        sys.stdout.write(text.getvalue())
    else:
        output.write("--output", path, text.getvalue().encode())
