"""The plain predictor of quality and cost."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.learners.plain import Plain
from turnout.testing import planted


def test_it_tells_who_answers_what() -> None:
    """On fresh rows of the easy problem its best guess is right nine times in ten."""
    train, test = (planted.easy(n, np.random.default_rng(n)).outcomes for n in (150, 60))
    fitted = Plain().fit(train, train.pool(), rng=np.random.default_rng(0))
    quality, cost = fitted.predict(test.inputs)
    assert test.quality[np.arange(60), quality.argmax(axis=1)].mean() > 0.9
    assert cost.shape == quality.shape == (60, 3)
    one, _ = fitted.predict(test.inputs[:1])
    assert one[0].tolist() == quality[0].tolist()


def test_vectors_are_refused() -> None:
    """It reads words."""
    table = planted.easy(20, np.random.default_rng(0)).outcomes
    fitted = Plain().fit(table, table.pool(), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="inputs"):
        fitted.predict(np.zeros((2, 3)))


@pytest.mark.parametrize("fields", [{"l2": 0.0}, {"min_df": 0}, {"max_features": 0}])
def test_wrong_recipes_are_refused(fields: dict) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=f"plain.{next(iter(fields))}"):
        Plain(**fields)
