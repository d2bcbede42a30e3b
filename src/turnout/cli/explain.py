"""`turnout explain`: why a prompt goes where it goes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.serve.why import Explanation

__all__ = ["command"]


@click.command("explain")
@click.argument("prompt", required=False)
@click.option("--router", type=click.Path(path_type=Path), help="Router file, from turnout fit.")
@click.option("--config", type=click.Path(path_type=Path), help="The gateway's TOML file, instead.")
@click.option("--budget", type=float, help="Mean cost of a request, in the table's currency.")
@click.option("--quality", type=float, help="Mean quality to reach at the least cost.")
@click.option("--price", type=float, help="Quality given up to save one unit of cost.")
@click.option("--request", "name", metavar="ID", help="With --config: a request it has served.")
@click.option("--trust", multiple=True, help="Package whose classes the router file may name.")
@click.option("--json", "json_file", metavar="FILE", help="Write the reasons as JSON; - is stdout.")
def command(
    prompt: str | None,
    router: Path | None,
    config: Path | None,
    budget: float | None,
    quality: float | None,
    price: float | None,
    name: str | None,
    trust: tuple[str, ...],
    json_file: str | None,
) -> None:
    """Tell where PROMPT would go and why: every candidate's predicted quality and cost.

    And by how much the chosen one is ahead, which price would change that, and what in the prompt
    the prediction comes from. Net of cost is quality - price x cost: the greatest is chosen.

    PROMPT may be - to read it from standard input. With --request, tell instead how a request
    that the gateway has served was decided, from its ledger.
    """
    from turnout.core import InputError

    if (router is None) == (config is None):
        hint = "Pass --router router.turnout, or --config turnout.toml."
        raise InputError("--router and --config", "be given one of the two", None, hint)
    if (prompt is None) == (name is None):
        hint = 'Such as: turnout explain "What is 2 + 3?" --router router.turnout.'
        raise InputError("PROMPT and --request", "be given one of the two", None, hint)
    targets = {"mean_cost_usd": budget, "mean_quality": quality, "price": price}
    given = {key: value for key, value in targets.items() if value is not None}
    if name is not None:
        if config is None or given:
            hint = "Pass --config turnout.toml alone; the price is the one it was decided at."
            raise InputError("--request", "come with --config and no target", name, hint)
        reasons = _served(config, name)
    else:
        assert prompt is not None
        text = sys.stdin.read() if prompt == "-" else prompt
        reasons = _asked(text, router, config, given, trust)
    if json_file is not None:
        from turnout.bench.output import check_folder, write_json

        check_folder("--json", json_file)
        write_json("--json", json_file, reasons.record())
        if json_file == "-":
            return
    _show(reasons)


def _asked(
    text: str,
    file: Path | None,
    config: Path | None,
    given: dict[str, Any],
    trust: tuple[str, ...],
) -> Explanation:
    """What a router file, or a gateway when it starts, would do."""
    from turnout.core import InputError, Pool, RouterFileError
    from turnout.parts.decide import Explains, compile_decider
    from turnout.parts.priced import Priced
    from turnout.serve.config import load
    from turnout.serve.request import check_prompt
    from turnout.serve.routers import first_pace, read_router
    from turnout.serve.tables import BudgetConfig, ServerConfig
    from turnout.serve.why import explain

    limit, names, kept = ServerConfig().max_prompt_chars, None, BudgetConfig(**given)
    if config is not None:
        settings = load(config)
        limit, names, file = settings.server.max_prompt_chars, settings.names, settings.router.file
        trust = (*trust, *settings.router.trust)
        kept = kept if given else settings.budget
        if file is None:
            hint = f"{config.name} sends everything to one destination."
            raise InputError("router.file", "be set to have something to explain", None, hint)
    assert file is not None
    check_prompt(text, limit)
    saved = read_router(file, names, trust=trust)
    if not isinstance(saved.router, Priced):
        rule = "predict quality and cost"
        hint = "It only says where; there are no figures to show."
        raise RouterFileError("router", rule, saved.method or type(saved.router).__name__, hint)
    pool = Pool(names=saved.router.names if names is None else names)
    if kept.mean_cost_usd is not None and not saved.extra.get("frontier"):
        note = "note: the router was not measured, so the price for this budget is a first guess"
        click.echo(note, err=True)
    quality, cost = compile_decider(saved.router, pool).figures(text)
    reasons = explain(pool.names, quality, cost, first_pace(kept, saved, pool.names).price)
    predictor = saved.router.predictor
    if isinstance(predictor, Explains):
        reasons = replace(reasons, because=predictor.because(text, reasons.compared))
    return reasons


def _served(config: Path, name: str) -> Explanation:
    """What the ledger says of one request."""
    from turnout.core import InputError
    from turnout.serve.config import load
    from turnout.serve.money import reading
    from turnout.serve.why import explain

    settings = load(config)
    row = reading.find(settings.ledger.path, name)
    if row is None:
        hint = "Pass the x-turnout-id header of an answer, or the completion's id."
        raise InputError("--request", "be in the ledger", name, hint)
    if not row["quality"]:
        hint = f"It went to {row['destination']} without predictions: asked for by name."
        raise InputError("--request", "have been routed by predictions", name, hint)
    names = tuple(row["quality"])
    went = row["fallback_from"] or row["destination"]
    quality, cost = (list(row[key].values()) for key in ("quality", "cost"))
    return explain(names, quality, cost, row["price"], went=went, propensity=row["propensity"])


def _show(reasons: Explanation) -> None:
    from rich.console import Console
    from rich.table import Table

    from turnout.serve.why import plain

    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("destination", overflow="fold")
    for title in ("quality", "cost", "net of cost"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in reasons.candidates:
        table.add_row(
            one.name,
            f"{one.quality:.3f}",
            plain(one.cost),
            f"{one.value:.3f}",
            "<- chosen" if one.chosen else "",
            style="bold" if one.chosen else None,
        )
    console.print(table)
    console.print()
    for sentence in reasons.reasons:
        console.print(sentence, markup=False, soft_wrap=True)
    if reasons.because:
        console.print("\nWhat the prediction comes from:", style="bold")
        for sentence in reasons.because:
            console.print(sentence, markup=False, soft_wrap=True)
