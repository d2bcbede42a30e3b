"""Learns while it serves: chooses by what it predicts, tries others now and then, and logs it all.

A request x is sent to one destination, and only that one's answer is seen. Let a predictor b give
quality Q_b and cost C_b; the probability of each destination, and the log's propensity, is::

    greedy_b(x) = argmax_j Q_b[x, j] - price * C_b[x, j]
    pi(j | x)   = (1 - rate) * mean_b [greedy_b(x) = j] + rate / m        (b, m)

`Epsilon` has one predictor, fitted on all that was seen: the epsilon-greedy rule. `Thompson` has a
committee, each fitted on a random half, and follows one member drawn afresh for each request:
Thompson sampling with a resampled posterior (Eckles and Kaptein, "Thompson sampling with the online
bootstrap", 2014, arXiv:1410.4009; there the bootstrap is online, here halves are refitted in
batches, see `turnout.parts.learners.committee`). Before the first fit every destination is as
likely as any other. `rate` is above zero in both, so that every propensity is: what was never tried
cannot be judged later (`turnout.parts.feedback.offpolicy`).

Costs are in the currency of what is learnt. Cost: a fit (or one a member) every `refit` requests.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Pool
>>> from turnout.llms.linear import Linear
>>> pool = Pool(names=("small", "large"))
>>> explorer = Explorer(Linear(), pool, price=0.1, explore=Epsilon(0.2), refit=20)
>>> rng = np.random.default_rng(0)
>>> for _ in range(4):
...     asked = ["add two numbers", "write a poem"] * 5
...     sent = explorer.choose(asked, rng=rng)
...     good = np.where(sent.index == 1, 1.0, np.array([1.0, 0.0] * 5))
...     explorer.learn(asked, sent, good, np.where(sent.index == 1, 3.0, 1.0), rng=rng)
>>> sent = explorer.choose(["add numbers", "a poem"], rng=rng)
>>> bool(np.allclose(sent.propensity, [[0.9, 0.1], [0.1, 0.9]]))
True
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, Inputs, Outcomes, Pool, Predictor, Recipe, _check
from turnout.core._check import Float, Int
from turnout.parts import prices
from turnout.parts.learners.committee import fit_predictor, half_samples
from turnout.parts.learners.crossfit import take_inputs

__all__ = ["Epsilon", "Exploration", "Explorer", "Sent", "Thompson"]


class Exploration(Protocol):
    """How to try what does not look best."""

    @property
    def rate(self) -> float:
        """Share of requests sent anywhere at random, in (0, 1]."""
        ...

    def fit(
        self, recipe: Recipe, outcomes: Outcomes, pool: Pool, *, rng: Generator
    ) -> tuple[Predictor, ...]:
        """The predictors, each of which is followed as often as any other."""
        ...


@dataclass(frozen=True)
class Epsilon:
    """The best by one predictor, but for a share of requests sent anywhere at random.

    Parameters
    ----------
    rate : float
        That share, in (0, 1].
    """

    rate: float = 0.1

    def __post_init__(self) -> None:
        _check.number("epsilon.rate", self.rate, low=1e-9, high=1.0)

    def fit(
        self, recipe: Recipe, outcomes: Outcomes, pool: Pool, *, rng: Generator
    ) -> tuple[Predictor, ...]:
        """One predictor, fitted on everything."""
        return (fit_predictor(recipe, outcomes, pool, rng),)


@dataclass(frozen=True)
class Thompson:
    """The best by a member of a committee, drawn afresh for each request.

    Parameters
    ----------
    members : int
        Predictors, >= 2. Each is fitted on half of what was seen.
    rate : float
        Share of requests sent anywhere at random, in (0, 1].
    """

    members: int = 5
    rate: float = 0.02

    def __post_init__(self) -> None:
        _check.integer("thompson.members", self.members, low=2)
        _check.number("thompson.rate", self.rate, low=1e-9, high=1.0)

    def fit(
        self, recipe: Recipe, outcomes: Outcomes, pool: Pool, *, rng: Generator
    ) -> tuple[Predictor, ...]:
        """The members, each on a half of its own."""
        return half_samples(recipe, outcomes, pool, self.members, rng)


@dataclass(frozen=True, eq=False)
class Sent:
    """Where a batch was sent, and how likely each way was.

    Parameters
    ----------
    index : array of int (b,)
    propensity : array (b, m)
        Rows sum to one; all above zero.
    """

    index: Int
    propensity: Float


@dataclass(eq=False)
class Explorer:
    """A stream of requests, one answer each, and what is learnt from them.

    Call `choose` with a batch, then `learn` with what came of it. The one part here that changes
    as it is used; it is not safe to share between threads.

    Parameters
    ----------
    recipe : Recipe
        Any method that predicts.
    pool : Pool
        The destinations; all of them up.
    price : float
        Quality per unit of cost that decides, >= 0.
    explore : Exploration
        `Epsilon` or `Thompson`.
    refit : int
        Fit again after this many requests with feedback, >= 1.
    """

    recipe: Recipe
    pool: Pool
    price: float
    explore: Exploration = field(default_factory=Epsilon)
    refit: int = 500
    _predictors: tuple[Predictor, ...] = field(init=False, default=(), repr=False)
    _inputs: list[Any] = field(init=False, default_factory=list, repr=False)
    _tables: list[tuple[Float, Float, Float]] = field(init=False, default_factory=list, repr=False)
    _graded: int = field(init=False, default=0, repr=False)
    _fitted: int = field(init=False, default=0, repr=False)

    def __post_init__(self) -> None:
        _check.number("explorer.price", self.price, low=0.0)
        _check.integer("explorer.refit", self.refit, low=1)
        if not self.pool.available.all():
            down = self.pool.names[int(np.flatnonzero(~self.pool.available)[0])]
            hint = "Leave it out: pool.select(names)."
            raise InputError("explorer.pool", "have every destination up", f"{down!r} down", hint)

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """What decides now; empty before the first fit."""
        return self._predictors

    def probabilities(self, inputs: Inputs) -> Float:
        """Chance (b, m) of each destination for each request; rows sum to one."""
        b, m = len(inputs), self.pool.m
        if not self._predictors or b == 0:
            return np.full((b, m), 1.0 / m)
        share = np.zeros((b, m))
        rows = np.arange(b)
        for predictor in self._predictors:
            quality, cost = predictor.predict(inputs)
            share[rows, prices.choose(quality, cost, self.price)] += 1.0
        share /= len(self._predictors)
        return (1.0 - self.explore.rate) * share + self.explore.rate / m

    def choose(self, inputs: Inputs, *, rng: Generator) -> Sent:
        """Send a batch: one destination a request, drawn by `probabilities`."""
        chance = self.probabilities(inputs)
        # the last sum may fall short of one by rounding, and a draw lie beyond it
        edge = np.cumsum(chance, axis=1)[:, :-1]
        index = (rng.random((len(chance), 1)) >= edge).sum(axis=1)
        return Sent(index.astype(np.int64), chance)

    def learn(
        self, inputs: Inputs, sent: Sent, quality: Float, cost: Float, *, rng: Generator
    ) -> None:
        """Take in what came of a batch; fit again when enough has come.

        Parameters
        ----------
        inputs : texts or array (b, d)
            As given to `choose`.
        sent : Sent
            What `choose` said.
        quality : array (b,)
            In [0, 1]; NaN = no feedback.
        cost : array (b,)
            >= 0; NaN = unknown.
        rng : Generator
            For the fit.

        Raises
        ------
        InputError
            Lengths differ, or a value is out of range.
        """
        b = len(inputs)
        quality = _check.floats("quality", quality, (b,), low=0, high=1, nan=True)
        cost = _check.floats("cost", cost, (b,), low=0, nan=True)
        _check.expect_shape("sent.propensity", sent.propensity, (b, self.pool.m))
        _check.expect_shape("sent.index", sent.index, (b,))
        rows = np.arange(b)
        tables = np.full((2, b, self.pool.m), np.nan)
        tables[0, rows, sent.index], tables[1, rows, sent.index] = quality, cost
        self._inputs.append(inputs)
        self._tables.append((tables[0], tables[1], sent.propensity))
        self._graded += int((~np.isnan(quality)).sum())
        if self._graded - self._fitted < self.refit:
            return
        known = np.concatenate([~np.isnan(table[0]) for table in self._tables])
        if known.any(axis=0).all():  # a method needs an example of every destination
            self._predictors = self.explore.fit(self.recipe, self.log(), self.pool, rng=rng)
            self._fitted = self._graded

    def log(self) -> Outcomes:
        """All requests with feedback so far: one seen cell a row, all propensities.

        Raises
        ------
        InputError
            A destination has had no feedback yet.
        """
        if not self._inputs:
            raise InputError("the log", "hold a request", "none", "Call learn first.")
        quality, cost, propensity = (
            np.concatenate([table[part] for table in self._tables]) for part in range(3)
        )
        rows = np.flatnonzero(~np.isnan(quality).all(axis=1))
        first = self._inputs[0]
        inputs: Any
        if isinstance(first, np.ndarray) and first.ndim == 2:
            inputs = np.concatenate(self._inputs)[rows]
        else:
            inputs = take_inputs([text for batch in self._inputs for text in batch], rows)
        return Outcomes(
            inputs=inputs,
            names=self.pool.names,
            quality=quality[rows],
            cost=cost[rows],
            propensity=propensity[rows],
        )
