"""What every rule of `turnout.parts.assign` does first: check the scores, apply mask and prices."""

from __future__ import annotations

from typing import Any, Literal

from turnout.core import Assignment, InputError
from turnout.core._arrays import Namespace, namespace

__all__ = ["Weigh", "chosen", "prepare"]

#: How choices are weighted; see `turnout.parts.assign.top_k`.
Weigh = Literal["softmax", "gate", "equal"]


def prepare(score: Any, price: Any, up: Any) -> tuple[Namespace, Any, Any]:
    """The operations, the scores (n, m), -inf where down, and those less the prices.

    Raises
    ------
    InputError
        Scores are no (n, m), m >= 1, or hold NaN or +infinity; a price is not finite or of another
        length; or every destination is down.
    """
    xp = namespace(score, *(value for value in (price, up) if value is not None))
    if score.ndim != 2 or score.shape[1] == 0:
        hint = "Give one row an item and one column a destination."
        raise InputError("score", "have shape (n, m) with m >= 1", tuple(score.shape), hint)
    score = xp.floating(score)
    m = int(score.shape[1])
    wrong = xp.isnan(score) | (score == float("inf"))
    if bool(wrong.any()):
        value = float(score[wrong][0])
        hint = "Use -inf for a destination an item may not have."
        raise InputError("score", "hold numbers or -inf", value, hint)
    if up is not None:
        if tuple(up.shape) != (m,) or str(up.dtype).removeprefix("torch.") != "bool":
            rule = f"hold {m} booleans"
            raise InputError("up", rule, tuple(up.shape), "Pass pool.available.")
        if not bool(up.any()):
            raise InputError("up", "leave at least one destination up", False, "Bring one back.")
        score = xp.where(up, score, xp.full_like(score, float("-inf")))
    if price is None:
        return xp, score, score
    if tuple(price.shape) != (m,):
        raise InputError("price", f"have shape ({m},)", tuple(price.shape), "One a destination.")
    price = xp.floating(price)
    if not bool(xp.isfinite(price).all()):
        hint = "Put a destination down with `up` instead."
        raise InputError("price", "be finite", "infinity or NaN", hint)
    return xp, score, score - price


def chosen(xp: Namespace, score: Any, index: Any, keep: Any, weigh: Weigh) -> Assignment:
    """The assignment of the choices `index` (n, k) where `keep` (n, k), weighted by `score`."""
    picked = xp.take(score, index)
    keep = keep & (picked > float("-inf"))
    nothing = xp.full_like(picked, 0.0)
    masked = xp.where(keep, picked, xp.full_like(picked, float("-inf")))
    if weigh == "softmax":
        weight = xp.exp(masked - _anchor(xp, masked))
    elif weigh == "gate":
        weight = xp.exp(masked - _anchor(xp, score))
    elif weigh == "equal":
        count = keep.sum(1)[:, None]
        weight = xp.full_like(picked, 1.0) / xp.where(count > 0, count, count + 1)
    else:
        raise InputError("weigh", "be 'softmax', 'gate' or 'equal'", weigh, "Choose one.")
    return Assignment(
        xp.where(keep, index, index * 0 - 1), xp.where(keep, weight, nothing), int(score.shape[1])
    )


def _anchor(xp: Namespace, score: Any) -> Any:
    """Logarithm (n, 1) of the sum of exponentials; 0 where nothing may be had, to give no NaN."""
    total = xp.logsumexp(score, 1)
    return xp.where(xp.isfinite(total), total, xp.full_like(total, 0.0))[:, None]
