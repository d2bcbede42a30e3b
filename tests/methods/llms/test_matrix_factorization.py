"""The matrix-factorization router."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms import matrix_factorization as module
from turnout.llms.matrix_factorization import FittedMatrixFactorization, MatrixFactorization
from turnout.parts.costs import CostModel
from turnout.parts.learners.descent import Schedule
from turnout.parts.texts.encoder import Ready
from turnout.testing import Case

CASE = Case(MatrixFactorization(rank=8, d=32, epochs=25, rate=0.01))


def _vectors(n: int, d: int, m: int, seed: int = 0) -> Outcomes:
    """Right or wrong by the sign of a random direction a model."""
    rng = np.random.default_rng(seed)
    prompts = rng.standard_normal((n, d))
    right = (prompts @ rng.standard_normal((d, m)) > 0).astype(float)
    names = [f"model {j}" for j in range(m)]
    return Outcomes(inputs=prompts, names=names, quality=right, cost=np.ones((n, m)))


def _fit(recipe: MatrixFactorization, table: Outcomes) -> FittedMatrixFactorization:
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(0))


def test_prediction_by_hand() -> None:
    """The unit vector (0.6, 0.8) times the weights plus intercepts: logits 0 and log 3."""
    none = np.zeros(2)
    fitted = FittedMatrixFactorization(
        names=("a", "b"),
        encoder=Ready(2),
        weight=np.array([[1.0, 0.0], [0.0, np.log(3)]]),
        intercept=np.array([-0.6, 0.2 * np.log(3)]),
        costs=CostModel(np.array([1.0, 2.0]), none, none),
    )
    quality, cost = fitted.predict(np.array([[3.0, 4.0]]))
    assert quality == pytest.approx(np.array([[0.5, 0.75]]), abs=1e-6)
    assert cost.tolist() == [[1.0, 2.0]]


def test_gradients_are_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """What training follows is the slope of the loss it reports, in all four parameters."""
    table = _vectors(6, 3, 4)
    quality = np.where(np.arange(24).reshape(6, 4) % 5 == 0, np.nan, table.quality)
    taken = {}

    def watch(parameters, gradients, loss, n, schedule, *, rng) -> int:
        taken.update(parameters=parameters, gradients=gradients, loss=loss)
        return 0

    monkeypatch.setattr(module, "descend", watch)
    schedule = Schedule(rate=0.1, decay=0.0, batch=6, epochs=1)
    module._train(table.inputs, quality, 2, schedule, rng=np.random.default_rng(1))
    rows = np.arange(6)
    slopes, touched = taken["gradients"](rows)
    assert touched is None
    for parameter, slope in zip(taken["parameters"], slopes, strict=True):
        assert slope.shape == parameter.shape
        for cell in np.ndindex(parameter.shape):
            before = parameter[cell]
            parameter[cell] = before + 1e-5
            high = taken["loss"](rows)
            parameter[cell] = before - 1e-5
            low = taken["loss"](rows)
            parameter[cell] = before
            assert (high - low) / 2e-5 == pytest.approx(slope[cell], abs=1e-8)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_logits_have_the_rank_asked_for(rank: int) -> None:
    """However many prompts and models, the score is a product through r numbers."""
    fitted = _fit(MatrixFactorization(rank=rank, epochs=10), _vectors(200, 6, 5))
    whole = np.vstack([fitted.weight, fitted.intercept])
    assert np.linalg.matrix_rank(whole, tol=1e-8) == rank


def test_learns_a_planted_direction() -> None:
    """On prompts never seen it picks the model that is right four times in five at least."""
    table = _vectors(900, 4, 2)
    fitted = _fit(MatrixFactorization(rank=4), table.take(range(600)))
    test = table.take(range(600, 900))
    quality, _ = fitted.predict(test.inputs)
    assert ((quality > 0.5) == (test.quality > 0.5)).mean() > 0.8


def test_models_share_what_they_have_in_common() -> None:
    """With rank 2 a model seen on 12 prompts borrows from two alike that saw all of them."""
    rng = np.random.default_rng(0)
    prompts = rng.standard_normal((600, 12))
    right = (prompts[:, [0]] > 0).astype(float)
    quality = np.repeat(right, 3, axis=1)
    quality[12:, 2] = np.nan
    table = Outcomes(
        inputs=prompts, names=("a", "b", "new"), quality=quality, cost=np.ones((600, 3))
    )
    found, _ = _fit(MatrixFactorization(rank=2), table).predict(prompts[300:])
    assert ((found[:, 2] > 0.5) == (right[300:, 0] > 0.5)).mean() > 0.85


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "matrix_factorization.rank must be a whole number >= 1; got 0"),
        ({"encoder": "x"}, "encoder must be one of svd, minilm"),
        ({"rate": 0.0}, "rate must be a finite number"),
        ({"epochs": 0}, "epochs must be a whole number >= 1"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        MatrixFactorization(**fields)
