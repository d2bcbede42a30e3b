"""Every method can be served from its file: routers by deciding, strategies by asking."""

from __future__ import annotations

import http.client
import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import numpy as np
import orjson
import pytest

import turnout.parts.store as store
from turnout import catalog
from turnout.catalog import Entry
from turnout.core import MissingExtraError, Pool, Sequential
from turnout.parts.priced import as_router
from turnout.serve.background import running
from turnout.serve.build import build
from turnout.serve.config import Config, parse
from turnout.serve.money import reading
from turnout.serve.request import parse as parse_chat
from turnout.serve.wire.clock import Clock
from turnout.testing import Case, planted
from turnout.testing.strategies import StrategyCase

CASES = Path(__file__).parents[1] / "methods" / "llms"
ENTRIES = [
    entry
    for entry in catalog.methods("llms")
    if entry.recipe and "multi_step" not in entry.card.properties
]
STRATEGIES = [
    entry
    for entry in catalog.methods("llms")
    if entry.recipe and "multi_step" in entry.card.properties
]
STRATEGY = '[router]\nmodel = "it"\n[strategies.it]\nfile = "router.turnout"'
CHAT = b'{"model": "auto", "messages": [{"role": "user", "content": "a simple poem please"}]}'


@cache
def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"served_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def served(tmp_path: Path) -> Callable[..., Config]:
    """The configuration of a pool whose file is `router.turnout`."""

    def make(table: str, names: tuple[str, ...], url: str = "http://127.0.0.1:9") -> Config:
        pool = "\n".join(
            f'[pool."{name}"]\nupstream = "openai:{url}/v1"\nmodel = "pico"\nfree = true'
            for name in names
        )
        return parse(f"{table}\n{pool}", tmp_path / "turnout.toml")

    return make


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_fitted_method_is_served(
    entry: Entry, tmp_path: Path, served: Callable[..., Config]
) -> None:
    """Fitted, saved and named in a configuration, it decides for a destination of the pool."""
    try:
        catalog.recipe(entry.name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    case = getattr(_module(CASES / f"test_{entry.method}.py"), "CASE", None)
    assert isinstance(case, Case)
    if case.inputs != "text":
        pytest.skip("it reads vectors, and a request is text")
    table = planted.hard(80, np.random.default_rng(0)).outcomes
    fitted = as_router(case.recipe.fit(table, table.pool(), rng=np.random.default_rng(0)))
    store.save(tmp_path / "router.turnout", fitted, table.pool(), method=entry.name)
    if isinstance(fitted, Sequential):
        config = served(
            '[router]\nmodel = "it"\n[strategies.it]\nfile = "router.turnout"', table.names
        )
        parts = build(config, Clock(), {})
        play = parts.stages["it"].play("a simple poem please", ())
        assert next(play)[0].to in table.names
        play.close()
        return
    parts = build(served('[router]\nfile = "router.turnout"', table.names), Clock(), {})
    decision = parts.policy.decide(parse_chat(CHAT, max_prompt_chars=1000))
    assert decision.destination in table.names


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway of one real model, as an endpoint for others."""
    folder = tmp_path_factory.mktemp("lab")
    config = parse('[pool.pico]\nupstream = "lab:pico"', folder / "turnout.toml")
    with running(config) as gateway:
        yield gateway.url


@pytest.mark.parametrize("entry", STRATEGIES, ids=lambda entry: entry.name)
def test_a_strategy_drives_real_endpoints(
    entry: Entry, tmp_path: Path, served: Callable[..., Config], lab: str
) -> None:
    """The same class, from its file, over endpoints that speak OpenAI's protocol: our own gateway.

    Whatever the model behind them is worth for it, it ends with an answer, and every call has a
    row in the ledger.
    """
    try:
        catalog.recipe(entry.name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    case = getattr(_module(CASES / f"test_{entry.method}.py"), "CASE", None)
    assert isinstance(case, StrategyCase)
    strategy = case.make()
    pool = case.pool or Pool(names=strategy.names)
    store.save(tmp_path / "router.turnout", strategy, pool, method=entry.name)
    config = served(STRATEGY, pool.names, lab)
    body = {"model": "it", "messages": [{"role": "user", "content": case.items[0]}]}
    with running(config) as gateway:
        connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=60)
        connection.request("POST", "/v1/chat/completions", orjson.dumps(body))
        response = connection.getresponse()
        told = orjson.loads(response.read())
        connection.close()
    assert response.status == 200, told
    calls = [call["to"] for call in told["turnout"]["calls"]]
    assert calls
    rows = reading.rows(config.ledger.path)
    assert sorted(row["destination"] for row in rows) == sorted([*calls, "it"])
