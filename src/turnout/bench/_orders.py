"""Orders from numbers: ranks with ties, Kendall's tau, and the best order of a table of wins."""

from __future__ import annotations

import itertools
import math

import numpy as np

from turnout.core import InputError
from turnout.core._check import Float, Int

#: Systems of a block that is solved by trying all orders; larger ones by an integer program.
BRUTE = 7

#: Points this close, relative to the largest, are a tie.
_DIGITS = 10


def points_of(values: Float) -> Float:
    """Systems beaten plus half of those tied, row by row, (n, m)."""
    from scipy.stats import rankdata

    if not values.size:
        return np.zeros(values.shape)
    size = np.abs(values).max(axis=1, keepdims=True)
    even = np.round(values / np.where(size > 0, size, 1.0), _DIGITS)
    ranked: Float = np.asarray(rankdata(even, method="average", axis=1), dtype=np.float64)
    points: Float = ranked - 1.0
    return points


def tau_of(one: Float, other: Float) -> float:
    """Kendall's tau-b of two rows of places; NaN where it is undefined."""
    from scipy.stats import kendalltau

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(kendalltau(one, other).statistic)


def blocks(table: Float) -> list[Int]:
    """Strong components of "at least a draw against", the strongest first.

    Every order of least disagreement keeps them in this order: of two systems of different ones,
    that of the stronger wins a majority (the extended Condorcet criterion: Truchon, "An Extension
    of the Condorcet Criterion and Kemeny Orders", 1998).
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    holds = table >= table.T
    np.fill_diagonal(holds, False)
    count, label = connected_components(
        csr_matrix(holds.astype(np.int8)), directed=True, connection="strong"
    )
    beaten = (table > table.T).sum(axis=1)
    blocks = [np.flatnonzero(label == part) for part in range(count)]
    # Between components every pair goes the same way, so any member tells their order.
    return sorted(blocks, key=lambda block: -int(beaten[block].max()))


def best_order(table: Float) -> tuple[list[int], bool]:
    """Best order of one block, and whether it is the only one."""
    if len(table) <= BRUTE:
        return _try_all(table)
    first, cost = _program(table, None)
    _, second = _program(table, first)
    return _order(first), second > cost + 0.25


def _try_all(table: Float) -> tuple[list[int], bool]:
    m = len(table)
    orders = np.array(list(itertools.permutations(range(m))), dtype=np.int64)
    cost = np.zeros(len(orders))
    for above, below in itertools.combinations(range(m), 2):
        cost += table[orders[:, below], orders[:, above]]
    best = np.flatnonzero(cost < cost.min() + 0.25)
    return [int(j) for j in orders[best[0]]], len(best) == 1


def _program(table: Float, other_than: Float | None) -> tuple[Float, float]:
    """Integer program of one block: x (m, m) with x[i, j] = 1 where i is above j, and its cost."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    m = len(table)
    pair = {two: k for k, two in enumerate(itertools.combinations(range(m), 2))}
    above = np.array([two[0] for two in pair])
    below = np.array([two[1] for two in pair])
    triples = list(itertools.combinations(range(m), 3))
    columns = np.array([[pair[i, j], pair[j, k], pair[i, k]] for i, j, k in triples])
    rows = np.repeat(np.arange(len(triples)), 3)
    signs = np.tile([1.0, 1.0, -1.0], len(triples))
    matrix = csr_matrix((signs, (rows, columns.ravel())), shape=(len(triples), len(pair)))
    rules = [LinearConstraint(matrix, 0.0, 1.0)]
    if other_than is not None:
        # At least one pair the other way round.
        before = other_than[above, below]
        rules.append(LinearConstraint(1.0 - 2.0 * before, 1.0 - before.sum(), np.inf))
    gain = table[below, above] - table[above, below]
    found = milp(
        gain, constraints=rules, integrality=np.ones(len(pair), dtype=np.int64), bounds=Bounds(0, 1)
    )
    if not found.success:
        raise InputError("systems", "be few enough to solve", m, f"{found.message} Use borda.")
    x = np.zeros((m, m))
    x[above, below] = np.round(found.x)
    x[below, above] = 1.0 - x[above, below]
    return x, float((x * table.T).sum())


def _order(x: Float) -> list[int]:
    return [int(j) for j in np.argsort(-x.sum(axis=1), kind="stable")]
