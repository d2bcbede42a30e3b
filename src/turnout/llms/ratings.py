"""Sends prompts by the strength each model shows in head-to-head comparisons, whatever they say.

Routes whole requests to language models. A global leaderboard made a router: within every row
that saw two models the better one wins, a Bradley-Terry model turns wins into strengths, and a
straight line turns strengths into expected quality. A model that was only given the hard prompts
is not thought weak for it, as it would be by its mean.

Equations, with the variable of each symbol::

    P(i beats j) = 1 / (1 + exp(s_j - s_i))                      strength s (m,)
    w_ij = rows with q_i > q_j, plus half of those with q_i = q_j  wins (m, m)
    Q_j = clip(a + b s_j, 0, 1)                                  quality (m,)
    b = sum_{i<j} n_ij d_ij (s_i - s_j) / sum_{i<j} n_ij (s_i - s_j)^2
    a = mean of all seen q_ij  -  b * mean of s_j over the same cells

n_ij rows saw both models of a pair, with mean difference d_ij in quality. Strengths are in
logits; costs in the currency of the table. The decision, quality - price * cost, is shared: at
one price every prompt goes to one model (up to its length), and a budget between two models is
met by splitting the batch.

Differs from the papers: see `CARD.differs`. Cost: fit O(n m^2), route O(m) an item.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["p", "q", "r", "s"],
...     names=("small", "large"),
...     quality=np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
...     cost=np.array([[1.0, 9.0]] * 4),
... )
>>> fitted = Ratings().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> round(float(fitted.strength[1] - fitted.strength[0]), 2)  # log(3 / 1)
1.1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.ratings import bradley_terry, wins_of

__all__ = ["CARD", "FittedRatings", "Ratings"]

CARD = Card(
    name="llms.ratings",
    system="Bradley-Terry (Chatbot Arena)",
    title="Rank Analysis of Incomplete Block Designs: I. The Method of Paired Comparisons",
    authors="Bradley, Terry",
    year=1952,
    id="doi:10.2307/2334029",
    routes="a prompt to a language model",
    kind="score",
    recipe="Ratings",
    signal=("outcomes", "pairs"),
    covers=(
        "The Bradley-Terry model and its maximum-likelihood strengths",
        "Chatbot Arena: An Open Platform for Evaluating LLMs by Human Preference (Chiang et al. "
        "2024, arXiv:2403.04132): ratings of language models from pairwise votes",
    ),
    differs=(
        "Pairs come from rows that saw two models; votes enter through "
        "turnout.parts.learners.ratings.from_votes.",
        "A small ridge keeps the strength of a model finite that never lost, and compares models "
        "that never met.",
        "Ties count as half a win for both.",
        "Strengths are mapped to quality by a straight line fitted to the differences, because "
        "the shared decision needs a quality to hold against a cost.",
        "No confidence intervals, no sampling rule, no weighting by similarity to the prompt.",
    ),
    properties=("price_monotone", "per_item", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("bradley-terry", "elo", "arena"),
    cost="fit: O(n m^2); route: O(m) an item",
)


@dataclass(frozen=True)
class Ratings:
    """Recipe of a router by global strength.

    Parameters
    ----------
    ridge : float
        Draws strengths towards each other, in squared logits; >= 1e-9.

    Raises
    ------
    InputError
        The value is out of range.
    """

    ridge: float = 1e-3

    def __post_init__(self) -> None:
        _check.number("ratings.ridge", self.ridge, low=1e-9)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedRatings:
        """Compare the models row by row.

        Raises
        ------
        InputError
            No row saw two models, so there is nothing to compare.
        """
        quality = outcomes.quality
        if outcomes.m == 1:
            strength, level = np.zeros(1), outcomes.mean_quality()
        else:
            wins = wins_of(quality)
            if not wins.any():
                raise InputError(
                    "outcomes.quality",
                    "hold a row that saw two destinations",
                    "one seen cell a row",
                    "Ratings learn from comparisons; take another method for a log of single "
                    "choices.",
                )
            strength = bradley_terry(wins, ridge=self.ridge)
            level = _calibrate(quality, strength)
        return FittedRatings(
            names=outcomes.names, strength=strength, quality=level, costs=fit_costs(outcomes)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedRatings:
    """One strength and one quality a model.

    Parameters
    ----------
    names : tuple of str
    strength : array (m,)
        In logits, mean zero.
    quality : array (m,)
        Expected quality, in [0, 1].
    costs : CostModel
    """

    names: tuple[str, ...]
    strength: Float
    quality: Float
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """The same quality (b, m) for every input, and the expected cost (b, m)."""
        cost = self.costs.predict(inputs)
        return np.tile(self.quality, (len(cost), 1)), cost


def _calibrate(quality: Float, strength: Float) -> Float:
    """Quality (m,) on a line in the strength, fitted to the differences within rows."""
    seen = ~np.isnan(quality)
    filled = np.where(seen, quality, 0.0)
    both = seen.astype(np.float64).T @ seen
    # sum over shared rows of q_i - q_j
    apart = filled.T @ seen - seen.T @ filled
    gap = strength[:, None] - strength[None, :]
    spread = float((both * gap * gap).sum())
    slope = max(0.0, float((apart * gap).sum()) / spread) if spread > 0 else 0.0
    count = seen.sum(axis=0)
    offset = (filled.sum() - slope * float(count @ strength)) / count.sum()
    return np.asarray(np.clip(offset + slope * strength, 0.0, 1.0))
