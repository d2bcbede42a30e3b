"""Token elasticity of performance: quality gained, in per cent, for tokens spent, in per cent.

From EllieSQL, 2025, arXiv:2503.22402. With P and T the quality and the tokens an item of a method,
and P0 and T0 those of a base method::

    TEP = ((P - P0) / P0) / ((T - T0) / T0)
    PGR = (P - P0) / (P1 - P0)                    P1 of the dearest: the gap recovered
    penalised accuracy = (right - f * too cheap) / n

TEP is an elasticity, higher is better, only while P > P0 and T > T0: a method that is better *and*
cheaper has a negative one. So the quadrant stands beside the number, and P and T should, too.

Examples
--------
>>> found = tep(quality=55.0, tokens=2000.0, base_quality=50.0, base_tokens=1000.0)
>>> round(found.value, 3), found.quadrant
(0.1, 'better and dearer')
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError, _check

__all__ = ["Elasticity", "penalised_accuracy", "pgr", "tep"]


@dataclass(frozen=True)
class Elasticity:
    """An elasticity and where it lies.

    Parameters
    ----------
    value : float
        NaN where the tokens are those of the base.
    quadrant : str
        Such as "better and dearer", the one in which higher is better.
    """

    value: float
    quadrant: str


def tep(quality: float, tokens: float, *, base_quality: float, base_tokens: float) -> Elasticity:
    """Elasticity of a method against a base.

    Parameters
    ----------
    quality, base_quality : float
        In one and the same unit; the base's is above 0.
    tokens, base_tokens : float
        Mean tokens an item with those of the router, >= 0; the base's are above 0.

    Raises
    ------
    InputError
        A figure is not finite, is below 0, or a base is 0.
    """
    p, t = _check.number("quality", quality, low=0.0), _check.number("tokens", tokens, low=0.0)
    p0 = _check.number("base_quality", base_quality, low=0.0)
    t0 = _check.number("base_tokens", base_tokens, low=0.0)
    for name, value in (("base_quality", p0), ("base_tokens", t0)):
        if value == 0.0:
            raise InputError(name, "be above 0", value, "An elasticity is relative to it.")
    gain, extra = (p - p0) / p0, (t - t0) / t0
    how = ("worse", "as good", "better")[int(np.sign(gain)) + 1]
    dear = ("cheaper", "as dear", "dearer")[int(np.sign(extra)) + 1]
    return Elasticity(gain / extra if extra else math.nan, f"{how} and {dear}")


def pgr(quality: float, *, cheapest: float, dearest: float) -> float:
    """Share of the gap between the cheapest and the dearest method that is recovered.

    Returns
    -------
    float
        NaN where there is no gap.
    """
    gap = dearest - cheapest
    return (quality - cheapest) / gap if gap else math.nan


def penalised_accuracy(
    label: Sequence[int] | NDArray[np.integer[Any]],
    tier: Sequence[int] | NDArray[np.integer[Any]],
    *,
    penalty: float,
) -> float:
    """Accuracy of tiers, less a penalty for each dearer item sent to the cheapest.

    Parameters
    ----------
    label, tier : sequence of int (n,)
        The first tier that solves each item, and the one it was sent to; 0 is the cheapest.
    penalty : float
        >= 0; 0.1 and 0.25 in the paper's code.

    Raises
    ------
    InputError
        Lengths differ or are 0.
    """
    true, told = np.asarray(label), np.asarray(tier)
    if true.ndim != 1 or true.shape != told.shape or not len(true):
        raise InputError("tier", f"have the shape {true.shape} of label", told.shape, "Align them.")
    factor = _check.number("penalty", penalty, low=0.0)
    cheap = (told == 0) & (true > 0)
    return float((true == told).mean() - factor * cheap.mean())
