"""Chains: models asked one after another, each kept if its answer is judged good enough.

A chain lists s destinations and a threshold for each but the last, whose answer is always kept.
Written with letters of an alphabet of m (k + 1): letter j (k + 1) + l says "ask j; go on unless its
answer is judged at or above the l-th threshold of j", and l = k "ask j and keep what it says". So
a chain is a word that ends with its first letter of the last kind, and no destination comes twice.

On a table every chain can be played without asking anybody: what each answer was worth, what it
cost and how it was judged is known. For item i, with `going` = 1 at the start::

    cost    += going * cost[i, j]        latency likewise
    quality += going * kept * quality[i, j],   kept = [score[i, j] >= threshold] or last
    going   *= 1 - kept

(FrugalGPT, 2023, arXiv:2305.05176, section 3.) Scores must come from a judge that has not seen the
row, or every chain looks too good.

Cost: O(n s) a chain.

Examples
--------
>>> import numpy as np
>>> table = Played(
...     score=np.array([[0.9, 0.5], [0.2, 0.5]]),
...     quality=np.array([[1.0, 1.0], [0.0, 1.0]]),
...     cost=np.array([[1.0, 4.0], [1.0, 4.0]]),
...     latency=np.ones((2, 2)),
... )
>>> alphabet = Alphabet(np.array([[0.5], [0.5]]))
>>> table.play(alphabet.read((0, 3)))  # the first at its threshold, then the second
(1.0, 3.0, 1.5)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, Outcomes, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.learners.judge import Judge, fit_judge
from turnout.parts.texts.words import texts_of

__all__ = ["Alphabet", "Chain", "Played", "Rewards", "alphabet_of", "judged_table"]

_FOLDS = 4


@dataclass(frozen=True)
class Chain:
    """Whom to ask, in order, and how good an answer must be to be kept.

    Parameters
    ----------
    columns : tuple of int
        Destinations, none twice.
    thresholds : tuple of float
        One each; minus infinity for the last.

    Raises
    ------
    InputError
        It is empty, asks twice, or would not keep the last answer.
    """

    columns: tuple[int, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.columns or len(set(self.columns)) != len(self.columns):
            rule = "ask one destination or more, none twice"
            raise InputError("chain.columns", rule, self.columns, "Drop the repeated.")
        if len(self.thresholds) != len(self.columns) or self.thresholds[-1] != -np.inf:
            rule = "hold one a destination, minus infinity the last"
            raise InputError("chain.thresholds", rule, self.thresholds, "Keep the last answer.")


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The letters of chains over m destinations with k thresholds each.

    Parameters
    ----------
    levels : array (m, k)
        Thresholds of each destination; k may be 0.
    length : int
        Most destinations a chain asks, >= 1; m where 0.
    """

    levels: Float
    length: int = 0

    def __post_init__(self) -> None:
        levels = _check.floats("alphabet.levels", self.levels, (None, None))
        object.__setattr__(self, "levels", levels)
        length = _check.integer("alphabet.length", self.length, low=0)
        object.__setattr__(self, "length", min(length or len(levels), len(levels)))

    @property
    def m(self) -> int:
        """Number of destinations."""
        return len(self.levels)

    @property
    def each(self) -> int:
        """Letters a destination has: k + 1."""
        return int(self.levels.shape[1]) + 1

    @property
    def letters(self) -> int:
        """Number of letters."""
        return self.m * self.each

    @property
    def terminal(self) -> Bool:
        """Which letters end a chain, (letters,)."""
        return np.asarray(np.arange(self.letters) % self.each == self.each - 1)

    def allowed(self, tokens: Int) -> Bool:
        """Letters that may come at each place, (b, length, letters), given those before it.

        No destination twice; at the last place only what ends.
        """
        whose = np.arange(self.letters) // self.each
        asked = np.where(tokens >= 0, tokens // self.each, -1)
        free = np.ones((len(tokens), self.length, self.letters), dtype=np.bool_)
        for step in range(1, self.length):
            free[:, step] = free[:, step - 1] & (whose != asked[:, step - 1, None])
        free[:, -1] &= self.terminal
        return free

    def read(self, word: Sequence[int]) -> Chain:
        """The chain of a word; what stands after its end (-1) is nothing."""
        letters = [int(letter) for letter in word if letter >= 0]
        columns = tuple(letter // self.each for letter in letters)
        levels = [letter % self.each for letter in letters]
        thresholds = [
            -np.inf if level == self.each - 1 else float(self.levels[column, level])
            for column, level in zip(columns, levels, strict=True)
        ]
        return Chain(columns, tuple(thresholds))

    def words(self) -> Iterator[tuple[int, ...]]:
        """Every chain there is, as a word padded by -1; `count` of them."""
        k = self.each - 1
        for size in range(1, self.length + 1):
            for columns in itertools.permutations(range(self.m), size):
                for levels in itertools.product(range(k), repeat=size - 1):
                    ends = (*levels, k)
                    word = [c * self.each + v for c, v in zip(columns, ends, strict=True)]
                    yield (*word, *[-1] * (self.length - size))

    def count(self) -> int:
        """How many chains there are."""
        k, total, ways = self.each - 1, 0, 1
        for size in range(1, self.length + 1):
            ways *= self.m - size + 1
            total += ways * k ** (size - 1)
        return total


@dataclass(frozen=True, eq=False, kw_only=True)
class Played:
    """A table on which chains are played.

    Parameters
    ----------
    score : array (n, m)
        How good each answer is judged to be, by a judge that has not seen the row.
    quality, cost, latency : array (n, m)
        What it was worth and took; no blanks.
    """

    score: Float
    quality: Float
    cost: Float
    latency: Float

    def __post_init__(self) -> None:
        shape = self.score.shape
        for field in ("score", "quality", "cost", "latency"):
            value = _check.floats(f"played.{field}", getattr(self, field), shape)
            object.__setattr__(self, field, value)

    def play(self, chain: Chain) -> tuple[float, float, float]:
        """Mean quality, cost and latency of a chain over the table."""
        rows = np.arange(len(self.score))
        total = np.zeros(3)
        for j, threshold in zip(chain.columns, chain.thresholds, strict=True):
            kept = self.score[rows, j] >= threshold
            total[0] += self.quality[rows[kept], j].sum()
            total[1] += self.cost[rows, j].sum()
            total[2] += self.latency[rows, j].sum()
            rows = rows[~kept]
            if not len(rows):
                break
        quality, cost, latency = (total / len(self.score)).tolist()
        return quality, cost, latency

    def ends(self, chain: Chain) -> Float:
        """Share of the items that end at each step, (s,)."""
        going = np.ones(len(self.score), dtype=np.bool_)
        shares = []
        for j, threshold in zip(chain.columns, chain.thresholds, strict=True):
            kept = going & (self.score[:, j] >= threshold)
            shares.append(float(kept.mean()))
            going &= ~kept
        return np.array(shares)


class Rewards:
    """Rewards (b, d) in [0, 1] of words (b, length); each word is played once and remembered.

    Quality from the worst single (0) to the oracle (1), and the saved shares of the cost and the
    latency of the dearest and the slowest single.

    Parameters
    ----------
    alphabet : Alphabet
    table : Played
    d : int
        2 or 3 objectives.
    """

    def __init__(self, alphabet: Alphabet, table: Played, d: int) -> None:
        self.alphabet, self.table, self.d = alphabet, table, d
        self.known: dict[tuple[int, ...], Float] = {}
        single = table.quality.mean(axis=0)
        self._low = float(single.min())
        self._room = max(float(table.quality.max(axis=1).mean()) - self._low, 1e-12)
        self._top = np.maximum(
            [table.cost.mean(axis=0).max(), table.latency.mean(axis=0).max()], 1e-300
        )

    def __call__(self, tokens: Int) -> Float:
        """Rewards of these words."""
        return np.stack([self._one(tuple(word)) for word in tokens.tolist()])

    def _one(self, word: tuple[int, ...]) -> Float:
        if word not in self.known:
            quality, *spent = self.table.play(self.alphabet.read(word))
            saved = 1.0 - np.array(spent) / self._top
            found = np.append((quality - self._low) / self._room, saved)
            self.known[word] = np.clip(found[: self.d], 0.0, 1.0)
        return self.known[word]


def alphabet_of(table: Played, levels: int, length: int) -> Alphabet:
    """The cascades over a table: thresholds evenly within the middle 90 % of each model's scores.

    Not at quantiles: a judge that is sure has most of its scores at two values, and a threshold
    inside such a heap would cut other answers by chance.

    Parameters
    ----------
    table : Played
    levels : int
        Thresholds a model, >= 0.
    length : int
        Most models a cascade asks, >= 1.
    """
    low, high = np.quantile(table.score, (0.05, 0.95), axis=0)
    share = np.arange(1, levels + 1) / (levels + 1)
    return Alphabet(low[:, None] + (high - low)[:, None] * share, length)


def judged_table(
    outcomes: Outcomes, *, penalty: float = 1.0, rng: Generator
) -> tuple[Played, Judge]:
    """A table to play cascades on, each answer judged by folds that it is not in, and a judge.

    Parameters
    ----------
    outcomes : Outcomes
    penalty : float
        Of the judge, > 0.
    rng : Generator
        Cuts the folds.

    Returns
    -------
    Played
        Scores, qualities, costs and latencies (n, m), blanks at their column's mean.
    Judge
        Fitted on all rows, for answers to come.
    """
    texts = texts_of(outcomes.inputs)
    n, m = outcomes.n, outcomes.m
    judge = fit_judge(texts, outcomes.answers, outcomes.quality, penalty=penalty)
    fold = rng.permutation(np.arange(n) % _FOLDS)
    score = np.empty((n, m))
    for part in range(_FOLDS):
        rows, others = np.flatnonzero(fold == part), np.flatnonzero(fold != part)
        if not len(rows):
            continue
        other = judge
        if len(others) and bool(outcomes.seen[others].any(axis=0).all()):
            seen = outcomes.take(others)
            other = fit_judge(seen.inputs, seen.answers, seen.quality, penalty=penalty)
        asked = [texts[int(i)] for i in rows]
        for j in range(m):
            cells = [""] * len(rows) if outcomes.answers is None else outcomes.answers[rows, j]
            said = [cell if isinstance(cell, str) else "" for cell in cells]
            score[rows, j] = other.score(asked, said, np.full(len(rows), j))
    latency = np.zeros((n, m)) if outcomes.latency is None else outcomes.latency
    return (
        Played(
            score=score,
            quality=_filled(outcomes.quality),
            cost=_filled(outcomes.cost),
            latency=_filled(latency),
        ),
        judge,
    )


def _filled(values: Float) -> Float:
    seen = ~np.isnan(values)
    mean = np.where(seen, values, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return np.where(seen, values, mean)
