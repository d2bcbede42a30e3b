"""A gate: accepts what scores high enough, rejects what scores too low, escalates the rest.

Guards, verifiers, cascades and other selective methods all end in a score and a threshold. The
threshold is set on n rows that the score was not learnt from. With s the scores, w in [0, 1] how
wrong each row would be if accepted, and A(t) the rows with s >= t::

    share     t = the greatest threshold with |A(t)| >= share * n              `accept_share`
    error     t = the least threshold with mean of w over A(t) <= error        `limit_error`
    sure      the same of an upper bound on that mean                          `limit_error`
    curve     every threshold: |A(t)| / n and mean of w over A(t)              `sweep`

*sure* tests sixteen shares fixed beforehand, 1/16 to all, each at a sixteenth of 1 - confidence
(`turnout.parts.guarantees.bounds`), and takes the greatest that passes. It stands for selective
guaranteed risk (Geifman, El-Yaniv, "Selective Classification for Deep Neural Networks", 2017,
arXiv:1705.08500, algorithm 1), whose search by halves lets the rows themselves choose what is
tested, so that its few tests do not quite cover the choice.

Rows that tie at a threshold pass together. A score that is NaN is below every number: it is never
accepted, and rejected wherever anything is.

Examples
--------
>>> import numpy as np
>>> scores, wrong = np.array([0.9, 0.8, 0.7, 0.4]), np.array([0.0, 0.0, 1.0, 0.0])
>>> accept_share(scores, 0.5).accept
0.8
>>> limit_error(scores, wrong, 0.25).accept
0.4
>>> Gate(accept=0.8, reject=0.5).decide(scores).tolist()
[1, 1, 0, -1]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.guarantees import bounds

__all__ = ["Curve", "Gate", "accept_share", "limit_error", "sweep"]

#: Shares of the rows that a sure gate is tested at.
_SHARES = 16


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Two thresholds on a score.

    Parameters
    ----------
    accept : float
        Least score that is accepted; infinity = none is.
    reject : float
        Scores below it are rejected; by default none is. At most `accept`.

    Raises
    ------
    InputError
        A threshold is NaN, or `reject` is above `accept`.
    """

    accept: float
    reject: float = -math.inf

    def __post_init__(self) -> None:
        for field in ("accept", "reject"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
                raise InputError(f"gate.{field}", "be a number", value, "Or leave it infinite.")
            if math.isnan(value):
                raise InputError(f"gate.{field}", "not be NaN", value, "Calibrate it first.")
            object.__setattr__(self, field, float(value))
        if self.reject > self.accept:
            hint = "Swap the two."
            raise InputError("gate.reject", f"be at most {self.accept:g}", self.reject, hint)

    def decide(self, scores: Float) -> Int:
        """1 where a score is accepted, -1 where it is rejected, 0 where it is escalated, (n,)."""
        scores = _scores(scores)
        low = (scores < self.reject) | (np.isnan(scores) & (self.reject > -math.inf))
        return np.where(scores >= self.accept, 1, np.where(low, -1, 0)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Curve:
    """What a gate does at every threshold, from accepting nothing to accepting all.

    Parameters
    ----------
    accept : array (p,)
        Thresholds, falling; the first is infinite.
    share : array (p,)
        Part of all rows that is accepted.
    error : array (p,)
        How wrong the accepted are on average; 0 where there is none.
    """

    accept: Float
    share: Float
    error: Float


def accept_share(scores: Float, share: float) -> Gate:
    """The strictest gate that accepts a share of the rows.

    Parameters
    ----------
    scores : array (n,)
        Of held-out rows, n >= 1. Those that are NaN count among the n; where too few are numbers
        for the share, all numbers are accepted.
    share : float
        In [0, 1].

    Raises
    ------
    InputError
        There is no row, or `share` is out of range.
    """
    share = _check.number("share", share, low=0.0, high=1.0)
    scores = _some(scores)
    # a hair less, so that 0.29 of 100 rows are 29
    count = math.ceil(share * len(scores) * (1 - 1e-12))
    falling = np.sort(scores[~np.isnan(scores)])[::-1]
    if count == 0 or len(falling) == 0:
        return Gate(accept=math.inf)
    return Gate(accept=float(falling[min(count, len(falling)) - 1]))


def sweep(scores: Float, wrong: Float) -> Curve:
    """Share and error of every threshold.

    Parameters
    ----------
    scores : array (n,)
        Of held-out rows, n >= 1.
    wrong : array (n,)
        In [0, 1].

    Raises
    ------
    InputError
        There is no row, shapes differ, or `wrong` is out of range.
    """
    scores = _some(scores)
    wrong = _check.floats("wrong", wrong, scores.shape, low=0.0, high=1.0)
    told = np.flatnonzero(~np.isnan(scores))
    order = told[np.argsort(-scores[told], kind="stable")]
    falling, total = scores[order], np.cumsum(wrong[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)[: len(order)])
    count = last + 1.0
    return Curve(
        np.append(np.inf, falling[last]),
        np.append(0.0, count / len(scores)),
        np.append(0.0, total[last] / count),
    )


def limit_error(
    scores: Float, wrong: Float, error: float, *, confidence: float | None = None
) -> Gate:
    """The gate that accepts most while the accepted are wrong at most so often.

    Parameters
    ----------
    scores : array (n,)
        Of held-out rows, n >= 1.
    wrong : array (n,)
        In [0, 1].
    error : float
        Most mean of `wrong` among the accepted, in [0, 1].
    confidence : float, optional
        Keep to `error` on new rows with this probability, in (0, 1). By default the held-out rows
        themselves keep to it.

    Returns
    -------
    Gate
        It accepts nothing where no threshold keeps to `error`.

    Raises
    ------
    InputError
        There is no row, shapes differ, or a value is out of range.
    """
    error = _check.number("error", error, low=0.0, high=1.0)
    curve = sweep(scores, wrong)
    if confidence is None:
        keeps = np.flatnonzero(curve.error <= error * (1 + 1e-12))
        return Gate(accept=float(curve.accept[keeps[-1]]))
    sure = _check.number("confidence", confidence)
    if not 0.0 < sure < 1.0:
        raise InputError("confidence", "lie between 0 and 1", confidence, "Such as 0.95.")
    n = len(_scores(scores))
    count = np.rint(curve.share * n).astype(np.int64)
    binary = bool(np.isin(np.asarray(wrong), (0.0, 1.0)).all())
    for step in range(_SHARES, 0, -1):
        # rows that tie with the last one of the share pass too
        point = int(np.searchsorted(count, step * n / _SHARES))
        if point >= len(count):
            continue  # as many have no score
        total = float(curve.error[point] * count[point])
        total = round(total) if binary else total
        delta = (1.0 - sure) / _SHARES
        if bounds.upper_bound(total, int(count[point]), delta, binary=binary) <= error:
            return Gate(accept=float(curve.accept[point]))
    return Gate(accept=math.inf)


def _scores(scores: Float) -> Float:
    array = np.asarray(scores, dtype=np.float64)
    _check.expect_shape("scores", array, (None,))
    return array


def _some(scores: Float) -> Float:
    array = _scores(scores)
    if len(array) == 0:
        raise InputError("scores", "hold at least one row", 0, "Hold out some rows.")
    return array
