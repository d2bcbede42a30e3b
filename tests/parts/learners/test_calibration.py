"""Platt scaling, one destination at a time."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.learners.calibration import Calibration, contrast_loss, fit_calibration, log_loss
from turnout.parts.learners.logistic import sigmoid


def _drawn(slope: float, shift: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(n, 1))
    return scores, (rng.random((n, 1)) < sigmoid(slope * scores + shift)).astype(float)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (2.5, -0.7), (0.3, 1.2)])
def test_a_planted_line_is_found(slope: float, shift: float) -> None:
    """Answers drawn from a line of log-odds give that line back."""
    found = fit_calibration(*_drawn(slope, shift))
    assert found.slope[0] == pytest.approx(slope, abs=0.08)
    assert found.shift[0] == pytest.approx(shift, abs=0.08)


def test_calibrated_bins_hold_what_they_say() -> None:
    """Scores three times too sure are brought to within 2 points in every tenth."""
    scores, quality = _drawn(1.0, 0.2)
    p = fit_calibration(3 * scores, quality).apply(3 * scores)
    for rows in np.array_split(np.argsort(p[:, 0]), 10):
        assert p[rows].mean() == pytest.approx(quality[rows].mean(), abs=0.03)


def test_scores_against_the_truth_become_the_mean() -> None:
    """Order is never turned around: the slope is zero and the quality the mean."""
    scores, quality = _drawn(1.0, 0.0, n=500)
    found = fit_calibration(-scores, quality)
    assert found.slope[0] == 0.0
    assert found.apply(scores)[:, 0] == pytest.approx(np.full(500, quality.mean()), abs=0.01)


def test_order_is_kept() -> None:
    """A better score never has a lower quality."""
    scores, quality = _drawn(1.0, 0.0, n=300)
    p = fit_calibration(scores, quality).apply(scores)
    assert (np.diff(p[np.argsort(scores[:, 0]), 0]) >= 0).all()


def test_scores_all_alike_and_answers_all_alike_are_finite() -> None:
    """No spread in scores or answers leaves a finite line."""
    flat = fit_calibration(np.ones((5, 1)), np.array([[1.0], [0], [1], [1], [0]]))
    assert flat.slope[0] == 0.0
    sure = fit_calibration(np.arange(5.0)[:, None], np.ones((5, 1)))
    assert np.isfinite(sure.slope).all()
    assert 0.8 < sure.apply(np.array([[2.0]]))[0, 0] < 1.0


def test_cells_never_seen_are_left_out() -> None:
    """NaN cells change nothing; a destination with none seen is at one half."""
    scores, quality = _drawn(1.0, 0.0, n=400)
    blank = np.hstack((np.vstack((quality, [[np.nan]])), np.full((401, 1), np.nan)))
    found = fit_calibration(np.vstack((np.repeat(scores, 2, 1), [[99.0, 99.0]])), blank)
    assert found.slope[0] == pytest.approx(fit_calibration(scores, quality).slope[0])
    assert found.apply(np.zeros((1, 2)))[0, 1] == pytest.approx(0.5)


def test_log_loss_by_hand() -> None:
    """Log-odds 0 cost log 2 a cell, whatever the truth; NaN costs nothing."""
    quality = np.array([[1.0, 0.0, np.nan]])
    assert log_loss(np.zeros((1, 3)), quality) == pytest.approx(np.log(2))


def test_contrast_loss_by_hand() -> None:
    """Errors 0.2 and 0.4 differ from their mean by 0.1: the square is 0.01; one cell tells none."""
    quality = np.array([[0.0, 0.0], [1.0, np.nan]])
    predicted = np.array([[0.2, 0.4], [0.3, 0.9]])
    assert contrast_loss(predicted, quality) == pytest.approx(0.01)
    assert np.isnan(contrast_loss(predicted[1:], quality[1:]))


def test_contrast_loss_does_not_see_what_moves_no_decision() -> None:
    """Adding the same to all destinations of a row changes nothing."""
    rng = np.random.default_rng(0)
    predicted, quality = rng.random((9, 3)), rng.random((9, 3))
    moved = predicted + rng.random((9, 1))
    assert contrast_loss(moved, quality) == pytest.approx(contrast_loss(predicted, quality))


def test_a_falling_line_is_refused() -> None:
    """A slope below zero would turn the order around."""
    with pytest.raises(InputError, match="slope"):
        Calibration(np.array([-1.0]), np.array([0.0]))
