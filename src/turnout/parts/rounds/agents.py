"""Agents: a destination and a way to prompt it, and several of them at work on one item.

An `Agent` is one call in words of its own. A `Worker` is a strategy of several calls, played inside
the play of whoever asks it: its calls are part of that play, and are counted for it too. So an
agent that never stops is told to after `calls` of them (`LimitReached`) and answers with what it
has; one whose calls fail says nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.core import (
    Budget,
    Call,
    InputError,
    LimitReached,
    Play,
    Pool,
    Reply,
    Strategy,
    _check,
)
from turnout.parts.rounds.playing import Limits, Playing

__all__ = ["Agent", "Worker", "together"]


@dataclass(frozen=True)
class Agent:
    """A destination and a way to prompt it.

    Parameters
    ----------
    name : str
        Column of the table.
    to : str
        Destination that is asked.
    system : str
        What it is told before.
    form : str
        What it is asked; `{item}` stands for the question with its context, once at least.
    description : str
        What it is good at, for the graph.

    Raises
    ------
    InputError
        A name is empty, or the form has no place for the item.
    """

    name: str
    to: str
    system: str = ""
    form: str = "{item}"
    description: str = ""

    def __post_init__(self) -> None:
        for part in ("name", "to"):
            value = getattr(self, part)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"agent.{part}", "be a name", value, "Name it.")
        if "{item}" not in self.form:
            hint = "Write {item} where the question goes."
            raise InputError("agent.form", "hold {item}", self.form, hint)

    @property
    def names(self) -> tuple[str, ...]:
        """Its only destination."""
        return (self.to,)

    @property
    def calls(self) -> int:
        """Most calls it makes."""
        return 1

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        """Its one call; "" where that fails."""
        prompt = self.form.replace("{item}", item)
        (reply,) = yield (Call(to=self.to, prompt=prompt, system=self.system),)
        return "" if reply.failed else reply.text


@dataclass(frozen=True)
class Worker:
    """An agent of several calls: a strategy that is played inside the play.

    Parameters
    ----------
    name : str
        Column of the table.
    strategy : Strategy
        Sees the item, and its own destinations alone.
    calls : int
        Most calls it makes for one question, >= 1.
    description : str
        What it is good at, for the graph.

    Raises
    ------
    InputError
        The name is empty, it is no strategy, or it may not call.
    """

    name: str
    strategy: Strategy
    calls: int = 16
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError("worker.name", "be a name", self.name, "Name it.")
        if not isinstance(self.strategy, Strategy):
            kind = type(self.strategy).__name__
            raise InputError("worker.strategy", "have names and play", kind, "Pass a Strategy.")
        _check.integer("worker.calls", self.calls, low=1)

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations it may call."""
        return tuple(self.strategy.names)

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        """The strategy's own play, over its own part of the pool."""
        known = [name for name in pool.names if name in self.names]
        return self.strategy.play(item, pool.select(known), budget=budget, rng=rng)


def together(
    agents: Sequence[Agent | Worker],
    item: str,
    pool: Pool,
    *,
    budget: Budget,
    rng: np.random.Generator,
) -> Generator[tuple[Call, ...], tuple[Reply, ...], list[str]]:
    """What each agent answers, in their order; part of a play, which yields all their calls.

    They go on side by side, a round of calls at a time. Where the play may go no further, an agent
    that has not ended says nothing.

    Parameters
    ----------
    agents : sequence of Agent or Worker
    item : str
    pool : Pool
    budget : Budget
    rng : Generator
        Every agent draws from a stream of its own.
    """
    plays = [
        Playing(agent.play(item, pool, budget=budget, rng=own), pool, Limits(calls=agent.calls))
        for agent, own in zip(agents, rng.spawn(len(agents)), strict=True)
    ]
    try:
        while live := [each for each in plays if each.ended is None]:
            replies = iter((yield tuple(call for each in live for call in each.pending)))
            for each in live:
                each.take([next(replies) for _ in each.pending])
    except LimitReached:
        pass
    return [each.ended.answer if each.ended is not None else "" for each in plays]
