"""The curves and points of a result, as every kind of plot draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from turnout.bench.bands import Band
from turnout.bench.landmarks import LABELS
from turnout.bench.results import Evaluation, Row

__all__ = [
    "MOST",
    "Point",
    "Series",
    "best_single",
    "curves",
    "dense",
    "heights",
    "log_scale",
    "points",
    "widths",
]

#: Methods drawn at most: more lines than this cannot be told apart.
MOST = 16

_DRAWN = ("zero_router", "prompt_length", "group_mean", "oracle")
#: Costs so many times apart are drawn on a logarithmic axis.
_APART = 5.0
#: Pieces that a straight line is drawn in on a logarithmic axis.
_BENDS = 24


@dataclass(frozen=True)
class Series:
    """A hull to draw: from its first point to the dearest cost, flat at the end.

    Parameters
    ----------
    name, label : str
    landmark : bool
    cost, quality : tuple of float
    aiq : float
    band : Band, optional
        Interval of its height.
    """

    name: str
    label: str
    landmark: bool
    cost: tuple[float, ...]
    quality: tuple[float, ...]
    aiq: float
    band: Band | None = None


@dataclass(frozen=True)
class Point:
    """A single destination."""

    name: str
    cost: float
    quality: float


def curves(evaluation: Evaluation, most: int = MOST) -> list[Series]:
    """Landmarks first, then the methods of highest AIQ, the highest first."""
    shown = [row for row in evaluation.rows if row.method in _DRAWN]
    ran = [row for row in evaluation.rows if not row.landmark and not math.isnan(row.aiq)]
    ran.sort(key=lambda row: -row.aiq)
    high = evaluation.cost_range[1]
    return [made for row in (*shown, *ran[:most]) if (made := _series(row, high)) is not None]


def best_single(evaluation: Evaluation) -> Point:
    """The destination of highest quality on its own, the cheaper of two that are as good."""
    cost, quality = evaluation.single_cost, evaluation.single_quality
    top = int(np.lexsort((cost, -quality))[0])
    return Point(evaluation.names[top], float(cost[top]), float(quality[top]))


def points(evaluation: Evaluation) -> tuple[list[Point], str]:
    """The single destinations within the picture, and what the legend says of them."""
    every = [
        Point(name, float(cost), float(quality))
        for name, cost, quality in zip(
            evaluation.names, evaluation.single_cost, evaluation.single_quality, strict=True
        )
    ]
    bottom = heights(evaluation)[0]
    shown = [point for point in every if point.quality >= bottom]
    below = len(every) - len(shown)
    return shown, "single destination" + (f" ({below} lie below)" if below else "")


def heights(evaluation: Evaluation) -> tuple[float, float]:
    """Least and greatest quality to draw: of the curves, with a little room.

    Single destinations far below every curve would press the curves together; they are left out
    of the picture and counted beside it.
    """
    drawn = [quality for one in curves(evaluation) for quality in one.quality]
    bottom, top = min(drawn), max(drawn)
    room = 0.06 * (top - bottom) or 0.01
    return max(0.0, bottom - room), min(1.0, top + room)


def dense(one: Series, logged: bool) -> list[tuple[float, float]]:
    """Points to draw; on a logarithmic axis a hull's straight lines are bent, so more of them."""
    pairs = list(zip(one.cost, one.quality, strict=True))
    if not logged:
        return pairs
    result = pairs[:1]
    for (c0, q0), (c1, q1) in pairwise(pairs):
        for k in range(1, _BENDS + 1):
            # evenly along the axis, so that the bends of a long line are not all at its dear end
            cost = c1 if k == _BENDS else c0 * (c1 / c0) ** (k / _BENDS)
            result.append((cost, q0 + (q1 - q0) * (cost - c0) / (c1 - c0) if c1 > c0 else q1))
    return result


def widths(evaluation: Evaluation) -> tuple[float, float]:
    """Least and greatest cost to draw: a router may pay less than any one destination."""
    low, high = evaluation.cost_range
    return min(low, *(one.cost[0] for one in curves(evaluation))), high


def log_scale(evaluation: Evaluation) -> bool:
    """Whether costs differ so much that only a logarithmic axis shows them all."""
    low, high = widths(evaluation)
    return low > 0 and high / low >= _APART


def _series(row: Row, high: float) -> Series | None:
    if row.frontier is None:
        return None
    hull = row.frontier.hull()
    cost, quality = list(map(float, hull.cost)), list(map(float, hull.quality))
    if cost[-1] < high:
        cost.append(high)
        quality.append(quality[-1])
    elif cost[0] < high < cost[-1]:  # a cascade may pay for more than the dearest destination
        end = float(np.interp(high, cost, quality))
        kept = [k for k, each in enumerate(cost) if each < high]
        cost, quality = [*(cost[k] for k in kept), high], [*(quality[k] for k in kept), end]
    elif cost[0] > high:
        return None  # dearer than every destination at its cheapest: not in the picture
    label = LABELS[row.method] if row.landmark else f"{row.method} ({row.aiq:.3f})"
    return Series(row.method, label, row.landmark, tuple(cost), tuple(quality), row.aiq, row.band)
