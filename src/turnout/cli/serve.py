"""`turnout serve`: the gateway."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import click

__all__ = ["command"]


@click.command("serve")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--port", type=int, help="Port instead of the file's; 0 = any free one.")
@click.option("--host", help="Address instead of the file's.")
@click.option("--workers", type=int, help="Processes instead of the file's.")
@click.option("--check", is_flag=True, help="Check everything the gateway needs, and stop.")
def command(
    config: Path, port: int | None, host: str | None, workers: int | None, check: bool
) -> None:
    """Serve a pool behind one OpenAI-compatible address, as the TOML file CONFIG says.

    Ask for model "auto" to have a request routed, or for a name of the pool. Every decision is
    told in x-turnout-* headers and kept, without prompts or answers, in the ledger.

    SIGTERM or Ctrl-C stops it in good order. At SIGHUP it reads CONFIG again: new workers take
    over while the old ones finish what they have.
    """
    from turnout.serve.build import check as check_parts
    from turnout.serve.config import Config, load
    from turnout.serve.run import serve

    overrides = {"port": port, "host": host, "workers": workers}
    given = {key: value for key, value in overrides.items() if value is not None}

    def read() -> Config:
        settings = load(config)
        return replace(settings, server=replace(settings.server, **given))  # type: ignore[arg-type]

    settings = read()
    if check:
        check_parts(settings)
        click.echo(f"{config} is good: it would serve {', '.join(settings.names)}.")
        return
    with contextlib.ExitStack() as stack:
        if any(entry.kind == "lab" for entry in settings.pool):
            from turnout.lab import one_thread

            stack.enter_context(one_thread())
        if serve(settings, reread=read, say=click.echo, source=config):
            raise SystemExit(1)
