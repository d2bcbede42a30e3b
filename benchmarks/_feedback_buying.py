"""The part of `feedback.py` on labels: what each way of buying them teaches for its money."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from _feedback_tables import (  # type: ignore[import-not-found,unused-ignore]
    HELD,
    Spread,
    Tick,
    blanked,
    fit,
    score,
    spread,
)
from turnout.core import Outcomes, Recipe
from turnout.core._check import Float
from turnout.parts.feedback.buying import Cells, Contest, Market, Rows, Strategy, plan
from turnout.parts.learners.clusters import kmeans
from turnout.parts.texts.encoder import fit_encoder

#: Shares of what all labels of the prompts on offer would cost.
SPENDS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BASE = "random cells"


@dataclass(frozen=True)
class Nested:
    """Paired purchase: one order of rows for all destinations, the cheap ones further down it.

    Destination j is bought on the first rows, in number as cost^-1/2: every dear cell stands in a
    row whose cheap cells are known. Rows begun before come first.
    """

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """Place of the row by rate of the destination."""
        n = len(market.known)
        order = np.lexsort((rng.permutation(n), -market.known.sum(axis=1)))
        place = np.empty(n)
        place[order] = np.arange(1, n + 1) / n
        return np.asarray(place[:, None] * np.sqrt(market.cost.mean(axis=0)))


@dataclass(frozen=True)
class Cover:
    """Diversity: cells as cost^-1/2, in an order of rows that is spread evenly over clusters.

    Parameters
    ----------
    clusters : int
        Of prompts, by k-means on vectors of their words.
    """

    clusters: int = 40

    def keys(self, market: Market, *, rng: Generator) -> Float:
        """Place of the row in its cluster by rate of the destination."""
        vectors = fit_encoder("svd", market.prompts, d=64, rng=rng).encode(market.prompts)
        label = kmeans(vectors, self.clusters, rng=rng, restarts=1).label
        place = np.empty(len(label))
        begun = np.asarray(market.known.any(axis=1))
        for cluster in range(int(label.max()) + 1):
            rows = np.flatnonzero(label == cluster)
            order = rows[np.lexsort((rng.permutation(len(rows)), ~begun[rows]))]
            place[order] = (np.arange(len(order)) + rng.random()) / len(order)
        return np.asarray(place[:, None] * np.sqrt(market.cost.mean(axis=0)))


STRATEGIES: dict[str, Strategy] = {
    BASE: Cells(0.0),
    "random rows": Rows(),
    "cells, cost^-1/2": Cells(0.5),
    "cells, cost^-1": Cells(1.0),
    "nested rows": Nested(),
    "nested, clusters": Cover(),
    "contest": Contest(),
}


@dataclass(frozen=True)
class Bought:
    """What one strategy taught for one spend: score over seeds, and against random cells."""

    table: str
    strategy: str
    share: float
    spend: float
    labels: int
    score: Spread
    gain: Spread


def buy(
    name: str,
    outcomes: Outcomes,
    recipe: Recipe,
    offered: int,
    seeds: int,
    tick: Tick,
    strategies: dict[str, Strategy] | None = None,
) -> list[Bought]:
    """Spend in rounds, each planned from what the last one taught; score after each.

    All strategies of a seed see the same prompts on offer and the same rows kept apart, so that
    differences are paired. The costs of the table are known before, as they are from its prices.
    """
    strategies = STRATEGIES if strategies is None else strategies
    scores: dict[str, list[list[float]]] = {}
    labels: dict[str, list[list[int]]] = {}
    total = []
    for seed in range(seeds):
        order = np.random.default_rng([seed, 3]).permutation(outcomes.n)
        held = outcomes.take(order[: HELD[name]])
        offer = outcomes.take(order[HELD[name] :][:offered])
        total.append(float(offer.cost.sum()))
        for label, strategy in strategies.items():
            found, count = spend_on(name, offer, held, recipe, strategy, seed)
            scores.setdefault(label, []).append(found)
            labels.setdefault(label, []).append(count)
            tick(f"{name}: {label}")
        whole = score(fit(recipe, offer, seed), held, name)
        scores.setdefault("all labels", []).append([whole] * len(SPENDS))
        labels.setdefault("all labels", []).append([offer.n * offer.m] * len(SPENDS))
    base = np.array(scores[BASE])
    rows = []
    for label, values in scores.items():
        table = np.array(values)
        for at, share in enumerate(SPENDS):
            rows.append(
                Bought(
                    table=name,
                    strategy=label,
                    share=1.0 if label == "all labels" else share,
                    spend=share * float(np.mean(total)),
                    labels=int(np.mean(labels[label], axis=0)[at]),
                    score=spread(table[:, at]),
                    gain=spread(table[:, at] - base[:, at]),
                )
            )
        # over all spends together, seed by seed
        mean = table.mean(axis=1)
        rows.append(
            Bought(
                table=name,
                strategy=label,
                share=float("nan"),
                spend=float("nan"),
                labels=0,
                score=spread(mean),
                gain=spread(mean - base.mean(axis=1)),
            )
        )
    return rows


def spend_on(
    name: str, offer: Outcomes, held: Outcomes, recipe: Recipe, strategy: Strategy, seed: int
) -> tuple[list[float], list[int]]:
    """Score and labels after each spend."""
    rng = np.random.default_rng([seed, 4])
    mask = np.zeros(offer.cost.shape, dtype=np.bool_)
    total, spent = float(offer.cost.sum()), 0.0
    seen: Outcomes | None = None
    scores, labels = [], []
    for share in SPENDS:
        left = share * total - spent
        order = plan(offer.inputs, offer.cost, seen, left, recipe, rng, strategy=strategy)
        mask[order.cells[:, 0], order.cells[:, 1]] = True
        spent += order.spend
        seen = blanked(offer, mask)
        scores.append(score(fit(recipe, seen, seed), held, name))
        labels.append(int(mask.sum()))
    return scores, labels
