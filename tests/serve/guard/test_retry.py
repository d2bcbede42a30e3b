"""Trying again: what may pass, how long to wait, and that a dying destination is not hammered."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.serve.guard.retry import (
    Retries,
    RetryRules,
    failure_may_pass,
    read_retry_after,
    status_may_pass,
)

from .conftest import Clock


@dataclass
class Failed:
    kind: str
    sent: bool
    began: bool = False


def test_statuses() -> None:
    """Statuses of the moment may pass; those of the request, of the key and good ones may not."""
    assert [status for status in range(100, 600) if status_may_pass(status)] == [
        *(408, 425, 429, 500, 502, 503, 504, 529)
    ]


@pytest.mark.parametrize(
    ("failure", "may"),
    [
        (Failed("connect", sent=False), True),
        (Failed("connect_timeout", sent=False), True),
        (Failed("closed", sent=False), True),
        (Failed("closed", sent=True), True),
        (Failed("closed", sent=True, began=True), False),
        (Failed("headers_timeout", sent=True), False),
        (Failed("first_timeout", sent=True, began=True), False),
        (Failed("idle_timeout", sent=True, began=True), False),
        (Failed("total_timeout", sent=True), False),
        (Failed("tls", sent=False), False),
        (Failed("address", sent=False), False),
        (Failed("protocol", sent=True), False),
        (Failed("too_large", sent=True, began=True), False),
        (Failed("something new", sent=False), False),
    ],
)
def test_failures(failure: Failed, may: bool) -> None:
    """Again where nothing was heard and nothing said, never after an answer began."""
    assert failure_may_pass(failure) == may


def retries(clock: Clock, seed: int = 0, **rules: Any) -> Retries:
    return Retries(RetryRules(**rules), clock, random.Random(seed))


def test_waits_double_and_are_drawn_from_zero(clock: Clock) -> None:
    """Full jitter: the waits fill [0, bound] evenly; the bound doubles up to its own bound."""
    again = retries(clock, tries=100, base_seconds=1.0, longest_seconds=4.0, burst=1e6)
    for tries, bound in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0), (99, 4.0)):
        waits = [again.wait(tries) for _ in range(500)]
        drawn = [wait for wait in waits if wait is not None]
        assert len(drawn) == 500
        assert 0.0 <= min(drawn) < 0.05 * bound
        assert 0.95 * bound < max(drawn) <= bound
        assert sum(drawn) / 500 == pytest.approx(bound / 2, rel=0.1)


def test_the_same_seed_waits_the_same(clock: Clock) -> None:
    """All chance comes from the generator handed in."""
    first, second = (retries(clock, 7, burst=1e3) for _ in range(2))
    assert [first.wait(1) for _ in range(9)] == [second.wait(1) for _ in range(9)]


def test_retry_after_is_a_lower_bound(clock: Clock) -> None:
    """What the destination asks for is waited, and a little more; too long is not waited here."""
    again = retries(clock, base_seconds=0.5, longest_after_seconds=10.0, burst=1e3)
    for _ in range(100):
        wait = again.wait(1, 10.0)
        assert wait is not None
        assert 10.0 <= wait <= 10.5
    assert again.wait(1, 10.1) is None
    assert again.wait(1, float("nan")) is None
    assert again.denied == 0


def test_tries_are_bounded(clock: Clock) -> None:
    """After the last try there is none, and nothing is paid for it."""
    again = retries(clock, tries=3, burst=10.0)
    assert [again.wait(tries) is None for tries in (1, 2, 3, 4)] == [False, False, True, True]
    assert (again.granted, again.denied) == (2, 0)
    assert retries(clock, tries=1).wait(1) is None


def test_a_dying_destination_is_not_hammered(clock: Clock) -> None:
    """Where every try fails, a thousand requests make a hundred retries and what was saved up."""
    again = retries(clock, tries=3, share=0.1, per_second=0.0, burst=10.0)
    for _ in range(1000):
        again.begun()
        tries = 1
        while again.wait(tries) is not None:
            tries += 1
    assert again.granted in (109, 110)
    assert again.denied > 800


def test_few_requests_can_retry(clock: Clock) -> None:
    """Time alone earns retries, up to the burst."""
    again = retries(clock, share=0.0, per_second=0.5, burst=2.0)
    assert [again.wait(1) is None for _ in range(3)] == [False, False, True]
    clock.on(1.0)
    assert again.wait(1) is None
    clock.on(1.0)
    assert again.wait(1) is not None
    clock.on(3600.0)
    assert [again.wait(1) is None for _ in range(3)] == [False, False, True]


@given(
    share=st.floats(0, 1),
    per_second=st.floats(0, 5),
    burst=st.floats(1, 20),
    steps=st.lists(st.floats(0, 3) | st.none(), max_size=100),
)
def test_the_budget_is_never_overdrawn(
    share: float, per_second: float, burst: float, steps: list[float | None]
) -> None:
    """Retries never exceed what was saved at first, the requests' share and the time's."""
    clock = Clock(0.0)
    again = retries(clock, tries=2, share=share, per_second=per_second, burst=burst)
    begun = 0
    for step in steps:
        if step is None:
            begun += 1
            again.begun()
        else:
            clock.on(step)
        again.wait(1)
        assert again.granted <= burst + share * begun + per_second * clock.now + 1e-6


NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"0", 0.0),
        (b"1.5", 1.5),
        (b"-3", 0.0),
        (b"1e300", 1e9),
        (b"inf", 1e9),
        (b"nan", None),
        (b"", None),
        (b"soon", None),
        (b"\xff", None),
        (b"9" * 100, None),
        (b"Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        (b"Wed, 21 Oct 2015 07:28:30", 30.0),
        (b"Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
        (b"Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        (b"Wed, 21 Oct 99999 07:27:00 GMT", None),
        (b"Wed, 99 Oct 2015 07:27:00 GMT", None),
    ],
)
def test_retry_after(value: bytes | None, seconds: float | None) -> None:
    """Seconds or a date; past is now, absurd is bounded, nonsense is nothing."""
    assert read_retry_after(value, NOW) == seconds


def test_dates_are_those_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A date without a zone means the same wherever the gateway runs."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        seconds = read_retry_after(b"Wed, 21 Oct 2015 07:28:30", NOW)
    time.tzset()
    assert seconds == 30.0


@given(st.binary(max_size=70))
def test_retry_after_of_anything(value: bytes) -> None:
    """No header makes it fail, and what it gives can be used."""
    seconds = read_retry_after(value, NOW)
    assert seconds is None or 0.0 <= seconds <= 1e9


@pytest.mark.parametrize(
    "fields",
    [
        {"tries": 0},
        {"base_seconds": -1.0},
        {"longest_seconds": float("nan")},
        {"longest_after_seconds": -1.0},
        {"share": 1.1},
        {"per_second": -0.1},
        {"burst": 0.5},
    ],
)
def test_bad_rules(fields: dict[str, Any]) -> None:
    """Rules that make no sense are refused by name."""
    with pytest.raises(InputError, match=next(iter(fields))):
        RetryRules(**fields)
