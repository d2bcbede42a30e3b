"""`turnout survey`: where each method of routing stands, and which of them one can use."""

from __future__ import annotations

import dataclasses
import json

import click

__all__ = ["command"]


@click.command("survey")
@click.option("--when", help="Only methods that decide then: pre, post or multi.")
@click.option("--family", help="Only methods of one family, such as similarity.")
@click.option("--output", help="Only methods that give this: one, chain, several or reject.")
@click.option(
    "--have",
    metavar="NAMES",
    help="Only methods that need no more than these, by commas: outcomes, answers, pairs, load, "
    "embedding, torch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    when: str | None, family: str | None, output: str | None, have: str | None, as_json: bool
) -> None:
    """Sort the methods that route requests: when they decide, how, on what, and what comes out.

    Which may I use? Say what there is: turnout survey --have outcomes,embedding
    """
    from rich.table import Table
    from rich.text import Text

    from turnout import catalog
    from turnout.cli.methods import wide_console
    from turnout.llms import routing_survey

    given = None if have is None else [part.strip() for part in have.split(",") if part.strip()]
    places = routing_survey.survey(catalog.methods("llms"))
    found = routing_survey.find(places, when=when, family=family, output=output, have=given)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(place) for place in found], indent=2))
        return
    console = wide_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "when", "how", "sends to", "gives", "needs"):
        table.add_column(title, no_wrap=title == "name")
    order = {name: k for k, name in enumerate(routing_survey.FAMILIES)}
    for place in sorted(found, key=lambda one: (order[one.family], one.strategies[0], one.name)):
        online = ", learns online" if place.online else ""
        cells = (
            place.name,
            place.when,
            place.strategies[0],
            place.what,
            place.output,
            f"{', '.join(place.needs)}{online}",
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    console.print()
    for names, used in (
        (routing_survey.WHEN, {place.when for place in found}),
        (routing_survey.OUTPUTS, {place.output for place in found}),
    ):
        said = "; ".join(f"{name}: {text}" for name, text in names.items() if name in used)
        console.print(said, style="dim", markup=False, soft_wrap=True)
    console.print(f"{len(found)} of {len(places)} methods.", markup=False)
