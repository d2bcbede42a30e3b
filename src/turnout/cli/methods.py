"""`turnout methods`: the catalogue."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from turnout import catalog

__all__ = ["command", "wide_console"]

#: Colour of each state of a claim.
COLOURS = {"holds": "green", "partly": "yellow", "fails": "red", "untested": "dim"}


@click.command("methods")
@click.option("--level", metavar="LEVEL", help="Only the methods of one level, such as llms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(level: str | None, as_json: bool) -> None:
    """List every method with its paper and the state of its claim.

    Where each stands, and which you can use with what you have, is told by: turnout survey.

    A claim is the paper's own, in small, measured here: holds, partly, fails, or untested.
    Details of each are listed by: turnout claims list.
    """
    if as_json:
        click.echo(json.dumps(catalog.rows(level), indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "system", "claim", "paper"):
        table.add_column(title, no_wrap=title != "paper")
    for entry in catalog.methods(level):
        colour, card = COLOURS[entry.claim], entry.card
        state = f"[{colour}]{entry.claim}[/{colour}]"
        table.add_row(card.name, card.system, state, f"{card.title} ({card.year}), {card.id}")
    wide_console().print(table)


def wide_console() -> Console:
    """Standard output; as wide as a line may be where nobody sees it wrap."""
    return Console(width=None if sys.stdout.isatty() else 240, highlight=False)
