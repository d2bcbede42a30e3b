"""What there is to see of a gateway: health, counters, and the state that the dashboard shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, final

from turnout.serve.desk import Desk
from turnout.serve.guard.breaker import CLOSED, HALF_OPEN, OPEN
from turnout.serve.guard.keys import Keyring
from turnout.serve.metrics import STATUSES, Histogram
from turnout.serve.money import reading
from turnout.serve.money.periods import FOREVER
from turnout.serve.money.units import to_usd
from turnout.serve.openai import OpenAIUpstream
from turnout.serve.prompts.keeper import Prompts
from turnout.serve.wire.server import Server

__all__ = ["View"]

_STATES = {CLOSED: "closed", HALF_OPEN: "half-open", OPEN: "open"}
#: Requests shown.
_RECENT = 30


@final
class View:
    """What there is to see, from one worker, of all of them.

    Parameters
    ----------
    desk : Desk
    keyring : Keyring, optional
    path : path
        The ledger.
    workers : int
    prompts : Prompts, optional
        What keeps prompts.
    """

    def __init__(
        self,
        desk: Desk,
        keyring: Keyring | None,
        path: Path,
        workers: int,
        prompts: Prompts | None = None,
    ) -> None:
        self.started = int(time.time())
        self.names: Sequence[str] = tuple(desk.lanes)
        stages = dict.fromkeys(stage.name for stage in desk.stages.values())
        self.offered: Sequence[str] = (*self.names, *stages)
        self.server: Server | None = None
        self._desk = desk
        self._keyring = keyring
        self._path = path
        self._workers = workers
        self._prompts = prompts

    def rate(self, request: str, quality: float, comment: str | None) -> str:
        """Keep feedback; see `SQLiteLedger.rate`."""
        return self._desk.books.ledger.rate(request, quality, comment)

    def trouble(self) -> list[str]:
        """What is wrong with the gateway itself, in words."""
        told = []
        if self._desk.books.ledger.error is not None:
            told.append(f"ledger: {self._desk.books.ledger.error}")
        if self._keyring is not None and self._keyring.error is not None:
            told.append(f"keys: {self._keyring.error}")
        if self._prompts is not None and self._prompts.error is not None:
            told.append(f"prompts: {self._prompts.error}")
        return told

    def health(self) -> dict[str, Any]:
        """Whether requests are remembered, and how the destinations do."""
        ledger = self._desk.books.ledger.error
        return {
            "status": "ok" if ledger is None else "degraded",
            "pool": {
                name: {
                    "up": lane.failure is None,
                    "error": lane.failure,
                    "circuit": _STATES[lane.breaker.state],
                }
                for name, lane in self._desk.lanes.items()
            },
            "ledger": "ok" if ledger is None else ledger,
            "keys": "ok" if self._keyring is None or self._keyring.error is None else "stale",
        }

    def tick(self, lag: float) -> None:
        """Bring the gauges of this worker up to date.

        Parameters
        ----------
        lag : float
            Of the event loop, seconds.
        """
        desk, metrics = self._desk, self._desk.meters.metrics
        for name, lane in desk.lanes.items():
            metrics.breaker_state.set(metrics.breaker_state.place(name), lane.breaker.state)
            openings = metrics.breaker_openings
            openings.cells[openings.place(name)] = lane.breaker.openings
            metrics.queued.set(metrics.queued.place(name), desk.gate.waiting(name))
            metrics.in_flight.set(metrics.in_flight.place(name), desk.gate.inside(name))
        metrics.ledger_queue.set(metrics.ledger_queue.place(), desk.books.ledger.waiting)
        metrics.loop_lag_seconds.set(metrics.loop_lag_seconds.place(), lag)
        metrics.journal_bytes.set(metrics.journal_bytes.place(), desk.books.journal.used_bytes)
        if self._prompts is not None:
            dropped = metrics.prompts_dropped
            dropped.cells[dropped.place()] = self._prompts.dropped
        if (server := self.server) is not None:
            self._traffic("client", server.open, server.bytes_in, server.bytes_out)
        asked = [lane.upstream for lane in desk.lanes.values()]
        told = [one.traffic for one in asked if isinstance(one, OpenAIUpstream)]
        if told:
            self._traffic("upstream", *map(sum, zip(*told, strict=True)))

    def _traffic(self, side: str, connections: int, read: int, written: int) -> None:
        metrics = self._desk.meters.metrics
        metrics.connections.set(metrics.connections.place(side), connections)
        cells = metrics.bytes.cells
        cells[metrics.bytes.place(side, "in")] = read
        cells[metrics.bytes.place(side, "out")] = written

    def metrics(self) -> bytes:
        """All counters as Prometheus reads them."""
        metrics, least = self._desk.meters.metrics, dict[str, float]()
        for state in self._desk.books.purses.states(time.time_ns() // 1_000_000):
            left = to_usd(state.left)
            least[state.budget] = min(left, least.get(state.budget, left))
        for name, left in least.items():
            metrics.budget_left_usd.set(metrics.budget_left_usd.place(name), left)
        return metrics.render()

    def state(self) -> dict[str, Any]:
        """What the dashboard shows."""
        desk, metrics = self._desk, self._desk.meters.metrics
        now = time.time()
        pool = [self._destination(name) for name in self.names]
        answers = sum(one["answers"] + one["failures"] for one in pool)
        spent = sum(one["spent_usd"] for one in pool)
        for one in pool:
            one["share"] = one["answers"] / answers if answers else 0.0
        trouble = self.trouble()
        return {
            "ok": not trouble,
            "trouble": trouble,
            "workers": self._workers,
            "requests": answers,
            "requests_per_second": answers / max(now - self.started, 1.0),
            "spent_usd": spent,
            "mean_cost_usd": spent / answers if answers else None,
            "price": desk.policy.pace.price,
            "in_flight": sum(one["in_flight"] for one in pool),
            "refused": int(metrics.refused.total()),
            "pool": pool,
            "budgets": [
                {
                    "name": one.budget,
                    "holder": one.holder or "everybody",
                    "period": one.period,
                    "limit_usd": to_usd(one.limit),
                    "spent_usd": to_usd(one.spent),
                    "reserved_usd": to_usd(one.reserved),
                    "left_usd": to_usd(one.left),
                    "ends": None if one.ends_ms >= FOREVER else one.ends_ms / 1000,
                }
                for one in sorted(
                    desk.books.purses.states(int(now * 1000)),
                    key=lambda one: (one.budget, one.holder),
                )
            ],
            "recent": reading.latest(self._path, _RECENT),
        }

    def _destination(self, name: str) -> dict[str, Any]:
        metrics = self._desk.meters.metrics
        counts = {status: metrics.requests.value(name, status) for status in STATUSES}
        good = int(counts.pop("200"))
        return {
            "name": name,
            "state": _STATES[int(metrics.breaker_state.value(name))],
            "in_flight": int(metrics.in_flight.value(name)),
            "waiting": int(metrics.queued.value(name)),
            "answers": good,
            "failures": int(sum(counts.values())),
            "p50": _quantile(metrics.request_seconds, name, 0.5),
            "p99": _quantile(metrics.request_seconds, name, 0.99),
            "first_p50": _quantile(metrics.first_token_seconds, name, 0.5),
            "input_tokens": int(metrics.tokens.value(name, "input")),
            "output_tokens": int(metrics.tokens.value(name, "output")),
            "spent_usd": metrics.cost_usd.value(name),
        }


def _quantile(histogram: Histogram, name: str, share: float) -> float | None:
    """A quantile, on the straight line between the bounds of its bucket; None where empty."""
    counts = histogram.counts(name)
    running = list(accumulate(counts))
    if not running[-1]:
        return None
    wanted = share * running[-1]
    bounds = (0.0, *histogram.bounds)
    for i, total in enumerate(running):
        if total >= wanted:
            if i >= len(histogram.bounds):
                return bounds[-1]
            inside = (wanted - (total - counts[i])) / counts[i]
            return bounds[i] + inside * (bounds[i + 1] - bounds[i])
    return bounds[-1]
