"""Strategies driven to their end under limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import (
    Assignment,
    Budget,
    Call,
    InputError,
    Inputs,
    LimitReached,
    Play,
    Pool,
    Reply,
)
from turnout.core._check import Int
from turnout.parts.rounds.playing import Limits, Playing, as_strategy, run

POOL = Pool(names=("small", "large"))


class Repeats:
    """Asks `small` so often, and joins what it says; says "cut" where it is halted."""

    names = POOL.names

    def __init__(self, times: int, *, together: int = 1, catches: bool = True) -> None:
        self.times, self.together, self.catches = times, together, catches

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        said: list[str] = []
        try:
            for _ in range(self.times):
                replies = yield tuple(Call(to="small", prompt=item) for _ in range(self.together))
                said += [reply.text for reply in replies]
        except LimitReached:
            if not self.catches:
                raise
            return "cut"
        return " ".join(said)


def _ask(call: Call) -> Reply:
    return Reply(text=f"{call.to}: {call.prompt}", cost=0.25)


def test_a_play_by_hand() -> None:
    """Two rounds of two calls: four replies of 0.25 each, and the answer that is returned."""
    found = run(Repeats(2, together=2), "hi", _ask, POOL, rng=np.random.default_rng(0))
    assert found.answer == " ".join(["small: hi"] * 4)
    assert (found.cost, len(found.calls), found.stopped) == (1.0, 4, "")


def test_what_was_started_is_let_answer() -> None:
    """Out of calls, the strategy is told once and its answer counts."""
    found = run(Repeats(9), "hi", _ask, POOL, rng=np.random.default_rng(0), limits=Limits(calls=3))
    assert (found.answer, len(found.calls), found.stopped) == ("cut", 3, "calls")


def test_the_last_reply_stands_in() -> None:
    """A strategy that does not catch its end leaves the last reply that said something."""
    replies = iter([Reply(text="one"), Reply(text="two"), Reply(text="", failed="gone")])
    found = run(
        Repeats(9, catches=False),
        "hi",
        lambda _: next(replies),
        POOL,
        rng=np.random.default_rng(0),
        limits=Limits(calls=3),
    )
    assert (found.answer, found.stopped) == ("two", "calls")


def test_a_strategy_that_will_not_stop_is_stopped() -> None:
    """One that calls again after it was told is closed."""

    class Stubborn(Repeats):
        def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
            while True:
                try:
                    yield (Call(to="small", prompt=item),)
                except LimitReached:
                    continue

    found = run(Stubborn(1), "hi", _ask, POOL, rng=np.random.default_rng(0), limits=Limits(calls=2))
    assert (found.answer, found.stopped) == ("small: hi", "calls")


def test_spend_and_time_end_a_play() -> None:
    """No further call is made once the money or the time is used up; what ran is paid."""
    rng = np.random.default_rng(0)
    found = run(Repeats(9), "hi", _ask, POOL, rng=rng, limits=Limits(spend=0.5))
    assert (found.cost, found.stopped) == (0.5, "spend")
    ticks = iter(range(100))
    play = Repeats(9).play("hi", POOL, budget=Budget(), rng=rng)
    playing = Playing(play, POOL, Limits(seconds=3.5), lambda: float(next(ticks)))
    while playing.ended is None:
        playing.take([_ask(call) for call in playing.pending])
    assert playing.ended.stopped == "seconds"
    assert len(playing.ended.calls) == 3


def test_a_round_of_no_calls_does_not_hang() -> None:
    """A strategy that asks for nothing, for ever, is ended."""

    class Idle(Repeats):
        def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
            while True:
                yield ()

    assert run(Idle(1), "hi", _ask, POOL, rng=np.random.default_rng(0)).stopped == "calls"


def test_calls_outside_the_pool_are_refused() -> None:
    """A strategy can call nobody that is not there."""

    class Lost(Repeats):
        def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
            yield (Call(to="nobody", prompt=item),)
            return ""

    with pytest.raises(InputError, match="nobody"):
        run(Lost(1), "hi", _ask, POOL, rng=np.random.default_rng(0))


def test_replies_must_match_the_calls() -> None:
    """One reply a call, no more and no fewer."""
    playing = Playing(
        Repeats(2).play("hi", POOL, budget=Budget(), rng=np.random.default_rng(0)), POOL
    )
    with pytest.raises(InputError, match="replies"):
        playing.take([])


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Limits(calls=0), "limits.calls"),
        (lambda: Limits(seconds=0.0), "limits.seconds"),
        (lambda: Limits(spend=math.nan), "limits.spend"),
        (lambda: Call(to="", prompt="x"), "call.to"),
        (lambda: Call(to="a", prompt="x", max_tokens=0), "call.max_tokens"),
        (lambda: Reply(text="x", cost=-1.0), "reply.cost"),
        (lambda: Reply(text="x", cost=math.nan), "reply.cost"),
    ],
)
def test_bad_values_are_refused(make: Callable[[], object], field: str) -> None:
    """Each rule names its field."""
    with pytest.raises(InputError, match=field):
        make()


@given(times=st.integers(0, 6), together=st.integers(1, 3), calls=st.integers(1, 8))
def test_never_more_calls_than_allowed(times: int, together: int, calls: int) -> None:
    """Whatever is asked for, the limit holds, and money is the sum of the replies."""
    found = run(
        Repeats(times, together=together),
        "hi",
        _ask,
        POOL,
        rng=np.random.default_rng(0),
        limits=Limits(calls=calls),
    )
    assert len(found.calls) == len(found.replies) <= calls
    assert found.cost == 0.25 * len(found.calls)
    assert (found.stopped == "") == (times * together <= calls)


class Chooses:
    """Sends everything to the last of the pool."""

    names = POOL.names

    def route(
        self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: np.random.Generator
    ) -> Assignment:
        index = np.full((len(inputs), 1), pool.m - 1)
        return Assignment(index, np.ones((len(inputs), 1)), pool.m)


class GoesOn(Chooses):
    """Asks everybody in turn until one says yes."""

    def proceed(
        self,
        inputs: Inputs,
        asked: Int,
        answers: Sequence[Sequence[str]],
        pool: Pool,
        *,
        budget: Budget,
        rng: np.random.Generator,
    ) -> Int:
        said = [bool(row) and row[-1] == "yes" for row in answers]
        step = asked.shape[1]
        return np.where(said, -1, step if step < pool.m else -1)


def test_a_router_is_a_strategy_of_one_call() -> None:
    """It asks whom the router chooses and passes the answer on."""
    found = run(as_strategy(Chooses()), "hi", _ask, POOL, rng=np.random.default_rng(0))
    assert [call.to for call in found.calls] == ["large"]
    assert found.answer == "large: hi"


@pytest.mark.parametrize(("small", "asked"), [("yes", ["small"]), ("no", ["small", "large"])])
def test_a_cascade_sees_each_answer(small: str, asked: list[str]) -> None:
    """It goes on only where the first answer does not do."""
    said = {"small": small, "large": "done"}
    found = run(
        as_strategy(GoesOn()),
        "hi",
        lambda call: Reply(text=said[call.to]),
        POOL,
        rng=np.random.default_rng(0),
    )
    assert [call.to for call in found.calls] == asked
    assert found.answer == said[asked[-1]]


def test_a_cascade_keeps_what_was_said_when_the_last_fails() -> None:
    """A failed last call leaves the answer before it."""
    replies = {"small": Reply(text="no"), "large": Reply(text="", failed="away")}
    found = run(
        as_strategy(GoesOn()),
        "hi",
        lambda call: replies[call.to],
        POOL,
        rng=np.random.default_rng(0),
    )
    assert found.answer == "no"
