"""What a routing trace says in numbers: load, specialisation, drops and weights.

Plain functions of numpy arrays. An expert number of -1 is no choice and counts nowhere. Each
measure of load reads counts `(..., e)` and gives one number for each row, so that it works for
layers, for domains, and for tables that were counted elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError
from turnout.core._check import Bool, Float, Int

__all__ = [
    "Specialisation",
    "counts",
    "counts_by",
    "dead",
    "drop_share",
    "effective_experts",
    "entropy",
    "known_mean",
    "lift",
    "max_over_mean",
    "specialisation",
    "top_share",
    "top_weight",
    "variation",
]

#: Tokens handled at once, where a copy of a whole trace would be too large.
_CHUNK = 1 << 17


def counts(experts: NDArray[np.integer], e: int) -> Int:
    """Choices that each expert receives, `n[l, j] = #{(i, s): experts[i, l, s] = j}`.

    Parameters
    ----------
    experts : integer array (t, l, k)
        -1 = no choice.
    e : int
        Experts in each layer.

    Returns
    -------
    int64 array (l, e)
    """
    layers = experts.shape[1]
    found = np.zeros((layers, e), dtype=np.int64)
    for layer in range(layers):
        # One more bin, in front, takes what was not chosen.
        found[layer] = np.bincount(experts[:, layer].ravel() + 1, minlength=e + 1)[1:]
    return found


def counts_by(experts: NDArray[np.integer], e: int, labels: Int, v: int) -> Int:
    """Choices of one layer by the label of the token and the expert.

    Parameters
    ----------
    experts : integer array (t, k)
        -1 = no choice.
    e : int
        Experts in the layer.
    labels : int array (t,)
        0 to v - 1; -1 = unknown, which counts nowhere.
    v : int
        Number of labels.

    Returns
    -------
    int64 array (v, e)
    """
    # One more row and column, in front, take what is unknown and what was not chosen.
    key = ((labels + 1) * (e + 1) + 1)[:, None] + experts
    return np.bincount(key.ravel(), minlength=(v + 1) * (e + 1)).reshape(v + 1, e + 1)[1:, 1:]


def max_over_mean(table: NDArray[np.integer]) -> Float:
    """Load of the busiest expert over the mean load, `max_j n_j / mean_j n_j`.

    1 = even, e = all on one. With one expert a device it is the factor by which the busiest
    device holds up the layer. NaN where nothing was chosen.

    Parameters
    ----------
    table : array (..., e)

    Returns
    -------
    array (...)
    """
    mean = table.mean(axis=-1)
    return _ratio(table.max(axis=-1), mean)


def variation(table: NDArray[np.integer]) -> Float:
    """Coefficient of variation of the load, `std_j n_j / mean_j n_j` (population).

    Its square is the importance loss of Shazeer et al., "Outrageously Large Neural Networks"
    (2017, arXiv:1701.06538, section 4), on counts. 0 = even. NaN where nothing was chosen.

    Parameters
    ----------
    table : array (..., e)

    Returns
    -------
    array (...)
    """
    return _ratio(table.std(axis=-1), table.mean(axis=-1))


def entropy(table: NDArray[np.integer]) -> Float:
    """Entropy of the load over its greatest value, `-sum_j p_j log p_j / log e`, p = n / sum n.

    1 = even, 0 = all on one (and 1 where there is one expert alone). NaN where nothing was
    chosen. Shannon, "A Mathematical Theory of Communication" (1948), section 6.

    Parameters
    ----------
    table : array (..., e)

    Returns
    -------
    array (...)
    """
    e = table.shape[-1]
    total = table.sum(axis=-1)
    if e == 1:
        return np.where(total > 0, 1.0, np.nan)
    share = _ratio(table, total[..., None])
    found: Float = -_xlogx(share).sum(axis=-1) / math.log(e)
    # Rounding may leave -0.0 or a hair more than 1.
    return np.where(np.isnan(found), np.nan, np.clip(found, 0.0, 1.0))


def dead(table: NDArray[np.integer]) -> Int:
    """Number of experts that no token chose.

    Parameters
    ----------
    table : array (..., e)

    Returns
    -------
    int array (...)
    """
    return np.asarray((table == 0).sum(axis=-1), dtype=np.int64)


def top_share(table: NDArray[np.integer], n: int) -> Float:
    """Share of the choices that the n busiest experts take. NaN where nothing was chosen.

    Parameters
    ----------
    table : array (..., e)
    n : int
        1 to e.

    Returns
    -------
    array (...)

    Raises
    ------
    InputError
        n lies outside 1 to e.
    """
    if not 1 <= n <= table.shape[-1]:
        raise InputError("n", f"lie in [1, {table.shape[-1]}]", n, "Count the experts.")
    return _ratio(np.sort(table, axis=-1)[..., -n:].sum(axis=-1), table.sum(axis=-1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Specialisation:
    """How much a label of the token tells of the expert it goes to.

    Parameters
    ----------
    bits : float
        Mutual information of label and expert, bias taken off, not below 0.
    raw, bias : float
        The same as counted, and the part of it that chance alone would give.
    by_label : array (v,)
        Bits by which each label's choices differ from all choices, bias taken off; NaN where a
        label is too rare.
    covered : float
        Share of the choices whose label is frequent enough to count.
    """

    bits: float
    raw: float
    bias: float
    by_label: Float
    covered: float


def specialisation(
    table: NDArray[np.integer], *, k: float = 1.0, least: float = 1.0
) -> Specialisation:
    """Mutual information of label and expert, from a table of choices.

    ::

        D_v = sum_j p(j | v) log2(p(j | v) / p(j))       for one label v
        I   = sum_v p(v) D_v

    over the labels seen in at least `least` tokens. Counted from few tokens both are too large.
    Where label and expert have nothing to do with each other and each token chooses k different
    ones of the a experts in use, to first order in 1 / n

    ::

        E[D_v] = (a - k) / (2 n_v ln 2) (1 - n_v / n),   E[I] = (v - 1) (a - k) / (2 n ln 2)

    with n_v the choices of label v: the variance of an expert's count over its mean is 1 less
    the share of tokens that choose it, and these shares add up to k. That is taken off. For
    k = 1 it is the correction of Miller, "Note on the bias of information estimates" (1955).
    The remaining error is of order 1 / n_v^2: labels seen in a handful of tokens stay uncertain,
    which is what `least` is for.

    Parameters
    ----------
    table : array (v, e)
        Choices by label and expert.
    k : float
        Choices of a token, on average.
    least : float
        Tokens below which a label is left out.

    Returns
    -------
    Specialisation
    """
    row = table.sum(axis=1)
    kept = row >= max(least * k, 1e-12)
    seen, n_v = table[kept], row[kept].astype(np.float64)
    n = float(n_v.sum())
    by_label = np.full(len(table), np.nan)
    if n == 0:
        return Specialisation(bits=math.nan, raw=math.nan, bias=0.0, by_label=by_label, covered=0.0)
    column = seen.sum(axis=0)
    free = max(float((column > 0).sum()) - k, 0.0) / (2 * math.log(2))
    shift = _xlogx(seen / n_v[:, None]) - (seen / n_v[:, None]) * _log(column / n)[None, :]
    raw = shift.sum(axis=1) / math.log(2)
    by_label[kept] = raw - free / n_v * (1 - n_v / n)
    total, bias = float((n_v * raw).sum() / n), free * (len(n_v) - 1) / n
    return Specialisation(
        bits=max(total - bias, 0.0),
        raw=total,
        bias=bias,
        by_label=by_label,
        covered=n / float(row.sum()),
    )


def known_mean(values: Float, axis: int | None = None) -> Float:
    """Mean of what is not NaN; NaN where nothing is known.

    Parameters
    ----------
    values : array
    axis : int, optional
        All entries unless said.

    Returns
    -------
    array
        Without the axis; of shape () for all entries.
    """
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return _ratio(np.asarray(total), np.asarray(known.sum(axis=axis)))


def lift(table: NDArray[np.integer]) -> Float:
    """How many times more often a label goes to an expert than all labels do.

    `p(j | v) / p(j)`: 1 = as everybody. NaN where the label or the expert was never seen. The
    domain specialisation of Muennighoff et al., "OLMoE" (2024, arXiv:2409.02060), divides by
    the even share k / e instead; this divides by the real load, so that a busy expert does not
    look specialised in every domain.

    Parameters
    ----------
    table : array (v, e)

    Returns
    -------
    array (v, e)
    """
    share = _ratio(table, table.sum(axis=1, keepdims=True))
    return _ratio(share, _ratio(table.sum(axis=0), np.asarray(table.sum()))[None, :])


def drop_share(experts: NDArray[np.integer], dropped: Bool) -> Float:
    """Share of a layer's choices that were dropped for want of capacity.

    `dropped / (kept + dropped)`; NaN where nothing was chosen.

    Parameters
    ----------
    experts : integer array (t, l, k)
    dropped : bool array (t, l, k)

    Returns
    -------
    array (l,)
    """
    lost = dropped.sum(axis=(0, 2), dtype=np.int64)
    kept = (experts >= 0).sum(axis=(0, 2), dtype=np.int64)
    return _ratio(lost, lost + kept)


def top_weight(weights: NDArray[np.floating]) -> Float:
    """Mean weight of the strongest choice, as a share of the token's weight in that layer.

    Parameters
    ----------
    weights : array (t, l, k)
        Tokens whose weights are all 0 are left out.

    Returns
    -------
    array (l,)
        1 / k = all choices weigh the same; 1 = the first alone counts.
    """
    return _mean_over_tokens(weights, lambda share: share.max(axis=2))


def effective_experts(weights: NDArray[np.floating]) -> Float:
    """Mean number of experts a token really uses, `exp(-sum_s w_s log w_s)`, w summing to 1.

    Hill, "Diversity and Evenness" (1973), order 1. k = all choices weigh the same; 1 = the first
    alone counts. Tokens whose weights are all 0 are left out.

    Parameters
    ----------
    weights : array (t, l, k)

    Returns
    -------
    array (l,)
    """
    return _mean_over_tokens(weights, lambda share: np.exp(-_xlogx(share).sum(axis=2)))


def _mean_over_tokens(weights: NDArray[np.floating], measure: Callable[[Float], Float]) -> Float:
    total = np.zeros(weights.shape[1])
    tokens = np.zeros(weights.shape[1], dtype=np.int64)
    for start in range(0, len(weights), _CHUNK):
        part = weights[start : start + _CHUNK]
        weight = part.sum(axis=2, keepdims=True)
        some = weight[:, :, 0] > 0
        share = part / np.where(weight > 0, weight, 1)
        total += np.where(some, measure(share), 0.0).sum(axis=0, dtype=np.float64)
        tokens += some.sum(axis=0)
    return _ratio(total, tokens)


def _ratio(top: NDArray[np.generic], bottom: NDArray[np.generic]) -> Float:
    """Quotient; NaN where the bottom is 0."""
    over = np.asarray(top, dtype=np.float64)
    under = np.asarray(bottom, dtype=np.float64)
    result = np.full(np.broadcast_shapes(over.shape, under.shape), np.nan)
    np.divide(over, under, out=result, where=np.broadcast_to(under > 0, result.shape))
    return result


def _log(values: NDArray[np.floating]) -> Float:
    """Logarithm, 0 at 0: such entries are multiplied by 0 anyway."""
    return np.log(np.where(values > 0, values, 1.0))


def _xlogx(values: NDArray[np.floating]) -> Float:
    result: Float = values * _log(values)
    return result
