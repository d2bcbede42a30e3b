"""Sends a prompt to the model whose quality, told from form and known words, is worth its price.

Routes whole requests to language models, and is the default. Two predictors are stacked. One reads
the *words*, and is as good as the training prompts are like the new one; on subjects never seen it
knows less than the length of the prompt tells. The other reads the *form* (lengths, lines,
numbers, signs) and, roughly, the topic; it is worth less on what is known and holds on what is
not. How far the words are trusted depends on how much of the prompt they know.

Equations, with the variable of each symbol::

    W_j = sigmoid(a_j (x . w_j + b_j) + c_j)      quality told by words   `parts.learners.logistic`
    F_j = mean over trees of leaf means           told by form and topic  `parts.learners.trees`
    k   = share of the prompt that is known       in [0, 1]               `parts.learners.mixture`
    p_j = trust k W_j + (1 - trust k) F_j         trust k is at most 1
    Q_j = sigmoid(d_j + e_j p + s (p_j - p))      quality (n, m)          p = mean over j of p_j
    trust = argmin  sum_i sum_j (q'_ij - p'_ij)^2                         over held-out i
            with ' for less the mean over j       the differences between models

W, F and k of a held-out row come from fits without it, in two ways that count alike: without a
random quarter of the rows, as when traffic stays what it was, and without a quarter of the *kinds*
of prompts (clusters of their words), as when it does not. The argument of the minimum is a
quotient of two sums. a, c (Platt lines) and d, e, s are fitted by log loss on the rows held out at
random. The decision, quality - price * cost, is shared (`turnout.parts.priced`); costs are in the
table's currency.

Where evidence is thin the prediction shrinks: of a prompt with no known word it is what its form
tells; of a form that few rows had, the mean of many (leaves of a hundredth of the rows, each with
some rows of the overall mean added).

Differs from the paper: see `CARD.differs`. Cost: O(characters + words m + trees (depth + m)) a
prompt.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> asked = ["add two numbers", "write a poem", "add ten numbers", "recite a poem"] * 25
>>> table = Outcomes(
...     inputs=asked,
...     names=("small", "large"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 50),
...     cost=np.array([[1.0, 9.0]] * 100),
... )
>>> fitted = Stacked(trees=10).fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(["add six numbers", "a poem"])
>>> bool(quality[0, 0] > 0.7 > 0.3 > quality[1, 0])
True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.decide import Kernel
from turnout.parts.learners.mixture import Mixture
from turnout.parts.learners.stacking import Settings, fit_mixture
from turnout.parts.reasons import compared, of_form, of_words
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "FittedStacked", "Stacked"]

CARD = Card(
    name="llms.stacked",
    system="feature-weighted stacking",
    title="Feature-Weighted Linear Stacking",
    authors="Sill, Takacs, Mackey, Lin",
    year=2009,
    id="arXiv:0911.0460",
    routes="a prompt to a language model",
    kind="score",
    recipe="Stacked",
    signal=("outcomes",),
    covers=(
        "Section 2: predictors blended with weights that are linear in a feature of the input",
    ),
    differs=(
        "The paper blends predictors of ratings; here two predictors of the quality of each "
        "language model's answer, one of words and one of form.",
        "One meta-feature, the share of the prompt that is known, and no constant: words that "
        "know nothing weigh nothing. The weights of the two add up to one, and are kept from 0 "
        "to 1.",
        "The weight is fitted to the differences between models, which are all that a choice "
        "depends on, in place of the values themselves.",
        "Besides rows held out at random, whole kinds of prompts are held out, so that the weight "
        "is right for prompts unlike those learnt from, too.",
        "The blend is calibrated by a logistic regression on its mean over the models and on the "
        "differences from that.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("stacking", "blend", "words and form", "default", "extra trees"),
    cost="fit: nine forests, nine fits of words; route: O(characters + words m + trees m) an item",
)


@dataclass(frozen=True)
class Stacked:
    """Recipe of the stacked router.

    Parameters
    ----------
    trees : int
        Of the forest over the form, >= 1.
    share : float
        Of the form's columns, drawn at each node of a tree; in (0, 1].
    l2 : tuple of float
        Penalties of the words to choose from out of fold; each > 0.
    folds : int
        Parts that are held out in turn, >= 2; of rows, and of kinds of prompts.
    kinds : int
        Clusters of prompts, >= 2.
    min_df : int
        A word or pair counts if it stands in this many prompts, >= 1.
    max_features : int
        Most words and pairs kept, >= 1.

    Raises
    ------
    InputError
        A value is out of range.
    """

    trees: int = 200
    share: float = 0.3
    l2: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5)
    folds: int = 4
    kinds: int = 24
    min_df: int = 2
    max_features: int = 60_000

    def __post_init__(self) -> None:
        _check.integer("stacked.trees", self.trees, low=1)
        _check.number("stacked.share", self.share, low=1e-6, high=1.0)
        object.__setattr__(self, "l2", _check.strengths("stacked.l2", self.l2))
        _check.integer("stacked.folds", self.folds, low=2)
        _check.integer("stacked.kinds", self.kinds, low=2)
        _check.integer("stacked.min_df", self.min_df, low=1)
        _check.integer("stacked.max_features", self.max_features, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedStacked:
        """Hold out rows and kinds to weigh and calibrate, then fit on everything."""
        settings = Settings(**vars(self))
        mixture = fit_mixture(outcomes.inputs, outcomes.quality, settings, rng=rng)
        return FittedStacked(outcomes.names, mixture, fit_costs(outcomes))


@dataclass(frozen=True, eq=False)
class FittedStacked:
    """Words and form, and how far the words are trusted.

    Parameters
    ----------
    names : tuple of str
    mixture : Mixture
        Calibrated quality of m destinations.
    costs : CostModel
    """

    names: tuple[str, ...]
    mixture: Mixture
    costs: CostModel

    def __post_init__(self) -> None:
        m = len(_check.names("stacked.names", self.names))
        _check.expect_shape("stacked.mixture.line.base", self.mixture.line.base, (m,))
        _check.expect_shape("stacked.costs.base", self.costs.base, (m,))

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        return self.mixture.predict(texts_of(inputs)), self.costs.predict(inputs)

    def predict_one(self, text: str) -> tuple[list[float], list[float]]:
        """Expected quality and cost of one text, m numbers each."""
        return self.mixture.quality(text), self.costs.predict_one(len(text))

    def because(self, text: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """What words and form say, and how far the words are trusted, in sentences.

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
        mixture = self.mixture
        by_words, by_form, weight = mixture.parts(text)
        columns = compared(self.names, mixture.quality(text), names)
        chosen = [self.names[j] for j in columns]
        told = " and ".join(
            f"{name} {by_words[j]:.2f} by its words and {by_form[j]:.2f} by its form"
            for name, j in zip(chosen, columns, strict=True)
        )
        words, parts = mixture.words.contributions(text)
        scores, _ = mixture.words.weigh(text, mixture.unknown)
        form, effects = mixture.form_parts(text)
        return (
            f"It is predicted {told}; the words count {weight:.0%}, by how many of them are known.",
            *of_words(chosen, words, parts[:, columns], [scores[j] for j in columns]),
            *of_form(chosen, form, effects[:, columns]),
        )

    def use_kernel(self, *, build: bool = False, seconds: float | None = None) -> str:
        """Predict by compiled code from now on: see `TextScorer.use_kernel`."""
        return self.mixture.use_kernel(build=build, seconds=seconds)

    def kernel(self, columns: Sequence[int] | None = None) -> Kernel | None:
        """Compiled code that decides among some destinations, if this process has it."""
        return self.mixture.kernel(self.costs, columns)
