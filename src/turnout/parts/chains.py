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

from turnout.core import (
    Assignment,
    Budget,
    Frontier,
    InputError,
    Inputs,
    Outcomes,
    Pool,
    _check,
)
from turnout.core._check import Bool, Float, Int
from turnout.parts.learners.judge import Judge, fit_judge
from turnout.parts.pareto import non_dominated
from turnout.parts.priced import columns
from turnout.parts.texts.words import texts_of
from turnout.parts.tradeoffs import best_point, filled

__all__ = [
    "Alphabet",
    "Chain",
    "KeptChain",
    "KeptChains",
    "Played",
    "alphabet_of",
    "judged_table",
    "keep_chains",
]

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
    def most(self) -> int:
        """Most destinations a chain asks."""
        return self.length

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
            for asked in itertools.permutations(range(self.m), size):
                for levels in itertools.product(range(k), repeat=size - 1):
                    ends = (*levels, k)
                    word = [c * self.each + v for c, v in zip(asked, ends, strict=True)]
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
        prior = other.prior(asked)
        for j in range(m):
            cells = [""] * len(rows) if outcomes.answers is None else outcomes.answers[rows, j]
            said = [cell if isinstance(cell, str) else "" for cell in cells]
            score[rows, j] = other.score(asked, said, np.full(len(rows), j), prior)
    latency = np.zeros((n, m)) if outcomes.latency is None else outcomes.latency
    return (
        Played(
            score=score,
            quality=filled(outcomes.quality),
            cost=filled(outcomes.cost),
            latency=filled(latency),
        ),
        judge,
    )


@dataclass(frozen=True)
class KeptChain:
    """One kept chain in words.

    Parameters
    ----------
    names : tuple of str
        Models in the order they are asked.
    thresholds : tuple of float
        Judged quality at which each one's answer is kept; minus infinity for the last.
    quality, cost, latency : float
        Means over the table it was found on.
    """

    names: tuple[str, ...]
    thresholds: tuple[float, ...]
    quality: float
    cost: float
    latency: float


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptChains:
    """Some chains and the judge of answers: a sequential router.

    A budget takes one chain by the figures of the table, `argmax quality - price * cost`; all
    items of a batch take the same, and where each stops is read from its answers. Chains that name
    a destination which is down or not there are passed over.

    Parameters
    ----------
    names : tuple of str
    judge : Judge
    asked : array of int (p, s)
        Columns in the order they are asked; -1 after the last.
    thresholds : array (p, s)
    ends : array (p, s)
        Share of the items that end at each step.
    figures : array (p, 3)
        Mean quality, cost and latency on the table.
    """

    names: tuple[str, ...]
    judge: Judge
    asked: Int
    thresholds: Float
    ends: Float
    figures: Float

    def cascades(self) -> tuple[KeptChain, ...]:
        """The kept cascades by rising cost, the beaten single models left out."""
        points = self.figures * np.array([1.0, -1.0, -1.0])
        good = np.flatnonzero(non_dominated(points))
        order = good[np.lexsort((self.figures[good, 0], self.figures[good, 1]))]
        return tuple(
            KeptChain(
                tuple(self.names[j] for j in self.asked[i] if j >= 0),
                tuple(self.thresholds[i][self.asked[i] >= 0].tolist()),
                *self.figures[i].tolist(),
            )
            for i in order
        )

    def curve(self) -> Frontier:
        """What each budget buys, by the figures of the table."""
        return Frontier(self.figures[:, 1], self.figures[:, 0])

    def route(self, inputs: Inputs, pool: Pool, *, budget: Budget, rng: Generator) -> Assignment:
        """The plan: whom to ask in which order, and the share of items that ends at each step.

        Raises
        ------
        InputError
            The pool holds an unknown model, or the budget cannot be met by the figures.
        """
        n = len(texts_of(inputs))
        pick, place = self._pick(pool, budget)
        asked = self.asked[pick][self.asked[pick] >= 0]
        index = np.tile(place[asked], (n, 1))
        weight = np.tile(self.ends[pick][: len(asked)], (n, 1))
        return Assignment(index, weight, pool.m)

    def proceed(
        self,
        inputs: Inputs,
        asked: Int,
        answers: Sequence[Sequence[str]],
        pool: Pool,
        *,
        budget: Budget,
        rng: Generator,
    ) -> Int:
        """Next model of each input, (n,); -1 = keep the last answer.

        A row that left the cascade of this budget keeps what it has.
        """
        texts, steps = texts_of(inputs), np.asarray(asked, dtype=np.int64)
        n = len(texts)
        if steps.ndim != 2 or len(steps) != n or len(answers) != n:
            rule = f"hold one row of steps for each of the {n} inputs"
            raise InputError("asked and answers", rule, steps.shape, "Pass them aligned.")
        pick, place = self._pick(pool, budget)
        chain = place[self.asked[pick][self.asked[pick] >= 0]]
        following = np.full(n, -1, dtype=np.int64)
        s = steps.shape[1]
        if s == 0:
            following[:] = chain[0]
            return following
        if s >= len(chain) or n == 0:
            return following
        on = (steps == chain[:s]).all(axis=1)
        rows = np.flatnonzero(on)
        if len(rows):
            column = np.full(len(rows), self.asked[pick, s - 1])
            judged = self.judge.score(
                [texts[int(i)] for i in rows], [answers[int(i)][-1] for i in rows], column
            )
            following[rows[judged < self.thresholds[pick, s - 1]]] = chain[s]
        return following

    def _pick(self, pool: Pool, budget: Budget) -> tuple[int, Int]:
        """The row of the cascade that a budget takes, and the place of each column in the pool."""
        known = columns(self.names, pool)
        place = np.full(len(self.names) + 1, -1, dtype=np.int64)  # the last for what is not asked
        up = np.flatnonzero(pool.available)
        place[known[up]] = up
        usable = ((self.asked < 0) | (place[self.asked] >= 0)).all(axis=1)
        rows = np.flatnonzero(usable)
        best = best_point(self.figures[rows, 0], self.figures[rows, 1], budget)
        return int(rows[best]), place[:-1]


def keep_chains(
    names: tuple[str, ...], judge: Judge, table: Played, chosen: Sequence[Chain]
) -> KeptChains:
    """Chains that are to be kept, as a router.

    Parameters
    ----------
    names : tuple of str
        The m destinations.
    judge : Judge
        Of answers to come.
    table : Played
        For their figures.
    chosen : sequence of Chain
        One or more; a budget that several meet alike takes the first.
    """
    shape = (len(chosen), max(len(chain.columns) for chain in chosen))
    asked, cut = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf)
    ends = np.zeros(shape)
    for row, chain in enumerate(chosen):
        s = len(chain.columns)
        asked[row, :s], cut[row, :s] = chain.columns, chain.thresholds
        ends[row, :s] = table.ends(chain)
    return KeptChains(
        names=names,
        judge=judge,
        asked=asked,
        thresholds=cut,
        ends=ends,
        figures=np.array([table.play(chain) for chain in chosen]),
    )
