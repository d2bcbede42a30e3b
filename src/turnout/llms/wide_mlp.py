"""Sends a prompt to the model that a wide network reads from its bag of words to do best.

Routes whole requests to language models. One very wide hidden layer over weighted words, and one
output a model: on text classification this simple network holds its own against graphs of words.

Equations, with the variable of each symbol::

    x = tf-idf of the prompt, length one                        (n, v), sparse
    h = relu(x W + c)                                           hidden (n, width)
    Q = sigmoid(dropout(h) U + a)                               quality (n, m)
    minimise mean over seen cells of  -q log Q - (1 - q) log(1 - Q)

W (v, width) is `embed`, c is `shift`, U (width, m) is `read`, a (m,) is `bias`; q in [0, 1] is
the quality seen. `a` starts at the logit of each model's mean quality and U at zero, so that
training starts from the best single answer that reads nothing. Costs are in the currency of the
table.

Differs from the paper: see `CARD.differs`. Cost: a prompt of w different words takes O(w width);
only the rows of the words in a batch are ever touched in training.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> texts = ["add two numbers", "add three numbers", "write a poem", "write a song"] * 20
>>> good = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]] * 20)
>>> table = Outcomes(inputs=texts, names=("calc", "poet"), quality=good, cost=np.ones((80, 2)))
>>> recipe = WideMlp(width=64, batch=16)
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(["add four numbers", "write a story"])
>>> quality.argmax(axis=1).tolist()
[0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import sparse

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.descent import Schedule, sigmoid
from turnout.parts.learners.wide import Wide, fit_wide
from turnout.parts.texts.bags import TextFeatures, learn_features
from turnout.parts.texts.encoder import Ready, project

__all__ = ["CARD", "FittedWideMlp", "WideMlp"]

CARD = Card(
    name="llms.wide_mlp",
    system="WideMLP",
    title=(
        "Bag-of-Words vs. Graph vs. Sequence in Text Classification: Questioning the Necessity "
        "of Text-Graphs and the Surprising Strength of a Wide MLP"
    ),
    authors="Galke, Scherp",
    year=2022,
    id="arXiv:2109.03777",
    routes="a prompt to a language model",
    kind="score",
    recipe="WideMlp",
    signal=("outcomes",),
    covers=("WideMLP with TF-IDF weights: one hidden layer of 1024 units, relu, dropout 0.5",),
    differs=(
        "One sigmoid a model and cross-entropy against its quality, instead of classes and "
        "softmax: several models may be right at once.",
        "Whole words and pairs instead of a fixed table of word pieces.",
        "Larger batches and the best held-out epoch instead of a hundred epochs: labels of "
        "routing are noisy, and the network learns them by heart within a few passes.",
        "W starts at a spread of 0.2, instead of 1 followed by scaling the hidden layer to "
        "length one; chosen on two other splits of the table of the claim.",
        "Words outside a batch keep their Adam moments, so that a step costs what its words cost.",
        "Outputs start at the mean quality of each model, so a prompt of unknown words gets "
        "about that.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("widemlp", "wide mlp"),
    cost="fit: O(epochs n w width) for w words a prompt; route: O(w width); memory 4 v width bytes",
)


@dataclass(frozen=True)
class WideMlp:
    """Recipe of a wide bag-of-words network.

    Parameters
    ----------
    width : int
        Hidden units, >= 1. The paper has 1024.
    vocabulary : int
        Most words kept, >= 1.
    dropout : float
        Share of hidden units left out at each step, in [0, 0.95].
    rate, decay : float
        Step size and weight decay of Adam.
    batch, epochs : int
        Rows a step, and most passes; the best held-out epoch is kept.

    Raises
    ------
    InputError
        A value is out of range.
    """

    width: int = 1024
    vocabulary: int = 20_000
    dropout: float = 0.5
    rate: float = 1e-3
    decay: float = 0.0
    batch: int = 256
    epochs: int = 40

    def __post_init__(self) -> None:
        _check.integer("wide_mlp.width", self.width, low=1)
        _check.integer("wide_mlp.vocabulary", self.vocabulary, low=1)
        _check.number("wide_mlp.dropout", self.dropout, low=0.0, high=0.95)
        self._schedule()

    def _schedule(self) -> Schedule:
        return Schedule(self.rate, self.decay, self.batch, self.epochs, patience=3)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedWideMlp:
        """Train by Adam on the seen cells."""
        inputs = outcomes.inputs
        if isinstance(inputs, np.ndarray):
            reader: TextFeatures | Ready = Ready(int(inputs.shape[1]))
        else:
            reader = learn_features(inputs, max_features=self.vocabulary)
        mean = np.clip(outcomes.mean_quality(), 0.01, 0.99)
        net = fit_wide(
            _words(reader, inputs),
            outcomes.quality,
            self._schedule(),
            width=self.width,
            dropout=self.dropout,
            bias=np.log(mean / (1 - mean)),
            rng=rng,
        )
        return FittedWideMlp(
            names=outcomes.names,
            reader=reader,
            embed=net.embed,
            shift=net.shift,
            read=net.read,
            bias=net.bias,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedWideMlp:
    """The trained network.

    Parameters
    ----------
    names : tuple of str
    reader : TextFeatures or Ready
        Turns inputs into rows (n, v).
    embed : array (v, width)
    shift : array (width,)
    read : array (width, m)
    bias : array (m,)
    costs : CostModel
    """

    names: tuple[str, ...]
    reader: TextFeatures | Ready
    embed: NDArray[np.float32]
    shift: NDArray[np.float32]
    read: NDArray[np.float32]
    bias: NDArray[np.float32]
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m) and cost (b, m)."""
        if isinstance(self.reader, Ready):
            total = self.reader.encode(inputs) @ self.embed
        else:
            total = project(self.reader, inputs, self.embed)
        net = Wide(self.embed, self.shift, self.read, self.bias)
        return sigmoid(net.above(total)), self.costs.predict(inputs)


def _words(reader: TextFeatures | Ready, inputs: Inputs) -> Any:
    """Rows (n, v) in single precision, sparse."""
    if isinstance(reader, Ready):
        return sparse.csr_array(reader.encode(inputs))
    return sparse.csr_array(reader.transform(inputs))
