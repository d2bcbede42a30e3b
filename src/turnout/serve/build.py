"""From a configuration to the parts of a gateway; every mistake is found here, before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from turnout.core import ConfigError, InputError
from turnout.serve import _schema
from turnout.serve.config import Config, PoolEntry
from turnout.serve.lab import LabUpstream
from turnout.serve.ledger import Ledger, SQLiteLedger
from turnout.serve.openai import OpenAIUpstream, Secret
from turnout.serve.policy import Policy
from turnout.serve.routers import make_policy
from turnout.serve.upstream import Upstream

__all__ = ["Parts", "build", "check", "upstreams"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """What a gateway is joined from; each can be replaced.

    Parameters
    ----------
    policy : Policy
    upstreams : mapping of str to Upstream
        One for each name of the pool.
    ledger : Ledger
    """

    policy: Policy
    upstreams: Mapping[str, Upstream]
    ledger: Ledger


def build(config: Config, environ: Mapping[str, str] | None = None) -> Parts:
    """Make every part; the ledger last, so that no file is made when something is wrong.

    Raises
    ------
    ConfigError
        A key variable is not set, a laboratory model does not exist, the budget cannot be kept,
        or the ledger cannot be opened.
    RouterFileError
        The router file is missing, damaged, newer than this version, made for another pool, or
        of a kind that cannot be served.
    """
    asked = upstreams(config, os.environ if environ is None else environ)
    decides = make_policy(config)
    return Parts(policy=decides, upstreams=asked, ledger=SQLiteLedger(config.ledger.path))


def check(config: Config, environ: Mapping[str, str] | None = None) -> None:
    """Everything that `build` finds, without making the ledger's file.

    Raises
    ------
    ConfigError, RouterFileError
        As `build`.
    """
    upstreams(config, os.environ if environ is None else environ)
    make_policy(config)
    _schema.inspect(config.ledger.path)


def upstreams(config: Config, environ: Mapping[str, str]) -> dict[str, Upstream]:
    """One upstream for each entry of the pool; nothing is connected to yet."""
    return {entry.name: _upstream(entry, environ) for entry in config.pool}


def _upstream(entry: PoolEntry, environ: Mapping[str, str]) -> Upstream:
    if entry.kind == "lab":
        return _lab(entry)
    return OpenAIUpstream(
        name=entry.name,
        base_url=entry.target,
        model=entry.upstream_model,
        price=entry.cost_usd,
        key=_key(entry, environ),
        timeout_seconds=entry.timeout_seconds,
        connect_timeout_seconds=entry.connect_timeout_seconds,
    )


def _key(entry: PoolEntry, environ: Mapping[str, str]) -> Secret | None:
    """The key from its variable; only the variable's name is ever said."""
    if entry.key_env is None:
        return None
    where = f"environment variable {entry.key_env}"
    value = environ.get(entry.key_env, "")
    if not value:
        hint = f"Set it to the key of pool.{entry.name}, or drop key_env if it needs none."
        raise ConfigError(where, "be set", "nothing", hint)
    if not value.isascii() or not value.isprintable() or " " in value:
        rule = "hold a key in printable ASCII without spaces"
        raise ConfigError(where, rule, "something else", "Set it again; mind a trailing newline.")
    return Secret(value)


def _lab(entry: PoolEntry) -> Upstream:
    from turnout.lab.pool import cost, load

    try:
        model = load(entry.target)
    except InputError as error:
        where = f"pool.{entry.name}.upstream"
        raise ConfigError(
            where, f"name a laboratory model after 'lab:' ({error.rule})", entry.target, error.hint
        ) from None

    def price(read: int, written: int) -> float:
        return cost(model, read, written)

    return LabUpstream(name=entry.name, model=model, price=price)
