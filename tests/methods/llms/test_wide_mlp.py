"""The wide bag-of-words network."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms.wide_mlp import FittedWideMlp, WideMlp
from turnout.parts.costs import CostModel
from turnout.parts.texts.encoder import Ready
from turnout.testing import Case

CASE = Case(WideMlp(width=128, batch=32, epochs=12, rate=3e-3))


def _single(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_prediction_by_hand() -> None:
    """With x = (0.6, 0.8): hidden = relu(0.6 - 0.8, 0.8 + 0.2) = (0, 1); logits (0, log 3)."""
    none = np.zeros(2)
    fitted = FittedWideMlp(
        names=("a", "b"),
        reader=Ready(2),
        embed=_single([[1.0, 0.0], [-1.0, 1.0]]),
        shift=np.array([0.0, 0.2], dtype=np.float32),
        read=_single([[9.0, 9.0], [-1.0, np.log(3)]]),
        bias=np.array([1.0, 0.0], dtype=np.float32),
        costs=CostModel(np.array([1.0, 2.0]), none, none),
    )
    quality, cost = fitted.predict(np.array([[3.0, 4.0]]))
    assert quality == pytest.approx(np.array([[0.5, 0.75]]), abs=1e-6)
    assert cost.tolist() == [[1.0, 2.0]]


def test_unknown_words_get_about_the_means() -> None:
    """A prompt of unknown words is answered by the biases, which start at the means."""
    texts = ["alpha beta", "gamma delta", "alpha gamma", "beta delta"] * 5
    quality = np.tile([[0.8, 0.3]], (20, 1))
    table = Outcomes(inputs=texts, names=("a", "b"), quality=quality, cost=np.ones((20, 2)))
    fitted = WideMlp(width=16, epochs=2).fit(table, table.pool(), rng=np.random.default_rng(0))
    assert fitted.predict(["xyzzy"])[0] == pytest.approx(np.array([[0.8, 0.3]]), abs=0.05)


def test_learns_from_words_not_from_their_order() -> None:
    """The same words in another order are the same prompt, pairs aside."""
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "black", "white", "pink", "grey", "brown"])
    texts = [" ".join(rng.permutation(words)[:4]) for _ in range(300)]
    first = np.array(["red" in text.split() for text in texts], dtype=float)
    table = Outcomes(
        inputs=texts,
        names=("red", "other"),
        quality=np.column_stack([first, 1 - first]),
        cost=np.ones((300, 2)),
    )
    recipe = WideMlp(width=64, batch=32)
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    quality, _ = fitted.predict(["blue red pink black", "blue grey pink black"])
    assert quality.argmax(axis=1).tolist() == [0, 1]


def test_a_table_without_a_common_word() -> None:
    """With an empty vocabulary it still predicts the means."""
    quality = np.array([[1.0, 0.0], [0.0, 0.0]])
    table = Outcomes(inputs=["one", "two"], names=("a", "b"), quality=quality, cost=np.ones((2, 2)))
    fitted = WideMlp(width=4, epochs=1).fit(table, table.pool(), rng=np.random.default_rng(0))
    assert fitted.predict(["three"])[0] == pytest.approx(np.array([[0.5, 0.01]]), abs=0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "wide_mlp.width must be a whole number >= 1; got 0"),
        ({"vocabulary": 0}, "wide_mlp.vocabulary must be"),
        ({"dropout": 1.0}, r"wide_mlp.dropout must be a finite number in \[0, 0.95\]"),
        ({"batch": 0}, "batch must be a whole number >= 1"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        WideMlp(**fields)
