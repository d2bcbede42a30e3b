"""Experts in pairs: chosen together by a token in one layer, and one after the other.

All pairs of a layer are one product of matrices: row i of A_l (t, e) is 1 at the experts of
token i, and `A_l' A_l` counts tokens by pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from turnout.core._check import Float

__all__ = ["Pairs", "association", "count_pairs", "dependence", "multihot", "pair_lift"]

#: Tokens in one product; below 2^24, so that float32 counts exactly.
_CHUNK = 1 << 15


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs:
    """Counts of pairs of experts.

    Parameters
    ----------
    together : array (l, e, e)
        Tokens that chose both i and j in a layer; on the diagonal, tokens that chose i.
    follows : array (l - 1, e, e)
        Tokens that used i in a layer and j in the next, each token's pairs weighing 1 in all.
    overlap : array (l - 1,)
        Mean share of a token's experts in a layer that have the same number in the next.
    """

    together: Float
    follows: Float
    overlap: Float


def multihot(experts: NDArray[np.integer], e: int) -> NDArray[np.float32]:
    """1 at the experts a token chose, else 0.

    Parameters
    ----------
    experts : integer array (t, k)
        -1 = no choice; an expert that is named twice counts once.
    e : int

    Returns
    -------
    float32 array (t, e)
    """
    t = len(experts)
    # A column in front takes what was not chosen.
    dense = np.zeros(t * (e + 1), dtype=np.float32)
    dense[np.arange(1, t * (e + 1), e + 1)[:, None] + experts] = 1.0
    return dense.reshape(t, e + 1)[:, 1:]


def count_pairs(
    experts: NDArray[np.integer], e: int, *, tick: Callable[[int, int], None] | None = None
) -> Pairs:
    """Pairs within each layer and from each layer to the next.

    ::

        together[l, i, j] = sum_tokens [i in S_l] [j in S_l]
        follows[l, i, j]  = sum_tokens [i in S_l] [j in S_(l+1)] / (|S_l| |S_(l+1)|)
        overlap[l]        = mean_tokens |S_l and S_(l+1)| / min(|S_l|, |S_(l+1)|)

    with S_l the experts a token chose in layer l. `together` is the co-activation of Muennighoff
    et al., "OLMoE" (2024, arXiv:2409.02060) before it is divided by the load of i; `follows` is
    the affinity of Yao et al., "ExFlow" (2024, arXiv:2401.08383), for more than one choice.
    Experts of the same number in two layers have nothing in common unless the router is shared:
    then the overlap of k choices among e is far above k / e, its value by chance.

    Parameters
    ----------
    experts : integer array (t, l, k)
        -1 = no choice.
    e : int
    tick : callable, optional
        Told how many tokens of how many are done.

    Returns
    -------
    Pairs
    """
    t, layers, _ = experts.shape
    together = np.zeros((layers, e, e))
    follows = np.zeros((max(layers - 1, 0), e, e))
    shared = np.zeros(max(layers - 1, 0))
    tokens = np.zeros(max(layers - 1, 0))
    # Two threads that wait for each other on a busy machine are slower than one.
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, t, _CHUNK):
            part = experts[start : start + _CHUNK]
            before: NDArray[np.float32] | None = None
            for layer in range(layers):
                chosen = multihot(part[:, layer], e)
                together[layer] += chosen.T @ chosen
                if before is not None:
                    size, last = chosen.sum(axis=1), before.sum(axis=1)
                    follows[layer - 1] += _joint(before, chosen, last * size)
                    both = np.einsum("te,te->t", before, chosen)
                    some = np.minimum(size, last) > 0
                    shared[layer - 1] += float((both[some] / np.minimum(size, last)[some]).sum())
                    tokens[layer - 1] += float(some.sum())
                before = chosen
            if tick is not None:
                tick(min(start + _CHUNK, t), t)
    overlap = np.divide(shared, tokens, out=np.full(len(tokens), np.nan), where=tokens > 0)
    return Pairs(together=together, follows=follows, overlap=overlap)


def _joint(
    before: NDArray[np.float32], after: NDArray[np.float32], pairs: NDArray[np.float32]
) -> Float:
    """Counts of pairs (e, e), those of each token weighing 1 in all."""
    if pairs.size and pairs.min() == pairs.max() > 0:
        return (before.T @ after).astype(np.float64) / float(pairs[0])
    joint = (before / np.maximum(pairs, 1.0)[:, None]).T @ after
    return np.asarray(joint, dtype=np.float64)


def pair_lift(together: Float, t: int) -> Float:
    """How many times more often two experts meet in a token than their loads alone would have it.

    `n_ij / (c n_i n_j / t)`, with `c = (k - 1) e / (k (e - 1))` for the k choices of a token (on
    average) among the e experts in use: a token does not choose the same expert twice, so that
    two experts meet a little less often than independent ones would. 1 = chance; for a router
    that draws evenly it is exactly that. The diagonal, and pairs of which one was never chosen,
    are NaN.

    Parameters
    ----------
    together : array (e, e)
        As in `Pairs`.
    t : int
        Tokens counted.

    Returns
    -------
    array (e, e)
    """
    alone = np.diagonal(together).astype(np.float64)
    e, k = float((alone > 0).sum()), float(alone.sum()) / max(t, 1)
    result = np.full(together.shape, np.nan)
    if e < 2 or k <= 1:
        return result
    chance = (k - 1) * e / (k * (e - 1)) * np.outer(alone, alone) / t
    np.divide(together, chance, out=result, where=chance > 0)
    np.fill_diagonal(result, np.nan)
    return result


def association(together: Float, t: int) -> float:
    """Bits by which pairs in a layer differ from chance, `sum_ij q_ij log2(q_ij / r_ij)`, i != j.

    q is the share of pairs seen, r the share that the loads alone would give (see `pair_lift`).
    Not corrected for few tokens. NaN where no token made two choices.

    Parameters
    ----------
    together : array (e, e)
    t : int

    Returns
    -------
    float
    """
    ratio = pair_lift(together, t)
    seen = np.where(np.isnan(ratio), 0.0, together)
    total = float(seen.sum())
    if total == 0:
        return math.nan
    share = seen / total
    chance = np.where(np.isnan(ratio), 0.0, np.outer(np.diagonal(together), np.diagonal(together)))
    chance = chance / chance.sum()
    some = share > 0
    return float((share[some] * np.log2(share[some] / chance[some])).sum())


def dependence(follows: Float, *, t: float, k: float = 1.0) -> float:
    """Mutual information, in bits, of the expert in one layer and the expert in the next.

    ::

        I = sum_ij q_ij log2(q_ij / (q_i q_j))   less   (a - k) (b - k) / (2 t k^2 ln 2)

    with q the shares of `follows`, a and b the experts in use in the two layers: what t tokens
    of k choices give by chance, to first order (for k = 1 the correction of Miller, 1955). Not
    below 0; NaN where nothing follows anything.

    Parameters
    ----------
    follows : array (e, e)
    t : float
        Tokens counted.
    k : float
        Choices of a token in a layer, on average.

    Returns
    -------
    float
    """
    total = float(follows.sum())
    if total == 0:
        return math.nan
    q = follows / total
    first, second = q.sum(axis=1), q.sum(axis=0)
    some = q > 0
    raw = float((q[some] * np.log2(q[some] / np.outer(first, second)[some])).sum())
    a, b = float((first > 0).sum()), float((second > 0).sum())
    chance = max(a - k, 0.0) * max(b - k, 0.0) / (2 * t * k * k * math.log(2))
    return max(raw - chance, 0.0)
