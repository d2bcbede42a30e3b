"""Calibration: a predicted quality of 0.8 should be right eight times in ten.

Platt scaling (Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2), one
destination at a time, fitted on scores of rows the model has not learned from:

    quality = sigmoid(slope * score + shift),    slope >= 0

A slope of at least zero keeps each destination's own order. Where the scores say nothing, or the
opposite of the truth, the slope is zero and the quality is the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.core import _check
from turnout.core._check import Float
from turnout.parts.learners.logistic import sigmoid

__all__ = ["Calibration", "contrast_loss", "fit_calibration", "log_loss"]


@dataclass(frozen=True, eq=False)
class Calibration:
    """One line and one sigmoid a destination.

    Parameters
    ----------
    slope : array (m,)
        >= 0.
    shift : array (m,)
    """

    slope: Float
    shift: Float

    def __post_init__(self) -> None:
        slope = _check.floats("calibration.slope", self.slope, (None,), low=0.0)
        shift = _check.floats("calibration.shift", self.shift, (len(slope),))
        object.__setattr__(self, "slope", slope)
        object.__setattr__(self, "shift", shift)

    def apply(self, scores: Float) -> Float:
        """Quality (n, m) in [0, 1] of scores (n, m)."""
        return np.asarray(sigmoid(scores * self.slope + self.shift))


def fit_calibration(scores: Float, quality: Float) -> Calibration:
    """Lines of least log loss over the seen cells.

    Platt's prior counts keep it finite: half a right and half a wrong answer are added to those
    seen, both at the mean score.

    Parameters
    ----------
    scores : array (n, m)
        Out-of-fold, on the scale of log-odds.
    quality : array (n, m)
        In [0, 1]; NaN = never seen.
    """
    scores = _check.floats("scores", scores, (None, None))
    quality = _check.floats("quality", quality, scores.shape, low=0, high=1, nan=True)
    m = scores.shape[1]
    slope, shift = np.zeros(m), np.zeros(m)
    for j in range(m):
        seen = ~np.isnan(quality[:, j])
        slope[j], shift[j] = _line(scores[seen, j], quality[seen, j])
    return Calibration(slope, shift)


def contrast_loss(predicted: Float, quality: Float) -> float:
    """Mean squared error of quality differences between the destinations of a row.

    A route depends on nothing else: an error that all destinations of a row share moves no
    decision. Over the cells of rows in which at least two were seen; NaN where there is none.

    Parameters
    ----------
    predicted : array (n, m)
    quality : array (n, m)
        NaN = never seen.
    """
    rows = (~np.isnan(quality)).sum(axis=1) >= 2
    if not rows.any():
        return float("nan")
    error = predicted[rows] - quality[rows]
    error = error - np.nanmean(error, axis=1, keepdims=True)
    return float(np.nanmean(error**2))


def log_loss(scores: Float, quality: Float) -> float:
    """Mean log loss of scores on the scale of log-odds, over the seen cells."""
    loss = np.logaddexp(0.0, scores) - quality * scores
    return float(np.nanmean(loss))


def _line(score: Float, quality: Float) -> tuple[float, float]:
    rate = (quality.sum() + 0.5) / (len(quality) + 1.0)
    level = float(np.log(rate / (1.0 - rate)))
    spread = float(score.std()) if len(score) else 0.0
    if spread < 1e-9:
        return 0.0, level
    centre = float(score.mean())
    x = np.append((score - centre) / spread, 0.0)
    y = np.append(quality, 0.5)
    design = np.stack((x, np.ones_like(x)), axis=1)
    theta = np.array([0.0, level])
    # A trace of ridge: without it scores that part right from wrong would have no finite slope.
    ridge = np.array([1e-3, 0.0])
    for _ in range(50):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - y) + ridge * theta
        if np.abs(gradient).max() < 1e-8 * len(x):
            break
        bend = p * (1.0 - p) + 1e-9
        step = np.linalg.solve((design * bend[:, None]).T @ design + np.diag(ridge), gradient)
        theta = theta - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
    slope = float(theta[0]) / spread
    if slope <= 0.0:
        return 0.0, level
    return slope, float(theta[1]) - slope * centre
