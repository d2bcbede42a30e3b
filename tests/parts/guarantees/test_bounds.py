"""Bounds on a mean: never wrong more often than they say, computed exactly, not sampled."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from turnout.parts.guarantees import bounds


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.5), (30, 0.1), (200, 0.03), (200, 0.9)])
def test_the_binary_tail_is_the_binomial_one(n: int, alpha: float) -> None:
    """P(Bin(n, alpha) <= total), by another library function."""
    for total in range(n + 1):
        found = bounds.p_value(total, n, alpha, binary=True)
        assert found == pytest.approx(binom.cdf(total, n, alpha), abs=1e-12)


def test_hoeffding_bentkus_by_hand() -> None:
    """The lesser of e^(-n h1) and e times the binomial tail of the whole number above."""
    n, alpha, total = 50, 0.3, 7.5
    mean = total / n
    h1 = mean * math.log(mean / alpha) + (1 - mean) * math.log((1 - mean) / (1 - alpha))
    want = min(math.exp(-n * h1), math.e * binom.cdf(8, n, alpha))
    assert bounds.p_value(total, n, alpha, binary=False) == pytest.approx(want)
    assert bounds.p_value(20.0, n, alpha, binary=False) == 1.0


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("top", [1.0, 0.7, 0.4])
@pytest.mark.parametrize(("n", "alpha"), [(5, 0.3), (60, 0.3), (60, 0.05), (300, 0.2)])
def test_a_mean_that_is_too_high_passes_with_probability_delta_at_most(
    n: int, alpha: float, top: float, binary: bool
) -> None:
    """Values are 0 or `top`, their mean alpha to a hair: the chance of passing, summed exactly.

    The binary test is for values of 0 and 1 only.
    """
    if binary:
        top = 1.0
    chance = binom.pmf(np.arange(n + 1), n, alpha / top)
    for delta in (0.01, 0.05, 0.3):
        edge = bounds.largest_total(n, alpha, delta, binary=binary)
        assert chance[top * np.arange(n + 1) <= edge].sum() <= delta * (1 + 1e-9)
        bound = [bounds.upper_bound(float(top * k), n, delta, binary=binary) for k in range(n + 1)]
        assert chance[np.array(bound) < alpha * (1 - 1e-9)].sum() <= delta * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 40, 120])
def test_the_betting_test_errs_with_probability_delta_at_most(n: int) -> None:
    """Differences of -1, 0 and 1: the chance of passing at their true mean, summed exactly."""
    up, down = np.meshgrid(np.arange(n + 1), np.arange(n + 1))
    both = up + down <= n
    counts = np.stack([down[both], (n - up - down)[both], up[both]])
    for p_up, p_down in ((0.02, 0.0), (0.1, 0.1), (0.5, 0.3)):
        chance = binom.pmf(counts[2], n, p_up) * binom.pmf(
            counts[0], n - counts[2], p_down / (1 - p_up)
        )
        assert chance.sum() == pytest.approx(1.0)
        for delta in (0.05, 0.3):
            gains = (p_up - p_down) - np.array([-1, 0, 1])
            logs = np.log1p(bounds.stakes(n, delta, width=2.0)[:, None] * gains) @ counts
            passes = bounds.log_wealth(logs) >= math.log(1 / delta)
            assert chance[passes].sum() <= delta
            if n == 120 and p_up == 0.1:
                assert chance[passes].sum() > delta / 30, "so careful a test is of no use"


def test_the_betting_bound_is_its_test_turned_round() -> None:
    """At the bound the bets have made 1 / delta, a hair below it less; it feels the spread."""
    rng = np.random.default_rng(0)
    for spread in (0.0, 0.1, 0.6):
        values = np.where(rng.random(500) < spread, rng.uniform(-1, 1, 500), 0.0)
        bound = bounds.betting_bound(values, 0.05, low=-1, high=1)

        def wealth(mean: float, values: np.ndarray = values) -> float:
            stakes = bounds.stakes(500, 0.05, width=2.0)
            return float(np.mean([np.prod(1 + s * (mean - values)) for s in stakes]))

        assert wealth(bound) == pytest.approx(20, rel=1e-6)
        assert wealth(bound - 1e-3) < 20
        hoeffding = values.mean() + 2 * math.sqrt(math.log(20) / 1000)
        assert values.mean() < bound < hoeffding


def test_a_bet_on_nothing_bounds_nothing() -> None:
    """One value is too little, and the greatest value everywhere is its own bound."""
    assert bounds.betting_bound(np.zeros(1), 0.05, low=-1, high=1) == 1
    assert bounds.betting_bound(np.ones(50), 0.05, low=-1, high=1) == 1


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 400), st.floats(0, 1), st.floats(0.01, 0.99), st.floats(0.01, 0.5), st.booleans()
)
def test_test_and_bound_are_one(
    n: int, share: float, alpha: float, delta: float, binary: bool
) -> None:
    """A sum passes the test at alpha if and only if its bound is at most alpha, but for a hair."""
    total = float(round(share * n)) if binary else share * n
    passes = total <= bounds.largest_total(n, alpha, delta, binary=binary)
    bound = bounds.upper_bound(total, n, delta, binary=binary)
    assert bound >= total / n
    if abs(bound - alpha) > 1e-6:
        assert passes == (bound < alpha)


@pytest.mark.parametrize("binary", [True, False])
def test_the_ends(binary: bool) -> None:
    """Every mean is at most 1, none is proven to be 0, and a sample of ones bounds nothing."""
    assert bounds.largest_total(4, 1.0, 0.05, binary=binary) == 4
    assert bounds.largest_total(10**6, 0.0, 0.05, binary=binary) == -1
    assert bounds.upper_bound(4.0, 4, 0.05, binary=binary) == 1.0
    assert bounds.largest_total(1, 0.5, 0.05, binary=binary) == -1
    assert bounds.upper_bound(0.0, 1, 0.05, binary=binary) == pytest.approx(0.95)


@pytest.mark.parametrize("edge", [6, 7, 100, 12_345])
def test_the_least_number_of_rows_is_found(edge: int) -> None:
    """The first number that passes; none where none does."""
    assert bounds.least_rows(lambda rows: rows >= edge, 5) == edge
    assert bounds.least_rows(lambda rows: False, 5) is None
