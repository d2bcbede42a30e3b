"""k-means and group means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts.learners.clusters import group_means, kmeans, squared_distances


def test_two_pairs_by_hand() -> None:
    """0, 2 and 10, 12 on a line: centres 1 and 11, inertia 4."""
    points = np.array([[0.0], [2.0], [10.0], [12.0]])
    found = kmeans(points, 2, rng=np.random.default_rng(0))
    assert sorted(found.centres.ravel().tolist()) == [1.0, 11.0]
    assert found.inertia == pytest.approx(4.0)
    assert found.label[0] == found.label[1] != found.label[2] == found.label[3]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_labels_are_nearest_and_centres_are_means(seed: int, c: int) -> None:
    """The two conditions of a local optimum hold, and no group is empty."""
    points = np.random.default_rng(seed).standard_normal((30, 3))
    found = kmeans(points, c, rng=np.random.default_rng(seed))
    assert set(found.label.tolist()) == set(range(c))
    nearest = squared_distances(points, found.centres).min(axis=1)
    own = ((points - found.centres[found.label]) ** 2).sum(axis=1)
    assert own == pytest.approx(nearest)
    for group in range(c):
        assert found.centres[group] == pytest.approx(points[found.label == group].mean(axis=0))


def test_as_tight_as_the_reference_library() -> None:
    """On planted groups the inertia is that of scikit-learn, to 2 %."""
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(3)
    points = np.vstack(
        [rng.standard_normal((40, 5)) + 6 * rng.standard_normal(5) for _ in range(6)]
    )
    mine = kmeans(points, 6, rng=np.random.default_rng(0), restarts=5)
    theirs = cluster.KMeans(6, n_init=5, random_state=0).fit(points)
    assert mine.inertia <= 1.02 * theirs.inertia_


def test_copies_give_fewer_groups() -> None:
    """Three different points cannot make five groups."""
    points = np.repeat(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), 4, axis=0)
    found = kmeans(points, 5, rng=np.random.default_rng(0))
    assert len(found.centres) == 3
    assert found.inertia == pytest.approx(0.0)


def test_more_groups_than_points_are_cut() -> None:
    """Each point is its own group at most."""
    found = kmeans(np.array([[0.0], [1.0]]), 9, rng=np.random.default_rng(0))
    assert len(found.centres) == 2


def test_same_seed_same_groups() -> None:
    """All chance comes from the generator handed in."""
    points = np.random.default_rng(0).standard_normal((50, 4))
    one = kmeans(points, 7, rng=np.random.default_rng(5))
    two = kmeans(points, 7, rng=np.random.default_rng(5))
    assert (one.label == two.label).all()


def test_no_groups_are_refused() -> None:
    """The number of groups is a count."""
    with pytest.raises(InputError, match=r"c must be a whole number >= 1; got 0"):
        kmeans(np.zeros((3, 1)), 0, rng=np.random.default_rng(0))


def test_group_means_by_hand() -> None:
    """Blanks are left out; a group that never saw a column takes the mean of all."""
    values = np.array([[1.0, np.nan], [0.0, np.nan], [0.5, 0.8]])
    label = np.array([0, 0, 1])
    assert group_means(values, label, 2) == pytest.approx(np.array([[0.5, 0.8], [0.5, 0.8]]))


def test_group_means_shrink_by_hand() -> None:
    """One row at 1, all rows at 0.25 on average, weight 2: (1 + 2 * 0.25) / 3 = 0.5."""
    values = np.array([[1.0], [0.0], [0.0], [0.0]])
    found = group_means(values, np.array([0, 1, 1, 1]), 2, shrink=2.0)
    assert found[:, 0] == pytest.approx([0.5, 0.1])
