r"""Finds the documents that share the most telling words with a query: BM25 and TF-IDF.

Equations, with N documents, `tf` how often a term stands in a document, `df` in how many it
stands, `dl` the words of a document and `avgdl` their mean::

    BM25     idf = ln(1 + (N - df + 1/2) / (df + 1/2))
             score(q, x) = sum_{t in q} idf_t tf (k1 + 1) / (tf + k1 (1 - b + b dl / avgdl))
    TF-IDF   idf = 1 + ln((1 + N) / (1 + df));  cosine of the vectors tf * idf

A word of the query that stands there twice counts twice. Words are runs of letters, digits and
underscores in lower case. A document that shares no word with the query is not found; an index of
nothing finds nothing. Equal scores keep the order of the documents.

Sources: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009,
doi:10.1561/1500000019, section 3 (idf kept above 0 by the 1 inside the logarithm); Salton and
Buckley, "Term-weighting approaches in automatic text retrieval", 1988,
doi:10.1016/0306-4573(88)90021-0.

>>> found = bm25(("the red hat", "the blue hat", "a shoe")).search("red shoe", k=2)
>>> [place for place, _ in found]
[2, 0]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from turnout.core import InputError, _check
from turnout.core._check import Float, Int

__all__ = ["Index", "bm25", "tfidf", "words"]

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Words of a text, in lower case."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class Index:
    """Documents that can be searched.

    Parameters
    ----------
    documents : tuple of str
    terms : tuple of str
        The v distinct words.
    starts : array of int (v + 1,)
        Where each term's postings begin.
    places : array of int (z,)
        Documents that hold the term.
    weights : array (z,)
        What the term adds to their scores, a mention in the query.
    idf : array (v,)
        Weight of a term in the length of a query; zeros where scores are not cosines.
    """

    documents: tuple[str, ...]
    terms: tuple[str, ...]
    starts: Int
    places: Int
    weights: Float
    idf: Float
    _number: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_number", {term: i for i, term in enumerate(self.terms)})

    def scores(self, query: str) -> Float:
        """Score of every document, (N,)."""
        total = np.zeros(len(self.documents))
        length = 0.0
        for term, count in Counter(words(query)).items():
            number = self._number.get(term)
            if number is None:
                continue
            span = slice(self.starts[number], self.starts[number + 1])
            total[self.places[span]] += count * self.weights[span]
            length += float(count * self.idf[number]) ** 2
        return total / np.sqrt(length) if length else total

    def search(self, query: str, *, k: int = 5) -> list[tuple[int, float]]:
        """The k best documents as (place, score), the best first; fewer where fewer match."""
        _check.integer("k", k, low=1)
        scores = self.scores(query)
        order = np.argsort(-scores, kind="stable")[:k]
        return [(int(i), float(scores[i])) for i in order if scores[i] > 0]


def bm25(documents: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> Index:
    """An index scored by BM25.

    Parameters
    ----------
    documents : sequence of str
    k1 : float
        How slowly repetitions stop counting, >= 0.
    b : float
        How much long documents are discounted, in [0, 1].

    Raises
    ------
    InputError
        A value is out of range, or a document is no text.
    """
    _check.number("k1", k1, low=0.0)
    _check.number("b", b, low=0.0, high=1.0)
    counts = _counts(documents)
    n = max(counts.n, 1)
    idf = np.log1p((n - counts.df + 0.5) / (counts.df + 0.5))
    mean = max(float(counts.lengths.mean()), 1e-12) if counts.n else 1.0
    room = k1 * (1 - b + b * counts.lengths / mean)
    weight = idf[counts.term] * counts.tf * (k1 + 1) / (counts.tf + room[counts.places])
    return counts.index(weight, np.zeros(len(idf)))


def tfidf(documents: Sequence[str]) -> Index:
    """An index scored by the cosine of TF-IDF vectors.

    Raises
    ------
    InputError
        A document is no text.
    """
    counts = _counts(documents)
    idf = 1.0 + np.log((1 + counts.n) / (1 + counts.df))
    value = counts.tf * idf[counts.term]
    norm = np.sqrt(np.bincount(counts.places, value**2, minlength=counts.n))
    return counts.index(value / norm[counts.places] * idf[counts.term], idf)


@dataclass(frozen=True, eq=False)
class _Counts:
    documents: tuple[str, ...]
    terms: tuple[str, ...]
    term: Int
    places: Int
    tf: Float
    lengths: Float

    @property
    def n(self) -> int:
        return len(self.documents)

    @property
    def df(self) -> Float:
        return np.bincount(self.term, minlength=len(self.terms)).astype(np.float64)

    def index(self, weights: Float, idf: Float) -> Index:
        sizes = np.bincount(self.term, minlength=len(self.terms))
        starts = np.append(0, np.cumsum(sizes)).astype(np.int64)
        return Index(self.documents, self.terms, starts, self.places, weights, idf)


def _counts(documents: Sequence[str]) -> _Counts:
    """How often each term stands in each document, by term and then by document."""
    if isinstance(documents, str):
        raise InputError("documents", "be a sequence", documents, "Wrap it in a list.")
    kept = tuple(documents)
    for i, text in enumerate(kept):
        if not isinstance(text, str):
            raise InputError(f"documents[{i}]", "be a string", text, "Convert it to text.")
    rows = [Counter(words(text)) for text in kept]
    terms = tuple(sorted(set().union(*rows)))
    number = {term: i for i, term in enumerate(terms)}
    triples = sorted((number[t], i, tf) for i, row in enumerate(rows) for t, tf in row.items())
    table = np.array(triples, dtype=np.int64).reshape(len(triples), 3)
    lengths = np.array([sum(row.values()) for row in rows], dtype=np.float64)
    return _Counts(kept, terms, table[:, 0], table[:, 1], table[:, 2].astype(np.float64), lengths)
