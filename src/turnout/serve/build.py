"""From a configuration to the parts of a gateway; every mistake is found here, before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from turnout.core import (
    ConfigError,
    InputError,
    Pool,
    Predictor,
    RouterFileError,
    Sequential,
)
from turnout.parts import store
from turnout.serve.config import Config, PoolEntry
from turnout.serve.lab import LabUpstream
from turnout.serve.ledger import Ledger, SQLiteLedger
from turnout.serve.openai import OpenAIUpstream, Secret
from turnout.serve.pace import FixedPrice, Pace
from turnout.serve.policy import Fixed, Named, Opaque, Policy, Routed
from turnout.serve.upstream import Upstream

__all__ = ["Parts", "build", "policy", "upstreams"]


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
    decides = policy(config)
    return Parts(policy=decides, upstreams=asked, ledger=SQLiteLedger(config.ledger.path))


def upstreams(config: Config, environ: Mapping[str, str]) -> dict[str, Upstream]:
    """One upstream for each entry of the pool; nothing is connected to yet."""
    return {entry.name: _upstream(entry, environ) for entry in config.pool}


def policy(config: Config) -> Policy:
    """What decides: the router, or the one destination there is."""
    router = config.router
    if router.file is None:
        return Named(Fixed(router.model or config.names[0]), config.names)
    saved = store.load(router.file, trust=router.trust)
    pool = Pool(names=config.names)
    missing = [name for name in config.names if name not in saved.router.names]
    if missing:
        rule = "know every destination of the pool"
        known = ", ".join(saved.router.names)
        hint = f"{router.file.name} was fitted for {known}; name the pool so, or fit again."
        raise RouterFileError("router.file", rule, missing[0], hint)
    if isinstance(saved.router, Sequential):
        rule = "hold a router that decides before it sees an answer"
        hint = "Cascades are not served yet; fit another method."
        raise RouterFileError("router.file", rule, saved.method or "a cascade", hint)
    rng = np.random.default_rng(router.seed)
    pace = _pace(config)
    if isinstance(saved.router, Predictor):
        return Named(
            Routed(saved.router, pool, pace, explore=router.explore, rng=rng), config.names
        )
    if router.explore > 0:
        rule = "be 0 for a router that predicts no quality"
        raise ConfigError("router.explore", rule, router.explore, "Remove it.")
    return Named(Opaque(saved.router, pool, pace, rng=rng), config.names)


def _pace(config: Config) -> Pace:
    """The price of cost: fixed, or led by what is spent."""
    budget = config.budget
    if budget.mean_cost is None:
        return FixedPrice(budget.price or 0.0)
    raise NotImplementedError


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

    return LabUpstream(
        name=entry.name, model=model, price=price, answer_limit=model.config.answer_limit
    )
