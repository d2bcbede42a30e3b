from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve.build import tariffs
from turnout.serve.config import Config, load, parse
from turnout.serve.tables import BudgetConfig, PoolEntry

POOL = '[pool.a]\nupstream = "lab:pico"\n'
OPEN = '[pool.a]\nupstream = "openai:http://h/v1"\n'
SECRET = "sk-do-not-show-me"

REFUSED: dict[str, tuple[str, str]] = {
    # name: text, what the message has to say
    "not TOML": ("port 8080", "must be TOML"),
    "nothing": ("", "pool must hold at least one destination"),
    "an unknown table": (POOL + "[sever]", "Did you mean 'server'?"),
    "an unknown key": (POOL + "[server]\nprot = 1", "server.prot must be a known key"),
    "an unknown key's neighbour": (POOL + "[server]\nprot = 1", "Did you mean 'port'?"),
    "an unknown key of a destination": (POOL + "tiemout_seconds = 1", "'timeout_seconds'"),
    "a key in the file": (POOL + f'api_key = "{SECRET}"', "Did you mean 'key_env'?"),
    "a key for a variable": (
        f'[pool.a]\nupstream = "openai:http://h/v1"\nkey_env = "{SECRET}"',
        "key_env must name an environment variable",
    ),
    "a key in the URL": (
        f'[pool.a]\nupstream = "openai:https://u:{SECRET}@h/v1"', "a user name or password",
    ),
    "a key in the query": (
        f'[pool.a]\nupstream = "openai:https://h/v1?key={SECRET}"', "a query or fragment",
    ),
    "a URL without a kind": ('[pool.a]\nupstream = "https://h/v1"', "start with 'lab:' or"),
    "a key for an upstream": (f'[pool.a]\nupstream = "{SECRET}"', "start with 'lab:' or"),
    "another scheme": ('[pool.a]\nupstream = "openai:ftp://h/v1"', "plain http(s) URL"),
    "a malformed URL": ('[pool.a]\nupstream = "openai:http://[h/v1"', "a malformed URL"),
    "a lab with a key": (POOL + 'key_env = "KEY"', "be left out for lab: upstreams"),
    "no upstream": ('[pool.a]\nmodel = "x"', "pool.a.upstream must be given"),
    "a pool of no tables": ('pool = "x"', "pool must be a table"),
    "a destination of no table": ("[pool]\na = 1", "pool.a must be a table"),
    "a destination called auto": ('[pool.auto]\nupstream = "lab:x"', "'auto' stands for routing"),
    "a port of text": (POOL + f'[server]\nport = "{SECRET}"', "must be a whole number; got 'text'"),
    "a port of yes": (POOL + "[server]\nport = true", "must be a whole number; got True"),
    "a port too high": (POOL + "[server]\nport = 65536", "whole number in [0, 65535]"),
    "an empty path": (POOL + '[ledger]\npath = ""', "ledger.path must be a path in quotes"),
    "a trusted text": (POOL + '[router]\ntrust = "x"', "must be a list of texts"),
    "a negative price": (POOL + "usd_per_million_input_tokens = -1", "finite number >= 0"),
    "a price of NaN": (POOL + "usd_per_million_input_tokens = nan", "finite number >= 0"),
    "no timeout": (POOL + "timeout_seconds = 0", "timeout_seconds must be"),
    "two targets": (POOL + "[budget]\nprice = 1\nmean_cost_usd = 1", "target must be one alone"),
    "half a price": (OPEN + "usd_per_million_input_tokens = 1", "come with the other prices"),
    "a price told twice": (OPEN + 'price = "x"\nfree = true', "not come with prices or free"),
    "a lab with a price": (POOL + "free = true", "be left out for lab: upstreams"),
    "a budget for a stranger": (
        POOL + '[budgets.b]\nusd = 1\nmodels = ["x"]',
        "budgets.b.models must name the pool",
    ),
    "a budget of no period": (POOL + '[budgets.b]\nusd = 1\nperiod = "year"', "be one of minute"),
    "a pace of nothing": (POOL + '[budget]\npace = "b"', "name a hard budget"),
    "a pace without an end": (
        POOL + '[budget]\npace = "b"\n[budgets.b]\nusd = 1\nperiod = "total"',
        "of the whole pool and of a period",
    ),
    "two keys": (
        '[pool.a]\nupstream = "openai:http://h/v1"\nkey_env = "A"\nkey_file = "b"',
        "not come with key_file",
    ),
    "too many workers": (POOL + "[server]\nworkers = 31", "workers must be"),
    "a free budget": (POOL + "[budget]\nmean_cost_usd = 0.0", "be above 0"),
    "a promise and a price": (POOL + "[budget]\nprice = 1.0\ncertified = true", "be one alone"),
    "a promise and exploring": (
        POOL + '[router]\nfile = "r"\nexplore = 0.1\n[budget]\ncertified = true',
        "be 0 beside budget.certified",
    ),
    "a quality above one": (POOL + "[budget]\nmean_quality = 1.5", "in [0, 1]"),
    "too much exploring": (POOL + "[router]\nexplore = 2", "in [0, 1]"),
    "file and model": (POOL + '[router]\nfile = "r"\nmodel = "a"', "not both be given"),
    "a model outside": (POOL + '[router]\nmodel = "b"', "name a pool entry"),
    "two and no router": (POOL + '[pool.b]\nupstream = "lab:b"', "say what decides"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_mistakes_are_named(text: str, said: str) -> None:
    """Each mistake is one error that names the key and the rule, and never shows a secret."""
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("turnout.toml"))
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)


def test_everything_can_be_said(tmp_path: Path) -> None:
    """Values arrive under their names; relative paths count from the file's folder."""
    config = parse(
        """
        [server]
        host = "::1"
        port = 0
        [router]
        file = "r.turnout"
        trust = ["mine"]
        explore = 1
        [budget]
        mean_cost_usd = 1
        period = 10
        [ledger]
        path = "/var/ledger.sqlite"
        [pool."a model/1"]
        upstream = "openai:https://h:8/v1"
        model = "m"
        key_env = "KEY"
        usd_per_million_input_tokens = 2
        usd_per_million_output_tokens = 4.0
        """,
        tmp_path / "turnout.toml",
    )
    (entry,) = config.pool
    assert config.names == ("a model/1",)
    assert (entry.kind, entry.target, entry.upstream_model) == ("openai", "https://h:8/v1", "m")
    assert tariffs(config)["a model/1"].at(0).cost(1_000_000, 500_000) == 4 * 10**12
    assert config.router.file == tmp_path / "r.turnout"
    assert config.router.trust == ("mine",)
    assert config.ledger.path == Path("/var/ledger.sqlite")
    assert config.budget == BudgetConfig(mean_cost_usd=1.0, period=10)
    assert (config.server.host, config.server.port, config.router.explore) == ("::1", 0, 1.0)


def test_default_paths_are_beside_the_file(tmp_path: Path) -> None:
    """Wherever a gateway is started from, it opens the same ledger."""
    assert parse(POOL, tmp_path / "turnout.toml").ledger.path == tmp_path / "turnout.sqlite"


def test_a_price_has_to_be_known(tmp_path: Path) -> None:
    """Of each destination: told here, in a table, or free on purpose; and a budget needs one."""
    table = tmp_path / "prices.toml"
    table.write_text(
        'version = "7"\n[[models.m]]\nusd_per_million_input_tokens = 1\n'
        "usd_per_million_output_tokens = 2\n"
    )
    entry = '[pool.a]\nupstream = "openai:http://h/v1"\n'
    listed = '[prices]\nfile = "prices.toml"\n'

    def made(text: str) -> Any:
        return tariffs(parse(text, tmp_path / "turnout.toml"))["a"].at(0)

    assert made(listed + entry + 'model = "m"').cost(1_000_000, 0) == 10**12
    assert made(listed + entry + 'price = "m"').version == "7"
    assert made(entry + "free = true").free
    for text, said in [
        (entry, "pool.a must have a price"),
        (listed + entry + 'model = "n"', "be in price table 7"),
        (entry + "free = true\n[budget]\nmean_cost_usd = 1", "a pool that costs something"),
    ]:
        with pytest.raises(ConfigError, match=said):
            made(text)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[server]\n\xff")
    for path, said in [(tmp_path / "none", "be readable"), (tmp_path, "be readable"),
                       (binary, "be UTF-8")]:  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            load(path)


def test_the_example_is_good() -> None:
    """The commented example names every table and parses as it stands."""
    path = Path(__file__).parents[2] / "examples" / "turnout.toml"
    assert len(load(path).pool) > 1


def test_objects_made_in_python_are_checked_too() -> None:
    entry = PoolEntry(name="a", upstream="lab:pico")
    with pytest.raises(InputError, match="pool must be unique"):
        Config(pool=(entry, entry))
