"""What a frontier is worth in numbers.

Two-destination measures follow RouteLLM (2024, arXiv:2406.18665): the share of calls that go to
the stronger destination on one axis, and on the other the *performance gap recovered*,
`PGR = (quality - weak) / (strong - weak)`. APGR is the area under that curve (a random mixture
has 0.5, and an oracle more than 1 where the weaker destination is sometimes the better), CPT(x)
the least share of strong calls that recovers x of the gap. RouteLLM samples ten thresholds; here
every threshold is taken, and items of equal score move together. The curve is the raw one,
without hull. AIQ, cost to match and hypervolume are `turnout.core.Frontier`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import Frontier
from turnout.core._check import Float

__all__ = [
    "BINS",
    "apgr",
    "cpt",
    "ece",
    "gap_closed",
    "hull_area",
    "recovery",
    "recovery_of_points",
    "resampled_aiq",
]

#: Bins of the calibration error.
BINS = 15


def ece(predicted: Float, true: Float, *, bins: int = BINS) -> float:
    """Expected calibration error of predicted qualities, over all seen cells.

    `sum_b n_b / n * |mean predicted in b - mean true in b|` over equally wide bins of the
    prediction (Guo et al. 2017, arXiv:1706.04599, equation 3).

    Parameters
    ----------
    predicted, true : array (n, m)
        In [0, 1]; cells where either is NaN are left out.

    Returns
    -------
    float
        NaN where no cell was seen.
    """
    seen = ~(np.isnan(predicted) | np.isnan(true))
    guess, truth = predicted[seen], true[seen]
    if len(guess) == 0:
        return math.nan
    which = np.minimum((guess * bins).astype(np.int64), bins - 1)
    gap = np.bincount(which, weights=guess - truth, minlength=bins)
    return float(np.abs(gap).sum() / len(guess))


def recovery(score: Float, weak: Float, strong: Float) -> tuple[Float, Float] | None:
    """Share of strong calls and gap recovered as the threshold on a score falls.

    Parameters
    ----------
    score : array (n,)
        The higher, the sooner an item goes to the stronger destination.
    weak, strong : array (n,)
        Quality of the two destinations on each item.

    Returns
    -------
    share, recovered : array (p,), or None
        From (0, 0) to (1, 1). None where the stronger is not stronger on average.
    """
    gap = float(strong.mean() - weak.mean())
    if gap <= 0:
        return None
    order = np.argsort(-score, kind="stable")
    gained = np.cumsum((strong - weak)[order]) / len(score) / gap
    last = np.append(np.diff(score[order]) != 0, True)  # equal scores move together
    share = (np.flatnonzero(last) + 1) / len(score)
    return np.append(0.0, share), np.append(0.0, gained[last])


def recovery_of_points(
    share: Float, quality: Float, weak: float, strong: float
) -> tuple[Float, Float] | None:
    """The same curve through a few points; both ends belong to it, because anybody reaches them.

    Parameters
    ----------
    share, quality : array (p,)
        Share of strong calls in [0, 1] and mean quality of each point.
    weak, strong : float
        Mean quality of the two destinations.
    """
    if strong <= weak:
        return None
    x = np.concatenate(([0.0], share, [1.0]))
    y = np.concatenate(([0.0], (quality - weak) / (strong - weak), [1.0]))
    order = np.lexsort((y, x))
    return x[order], y[order]


def apgr(share: Float, recovered: Float) -> float:
    """Area under the gap recovered, by trapezoids."""
    return float(np.trapezoid(recovered, share))


def cpt(share: Float, recovered: Float, target: float) -> float:
    """Least share of strong calls, in [0, 1], that recovers `target` of the gap; NaN if none."""
    reached = np.flatnonzero(recovered >= target)
    if len(reached) == 0:
        return math.nan
    i = int(reached[0])
    if i == 0:
        return float(share[0])
    rise = recovered[i] - recovered[i - 1]
    part = (target - recovered[i - 1]) / rise
    return float(share[i - 1] + part * (share[i] - share[i - 1]))


def gap_closed(aiq: float, floor: float, ceiling: float) -> float:
    """Share of the way from one AIQ to another; NaN where there is no way between them."""
    return (aiq - floor) / (ceiling - floor) if ceiling > floor else math.nan


def hull_area(cost: Sequence[float], quality: Sequence[float], low: float, high: float) -> float:
    """AIQ of a few points, `Frontier.aiq` without its checks: for resampling.

    Parameters
    ----------
    cost, quality : sequence of float (p,)
    low, high : float
        The range of costs, low < high.
    """
    kept_x: list[float] = []
    kept_y: list[float] = []
    for x, y in sorted(zip(cost, quality, strict=True), key=lambda point: (point[0], -point[1])):
        if kept_y and y <= kept_y[-1]:
            continue
        while len(kept_x) >= 2 and (kept_y[-1] - kept_y[-2]) * (x - kept_x[-2]) <= (
            y - kept_y[-2]
        ) * (kept_x[-1] - kept_x[-2]):
            kept_x.pop()
            kept_y.pop()
        kept_x.append(x)
        kept_y.append(y)
    if kept_x[0] >= high:
        return 0.0
    kept_x.append(max(high, kept_x[-1]))
    kept_y.append(kept_y[-1])
    area = 0.0
    for x0, y0, x1, y1 in zip(kept_x, kept_y, kept_x[1:], kept_y[1:], strict=False):
        left, right = max(x0, low), min(x1, high)
        if right > left:
            slope = (y1 - y0) / (x1 - x0)
            area += (right - left) * (y0 + slope * ((left + right) / 2 - x0))
    return area / (high - low)


def resampled_aiq(
    sweeps: Sequence[tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]],
    single_cost: Float,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> Float:
    """AIQ of several policies on the same bootstrap samples of the rows, paired.

    What was fitted is not fitted again: the intervals tell what another sample of rows would
    have shown of these routers, not of this way of fitting. The range of costs is taken from
    each sample, as it is from the whole.

    Parameters
    ----------
    sweeps : sequence of (cost (n, p), quality (n, p))
        Of each row under each setting of a policy's knob; p may differ.
    single_cost : array (n, m)
        Cost of always choosing each destination.
    resamples : int

    Returns
    -------
    array (resamples, len(sweeps))
    """
    n = len(single_cost)
    result = np.empty((resamples, len(sweeps)))
    chunk = max(1, min(resamples, 4_000_000 // n))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        weights = np.empty((size, n), dtype=np.float32)
        for b in range(size):
            weights[b] = np.bincount(rng.integers(0, n, n), minlength=n)
        weights /= n
        single = weights @ single_cost.astype(np.float32)
        low, high = single.min(axis=1), single.max(axis=1)
        for which, (cost, quality) in enumerate(sweeps):
            x = (weights @ cost.astype(np.float32)).tolist()
            y = (weights @ quality.astype(np.float32)).tolist()
            for b in range(size):
                if high[b] > low[b]:
                    area = hull_area(x[b], y[b], float(low[b]), float(high[b]))
                else:
                    area = float(Frontier(x[b], y[b]).quality_at(float(low[b])))
                result[start + b, which] = area
    return result
