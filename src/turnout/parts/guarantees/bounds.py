"""Bounds on a mean that hold whatever the distribution, from n independent values in a range.

A test of "the mean is above alpha" that errs with probability delta at most, and the bound that
is the same test turned round: the least mean above which the test calls every mean too high. With
x the values, R their mean (`total / n`) and Bin a binomial variable::

    binary   p = P(Bin(n, alpha) <= n R)                                   exact
    bounded  p = min(e^(-n h1(min(R, alpha), alpha)), e P(Bin(n, alpha) <= ceil(n R)))
             h1(a, b) = a log(a / b) + (1 - a) log((1 - a) / (1 - b))
    bets     p = 1 / W,  W = mean over stakes s of prod_i (1 + s (alpha - x_i))

*binary*, for values 0 or 1, is the tail itself, and its bound that of Clopper and Pearson (1934).
*bounded*, for values in [0, 1], is the Hoeffding-Bentkus p-value (Angelopoulos, Bates, Candes,
Jordan, Lei, "Learn then Test", 2021, arXiv:2110.01052, section 2.2). *bets*, for values in a range
of any width w, is the betting test (Waudby-Smith, Ramdas, "Estimating means of bounded random
variables by betting", 2020, arXiv:2010.09686): W is what one unit of money has become by bets that
are fair or worse if the mean is above alpha, so that it reaches 1 / delta with probability delta at
most. It feels how far the values are spread, as the others do not, and is the one to take for
differences, most of which are zero. Differs from the paper: the stakes do not follow the rows, but
are the same few for all, from 1 / w by halves down to where they would suit values spread over the
whole range; so the order of the rows does not matter.

Examples
--------
>>> round(p_value(2, 100, 0.1, binary=True), 4)
0.0019
>>> round(upper_bound(2, 100, 0.05, binary=True), 4)
0.0616
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from turnout.core._check import Float

__all__ = [
    "betting_bound",
    "largest_total",
    "least_rows",
    "log_wealth",
    "p_value",
    "stakes",
    "upper_bound",
]

#: Halvings of an interval of numbers: more than a float tells apart.
_HALVINGS = 60
#: Most rows ever called for; what needs more cannot be had.
_MOST_ROWS = 10**9


def p_value(total: float, n: int, alpha: float, *, binary: bool) -> float:
    """Probability of a sum this low, or a bound on it, if the mean were above `alpha`.

    Parameters
    ----------
    total : float
        Sum of the n values.
    n : int
        How many, >= 1.
    alpha : float
        In [0, 1].
    binary : bool
        Every value is 0 or 1, by what it is and not by the luck of this sample.
    """
    from scipy.special import bdtr, rel_entr

    if alpha >= 1.0:
        return 0.0  # no mean is above 1
    if binary:
        return float(bdtr(math.floor(total), n, alpha))
    mean = min(total / n, alpha)
    hoeffding = math.exp(-n * float(rel_entr(mean, alpha) + rel_entr(1 - mean, 1 - alpha)))
    # a sum of parts may lie a rounding error above a whole number
    bentkus = math.e * float(bdtr(min(math.ceil(total - 1e-9), n), n, alpha))
    return min(hoeffding, bentkus)


def largest_total(n: int, alpha: float, delta: float, *, binary: bool) -> float:
    """Largest sum of n values whose `p_value` is at most `delta`; -1 where not even 0 is."""

    def passes(total: float) -> bool:
        return p_value(total, n, alpha, binary=binary) <= delta

    if not passes(0.0):
        return -1.0
    if binary:
        low, high = 0, n + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if passes(middle) else (low, middle)
        return float(low)
    return _edge(passes, 0.0, float(n))


def upper_bound(total: float, n: int, delta: float, *, binary: bool) -> float:
    """The mean is at most this with probability 1 - `delta`.

    Parameters
    ----------
    total : float
        Sum of the n values.
    n : int
    delta : float
        In (0, 1).
    binary : bool
        As for `p_value`.
    """
    from scipy.special import betaincinv

    if binary:
        wrong = math.floor(total)
        return 1.0 if wrong >= n else float(betaincinv(wrong + 1, n - wrong, 1 - delta))
    # from 1 downwards, where the test says "not above", to where it no longer does
    return 1.0 - _edge(
        lambda step: p_value(total, n, 1.0 - step, binary=False) <= delta, 0.0, 1.0 - total / n
    )


def stakes(n: int, delta: float, *, width: float) -> Float:
    """Stakes of the betting test, (k,): a fixed few, in the unit one by the values.

    Parameters
    ----------
    n : int
        Number of values.
    delta : float
        In (0, 1).
    width : float
        Of the range of the values, which must be known beforehand.
    """
    least = 2.0 * math.sqrt(2.0 * math.log(1.0 / delta) / n)
    halvings = max(math.ceil(math.log2(1.0 / least)), 0) if least < 1.0 else 0
    # a hair less than 1 / width, so that no bet can lose all
    return np.asarray(0.999 * 0.5 ** np.arange(halvings + 1) / width)


def log_wealth(logs: Float) -> Float:
    """Logarithm of what the bets have made of one unit, (p,).

    Parameters
    ----------
    logs : array (k, p)
        Sum over the values of log(1 + s (alpha - x)), for k stakes and p samples.
    """
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - math.log(len(logs)))


def betting_bound(values: Float, delta: float, *, low: float, high: float) -> float:
    """The mean is at most this with probability 1 - `delta`.

    Parameters
    ----------
    values : array (n,)
        In [low, high].
    delta : float
        In (0, 1).
    low, high : float
        The range, known beforehand.
    """
    stake = stakes(len(values), delta, width=high - low)
    level, count = np.unique(values, return_counts=True)

    def rich(step: float) -> bool:
        logs: Float = np.log1p(stake[:, None] * (high - step - level)) @ count.astype(np.float64)
        return bool(log_wealth(logs[:, None])[0] >= math.log(1.0 / delta))

    return high - _edge(rich, 0.0, high - float(values.mean())) if rich(0.0) else high


def least_rows(passes: Callable[[int], bool], above: int) -> int | None:
    """Least number of rows over `above` that passes, to within the steps of a binomial.

    Parameters
    ----------
    passes : callable
        False up to some number, then true, but for the steps.
    above : int
        A number that does not pass, >= 0.

    Returns
    -------
    int or None
        None where a thousand million do not.
    """
    low, high = above, max(2 * above, 2)
    while not passes(high):
        if high > _MOST_ROWS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _edge(passes: Callable[[float], bool], low: float, high: float) -> float:
    """The last number from `low`, which passes, towards `high` that passes."""
    if passes(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low
