"""Replays a table as a stream: one request after another, paced, each cost known only later."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts import prices
from turnout.parts.pacing import Pacer

__all__ = ["Replay", "replay"]


class Replay(NamedTuple):
    """What was decided.

    Attributes
    ----------
    choice : array of int (n,)
        Destination of each request.
    price : array (n,)
        Price each was decided at.
    """

    choice: Int
    price: Float


def replay(
    pacer: Pacer,
    quality: Float,
    cost: Float,
    actual: Float,
    *,
    delay: int | Int = 0,
    up: Bool | None = None,
) -> Replay:
    """Send the rows of a table through a pacer, in order.

    Parameters
    ----------
    pacer : Pacer
        Is advanced; after the last row the costs still outstanding are settled.
    quality, cost : array (n, m)
        Predictions.
    actual : array (n, m)
        True cost of each cell, >= 0.
    delay : int or array of int (n,)
        Requests that are decided before a cost becomes known; 0 = before the next one. Delays
        that differ let costs arrive out of order.
    up : array of bool (m,), optional
        Destinations that may be chosen.

    Raises
    ------
    InputError
        Shapes differ, or a value is out of range.
    """
    quality = _check.floats("quality", quality, (None, None))
    cost = _check.floats("cost", cost, quality.shape, low=0.0)
    actual = _check.floats("actual", actual, quality.shape, low=0.0)
    n = len(quality)
    delays = np.asarray(delay) if np.ndim(delay) else np.full(n, delay)
    if delays.shape != (n,) or not np.issubdtype(delays.dtype, np.integer) or (delays < 0).any():
        rule = f"be a whole number >= 0, or {n} of them"
        raise InputError("delay", rule, delay, "Count it in requests.")
    due: defaultdict[int, list[tuple[float, float]]] = defaultdict(list)
    choice = np.empty(n, dtype=np.int64)
    paid = np.empty(n)
    for i in range(n):
        paid[i] = pacer.price
        j = int(prices.choose(quality[i : i + 1], cost[i : i + 1], paid[i], up)[0])
        choice[i] = j
        expected = float(cost[i, j])
        pacer.decided(expected)
        due[i + int(delays[i])].append((expected, float(actual[i, j])))
        for late in due.pop(i, ()):
            pacer.settled(*late)
    for moment in sorted(due):
        for late in due[moment]:
            pacer.settled(*late)
    return Replay(choice, paid)
