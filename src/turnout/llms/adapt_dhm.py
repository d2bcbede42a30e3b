"""Sends a prompt to the model that is best in the kind of traffic the prompt belongs to.

Routes whole requests to language models. Prompts come from a few hidden distributions, which
nobody labels. Centres that follow the stream, moved as capsules are routed, tell which one a
prompt belongs to; a network whose weights are shared ones times those of that cluster tells the
quality of each model.

Equations, with the variable of each symbol::

    v_i = normal(e(x_i) - mean)                             what the centres see  (b, d)
    three rounds a batch, without gradient:
        r_i = softmax_k(v_i . c_k / temperature)            share of each centre  (b, K)
        chat_k = sum_i r_ik v_i / sum_i r_ik                (`reduce` = "sum": not divided)
        c_k <- normal(beta c_k + (1 - beta) chat_k)         centres (K, d)
    k_i = argmax_k v_i . c_k                                cluster (b,), hard
    a_0 = e(x_i),  a_l = relu(a_{l-1} (W_l * W_l^k) + b_l + b_l^k)
    Q = sigmoid(a_last)                                     quality (b, m)
    minimise mean over seen cells of  -q log Q - (1 - q) log(1 - Q)

e is the encoder, `*` is by elements, q in [0, 1] the quality seen. W^k starts at one and b^k at
zero: all clusters start as one network. No gradient reaches the centres, and after training they
stay: one dot product with each tells a prompt's cluster, whatever else is in its batch. A centre
that got no sample in a pass starts again from the sample farthest from all, and of `starts` random
beginnings the one is taken whose centres lie nearest to the samples after a pass. K = 1 is the
network without clusters.

The decision, quality - price * cost, is shared; costs are in the currency of the table.

Differs from the paper: see `CARD.differs`. Cost: O(K d + d width + width m) a prompt once encoded,
whatever K; parameters grow with K, not with the number of domains.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> rng = np.random.default_rng(0)
>>> kind = rng.integers(0, 2, 200)
>>> table = Outcomes(
...     inputs=np.eye(2)[kind] + 0.1 * rng.standard_normal((200, 2)),
...     names=("a", "b"),
...     quality=np.array([[0.9, 0.2], [0.3, 0.8]])[kind],
...     cost=np.ones((200, 2)),
... )
>>> recipe = AdaptDhm(clusters=2, hidden=(8,), batch=32)
>>> fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.predict(np.eye(2))[0].argmax(axis=1).tolist()
[0, 1]
>>> len(set(fitted.cluster(np.eye(2)).tolist()))
2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.learners.adaptation import Layers, forward, nearest, normal, started, train
from turnout.parts.learners.descent import Schedule, sigmoid
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = ["CARD", "AdaptDhm", "FittedAdaptDhm"]

CARD = Card(
    name="llms.adapt_dhm",
    system="AdaptDHM",
    title="AdaptDHM: Adaptive Distribution Hierarchical Model for Multi-Domain CTR Prediction",
    authors="Li, Zheng, Liu, Lu, Wu, Hu",
    year=2022,
    id="arXiv:2211.12105",
    routes="a prompt to a language model",
    kind="score",
    recipe="AdaptDhm",
    signal=("outcomes",),
    covers=(
        "The distribution adaptation module: dynamic routing of samples to moving centres",
        "The multi-distribution network: shared weights times those of the cluster",
    ),
    differs=(
        "The paper predicts clicks; here one output a language model tells its quality.",
        "Equations are those of a public re-implementation: the paper's own text was not read.",
        "Centres see the vectors less their mean, at length one, through a softmax of low "
        "temperature: text vectors share a direction, and there are no trained embeddings that "
        "could grow apart.",
        "A centre moves to the mean of what it is sent; the re-implementation takes the sum over "
        "the batch, which leaves beta without effect (reduce='sum').",
        "Weights of a cluster start at one and shifts are added (as in STAR), where the "
        "re-implementation draws both factors and leaves the shifts out.",
        "Two hidden layers of 64 and 32 units; its script has six, from 256 to 8.",
        "A centre without samples starts again from the sample farthest from all centres, and "
        "the first centres are the best of a few random ones.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("dynamic routing", "multi-domain", "distribution adaptation", "capsules"),
    cost="fit: O(epochs n (K d + d width)); route: O(K d + d width + width m) an item",
)

_REDUCE = ("mean", "sum")


@dataclass(frozen=True)
class AdaptDhm:
    """Recipe of a network over moving clusters.

    Parameters
    ----------
    clusters : int
        K, >= 1; fewer where the table holds fewer rows.
    hidden : tuple of int
        Units of each hidden layer; one layer at least.
    beta : float
        Share of a centre that stays in a round, in [0, 1).
    rounds : int
        Rounds of routing a batch, >= 1.
    temperature : float
        Of the softmax over centres, > 0.
    reduce : str
        "mean" or "sum" of what a centre is sent.
    starts : int
        Random centres tried for a pass before training, >= 1.
    rate : float
        Step size of Adam.
    batch, epochs : int
        Rows a step, and most passes; the best held-out pass is kept.
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

    clusters: int = 3
    hidden: tuple[int, ...] = (64, 32)
    beta: float = 0.9
    rounds: int = 3
    temperature: float = 0.1
    reduce: str = "mean"
    starts: int = 5
    rate: float = 1e-3
    batch: int = 256
    epochs: int = 60
    encoder: str = "svd"
    d: int = 128

    def __post_init__(self) -> None:
        _check.integer("adapt_dhm.clusters", self.clusters, low=1)
        if not isinstance(self.hidden, tuple) or not self.hidden:
            raise InputError("adapt_dhm.hidden", "be a tuple", self.hidden, "Such as (64, 32).")
        for width in self.hidden:
            _check.integer("adapt_dhm.hidden", width, low=1)
        _check.number("adapt_dhm.beta", self.beta, low=0.0, high=1.0 - 1e-9)
        _check.integer("adapt_dhm.rounds", self.rounds, low=1)
        _check.number("adapt_dhm.temperature", self.temperature, low=1e-6)
        if self.reduce not in _REDUCE:
            raise InputError("adapt_dhm.reduce", "be mean or sum", self.reduce, "Choose one.")
        _check.integer("adapt_dhm.starts", self.starts, low=1)
        self._schedule()
        check_name(self.encoder)
        _check.integer("adapt_dhm.d", self.d, low=1)

    def _schedule(self) -> Schedule:
        return Schedule(self.rate, 0.0, self.batch, self.epochs, patience=5)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedAdaptDhm:
        """Train centres and network on the seen cells."""
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        x = encoder.encode(outcomes.inputs).astype(np.float64)
        mean = x.mean(axis=0)
        vectors = normal(x - mean)
        grade = np.clip(outcomes.mean_quality(), 0.01, 0.99)
        routing = {
            "rounds": self.rounds,
            "beta": self.beta,
            "temperature": self.temperature,
            "reduce": self.reduce,
        }
        count = min(self.clusters, outcomes.n)
        centres, layers = train(
            x,
            vectors,
            outcomes.quality,
            hidden=self.hidden,
            centres=started(
                vectors, count, starts=self.starts, batch=self.batch, routing=routing, rng=rng
            ),
            routing=routing,
            start=np.log(grade / (1 - grade)),
            schedule=self._schedule(),
            rng=rng,
        )
        return FittedAdaptDhm(
            names=outcomes.names,
            encoder=encoder,
            mean=mean,
            centres=centres,
            layers=layers,
            costs=fit_costs(outcomes),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedAdaptDhm:
    """Centres, and a network for each.

    Parameters
    ----------
    names : tuple of str
    encoder : Encoder
    mean : array (d,)
        Taken off the vectors before the centres see them.
    centres : array (K, d)
    layers : tuple of (array (K, in, out), array (K, out))
        Weights and shifts by cluster, the shared ones multiplied and added in.
    costs : CostModel
    """

    names: tuple[str, ...]
    encoder: Encoder
    mean: Float
    centres: Float
    layers: Layers
    costs: CostModel

    def cluster(self, inputs: Inputs) -> Int:
        """Cluster of each input, (b,)."""
        return self._cluster(self.encoder.encode(inputs).astype(np.float64))

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (b, m) and cost (b, m)."""
        x = self.encoder.encode(inputs).astype(np.float64)
        return sigmoid(forward(x, self._cluster(x), self.layers)), self.costs.predict(inputs)

    def _cluster(self, x: Float) -> Int:
        return nearest(normal(x - self.mean), self.centres)
