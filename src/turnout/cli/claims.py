"""`turnout claims`: the papers' claims in small, and what came of them."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from turnout.catalog.claims import state_in
from turnout.cli.methods import COLOURS, wide_console
from turnout.core import ConfigError, TurnoutError
from turnout.testing.claims import Claim, claims_in, read_result, select
from turnout.testing.runs import run_claim, write_result

__all__ = ["command", "find_claims"]

_FOLDER = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of claims; by default `claims` here or in a folder above.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group("claims")
def command() -> None:
    """List the papers' claims, or run them in small.

    Each claim has a band that was written before the run. One that fails stays published as
    failed.
    """


@command.command("list")
@click.argument("pattern", default="*")
@_FOLDER
@_JSON
def _list(pattern: str, folder: Path | None, as_json: bool) -> None:
    """List the claims whose name matches PATTERN (all of them by default)."""
    root = find_claims(folder)
    chosen = select(root, pattern) if pattern != "*" else claims_in(root)
    rows = [_row(claim, root) for claim in chosen]
    _show(rows, as_json)


@command.command("run")
@click.argument("pattern")
@_FOLDER
@_JSON
def _run(pattern: str, folder: Path | None, as_json: bool) -> None:
    """Run the claims whose name matches PATTERN, such as llms.knn or 'llms.*'.

    Writes result.json beside each. Exit status 0 once all have run, whatever they found; 2 when
    one could not be run.
    """
    root = find_claims(folder)
    chosen = select(root, pattern)
    rows, broken = [], 0
    with _progress() as bar:
        for claim in chosen:
            task = bar.add_task(claim.method, total=len(claim.seeds))
            try:
                result = run_claim(claim, progress=lambda _, task=task: bar.advance(task))  # type: ignore[misc]
            except TurnoutError as error:
                click.echo(f"error: {claim.method}: {error}", err=True)
            except Exception:
                click.echo(f"error: {claim.method} could not be run:", err=True)
                click.echo(traceback.format_exc(), err=True)
            else:
                write_result(claim, result)
                rows.append(_row(claim, root))
                continue
            broken += 1
    _show(rows, as_json)
    if broken:
        raise click.exceptions.Exit(2)


def find_claims(folder: Path | None) -> Path:
    """The folder of claims: the one named, or the nearest `claims` from here upwards.

    Raises
    ------
    ConfigError
        There is none.
    """
    here = Path.cwd()
    places = [folder] if folder is not None else [up / "claims" for up in (here, *here.parents)]
    for place in places:
        if place.is_dir():
            return place
    where = str(folder) if folder is not None else f"claims in {here} or above"
    hint = "Run this in a checkout of the project, or pass --dir."
    raise ConfigError("claims folder", "exist", where, hint)


def _row(claim: Claim, root: Path) -> dict[str, Any]:
    state = state_in(root, claim.method)
    result = read_result(claim) if state != "untested" else None
    row: dict[str, Any] = {
        "name": claim.method,
        "state": state,
        "claim": claim.claim,
        "measure": claim.measure,
        "direction": claim.direction,
        "band": [str(end) if end in (float("inf"), -float("inf")) else end for end in claim.band],
        "value": None,
        "spread": None,
        "also": [],
        "seconds": None,
        "budget_seconds": claim.budget_seconds,
        "seeds": list(claim.seeds),
        "date": None,
        "paper": claim.paper,
        "needs": list(claim.needs),
    }
    if result is not None:
        row |= {key: result.get(key) for key in ("value", "spread", "also", "seconds", "date")}
    return row


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "state", "measure"):
        table.add_column(title, no_wrap=True)
    for title in ("value", "band", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("claim")
    for row in rows:
        colour = COLOURS[row["state"]]
        value = "" if row["value"] is None else f"{row['value']:.4g} ± {row['spread']:.2g}"
        low, high = (float(end) for end in row["band"])
        table.add_row(
            row["name"],
            f"[{colour}]{row['state']}[/{colour}]",
            row["measure"],
            value,
            f"{low:.4g} to {high:.4g}",
            _time(row),
            " ".join(row["claim"].split()),
        )
        for item in row["also"]:
            low, high = (float(end) for end in item["band"])
            table.add_row(
                "",
                "[green]met[/green]" if item["met"] else "[red]missed[/red]",
                item["measure"],
                f"{item['value']:.4g} ± {item['spread']:.2g}",
                f"{low:.4g} to {high:.4g}",
                "",
                item["text"],
            )
    wide_console().print(table)


def _time(row: dict[str, Any]) -> str:
    """Seconds it took, of those it was given; the latter alone where it never ran."""
    given = f"{row['budget_seconds']:.0f}"
    return given if row["seconds"] is None else f"{row['seconds']:.0f} of {given}"


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} seeds"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
