"""Chooses which answers to buy next, so that a router learns most from what they cost.

A label is a cell: one prompt answered by one destination and graded, at a known expected cost. A
router needs to know a cell only as far as a choice hangs on it: nothing is gained by certainty
about a destination that never wins, nor on a prompt where one wins by far. `Contest` asks a
committee of b members, fitted on halves of what was bought (`turnout.parts.learners.committee`), at
prices p spread over the frontier. Equations, with the variable of each symbol::

    U[b, i, j] = Q_b[i, j] - p * cost[i, j]                                        utility
    best       = argmax_j mean_b U[b, i, j]                                        the choice now
    gain_ij    = mean_b max(0, U[b, i, j] - U[b, i, best])                         for the others
    gain_ij    = mean_b max_k max(0, U[b, i, k] - U[b, i, best])                   for j = best
    worth_ij   = mean_p gain_ij / (mean over all cells)                            (n, m)
    weight_ij  = (1 - even) worth_ij + even mean_i worth_ij + floor                (n, m)
    rate_ij    = weight_ij / sqrt(c_j)            c_j mean cost of a cell of destination j

gain_ij is what would be gained, as far as the members know, by the certainty that j is better than
the choice now; the choice itself is worth as much as the best of the others. Cells are drawn
without replacement in proportion to rate_ij, and not by rank: a batch of the highest would all be
alike, and what is fitted would have seen no ordinary prompt. `even` spends a part by destination
alone, `floor` gives up on nothing. The square root is the optimum allocation of sampling theory:
`sum_j v_j / n_j` is least at `sum_j c_j n_j = spend` where n_j is proportional to sqrt(v_j / c_j)
(Cochran, "Sampling Techniques", 3rd edition, 1977, section 5.5). While little is known all weights
are one.

Sources: Krishnamurthy, Agarwal, Huang, Daume and Langford, "Active Learning for Cost-Sensitive
Classification", 2017, arXiv:1703.01014: ask only for the labels that may be the best, ignoring
sure losers. There a version space gives each label a range of costs and examples come one by one;
here a committee gives the range, labels have prices, and a batch is drawn. Drawing a batch at
random for the sake of its diversity follows Ash, Zhang, Krishnamurthy, Langford and Agarwal, "Deep
Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", 2019, arXiv:1906.03671. That a
label's worth is to be divided by its cost is section 6.3 of Settles, "Active Learning Literature
Survey", University of Wisconsin-Madison report 1648, 2009. What else was tried, and what all of it
is worth, stands in docs/feedback.md and is measured by `benchmarks/feedback.py`.

Costs are in one currency throughout. Cost: O(n m log(n m)), and for `Contest` the members' fits
and their predictions of n prompts.

Examples
--------
>>> import numpy as np
>>> from turnout.llms.linear import Linear
>>> prompts = ["add two numbers", "write a poem", "name a river", "sort a list"]
>>> cost = np.tile([1.0, 4.0], (4, 1))
>>> order = plan(prompts, cost, None, 7.5, Linear(), np.random.default_rng(0), strategy=Rows())
>>> order.cells[:, 1].tolist(), order.spend
([0, 1], 5.0)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, Inputs, Outcomes, Recipe, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts import prices
from turnout.parts.feedback.offpolicy import spread_prices
from turnout.parts.learners.committee import half_samples
from turnout.parts.learners.crossfit import identities

__all__ = ["Cells", "Contest", "Market", "Order", "Rows", "Strategy", "plan"]


@dataclass(frozen=True, eq=False)
class Order:
    """Cells to buy, first things first.

    Parameters
    ----------
    cells : array of int (k, 2)
        Row among the prompts, and column among the destinations.
    cost : array (k,)
        What each is expected to cost.
    """

    cells: Int
    cost: Float

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def spend(self) -> float:
        """What they are expected to cost together."""
        return math.fsum(self.cost)


@dataclass(frozen=True, eq=False, kw_only=True)
class Market:
    """What is for sale, and what is known.

    Parameters
    ----------
    prompts : texts or array (n, d)
    cost : array (n, m)
        Expected cost of each cell, >= 0.
    known : array of bool (n, m)
        Cells that were seen before, of these prompts or of equal ones.
    open : array of bool (n, m)
        Cells that can be bought: unknown, and the first of their prompt.
    seen : Outcomes, optional
        Everything seen before, on these prompts and others.
    recipe : Recipe
        What is to be fitted on it.
    """

    prompts: Inputs
    cost: Float
    known: Bool
    open: Bool
    seen: Outcomes | None
    recipe: Recipe


class Strategy(Protocol):
    """A rule that puts cells in order."""

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """A number (n, m) for each cell; the least is bought first, equal ones at random."""
        ...


@dataclass(frozen=True)
class Cells:
    """Cells at random, drawn in proportion to `cost ** -power`.

    Parameters
    ----------
    power : float
        0 = every cell alike, 1 = as much money for one destination as for another; >= 0.
    """

    power: float = 0.0

    def __post_init__(self) -> None:
        _check.number("cells.power", self.power, low=0.0)

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """Exponential times at those rates: the order of draws without replacement."""
        return np.asarray(rng.exponential(size=market.cost.shape) * market.cost**self.power)


@dataclass(frozen=True)
class Rows:
    """Rows at random, with all their destinations."""

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """One place a row; rows begun before come first."""
        begun: Bool = np.asarray(market.known.any(axis=1))
        place = rng.random(len(begun)) - begun
        return np.repeat(place[:, None], market.cost.shape[1], axis=1)


@dataclass(frozen=True)
class Contest:
    """Cells on which choices hang, for their price.

    Parameters
    ----------
    members : int
        Fits of the committee, >= 2.
    prices : tuple of float, optional
        Quality per unit of cost, each >= 0 and finite: the prices of interest. By default nine
        that spread the predicted spend evenly from the cheapest choices to the freest, at 0.
    even : float
        Share of the worth that is spread over all rows of a destination, in [0, 1].
    floor : float
        Weight that every cell has at least, in units of the mean worth; > 0.
    warm : int
        Labels a destination must have on average before the committee is heard, >= 2.

    Raises
    ------
    InputError
        A value is out of range.
    """

    members: int = 4
    prices: tuple[float, ...] | None = None
    even: float = 0.2
    floor: float = 0.02
    warm: int = 20

    def __post_init__(self) -> None:
        _check.integer("contest.members", self.members, low=2)
        _check.number("contest.even", self.even, low=0.0, high=1.0)
        _check.number("contest.floor", self.floor, low=1e-9)
        _check.integer("contest.warm", self.warm, low=2)
        if self.prices is not None:
            clean = tuple(_check.number("contest.prices", p, low=0.0) for p in self.prices)
            if not clean:
                raise InputError("contest.prices", "hold a price", clean, "Or leave it out.")
            object.__setattr__(self, "prices", clean)

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """Exponential times at the rates above."""
        weight = self.weights(market, rng=rng)
        root = np.sqrt(market.cost.mean(axis=0))
        return np.asarray(rng.exponential(size=weight.shape) * root / weight)

    def weights(self, market: Market, *, rng: Generator) -> Float:
        """How much certainty about each cell is worth, (n, m); all one while little is known."""
        seen = market.seen
        known = 0 if seen is None else int(seen.seen.sum())
        if seen is None or market.cost.shape[1] == 1 or known < self.warm * seen.m:
            return np.ones(market.cost.shape)
        told = seen.take(np.flatnonzero(seen.seen.any(axis=1)))
        members = half_samples(market.recipe, told, told.pool(), self.members, rng)
        quality = np.stack([member.predict(market.prompts)[0] for member in members])
        gain = _gains(quality, market.cost, self.prices)
        if gain.max() <= 0:
            return np.ones(gain.shape)
        worth = gain / gain.mean()
        even = worth.mean(axis=0)
        return np.asarray((1.0 - self.even) * worth + self.even * even + self.floor)


def plan(
    prompts: Inputs,
    cost: Float,
    seen: Outcomes | None,
    spend: float,
    recipe: Recipe,
    rng: Generator,
    *,
    strategy: Strategy | None = None,
) -> Order:
    """The cells to buy next, in order, for at most `spend`.

    With the same generator a smaller spend buys the first cells of what a larger one buys: the
    order ends before the first cell that does not fit. A destination of which nothing was ever
    seen comes first, with one cell, because no method can be fitted without. Buy in several
    rounds, each with what the last one taught: `Contest` learns from it.

    Parameters
    ----------
    prompts : texts or array (n, d)
        What can be asked. A prompt that stands twice is sold once.
    cost : array (n, m)
        Expected cost of each cell, >= 0 and finite.
    seen : Outcomes or None
        What was seen before, with the same m destinations in the same order; its rows may be any.
        A cell of a prompt that it saw is never bought again.
    spend : float
        Most that the cells may be expected to cost together, >= 0.
    recipe : Recipe
        The method to be fitted on what is bought.
    rng : Generator
    strategy : Strategy, optional
        `Contest()` unless said.

    Returns
    -------
    Order
        Empty where the first cell is dearer than `spend`, or nothing is left to buy.

    Raises
    ------
    InputError
        Costs are not finite and (n, m), `spend` is negative or not finite, or `seen` holds other
        destinations than `cost` has columns.
    """
    n = len(prompts)
    cost = _check.floats("cost", cost, (n, None), low=0.0)
    spend = _check.number("spend", spend, low=0.0)
    if seen is not None and seen.m != cost.shape[1]:
        rule = f"hold the {cost.shape[1]} destinations that cost has columns for"
        raise InputError("seen", rule, seen.m, "Select them first: seen.select(names).")
    if n == 0 or cost.shape[1] == 0:
        return Order(np.empty((0, 2), dtype=np.int64), np.empty(0))
    known, first = _known(prompts, cost.shape[1], seen)
    market = Market(
        prompts=prompts,
        cost=cost,
        known=known,
        open=~known & first[:, None],
        seen=seen,
        recipe=recipe,
    )
    keys = (Contest() if strategy is None else strategy).keys(market, rng=rng)
    _check.expect_shape("keys", keys, cost.shape)
    cells = np.argwhere(market.open)
    at = (cells[:, 0], cells[:, 1])
    cells = cells[np.lexsort((rng.permutation(len(cells)), keys[at]))]
    if seen is None:
        cells = _covering(cells, cost.shape[1])
    price = cost[cells[:, 0], cells[:, 1]]
    count = int(np.searchsorted(np.cumsum(price), spend, side="right"))
    # a running sum rounds: the last word has the sum that does not
    while count < len(price) and math.fsum(price[: count + 1]) <= spend:
        count += 1
    while math.fsum(price[:count]) > spend:
        count -= 1
    return Order(_check.frozen(cells[:count]), _check.frozen(price[:count]))


def _known(prompts: Inputs, m: int, seen: Outcomes | None) -> tuple[Bool, Bool]:
    """Cells (n, m) seen before, and rows (n,) that are the first of their prompt."""
    n = len(prompts)
    if seen is None:
        which = identities(prompts)
        known = np.zeros((n, m), dtype=np.bool_)
    else:
        arrays = isinstance(prompts, np.ndarray) and prompts.ndim == 2
        if arrays != isinstance(seen.inputs, np.ndarray):
            hint = "Pass both as texts or both as arrays (n, d)."
            raise InputError("prompts", "be of the kind that was seen", type(prompts), hint)
        if arrays:
            vectors = np.asarray(prompts, dtype=np.float64)
            both = identities(np.concatenate([vectors, np.asarray(seen.inputs)]))
        else:
            both = identities([*prompts, *seen.inputs])
        which = both[:n]
        table = np.zeros((int(both.max()) + 1, m), dtype=np.bool_)
        np.logical_or.at(table, both[n:], seen.seen)
        known = table[which]
    first = np.zeros(n, dtype=np.bool_)
    first[np.unique(which, return_index=True)[1]] = True
    return known, first


def _gains(quality: Float, cost: Float, at: tuple[float, ...] | None) -> Float:
    """What the members (b, n, m) would gain, against their mean's choice, from each cell (n, m)."""
    mean = quality.mean(axis=0)
    knobs = spread_prices(mean, cost, 10)[1:] if at is None else np.array(at)
    rows = np.arange(len(mean))
    total = np.zeros(mean.shape)
    for price in knobs:
        best = prices.choose(mean, cost, float(price))
        utility = quality - price * cost
        over = np.maximum(utility - utility[:, rows, best][:, :, None], 0.0)
        gain = over.mean(axis=0)
        gain[rows, best] = over.max(axis=2).mean(axis=0)
        total += gain
    return np.asarray(total / len(knobs))


def _covering(cells: Int, m: int) -> Int:
    """The same cells, with the first of each destination moved to the front."""
    ahead = np.zeros(len(cells), dtype=np.bool_)
    ahead[[int(np.argmax(cells[:, 1] == j)) for j in range(m) if (cells[:, 1] == j).any()]] = True
    return np.concatenate([cells[ahead], cells[~ahead]])
