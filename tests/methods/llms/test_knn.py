"""The nearest-neighbour router."""

from __future__ import annotations

import numpy as np
import pytest

import turnout
from turnout.core import Budget, InputError, Outcomes
from turnout.llms.knn import Knn
from turnout.testing import Case

CASE = Case(Knn(k=15, shrink=2.0, d=32))


def _by_hand() -> Outcomes:
    """Prompts at 0, 10 and 90 degrees."""
    angles = np.radians([0.0, 10.0, 90.0])
    return Outcomes(
        inputs=np.column_stack([np.cos(angles), np.sin(angles)]),
        names=("small", "large"),
        quality=np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]]),
        cost=np.array([[1.0, 9.0]] * 3),
    )


def _fit(recipe: Knn, table: Outcomes):
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


def test_two_neighbours_by_hand() -> None:
    """At 3 degrees the nearest two are those at 0 and 10: small 1/2, large 1, at 1 and 9."""
    query = np.array([[np.cos(np.radians(3)), np.sin(np.radians(3))]])
    quality, cost = _fit(Knn(k=2), _by_hand()).predict(query)
    assert quality == pytest.approx(np.array([[0.5, 1.0]]))
    assert cost == pytest.approx(np.array([[1.0, 9.0]]))


def test_the_price_decides_by_hand() -> None:
    """Large gains 0.5 for 8 more: worth it below a price of 1/16 only."""
    table = _by_hand()
    router = turnout.fit(Knn(k=2), table)
    query = np.array([[np.cos(np.radians(3)), np.sin(np.radians(3))]])
    rng = np.random.default_rng(0)
    chosen = [
        int(router.route(query, table.pool(), budget=Budget(price=price), rng=rng).index[0, 0])
        for price in (0.07, 0.06)
    ]
    assert chosen == [0, 1]


def test_all_neighbours_are_the_means() -> None:
    """With k = n every prompt gets the mean quality of each model."""
    table = _by_hand()
    quality, _ = _fit(Knn(k=3), table).predict(np.array([[0.3, -0.8], [1.0, 1.0]]))
    assert quality == pytest.approx(np.tile(table.mean_quality(), (2, 1)))


def test_one_neighbour_remembers_the_table() -> None:
    """With k = 1 a prompt of the table gets what it earned."""
    table = _by_hand()
    quality, _ = _fit(Knn(k=1), table).predict(table.inputs)
    assert quality == pytest.approx(table.quality)


def test_a_log_of_single_choices_has_neighbours_of_its_own() -> None:
    """Each model is told by the rows that saw it, however few."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((300, 2))
    truth = np.column_stack([inputs[:, 0] > 0, inputs[:, 0] <= 0]).astype(float)
    seen = rng.integers(0, 2, 300)
    quality = np.where(np.arange(2) == seen[:, None], truth, np.nan)
    cost = np.where(np.isnan(quality), np.nan, 1.0)
    table = Outcomes(inputs=inputs, names=("right", "left"), quality=quality, cost=cost)
    found, _ = _fit(Knn(k=9), table).predict(np.array([[1.0, 0.2], [-1.0, 0.2]]))
    assert found == pytest.approx(np.eye(2))


def test_unknown_words_get_the_means() -> None:
    """A prompt that says nothing known is as near to one row as to any other."""
    texts = ["add the numbers", "add the digits", "sing the song", "sing the tune"]
    quality = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    table = Outcomes(inputs=texts, names=("a", "b"), quality=quality, cost=np.ones((4, 2)))
    found, _ = _fit(Knn(k=1), table).predict(["xyzzy"])
    assert found == pytest.approx(np.array([[0.5, 0.25]]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 0}, "knn.k must be a whole number >= 1; got 0"),
        ({"shrink": -1.0}, "knn.shrink must be a finite number >= 0"),
        ({"encoder": "bert"}, "encoder must be one of svd, minilm"),
        ({"d": 0}, "knn.d must be"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Knn(**fields)
