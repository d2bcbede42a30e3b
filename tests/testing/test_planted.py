"""Planted problems: what is planted is there, and shuffling takes it away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import Card, InputError, Outcomes, Pool
from turnout.parts.costs import CostModel, fit_costs
from turnout.testing import Case, check, planted, real_data


def hard(n: int = 600, seed: int = 0) -> planted.Planted:
    return planted.hard(n, np.random.default_rng(seed))


@given(n=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_same_rng_plants_the_same_problem(n: int, seed: int) -> None:
    """A problem is a function of its size and its rng."""
    for draw in (planted.hard, planted.easy):
        one, two = (draw(n, np.random.default_rng(seed)) for _ in range(2))
        assert one.outcomes.fingerprint() == two.outcomes.fingerprint()
        assert one.outcomes.n == n


def test_the_hard_problem_has_something_to_gain() -> None:
    """No destination comes near the oracle, and the dearest is not the best of each topic."""
    problem = hard()
    oracle = problem.expected.max(axis=1).mean()
    assert oracle - problem.expected.mean(axis=0).max() > 0.15
    best = problem.expected.argmax(axis=1)
    assert problem.outcomes.names.index("large") not in best
    cost = problem.outcomes.mean_cost()
    assert list(np.argsort(cost)) == [0, 1, 2, 3]


def test_answers_are_drawn_from_the_rule() -> None:
    """The observed quality is right or wrong, with the expected quality as its mean."""
    problem = hard(4000)
    quality = problem.outcomes.quality
    assert set(np.unique(quality)) == {0.0, 1.0}
    assert np.abs(quality.mean(axis=0) - problem.expected.mean(axis=0)).max() < 0.03


def test_the_easy_problem_has_no_noise() -> None:
    """Every answer is exactly as good as the rule says."""
    problem = planted.easy(50, np.random.default_rng(0))
    np.testing.assert_array_equal(problem.outcomes.quality, problem.expected)


def test_right_answers_agree_and_wrong_ones_do_not() -> None:
    """A method that compares answers has something to find in them."""
    table = hard(50).outcomes
    assert table.answers is not None
    for row in range(table.n):
        numbers = ["".join(filter(str.isdigit, text)) for text in table.answers[row]]
        right = {numbers[j] for j in range(table.m) if table.quality[row, j] == 1}
        wrong = [numbers[j] for j in range(table.m) if table.quality[row, j] == 0]
        assert len(right) <= 1
        assert not right & set(wrong)


def test_shuffling_keeps_the_margins_and_cuts_the_tie() -> None:
    """Means stay; the topic no longer tells who is right."""
    problem = hard(2000)
    dealt = planted.shuffled(problem.outcomes, np.random.default_rng(1))
    assert dealt.inputs == problem.outcomes.inputs
    np.testing.assert_allclose(dealt.mean_quality(), problem.outcomes.mean_quality())
    np.testing.assert_allclose(dealt.mean_cost(), problem.outcomes.mean_cost())

    def contrast(table: Outcomes) -> float:
        first = problem.topic < 2
        return float(table.quality[first, 1].mean() - table.quality[~first, 1].mean())

    assert contrast(problem.outcomes) > 0.5
    assert abs(contrast(dealt)) < 0.1


def test_blanking_hides_whole_cells() -> None:
    """A cell never seen has no quality, no cost, no latency and no answer."""
    table = planted.blanked(hard(300).outcomes, 0.1, np.random.default_rng(2))
    blank = ~table.seen
    assert 0.05 < blank.mean() < 0.15
    assert table.latency is not None
    assert table.answers is not None
    assert np.isnan(table.cost[blank]).all()
    assert np.isnan(table.latency[blank]).all()
    assert all(answer is None for answer in table.answers[blank])


@pytest.mark.parametrize(
    "make",
    [
        lambda: planted.hard(0, np.random.default_rng(0)),  # no row
        lambda: planted.hard(5, 0),  # type: ignore[arg-type]  # a seed, not a generator
        lambda: planted.blanked(hard(5).outcomes, 1.5, np.random.default_rng(0)),  # no share
    ],
)
def test_bad_values_are_refused(make: Any) -> None:
    """A value out of range is refused by name."""
    with pytest.raises(InputError):
        make()


# --- a method that reads arrays ----------------------------------------------------------------

CARD = Card(
    name="tests.planes",
    system="Planes",
    title="A router of arrays, for the tests of the contract",
    authors="Nobody",
    year=2026,
    id="none",
    routes="vectors to planted destinations",
    kind="score",
    recipe="Planes",
    signal=("outcomes",),
    covers=(),
    differs=(),
    properties=("learns", "price_monotone", "per_item", "reads_inputs"),
)


@dataclass(frozen=True, eq=False)
class FittedPlanes:
    """Least squares on the features and their products with the last one."""

    names: tuple[str, ...]
    slopes: np.ndarray
    costs: CostModel

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        x = features(inputs, len(self.slopes) // 2)
        return np.clip(x @ self.slopes, 0, 1), self.costs.predict(inputs)


def features(inputs: Any, d: int | None = None) -> np.ndarray:
    """Topics (the first four columns), alone and times difficulty (the fifth)."""
    array = np.asarray(inputs, dtype=float)
    if array.ndim != 2 or array.shape[1] != 8 or not np.isfinite(array).all():
        raise InputError("inputs", "be finite, of shape (n, 8)", array.shape, "Reshape it.")
    return np.hstack([array[:, :4], array[:, :4] * array[:, 4:5]])


@dataclass(frozen=True)
class Planes:
    """Recipe of `FittedPlanes`."""

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> FittedPlanes:
        x = features(outcomes.inputs)
        slopes = np.zeros((x.shape[1], outcomes.m))
        for j in range(outcomes.m):
            seen = outcomes.seen[:, j]
            a = x[seen]
            gram = a.T @ a + 0.1 * np.eye(x.shape[1])
            slopes[:, j] = np.linalg.solve(gram, a.T @ outcomes.quality[seen, j])
        return FittedPlanes(outcomes.names, slopes, fit_costs(outcomes))


def test_a_method_of_arrays_can_be_held_to_the_contract() -> None:
    """With `inputs="array"` the same checks run on the same problems as vectors."""
    report = check(Case(Planes(), inputs="array"), card=CARD)
    assert {result.status for result in report.results} == {"passed"}


# --- real tables -------------------------------------------------------------------------------


def test_real_data_skips_where_it_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without the variable or the file a test is skipped with the reason; with both it runs."""
    monkeypatch.delenv("TURNOUT_DATA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="TURNOUT_DATA is not set"):
        real_data("table.csv")
    monkeypatch.setenv("TURNOUT_DATA", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"no table\.csv"):
        real_data("table.csv")
    (tmp_path / "table.csv").touch()
    assert real_data("table.csv") == tmp_path / "table.csv"
