"""The price of spending, as it stands when a request is decided."""

from __future__ import annotations

from typing import Protocol, final

__all__ = ["FixedPrice", "Pace"]


class Pace(Protocol):
    """Says what a unit of cost is worth now, and learns what was really spent."""

    @property
    def price(self) -> float:
        """Quality to give up to save one unit of cost, >= 0."""
        ...

    def settle(self, cost: float) -> None:
        """Take in what one request has cost."""
        ...


@final
class FixedPrice:
    """The same price always.

    Parameters
    ----------
    price : float
    """

    def __init__(self, price: float = 0.0) -> None:
        self.price = price

    def settle(self, cost: float) -> None:
        """Nothing to learn."""
