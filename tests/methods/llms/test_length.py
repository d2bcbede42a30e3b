"""The length prior."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms.length import FittedLength, Length
from turnout.parts.costs import CostModel
from turnout.testing import Case

CASE = Case(Length())


def _fit(table: Outcomes) -> FittedLength:
    return Length().fit(table, table.pool(), rng=np.random.default_rng(0))


def _table(rule, n: int = 400) -> Outcomes:
    """Texts of lengths e to e^6 by a rule of quality in the logarithm of the length."""
    rng = np.random.default_rng(0)
    log = rng.uniform(1.0, 6.0, n)
    return Outcomes(
        inputs=["x" * round(np.exp(value)) for value in log],
        names=("small", "large"),
        quality=np.stack(((rng.random(n) < rule(log)).astype(float), np.ones(n)), axis=1),
        cost=np.tile([1.0, 9.0], (n, 1)),
    )


def test_the_curve_by_hand() -> None:
    """Eight characters: log 9 is one spread above the centre, so sigmoid(2 + 1 - 1)."""
    costs = CostModel(np.zeros(1), np.ones(1), np.zeros(1))
    fitted = FittedLength(
        ("only",),
        np.array([[2.0], [1.0]]),
        np.array([-1.0]),
        float(np.log(3)),
        float(np.log(3)),
        costs,
    )
    quality, cost = fitted.predict(["x" * 8, "xx"])
    assert quality[:, 0] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))])
    assert cost[:, 0].tolist() == [8.0, 2.0]


def test_it_learns_that_long_is_difficult() -> None:
    """Quality that falls with length is seen to fall, whatever the words."""
    fitted = _fit(_table(lambda log: 0.95 - 0.15 * (log - 1)))
    quality, _ = fitted.predict(["a" * 5, "b" * 50, "c" * 390])
    assert (np.diff(quality[:, 0]) < -0.15).all()
    assert quality[:, 1].min() > 0.97


def test_it_learns_that_the_middle_is_difficult() -> None:
    """The curve may turn once."""
    fitted = _fit(_table(lambda log: np.where(np.abs(log - 3.5) < 1, 0.2, 0.8)))
    quality, _ = fitted.predict(["a" * 3, "b" * 33, "c" * 400])
    assert quality[1, 0] < quality[0, 0] - 0.2
    assert quality[1, 0] < quality[2, 0] - 0.2


def test_far_beyond_the_table_it_stays_where_the_table_ends() -> None:
    """A million characters are told of as the longest that a curve may reach."""
    fitted = _fit(_table(lambda log: 0.9 - 0.1 * log))
    far, farther = fitted.predict(["x" * 10**6, "x" * 10**7])[0]
    assert far.tolist() == farther.tolist()


def test_equal_lengths_give_the_mean() -> None:
    """No length to tell by: the mean, and no division by nothing."""
    table = Outcomes(
        inputs=["ab", "cd", "ef", "gh"],
        names=("only",),
        quality=np.array([[1.0], [1.0], [1.0], [0.0]]),
        cost=np.ones((4, 1)),
    )
    assert _fit(table).predict(["xy"])[0][0, 0] == pytest.approx(0.75, abs=0.01)


def test_the_strength_must_be_positive() -> None:
    """Refused by name."""
    with pytest.raises(InputError, match=r"length\.l2"):
        Length(l2=0.0)
