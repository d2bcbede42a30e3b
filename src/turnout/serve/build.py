"""From a configuration to the parts of a gateway; every mistake is found here, before it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from turnout.core import (
    ConfigError,
    InputError,
    Pool,
    Router,
    RouterFileError,
    Sequential,
)
from turnout.parts import store
from turnout.parts.decide import compile_decider
from turnout.parts.priced import Priced
from turnout.parts.store import SavedRouter
from turnout.serve import _schema
from turnout.serve.config import BudgetConfig, Config, PoolEntry
from turnout.serve.lab import LabUpstream
from turnout.serve.ledger import Ledger, SQLiteLedger
from turnout.serve.openai import OpenAIUpstream, Secret
from turnout.serve.pace import Pace, make_pace
from turnout.serve.policy import Fixed, Named, Opaque, Policy, Routed
from turnout.serve.upstream import Upstream

__all__ = ["Parts", "build", "check", "first_pace", "policy", "read_router", "upstreams"]


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


def check(config: Config, environ: Mapping[str, str] | None = None) -> None:
    """Everything that `build` finds, without making the ledger's file.

    Raises
    ------
    ConfigError, RouterFileError
        As `build`.
    """
    upstreams(config, os.environ if environ is None else environ)
    policy(config)
    _schema.inspect(config.ledger.path)


def upstreams(config: Config, environ: Mapping[str, str]) -> dict[str, Upstream]:
    """One upstream for each entry of the pool; nothing is connected to yet."""
    return {entry.name: _upstream(entry, environ) for entry in config.pool}


def policy(config: Config) -> Policy:
    """What decides: the router, or the one destination there is."""
    router = config.router
    if router.file is None:
        if config.budget != BudgetConfig():
            hint = "Set router.file, or drop [budget]."
            raise ConfigError("[budget]", "come with a router to keep it", "none", hint)
        return Named(Fixed(router.model or config.names[0]), config.names)
    saved = read_router(router.file, config.names, trust=router.trust)
    pool = Pool(names=config.names)
    rng = np.random.default_rng(router.seed)
    if not isinstance(saved.router, Priced):
        return Named(_opaque(config, saved.router, pool, rng), config.names)
    pace = first_pace(config.budget, saved, config.names)
    decider = compile_decider(saved.router, pool)
    routed = Routed(decider, pace, explore=router.explore, rng=rng)
    return Named(routed, config.names)


def read_router(
    path: Path, names: Sequence[str] | None = None, *, trust: tuple[str, ...] = ()
) -> SavedRouter:
    """A router that can be served to the pool of `names`, by default to all it knows.

    Raises
    ------
    RouterFileError
        The file cannot be used, does not know one of the names, or holds a cascade.
    """
    saved = store.load(path, trust=trust)
    known = saved.router.names
    missing = [name for name in names or () if name not in known]
    if missing:
        rule = "know every destination of the pool"
        hint = f"{path.name} was fitted for {', '.join(known)}; name the pool so, or fit again."
        raise RouterFileError("router.file", rule, missing[0], hint)
    if isinstance(saved.router, Sequential):
        rule = "hold a router that decides before it sees an answer"
        hint = "Cascades are not served yet; fit another method."
        raise RouterFileError("router.file", rule, saved.method or "a cascade", hint)
    return saved


def first_pace(budget: BudgetConfig, saved: SavedRouter, names: Sequence[str]) -> Pace:
    """The pace that keeps a budget, started from what the router file knows of this pool.

    Raises
    ------
    ConfigError
        See `turnout.serve.pace.make_pace`.
    RouterFileError
        The notes in the file are damaged.
    """
    # what was measured on another pool says nothing about this one
    same = set(names) == set(saved.router.names)
    measured = saved.extra.get("frontier", []) if same else []
    try:
        return make_pace(budget, measured, int(saved.extra.get("rows", 1)))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        hint = f"{type(error).__name__} in its notes. Fit and save it again."
        raise RouterFileError("router.file", "be whole", "damaged notes", hint) from error


def _opaque(config: Config, router: Router, pool: Pool, rng: Generator) -> Policy:
    """The policy of a router that predicts nothing, if nothing is asked that needs predictions."""
    rule = "be left out for a router that predicts no quality and cost"
    budget = config.budget
    asked = {
        "router.explore": config.router.explore,
        "budget.mean_cost_usd": budget.mean_cost_usd,
        "budget.mean_quality": budget.mean_quality,
    }
    for name, value in asked.items():
        if value:
            raise ConfigError(name, rule, value, "Remove it, or fit another method.")
    return Opaque(router, pool, budget.price or 0.0, rng=rng)


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
