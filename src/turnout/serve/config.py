"""The gateway's configuration: one TOML file, checked whole before anything starts.

Unknown keys are errors that name the nearest known one. A key that opens an upstream is never in
the file: `key_env` names the environment variable that holds it, or `key_file` the file, and no
message shows its value.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turnout.core import ConfigError, InputError, _check
from turnout.serve._toml import section, table, unknown
from turnout.serve.guard.breaker import BreakerRules
from turnout.serve.guard.retry import RetryRules
from turnout.serve.money.budgets import BudgetRule
from turnout.serve.stage import StrategyEntry
from turnout.serve.tables import (
    BudgetConfig,
    KeysConfig,
    LedgerConfig,
    LoadConfig,
    PoolEntry,
    PricesConfig,
    PromptsConfig,
    RouterConfig,
    ServerConfig,
)
from turnout.serve.wire.limits import Limits

__all__ = ["Config", "load", "parse"]

_SECTIONS: dict[str, type[Any]] = {
    "server": ServerConfig,
    "keys": KeysConfig,
    "router": RouterConfig,
    "budget": BudgetConfig,
    "prices": PricesConfig,
    "ledger": LedgerConfig,
    "load": LoadConfig,
    "retry": RetryRules,
    "breaker": BreakerRules,
    "limits": Limits,
}
#: Tables that switch something on by being there.
_SWITCHES: dict[str, type[Any]] = {"prompts": PromptsConfig}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything the gateway is told.

    Parameters
    ----------
    pool : tuple of PoolEntry
        At least one destination.
    budgets : tuple of BudgetRule
        Hard limits.
    strategies : tuple of StrategyEntry
        What answers in several calls to the pool.
    server, keys, router, budget, prices, ledger, load, retry, breaker, limits
        One object a table of the file; each table may be left out.
    prompts : PromptsConfig, optional
        Whose prompts are kept, and how long; None = no prompt is kept.
    """

    pool: tuple[PoolEntry, ...]
    budgets: tuple[BudgetRule, ...] = ()
    strategies: tuple[StrategyEntry, ...] = ()
    server: ServerConfig = field(default_factory=ServerConfig)
    keys: KeysConfig = field(default_factory=KeysConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    prices: PricesConfig = field(default_factory=PricesConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    retry: RetryRules = field(default_factory=RetryRules)
    breaker: BreakerRules = field(default_factory=BreakerRules)
    limits: Limits = field(default_factory=Limits)
    prompts: PromptsConfig | None = None

    def __post_init__(self) -> None:
        names = _check.names("pool", self.names)
        router = self.router
        for entry in self.strategies:
            if entry.name in names:
                hint = "Clients ask for both by name. Rename one of the two."
                raise ConfigError(
                    f"strategies.{entry.name}", "not be in the pool", entry.name, hint
                )
        if router.model is not None and router.model not in self.served:
            hint = f"Choose one of: {', '.join(self.served)}."
            raise ConfigError("router.model", "name a pool entry", router.model, hint)
        if router.file is None and router.model is None and len(names) > 1:
            hint = "Set router.file to a file made by `turnout fit`, or router.model to one entry."
            raise ConfigError("[router]", "say what decides among several entries", None, hint)

        for rule in self.budgets:
            for name in rule.models:
                if name not in names:
                    hint = f"Choose among: {', '.join(names)}."
                    raise ConfigError(f"budgets.{rule.name}.models", "name the pool", name, hint)
        self._check_pace()
        if self.budget.certified and self.router.explore:
            hint = "What is drawn evenly is not what was certified. Drop one of the two."
            explore = self.router.explore
            raise ConfigError("router.explore", "be 0 beside budget.certified", explore, hint)

    def _check_pace(self) -> None:
        pace = self.budget.pace
        if pace is None:
            return
        for rule in self.budgets:
            if rule.name == pace:
                if rule.per != "pool" or rule.keys or rule.models or rule.period == "total":
                    rule_ = "be a budget of the whole pool and of a period"
                    hint = 'Leave out per, keys and models, and set period = "day" or another.'
                    raise ConfigError("budget.pace", rule_, pace, hint)
                return
        hint = f"Add [budgets.{pace}] with usd and period."
        raise ConfigError("budget.pace", "name a hard budget", pace, hint)

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations, in the order of the file."""
        return tuple(entry.name for entry in self.pool)

    @property
    def served(self) -> tuple[str, ...]:
        """The destinations, and the strategies after them."""
        return (*self.names, *(entry.name for entry in self.strategies))


def load(path: str | Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        The file is missing, is not TOML, holds an unknown key or a value that breaks a rule.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        hint = f"{error.strerror or error}. Check the path."
        raise ConfigError("configuration file", "be readable", str(source), hint) from None
    except UnicodeDecodeError as error:
        hint = f"Byte {error.start} is not UTF-8. Save it as UTF-8."
        raise ConfigError("configuration file", "be UTF-8", str(source), hint) from None
    return parse(text, source)


def parse(text: str, source: Path) -> Config:
    """Check the text of a configuration file; relative paths count from the file's folder.

    Raises
    ------
    ConfigError
        As `load`.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # tomllib never quotes the line, so a key in the file cannot leak here
        raise ConfigError(str(source), "be TOML", str(error), "Correct that line.") from None
    folder = source.absolute().parent
    known = (*_SECTIONS, *_SWITCHES, "pool", "budgets", "strategies")
    for key in data:
        if key not in known:
            raise unknown(source, key, known)

    def named(name: str, kind: type[Any]) -> tuple[Any, ...]:
        made = []
        for key, row in table(source, name, data.get(name, {})).items():
            where = f"{name}.{key}"
            made.append(section(source, where, table(source, where, row), kind, folder, name=key))
        return tuple(made)

    if not table(source, "pool", data.get("pool", {})):
        hint = 'Add [pool.NAME] with upstream = "openai:http://127.0.0.1:9000/v1".'
        raise ConfigError(f"{source}: pool", "hold at least one destination", None, hint)
    given: dict[str, Any] = {
        name: section(source, name, table(source, name, data.get(name, {})), kind, folder)
        for name, kind in (_SECTIONS | _SWITCHES).items()
        if name in _SECTIONS or name in data
    }
    try:
        return Config(
            pool=named("pool", PoolEntry),
            budgets=named("budgets", BudgetRule),
            strategies=named("strategies", StrategyEntry),
            **given,
        )
    except InputError as error:
        raise ConfigError(f"{source}: {error.field}", error.rule, error.value, error.hint) from None
