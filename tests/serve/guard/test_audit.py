"""The audit log: whole lines, only appended, nobody else's to read, never a secret."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from turnout.core import ConfigError
from turnout.serve.guard.audit import Audit, redacted
from turnout.serve.guard.key import make

from .conftest import Clock


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines(tmp_path: Path, clock: Clock) -> None:
    """Each note is one line with its time; later ones come after earlier ones."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, wall=clock)
    audit.note("root (0)", "key.new", "ci", id="abcdefgh", models=["a"])
    clock.on(1.5)
    Audit(path, wall=clock).note("abcdefgh", "budget.set", "tägliches\nBudget")
    first, second = lines(path)
    assert first == {
        "time": "1970-01-01T00:16:40.000+00:00",
        "actor": "root (0)",
        "action": "key.new",
        "subject": "ci",
        "id": "abcdefgh",
        "models": ["a"],
    }
    assert second["time"] == "1970-01-01T00:16:41.500+00:00"
    assert second["subject"] == "tägliches\nBudget"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_is_cut_out(tmp_path: Path, clock: Clock) -> None:
    """A secret handed in by mistake, anywhere, does not reach the file; its id does."""
    made = make("ci", now=0.0)
    path = tmp_path / "audit.jsonl"
    audit = Audit(path, wall=clock)
    audit.note(made.secret, "key.new", f"<{made.secret}>", more=[made.secret])
    text = path.read_text()
    assert made.secret[12:] not in text
    assert text.count(f"tn-{made.key.id}-...") == 3
    assert redacted("tn-0f3a5c1e2b") == "tn-0f3a5c1e2b"


def test_half_a_line_spoils_no_other(tmp_path: Path, clock: Clock) -> None:
    """After a write that was cut off, the next note begins a line of its own."""
    path = tmp_path / "audit.jsonl"
    path.write_text('{"time": "2026-')
    Audit(path, wall=clock).note("a", "b", "c")
    assert json.loads(path.read_text().splitlines()[1])["actor"] == "a"


def test_many_at_once(tmp_path: Path, clock: Clock) -> None:
    """Lines of several writers are all there and all whole."""
    path = tmp_path / "audit.jsonl"

    def write(number: int) -> None:
        audit = Audit(path, wall=clock)
        for step in range(20):
            audit.note(f"actor{number}", "step", str(step), padding="x" * 5000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lines(path)
    assert len(found) == 80
    for number in range(4):
        steps = [line["subject"] for line in found if line["actor"] == f"actor{number}"]
        assert steps == [str(step) for step in range(20)]


def test_where_it_cannot_be_written(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that cannot be opened is refused at once; one that cannot be written, when it is."""
    with pytest.raises(ConfigError, match="audit log must be a file that can be appended to"):
        Audit(tmp_path, wall=clock)
    audit = Audit(tmp_path / "audit.jsonl", wall=clock)

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ConfigError, match="No space left"):
        audit.note("a", "b", "c")
