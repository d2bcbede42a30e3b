"""Start, reload and stop of a gateway stand in the audit log of its key file, if it has one."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pwd
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from turnout.serve.guard import key, keyfile
from turnout.serve.guard.audit import Audit, account, beside
from turnout.serve.run import _Record

from .crowd import Process, run, started, until

#: Serves with the file at hand; workers fail to start where there is a file `broken`.
SERVE = """
import sys
from pathlib import Path

from turnout.serve import run
from turnout.serve.config import load

path = Path(sys.argv[1])
made = run.Worker

def worker(*args):
    if path.with_name("broken").exists():
        raise RuntimeError("a worker that does not start")
    return made(*args)

run.Worker = worker
sys.exit(run.serve(load(path), reread=lambda: load(path), say=print, source=path))
"""
NEW = "new workers serve by the configuration as it is now"
STAYS = "the configuration stays as it was"


def write(path: Path, keys: str = "keys.json", more: str = "") -> str:
    """A configuration, replaced as a whole; its digest."""
    text = (
        f'[server]\nport = 0\nworkers = 2\n[keys]\nfile = "{keys}"\n'
        f'[ledger]\npath = "ledger.sqlite"\n{more}'
        '[pool.one]\nupstream = "openai:http://127.0.0.1:9/v1"\nfree = true\n'
    )
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_keys(folder: Path, name: str = "keys.json", *, log: bool = True) -> Path:
    """A key file, and its audit log with one line."""
    path = folder / name
    keyfile.write(path, [key.make("alice", now=0.0).key])
    if log:
        Audit(beside(path), wall=lambda: 0.0).note("root (0)", "key.new", "alice")
    return path


def lines(keys: Path) -> list[dict[str, Any]]:
    """What is on record of the gateway."""
    found = [json.loads(line) for line in beside(keys).read_text().splitlines()]
    return [line for line in found if line["action"] != "key.new"]


def story(config: Path, tell: Callable[[Process], Coroutine[Any, Any, None]]) -> str:
    """Start a gateway, do something to it, stop it; where it listened."""

    async def told() -> str:
        with started(config, ("-c", SERVE)) as gateway:
            await tell(gateway)
            assert gateway.stopped() == 0
            return gateway.url.removeprefix("http://")

    address: str = run(told())
    return address


def test_everything_that_is_done_is_on_record(tmp_path: Path) -> None:
    """Who, what, to which gateway, with how many workers and by which file; no word of the file."""
    keys, config = make_keys(tmp_path), tmp_path / "turnout.toml"
    first = write(config)
    digests: list[str] = []

    async def tell(gateway: Process) -> None:
        await until(lambda: len(lines(keys)) == 1)
        before = set(gateway.workers())
        for turn, more in enumerate(("[retry]\ntries = 2\n", "[retry]\ntries = 3\n")):
            digests.append(write(config, more=more))
            gateway.tell(signal.SIGHUP)
            await gateway.logged(NEW, turn + 1)
            await until(lambda before=before: not before & set(gateway.workers()))
            before = set(gateway.workers())
        digests.append(write(config, more="[secret-name]\n"))
        gateway.tell(signal.SIGHUP)
        await gateway.logged(STAYS)
        digests.append(write(config, more="[retry]\ntries = 4\n"))
        config.with_name("broken").touch()
        gateway.tell(signal.SIGHUP)
        await gateway.logged("the new workers did not start")
        config.with_name("broken").unlink()

    address = story(config, tell)
    found = lines(keys)
    assert [(line["action"], line["config"], line.get("reason")) for line in found] == [
        ("gateway.start", first, None),
        ("gateway.reload", digests[0], None),
        ("gateway.reload", digests[1], None),
        ("gateway.reload_failed", digests[2], "configuration"),
        ("gateway.reload_failed", digests[3], "workers"),
        ("gateway.stop", digests[1], None),  # by what it served until then
    ]
    name = pwd.getpwuid(os.getuid()).pw_name
    for line in found:
        assert (line["actor"], line["subject"]) == (f"{name} ({os.getuid()})", address)
        assert line["workers"] == 2
        assert set(line) - {"reason"} == {
            *("time", "actor", "action", "subject", "workers", "config")
        }
    assert "secret-name" not in beside(keys).read_text()


def test_another_key_file_has_another_log(tmp_path: Path) -> None:
    """The change stands in the log of before, and what comes after it in the one of now."""
    old, new = make_keys(tmp_path), make_keys(tmp_path, "new.json")
    config = tmp_path / "turnout.toml"
    write(config)

    async def tell(gateway: Process) -> None:
        write(config, "new.json")
        gateway.tell(signal.SIGHUP)
        await gateway.logged(NEW)

    story(config, tell)
    assert [line["action"] for line in lines(old)] == ["gateway.start", "gateway.reload"]
    assert [line["action"] for line in lines(new)] == ["gateway.stop"]


def test_a_start_that_fails_is_no_start(tmp_path: Path) -> None:
    """Neither it nor its end is on record."""
    keys, config = make_keys(tmp_path), tmp_path / "turnout.toml"
    write(config)
    config.with_name("broken").touch()
    with pytest.raises(AssertionError), started(config, ("-c", SERVE)):
        pass
    assert lines(keys) == []


def test_no_log_is_begun(tmp_path: Path) -> None:
    """Where there is none beside the key file, or no key file, there is none afterwards."""
    keys = make_keys(tmp_path, log=False)
    for one in (keys, None):
        record = _Record(one, "127.0.0.1:1", 1, None)
        record.started()
        record.stopped()
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


def test_a_log_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway's own log says that something is not on record."""
    beside(tmp_path / "keys.json").mkdir()
    record = _Record(tmp_path / "keys.json", "127.0.0.1:1", 1, None)
    with caplog.at_level(logging.ERROR, "turnout.serve"):
        record.started()
        record.failed("0" * 16, "workers")
    path = beside(tmp_path / "keys.json")
    assert [record.getMessage() for record in caplog.records] == [
        f"the audit log {path} cannot be appended to: {what} is not on record"
        for what in ("start", "reload_failed")
    ]


def test_an_account_without_a_name_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose users nobody has entered."""
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert account() == "3999999999"
