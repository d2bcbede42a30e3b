"""The tables of the gateway's configuration, each a frozen object that checks itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from turnout.core import InputError, _check
from turnout.serve.guard.address import check_url
from turnout.serve.guard.gate import GateRules, LaneRules

__all__ = [
    "BudgetConfig",
    "KeysConfig",
    "LedgerConfig",
    "LoadConfig",
    "PoolEntry",
    "PricesConfig",
    "PromptsConfig",
    "RouterConfig",
    "ServerConfig",
]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRICES = (
    "usd_per_million_input_tokens",
    "usd_per_million_output_tokens",
    "usd_per_million_cached_input_tokens",
    "usd_per_request",
)
_TIMES = (
    "connect_timeout_seconds",
    "headers_timeout_seconds",
    "first_token_timeout_seconds",
    "idle_timeout_seconds",
    "timeout_seconds",
)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Where the gateway listens.

    Parameters
    ----------
    host : str
        Address to bind. Without keys only the loopback is allowed, unless `open` says otherwise.
    port : int
        Port to bind; 0 takes any free one.
    workers : int
        Processes that serve it. 1 to 30.
    open : bool
        Let everybody in who can reach the address, without a key.
    max_prompt_chars : int
        Longest text to route on; longer ones are answered with status 400.
    drain_seconds : float
        What requests in progress are given at a stop.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    open: bool = False
    max_prompt_chars: int = 500_000
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise InputError("host", "be an address", self.host, "Use 127.0.0.1.")
        _check.integer("port", self.port, low=0, high=65_535)
        _check.integer("workers", self.workers, low=1, high=30)
        _check.integer("max_prompt_chars", self.max_prompt_chars, low=1)
        _check.number("drain_seconds", self.drain_seconds, low=0.0)


@dataclass(frozen=True, kw_only=True)
class KeysConfig:
    """Who may ask.

    Parameters
    ----------
    file : path, optional
        Made by `turnout keys new`. Without it nobody is asked for a key.
    """

    file: Path | None = None


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
class PricesConfig:
    """What tokens cost.

    Parameters
    ----------
    file : path, optional
        A versioned price table; see `turnout.serve.money.prices`.
    """

    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Prompts are kept, for as long as stands here; without this table none ever is.

    Parameters
    ----------
    keep_days : int
        Days after which a prompt is deleted. 1 to 3650.
    keys : tuple of str
        Names of the keys whose prompts are kept; empty = all.
    """

    keep_days: int
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check.integer("keep_days", self.keep_days, low=1, high=3650)
        if self.keys:
            _check.names("keys", self.keys, what="key")


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """What routed requests may cost on average: one target, or none for the best quality.

    Requests that name a destination are served whatever it costs, outside this target; hard limits
    are `[budgets.NAME]`.

    Parameters
    ----------
    mean_cost_usd : float, optional
        Mean cost of a routed request; a controller keeps the running spend to it. > 0.
    mean_quality : float, optional
        Spend the least with which the router reached this mean quality when it was measured.
        In [0, 1].
    price : float, optional
        Quality given up to save one unit of cost. >= 0.
    pace : str, optional
        Name of a hard budget, of the whole pool, to spread over its period.
    certified : bool
        Route at the price of the promise in the router file (`turnout certify --write`).
    period : int
        With `mean_cost_usd`: requests after which spend is to be at the budget, again and again.
    """

    mean_cost_usd: float | None = None
    mean_quality: float | None = None
    price: float | None = None
    pace: str | None = None
    certified: bool = False
    period: int = 1000

    def __post_init__(self) -> None:
        targets = ("mean_cost_usd", "mean_quality", "price", "pace")
        given = [key for key in targets if getattr(self, key) is not None]
        if len(given) + self.certified > 1:
            given += ["certified"] * self.certified
            hint = "Keep the one that matters; the others follow from it."
            raise InputError("target", "be one alone", " and ".join(given), hint)
        for key in given:
            if key != "pace":
                high = 1.0 if key == "mean_quality" else math.inf
                _check.number(key, getattr(self, key), low=0.0, high=high)
        if self.mean_cost_usd == 0:
            hint = "Use router.model to send everything to the cheapest."
            raise InputError("mean_cost_usd", "be above 0", self.mean_cost_usd, hint)
        _check.integer("period", self.period, low=1)


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """How much is in progress at once, in all workers together.

    Parameters
    ----------
    in_hand : int
        Requests in progress or waiting; more are refused at once. >= 1.
    parallel : int, optional
        Requests in progress; None = no limit.
    queue : int
        Requests that may wait for that. >= 0.
    longest_wait_seconds : float
        Longest that a request waits for its turn.
    lag_seconds : float
        Lag of a worker's event loop from which requests are refused.
    """

    in_hand: int = 2000
    parallel: int | None = None
    queue: int = 100
    longest_wait_seconds: float = 10.0
    lag_seconds: float = 0.5

    def __post_init__(self) -> None:
        self.rules(1)

    def rules(self, workers: int) -> GateRules:
        """The share of one of so many workers, rounded up."""
        lane = LaneRules(parallel=_share(self.parallel, workers), queue=-(-self.queue // workers))
        return GateRules(
            every=lane,
            in_hand=-(-self.in_hand // workers),
            longest_wait_seconds=self.longest_wait_seconds,
            lag_seconds=self.lag_seconds,
        )


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
        Environment variable that holds the upstream's key.
    key_file : path, optional
        File that holds it, instead. Leave both out for upstreams without a key.
    price : str, optional
        What the price table calls it; `model` unless said.
    usd_per_million_input_tokens, usd_per_million_output_tokens : float, optional
        Price of the tokens that the upstream reports, instead of the table's. >= 0.
    usd_per_million_cached_input_tokens, usd_per_request : float, optional
        Price of input tokens that the upstream had cached, as others unless said; and of a
        request.
    free : bool
        Nothing is charged, on purpose.
    private : bool
        The upstream's name may stand for an address of a private network.
    ca_file : path, optional
        Certificates to trust instead of the system's.
    parallel : int, optional
        Requests in progress there, of all workers; None = no limit.
    queue : int
        Requests that may wait for it. >= 0.
    connect_timeout_seconds : float
        Longest it may take to reach the upstream.
    headers_timeout_seconds, first_token_timeout_seconds : float
        Longest until a streamed answer begins, and until its first piece.
    idle_timeout_seconds : float
        Longest pause in an answer.
    timeout_seconds : float
        Longest a whole answer may take, streamed or not.
    """

    name: str = field(metadata={"derived": True})
    upstream: str
    model: str | None = None
    key_env: str | None = None
    key_file: Path | None = None
    price: str | None = None
    usd_per_million_input_tokens: float | None = None
    usd_per_million_output_tokens: float | None = None
    usd_per_million_cached_input_tokens: float | None = None
    usd_per_request: float | None = None
    free: bool = False
    private: bool = False
    ca_file: Path | None = None
    parallel: int | None = None
    queue: int = 100
    connect_timeout_seconds: float = 5.0
    headers_timeout_seconds: float = 60.0
    first_token_timeout_seconds: float = 60.0
    idle_timeout_seconds: float = 60.0
    timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.name.isprintable() or self.name == "auto":
            hint = "Name the destination as the router does; 'auto' stands for routing."
            raise InputError("name", "be printable and not 'auto'", self.name, hint)
        if self.kind == "openai":
            check_url(self.target, private=self.private)
        elif self.kind != "lab" or not self.target:
            rule = "start with 'lab:' or 'openai:' and name a target"
            # what stands here may be a URL with a key in it, so only its scheme is shown
            shown = self.upstream.partition(":")[0] + ":..." if ":" in self.upstream else "no colon"
            hint = "Such as 'lab:pico' or 'openai:http://127.0.0.1:9000/v1'."
            raise InputError("upstream", rule, shown, hint)
        self._check_key()
        for key in _PRICES:
            if getattr(self, key) is not None:
                _check.number(key, getattr(self, key), low=0.0)
        given = [key for key in _PRICES[:2] if getattr(self, key) is None]
        if self.prices and given:
            hint = "Use 0 where it costs nothing."
            raise InputError(given[0], "come with the other prices", None, hint)
        if self.kind == "lab" and (self.prices or self.free or self.price is not None):
            rule, hint = "be left out for lab: upstreams", "They charge what they compute."
            raise InputError("price", rule, self.price or "one", hint)
        if self.price is not None and (self.prices or self.free):
            hint = "Keep the name in the price table, or what stands here."
            raise InputError("price", "not come with prices or free", self.price, hint)
        for key in _TIMES:
            _check.number(key, getattr(self, key), low=1e-3)
        self.lane(1)

    def _check_key(self) -> None:
        if self.key_env is not None and self.key_file is not None:
            raise InputError("key_env", "not come with key_file", "both", "Keep one of the two.")
        for key in ("key_env", "key_file"):
            if self.kind == "lab" and getattr(self, key) is not None:
                raise InputError(key, "be left out for lab: upstreams", "a name", "Drop it.")
        if self.key_env is not None and not _VARIABLE.fullmatch(self.key_env):
            hint = "Put the key into a variable such as OPENAI_API_KEY and write its name here."
            raise InputError("key_env", "name an environment variable", "something else", hint)

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

    @property
    def prices(self) -> dict[str, float]:
        """The prices given here; empty where there are none."""
        return {key: getattr(self, key) for key in _PRICES if getattr(self, key) is not None}

    def lane(self, workers: int) -> LaneRules:
        """The share of one of so many workers, rounded up."""
        return LaneRules(parallel=_share(self.parallel, workers), queue=-(-self.queue // workers))


def _share(limit: int | None, workers: int) -> int | None:
    return None if limit is None else -(-limit // workers)
