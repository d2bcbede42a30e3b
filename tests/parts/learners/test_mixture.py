"""Words and form, mixed by what is known."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError, Pool
from turnout.llms.stacked import FittedStacked
from turnout.parts import store
from turnout.parts.costs import CostModel
from turnout.parts.decide import compile_decider
from turnout.parts.learners.mixture import Line, Mixture, fit_line, logistic, topic
from turnout.parts.learners.trees import Forest
from turnout.parts.texts.bags import TextScorer, learn_features
from turnout.parts.texts.form import COLUMNS

TEXTS = (
    "What is the sum of 12 and 30?\nA. 42\nB. 18",
    "Write a poem, in Greek: Πόσα; about the sea.",
    "Prove that 2 + 2 = 4 and that the sum is even!",
)
ANY = st.characters(codec=None, exclude_categories=())
STRANGE = st.one_of(
    st.text(ANY, max_size=200),
    st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=60).map(" ".join),
    st.text("sum of 12.?!:\n\tΩÉ日\ud800\U0001f600\0", max_size=300),
)


def _stump(value: list[list[float]], d: int, column: int, threshold: float) -> Forest:
    """One tree with one split."""
    return Forest(
        roots=np.array([0], dtype=np.int32),
        column=np.array([column], dtype=np.int32),
        threshold=np.array([threshold], dtype=np.float32),
        children=np.array([[~0, ~1]], dtype=np.int32),
        value=np.array(value, dtype=np.float32),
        d=d,
    )


def _random(m: int = 3, topics: int = 2, trees: int = 7, seed: int = 0) -> Mixture:
    """Random words, topics and trees."""
    rng = np.random.default_rng(seed)
    features = learn_features(TEXTS, min_df=1)
    d = len(COLUMNS) + topics
    weights = rng.normal(size=(features.d, m + topics)).astype(np.float32)
    # each tree is a split and, on its right, another
    nodes = np.arange(2 * trees)
    children = np.stack((~(3 * (nodes // 2) + nodes % 2), np.zeros_like(nodes)), axis=1)
    children[::2, 1] = nodes[1::2]
    children[1::2, 1] = ~(3 * (nodes[1::2] // 2) + 2)
    column = rng.integers(0, d, 2 * trees)
    threshold = np.where(column < len(COLUMNS), rng.choice([0.01, 0.5, 3, 20], 2 * trees), 0.0)
    value = np.rint(rng.random((3 * trees, m)) * 2**30) / 2**30
    return Mixture(
        words=TextScorer(features, weights, rng.normal(size=m + topics) * ([1] * m + [0] * topics)),
        forest=Forest(
            nodes[::2].astype(np.int32),
            column.astype(np.int32),
            threshold.astype(np.float32),
            children.astype(np.int32),
            value.astype(np.float32),
            d,
        ),
        unknown=4.0,
        trust=1.3,
        line=Line(rng.normal(size=m), rng.random(m) * 5, 3.7),
    )


def _fitted(m: int = 3) -> FittedStacked:
    costs = CostModel(np.linspace(0.1, 1, m), np.linspace(0.01, 0.1, m), np.full(m, 0.3))
    return FittedStacked(tuple(f"model {j}" for j in range(m)), _random(m), costs)


def test_a_mixture_by_hand() -> None:
    """Half of what "red blue" holds is known: the words weigh trust / 2, the form the rest."""
    features = learn_features(["red", "red"], min_df=1)  # idf 1, and no pair
    words = TextScorer(features, np.array([[2.0]], dtype=np.float32), np.array([-1.0]))
    forest = _stump([[0.25], [0.75]], len(COLUMNS), COLUMNS.index("words"), 1.0)
    line = Line(np.array([-2.0]), np.array([4.0]), 9.0)
    mixture = Mixture(words, forest, 0.5, 0.8, line)
    # "blue" and "red blue" are unknown and count 0.5 each, so k = 1 / 2 and w = 0.4
    by_words = 1 / (1 + math.exp(-1.0))
    p = 0.4 * by_words + 0.6 * 0.75
    assert mixture.quality("red blue")[0] == pytest.approx(1 / (1 + math.exp(2 - 4 * p)))
    # all known: w = 0.8; one word, so the other leaf
    p = 0.8 * by_words + 0.2 * 0.25
    assert mixture.quality("red")[0] == pytest.approx(1 / (1 + math.exp(2 - 4 * p)))
    assert mixture.parts("red")[2] == pytest.approx(0.8)


def test_nothing_known_is_told_by_form_alone() -> None:
    """Of a text in words never seen the words' own guess does not show."""
    features = learn_features(["red", "red"], min_df=1)
    forest = _stump([[0.25], [0.75]], len(COLUMNS), COLUMNS.index("words"), 1.0)
    line = Line(np.array([-2.0]), np.array([4.0]), 1.0)
    told = {
        intercept: Mixture(
            TextScorer(features, np.ones((1, 1), dtype=np.float32), np.array([intercept])),
            *(forest, 1.0, 5.0, line),
        ).quality("never seen")
        for intercept in (-9.0, 9.0)
    }
    assert told[-9.0] == told[9.0] == [logistic(4 * 0.75 - 2)]


def test_level_and_differences_are_calibrated_apart() -> None:
    """By hand; and fitted, where level is told too faintly and differences too loudly."""
    line = Line(np.array([0.0, 1.0]), np.array([2.0, 4.0]), 3.0)
    told = line.apply_one([0.2, 0.6])
    assert told == pytest.approx([logistic(0.8 - 0.6), logistic(1 + 1.6 + 0.6)])
    rng = np.random.default_rng(0)
    mean, gap = rng.random(40_000), rng.normal(size=40_000)
    right = 1 / (1 + np.exp(-np.stack((-2 + 5 * mean - gap, 5 * mean + gap - 2), axis=1)))
    mixed = np.stack((mean - 0.4 * gap, mean + 0.4 * gap), axis=1)
    quality = (rng.random(right.shape) < right).astype(float)
    quality[rng.random(right.shape) < 0.3] = np.nan
    found = fit_line(mixed, quality)
    assert found.base == pytest.approx([-2, -2], abs=0.15)
    assert found.level == pytest.approx([5, 5], abs=0.25)
    assert found.spread == pytest.approx(2.5, abs=0.1)


def test_one_destination_has_no_differences() -> None:
    """Its line is one of its level, and finite where every answer is right."""
    found = fit_line(np.linspace(0, 1, 50)[:, None], np.ones((50, 1)))
    assert np.isfinite([*found.base, *found.level, found.spread]).all()
    assert found.apply_one([0.5])[0] > 0.9


def test_a_topic_has_length_one_or_none() -> None:
    """Scaled, and nothing stays nothing."""
    assert topic([3.0, 4.0]) == [0.6, 0.8]
    assert topic([0.0, 0.0]) == [0.0, 0.0]


def test_batches_and_single_texts_agree_to_the_bit() -> None:
    """By arrays, whatever the size of the batch."""
    mixture = _random()
    assert mixture.predict(TEXTS).tolist() == [mixture.by_arrays(text) for text in TEXTS]
    assert mixture.predict([]).shape == (0, 3)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("m", "topics"), [(1, 0), (2, 5), (11, 32)])
def test_compiled_code_gives_the_same_bits(m: int, topics: int) -> None:
    """Whatever characters a text has, arrays and compiled code agree to the bit."""
    mixture = _random(m, topics, trees=20, seed=m)

    @settings(deadline=None, max_examples=150)
    @given(STRANGE)
    def agree(text: str) -> None:
        assert mixture.quality(text) == mixture.by_arrays(text)

    agree()
    assert mixture._kernel is not None


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("names", [None, ("model 2", "model 0"), ("model 1",)])
def test_compiled_code_makes_the_same_choices(names: tuple[str, ...] | None) -> None:
    """For every destination or some of them, in any order, at any price, costs as predicted."""
    fitted = _fitted()
    pool = Pool(names=fitted.names if names is None else names)
    decider = compile_decider(fitted, pool)
    where = [fitted.names.index(name) for name in pool.names]
    for text in (*TEXTS, "", "π " * 9000):
        for price in (0.0, 0.1, 3.0):
            choice, quality, cost = decider.decide(text, price)
            assert quality == [fitted.mixture.by_arrays(text)[j] for j in where]
            assert cost == [fitted.costs.predict_one(len(text))[j] for j in where]
            value = [q - price * c for q, c in zip(quality, cost, strict=True)]
            assert value[choice] == max(value)
    assert decider._kernel is not None


@pytest.mark.usefixtures("kernel")
def test_compiled_code_is_no_state(tmp_path: Path) -> None:
    """A router that has used it can be pickled and saved, and says the same afterwards."""
    fitted = _fitted()
    right = fitted.predict_one(TEXTS[1])
    again = pickle.loads(pickle.dumps(fitted))
    assert again.predict_one(TEXTS[1]) == right
    store.save(tmp_path / "r.turnout", fitted, Pool(names=fitted.names))
    loaded = store.load(tmp_path / "r.turnout").router.predict([TEXTS[1]])
    assert loaded[0][0].tolist() == right[0]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("unknown", -1.0, ">= 0"),
        ("trust", float("nan"), "finite"),
        ("line", Line(np.zeros(2), np.zeros(2), 1.0), "shape"),
        ("forest", _stump([[0.0] * 3, [1.0] * 3], len(COLUMNS) + 9, 0, 0.0), "shape"),
    ],
)
def test_a_damaged_mixture_is_refused(field: str, value: object, rule: str) -> None:
    """What does not fit together is told before it is used."""
    whole = {name: getattr(_random(), name) for name in ("words", "forest", "unknown", "trust")}
    whole |= {"line": _random().line}
    with pytest.raises(InputError, match=rule):
        Mixture(**{**whole, field: value})
