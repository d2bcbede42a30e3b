"""Sends a prompt to the model whose expected quality, told from its words, is worth its price.

Routes whole requests to language models, in the fewest microseconds. Each model has one calibrated
logistic regression over the words and word pairs of the prompt. All of it is compiled to one
table, so that a decision is some tens of microseconds from string to choice, and a few where
compiled code is at hand (`turnout.parts.native`).

Equations, with the variable of each symbol::

    x_f = idf_f / |.|  if f stands in the prompt, else 0            features (n, d), sparse
    z_j = x . w_j + b_j                                             weights (d, m), intercept (m,)
    Q_j = sigmoid(a_j z_j + c_j)                                    quality (n, m), in [0, 1]
    w, b = argmin  sum_seen log(1 + e^z) - q z + l2 / 2 |w_j|^2     `parts.learners.logistic`
    a, c = Platt scaling of out-of-fold z                           `parts.learners.calibration`

q in [0, 1] is the quality seen; cells never seen are left out. `l2` is the one of a few that, out
of fold and calibrated, best tells the differences of quality between models (their squared error;
log loss where most prompts have one answer). a and c are multiplied into w and b once fitted. The
decision, quality - price * cost, is shared (`turnout.parts.priced`); costs are in the currency of
the table.

Differs from the paper: see `CARD.differs`. Cost: O(characters + words m) a prompt.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["add two numbers", "write a poem", "add ten numbers", "recite a poem"] * 10,
...     names=("small", "large"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 1.0]] * 10),
...     cost=np.array([[1.0, 9.0]] * 40),
... )
>>> fitted = Linear().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(["add six numbers", "a long poem"])
>>> bool(quality[0, 0] > 0.8 > 0.2 > quality[1, 0])
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.decide import Kernel
from turnout.parts.learners.calibration import (
    Calibration,
    contrast_loss,
    fit_calibration,
    log_loss,
)
from turnout.parts.learners.logistic import fit_logistic
from turnout.parts.reasons import compared, of_words
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "FittedLinear", "Linear"]

CARD = Card(
    name="llms.linear",
    system="binarised bigrams, logistic",
    title="Baselines and Bigrams: Simple, Good Sentiment and Topic Classification",
    authors="Wang, Manning",
    year=2012,
    id="ACL P12-2018",
    routes="a prompt to a language model",
    kind="score",
    recipe="Linear",
    signal=("outcomes",),
    covers=("Section 2: a linear classifier over binarised counts of words and word pairs",),
    differs=(
        "The paper classifies sentiment and topic; here each language model is a class of its "
        "own that may hold or not, and the target is the quality of its answer, in [0, 1].",
        "Logistic loss in place of the squared hinge, because the decision needs a calibrated "
        "expectation and not only a side.",
        "Features are weighted by the rarity of the word (idf) in place of naive Bayes ratios, "
        "so that one table of features serves all models.",
        "The penalty is chosen out of fold by the error in quality differences between models, "
        "and the outcome is Platt-scaled.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("tf-idf", "logistic regression", "bag of words", "n-grams"),
    cost="fit: a few hundred sparse products of n rows; route: O(characters + words m) an item",
)


@dataclass(frozen=True)
class Linear:
    """Recipe of the linear router.

    Parameters
    ----------
    l2 : tuple of float
        Strengths of the penalty to choose from; one = no choice. Each > 0.
    folds : int
        Parts of the table for out-of-fold scores, >= 2.
    min_df : int
        A word or pair counts if it stands in this many prompts, >= 1.
    max_features : int
        Most words and pairs kept, >= 1.

    Raises
    ------
    InputError
        A value is out of range.
    """

    l2: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5)
    folds: int = 4
    min_df: int = 2
    max_features: int = 60_000

    def __post_init__(self) -> None:
        object.__setattr__(self, "l2", _check.strengths("linear.l2", self.l2))
        _check.integer("linear.folds", self.folds, low=2)
        _check.integer("linear.min_df", self.min_df, low=1)
        _check.integer("linear.max_features", self.max_features, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedLinear:
        """Learn the vocabulary, choose the penalty out of fold, calibrate, fit on everything."""
        features = learn_features(
            outcomes.inputs, min_df=self.min_df, max_features=self.max_features
        )
        x = features.transform(outcomes.inputs)
        l2, calibration = self._choose(x, outcomes.quality, rng)
        weights, intercept = fit_logistic(x, outcomes.quality, l2)
        scorer = TextScorer(
            features,
            (weights * calibration.slope).astype(np.float32),
            intercept * calibration.slope + calibration.shift,
        )
        return FittedLinear(outcomes.names, scorer, fit_costs(outcomes), l2)

    def _choose(self, x: Any, quality: Float, rng: Generator) -> tuple[float, Calibration]:
        """The penalty of least out-of-fold error once calibrated, and that calibration."""
        n, m = quality.shape
        folds = min(self.folds, n)
        if folds < 2:
            return self.l2[0], Calibration(np.ones(m), np.zeros(m))
        fold = rng.permutation(np.arange(n) % folds)
        scores = np.empty((len(self.l2), n, m))
        for part in range(folds):
            train, test = fold != part, fold == part
            start = None
            for level, l2 in enumerate(self.l2):
                start = fit_logistic(x[train], quality[train], l2, start=start, tolerance=0.02)
                scores[level, test] = x[test] @ start[0] + start[1]
        lines = [fit_calibration(level, quality) for level in scores]
        # In a log of single choices there are hardly any differences to judge by.
        paired = (~np.isnan(quality)).sum(axis=1) >= 2
        losses = [
            contrast_loss(line.apply(level), quality)
            if 2 * paired.sum() >= n
            else log_loss(level * line.slope + line.shift, quality)
            for level, line in zip(scores, lines, strict=True)
        ]
        best = int(np.argmin(losses))
        return self.l2[best], lines[best]


@dataclass(frozen=True, eq=False)
class FittedLinear:
    """One calibrated linear model a destination.

    Parameters
    ----------
    names : tuple of str
    scorer : TextScorer
        Calibrated log-odds of a good answer.
    costs : CostModel
    l2 : float
        The penalty chosen.
    """

    names: tuple[str, ...]
    scorer: TextScorer
    costs: CostModel
    l2: float

    def __post_init__(self) -> None:
        m = len(_check.names("linear.names", self.names))
        _check.expect_shape("linear.scorer.intercept", self.scorer.intercept, (m,))
        _check.expect_shape("linear.costs.base", self.costs.base, (m,))

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        # The quick path is no slower a text than whole batches would be, and is always the same.
        texts = texts_of(inputs)
        quality = np.empty((len(texts), len(self.names)))
        cost = np.empty_like(quality)
        for row, text in enumerate(texts):
            quality[row], cost[row] = self.predict_one(text)
        return quality, cost

    def predict_one(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m numbers each."""
        # e^700 is about the greatest that a float holds
        quality = [
            1.0 / (1.0 + exp(-score)) if score > -700.0 else 0.0
            for score in self.scorer.score(text)
        ]
        return quality, self.costs.predict_one(len(text))

    def because(self, text: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The words that most part the chosen destination from the other, in sentences.

        Parameters
        ----------
        text : str
        names : sequence of str
            One or two destinations, the chosen first; by default the two predicted to be best.

        Raises
        ------
        InputError
            A name is unknown.
        """
        scores = self.scorer.score(text)
        columns = compared(self.names, scores, names)
        words, parts = self.scorer.contributions(text)
        chosen = [self.names[j] for j in columns]
        return of_words(chosen, words, parts[:, columns], [scores[j] for j in columns])

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Predict by compiled code from now on: see `TextScorer.use_kernel`."""
        return self.scorer.use_kernel(build=build, seconds=seconds)

    def kernel(self, columns: Sequence[int] | None = None) -> Kernel | None:
        """Compiled code that decides among some destinations, if this process has it."""
        return self.scorer.kernel(self.costs.lines(columns), columns)
