from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.bench import measures
from turnout.core import Frontier

FIGURES = st.floats(0, 1, allow_nan=False).map(lambda value: round(value, 3))


def test_ece_is_the_hand_worked_value() -> None:
    """Two bins: |0.1 - 0| on half of the cells, |0.9 - 0.5| on the other half."""
    predicted = np.array([[0.1, 0.9], [0.1, 0.9]])
    true = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert measures.ece(predicted, true, bins=2) == pytest.approx(0.25)


def test_ece_leaves_unseen_cells_out() -> None:
    """A NaN cell counts neither for nor against; with none seen there is no error to tell."""
    predicted = np.array([[0.2, 0.9]])
    assert measures.ece(predicted, np.array([[0.0, np.nan]])) == pytest.approx(0.2)
    assert math.isnan(measures.ece(predicted, np.full((1, 2), np.nan)))


def test_recovery_apgr_and_cpt_are_the_hand_worked_values() -> None:
    """Gains 1, 0, 1, -1 over a gap of 1/4 recover 1, 1, 2, 1 of it."""
    weak, strong = np.array([0.0, 1, 0, 1]), np.array([1.0, 1, 1, 0])
    found = measures.recovery(np.array([4.0, 3, 2, 1]), weak, strong)
    assert found is not None
    share, recovered = found
    assert share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert recovered.tolist() == [0, 1, 1, 2, 1]
    assert measures.apgr(share, recovered) == pytest.approx(1.125)
    assert measures.cpt(share, recovered, 0.5) == pytest.approx(0.125)
    assert measures.cpt(share, recovered, 0.8) == pytest.approx(0.2)
    assert math.isnan(measures.cpt(share, recovered, 3.0))


def test_equal_scores_recover_what_random_does() -> None:
    """A score that tells nothing gives the straight line: APGR 1/2, CPT(x) = x."""
    weak, strong = np.array([0.0, 1, 0, 1]), np.array([1.0, 1, 1, 0])
    found = measures.recovery(np.zeros(4), weak, strong)
    assert found is not None
    assert measures.apgr(*found) == pytest.approx(0.5)
    assert measures.cpt(*found, 0.8) == pytest.approx(0.8)


def test_recovery_is_undefined_without_a_gap() -> None:
    """Where the stronger destination is not stronger there is nothing to recover."""
    same = np.array([1.0, 0.0])
    assert measures.recovery(np.zeros(2), same, same) is None
    assert measures.recovery_of_points(np.zeros(1), np.zeros(1), 0.5, 0.5) is None


def test_recovery_through_points_has_both_ends() -> None:
    """One point at half the calls and the whole gap: triangle 1/4, then a flat half."""
    found = measures.recovery_of_points(np.array([0.5]), np.array([0.9]), 0.5, 0.9)
    assert found is not None
    assert measures.apgr(*found) == pytest.approx(0.75)


def test_gap_closed() -> None:
    """Half way is one half; no way at all is undefined."""
    assert measures.gap_closed(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert math.isnan(measures.gap_closed(0.7, 0.6, 0.6))


def test_hull_area_is_the_hand_worked_value() -> None:
    """Trapezoids of mean height 0.6 and 0.75 over equal widths."""
    assert measures.hull_area([0, 1, 2], [0.5, 0.7, 0.8], 0, 2) == pytest.approx(0.675)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=12), FIGURES, FIGURES)
def test_hull_area_is_the_frontier_aiq(
    points: list[tuple[float, float]], one: float, other: float
) -> None:
    """The quick area used for resampling is the frontier's own."""
    low, high = min(one, other), max(one, other)
    if high - low < 1e-3:
        high = low + 0.5
    cost, quality = [p[0] for p in points], [p[1] for p in points]
    expected = Frontier(np.array(cost), np.array(quality)).aiq((low, high))
    assert measures.hull_area(cost, quality, low, high) == pytest.approx(expected, abs=1e-9)


def test_resamples_are_paired_and_centred() -> None:
    """The same policy twice gives the same samples; their mean is near the value on all rows."""
    rng = np.random.default_rng(0)
    quality = (rng.random((400, 2)) < [0.4, 0.8]).astype(float)
    cost = np.tile([0.0, 1.0], (400, 1))
    policy = (cost, quality)
    samples = measures.resampled_aiq(
        [policy, policy], cost, resamples=200, rng=np.random.default_rng(1)
    )
    assert samples.shape == (200, 2)
    assert np.array_equal(samples[:, 0], samples[:, 1])
    whole = quality.mean(axis=0).mean()
    assert samples[:, 0].mean() == pytest.approx(whole, abs=0.01)
    # the spread of a mean of two proportions, 400 rows: about sqrt((.24 + .16) / 4 / 400)
    assert samples[:, 0].std() == pytest.approx(0.0158, rel=0.25)
