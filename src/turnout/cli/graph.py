"""`turnout graph`: a trace, a table or a log as a graph that can be asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.bench.graph_queries import Answer
    from turnout.bench.trace_graph import PropertyGraph

__all__ = ["command"]


@click.command("graph")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--query",
    "-q",
    "queries",
    multiple=True,
    metavar="NAME",
    help="A question by its name; repeat for several. --query list lists them.",
)
@click.option("--node", metavar="ID", help="A node to ask about, such as expert:0:3.")
@click.option("--to", metavar="ID", help="Where a path shall end.")
@click.option("--quality", type=click.FloatRange(0, 1), help="Least mean quality of a model.")
@click.option("--most", default=10, show_default=True, help="Rows of an answer.")
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    help="Devices over which the experts of each layer are spread, evenly and in order.",
)
@click.option("--tag", help="Tag of the trace that is the domain of a request.")
@click.option(
    "--export",
    "-o",
    type=click.Path(path_type=Path),
    help="Write the graph: .graphml, .dot, .json (Cytoscape) or .svg (a picture).",
)
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another log: which routes changed?"
)
@click.option("--seed", default=0, show_default=True, help="Seed of communities.")
@click.option("--json", "json_file", metavar="FILE", help="Write the answers as JSON; - is stdout.")
def command(
    source: Path,
    queries: tuple[str, ...],
    node: str | None,
    to: str | None,
    quality: float | None,
    most: int,
    devices: int | None,
    tag: str | None,
    export: Path | None,
    against: Path | None,
    seed: int,
    json_file: str | None,
) -> None:
    """Ask SOURCE questions as a graph, or export it for tools that draw graphs.

    SOURCE is a trace of experts (.npz, .parquet), a table of outcomes, or the JSON Lines that
    `turnout prompts export` writes. Without --query what there is is counted and the usual
    questions are asked.
    """
    from rich.console import Console

    from turnout.bench import graph_exports, output
    from turnout.bench.graph_queries import QUERIES, Settings, ask, changed_routes

    if "list" in queries:
        for name, (kind, _) in QUERIES.items():
            click.echo(f"{name:14} about {kind.lower()}s")
        return
    if export is not None:
        output.check_folder("--export", export)
    if json_file is not None:
        output.check_folder("--json", json_file)
    graph = _read(source, devices, tag)
    usual = ("hot-experts", "busiest-ways", "paths", "devices", "models", "requests")
    asked = queries or tuple(n for n in usual if graph.nodes_of(QUERIES[n][0]) and n in QUERIES)
    settings = Settings(most=most, node=node, to=to, quality=quality, seed=seed)
    answers = {name: ask(graph, name, settings) for name in asked}
    if against is not None:
        answers["changed routes"] = changed_routes(graph, _read(against, devices, tag))
    stream = sys.stderr if json_file == "-" else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else 120, highlight=False)
    console.print(source.name, style="bold", markup=False)
    counted = ", ".join(f"{count:,} {kind}" for kind, count in graph.counts().items())
    _say(console, f"  {counted}")
    for name, answer in answers.items():
        _tell(console, name, answer, most)
    if export is not None:
        graph_exports.write("--export", export, graph)
        _say(console, f"Wrote {export} ({export.stat().st_size / 1024:,.0f} KiB).")
    if json_file is not None:
        output.write_json("--json", json_file, {"counts": graph.counts(), **_records(answers)})


def _read(source: Path, devices: int | None, tag: str | None) -> PropertyGraph:
    """The graph of a file, told by what it holds."""
    import numpy as np

    from turnout.bench import files, read
    from turnout.bench.trace_graph import from_outcomes, from_rows, from_trace
    from turnout.bench.traces import Statistics, read_trace
    from turnout.core import DataError, InputError

    if source.suffix in (".jsonl", ".ndjson"):
        frame, _ = files.load(source)
        if "model" in frame and "id" in frame:
            names = frame.names
            return from_rows(
                dict(zip(names, row, strict=True))
                for row in zip(*(frame[name] for name in names), strict=True)
                if dict(zip(names, row, strict=True)).get("model")
            )
    if source.suffix in (".npz", ".npy", ".parquet", ".pt", ".safetensors"):
        try:
            trace = read_trace(source)
        except DataError:
            if source.suffix != ".parquet":
                raise
        else:
            if isinstance(trace, Statistics):
                hint = "Counts have no paths; record a trace."
                raise InputError("SOURCE", "hold a trace", source.name, hint)
            if devices is None:
                return from_trace(trace, tag=tag)
            room = -(-trace.e // devices)
            spread = np.tile(np.arange(trace.e) // room, (trace.l, 1))
            return from_trace(trace, devices=spread, tag=tag)
    return from_outcomes(read(source).outcomes)


def _tell(console: Any, name: str, answer: Answer, most: int) -> None:
    from rich.table import Table
    from rich.text import Text

    console.print()
    console.print(name, style="bold", markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for place, title in enumerate(answer.titles):
        number = any(isinstance(row[place], int | float) for row in answer.rows)
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for row in answer.rows[:most]:
        table.add_row(*(Text(_cell(value)) for value in row))
    if answer.rows:
        console.print(table)
    _say(console, answer.sentence)


def _records(answers: dict[str, Answer]) -> dict[str, Any]:
    return {
        "answers": {
            name: {
                "sentence": answer.sentence,
                "rows": [dict(zip(answer.titles, row, strict=True)) for row in answer.rows],
            }
            for name, answer in answers.items()
        }
    }


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _say(console: Any, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
