"""A worker killed at any point loses no money and no request; see `kills.py` and `storm.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MISTAKES = [
    "board before journal", "closed before written", "open before written", "never open",
    "freed too early", "differences", "not repeated", "any period",
    "left before moved", "both slots count",
    "reservations stay", "tag first", "in flight forgotten", "freed before kept",
]  # fmt: skip

pytestmark = pytest.mark.slow


class Runs:
    """The programs, two at a time, in the order in which they are asked for."""

    def __init__(self, commands: dict[str, list[str]]) -> None:
        self.waiting = dict(commands)
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.found: dict[str, dict[str, Any]] = {}

    def of(self, name: str) -> dict[str, Any]:
        """What a program found."""
        while name not in self.found:
            while self.waiting and (len(self.running) < 2 or name not in self.running):
                other = name if name in self.waiting else next(iter(self.waiting))
                program, *words = self.waiting.pop(other)
                command = [sys.executable, str(HERE / program), *words]
                pipe = subprocess.PIPE
                self.running[other] = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
            said, errors = self.running[name].communicate(timeout=110)
            assert self.running.pop(name).returncode == 0, errors
            self.found[name] = json.loads(said)
        return self.found[name]

    def stop(self) -> None:
        """End what still runs."""
        for running in self.running.values():
            running.kill()
            running.communicate()


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    commands = {name: ["kills.py", name] for name in ("once", "again", "mistakes")}
    made = Runs({**commands, "storm": ["storm.py", "6", "20261128"]})
    yield made
    made.stop()


def test_a_kill_between_any_two_stores_is_put_right(runs: Runs) -> None:
    """Ledger and board agree with what was reported, whichever store was the last."""
    found = runs.of("once")
    assert found["wrong"] == []
    assert found["points"] > 100


def test_a_kill_during_recovery_is_put_right(runs: Runs) -> None:
    """The worker that follows is killed as well, at each of its stores, and another follows."""
    found = runs.of("again")
    assert found["wrong"] == []
    assert found["points"] > 50


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_order_of_things_is_found(runs: Runs, mistake: str) -> None:
    """Each rule of order is needed: without it some kill leaves something wrong."""
    assert runs.of("mistakes")[mistake]["wrong"] != []


def test_every_mistake_is_known(runs: Runs) -> None:
    """Those listed here are all there are."""
    assert list(runs.of("mistakes")) == MISTAKES


def test_workers_killed_at_full_speed_lose_and_exceed_nothing(runs: Runs) -> None:
    """Three workers on shared purses, 18 of them killed: every sum agrees to the last digit."""
    found = runs.of("storm")
    assert found["wrong"] == []
    assert found["kills"] == 18
    assert found["requests"] > 100
    assert found["died"] > 0
    assert found["refused"] > 0
