"""From a configuration to the parts of a gateway; every mistake is found here, before it starts."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout.core import ConfigError, InputError
from turnout.serve.busy import Gauge
from turnout.serve.config import Config
from turnout.serve.desk import Charge
from turnout.serve.guard.address import check_url
from turnout.serve.guard.keyfile import read as read_keys
from turnout.serve.guard.keys import check_open
from turnout.serve.lab import LabUpstream
from turnout.serve.money import prices, reading
from turnout.serve.money.prices import PriceTable, Tariff
from turnout.serve.money.store import Store
from turnout.serve.money.units import PICO_PER_USD
from turnout.serve.openai import OpenAIUpstream, Secret
from turnout.serve.policy import Policy
from turnout.serve.prompts import file as promptfile
from turnout.serve.prompts.keeper import Prompts
from turnout.serve.prompts.reading import inspect as inspect_prompts
from turnout.serve.routers import make_policy
from turnout.serve.stage import Stage, make_stages
from turnout.serve.tables import PoolEntry
from turnout.serve.upstream import Upstream
from turnout.serve.wire.client import Origin, Times
from turnout.serve.wire.clock import Clock
from turnout.serve.wire.limits import Limits

if TYPE_CHECKING:
    from turnout.lab.model import LanguageModel

__all__ = [
    "Make",
    "Parts",
    "build",
    "check",
    "keeper",
    "renewed",
    "resolve",
    "store",
    "tariffs",
    "upstreams",
]

_log = logging.getLogger("turnout.serve")


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """What decides and what answers; each can be replaced.

    Parameters
    ----------
    policy : Policy
    upstreams : mapping of str to Upstream
        One for each name of the pool.
    charges : mapping of str to callable
        For destinations that do not cost what their tokens do: pico-dollars of so many read and
        written.
    stages : mapping of str to Stage
        Strategies by name.
    gauge : Gauge, optional
        What the policy reads the load from; it is told of the gate.
    """

    policy: Policy
    upstreams: Mapping[str, Upstream]
    charges: Mapping[str, Charge] = field(default_factory=dict)
    stages: Mapping[str, Stage] = field(default_factory=dict)
    gauge: Gauge | None = None


#: Makes the parts of one worker.
Make = Callable[[Config, Clock], Parts]


def build(config: Config, clock: Clock, environ: Mapping[str, str] | None = None) -> Parts:
    """Make every part of one worker; nothing is connected to yet.

    Raises
    ------
    ConfigError
        A key is not there, a laboratory model does not exist, or the budget cannot be kept.
    RouterFileError
        The router file is missing, damaged, newer than this version, made for another pool, or
        of a kind that cannot be served.
    """
    asked = upstreams(config, clock, os.environ if environ is None else environ)
    charges = {entry.name: _lab_charge(entry) for entry in config.pool if entry.kind == "lab"}
    gauge = Gauge(config.server.workers)
    return Parts(
        policy=make_policy(config, gauge),
        upstreams=asked,
        charges=charges,
        stages=make_stages(config.strategies, config.names),
        gauge=gauge,
    )


def check(config: Config, environ: Mapping[str, str] | None = None) -> None:
    """Everything that a start would find, without making a file.

    Raises
    ------
    ConfigError, RouterFileError
        As `build` and `store`.
    """
    _, address = resolve(config.server.host, config.server.port)
    check_open(str(address[0]), keys=config.keys.file is not None, allowed=config.server.open)
    build(config, Clock(), environ)
    tariffs(config)
    if config.keys.file is not None:
        read_keys(config.keys.file)
    reading.inspect(config.ledger.path)
    if config.prompts is not None:
        inspect_prompts(promptfile.beside(config.ledger.path))


def resolve(host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    """Address family and socket address of what is to be listened on.

    Raises
    ------
    ConfigError
        It is no address of this machine.
    """
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        hint = f"{error.strerror}. Use 127.0.0.1."
        raise ConfigError("server.host", "be an address of this machine", host, hint) from None
    return kind, address


def store(config: Config, workers: int) -> Store:
    """The money and memory that so many workers share; makes the files they write.

    Raises
    ------
    ConfigError
        A price is not known, the ledger cannot be opened or is in use, or there is no file of
        prompts where these are to be kept.
    """
    rules = config.budgets
    made = Store(config.ledger.path, tariffs=tariffs(config), rules=rules, workers=workers)
    try:
        _make_promptfile(config)
    except BaseException:
        made.close()
        raise
    return made


def renewed(old: Store, config: Config) -> Store:
    """The same money and memory under other prices and budgets.

    Raises
    ------
    ConfigError
        A price is not known, or there is no file of prompts where these are to be kept.
    """
    _make_promptfile(config)
    return old.renewed(tariffs=tariffs(config), rules=config.budgets)


def keeper(config: Config) -> Prompts | None:
    """What keeps the prompts of one worker, or only deletes those of before; None for neither.

    Raises
    ------
    ConfigError
        Prompts are to be kept, and their file cannot be used.
    """
    path, rules = promptfile.beside(config.ledger.path), config.prompts
    if rules is not None:
        return Prompts(path, keep_days=rules.keep_days, keys=rules.keys)
    if not path.exists():
        return None
    try:
        return Prompts(path)
    except ConfigError as error:
        _log.warning("prompts kept before are not deleted: %s", error)
        return None


def tariffs(config: Config) -> dict[str, Tariff]:
    """The prices of each destination, and of each strategy.

    Raises
    ------
    ConfigError
        One is not known.
    """
    file = config.prices.file
    table = None if file is None else PriceTable.load(file)
    found = {
        entry.name: _lab_tariff(entry)
        if entry.kind == "lab"
        else prices.choose(
            f"pool.{entry.name}",
            model=entry.price or entry.upstream_model,
            table=table,
            prices=entry.prices,
            free=entry.free,
        )
        for entry in config.pool
    }
    # what a strategy calls is charged, and nothing beyond it
    found |= {
        entry.name: prices.choose(f"strategies.{entry.name}", model=entry.name, free=True)
        for entry in config.strategies
    }
    if config.budget.mean_cost_usd is not None and all(t.at(0).free for t in found.values()):
        rule, hint = "come with a pool that costs something", "Set prices, or drop it."
        raise ConfigError("budget.mean_cost_usd", rule, "nothing but free destinations", hint)
    return found


def upstreams(config: Config, clock: Clock, environ: Mapping[str, str]) -> dict[str, Upstream]:
    """One upstream for each entry of the pool; nothing is connected to yet."""
    return {
        entry.name: LabUpstream(name=entry.name, model=_lab_model(entry))
        if entry.kind == "lab"
        else _openai(entry, config.limits, clock, environ)
        for entry in config.pool
    }


def _make_promptfile(config: Config) -> None:
    """Once, so that the workers do not make it at the same time."""
    if config.prompts is not None:
        promptfile.connect(promptfile.beside(config.ledger.path)).close()


def _openai(entry: PoolEntry, limits: Limits, clock: Clock, environ: Mapping[str, str]) -> Upstream:
    target = check_url(entry.target, private=entry.private)
    tls = _tls(entry) if target.scheme == "https" else None

    def origin(headers: float, first: float) -> Origin:
        host = f"[{target.host}]" if ":" in target.host else target.host
        return Origin(
            f"{target.scheme}://{host}:{target.port}",
            times=Times(
                connect=entry.connect_timeout_seconds,
                headers=headers,
                first=first,
                idle=entry.idle_timeout_seconds,
                total=entry.timeout_seconds,
            ),
            limits=limits,
            clock=clock,
            address_ok=target.address_ok,
            tls=tls,
        )

    return OpenAIUpstream(
        name=entry.name,
        # an answer that comes at once begins when it is whole
        whole=origin(entry.timeout_seconds, entry.timeout_seconds),
        streamed=origin(entry.headers_timeout_seconds, entry.first_token_timeout_seconds),
        path=target.path,
        model=entry.upstream_model,
        key=_key(entry, environ),
        max_answer_bytes=limits.answer_bytes,
    )


def _tls(entry: PoolEntry) -> ssl.SSLContext:
    if entry.ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(entry.ca_file))
    except (OSError, ssl.SSLError) as error:
        where, hint = f"pool.{entry.name}.ca_file", f"{type(error).__name__}. Check the path."
        raise ConfigError(where, "hold certificates", str(entry.ca_file), hint) from None


def _key(entry: PoolEntry, environ: Mapping[str, str]) -> Secret | None:
    """The key from its variable or file; only the name of that is ever said."""
    if entry.key_env is not None:
        where = f"environment variable {entry.key_env}"
        value = environ.get(entry.key_env, "")
    elif entry.key_file is not None:
        where = f"pool.{entry.name}.key_file"
        value = _read(where, entry.key_file)
    else:
        return None
    if not value:
        hint = f"Set it to the key of pool.{entry.name}, or drop it if that needs none."
        raise ConfigError(where, "be set", "nothing", hint)
    if not value.isascii() or not value.isprintable() or " " in value:
        rule = "hold a key in printable ASCII without spaces"
        raise ConfigError(where, rule, "something else", "Set it again; mind a trailing newline.")
    return Secret(value)


def _read(where: str, path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        hint = f"{type(error).__name__}. Check the path."
        raise ConfigError(where, "be readable", str(path), hint) from None


def _lab_model(entry: PoolEntry) -> LanguageModel:
    from turnout.lab.pool import load

    try:
        return load(entry.target)
    except InputError as error:
        where = f"pool.{entry.name}.upstream"
        raise ConfigError(
            where, f"name a laboratory model after 'lab:' ({error.rule})", entry.target, error.hint
        ) from None


def _lab_tariff(entry: PoolEntry) -> Tariff:
    """List prices, to predict with; what is charged is what it computed."""
    from turnout.lab.pool import prices as listed

    read, written = (1e6 * price for price in listed(_lab_model(entry)))
    return prices.choose(
        f"pool.{entry.name}",
        model=entry.name,
        prices={
            "usd_per_million_input_tokens": f"{read:.9f}",
            "usd_per_million_output_tokens": f"{written:.9f}",
        },
    )


def _lab_charge(entry: PoolEntry) -> Charge:
    from turnout.lab.pool import cost

    model = _lab_model(entry)
    return lambda read, written: round(cost(model, read, written) * PICO_PER_USD)
