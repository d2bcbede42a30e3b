"""A strategy under test, and the world it is played in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from turnout.core import Budget, Card, InputError, Pool, Strategy
from turnout.parts.rounds.playing import Ask, Limits, Played, run
from turnout.testing.subject import ContractError

__all__ = ["MANY", "StrategyCase", "StrategySubject"]

#: Calls after which a strategy is said not to end by itself.
MANY = 200


@dataclass(frozen=True, eq=False, kw_only=True)
class StrategyCase:
    """A small strategy and the world it is played in.

    Parameters
    ----------
    make : callable
        Makes the strategy, fitted and small; called twice, and must give the same both times.
    ask : callable
        Answers its calls, always the same way.
    items : tuple of str
        Some inputs.
    pool : Pool, optional
        By default the strategy's names at no price.
    xfail : mapping of str to str
        Check name to the reason why it cannot hold; strict.

    Raises
    ------
    InputError
        There are no items, or a reason is empty.
    """

    make: Callable[[], Strategy]
    ask: Ask
    items: tuple[str, ...]
    pool: Pool | None = None
    xfail: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.items:
            raise InputError("case.items", "hold an input", self.items, "Add one.")
        for name, reason in self.xfail.items():
            if not isinstance(reason, str) or not reason.strip():
                raise InputError(f"case.xfail[{name!r}]", "give a reason", reason, "Say why.")
        object.__setattr__(self, "xfail", MappingProxyType(dict(self.xfail)))


@dataclass
class StrategySubject:
    """A strategy under test."""

    case: StrategyCase
    card: Card

    @cached_property
    def strategy(self) -> Strategy:
        """Made once, shared by the checks."""
        return self.case.make()

    @cached_property
    def pool(self) -> Pool:
        """Where it may send."""
        return self.case.pool or Pool(names=tuple(self.strategy.names))

    def play(
        self,
        item: str,
        *,
        strategy: Strategy | None = None,
        ask: Ask | None = None,
        pool: Pool | None = None,
        price: float = 0.0,
    ) -> Played:
        """One play to its end; it must end by itself."""
        found = run(
            strategy or self.strategy,
            item,
            ask or self.case.ask,
            pool or self.pool,
            budget=Budget(price=price),
            rng=np.random.default_rng(7),
            limits=Limits(calls=MANY),
        )
        if found.stopped:
            raise ContractError(f"a play must end by itself; it made {MANY} calls on {item!r}")
        if not isinstance(found.answer, str):
            raise ContractError(f"a play must return a text; got {type(found.answer).__name__}")
        return found

    def plays(self, **how: Any) -> list[Played]:
        """One play of each item."""
        return [self.play(item, **how) for item in self.case.items]
