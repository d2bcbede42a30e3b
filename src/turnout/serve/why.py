"""Why a request goes where it goes: the candidates, and what would change the choice.

Destination j is chosen at price p where `quality[j] - p * cost[j]` is greatest. Against a dearer
and better k that holds down to `p = (quality[k] - quality[j]) / (cost[k] - cost[j])`, against a
cheaper and worse one up to the same quotient; between the largest of the former and the smallest
of the latter the choice stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.core import InputError, _check
from turnout.parts import prices

__all__ = ["Candidate", "Explanation", "explain", "plain"]

#: Closer than this in quality, two candidates are level.
_LEVEL = 0.0005


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One destination that a request could have gone to.

    Parameters
    ----------
    name : str
    quality, cost : float
        Predicted.
    value : float
        `quality - price * cost`: the greatest is chosen.
    chosen : bool
    """

    name: str
    quality: float
    cost: float
    value: float
    chosen: bool


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A decision and its reasons.

    Parameters
    ----------
    price : float
        Quality given up to save one unit of cost.
    candidates : tuple of Candidate
        Greatest value first.
    low, high : float
        The router's choice is the same at every price between; high may be infinite.
    reasons : tuple of str
        Sentences on the choice among these figures.
    because : tuple of str
        Sentences on what in the prompt the figures come from, where the predictor can tell.
    """

    price: float
    candidates: tuple[Candidate, ...]
    low: float
    high: float
    reasons: tuple[str, ...]
    because: tuple[str, ...] = ()

    @property
    def compared(self) -> tuple[str, ...]:
        """The candidate chosen, and of the others the one that gives the most for its cost."""
        others = [candidate.name for candidate in self.candidates if not candidate.chosen]
        return (self.chosen.name, *others[:1])

    @property
    def chosen(self) -> Candidate:
        """The candidate the request goes to."""
        return next(candidate for candidate in self.candidates if candidate.chosen)

    def record(self) -> dict[str, Any]:
        """Everything as plain values for JSON; an infinite bound is None."""
        return {
            "destination": self.chosen.name,
            "price": self.price,
            "holds_from_price": self.low,
            "holds_to_price": None if math.isinf(self.high) else self.high,
            "candidates": [vars(candidate) for candidate in self.candidates],
            "reasons": list(self.reasons),
            "because": list(self.because),
        }


def explain(
    names: Sequence[str],
    quality: Sequence[float],
    cost: Sequence[float],
    price: float,
    *,
    went: str | None = None,
    propensity: float | None = None,
) -> Explanation:
    """Explain one decision from its predictions.

    Parameters
    ----------
    names : sequence of str
        The m candidates.
    quality, cost : sequence of float (m,)
        Predictions for this request.
    price : float
        Quality given up to save one unit of cost, >= 0 and finite.
    went : str, optional
        Where the request went, if it was sent elsewhere than to the best.
    propensity : float, optional
        Probability with which it was sent there; 1 = not by exploration.

    Raises
    ------
    InputError
        The lengths differ or a value is out of range.
    """
    m = len(names)
    q = _check.floats("quality", quality, (m,), low=0.0, high=1.0)
    c = _check.floats("cost", cost, (m,), low=0.0)
    price = _check.number("price", price, low=0.0)
    if went is not None and went not in names:
        raise InputError("went", f"be one of {', '.join(names)}", went, "Name a candidate.")
    best = int(prices.choose(q[None], c[None], price)[0])
    value = q - price * c
    # against whom the choice would turn first, were money dearer or cheaper
    dearer = [k for k in range(m) if c[k] > c[best] and q[k] > q[best]]
    cheaper = [k for k in range(m) if c[k] < c[best] and q[k] < q[best]]
    turn = {k: float((q[k] - q[best]) / (c[k] - c[best])) for k in (*dearer, *cheaper)}
    up = max(dearer, key=lambda k: turn[k], default=None)
    down = min(cheaper, key=lambda k: turn[k], default=None)
    reasons = [_verdict(names[best], best, q.tolist(), c.tolist(), price)]
    order = np.lexsort((c, -value))
    second = next((int(k) for k in order if k != best), None)
    if second is not None:
        reasons.append(_lead(names[second], float(value[best] - value[second]), price))
    if up is not None:
        reasons.append(
            f"{names[up]} would add {plain(q[up] - q[best], 3)} of quality for "
            f"{plain(c[up] - c[best], 3)} more; that pays at prices below {plain(turn[up])}."
        )
    if down is not None:
        reasons.append(
            f"{names[down]} would save {plain(c[best] - c[down], 3)} and lose "
            f"{plain(q[best] - q[down], 3)} of quality; that pays at prices above "
            f"{plain(turn[down])}."
        )
    if up is None and down is None and second is not None:
        reasons.append("No other price would change that.")
    chosen = names[best] if went is None else went
    if chosen != names[best]:
        if propensity == 1.0:
            reasons.append(f"It went to {chosen}: {names[best]} was not open to it at that moment.")
        else:
            reasons.append(f"Exploration sent it to {chosen}, to learn what it does with it.")
    candidates = tuple(
        Candidate(
            name=names[k],
            quality=float(q[k]),
            cost=float(c[k]),
            value=float(value[k]),
            chosen=names[k] == chosen,
        )
        for k in order
    )
    return Explanation(
        price=price,
        candidates=candidates,
        low=0.0 if up is None else turn[up],
        high=math.inf if down is None else turn[down],
        reasons=tuple(reasons),
    )


def _lead(other: str, margin: float, price: float) -> str:
    """How far ahead of the next one it is."""
    counted = "" if price == 0 else ", cost counted"
    if margin < _LEVEL:
        return f"It is level with {other}{counted}: the choice could as well be that one."
    return f"It is {plain(margin, 2)} of quality ahead of {other}{counted}."


def plain(value: float, digits: int = 4) -> str:
    """A number without an exponent, unless it is very large or small."""
    if value == 0 or not 1e-6 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _verdict(name: str, best: int, quality: list[float], cost: list[float], price: float) -> str:
    """What kind of choice it is, in one sentence."""
    if len(quality) == 1:
        return f"{name} is the only candidate."
    cheapest, strongest = cost[best] == min(cost), quality[best] == max(quality)
    if cheapest and strongest:
        return f"{name} is predicted to be the best, and nothing is cheaper."
    if strongest and price == 0:
        return f"{name} is predicted to be the best, and cost does not count."
    if strongest:
        return (
            f"{name} is predicted to be the best, and worth its cost at a price of {plain(price)}."
        )
    if cheapest:
        return f"{name} is the cheapest; at a price of {plain(price)} nothing better is worth more."
    return f"{name} gives the most for its cost at a price of {plain(price)}."
