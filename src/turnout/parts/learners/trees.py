"""A forest of randomised trees that predicts the quality of every destination at once.

Extremely randomised trees (Geurts, Ernst and Wehenkel, "Extremely randomized trees", 2006,
doi:10.1007/s10994-006-6226-1, section 2): at each node a share of the columns is drawn, one
threshold is drawn for each, and the best of them splits the rows until a leaf would hold fewer
than `leaf` of them. What differs, because the forest serves a choice between destinations:

* the structure is grown on what destinations differ in, `q_j - mean_k q_k` over the cells seen in
  a row (`q_j` less its column's mean where a row has but one), because an error that all of them
  share moves no decision; of more than eight columns their eight principal directions are taken;
* a leaf then holds the mean quality of each destination over its rows, cells never seen left out,
  with `PRIOR` rows of the overall mean added, so that an empty cell is the mean:
      value_j = (sum q_j + PRIOR * mean_j) / (count_j + PRIOR)
* with more rows than `ROWS` the structure is grown on a sample of them; all fill the leaves.

Leaves hold some tens of rows unless said: one answer is a coin toss, and only the mean of many
says how good a model is on such inputs.

Values are rounded to steps of 2^-30, so that sums over trees are exact in whatever order, and a
row goes left where `x <= threshold` in single precision: compiled code gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import InputError, _check
from turnout.core._check import Float

__all__ = ["PRIOR", "ROWS", "Forest", "contrasts", "fit_forest"]

#: Rows of the overall mean that each leaf starts with.
PRIOR = 5.0
#: Most rows that the structure is grown on.
ROWS = 20_000
_DIRECTIONS = 8
_STEP = 2.0**-30
_CHUNK = 4096

_F = NDArray[np.float32]
_I = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees over d columns, with the quality of m destinations in their leaves.

    Parameters
    ----------
    roots : array of int32 (trees,)
        Where each tree starts: a node, or `~leaf` of a tree that is but a leaf.
    column : array of int32 (nodes,)
    threshold : array of float32 (nodes,)
        Left where `x[column] <= threshold`.
    children : array of int32 (nodes, 2)
        Left, right: a node after this one, or `~leaf`.
    value : array of float32 (leaves, m)
    d : int
        Columns of the inputs.

    Raises
    ------
    InputError
        A tree points out of its arrays or back, or there is no tree.
    """

    roots: _I
    column: _I
    threshold: _F
    children: _I
    value: _F
    d: int
    _sum: Float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        nodes, leaves = len(self.column), len(self.value)
        d = _check.integer("forest.d", self.d, low=1)
        kinds = {"roots": "i4", "column": "i4", "threshold": "f4", "children": "i4", "value": "f4"}
        shapes = {"threshold": (nodes,), "children": (nodes, 2), "value": (leaves, None)}
        for name, kind in kinds.items():
            array = getattr(self, name)
            if array.dtype != kind:
                raise InputError(f"forest.{name}", f"be of {kind}", array.dtype.name, "Fit again.")
            _check.expect_shape(f"forest.{name}", array, shapes.get(name, (None,)))
            object.__setattr__(self, name, _check.frozen(np.ascontiguousarray(array)))
        if len(self.roots) == 0:
            raise InputError("forest.roots", "hold at least one tree", 0, "Fit again.")
        after = np.arange(nodes)[:, None]
        wrong = (self.children >= nodes) | (self.children < -leaves)
        back = (self.children >= 0) & (self.children <= after)
        roots = (self.roots >= nodes) | (self.roots < -leaves)
        if wrong.any() or back.any() or roots.any():
            rule = "point to later nodes and to leaves there are"
            raise InputError("forest.children", rule, "another place", "Fit again.")
        if ((self.column < 0) | (self.column >= d)).any():
            raise InputError("forest.column", f"be below {d}", int(self.column.max()), "Fit again.")
        object.__setattr__(self, "_sum", self.value.astype(np.float64))

    @property
    def m(self) -> int:
        """Number of destinations."""
        return int(self.value.shape[1])

    def nodes(self) -> _I:
        """Children, column and the threshold's bits of each node, (nodes, 4), for compiled code."""
        bits = self.threshold.view(np.int32)
        return np.ascontiguousarray(np.column_stack((self.children, self.column, bits)))

    def contributions(self, x: list[float]) -> Float:
        """What each column adds to `predict_one`, (d, m), for telling a person why.

        On the way down a tree each step changes the mean of the leaves below; the change counts
        for the column that was asked. They and the mean of all leaves add up to the prediction
        (after Saabas, "Interpreting random forests", 2014, with leaves weighed alike).
        """
        nodes = len(self.column)
        mean, count = np.zeros((nodes, self.m)), np.zeros(nodes)
        for node in range(nodes - 1, -1, -1):
            for child in self.children[node].tolist():
                below = child >= 0
                many = count[child] if below else 1.0
                count[node] += many
                mean[node] += many * (mean[child] if below else self._sum[~child])
            mean[node] /= count[node]
        row, result = np.array(x, dtype=np.float32), np.zeros((self.d, self.m))
        for start in self.roots.tolist():
            node = start
            while node >= 0:
                column = self.column[node]
                step = int(self.children[node, int(row[column] > self.threshold[node])])
                after = mean[step] if step >= 0 else self._sum[~step]
                result[column] += after - mean[node]
                node = step
        return result / len(self.roots)

    def leaves(self, x: _F) -> _I:
        """The leaf of each tree that each row of x (n, d) falls into, (n, trees)."""
        at = np.broadcast_to(self.roots, (len(x), len(self.roots))).copy()
        going = np.flatnonzero(at.ravel() >= 0)
        flat, row = at.reshape(-1), going // len(self.roots)
        while len(going):
            node = flat[going]
            right = x[row, self.column[node]] > self.threshold[node]
            step = self.children[node, right.view(np.int8)]
            flat[going] = step
            inner = step >= 0
            going, row = going[inner], row[inner]
        return ~at

    def predict(self, x: _F) -> Float:
        """Mean over trees of the values of the leaves, (n, m).

        Parameters
        ----------
        x : array of float32 (n, d)
        """
        result = np.empty((len(x), self.m))
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            leaf = self.leaves(x[part])
            total = np.zeros((len(leaf), self.m))
            for tree in range(leaf.shape[1]):
                total += self._sum[leaf[:, tree]]
            result[part] = total / len(self.roots)
        return result

    def predict_one(self, x: list[float]) -> list[float]:
        """The same for one row of d numbers."""
        row = np.array(x, dtype=np.float32)
        at = self.roots
        inner = at >= 0
        while inner.any():
            node = np.where(inner, at, 0)
            right = row.take(self.column.take(node)) > self.threshold.take(node)
            step = self.children.reshape(-1).take(2 * node + right)
            at = np.where(inner, step, at)
            inner = at >= 0
        total = self._sum.take(~at, axis=0).sum(axis=0)
        return [float(value) for value in total / len(self.roots)]


def fit_forest(
    x: _F,
    quality: Float,
    *,
    trees: int,
    share: float,
    leaf: int | None = None,
    rng: Generator,
) -> Forest:
    """Grow a forest.

    Parameters
    ----------
    x : array of float32 (n, d)
        Finite.
    quality : array (n, m)
        In [0, 1]; NaN = never seen. A column never seen has the mean of all cells.
    trees : int
        >= 1.
    share : float
        Of the columns, drawn at each node; in (0, 1].
    leaf : int, optional
        Least rows of a leaf; by default a row in 400, from 5 to 100.
    rng : Generator
    """
    x = np.ascontiguousarray(x, dtype=np.float32)
    n = len(x)
    grown = rng.choice(n, ROWS, replace=False) if n > ROWS else np.arange(n)
    if leaf is None:
        leaf = int(np.clip(len(grown) // 400, 5, 100))
    seed = int(rng.integers(2**31))
    structure = _grow(x[grown], contrasts(quality)[grown], trees, share, leaf, seed)
    return _filled(structure, x, quality)


def _grow(x: _F, target: Float, trees: int, share: float, leaf: int, seed: int) -> list[Any]:
    """The trees of scikit-learn's `ExtraTreesRegressor`, the same for the same seed.

    Grown one by one: on a few hundred rows half of that class's time goes into making, copying and
    checking its sixty estimators.
    """
    import sklearn
    from sklearn.tree import ExtraTreeRegressor

    draw = np.random.RandomState(seed)
    seeds = [int(draw.randint(np.iinfo(np.int32).max)) for _ in range(trees)]
    target = np.ascontiguousarray(target)
    with sklearn.config_context(skip_parameter_validation=True):
        return [
            ExtraTreeRegressor(min_samples_leaf=leaf, max_features=share, random_state=one)
            .fit(x, target, check_input=False)
            .tree_
            for one in seeds
        ]


def contrasts(quality: Float) -> Float:
    """What the structure is grown on, (n, 8) or less: differences, as the module says."""
    seen = ~np.isnan(quality)
    filled = np.where(seen, quality, 0.0)
    count = seen.sum(axis=1, keepdims=True)
    several = count >= 2
    own = filled.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    row = filled.sum(axis=1, keepdims=True) / np.maximum(count, 1)
    found = np.where(seen, filled - np.where(several, row, own), 0.0)
    # of two destinations one column says it all
    if found.shape[1] == 2 and bool(several.all()):
        return found[:, 1:]
    if found.shape[1] <= _DIRECTIONS:
        return found
    centred = found - found.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, -_DIRECTIONS:])


def _filled(grown: list[Any], x: _F, quality: Float) -> Forest:
    """The forest of some grown trees, its leaves filled from all rows."""
    seen = ~np.isnan(quality)
    m = quality.shape[1]
    cells = np.hstack((np.where(seen, quality, 0.0), seen.astype(np.float64)))
    total, count = cells[:, :m].sum(axis=0), cells[:, m:].sum(axis=0)
    overall = total.sum() / max(count.sum(), 1.0)
    mean = (total + PRIOR * overall) / (count + PRIOR)
    roots, column, threshold, children, value = [], [], [], [], []
    nodes = leaves = 0
    for tree in grown:
        inner = tree.children_left >= 0
        number = np.where(inner, nodes + np.cumsum(inner) - 1, ~(leaves + np.cumsum(~inner) - 1))
        roots.append(int(number[0]))
        column.append(tree.feature[inner])
        threshold.append(_below(tree.threshold[inner]))
        pair = np.stack((tree.children_left[inner], tree.children_right[inner]), axis=1)
        children.append(number[pair].reshape(-1, 2))
        at = ~number[tree.apply(x)] - leaves
        found = np.zeros((int((~inner).sum()), 2 * m))
        for j in range(2 * m):
            found[:, j] = np.bincount(at, cells[:, j], minlength=len(found))
        value.append((found[:, :m] + PRIOR * mean) / (found[:, m:] + PRIOR))
        nodes, leaves = nodes + int(inner.sum()), leaves + len(found)
    rounded = np.rint(np.concatenate(value) / _STEP) * _STEP
    return Forest(
        np.array(roots, dtype=np.int32),
        np.concatenate(column).astype(np.int32),
        np.concatenate(threshold),
        np.concatenate(children).astype(np.int32),
        rounded.astype(np.float32),
        x.shape[1],
    )


def _below(threshold: Float) -> _F:
    """The greatest float32 that is no greater: single numbers fall on the same side of it."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
