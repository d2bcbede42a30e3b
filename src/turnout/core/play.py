"""Play: a route of several steps, as a conversation with whoever carries the requests.

A strategy does not ask anybody itself. It is a generator: it yields calls, is sent their replies,
and returns its answer. So the same strategy runs over models in this process, over endpoints
behind a gateway, and over a table of recorded answers; limits, timeouts and money are kept by the
one that drives it (`turnout.parts.rounds.playing`), in one place for all.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from turnout.core import _check
from turnout.core.budget import Budget
from turnout.core.errors import InputError
from turnout.core.pool import Pool

__all__ = ["Call", "LimitReached", "Play", "Reply", "Strategy"]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to one destination.

    Parameters
    ----------
    to : str
        A destination of the pool.
    prompt : str
        What it is asked.
    system : str
        What it is told before; "" = nothing.
    max_tokens : int, optional
        Most tokens to write, >= 1; None leaves it to the destination.

    Raises
    ------
    InputError
        `to` names nobody, or `max_tokens` is below 1.
    """

    to: str
    prompt: str
    system: str = ""
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.to, str) or not self.to:
            raise InputError("call.to", "name a destination", self.to, "Use a name of the pool.")
        if self.max_tokens is not None:
            _check.integer("call.max_tokens", self.max_tokens, low=1)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back from one call.

    Parameters
    ----------
    text : str
        The answer; "" where there is none.
    cost : float
        What the call cost, in the currency of the pool, >= 0; a failed one may have cost too.
    failed : str
        Why there is no answer; "" = there is one.
    """

    text: str
    cost: float = 0.0
    failed: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cost", _check.number("reply.cost", self.cost, low=0.0))


class LimitReached(Exception):  # noqa: N818 - a signal to the strategy, which may still answer
    """Thrown into a play that may make no further call: return the best answer so far."""


#: Yields calls to be made at the same time, is sent their replies in order, returns the answer.
Play: TypeAlias = Generator[tuple[Call, ...], tuple[Reply, ...], str]


@runtime_checkable
class Strategy(Protocol):
    """Answers an input by asking destinations, as often as it sees fit.

    It must end by itself on any replies, empty, failed or nonsense among them; must not call a
    destination that is down; and must not draw from anything but `rng`. Where it is interrupted by
    `LimitReached` it may catch that and return what it has, and must not call again.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The destinations it knows; a pool may hold any of them, in any order."""
        ...

    def play(self, item: str, pool: Pool, *, budget: Budget, rng: np.random.Generator) -> Play:
        """The steps for one input; nothing happens before the first `next`."""
        ...
