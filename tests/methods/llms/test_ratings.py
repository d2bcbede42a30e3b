"""The router by global strength."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turnout
from turnout.core import Budget, InputError, Outcomes
from turnout.llms.ratings import Ratings
from turnout.parts.learners.ratings import from_votes
from turnout.testing import Case

CASE = Case(Ratings())


def _table(quality: np.ndarray, cost: np.ndarray | None = None) -> Outcomes:
    n, m = quality.shape
    return Outcomes(
        inputs=[f"prompt {i}" for i in range(n)],
        names=[f"model {j}" for j in range(m)],
        quality=quality,
        cost=np.tile(np.arange(1.0, m + 1), (n, 1)) if cost is None else cost,
    )


def _fit(table: Outcomes):
    return Ratings().fit(table, table.pool(), rng=np.random.default_rng(0))


def test_two_models_by_hand() -> None:
    """Three wins to one: a gap of log 3, and the two means 1/4 and 3/4 come back exactly."""
    fitted = _fit(_table(np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])))
    assert fitted.strength[1] - fitted.strength[0] == pytest.approx(np.log(3), abs=1e-2)
    quality, cost = fitted.predict(["any", "thing"])
    assert quality == pytest.approx(np.array([[0.25, 0.75]] * 2))
    assert cost == pytest.approx(np.array([[1.0, 2.0]] * 2))


def test_who_only_met_the_hard_prompts_is_not_thought_weak() -> None:
    """Means put the strong model last because it saw hard prompts only; comparisons do not."""
    nan = np.nan
    easy = [[0.9, 0.8, nan]] * 20
    hard = [[0.2, nan, 0.5]] * 10
    table = _table(np.array(easy + hard))
    assert table.mean_quality().argmax() == 1
    fitted = _fit(table)
    assert fitted.strength.argmax() == 2
    assert fitted.quality.argmax() == 2


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_quality_follows_strength(seed: int) -> None:
    """The calibrated qualities are in the order of the strengths, and in [0, 1]."""
    rng = np.random.default_rng(seed)
    table = _table((rng.random((40, 4)) < rng.random(4)).astype(float))
    fitted = _fit(table)
    by_strength = fitted.quality[np.argsort(fitted.strength)]
    assert (np.diff(by_strength) >= -1e-12).all()
    assert fitted.quality.min() >= 0
    assert fitted.quality.max() <= 1


def test_a_budget_between_two_models_splits_the_batch() -> None:
    """Half way between the prices, half of the prompts go to the stronger."""
    table = _table(np.array([[0.0, 1.0]] * 3 + [[1.0, 0.0]]))
    router = turnout.fit(Ratings(), table)
    route = router.route(
        ["a"] * 10, table.pool(), budget=Budget(mean_cost=1.5), rng=np.random.default_rng(0)
    )
    assert route.count().tolist() == [5, 5]


def test_learns_from_votes() -> None:
    """Pairwise votes alone give the order."""
    rng = np.random.default_rng(0)
    one = rng.integers(0, 3, 300)
    two = (one + rng.integers(1, 3, 300)) % 3
    chance = 1 / (1 + np.exp(-2.0 * (one - two)))
    won = (rng.random(300) < chance).astype(float)
    table = from_votes([f"q {i}" for i in range(300)], ("a", "b", "c"), one, two, won)
    assert np.argsort(_fit(table).strength).tolist() == [0, 1, 2]


def test_equal_models_are_equal() -> None:
    """All ties: one strength, the common mean."""
    fitted = _fit(_table(np.array([[0.4, 0.4], [0.8, 0.8]])))
    assert fitted.strength == pytest.approx([0.0, 0.0])
    assert fitted.quality == pytest.approx([0.6, 0.6])


def test_one_model_has_its_mean() -> None:
    """Nobody to compare with."""
    assert _fit(_table(np.array([[0.2], [0.6]]))).quality == pytest.approx([0.4])


def test_a_log_of_single_choices_is_refused() -> None:
    """Without a row that saw two there is nothing to learn from."""
    quality = np.array([[1.0, np.nan], [np.nan, 0.0]])
    with pytest.raises(InputError, match="hold a row that saw two destinations"):
        _fit(_table(quality))


def test_a_wrong_recipe_is_refused() -> None:
    """The field is named."""
    with pytest.raises(InputError, match=r"ratings\.ridge must be"):
        Ratings(ridge=0.0)
