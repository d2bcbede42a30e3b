"""What an answer will cost, from the length of the input."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.parts.costs import CostModel, fit_costs, lengths


def _table(cost: list[list[float]], inputs: object = None) -> Outcomes:
    n, m = np.shape(cost)
    texts = ["x" * (10 * (row + 1)) for row in range(n)] if inputs is None else inputs
    return Outcomes(
        inputs=texts,  # type: ignore[arg-type]
        names=tuple("abc"[:m]),
        quality=np.full((n, m), 0.5),
        cost=np.array(cost),
    )


def test_a_line_by_hand() -> None:
    """Lengths 10, 20, 30 at 3, 5, 7: base 1 and 0.2 a character, never below 3."""
    model = fit_costs(_table([[3.0], [5.0], [7.0]]))
    assert model.predict(["x" * 50, ""]) == pytest.approx(np.array([[11.0], [3.0]]))


def test_costs_that_fall_with_length_are_told_by_their_mean() -> None:
    """A price per character below zero is no price."""
    assert fit_costs(_table([[7.0], [5.0], [3.0]])).predict(["x"])[0, 0] == pytest.approx(5.0)


def test_unseen_cells_are_left_out_and_unseen_columns_cost_nothing() -> None:
    """NaN is no cost; a destination never billed is expected to be free."""
    model = fit_costs(_table([[3.0, np.nan], [np.nan, np.nan], [7.0, np.nan]]))
    assert model.predict(["x" * 20])[0] == pytest.approx(np.array([5.0, 0.0]))


def test_arrays_have_no_length() -> None:
    """For vectors the mean is all there is."""
    inputs = np.arange(6.0).reshape(3, 2)
    assert not lengths(inputs).any()
    assert fit_costs(_table([[3.0], [5.0], [7.0]], inputs)).predict(inputs)[:, 0] == pytest.approx(
        5.0
    )


def test_one_text_is_the_batch_of_one() -> None:
    """The quick path gives exactly what the batch gives."""
    model = fit_costs(_table([[3.0, 1.0], [5.1, 1.0], [7.3, 4.0]]))
    for size in (0, 1, 17, 4000):
        assert model.predict_one(size) == model.predict(["x" * size])[0].tolist()


def test_a_negative_slope_is_refused() -> None:
    """Longer is never cheaper."""
    with pytest.raises(InputError, match="slope"):
        CostModel(np.zeros(1), -np.ones(1), np.zeros(1))
