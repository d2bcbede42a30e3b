"""k-means: groups of items that lie close together, and what happened in each group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float, Int

__all__ = ["Partition", "group_means", "kmeans", "squared_distances"]

_ROUNDS = 100


@dataclass(frozen=True, eq=False)
class Partition:
    """What `kmeans` found.

    Parameters
    ----------
    centres : array (c, d)
        Mean of each group; no group is empty.
    label : array of int (n,)
        Group of each point: the nearest centre.
    inertia : float
        Sum of squared distances to the own centre.
    """

    centres: Float
    label: Int
    inertia: float


def squared_distances(points: NDArray[np.floating], centres: NDArray[np.floating]) -> Float:
    """Squared Euclidean distances (n, c); never below zero."""
    x, y = np.asarray(points, dtype=np.float64), np.asarray(centres, dtype=np.float64)
    cross = x @ y.T
    square = (x * x).sum(axis=1)[:, None] - 2.0 * cross + (y * y).sum(axis=1)
    return np.asarray(np.maximum(square, 0.0))


def kmeans(points: NDArray[np.floating], c: int, *, rng: Generator, restarts: int = 3) -> Partition:
    """Lloyd's algorithm from k-means++ seeds; the best of a few restarts.

    Source: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007,
    section 2.2. A group that loses all its points takes the point farthest from its centre.
    Fewer distinct points than `c` give that many groups. Time O(restarts * rounds * n * c * d).

    Parameters
    ----------
    points : array (n, d)
        n >= 1, finite.
    c : int
        Groups wanted, >= 1.
    rng : Generator
    restarts : int
        Seeds tried, >= 1.
    """
    x = np.asarray(points, dtype=np.float64)
    c = min(_check.integer("c", c, low=1), len(x))
    runs = (
        _lloyd(x, _seeds(x, c, rng)) for _ in range(_check.integer("restarts", restarts, low=1))
    )
    return min(runs, key=lambda run: run.inertia)


def group_means(values: Float, label: Int, c: int, *, shrink: float = 0.0) -> Float:
    """Mean (c, m) of the seen cells of each group, drawn towards the mean of all.

    Parameters
    ----------
    values : array (n, m)
        NaN = never seen; every column is seen at least once.
    label : array of int (n,)
        Group of each row.
    c : int
        Number of groups.
    shrink : float
        Weight of the column's overall mean, in rows; >= 0. A group that never saw a column gets
        that mean whatever the weight.
    """
    seen = ~np.isnan(values)
    overall = np.nanmean(values, axis=0)
    member = np.zeros((c, len(values)))
    member[label, np.arange(len(values))] = 1.0
    total = member @ np.where(seen, values, 0.0) + shrink * overall
    weight = member @ seen + shrink
    return np.asarray(np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), overall))


def _seeds(x: Float, c: int, rng: Generator) -> Float:
    """k-means++: each next centre with probability in proportion to the squared distance."""
    chosen = [int(rng.integers(len(x)))]
    nearest = squared_distances(x, x[chosen])[:, 0]
    nearest[chosen[0]] = 0.0
    while len(chosen) < c and nearest.sum() > 1e-12 * len(x):
        pick = int(rng.choice(len(x), p=nearest / nearest.sum()))
        chosen.append(pick)
        nearest = np.minimum(nearest, squared_distances(x, x[[pick]])[:, 0])
        nearest[pick] = 0.0
    return x[chosen]


def _lloyd(x: Float, centres: Float) -> Partition:
    label = np.full(len(x), -1)
    for _ in range(_ROUNDS):
        distance = squared_distances(x, centres)
        new = distance.argmin(axis=1)
        own = distance[np.arange(len(x)), new]
        count = np.bincount(new, minlength=len(centres))
        for empty in np.flatnonzero(count == 0):
            movable = np.where(count[new] > 1, own, -1.0)
            far = int(movable.argmax())
            count[new[far]] -= 1
            count[empty], new[far], own[far] = 1, empty, 0.0
        if (new == label).all():
            break
        label = new
        total = np.zeros_like(centres)
        np.add.at(total, label, x)
        centres = total / np.bincount(label, minlength=len(centres))[:, None]
    inertia = float(((x - centres[label]) ** 2).sum())
    return Partition(centres, label.astype(np.int64), inertia)
