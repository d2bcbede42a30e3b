"""What an answer will cost, before it is asked for: a line in the length of the input.

Prices are per token, so the cost of reading grows with the input; what will be written is not
known beforehand and enters as its mean. One straight line a destination is what that gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from turnout.core import Inputs, Outcomes, _check
from turnout.core._check import Float

__all__ = ["CostModel", "fit_costs", "lengths"]


def lengths(inputs: Inputs) -> Float:
    """Characters of each text, (n,); 0 for inputs that are no text."""
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        return np.zeros(len(inputs))
    return np.array([len(text) for text in inputs], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class CostModel:
    """Expected cost of an answer: `max(floor, base + slope * characters)`.

    Parameters
    ----------
    base : array (m,)
        Cost at length zero.
    slope : array (m,)
        Cost per character of input, >= 0.
    floor : array (m,)
        Least cost ever predicted: the least one seen.
    """

    base: Float
    slope: Float
    floor: Float
    _lines: tuple[tuple[float, float, float], ...] = field(init=False, repr=False)
    _level: list[float] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        m = len(self.base)
        object.__setattr__(self, "base", _check.floats("costs.base", self.base, (m,)))
        object.__setattr__(self, "slope", _check.floats("costs.slope", self.slope, (m,), low=0))
        object.__setattr__(self, "floor", _check.floats("costs.floor", self.floor, (m,), low=0))
        lines = zip(self.base.tolist(), self.slope.tolist(), self.floor.tolist(), strict=True)
        object.__setattr__(self, "_lines", tuple(lines))
        level = None if self.slope.any() else np.maximum(self.base, self.floor).tolist()
        object.__setattr__(self, "_level", level)

    def predict_one(self, characters: int) -> list[float]:
        """Expected cost of one text of this length, m numbers, equal to `predict`."""
        if self._level is not None:  # the same for every length
            return list(self._level)
        return [
            line if (line := base + characters * slope) > floor else floor
            for base, slope, floor in self._lines
        ]

    def lines(self, columns: Sequence[int] | None = None) -> Float:
        """Cost at length zero, per character and at least, (3, m), of some destinations or all."""
        found = np.stack((self.base, self.slope, self.floor))
        return found if columns is None else np.ascontiguousarray(found[:, list(columns)])

    def predict(self, inputs: Inputs) -> Float:
        """Expected cost (n, m) >= 0."""
        line = self.base + lengths(inputs)[:, None] * self.slope
        return np.asarray(np.maximum(line, self.floor))


def fit_costs(outcomes: Outcomes) -> CostModel:
    """Least squares over the seen cells, one line a destination.

    A slope is kept only where it is positive and explains at least 1 % of the variance: costs
    that do not follow the length are better told by their mean. A destination whose cost was
    never seen is expected to cost nothing.
    """
    x = lengths(outcomes.inputs)
    m = outcomes.m
    base, slope, floor = np.zeros(m), np.zeros(m), np.zeros(m)
    for j in range(m):
        cost = outcomes.cost[:, j]
        seen = ~np.isnan(cost)
        if not seen.any():
            continue
        y, length = cost[seen], x[seen]
        base[j], floor[j] = y.mean(), y.min()
        spread = length.var() * y.var()
        covariance = ((length - length.mean()) * (y - y.mean())).mean()
        if covariance > 0 and covariance**2 > 0.01 * spread > 0:
            slope[j] = covariance / length.var()
            base[j] = y.mean() - slope[j] * length.mean()
    return CostModel(base, slope, floor)
