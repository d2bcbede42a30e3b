"""Marks an answer against what is right: exact match, token F1 and token recall.

Both texts are normalised first: lower case, no punctuation, no articles, single spaces
(Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", 2016,
arXiv:1606.05250, section 5).

>>> exact("The Oslo.", ("oslo",)), round(f1("in Oslo", ("Oslo",)), 3)
(1.0, 0.667)
"""

from __future__ import annotations

import re
import string
from collections import Counter

__all__ = ["exact", "f1", "normalised", "recall"]

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WHOLE = frozenset(("yes", "no", "noanswer"))


def normalised(text: str) -> str:
    """A text in lower case, without punctuation, articles and further spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, right: tuple[str, ...]) -> float:
    """1.0 if the answer is one of the right ones, else 0.0.

    A text of marks alone says nothing once normalised, so it is compared as it stands.
    """
    said = normalised(answer)
    for text in right:
        wanted = normalised(text)
        if said == wanted and (wanted or answer.split() == text.split()):
            return 1.0
    return 0.0


def f1(answer: str, right: tuple[str, ...]) -> float:
    """Harmonic mean of token precision and recall, the best over the right answers.

    "yes", "no" and "noanswer" are right whole or not at all.
    """
    return max((_f1(normalised(answer), normalised(text)) for text in right), default=0.0)


def recall(answer: str, right: str) -> float:
    """Share of the tokens of what is right that the answer holds; 0 where there are none."""
    said, wanted = normalised(answer).split(), normalised(right).split()
    return _common(said, wanted) / len(wanted) if wanted else 0.0


def _common(said: list[str], wanted: list[str]) -> int:
    return sum((Counter(said) & Counter(wanted)).values())


def _f1(said: str, wanted: str) -> float:
    if (said in _WHOLE or wanted in _WHOLE) and said != wanted:
        return 0.0
    first, second = said.split(), wanted.split()
    common = _common(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0
