"""`turnout demo`: the whole main job, on models that ship with the package."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from turnout.core.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

    from turnout.core import Outcomes, Pool
    from turnout.lab import Problem

__all__ = ["command"]

#: The budget of the demonstration: this share of what the best single model costs.
SHARE = 0.3

#: Requests in flight at a time; the models share the processor's cores.
WORKERS = 2


@click.command("demo")
@click.option("--once", is_flag=True, help="Send routed requests, report, and stop.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print the report as JSON.")
@click.option("--prompts", default=2000, show_default=True, help="Prompts to fit the router on.")
@click.option("--requests", default=200, show_default=True, help="Requests that --once sends.")
@click.option("--seed", default=0, show_default=True, help="Seed of the prompts.")
@click.option("--port", default=8080, show_default=True, help="Port to serve on; 0 = any free one.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to keep [turnout-demo].")
def command(
    *,
    once: bool,
    as_json: bool,
    prompts: int,
    requests: int,
    seed: int,
    port: int,
    out: Path | None,
) -> None:
    """Ask small real models, grade, fit, draw what each budget buys, and serve the pool.

    With --once it serves on any free port just long enough to send itself requests through the
    official openai client, half of them streamed, and grades what comes back.
    """
    from rich.console import Console

    if as_json and not once:
        raise InputError("--json", "come with --once", "--json", "Add --once.")
    for name, value in (("--prompts", prompts), ("--requests", requests)):
        if value < 10:
            raise InputError(name, "be at least 10", value, "Leave it out for the default.")
    from turnout import lab

    # What would fail at the end fails now, not after a minute's work.
    if once:
        _client_class()
    else:
        from turnout.serve.run import bind

        bind("127.0.0.1", port).close()
    started = time.perf_counter()
    console = Console(stderr=as_json)

    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.one_thread())
        if out is None and once:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-")))
        folder = Path("turnout-demo") if out is None else out
        period = requests if once else 1000
        config = _prepare(folder, prompts, seed, 0 if once else port, period, console)
        if not once:
            from turnout.serve.config import load
            from turnout.serve.run import serve

            console.print(f"\n[dim]{time.perf_counter() - started:.0f} s so far.[/dim]\n")
            # as it is: a command to copy must not be wrapped
            serve(load(config), reread=lambda: load(config), say=click.echo)
            return
        report = _send(config, requests, seed + 1, console)
    report["seconds"] = round(time.perf_counter() - started, 1)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _tell(report, console)


def _prepare(
    folder: Path, prompts: int, seed: int, port: int, period: int, console: Console
) -> Path:
    """Ask, grade, fit, draw; leaves the table, the router, the picture and the configuration."""
    from turnout import lab
    from turnout.bench import fitting, plot, show
    from turnout.bench.output import progress
    from turnout.llms.linear import Linear
    from turnout.parts import store

    models = lab.names()
    console.print(
        f"Asking {len(models)} small language models ({', '.join(models)}) "
        f"{prompts:,} prompts each, and grading every answer ..."
    )
    with _bar("asking", len(models) * prompts) as advance:
        outcomes, pool = lab.outcomes(
            prompts, seed=seed, progress=lambda name, count: advance(f"asking {name}", count)
        )
    console.print("Fitting the default router, and judging it out of fold ...\n")
    with progress() as tick:
        fitted = fitting.fit_and_measure("linear", Linear(), outcomes, seed=seed, tick=tick)
    assert fitted.evaluation is not None
    console.print(show.table(fitted.evaluation))
    console.print()
    console.print(show.chart(fitted.evaluation))
    for line in show.conclusion(fitted.evaluation):
        console.print(line, markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(folder / "outcomes.csv", outcomes)
    store.save(
        folder / "router.turnout",
        fitted.router,
        outcomes.pool(),
        fingerprint=outcomes.fingerprint(),
        method="llms.linear",
        extra=fitted.extra,
    )
    with contextlib.suppress(MissingExtraError):
        picture = plot.render(
            fitted.evaluation, ".png", title="Four small language models", currency="US$"
        )
        (folder / "frontier.png").write_bytes(picture)
    best, price = fitted.extra["best_single"], fitted.extra["best_single_cost"]
    config = folder / "turnout.toml"
    config.write_text(_toml(pool, SHARE * price, port, period))
    console.print(
        f"\nServing with a budget of {SHARE * price:.3g} USD a request: {SHARE:.0%} of what always "
        f"asking {best} costs. Everything is kept in {folder}/."
    )
    return config


def _toml(pool: Pool, budget: float, port: int, period: int) -> str:
    entries = "".join(f'\n[pool.{name}]\nupstream = "lab:{name}"\n' for name in pool.names)
    return f"""\
[server]
port = {port}

[router]
file = "router.turnout"

[budget]
mean_cost_usd = {budget:.6g}
period = {period}

[ledger]
path = "turnout.sqlite"
{entries}"""


def _write_table(path: Path, outcomes: Outcomes) -> None:
    """The plain long layout: one row an answer."""
    assert outcomes.group is not None
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "model", "quality", "cost", "group"])
        for i, prompt in enumerate(outcomes.inputs):
            for j, name in enumerate(outcomes.names):
                rows.writerow(
                    [
                        prompt,
                        name,
                        f"{outcomes.quality[i, j]:g}",
                        f"{outcomes.cost[i, j]:.6g}",
                        outcomes.group[i],
                    ]
                )


@dataclass(frozen=True)
class _Served:
    id: str
    quality: float
    destination: str


def _send(config: Path, requests: int, seed: int, console: Console) -> dict[str, Any]:
    """Send fresh requests through the gateway and grade what is served."""
    from turnout import lab
    from turnout.serve.background import running
    from turnout.serve.config import load
    from turnout.serve.money import reading

    problems = lab.problems(requests, seed=seed)
    settings = load(config)
    with running(settings) as gateway, _bar("requests", requests) as advance:
        client = _client_class()(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)

        def one(numbered: tuple[int, Problem]) -> _Served:
            served = _ask(client, numbered[1], streamed=numbered[0] % 2 == 1)
            advance("requests", 1)
            return served

        with client, ThreadPoolExecutor(WORKERS) as workers:
            served = list(workers.map(one, enumerate(problems)))
    spent_by_id = {row["id"]: row["cost_usd"] for row in reading.rows(settings.ledger.path)}
    spent = [spent_by_id[one.id] for one in served]  # the ledger may hold earlier runs
    console.print("Asking every model the same requests, to compare ...")
    with _bar("comparing", len(lab.names()) * requests) as advance:
        asked = lab.ask(problems, progress=lambda name, count: advance(f"asking {name}", count))
    return _report(served, spent, asked.names, asked.quality, asked.cost)


def _ask(client: Any, problem: Problem, *, streamed: bool) -> _Served:
    """One request, graded; streamed or not."""
    from turnout import lab

    asked = {"model": "auto", "messages": [{"role": "user", "content": problem.prompt}]}
    raw = client.chat.completions.with_raw_response.create(**asked, stream=streamed)
    if streamed:
        with raw.parse() as events:
            parts = [event.choices[0].delta.content or "" for event in events if event.choices]
        reply = "".join(parts)
    else:
        reply = raw.parse().choices[0].message.content or ""
    headers = raw.headers
    return _Served(
        headers["x-turnout-id"], lab.grade(problem, reply), headers["x-turnout-destination"]
    )


def _report(
    served: list[_Served],
    spent: list[float],
    names: tuple[str, ...],
    quality: np.ndarray[Any, np.dtype[np.float64]],
    cost: np.ndarray[Any, np.dtype[np.float64]],
) -> dict[str, Any]:
    """What was served beside what each model alone, and an oracle, would have done."""
    mean_quality, mean_cost = quality.mean(axis=0), cost.mean(axis=0)
    best = int(np.lexsort((mean_cost, -mean_quality))[0])
    cheapest = int(mean_cost.argmin())
    # The oracle asks the cheapest of the models that answer best.
    choice = np.where(quality == quality.max(axis=1, keepdims=True), cost, np.inf).argmin(axis=1)
    rows = np.arange(len(quality))

    def single(j: int) -> dict[str, Any]:
        return {"model": names[j], "quality": float(mean_quality[j]), "cost": float(mean_cost[j])}

    return {
        "requests": len(served),
        "quality": float(np.mean([one.quality for one in served])),
        "cost": float(np.mean(spent)),
        "best_single": single(best),
        "cheapest": single(cheapest),
        "oracle": {
            "quality": float(quality[rows, choice].mean()),
            "cost": float(cost[rows, choice].mean()),
        },
        "share": {
            name: sum(one.destination == name for one in served) / len(served) for name in names
        },
        "seconds": 0.0,
    }


def _tell(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    best = report["best_single"]
    table = Table(title=f"{report['requests']} requests, served and graded", title_justify="left")
    for header in ("policy", "quality", "USD a request", "cost of the best single"):
        table.add_column(header, justify="left" if header == "policy" else "right")
    rows = [
        ("turnout, model=auto", report),
        (f"best single: {best['model']}", best),
        (f"cheapest: {report['cheapest']['model']}", report["cheapest"]),
        ("oracle", report["oracle"]),
    ]
    for name, row in rows:
        share = row["cost"] / best["cost"]
        style = "bold" if row is report else None
        cells = [name, f"{row['quality']:.3f}", f"{row['cost']:.3g}", f"{share:.0%}"]
        table.add_row(*cells, style=style)
    console.print(table)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in report["share"].items())
    console.print(f"Answered by {shares}. {report['seconds']:.0f} s in all.")


@contextlib.contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[str, int], None]]:
    """A progress bar on stderr; yields `advance(label, count)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda name, count: progress.update(task, description=name, advance=count)


def _client_class() -> type[Any]:
    try:
        from openai import OpenAI
    except ImportError:
        raise MissingExtraError("openai", "demo") from None
    return OpenAI
