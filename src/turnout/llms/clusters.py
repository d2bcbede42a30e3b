"""Sends a prompt to the model that did best, for its price, on its kind of prompts.

Routes whole requests to language models. Kinds are found, not given: k-means groups the prompts
seen, each model is scored inside each group, and a new prompt takes the scores of the group it
falls into (or the average over the few nearest groups).

Equations, with the variable of each symbol::

    e_i = encode(x_i) / |encode(x_i)|
    mu_1 ... mu_c = kmeans(e)                                   centres (c, d)
    P[g, j] = mean of q_ij over the rows i of group g           quality (c, m)
    Q[x, j] = mean of P[g, j] over the p centres g nearest e(x) nearest = p

q_ij in [0, 1] is the quality seen; costs are in the currency of the table. The trade-off of the
second paper, alpha * performance + (1 - alpha) * (1 - cost), is the shared decision
quality - price * cost with price = (1 - alpha) / alpha over normalised costs.

Differs from the papers: see `CARD.differs`. Cost: O(c d) a prompt, whatever the table's size.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]),
...     names=("a", "b"),
...     quality=np.array([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, 1.0]]),
...     cost=np.ones((4, 2)),
... )
>>> recipe = Clusters(c=2, shrink=0.0)
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> quality, cost = fitted.predict(np.array([[3.0, 0.2]]))
>>> float(quality[0, 0])
0.75
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.clusters import group_means, kmeans, squared_distances
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "Clusters", "FittedClusters"]

CARD = Card(
    name="llms.clusters",
    system="Avengers",
    title=(
        "The Avengers: A Simple Recipe for Uniting Smaller Language Models to Challenge "
        "Proprietary Giants"
    ),
    authors="Zhang, Li, Wang, Chen, Zhang, Ye, Feng, Wang, Wang, Xu, Bai, Ouyang, Hu",
    year=2025,
    id="arXiv:2505.19797",
    routes="a prompt to a language model",
    kind="score",
    recipe="Clusters",
    signal=("outcomes",),
    covers=(
        "Embedding, clustering and scoring, the first three of its four operations",
        "Beyond GPT-5: Making LLMs Cheaper and Better via Performance-Efficiency Optimized "
        "Routing (Avengers-Pro, 2025, arXiv:2508.12631): scores over the p nearest clusters, "
        "performance against cost",
    ),
    differs=(
        "Repeated sampling and voting are left to whoever calls the model: one model answers.",
        "The default encoder is a truncated SVD of TF-IDF; the papers embed with billions of "
        "parameters.",
        "Cluster means are drawn towards a model's overall mean by a few rows' weight, since "
        "groups of a small table are thin; shrink=0 is the papers' plain mean.",
        "Cost is not normalised per cluster: the shared price multiplies the expected cost.",
        "The p nearest clusters count alike.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs", "quick"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("avengers", "avengers-pro", "k-means"),
    cost="fit: O(rounds n c d); route: O(c d + p m) an item",
)


@dataclass(frozen=True)
class Clusters:
    """Recipe of a cluster router.

    Parameters
    ----------
    c : int
        Groups, >= 1; fewer where the table holds fewer different prompts. The papers take about
        sixty.
    nearest : int
        Groups averaged for a prompt, >= 1 (p above): 1 in Avengers, more in Avengers-Pro.
    shrink : float
        Weight of a model's overall mean in each group, counted in rows; >= 0.
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

    c: int = 64
    nearest: int = 1
    shrink: float = 5.0
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        _check.integer("clusters.c", self.c, low=1)
        _check.integer("clusters.nearest", self.nearest, low=1, high=self.c)
        _check.number("clusters.shrink", self.shrink, low=0.0)
        check_name(self.encoder)
        _check.integer("clusters.d", self.d, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedClusters:
        """Group the prompts and score each model in each group."""
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        partition = kmeans(encoder.encode(outcomes.inputs), self.c, rng=rng)
        groups = len(partition.centres)
        return FittedClusters(
            names=outcomes.names,
            encoder=encoder,
            centres=partition.centres,
            quality=group_means(outcomes.quality, partition.label, groups, shrink=self.shrink),
            nearest=min(self.nearest, groups),
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedClusters:
    """The groups, and how good each model is in each.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    centres : array (c, d)
    quality : array (c, m)
        Mean quality of a model in a group.
    nearest : int
        Groups averaged.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    centres: Float
    quality: Float
    nearest: int
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m) and cost (b, m)."""
        distance = squared_distances(self.encoder.encode(inputs), self.centres)
        closest = np.argsort(distance, axis=1, kind="stable")[:, : self.nearest]
        return self.quality[closest].mean(axis=1), self.costs.predict(inputs)
