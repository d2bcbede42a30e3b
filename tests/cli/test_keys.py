"""`turnout keys`: secrets shown once, changes on record, mistakes told."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from turnout.cli import main
from turnout.serve.guard import keyfile
from turnout.serve.guard.key import Key
from turnout.serve.guard.keys import Keyring
from turnout.serve.guard.refusal import RefusedError

FILE = Path("turnout-keys.json")
LOG = Path("turnout-keys.json.audit.jsonl")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, which is where the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> None:
    main(["keys", *words])


def made(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The secret that a command prints, alone on standard output."""
    capsys.readouterr()
    run(*words)
    out, err = capsys.readouterr()
    assert re.fullmatch(r"tn-[a-z0-9]{8}-[A-Za-z0-9_-]{43}\n", out)
    assert out.strip() not in err
    return out.strip()


def key(name: str) -> Key:
    return next(key for _, key in keyfile.read(FILE).keys.values() if key.name == name)


def opens(secret: str) -> Key:
    return Keyring(FILE).check(f"Bearer {secret}".encode())


def log() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a mistake says; nothing of the folder may change by it."""
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before
    return capsys.readouterr().err


def test_new(capsys: pytest.CaptureFixture[str]) -> None:
    """A new key opens, with everything that was said, and its secret is in no file."""
    secret = made(
        capsys,
        *("new", "ci", "--models", "pico,grand", "--models", "mini"),
        *("--expires", "30d", "--rpm", "60", "--tpm", "9000", "--parallel", "4"),
        *("--label", "team=search", "--label", "note=a=b"),
    )
    found = opens(secret)
    assert (found.name, found.id) == ("ci", secret[3:11])
    assert found.models == {"pico", "grand", "mini"}
    assert not found.admin
    limits = found.limits
    assert (limits.requests_per_minute, limits.tokens_per_minute, limits.parallel) == (60, 9000, 4)
    assert dict(found.labels) == {"team": "search", "note": "a=b"}
    assert found.expires - found.made == pytest.approx(30 * 86_400, abs=1)
    for path in (FILE, LOG):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert secret[12:] not in path.read_text()
    assert opens(made(capsys, "new", "root", "--admin")).admin
    assert key("root").models is None


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """The table and the JSON show every key and its state, never a secret or a hash."""
    secrets = [
        made(capsys, "new", "ci", "--models", "pico", "--rpm", "60", "--label", "team=search"),
        made(capsys, "new", "[bold]odd", "--admin", "--expires", "0s"),
    ]
    made(capsys, "rotate", "ci", "--grace", "2h")
    run("list")
    table = capsys.readouterr().out
    run("list", "--json")
    text = capsys.readouterr().out
    for shown in (table, text):
        assert "ci" in shown
        assert "[bold]odd" in shown
        assert key("ci").id in shown
        assert key("ci").digest.hex() not in shown
        assert not any(secret[12:] in shown for secret in secrets)
    assert "60 requests/min" in table
    assert "all and admin" in table
    first, second = json.loads(text)
    assert first["limits"] == {"requests/min": 60}
    assert first["models"] == ["pico"]
    assert first["state"].startswith("old secret until 2")
    assert (second["state"], second["models"]) == ("expired", None)


def test_rotate(capsys: pytest.CaptureFixture[str]) -> None:
    """The new secret opens at once, the old one for the grace; without grace not at all."""
    old = made(capsys, "new", "ci", "--rpm", "7")
    new = made(capsys, "rotate", "ci", "--grace", "1d")
    assert opens(old) == opens(new)
    assert opens(new).limits.requests_per_minute == 7
    assert opens(new).previous_until == pytest.approx(time.time() + 86_400, abs=60)
    last = made(capsys, "rotate", opens(new).id, "--grace", "0s")
    assert opens(last).name == "ci"
    for gone in (old, new):
        with pytest.raises(RefusedError):
            opens(gone)


def test_revoke(capsys: pytest.CaptureFixture[str]) -> None:
    """A revoked key opens nothing, the others do, and its name is free again."""
    first, second = made(capsys, "new", "ci"), made(capsys, "new", "root")
    run("revoke", "ci")
    with pytest.raises(RefusedError):
        opens(first)
    assert opens(second).name == "root"
    assert opens(made(capsys, "new", "ci")).name == "ci"


def test_every_change_is_on_record(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a change: who, what, to which key; looking changes nothing."""
    made(capsys, "new", "ci", "--models", "pico")
    made(capsys, "rotate", "ci", "--grace", "1h")
    run("list")
    id_ = key("ci").id
    run("revoke", "ci")
    lines = log()
    assert [(line["action"], line["subject"]) for line in lines] == [
        ("key.new", "ci"),
        ("key.rotate", "ci"),
        ("key.revoke", "ci"),
    ]
    assert {line["id"] for line in lines} == {id_}
    assert {line["actor"] for line in lines} == {lines[0]["actor"]}
    assert lines[0]["models"] == ["pico"]
    assert lines[1]["grace_seconds"] == 3600.0


def test_no_change_without_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the log cannot be written the keys stay as they are."""
    made(capsys, "new", "ci")
    LOG.unlink()
    LOG.mkdir()
    before = FILE.read_bytes()
    for words in (("new", "other"), ("rotate", "ci"), ("revoke", "ci")):
        with pytest.raises(SystemExit):
            run(*words)
        assert "audit log must" in capsys.readouterr().err
        assert FILE.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("new", "ci"), "NAME must be new"),
        (("new", "a", "--models", ","), "printable names"),
        (("new", " "), "printable text"),
        (("new", "a", "--rpm", "0"), "--rpm"),
        (("new", "a", "--expires", "soon"), "such as 30d"),
        (("new", "a", "--expires", "-1d"), "such as 30d"),
        (("new", "a", "--expires", "999999w"), "such as 30d"),
        (("new", "a", "--label", "team"), "KEY=VALUE"),
        (("new", "a", "--label", "=x"), "KEY=VALUE"),
        (("new", "a", "--file", "no/such/keys.json"), "folder that exists"),
        (("rotate", "nobody"), "be the name or id of a key"),
        (("rotate", "old"), "not have expired"),
        (("rotate", "ci", "--grace", "1y"), "such as 30d"),
        (("revoke", "nobody"), "be the name or id of a key"),
        (("revoke", "ci", "--file", "other.json"), "be the name or id of a key"),
        (("list", "--file", "other.json"), "be readable"),
        (("list", "--file", LOG.name), "be JSON"),
        (("new",), "Missing argument"),
        (("forget", "ci"), "No such command"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    """Each mistake is one clear message with exit status 2, and changes nothing."""
    made(capsys, "new", "ci")
    made(capsys, "new", "old", "--expires", "0s")
    assert said in fails(capsys, *words)


def test_a_mistake_makes_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there were no keys a mistake leaves an empty folder."""
    fails(capsys, "rotate", "ci")
    fails(capsys, "new", "a", "--models", ",")
    assert list(Path().iterdir()) == []


def test_a_broken_file_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    """Keys that cannot be read are not thrown away by the next change."""
    FILE.write_text("{")
    FILE.chmod(0o600)
    assert "be JSON" in fails(capsys, "new", "ci")


def test_the_secret_can_be_piped() -> None:
    """Standard output is the secret and nothing else; the rest is on standard error."""
    words = [sys.executable, "-m", "turnout", "keys", "new", "ci"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0
    assert opens(done.stdout.strip()).name == "ci"
    assert "not shown again" in done.stderr
