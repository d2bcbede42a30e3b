"""`turnout certify`: the cheapest price that provably keeps a promise on new requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from turnout.core import Outcomes
    from turnout.parts.guarantees.conformal import Guarantee
    from turnout.parts.guarantees.heldout import HeldOut
    from turnout.parts.store import SavedRouter

__all__ = ["command"]

#: Share of repeated prompts from which on they are spoken of.
_REPEATS = 0.01


@click.command("certify")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--router",
    "router_file",
    required=True,
    type=click.Path(path_type=Path),
    help="Router file, from turnout fit.",
)
@click.option("--quality", type=float, help="Promise a mean quality of at least this.")
@click.option(
    "--wrong-weak",
    type=float,
    help="Promise that at most this share of all requests gets a wrong answer from another model "
    "than the strong one.",
)
@click.option(
    "--margin", type=float, help="Promise a mean quality at most this far below the strong one's."
)
@click.option(
    "--strong", metavar="NAME", help="The strong model. [default: best of the training table]"
)
@click.option(
    "--confidence",
    type=float,
    help="Probability that the promise holds. [default: 0.95; --wrong-weak: in expectation]",
)
@click.option("--train", type=click.Path(path_type=Path), help="The router's training table.")
@click.option("--prices", type=click.Path(path_type=Path), help="Price table, JSON.")
@click.option("--trust", multiple=True, help="Package whose classes the router file may name.")
@click.option("--trust-pickle", is_flag=True, help="Open pickles, which can run any code.")
@click.option("--json", "json_file", metavar="FILE", help="Write the promise as JSON; - is stdout.")
@click.option("--write", is_flag=True, help="Store the promise and its price in the router file.")
def command(
    data: Path,
    router_file: Path,
    quality: float | None,
    wrong_weak: float | None,
    margin: float | None,
    strong: str | None,
    confidence: float | None,
    train: Path | None,
    prices: Path | None,
    trust: tuple[str, ...],
    trust_pickle: bool,
    json_file: str | None,
    write: bool,
) -> None:
    """Find the cheapest price at which a router keeps a promise on new requests.

    DATA is a table of held-out rows, which the router has not learnt from. Give one of --quality,
    --wrong-weak and --margin. Exit status 1 where nothing can be promised.
    """
    from rich.console import Console

    from turnout.bench import output, read
    from turnout.core import InputError
    from turnout.parts import store

    asked = {"--quality": quality, "--wrong-weak": wrong_weak, "--margin": margin}
    given = {option: level for option, level in asked.items() if level is not None}
    if len(given) != 1:
        hint = "Such as: turnout certify held.csv --router router.turnout --quality 0.75."
        raise InputError(f"{', '.join(asked)}", "be given one of the three", given or None, hint)
    if json_file is not None:
        output.check_folder("--json", json_file)
    saved = store.load(router_file, trust=trust)
    table = read(data, trust_pickle=trust_pickle, prices=prices)
    console = Console(stderr=json_file == "-", highlight=False)
    console.print(f"{data.name} ({table.layout})", style="bold")
    for line in table.report.lines():
        console.print(f"  {line}", markup=False, soft_wrap=True)
    learnt = (
        None if train is None else read(train, trust_pickle=trust_pickle, prices=prices).outcomes
    )
    rows, notes = _held_rows(table.outcomes, saved, learnt)
    if table.report.duplicates > _REPEATS * table.outcomes.n:
        notes.append(
            f"{table.report.duplicates:,} rows repeat a prompt: fine if requests do so, too, but "
            "one request entered several times is one, and the rows count as independent"
        )
    for note in notes:
        console.print(f"Note: {note}.", markup=False, soft_wrap=True)
    column, name = _strong(saved, rows, strong)
    held = _predicted(saved, rows)
    ((option, level),) = given.items()
    found = _promise(held, option, level, column, confidence)
    settings = _settings(held, rows.names, column, found)
    document = {
        **found.record(),
        "strong": name,
        "data": data.name,
        "rows_left_out": table.outcomes.n - rows.n,
        "notes": notes,
    }
    _show(console, settings)
    legend = f"wrong weak: wrong answers from another than {name}, as a share of all requests"
    console.print(legend, style="dim", markup=False, soft_wrap=True)
    console.print()
    console.print(found.sentence, markup=False, soft_wrap=True)
    for line in _explained(found, settings, name):
        console.print(line, markup=False, soft_wrap=True)
    if write and found.price is not None:
        store.save(
            router_file,
            saved.router,
            saved.pool,
            fingerprint=saved.fingerprint,
            method=saved.method,
            extra={**saved.extra, "certified": document},
        )
        console.print(f"Wrote the promise to {router_file}.", markup=False, soft_wrap=True)
    if json_file is not None:
        output.write_json("--json", json_file, {**document, "settings": settings})
    if found.price is None:
        raise SystemExit(1)


def _held_rows(
    outcomes: Outcomes, saved: SavedRouter, learnt: Outcomes | None
) -> tuple[Outcomes, list[str]]:
    """Whole rows for the router's destinations, none of them of its training table if known."""
    import numpy as np

    from turnout.core import DataError

    names = saved.router.names
    missing = [name for name in names if name not in outcomes.names]
    if missing:
        hint = f"The router knows: {', '.join(names)}. Fit it for fewer, or add the column."
        raise DataError("the table", f"hold {missing[0]!r}", "no such column", hint)
    again = "Hold rows back before fitting, and certify with those."
    if outcomes.fingerprint() == saved.fingerprint:
        rule = "hold rows the router has not learnt from"
        raise DataError("the table", rule, "the table it was fitted on", again)
    chosen, notes = outcomes.select(names), []
    fresh = np.ones(chosen.n, dtype=np.bool_)
    if learnt is None:
        notes.append(
            "that the router has not learnt from these rows is taken on trust; "
            "with --train TABLE it is looked up"
        )
    else:
        if saved.fingerprint and learnt.fingerprint() != saved.fingerprint:
            notes.append("the table of --train is not the one that the router was fitted on")
        known = {_key(prompt) for prompt in learnt.inputs}
        fresh = np.array([_key(prompt) not in known for prompt in chosen.inputs])
        if not fresh.all():
            count = int((~fresh).sum())
            notes.append(f"{count:,} rows repeat a training prompt and are left out")
    whole = ~(np.isnan(chosen.quality) | np.isnan(chosen.cost)).any(axis=1)
    if (fresh & ~whole).any():
        count = int((fresh & ~whole).sum())
        notes.append(
            f"{count:,} rows have a blank and are left out; the promise is for requests like the "
            "others"
        )
    kept = np.flatnonzero(fresh & whole)
    if len(kept) == 0:
        rule = "hold new rows in which every destination has a quality and a cost"
        raise DataError("the table", rule, f"none of {chosen.n}", again)
    return chosen.take(kept), notes


def _key(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else prompt.tobytes()


def _strong(saved: SavedRouter, rows: Outcomes, name: str | None) -> tuple[int, str]:
    """Column and name of the strong destination; never looked up in the held-out rows."""
    from turnout.core import InputError

    name = saved.extra.get("best_single") if name is None else name
    if name not in rows.names:
        rule = f"be one of: {', '.join(rows.names)}"
        hint = "Pass the name of the model to fall back to."
        raise InputError("--strong", rule, name, hint)
    return rows.names.index(name), str(name)


def _predicted(saved: SavedRouter, rows: Outcomes) -> HeldOut:
    from turnout.core import RouterFileError
    from turnout.parts.guarantees.heldout import HeldOut
    from turnout.parts.priced import Priced

    if not isinstance(saved.router, Priced):
        rule = "predict quality and cost"
        hint = "Without these no price tells what it would do. Fit another method."
        raise RouterFileError("router", rule, saved.method or type(saved.router).__name__, hint)
    quality, cost = saved.router.predict(rows.inputs)
    return HeldOut(quality, cost, rows.quality, rows.cost)


def _promise(
    held: HeldOut, option: str, level: float, strong: int, confidence: float | None
) -> Guarantee:
    from turnout.parts.guarantees.conformal import keep_quality, keep_up, limit_wrong

    if option == "--wrong-weak":
        return limit_wrong(held, strong=strong, alpha=level, confidence=confidence)
    confidence = 0.95 if confidence is None else confidence
    if option == "--quality":
        return keep_quality(held, floor=level, confidence=confidence)
    return keep_up(held, strong=strong, margin=level, confidence=confidence)


def _settings(
    held: HeldOut, names: tuple[str, ...], strong: int, found: Guarantee
) -> list[dict[str, Any]]:
    """What the certified price does on the rows, beside price zero and single destinations."""
    import numpy as np

    from turnout.parts import prices

    def row(label: str, price: float | None, choice: Any) -> dict[str, Any]:
        quality = held.true_quality[np.arange(held.n), choice]
        return {
            "setting": label,
            "price": price,
            "cost": float(held.true_cost[np.arange(held.n), choice].mean()),
            "quality": float(quality.mean()),
            "wrong_weak": float(np.where(choice == strong, 0.0, 1.0 - quality).mean()),
            "to_strong": float((choice == strong).mean()),
        }

    def decided(label: str, price: float) -> dict[str, Any]:
        return row(label, price, prices.choose(held.quality, held.cost, price))

    always = {strong, int(np.argmin(held.true_cost.mean(axis=0)))}
    return [
        *([] if found.price is None else [decided("promised", found.price)]),
        decided("price 0", 0.0),
        *(row(f"always {names[j]}", None, np.full(held.n, j)) for j in sorted(always)),
    ]


def _show(console: Console, settings: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for title in ("price", "mean cost", "quality", "wrong weak", "to strong"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in settings:
        table.add_row(
            one["setting"],
            "" if one["price"] is None else f"{one['price']:.6g}",
            f"{one['cost']:.4g}",
            f"{one['quality']:.3f}",
            f"{one['wrong_weak']:.3f}",
            f"{one['to_strong']:.0%}",
            style="bold" if one["setting"] == "promised" else None,
        )
    console.print()
    console.print(table)


def _explained(found: Guarantee, settings: list[dict[str, Any]], strong: str) -> list[str]:
    """What the promise costs, what breaks it, and how to use it, in sentences."""
    if found.price is None:
        if found.kind == "wrong":
            return [f"Send everything to {strong}: then no wrong answer comes from another."]
        return []
    lines = []
    dear = next(one["cost"] for one in settings if one["setting"] == f"always {strong}")
    if dear > 0:
        share = 1 - found.cost / dear
        than = f"{abs(share):.0%} {'less' if share >= 0 else 'more'} than always {strong}"
        lines.append(f"It costs {found.cost:.4g} a request, {than} ({dear:.4g}).")
    if found.grows is False:
        lines.append(
            "On some rows the loss falls as the price rises; its greatest up to each price was "
            "bounded in its place, so that the promise is more careful than it need be."
        )
    lines.append(
        "The promise is about requests drawn as these rows were, routed by this file at this "
        "price alone: certify again when traffic, models or router change."
    )
    return [*lines, f"In the gateway's file: [budget] price = {found.shown}"]
