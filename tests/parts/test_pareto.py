"""Sets of points with several objectives."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.pareto import (
    crowding,
    edit_distance,
    hypervolume,
    igd,
    non_dominated,
    pairwise_mean,
    r2,
    ranks,
    simplex,
)


def _by_inclusion(points: np.ndarray) -> float:
    """Hypervolume over the origin by inclusion and exclusion: slow and plain."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(points, size):
            total -= (-1) ** size * float(np.prod(np.min(some, axis=0)))
    return total


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_hypervolume_is_exact(d: int) -> None:
    """It agrees with inclusion and exclusion over all subsets, ties and beaten points included."""
    rng = np.random.default_rng(d)
    for _ in range(5):
        points = rng.integers(0, 6, size=(7, d)) / 5.0
        assert hypervolume(points, np.zeros(d)) == pytest.approx(_by_inclusion(points))


def test_hypervolume_by_hand() -> None:
    """Two steps of a staircase: 0.5 x 1 + 0.5 x 0.5, from a reference below zero more."""
    points = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert hypervolume(points, np.zeros(2)) == pytest.approx(0.75)
    assert hypervolume(points, np.array([-1.0, 0.0])) == pytest.approx(1.75)
    cube = np.array([[1.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
    assert hypervolume(cube, np.zeros(3)) == pytest.approx(0.5 + 0.25 * 0.5)


def test_below_the_reference_is_nothing() -> None:
    """Points that fail the reference in one objective add nothing; no point has volume 0."""
    assert hypervolume(np.array([[5.0, 0.0], [0.0, 5.0]]), np.zeros(2)) == 0.0
    assert hypervolume(np.empty((0, 2)), np.zeros(2)) == 0.0


@pytest.mark.parametrize("d", [2, 3])
def test_who_is_beaten(d: int) -> None:
    """By definition, for many points with ties; equal points stand or fall together."""
    points = np.random.default_rng(0).integers(0, 5, size=(60, d)).astype(float)
    kept = non_dominated(points)
    for a, keep in zip(points, kept, strict=True):
        beaten = ((points >= a).all(axis=1) & (points > a).any(axis=1)).any()
        assert keep == (not beaten)


def test_adding_a_point_never_hurts() -> None:
    """Hypervolume does not fall and R2 and IGD do not rise when a point is added."""
    rng = np.random.default_rng(1)
    points, front = rng.random((20, 2)), rng.random((9, 2))
    v = simplex(2, 10)
    for k in range(1, 20):
        assert hypervolume(points[: k + 1], np.zeros(2)) >= hypervolume(points[:k], np.zeros(2))
        assert r2(points[: k + 1], v) <= r2(points[:k], v)
        assert igd(points[: k + 1], front) <= igd(points[:k], front)


def test_r2_by_hand() -> None:
    """One point (0.5, 1): worst weighted distances 0.5, 0.25, 0 and both divisors."""
    points = np.array([[0.5, 1.0]])
    v = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    assert r2(points, v) == pytest.approx(0.25)
    assert r2(points, v, frobenius=True) == pytest.approx(0.75 / np.sqrt(2.5))
    assert r2(np.ones((1, 2)), v) == 0.0


def test_a_simplex_grid() -> None:
    """(bins + d - 1 over d - 1) different rows that sum to one."""
    grid = simplex(3, 4)
    assert grid.shape == (15, 3)
    assert np.allclose(grid.sum(axis=1), 1.0)
    assert len(np.unique(grid, axis=0)) == 15
    assert simplex(1, 5).tolist() == [[1.0]]


def test_ranks_and_room_by_hand() -> None:
    """A front of three, one behind it; the middle of the front has gaps 1 + 1, the ends no end."""
    points = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0], [0.2, 0.2]])
    assert ranks(points).tolist() == [0, 0, 0, 1]
    assert crowding(points[:3]).tolist() == [np.inf, 2.0, np.inf]


def test_edits_by_hand() -> None:
    """From kitten to sitting takes three; equal ones none; nothing to three letters three."""
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("abc", "abc") == 0
    assert edit_distance((), (1, 2, 3)) == 3
    assert pairwise_mean(["ab", "ab", "cd"]) == pytest.approx(4 / 3)
    assert pairwise_mean(["ab"]) == 0.0


def test_bad_points_are_refused() -> None:
    """NaN, no objective, another dimension, and an empty set where a mean is asked."""
    with pytest.raises(InputError, match="points"):
        hypervolume(np.array([[np.nan, 1.0]]), np.zeros(2))
    with pytest.raises(InputError, match="points must have an objective"):
        non_dominated(np.empty((3, 0)))
    with pytest.raises(InputError, match="reference"):
        hypervolume(np.ones((1, 2)), np.zeros(3))
    with pytest.raises(InputError, match="points must hold a point"):
        r2(np.empty((0, 2)), simplex(2, 2))
