"""Assignment: who goes where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnout.core._arrays import namespace
from turnout.core.errors import InputError

__all__ = ["Assignment"]


@dataclass(frozen=True, eq=False)
class Assignment:
    """Who goes where, and with what weight.

    Three fields and no options. Arrays may be numpy or torch; the methods answer in kind.

    Parameters
    ----------
    index : integer array (n, k)
        Destination of each choice, 0 to m - 1; -1 = none.
    weight : float array (n, k)
        Share of each choice; >= 0, and 0 where index is -1. Rows need not sum to one.
    m : int
        Number of destinations.

    Raises
    ------
    InputError
        Shapes differ, an index lies outside -1 ... m - 1, or a weight is negative or not finite.
    """

    index: Any
    weight: Any
    m: int

    def __post_init__(self) -> None:
        xp = namespace(self.index, self.weight)
        if self.index.ndim != 2 or tuple(self.index.shape) != tuple(self.weight.shape):
            shapes = (tuple(self.index.shape), tuple(self.weight.shape))
            raise InputError(
                "assignment.index and weight", "share one shape (n, k)", shapes, "Reshape them."
            )
        if not xp.is_integer(self.index):
            raise InputError("assignment.index", "hold integers", self.index.dtype, "Cast it.")
        if self.index.shape[0] == 0 or self.index.shape[1] == 0:
            return
        low, high = int(self.index.min()), int(self.index.max())
        if low < -1 or high >= self.m:
            wrong = low if low < -1 else high
            rule = f"lie in [-1, {self.m - 1}]"
            raise InputError("assignment.index", rule, wrong, "-1 stands for no destination.")
        bad = ~xp.isfinite(self.weight) | (self.weight < 0)
        if bool(bad.any()):
            value = float(self.weight[bad][0])
            raise InputError("assignment.weight", "be finite and >= 0", value, "Clip or drop it.")
        stray = (self.index < 0) & (self.weight > 0)
        if bool(stray.any()):
            value = float(self.weight[stray][0])
            hint = "Set the weight to 0 where nothing is chosen."
            raise InputError("assignment.weight", "be 0 where index is -1", value, hint)

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.index.shape[0])

    @property
    def k(self) -> int:
        """Choices an item."""
        return int(self.index.shape[1])

    def load(self) -> Any:
        """Total weight each destination receives, (m,)."""
        return self.dense().sum(0)

    def count(self) -> Any:
        """Number of items each destination receives, (m,), integer."""
        xp = namespace(self.index, self.weight)
        chosen = self.index[self.index >= 0]
        return xp.bincount(chosen, self.m)

    def dense(self) -> Any:
        """Weights as a matrix (n, m); several choices of one destination add up."""
        xp = namespace(self.index, self.weight)
        return xp.scatter(self.index, self.weight, self.m)
