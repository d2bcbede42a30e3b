"""Finds the best model with few labels, asking next where a policy trained against the worst asks.

Routes whole requests to the model that a given number of graded answers names as the best, price
considered. It reads no prompt: what is learned is what to *ask*, that is, which model is to answer
and be graded next.

Idea. Rules of adaptive queries are designed by hand, each good at some difficulty. Instead train
one policy by a game against problems, so that at every level of difficulty it is nearly as good as
the policy trained for that level (Learning to Actively Learn: A Robust Approach, 2020,
arXiv:2010.15382). The game, its levels and its training are `parts.feedback.minimax`; here an arm
is a model and an answer is a packet of g = labels / packets graded cells::

    y      = sqrt(g) * (2 * mean of the packet - 1)         variance at most one
    theta  = sqrt(g) * (2 * mean quality - 1)               (m,)
    counts, sums of y (m,)  ->  chance of each model  ->  a packet of it, rows drawn evenly
    named  = argmax_j sums_j / counts_j

C(theta) falls with g: more labels make every problem easier, and the levels are in units of the
number of packets T. What is handed to the shared decision, quality - price * cost, is the mean of
the labels bought of each model, (n, m) with equal rows; costs are in the table's currency. No more
than `labels` cells of the table's quality are ever looked at.

`Buyer` is the same policy as a strategy of `parts.feedback.buying.plan`, for labels that are really
bought: plan a packet, have it graded, plan the next.

Fallback: a model whose seen cells are all bought is passed over; where none is left, buying ends.
A model of which nothing was bought counts as the mean of all labels.

Differs from the paper: see `CARD.differs`. Cost: fit: the training of `parts.feedback.minimax`,
once for a number of models and packets, independent of the table; then O(T m h^2); route: O(m).

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> rng = np.random.default_rng(0)
>>> table = Outcomes(
...     inputs=[f"prompt {i}" for i in range(200)],
...     names=("small", "large"),
...     quality=(rng.random((200, 2)) < [0.3, 0.9]).astype(float),
...     cost=np.array([[1.0, 9.0]] * 200),
... )
>>> fitted = ActiveMinimax(labels=40, packets=8, steps=10).fit(table, table.pool(), rng=rng)
>>> fitted.named, len(fitted.bought)
('large', 40)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.feedback.buying import Market
from turnout.parts.feedback.minimax import Asker, BestArm, Learned, Learning, learn
from turnout.parts.qlearning import QNetwork

__all__ = ["CARD", "ActiveMinimax", "Bought", "Buyer", "FittedActiveMinimax", "buy"]

CARD = Card(
    name="llms.active_minimax",
    system="MAPO",
    title="Learning to Actively Learn: A Robust Approach",
    authors="Zhang, Jain, Jamieson",
    year=2020,
    id="arXiv:2010.15382",
    routes="a prompt to the model that few labels name as the best",
    kind="policy",
    recipe="ActiveMinimax",
    signal=("outcomes",),
    covers=(
        "the minimax gap over nested sets of problems of bounded complexity",
        "MAPO: a policy a level, then one against the worst gap; particles with mixing weights",
    ),
    differs=(
        "The complexity is the information-theoretic one itself, by multiplicative weights; the "
        "paper has a smooth surrogate for some classes.",
        "The decision is the best mean and is not learned; the loss is that of naming another.",
        "A step of the adversary for each of the policy, with larger rates; particles are scaled "
        "back to their level, and a step that all but ties two hypotheses is not taken.",
        "Networks of two hidden layers; for models one network reads each beside the others, so "
        "that no order matters. The late weights are averaged.",
        "Labels come in packets, so that a game has tens of steps for hundreds of labels.",
        "Graded answers are bounded, not normal: their variance is at most that of the game.",
    ),
    properties=("price_monotone", "per_item"),
    knobs=(("price", "quality per unit of cost"), ("labels", "graded cells that may be looked at")),
    aliases=("mapo", "learning to actively learn", "best arm", "active learning"),
    cost="fit: 6 K steps of particles * rollouts games of T questions; route: O(m) an item",
)


@dataclass(frozen=True)
class ActiveMinimax:
    """Recipe of the policy that buys labels.

    Parameters
    ----------
    labels : int
        Graded answers to buy, >= 1.
    packets : int
        Questions they are divided among, >= 1; at least two a model are taken.
    levels : tuple of float
        Complexities in units of the number of packets, rising, each > 0.
    steps : int
        Updates of training for each level, twice as many in the end; >= 1.
    particles, rollouts, width : int
        See `turnout.parts.feedback.minimax.Learning`.

    Raises
    ------
    InputError
        A value is out of range.
    """

    labels: int = 200
    packets: int = 20
    levels: tuple[float, ...] = (0.2, 0.6, 2.0)
    steps: int = 120
    particles: int = 24
    rollouts: int = 8
    width: int = 24

    def __post_init__(self) -> None:
        _check.integer("active_minimax.labels", self.labels, low=1)
        _check.integer("active_minimax.packets", self.packets, low=1)
        self.learning(1)

    def learning(self, packets: int) -> Learning:
        """The training for games of this many packets."""
        return Learning(
            levels=tuple(_check.number("active_minimax.levels", r) * packets for r in self.levels),
            steps=self.steps,
            particles=self.particles,
            rollouts=self.rollouts,
            width=self.width,
        )

    def game(self, m: int) -> BestArm:
        """The game of m models."""
        return BestArm(m, max(self.packets, 2 * m))

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedActiveMinimax:
        """Train the policy, buy labels of the table by it, and keep their means."""
        m = outcomes.m
        network = None
        if m == 1:
            cells = _some(outcomes.seen[:, 0], self.labels, rng)
            quality = np.array([outcomes.quality[cells, 0].mean()])
            bought = np.column_stack([cells, np.zeros_like(cells)])
        else:
            game = self.game(m)
            policy = learn(game, self.learning(game.labels), rng=rng).policy
            network = policy.network
            found = buy(policy, outcomes.quality, self.labels, game.labels, rng=rng)
            quality, bought = found.quality, found.cells
        return FittedActiveMinimax(
            names=outcomes.names,
            quality=quality,
            bought=bought,
            network=network,
            packets=self.game(max(m, 2)).labels,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False)
class Bought:
    """Labels bought from a table.

    Parameters
    ----------
    cells : array of int (k, 2)
        Row and column of each, in the order they were bought; none twice.
    quality : array (m,)
        Mean label of each model.
    """

    cells: Int
    quality: Float

    @property
    def best(self) -> int:
        """The model named."""
        return int(self.quality.argmax())


def buy(asker: Asker, quality: Float, labels: int, packets: int, *, rng: Generator) -> Bought:
    """Buy labels of a table, packet by packet, where a rule says.

    Parameters
    ----------
    asker : Asker
        A learned policy, or `Uniform` or `Halving` of `turnout.parts.feedback.minimax`.
    quality : array (n, m)
        In [0, 1]; NaN = cannot be bought. Only what is bought is looked at.
    labels, packets : int
        How many in all, in how many packets; each >= 1. Packets differ by one label at most.
    rng : Generator

    Raises
    ------
    InputError
        There is no cell to buy, or a count is out of range.
    """
    labels = _check.integer("labels", labels, low=1)
    packets = _check.integer("packets", packets, low=1, high=max(labels, packets))
    table = _check.floats("quality", quality, (None, None), low=0.0, high=1.0, nan=True)
    m = table.shape[1]
    stock = [rng.permutation(np.flatnonzero(~np.isnan(column))).tolist() for column in table.T]
    if not any(stock):
        raise InputError("quality", "hold a cell that can be bought", "only NaN", "Add answers.")
    counts, sums = np.zeros((1, m)), np.zeros((1, m))
    total, number = np.zeros(m), np.zeros(m)
    cells: list[tuple[int, int]] = []
    sizes = [labels * (t + 1) // packets - labels * t // packets for t in range(packets)]
    for t, size in enumerate(sizes):
        if size == 0:
            continue
        j = int(asker.choose(counts, sums, t, rng)[0])
        if not stock[j]:
            left = [k for k in range(m) if stock[k]]
            if not left:
                break
            j = min(left, key=lambda k: (counts[0, k], k))
        taken = [stock[j].pop() for _ in range(min(size, len(stock[j])))]
        values = table[taken, j]
        cells += [(i, j) for i in taken]
        total[j] += values.sum()
        number[j] += len(taken)
        counts[0, j] += 1.0
        sums[0, j] += np.sqrt(len(taken)) * (2.0 * values.mean() - 1.0)
    overall = float(total.sum() / number.sum())
    means = np.where(number > 0, total / np.maximum(number, 1.0), overall)
    return Bought(np.array(cells, dtype=np.int64), means)


def _some(seen: Bool, k: int, rng: Generator) -> Int:
    """At most k rows in which a cell was seen."""
    return np.asarray(rng.permutation(np.flatnonzero(seen))[:k], dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedActiveMinimax:
    """What was bought, and the policy that bought it.

    Parameters
    ----------
    names : tuple of str
    quality : array (m,)
        Mean label of each model.
    bought : array of int (k, 2)
        Cells in the order they were bought.
    network : QNetwork or None
        The policy; None for a single model.
    packets : int
        Questions of its game.
    costs : CostModel
    """

    names: tuple[str, ...]
    quality: Float
    bought: Int
    network: QNetwork | None
    packets: int
    costs: CostModel

    @property
    def named(self) -> str:
        """The model that the labels name as the best."""
        return self.names[int(self.quality.argmax())]

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Mean label of each model (n, m), the same for every input, and cost (n, m)."""
        return np.tile(self.quality, (len(inputs), 1)), self.costs.predict(inputs)

    def buyer(self, labels: int) -> Buyer:
        """The policy as a strategy of `turnout.parts.feedback.buying`, for so many labels in all.

        Raises
        ------
        InputError
            There is a single model: nothing is to be compared.
        """
        if self.network is None:
            hint = "Add another model."
            raise InputError("models", "be two or more", self.names, hint)
        each = max(1, _check.integer("labels", labels, low=1) // self.packets)
        return Buyer(Learned(BestArm(len(self.names), self.packets), self.network), each)


@dataclass(frozen=True, eq=False)
class Buyer:
    """Orders the cells of a market by what the policy would ask next.

    The order is of the next packet: buy some of the first, have them graded, and plan again.

    Parameters
    ----------
    policy : Learned
        Of as many arms as the market has destinations.
    each : int
        Labels of a packet, >= 1.
    """

    policy: Learned
    each: int = 1

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """A number (n, m) for each cell, the least first: the model drawn first, then by chance.

        Raises
        ------
        InputError
            The market has another number of destinations than the policy.
        """
        n, m = market.cost.shape
        if m != self.policy.game.arms:
            hint = "Train one for this number."
            raise InputError("market", f"have {self.policy.game.arms} destinations", m, hint)
        counts, sums = np.zeros((1, m)), np.zeros((1, m))
        if market.seen is not None:
            label = market.seen.quality
            number = (~np.isnan(label)).sum(axis=0)
            mean = np.nansum(label, axis=0) / np.maximum(number, 1)
            counts[0] = number / self.each
            sums[0] = counts[0] * np.sqrt(self.each) * (2.0 * mean - 1.0)
        chance = self.policy.chances(counts, sums)[0]
        fresh = counts[0] == 0
        if fresh.any():
            chance = fresh / fresh.sum()
        place = rng.exponential(size=m) / np.maximum(chance, 1e-12)
        # ranks of the models, and rows at random within each
        rank = np.empty(m)
        rank[np.argsort(place)] = np.arange(m)
        return np.asarray(rank[None, :] + rng.random((n, m)))
