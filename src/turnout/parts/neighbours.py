"""Nearest neighbours by exact search: what happened to the items most like this one.

Neighbours are chosen by dot product, which is cosine for rows of unit length. Keys at one and
the same similarity as the k-th are neighbours too: the answer then depends neither on the order
of the keys nor on the last bit of a dot product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnout.core._check import Float

__all__ = ["neighbour_means"]

#: Similarities closer than this are one similarity: dot products of unit vectors in single
#: precision differ by less between a batch of one and a batch of many.
_TIE = 2e-6

#: Cells of the similarity matrix held at once (32 MB).
_CELLS = 8_000_000


def neighbour_means(
    queries: NDArray[np.float32],
    keys: NDArray[np.float32],
    values: Float,
    k: int,
    *,
    shrink: float = 0.0,
) -> Float:
    """Mean of each column of `values` over the k keys nearest to each query.

    A column counts only the keys where it was seen, so every column has its own k neighbours:
    in a log with one seen cell a row, the rows that say nothing of a column take no place.

    Parameters
    ----------
    queries : array (b, d)
    keys : array (n, d)
    values : array (n, m)
        NaN = never seen; every column is seen at least once.
    k : int
        Neighbours, >= 1; all seen keys where there are fewer.
    shrink : float
        Weight of the column's mean over all keys, in neighbours; >= 0.

    Returns
    -------
    array (b, m)
    """
    b, m = len(queries), values.shape[1]
    result = np.empty((b, m))
    step = max(1, _CELLS // max(1, len(keys)))
    groups = _columns_by_mask(values)
    for start in range(0, b, step):
        rows = slice(start, min(start + step, b))
        similarity = queries[rows] @ keys.T
        for seen, columns in groups:
            near = similarity if seen.all() else similarity[:, seen]
            result[rows, columns] = _means(near, values[np.ix_(seen, columns)], k, shrink)
    return result


def _means(similarity: NDArray[np.float32], values: Float, k: int, shrink: float) -> Float:
    """Means (b, c) of `values` (n, c), none of them NaN, over the k most similar rows."""
    n = len(values)
    if k >= n:
        return np.broadcast_to(values.mean(axis=0), (len(similarity), values.shape[1]))
    kth = np.partition(similarity, n - k, axis=1)[:, n - k, None]
    near = (similarity >= kth - _TIE).astype(np.float64)
    total = near @ values + shrink * values.mean(axis=0)
    return np.asarray(total / (near.sum(axis=1, keepdims=True) + shrink))


def _columns_by_mask(values: Float) -> list[tuple[NDArray[np.bool_], NDArray[np.intp]]]:
    """Columns that were seen in the same rows: they share one search."""
    seen = ~np.isnan(values)
    masks, group = np.unique(seen, axis=1, return_inverse=True)
    group = group.ravel()
    return [(masks[:, g], np.flatnonzero(group == g)) for g in range(masks.shape[1])]
