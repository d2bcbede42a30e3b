"""Text features: the quick path against a slow one written out, and what strange texts do."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.core import InputError
from turnout.parts.texts.bags import TextFeatures, TextScorer, learn_features
from turnout.parts.texts.words import READ, grams

TEXTS = (
    "What is 12 + 30?",
    "what is the capital of France?",
    "The capital of France is Paris.",
    "def f(x): return x + 1",
    "多く の 日本語",
    "日本語 the capital",
    "what is what is what is",
)


def _slow_words(text: str) -> list[str]:
    """The words by a regular expression: letters together, anything else alone."""
    return re.findall(r"[a-z\x80-\u07ff]+|[^\x00-\x20\x7f]", text.lower())


def _slow_grams(text: str) -> set[tuple[str, ...]]:
    words = _slow_words(text)
    return {(word,) for word in words} | set(itertools.pairwise(words))


def _scorer(texts: tuple[str, ...], m: int = 3, min_df: int = 1) -> TextScorer:
    features = learn_features(texts, min_df=min_df)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(features.d, m)).astype(np.float32)
    return TextScorer(features, weights, rng.normal(size=m))


def test_features_are_the_distinct_words_and_pairs() -> None:
    """The vocabulary holds as many features as a slow reading finds, each text its own."""
    features = learn_features(TEXTS, min_df=1)
    every = set().union(*(_slow_grams(text) for text in TEXTS))
    assert features.d == len(every)
    for text in TEXTS:
        assert len(features.find(text)) == len(_slow_grams(text))


def test_idf_by_hand() -> None:
    """Of two texts, a word in both weighs 1, a word in one weighs 1 + log(3 / 2)."""
    features = learn_features(["red", "red blue"], min_df=1)
    assert sorted(features.idf.tolist()) == pytest.approx([1.0] + [1 + np.log(1.5)] * 2)


def test_row_by_hand() -> None:
    """A text of one common and two rare features: idf over the root of the sum of squares."""
    features = learn_features(["red", "red blue"], min_df=1)
    rare = 1 + np.log(1.5)
    row = np.sort(features.transform(["red blue"]).toarray()[0])
    assert row == pytest.approx(np.array([1.0, rare, rare]) / np.sqrt(1 + 2 * rare**2))


def test_rare_features_are_dropped_and_the_commonest_kept() -> None:
    """`min_df` drops what stands in too few texts, `max_features` keeps the most common."""
    texts = ["a b", "a c", "a d"]
    assert learn_features(texts, min_df=2).d == 1
    assert learn_features(texts, min_df=1, max_features=1).idf.tolist() == pytest.approx([1.0])
    assert learn_features(texts, min_df=9).d == 0


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=60),
            st.text(alphabet="ab1 .é日\0\n", max_size=60),
            st.lists(st.sampled_from(["the", "a", "12", "?", "日本", "x_y"]), max_size=40).map(
                " ".join
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_the_quick_path_equals_the_sparse_one(texts: list[str]) -> None:
    """One gather over the table gives what the sparse matrix times the weights gives."""
    scorer = _scorer((*TEXTS, *texts[: len(texts) // 2]))
    slow = scorer.features.transform(texts) @ scorer.weights + scorer.intercept
    quick = np.array([scorer.score(text) for text in texts])
    assert np.abs(quick - slow).max() < 1e-6 * max(1.0, float(np.abs(slow).max()))


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=80))
def test_words_are_those_of_the_slow_reading(text: str) -> None:
    """Whatever the text, as many words and pairs as a slow reading finds."""
    plain = "".join(c for c in text if ord(c) < 0x80)
    assert len(np.unique(grams(plain))) == len(_slow_grams(plain))


def test_every_feature_has_a_slot_of_its_own_and_the_commonest_win() -> None:
    """Of 20,000 words some want one slot: few are lost, and none of those in every text."""
    common = "the a of to"
    texts = [
        f"{common} " + " ".join(f"{_spell(100 * i + k)}" for k in range(100)) for i in range(200)
    ]
    features = learn_features(texts, min_df=1)
    every = len(set().union(*(_slow_grams(text) for text in texts)))
    assert len(np.unique(features.keys >> np.uint64(64 - features.bits))) == features.d
    assert 0.9 * every < features.d < every
    assert len(features.find(common)) == len(_slow_grams(common))
    assert (np.diff(features.idf) >= 0).all()


def _spell(number: int) -> str:
    """A word of letters for each number."""
    return "".join(chr(97 + int(digit)) for digit in str(number)) + "z"


def test_case_and_repetition_do_not_matter() -> None:
    """A word counts once, in capitals or not."""
    scorer = _scorer(TEXTS)
    assert scorer.score("FRANCE") == scorer.score("france")
    assert scorer.score("is is is is") == scorer.score("is is")


@pytest.mark.parametrize("text", ["", " ", "\0", "\0\0 \n\t", "\ud800", "zzz"])
def test_texts_without_a_known_word_get_the_intercept(text: str) -> None:
    """Nothing known: the scores are the intercepts, and nothing breaks."""
    scorer = _scorer(TEXTS)
    assert scorer.score(text) == scorer.intercept.tolist()


def test_null_bytes_only_part_words() -> None:
    """A null byte reads as a space."""
    scorer = _scorer(TEXTS)
    assert scorer.score("capital\0of\0france") == scorer.score("capital of france")


def test_of_a_long_text_both_ends_are_read() -> None:
    """What stands in the middle of a megabyte changes nothing, what stands at the ends does."""
    scorer = _scorer(TEXTS)
    filler = "zz " * 333_333
    ends = scorer.score(f"france {filler} paris")
    assert ends == scorer.score(f"france {filler} capital {filler} paris")
    assert ends != scorer.score(f"france {filler}")
    assert ends != scorer.score(f"{filler} paris")


def test_letters_that_grow_in_lower_case_are_bounded() -> None:
    """A text of the cap's length whose lower case is longer is still read."""
    scorer = _scorer(TEXTS)
    assert len(scorer.score("İ" * READ)) == 3
    assert len(scorer.score("\U0001f600" * (2 * READ))) == 3


def test_empty_batch_and_empty_vocabulary() -> None:
    """No text gives no row; no feature gives rows of nothing."""
    features = learn_features(TEXTS, min_df=1)
    assert features.transform([]).shape == (0, features.d)
    assert learn_features(["a"], min_df=2).transform(["a", "b"]).shape == (2, 0)


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ("one string", "inputs"),
        (np.zeros((2, 3)), "inputs"),
        (["a", 3], "inputs[1]"),
    ],
)
def test_other_inputs_are_refused(inputs: object, field: str) -> None:
    """Numbers and single strings are refused by name."""
    with pytest.raises(InputError) as caught:
        learn_features(inputs)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_bad_vocabularies_are_refused() -> None:
    """Keys must differ, and each needs a positive weight."""
    keys = np.array([3, 4], dtype=np.uint64)
    with pytest.raises(InputError, match="alike"):
        TextFeatures(keys, np.ones(2, dtype=np.float32), 4)
    with pytest.raises(InputError, match="idf"):
        TextFeatures(keys[:1], np.zeros(1, dtype=np.float32), 4)
    with pytest.raises(InputError, match="bits"):
        TextFeatures(keys[:1], np.ones(1, dtype=np.float32), 64)
    features = learn_features(TEXTS)
    with pytest.raises(InputError, match="weights"):
        TextScorer(features, np.zeros((1, 2), dtype=np.float32), np.zeros(2))
