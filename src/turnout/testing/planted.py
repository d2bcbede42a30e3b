"""Planted problems: small tables in which a known rule says who answers what, and at what price.

The words of a prompt reveal its topic and how difficult it is; each destination has topics and
difficulties at which it is good. Because the rule is planted, the expected quality of every cell
is known, so that a router can be judged without the noise of single answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import InputError, Outcomes, _check
from turnout.core._check import Float, Int

__all__ = ["Planted", "as_arrays", "blanked", "easy", "hard", "shuffled"]

_TOPICS = {
    "sums": ("fraction", "integer", "equation", "divide", "percent", "triangle", "algebra"),
    "code": ("python", "function", "compile", "loop", "variable", "debug", "recursion"),
    "verse": ("poem", "rhyme", "stanza", "sonnet", "metaphor", "lyric", "ballad"),
    "law": ("contract", "tenant", "statute", "clause", "liability", "court", "plaintiff"),
}
_EASY = ("simple", "short", "basic", "quick", "plain")
_DIFFICULT = ("rigorous", "advanced", "intricate", "thorough", "subtle")
_FILLER = (
    "please", "kindly", "today", "about", "with", "for", "my", "the", "some", "again",
    "could", "you", "explain", "write", "show", "give", "now", "also", "then", "one",
)  # fmt: skip

#: Chance of a right answer: destination by (topic, easy or difficult), topics as in `_TOPICS`.
_HARD = {
    "small": ((0.92, 0.08), (0.92, 0.08), (0.92, 0.08), (0.92, 0.08)),
    "engineer": ((0.94, 0.94), (0.94, 0.94), (0.50, 0.08), (0.50, 0.08)),
    "scholar": ((0.50, 0.08), (0.50, 0.08), (0.94, 0.94), (0.94, 0.94)),
    "large": ((0.93, 0.60), (0.93, 0.60), (0.93, 0.60), (0.93, 0.60)),
}
_HARD_USD = (0.001, 0.003, 0.0032, 0.010)

_EASY_RULE = {
    "cheap": ((0.50, 0.50),) * 4,
    "engineer": ((1.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0)),
    "scholar": ((0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0)),
}
_EASY_USD = (0.001, 0.003, 0.0032)


@dataclass(frozen=True, eq=False)
class Planted:
    """A table together with the rule it was drawn from.

    Parameters
    ----------
    outcomes : Outcomes
        What a method may see: n prompts, m destinations, quality, cost in US dollars, latency in
        seconds, the topic as group, and the answers.
    expected : array (n, m)
        Expected quality of each cell under the planted rule.
    topic : array of int (n,)
        Topic of each prompt.
    difficult : array of int (n,)
        1 where the prompt is difficult.
    """

    outcomes: Outcomes
    expected: Float
    topic: Int
    difficult: Int

    def __post_init__(self) -> None:
        shape = (self.outcomes.n, self.outcomes.m)
        clean = _check.floats("planted.expected", self.expected, shape, low=0, high=1)
        object.__setattr__(self, "expected", clean)

    def take(self, rows: NDArray[np.integer]) -> Planted:
        """The problem of some rows."""
        return Planted(
            self.outcomes.take(rows), self.expected[rows], self.topic[rows], self.difficult[rows]
        )


def hard(n: int, rng: Generator) -> Planted:
    """Four destinations, none of which is best everywhere, answers right or wrong at random.

    A small one answers what is easy, two specialists answer what is difficult on their own
    topics, a large one is good at everything and best at nothing, at ten times the price. The
    best single destination earns 0.77; a router that reads the words earns 0.93 for less.

    Parameters
    ----------
    n : int
        Prompts.
    rng : Generator
        Source of randomness.

    Examples
    --------
    >>> import numpy as np
    >>> problem = hard(400, np.random.default_rng(0))
    >>> problem.outcomes.names
    ('small', 'engineer', 'scholar', 'large')
    >>> round(float(problem.expected.max(axis=1).mean()), 2)
    0.94
    """
    return _draw(n, rng, _HARD, _HARD_USD)


def easy(n: int, rng: Generator) -> Planted:
    """Three destinations and no noise: each topic has one that is always right.

    The cheap third answers half of everything (quality 0.5 in every cell), so that a budget has
    something to buy.

    Parameters
    ----------
    n : int
        Prompts.
    rng : Generator
        Source of randomness.
    """
    problem = _draw(n, rng, _EASY_RULE, _EASY_USD)
    return replace(problem, outcomes=replace(problem.outcomes, quality=problem.expected))


def as_arrays(problem: Planted, rng: Generator) -> Planted:
    """The same problem with arrays (n, 8) for inputs: topic, difficulty, and three of noise.

    Parameters
    ----------
    problem : Planted
        Any planted problem.
    rng : Generator
        Source of the noise.
    """
    n = problem.outcomes.n
    topics = np.eye(len(_TOPICS))[problem.topic]
    features = np.hstack([topics, problem.difficult[:, None], np.zeros((n, 3))])
    features += 0.15 * rng.standard_normal(features.shape)
    return replace(problem, outcomes=replace(problem.outcomes, inputs=features))


def shuffled(outcomes: Outcomes, rng: Generator) -> Outcomes:
    """The table with its outcomes dealt to other rows: nothing is left to learn.

    Quality, cost and latency of a row move together, away from its input and its answers. Every
    destination keeps its mean quality and cost; only the tie to what was said is cut.

    Parameters
    ----------
    outcomes : Outcomes
        Any table.
    rng : Generator
        Source of the permutation.
    """
    order = rng.permutation(outcomes.n)
    return replace(
        outcomes,
        quality=outcomes.quality[order],
        cost=outcomes.cost[order],
        latency=None if outcomes.latency is None else outcomes.latency[order],
        propensity=None if outcomes.propensity is None else outcomes.propensity[order],
    )


def blanked(outcomes: Outcomes, share: float, rng: Generator) -> Outcomes:
    """The table with a share of its cells never seen: quality, cost, latency and answer.

    Parameters
    ----------
    outcomes : Outcomes
        Any table. Its first row is kept whole.
    share : float
        Share of the cells to blank, in [0, 1].
    rng : Generator
        Chooses the cells.
    """
    share = _check.number("share", share, low=0.0, high=1.0)
    blank = rng.random((outcomes.n, outcomes.m)) < share
    blank[0] = False
    answers = None
    if outcomes.answers is not None:
        answers = outcomes.answers.copy()
        answers[blank] = None
    return replace(
        outcomes,
        quality=np.where(blank, np.nan, outcomes.quality),
        cost=np.where(blank, np.nan, outcomes.cost),
        latency=None if outcomes.latency is None else np.where(blank, np.nan, outcomes.latency),
        answers=answers,
    )


def _draw(
    n: int,
    rng: Generator,
    rule: Mapping[str, Sequence[tuple[float, float]]],
    usd: tuple[float, ...],
) -> Planted:
    n = _check.integer("n", n, low=1)
    if not isinstance(rng, Generator):
        raise InputError("rng", "be a numpy Generator", rng, "Pass numpy.random.default_rng(0).")
    topic = rng.integers(len(_TOPICS), size=n)
    difficult = rng.integers(2, size=n)
    texts = tuple(
        _prompt(int(which), bool(much), rng) for which, much in zip(topic, difficult, strict=True)
    )
    table = np.array(list(rule.values()))  # (m, topics, 2)
    expected = np.ascontiguousarray(table[:, topic, difficult].T)
    right = rng.random(expected.shape) < expected
    length = np.array([len(text) for text in texts])
    cost = np.array(usd) * (0.8 + length[:, None] / 300.0)
    cost = cost * rng.uniform(0.97, 1.03, size=expected.shape)
    outcomes = Outcomes(
        inputs=texts,
        names=tuple(rule),
        quality=right.astype(np.float64),
        cost=cost,
        latency=0.1 + 50.0 * cost,
        group=tuple(list(_TOPICS)[int(which)] for which in topic),
        answers=_answers(right, rng),
    )
    return Planted(outcomes, expected, topic, difficult)


def _prompt(topic: int, difficult: bool, rng: Generator) -> str:
    words = [
        *rng.choice(list(_TOPICS.values())[topic], size=3, replace=False),
        *rng.choice(_DIFFICULT if difficult else _EASY, size=2, replace=False),
        *rng.choice(_FILLER, size=int(rng.integers(3, 9)), replace=False),
    ]
    return " ".join(rng.permutation(words))


def _answers(right: NDArray[np.bool_], rng: Generator) -> NDArray[np.object_]:
    """Right answers agree and sound sure nine times in ten; wrong ones differ and hedge."""
    answers = np.empty(right.shape, dtype=object)
    truth = rng.integers(100, 1000, size=len(right))
    wrong = rng.integers(1000, 10000, size=right.shape)
    sure = np.where(rng.random(right.shape) < 0.9, right, ~right)
    for i, j in np.ndindex(right.shape):
        value = truth[i] if right[i, j] else wrong[i, j]
        answers[i, j] = (
            f"The answer is {value}, which follows directly."
            if sure[i, j]
            else f"Perhaps {value}, but I am not certain of that."
        )
    return answers
