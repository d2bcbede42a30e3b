"""One decision at a time, compiled: from a string to a choice in some tens of microseconds.

`Priced.route` decides whole batches; for a single request most of its time would go into setting
up arrays. A decider does the same sum, `argmax_j quality - price * cost`, on plain floats, and
gives the same choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from turnout.core import InputError, Pool, Predictor, Router
from turnout.parts.priced import Priced, columns

__all__ = ["Decider", "Quick", "compile_decider"]

_INFINITE = float("inf")


@runtime_checkable
class Quick(Protocol):
    """A predictor with a quick path for a single text."""

    def predict_one(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m numbers each, equal to `predict`."""
        ...


@dataclass(frozen=True, eq=False)
class Decider:
    """Decides one request at a time for one pool.

    Parameters
    ----------
    predictor : Predictor
        Fitted; may know more destinations than the pool holds.
    pool : Pool
        Where a request can go.

    Raises
    ------
    InputError
        The pool holds a destination the predictor does not know.
    """

    predictor: Predictor
    pool: Pool
    _columns: tuple[int, ...] | None = field(init=False, repr=False)
    _quick: Quick | None = field(init=False, repr=False)
    _up: tuple[bool, ...] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = tuple(columns(self.predictor.names, self.pool).tolist())
        same = where == tuple(range(len(self.predictor.names)))
        object.__setattr__(self, "_columns", None if same else where)
        quick = self.predictor if isinstance(self.predictor, Quick) else None
        object.__setattr__(self, "_quick", quick)
        up = tuple(self.pool.available.tolist())
        object.__setattr__(self, "_up", None if all(up) else up)

    def figures(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m numbers each in the order of the pool."""
        if self._quick is not None:
            quality, cost = self._quick.predict_one(text)
        else:
            many_quality, many_cost = self.predictor.predict((text,))
            quality, cost = many_quality[0].tolist(), many_cost[0].tolist()
        if self._columns is not None:
            quality = [quality[j] for j in self._columns]
            cost = [cost[j] for j in self._columns]
        return quality, cost

    def decide(
        self, text: str, price: float, up: Sequence[bool] | None = None
    ) -> tuple[int, list[float], list[float]]:
        """Choose for one text.

        Parameters
        ----------
        text : str
        price : float
            Quality per unit of cost, >= 0; may be infinite.
        up : sequence of bool (m,), optional
            Destinations that may be chosen; by default those of the pool that are up.

        Returns
        -------
        choice, quality, cost
            Position in the pool, and the m figures of each destination. Ties go to the cheaper,
            then to the earlier, as in `turnout.parts.prices.choose`.

        Raises
        ------
        InputError
            No destination may be chosen.
        """
        quality, cost = self.figures(text)
        if up is None:
            up = self._up
        if up is None and price < _INFINITE:
            value = [q - price * c for q, c in zip(quality, cost, strict=True)]
            best = max(value)
            if value.count(best) == 1:
                return value.index(best), quality, cost
        return _choose(quality, cost, price, up), quality, cost


def _choose(
    quality: list[float], cost: list[float], price: float, up: Sequence[bool] | None
) -> int:
    """The rule of `prices.choose` in full: what is down is passed over, ties are settled."""
    infinite = price == _INFINITE
    choice, best, second = -1, 0.0, 0.0
    for j, (q, c) in enumerate(zip(quality, cost, strict=True)):
        if up is not None and not up[j]:
            continue
        value, tie = (-c, q) if infinite else (q - price * c, -c)
        if choice < 0 or value > best or (value == best and tie > second):
            choice, best, second = j, value, tie
    if choice < 0:
        raise InputError("up", "leave at least one destination", "none", "Bring one back up.")
    return choice


def compile_decider(router: Router | Predictor, pool: Pool) -> Decider:
    """The decider of a predictor, or of a router that is a priced predictor.

    Raises
    ------
    InputError
        The router decides by other means than a predictor's figures and a price, or the pool
        holds a destination it does not know.
    """
    if isinstance(router, Priced):
        return Decider(router.predictor, pool)
    if isinstance(router, Predictor) and not isinstance(router, Router):
        return Decider(router, pool)
    hint = "Call its own route for each request instead."
    raise InputError("router", "be a predictor under a price", type(router).__name__, hint)
