"""Budget: what may be spent."""

from __future__ import annotations

from dataclasses import dataclass

from turnout.core import _check
from turnout.core.errors import InputError

__all__ = ["Budget"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent: at most one of three ways of saying it.

    All three name the same thing, a dual price: every decision is
    `argmax_j quality[i, j] - price * cost[i, j]`, and a target is met by finding its price.
    `Budget()` is no limit: the best predicted quality at any cost, ties to the cheaper.

    Parameters
    ----------
    mean_cost : float, optional
        Most to spend per item on average over the batch, in the currency of the costs. >= 0.
    mean_quality : float, optional
        Spend the least that reaches this mean quality. In [0, 1].
    price : float, optional
        Quality given up to save one unit of cost; 0 = spend freely. >= 0.

    Raises
    ------
    InputError
        More than one is given, or a value is out of range.

    Examples
    --------
    >>> Budget(mean_cost=0.002)
    Budget(mean_cost=0.002)
    >>> Budget()
    Budget()
    """

    mean_cost: float | None = None
    mean_quality: float | None = None
    price: float | None = None

    def __post_init__(self) -> None:
        given = {
            field: value
            for field in ("mean_cost", "mean_quality", "price")
            if (value := getattr(self, field)) is not None
        }
        if len(given) > 1:
            hint = "Keep the one that matters; the others follow from it."
            raise InputError("budget", "name at most one target", given, hint)
        for field, value in given.items():
            high = 1.0 if field == "mean_quality" else float("inf")
            clean = _check.number(f"budget.{field}", value, low=0.0, high=high)
            object.__setattr__(self, field, clean)

    def __repr__(self) -> str:
        for field in ("mean_cost", "mean_quality", "price"):
            value = getattr(self, field)
            if value is not None:
                return f"Budget({field}={value:g})"
        return "Budget()"
