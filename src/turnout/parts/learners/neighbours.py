"""Nearest neighbours by exact search: what happened to the items most like this one.

Neighbours are chosen by dot product, which is cosine for rows of unit length. Keys at one and
the same similarity as the k-th are neighbours too: the answer then depends neither on the order
of the keys nor on the last bit of a dot product.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Bool, Float, Int

__all__ = ["Memory"]

#: Similarities closer than this are one similarity: dot products of unit vectors in single
#: precision differ by less between a batch of one and a batch of many.
_TIE = 2e-6

#: Cells of the similarity matrix held at once (32 MB).
_CELLS = 8_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Memory:
    """Keys kept with what happened to each.

    A column counts only the keys where it was seen, so every column has its own k neighbours:
    in a log with one seen cell a row, the rows that say nothing of a column take no place.

    Parameters
    ----------
    keys : array of float32 (n, d)
    values : array (n, m)
        NaN = never seen; every column is seen at least once.
    k : int
        Neighbours, >= 1; all seen keys where there are fewer.
    shrink : float
        Weight of the column's mean over all keys, in neighbours; >= 0.
    """

    keys: NDArray[np.float32]
    values: Float
    k: int
    shrink: float = 0.0
    _groups: list[_Group] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check.integer("memory.k", self.k, low=1)
        _check.number("memory.shrink", self.shrink, low=0.0)
        _check.expect_shape("memory.values", self.values, (len(self.keys), None))
        object.__setattr__(self, "_groups", _groups(self.values))

    def means(self, queries: NDArray[np.float32]) -> Float:
        """Mean of each column over the k keys nearest to each query, (b, m).

        Parameters
        ----------
        queries : array of float32 (b, d)
        """
        b = len(queries)
        result = np.empty((b, self.values.shape[1]))
        step = max(1, _CELLS // max(1, len(self.keys)))
        for start in range(0, b, step):
            rows = slice(start, min(start + step, b))
            similarity = queries[rows] @ self.keys.T
            for group in self._groups:
                near = similarity if group.rows is None else similarity[:, group.rows]
                result[rows, group.columns] = self._nearest(near, group.values)
        return result

    def _nearest(self, similarity: NDArray[np.float32], values: Float) -> Float:
        """Means (b, c) of `values` (n, c), none of them NaN, over the k most similar rows."""
        n, mean = len(values), values.mean(axis=0)
        if self.k >= n:
            return np.broadcast_to(mean, (len(similarity), len(mean)))
        kth = np.partition(similarity, n - self.k, axis=1)[:, n - self.k, None]
        near = (similarity >= kth - _TIE).astype(np.float64)
        total = near @ values + self.shrink * mean
        return np.asarray(total / (near.sum(axis=1, keepdims=True) + self.shrink))


@dataclass(frozen=True, eq=False)
class _Group:
    """Columns seen in the same rows: they share one search. `rows` is None where that is all."""

    rows: Int | None
    columns: Int
    values: Float


def _groups(values: Float) -> list[_Group]:
    seen: Bool = ~np.isnan(values)
    alike: dict[bytes, list[int]] = {}
    for column in range(values.shape[1]):
        alike.setdefault(seen[:, column].tobytes(), []).append(column)
    groups = []
    for columns in alike.values():
        mask = seen[:, columns[0]]
        rows = None if mask.all() else np.flatnonzero(mask)
        kept = values[:, columns] if rows is None else values[rows][:, columns]
        groups.append(_Group(rows, np.array(columns), np.ascontiguousarray(kept)))
    return groups
