"""`turnout rank`: which system is best over several tasks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.bench.rank_aggregation import Consensus, Ranking, Scores
    from turnout.bench.rank_stability import Robustness

__all__ = ["command"]

#: Systems shown in the table where not all are asked for.
_SHOWN = 25


@click.command("rank")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--columns", metavar="NAMES", help="Tasks to rank by, by commas. [default: all]")
@click.option("--leave", metavar="NAMES", help="Tasks to leave out, such as a column of means.")
@click.option("--lower", metavar="NAMES", help="Tasks of which less is better.")
@click.option("--measure", metavar="NAME", help="Figure of routers' results, such as cpt50.")
@click.option("--system", metavar="COLUMN", help="Column that names the system.")
@click.option("--item", metavar="COLUMN", help="Column that names the item.")
@click.option(
    "--levels",
    type=click.IntRange(1, 2),
    default=2,
    show_default=True,
    help="2: each task counts once. 1: each item does.",
)
@click.option("--landmarks", is_flag=True, help="Rank the landmarks among the routers.")
@click.option("--all", "everything", is_flag=True, help="Show every system.")
@click.option("--resamples", default=1000, show_default=True, help="Draws behind the intervals.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--json", "json_file", metavar="FILE", help="Write JSON; - is stdout.")
def command(
    files: tuple[Path, ...],
    columns: str | None,
    leave: str | None,
    lower: str | None,
    measure: str | None,
    system: str | None,
    item: str | None,
    levels: int,
    landmarks: bool,
    everything: bool,
    resamples: int,
    seed: int,
    json_file: str | None,
) -> None:
    """Rank systems over the tasks of FILES, whatever the scale of each task.

    FILES is a table of scores (Model,<task>,... or System,Utterance,<metric>,...), the results of
    benchmarks/routers.py, several files of turnout bench --json, or a table of outcomes.
    """
    import numpy as np

    from turnout.bench import output
    from turnout.bench import rank_aggregation as ranks
    from turnout.bench import rank_stability as stability
    from turnout.bench.rank_tables import read_scores
    from turnout.core import InputError

    if json_file is not None:
        output.check_folder("--json", json_file)
    found = read_scores(
        files,
        columns=_names(columns),
        leave=_names(leave),
        lower=_names(lower),
        measure=measure,
        system=system,
        item=item,
        landmarks=landmarks,
    )
    scores = found.scores
    borda = ranks.borda(scores, levels=levels)
    mean = ranks.mean(scores, levels=levels)
    draws = stability.robustness(
        scores, rng=np.random.default_rng(seed), resamples=resamples, levels=levels
    )
    exact: Consensus | None
    try:
        exact, why = ranks.kemeny(scores, levels=levels), ""
    except InputError as error:
        exact, why = None, str(error)
    if json_file is not None:
        record = _record(scores, borda, mean, exact, draws, levels)
        output.write_json("--json", json_file, record)
    # With --json - the figures alone go to standard output, so that they can be piped.
    stream = sys.stderr if json_file == "-" else sys.stdout
    _show(
        stream,
        ", ".join(path.name for path in files),
        scores,
        (borda, mean, exact, draws),
        found.notes,
        why,
        levels,
        None if everything else _SHOWN,
    )


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _interval(draws: Robustness, j: int) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(draws.places[:, j], [0.025, 0.975])
    return float(low), float(high)


def _show(
    stream: Any,
    title: str,
    scores: Scores,
    rankings: tuple[Ranking, Ranking, Consensus | None, Robustness],
    notes: tuple[str, ...],
    why: str,
    levels: int,
    most: int | None,
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    borda, mean, exact, draws = rankings
    console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False)
    console.print(title, style="bold", markup=False)
    down = f", less is better in {', '.join(scores.lower)}" if scores.lower else ""
    size = f"{len(scores.systems)} systems, {len(scores.tasks)} tasks"
    items = f", {scores.n:,} items" if scores.n > len(scores.tasks) else ""
    _say(console, f"  {size}{items}{down}")
    for note in notes:
        _say(console, f"  Note: {note}.")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("place", justify="right")
    table.add_column("system", overflow="ellipsis", no_wrap=True)
    for name in ("Borda", "95 %", "first", "Kemeny", "by mean"):
        table.add_column(name, justify="right", no_wrap=True)
    places, means = borda.places(), mean.places()
    kemeny = None if exact is None else exact.ranking.places()
    order = sorted(range(len(places)), key=lambda j: (places[j], scores.systems[j]))
    for j in order[:most]:
        low, high = _interval(draws, j)
        table.add_row(
            _place(places[j]),
            Text(scores.systems[j]),
            f"{borda.points[j]:,.5g}",
            f"{_place(low)} - {_place(high)}",
            f"{draws.first[j]:.0%}",
            "-" if kemeny is None else _place(kemeny[j]),
            _place(means[j]),
        )
    console.print()
    console.print(table)
    if most is not None and len(order) > most:
        console.print(f"... and {len(order) - most} more: --all shows them.", style="dim")
    console.print()
    for line in _sentences(scores, borda, mean, exact, draws, levels):
        _say(console, line)
    if exact is None:
        _say(console, f"No exact consensus: {why}")


def _sentences(
    scores: Scores,
    borda: Ranking,
    mean: Ranking,
    exact: Consensus | None,
    draws: Robustness,
    levels: int,
) -> list[str]:
    from turnout.bench import rank_aggregation as ranks
    from turnout.bench import rank_stability as stability

    leaders = borda.groups()[0]
    together = "lead together" if len(leaders) > 1 else "leads"
    share = sum(float(draws.first[scores.systems.index(name)]) for name in leaders)
    lines = [
        f"{' and '.join(leaders)} {together} by Borda's count, in {share:.0%} of the draws of "
        f"{draws.drawn} too; a draw's order has tau {_number(draws.tau.mean())} with this one."
    ]
    if exact is not None:
        alone = "the only such order" if exact.unique else "one of several such orders"
        distance = _number(ranks.tau(borda, exact.ranking))
        lines.append(
            f"Kemeny's order disagrees least with all tasks ({exact.cost:,.6g} pairs) and is "
            f"{alone}; tau with Borda {distance}."
        )
    first, best = mean.groups()[0], ", ".join(mean.groups()[0])
    change = "the leader is the same" if first == leaders else f"its leader is {best}"
    lines.append(f"The mean of scores: {change}, tau with Borda {_number(ranks.tau(borda, mean))}.")
    left = {k: v for k, v in stability.without_each_task(scores, levels=levels).items() if v == v}
    if left:
        task = min(left, key=lambda name: left[name])
        lines.append(f"No task moves the order more than {task}: tau {left[task]:.3f} without it.")
    spoilers = stability.spoilers(scores, levels=levels)
    for name, after in list(spoilers.items())[:3]:
        lines.append(f"Without {name}, {' and '.join(after)} would be first among the others.")
    if len(spoilers) > 3:
        lines.append(f"{len(spoilers) - 3} more systems would do the like by leaving.")
    return lines


def _record(
    scores: Scores,
    borda: Ranking,
    mean: Ranking,
    exact: Consensus | None,
    draws: Robustness,
    levels: int,
) -> dict[str, Any]:
    from turnout.bench import rank_aggregation as ranks
    from turnout.bench import rank_stability as stability

    rows = []
    kemeny = None if exact is None else exact.ranking.places()
    for j, name in enumerate(scores.systems):
        low, high = _interval(draws, j)
        rows.append(
            {
                "system": name,
                "place": float(borda.places()[j]),
                "points": float(borda.points[j]),
                "place_low": low,
                "place_high": high,
                "first": float(draws.first[j]),
                "kemeny_place": None if kemeny is None else float(kemeny[j]),
                "mean_place": float(mean.places()[j]),
            }
        )
    rows.sort(key=lambda row: (row["place"], row["system"]))
    return {
        "tasks": list(scores.tasks),
        "lower": list(scores.lower),
        "items": scores.n,
        "levels": levels,
        "order": [list(group) for group in borda.groups()],
        "systems": rows,
        "kemeny": None if exact is None else {"cost": exact.cost, "unique": exact.unique},
        "tau_mean": _or_none(ranks.tau(borda, mean)),
        "without_task": {
            task: _or_none(value)
            for task, value in stability.without_each_task(scores, levels=levels).items()
        },
        "spoilers": {k: list(v) for k, v in stability.spoilers(scores, levels=levels).items()},
    }


def _or_none(value: float) -> float | None:
    return value if value == value else None


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "undefined"


def _place(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _say(console: Any, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
