"""The random mixture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turnout
from turnout.core import Budget, InputError, Outcomes, Pool
from turnout.llms.random import FittedRandom, Random
from turnout.testing import Case

CASE = Case(Random())

#: Middle lies below the line from small to large; poor is dearer than small and no better.
FITTED = FittedRandom(
    ("small", "poor", "middle", "large"),
    np.array([0.5, 0.4, 0.6, 1.0]),
    np.array([1.0, 2.0, 4.0, 9.0]),
)
POOL = Pool(names=FITTED.names)


def _load(budget: Budget, n: int = 80, pool: Pool = POOL, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return FITTED.route(["x"] * n, pool, budget=budget, rng=rng).load().tolist()


def test_a_budget_by_hand() -> None:
    """Three a prompt is a quarter of the way from 1 to 9: 20 of 80 go to the large one."""
    assert _load(Budget(mean_cost=3.0)) == [60, 0, 0, 20]


def test_a_floor_by_hand() -> None:
    """0.6 is a fifth of the way from 0.5 to 1: 16 of 80."""
    assert _load(Budget(mean_quality=0.6)) == [64, 0, 0, 16]


def test_a_price_by_hand() -> None:
    """Large gains 0.5 for 8 more: all to it below 1/16, none above."""
    assert _load(Budget(price=0.06)) == [0, 0, 0, 80]
    assert _load(Budget(price=0.07)) == [80, 0, 0, 0]


def test_without_large_the_hull_runs_through_middle() -> None:
    """Down destinations are no part of the hull: from 1 to 4, half way is 2.5."""
    assert _load(Budget(mean_cost=2.5), pool=POOL.with_down(["large"])) == [40, 0, 40, 0]


def test_no_budget_is_even() -> None:
    """A quarter each of 4,000, to within four standard deviations."""
    assert _load(Budget(), n=4000) == pytest.approx([1000] * 4, abs=110)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 50), st.floats(1.0, 12.0), st.integers(0, 99))
def test_a_budget_is_spent_and_never_passed(n: int, budget: float, seed: int) -> None:
    """Spending is within one step of one prompt below the budget, or of the dearest on the hull."""
    spent = np.dot(_load(Budget(mean_cost=budget), n=n, seed=seed), FITTED.cost)
    assert spent <= min(budget, 9.0) * n + 1e-6
    assert spent > min(budget, 9.0) * n - 8.0 - 1e-6


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 50), st.floats(0.0, 1.0))
def test_a_floor_is_reached(n: int, floor: float) -> None:
    """Mean quality is never below the floor."""
    assert np.dot(_load(Budget(mean_quality=floor), n=n), FITTED.quality) >= floor * n - 1e-6


@pytest.mark.parametrize("budget", [Budget(mean_cost=0.9), Budget(mean_quality=1.0)])
def test_what_cannot_be_met_is_refused(budget: Budget) -> None:
    """Below the cheapest, or above the best that is up."""
    pool = POOL.with_down(["large"])
    with pytest.raises(InputError, match=r"budget\.mean"):
        _load(budget, pool=pool)


def test_which_prompts_is_chance() -> None:
    """Another seed sends other prompts; the same seed the same."""
    routes = [
        FITTED.route(["x"] * 40, POOL, budget=Budget(mean_cost=5.0), rng=np.random.default_rng(s))
        for s in (0, 0, 1)
    ]
    assert (routes[0].index == routes[1].index).all()
    assert (routes[0].index != routes[2].index).any()


def test_it_learns_means_only() -> None:
    """Fitted on a table: its column means, unseen cells left out."""
    table = Outcomes(
        inputs=["a", "b"],
        names=("small", "large"),
        quality=np.array([[0.0, 1.0], [1.0, np.nan]]),
        cost=np.array([[1.0, 4.0], [3.0, np.nan]]),
    )
    quality, cost = turnout.fit(Random(), table).predict(["x", "y"])  # type: ignore[attr-defined]
    assert quality.tolist() == [[0.5, 1.0]] * 2
    assert cost.tolist() == [[2.0, 4.0]] * 2
