"""BM25 and TF-IDF against the formulas, and what they find in nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from turnout.core import InputError
from turnout.parts.retrieval import bm25, tfidf, words

DOCUMENTS = ("red hat red", "blue hat", "a shoe of some size")


def test_bm25_by_hand() -> None:
    """N = 3; "red" stands twice in one document of three words, the mean is 10 / 3."""
    idf = math.log(1 + (3 - 1 + 0.5) / 1.5)
    expected = idf * 2 * 2.2 / (2 + 1.2 * (1 - 0.75 + 0.75 * 3 / (10 / 3)))
    scores = bm25(DOCUMENTS).scores("red")
    assert scores.tolist() == pytest.approx([expected, 0.0, 0.0])


def test_bm25_against_the_plain_formula() -> None:
    """Every document and query agrees with the sum written out, other k1 and b too."""
    rng = np.random.default_rng(0)
    vocabulary = list("abcdefgh")
    documents = [" ".join(rng.choice(vocabulary, size=rng.integers(1, 9))) for _ in range(20)]
    index = bm25(documents, k1=0.7, b=0.4)
    split = [words(text) for text in documents]
    mean = np.mean([len(text) for text in split])
    for query in ("a b", "h h c", "z a"):
        expected = []
        for text in split:
            score = 0.0
            for term in query.split():
                df = sum(term in other for other in split)
                tf = text.count(term)
                idf = math.log(1 + (20 - df + 0.5) / (df + 0.5))
                score += idf * tf * 1.7 / (tf + 0.7 * (0.6 + 0.4 * len(text) / mean))
            expected.append(score)
        assert index.scores(query).tolist() == pytest.approx(expected)


def test_tfidf_is_the_cosine_of_scikit_learn() -> None:
    """Same numbers as its vectoriser with smooth idf, on words split alike."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reference = TfidfVectorizer(tokenizer=words, token_pattern=None)
    table = reference.fit_transform(DOCUMENTS)
    for query in ("red hat", "hat hat shoe"):
        expected = (table @ reference.transform([query]).T).toarray()[:, 0]
        assert tfidf(DOCUMENTS).scores(query).tolist() == pytest.approx(expected.tolist())
    assert tfidf(DOCUMENTS).scores("blue hat")[1] == pytest.approx(1.0)


@pytest.mark.parametrize("make", [bm25, tfidf])
def test_what_is_not_there_is_not_found(make) -> None:
    """Nothing in an index of nothing, nothing for a query of nothing, nothing without a word."""
    assert make(()).search("red") == []
    assert make(("", " ")).search("red") == []
    index = make(DOCUMENTS)
    assert index.search("") == index.search("unheard") == []
    assert [place for place, _ in index.search("hat", k=9)] == [1, 0]
    assert len(index.search("hat", k=1)) == 1


@pytest.mark.parametrize("make", [bm25, tfidf])
def test_equal_scores_keep_their_order(make) -> None:
    """Ties are settled by place."""
    assert [place for place, _ in make(("x y", "y x", "x y")).search("x")] == [0, 1, 2]


def test_wrong_values_are_named() -> None:
    """Each field is named."""
    with pytest.raises(InputError, match="documents must be a sequence"):
        bm25("one text")
    with pytest.raises(InputError, match=r"documents\[1\] must be a string"):
        tfidf(["a", 3])
    with pytest.raises(InputError, match="b must be a finite number in"):
        bm25(DOCUMENTS, b=2.0)
    with pytest.raises(InputError, match="k must be a whole number >= 1"):
        bm25(DOCUMENTS).search("x", k=0)
