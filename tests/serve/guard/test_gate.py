"""The gate: never more than may be in, first come first served, nobody waits or holds for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.serve.guard.gate import Gate, GateRules, LaneRules
from turnout.serve.guard.refusal import RefusedError

from .conftest import Clock


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def gate(clock: Clock, *, every: int | None = None, queue: int = 10, **lanes: int | None) -> Gate:
    rules = GateRules(
        every=LaneRules(parallel=every, queue=queue), in_hand=50, longest_wait_seconds=10.0
    )
    made = {name: LaneRules(parallel=limit, queue=queue) for name, limit in lanes.items()}
    return Gate(rules, made, clock)


def waiting(gate: Gate, name: str) -> asyncio.Future[None]:
    future = gate.enter(name)
    assert future is not None
    return future


def refused(call: Callable[[], Any]) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        call()
    return error.value


@in_loop
async def test_where_there_is_room_nothing_waits(clock: Clock) -> None:
    """As many as may be in pass at once; without a limit all do."""
    one = gate(clock, a=3, b=None)
    assert [one.enter("a") for _ in range(3)] == [None] * 3
    assert [one.enter("b") for _ in range(100)] == [None] * 100
    assert (one.inside("a"), one.inside("b"), one.inside(), one.waiting()) == (3, 100, 103, 0)


@in_loop
async def test_first_come_first_served(clock: Clock) -> None:
    """Who leaves lets the first of the queue in, and nobody overtakes."""
    one = gate(clock, a=1)
    one.enter("a")
    futures = [waiting(one, "a") for _ in range(3)]
    assert one.waiting("a") == 3
    for number in range(3):
        one.leave("a", 1.0)
        assert [future.done() for future in futures] == [place <= number for place in range(3)]
        late = waiting(one, "a")
        one.give_up("a", late)
    one.leave("a", 1.0)
    assert (one.inside("a"), one.inside(), one.waiting()) == (0, 0, 0)


@in_loop
async def test_a_full_queue_refuses(clock: Clock) -> None:
    """What the queue cannot hold is told to come back, with status 503."""
    one = gate(clock, a=1, queue=2)
    one.enter("a")
    waiting(one, "a")
    waiting(one, "a")
    error = refused(lambda: one.enter("a"))
    assert (error.status, error.code, error.reason) == (503, "queue", "queue")
    assert error.headers == b"retry-after: 3\r\n"
    assert gate(clock, a=1, queue=0).enter("a") is None


@in_loop
async def test_no_queue_at_all(clock: Clock) -> None:
    """With a queue of none, who finds no room is refused."""
    one = gate(clock, a=1, queue=0)
    one.enter("a")
    assert refused(lambda: one.enter("a")).status == 503


@in_loop
async def test_who_waits_too_long_is_refused(clock: Clock) -> None:
    """After the longest wait the future fails; those that came later wait on."""
    one = gate(clock, a=1)
    one.enter("a")
    first = waiting(one, "a")
    clock.on(6)
    second = waiting(one, "a")
    one.tick(clock.on(3.9))
    assert not first.done()
    one.tick(clock.on(0.1))
    error = first.exception()
    assert isinstance(error, RefusedError)
    assert (error.status, error.reason) == (503, "queue")
    assert "within 10 s" in str(error)
    assert not second.done()
    one.leave("a", 1.0)
    assert second.result() is None


@in_loop
async def test_who_gives_up_leaves_no_trace(clock: Clock) -> None:
    """A waiter that gives up, or is cancelled, is out of the queue, and the next one moves up."""
    one = gate(clock, a=1)
    one.enter("a")
    first, second, third = (waiting(one, "a") for _ in range(3))
    one.give_up("a", first)
    assert one.waiting("a") == 2
    second.cancel()
    one.leave("a", 1.0)  # before the loop has turned
    assert third.done()
    assert (one.inside("a"), one.waiting()) == (1, 0)
    await asyncio.sleep(0)
    assert (one.inside("a"), one.inside(), one.waiting()) == (1, 1, 0)


@in_loop
async def test_giving_up_a_turn_just_given(clock: Clock) -> None:
    """A turn that came in the moment its owner went away is passed on, not lost."""
    one = gate(clock, a=1)
    one.enter("a")
    first, second = waiting(one, "a"), waiting(one, "a")
    one.leave("a", 1.0)
    assert first.done()
    one.give_up("a", first)
    assert second.done()
    one.give_up("a", second)
    assert (one.inside("a"), one.inside()) == (0, 0)


@in_loop
async def test_tasks_that_are_cancelled_while_they_wait(clock: Clock) -> None:
    """A task that is cancelled, before its turn or just after, holds nothing afterwards."""
    one = gate(clock, a=1)
    one.enter("a")

    async def work() -> None:
        turn = waiting(one, "a")
        try:
            await turn
        except asyncio.CancelledError:
            one.give_up("a", turn)
            raise
        one.leave("a", 1.0)

    early, late, last = (asyncio.create_task(work()) for _ in range(3))
    await asyncio.sleep(0)
    assert one.waiting("a") == 3
    early.cancel()
    await asyncio.wait([early])
    one.leave("a", 1.0)
    late.cancel()  # its turn has come, and it has not heard of it
    await asyncio.wait([late, last])
    assert [task.cancelled() for task in (early, late, last)] == [True, True, False]
    assert (one.inside("a"), one.inside(), one.waiting()) == (0, 0, 0)
    one.enter("a")
    future = waiting(one, "a")
    future.cancel()
    one.give_up("a", future)
    assert one.waiting() == 0


@in_loop
async def test_giving_up_after_a_refusal(clock: Clock) -> None:
    """Who was refused holds nothing that could be given back."""
    one = gate(clock, a=1)
    one.enter("a")
    future = waiting(one, "a")
    one.tick(clock.on(10))
    one.give_up("a", future)
    assert (one.inside("a"), one.waiting()) == (1, 0)


@in_loop
async def test_all_destinations_together(clock: Clock) -> None:
    """The limit of all holds across destinations, and its queue is fair between them."""
    one = gate(clock, every=2, a=5, b=5)
    one.enter("a")
    one.enter("b")
    first, second = waiting(one, "b"), waiting(one, "a")
    one.leave("a", 1.0)
    assert (first.done(), second.done()) == (True, False)
    one.leave("b", 1.0)
    assert second.done()
    assert (one.inside("a"), one.inside("b"), one.inside()) == (1, 1, 2)


@in_loop
async def test_a_slow_destination_does_not_block_the_others(clock: Clock) -> None:
    """Those that wait at a full destination take no room from requests to another."""
    one = gate(clock, every=3, a=1, b=5)
    one.enter("a")
    waiting(one, "a")
    waiting(one, "a")
    assert one.enter("b") is None
    assert one.enter("b") is None


@in_loop
async def test_from_one_queue_to_the_other(clock: Clock) -> None:
    """Who gets a place at its destination waits for room in all, behind those who did before."""
    one = gate(clock, every=2, a=1, b=5)
    one.enter("a")
    one.enter("b")
    at_a = waiting(one, "a")
    at_all = waiting(one, "b")
    one.leave("a", 1.0)
    assert (at_all.done(), at_a.done()) == (True, False)
    assert one.inside("a") == 1
    one.leave("b", 1.0)
    assert at_a.done()
    assert one.inside() == 2


@in_loop
async def test_nobody_overtakes_by_a_place_that_is_given_up(clock: Clock) -> None:
    """Who moves up at its destination still stands behind all that wait for room in all."""
    one = gate(clock, every=1, a=1, b=5)
    one.enter("b")
    gone, before, behind = waiting(one, "a"), waiting(one, "b"), waiting(one, "a")
    gone.cancel()
    one.leave("b", 1.0)
    assert (before.done(), behind.done()) == (True, False)
    one.leave("b", 1.0)
    assert behind.done()


@in_loop
async def test_a_cancelled_wait_frees_its_place_in_the_queue(clock: Clock) -> None:
    """Once the loop has turned, a cancelled future takes no place from others."""
    one = gate(clock, a=1, queue=1)
    one.enter("a")
    waiting(one, "a").cancel()
    await asyncio.sleep(0)
    assert one.waiting("a") == 0
    assert not waiting(one, "a").done()


@in_loop
async def test_too_long_at_the_second_queue(clock: Clock) -> None:
    """The wait counts from the start; who is refused gives its place at the destination back."""
    one = gate(clock, every=2, a=1, b=5)
    one.enter("a")
    one.enter("b")
    at_a = waiting(one, "a")
    clock.on(5)
    at_all, next_ = waiting(one, "b"), waiting(one, "a")
    one.leave("a", 1.0)
    assert at_all.done()
    assert one.waiting("a") == 1
    one.tick(clock.on(5))
    assert isinstance(at_a.exception(), RefusedError)
    one.leave("b", 1.0)
    assert next_.done()
    assert (one.inside("a"), one.inside(), one.waiting()) == (1, 2, 0)


@in_loop
async def test_estimates_follow_what_is_seen(clock: Clock) -> None:
    """A refusal tells how long the queue will take at the pace of recent requests."""
    one = gate(clock, a=2, queue=3)
    for _ in range(2):
        one.enter("a")
    for _ in range(60):  # twenty seconds each, two at once: one leaves every ten
        clock.on(10)
        one.leave("a", 20.0)
        one.enter("a")
    for _ in range(3):
        waiting(one, "a")
    assert refused(lambda: one.enter("a")).retry_after == 40
    quick = gate(clock, a=2, queue=3)
    for _ in range(60):
        quick.enter("a")
        quick.leave("a", 0.01)
    for _ in range(2):
        quick.enter("a")
    for _ in range(3):
        waiting(quick, "a")
    assert refused(lambda: quick.enter("a")).retry_after == 1


@in_loop
async def test_estimates_grow_when_nothing_moves(clock: Clock) -> None:
    """When nobody leaves any more, the past pace is no promise."""
    one = gate(clock, a=1, queue=0)
    one.enter("a")
    one.leave("a", 0.1)
    clock.on(3600)  # quiet, with room: says nothing about the pace
    one.enter("a")
    assert refused(lambda: one.enter("a")).retry_after == 1
    clock.on(15)
    assert refused(lambda: one.enter("a")).retry_after == 15


@in_loop
async def test_estimates_where_all_are_busy(clock: Clock) -> None:
    """A destination that fills up with requests that wait for room in all was not full before."""
    one = gate(clock, every=1, queue=1, a=1, b=1)
    for name in ("a", "b"):
        one.enter(name)
        one.leave(name, 0.1)
    clock.on(3600)
    one.enter("b")
    waiting(one, "a")
    waiting(one, "a")
    assert refused(lambda: one.enter("a")).retry_after == 1


def test_parallel_requests_of_a_key(clock: Clock) -> None:
    """A key has at most so many in hand; others are not touched; what is released counts again."""
    one = gate(clock, a=1)
    one.admit("k", 2)
    one.admit("k", 2)
    error = refused(lambda: one.admit("k", 2))
    assert (error.status, error.code, error.reason) == (429, "too_many_parallel", "rate")
    assert error.headers == b"retry-after: 1\r\n"
    one.admit("other", 2)
    one.admit("free")
    one.release("k")
    one.admit("k", 2)
    for key in ("k", "k", "other", "free"):
        one.release(key)
    assert one.in_hand == 0
    assert one._keys == {}


def test_too_much_in_hand_is_shed(clock: Clock) -> None:
    """Beyond what a worker may have in hand requests are refused at once, whatever their key."""
    one = gate(clock, a=1)
    clock.on(3600)  # quiet until now
    for number in range(50):
        one.admit(f"key{number}")
    error = refused(lambda: one.admit("more"))
    assert (error.status, error.code, error.reason) == (503, "overloaded", "shed")
    assert error.retry_after == 1
    clock.on(20)
    assert refused(lambda: one.admit("more")).retry_after == 20
    one.release("key0")
    one.admit("more")
    assert one.in_hand == 50


@pytest.mark.parametrize(
    ("lag", "passed"),
    [(0.0, 100), (0.5, 100), (0.55, 90), (0.75, 50), (0.85, 30), (1.0, 0), (9.0, 0)],
)
def test_a_lagging_loop_sheds_a_growing_share(clock: Clock, lag: float, passed: int) -> None:
    """None at the limit, all at twice the limit, evenly between; none when the lag is over."""
    one = gate(clock, a=1)
    one.lag = lag
    kept = 0
    for _ in range(100):
        try:
            one.admit("k")
        except RefusedError as error:
            assert (error.status, error.reason) == (503, "shed")  # noqa: PT017
        else:
            kept += 1
            one.release("k")
    assert kept == pytest.approx(passed, abs=1)
    one.lag = 0.0
    for _ in range(20):
        one.admit("k")


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "enter", "leave", "give_up", "cancel", "turn", "wait"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 20),
    ),
    max_size=80,
)


@settings(max_examples=200)
@given(_STEPS)
def test_whatever_happens(steps: list[tuple[str, str, int]]) -> None:
    """The limits hold at every step, each queue is in order, and at the end all is free again."""

    async def run() -> None:
        clock = Clock()
        one = gate(clock, every=4, queue=3, a=1, b=3, c=None)
        inside: list[str] = []
        queue: list[tuple[str, asyncio.Future[None]]] = []

        def settle() -> None:
            """Take note of who has got in, and who was refused."""
            for name in "abc":
                turns = [future for where, future in queue if where == name]
                got = [future.done() and not future.cancelled() for future in turns]
                live = [
                    done for future, done in zip(turns, got, strict=True) if not future.cancelled()
                ]
                assert live == sorted(live, reverse=True)
            for item in list(queue):
                name, future = item
                if future.done():
                    queue.remove(item)
                    if not future.cancelled() and future.exception() is None:
                        inside.append(name)

        def check() -> None:
            counts = {name: inside.count(name) for name in "abc"}
            assert counts["a"] <= 1
            assert counts["b"] <= 3
            assert len(inside) == one.inside() <= 4
            held = {name: one.inside(name) for name in "abc"}
            assert all(counts[name] <= held[name] for name in "abc")
            if one.inside() < 4:
                assert held == counts

        for what, name, number in steps:
            if what == "enter":
                try:
                    future = one.enter(name)
                except RefusedError:
                    pass
                else:
                    if future is None:
                        inside.append(name)
                    else:
                        queue.append((name, future))
            elif what == "leave" and inside:
                one.leave(inside.pop(number % len(inside)), 0.1)
            elif what in ("give_up", "cancel") and queue:
                where, future = queue[number % len(queue)]
                if what == "cancel":
                    future.cancel()
                else:
                    one.give_up(where, future)
                    queue.remove((where, future))
            elif what == "turn":
                await asyncio.sleep(0)
            elif what == "wait":
                one.tick(clock.on(number))
            settle()
            check()
        await asyncio.sleep(0)
        for where, future in queue:
            one.give_up(where, future)
        for name in inside:
            one.leave(name, 0.1)
        assert (one.inside(), one.waiting()) == (0, 0)
        assert [one.inside(name) for name in "abc"] == [0, 0, 0]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: LaneRules(parallel=0), "parallel"),
        (lambda: LaneRules(queue=-1), "queue"),
        (lambda: GateRules(in_hand=0), "in_hand"),
        (lambda: GateRules(longest_wait_seconds=-1.0), "longest_wait_seconds"),
        (lambda: GateRules(lag_seconds=0.0), "lag_seconds"),
    ],
)
def test_bad_rules(make: Callable[[], Any], name: str) -> None:
    """Rules that make no sense are refused by name."""
    with pytest.raises(InputError, match=name):
        make()
