"""`turnout prompts`: the prompts that a gateway has kept."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.serve.config import Config
    from turnout.serve.prompts.file import Choice

__all__ = ["command"]

#: How often it is tried to empty the write-ahead log, seconds to wait each time, and in between.
_TRIES, _PATIENCE, _PAUSE = 50, 0.2, 0.2


class _Date(click.ParamType[int]):
    """A moment such as 2026-11-28, as milliseconds since 1970."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            hint = "such as 2026-11-28 or 2026-11-28T12:00:00Z"
            self.fail(f"must be a date, {hint}; got {value!r}.", param, ctx)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(round(moment.timestamp() * 1000), 0)


_CONFIG = click.argument("config", type=click.Path(path_type=Path))


@click.group("prompts")
def command() -> None:
    """List, export and delete the prompts that a gateway has kept.

    A gateway keeps prompts only where its configuration CONFIG has a table [prompts]. All of this
    works while it runs.
    """


@command.command("list")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def _list(config: Path, as_json: bool) -> None:
    """List all prompts, without their text: request, time, key, characters, when each goes."""
    import json

    from turnout.serve.prompts import file, reading

    path = file.beside(_load(config).ledger.path)
    rows = [about.record() for about in reading.listed(path)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "time", "key")
    table.add_column("characters", justify="right")
    table.add_column("goes at")
    for row in rows:
        cells = (row["id"], row["time"], row["key"], f"{row['chars']:,}", row["goes"])
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@command.command("export")
@_CONFIG
@click.argument("output", metavar="FILE")
@click.option("--graded", is_flag=True, help="Only prompts whose answer got feedback.")
def _export(config: Path, output: str, graded: bool) -> None:
    """Write all prompts to FILE (- is standard output), one JSON object a line.

    With each stand the destination that answered (model), the latest grade (quality), cost, latency
    and propensity, from the ledger. What is written with --graded is a table for `turnout fit`.
    """
    import orjson

    from turnout.bench.output import check_folder
    from turnout.serve.prompts import file, reading

    check_folder("FILE", output)
    ledger = _load(config).ledger.path
    written = unknown = 0
    with _writing(output) as out:
        for row in reading.export(file.beside(ledger), ledger):
            if row["model"] is None:
                unknown += 1
            elif not graded or row["quality"] is not None:
                out.write(orjson.dumps(row) + b"\n")
                written += 1
    click.echo(f"Wrote {_count(written)} to {output}.", err=True)
    if unknown:
        click.echo(f"Left out {_count(unknown)} of requests that the ledger lacks.", err=True)


@command.command("delete")
@_CONFIG
@click.option("--id", "ids", multiple=True, metavar="ID", help="Of this request (x-turnout-id).")
@click.option("--key", metavar="NAME", help="Of the key of this name.")
@click.option("--before", type=_Date(), help="That arrived before this date, UTC unless it says.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
def _delete(
    config: Path, ids: tuple[str, ...], key: str | None, before: int | None, everything: bool
) -> None:
    """Delete prompts for good: of requests, of a key, from before a date, or all.

    Of several options each must be true. No byte of their text is left in the gateway's files, and
    the deletion is noted in the audit log before it is made.
    """
    from turnout.core import InputError
    from turnout.serve.guard.audit import Audit, account, beside
    from turnout.serve.money.periods import iso
    from turnout.serve.prompts import file, reading

    given = bool(ids) or key is not None or before is not None
    if given == everything:
        hint = "Say which prompts are to go; --all stands alone."
        value = "both" if given else None
        raise InputError("--id, --key, --before, or else --all", "be given", value, hint)
    choice = file.Choice(ids=tuple(map(_number, ids)), key=key, before=before)
    settings = _load(config)
    path = file.beside(settings.ledger.path)
    count, last = reading.newest(path, choice)
    told: dict[str, Any] = {"all": True} if everything else {}
    if ids:
        told["ids"] = ids
    if key is not None:
        told["key"] = key
    if before is not None:
        told["before"] = iso(before)
    # before it is done: nothing is ever deleted without
    audit = Audit(beside(settings.keys.file or settings.ledger.path), wall=time.time)
    audit.note(account(), "prompts.delete", str(path), **told, found=count)
    # also where none is left: the one before may not have come to its end
    gone = _gone(path, choice, last) if path.exists() else 0
    click.echo(f"Deleted {_count(gone)}.")


def _gone(path: Path, choice: Choice, last: int) -> int:
    """Delete what is chosen among the prompts up to an id; how many there were."""
    from dataclasses import replace

    from turnout.core import ConfigError
    from turnout.serve.prompts import file

    with contextlib.closing(file.connect(path)) as connection:
        gone = file.delete(connection, replace(choice, newest=last))
        for _ in range(_TRIES):
            if file.scrub(connection, _PATIENCE):
                return gone
            time.sleep(_PAUSE)
    hint = "Their text may stand in its -wal file until the gateway, or you, delete again."
    rule = f"be read by nobody else, after {_count(gone)} were deleted from it"
    raise ConfigError("file of prompts", rule, str(path), hint)


def _load(config: Path) -> Config:
    from turnout.serve.config import load

    return load(config)


def _number(name: str) -> int:
    """The id that a name of a request shows."""
    from turnout.core import InputError
    from turnout.serve.money import reading

    found = reading.number(name)
    if found is None:
        hint = "Pass the x-turnout-id header of an answer; `turnout prompts list` shows them all."
        raise InputError("--id", "be tn- and 16 digits", name, hint)
    return found


def _count(prompts: int) -> str:
    return "1 prompt" if prompts == 1 else f"{prompts:,} prompts"


@contextlib.contextmanager
def _writing(name: str) -> Iterator[IO[bytes]]:
    """A file that is written whole or not at all, its owner's alone; - is standard output."""
    from turnout.core import InputError
    from turnout.parts.files import replacing

    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    try:
        with replacing(name) as out:
            yield out
    except OSError as error:
        hint = f"{error.strerror or error}. Choose another path."
        raise InputError("FILE", "be a path that can be written", name, hint) from None
