"""Verified routing."""

from __future__ import annotations

import numpy as np
import pytest

from turnout.core import InputError, Outcomes
from turnout.llms.sdm import FittedSdm, Sdm
from turnout.testing import Case

QUICK = Sdm(k=8, runs=1, epochs=5, d=24, rate=1e-2)
CASE = Case(QUICK)


def _table(n: int = 600, seed: int = 0) -> Outcomes:
    """Vectors of two kinds: small is right on one, large on both."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 2
    inputs = 3 * np.eye(2, 4)[kind] + 0.3 * rng.standard_normal((n, 4))
    return Outcomes(
        inputs=inputs,
        names=("small", "large"),
        quality=np.column_stack([1.0 - kind, np.ones(n)]),
        cost=np.tile([1.0, 9.0], (n, 1)),
    )


def _fit(table: Outcomes) -> FittedSdm:
    return QUICK.fit(table, table.pool(), rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted() -> FittedSdm:
    return _fit(_table())


def test_admitted_answers_stay_and_the_rest_escalates(fitted: FittedSdm) -> None:
    """Small keeps only what it answers right; what it fails, and what is strange, goes to large."""
    table = _table(400, seed=1)
    chosen = fitted.escalate(table.inputs)
    kept = chosen == 0
    assert 0.1 < kept.mean() <= 0.5
    assert (table.quality[kept, 0] == 1.0).all()
    assert (fitted.escalate(table.inputs + 40.0) == 1).all()


def test_three_ways(fitted: FittedSdm) -> None:
    """Right and alike is accepted, wrong and alike is escalated, like nothing seen is rejected."""
    asked = np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0], [90.0, -90.0, 90.0, 0]])
    assert fitted.gate(asked)[:, 0].tolist() == [1, 0, -1]


def test_what_is_like_nothing_seen_gets_the_mean(fitted: FittedSdm) -> None:
    """No neighbour, no claim: the expected quality is the share of right answers."""
    quality, cost = fitted.predict(np.array([[90.0, -90.0, 90.0, 0.0]]))
    assert quality.tolist() == [[0.5, 1.0]]
    assert cost.tolist() == [[1.0, 9.0]]


def test_a_destination_that_is_always_right_needs_no_verifier(fitted: FittedSdm) -> None:
    """One class teaches nothing: its mean is told, and nothing is admitted."""
    assert fitted.verifiers[1].estimator is None
    asked = np.array([[3.0, 0, 0, 0]])
    assert fitted.predict(asked)[0][0, 1] == 1.0
    assert fitted.gate(asked)[0, 1] == -1


def test_grades_between_right_and_wrong_count() -> None:
    """Qualities of 0.9 and 0.2: what is admitted is predicted between them."""
    table = _table()
    graded = Outcomes(
        inputs=table.inputs,
        names=table.names,
        quality=0.2 + 0.7 * table.quality,
        cost=table.cost,
    )
    quality, _ = _fit(graded).predict(np.array([[3.0, 0, 0, 0], [0, 3.0, 0, 0]]))
    assert quality[0, 0] == pytest.approx(0.9, abs=0.05)
    assert quality[1, 0] == pytest.approx(0.2, abs=0.05)


def test_texts_are_read_through_an_encoder() -> None:
    """Words that tell right from wrong verify new prompts that hold them."""
    rng = np.random.default_rng(0)
    kind = np.arange(500) % 2
    words = (("add", "sum", "plus"), ("prove", "lemma", "theorem"))
    texts = [f"{rng.choice(words[k])} {rng.choice(words[k])} please" for k in kind]
    table = Outcomes(
        inputs=texts,
        names=("small", "large"),
        quality=np.column_stack([1.0 - kind, np.ones(500)]),
        cost=np.tile([1.0, 9.0], (500, 1)),
    )
    quality, _ = _fit(table).predict(["sum plus please", "lemma theorem please"])
    assert quality[0, 0] > 0.8
    assert quality[1, 0] < 0.2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.5}, "sdm.alpha must lie between 0.5 and 1"),
        ({"alpha": 1.0}, "sdm.alpha must lie between"),
        ({"k": 0}, "sdm.k must be"),
        ({"runs": 0}, "sdm.runs must be"),
        ({"rate": 0.0}, "sdm.rate must be"),
        ({"encoder": "bert"}, "encoder must be one of"),
        ({"d": 0}, "sdm.d must be"),
    ],
)
def test_wrong_recipes_are_refused(fields: dict, message: str) -> None:
    """Each field is named."""
    with pytest.raises(InputError, match=message):
        Sdm(**fields)


def test_vectors_of_another_length_are_refused(fitted: FittedSdm) -> None:
    """As are texts, where vectors were fitted on."""
    with pytest.raises(InputError, match="inputs must have shape"):
        fitted.predict(np.ones((2, 3)))
    with pytest.raises(InputError, match="inputs must"):
        fitted.predict(["one", "two"])
