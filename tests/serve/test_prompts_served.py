"""A gateway keeps prompts where its configuration says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from turnout.core import ConfigError, InputError
from turnout.serve import build
from turnout.serve.config import Config, parse
from turnout.serve.money.reading import number
from turnout.serve.prompts import file, reading
from turnout.serve.prompts.file import SHIFT
from turnout.serve.tables import PromptsConfig

from .fault.rig import make_keys, serving, until
from .kept import DAY, NOON, ON, SECRET, filled, id_at, rows, texts, written

POOL = '[pool.a]\nupstream = "lab:pico"\n'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[prompts]", "prompts.keep_days must be given"),
        ("[prompts]\nkeep_days = 0", "prompts.keep_days must be a whole number in [1, 3650]"),
        ("[prompts]\nkeep_days = 3651", "prompts.keep_days must be a whole number in [1, 3650]"),
        ("[prompts]\nkeep_days = 1.5", "prompts.keep_days must be a whole number"),
        ("[prompts]\nkeep_days = true", "prompts.keep_days must be a whole number"),
        ('[prompts]\nkeep_days = "30"', "prompts.keep_days must be a whole number"),
        (ON + 'keys = "alice"', "prompts.keys must be a list of texts in quotes"),
        (ON + 'keys = ["a", "a"]', "prompts.keys must be unique"),
        (ON + 'keys = [" "]', "prompts.keys must hold non-empty strings"),
        (ON + "days = 3", "Did you mean 'keep_days'?"),
        ("prompts = true", "prompts must be a table"),
        ("[promts]\nkeep_days = 3", "Did you mean 'prompts'?"),
    ],
)
def test_mistakes_are_named(table: str, said: str) -> None:
    """Each is one error with the key and the rule."""
    text = f"{table}\n{POOL}" if "[" not in table else f"{POOL}{table}"
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("turnout.toml"))
    assert said in str(caught.value)


def test_the_table_is_the_switch() -> None:
    """Absent: off. There: on, for all keys unless some are named."""
    source = Path("turnout.toml")
    assert parse(POOL, source).prompts is None
    assert parse(POOL + ON, source).prompts == PromptsConfig(keep_days=30)
    some = parse(POOL + ON + 'keys = ["a", "b"]', source).prompts
    assert some == PromptsConfig(keep_days=30, keys=("a", "b"))
    with pytest.raises(InputError, match="keep_days"):
        PromptsConfig(keep_days=0)


def test_off_nothing_is_kept(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """No byte of a prompt in any file while it runs or after, and nothing that could keep one."""
    with serving(make_config(), build.build) as gateway:
        answers = [gateway.chat("auto", SECRET), gateway.chat("auto", SECRET, stream=True)]
        assert gateway.worker._prompts is None
        data = written(tmp_path)
    assert [answer.status for answer in answers] == [200, 200]
    assert not [path for path in tmp_path.iterdir() if "prompts" in path.name]
    assert SECRET.encode() not in data + written(tmp_path)


def test_on_the_right_prompts_are_kept(make_config: Callable[..., Config], tmp_path: Path) -> None:
    """Of the keys that were named, with the ids that the answers tell; in this one file alone."""
    secrets = make_keys(tmp_path, alice={}, bob={})
    keys = '[keys]\nfile = "keys.json"\n'
    config = make_config(more=f'{keys}{ON}keys = ["bob"]')
    names = {}
    with serving(config, build.build) as gateway:
        prompts = gateway.worker._prompts
        assert prompts is not None
        assert prompts.hook is not None
        for key in ("alice", "bob"):
            headers = {"authorization": f"Bearer {secrets[key]}"}
            answer = gateway.chat("auto", f"{SECRET} of {key}", headers)
            assert answer.status == 200
            names[key] = answer.id
            id_ = number(answer.id)
            assert id_ is not None
            prompts.hook(id_, key, f"{SECRET} of {key}")
    path = file.beside(config.ledger.path)
    (about,) = reading.listed(path)
    assert about.record()["id"] == names["bob"]
    assert about.goes == (about.id >> SHIFT) + 30 * DAY
    assert texts(path) == [f"{SECRET} of bob"]
    elsewhere = [one for one in tmp_path.rglob("*") if one.is_file() and one != path]
    assert not [one for one in elsewhere if SECRET.encode() in one.read_bytes()]
    (row,) = [row for row in reading.export(path, config.ledger.path) if row["key"] == "bob"]
    assert (row["model"], row["status"], row["id"]) == ("dear", 200, names["bob"])


def test_a_file_that_fails_fails_no_request(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """Prompts are lost and counted; requests are answered, and the gateway stops in good order."""
    config = make_config(more=ON)
    path = file.beside(config.ledger.path)
    with serving(config, build.build) as gateway:
        prompts = gateway.worker._prompts
        assert prompts is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("DROP TABLE prompts")
        prompts.keep(id_at(NOON), "anyone", SECRET)
        until(lambda: prompts.dropped >= 1)
        assert gateway.chat("auto", SECRET).status == 200
    assert prompts.error == "OperationalError: no such table: prompts"


@pytest.mark.parametrize("more", ["", ON])
def test_a_start_deletes_what_has_expired(
    make_config: Callable[..., Config], tmp_path: Path, more: str
) -> None:
    """Also where prompts are switched off by now; what has not expired stays."""
    config = make_config(more=more)
    path = file.beside(config.ledger.path)
    future = 4_000_000_000_000
    filled(path, (id_at(NOON - 900 * DAY), "a", 30, SECRET), (id_at(future), "a", 30, "not yet"))
    with serving(config, build.build) as gateway:
        until(lambda: len(rows(path)) == 1)
        assert gateway.chat("auto", "hi").status == 200
    assert "not yet" in texts(path)
    assert SECRET.encode() not in written(tmp_path)


def test_a_file_that_is_something_else_is_a_mistake_where_prompts_are_kept(
    make_config: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    """`--check`, a start and a reload say so; a gateway that keeps none only warns."""
    config, off = make_config(more=ON), make_config()
    path = file.beside(config.ledger.path)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(ConfigError, match="file of prompts must"):
        build.check(config)
    with pytest.raises(ConfigError, match="file of prompts must"):
        build.store(config, 1)
    build.check(off)
    kept = build.store(off, 1)  # nothing holds the ledger since the start that failed
    with pytest.raises(ConfigError, match="file of prompts must"):
        build.renewed(kept, config)
    kept.close()
    assert build.keeper(off) is None
    assert "prompts kept before are not deleted" in caplog.text
    assert path.read_bytes() == b"something else" * 100


def test_a_reload_switches_it_on(make_config: Callable[..., Config]) -> None:
    """The file is there before the new workers are."""
    kept = build.store(make_config(), 1)
    config = make_config(more=ON)
    path = file.beside(config.ledger.path)
    assert not path.exists()
    build.renewed(kept, config)
    assert rows(path) == []
    kept.close()
