"""`turnout bench`: methods beside the landmarks, on your table."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("bench")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--test", type=click.Path(path_type=Path), help="Judge on this table instead.")
@click.option(
    "--methods",
    "-m",
    multiple=True,
    metavar="NAMES",
    help="Methods by name, by commas or repeated. [default: those that fit quickly]",
)
@click.option("--folds", default=5, show_default=True, help="Parts for out-of-fold judging.")
@click.option(
    "--leave-groups-out", is_flag=True, help="Make the parts of whole groups, never learnt from."
)
@click.option("--seed", default=0, show_default=True, help="Seed of folds, fits and intervals.")
@click.option("--prices", type=click.Path(path_type=Path), help="Price table, JSON.")
@click.option("--trust-pickle", is_flag=True, help="Open pickles, which can run any code.")
@click.option("--json", "json_file", metavar="FILE", help="Write the rows as JSON; - is stdout.")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw the frontiers: .png or .html.")
def command(
    data: Path,
    test: Path | None,
    methods: tuple[str, ...],
    folds: int,
    leave_groups_out: bool,
    seed: int,
    prices: Path | None,
    trust_pickle: bool,
    json_file: str | None,
    plot_file: str | None,
) -> None:
    """Judge routing methods on DATA, a table of what each destination answered, at what cost.

    Prints every method beside the landmarks it has to beat: random mixture, cheapest, best
    single, zero-router hull, prompt length alone, group mean, oracle. A log of single choices
    with their propensities is judged by doubly robust estimates.
    """
    from rich.console import Console

    from turnout.bench import contestants, evaluate, logs, output, plot, read, show
    from turnout.core import InputError

    if test is not None and leave_groups_out:
        rule = "not be given with --leave-groups-out"
        raise InputError("--test", rule, str(test), "Keep one of the two.")
    if plot_file is not None:
        plot.check_path(Path(plot_file))
        output.check_folder("--plot", plot_file)
    if json_file is not None:
        output.check_folder("--json", json_file)
    asked = contestants.choose(methods) if methods else None
    table = read(data, trust_pickle=trust_pickle, prices=prices)
    held = None if test is None else read(test, trust_pickle=trust_pickle, prices=prices)
    # With --json - the rows alone go to standard output, so that they can be piped.
    out = Console(stderr=json_file == "-", highlight=False)
    out.print(f"{data.name} ({table.layout})", style="bold")
    for line in table.report.lines():
        out.print(f"  {line}", markup=False, soft_wrap=True)
    if held is not None and test is not None:
        out.print(f"{test.name} ({held.layout})", style="bold")
        for line in held.report.lines():
            out.print(f"  {line}", markup=False, soft_wrap=True)
    recipes, left = (asked, []) if asked else contestants.default(table.outcomes)
    may_fail = () if methods else tuple(recipes)
    with output.progress() as tick:
        if logs.is_log(table.outcomes) and held is None and not leave_groups_out:
            found = logs.evaluate_log(
                table.outcomes, recipes, folds=folds, seed=seed, may_fail=may_fail, tick=tick
            )
        else:
            found = evaluate(
                table.outcomes,
                recipes,
                test=None if held is None else held.outcomes,
                folds=folds,
                leave_groups_out=leave_groups_out,
                seed=seed,
                may_fail=may_fail,
                tick=tick,
            )
    if plot_file is not None:
        currency = "US$" if any("US$" in note for note in table.report.notes) else ""
        image = plot.render(found, Path(plot_file).suffix, title=data.name, currency=currency)
        output.write("--plot", plot_file, image)
    if json_file is not None:
        output.write_json("--json", json_file, found.records())
    out.print()
    out.print(show.table(found))
    out.print()
    low, high = found.cost_range
    out.print(
        f"{found.protocol}; {found.n:,} of {found.total:,} rows judged.",
        markup=False,
        soft_wrap=True,
    )
    out.print(
        f"AIQ: mean quality over mean costs from {low:.4g} to {high:.4g}.",
        markup=False,
        soft_wrap=True,
    )
    for line in found.notes:
        out.print(f"Note: {line}.", markup=False, soft_wrap=True)
    why: dict[str, list[str]] = {}
    for name, reason in (*left, *found.skipped):
        why.setdefault(reason, []).append(name)
    for reason, names in why.items():
        out.print(f"Skipped {', '.join(names)}: {reason}", markup=False, soft_wrap=True)
    out.print()
    out.print(show.chart(found, width=min(out.width, 100)))
    out.print()
    for line in show.conclusion(found):
        out.print(line, markup=False, soft_wrap=True)
