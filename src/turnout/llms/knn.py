"""Sends a prompt to the model that did best, for its price, on the prompts most like it.

Routes whole requests to language models. Nothing is trained: the prompts seen are kept as
vectors, and a model's expected quality on a new one is its mean quality on the nearest.

Equations, with the variable of each symbol::

    e_i = encode(x_i) / |encode(x_i)|                               keys (n, d)
    N_k(x) = the k rows i of greatest e(x) . e_i                    (ties at the k-th included)
    Q[x, j] = (sum_{i in N_k(x)} q_ij + a * mean_j) / (|N_k(x)| + a)  quality (b, m)

q_ij in [0, 1] is the quality seen, `a` is `shrink`; cells never seen are left out, model by
model. The decision, quality - price * cost, is shared (`turnout.parts.priced`); costs are in the
currency of the table.

Differs from the paper: see `CARD.differs`. Cost: O(n d) a prompt and 4 n d bytes.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]),
...     names=("small", "large"),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
...     cost=np.array([[1.0, 9.0]] * 3),
... )
>>> fitted = Knn(k=2).fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(np.array([[2.0, 0.1]]))
>>> float(quality[0, 0])
0.5
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.neighbours import Memory
from turnout.parts.reasons import compared, of_neighbours
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "FittedKnn", "Knn"]

CARD = Card(
    name="llms.knn",
    system="RouterBench KNN",
    title="RouterBench: A Benchmark for Multi-LLM Routing System",
    authors="Hu, Bieker, Li, Jiang, Keigwin, Ranganath, Keutzer, Upadhyay",
    year=2024,
    id="arXiv:2403.12031",
    routes="a prompt to a language model",
    kind="score",
    recipe="Knn",
    signal=("outcomes",),
    covers=("Predictive routers: KNN on the cosine similarity of prompt embeddings",),
    differs=(
        "The default encoder is a truncated SVD of TF-IDF fitted on the table, because it needs "
        "no download and no tensor library; encoder='minilm' is a sentence encoder of the kind "
        "the paper uses (there all-MiniLM-L12-v2, here L6).",
        "Keys tied with the k-th are all neighbours, so that the order of the table is nothing.",
        "Cells never seen are left out instead of counting as wrong; each model then has its own "
        "k neighbours.",
        "An optional weight draws thin neighbourhoods towards the mean of the model.",
        "The price multiplies the expected cost of an answer, where the published code takes a "
        "price per token.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("k-nn", "nearest neighbours", "routerbench knn"),
    cost="fit: one encoding of n rows; route: O(n d + n m) an item; memory 4 n d bytes",
)


@dataclass(frozen=True)
class Knn:
    """Recipe of a nearest-neighbour router.

    Parameters
    ----------
    k : int
        Neighbours, >= 1. The paper tries 5, 10 and 40; right and wrong being noisy, few of them
        route worse than reading nothing.
    shrink : float
        Weight of a model's overall mean, counted in neighbours; >= 0. The paper has 0.
    encoder : str
        "svd" (light) or "minilm" (extra `text`). Inputs that are arrays (n, d) are taken for
        embeddings as they are.
    d : int
        Length of the light encoder's vectors, >= 1.

    Raises
    ------
    InputError
        A value is out of range, or there is no such encoder.
    """

    k: int = 80
    shrink: float = 0.0
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        _check.integer("knn.k", self.k, low=1)
        _check.number("knn.shrink", self.shrink, low=0.0)
        check_name(self.encoder)
        _check.integer("knn.d", self.d, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedKnn:
        """Encode the table and keep it."""
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        return FittedKnn(
            names=outcomes.names,
            encoder=encoder,
            memory=Memory(
                keys=encoder.encode(outcomes.inputs),
                values=np.array(outcomes.quality),
                k=self.k,
                shrink=self.shrink,
            ),
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedKnn:
    """The prompts kept, and what happened to them.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    memory : Memory
        Their vectors (n, d) and what they earned (n, m).
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    memory: Memory
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m) and cost (b, m)."""
        return self.memory.means(self.encoder.encode(inputs)), self.costs.predict(inputs)

    def because(self, text: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """What was earned on the kept prompts most like this one, in sentences.

        Parameters
        ----------
        text : str
        names : sequence of str
            One or two destinations, the chosen first; by default the two predicted to be best.

        Raises
        ------
        InputError
            A name is unknown, or the router was fitted on vectors.
        """
        query = self.encoder.encode([text])
        columns = compared(self.names, self.memory.means(query)[0].tolist(), names)
        return of_neighbours([self.names[j] for j in columns], columns, self.memory, query[0])
