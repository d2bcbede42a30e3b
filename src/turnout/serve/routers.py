"""From a router file and a budget to a policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from turnout.core import ConfigError, Pool, Router, RouterFileError, Sequential
from turnout.parts import store
from turnout.parts.decide import compile_decider
from turnout.parts.priced import Priced
from turnout.parts.store import SavedRouter
from turnout.serve.busy import BusyDecider, Gauge, LoadAware
from turnout.serve.config import Config
from turnout.serve.pace import FixedPrice, Pace, make_pace
from turnout.serve.policy import Fixed, Named, Opaque, Policy, Routed
from turnout.serve.tables import BudgetConfig

__all__ = ["first_pace", "make_policy", "read_router"]


#: Seconds in which the kernel that reads texts may be compiled at a start.
_COMPILE = 20.0


def make_policy(config: Config, gauge: Gauge | None = None) -> Policy:
    """What decides: the router, or the one destination there is.

    Parameters
    ----------
    config : Config
    gauge : Gauge, optional
        Tells a router that reads the load how busy the destinations are.

    Raises
    ------
    ConfigError, RouterFileError
        The router cannot be used, or the budget cannot be kept with it.
    """
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
    pace = first_pace(config.budget, saved, config.names, _paced(config))
    predictor = saved.router.predictor
    if isinstance(predictor, LoadAware):
        busy = BusyDecider(predictor, pool, gauge or Gauge())
        return Named(Routed(busy, pace, explore=router.explore, rng=rng), config.names)
    decider = compile_decider(saved.router, pool)
    # at a start there is time to compile; workers and later starts find it done
    decider.use_kernel(build=True, seconds=_COMPILE)
    routed = Routed(decider, pace, explore=router.explore, rng=rng)
    return Named(routed, config.names)


def read_router(
    path: Path, names: Sequence[str] | None = None, *, trust: tuple[str, ...] = ()
) -> SavedRouter:
    """A router that can be served to the pool of `names`, by default to all it knows.

    Raises
    ------
    RouterFileError
        The file cannot be used, does not know one of the names, or asks in several steps.
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
        hint = "It asks in several steps: name its file in [strategies.NAME] instead."
        raise RouterFileError("router.file", rule, saved.method or "a cascade", hint)
    return saved


def first_pace(
    budget: BudgetConfig,
    saved: SavedRouter,
    names: Sequence[str],
    paced: tuple[float, int] | None = None,
) -> Pace:
    """The pace that keeps a budget, started from what the router file knows of this pool.

    Raises
    ------
    ConfigError
        See `turnout.serve.pace.make_pace`; or a promise is asked for and there is none for this
        pool.
    RouterFileError
        The notes in the file are damaged.
    """
    # what was measured on another pool says nothing about this one
    same = set(names) == set(saved.router.names)
    if budget.certified:
        return FixedPrice(_promised(saved, same=same))
    measured = saved.extra.get("frontier", []) if same else []
    try:
        return make_pace(budget, measured, int(saved.extra.get("rows", 1)), paced)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        hint = f"{type(error).__name__} in its notes. Fit and save it again."
        raise RouterFileError("router.file", "be whole", "damaged notes", hint) from error


def _promised(saved: SavedRouter, *, same: bool) -> float:
    """The price that was certified."""
    promise = saved.extra.get("certified")
    if promise is None:
        hint = "Run: turnout certify DATA --router FILE --quality 0.8 --write."
        rule = "come with a promise in the router file"
        raise ConfigError("budget.certified", rule, "none", hint)
    if not same:
        rule = "come with a pool of just the destinations of the router file"
        hint = "What was promised for those says nothing of others."
        raise ConfigError("budget.certified", rule, ", ".join(saved.router.names), hint)
    try:
        return float(promise["price"])
    except (TypeError, ValueError, KeyError) as error:
        hint = f"{type(error).__name__} in its promise. Certify it again."
        raise RouterFileError("router.file", "be whole", "a damaged promise", hint) from error


def _paced(config: Config) -> tuple[float, int] | None:
    """The hard budget to spread over its period, and the workers that share it."""
    for rule in config.budgets:
        if rule.name == config.budget.pace:
            return float(rule.usd), config.server.workers
    return None


def _opaque(config: Config, router: Router, pool: Pool, rng: Generator) -> Policy:
    """The policy of a router that predicts nothing, if nothing is asked that needs predictions."""
    rule = "be left out for a router that predicts no quality and cost"
    budget = config.budget
    asked = {
        "router.explore": config.router.explore,
        "budget.mean_cost_usd": budget.mean_cost_usd,
        "budget.mean_quality": budget.mean_quality,
        "budget.pace": budget.pace,
        "budget.certified": budget.certified,
    }
    for name, value in asked.items():
        if value:
            raise ConfigError(name, rule, value, "Remove it, or fit another method.")
    return Opaque(router, pool, budget.price or 0.0, rng=rng)
