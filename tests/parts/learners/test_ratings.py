"""Bradley-Terry strengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts.learners.ratings import bradley_terry, from_votes, wins_of


def test_three_wins_to_one_are_a_gap_of_log_three() -> None:
    """Two players: the odds are the wins."""
    strength = bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]]), ridge=1e-9)
    assert strength == pytest.approx([np.log(3) / 2, -np.log(3) / 2])


def test_a_chain_adds_up_by_hand() -> None:
    """A beats B 2:1 and B beats C 2:1; A and C never met, yet A is log 4 above C."""
    wins = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])
    strength = bradley_terry(wins, ridge=1e-9)
    assert strength[0] - strength[2] == pytest.approx(np.log(4), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_expected_wins_equal_wins(seed: int, m: int) -> None:
    """The likelihood equations: each player is expected to win as often as it did."""
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, 9, (m, m)).astype(float)
    np.fill_diagonal(wins, 0)
    strength = bradley_terry(wins, ridge=1e-9)
    chance = 1 / (1 + np.exp(strength[None, :] - strength[:, None]))
    assert ((wins + wins.T) * chance).sum(axis=1) == pytest.approx(wins.sum(axis=1), rel=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_the_same_wins_for_both_keep_the_order(seed: int, extra: int) -> None:
    """Adding as many wins to i over j as to j over i never swaps the two."""
    rng = np.random.default_rng(seed)
    wins = rng.integers(1, 9, (4, 4)).astype(float)
    np.fill_diagonal(wins, 0)
    more = wins.copy()
    more[0, 1] += extra
    more[1, 0] += extra
    before, after = bradley_terry(wins), bradley_terry(more)
    assert np.sign(round(before[0] - before[1], 9)) == np.sign(round(after[0] - after[1], 9))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_one_more_win_never_weakens(seed: int) -> None:
    """A further win of i over j raises the gap between them."""
    rng = np.random.default_rng(seed)
    wins = rng.integers(0, 9, (4, 4)).astype(float)
    np.fill_diagonal(wins, 0)
    wins[0, 1] += 1
    more = wins.copy()
    more[0, 1] += 1
    before, after = bradley_terry(wins), bradley_terry(more)
    assert after[0] - after[1] > before[0] - before[1]


def test_recovers_planted_strengths() -> None:
    """From many games drawn from the model, the strengths come back."""
    rng = np.random.default_rng(0)
    truth = np.array([1.0, 0.3, -0.2, -1.1])
    chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    wins = np.zeros((4, 4))
    for i in range(4):
        for j in range(i):
            wins[i, j] = rng.binomial(20_000, chance[i, j])
            wins[j, i] = 20_000 - wins[i, j]
    assert bradley_terry(wins) == pytest.approx(truth, abs=0.03)


def test_who_never_lost_stays_finite() -> None:
    """The ridge bounds what perfect separation would send to infinity."""
    strength = bradley_terry(np.array([[0.0, 50.0], [0.0, 0.0]]))
    assert np.isfinite(strength).all()
    assert strength[0] > strength[1]


def test_wins_of_rows_by_hand() -> None:
    """Row 1: a over b. Row 2: a tie. Row 3: b was not seen."""
    quality = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, np.nan]])
    assert wins_of(quality).tolist() == [[0.0, 1.5], [0.5, 0.0]]


def test_votes_become_rows_that_saw_two() -> None:
    """Winner 1, loser 0, a tie one half each, the third never seen; wins read it back."""
    table = from_votes(
        ["p", "q"], ("a", "b", "c"), np.array([0, 1]), np.array([1, 2]), np.array([1.0, 0.5])
    )
    expected = [[1.0, 0.0, np.nan], [np.nan, 0.5, 0.5]]
    assert np.array_equal(table.quality, expected, equal_nan=True)
    assert np.isnan(table.cost).all()
    assert wins_of(table.quality)[0].tolist() == [0.0, 1.0, 0.0]


def test_votes_with_prices_cost_where_seen() -> None:
    """A price list fills the cells that were compared, no others."""
    price = np.array([1.0, 2.0, 3.0])
    one, two = np.array([2, 0]), np.array([0, 1])
    table = from_votes(["p", "q"], ("a", "b", "c"), one, two, np.array([1.0, 0.0]), price)
    expected = [[1.0, np.nan, 3.0], [1.0, 2.0, np.nan]]
    assert np.array_equal(table.cost, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.array([0]), np.array([0]), r"second\[0\] must differ from first; got 0"),
        (np.array([0]), np.array([5]), r"second must lie in \[0, 1\]; got 5"),
        (np.array([0.0]), np.array([1]), r"first must hold integers; got 'float64'"),
    ],
)
def test_wrong_votes_are_refused(first: np.ndarray, second: np.ndarray, message: str) -> None:
    """Each mistake is named."""
    with pytest.raises(InputError, match=message):
        from_votes(["p"], ("a", "b"), first, second, np.array([1.0]))


@pytest.mark.parametrize(
    ("wins", "message"),
    [
        (np.zeros((2, 2)), "wins must hold at least one game"),
        (np.array([[0.0, -1.0], [0.0, 0.0]]), r"wins\[0, 1\] must be a finite number >= 0"),
        (np.ones((2, 3)), r"wins must have shape \(2, 2\)"),
    ],
)
def test_wrong_wins_are_refused(wins: np.ndarray, message: str) -> None:
    """Each mistake is named."""
    with pytest.raises(InputError, match=message):
        bradley_terry(wins)
