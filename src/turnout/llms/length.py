"""Sends a prompt to the model whose quality, expected from its length alone, is worth its price.

Routes whole requests to language models. Long prompts are often difficult ones; a learned prior
that knows nothing but the length is the least any router that reads must beat.

Equations, with the variable of each symbol::

    t = (log(1 + characters) - centre) / spread          `centre`, `spread` over the table
    z_j = w_j1 t + w_j2 t^2 + b_j                        weights (2, m), intercept (m,)
    Q_j = sigmoid(z_j)                                   quality (n, m), in [0, 1]
    w, b = argmin  sum_seen log(1 + e^z) - q z + l2 / 2 |w_j|^2

q in [0, 1] is the quality seen; cells never seen are left out. t is kept within [-4, 4]: no prompt
is told of by more than a curve drawn through others. The decision, quality - price * cost, is
shared (`turnout.parts.priced`); costs are in the currency of the table.

Differs from the paper: see `CARD.differs`. Cost: O(m) a prompt.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=["short", "a prompt that is a good deal longer"] * 20,
...     names=("small", "large"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 20),
...     cost=np.array([[1.0, 9.0]] * 40),
... )
>>> fitted = Length().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(["brief", "this one is as long as the long one"])
>>> [round(float(q), 2) for q in quality[:, 0]]
[0.93, 0.07]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log1p

import numpy as np
from numpy.random import Generator
from scipy.sparse import csr_matrix

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.logistic import fit_logistic, sigmoid
from turnout.parts.reasons import compared
from turnout.parts.texts.words import texts_of

__all__ = ["CARD", "FittedLength", "Length"]

CARD = Card(
    name="llms.length",
    system="length prior",
    title="Econometric methods for fractional response variables with an application to 401(k) "
    "plan participation rates",
    authors="Papke, Wooldridge",
    year=1996,
    id="doi:10.1002/(SICI)1099-1255(199611)11:6<619::AID-JAE418>3.0.CO;2-1",
    routes="a prompt to a language model",
    kind="score",
    recipe="Length",
    signal=("outcomes",),
    covers=("Section 2, equations 4 and 5: quasi-maximum likelihood of a fractional logit",),
    differs=(
        "The paper gives the regression, not a router: that prompts are told apart by their length "
        "is the baseline every published router is measured against here.",
        "A small quadratic penalty, so that a table that length splits perfectly has a solution.",
    ),
    properties=("price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("prompt length", "fractional logit"),
    cost="fit: a few passes over n numbers; route: O(m) an item",
)

#: Spreads from the centre that the curve is followed to.
_EDGE = 4.0


@dataclass(frozen=True)
class Length:
    """Recipe of the length prior.

    Parameters
    ----------
    l2 : float
        Strength of the penalty, > 0.

    Raises
    ------
    InputError
        The strength is out of range.
    """

    l2: float = 1.0

    def __post_init__(self) -> None:
        _check.number("length.l2", self.l2, low=1e-6)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedLength:
        """Draw one curve a model through quality against log length."""
        size = _log_length(outcomes.inputs)
        centre, spread = float(size.mean()), float(max(size.std(), 1e-6))
        x = csr_matrix(_curve(size, centre, spread))
        weights, intercept = fit_logistic(x, outcomes.quality, self.l2)
        costs = fit_costs(outcomes)
        return FittedLength(outcomes.names, weights, intercept, centre, spread, costs)


@dataclass(frozen=True, eq=False)
class FittedLength:
    """One curve a destination.

    Parameters
    ----------
    names : tuple of str
    weights : array (2, m)
    intercept : array (m,)
    centre, spread : float
        Mean and standard deviation of log(1 + characters) in the table.
    costs : CostModel
    """

    names: tuple[str, ...]
    weights: Float
    intercept: Float
    centre: float
    spread: float
    costs: CostModel

    def __post_init__(self) -> None:
        m = len(_check.names("length.names", self.names))
        object.__setattr__(self, "weights", _check.floats("length.weights", self.weights, (2, m)))
        intercept = _check.floats("length.intercept", self.intercept, (m,))
        object.__setattr__(self, "intercept", intercept)
        _check.number("length.centre", self.centre)
        _check.number("length.spread", self.spread, low=1e-9)
        _check.expect_shape("length.costs.base", self.costs.base, (m,))

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m) and cost (n, m).

        Raises
        ------
        InputError
            The inputs are not texts.
        """
        x = _curve(_log_length(inputs), self.centre, self.spread)
        return sigmoid(x @ self.weights + self.intercept), self.costs.predict(inputs)

    def because(self, text: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """How long it is beside what was learnt from, and what that does, in sentences.

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
        usual = self.intercept
        here = (_curve(_log_length([text]), self.centre, self.spread) @ self.weights)[0] + usual
        columns = compared(self.names, here.tolist(), names)
        middle = round(exp(self.centre) - 1)
        changes = " and ".join(
            f"{self.names[j]} from {sigmoid(usual)[j]:.2f} to {sigmoid(here)[j]:.2f}"
            for j in columns
        )
        far = abs(log1p(len(text)) - self.centre) > _EDGE * self.spread
        beyond = ("It is far from all of them: its own length is not followed.",) if far else ()
        return (
            f"It has {len(text):,} characters; the prompts learnt from have about {middle:,}.",
            f"That alone takes {changes}.",
            *beyond,
        )


def _log_length(inputs: Inputs) -> Float:
    return np.log1p([float(len(text)) for text in texts_of(inputs)])


def _curve(size: Float, centre: float, spread: float) -> Float:
    """The features t and t^2, (n, 2)."""
    t = np.clip((size - centre) / spread, -_EDGE, _EDGE)
    return np.stack((t, t * t), axis=1)
