"""The best assignment under capacities, exactly, for cases small enough to solve as a flow.

Each item sends k units to k different destinations, destination j takes at most `capacity[j]`,
and the total `score - price` is the greatest possible. This is a minimum-cost flow from items to
destinations; its constraint matrix is totally unimodular, so that a vertex of the linear program
is whole (Ahuja, Magnanti and Orlin, "Network Flows", 1993, section 11.12), and the dual simplex
of HiGHS ends in a vertex. The capacities' dual prices come with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from turnout.core import Assignment, InputError, _check
from turnout.parts._scores import Weigh, chosen, prepare
from turnout.parts.assign import room

__all__ = ["LARGEST", "Flow", "best"]

#: Most cells n * m that are solved; beyond, take `turnout.parts.assign.sinkhorn`.
LARGEST = 200_000


class Flow(NamedTuple):
    """What `best` found.

    Attributes
    ----------
    assignment : Assignment
        Of the same kind as the scores; choices of a row by falling `score - price`.
    total : float
        Sum of `score - price` over the choices: no assignment within the capacities has more.
    price : array (m,)
        Dual prices of the capacities, >= 0: what one more place at a destination would add; 0
        where there is room. numpy.
    """

    assignment: Assignment
    total: float
    price: Any


def best(
    score: Any,
    capacity: Any,
    *,
    k: int = 1,
    price: Any = None,
    up: Any = None,
    weigh: Weigh = "softmax",
) -> Flow:
    """The assignment of k destinations to each item with the greatest total within capacities.

    Parameters
    ----------
    score : float array (n, m)
        numpy or torch; -inf = may not be had. At most `LARGEST` cells.
    capacity : float or array (m,)
        Most items each destination takes, >= 0; infinity = no limit, fractions round down.
    k : int
        Different destinations of each item, 1 to m.
    price, up, weigh
        As in `turnout.parts.assign.top_k`.

    Raises
    ------
    InputError
        The capacities do not admit every item k times, there are too many cells, or the scores
        break a rule.

    Examples
    --------
    >>> flow = best(np.array([[3.0, 1.0], [2.0, 1.5]]), 1)
    >>> flow.assignment.index.ravel().tolist(), flow.total
    ([0, 1], 4.5)
    """
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    xp, clean, priced = prepare(score, price, up)
    n, m = (int(length) for length in clean.shape)
    k = _check.integer("k", k, low=1, high=m)
    limit = np.floor(room(capacity, m))
    if n * m > LARGEST:
        rule = f"have at most {LARGEST} cells to be solved exactly"
        raise InputError("score", rule, n * m, "Use turnout.parts.assign.sinkhorn.")
    if n == 0:
        return Flow(chosen(xp, clean, xp.descending(priced)[:, :k], True, weigh), 0.0, np.zeros(m))
    gain = xp.to_numpy(priced).astype(np.float64)
    item, to = np.nonzero(np.isfinite(gain))
    limit = np.minimum(limit, n)
    rule = f"admit {k} destination(s) for each of {n} items"
    hint = "Raise the capacities, lower k, or drop items with turnout.parts.assign.with_capacity."
    if len(item) == 0:
        raise InputError("capacity", rule, "items that may go nowhere", hint)
    value = gain[item, to]
    cell = np.arange(len(item))
    one = np.ones(len(item))
    # the solver's tolerances are absolute: let the largest score be one
    scale = float(np.abs(value).max(initial=0.0)) or 1.0
    solved = linprog(  # type: ignore[call-overload]  # the stubs know no sparse matrices
        -value / scale,
        A_ub=coo_array((one, (to, cell)), shape=(m, len(item))).tocsr(),
        b_ub=limit,
        A_eq=coo_array((one, (item, cell)), shape=(n, len(item))).tocsr(),
        b_eq=np.full(n, float(k)),
        bounds=(0.0, 1.0),
        method="highs-ds",
    )
    if solved.status != 0:
        raise InputError("capacity", rule, limit.tolist(), hint)
    taken = np.full((n, m), -np.inf)
    used = solved.x > 0.5
    taken[item[used], to[used]] = value[used]
    index = np.argsort(-taken, axis=1, kind="stable")[:, :k]
    duals = np.maximum(-solved.ineqlin.marginals * scale, 0.0)
    assignment = chosen(
        xp, clean, xp.from_numpy(index, clean), xp.from_numpy(index >= 0, clean), weigh
    )
    return Flow(assignment, float(value[used].sum()), duals)
