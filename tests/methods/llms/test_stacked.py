"""The stacked router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from turnout.bench import evaluate
from turnout.core import InputError, Outcomes
from turnout.llms.linear import Linear
from turnout.llms.stacked import FittedStacked, Stacked
from turnout.parts import store
from turnout.parts.costs import CostModel
from turnout.parts.learners.mixture import Line, Mixture
from turnout.parts.learners.stacking import _differences
from turnout.parts.learners.trees import Forest
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.parts.texts.form import COLUMNS
from turnout.testing import Case

CASE = Case(Stacked(trees=8, l2=(1.0,), folds=2, kinds=4))


def _fit(recipe: Stacked, table: Outcomes, seed: int = 0) -> FittedStacked:
    return recipe.fit(table, table.pool(), rng=np.random.default_rng(seed))


def _ask(word: str, thing: int, lines: int) -> str:
    """A prompt on one line or on several."""
    return f"{word} thing{thing} and then some more".replace(" ", " \n"[lines])


def _table(n: int = 400, *, words: bool = True, form: bool = True, seed: int = 1) -> Outcomes:
    """Small fails on one word, and on prompts of several lines; large is right nine in ten times.

    Lines part the same words that spaces part elsewhere, so that words know nothing of them.
    """
    rng = np.random.default_rng(seed)
    hard, lines = rng.integers(0, 2, n), rng.integers(0, 2, n)
    texts = [
        _ask(("add", "say")[h], int(rng.integers(9)), line)
        for h, line in zip(hard, lines, strict=True)
    ]
    small = 0.9 - 0.35 * hard * words - 0.35 * lines * form
    good = np.stack((small, np.full(n, 0.9)), axis=1)
    return Outcomes(
        inputs=texts,
        names=("small", "large"),
        quality=(rng.random((n, 2)) < good).astype(float),
        cost=np.tile([1.0, 9.0], (n, 1)),
    )


QUICK = Stacked(trees=20, l2=(1.0,), folds=3, kinds=6)


def test_a_prompt_by_hand() -> None:
    """One word, known: 0.8 of what it says and 0.2 of what its form says, and the cost's line."""
    features = learn_features(["red", "red"], min_df=1)
    one = np.array([0], dtype=np.int32)
    forest = Forest(
        ~one, one[:0], one[:0].astype(np.float32), np.empty((0, 2), dtype=np.int32),
        np.array([[0.25]], dtype=np.float32), len(COLUMNS),
    )  # fmt: skip
    mixture = Mixture(
        words=TextScorer(features, np.array([[2.0]], dtype=np.float32), np.array([-1.0])),
        forest=forest,
        unknown=1.0,
        trust=0.8,
        line=Line(np.array([-2.0]), np.array([4.0]), 1.0),
    )
    costs = CostModel(np.array([1.0]), np.array([0.5]), np.array([0.0]))
    quality, cost = FittedStacked(("only",), mixture, costs).predict(["red"])
    p = 0.8 / (1 + np.exp(-1.0)) + 0.2 * 0.25
    assert quality[0, 0] == pytest.approx(1 / (1 + np.exp(2 - 4 * p)))
    assert cost[0, 0] == 2.5


def test_it_learns_from_words_and_from_form() -> None:
    """Each is worth something of its own, and both together most."""
    fitted = _fit(QUICK, _table(1200))
    asks = [_ask(word, 1, lines) for word in ("add", "say") for lines in (0, 1)]
    quality, _ = fitted.predict(asks)
    small = quality[:, 0]
    assert small[0] > small[1] > small[3]
    assert small[0] > small[2] > small[3]
    assert small[0] - small[3] > 0.4
    assert quality[:, 1] == pytest.approx(0.9, abs=0.12)


def test_words_never_seen_leave_it_to_the_form() -> None:
    """On prompts in other words it tells what their lines tell, and no less than without words."""
    fitted = _fit(QUICK, _table(1200))
    quality, _ = fitted.predict(["οδός μία καλή και άλλη", "οδός\nμία\nκαλή\nκαι\nάλλη"])
    assert fitted.mixture.parts("οδός μία καλή")[2] == 0.0
    assert quality[0, 0] > quality[1, 0] + 0.1


def test_words_are_trusted_as_far_as_they_tell() -> None:
    """Much where the words decide, little where only the form does."""
    told = _fit(QUICK, _table(900, form=False)).mixture.trust
    not_told = _fit(QUICK, _table(900, words=False)).mixture.trust
    print(told, not_told)
    assert told > not_told + 0.2


def test_the_differences_that_weigh_are_those_between_models() -> None:
    """Less the row's mean where two or more were seen, as they are where one was."""
    words = np.array([[0.6, 0.2], [0.5, 0.9]])
    form = np.array([[0.5, 0.5], [0.1, 0.1]])
    quality = np.array([[1.0, 0.0], [np.nan, 1.0]])
    u, r = _differences(words, form, quality)
    assert u == pytest.approx(np.array([[0.2, -0.2], [0.0, 0.8]]))
    assert r == pytest.approx(np.array([[0.5, -0.5], [0.0, 0.9]]))


def test_on_outcomes_dealt_at_random_it_predicts_the_mean() -> None:
    """Where nothing tells, the calibration flattens what was fitted."""
    rng = np.random.default_rng(2)
    noise = Outcomes(
        inputs=[f"{rng.integers(40)} {rng.integers(40)} word" for _ in range(400)],
        names=("small", "large"),
        quality=(rng.random((400, 2)) < 0.5).astype(float),
        cost=np.ones((400, 2)),
    )
    quality, _ = _fit(QUICK, noise).predict(noise.inputs)
    assert float(quality.std(axis=0).max()) < 0.15


@pytest.mark.parametrize("kept", [0.5, 0.1])
def test_cells_never_seen_may_be_most_of_the_table(kept: float) -> None:
    """A log of few choices a row still teaches what is hard for the small one."""
    table = _table(2000)
    quality = table.quality.copy()
    rng = np.random.default_rng(0)
    quality[rng.random(quality.shape) > kept] = np.nan
    quality[0], quality[1] = (1.0, np.nan), (np.nan, 1.0)
    sparse = Outcomes(inputs=table.inputs, names=table.names, quality=quality, cost=table.cost)
    told, _ = _fit(QUICK, sparse).predict([_ask("add", 1, 0), _ask("say", 1, 1)])
    assert told[0, 0] > told[1, 0]
    assert np.isfinite(told).all()


def test_large_tables_are_weighed_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows are held out than there are, whole prompts together, and all are learnt from."""
    monkeypatch.setattr("turnout.parts.learners.stacking._CELLS", 200)
    monkeypatch.setattr("turnout.parts.learners.stacking._LEAST", 100)
    fitted = _fit(QUICK, _table(900))
    quality, _ = fitted.predict([_ask("add", 1, 0), _ask("say", 2, 1)])
    assert quality[0, 0] > quality[1, 0] + 0.2


@pytest.mark.parametrize(
    ("texts", "quality"),
    [
        (["a"], [[1.0, 0.0]]),
        (["a", "b"], [[1.0, 0.0], [0.0, 1.0]]),
        ([""] * 5, [[1.0, 1.0]] * 5),
        (["same"] * 20, [[1.0, 0.0]] * 20),
        ([f"t {i}" for i in range(30)], [[0.5, 0.5]] * 30),
        (["x y"] * 3 + ["p q"] * 3, [[1.0, np.nan]] * 3 + [[np.nan, 0.0]] * 3),
    ],
)
def test_the_smallest_tables_are_fitted(texts: list[str], quality: list[list[float]]) -> None:
    """One row, one prompt, one grade, nothing seen together: figures in range, no warning."""
    table = Outcomes(
        inputs=texts,
        names=("small", "large"),
        quality=np.array(quality),
        cost=np.zeros((len(texts), 2)),
    )
    told, cost = _fit(QUICK, table).predict(["a", "z z z", ""])
    assert ((told >= 0) & (told <= 1)).all()
    assert (cost == 0).all()


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    """From another process it says the same to the bit."""
    table = _table()
    fitted = _fit(QUICK, table)
    store.save(tmp_path / "r.turnout", fitted, table.pool())
    loaded = store.load(tmp_path / "r.turnout").router
    assert (loaded.predict(table.inputs)[0] == fitted.predict(table.inputs)[0]).all()


def test_it_holds_on_kinds_of_prompts_never_seen() -> None:
    """Subjects have words of their own, and one form counts in all: words alone tell nothing."""
    rng = np.random.default_rng(4)
    subjects, texts, good = [], [], []
    for row in range(1200):
        subject, lines = int(rng.integers(12)), int(rng.integers(2))
        vocabulary = [f"w{subject}x{rng.integers(15)}" for _ in range(8)]
        texts.append(" \n"[lines].join([*vocabulary, str(row)]))
        subjects.append(f"s{subject}")
        good.append((0.9 - 0.5 * lines - 0.03 * subject, 0.9))
    table = Outcomes(
        inputs=texts,
        names=("small", "large"),
        quality=(rng.random((1200, 2)) < np.array(good)).astype(float),
        cost=np.tile([0.0, 1.0], (1200, 1)),
        group=subjects,
    )
    methods = {"stacked": QUICK, "linear": Linear(l2=(1.0,))}
    found = evaluate(table, methods, folds=4, leave_groups_out=True, resamples=1)
    print(found.row("stacked").apgr, found.row("linear").apgr)
    # to know the lines and no more is worth 0.65
    assert found.row("stacked").apgr > 0.6 > 0.55 > found.row("linear").apgr


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"trees": 0}, "stacked.trees"),
        ({"share": 0.0}, "stacked.share"),
        ({"share": 1.5}, "stacked.share"),
        ({"l2": 1.0}, "stacked.l2"),
        ({"l2": ()}, "stacked.l2"),
        ({"folds": 1}, "stacked.folds"),
        ({"kinds": 1}, "stacked.kinds"),
        ({"min_df": 0}, "stacked.min_df"),
        ({"max_features": 0}, "stacked.max_features"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, object], field: str) -> None:
    """When the recipe is made, by name."""
    with pytest.raises(InputError, match=field):
        Stacked(**values)  # type: ignore[arg-type]


def test_numbers_are_refused() -> None:
    """It reads text."""
    fitted = _fit(QUICK, _table(60))
    with pytest.raises(InputError, match="sequence of strings"):
        fitted.predict(np.ones((2, 3)))


def test_it_says_why_in_words() -> None:
    """How far the words are trusted, which of them speak for what, and what in the form does."""
    fitted = _fit(QUICK, _table(1200))
    said = fitted.because(_ask("say", 1, 1), ("large", "small"))
    assert said[0].startswith("It is predicted large 0.")
    assert "the words count" in said[0]
    assert any("'say" in one and "for large" in one for one in said)
    assert any(one.startswith("By its form") and "for large" in one for one in said)
    with pytest.raises(InputError, match="knows"):
        fitted.because("say", ("nobody",))
