"""Counters of the gateway, shared by its workers and told in the text format of Prometheus.

Every worker writes its own block of float64 in one shared buffer and nobody else's, so nothing is
locked and nothing is sent; a store of eight aligned bytes is seen whole. Whoever is asked for the
metrics adds up the blocks. All series are known at the start: a label can take no other value.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from turnout.core import InputError, _check

__all__ = [
    "CONTENT_TYPE",
    "NOBODY",
    "REASONS",
    "STATUSES",
    "Counter",
    "Gauge",
    "Histogram",
    "Metrics",
]

#: Of the answer to `GET /metrics`.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Destination of a request that went nowhere, and budget of one that has none.
NOBODY: Final = "none"
#: Values of `reason` where a request is refused.
REASONS: Final = ("key", "budget", "rate", "queue", "shed", "too_large", "malformed", "slow",
                  "full")  # fmt: skip
#: Values of `status`; what is none of them counts as `other`.
STATUSES: Final = (
    *("200", "400", "401", "403", "404", "408", "413", "415", "417", "422", "429", "431"),
    *("499", "500", "502", "503", "504", "other"),
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_DECISION = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1)


class _Series:
    """The cells of one metric: its labels are numbered, the last one fastest."""

    __slots__ = ("base", "blocks", "cells", "help", "labels", "name", "places", "width")

    def __init__(
        self, name: str, help_: str, labels: Mapping[str, Sequence[str]], base: int, width: int
    ) -> None:
        self.name = name
        self.help = help_
        self.labels = tuple(labels)
        rows = list(itertools.product(*labels.values()))
        #: Where the cells of each combination of label values start.
        self.places = {row: base + width * number for number, row in enumerate(rows)}
        self.base = base
        self.width = width
        self.cells: memoryview[float] = memoryview(bytearray()).cast("d")
        self.blocks: list[memoryview[float]] = []

    def read(self, place: int, rule: str) -> float:
        """A cell, over the workers."""
        if rule == "own":
            return float(self.cells[place])
        cells = [block[place] for block in self.blocks]
        return float(max(cells) if rule == "max" else math.fsum(cells))

    @property
    def size(self) -> int:
        return self.width * len(self.places)

    def place(self, values: tuple[str, ...]) -> int:
        """Where the cells of some label values start."""
        try:
            return self.places[values]
        except KeyError:
            rule = f"be values of {', '.join(self.labels) or 'no label'} known at the start"
            hint = "Say them when the metrics are made."
            raise InputError(self.name, rule, values, hint) from None


class Counter:
    """A number that only grows.

    For the hottest places `cells[place] += 1.0` does without a call.
    """

    __slots__ = ("_series",)

    kind: Final = "counter"

    def __init__(self, series: _Series) -> None:
        self._series = series

    @property
    def cells(self) -> memoryview[float]:
        """The block of the worker that asks; `Metrics.use` changes it."""
        return self._series.cells

    def place(self, *values: str) -> int:
        """The number of the cell of some label values, in the order of the labels.

        Raises
        ------
        InputError
            No such values were known at the start.
        """
        return self._series.place(values)

    def inc(self, place: int, amount: float = 1.0) -> None:
        """Count; `amount` >= 0."""
        self._series.cells[place] += amount

    def value(self, *values: str) -> float:
        """What all workers counted together under some label values."""
        return self._series.read(self._series.place(values), "sum")

    def total(self) -> float:
        """What all workers counted together under any label values."""
        return sum(self._series.read(place, "sum") for place in self._series.places.values())


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("_series", "rule")

    kind: Final = "gauge"

    def __init__(self, series: _Series, rule: str) -> None:
        self._series = series
        self.rule = rule

    def place(self, *values: str) -> int:
        """As `Counter.place`."""
        return self._series.place(values)

    def set(self, place: int, value: float) -> None:
        """What it is now."""
        self._series.cells[place] = value

    def inc(self, place: int, amount: float = 1.0) -> None:
        """Add; `amount` may be negative."""
        self._series.cells[place] += amount

    def value(self, *values: str) -> float:
        """What it is now under some label values, of all workers together by its rule."""
        return self._series.read(self._series.place(values), self.rule)


class Histogram:
    """How often values fell below each of some bounds, and their sum."""

    __slots__ = ("_bounds", "_series")

    kind: Final = "histogram"

    def __init__(self, series: _Series, bounds: tuple[float, ...]) -> None:
        self._series = series
        self._bounds = bounds

    @property
    def bounds(self) -> tuple[float, ...]:
        """Upper bounds of the buckets, each included; the last bucket has none."""
        return self._bounds

    def place(self, *values: str) -> int:
        """As `Counter.place`."""
        return self._series.place(values)

    def observe(self, place: int, value: float) -> None:
        """Enter one value."""
        cells = self._series.cells
        cells[place + bisect_left(self._bounds, value)] += 1.0
        cells[place + len(self._bounds) + 1] += value

    def counts(self, *values: str) -> list[float]:
        """How many values fell into each bucket, of all workers together."""
        place = self._series.place(values)
        return [self._series.read(place + i, "sum") for i in range(len(self._bounds) + 1)]


class Metrics:
    """Every series of the gateway.

    Parameters
    ----------
    destinations : sequence of str
        Names of the pool.
    budgets : sequence of str
        Names of the budgets.
    workers : int
        Blocks in the buffer. >= 1.

    Attributes
    ----------
    requests : Counter of destination, status
    request_seconds, first_token_seconds : Histogram of destination
    decision_seconds : Histogram
    tokens : Counter of destination, direction (`input`, `output`)
    cost_usd : Counter of destination
        A float for charts; the ledger is exact.
    tries : Counter of destination, outcome (`ok`, `failed`, `cancelled`)
    retries, fallbacks : Counter of destination
        Further tries on it; requests that left it for another.
    breaker_state, breaker_openings : Gauge, Counter of destination
        0 closed, 1 half-open, 2 open: the worst of the workers.
    queued, in_flight : Gauge of destination
    refused : Counter of reason
    ledger_queue, journal_bytes : Gauge
        Rows that wait to be written, of all workers; bytes in use of the fullest journal.
    prompts_dropped : Counter
    budget_left_usd : Gauge of budget
        Set by whoever renders: it is one number for all workers.
    connections : Gauge of side (`client`, `upstream`)
    bytes : Counter of side, direction (`in`, `out`)
    loop_lag_seconds : Gauge
        The worst of the workers.
    """

    def __init__(
        self, destinations: Sequence[str], *, budgets: Sequence[str] = (), workers: int = 1
    ) -> None:
        self._workers = _check.integer("workers", workers, low=1)
        self._all: list[Counter | Gauge | Histogram] = []
        self._series: list[_Series] = []
        self._size = 0
        self._buffer: memoryview[float] = memoryview(bytearray()).cast("d")
        self._worker = 0
        #: By status as a number: the label it counts under.
        self._status = {int(name): name for name in STATUSES if name.isdigit()}
        pool = {"destination": _check.names("destinations", destinations)}
        to = {"destination": tuple(dict.fromkeys((*destinations, NOBODY)))}
        sides = {"side": ("client", "upstream")}

        self.requests = self._counter("requests_total", "Requests answered.", **to, status=STATUSES)
        self.request_seconds = self._histogram(
            "request_seconds", "From a request to the end of its answer.", _SECONDS, **to
        )
        self.first_token_seconds = self._histogram(
            "first_token_seconds", "From a request to the first of its answer.", _SECONDS, **to
        )
        self.decision_seconds = self._histogram(
            "decision_seconds", "Time to decide where a request goes.", _DECISION
        )
        self.tokens = self._counter(
            "tokens_total", "Tokens that destinations reported.", **pool,
            direction=("input", "output"),
        )  # fmt: skip
        self.cost_usd = self._counter("cost_usd_total", "Cost of answers, US dollars.", **pool)
        self.tries = self._counter(
            "tries_total", "Times a destination was asked.", **pool,
            outcome=("ok", "failed", "cancelled"),
        )  # fmt: skip
        self.retries = self._counter("retries_total", "Further tries on a destination.", **pool)
        self.fallbacks = self._counter(
            "fallbacks_total", "Requests that left a destination for another.", **pool
        )
        self.breaker_state = self._gauge(
            "breaker_state",
            "0 closed, 1 half-open, 2 open; the worst of the workers.",
            "max",
            **pool,
        )
        self.breaker_openings = self._counter(
            "breaker_openings_total", "Times a circuit breaker opened.", **pool
        )
        self.queued = self._gauge("queued", "Requests that wait for a turn.", "sum", **pool)
        self.in_flight = self._gauge("in_flight", "Requests in progress.", "sum", **pool)
        self.refused = self._counter("refused_total", "Requests not let in.", reason=REASONS)
        self.ledger_queue = self._gauge("ledger_queue", "Ledger rows that wait.", "sum")
        self.journal_bytes = self._gauge(
            "journal_bytes", "Bytes of a journal in use, of the fullest.", "max"
        )
        self.prompts_dropped = self._counter(
            "prompts_dropped_total", "Prompts that were to be kept and could not be."
        )
        self.budget_left_usd = self._gauge(
            "budget_left_usd",
            "What is left of a budget, US dollars.",
            "own",
            budget=tuple(dict.fromkeys(budgets)),
        )
        self.connections = self._gauge("connections", "Open connections.", "sum", **sides)
        self.bytes = self._counter(
            "bytes_total", "Bytes through sockets.", **sides, direction=("in", "out")
        )
        self.loop_lag_seconds = self._gauge(
            "loop_lag_seconds", "Lag of the event loop; the worst of the workers.", "max"
        )
        self.use(bytearray(self.nbytes), 0)

    @property
    def nbytes(self) -> int:
        """Length of the buffer that all workers share."""
        return 8 * self._size * self._workers

    def use(self, buffer: Any, worker: int) -> None:
        """Count into a worker's block from now on; its gauges start from 0, its counters go on.

        Parameters
        ----------
        buffer : writable buffer
            At least `nbytes` long, all zeros at first, the same for all workers: an anonymous
            `mmap` made before they are forked.
        worker : int
            Which block; no two that live at once may have the same.

        Raises
        ------
        InputError
            The buffer is too short, or there is no such worker.
        """
        _check.integer("worker", worker, low=0, high=self._workers - 1)
        view = memoryview(buffer).cast("B")
        if len(view) < self.nbytes or view.readonly:
            hint = "Make it with mmap.mmap(-1, metrics.nbytes) before forking."
            raise InputError("buffer", f"hold {self.nbytes} writable bytes", len(view), hint)
        self._buffer = view[: self.nbytes].cast("d")
        self._worker = worker
        blocks = [
            self._buffer[block * self._size : (block + 1) * self._size]
            for block in range(self._workers)
        ]
        for series in self._series:
            series.cells, series.blocks = blocks[worker], blocks
        self.forget(worker)

    def forget(self, worker: int) -> None:
        """Set the gauges of a worker to 0: it is gone, and holds nothing any more."""
        for metric, series in zip(self._all, self._series, strict=True):
            if isinstance(metric, Gauge):
                for place in series.places.values():
                    self._buffer[worker * self._size + place] = 0.0

    def status(self, status: int) -> str:
        """The label of a status: itself, or `other`."""
        return self._status.get(status, "other")

    def render(self) -> bytes:
        """All series, of all workers together."""
        return "".join(
            itertools.chain.from_iterable(map(self._told, self._all, self._series))
        ).encode()

    def _told(self, metric: Counter | Gauge | Histogram, series: _Series) -> Iterator[str]:
        if not series.places:
            return
        yield f"# HELP {series.name} {_escaped(series.help, quotes=False)}\n"
        yield f"# TYPE {series.name} {metric.kind}\n"
        rule = metric.rule if isinstance(metric, Gauge) else "sum"
        for values, place in series.places.items():
            pairs = [
                f'{name}="{_escaped(value)}"'
                for name, value in zip(series.labels, values, strict=True)
            ]
            cells = [series.read(place + step, rule) for step in range(series.width)]
            if not isinstance(metric, Histogram):
                yield f"{series.name}{_labels(pairs)} {_number(cells[0])}\n"
                continue
            # the count is that of the buckets, so that the two agree at any moment
            running = list(itertools.accumulate(cells[:-1]))
            for bound, count in zip((*metric.bounds, math.inf), running, strict=True):
                bucket = _labels([*pairs, f'le="{_number(bound)}"'])
                yield f"{series.name}_bucket{bucket} {_number(count)}\n"
            yield f"{series.name}_sum{_labels(pairs)} {_number(cells[-1])}\n"
            yield f"{series.name}_count{_labels(pairs)} {_number(running[-1])}\n"

    def _counter(self, name: str, help_: str, **labels: Sequence[str]) -> Counter:
        counter = Counter(self._new(name, help_, labels, 1))
        self._all.append(counter)
        return counter

    def _gauge(self, name: str, help_: str, rule: str, **labels: Sequence[str]) -> Gauge:
        gauge = Gauge(self._new(name, help_, labels, 1), rule)
        self._all.append(gauge)
        return gauge

    def _histogram(
        self, name: str, help_: str, bounds: tuple[float, ...], **labels: Sequence[str]
    ) -> Histogram:
        histogram = Histogram(self._new(name, help_, labels, len(bounds) + 2), bounds)
        self._all.append(histogram)
        return histogram

    def _new(
        self, name: str, help_: str, labels: Mapping[str, Sequence[str]], width: int
    ) -> _Series:
        series = _Series(f"turnout_{name}", help_, labels, self._size, width)
        self._series.append(series)
        self._size += series.size
        return series


def _labels(pairs: Sequence[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
