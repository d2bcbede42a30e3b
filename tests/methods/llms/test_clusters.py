"""The cluster router."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms.clusters import Clusters
from turnout.testing import Case

#: Fine groups: the noise of a few coarse ones falls on the few topics of the test all at once.
CASE = Case(Clusters(c=24, shrink=10.0, d=16))


def _by_hand() -> Outcomes:
    """Two prompts near one axis, two near the other."""
    return Outcomes(
        inputs=np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]]),
        names=("a", "b"),
        quality=np.array([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [0.0, np.nan]]),
        cost=np.array([[1.0, 2.0]] * 4),
    )


def _fit(recipe: Clusters, table: Outcomes):
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


def test_two_groups_by_hand() -> None:
    """Along the first axis a has (1 + 1/2) / 2; along the second b has 1, its blank left out."""
    fitted = _fit(Clusters(c=2, shrink=0.0), _by_hand())
    quality, cost = fitted.predict(np.array([[5.0, 0.0], [0.0, 0.2]]))
    assert quality == pytest.approx(np.array([[0.75, 0.0], [0.0, 1.0]]))
    assert cost == pytest.approx(np.array([[1.0, 2.0]] * 2))


def test_shrinking_by_hand() -> None:
    """Model a in the first group: (1.5 + 2 * 0.375) / (2 + 2), its overall mean being 0.375."""
    fitted = _fit(Clusters(c=2, shrink=2.0), _by_hand())
    assert fitted.predict(np.array([[5.0, 0.0]]))[0][0, 0] == pytest.approx(0.5625)


def test_one_group_is_the_means() -> None:
    """With c = 1 nothing is read: every prompt gets the mean quality of each model."""
    table = _by_hand()
    quality, _ = _fit(Clusters(c=1), table).predict(np.array([[5.0, 0.0], [0.0, 1.0]]))
    assert quality == pytest.approx(np.tile(table.mean_quality(), (2, 1)))


def test_all_groups_averaged_read_nothing() -> None:
    """With as many nearest groups as groups, every prompt gets the same."""
    table = _by_hand()
    quality, _ = _fit(Clusters(c=2, nearest=2), table).predict(np.array([[5.0, 0.0], [0.0, 1.0]]))
    assert quality[0] == pytest.approx(quality[1])


def test_more_groups_than_prompts() -> None:
    """Groups are as many as there are different prompts, and nearest is cut with them."""
    fitted = _fit(Clusters(c=64, nearest=10), _by_hand())
    assert (len(fitted.centres), fitted.nearest) == (4, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"c": 0}, "clusters.c must be a whole number >= 1; got 0"),
        ({"nearest": 65}, r"clusters.nearest must be a whole number in \[1, 64\]; got 65"),
        ({"shrink": float("nan")}, "clusters.shrink must be a finite number >= 0"),
        ({"encoder": ""}, "encoder must be one of svd, minilm"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Clusters(**fields)
