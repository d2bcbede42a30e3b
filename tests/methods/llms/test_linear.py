"""The linear router."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms.linear import FittedLinear, Linear
from turnout.parts.costs import CostModel
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.testing import Case

CASE = Case(Linear(l2=(2.0, 0.5)))


def _fit(recipe: Linear, table: Outcomes, seed: int = 0) -> FittedLinear:
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(seed))


def _table(n: int = 120, noise: float = 0.0) -> Outcomes:
    rng = np.random.default_rng(1)
    topic = rng.integers(0, 2, n)
    texts = [f"{('add', 'recite')[t]} thing{rng.integers(9)} and more" for t in topic]
    good = np.stack((np.where(topic == 0, 0.9, 0.1), np.full(n, 0.9)), axis=1)
    return Outcomes(
        inputs=texts,
        names=("small", "large"),
        quality=(rng.random((n, 2)) < good + noise).astype(float),
        cost=np.tile([1.0, 9.0], (n, 1)),
    )


def test_one_word_by_hand() -> None:
    """Both words known, one pair known: sigmoid of (sum of idf w) / sqrt(sum of idf^2) + b."""
    features = learn_features(["red", "red blue"], min_df=1)
    common = int(np.argmin(features.idf))
    weights = np.zeros((3, 1), dtype=np.float32)
    weights[common] = 2.0
    costs = CostModel(np.array([1.0]), np.array([0.5]), np.array([0.0]))
    scorer = TextScorer(features, weights, np.array([-1.0]))
    fitted = FittedLinear(("only",), scorer, costs, 1.0)
    rare = 1 + np.log(1.5)
    z = 2.0 / np.sqrt(1 + 2 * rare**2) - 1.0
    quality, cost = fitted.predict(["Red blue"])
    assert quality[0, 0] == pytest.approx(1 / (1 + np.exp(-z)), abs=1e-6)
    assert cost[0, 0] == 5.0
    assert fitted.predict(["red"])[0][0, 0] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    assert fitted.predict(["green"])[0][0, 0] == pytest.approx(1 / (1 + np.exp(1.0)), abs=1e-9)


def test_it_learns_which_words_need_the_large_one() -> None:
    """On a word it is good at, the small one is trusted; on the other it is not."""
    quality, _ = _fit(Linear(), _table()).predict(["add two", "recite two"])
    assert quality[0, 0] > 0.75
    assert quality[1, 0] < 0.25
    assert quality[:, 1] == pytest.approx(0.9, abs=0.12)


def test_on_outcomes_dealt_at_random_it_predicts_the_mean() -> None:
    """Where words tell nothing the calibration flattens what was fitted."""
    table = _table(300)
    rng = np.random.default_rng(2)
    noise = Outcomes(
        inputs=[f"{rng.integers(40)} {rng.integers(40)} word" for _ in range(300)],
        names=table.names,
        quality=(rng.random((300, 2)) < 0.5).astype(float),
        cost=np.ones((300, 2)),
    )
    quality, _ = _fit(Linear(), noise).predict(noise.inputs)
    assert float(quality.std(axis=0).max()) < 0.15


def test_the_penalty_is_one_of_those_given() -> None:
    """Chosen from the tuple; a single one is taken as it is."""
    assert _fit(Linear(l2=(3.0,)), _table()).l2 == 3.0
    assert _fit(Linear(l2=(0.1, 100.0)), _table()).l2 == 0.1


def test_cells_never_seen_may_be_most_of_the_table() -> None:
    """A log of single choices, one cell a row, is enough."""
    table = _table(400)
    rng = np.random.default_rng(3)
    quality = np.array(table.quality)
    quality[np.arange(400), rng.integers(0, 2, 400)] = np.nan
    log = Outcomes(inputs=table.inputs, names=table.names, quality=quality, cost=table.cost)
    predicted, _ = _fit(Linear(), log).predict(["add two", "recite two"])
    assert predicted[0, 0] > 0.7 > 0.3 > predicted[1, 0]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_tables_of_a_few_rows_are_fitted(n: int) -> None:
    """With hardly a row there is hardly a router, and no failure."""
    table = _table().take(np.arange(n))
    quality, _ = _fit(Linear(), table).predict(["add two", ""])
    assert np.isfinite(quality).all()


def test_one_text_is_the_batch_of_one() -> None:
    """The quick path is the prediction."""
    fitted = _fit(Linear(l2=(1.0,)), _table())
    quality, cost = fitted.predict(["add two", "recite"])
    assert fitted.predict_one("recite") == (quality[1].tolist(), cost[1].tolist())


def test_numbers_are_refused() -> None:
    """It reads text."""
    with pytest.raises(InputError, match="strings"):
        _fit(Linear(l2=(1.0,)), _table()).predict(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"l2": ()}, "linear.l2"),
        ({"l2": 1.0}, "linear.l2"),
        ({"l2": (0.0,)}, "linear.l2"),
        ({"l2": (np.nan,)}, "linear.l2"),
        ({"folds": 1}, "linear.folds"),
        ({"min_df": 0}, "linear.min_df"),
        ({"max_features": 0}, "linear.max_features"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, field: str) -> None:
    """Each by its own name."""
    with pytest.raises(InputError) as caught:
        Linear(**settings)
    assert caught.value.field == field


def test_parts_that_do_not_fit_are_refused() -> None:
    """As many names as columns."""
    fitted = _fit(Linear(l2=(1.0,)), _table())
    with pytest.raises(InputError, match="intercept"):
        FittedLinear(("only",), fitted.scorer, fitted.costs, 1.0)
