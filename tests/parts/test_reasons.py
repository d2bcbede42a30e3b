"""What in a text a figure comes from, in sentences; and the words behind the scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.core import InputError, Outcomes
from turnout.llms.knn import Knn
from turnout.llms.length import Length
from turnout.llms.linear import Linear
from turnout.parts.decide import Explains
from turnout.parts.learners.neighbours import Memory
from turnout.parts.reasons import compared, listed, of_neighbours, of_words
from turnout.parts.texts.bags import TextScorer, learn_features

TEXTS = [
    "Prove that the integral of x^2 over [0, 1] is 1/3.",
    "add two numbers, 2 + 3",
    "Ελληνικά και 漢字, both",
    "add add  ADD\n\ttwo",
]


def scorer(m: int = 3, texts: list[str] = TEXTS) -> TextScorer:
    features = learn_features(texts, min_df=1)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(features.d, m)).astype(np.float32)
    return TextScorer(features, weights, rng.normal(size=m))


@given(st.one_of(st.sampled_from(TEXTS), st.text(max_size=60)))
def test_contributions_and_intercept_are_the_scores(text: str) -> None:
    """Of any text: known words, unknown ones, none at all."""
    made = scorer()
    words, parts = made.contributions(text)
    assert parts.shape == (len(words), 3)
    assert parts.sum(axis=0) + made.intercept == pytest.approx(made.score(text), abs=1e-9)


def test_contributions_name_the_words_as_they_stand() -> None:
    """Each once, in order, words before pairs, in lower case with single spaces."""
    words, _ = scorer().contributions(TEXTS[3])
    assert words == ["add", "two", "add add", "add two"]
    words, _ = scorer().contributions("漢字 two")
    assert words == ["漢", "字", "two", "漢字"]


def test_a_single_word_contributes_its_weight() -> None:
    """Of one known word, x is 1: its part is its weight."""
    made = scorer()
    words, parts = made.contributions("numbers")
    assert words == ["numbers"]
    place = made.features.find("numbers")[0]
    assert parts[0] == pytest.approx(made.weights[place], rel=1e-5)


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\x9b31m b", "a\u202eb", "\ud800", "a\0b", ""])
def test_nothing_that_steers_a_terminal_is_repeated(text: str) -> None:
    """Escape, control and direction marks of a prompt come out as U+FFFD or not at all."""
    words, _ = scorer(texts=[text, "other"]).contributions(text)
    assert all(word.isprintable() for word in words)
    assert len(words) == len(learn_features([text], min_df=1).keys)


def test_words_for_and_against_by_hand() -> None:
    """'proof' lifts large from 1/2 to 3/4, 'sum' lifts small likewise; the rest does nothing."""
    third = float(np.log(3.0))
    parts = np.array([[third, 0.0], [0.0, third], [0.001, 0.001]])
    scores = [third + 0.001, third + 0.001]
    told = of_words(("large", "small"), ["proof", "sum", "the"], parts, scores)
    assert told[:2] == (
        "The word 'proof' speaks for large: it raises large by 0.25 and leaves small as it is.",
        "The word 'sum' speaks against large: it leaves large as it is and raises small by 0.25.",
    )
    assert told[2] == "That is little to go by: only 3 words and pairs of it are known."


def test_words_that_overlap_are_told_once() -> None:
    """A pair and its own word are not both named; at most three are."""
    words = ["a", "b", "c", "d", "a b", "c d"]
    parts = np.column_stack((np.array([0.5, 0.4, 0.3, 0.2, 0.9, 0.8]), np.zeros(6)))
    (sentence,) = of_words(("x", "y"), words, parts, [0.0, 0.0])
    assert "'a b' and 'c d' speak for x" in sentence
    assert "'a'" not in sentence


def test_words_that_do_the_same_to_both_share_a_verb() -> None:
    """And where no word does anything, that is said."""
    both = of_words(("x", "y"), ["w"] * 1, np.array([[2.0, 1.0]]), [0.0, 0.0])
    assert both[0] == "The word 'w' speaks for x: it raises x by 0.38 and y by 0.23."
    none = of_words(("x", "y"), list("abcde"), np.zeros((5, 2)), [0.0, 0.0])
    assert none == ("None of its 5 known words and pairs makes a difference.",)
    lone = of_words(("x",), ["w"] * 1, np.array([[2.0]]), [0.0])
    assert lone[0] == "The word 'w' speaks for x: it raises x by 0.38."


def test_neighbours_by_hand() -> None:
    """Two of three kept prompts are near: what both models did there, and how sure that is."""
    memory = Memory(
        keys=np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], dtype=np.float32),
        values=np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
        k=2,
    )
    told = of_neighbours(("a", "b"), [0, 1], memory, np.array([1.0, 0.0]))
    assert told == (
        "On the 2 kept prompts most like it a scored 1.00 and b scored 0.50 on average.",
        "a did better on 1 of them, b on 0, and they were level on 1.",
        "That tells their difference, +0.50, to within about 1.00.",
        "Their likeness (cosine, at most 1) is from 0.80 to 1.00.",
    )
    nothing = of_neighbours(("a", "b"), [0, 1], memory, np.zeros(2))
    assert nothing == ("Nothing it says is known, so all 3 kept prompts count alike.",)
    never = Memory(keys=memory.keys, values=np.array([[1, np.nan], [np.nan, 1], [1, np.nan]]), k=2)
    assert "nothing to compare" in of_neighbours(("a", "b"), [0, 1], never, np.ones(2))[0]


def test_compared_are_those_named_or_the_two_best() -> None:
    """Columns, the first being the one spoken for."""
    assert compared(("a", "b", "c"), [0.1, 0.9, 0.5]) == [1, 2]
    assert compared(("a", "b", "c"), [0.1, 0.9, 0.5], ("c", "a")) == [2, 0]
    assert compared(("a",), [0.1]) == [0]
    with pytest.raises(InputError, match="names must be destinations the predictor knows"):
        compared(("a",), [0.1], ("x",))
    assert listed([]) == ""
    assert listed(["a"]) == "'a'"


TABLE = Outcomes(
    inputs=["add two numbers now", "prove the theorem in full and show each step"] * 30,
    names=("small", "large"),
    quality=np.array([[1.0, 1.0], [0.0, 1.0]] * 30),
    cost=np.array([[1.0, 9.0]] * 60),
)


@pytest.mark.parametrize("recipe", [Linear(), Knn(k=10), Length()])
def test_fitted_methods_explain_themselves(recipe) -> None:  # type: ignore[no-untyped-def]
    """Sentences about the destinations asked for, for any text, and a clear refusal."""
    fitted = recipe.fit(TABLE, TABLE.pool(), rng=np.random.default_rng(0))
    assert isinstance(fitted, Explains)
    for text in ("prove the theorem", "", " \n", "xyzzy", "漢字 \ud800", "x" * 20_000):
        told = fitted.because(text, ("large", "small"))
        assert told
        assert all(sentence.endswith(".") and sentence.isprintable() for sentence in told)
        assert "nan" not in " ".join(told)
    assert "small" in " ".join(fitted.because("prove the theorem"))
    with pytest.raises(InputError, match="names must be destinations"):
        fitted.because("prove", ("other",))


def test_linear_names_the_words_that_decide() -> None:
    """On a table where 'prove' and 'theorem' tell that small fails."""
    fitted = Linear().fit(TABLE, TABLE.pool(), rng=np.random.default_rng(0))
    first = fitted.because("prove the theorem", ("large", "small"))[0]
    assert "speak for large" in first
    assert "'prove the'" in first or "'theorem'" in first
    assert "small by" in first
    assert "lower small" in first


def test_length_tells_the_lengths_and_what_they_do() -> None:
    """Characters here and in the table, and from what to what the curve goes."""
    fitted = Length().fit(TABLE, TABLE.pool(), rng=np.random.default_rng(0))
    first, second = fitted.because("add two numbers now", ("small", "large"))
    assert first == "It has 19 characters; the prompts learnt from have about 29."
    assert second.startswith("That alone takes small from ")
    assert len(fitted.because("x" * 100_000)) == 3
