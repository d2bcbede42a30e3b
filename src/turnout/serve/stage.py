"""From a `[strategies.NAME]` table to a strategy that can be played."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np

from turnout.core import Budget, InputError, Play, Pool, RouterFileError, Strategy, _check
from turnout.parts import store
from turnout.parts.rounds.playing import Limits

__all__ = ["Stage", "StrategyEntry", "make_stages"]

_log = logging.getLogger("turnout.serve")


@dataclass(frozen=True, kw_only=True)
class StrategyEntry:
    """One strategy that clients can ask for by name.

    Parameters
    ----------
    name : str
        As clients ask for it.
    file : path
        A strategy or a router; a cascade is a strategy, too.
    trust : tuple of str
        Top-level packages, besides this one, whose classes the file may name.
    calls : int
        Most calls for one request. >= 1.
    timeout_seconds : float
        Time after which what is under way is broken off and no further call is made. > 0.
    usd : float, optional
        Cost of a request after which no further call is made. > 0.
    price : float
        Quality given up to save one dollar. >= 0.
    seed : int
        Of what it draws; every request draws from the start again. >= 0.
    """

    name: str = field(metadata={"derived": True})
    file: Path
    trust: tuple[str, ...] = ()
    calls: int = 32
    timeout_seconds: float = 120.0
    usd: float | None = None
    price: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or self.name == "auto":
            hint = "Clients ask for it by this name; 'auto' stands for routing."
            raise InputError("name", "be printable and not 'auto'", self.name, hint)
        _check.integer("calls", self.calls, low=1)
        _check.number("timeout_seconds", self.timeout_seconds, low=1e-3)
        if self.usd is not None and not self.usd > 0:
            raise InputError("usd", "be above 0", self.usd, "Leave it out for no limit.")
        _check.number("price", self.price, low=0.0)
        _check.integer("seed", self.seed, low=0)

    @property
    def limits(self) -> Limits:
        """What one request may use."""
        spend = math.inf if self.usd is None else self.usd
        return Limits(calls=self.calls, seconds=self.timeout_seconds, spend=spend)


@dataclass(frozen=True, eq=False)
class Stage:
    """A strategy with the part of the gateway's pool that it knows.

    Parameters
    ----------
    entry : StrategyEntry
    strategy : Strategy
    pool : Pool
    """

    entry: StrategyEntry
    strategy: Strategy
    pool: Pool

    @property
    def name(self) -> str:
        """As clients ask for it."""
        return self.entry.name

    @cached_property
    def quoted(self) -> str:
        """The name, safe in a header."""
        return quote(self.name, safe="/:._-@+~ ()[]")

    def play(self, prompt: str, down: Iterable[str]) -> Play:
        """A fresh play of one prompt; destinations that are down are not called.

        Where all are down, all are tried.
        """
        pool, away = self.pool, set(down)
        up = np.array([name not in away for name in pool.names])
        if up.any() and not up.all():
            pool = replace(pool, up=up)
        budget = Budget(price=self.entry.price)
        rng = np.random.default_rng(self.entry.seed)
        return self.strategy.play(prompt, pool, budget=budget, rng=rng)


def make_stages(entries: Sequence[StrategyEntry], names: Sequence[str]) -> Mapping[str, Stage]:
    """Read the files of all strategies.

    Parameters
    ----------
    entries : sequence of StrategyEntry
    names : sequence of str
        The gateway's pool.

    Raises
    ------
    RouterFileError
        A file cannot be used, or its strategy knows nobody in the pool.
    """
    return {entry.name: _stage(entry, names) for entry in entries}


def _stage(entry: StrategyEntry, names: Sequence[str]) -> Stage:
    saved = store.load_strategy(entry.file, trust=entry.trust)
    known = [name for name in saved.strategy.names if name in names]
    if not known:
        rule = "know a destination of the pool"
        hint = f"It was made for {', '.join(saved.strategy.names)}; name the pool so."
        raise RouterFileError(f"strategies.{entry.name}.file", rule, ", ".join(names), hint)
    missing = [name for name in saved.strategy.names if name not in names]
    if missing:
        _log.warning("strategy %s does without %s: not in the pool", entry.name, ", ".join(missing))
    listed = all(name in saved.pool.names for name in known)
    pool = saved.pool.select(known) if listed else Pool(names=tuple(known))
    return Stage(entry, saved.strategy, pool)
