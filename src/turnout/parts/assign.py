"""Who goes where, given scores: top-k, top-p, threshold, capacity, and balance.

Every rule here decides on `score[i, j] - price[j]` and answers with an `Assignment`. Scores (n, m)
are numpy arrays or torch tensors, and the answer is of the same kind; -inf marks a destination
that an item may not have. Ties go to the lower column. Prices decide who is chosen and never how
much weight they get: a price is what a limit costs, not what a destination is worth (as in the
balancing without auxiliary losses of Wang et al., 2024, arXiv:2408.15664).

The exact solution under capacities is in `turnout.parts.flow`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from turnout.core import Assignment, InputError, _check
from turnout.core._arrays import Namespace, namespace
from turnout.parts._scores import Weigh, chosen, prepare

__all__ = ["Balanced", "room", "sinkhorn", "threshold", "top_k", "top_p", "with_capacity"]


def top_k(
    score: Any, k: int, *, price: Any = None, up: Any = None, weigh: Weigh = "softmax"
) -> Assignment:
    """The k best destinations of each item, the best first.

    Parameters
    ----------
    score : float array (n, m)
        -inf = may not be had.
    k : int
        1 to m. Where fewer may be had the rest is -1.
    price : array (m,), optional
        Subtracted from the scores to choose, not to weigh.
    up : array of bool (m,), optional
        Destinations that may be chosen.
    weigh : {"softmax", "gate", "equal"}
        Softmax of the scores over the chosen (rows sum to one), softmax over all destinations
        (rows sum to at most one), or one share each (rows sum to one).

    Raises
    ------
    InputError
        k is out of range, or the scores, prices or mask break a rule.

    Examples
    --------
    >>> import numpy as np
    >>> top_k(np.array([[0.0, 2.0, 1.0]]), 2, weigh="equal").index.tolist()
    [[1, 2]]
    """
    xp, clean, priced = prepare(score, price, up)
    k = _check.integer("k", k, low=1, high=int(clean.shape[1]))
    index = xp.descending(priced)[:, :k]
    return chosen(xp, clean, index, index >= 0, weigh)


def top_p(
    score: Any, p: float, *, price: Any = None, up: Any = None, weigh: Weigh = "softmax"
) -> Assignment:
    """The fewest destinations of each item whose softmax mass reaches p, the best first.

    Nucleus selection (Huang et al., "Harder Tasks Need More Experts", 2024, arXiv:2403.07652,
    section 3.2): sure items take one destination, unsure ones several.

    Parameters
    ----------
    score, price, up, weigh
        As in `top_k`; the mass is that of `score - price`.
    p : float
        In [0, 1]; 0 takes the best alone, 1 takes all that may be had.

    Returns
    -------
    Assignment
        As wide as the widest row.
    """
    xp, clean, priced = prepare(score, price, up)
    p = _check.number("p", p, low=0.0, high=1.0)
    index = xp.descending(priced)
    everything = chosen(xp, priced, index, index >= 0, "gate").weight
    before = everything.cumsum(1) - everything
    # at p = 1 rounding of the running sum must not cut off the tail
    keep = (before < p) if p < 1 else (index >= 0)
    keep[:, 0] = True
    return _trimmed(chosen(xp, clean, index, keep, weigh))


def threshold(
    score: Any,
    level: float,
    *,
    at_least: int = 0,
    price: Any = None,
    up: Any = None,
    weigh: Weigh = "softmax",
) -> Assignment:
    """Every destination whose score less price reaches a level, the best first.

    Parameters
    ----------
    score, price, up, weigh
        As in `top_k`.
    level : float
        Least `score - price` that is taken.
    at_least : int
        Take this many of the best in any case, 0 to m.
    """
    xp, clean, priced = prepare(score, price, up)
    level = _check.number("level", level)
    at_least = _check.integer("at_least", at_least, low=0, high=int(clean.shape[1]))
    index = xp.descending(priced)
    keep = xp.take(priced, index) >= level
    keep[:, :at_least] = True
    return _trimmed(chosen(xp, clean, index, keep, weigh))


def with_capacity(
    assignment: Assignment,
    capacity: Any,
    *,
    by: Literal["position", "weight"] = "position",
) -> Assignment:
    """Drop the choices that a destination has no room for.

    Parameters
    ----------
    assignment : Assignment
    capacity : float or array (m,)
        Most choices each destination takes, >= 0; infinity = no limit.
    by : {"position", "weight"}
        Who comes first: all first choices before all second ones and items in order (Fedus et
        al., "Switch Transformers", 2021, arXiv:2101.03961, section 2.2), or the greatest weight
        (Riquelme et al., "Scaling Vision with Sparse Mixture of Experts", 2021, arXiv:2106.05974,
        section 4, batch prioritised routing).

    Returns
    -------
    Assignment
        With -1 and weight 0 where a choice was dropped; kept weights do not change.
    """
    xp = namespace(assignment.index, assignment.weight)
    limit = room(capacity, assignment.m)
    n, k, m = assignment.n, assignment.k, assignment.m
    if n == 0 or k == 0:
        return assignment
    # slot by slot: entry s * n + i is choice s of item i
    to = assignment.index.T.reshape(-1)
    if by == "weight":
        order = xp.descending(assignment.weight.T.reshape(-1))
    elif by == "position":
        order = xp.arange(n * k, to)
    else:
        raise InputError("by", "be 'position' or 'weight'", by, "Choose one.")
    queue = xp.where(to < 0, to * 0 + m, to)[order]  # dropped already: a queue of its own
    grouped = xp.descending(-queue)
    sizes = xp.bincount(queue, m + 1)
    first = (sizes.cumsum(0) - sizes)[queue[grouped]]
    place = xp.put(queue * 0, order[grouped], xp.arange(n * k, to) - first)
    open_ = xp.from_numpy(limit, assignment.weight)
    keep = (to >= 0) & (place < open_[xp.where(to < 0, to * 0, to)])
    keep = keep.reshape(k, n).T
    return Assignment(
        xp.where(keep, assignment.index, assignment.index * 0 - 1),
        xp.where(keep, assignment.weight, xp.full_like(assignment.weight, 0.0)),
        m,
    )


class Balanced(NamedTuple):
    """What `sinkhorn` found.

    Attributes
    ----------
    plan : float array (n, m)
        Mass sent from each item to each destination; each row sums to one.
    price : float array (m,)
        Dual prices: `softmax((score - price) / temperature)` is the plan.
    assignment : Assignment
        The greatest mass of each item.
    error : float
        Largest relative error of a destination's load; 0 = balanced.
    """

    plan: Any
    price: Any
    assignment: Assignment
    error: float


def sinkhorn(
    score: Any,
    *,
    temperature: float,
    share: Any = None,
    up: Any = None,
    iterations: int = 1000,
    tolerance: float = 1e-6,
) -> Balanced:
    """Spread items over destinations in given shares, at the greatest score plus entropy.

    Maximises `sum plan * score + temperature * entropy(plan)` over plans whose rows sum to one and
    whose columns sum to `n * share` (Cuturi, "Sinkhorn Distances", 2013, arXiv:1306.0895;
    scaling iterations in the log domain, so that no temperature underflows).

    Parameters
    ----------
    score : float array (n, m)
        -inf = may not be had.
    temperature : float
        Softness, in units of the score, > 0; as it falls the plan approaches the best balanced
        assignment, in more iterations.
    share : array (m,), optional
        Load of each destination as a share of all, > 0; normalised to sum to one over the
        destinations that are up. Equal by default.
    up : array of bool (m,), optional
        Destinations that may be chosen.
    iterations : int
        Most scalings; see `error` for how far they got.
    tolerance : float
        Relative error of a load at which to stop.

    Raises
    ------
    InputError
        An item may have no destination at all, or a value is out of range.
    """
    xp, clean, _ = prepare(score, None, up)
    temperature = _check.number("temperature", temperature, low=0.0)
    if temperature == 0:
        hint = "Use turnout.parts.flow.best for the exact assignment."
        raise InputError("temperature", "be above 0", temperature, hint)
    iterations = _check.integer("iterations", iterations, low=1)
    n, m = (int(length) for length in clean.shape)
    logits = clean / temperature
    target = _log_share(xp, clean, share, up, m)
    zero = xp.full_like(target, 0.0)
    if n == 0:
        return Balanced(clean, zero, top_k(clean, 1), 0.0)
    empty = ~xp.isfinite(xp.logsumexp(clean, 1))
    if bool(empty.any()):
        row = int(xp.to_numpy(empty).argmax())
        hint = "Allow it at least one destination that is up."
        raise InputError(f"score[{row}]", "allow a destination", "-inf throughout", hint)
    wanted = xp.isfinite(target)
    floor = xp.where(wanted, target, zero)
    potential = zero
    for _ in range(iterations):
        plan = logits - potential
        plan = plan - xp.logsumexp(plan, 1)[:, None]
        excess = xp.where(wanted, xp.logsumexp(plan, 0) - floor, zero)
        error = float(abs(xp.exp(excess) - 1.0).max())
        if error <= tolerance:
            break
        # a destination that nobody may have stays empty whatever its price
        potential = potential + xp.where(xp.isfinite(excess), excess, zero)
    mass = xp.exp(plan)
    return Balanced(mass, potential * temperature, top_k(plan, 1, weigh="equal"), error)


def room(capacity: Any, m: int) -> Any:
    """Capacities (m,) float64, infinity = no limit, from one number or m."""
    if not hasattr(capacity, "shape") or tuple(capacity.shape) == ():
        capacity = [capacity] * m
    elif not isinstance(capacity, list):
        xp = namespace(capacity)
        capacity = xp.to_numpy(capacity)
    return _check.floats("capacity", capacity, (m,), low=0.0, inf=True).copy()


def _trimmed(assignment: Assignment) -> Assignment:
    """Without the columns at the right in which nothing is chosen; at least one is left."""
    used = (assignment.index >= 0).sum(1)
    widest = max(int(used.max()), 1) if assignment.n else 1
    return Assignment(assignment.index[:, :widest], assignment.weight[:, :widest], assignment.m)


def _log_share(xp: Namespace, score: Any, share: Any, up: Any, m: int) -> Any:
    """Logarithm of the load (m,) each destination is to get; -inf where down."""
    even = xp.full_like(score.sum(0), 0.0)
    if share is None:
        logs = even
    else:
        clean = _check.floats("share", xp.to_numpy(share), (m,), low=0.0)
        if bool((clean == 0).any()):
            hint = "Put a destination down with `up` to send it nothing."
            raise InputError("share", "be above 0", 0.0, hint)
        logs = even + xp.from_numpy(np.log(clean), score)
    if up is not None:
        logs = xp.where(up, logs, xp.full_like(logs, float("-inf")))
    total = xp.logsumexp(logs[None, :], 1)
    n = max(int(score.shape[0]), 1)
    return logs - total + math.log(n)
