"""`turnout keys`: who may use the gateway."""

from __future__ import annotations

import math
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from turnout.serve.guard.key import Key

__all__ = ["command"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: Longest time there may be, days.
_LONGEST = 36_500


class _Duration(click.ParamType[float]):
    """A time such as 30d, as seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,9})([smhdw])", str(value))
        seconds = float(found[1]) * _UNITS[found[2]] if found else math.inf
        if seconds > _LONGEST * _UNITS["d"]:
            self.fail(
                f"must be a number and s, m, h, d or w, such as 30d; got {value!r}.", param, ctx
            )
        return seconds


_FILE = click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path),
    default=Path("turnout-keys.json"),
    show_default=True,
    help="The key file; every change is noted beside it, in its name with .audit.jsonl.",
)


@click.group("keys")
def command() -> None:
    """Make, list, rotate and revoke the keys of a gateway.

    A gateway that runs takes up a change within seconds. The file holds no secret.
    """


@command.command("new")
@click.argument("name")
@click.option(
    "--models",
    multiple=True,
    metavar="NAME,...",
    help="Destinations it may use. [default: all]",
)
@click.option("--admin", is_flag=True, help="It may see and change the gateway itself.")
@click.option(
    "--expires", type=_Duration(), help="Time until it ends, such as 30d. [default: never]"
)
@click.option("--rpm", type=click.IntRange(min=1), help="Requests a minute.")
@click.option("--tpm", type=click.IntRange(min=1), help="Tokens a minute.")
@click.option("--parallel", type=click.IntRange(min=1), help="Requests at once.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Anything to know it by.")
@_FILE
def _new(
    name: str,
    models: tuple[str, ...],
    admin: bool,
    expires: float | None,
    rpm: int | None,
    tpm: int | None,
    parallel: int | None,
    label: tuple[str, ...],
    file: Path,
) -> None:
    """Make a key called NAME. Its secret is printed once and is nowhere else."""
    from turnout.core import InputError
    from turnout.serve.guard import key, keyfile

    now = time.time()
    scope = frozenset(part.strip() for item in models for part in item.split(","))
    fields: dict[str, Any] = {
        "models": scope or None,
        "admin": admin,
        "expires": math.inf if expires is None else now + expires,
        "limits": key.KeyLimits(requests_per_minute=rpm, tokens_per_minute=tpm, parallel=parallel),
        "labels": _labels(label),
    }
    key.make(name, now=now, **fields)  # a mistake is to be told before anything is made
    with keyfile.changing(file) as keys:
        taken = frozenset(item.id for item in keys.values())
        if name in keys or name in taken:
            hint = f"Use another, or `turnout keys rotate {name}` for a new secret."
            raise InputError("NAME", "be new", name, hint)
        made = key.make(name, now=now, taken=taken, **fields)
        keys[name] = made.key
        _note(file, "key.new", name, **_facts(made.key))
    _tell(made.secret, f"Made {name} in {file}. Keep the secret: it is not shown again.")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@_FILE
def _list(as_json: bool, file: Path) -> None:
    """List all keys, without their secrets."""
    import json

    from turnout.serve.guard import keyfile

    now = time.time()
    keys = [key for _, key in keyfile.read(file).keys.values()]
    if as_json:
        rows = [{"name": key.name, **_facts(key), "state": _state(key, now)} for key in keys]
        click.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "id", "made", "expires", "may use", "limits", "labels", "state")
    for key in keys:
        facts = _facts(key)
        limits = [f"{value:,} {unit}" for unit, value in facts["limits"].items()]
        cells: tuple[str, ...] = (
            *(key.name, key.id, facts["made"][:10], (facts["expires"] or "never")[:10]),
            ", ".join(facts["models"] or ["all"]) + (" and admin" if key.admin else ""),
            ", ".join(limits),
            ", ".join(f"{name}={value}" for name, value in key.labels.items()),
            _state(key, now),
        )
        table.add_row(*(Text(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@command.command("rotate")
@click.argument("name")
@click.option(
    "--grace",
    type=_Duration(),
    default="1d",
    show_default=True,
    help="Time for which the old secret goes on opening; 0s ends it now.",
)
@_FILE
def _rotate(name: str, grace: float, file: Path) -> None:
    """Give the key NAME a new secret. The one before goes on opening for a while."""
    from turnout.serve.guard import key, keyfile

    now = time.time()
    with keyfile.changing(file) as keys:
        before = _find(keys, name, file)
        made = key.rotated(before, now=now, grace=grace)
        keys[before.name] = made.key
        _note(file, "key.rotate", before.name, id=before.id, grace_seconds=grace)
    until = f"until {_date(now + grace)}" if grace else "no more"
    text = f"Rotated {before.name} in {file}. The old secret opens {until}."
    _tell(made.secret, text)


@command.command("revoke")
@click.argument("name")
@_FILE
def _revoke(name: str, file: Path) -> None:
    """Remove the key NAME: its secrets open nothing any more."""
    from turnout.serve.guard import keyfile

    with keyfile.changing(file) as keys:
        found = _find(keys, name, file)
        del keys[found.name]
        _note(file, "key.revoke", found.name, id=found.id)
    click.echo(f"Revoked {found.name} in {file}.")


def _note(file: Path, action: str, subject: str, **facts: Any) -> None:
    """Put a change on record, before it is made: none is ever made without."""
    from turnout.serve.guard.audit import Audit, account, beside

    Audit(beside(file), wall=time.time).note(account(), action, subject, **facts)


def _find(keys: dict[str, Key], name: str, file: Path) -> Key:
    from turnout.core import InputError

    found = keys.get(name) or next((key for key in keys.values() if key.id == name), None)
    if found is None:
        hint = f"`turnout keys list --file {file}` shows them all."
        raise InputError("NAME", "be the name or id of a key", name, hint)
    return found


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    from turnout.core import InputError

    labels = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not pair.isprintable():
            raise InputError("--label", "read KEY=VALUE", pair, "Such as --label team=search.")
        labels[name.strip()] = value.strip()
    return labels


def _facts(key: Key) -> dict[str, Any]:
    """All that may be known of a key."""
    limits = {
        "requests/min": key.limits.requests_per_minute,
        "tokens/min": key.limits.tokens_per_minute,
        "parallel": key.limits.parallel,
    }
    return {
        "id": key.id,
        "made": _date(key.made),
        "expires": None if math.isinf(key.expires) else _date(key.expires),
        "models": None if key.models is None else sorted(key.models),
        "admin": key.admin,
        "limits": {unit: value for unit, value in limits.items() if value is not None},
        "labels": dict(key.labels),
    }


def _state(key: Key, now: float) -> str:
    if now >= key.expires:
        return "expired"
    if now < key.previous_until:
        return f"old secret until {_date(key.previous_until)}"
    return "good"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(math.floor(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tell(secret: str, text: str) -> None:
    """The secret alone on standard output, so that it can be piped."""
    click.echo(text, err=True)
    click.echo(secret)
