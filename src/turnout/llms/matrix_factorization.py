"""Sends a prompt to the model whose learned vector suits it best, for its price.

Routes whole requests to language models. As in recommending: a model is a vector, a prompt is a
vector, and quality comes from their product, so that models share what they have in common.

Equations, with the variable of each symbol::

    v_q = encode(x)                                             prompt vector (d,)
    v_j = P_j / |P_j|                                           model (r,)
    delta(j, x) = w . (v_j * (W v_q + b))                       logit (n, m)
    Q[x, j] = sigmoid(delta(j, x))
    minimise mean over seen cells of  -q log Q - (1 - q) log(1 - Q)

P (m, r) is `models`, W (r, d) is `project`, b (r,) is `bias`, w (r,) is `read`; q in [0, 1] is
the quality seen. After training the product collapses to one matrix (d, m) and an intercept (m,),
which is all that is kept. The logits have rank r at most: fewer than m, and models are forced to
share. Costs are in the currency of the table.

Differs from the paper: see `CARD.differs`. Cost: O(d m) a prompt besides its encoding.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> rng = np.random.default_rng(0)
>>> prompts = rng.standard_normal((200, 4))
>>> right = np.column_stack([prompts[:, 0] > 0, prompts[:, 0] <= 0]).astype(float)
>>> table = Outcomes(inputs=prompts, names=("a", "b"), quality=right, cost=np.ones((200, 2)))
>>> fitted = MatrixFactorization(rank=2).fit(table, table.pool(), rng=rng)
>>> quality, cost = fitted.predict(np.array([[2.0, 0.0, 0.0, 0.0], [-2.0, 0.0, 0.0, 0.0]]))
>>> quality.argmax(axis=1).tolist()
[0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.descent import Schedule, cross_entropy, descend, sigmoid
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "FittedMatrixFactorization", "MatrixFactorization"]

CARD = Card(
    name="llms.matrix_factorization",
    system="RouteLLM MF",
    title="RouteLLM: Learning to Route LLMs with Preference Data",
    authors="Ong, Almahairi, Wu, Chiang, Wu, Gonzalez, Kadous, Stoica",
    year=2024,
    id="arXiv:2406.18665",
    routes="a prompt to a language model",
    kind="score",
    recipe="MatrixFactorization",
    signal=("outcomes", "pairs"),
    covers=("The matrix-factorization router: the bilinear score delta(M, q)",),
    differs=(
        "The score is trained by cross-entropy against each model's own quality, because the "
        "shared decision needs a quality for any number of models; the paper trains the "
        "difference of two scores on who won. Votes enter through "
        "turnout.parts.learners.ratings.from_votes.",
        "The default encoder is a truncated SVD of TF-IDF fitted on the table; the paper calls a "
        "hosted embedding.",
        "Weight decay and the best held-out epoch instead of noise on the prompt vectors.",
        "Model vectors have length one, as in the published code; the paper's formula leaves "
        "them free.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("mf", "routellm", "matrix factorisation"),
    cost="fit: O(epochs n (d r + r m)); route: O(d m) an item",
)


@dataclass(frozen=True)
class MatrixFactorization:
    """Recipe of a matrix-factorization router.

    Parameters
    ----------
    rank : int
        Length r of the model vectors, >= 1. The published code has 128.
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Inputs that are arrays (n, d) are taken for
        embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.
    rate, decay : float
        Step size and weight decay of Adam.
    batch, epochs : int
        Rows a step, and most passes; the best held-out epoch is kept.

    Raises
    ------
    InputError
        A value is out of range, or there is no such encoder.
    """

    rank: int = 32
    encoder: str = "svd"
    d: int = 128
    rate: float = 3e-3
    decay: float = 1e-2
    batch: int = 128
    epochs: int = 60

    def __post_init__(self) -> None:
        _check.integer("matrix_factorization.rank", self.rank, low=1)
        check_name(self.encoder)
        _check.integer("matrix_factorization.d", self.d, low=1)
        self._schedule()

    def _schedule(self) -> Schedule:
        return Schedule(self.rate, self.decay, self.batch, self.epochs, patience=5)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedMatrixFactorization:
        """Train by Adam on the seen cells."""
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        vectors = encoder.encode(outcomes.inputs).astype(np.float64)
        weight, intercept = _train(vectors, outcomes.quality, self.rank, self._schedule(), rng=rng)
        return FittedMatrixFactorization(
            names=outcomes.names,
            encoder=encoder,
            weight=weight,
            intercept=intercept,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedMatrixFactorization:
    """The trained score, multiplied out.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    weight : array (d, m)
        Logit per unit of each coordinate; rank r at most.
    intercept : array (m,)
        Logit of a prompt that says nothing known.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    weight: Float
    intercept: Float
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m) and cost (b, m)."""
        logits = self.encoder.encode(inputs) @ self.weight + self.intercept
        return sigmoid(logits), self.costs.predict(inputs)


def _train(
    vectors: Float, quality: Float, rank: int, schedule: Schedule, *, rng: Generator
) -> tuple[Float, Float]:
    """Weight (d, m) and intercept (m,) of the trained score."""
    d, m = vectors.shape[1], quality.shape[1]
    models = rng.standard_normal((m, rank))
    project = rng.standard_normal((d, rank)) / np.sqrt(rank)
    bias = np.zeros(rank)
    read = np.ones(rank)
    parameters = [models, project, bias, read]

    def forward(rows: Int) -> tuple[Float, Float, Float, Float]:
        length = np.linalg.norm(models, axis=1, keepdims=True)
        face = models / length
        hidden = vectors[rows] @ project + bias
        return (hidden * read) @ face.T, hidden, face, length

    def gradients(rows: Int) -> tuple[list[NDArray[np.float64]], None]:
        logits, hidden, face, length = forward(rows)
        slope = cross_entropy(logits, quality[rows])[1]
        pull = slope.T @ (hidden * read)
        # only the part across the vector turns it; its length is fixed
        turn = (pull - (pull * face).sum(axis=1, keepdims=True) * face) / length
        back = slope @ face
        into = back * read
        return [turn, vectors[rows].T @ into, into.sum(axis=0), (back * hidden).sum(axis=0)], None

    def loss(rows: Int) -> float:
        return cross_entropy(forward(rows)[0], quality[rows])[0]

    descend(parameters, gradients, loss, len(vectors), schedule, rng=rng)
    face = models / np.linalg.norm(models, axis=1, keepdims=True)
    return (project * read) @ face.T, (bias * read) @ face.T
