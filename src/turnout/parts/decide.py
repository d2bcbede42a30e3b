"""One decision at a time, compiled: from a string to a choice in microseconds.

`Priced.route` decides whole batches; for a single request most of its time would go into setting
up arrays. A decider does the same sum, `argmax_j quality - price * cost`, on plain floats, and
gives the same choice. Where the predictor has compiled code (`HasKernel`) that is used if it was
built once on this machine, and built only where somebody asks: no decision waits for a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import Protocol, runtime_checkable

from turnout.core import InputError, Pool, Predictor, Router
from turnout.parts.priced import Priced, columns

__all__ = ["Decider", "Explains", "HasKernel", "Kernel", "Quick", "compile_decider"]

_INFINITE = float("inf")


@runtime_checkable
class Quick(Protocol):
    """A predictor with a quick path for a single text."""

    def predict_one(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m numbers each, equal to `predict`."""
        ...


class Kernel(Protocol):
    """Compiled code that makes a predictor's figures and chooses by them."""

    def decide(self, text: str, price: float) -> tuple[int, list[float], list[float]]:
        """Which destination is best, -1 where that is not one alone; quality and cost of each."""
        ...


@runtime_checkable
class HasKernel(Protocol):
    """A predictor that compiled code makes quicker, for the same figures."""

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Why there is no compiled code, or the empty word if it is used from now on."""
        ...

    def kernel(self, columns: Sequence[int] | None = None) -> Kernel | None:
        """Code for some of the destinations, by default all, if this process has it."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A predictor that can say what in a text its figures come from."""

    def because(self, text: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Sentences for people on what spoke for or against.

        Parameters
        ----------
        text : str
        names : sequence of str
            One or two destinations to compare, the chosen first; by default the two predicted to
            be best.
        """
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
    _maker: HasKernel | None = field(init=False, repr=False)
    _kernel: Kernel | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        where = tuple(columns(self.predictor.names, self.pool).tolist())
        same = where == tuple(range(len(self.predictor.names)))
        object.__setattr__(self, "_columns", None if same else where)
        quick = self.predictor if isinstance(self.predictor, Quick) else None
        object.__setattr__(self, "_quick", quick)
        up = tuple(self.pool.available.tolist())
        object.__setattr__(self, "_up", None if all(up) else up)
        maker = self.predictor if isinstance(self.predictor, HasKernel) else None
        object.__setattr__(self, "_maker", maker)

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Decide by the predictor's compiled code, if it has some, for the same choices sooner.

        To be called when a service starts, before it forks: its children have the code then.

        Parameters
        ----------
        build : bool
            Compile it where it is not in the cache (`turnout.parts.native`). A second's work, once
            a machine.
        seconds : float, optional
            Wait no longer than that for the compiler, which goes on in a thread; decisions take to
            its work when it is done. By default wait for its end.

        Returns
        -------
        str
            Why decisions are made without, or the empty word if they are not.
        """
        if self._maker is None:
            return "this kind of predictor has none"
        return self._maker.use_kernel(build=build, seconds=seconds)

    def figures(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m numbers each in the order of the pool."""
        kernel = self._kernel or self._bound()
        return self._predicted(text) if kernel is None else kernel.decide(text, 0.0)[1:]

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
        choice = -1
        kernel = self._kernel or self._bound()
        if kernel is None:
            quality, cost = self._predicted(text)
        else:
            choice, quality, cost = kernel.decide(text, price)
        if up is None:
            up = self._up
        if price < _INFINITE:
            if kernel is None:
                value = list(map(sub, quality, [price * c for c in cost]))
                best = max(value)
                choice = value.index(best) if value.count(best) == 1 else -1
            # the one best of all is the best of those that are up, if it is
            if choice >= 0 and (up is None or up[choice]):
                return choice, quality, cost
        return _choose(quality, cost, price, up), quality, cost

    def _predicted(self, text: str) -> tuple[list[float], list[float]]:
        """The figures, by the predictor itself."""
        if self._quick is not None:
            quality, cost = self._quick.predict_one(text)
        else:
            many_quality, many_cost = self.predictor.predict((text,))
            quality, cost = many_quality[0].tolist(), many_cost[0].tolist()
        if self._columns is not None:
            quality = [quality[j] for j in self._columns]
            cost = [cost[j] for j in self._columns]
        return quality, cost

    def _bound(self) -> Kernel | None:
        """The predictor's kernel for this pool, once this process has it."""
        if self._maker is not None:
            object.__setattr__(self, "_kernel", self._maker.kernel(self._columns))
        return self._kernel


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

    Compiled code is used if the cache holds it; `Decider.use_kernel` has it built.

    Raises
    ------
    InputError
        The router decides by other means than a predictor's figures and a price, or the pool
        holds a destination it does not know.
    """
    if isinstance(router, Priced):
        predictor = router.predictor
    elif isinstance(router, Predictor) and not isinstance(router, Router):
        predictor = router
    else:
        hint = "Call its own route for each request instead."
        raise InputError("router", "be a predictor under a price", type(router).__name__, hint)
    decider = Decider(predictor, pool)
    decider.use_kernel()
    return decider
