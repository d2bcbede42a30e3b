"""Sets of points with several objectives: who is beaten, how much is covered, how varied they are.

Every objective is to be made as large as possible. Notation: a set A of k points a (k, d), a
reference point r below them, preferences v on the simplex (p, d).

    hypervolume(A, r)   volume of the union of the boxes from r to each a       exact, any d
    R2(A, V)            sum_v min_a max_i v_i |1 - a_i| / (count or |V|_F)      smaller is better
    IGD(A, F)           mean over f in F of the distance to the nearest a       smaller is better

Sources: hypervolume by slices (While, Hingston, Barone and Huband, "A faster algorithm for
calculating hypervolume", 2006); R2 by Tchebycheff distances from the ideal point 1 (Brockhoff,
Wagner and Trautmann, "On the properties of the R2 indicator", 2012), whose usual divisor is the
number of preferences while the code of Jain et al. (2022, arXiv:2210.12765) divides by the
Frobenius norm of V: both are here. Ranks and crowding are those of NSGA-II (Deb, Pratap, Agarwal
and Meyarivan, 2002).

Cost: a hypervolume in 2 dimensions O(k log k), in 3 O(k^2 log k), a factor k for each further.

Examples
--------
>>> import numpy as np
>>> front = np.array([[0.2, 0.9], [0.5, 0.5], [0.4, 0.4], [0.9, 0.1]])
>>> non_dominated(front).tolist()
[True, True, False, True]
>>> round(hypervolume(front, np.zeros(2)), 2)
0.37
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Bool, Float, Int

__all__ = [
    "crowding",
    "edit_distance",
    "hypervolume",
    "igd",
    "non_dominated",
    "pairwise_mean",
    "r2",
    "ranks",
    "simplex",
]


def non_dominated(points: Float) -> Bool:
    """Which points (k, d) no other beats: at least as good everywhere and better somewhere.

    Of equal points all are kept or none.
    """
    a = _points("points", points)
    if a.shape[1] == 2 and len(a):
        # sorted by the first, a point stands if the second is above all before it
        order = np.lexsort((-a[:, 1], -a[:, 0]))
        one, two = a[order, 0], a[order, 1]
        before = np.concatenate(([-np.inf], np.maximum.accumulate(two)[:-1]))
        equal = np.concatenate(([False], (one[1:] == one[:-1]) & (two[1:] == two[:-1])))
        first = np.maximum.accumulate(np.where(equal, 0, np.arange(len(a))))
        kept = np.zeros(len(a), dtype=np.bool_)
        kept[order] = (two > before)[first]
        return kept
    kept = np.ones(len(a), dtype=np.bool_)
    for i in range(len(a)):
        above = (a >= a[i]).all(axis=1) & (a > a[i]).any(axis=1)
        kept[i] = not above.any()
    return kept


def hypervolume(points: Float, reference: Float) -> float:
    """Volume that points (k, d) dominate above `reference` (d,); exact.

    Points that do not lie above the reference in every objective add nothing.
    """
    a = _points("points", points)
    r = _check.floats("reference", reference, (a.shape[1],))
    a = a[(a > r).all(axis=1)] - r
    return _volume(a[non_dominated(a)]) if len(a) else 0.0


def _volume(a: Float) -> float:
    """Hypervolume of points (k, d) over the origin, all above it, none beaten."""
    if a.shape[1] == 1:
        return float(a.max())
    order = np.argsort(-a[:, -1], kind="stable")
    a = a[order]
    height = a[:, -1] - np.append(a[1:, -1], 0.0)
    if a.shape[1] == 2:
        return float((np.maximum.accumulate(a[:, 0]) * height).sum())
    total = 0.0
    for i in np.flatnonzero(height > 0):
        flat = a[: i + 1, :-1]
        total += float(height[i]) * _volume(flat[non_dominated(flat)])
    return total


def r2(points: Float, preferences: Float, *, frobenius: bool = False) -> float:
    """The R2 indicator of points (k, d) in [0, 1] against the ideal point 1; smaller is better.

    Parameters
    ----------
    points : array (k, d)
    preferences : array (p, d)
        Rows >= 0.
    frobenius : bool
        Divide by the Frobenius norm of the preferences, as some released code does, instead of by
        their number.
    """
    a = _points("points", points)
    v = _check.floats("preferences", preferences, (None, a.shape[1]), low=0.0)
    if len(a) == 0 or len(v) == 0:
        raise InputError("points", "hold a point, and preferences one", len(a), "Add some.")
    worst = (v[:, None, :] * np.abs(1.0 - a)[None]).max(axis=2)
    return float(worst.min(axis=1).sum() / (np.linalg.norm(v) if frobenius else len(v)))


def igd(points: Float, front: Float) -> float:
    """Mean distance of a front (f, d) to the nearest of the points (k, d); 0 = it is covered."""
    a = _points("points", points)
    f = _check.floats("front", front, (None, a.shape[1]))
    if len(a) == 0 or len(f) == 0:
        raise InputError("points", "hold a point, and the front one", len(a), "Add some.")
    gaps = np.sqrt(((f[:, None, :] - a[None]) ** 2).sum(axis=2))
    return float(gaps.min(axis=1).mean())


def simplex(d: int, bins: int) -> Float:
    """All preferences (p, d) whose entries are multiples of 1 / bins and sum to one."""
    d, bins = _check.integer("d", d, low=1), _check.integer("bins", bins, low=1)
    rows = [
        np.diff((-1, *cuts, bins + d - 1)) - 1
        for cuts in itertools.combinations(range(bins + d - 1), d - 1)
    ]
    return np.asarray(rows, dtype=np.float64) / bins


def ranks(points: Float) -> Int:
    """Rank (k,) of each point: 0 = beaten by none, 1 = by rank 0 alone, and so on."""
    a = _points("points", points)
    rank = np.full(len(a), -1, dtype=np.int64)
    level = 0
    while (rank < 0).any():
        left = np.flatnonzero(rank < 0)
        rank[left[non_dominated(a[left])]] = level
        level += 1
    return rank


def crowding(points: Float) -> Float:
    """Room (k,) around each point: the scaled gaps between its neighbours; infinite at the ends."""
    a = _points("points", points)
    room = np.zeros(len(a))
    for column in a.T:
        order = np.argsort(column, kind="stable")
        if not len(order):
            continue
        room[order[[0, -1]]] = np.inf
        width = float(column[order[-1]] - column[order[0]])
        if width > 0:
            room[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / width
    return room


def edit_distance(one: Sequence[Any], two: Sequence[Any]) -> int:
    """Fewest insertions, deletions and replacements that turn one sequence into the other."""
    row = list(range(len(two) + 1))
    for i, x in enumerate(one, start=1):
        corner, row[0] = row[0], i
        for j, y in enumerate(two, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def pairwise_mean(
    things: Sequence[Any], distance: Callable[[Any, Any], float] = edit_distance
) -> float:
    """Mean distance of all pairs, a measure of how varied they are; 0 where there is no pair."""
    pairs = [distance(one, two) for one, two in itertools.combinations(things, 2)]
    return float(np.mean(pairs)) if pairs else 0.0


def _points(name: str, value: Float) -> Float:
    a = _check.floats(name, value, (None, None))
    if a.shape[1] == 0:
        raise InputError(name, "have an objective", a.shape, "Give each point one number or more.")
    return a
