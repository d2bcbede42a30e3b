"""`turnout trace`: what a mixture-of-experts router did."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.bench.traces import Analysis

__all__ = ["command"]

_EXPERTS = click.option(
    "--experts",
    type=click.IntRange(min=1),
    help="Experts in a layer, where the file does not say. [default: the largest seen, plus one]",
)
_TOP_K = click.option(
    "--top-k", type=click.IntRange(min=1), help="Choices of a token, for files of router logits."
)
_SEED = click.option("--seed", default=0, show_default=True, help="Seed of intervals and chance.")
_JSON = click.option("--json", "json_file", metavar="FILE", help="Write JSON; - is stdout.")


def _reading(function: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that reads a trace."""
    return _EXPERTS(_TOP_K(function))


@click.group("trace")
def command() -> None:
    """Read, look at and convert traces of mixture-of-experts routing.

    A trace says which experts each token went to. Read are files of `Trace.save`, routed
    experts of vLLM, router logits of transformers, top-1 logs, and counts by expert.
    """


@command.command("report")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Page to write (.html), or a folder for it. [default: NAME-report.html here]",
)
@click.option("--png", is_flag=True, help="Write each chart as a picture beside the page, too.")
@_JSON
@click.option("--compare", type=click.Path(path_type=Path), help="Another trace of the same model.")
@click.option(
    "--vocab",
    type=click.Path(path_type=Path),
    help="Text of the token ids: tokenizer.json, vocab.json, or a JSON list.",
)
@_reading
@_SEED
def _report(
    trace: Path,
    output: Path | None,
    png: bool,
    json_file: str | None,
    compare: Path | None,
    vocab: Path | None,
    experts: int | None,
    top_k: int | None,
    seed: int,
) -> None:
    """Report on TRACE: a summary here, and one page to look at.

    The page needs nothing else and can be sent as it is. TRACE may also be a file or a folder of
    counts by expert; a page then has a section for each model.
    """
    from turnout.bench import output as out_files
    from turnout.bench.traces import png as pictures
    from turnout.bench.traces import read_words, record, report
    from turnout.bench.traces.findings import moved
    from turnout.bench.traces.page import page

    if png:
        pictures.check()
    if json_file is not None:
        out_files.check_folder("--json", json_file)
    words = None if vocab is None else read_words(vocab)
    target = report.place("--output", output, trace)
    with out_files.progress() as tick:
        found, other = report.read_and_analyse(
            trace, compare=compare, e=experts, k=top_k, seed=seed, tick=tick
        )
    named = found[0].meta.get("name") or found[0].meta.get("model")
    title = Path(named).name if named else trace.name.partition(".")[0]
    text = page(found, title=title, source=trace.name, other=other, words=words)
    out_files.write("--output", target, text.encode())
    written = report.write_pictures(target, found, other) if png else []
    if json_file is not None:
        rows = [record(analysis) for analysis in (*found, *([other] if other else []))]
        out_files.write_json("--json", json_file, rows)
    console = _console(json_file)
    _tell(console, found)
    if other is not None:
        _tell(console, [other])
        for line in moved(found[0], other):
            _say(console, f"- {line}")
    more = f" and {len(written)} pictures beside it" if written else ""
    size = target.stat().st_size / 1024
    _say(console, f"Wrote {target} ({size:,.0f} KiB){more}.")


@command.command("show")
@click.argument("trace", type=click.Path(path_type=Path))
@_JSON
@_reading
@_SEED
def _show(
    trace: Path, json_file: str | None, experts: int | None, top_k: int | None, seed: int
) -> None:
    """Print the summary of TRACE, one row a layer, and write no page."""
    from turnout.bench import output as out_files
    from turnout.bench.traces import record, report

    if json_file is not None:
        out_files.check_folder("--json", json_file)
    with out_files.progress() as tick:
        found, _ = report.read_and_analyse(trace, e=experts, k=top_k, seed=seed, tick=tick)
    if json_file is not None:
        out_files.write_json("--json", json_file, [record(analysis) for analysis in found])
    _tell(_console(json_file), found)


@command.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@_reading
def _convert(source: Path, target: Path, experts: int | None, top_k: int | None) -> None:
    """Write the trace in SOURCE as TARGET: .npz, or .parquet with one row a choice."""
    from turnout.bench import output as out_files
    from turnout.bench.traces import Statistics, read_trace
    from turnout.core import InputError

    out_files.check_folder("TARGET", target)
    if target.suffix not in (".npz", ".parquet"):
        hint = "Choose one of the two."
        raise InputError("TARGET", "end in .npz or .parquet", str(target), hint)
    found = read_trace(source, e=experts, k=top_k)
    if isinstance(found, Statistics):
        hint = "Counts cannot be turned back into tokens; report on them as they are."
        raise InputError("SOURCE", "hold a trace", f"statistics in {source.name}", hint)
    found.save(target)
    size = target.stat().st_size / 1024
    shape = f"{found.t:,} tokens, {found.l} layers, {found.k} of {found.e} experts"
    click.echo(f"Wrote {target} ({size:,.0f} KiB): {shape}.")


def _console(json_file: str | None) -> Any:
    from rich.console import Console

    # With --json - the figures alone go to standard output, so that they can be piped.
    stream = sys.stderr if json_file == "-" else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 120, highlight=False)


def _tell(console: Any, analyses: list[Analysis]) -> None:
    """The summary of each analysis, as a person reads it."""
    from turnout.bench.traces import show
    from turnout.bench.traces.findings import findings

    pictures = console.encoding.lower().startswith("utf")
    for analysis in analyses:
        console.print(analysis.name, style="bold", markup=False)
        _say(console, f"  {show.heading(analysis)}")
        for note in analysis.notes:
            _say(console, f"  Note: {note}.")
        for table in show.tables(analysis, console.width, pictures=pictures):
            console.print()
            console.print(table)
        console.print()
        for line in findings(analysis):
            _say(console, f"- {line}")
        console.print()


def _say(console: Any, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
