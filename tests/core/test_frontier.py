"""Frontier: hand-worked values and properties of its measures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import Frontier, InputError

# Worked by hand. B = (2, 0.4) lies under the segment from A to C, D = (4, 0.7) is dominated by C.
#   A (1, 0.3)   B (2, 0.4)   C (3, 0.8)   D (4, 0.7)
FOUR = Frontier(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.3, 0.4, 0.8, 0.7]), np.arange(4.0))


def points(low=1, high=12):
    grid = st.integers(0, 16).map(lambda value: value / 16)
    return st.lists(st.tuples(grid, grid), min_size=low, max_size=high).map(
        lambda rows: Frontier(
            np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        )
    )


@pytest.mark.parametrize(
    ("cost", "quality", "knob", "field"),
    [
        ([], [], None, "frontier.cost"),
        ([1.0], [1.0, 2.0], None, "frontier.quality"),
        ([-1.0], [1.0], None, "frontier.cost[0]"),
        ([np.nan], [1.0], None, "frontier.cost[0]"),
        ([1.0], [np.inf], None, "frontier.quality[0]"),
        ([1.0], [1.0], [1.0, 2.0], "frontier.knob"),
        ([1.0], [1.0], [np.nan], "frontier.knob[0]"),
    ],
)
def test_refuses_by_name(cost, quality, knob, field):
    """No point, lengths that differ and values that are not finite are refused."""
    with pytest.raises(InputError) as caught:
        Frontier(cost, quality, knob)
    assert caught.value.field == field


def test_hull_by_hand():
    """The hull keeps A and C, with their knobs."""
    hull = FOUR.hull()
    assert hull.cost.tolist() == [1.0, 3.0]
    assert hull.quality.tolist() == [0.3, 0.8]
    assert hull.knob.tolist() == [0.0, 2.0]


def test_quality_at_by_hand():
    """Nothing left of A, half way to C in the middle, flat right of C."""
    np.testing.assert_allclose(FOUR.quality_at([0.5, 1.0, 2.0, 3.0, 9.0]), [0, 0.3, 0.55, 0.8, 0.8])


def test_aiq_by_hand():
    """Over [0, 4]: (0 on [0, 1]) + (1.1 on [1, 3]) + (0.8 on [3, 4]) = 1.9, by 4."""
    assert FOUR.aiq((0.0, 4.0)) == pytest.approx(1.9 / 4)
    assert FOUR.aiq((1.0, 3.0)) == pytest.approx(0.55)
    assert FOUR.aiq((2.0, 2.0)) == pytest.approx(0.55)
    assert FOUR.aiq((0.0, 0.5)) == 0.0


def test_cost_to_match_by_hand():
    """0.55 lies half way from A to C; below A its cost; above C never."""
    assert FOUR.cost_to_match(0.55) == pytest.approx(2.0)
    assert FOUR.cost_to_match(0.1) == 1.0
    assert math.isnan(FOUR.cost_to_match(0.81))


def test_hypervolume_by_hand():
    """Up to (5, 0): 4 * 0.3 + 3 * 0.1 + 2 * 0.4 = 2.3; D adds nothing."""
    assert FOUR.hypervolume((5.0, 0.0)) == pytest.approx(2.3)
    assert FOUR.hypervolume((1.0, 0.0)) == 0.0
    assert FOUR.hypervolume((5.0, 0.9)) == 0.0


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (3.0, 2.0), (0.0, math.nan)])
def test_aiq_refuses_a_range_backwards(low, high):
    """A range must lie at or above zero and must not fall."""
    with pytest.raises(InputError, match="cost_range"):
        FOUR.aiq((low, high))


@settings(deadline=None, max_examples=80)
@given(points())
def test_hull_is_the_upper_envelope(frontier):
    """The hull rises in both, its slopes fall, it covers every point and uses only points."""
    hull = frontier.hull()
    assert (np.diff(hull.cost) > 0).all()
    assert (np.diff(hull.quality) > 0).all()
    slopes = np.diff(hull.quality) / np.diff(hull.cost)
    assert (np.diff(slopes) < 0).all()
    assert (frontier.quality_at(frontier.cost) >= frontier.quality - 1e-12).all()
    given_points = set(zip(frontier.cost.tolist(), frontier.quality.tolist(), strict=True))
    assert set(zip(hull.cost.tolist(), hull.quality.tolist(), strict=True)) <= given_points


@settings(deadline=None, max_examples=50)
@given(points(), points(high=3))
def test_more_points_never_measure_worse(frontier, more):
    """A point added can only raise AIQ and hypervolume and lower the cost to match."""
    both = Frontier(
        np.concatenate((frontier.cost, more.cost)), np.concatenate((frontier.quality, more.quality))
    )
    assert both.aiq((0.0, 1.0)) >= frontier.aiq((0.0, 1.0)) - 1e-12
    assert both.hypervolume((1.0, 0.0)) >= frontier.hypervolume((1.0, 0.0)) - 1e-12
    target = float(frontier.quality.mean())
    assert both.cost_to_match(target) <= frontier.cost_to_match(target) + 1e-12


@settings(deadline=None, max_examples=50)
@given(points(), st.integers(0, 2**32 - 1))
def test_order_of_the_points_does_not_matter(frontier, seed):
    """All measures are functions of the set of points."""
    order = np.random.default_rng(seed).permutation(len(frontier))
    other = Frontier(frontier.cost[order], frontier.quality[order])
    assert other.hull().cost.tolist() == frontier.hull().cost.tolist()
    assert other.aiq((0.0, 1.0)) == pytest.approx(frontier.aiq((0.0, 1.0)))
    assert other.hypervolume((1.0, 0.0)) == pytest.approx(frontier.hypervolume((1.0, 0.0)))


@settings(deadline=None, max_examples=50)
@given(points(), st.integers(0, 16))
def test_cost_to_match_inverts_quality_at(frontier, level):
    """The hull reaches the quality at the cost it names, and not before."""
    target = level / 16
    cost = frontier.cost_to_match(target)
    if math.isnan(cost):
        assert frontier.quality.max() < target
    else:
        assert float(frontier.quality_at(cost)) >= target - 1e-12
        if cost > frontier.cost.min():
            assert float(frontier.quality_at(cost - 1e-6)) < target + 1e-12


@settings(deadline=None, max_examples=50)
@given(points())
def test_aiq_is_the_integral(frontier):
    """AIQ agrees with a fine midpoint rule over the hull."""
    grid = (np.arange(20000) + 0.5) / 20000
    assert frontier.aiq((0.0, 1.0)) == pytest.approx(
        float(frontier.quality_at(grid).mean()), abs=1e-4
    )
