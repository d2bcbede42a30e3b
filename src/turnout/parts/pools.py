"""Pools: which destinations to keep at all, before anything chooses among those kept.

Every destination that is kept is a contract, a deployment, a key and a thing that can fail. A pool
is a set of at most `most` of m destinations together with the price at which one of them is chosen
for each input. As a word: its destinations by rising rank (of their names), then a letter that
ends it and says which of k prices. So a set has one word, and one way to build it::

    letters 0 ... m - 1        a destination of higher rank than the last, `most` of them at most
    letters m ... m + k - 1    the end, at the l-th price

On a table a pool is played without asking anybody. The choice is told by a predictor that was
fitted without the row, so that what a pool earns is what a router over it would have earned::

    j_i     = argmax_{j in S} Q'[i, j] - price C'[i, j]         ' predicted without row i
    quality = mean_i q[i, j_i],     cost and latency likewise   as they really were

An oracle that picks the best answer of the pool for each input earns more with every destination
kept, chance included, and so would keep too many.

Kept pools are ordered: those that hold the cheapest destination first, so that every budget that
can be kept at all is; then by `area - upkeep * size`. The area is that under the pool's curve, the
mean quality over all budgets from the cheapest to the dearest single destination of the same
choices as the price falls (0 where the pool has nothing as cheap), and the upkeep is what one more
destination must add to it to be worth keeping. Choosing the greatest of many such figures flatters
it a little: judge the pool on other rows.

Shapes: n items, m destinations, p kept pools at prices, s different pools. Cost: O(n most) a play.

Examples
--------
>>> import numpy as np
>>> table = Routed(
...     told_quality=np.array([[0.9, 0.2, 0.8], [0.1, 0.9, 0.8]]),
...     told_cost=np.array([[1.0, 1.0, 4.0]] * 2),
...     quality=np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
...     cost=np.array([[1.0, 1.0, 4.0]] * 2),
...     latency=np.zeros((2, 3)),
... )
>>> sets = Sets(("a", "b", "c"), np.array([0.0, 0.1]), most=2)
>>> table.play(sets.read((0, 1, 3)))  # a and b, whatever it costs
(1.0, 1.0, 0.0)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from turnout.core import (
    Assignment,
    Budget,
    Frontier,
    InputError,
    Inputs,
    Outcomes,
    Pool,
    Predictor,
    Recipe,
    _check,
)
from turnout.core._check import Bool, Float, Int
from turnout.parts import prices
from turnout.parts.learners.crossfit import crossfit, identities
from turnout.parts.priced import columns, one_choice
from turnout.parts.tradeoffs import best_point, filled

__all__ = [
    "KeptPool",
    "KeptPools",
    "PricedPool",
    "Routed",
    "Sets",
    "best_curves",
    "keep_pools",
    "prices_of",
    "told",
]


@dataclass(frozen=True)
class PricedPool:
    """Whom to keep, and the price at which one of them is chosen.

    Parameters
    ----------
    columns : tuple of int
        Destinations, rising, none twice.
    price : float
        Quality per unit of cost, >= 0.

    Raises
    ------
    InputError
        It is empty, a destination comes twice, or the price is out of range.
    """

    columns: tuple[int, ...]
    price: float

    def __post_init__(self) -> None:
        if not self.columns or list(self.columns) != sorted(set(self.columns)):
            rule = "hold one destination or more, rising, none twice"
            raise InputError("pool.columns", rule, self.columns, "Sort them, drop the repeated.")
        _check.number("pool.price", self.price, low=0.0)


@dataclass(frozen=True, eq=False)
class Sets:
    """All pools of at most `most` destinations, at some prices.

    Parameters
    ----------
    names : tuple of str
        The m destinations; a pool is built by rising names.
    prices : array (k,)
        >= 0, k >= 1.
    most : int
        Destinations a pool keeps at most, 1 to m.

    Raises
    ------
    InputError
        A value is out of range.
    """

    names: tuple[str, ...]
    prices: Float
    most: int

    def __post_init__(self) -> None:
        _check.names("sets.names", self.names)
        value = _check.floats("sets.prices", self.prices, (None,), low=0.0)
        if not len(value):
            raise InputError("sets.prices", "hold one price or more", 0, "0 is a price.")
        object.__setattr__(self, "prices", value)
        _check.integer("sets.most", self.most, low=1, high=len(self.names))

    @property
    def m(self) -> int:
        """Number of destinations."""
        return len(self.names)

    @property
    def length(self) -> int:
        """Letters of the longest word: the destinations and the end."""
        return self.most + 1

    @property
    def letters(self) -> int:
        """Number of letters."""
        return self.m + len(self.prices)

    @property
    def terminal(self) -> Bool:
        """Which letters end a word, (letters,)."""
        return np.asarray(np.arange(self.letters) >= self.m)

    def allowed(self, tokens: Int) -> Bool:
        """Letters that may come at each place, (b, length, letters), given those before it.

        Never back to a lower rank, none first that ends, and at the last place only what ends.
        """
        rank = np.arange(self.letters)
        free = np.empty((len(tokens), self.length, self.letters), dtype=np.bool_)
        free[:, 0] = ~self.terminal
        free[:, 1:] = self.terminal | (rank > tokens[:, :-1, None])
        free[:, -1] = self.terminal
        return free

    def read(self, word: Sequence[int]) -> PricedPool:
        """The pool of a word; what stands after its end (-1) is nothing."""
        ranks = sorted(range(self.m), key=self.names.__getitem__)
        *kept, end = (int(letter) for letter in word if letter >= 0)
        return PricedPool(
            tuple(sorted(ranks[letter] for letter in kept)), float(self.prices[end - self.m])
        )

    def words(self) -> Iterator[tuple[int, ...]]:
        """Every pool at every price, as a word padded by -1; `count` of them."""
        for size in range(1, self.most + 1):
            for kept in itertools.combinations(range(self.m), size):
                for end in range(self.m, self.letters):
                    yield (*kept, end, *[-1] * (self.most - size))

    def count(self) -> int:
        """How many there are."""
        sets = sum(math.comb(self.m, size) for size in range(1, self.most + 1))
        return sets * len(self.prices)


@dataclass(frozen=True, eq=False, kw_only=True)
class Routed:
    """A table on which pools are played.

    Parameters
    ----------
    told_quality, told_cost : array (n, m)
        Predicted of each row by what was fitted without it.
    quality, cost, latency : array (n, m)
        What it was worth and took; no blanks.
    """

    told_quality: Float
    told_cost: Float
    quality: Float
    cost: Float
    latency: Float

    def __post_init__(self) -> None:
        shape = self.told_quality.shape
        for field in ("told_quality", "told_cost", "quality", "cost", "latency"):
            value = _check.floats(f"routed.{field}", getattr(self, field), shape)
            object.__setattr__(self, field, value)

    @property
    def cheapest(self) -> int:
        """Column of the cheapest destination, by its mean cost."""
        return int(self.cost.mean(axis=0).argmin())

    def play(self, pool: PricedPool) -> tuple[float, float, float]:
        """Mean quality, cost and latency of choosing among a pool's destinations."""
        some = np.array(pool.columns)
        choice = prices.choose(self.told_quality[:, some], self.told_cost[:, some], pool.price)
        at = (np.arange(len(choice)), some[choice])
        quality, cost, latency = (
            float(table[at].mean()) for table in (self.quality, self.cost, self.latency)
        )
        return quality, cost, latency

    def area(self, kept: Sequence[int]) -> float:
        """Mean quality over all budgets of choosing among these, in [0, 1]: see the module."""
        some = np.array(kept)
        switches = prices.relax(self.told_quality[:, some], self.told_cost[:, some])
        curve = switches.frontier(self.quality[:, some], self.cost[:, some])
        single = self.cost.mean(axis=0)
        low, high = float(single.min()), float(single.max())
        if high - low <= 1e-9 * high:
            return float(curve.quality.max())
        return curve.aiq((low, high))


def told(recipe: Recipe, outcomes: Outcomes, *, folds: int, rng: Generator) -> Routed:
    """A table to play pools on: each row predicted by a method fitted without it.

    Parameters
    ----------
    recipe : Recipe
        What it fits must predict.
    outcomes : Outcomes
        Two different inputs or more. A blank cell counts as the mean of its column.
    folds : int
        Parts, >= 2; fewer where there are fewer different inputs.
    rng : Generator

    Raises
    ------
    InputError
        All inputs are the same, a destination is seen in one fold alone, or the recipe fits no
        predictor.
    """
    different = int(identities(outcomes.inputs).max()) + 1
    quality, cost = crossfit(recipe, outcomes, folds=max(min(folds, different), 2), rng=rng)
    blank = np.zeros((outcomes.n, outcomes.m))
    return Routed(
        told_quality=quality,
        told_cost=cost,
        quality=filled(outcomes.quality),
        cost=filled(outcomes.cost),
        latency=filled(blank if outcomes.latency is None else outcomes.latency),
    )


def prices_of(table: Routed, levels: int) -> Float:
    """Prices (k <= levels,) to run pools at: 0, and evenly many decisions between each two.

    The prices at which a choice among all destinations changes, cut into `levels` parts of equal
    number. Where no price changes anything, 0 alone.
    """
    switches = prices.relax(table.told_quality, table.told_cost).price
    if not len(switches):
        return np.zeros(1)
    share = np.arange(1, levels) / levels
    return np.unique(np.append(0.0, np.quantile(switches, share)))


def best_curves(table: Routed, pools: Iterable[tuple[int, ...]]) -> list[PricedPool]:
    """Of each number of destinations the pool of the greatest area, if no smaller one has it.

    A pool that is beaten at every price that was played may still have the best curve: what beats
    it is another pool at each. Only pools that hold the cheapest destination are looked at, as
    the others have no whole curve; none where there is none.

    Parameters
    ----------
    table : Routed
    pools : iterable of tuple of int
        Columns of each.

    Returns
    -------
    list of PricedPool
        At a price of 0, by rising number.
    """
    cheapest = table.cheapest
    best, found = -math.inf, []
    whole = sorted({kept for kept in pools if cheapest in kept}, key=lambda kept: (len(kept), kept))
    for _, alike in itertools.groupby(whole, key=len):
        area, kept = max((table.area(kept), kept) for kept in alike)
        if area > best:
            best = area
            found.append(PricedPool(kept, 0.0))
    return found


@dataclass(frozen=True)
class KeptPool:
    """One kept pool in words.

    Parameters
    ----------
    names : tuple of str
        The destinations to keep.
    size : int
        How many they are.
    price : float
        At which one of them is chosen, in quality per unit of cost.
    quality, cost, latency : float
        Means over the table, each row routed by what was fitted without it.
    area : float
        Mean quality over all budgets, whatever the price.
    """

    names: tuple[str, ...]
    size: int
    price: float
    quality: float
    cost: float
    latency: float
    area: float


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptPools:
    """Routes within a few destinations, and knows which others could have been kept.

    A price moves along the whole curve of one pool, the first: contracts do not follow the price
    of the hour. A target (`mean_cost`, `mean_quality`) is routed within the pool that meets it best
    by the figures of the table. If that cannot meet it for this batch, or nothing of it is up, the
    next in order that can is taken; where nothing kept is up, whatever is up is used.

    To serve one pool and nothing else, save `predictor` with `pool.select(fitted.kept)`: that is an
    ordinary predictor, with all that a gateway does for one.

    Parameters
    ----------
    names : tuple of str
        All m destinations that were to choose from.
    predictor : Predictor
        Chooses within a pool.
    member : array of bool (s, m)
        The different pools kept, in the order of the module.
    area : array (s,)
    which : array of int (p,)
        Row of `member` of each kept pool at a price.
    price : array (p,)
    figures : array (p, 3)
        Mean quality, cost and latency on the table.
    """

    names: tuple[str, ...]
    predictor: Predictor
    member: Bool
    area: Float
    which: Int
    price: Float
    figures: Float

    @property
    def kept(self) -> tuple[str, ...]:
        """The destinations of the first pool: those to keep."""
        return self._named(0)

    def pools(self) -> tuple[KeptPool, ...]:
        """Every kept pool at every kept price, by rising number of destinations, then cost."""
        size = self.member.sum(axis=1)[self.which]
        order = np.lexsort((-self.figures[:, 0], self.figures[:, 1], size))
        return tuple(
            KeptPool(
                names=self._named(int(self.which[i])),
                size=int(size[i]),
                price=float(self.price[i]),
                quality=float(self.figures[i, 0]),
                cost=float(self.figures[i, 1]),
                latency=float(self.figures[i, 2]),
                area=float(self.area[self.which[i]]),
            )
            for i in order
        )

    def curve(self) -> Frontier:
        """What each budget buys if the pool may be chosen with it, by the figures of the table."""
        return Frontier(self.figures[:, 1], self.figures[:, 0])

    def within(self, budget: Budget | None = None, *, most: int | None = None) -> KeptPools:
        """The same with one pool alone: the one that a budget takes by the figures of the table.

        Parameters
        ----------
        budget : Budget, optional
            Ties to the cheaper, then to the smaller pool. By default the first in order.
        most : int, optional
            Destinations to keep at most, >= 1.

        Raises
        ------
        InputError
            No pool kept is as small, or the budget cannot be met by one that is.
        """
        size = self.member.sum(axis=1)
        if most is not None and _check.integer("most", most, low=1) < size.min():
            hint = "Fit again with objectives that count the size, or allow more."
            raise InputError("most", f"be at least {size.min()}, the smallest kept", most, hint)
        limit = self.member.shape[1] if most is None else most
        if budget is None:
            row = int(np.flatnonzero(size <= limit)[0])
        else:
            usable = np.flatnonzero(size[self.which] <= limit)
            usable = usable[np.argsort(size[self.which[usable]], kind="stable")]
            figures = self.figures[usable]
            row = int(self.which[usable[best_point(figures[:, 0], figures[:, 1], budget)]])
        mine = self.which == row
        return replace(
            self,
            member=self.member[[row]],
            area=self.area[[row]],
            which=np.zeros(int(mine.sum()), dtype=np.int64),
            price=self.price[mine],
            figures=self.figures[mine],
        )

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """One destination an item, by `argmax quality - price * cost` within one pool.

        Raises
        ------
        InputError
            The pool holds an unknown destination, or no pool kept can meet the budget.
        """
        here = columns(self.names, pool)
        if len(inputs) == 0:
            return one_choice(np.empty(0, dtype=np.int64), pool.m)
        quality, cost = (table[:, here] for table in self.predictor.predict(inputs))
        first = self._fitting(budget)
        order = [first, *(row for row in range(len(self.member)) if row != first)]
        up = self.member[order][:, here] & pool.available
        up = up[up.any(axis=1)] if up.any() else pool.available[None]
        refused: InputError | None = None
        for some in up:
            try:
                choice = prices.spend(quality, cost, budget, some, rng=rng)
            except InputError as error:
                refused = refused or error
                continue
            return one_choice(choice, pool.m)
        assert refused is not None
        raise refused

    def _fitting(self, budget: Budget) -> int:
        """The pool for a target, by the figures of the table; the first where it is none."""
        if budget.mean_cost is None and budget.mean_quality is None:
            return 0
        try:
            return int(self.which[best_point(self.figures[:, 0], self.figures[:, 1], budget)])
        except InputError:  # a batch may be easier or cheaper than the table
            return 0

    def _named(self, row: int) -> tuple[str, ...]:
        names = (name for name, kept in zip(self.names, self.member[row], strict=True) if kept)
        return tuple(sorted(names))


def keep_pools(
    names: tuple[str, ...],
    predictor: Predictor,
    table: Routed,
    chosen: Sequence[PricedPool],
    *,
    upkeep: float = 0.0,
) -> KeptPools:
    """Pools at prices that are to be kept, as a router.

    Parameters
    ----------
    names : tuple of str
    predictor : Predictor
        Fitted on all rows.
    table : Routed
        For their figures and areas.
    chosen : sequence of PricedPool
        One or more.
    upkeep : float
        Area that one more destination must add, >= 0.
    """
    sets = sorted({pool.columns for pool in chosen})
    area = np.array([table.area(kept) for kept in sets])
    without = np.array([table.cheapest not in kept for kept in sets])
    size = np.array([len(kept) for kept in sets])
    order = np.lexsort((size, upkeep * size - area, without))
    row = {sets[old]: new for new, old in enumerate(order.tolist())}
    member = np.zeros((len(sets), len(names)), dtype=np.bool_)
    for kept, new in row.items():
        member[new, list(kept)] = True
    return KeptPools(
        names=names,
        predictor=predictor,
        member=member,
        area=area[order],
        which=np.array([row[pool.columns] for pool in chosen], dtype=np.int64),
        price=np.array([pool.price for pool in chosen]),
        figures=np.array([table.play(pool) for pool in chosen]),
    )
