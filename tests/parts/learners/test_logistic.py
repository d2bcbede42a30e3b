"""Logistic regression over sparse features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.sparse import random as sparse_random

from turnout.core import InputError
from turnout.parts.learners.logistic import fit_logistic, sigmoid


def _objective(theta: np.ndarray, x: np.ndarray, y: np.ndarray, l2: float) -> float:
    z = x @ theta[:-1] + theta[-1]
    return float((np.logaddexp(0, z) - y * z).sum() + l2 / 2 * (theta[:-1] ** 2).sum())


def _problem(seed: int, n: int = 60, d: int = 12, m: int = 2) -> tuple[csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = sparse_random(n, d, density=0.4, format="csr", rng=rng, dtype=np.float64)
    y = rng.random((n, m))
    y[rng.random((n, m)) < 0.2] = np.nan
    y[0] = 0.5
    return x, y


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0.01, 1.0, 30.0]))
def test_it_finds_the_minimum(seed: int, l2: float) -> None:
    """A general minimiser finds nothing lower."""
    x, y = _problem(seed)
    weights, intercept = fit_logistic(x, y, l2, tolerance=1e-5)
    for j in range(2):
        seen = ~np.isnan(y[:, j])
        rows, target = x.toarray()[seen], y[seen, j]
        mine = _objective(np.append(weights[:, j], intercept[j]), rows, target, l2)
        best = minimize(_objective, np.zeros(13), args=(rows, target, l2), method="BFGS").fun
        assert mine <= best + 1e-4


def test_by_hand() -> None:
    """One feature that is never on: the weight is zero, the intercept the log-odds of the mean."""
    weights, intercept = fit_logistic(
        csr_matrix((4, 1)), np.array([[1.0], [1.0], [1.0], [0.0]]), 1.0, tolerance=1e-6
    )
    assert weights[0, 0] == 0.0
    assert intercept[0] == pytest.approx(np.log(3.0), abs=1e-5)


def test_cells_never_seen_count_for_nothing() -> None:
    """A row of NaN gives what leaving the row out gives."""
    x, y = _problem(4, m=1)
    seen = ~np.isnan(y[:, 0])
    masked = fit_logistic(x, y, 1.0, tolerance=1e-6)
    dropped = fit_logistic(x[seen], y[seen], 1.0, tolerance=1e-6)
    assert masked[0] == pytest.approx(dropped[0], abs=1e-4)
    assert masked[1] == pytest.approx(dropped[1], abs=1e-4)


def test_each_model_is_its_own() -> None:
    """Fitting two destinations together is fitting each alone."""
    x, y = _problem(5)
    both = fit_logistic(x, y, 0.5)
    alone = fit_logistic(x, y[:, 1:], 0.5)
    assert np.array_equal(both[0][:, 1:], alone[0])


def test_a_warm_start_ends_at_the_same_place() -> None:
    """The solution does not depend on where it began."""
    x, y = _problem(6)
    cold = fit_logistic(x, y, 1.0, tolerance=1e-6)
    warm = fit_logistic(x, y, 1.0, start=fit_logistic(x, y, 8.0), tolerance=1e-6)
    assert warm[0] == pytest.approx(cold[0], abs=1e-4)


def test_perfectly_parted_rows_stay_finite() -> None:
    """The penalty bounds the weights even where a feature tells all."""
    x = csr_matrix(np.array([[1.0], [0.0]] * 20))
    weights, intercept = fit_logistic(x, np.array([[1.0], [0.0]] * 20), 1e-3)
    assert np.isfinite(weights).all()
    assert np.isfinite(intercept).all()
    assert weights[0, 0] > 5


def test_inputs_are_left_alone() -> None:
    """Neither the features nor the start are changed."""
    x, y = _problem(7)
    start = (np.zeros((12, 2)), np.zeros(2))
    before = x.toarray(), y.copy()
    fit_logistic(x, y, 1.0, start=start)
    assert np.array_equal(x.toarray(), before[0])
    assert np.array_equal(y, before[1], equal_nan=True)
    assert not start[0].any()


def test_sigmoid_does_not_overflow() -> None:
    """At the ends it is 0 and 1, in the middle 1/2."""
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("l2", [0.0, -1.0, np.nan, np.inf])
def test_bad_penalties_are_refused(l2: float) -> None:
    """The penalty must be positive and finite."""
    x, y = _problem(8)
    with pytest.raises(InputError, match="l2"):
        fit_logistic(x, y, l2)


def test_bad_quality_is_refused() -> None:
    """Quality lies in [0, 1]."""
    with pytest.raises(InputError, match="quality"):
        fit_logistic(csr_matrix((1, 1)), np.array([[2.0]]), 1.0)
