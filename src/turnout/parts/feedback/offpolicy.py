"""Tells from a log of single choices what another way of choosing would have earned and spent.

In row i of a log one destination a was chosen, with a known probability p_i, and its quality (or
cost) r_i was seen; nothing is known of the others. A policy sends row i to destination j with
probability pi[i, j]. Equations, with the variable of each symbol::

    v_i     = min(1 / p_i, clip)                              weight of the cell seen (n,)
    w_i     = pi[i, a_i] v_i                                  weight of the row (n,)
    IPS     = mean_i w_i r_i
    SNIPS   = sum_i w_i r_i / sum_i w_i
    g[i, j] = rhat[i, j] + [j = a_i] v_i (r_i - rhat[i, a_i])  `credit` (n, m)
    DR      = mean_i sum_j pi[i, j] g[i, j]                   rhat (n, m) predicted out of fold
    ESS     = (sum_i w_i)^2 / sum_i w_i^2                     effective sample size

IPS is unbiased where the propensities are right and nothing is clipped. SNIPS has a bias of order
1 / n and is never outside what was seen. DR is unbiased where the propensities *or* the predictions
are right, and varies less the better the predictions are. IPS is DR with a prediction of zero, so
that all three read one table, `credit`: its mean over the cells that a policy chooses is the
estimate.

Intervals are normal: value +- 1.96 standard errors, the standard error being that of a mean of n
terms for IPS and DR, and `sqrt(sum_i w_i^2 (r_i - SNIPS)^2) / sum_i w_i` for SNIPS. They say
nothing of the bias of clipping, and are too narrow where ESS is small: how often they hold is
measured in `benchmarks/feedback.py`.

Sources: Dudik, Langford and Li, "Doubly Robust Policy Evaluation and Learning", 2011,
arXiv:1103.4601, section 2 (IPS and DR); Swaminathan and Joachims, "The Self-Normalized Estimator
for Counterfactual Learning", NeurIPS 2015 (SNIPS); Su, Dimakopoulou, Krishnamurthy and Dudik,
"Doubly robust off-policy evaluation with shrinkage", 2019, arXiv:1907.09623 (clipping the weight of
DR). What differs: 1 / p is clipped and not pi / p, so that an estimate is linear in the policy; the
two are equal where a policy sends each row to one destination. Cost: O(n m) an estimate.

Examples
--------
>>> import numpy as np
>>> from turnout.parts.feedback.logged import Log
>>> log = Log(
...     names=("small", "large"),
...     chosen=np.array([0, 0, 1, 1]),
...     quality=np.array([1.0, 0.0, 1.0, 1.0]),
...     cost=np.array([1.0, 1.0, 9.0, 9.0]),
...     propensity=np.array([0.5, 0.5, 0.5, 0.5]),
... )
>>> always_large = np.array([[0.0, 1.0]] * 4)
>>> found = snips(log, always_large)
>>> found.quality.value, found.cost.value, found.effective
(1.0, 9.0, 2.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from turnout.core import Assignment, Frontier, InputError, _check
from turnout.core._check import Float
from turnout.parts import prices
from turnout.parts.feedback.logged import Log

__all__ = [
    "Curve",
    "Estimate",
    "Judge",
    "Policy",
    "Value",
    "credit",
    "curve",
    "dr",
    "ips",
    "path_area",
    "snips",
    "spread_prices",
]

#: Who goes where: an assignment whose weights are probabilities, or these as an array (n, m).
Policy = Assignment | Float

_NORMAL = 1.959963984540054  # 97.5 % point of the standard normal


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Parameters
    ----------
    value : float
    error : float
        Standard error; 0 where all terms are alike, NaN where there is one row.
    """

    value: float
    error: float

    @property
    def low(self) -> float:
        """Lower end of the normal 95 % interval."""
        return self.value - _NORMAL * self.error

    @property
    def high(self) -> float:
        """Upper end of the normal 95 % interval."""
        return self.value + _NORMAL * self.error


@dataclass(frozen=True, kw_only=True)
class Value:
    """What a policy is estimated to earn and to spend per item.

    Parameters
    ----------
    quality, cost : Estimate
    effective : float
        Rows that an unweighted sample of the same precision would hold (ESS), in [1, matched].
    matched : int
        Rows in which the policy may choose what the log chose.
    clipped : int
        Rows among them whose weight was clipped.
    """

    quality: Estimate
    cost: Estimate
    effective: float
    matched: int
    clipped: int


#: What estimates a policy's value from a log: `ips`, `snips`, or `dr` with its predictions given.
Judge = Callable[[Log, Float], Value]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Estimated values as the price falls.

    Parameters
    ----------
    price : tuple of float
        Quality per unit of cost; infinity = always the cheapest.
    values : tuple of Value
        One a price.
    """

    price: tuple[float, ...]
    values: tuple[Value, ...]

    def frontier(self) -> Frontier:
        """The estimated points (cost, quality); a cost estimated below zero counts as zero.

        Its hull takes the lucky among noisy points: what is read off it (`Frontier.aiq`, cost to
        match) is too good, the more so the fewer the effective rows. `area` is not.
        """
        return Frontier(
            np.array([max(value.cost.value, 0.0) for value in self.values]),
            np.array([value.quality.value for value in self.values]),
            np.array(self.price),
        )

    def area(self, cost_range: tuple[float, float]) -> float:
        """Mean quality over a range of costs along the path itself: `path_area` of the points.

        To be compared with the same figure of others, and with no AIQ.
        """
        low = _check.number("cost_range[0]", cost_range[0], low=0.0)
        high = _check.number("cost_range[1]", cost_range[1], low=low)
        cost = np.array([value.cost.value for value in self.values])
        quality = np.array([value.quality.value for value in self.values])
        return float(path_area(cost, quality, np.array(low), np.array(high)))


def ips(log: Log, policy: Policy, *, clip: float = math.inf) -> Value:
    """Inverse propensity score: unbiased, and the most variable.

    Parameters
    ----------
    log : Log
    policy : Assignment or array (n, m)
        Probabilities of each destination in each row.
    clip : float
        Most that a seen cell may weigh, >= 1; infinity = unbiased.

    Raises
    ------
    InputError
        The policy is no distribution over the log's destinations, or the log cannot tell of it:
        it chooses a destination that was never logged, or agrees with the log in no row.
    """
    match = _match(log, policy, clip)
    return match.value(_mean(match.weight * log.quality), _mean(match.weight * log.cost))


def snips(log: Log, policy: Policy, *, clip: float = math.inf) -> Value:
    """Self-normalised IPS: mean of what was seen, weighted; parameters and refusals as `ips`."""
    match = _match(log, policy, clip)
    weight, total = match.weight, match.weight.sum()

    def estimate(outcome: Float) -> Estimate:
        value = float(weight @ outcome / total)
        return Estimate(value, float(np.sqrt((weight**2) @ (outcome - value) ** 2) / total))

    return match.value(estimate(log.quality), estimate(log.cost))


def dr(
    log: Log, policy: Policy, predicted: tuple[Float, Float], *, clip: float = math.inf
) -> Value:
    """Doubly robust: predictions, corrected by what was seen.

    Parameters
    ----------
    log : Log
    policy : Assignment or array (n, m)
    predicted : (quality (n, m), cost (n, m))
        Predicted without the row itself, as by `turnout.parts.learners.crossfit`: a prediction that
        has seen the row's outcome corrects too little.
    clip : float
        Most that a seen cell may weigh, >= 1.

    Raises
    ------
    InputError
        As `ips`, or the predictions are not finite and (n, m).
    """
    match = _match(log, policy, clip)
    quality, cost = credit(log, predicted=predicted, clip=clip)
    return match.value(
        _mean((match.dense * quality).sum(axis=1)), _mean((match.dense * cost).sum(axis=1))
    )


def credit(
    log: Log, *, predicted: tuple[Float, Float] | None = None, clip: float = math.inf
) -> tuple[Float, Float]:
    """The full table that a log stands for: its means over chosen cells are the estimates.

    Single entries are no outcomes: they may lie far outside [0, 1], and only means say anything.

    Parameters
    ----------
    log : Log
    predicted : (quality (n, m), cost (n, m)), optional
        Out of fold; zero without them, which is IPS in place of DR.
    clip : float
        Most that a seen cell may weigh, >= 1.

    Returns
    -------
    quality, cost : array (n, m)
    """
    weight = _inverse(log, clip)
    n, m = len(log), len(log.names)
    rows = np.arange(n)
    tables = []
    for at, (name, seen) in enumerate((("quality", log.quality), ("cost", log.cost))):
        table = np.zeros((n, m))
        if predicted is not None:
            table = np.array(_check.floats(f"predicted {name}", predicted[at], (n, m)))
        table[rows, log.chosen] += weight * (seen - table[rows, log.chosen])
        tables.append(table)
    return tables[0], tables[1]


def path_area(cost: Float, quality: Float, low: Float, high: Float) -> Float:
    """Mean quality over costs from low to high, along a path and without its hull.

    `(sum_k (q_k + q_{k+1}) / 2 (c_{k+1} - c_k) + q_1 (c_1 - low) + q_p (high - c_p))
    / (high - low)`: trapezoids, level at both ends. A sum of products of neighbours and no maximum,
    so that noise in the points averages out where that of a hull adds up.

    Parameters
    ----------
    cost, quality : array (..., p)
        Points as the price falls.
    low, high : array (...)
        The range of costs; a range of no width gives the first quality.

    Returns
    -------
    array (...)
    """
    inside = ((quality[..., 1:] + quality[..., :-1]) / 2.0 * np.diff(cost, axis=-1)).sum(axis=-1)
    ends = quality[..., 0] * (cost[..., 0] - low) + quality[..., -1] * (high - cost[..., -1])
    wide = high > low
    width = np.where(wide, high - low, 1.0)
    return np.asarray(np.where(wide, (inside + ends) / width, quality[..., 0]))


def spread_prices(quality: Float, cost: Float, count: int = 24) -> Float:
    """Prices, falling, at which the mean predicted cost takes evenly spread values.

    Parameters
    ----------
    quality, cost : array (n, m)
        Predictions.
    count : int
        Number of prices, >= 2; fewer come back where fewer decisions differ. The first is
        infinite, the last is 0.
    """
    count = _check.integer("count", count, low=2)
    path = prices.relax(quality, cost).frontier(quality, cost)
    assert path.knob is not None
    wanted = np.linspace(path.cost[0], path.cost[-1], count)[1:-1]
    at = np.searchsorted(path.cost, wanted).clip(max=len(path) - 1)
    # between two breakpoints nothing changes: half way is safe from rounding
    after = np.append(path.knob[1:], 0.0)[at]
    before = path.knob[at]
    inside = np.where(np.isinf(before), 2.0 * after, (before + after) / 2.0)
    return np.concatenate(([np.inf], np.unique(inside[inside > 0])[::-1], [0.0]))


def curve(
    log: Log,
    quality: Float,
    cost: Float,
    *,
    judge: Judge = snips,
    at: Sequence[float] | Float | None = None,
) -> Curve:
    """What `argmax_j quality - price * cost` would have earned and spent, price by price.

    Parameters
    ----------
    log : Log
    quality, cost : array (n, m)
        Predictions that decide; made without the rows they decide on, or the estimate flatters.
    judge : callable (log, policy)
        `ips`, `snips`, or `functools.partial(dr, predicted=...)`.
    at : sequence of float, optional
        Prices, >= 0; by default `spread_prices`.

    Raises
    ------
    InputError
        As `ips`, at the first price whose choices the log cannot tell of.
    """
    shape = (len(log), len(log.names))
    quality = _check.floats("quality", quality, shape)
    cost = _check.floats("cost", cost, shape)
    knobs = spread_prices(quality, cost) if at is None else np.asarray(at, dtype=np.float64)
    knobs = _check.floats("at", knobs, (None,), low=0.0, inf=True)
    choices = np.eye(shape[1])
    values = tuple(judge(log, choices[prices.choose(quality, cost, float(p))]) for p in knobs)
    return Curve(price=tuple(knobs.tolist()), values=values)


def _inverse(log: Log, clip: float) -> Float:
    if not clip >= 1.0:
        hint = "1 trusts the predictions alone; infinity is unbiased."
        raise InputError("clip", "be at least 1", clip, hint)
    return np.asarray(np.minimum(1.0 / log.propensity, clip))


def _probabilities(log: Log, policy: Policy) -> Float:
    """The policy as probabilities (n, m)."""
    dense = policy.dense() if isinstance(policy, Assignment) else policy
    shape = (len(log), len(log.names))
    dense = _check.floats("policy", dense, shape, low=0.0, high=1.0 + 1e-9)
    total = dense.sum(axis=1)
    if (np.abs(total - 1.0) > 1e-6).any():
        row = int(np.abs(total - 1.0).argmax())
        rule = "sum to 1 in every row"
        raise InputError(f"policy[{row}]", rule, float(total[row]), "Pass probabilities.")
    return dense


@dataclass(frozen=True, eq=False)
class _Match:
    """A policy beside a log: probabilities (n, m), the weights (n,) of the rows, and two counts."""

    dense: Float
    weight: Float
    matched: int
    clipped: int

    def value(self, quality: Estimate, cost: Estimate) -> Value:
        weight = self.weight
        return Value(
            quality=quality,
            cost=cost,
            effective=float(weight.sum() ** 2 / (weight**2).sum()),
            matched=self.matched,
            clipped=self.clipped,
        )


def _match(log: Log, policy: Policy, clip: float) -> _Match:
    """The policy's weights on this log.

    Raises
    ------
    InputError
        The log cannot tell of this policy.
    """
    dense = _probabilities(log, policy)
    inverse = _inverse(log, clip)
    logged = np.bincount(log.chosen, minlength=len(log.names))
    blind = np.flatnonzero((dense.sum(axis=0) > 0) & (logged == 0))
    hint = "Explore more, or judge a policy that is nearer to the one that was logged."
    if len(blind):
        rule = "choose only destinations that the log has seen chosen"
        raise InputError("policy", rule, log.names[int(blind[0])], hint)
    chance = dense[np.arange(len(log)), log.chosen]
    matched = chance > 0
    if not matched.any():
        rule = "choose in at least one row what the log chose there"
        raise InputError("policy", rule, "no such row", hint)
    clipped = matched & (log.propensity * clip < 1.0)
    return _Match(dense, chance * inverse, int(matched.sum()), int(clipped.sum()))


def _mean(terms: Float) -> Estimate:
    """Mean of n terms, with its standard error."""
    n = len(terms)
    error = float(terms.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return Estimate(float(terms.mean()), error)
