"""Drives strategies: carries their calls, keeps their limits, adds up what they cost.

`Playing` is the machine without any input or output: what is to be asked now, and what the replies
make of it. `run` and `drive` move it with a function; a server drives the same machine with its own
connections. A strategy that is out of calls, time or money is told so once (`LimitReached`) and
may answer with what it has; otherwise its last reply is the answer. So every play ends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np
from numpy.random import Generator

from turnout.core import (
    Budget,
    Call,
    InputError,
    LimitReached,
    Play,
    Pool,
    Reply,
    Router,
    Sequential,
    Strategy,
    _check,
)

__all__ = ["Ask", "Limits", "Played", "Playing", "as_strategy", "drive", "run"]

#: Makes one call. It reports a failure by `Reply(failed=...)` rather than by raising.
Ask: TypeAlias = Callable[[Call], Reply]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one play may use.

    Parameters
    ----------
    calls : int
        Most calls, >= 1.
    seconds : float
        Time after which no further call is made, > 0.
    spend : float
        Cost after which no further call is made, in the currency of the pool, > 0. Calls that are
        under way are paid for, so the last round may exceed it.
    """

    calls: int = 32
    seconds: float = math.inf
    spend: float = math.inf

    def __post_init__(self) -> None:
        _check.integer("limits.calls", self.calls, low=1)
        for name in ("seconds", "spend"):
            value = getattr(self, name)
            if not value > 0:
                hint = "Leave it out for no limit."
                raise InputError(f"limits.{name}", "be above 0", value, hint)


@dataclass(frozen=True)
class Played:
    """A play that has ended.

    Parameters
    ----------
    answer : str
        "" where nothing was ever answered.
    calls : tuple of Call
    replies : tuple of Reply
        One a call.
    stopped : str
        Which limit ended it: "calls", "seconds" or "spend"; "" = it ended by itself.
    """

    answer: str
    calls: tuple[Call, ...]
    replies: tuple[Reply, ...]
    stopped: str = ""

    @property
    def cost(self) -> float:
        """What all calls cost together."""
        return math.fsum(reply.cost for reply in self.replies)


@final
@dataclass(eq=False)
class Playing:
    """One play under way.

    Parameters
    ----------
    play : Play
        Fresh from `Strategy.play`.
    pool : Pool
    limits : Limits
    clock : callable
        Seconds, from any origin.

    Examples
    --------
    >>> def twice():
    ...     (first,) = yield (Call(to="a", prompt="one"),)
    ...     (second,) = yield (Call(to="a", prompt=first.text),)
    ...     return second.text
    >>> playing = Playing(twice(), Pool(names=("a",)))
    >>> while playing.ended is None:
    ...     playing.take([Reply(text=call.prompt + "!", cost=1.0) for call in playing.pending])
    >>> playing.ended.answer, playing.ended.cost
    ('one!!', 2.0)
    """

    play: Play
    pool: Pool
    limits: Limits = field(default_factory=Limits)
    clock: Callable[[], float] = time.monotonic
    pending: tuple[Call, ...] = field(init=False, default=())
    ended: Played | None = field(init=False, default=None)
    _calls: list[Call] = field(init=False, default_factory=list)
    _replies: list[Reply] = field(init=False, default_factory=list)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()
        self._step(lambda: next(self.play))

    @property
    def spent(self) -> float:
        """Cost so far."""
        return math.fsum(reply.cost for reply in self._replies)

    @property
    def left(self) -> float:
        """Seconds until no further call is made."""
        return self.limits.seconds - (self.clock() - self._began)

    def take(self, replies: Sequence[Reply]) -> None:
        """Hand over the replies to `pending`, in its order; then look at `pending` or `ended`.

        Raises
        ------
        InputError
            There are more or fewer replies than calls, or the strategy calls outside the pool.
        """
        if self.ended is not None or len(replies) != len(self.pending):
            rule = f"answer the {len(self.pending)} calls under way"
            raise InputError("replies", rule, len(replies), "Pass one reply a call.")
        self._calls.extend(self.pending)
        self._replies.extend(replies)
        given = tuple(replies)
        self._step(lambda: self.play.send(given))

    def _step(self, move: Callable[[], tuple[Call, ...]]) -> None:
        """Let the strategy go on to its next calls or to its end."""
        try:
            wanted = tuple(move())
            for call in wanted:
                self.pool.index(call.to)  # refuses what is not there
            why = self._over(len(wanted))
            if not why:
                self.pending = wanted
                return
            self._halt(why)
        except StopIteration as end:
            self._end(end.value or "", "")

    def _over(self, wanted: int) -> str:
        """Which limit the next calls would break; "" for none."""
        if len(self._calls) + wanted > self.limits.calls or not wanted:
            return "calls"
        if self.left <= 0:
            return "seconds"
        return "spend" if self.spent >= self.limits.spend else ""

    def _halt(self, why: str) -> None:
        answer = next((r.text for r in reversed(self._replies) if r.text and not r.failed), "")
        try:
            self.play.throw(LimitReached(why))
            self.play.close()  # it called again all the same
        except StopIteration as end:
            answer = answer if end.value is None else end.value
        except LimitReached:
            pass
        self._end(answer, why)

    def _end(self, answer: str, stopped: str) -> None:
        self.pending = ()
        self.ended = Played(answer, tuple(self._calls), tuple(self._replies), stopped)


def run(
    strategy: Strategy,
    item: str,
    ask: Ask,
    pool: Pool,
    *,
    budget: Budget | None = None,
    rng: Generator,
    limits: Limits | None = None,
) -> Played:
    """Play one input to its end, one call after another.

    Parameters
    ----------
    strategy : Strategy
    item : str
    ask : callable
        Makes one call.
    pool : Pool
    budget : Budget, optional
    rng : Generator
    limits : Limits, optional
    """
    return drive(strategy.play(item, pool, budget=budget or Budget(), rng=rng), ask, pool, limits)


def drive(play: Play, ask: Ask, pool: Pool, limits: Limits | None = None) -> Played:
    """Bring a play that has not begun to its end, one call after another; as `run`."""
    playing = Playing(play, pool, limits or Limits())
    while playing.ended is None:
        playing.take([ask(call) for call in playing.pending])
    return playing.ended


@dataclass(frozen=True, eq=False)
class _Routed:
    """A router as a strategy of one call, or of a call a step where it is sequential."""

    router: Router

    @property
    def names(self) -> tuple[str, ...]:
        return self.router.names

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: Generator) -> Play:
        if not isinstance(self.router, Sequential):
            index = np.asarray(self.router.route([item], pool, budget=budget, rng=rng).index)
            (reply,) = yield (Call(to=pool.names[int(index[0, 0])], prompt=item),)
            return reply.text
        asked: list[int] = []
        said: list[str] = []
        best = ""
        for _ in range(pool.m):
            steps = np.array([asked], dtype=np.int64).reshape(1, len(asked))
            proceed = self.router.proceed([item], steps, [said], pool, budget=budget, rng=rng)
            if (following := int(proceed[0])) < 0:
                break
            (reply,) = yield (Call(to=pool.names[following], prompt=item),)
            asked.append(following)
            said.append(reply.text)
            best = reply.text or best
        return best


def as_strategy(router: Router) -> Strategy:
    """A router of requests as a strategy: it asks whom the router chooses.

    A sequential router is shown each answer; a failed call is an empty answer to it.
    """
    return _Routed(router)
