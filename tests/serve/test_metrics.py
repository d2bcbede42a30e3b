"""Metrics: exact counting in blocks of several workers, and text that Prometheus can read."""

from __future__ import annotations

import math
import mmap
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.serve.metrics import NOBODY, REASONS, STATUSES, Metrics

Labels = tuple[tuple[str, str], ...]

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def read(text: bytes) -> tuple[dict[str, str], dict[tuple[str, Labels], float]]:
    """A strict reader of the text format: kinds by name, and values by name and labels."""
    kinds: dict[str, str] = {}
    values: dict[tuple[str, Labels], float] = {}
    helped = ""
    assert text.endswith(b"\n")
    for line in text.decode().split("\n")[:-1]:
        if line.startswith("# HELP "):
            helped = line.split(" ")[2]
            assert helped not in kinds
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == helped
            kinds[name] = kind
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample is not None, line
            name = sample[1]
            series = re.sub(r"_(bucket|sum|count)$", "", name) if name not in kinds else name
            assert series == helped, "samples stand below their own TYPE"
            labels = sample[2] or ""
            pairs = tuple((key, unescaped(value)) for key, value in _LABEL.findall(labels))
            assert "".join(match[0] for match in _LABEL.finditer(labels)) == labels
            assert (name, pairs) not in values
            values[name, pairs] = float(sample[3])
    return kinds, values


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), text)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return read(metrics.render())[1][f"turnout_{name}", tuple(labels.items())]


def test_all_series_are_there_from_the_start() -> None:
    """Every series the gateway promises is told, at 0, with its kind."""
    kinds, values = read(Metrics(["a", "b"], budgets=["team"]).render())
    assert {name.removeprefix("turnout_"): kind for name, kind in kinds.items()} == {
        "requests_total": "counter",
        "request_seconds": "histogram",
        "first_token_seconds": "histogram",
        "decision_seconds": "histogram",
        "prompts_dropped_total": "counter",
        "tokens_total": "counter",
        "cost_usd_total": "counter",
        "tries_total": "counter",
        "retries_total": "counter",
        "fallbacks_total": "counter",
        "breaker_state": "gauge",
        "breaker_openings_total": "counter",
        "queued": "gauge",
        "in_flight": "gauge",
        "refused_total": "counter",
        "ledger_queue": "gauge",
        "journal_bytes": "gauge",
        "budget_left_usd": "gauge",
        "connections": "gauge",
        "bytes_total": "counter",
        "loop_lag_seconds": "gauge",
    }
    assert set(values.values()) == {0.0}
    told = {labels for name, labels in values if name == "turnout_requests_total"}
    assert len(told) == 3 * len(STATUSES)
    refused = {labels[0][1] for name, labels in values if name == "turnout_refused_total"}
    assert refused == set(REASONS)


def test_a_series_without_values_is_left_out() -> None:
    """Where there are no budgets nothing is said of what is left of them."""
    assert b"budget_left" not in Metrics(["a"]).render()


def test_counters_by_label() -> None:
    """A count goes to its own label values and to no other."""
    metrics = Metrics(["a", "b"])
    place = metrics.requests.place("b", metrics.status(200))
    metrics.requests.inc(place)
    metrics.requests.inc(place, 2.0)
    metrics.requests.cells[place] += 1.0
    metrics.requests.inc(metrics.requests.place(NOBODY, metrics.status(418)))
    metrics.cost_usd.inc(metrics.cost_usd.place("a"), 0.125)
    values = read(metrics.render())[1]
    assert {key: value for key, value in values.items() if value} == {
        ("turnout_requests_total", (("destination", "b"), ("status", "200"))): 4.0,
        ("turnout_requests_total", (("destination", NOBODY), ("status", "other"))): 1.0,
        ("turnout_cost_usd_total", (("destination", "a"),)): 0.125,
    }


def test_every_place_is_a_cell_of_its_own() -> None:
    """No two series, label values or buckets share a cell, and together they fill the block."""
    metrics = Metrics(["a", "b", NOBODY], budgets=["x", "y"], workers=3)
    used: list[int] = []
    for series in metrics._series:
        for place in series.places.values():
            used += range(place, place + series.width)
    assert sorted(used) == list(range(metrics.nbytes // 8 // 3))


def test_unknown_label_values_are_refused() -> None:
    """What was not known at the start is named, not counted somewhere."""
    metrics = Metrics(["a"])
    with pytest.raises(InputError, match="turnout_requests_total must be values of destination"):
        metrics.requests.place("c", "200")
    with pytest.raises(InputError, match="known at the start"):
        metrics.decision_seconds.place("a")
    with pytest.raises(InputError, match="unique"):
        Metrics(["a", "a"])


def test_histogram() -> None:
    """Buckets are cumulative and hold their bound; count and sum agree with what was entered."""
    metrics = Metrics(["a"])
    seconds = (0.0, 0.005, 0.0051, 0.1, 7.0, 1e6)
    place = metrics.request_seconds.place("a")
    for value_ in seconds:
        metrics.request_seconds.observe(place, value_)
    values = read(metrics.render())[1]
    at = ("destination", "a")
    buckets = {
        float(labels[1][1]): count
        for (name, labels), count in values.items()
        if name == "turnout_request_seconds_bucket" and labels[0] == at
    }
    assert list(buckets) == [*metrics.request_seconds.bounds, math.inf]
    for bound, count in buckets.items():
        assert count == sum(value_ <= bound for value_ in seconds)
    assert values["turnout_request_seconds_count", (at,)] == 6.0
    assert values["turnout_request_seconds_sum", (at,)] == pytest.approx(sum(seconds))
    assert values["turnout_request_seconds_count", (("destination", NOBODY),)] == 0.0


def two(buffer: bytearray | mmap.mmap | None = None) -> tuple[Metrics, Metrics]:
    """The metrics of two workers over one buffer."""
    first, second = (Metrics(["a"], budgets=["team"], workers=2) for _ in range(2))
    shared = bytearray(first.nbytes) if buffer is None else buffer
    first.use(shared, 0)
    second.use(shared, 1)
    return first, second


def test_workers_are_added_up() -> None:
    """Whoever is asked tells the same: counters summed, gauges by their rule."""
    first, second = two()
    for metrics, number in ((first, 1.0), (second, 2.0)):
        metrics.requests.inc(metrics.requests.place("a", "200"), number)
        metrics.request_seconds.observe(metrics.request_seconds.place("a"), number)
        metrics.in_flight.inc(metrics.in_flight.place("a"), number)
        metrics.breaker_state.set(metrics.breaker_state.place("a"), number)
        metrics.loop_lag_seconds.set(metrics.loop_lag_seconds.place(), number / 8)
        metrics.budget_left_usd.set(metrics.budget_left_usd.place("team"), number)
    for metrics, own in ((first, 1.0), (second, 2.0)):
        assert value(metrics, "requests_total", destination="a", status="200") == 3.0
        assert value(metrics, "request_seconds_sum", destination="a") == 3.0
        assert value(metrics, "request_seconds_count", destination="a") == 2.0
        assert value(metrics, "in_flight", destination="a") == 3.0
        assert value(metrics, "breaker_state", destination="a") == 2.0
        assert value(metrics, "loop_lag_seconds") == 0.25
        assert value(metrics, "budget_left_usd", budget="team") == own


def test_a_gauge_goes_down_again() -> None:
    """What was added can be taken away, and a value can be set."""
    metrics = Metrics(["a"])
    place = metrics.queued.place("a")
    metrics.queued.inc(place, 3)
    metrics.queued.inc(place, -1)
    assert value(metrics, "queued", destination="a") == 2.0
    metrics.queued.set(place, 7)
    assert value(metrics, "queued", destination="a") == 7.0


def test_a_worker_that_is_replaced() -> None:
    """The next one in its place goes on with its counters and holds nothing of what it held."""
    shared = bytearray(Metrics(["a"], budgets=["team"], workers=2).nbytes)
    first, second = two(shared)
    second.requests.inc(second.requests.place("a", "200"))
    second.in_flight.inc(second.in_flight.place("a"))
    first.in_flight.inc(first.in_flight.place("a"))
    first.forget(1)
    assert value(first, "in_flight", destination="a") == 1.0
    second.in_flight.inc(second.in_flight.place("a"))
    third = Metrics(["a"], budgets=["team"], workers=2)
    third.use(shared, 1)
    assert value(first, "in_flight", destination="a") == 1.0
    third.requests.inc(third.requests.place("a", "200"))
    assert value(first, "requests_total", destination="a", status="200") == 2.0


def test_forked_workers() -> None:
    """Over anonymous shared memory the counts of forked processes meet."""
    metrics = Metrics(["a"], workers=3)
    place = metrics.requests.place("a", "200")
    shared = mmap.mmap(-1, metrics.nbytes)
    metrics.use(shared, 0)
    children = []
    for worker in (1, 2):
        child = os.fork()
        if child == 0:
            metrics.use(shared, worker)
            for _ in range(1000 * worker):
                metrics.requests.inc(place)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    metrics.requests.inc(place)
    assert value(metrics, "requests_total", destination="a", status="200") == 3001.0


@pytest.mark.parametrize(
    ("size", "worker", "rule"),
    [(-8, 0, "hold .* writable bytes"), (0, 2, "worker"), (0, -1, "worker")],
)
def test_a_wrong_buffer_or_worker(size: int, worker: int, rule: str) -> None:
    """Too short a buffer, one that cannot be written, or no such worker: refused."""
    metrics = Metrics(["a"], workers=2)
    with pytest.raises(InputError, match=rule):
        metrics.use(bytearray(metrics.nbytes + size), worker)
    with pytest.raises(InputError, match="writable"):
        metrics.use(bytes(metrics.nbytes), 0)


@settings(max_examples=60)
@given(names=st.lists(st.text(min_size=1, max_size=10).filter(str.strip), min_size=1, unique=True))
def test_any_name_survives(names: list[str]) -> None:
    """Whatever stands in a name comes back from the text as it was."""
    metrics = Metrics(names)
    for number, name in enumerate(names):
        metrics.fallbacks.inc(metrics.fallbacks.place(name), number + 1)
    values = read(metrics.render())[1]
    for number, name in enumerate(names):
        assert values["turnout_fallbacks_total", (("destination", name),)] == number + 1


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (3.0, b" 3\n"),
        (0.1, b" 0.1\n"),
        (-2.5, b" -2.5\n"),
        (1e300, b" 1e+300\n"),
        (math.inf, b" +Inf\n"),
        (-math.inf, b" -Inf\n"),
        (math.nan, b" NaN\n"),
    ],
)
def test_numbers(number: float, told: bytes) -> None:
    """Numbers are told as Prometheus reads them, and lose nothing."""
    metrics = Metrics(["a"])
    metrics.loop_lag_seconds.set(metrics.loop_lag_seconds.place(), number)
    assert b"turnout_loop_lag_seconds" + told in metrics.render()


def test_text() -> None:
    """One counter, one gauge and one histogram, byte for byte."""
    metrics = Metrics(['a"b\\c\nd'])
    metrics.retries.inc(metrics.retries.place('a"b\\c\nd'))
    text = metrics.render().decode()
    assert (
        "# HELP turnout_retries_total Further tries on a destination.\n"
        "# TYPE turnout_retries_total counter\n"
        'turnout_retries_total{destination="a\\"b\\\\c\\nd"} 1\n'
    ) in text
    metrics.decision_seconds.observe(metrics.decision_seconds.place(), 0.0002)
    text = metrics.render().decode()
    assert (
        "# HELP turnout_decision_seconds Time to decide where a request goes.\n"
        "# TYPE turnout_decision_seconds histogram\n"
        'turnout_decision_seconds_bucket{le="1e-05"} 0\n'
        'turnout_decision_seconds_bucket{le="2.5e-05"} 0\n'
        'turnout_decision_seconds_bucket{le="5e-05"} 0\n'
        'turnout_decision_seconds_bucket{le="0.0001"} 0\n'
        'turnout_decision_seconds_bucket{le="0.00025"} 1\n'
    ) in text
    assert (
        'turnout_decision_seconds_bucket{le="+Inf"} 1\n'
        "turnout_decision_seconds_sum 0.0002\n"
        "turnout_decision_seconds_count 1\n"
    ) in text
    assert "# TYPE turnout_loop_lag_seconds gauge\nturnout_loop_lag_seconds 0\n" in text
