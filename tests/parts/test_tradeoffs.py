"""Rewards of several objectives, what stands beaten, and what a budget takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from turnout.core import Budget, InputError
from turnout.parts.tradeoffs import SCALARS, best_point, filled, signed, unbeaten

QUALITY, COST = np.array([0.5, 0.8, 0.8, 0.9]), np.array([1.0, 3.0, 2.0, 5.0])


@dataclass(frozen=True)
class Thing:
    """Built of some destinations."""

    columns: tuple[int, ...]


def test_scalar_rewards_by_hand() -> None:
    """Rewards (0.5, 1) at even preferences: 0.75, sqrt(0.5), and 1 - 0.25."""
    rewards, w = np.array([[0.5, 1.0]]), np.array([0.5, 0.5])
    found = {name: float(scalar(rewards, w)[0]) for name, scalar in SCALARS.items()}
    assert found == {"sum": 0.75, "log": pytest.approx(np.sqrt(0.5)), "tchebycheff": 0.75}


@pytest.mark.parametrize(
    ("budget", "row"),
    [
        (Budget(), 3),
        (Budget(price=0.1), 2),
        (Budget(price=1.0), 0),
        (Budget(mean_cost=4.0), 2),
        (Budget(mean_quality=0.6), 2),
        (Budget(mean_quality=0.85), 3),
    ],
)
def test_what_a_budget_takes(budget: Budget, row: int) -> None:
    """The best within a cost, the cheapest above a quality, the best net; ties to the cheaper."""
    assert best_point(QUALITY, COST, budget) == row


def test_a_budget_that_cannot_be_met_is_refused() -> None:
    """By name and with what could be had."""
    with pytest.raises(InputError, match=r"budget.mean_cost must be at least 1,"):
        best_point(QUALITY, COST, Budget(mean_cost=0.9))
    with pytest.raises(InputError, match=r"budget.mean_quality must be at most 0.9"):
        best_point(QUALITY, COST, Budget(mean_quality=0.95))


def test_the_unbeaten_by_hand() -> None:
    """The dearer of two alike is beaten; of two that do the same with the same the first stays."""
    figures = np.array([[0.5, 1, 0, 1], [0.8, 3, 0, 2], [0.8, 2, 0, 2], [0.8, 2, 0, 2]])
    things = [Thing((0,)), Thing((0, 1)), Thing((1, 2)), Thing((1, 2))]
    assert unbeaten(things, figures, ("quality", "cost")).tolist() == [0, 2]
    assert unbeaten(things, figures, ("quality", "size")).tolist() == [0, 1, 2]
    assert signed(figures[0]).tolist() == [0.5, -1, 0, -1]


def test_blanks_count_as_their_mean() -> None:
    """A column never seen counts as nothing."""
    table = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    assert filled(table).tolist() == [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]
