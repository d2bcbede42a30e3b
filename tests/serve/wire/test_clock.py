"""Deadlines on a clock that is moved by hand, and one that ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from turnout.core import InputError
from turnout.serve.wire.clock import NEVER, Clock

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Time:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


class Watched:
    def __init__(self, deadline: float = NEVER, then: Callable[[], None] | None = None) -> None:
        self.deadline = deadline
        self.count = 0
        self.then = then

    def expired(self) -> None:
        assert self.deadline == NEVER
        self.count += 1
        if self.then is not None:
            self.then()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clock(time: Time) -> Clock:
    return Clock(time=time)


def test_a_deadline_comes_once(time: Time, clock: Clock) -> None:
    """At its time and not before; until it is set again nothing more comes."""
    watched = Watched(12.0)
    clock.watch(watched)
    for time.now, count in ((11.9, 0), (12.0, 1), (100.0, 1)):
        clock.tick()
        assert (clock.now, watched.count) == (time.now, count)
    watched.deadline = 101.0
    time.now = 101.5
    clock.tick()
    assert watched.count == 2


def test_deadlines_can_be_moved(time: Time, clock: Clock) -> None:
    """To store a number is all it takes, in either direction."""
    sooner, later = Watched(20.0), Watched(20.0)
    clock.watch(sooner)
    clock.watch(later)
    sooner.deadline, later.deadline = 15.0, 30.0
    time.now = 20.0
    clock.tick()
    assert (sooner.count, later.count) == (1, 0)


def test_forgotten(time: Time, clock: Clock) -> None:
    """What is not watched does not expire; to forget twice is nothing."""
    watched = Watched(11.0)
    clock.watch(watched)
    clock.watch(watched)
    assert clock.watched == 1
    clock.forget(watched)
    clock.forget(watched)
    assert clock.watched == 0
    time.now = 20.0
    clock.tick()
    assert watched.count == 0


def test_one_expiry_may_undo_another(time: Time, clock: Clock) -> None:
    """Of two that are due together, the first may forget the second, move it, or add a third."""

    def undo(mine: int) -> None:
        other = pair[1 - mine]
        clock.forget(other)
        clock.watch(Watched(5.0))

    pair = [Watched(11.0, lambda: undo(0)), Watched(11.0, lambda: undo(1))]
    moved = [Watched(11.0, lambda: move(0)), Watched(11.0, lambda: move(1))]

    def move(mine: int) -> None:
        moved[1 - mine].deadline = 50.0

    for watched in (*pair, *moved):
        clock.watch(watched)
    time.now = 12.0
    clock.tick()
    assert sum(watched.count for watched in pair) == 1
    assert sum(watched.count for watched in moved) == 1


def test_it_ticks(run: Run) -> None:
    """From start to stop; a second start is the first one, and it can be started again."""

    async def main() -> None:
        clock = Clock(period=0.001)
        for _ in range(2):
            clock.start()
            clock.start()
            came = asyncio.Event()
            watched = Watched(clock.now + 0.005, came.set)
            clock.watch(watched)
            await came.wait()
            assert clock.now >= 0.005
            clock.stop()
            clock.stop()
            then = clock.now
            watched.deadline = 0.0
            await asyncio.sleep(0.01)
            assert (clock.now, watched.count) == (then, 1)
            clock.forget(watched)

    run(main)


def test_stopped_from_within(run: Run) -> None:
    """What expires may stop the clock."""

    async def main() -> None:
        clock = Clock(period=0.001)
        came = asyncio.Event()

        def stop() -> None:
            clock.stop()
            came.set()

        clock.watch(Watched(0.0, stop))
        clock.start()
        await came.wait()
        then = clock.now
        await asyncio.sleep(0.005)
        assert clock.now == then

    run(main)


def test_after_a_hold_up_what_has_come_is_read_first(run: Run, time: Time) -> None:
    """A tick far too late expires nothing: data may wait unread; the next tick does."""

    async def main() -> None:
        clock = Clock(period=0.001, time=time)
        ticked: asyncio.Queue[int] = asyncio.Queue()
        watched = Watched(15.0, lambda: ticked.put_nowait(-1))

        class Seen:
            """Is looked at in each tick."""

            @property
            def deadline(self) -> float:
                ticked.put_nowait(watched.count)
                return NEVER

            @deadline.setter
            def deadline(self, value: float) -> None:
                raise AssertionError

            def expired(self) -> None:
                raise AssertionError

        clock.watch(watched)
        clock.watch(Seen())
        clock.start()
        assert await ticked.get() == 0
        before = clock.now
        time.now = 20.0
        while clock.now == before:
            await asyncio.sleep(0)
        assert watched.count == 0
        while await ticked.get() != -1:
            pass
        assert watched.count == 1
        clock.stop()

    run(main)


@pytest.mark.parametrize("period", [0, -1, 11, float("nan"), "1"])
def test_periods(period: float) -> None:
    """A clock that cannot tick is refused."""
    with pytest.raises(InputError, match=r"^period must"):
        Clock(period)
