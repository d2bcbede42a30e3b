"""The gateway's configuration: one TOML file, checked whole before anything starts.

Unknown keys are errors that name the nearest known one. A key that opens an upstream is never in
the file: `key_env` names the environment variable that holds it, and no message shows its value.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from turnout.core import ConfigError, InputError, _check
from turnout.serve._toml import section, table, unknown

__all__ = [
    "BudgetConfig",
    "Config",
    "LedgerConfig",
    "PoolEntry",
    "RouterConfig",
    "ServerConfig",
    "load",
    "parse",
]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the gateway listens and what it lets in.

    Parameters
    ----------
    host : str
        Address to bind. There is no authentication yet: keep it on the loopback.
    port : int
        Port to bind; 0 takes any free one.
    max_body_bytes : int
        Longest request body; longer ones are answered with status 413.
    max_prompt_chars : int
        Longest text to route on; longer ones are answered with status 400.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_body_bytes: int = 4_000_000
    max_prompt_chars: int = 500_000

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise InputError("host", "be an address", self.host, "Use 127.0.0.1.")
        _check.integer("port", self.port, low=0, high=65_535)
        _check.integer("max_body_bytes", self.max_body_bytes, low=1)
        _check.integer("max_prompt_chars", self.max_prompt_chars, low=1)


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """What decides.

    Parameters
    ----------
    file : path, optional
        A router made by `turnout fit`.
    trust : tuple of str
        Top-level packages, besides this one, whose classes the file may name.
    model : str, optional
        Name of the pool entry that answers everything, where there is no router.
    explore : float
        Share of routed requests sent to a destination drawn evenly, so that the ledger holds
        what the router would not have tried; true propensities are logged. In [0, 1].
    fallbacks : int
        How many further destinations are tried when the chosen one fails before anything was
        sent to the client.
    seed : int, optional
        Seed of the exploration; fresh at every start without it.
    """

    file: Path | None = None
    trust: tuple[str, ...] = ()
    model: str | None = None
    explore: float = 0.0
    fallbacks: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.file is not None and self.model is not None:
            hint = "Keep file to route, or model to send everything to one destination."
            raise InputError("file and model", "not both be given", self.model, hint)
        _check.number("explore", self.explore, low=0.0, high=1.0)
        _check.integer("fallbacks", self.fallbacks, low=0)
        if self.seed is not None:
            _check.integer("seed", self.seed, low=0)


@dataclass(frozen=True, kw_only=True)
class LedgerConfig:
    """Where decisions and outcomes are kept.

    Parameters
    ----------
    path : path
        SQLite file; made when missing.
    """

    path: Path = Path("turnout.sqlite")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """What routed requests may cost: one target, or none for the best quality at any cost.

    Requests that name a destination are served whatever it costs, outside this budget.

    Parameters
    ----------
    mean_cost_usd : float, optional
        Mean cost of a routed request; a controller keeps the running spend to it. > 0.
    mean_quality : float, optional
        Spend the least with which the router reached this mean quality when it was measured.
        In [0, 1].
    price : float, optional
        Quality given up to save one unit of cost. >= 0.
    period : int
        With `mean_cost_usd`: requests after which spend is to be at the budget, again and again.
    """

    mean_cost_usd: float | None = None
    mean_quality: float | None = None
    price: float | None = None
    period: int = 1000

    def __post_init__(self) -> None:
        targets = ("mean_cost_usd", "mean_quality", "price")
        given = [key for key in targets if getattr(self, key) is not None]
        if len(given) > 1:
            hint = "Keep the one that matters; the others follow from it."
            raise InputError("target", "be one alone", " and ".join(given), hint)
        for key in given:
            high = 1.0 if key == "mean_quality" else math.inf
            _check.number(key, getattr(self, key), low=0.0, high=high)
        if self.mean_cost_usd == 0:
            hint = "Use router.model to send everything to the cheapest."
            raise InputError("mean_cost_usd", "be above 0", self.mean_cost_usd, hint)
        _check.integer("period", self.period, low=1)


@dataclass(frozen=True, kw_only=True)
class PoolEntry:
    """One destination.

    Parameters
    ----------
    name : str
        As the router knows it.
    upstream : str
        `lab:NAME` for a model of the laboratory, in process; `openai:URL` for an
        OpenAI-compatible base URL such as `openai:https://api.openai.com/v1`.
    model : str, optional
        What the upstream calls it; `name` unless said.
    key_env : str, optional
        Environment variable that holds the upstream's key. Leave out for upstreams without one.
    usd_per_million_input_tokens, usd_per_million_output_tokens : float
        Price of the tokens that the upstream reports. >= 0.
    timeout_seconds : float
        Longest a whole answer may take.
    connect_timeout_seconds : float
        Longest it may take to reach the upstream.
    """

    name: str = field(metadata={"derived": True})
    upstream: str
    model: str | None = None
    key_env: str | None = None
    usd_per_million_input_tokens: float = 0.0
    usd_per_million_output_tokens: float = 0.0
    timeout_seconds: float = 600.0
    connect_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or self.name == "auto":
            hint = "Name the destination as the router does; 'auto' stands for routing."
            raise InputError("name", "be printable and not 'auto'", self.name, hint)
        if self.kind == "openai":
            _check_url(self.target)
        elif self.kind != "lab" or not self.target:
            rule = "start with 'lab:' or 'openai:' and name a target"
            # what stands here may be a URL with a key in it, so only its scheme is shown
            shown = self.upstream.partition(":")[0] + ":..." if ":" in self.upstream else "no colon"
            hint = "Such as 'lab:pico' or 'openai:http://127.0.0.1:9000/v1'."
            raise InputError("upstream", rule, shown, hint)
        if self.key_env is not None:
            if self.kind == "lab":
                raise InputError("key_env", "be left out for lab: upstreams", "a name", "Drop it.")
            if not _VARIABLE.fullmatch(self.key_env):
                hint = "Put the key into a variable such as OPENAI_API_KEY and write its name here."
                raise InputError("key_env", "name an environment variable", "something else", hint)
        for key in ("usd_per_million_input_tokens", "usd_per_million_output_tokens"):
            _check.number(key, getattr(self, key), low=0.0)
        for key in ("timeout_seconds", "connect_timeout_seconds"):
            _check.number(key, getattr(self, key), low=1e-3)

    @property
    def kind(self) -> str:
        """`lab` or `openai`."""
        return self.upstream.partition(":")[0]

    @property
    def target(self) -> str:
        """What follows the kind: a laboratory name or a base URL."""
        return self.upstream.partition(":")[2]

    @property
    def upstream_model(self) -> str:
        """The name to ask the upstream for."""
        return self.name if self.model is None else self.model

    def cost_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Price of an answer of so many tokens."""
        return (
            input_tokens * self.usd_per_million_input_tokens
            + output_tokens * self.usd_per_million_output_tokens
        ) / 1e6


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything the gateway is told.

    Parameters
    ----------
    pool : tuple of PoolEntry
        At least one destination.
    server, router, budget, ledger
        One object a table of the file; each table may be left out.
    """

    pool: tuple[PoolEntry, ...]
    server: ServerConfig = field(default_factory=ServerConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)

    def __post_init__(self) -> None:
        names = _check.names("pool", self.names)
        router = self.router
        if router.model is not None and router.model not in names:
            hint = f"Choose one of: {', '.join(names)}."
            raise ConfigError("router.model", "name a pool entry", router.model, hint)
        if router.file is None and router.model is None and len(names) > 1:
            hint = "Set router.file to a file made by `turnout fit`, or router.model to one entry."
            raise ConfigError("[router]", "say what decides among several entries", None, hint)

        priced = [entry.kind == "lab" or entry.cost_usd(1, 1) > 0 for entry in self.pool]
        if self.budget.mean_cost_usd is not None and not any(priced):
            rule = "come with the prices of the pool"
            hint = "Set usd_per_million_input_tokens and usd_per_million_output_tokens."
            raise ConfigError("budget.mean_cost_usd", rule, "no price", hint)

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations, in the order of the file."""
        return tuple(entry.name for entry in self.pool)


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
    known = ("server", "router", "budget", "ledger", "pool")
    for key in data:
        if key not in known:
            raise unknown(source, key, known)

    def one(name: str, kind: type[Any]) -> Any:
        return section(source, name, table(source, name, data.get(name, {})), kind, folder)

    pool = table(source, "pool", data.get("pool", {}))
    if not pool:
        hint = 'Add [pool.NAME] with upstream = "openai:http://127.0.0.1:9000/v1".'
        raise ConfigError(f"{source}: pool", "hold at least one destination", None, hint)
    try:
        return Config(
            server=one("server", ServerConfig),
            router=one("router", RouterConfig),
            budget=one("budget", BudgetConfig),
            ledger=one("ledger", LedgerConfig),
            pool=tuple(_entry(source, name, value, folder) for name, value in pool.items()),
        )
    except InputError as error:
        raise ConfigError(f"{source}: {error.field}", error.rule, error.value, error.hint) from None


def _entry(source: Path, name: str, value: Any, folder: Path) -> PoolEntry:
    where = f"pool.{name}"
    entry: Mapping[str, Any] = table(source, where, value)
    return section(source, where, entry, PoolEntry, folder, name=name)


def _check_url(url: str) -> None:
    """Refuse a base URL that is not plain http(s); its text is not repeated, it may hold a key."""
    hint = "Such as openai:https://api.openai.com/v1, with the key named by key_env."
    try:
        parts = urlsplit(url)
        wrong = None if parts.port is None or parts.port > 0 else "port 0"
    except ValueError:
        raise InputError("upstream", "be openai: and a URL", "a malformed URL", hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        wrong = f"scheme {parts.scheme!r}" if parts.scheme else "no http:// or https://"
    elif parts.username is not None or parts.password is not None:
        wrong = "a user name or password in the URL"
    elif parts.query or parts.fragment:
        wrong = "a query or fragment in the URL"
    if wrong is not None:
        raise InputError("upstream", "be openai: and a plain http(s) base URL", wrong, hint)
