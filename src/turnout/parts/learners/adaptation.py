"""Centres that follow what comes in, as capsules do, and a network with a part of each centre.

The routing: three rounds of "send each sample mostly to the centre it points to, then move each
centre towards what it was sent" (after Sabour, Frosst and Hinton, "Dynamic Routing Between
Capsules", 2017, arXiv:1710.09829). The network: shared weights times those of the sample's cluster,
as in "One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR Prediction"
(Sheng et al., 2021, arXiv:2101.11427).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core._check import Float, Int
from turnout.parts.learners.descent import Schedule, cross_entropy, descend

__all__ = [
    "Layers",
    "forward",
    "nearest",
    "normal",
    "rounds_of_routing",
    "slopes",
    "started",
    "train",
]

#: Weights (c, in, out) and shifts (c, out) of each layer, by cluster.
Layers = tuple[tuple[Float, Float], ...]

_TINY = 1e-12


def normal(vectors: Float) -> Float:
    """Rows of length one; a zero row stays zero."""
    length = np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True))
    return np.asarray(vectors / np.maximum(length, _TINY))


def nearest(vectors: Float, centres: Float) -> Int:
    """Centre of greatest dot product of each vector, (n,); ties to the first."""
    return np.asarray((vectors @ centres.T).argmax(axis=1))


def rounds_of_routing(
    centres: Float,
    vectors: Float,
    *,
    rounds: int,
    beta: float,
    temperature: float,
    reduce: str,
) -> Float:
    """The centres (c, d) after a batch (b, d): softmax, weighted sum or mean, moving average."""
    for _ in range(rounds):
        score = vectors @ centres.T / temperature
        share = np.exp(score - score.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        moved = share.T @ vectors
        if reduce == "mean":
            moved /= np.maximum(share.sum(axis=0), _TINY)[:, None]
        centres = normal(beta * centres + (1.0 - beta) * moved)
    return centres


def started(
    vectors: Float, c: int, *, starts: int, batch: int, routing: dict[str, Any], rng: Generator
) -> Float:
    """Centres (c, d) to begin with: the best of a few random ones after a pass of routing.

    Best is the greatest mean similarity of a sample to its centre. From one start in ten or so two
    centres share a distribution and leave two others to one.
    """
    found, best = np.empty(0), -np.inf
    for _ in range(starts):
        centres = normal(rng.standard_normal((c, vectors.shape[1])))
        order = rng.permutation(len(vectors))
        for start in range(0, len(order), batch):
            centres = rounds_of_routing(centres, vectors[order[start : start + batch]], **routing)
        reach = float((vectors @ centres.T).max(axis=1).mean())
        if reach > best:
            found, best = centres, reach
    return found


def forward(x: Float, cluster: Int, layers: Layers) -> Float:
    """Logits (b, m): every row through the layers of its own cluster."""
    last = len(layers) - 1
    result = np.empty((len(x), layers[-1][1].shape[1]))
    for c in np.unique(cluster):
        rows = cluster == c
        hidden = x[rows]
        for depth, (weight, shift) in enumerate(layers):
            hidden = hidden @ weight[c] + shift[c]
            if depth < last:
                hidden = np.maximum(hidden, 0.0)
        result[rows] = hidden
    return result


def train(
    x: Float,
    vectors: Float,
    quality: Float,
    *,
    hidden: Sequence[int],
    centres: Float,
    routing: dict[str, Any],
    start: Float,
    schedule: Schedule,
    rng: Generator,
) -> tuple[Float, Layers]:
    """Centres and compiled layers, trained together.

    Parameters
    ----------
    x : array (n, d)
        What the network reads.
    vectors : array (n, d)
        What the centres see.
    quality : array (n, m)
        NaN = never seen.
    hidden : sequence of int
        Units of the hidden layers.
    centres : array (c, d)
        Where they start; changed in place.
    routing : dict
        Settings of `rounds_of_routing`.
    start : array (m,)
        Logits at the start.
    schedule : Schedule
    rng : Generator
    """
    n, d = x.shape
    c, m = len(centres), quality.shape[1]
    widths = [d, *hidden, m]
    depth = len(widths) - 1
    shared = [
        rng.standard_normal(pair) * np.sqrt(2.0 / (1.0 if i == 0 else pair[0]))
        for i, pair in enumerate(pairwise(widths))
    ]
    shared[-1] *= 0.1
    own = [np.ones((c, *weight.shape)) for weight in shared]
    base = [np.zeros(width) for width in widths[1:]]
    base[-1] += start
    shift = [np.zeros((c, width)) for width in widths[1:]]
    used = np.zeros(c)
    steps = 0

    def gradients(rows: Int) -> Any:
        nonlocal steps
        centres[...] = rounds_of_routing(centres, vectors[rows], **routing)
        cluster = nearest(vectors[rows], centres)
        used[:] += np.bincount(cluster, minlength=c)
        steps += 1
        if steps % max(1, n // schedule.batch) == 0:  # about once a pass
            _revive(centres, vectors, used)
            used[:] = 0
        each = slopes(x[rows], cluster, quality[rows], shared, own, base, shift)
        still = np.zeros_like(centres)  # moved above, and never by a gradient
        return [*each, still], None

    def compiled() -> Layers:
        return tuple((shared[i] * own[i], base[i] + shift[i]) for i in range(depth))

    def loss(rows: Int) -> float:
        cluster = nearest(vectors[rows], centres)
        return cross_entropy(forward(x[rows], cluster, compiled()), quality[rows])[0]

    parameters = [*shared, *own, *base, *shift, centres]
    descend(parameters, gradients, loss, n, schedule, rng=rng)
    return centres, compiled()


def slopes(
    x: Float,
    cluster: Int,
    quality: Float,
    shared: Sequence[Float],
    own: Sequence[Float],
    base: Sequence[Float],
    shift: Sequence[Float],
) -> list[Float]:
    """Gradients of the mean cross-entropy of a batch in shared, own, base and shift, in a row."""
    depth = len(shared)
    made = [[np.zeros_like(item) for item in kind] for kind in (shared, own, base, shift)]
    seen = max(int((~np.isnan(quality)).sum()), 1)
    for k in np.unique(cluster).tolist():
        of = cluster == k
        weights = [shared[i] * own[i][k] for i in range(depth)]
        kept = [x[of]]
        for i, weight in enumerate(weights):
            total = kept[-1] @ weight + base[i] + shift[i][k]
            kept.append(np.maximum(total, 0.0) if i < depth - 1 else total)
        count = max(int((~np.isnan(quality[of])).sum()), 1)
        slope = cross_entropy(kept[-1], quality[of])[1] * (count / seen)
        for i in range(depth - 1, -1, -1):
            if i < depth - 1:
                slope = np.where(kept[i + 1] > 0, slope, 0.0)
            each = kept[i].T @ slope
            made[0][i] += each * own[i][k]
            made[1][i][k] = each * shared[i]
            made[2][i] += slope.sum(axis=0)
            made[3][i][k] = slope.sum(axis=0)
            slope = slope @ weights[i].T
    return [item for kind in made for item in kind]


def _revive(centres: Float, vectors: Float, used: Float) -> None:
    """Centres that no sample of a pass went to start again from the samples farthest from all."""
    for k in np.flatnonzero(used == 0):
        reach = (vectors @ centres.T).max(axis=1)
        centres[k] = vectors[int(reach.argmin())]
