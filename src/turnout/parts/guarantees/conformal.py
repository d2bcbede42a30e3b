"""Promises about routing that hold on new requests, whatever the router is worth.

The knob of every predictor is one price: `argmax_j quality - price * cost`. A promise is the
largest price, which is the cheapest policy, that provably keeps a constraint. The proof rests on
n held-out rows the router has not learnt from, and on nothing but that new requests are drawn as
these rows were: a bad router makes a promise dear, or has it refused, but not broken.

Equations, with the variable of each symbol; L_i(p) is the loss of row i at price p, R its mean
over the rows, j the choice, q in [0, 1] the quality seen::

    wrong        L_i(p) = (1 - q_ij) [j is not the strong one]         `limit_wrong`
    quality      L_i(p) = 1 - q_ij,  alpha = 1 - floor                 `keep_quality`
    margin       L_i(p) = q_i,strong - q_ij,  alpha = margin           `keep_up`

    expectation  p^ < sup { p : n / (n + 1) R(p) + 1 / (n + 1) <= alpha }
                 then E[L(p^)] <= alpha                                wrong
    probability  p^ < the first price, from 0 up, at which a test fails
                 then P(mean of L(p^) <= alpha) >= 1 - delta           all three

*Expectation* is conformal risk control (Angelopoulos, Bates, Fisch, Lei, Schuster, 2022,
arXiv:2208.02814, theorem 1). It wants a loss that grows with the price on every row. With two
destinations the loss does wherever the strong one is predicted to be the dearer: a request that
has left it does not come back. With more it need not (from a weak destination to a better one
that is cheaper), and then the method may fail (proposition 1 there); so each row's loss is
replaced by its greatest at that price or any lower, the remedy of that paper, which changes
nothing where the loss grows anyway. Where no price is promised, everything is to go to the strong
one, which loses nothing; the expectation counts such samples of rows in.

*Probability* is Learn then Test (Angelopoulos, Bates, Candes, Jordan, Lei, 2021,
arXiv:2110.01052), by fixed-sequence testing with the tests of `turnout.parts.guarantees.bounds`:
the exact binomial tail where every quality is 0 or 1, Hoeffding-Bentkus elsewhere, and for the
margin, whose losses lie in [-1, 1], the betting test. Losses need not grow with the price. Differs
from the paper: the sequence is no grid, but all prices there are. Between two breakpoints of the
rows nothing changes, so that one test an interval tests all of it; and the first price whose risk
is too high was there before the rows were drawn, and one test goes past it with probability delta
at most. All prices up to the one returned keep the promise together.

Cost: O(n + breakpoints) a promise, besides the breakpoints (`turnout.parts.guarantees.heldout`).

Examples
--------
>>> import numpy as np
>>> from turnout.parts.guarantees.heldout import HeldOut
>>> rng = np.random.default_rng(0)
>>> quality = np.column_stack([rng.random(2000), np.full(2000, 0.9)])  # weak, strong
>>> cost = np.tile([1.0, 9.0], (2000, 1))
>>> truth = (rng.random((2000, 2)) < quality).astype(float)
>>> promise = keep_quality(HeldOut(quality, cost, truth, cost), floor=0.8, confidence=0.95)
>>> round(promise.price, 3), round(promise.cost, 2), round(1 - promise.bound, 3)
(0.054, 4.75, 0.8)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Bool, Float
from turnout.parts.guarantees import bounds
from turnout.parts.guarantees.heldout import HeldOut

__all__ = ["Guarantee", "keep_quality", "keep_up", "limit_wrong"]


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What is promised at a price, or why nothing is.

    Parameters
    ----------
    kind : str
        "wrong", "quality" or "margin".
    level : float
        What was asked for: the most wrong answers, the least mean quality, the greatest margin.
    confidence : float or None
        Probability that the rows do not mislead; None where the promise is one of expectation.
    price : float or None
        Quality given up to save one unit of cost; every lower price keeps the promise, too. None
        where nothing can be promised.
    rows : int
        Held-out rows it rests on.
    risk, bound : float
        Mean loss on them at that price, and the bound on the true one; without a price, at the
        most careful price there is, zero. For "quality" the loss is 1 - quality.
    cost : float
        Mean true cost on them, there.
    needed : int or None
        Without a price: rows like these that would have been enough; None where more would not
        help.
    grows : bool or None
        In expectation: whether every row's loss grew with the price; if not, the greatest up to
        each price was bounded in its place. None where it does not matter.
    """

    kind: str
    level: float
    confidence: float | None
    price: float | None
    rows: int
    risk: float
    bound: float
    cost: float
    needed: int | None = None
    grows: bool | None = None

    def record(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return asdict(self)

    @property
    def shown(self) -> str:
        """The price in six digits, rounded down: every lower price keeps the promise, too."""
        if self.price is None:
            return "none"
        text = f"{self.price:.6g}"
        return text if float(text) <= self.price else f"{self.price * (1 - 1e-5):.6g}"

    @property
    def sentence(self) -> str:
        """What is promised, or why not, in words."""
        subject, measured, bound, side = _WORDS[self.kind]
        sure = f"confidence {self.confidence:g}" if self.confidence else "in expectation"
        found = f"{measured(self.risk):.4g} on {self.rows:,} rows, bound {bound(self.bound):.4g}"
        if self.price is not None:
            return (
                f"{subject} {side} {self.level:g} on new requests like these, {sure}, at any price "
                f"up to {self.shown}: {found}."
            )
        if self.needed is not None:
            help_ = f"some {self.needed:,} rows like these would have been needed"
        else:
            help_ = "more rows would not help; the most careful price itself does not reach it"
        return (
            f"Nothing can be promised ({subject.lower()} {side} {self.level:g}, {sure}): "
            f"at price 0 {found}; {help_}."
        )


def _same(risk: float) -> float:
    return risk


def _rest(risk: float) -> float:
    return 1.0 - risk


#: For each kind: its subject, how its risk and bound read, and on which side of the level they lie.
_WORDS = {
    "wrong": ("Wrong answers from another than the strong one", _same, _same, "<="),
    "quality": ("Mean quality", _rest, _rest, ">="),
    "margin": ("Mean quality short of the strong one's", _same, _same, "<="),
}


def limit_wrong(
    held: HeldOut, *, strong: int, alpha: float, confidence: float | None = None
) -> Guarantee:
    """The cheapest price at which few wrong answers come from another than the strong destination.

    "Wrong" is 1 - quality: 0 or 1 where answers are right or wrong, else what they fall short.

    Parameters
    ----------
    held : HeldOut
    strong : int
        Column of the destination whose wrong answers are not counted, chosen without these rows.
    alpha : float
        Most of them, as a share of all requests; in [0, 1].
    confidence : float, optional
        Promise that the mean stays within `alpha` with this probability over the held-out rows
        (Learn then Test). By default the promise is in expectation over these and the new request
        (conformal risk control), which asks for less.

    Returns
    -------
    Guarantee
        Of kind "wrong".
    """
    alpha = _check.number("alpha", alpha, low=0.0, high=1.0)
    loss = 1.0 - held.true_quality
    loss[:, _column(held, strong)] = 0.0
    if confidence is not None:
        return _tested(held, loss, "wrong", alpha, alpha, confidence)
    n = held.n
    worst, grows = held.worst_totals(loss)
    risk = float(worst[-1]) / n
    needed = math.ceil((1.0 - alpha) / (alpha - risk) * (1 - 1e-12)) if risk < alpha else None
    return _made(
        held,
        # a hair more, so that 29 and 0.29 * 100 are the same
        worst + 1.0 <= alpha * (n + 1) * (1 + 1e-12),
        risk=held.totals(loss) / n,
        bound=lambda point: float(worst[point] + 1.0) / (n + 1),
        needed=lambda: needed,
        kind="wrong",
        level=alpha,
        confidence=None,
        grows=grows,
    )


def keep_quality(held: HeldOut, *, floor: float, confidence: float = 0.95) -> Guarantee:
    """The cheapest price at which the mean quality is at least a floor, by Learn then Test.

    There is no promise of quality in expectation alone: a row's quality may rise and fall with the
    price, and its worst at any lower price says next to nothing.

    Parameters
    ----------
    held : HeldOut
    floor : float
        In [0, 1].
    confidence : float
        In (0, 1).

    Returns
    -------
    Guarantee
        Of kind "quality"; its risk is 1 - quality.
    """
    floor = _check.number("floor", floor, low=0.0, high=1.0)
    return _tested(held, 1.0 - held.true_quality, "quality", floor, 1.0 - floor, confidence)


def keep_up(held: HeldOut, *, strong: int, margin: float, confidence: float = 0.95) -> Guarantee:
    """The cheapest price at which the mean quality is at most a margin below the strong one's.

    The difference is taken row by row and lies in [-1, 1]. Most are zero, which the betting test
    makes use of.

    Parameters
    ----------
    held : HeldOut
    strong : int
        Column of the destination to keep up with, chosen without these rows.
    margin : float
        In [-1, 1]; below zero, to be better.
    confidence : float
        In (0, 1).

    Returns
    -------
    Guarantee
        Of kind "margin"; its risk is the mean difference, below zero where routing is better.
    """
    margin = _check.number("margin", margin, low=-1.0, high=1.0)
    delta = 1.0 - _probability(confidence)
    behind = held.true_quality[:, [_column(held, strong)]] - held.true_quality
    n, level = held.n, math.log(1.0 / delta)
    careful = held.at(behind, held.points - 1)

    def enough(rows: int) -> bool:
        stake = bounds.stakes(rows, delta, width=2.0)[:, None]
        logs = rows * np.log1p(stake * (margin - careful)).mean(axis=1, keepdims=True)
        return bool(bounds.log_wealth(logs)[0] >= level)

    bets = bounds.stakes(n, delta, width=2.0)
    wealth = bounds.log_wealth(
        np.stack([held.totals(np.log1p(stake * (margin - behind))) for stake in bets])
    )
    return _made(
        held,
        wealth >= level,
        risk=held.totals(behind) / n,
        bound=lambda point: bounds.betting_bound(held.at(behind, point), delta, low=-1, high=1),
        needed=lambda: bounds.least_rows(enough, n) if careful.mean() < margin else None,
        kind="margin",
        level=margin,
        confidence=confidence,
    )


def _tested(
    held: HeldOut, loss: Float, kind: str, level: float, alpha: float, confidence: float
) -> Guarantee:
    """Fixed-sequence testing of a loss in [0, 1]."""
    n, delta = held.n, 1.0 - _probability(confidence)
    binary = bool(np.isin(loss, (0.0, 1.0)).all())
    totals = held.totals(loss)
    rate = float(totals[-1]) / n

    def enough(rows: int) -> bool:
        total = rate * rows
        total = math.ceil(total - 1e-9) if binary else total
        return bounds.p_value(total, rows, alpha, binary=binary) <= delta

    return _made(
        held,
        totals <= bounds.largest_total(n, alpha, delta, binary=binary),
        risk=totals / n,
        bound=lambda point: bounds.upper_bound(float(totals[point]), n, delta, binary=binary),
        needed=lambda: bounds.least_rows(enough, n) if rate < alpha else None,
        kind=kind,
        level=level,
        confidence=confidence,
    )


def _made(
    held: HeldOut,
    passes: Bool,
    *,
    risk: Float,
    bound: Callable[[int], float],
    needed: Callable[[], int | None],
    kind: str,
    level: float,
    confidence: float | None,
    grows: bool | None = None,
) -> Guarantee:
    """The guarantee at the last point, from price zero up, before the first that does not pass."""
    upwards = passes[::-1]
    count = len(upwards) if upwards.all() else int(upwards.argmin())
    point = len(passes) - max(count, 1)
    return Guarantee(
        kind=kind,
        level=level,
        confidence=confidence,
        price=held.within(point) if count else None,
        rows=held.n,
        risk=float(risk[point]),
        bound=bound(point),
        cost=float(held.totals(held.true_cost)[point]) / held.n,
        needed=None if count else needed(),
        grows=grows,
    )


def _column(held: HeldOut, strong: int) -> int:
    return _check.integer("strong", strong, low=0, high=held.quality.shape[1] - 1)


def _probability(confidence: float) -> float:
    value = _check.number("confidence", confidence)
    if not 0.0 < value < 1.0:
        hint = "Such as 0.95."
        raise InputError("confidence", "lie between 0 and 1, neither of them", confidence, hint)
    return value
