"""ReLoop2's error memory: what it learns, from what, and what it leaves as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.core import InputError, Inputs, Online, Outcomes, Pool
from turnout.core._check import Float
from turnout.llms.error_memory import ErrorMemory, FittedErrorMemory
from turnout.parts import store
from turnout.testing import Case

CASE = Case(ErrorMemory(d=24, bits=4, slots=20, size=200))


@dataclass(frozen=True)
class Flat:
    """Fits a predictor that says one thing of each model."""

    quality: tuple[float, ...] = (0.8, 0.6)

    def fit(self, outcomes: Outcomes, pool: Pool, *, rng: np.random.Generator) -> FittedFlat:
        """The figures as they are."""
        return FittedFlat(outcomes.names, self.quality)


@dataclass(frozen=True)
class FittedFlat:
    """One figure a model, whatever is asked."""

    names: tuple[str, ...]
    quality: tuple[float, ...]

    def predict(self, inputs: Inputs) -> tuple[Float, Float]:
        """The figures, and a cost of one."""
        shape = (len(inputs), len(self.names))
        return np.broadcast_to(np.array(self.quality), shape), np.ones(shape)


TABLE = Outcomes(
    inputs=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.1, 1.0]]),
    names=("a", "b"),
    quality=np.array([[0.8, 0.6]] * 4),
    cost=np.ones((4, 2)),
)
X, Y = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
EXACT = ErrorMemory(Flat(), bits=0, weight=0.5, kappa=2.0)


def _fit(recipe: ErrorMemory = EXACT) -> FittedErrorMemory:
    return recipe.fit(TABLE, TABLE.pool(), rng=np.random.default_rng(0))


def _learn(fitted: FittedErrorMemory, x: Float, column: int, *outcomes: float) -> None:
    n = len(outcomes)
    fitted.learn(np.repeat(x, n, axis=0), np.full(n, column), np.array(outcomes))


def test_a_correction_by_hand() -> None:
    """Errors -0.8 and -0.4 at one place: 0.8 + 0.5 * 2 / (2 + 2) * -0.6."""
    fitted = _fit()
    _learn(fitted, X, 0, 0.0, 0.4)
    quality, cost = fitted.predict(X)
    assert quality[0] == pytest.approx([0.8 - 0.25 * 0.6, 0.6])
    assert cost[0].tolist() == [1.0, 1.0]


def test_it_is_the_base_until_something_is_learnt_and_where_nothing_was() -> None:
    """To the bit, and with a weight of nothing always."""
    fitted = _fit()
    assert (fitted.predict(X)[0] == fitted.base.predict(X)[0]).all()
    _learn(fitted, X, 0, *[0.0] * 20)
    assert fitted.predict(X)[0][0, 1] == 0.6
    none = _fit(ErrorMemory(Flat(), weight=0.0))
    _learn(none, X, 0, *[0.0] * 20)
    assert (none.predict(X)[0] == none.base.predict(X)[0]).all()


def test_a_model_that_fails_on_some_prompts_is_left_on_those_alone() -> None:
    """Elsewhere it is chosen as before, and where it failed again once it is good again."""
    fitted = _fit(ErrorMemory(Flat(), slots=20))
    _learn(fitted, X, 0, *[0.0] * 30)
    _learn(fitted, Y, 0, *[0.8] * 30)
    assert fitted.predict(X)[0][0].argmax() == 1
    assert fitted.predict(Y)[0][0].argmax() == 0
    _learn(fitted, X, 0, *[1.0] * 30)
    assert fitted.predict(X)[0][0].argmax() == 0


def test_distant_neighbours_hardly_count() -> None:
    """In one bucket with prompts at a right angle to all that failed, nothing changes."""
    fitted = _fit()
    _learn(fitted, X, 0, *[0.0] * 30)
    assert fitted.predict(X)[0][0, 0] < 0.5
    assert fitted.predict(Y)[0][0, 0] == pytest.approx(0.8)


def test_an_outcome_is_not_known_before_it_is_learnt() -> None:
    """Predicting a stream batch by batch sees only the batches before."""
    fitted = _fit()
    asked = np.repeat(X, 5, axis=0)
    first = fitted.predict(asked)[0]
    fitted.learn(asked, np.zeros(5, dtype=int), np.zeros(5))
    assert (first == 0.8).sum() == 5
    assert fitted.predict(asked)[0][0, 0] < 0.8


def test_late_outcomes_count_from_when_they_were_answered() -> None:
    """Too late, and they are dropped; what never comes is never counted as a failure."""
    fitted = _fit(ErrorMemory(Flat(), bits=0, age=10.0))
    many = np.repeat(X, 8, axis=0)
    fitted.learn(Y, np.array([1]), np.array([0.6]), when=np.array([100.0]))
    fitted.learn(many, np.zeros(8, dtype=int), np.zeros(8), when=np.full(8, 80.0))
    assert fitted.predict(X)[0][0, 0] == 0.8
    fitted.learn(many, np.zeros(8, dtype=int), np.zeros(8), when=np.full(8, 95.0))
    assert fitted.predict(X)[0][0, 0] < 0.6


def test_old_errors_are_forgotten_by_age_and_by_room() -> None:
    """Six outcomes later, where six is the age; or with room for five, all of them newer."""
    for recipe in (
        ErrorMemory(Flat(), bits=0, age=5.0),
        ErrorMemory(Flat(), bits=0, size=5),
        ErrorMemory(Flat(), bits=0, slots=5),
    ):
        fitted = _fit(recipe)
        _learn(fitted, X, 0, *[0.0] * 9)
        _learn(fitted, X, 0, *[0.8] * 6)
        assert fitted.predict(X)[0][0, 0] == pytest.approx(0.8)


def test_a_new_base_comes_with_an_empty_memory_and_leaves_the_old_alone() -> None:
    """Errors of the old would be put right twice."""
    fitted = _fit()
    _learn(fitted, X, 0, *[0.0] * 20)
    new = fitted.renewed(FittedFlat(("a", "b"), (0.3, 0.6)))
    assert new.predict(X)[0][0].tolist() == [0.3, 0.6]
    assert fitted.predict(X)[0][0, 0] < 0.6
    with pytest.raises(InputError, match=r"base\.names"):
        fitted.renewed(FittedFlat(("b", "a"), (0.3, 0.6)))


def test_what_was_learnt_is_saved_and_it_goes_on_learning(tmp_path: Path) -> None:
    """A loaded router says the same, and what it learns then is its own."""
    table = Outcomes(
        inputs=["add two numbers", "write a poem", "add five numbers", "recite a poem"] * 5,
        names=("a", "b"),
        quality=np.array([[0.9, 0.6]] * 20),
        cost=np.ones((20, 2)),
    )
    recipe = ErrorMemory(d=8, bits=2)
    fitted = recipe.fit(table, table.pool(), rng=np.random.default_rng(0))
    assert isinstance(fitted, Online)
    sums = ["add nine numbers"] * 30
    fitted.learn(sums, np.zeros(30, dtype=int), np.zeros(30))
    store.save(tmp_path / "r.turnout", fitted, table.pool())
    loaded: Any = store.load(tmp_path / "r.turnout").router
    assert (loaded.predict(table.inputs)[0] == fitted.predict(table.inputs)[0]).all()
    loaded.predictor.learn(["recite a poem"] * 30, np.zeros(30, dtype=int), np.zeros(30))
    told, kept = loaded.predict(table.inputs)[0], fitted.predict(table.inputs)[0]
    assert told[1, 0] < kept[1, 0] - 0.2
    assert kept[0, 0] < kept[1, 0]


def test_it_recovers_from_a_change_that_the_base_does_not_see() -> None:
    """On prompts of the planted kind, one model gets worse on one topic: less is lost."""
    rng = np.random.default_rng(3)
    word = np.array(["sum", "poem", "law", "code"])
    topic = rng.integers(4, size=900)
    texts = [f"{word[k]} {word[k]}s about {word[k]} {i % 9}" for i, k in enumerate(topic)]
    good = np.tile([0.9, 0.6], (900, 1))
    train = Outcomes(
        inputs=texts[:300], names=("a", "b"), quality=good[:300].copy(), cost=np.ones((300, 2))
    )
    good[(topic == 2), 0] = 0.1
    fitted = ErrorMemory(d=8, bits=4).fit(train, train.pool(), rng=rng)
    earned = []
    for start in range(300, 900, 20):
        rows = np.arange(start, start + 20)
        asked = texts[start : start + 20]
        chosen = fitted.predict(asked)[0].argmax(axis=1)
        outcome = good[rows, chosen]
        earned.append(outcome[topic[rows] == 2])
        fitted.learn(asked, chosen, outcome)
    assert np.concatenate(earned[:3]).mean() < 0.5
    assert np.concatenate(earned[10:]).mean() > 0.55


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"base": 3}, "error_memory.base"),
        ({"weight": 1.1}, "error_memory.weight"),
        ({"kappa": -1.0}, "error_memory.kappa"),
        ({"k": 0}, "memory.k"),
        ({"tau": 0.0}, "memory.tau"),
        ({"tables": 0}, "memory.tables"),
        ({"bits": 20}, "memory.bits"),
        ({"slots": 0}, "error_memory.slots"),
        ({"size": 0}, "error_memory.size"),
        ({"age": -1.0}, "memory.age"),
        ({"d": 0}, "error_memory.d"),
        ({"encoder": "bert"}, "encoder"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, Any], field: str) -> None:
    """When the recipe is made, by name."""
    with pytest.raises(InputError, match=field):
        ErrorMemory(**values)


def test_what_cannot_be_learnt_is_refused_and_nothing_is_kept() -> None:
    """Lengths, columns and outcomes; an empty batch is nothing to learn."""
    fitted = _fit()
    for chosen, outcome in (([0, 1], [1.0]), ([2], [1.0]), ([0], [np.nan]), ([0], [1.5])):
        with pytest.raises(InputError):
            fitted.learn(X, np.array(chosen), np.array(outcome))
    fitted.learn(np.empty((0, 2)), np.empty(0, dtype=int), np.empty(0))
    assert not fitted.memory.written.any()
