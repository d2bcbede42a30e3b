"""Sends a search query to the expert encoder whose pilot vectors are most like it.

Routes: search queries to encoders of queries, all over one shared index of documents.

Idea (RouterRetriever, 2024, arXiv:2409.02685). Keep the documents' vectors, and tune the encoder of
queries for several domains. Which of them should encode a query is read from *pilots*: for each
data set t, queries are grouped by the expert that served them best, and each group leaves the
centroid of its shared-encoder vectors behind, with the expert's name on it. Adding or removing an
expert is adding or removing vectors.

Equations. x_i is query i by the shared encoder, q_ij its nDCG@10 with expert j::

    N_tj = {i in t : q_ij = max_l q_il},  rows in which all experts are equal left out
    pilots of j = centroids of k clusters of {x_i : i in N_tj}, for each t     pilots (p, d)
    e*(x) = argmax_j  mean of x . pilot_p over the pilots p of j      (or their greatest; or cosine)
    p*(x) = argmax_p  x . pilot_p  over the pilots of e*(x)
    quality[x, j] = mean_{i in group of p*(x)} q_ij                                  (n, m)

A row with several best experts counts evenly in the groups of each; a group below a share `least`
of its data set leaves no pilot. The expert of a group is best in it on average too, so that at no
price the shared decision takes e*(x), as the paper does; at a price, quality - price * cost gives
the whole curve. An expert with no group has no pilot and is never first. Where no row prefers
anybody, all have their mean.

Inputs are vectors (n, d) by the shared encoder, or texts, for which a light one is fitted; `group`
of the table names the data sets, without it there is one. Experts and their quality come from
`train_expert` and `expert_quality`, or from any retriever scored by `turnout.bench.beir`. The query
is encoded twice, once to route; costs in the currency of the table.

Differs from the paper: see `CARD.differs`. Cost: O(p d) a query; p at most data sets x experts x k.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Outcomes
>>> table = Outcomes(
...     inputs=np.array([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0], [0.5, 0.5]]),
...     names=("medicine", "finance"),
...     quality=np.array([[1.0, 0.4], [0.8, 0.2], [0.1, 0.9], [0.0, 0.0]]),
...     cost=np.ones((4, 2)),
... )
>>> fitted = RouterRetriever().fit(table, table.pool(), rng=np.random.default_rng(0))
>>> fitted.library()["medicine"]
[[0.9, 0.1]]
>>> round(float(fitted.predict(np.array([[0.9, 0.2]]))[0][0, 0]), 2)
0.9
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator

from turnout.core import Card, InputError, Inputs, Outcomes, Pool, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.costs import CostModel, fit_costs
from turnout.parts.files import replace_file
from turnout.parts.learners.clusters import kmeans
from turnout.parts.query_experts import QueryExpert, expert_quality, found, train_expert
from turnout.parts.texts.encoder import Encoder, check_name, fit_encoder

__all__ = [
    "CARD",
    "FittedRouterRetriever",
    "QueryExpert",
    "RouterRetriever",
    "expert_quality",
    "found",
    "train_expert",
]

CARD = Card(
    name="llms.router_retriever",
    system="RouterRetriever",
    title="RouterRetriever: Routing over a Mixture of Expert Embedding Models",
    authors="Hyunji Lee, Luca Soldaini, Arman Cohan, Minjoon Seo, Kyle Lo",
    year=2024,
    id="arXiv:2409.02685",
    routes="a search query to an encoder of queries",
    kind="score",
    recipe="RouterRetriever",
    signal=("outcomes",),
    covers=(
        "Pilot library: queries of each data set by their best expert, one centroid a group",
        "Routing to the expert of the most similar pilot, or of the greatest mean similarity",
        "Experts: low-rank corrections of the query encoder, contrastive loss, frozen documents",
    ),
    differs=(
        "The paper's figure takes the mean similarity over an expert's pilots, the published code "
        "the greatest; the default here is the paper's, the other is pick='max'.",
        "Queries that all experts serve equally well are left out, and those with several best "
        "experts count evenly for each; the code gives both to the first expert.",
        "A group must hold a tenth of its data set's queries (`least`; the paper has no such "
        "bound): groups of a few queries that an expert won by luck leave the longest centroids, "
        "and in the laboratory's worlds these drew most queries.",
        "Pilots come from the rows of the table alone; the published script groups test queries.",
        "A pilot carries the mean quality of every expert in its group, so that a price has "
        "something to weigh.",
        "Experts correct a vector after the encoder, as the encoder's weights are not here to be "
        "tuned; the base is a light encoder or whatever made the vectors.",
    ),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
    knobs=(("price", "quality per unit of cost"),),
    aliases=("pilot embeddings", "mixture of retrievers", "expert embeddings"),
    cost="fit: O(n d) and k-means where k > 1; route: O(p d) an item; memory 8 n (d + m)",
)

#: Qualities as near as this are equal.
_TIE = 1e-12
#: How far the owner of a pilot is ahead of whoever equals it there.
_AHEAD = 1e-9


@dataclass(frozen=True)
class RouterRetriever:
    """Recipe of a router by pilot vectors.

    Parameters
    ----------
    k : int
        Pilots of an expert in a data set, >= 1; fewer where its group is smaller. The paper has 1.
    cosine : bool
        Compare by cosine; by default by dot product, as in the paper, which favours long pilots:
        the fewer queries a group has, the less its centroid is averaged and the longer it is.
    least : float
        Share of a data set's rows that a group must hold to leave a pilot, in [0, 1]. The paper
        has 0: experts that won a handful of queries by luck then attract their neighbours.
    pick : str
        "mean" (greatest mean similarity over an expert's pilots, as in the paper) or "max"
        (nearest pilot, as in its code).
    encoder : str
        "svd" or "minilm", for texts; arrays (n, d) are taken as they are, unscaled.
    d : int
        Length of the light encoder's vectors, >= 1.
    """

    k: int = 1
    cosine: bool = False
    least: float = 0.1
    pick: str = "mean"
    encoder: str = "svd"
    d: int = 64

    def __post_init__(self) -> None:
        _check.integer("router_retriever.k", self.k, low=1)
        _check.number("router_retriever.least", self.least, low=0.0, high=1.0)
        if self.pick not in ("max", "mean"):
            raise InputError("router_retriever.pick", "be max or mean", self.pick, "Choose one.")
        check_name(self.encoder)
        _check.integer("router_retriever.d", self.d, low=1)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: Generator) -> FittedRouterRetriever:
        """Encode the queries and keep the centroid of each group."""
        encoder = fit_encoder(self.encoder, outcomes.inputs, d=self.d, rng=rng)
        return _fitted(
            FittedRouterRetriever(
                names=outcomes.names,
                recipe=self,
                encoder=encoder,
                keys=_vectors(encoder, outcomes.inputs),
                quality=np.array(outcomes.quality),
                group=outcomes.group or ("",) * outcomes.n,
                seed=int(rng.integers(2**31)),
                pilots=np.empty((0, encoder.d)),
                owner=np.empty(0, dtype=np.int64),
                profile=np.empty((0, outcomes.m)),
                costs=fit_costs(outcomes),
            )
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedRouterRetriever:
    """Pilots, and the queries they were made from.

    Parameters
    ----------
    names : tuple of str
        The m experts.
    recipe : RouterRetriever
    encoder : Encoder
        The shared one.
    keys : array (n, d)
        The table's queries.
    quality : array (n, m)
        nDCG of each with each expert; NaN = never seen.
    group : tuple of str (n,)
    seed : int
        Of k-means.
    pilots : array (p, d)
    owner : array of int (p,)
        Expert of each pilot.
    profile : array (p, m)
        Mean quality of each expert in the pilot's group.
    costs : CostModel
    """

    names: tuple[str, ...]
    recipe: RouterRetriever
    encoder: Encoder
    keys: Float
    quality: Float
    group: tuple[str, ...]
    seed: int
    pilots: Float
    owner: Int
    profile: Float
    costs: CostModel

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """Expected quality (n, m), that of the nearest pilot's group, and cost (n, m)."""
        vectors = _vectors(self.encoder, inputs)
        cost = self.costs.predict(inputs)
        if not len(self.pilots):
            return np.tile(_means(self.quality), (len(vectors), 1)), cost
        return self.profile[self._nearest(vectors)], cost

    def similarity(self, inputs: Inputs) -> Float:
        """Similarity (n, p) of queries to the pilots."""
        return self._like(_vectors(self.encoder, inputs))

    def library(self) -> dict[str, list[list[float]]]:
        """The pilots of each expert, in the published form of a pilot file."""
        return {name: self.pilots[self.owner == j].tolist() for j, name in enumerate(self.names)}

    def write_library(self, path: str | Path) -> None:
        """Write `library` as JSON."""
        replace_file(path, json.dumps(self.library()).encode())

    def without(self, name: str) -> FittedRouterRetriever:
        """The router without an expert: its pilots are dropped, the others stay as they are.

        Raises
        ------
        InputError
            There is no such expert, or it is the only one.
        """
        gone = self._place(name)
        if len(self.names) == 1:
            raise InputError("name", "leave an expert", name, "Add another one first.")
        kept = np.array([j for j in range(len(self.names)) if j != gone])
        stay = self.owner != gone
        return replace(
            self,
            names=tuple(self.names[j] for j in kept),
            quality=self.quality[:, kept],
            pilots=self.pilots[stay],
            owner=np.searchsorted(kept, self.owner[stay]),
            profile=self.profile[stay][:, kept],
            costs=_some_costs(self.costs, kept),
        )

    def added(self, name: str, quality: Float, cost: float = 0.0) -> FittedRouterRetriever:
        """The router with one more expert: queries are grouped anew, nothing is trained.

        Parameters
        ----------
        name : str
            Not yet an expert.
        quality : array (n,)
            What it earns on the table's queries, in [0, 1]; NaN = never seen.
        cost : float
            Expected cost of a query with it, >= 0.

        Raises
        ------
        InputError
            The name is taken, or the figures are out of range.
        """
        names = _check.names("names", (*self.names, name), what="expert")
        column = _check.floats("quality", quality, (len(self.keys),), low=0, high=1, nan=True)
        cost = _check.number("cost", cost, low=0.0)
        costs = CostModel(
            np.append(self.costs.base, cost),
            np.append(self.costs.slope, 0.0),
            np.append(self.costs.floor, cost),
        )
        wider = np.column_stack([self.quality, column])
        return _fitted(replace(self, names=names, quality=wider, costs=costs))

    def _place(self, name: str) -> int:
        if name not in self.names:
            hint = f"Choose one of: {', '.join(self.names)}."
            raise InputError("name", "be an expert", name, hint)
        return self.names.index(name)

    def _like(self, vectors: Float) -> Float:
        pilots = self.pilots
        if self.recipe.cosine:
            pilots, vectors = _unit(pilots), _unit(vectors)
        return np.asarray(vectors @ pilots.T)

    def _nearest(self, vectors: Float) -> Int:
        """Pilot of each query, (n,)."""
        like = self._like(vectors)
        if self.recipe.pick == "max":
            return np.asarray(like.argmax(axis=1))
        best = np.full((len(like), len(self.names)), -np.inf)
        for j in np.unique(self.owner):
            best[:, j] = like[:, self.owner == j].mean(axis=1)
        own = self.owner == best.argmax(axis=1)[:, None]
        return np.asarray(np.where(own, like, -np.inf).argmax(axis=1))


def _fitted(bare: FittedRouterRetriever) -> FittedRouterRetriever:
    """With the pilots of its queries."""
    pilots: list[Float] = []
    owner: list[int] = []
    profile: list[Float] = []
    wins, told = _winners(bare.quality)
    share = wins / np.maximum(wins.sum(axis=1, keepdims=True), 1)
    labels = np.array(bare.group, dtype=object)
    overall = _means(bare.quality)
    for label in sorted(set(bare.group)):
        ours = (labels == label) & told
        for j in range(len(bare.names)):
            rows = np.flatnonzero(ours & wins[:, j])
            if share[rows, j].sum() <= bare.recipe.least * ours.sum() - _TIE or not len(rows):
                continue
            part = np.zeros(len(rows), dtype=np.int64)
            if bare.recipe.k > 1:
                rng = np.random.default_rng([bare.seed, len(rows)])
                part = kmeans(bare.keys[rows], bare.recipe.k, rng=rng).label
            for c in np.unique(part):
                mine = rows[part == c]
                weight = share[mine, j] / share[mine, j].sum()
                pilots.append(weight @ bare.keys[mine])
                owner.append(j)
                mean = _means(bare.quality[mine], weight, overall)
                others = np.arange(len(mean)) != j
                mean[others] = np.minimum(mean[others], max(mean[j] - _AHEAD, 0.0))
                profile.append(mean)
    if not pilots:
        return bare
    return replace(bare, pilots=np.stack(pilots), owner=np.array(owner), profile=np.stack(profile))


def _winners(quality: Float) -> tuple[Bool, Bool]:
    """Best experts of each row (n, m), and rows in which some expert is worse (n,)."""
    seen = ~np.isnan(quality)
    top = np.where(seen, quality, -np.inf).max(axis=1, keepdims=True)
    wins = seen & (quality >= top - _TIE)
    told = seen if quality.shape[1] == 1 else seen & ~wins
    return wins, np.asarray(told.any(axis=1))


def _means(values: Float, weight: Float | None = None, spare: Float | None = None) -> Float:
    """Weighted means (m,) of the seen cells; `spare`, else 0, where nothing was seen."""
    seen = ~np.isnan(values)
    each = (np.ones(len(values)) if weight is None else weight) @ np.where(seen, values, 0.0)
    mass = (np.ones(len(values)) if weight is None else weight) @ seen
    other = np.zeros(values.shape[1]) if spare is None else spare
    mean = np.where(mass > 0, each / np.where(mass > 0, mass, 1.0), other)
    return np.clip(mean, 0.0, 1.0)


def _vectors(encoder: Encoder, inputs: Inputs) -> Float:
    """Queries by the shared encoder (n, d); vectors that are handed in keep their length."""
    scaled = encoder.encode(inputs)
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        return _check.floats("inputs", inputs, (None, encoder.d))
    return np.asarray(scaled, dtype=np.float64)


def _unit(vectors: Float) -> Float:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def _some_costs(costs: CostModel, kept: Int) -> CostModel:
    return CostModel(costs.base[kept], costs.slope[kept], costs.floor[kept])
