"""Deciding by the gateway's load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import turnout.parts.store as store
from turnout.core import Inputs, Pool, Predictor
from turnout.core._check import Float
from turnout.parts.queues import Load
from turnout.serve.busy import BusyDecider, Gauge, LoadAware
from turnout.serve.config import Config, parse
from turnout.serve.guard.gate import Gate, GateRules, LaneRules

NAMES = ("cheap", "dear")


@dataclass(frozen=True)
class Fixed:
    """What is delivered at one load: the busier, the less, and less still as more come."""

    names: tuple[str, ...]
    load: Load

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        quality = np.array([0.5, 0.9]) - 0.1 * self.load.in_flight - 0.01 * self.load.rate
        return np.tile(quality, (len(inputs), 1)), np.tile([1.0, 2.0], (len(inputs), 1))


@dataclass(frozen=True)
class Aware:
    """Reads the load."""

    names: tuple[str, ...] = NAMES
    window: float = 10.0

    def under(self, load: Load) -> Predictor:
        return Fixed(self.names, load)


def _gate() -> Gate:
    lanes = {name: LaneRules(parallel=3) for name in NAMES}
    return Gate(GateRules(), lanes, lambda: 0.0)


def test_a_busy_destination_is_passed_over() -> None:
    """At rest the better one is chosen, with five in its hands the other."""
    gate, gauge = _gate(), Gauge()
    decider = BusyDecider(Aware(), Pool(names=NAMES), gauge, lambda: 0.0)
    assert decider.decide("hi", 0.0)[0] == 1
    gauge.watch(gate)
    for _ in range(3):
        gate.enter("dear")
    assert [gauge.of(name) for name in NAMES] == [0, 3]
    assert decider.decide("hi", 0.0)[0] == 1
    gauge.workers = 2  # what one worker sees stands for two
    assert gauge.of("dear") == 6
    assert decider.decide("hi", 0.0)[0] == 0
    assert decider.decide("hi", 0.0, [False, True])[0] == 1


def test_the_rate_is_that_of_the_window() -> None:
    """Requests that were decided count for the window's length, and then no more."""
    now = [0.0]
    decider = BusyDecider(Aware(), Pool(names=NAMES), Gauge(), lambda: now[0])
    for second in range(5):
        now[0] = float(second)
        decider.decide("hi", 0.0)
    assert decider.load().rate == pytest.approx(0.5)
    now[0] = 100.0
    assert decider.load().rate == 0.0


def test_destinations_that_are_not_served_carry_nothing() -> None:
    """The pool may hold fewer than the policy was fitted for, in another order."""
    decider = BusyDecider(Aware(), Pool(names=("dear",)), Gauge(), lambda: 0.0)
    choice, quality, _ = decider.decide("hi", 0.0)
    assert (choice, len(quality)) == (0, 1)
    assert decider.load().in_flight.tolist() == [0.0, 0.0]


def test_a_load_aware_policy_is_served(
    serve_parts: Callable[..., Any], fake: Any, tmp_path: Path
) -> None:
    """The gateway's own requests in progress move the next decision."""
    from turnout.llms.best_effort import BestEffort
    from turnout.serve.build import build
    from turnout.testing import planted

    table = planted.easy(120, np.random.default_rng(0)).outcomes
    recipe = BestEffort(requests=400, width=8)
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert isinstance(fitted, LoadAware)
    store.save(tmp_path / "router.turnout", fitted, table.pool())
    pool = "\n".join(
        f'[pool.{name}]\nupstream = "openai:{fake.url}/v1"\nmodel = "hang"\nfree = true'
        for name in table.names
    )
    config: Config = parse(
        f'[server]\ndrain_seconds = 0.1\n[router]\nfile = "router.turnout"\n{pool}',
        tmp_path / "t.toml",
    )
    seen: list[list[int]] = []

    def make(config: Config, clock: Any) -> Any:
        parts = build(config, clock, {})
        assert parts.gauge is not None
        decide, gauge = parts.policy.decide, parts.gauge

        def noted(*given: Any) -> Any:
            seen.append([gauge.of(name) for name in table.names])
            return decide(*given)

        parts.policy.decide = noted  # type: ignore[method-assign]
        return parts

    with serve_parts(config, make) as served:
        threads = [threading.Thread(target=_ask, args=(served,)) for _ in range(2)]
        threads[0].start()
        assert fake.asked.wait(10)
        threads[1].start()
        while len(seen) < 2 and threads[1].is_alive():
            threads[1].join(0.01)
    for thread in threads:
        thread.join(10)
    assert sum(seen[0]) == 0
    assert sum(seen[1]) == 1


def _ask(served: Any) -> None:
    try:
        served.chat("a simple poem")
    except OSError:
        return  # the gateway stopped first
