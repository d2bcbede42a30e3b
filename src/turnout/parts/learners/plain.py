"""A plain predictor to build with: one logistic regression over words a destination.

For a method whose own subject is another one, and that needs to know roughly who answers what: no
penalty is chosen and nothing is calibrated, so that a fit takes a fraction of a second a thousand
rows, and can be repeated without each part of a table::

    Q_j = sigmoid(x . w_j + b_j)        `turnout.parts.learners.logistic`, x of `texts.bags`
    C_j = a line in the length          `turnout.parts.costs`

Whoever wants better predictions hands over a better method; this stands where none was given.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["add two numbers", "write a poem"] * 20,
...     names=("small", "large"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 20),
...     cost=np.array([[1.0, 9.0]] * 40),
... )
>>> fitted = Plain().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(["add numbers", "a poem"])
>>> bool(quality[0, 0] > 0.7 > 0.3 > quality[1, 0])
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.logistic import fit_logistic, sigmoid
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.parts.texts.words import texts_of

__all__ = ["FittedPlain", "Plain"]


@dataclass(frozen=True)
class Plain:
    """Recipe of the plain predictor.

    Parameters
    ----------
    l2 : float
        Penalty of the words, > 0.
    min_df : int
        A word or pair counts if it stands in this many prompts, >= 1.
    max_features : int
        Most words and pairs kept, >= 1.

    Raises
    ------
    InputError
        A value is out of range.
    """

    l2: float = 1.0
    min_df: int = 2
    max_features: int = 20_000

    def __post_init__(self) -> None:
        _check.number("plain.l2", self.l2, low=1e-9)
        _check.integer("plain.min_df", self.min_df, low=1)
        _check.integer("plain.max_features", self.max_features, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedPlain:
        """Learn the vocabulary and the weights; nothing is drawn.

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        texts = texts_of(outcomes.inputs)
        features = learn_features(texts, min_df=self.min_df, max_features=self.max_features)
        weights, intercept = fit_logistic(features.transform(texts), outcomes.quality, self.l2)
        scorer = TextScorer(features, weights.astype(np.float32), intercept)
        return FittedPlain(outcomes.names, scorer, fit_costs(outcomes))


@dataclass(frozen=True, eq=False)
class FittedPlain:
    """One linear model of words a destination.

    Parameters
    ----------
    names : tuple of str
    scorer : TextScorer
        Log-odds of a good answer.
    costs : CostModel
    """

    names: tuple[str, ...]
    scorer: TextScorer
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        texts = texts_of(inputs)
        scores = np.empty((len(texts), len(self.names)))
        for row, text in enumerate(texts):  # one by one: no batch then differs from its parts
            scores[row] = self.scorer.score(text)
        return sigmoid(scores), self.costs.predict(texts)
