"""Deciding by how busy the destinations are: the gateway's load, as a policy reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, final, runtime_checkable

import numpy as np

from turnout.core import Pool, Predictor
from turnout.parts.decide import Decider
from turnout.parts.queues import Arrivals, Load
from turnout.serve.guard.gate import Gate

__all__ = ["BusyDecider", "Gauge", "LoadAware"]


@runtime_checkable
class LoadAware(Protocol):
    """A predictor of what is delivered under a load, such as `turnout.llms.best_effort`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The m destinations."""
        ...

    @property
    def window(self) -> float:
        """Seconds over which arrivals are counted."""
        ...

    def under(self, load: Load) -> Predictor:
        """The predictor at one load."""
        ...


@final
class Gauge:
    """Requests in progress or waiting at each destination; none until a gate is watched.

    Parameters
    ----------
    workers : int
        Each sees its own share of the requests, so that what it sees stands for so many times.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._gate: Gate | None = None

    def watch(self, gate: Gate) -> None:
        """Read from this gate from now on."""
        self._gate = gate

    def of(self, name: str) -> int:
        """In flight at a destination, of all workers."""
        gate = self._gate
        return 0 if gate is None else self.workers * (gate.inside(name) + gate.waiting(name))


@final
class BusyDecider:
    """Decides by a predictor that reads the load; see `turnout.parts.decide.Decider`.

    Parameters
    ----------
    predictor : LoadAware
    pool : Pool
        The destinations that are served.
    gauge : Gauge
    clock : callable
        Seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        predictor: LoadAware,
        pool: Pool,
        gauge: Gauge,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self._predictor = predictor
        self._gauge = gauge
        self._clock = clock
        self._arrivals = Arrivals(predictor.window)

    def load(self) -> Load:
        """As it is now; destinations that are not served carry nothing."""
        served = frozenset(self.pool.names)
        counts = [self._gauge.of(n) if n in served else 0 for n in self._predictor.names]
        rate = self._gauge.workers * self._arrivals.rate(self._clock())
        return Load(in_flight=np.array(counts, dtype=np.float64), rate=rate)

    def decide(
        self, text: str, price: float, up: Sequence[bool] | None = None
    ) -> tuple[int, list[float], list[float]]:
        """The choice, and quality delivered and cost (m,) at the load before this request."""
        now = self._predictor.under(self.load())
        self._arrivals.came(self._clock())
        return Decider(now, self.pool).decide(text, price, up)
