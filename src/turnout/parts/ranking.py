"""How good a ranking is: discounted gain, whether the best is near the top, and how near.

One row a query, its candidates in columns. Ties are broken by column, the first one first, so that
a measure does not depend on a sort.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float, Int

__all__ = ["discounted", "hit", "mrr", "ndcg", "order"]


def order(scores: NDArray[np.floating]) -> Int:
    """Columns of each row, best score first, (n, m)."""
    return np.argsort(-np.asarray(scores), axis=1, kind="stable")


def discounted(gains: NDArray[np.floating], k: int) -> Float:
    """Discounted gain (n,) of ranked gains (n, r): `sum_{i <= k} gain_i / log2(i + 1)`.

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS
    20 (2002), with the discount that trec_eval and BEIR use and gains as they are.

    Parameters
    ----------
    gains : array (n, r)
        Gain at each rank, the first rank first.
    k : int
        Ranks that count, >= 1.
    """
    k = _check.integer("k", k, low=1)
    top = np.asarray(gains, dtype=np.float64)[:, :k]
    return np.asarray(top @ (1.0 / np.log2(np.arange(top.shape[1]) + 2.0)))


def ndcg(scores: NDArray[np.floating], gains: NDArray[np.floating], k: int) -> Float:
    """nDCG@k (n,) of ranking by `scores` (n, m) where a candidate is worth `gains` (n, m).

    Gains are >= 0; a row in which nothing is worth anything has 0.
    """
    gains = _check.floats("gains", gains, np.shape(scores), low=0.0)
    ideal = discounted(-np.sort(-gains, axis=1), k)
    found = discounted(np.take_along_axis(gains, order(scores), axis=1), k)
    return np.asarray(found / np.where(ideal > 0, ideal, 1.0))


def hit(scores: NDArray[np.floating], gains: NDArray[np.floating], k: int) -> Float:
    """Whether a best candidate (ties count) is among the k ranked first, 1 or 0, (n,)."""
    k = _check.integer("k", k, low=1)
    best = np.asarray(gains) == np.max(gains, axis=1, keepdims=True)
    ranked = np.take_along_axis(best, order(scores), axis=1)
    return np.asarray(ranked[:, :k].any(axis=1), dtype=np.float64)


def mrr(scores: NDArray[np.floating], gains: NDArray[np.floating]) -> Float:
    """One over the rank of the first best candidate, (n,)."""
    best = np.asarray(gains) == np.max(gains, axis=1, keepdims=True)
    ranked = np.take_along_axis(best, order(scores), axis=1)
    return np.asarray(1.0 / (1.0 + ranked.argmax(axis=1)))
