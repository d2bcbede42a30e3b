"""The circuit breaker: when it opens, for how long, what it lets through, and that it recovers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.serve.guard.breaker import CLOSED, HALF_OPEN, OPEN, REFUSED, Breaker, BreakerRules

from .conftest import Clock

RULES = BreakerRules(
    share=0.5,
    window_seconds=10.0,
    minimum=6,
    in_a_row=4,
    open_seconds=5.0,
    longest_seconds=20.0,
    probes=2,
    probe_seconds=30.0,
    longest_hold_seconds=60.0,
)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failure(breaker.admit())


def succeed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.success(breaker.admit())


def test_opens_after_failures_in_a_row(clock: Clock) -> None:
    """So many failures without a success between open it; one fewer do not."""
    breaker = Breaker(replace(RULES, minimum=100), clock)
    fail(breaker, 3)
    succeed(breaker)
    fail(breaker, 3)
    assert breaker.state == CLOSED
    fail(breaker)
    assert breaker.state == OPEN
    assert (breaker.openings, breaker.holds) == (1, 0)


def test_opens_at_a_share_of_the_window(clock: Clock) -> None:
    """Half of six opens it though never four in a row failed; half of four is too few to tell."""
    breaker = Breaker(RULES, clock)
    for _ in range(2):
        succeed(breaker)
        fail(breaker)
    assert breaker.state == CLOSED
    succeed(breaker)
    fail(breaker)
    assert breaker.state == OPEN


def test_old_failures_are_forgotten(clock: Clock) -> None:
    """What happened before the window does not count."""
    breaker = Breaker(RULES, clock)
    for _ in range(40):
        fail(breaker)
        succeed(breaker)
        clock.on(5.0)  # two of each at any time: four requests
    assert breaker.state == CLOSED


def test_open_lets_nothing_through(clock: Clock) -> None:
    """Until its time is over every request is refused, and it says how long that is."""
    breaker = Breaker(RULES, clock)
    fail(breaker, 4)
    assert breaker.wait == 5.0
    clock.on(4.9)
    assert breaker.admit() == REFUSED
    assert breaker.wait == pytest.approx(0.1)
    clock.on(0.1)
    assert breaker.state == HALF_OPEN
    assert breaker.wait == 0.0


def test_half_open_lets_a_few_probes_through(clock: Clock) -> None:
    """Two probes pass, no third; when both do well it is closed and all pass."""
    breaker = Breaker(RULES, clock)
    fail(breaker, 4)
    clock.on(5)
    first, second = breaker.admit(), breaker.admit()
    assert REFUSED not in (first, second)
    assert breaker.admit() == REFUSED
    breaker.success(first)
    assert breaker.state == HALF_OPEN
    breaker.success(second)
    assert breaker.state == CLOSED
    assert all(breaker.admit() for _ in range(100))
    fail(breaker, 3)
    assert breaker.state == CLOSED


def test_a_failed_probe_opens_it_for_longer(clock: Clock) -> None:
    """Each failed probe doubles the time, up to the bound; once closed it starts over."""
    breaker = Breaker(RULES, clock)
    fail(breaker, 4)
    waits = []
    for _ in range(4):
        waits.append(breaker.wait)
        clock.on(breaker.wait)
        fail(breaker)
    assert waits == [5.0, 10.0, 20.0, 20.0]
    assert breaker.openings == 5
    clock.on(20)
    succeed(breaker, 2)
    fail(breaker, 4)
    assert breaker.wait == 5.0


def test_a_lost_probe_does_not_block_for_ever(clock: Clock) -> None:
    """When probes tell nothing for long, another passes in their place; one at a time."""
    breaker = Breaker(RULES, clock)
    fail(breaker, 4)
    clock.on(5)
    lost = [breaker.admit(), breaker.admit()]
    clock.on(29)
    assert breaker.admit() == REFUSED
    clock.on(1)
    assert breaker.admit() != REFUSED
    assert breaker.admit() == REFUSED
    breaker.success(lost[0])
    breaker.success(lost[1])
    assert breaker.state == CLOSED


def test_a_probe_that_tells_nothing_gives_its_place_back(clock: Clock) -> None:
    """A client that went away says nothing of the destination: another probe may pass."""
    breaker = Breaker(RULES, clock)
    fail(breaker, 4)
    clock.on(5)
    tickets = [breaker.admit(), breaker.admit()]
    breaker.forget(tickets[0])
    assert breaker.admit() != REFUSED
    assert breaker.state == HALF_OPEN


def test_what_began_before_a_change_does_not_count_after_it(clock: Clock) -> None:
    """Late outcomes neither open it longer, nor close it, nor free the place of a probe."""
    breaker = Breaker(RULES, clock)
    late = [breaker.admit() for _ in range(20)]
    fail(breaker, 4)
    clock.on(1)
    for ticket in late[:5]:
        breaker.failure(ticket)
    breaker.success(late[5])
    assert (breaker.state, breaker.wait, breaker.openings) == (OPEN, 4.0, 1)
    clock.on(4)
    probes = [breaker.admit(), breaker.admit()]
    for ticket in late[6:12]:
        breaker.success(ticket)
    breaker.forget(late[12])
    breaker.failure(late[13])
    assert breaker.state == HALF_OPEN
    assert breaker.admit() == REFUSED
    for ticket in probes:
        breaker.success(ticket)
    for ticket in late[14:]:
        breaker.failure(ticket)
    assert breaker.state == CLOSED


def test_retry_after_holds_it_off(clock: Clock) -> None:
    """A destination that asks to be left alone is, for so long, and is then tried with care."""
    breaker = Breaker(RULES, clock)
    breaker.failure(breaker.admit(), retry_after=12.0)
    assert (breaker.state, breaker.wait) == (OPEN, 12.0)
    assert (breaker.openings, breaker.holds) == (0, 1)
    clock.on(12)
    assert [breaker.admit() != REFUSED for _ in range(3)] == [True, True, False]


def test_a_hold_is_bounded(clock: Clock) -> None:
    """An absurd time counts as the longest; none, or one that is past, counts as nothing."""
    breaker = Breaker(RULES, clock)
    for nothing in (0.0, -5.0, float("nan")):
        breaker.hold(nothing)
        assert breaker.state == CLOSED
    breaker.hold(1e18)
    assert breaker.wait == 60.0
    breaker.hold(30.0)
    assert (breaker.wait, breaker.holds) == (60.0, 1)


def test_a_hold_lengthens_an_opening(clock: Clock) -> None:
    """Of the two times the longer one counts."""
    breaker = Breaker(RULES, clock)
    fail(breaker, 3)
    breaker.failure(breaker.admit(), retry_after=30.0)
    assert (breaker.wait, breaker.openings, breaker.holds) == (30.0, 1, 1)


def test_changes_are_told(clock: Clock) -> None:
    """Each change of state is told once, in order, also the one that time alone makes."""
    told: list[int] = []
    breaker = Breaker(RULES, clock, told.append)
    fail(breaker, 4)
    clock.on(5)
    fail(breaker)
    clock.on(10)
    succeed(breaker, 2)
    assert told == [OPEN, HALF_OPEN, OPEN, HALF_OPEN, CLOSED]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.3, 1.0, 4.0, 11.0])), max_size=60))
def test_closed_it_counts_like_a_list(outcomes: list[tuple[bool, float]]) -> None:
    """It opens exactly when a plain list of what happened in the window says so."""
    clock = Clock(0.0)
    breaker = Breaker(RULES, clock)
    past: list[tuple[int, bool]] = []
    for good, seconds in outcomes:
        clock.on(seconds)
        second = int(clock.now)  # a bucket is a tenth of the window: one second
        past.append((second, good))
        (breaker.success if good else breaker.failure)(breaker.admit())
        window = [item for when, item in past if when > second - 10]
        row = 0
        for _, item in past:
            row = 0 if item else row + 1
        share = window.count(False) >= 0.5 * len(window) and len(window) >= 6
        expected = not good and (row >= 4 or share)
        assert (breaker.state == OPEN) == expected
        if expected:
            break


_STEPS = st.lists(
    st.one_of(
        st.just(("admit", 0.0)),
        st.tuples(st.sampled_from(["success", "failure", "forget"]), st.floats(0, 1)),
        st.tuples(st.just("hold"), st.floats(-1, 100)),
        st.tuples(st.just("wait"), st.floats(0, 40)),
    ),
    max_size=80,
)


@given(_STEPS)
def test_whatever_happens_it_recovers(steps: list[tuple[str, float]]) -> None:
    """From every state a destination that is well again is in use again after a bounded time."""
    clock = Clock(0.0)
    breaker = Breaker(RULES, clock)
    tickets: list[int] = []
    for what, value in steps:
        if what == "admit":
            ticket = breaker.admit()
            assert (ticket == REFUSED) <= (breaker.state != CLOSED)
            tickets += [ticket] * (ticket != REFUSED)
        elif what == "wait":
            clock.on(value)
        elif what == "hold":
            breaker.hold(value)
        elif tickets:
            ticket = tickets.pop(int(value * (len(tickets) - 1)))
            getattr(breaker, what)(ticket)
    assert 0.0 <= breaker.wait <= 60.0 + 1e-6
    clock.on(60.0 + 30.0 + 1e-6)
    for _ in range(2):
        ticket = breaker.admit()
        assert ticket != REFUSED
        breaker.success(ticket)
    assert breaker.state == CLOSED


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
        ({"minimum": 0}, "minimum"),
        ({"in_a_row": 0}, "in_a_row"),
        ({"probes": 0}, "probes"),
        ({"window_seconds": 0.0}, "window_seconds"),
        ({"open_seconds": 0.0}, "open_seconds"),
        ({"probe_seconds": -1.0}, "probe_seconds"),
        ({"longest_hold_seconds": -1.0}, "longest_hold_seconds"),
        ({"open_seconds": 10.0, "longest_seconds": 5.0}, "longest_seconds must be >= open_seconds"),
    ],
)
def test_bad_rules(fields: dict[str, Any], name: str) -> None:
    """Rules that make no sense are refused by name."""
    with pytest.raises(InputError, match=name):
        BreakerRules(**fields)
