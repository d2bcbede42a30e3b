"""Fractional logistic regression over sparse features, one model a destination.

For destination j, over the rows where its quality y was seen, with z_i = x_i . w_j + b_j:

    minimise  sum_i  log(1 + exp(z_i)) - y_i z_i  +  l2 / 2 |w_j|^2

which is the usual logistic loss where y is 0 or 1, and the same quasi-likelihood where it is a
score in between (Papke and Wooldridge, "Econometric methods for fractional response variables",
1996, section 2). The intercept is not penalised. Newton steps, each solved by conjugate gradients
preconditioned by the Hessian's diagonal: one step along a direction is a line search over n
numbers, without touching the features again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float

__all__ = ["fit_logistic", "sigmoid"]

_F = NDArray[np.float32]


def sigmoid(z: NDArray[Any]) -> NDArray[Any]:
    """`1 / (1 + exp(-z))`, without overflow."""
    e = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1.0, e) / (1.0 + e))


def fit_logistic(
    features: Any,
    quality: Float,
    l2: float,
    *,
    start: tuple[Float, Float] | None = None,
    tolerance: float = 1e-3,
    steps: int = 30,
) -> tuple[Float, Float]:
    """Weights (d, m) and intercepts (m,) of m independent models.

    Parameters
    ----------
    features : sparse matrix (n, d)
        Any scipy sparse matrix; used as float32.
    quality : array (n, m)
        In [0, 1]; NaN = never seen, left out.
    l2 : float
        Strength of the penalty, > 0.
    start : (array (d, m), array (m,)), optional
        Where to begin, such as the solution at another `l2`.
    tolerance : float
        A model is done when its gradient's norm, in units of the square root of the number of
        its rows, is below this. > 0.
    steps : int
        Most Newton steps.

    Returns
    -------
    weights (d, m), intercepts (m,)
    """
    n, d = features.shape
    quality = _check.floats("quality", quality, (n, None), low=0, high=1, nan=True)
    l2 = _check.number("l2", l2, low=1e-12)
    m = quality.shape[1]
    rows = features.tocsr().astype(np.float32, copy=False)
    columns = rows.T.tocsr()
    squares = columns.multiply(columns).tocsr()
    weights, intercepts = np.zeros((d, m)), np.zeros(m)
    for j in range(m):
        seen = ~np.isnan(quality[:, j])
        y = np.where(seen, quality[:, j], 0.0)
        if start is None:
            rate = (y.sum() + 0.5) / (seen.sum() + 1.0)
            w, b = np.zeros(d), float(np.log(rate / (1 - rate)))
        else:
            w, b = start[0][:, j].copy(), float(start[1][j])
        problem = (rows, columns, squares, y, seen.astype(np.float64), l2)
        weights[:, j], intercepts[j] = _newton(problem, w, b, tolerance, steps)
    return weights, intercepts


def _newton(
    problem: tuple[Any, Any, Any, Float, Float, float],
    w: Float,
    b: float,
    tolerance: float,
    steps: int,
) -> tuple[Float, float]:
    rows, columns, squares, y, seen, l2 = problem
    scale = np.sqrt(max(seen.sum(), 1.0))
    z = rows @ w.astype(np.float32) + b
    for _ in range(steps):
        p = sigmoid(z)
        error = seen * (p - y)
        gradient = np.append(columns @ error.astype(np.float32) + l2 * w, error.sum())
        size = np.linalg.norm(gradient) / scale
        if size < tolerance:
            break
        curvature = seen * p * (1.0 - p)
        move, moved = _conjugate_gradients(
            rows, columns, squares, curvature, l2, gradient, min(0.25, float(np.sqrt(size)))
        )
        t = _line_search(z, moved, y, seen, w, move, l2, float(gradient @ move))
        if t == 0.0:
            break
        w, b, z = w + t * move[:-1], b + t * move[-1], z + t * moved
    return w, float(b)


def _conjugate_gradients(
    rows: Any, columns: Any, squares: Any, curvature: Float, l2: float, gradient: Float, rtol: float
) -> tuple[Float, Float]:
    """A direction (d + 1,) with Hessian * direction close to -gradient, and its image (n,)."""
    diagonal = np.append(
        squares @ curvature.astype(np.float32) + l2, max(float(curvature.sum()), 1e-9)
    )
    x = np.zeros_like(gradient)
    image = np.zeros(len(curvature))
    r = -gradient
    s = r / diagonal
    p = s
    rs = float(r @ s)
    target = rtol * np.sqrt(rs)
    for _ in range(100):
        xp = rows @ p[:-1].astype(np.float32) + p[-1]
        bent = curvature * xp
        hp = np.append(columns @ bent.astype(np.float32) + l2 * p[:-1], bent.sum())
        step = rs / float(p @ hp)
        x += step * p
        image += step * xp
        r = r - step * hp
        s = r / diagonal
        before, rs = rs, float(r @ s)
        if np.sqrt(rs) <= target:
            break
        p = s + (rs / before) * p
    return x, image


def _line_search(
    z: Float,
    moved: Float,
    y: Float,
    seen: Float,
    w: Float,
    move: Float,
    l2: float,
    slope: float,
) -> float:
    """Step in {1, 1/2, 1/4, ...} that lowers the loss enough (Armijo); 0 where none does."""
    ww, wm, mm = float(w @ w), float(w @ move[:-1]), float(move[:-1] @ move[:-1])

    def loss(t: float) -> float:
        at = z + t * moved
        fit = float((seen * (np.logaddexp(0.0, at) - y * at)).sum())
        return fit + l2 / 2 * (ww + 2 * t * wm + t * t * mm)

    here, t = loss(0.0), 1.0
    while t > 1e-6:
        if loss(t) <= here + 1e-4 * t * slope:
            return t
        t /= 2
    return 0.0
