"""Queues of servers that answer several requests at once."""

from __future__ import annotations

import math

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.queues import Arrivals, Queues, Servers, bursts, serve


def _servers(slope=(0.5, 0.0), slots=(2, 3)) -> Servers:
    return Servers(np.array(slope), np.array(slots))


def test_two_at_once_by_hand() -> None:
    """One alone for 1 s, then two at 2/3 pace: 1 of 2 s is left, so 1.5 s more; then alone."""
    queues = Queues(_servers())
    queues.submit(0, 0, 2.0)
    assert queues.advance(1.0) == []
    queues.submit(1, 0, 2.0)
    ended = queues.advance(math.inf)
    assert ended[0] == (0, pytest.approx(2.5))
    assert ended[1] == (1, pytest.approx(3.5))  # 1 s done by 2.5, the last second alone


def test_small_steps_change_nothing() -> None:
    """Looking at the clock often gives the same ends as looking once."""
    rng = np.random.default_rng(0)
    once, often = Queues(_servers()), Queues(_servers())
    for who, work in enumerate(rng.exponential(size=12).tolist()):
        once.submit(who, who % 2, work)
        often.submit(who, who % 2, work)
    steps = [pair for to in np.linspace(0.1, 30, 300) for pair in often.advance(float(to))]
    whole = once.advance(math.inf)
    assert [who for who, _ in steps] == [who for who, _ in whole]
    assert [when for _, when in steps] == pytest.approx([when for _, when in whole])


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_tiny_time_steps(seed: int) -> None:
    """A naive simulation in steps of a millisecond ends requests at those times."""
    rng = np.random.default_rng(seed)
    n, slope, slots, step = 12, 0.3, 3, 1e-3
    times, work = np.sort(rng.uniform(0, 3, n)), rng.uniform(0.2, 1.0, n)
    served = serve(
        times, work[:, None], Servers(np.array([slope]), np.array([slots])), lambda *_: 0
    )
    left, end, line, busy, now = work.copy(), np.zeros(n), [], [], float(times[0])
    while len(line) + len(busy) or (end == 0).any():
        line += [
            i for i in range(n) if now <= times[i] + 1e-12 < now + step and i not in (*line, *busy)
        ]
        while line and len(busy) < slots:
            busy.append(line.pop(0))
        for i in busy.copy():
            left[i] -= step / (1 + slope * (len(busy) - 1))
        for i in [i for i in busy if left[i] <= 0]:
            busy.remove(i)
            end[i] = now
        now += step
        assert now < 60
    assert served.seconds == pytest.approx(end - times, abs=0.03)


def test_work_is_conserved() -> None:
    """With slope 1 requests take turns: the last ends when all the work is done, however mixed."""
    queues = Queues(Servers(np.array([1.0]), np.array([5])))
    work = np.random.default_rng(1).exponential(size=9)
    for who, each in enumerate(work.tolist()):
        queues.submit(who, 0, each)
    assert queues.advance(math.inf)[-1][1] == pytest.approx(work.sum())


def test_nobody_overtakes_in_the_line() -> None:
    """One slot: first come, first served."""
    served = serve(np.zeros(5), np.ones((5, 1)), _servers((0.0,), (1,)), lambda *_: 0)
    assert served.seconds.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_copy_has_a_life_of_its_own() -> None:
    """What happens to a copy does not happen to the queues."""
    queues = Queues(_servers())
    queues.submit(0, 0, 1.0)
    twin = queues.copy()
    twin.submit(1, 0, 1.0)
    twin.advance(9.0)
    assert queues.in_flight == [1, 0]
    assert queues.advance(9.0) == [(0, 1.0)]


def test_the_expected_wait_by_hand() -> None:
    """Empty: the work; one there: 1.5 times; full with one waiting: 1.5 * (1 + 2 / 2)."""
    queues = Queues(_servers())
    found = []
    for who in range(4):
        found.append(queues.wait(0, 1.0))
        queues.submit(who, 0, 1.0)
    assert found == pytest.approx([1.0, 1.5, 1.5 * 1.5, 1.5 * 2.0])


def test_more_hardware_by_hand() -> None:
    """Four times the hardware: a quarter of the slope, four times the slots; alone as fast."""
    four = _servers().shares(4)
    assert four.slope.tolist() == [0.125, 0.0]
    assert four.slots.tolist() == [8, 12]
    assert _servers().capacity.tolist() == pytest.approx([2 / 1.5, 3.0])


def test_the_rate_knows_the_past_alone() -> None:
    """0 before anything came; then the count of the window, and 0 again after it."""
    lately = Arrivals(2.0)
    assert lately.rate(0.0) == 0.0
    for at in (0.0, 0.5, 1.0):
        lately.came(at)
    assert lately.rate(1.0) == 1.5
    assert lately.rate(2.5) == 0.5
    assert lately.rate(9.0) == 0.0


def test_rules_see_no_later_arrival() -> None:
    """Two streams that agree up to a request are served alike up to it."""
    rng = np.random.default_rng(2)
    times, work = np.sort(rng.uniform(0, 5, 40)), rng.uniform(0.1, 1.0, (40, 2))
    other = times.copy()
    other[20:] += 50.0

    def rule(i: int, at: float, queues: Queues) -> int:
        return int(np.argmin(queues.in_flight))

    one, two = (serve(stream, work, _servers(), rule).choice for stream in (times, other))
    assert one[:20].tolist() == two[:20].tolist()
    assert one[20:].tolist() != two[20:].tolist()


def test_bursts_have_the_rates_they_are_given() -> None:
    """The mean gap is that of the drawn rates, and times rise."""
    times = bursts(40_000, np.array([1.0, 100.0]), 50.0, rng=np.random.default_rng(0))
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(0.505, rel=0.1)
    assert np.median(gaps) < 0.1


@pytest.mark.parametrize(
    ("slope", "slots", "message"),
    [
        ((-0.1,), (1,), "servers.slope"),
        ((0.1,), (0,), "servers.slots"),
        ((0.1,), (1.5,), "servers.slots must hold whole numbers"),
        ((0.1,), (1, 2), "servers.slots must have shape"),
        ((), (), "servers.slots"),
    ],
)
def test_wrong_servers_are_refused(slope, slots, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Servers(np.array(slope, dtype=float), np.array(slots))


def test_wrong_streams_are_refused() -> None:
    """Times must not decrease and work must be above zero."""
    with pytest.raises(InputError, match="arrivals must not decrease"):
        serve(np.array([1.0, 0.0]), np.ones((2, 2)), _servers(), lambda *_: 0)
    with pytest.raises(InputError, match="work"):
        serve(np.array([0.0]), np.zeros((1, 2)), _servers(), lambda *_: 0)
