"""What users of other gateways complain about when an upstream fails, each as a test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from .payloads import WORDS
from .rig import SHORT, Gateway, until
from .upstream import BadUpstream

ANSWER = "".join(WORDS)
Serve = Callable[..., AbstractContextManager[Gateway]]


# --- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("silent", False),
        ("silent", True),
        ("headers-only", False),
        ("headers-only", True),
        ("slow-headers", False),
        ("slow-headers", True),
        ("slow-body", False),
        ("slow-body:0.06", False),  # never a pause that is too long, and never an end
        ("unaccepted", True),
        ("unreachable", True),
        ("tls-hangs", True),
    ],
)
def test_no_timeout_fires_at_a_silent_upstream(
    serve: Serve, bad: BadUpstream, name: str, stream: bool
) -> None:
    """However it is silent, the fallback is asked in time and answers; its connection is closed."""
    with serve(name, "good", entries={name: SHORT}) as gateway:
        answer = gateway.chat(f"{name}>good", stream=stream)
        assert (answer.status, answer.text, answer.done) == (200, ANSWER, stream)
        assert answer.headers["x-turnout-fallback-from"] == name
        assert gateway.chat(name, stream=stream).status == 504


@pytest.mark.parametrize("name", ["hangup", "hangup:rst", "down", "status:503", "html", "garbage"])
def test_no_fallback_when_a_stream_dies_before_its_first_chunk(serve: Serve, name: str) -> None:
    """Nothing has been sent yet, so the next one answers."""
    with serve(name, "good") as gateway:
        answer = gateway.chat(f"{name}>good", stream=True)
        assert (answer.status, answer.text, answer.done) == (200, ANSWER, True)
        assert gateway.row(answer)["fallback_from"] == name


@pytest.mark.parametrize("name", ["die", "die:rst", "truncated", "truncated:length"])
def test_a_stream_that_dies_looks_like_a_whole_answer(
    serve: Serve, bad: BadUpstream, name: str
) -> None:
    """It ends in an error that says so, and without the end mark; no second answer is begun."""
    with serve(name, "good") as gateway:
        answer = gateway.chat(f"{name}>good", stream=True)
        assert (answer.status, answer.done, answer.code) == (200, False, "truncated")
        assert ANSWER.startswith(answer.text)
        assert gateway.row(answer)["status"] == 502
    assert bad.counts["good"] == 0


def test_a_stream_that_falls_silent_hangs_the_client(serve: Serve) -> None:
    """After the first chunk, too: a pause that is too long ends the stream with an error."""
    with serve("paced", entry=SHORT) as gateway:
        answer = gateway.chat("paced", stream=True)
        assert (answer.status, answer.done, answer.code) == (200, False, "idle_timeout")
        assert len(answer.events) == 2


def test_a_429_inside_a_stream_is_passed_on_as_success(serve: Serve, bad: BadUpstream) -> None:
    """The client is told, the ledger knows, and the breaker counts it."""
    breaker = "in_a_row = 2"
    with serve("rate-in-stream", breaker=breaker) as gateway:
        for _ in range(2):
            answer = gateway.chat("rate-in-stream", stream=True)
            assert (answer.done, answer.code) == (False, "429")
            assert gateway.row(answer)["error_type"] == "error_event"
        assert gateway.chat("rate-in-stream", stream=True).code == "circuit_open"
    assert bad.counts["rate-in-stream"] == 2


# --- breaker -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("status:500", False),
        ("hangup", True),
        ("die", True),
        ("truncated", True),
        ("headers-only", True),
        ("down", False),
    ],
)
def test_the_circuit_breaker_never_opens(
    serve: Serve, bad: BadUpstream, name: str, stream: bool
) -> None:
    """After so many failures of any kind nobody is asked any more, and everybody can see it."""
    entries = {name: SHORT}
    breaker = "in_a_row = 3\nopen_seconds = 40"
    with serve(name, "good", entries=entries, breaker=breaker) as gateway:
        for _ in range(3):
            assert gateway.chat(name, stream=stream).code != "circuit_open"
        asked = len(bad.seen)
        for _ in range(3):
            answer = gateway.chat(name, stream=stream)
            assert (answer.status, answer.code) == (503, "circuit_open")
            assert 1 <= int(answer.headers["retry-after"]) <= 40
        assert gateway.chat(f"{name}>good", stream=stream).status == 200
        assert len(bad.seen) == asked + 1
        health = gateway.get("/healthz").json["pool"][name]
        assert (health["circuit"], health["up"]) == ("open", False)
        until(lambda: gateway.get("/admin/state").json["pool"][0]["state"] == "open")
        metrics = gateway.get("/metrics").body.decode()
        (line,) = [
            line
            for line in metrics.splitlines()
            if line.startswith("turnout_breaker_openings_total") and f'"{name}"' in line
        ]
        assert line.endswith(" 1")


def test_the_circuit_breaker_never_closes(serve: Serve, bad: BadUpstream) -> None:
    """Once the upstream is well again, probes find out, and all requests pass."""
    breaker = "in_a_row = 3\nopen_seconds = 0.05\nlongest_seconds = 0.05\nprobes = 1"
    with serve("flaky:4:500", breaker=breaker) as gateway:
        for _ in range(3):
            assert gateway.chat("flaky:4:500").code == "status_500"
        assert gateway.breaker("flaky:4:500").openings == 1
        until(lambda: gateway.chat("flaky:4:500").status == 200)
        assert [gateway.chat("flaky:4:500").status for _ in range(5)] == [200] * 5
        assert gateway.breaker("flaky:4:500").openings == 2  # the first probe failed
        assert gateway.get("/healthz").json["pool"]["flaky:4:500"]["circuit"] == "closed"
    assert bad.counts["flaky:4:500"] == 10


def test_requests_at_fault_open_the_circuit_breaker(serve: Serve) -> None:
    """One client that sends nonsense does not shut the upstream off for the others."""
    with serve("status:400", "good", breaker="in_a_row = 3") as gateway:
        for _ in range(10):
            assert gateway.chat("status:400").status == 400
