"""Recorded steps of a question, and rewards for agreeing with them.

The rule-based rewards of R1-Router (Peng et al., 2025, arXiv:2505.22095): one for each step, half
for the sub-question and half for the knowledge base, and one for an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from turnout.core._check import Float
from turnout.parts.learners.actor import hashed
from turnout.parts.rounds.answers import normalised, recall

__all__ = ["Record", "Step", "answer_reward", "step_reward"]

_EMBEDDED = 256


@dataclass(frozen=True)
class Step:
    """One recorded step: the sub-question, the base that answers it, and the answer."""

    query: str
    base: str
    answer: str


@dataclass(frozen=True)
class Record:
    """A question with the steps that answer it, to learn from.

    Parameters
    ----------
    question : str
    steps : tuple of Step
    answers : tuple of str
        Right answers, at least one.
    """

    question: str
    steps: tuple[Step, ...]
    answers: tuple[str, ...]


def step_reward(query: str, base: str, right_query: str, right_base: str) -> float:
    """How well a step agrees with the record, in [0, 1]; "" for both is to stop."""
    same = query == right_query  # two empty ones have no cosine
    near = 1.0 if same else max(float(_embedded(query) @ _embedded(right_query)), 0.0)
    return 0.5 * near + 0.5 * float(base == right_base)


@lru_cache(maxsize=8192)
def _embedded(text: str) -> Float:
    return np.asarray(hashed([text], _EMBEDDED)[0], dtype=np.float64)


def answer_reward(answer: str, right: Sequence[str]) -> float:
    """Token recall of an answer; all or nothing where the right ones are short or several."""
    best = max((recall(answer, text) for text in right), default=0.0)
    if len(right) == 1 and len(normalised(right[0]).split()) > 5:
        return best
    return float(best == 1.0)
