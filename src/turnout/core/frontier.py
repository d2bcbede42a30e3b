"""Frontier: what each budget buys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.core import _check
from turnout.core._check import Float
from turnout.core.errors import InputError

__all__ = ["Frontier"]


@dataclass(frozen=True, eq=False)
class Frontier:
    """Points (cost, quality) a router reaches as its knob is swept.

    Two routers can be mixed at random, so every point below the upper convex hull is reachable;
    money can be wasted, so the hull does not decrease (RouterBench, 2024, arXiv:2403.12031,
    section 3).

    Parameters
    ----------
    cost : array (p,)
        Mean cost per item of each point, >= 0.
    quality : array (p,)
        Mean quality of each point.
    knob : array (p,), optional
        Setting that gives each point.

    Raises
    ------
    InputError
        Lengths differ, there is no point, or a value is not finite.
    """

    cost: Float
    quality: Float
    knob: Float | None = None

    def __post_init__(self) -> None:
        cost = _check.floats("frontier.cost", self.cost, (None,), low=0.0)
        if len(cost) == 0:
            raise InputError("frontier.cost", "hold at least one point", 0, "Sweep the knob.")
        object.__setattr__(self, "cost", cost)
        quality = _check.floats("frontier.quality", self.quality, (len(cost),))
        object.__setattr__(self, "quality", quality)
        if self.knob is not None:
            knob = _check.floats("frontier.knob", self.knob, (len(cost),), inf=True)
            object.__setattr__(self, "knob", knob)

    def __len__(self) -> int:
        return len(self.cost)

    def hull(self) -> Frontier:
        """The non-decreasing upper convex hull, by increasing cost (monotone chain)."""
        order = np.lexsort((-self.quality, self.cost))
        kept: list[int] = []
        for i in order:
            if kept and self.quality[i] <= self.quality[kept[-1]]:
                continue  # dearer (or equal) and no better: dominated
            while len(kept) >= 2 and self._bulges_down(kept[-2], kept[-1], int(i)):
                kept.pop()
            if kept and self.cost[i] == self.cost[kept[-1]]:
                kept[-1] = int(i)
            else:
                kept.append(int(i))
        knob = None if self.knob is None else self.knob[kept]
        return Frontier(self.cost[kept], self.quality[kept], knob)

    def _bulges_down(self, a: int, b: int, c: int) -> bool:
        """Whether point b lies on or below the segment from a to c."""
        left = (self.quality[b] - self.quality[a]) * (self.cost[c] - self.cost[a])
        right = (self.quality[c] - self.quality[a]) * (self.cost[b] - self.cost[a])
        return bool(left <= right)

    def quality_at(self, cost: Float | float) -> Float:
        """Quality of the hull at a mean cost: 0 left of its first point, flat right of its last."""
        hull = self.hull()
        return np.asarray(np.interp(cost, hull.cost, hull.quality, left=0.0))

    def aiq(self, cost_range: tuple[float, float]) -> float:
        """Average quality of the hull over a range of costs ("AIQ").

        `1 / (high - low) * integral of hull(c) dc`. Compare routers over one shared range,
        normally the cheapest to the dearest single destination. A router that has no point as
        cheap as `low` earns 0 there. A range of no width gives the quality at that cost.
        """
        low = _check.number("cost_range[0]", cost_range[0], low=0.0)
        high = _check.number("cost_range[1]", cost_range[1], low=low)
        if high == low:
            return float(self.quality_at(low))
        hull = self.hull()
        first = hull.cost[0]
        if first >= high:
            return 0.0
        inside = hull.cost[(hull.cost > max(low, first)) & (hull.cost < high)]
        grid = np.concatenate(([max(low, first)], inside, [high]))
        values = np.interp(grid, hull.cost, hull.quality)
        return float(np.trapezoid(values, grid) / (high - low))

    def cost_to_match(self, quality: float) -> float:
        """Least mean cost at which the hull reaches `quality`; NaN where it never does."""
        hull = self.hull()
        if quality > hull.quality[-1]:
            return float("nan")
        if quality <= hull.quality[0]:
            return float(hull.cost[0])
        return float(np.interp(quality, hull.quality, hull.cost))

    def hypervolume(self, reference: tuple[float, float]) -> float:
        """Area that the raw points dominate, up to `reference = (cost, quality)`.

        Without mixing: a staircase, not the hull. Points beyond the reference add nothing.
        """
        ceiling, floor = reference
        order = np.lexsort((-self.quality, self.cost))
        area, best = 0.0, float(floor)
        for i in order:
            if self.cost[i] < ceiling and self.quality[i] > best:
                area += (ceiling - self.cost[i]) * (self.quality[i] - best)
                best = float(self.quality[i])
        return float(area)

    def __repr__(self) -> str:
        return (
            f"Frontier({len(self)} points, cost {self.cost.min():.3g} to {self.cost.max():.3g}, "
            f"quality {self.quality.min():.3f} to {self.quality.max():.3f})"
        )
