"""A request that was let in, and what it has in common with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import orjson

from turnout.serve.money.estimate import Estimator
from turnout.serve.money.prices import Price, Tariff
from turnout.serve.money.purse import Purse
from turnout.serve.money.rates import Rate
from turnout.serve.money.reading import id_text
from turnout.serve.money.units import Pico

__all__ = ["Hold", "Lane"]


@final
class Lane:
    """What all requests of one key to one destination have in common.

    Parameters
    ----------
    key, destination : str
    purses : tuple of Purse
        Those they touch.
    tariff : Tariff
    estimator : Estimator
    """

    __slots__ = ("budgets", "destination", "estimator", "key", "purses", "tail", "tariff")

    def __init__(
        self,
        key: str,
        destination: str,
        purses: tuple[Purse, ...],
        tariff: Tariff,
        estimator: Estimator,
    ) -> None:
        self.key = key
        self.destination = destination
        self.purses = purses
        self.tariff = tariff
        self.estimator = estimator
        self.budgets = [purse.rule.name for purse in purses]
        cells = [purse.own for purse in purses]
        self.tail = orjson.dumps([cells, key, destination, self.budgets])


@final
class Hold:
    """A request that was let in, and the money set aside for it.

    Attributes
    ----------
    id : int
    model : str
        What was asked for.
    amount : int
        Pico-dollars reserved.
    cost : int or None
        Pico-dollars it has cost; None until it is closed.
    estimated : bool
        The cost was not told but estimated.
    input_tokens, output_tokens : int
        Predicted.
    """

    __slots__ = (
        "_move", "amount", "cap", "chars", "choices", "cost", "estimated", "id", "input_tokens",
        "lane", "model", "moves", "ms", "output_tokens", "price", "slot", "stream", "tags",
        "token_rates",
    )  # fmt: skip

    _move: Callable[[Hold, str], None]
    amount: Pico
    cap: int | None
    chars: int
    choices: int
    cost: Pico | None
    estimated: bool
    id: int
    input_tokens: int
    lane: Lane
    model: str
    moves: int
    ms: int
    output_tokens: int
    price: Price
    slot: int
    stream: bool
    tags: list[int]
    token_rates: Sequence[Rate]

    @property
    def key(self) -> str:
        """Name of the key that asks."""
        return self.lane.key

    @property
    def destination(self) -> str:
        """Who is to answer."""
        return self.lane.destination

    @property
    def name(self) -> str:
        """The id as clients see it."""
        return id_text(self.id)

    def move(self, destination: str) -> None:
        """Hold money for another destination instead; all or nothing.

        Raises
        ------
        OverBudgetError, JournalFullError
            As `Books.open`; the old reservation stands.
        """
        self._move(self, destination)
