"""The learned judge and the surface it reads: calibrated, cautious, and never fooled by noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from scipy import sparse

from turnout.core import InputError
from turnout.parts.learners.judge import _ridge, fit_judge
from turnout.parts.texts.surface import answer_surface, prompt_surface, stated_sums
from turnout.testing import planted


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_ridge_leaves_one_out_exactly(shape: tuple[int, int]) -> None:
    """In both Gram matrices: the left-out prediction is that of a fit without the row."""
    rng = default_rng(0)
    x, y = rng.standard_normal(shape), rng.standard_normal((shape[0], 2))
    weight, left_out = _ridge(sparse.csr_matrix(x), y, 0.7)
    assert weight == pytest.approx(np.linalg.solve(x.T @ x + 0.7 * np.eye(shape[1]), x.T @ y))
    for i in range(shape[0]):
        others = np.arange(shape[0]) != i
        again, _ = _ridge(sparse.csr_matrix(x[others]), y[others], 0.7)
        assert left_out[i] == pytest.approx(x[i] @ again)


def test_reading_an_answer_tells_more_than_the_input() -> None:
    """On fresh planted rows the score of a read answer ranks right above wrong."""
    train, test = (planted.hard(n, default_rng(s)).outcomes for n, s in ((240, 1), (300, 2)))
    judge = fit_judge(train.inputs, train.answers, train.quality, penalty=1.0)
    assert test.answers is not None
    for j in range(test.m):
        right = test.quality[:, j] == 1
        column = np.full(test.n, j)
        score = judge.score(test.inputs, [str(a) for a in test.answers[:, j]], column)
        prior = judge.prior(test.inputs)[:, j]
        assert ranks(score, right) > 0.9
        assert ranks(score, right) > ranks(prior, right)
        assert abs(score.mean() - right.mean()) < 0.08


def ranks(score: Any, right: Any) -> float:
    """Chance that a right answer scores above a wrong one."""
    return float((score[right][:, None] > score[~right]).mean())


def test_shocks_leave_the_mean_judgement_where_it_was() -> None:
    """Averaged over the cases, what will be judged is what the prior says, destination-wise."""
    table = planted.hard(240, default_rng(1)).outcomes
    judge = fit_judge(table.inputs, table.answers, table.quality, penalty=1.0)
    prior = judge.prior(table.inputs)
    cases = 1.0 / (1.0 + np.exp(-(prior[:, :, None] + judge.shock)))
    assert cases.mean(axis=(0, 2)) == pytest.approx(table.quality.mean(axis=0), abs=0.06)
    assert (np.diff(judge.shock, axis=1) >= 0).all()


def test_without_answers_a_score_is_the_prior() -> None:
    """Nothing was read when it learned, so nothing is read now; the shock is nought."""
    table = planted.hard(120, default_rng(3)).outcomes
    judge = fit_judge(table.inputs, None, table.quality, penalty=1.0)
    column = np.zeros(table.n, dtype=np.int64)
    score = judge.score(table.inputs, ["certainly"] * table.n, column)
    assert score == pytest.approx(1.0 / (1.0 + np.exp(-judge.prior(table.inputs)[:, 0])))
    assert judge.shock.tolist() == [[0.0]] * table.m


def test_blank_cells_are_masked() -> None:
    """A destination seen once, and answers seen nowhere else, still give finite scores."""
    table = planted.hard(60, default_rng(4)).outcomes
    quality, answers = table.quality.copy(), np.array(table.answers)
    quality[1:, 2], answers[:, 1] = np.nan, None
    judge = fit_judge(table.inputs, answers, quality, penalty=1.0)
    assert np.isfinite(judge.prior(table.inputs)).all()
    scores = judge.score(table.inputs[:4], ["?"] * 4, np.array([0, 1, 2, 3]))
    assert ((scores > 0) & (scores < 1)).all()


def test_inputs_that_are_no_texts_are_refused() -> None:
    """By name."""
    with pytest.raises(InputError, match="inputs"):
        fit_judge(np.zeros((3, 2)), None, np.ones((3, 1)), penalty=1.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16 - 3 = 13 and 9 * $2 = $18", (2, 0)),
        ("3*60=<<3*60=180>>180", (1, 0)),
        ("1,200 / 7 = 171.43", (1, 0)),  # rounded to the digits shown
        ("2 x 3 = 7", (1, 1)),
        ("12 / 0 = 5", (0, 0)),  # no sum at all
        ("x = 5, y = 7", (0, 0)),
        ("", (0, 0)),
    ],
)
def test_stated_sums(text: str, expected: tuple[int, int]) -> None:
    """How many sums are stated, and how many of them are false."""
    assert stated_sums(text) == expected


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=60), st.text(max_size=60))
def test_the_surface_of_anything_is_finite(prompt: str, answer: str) -> None:
    """Whatever a model writes: every column is a number, and the shapes are those promised."""
    assert prompt_surface([prompt]).shape == (1, 8)
    table = answer_surface([prompt], [answer])
    assert table.shape == (1, 20)
    assert np.isfinite(table).all()


def test_sums_are_never_run_as_code() -> None:
    """Powers, names and calls are no sums; a long chain of operations ends quietly."""
    assert stated_sums("9**9**9**9 = 1 and (1)(2) = 3 and " + "1+" * 25 + "1 = 26")[0] <= 1
