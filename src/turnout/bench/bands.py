"""The bootstrap band of a frontier: between which heights it lies on other samples of the rows.

Rows are drawn with replacement (Efron, "Bootstrap methods: another look at the jackknife", 1979,
doi:10.1214/aos/1176344552, section 2), and the interval is that of percentiles. On each sample
the policies of a sweep have other means, and the hull of those is read off at fixed costs. What
was fitted is not fitted again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Frontier, _check
from turnout.core._check import Float

__all__ = ["Band", "frontier_band"]

#: Costs at which a band is read off.
_PLACES = 64
#: Numbers held at once while rows are drawn.
_CELLS = 4_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Band:
    """Pointwise 95 % interval of a hull's height.

    Parameters
    ----------
    cost : array (g,)
        Not decreasing.
    low, high : array (g,)
        Quality.
    resamples : int
        Samples it was read off, >= 1.

    Raises
    ------
    InputError
        Lengths differ or a value is not finite.
    """

    cost: Float
    low: Float
    high: Float
    resamples: int

    def __post_init__(self) -> None:
        cost = _check.floats("band.cost", self.cost, (None,))
        object.__setattr__(self, "cost", cost)
        object.__setattr__(self, "low", _check.floats("band.low", self.low, cost.shape))
        object.__setattr__(self, "high", _check.floats("band.high", self.high, cost.shape))
        _check.integer("band.resamples", self.resamples, low=1)


def frontier_band(
    cost: NDArray[np.floating[Any]],
    quality: NDArray[np.floating[Any]],
    frontier: Frontier,
    high: float,
    *,
    resamples: int,
    rng: Generator,
) -> Band:
    """The band of one policy's hull.

    Parameters
    ----------
    cost, quality : array (n, p)
        Of each row under p settings of the knob, among them the vertices of the hull.
    frontier : Frontier
        Every point it reaches on all rows. The band is moved by what the p settings leave out of
        its hull, so that it lies around the curve it belongs to.
    high : float
        Greatest cost to tell of.
    resamples : int
    rng : Generator
    """
    n = len(cost)
    hull = frontier.hull()
    start = float(hull.cost[0])
    at = _places(start, max(high, start))
    kept = Frontier(cost.mean(axis=0, dtype=float), quality.mean(axis=0, dtype=float)).hull()
    left_out = hull.quality_at(at) - np.interp(at, kept.cost, kept.quality)
    heights = np.empty((resamples, len(at)))
    chunk = max(1, min(resamples, _CELLS // n))
    for first in range(0, resamples, chunk):
        size = min(chunk, resamples - first)
        weights = np.empty((size, n), dtype=np.float32)
        for b in range(size):
            weights[b] = np.bincount(rng.integers(0, n, n), minlength=n)
        weights /= n
        x = np.maximum(weights @ cost.astype(np.float32), 0.0)
        y = weights @ quality.astype(np.float32)
        for b in range(size):
            sample = Frontier(x[b], y[b]).hull()
            # to the left of its first point a sample's hull is as good as that point
            heights[first + b] = np.interp(at, sample.cost, sample.quality)
    low, top = np.quantile(heights, [0.025, 0.975], axis=0) + left_out
    return Band(cost=at, low=low, high=top, resamples=resamples)


def _places(low: float, high: float) -> Float:
    """Costs from low to high, closer together at the cheap end, where a hull is steep."""
    return low + (high - low) * np.linspace(0.0, 1.0, _PLACES) ** 2
