"""What matches a conversation to policies: its protocol, the decision, and likeness of words.

A matcher reads the policies with the conversation, so it takes policies it has never seen: adding
one at run time needs no fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from turnout.core import _check
from turnout.core._check import Float
from turnout.parts.preferences.policies import OTHER, Policy, Talked, conversation_of, unique
from turnout.parts.texts.bags import learn_features
from turnout.parts.texts.words import grams_of

__all__ = ["Match", "Matcher", "Similarity", "match"]


@runtime_checkable
class Matcher(Protocol):
    """Scores policies for conversations; pure, and takes any policies."""

    def scores(self, talks: Sequence[Talked], policies: Sequence[Policy]) -> Float:
        """Score (n, p + 1) of each policy and, in the last column, of none."""
        ...


@dataclass(frozen=True)
class Match:
    """What a conversation was matched to.

    Parameters
    ----------
    route : str
        Name of the policy, or `OTHER`.
    runner_up : str
        The next best.
    margin : float
        Score of the best less that of the next.
    scores : tuple of (str, float)
        Every policy and `OTHER`, best first.
    kept : bool
        Whether the route of the turn before was kept though another scored higher.
    """

    route: str
    runner_up: str
    margin: float
    scores: tuple[tuple[str, float], ...]
    kept: bool = False


def match(
    matcher: Matcher,
    item: Any,
    policies: Sequence[Policy],
    *,
    previous: str = "",
    stick: float = 0.0,
) -> Match:
    """Match one conversation.

    Parameters
    ----------
    matcher : Matcher
    item : str or messages
    policies : sequence of Policy
        Those in force; they need not be those the matcher was trained on.
    previous : str
        Route of the turn before.
    stick : float
        The previous route stays while its score is within this of the best; >= 0. 0 = never.

    Raises
    ------
    InputError
        The conversation is empty, two policies share a name, or `stick` is negative.
    """
    stick = _check.number("stick", stick, low=0.0)
    names = [*(policy.name for policy in unique(policies)), OTHER]
    if len(names) == 1:
        return Match(OTHER, OTHER, 0.0, ((OTHER, 1.0),))
    scores = matcher.scores([conversation_of(item)], policies)[0]
    order = np.argsort(-scores, kind="stable")
    ranked = tuple((names[j], float(scores[j])) for j in order)
    (best, top), (second, next_) = ranked[0], ranked[1]
    found = Match(best, second, top - next_, ranked)
    if stick > 0 and previous in names and previous != best:
        own = float(scores[names.index(previous)])
        if own >= top - stick:
            return Match(previous, best, own - top, ranked, kept=True)
    return found


@dataclass(frozen=True)
class Similarity:
    """Cosine of TF-IDF between the latest turns and `name: description`.

    Rarity is counted over the policies in force; a word that stands in none of them counts as
    the rarest, so that a request in other words is like nothing.

    Parameters
    ----------
    threshold : float
        Least likeness of a match; below it, no policy. In [0, 1].
    turns : int
        User turns that are read, from the last back; >= 1.
    decay : float
        Weight of a turn, relative to the one after it; in [0, 1].
    """

    threshold: float = 0.1
    turns: int = 2
    decay: float = 0.5

    def __post_init__(self) -> None:
        _check.number("similarity.threshold", self.threshold, low=0.0, high=1.0)
        _check.integer("similarity.turns", self.turns, low=1)
        _check.number("similarity.decay", self.decay, low=0.0, high=1.0)

    def scores(self, talks: Sequence[Talked], policies: Sequence[Policy]) -> Float:
        """Weighted mean likeness (n, p) of the turns read, and the threshold."""
        none = np.full((len(talks), 1), self.threshold)
        if not policies:
            return none
        texts = [policy.text for policy in policies]
        features = learn_features(texts, min_df=1)
        known = features.transform(texts)
        said, row, weight = [], [], []
        for i, talk in enumerate(talks):
            own = [text for role, text in talk if role == "user"][-self.turns :][::-1]
            said += own
            row += [i] * len(own)
            weight += [self.decay**age for age in range(len(own))]
        asked = grams_of(said)
        strange = float((1.0 + np.log((1 + len(texts)) / 2)) ** 2)
        share = np.sqrt(features.known(asked, strange)) if said else np.empty(0)
        like = (features.transform(asked) @ known.T).toarray() * share[:, None]
        total = np.zeros((len(talks), len(texts)))
        np.add.at(total, row, np.array(weight)[:, None] * like)
        mass = np.bincount(row, weight, minlength=len(talks))
        return np.hstack([total / np.maximum(mass, 1e-12)[:, None], none])
