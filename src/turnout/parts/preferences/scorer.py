"""The trained matcher: a gated sum of word vectors against those of each policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.learners.descent import Schedule, descend, sigmoid
from turnout.parts.preferences.policies import Policy, Talked, trimmed
from turnout.parts.texts.words import grams

__all__ = ["CrossScorer", "FittedCrossScorer"]

Single = NDArray[np.float64]


@dataclass(frozen=True)
class CrossScorer:
    """Recipe of a matcher that is trained on conversations and policies together.

    With x_t the hashed words of message t (length 1), p those of a policy, and . products::

        u_t = x_t E + sigmoid(x_t G + b) * u_{t-1}        what is wanted after message t
        s(policy) = c * u_t . (p F)                       its score
        s(none) = x_t . z + a                             the score of no policy

    The gate G learns which words keep what was said before and which replace it. E and F begin
    as one random table, so that a word never seen in training still counts where both hold it;
    but new policies in words that none of those trained on had are matched worse than by
    `Similarity`: what generalises is a new pairing of known words. Loss: cross-entropy over the
    policies of a batch and none; in each batch some policies are left out, and turns that wanted
    those must choose none.

    Parameters
    ----------
    d : int
        Length of a word's vector, >= 1.
    bits : int
        Words are hashed to 2^bits rows; 4 to 20.
    epochs, batch, patience : int
        Passes, conversations a step, and passes without gain on the conversations held out.
    rate, decay : float
        Step of Adam, weight decay.
    left_out : float
        Most policies left out of a batch, as a share; in [0, 1).
    tokens : int
        Most of a conversation that is read, in fours of characters.
    """

    d: int = 32
    bits: int = 13
    epochs: int = 30
    batch: int = 16
    patience: int = 5
    rate: float = 0.01
    decay: float = 0.01
    left_out: float = 0.5
    tokens: int = 2048

    def __post_init__(self) -> None:
        _check.integer("scorer.d", self.d, low=1)
        _check.integer("scorer.bits", self.bits, low=4, high=20)
        _check.number("scorer.left_out", self.left_out, low=0.0, high=0.99)
        _check.integer("scorer.tokens", self.tokens, low=1)
        self._schedule()

    def _schedule(self) -> Schedule:
        return Schedule(
            rate=self.rate,
            decay=self.decay,
            batch=self.batch,
            epochs=self.epochs,
            patience=self.patience,
        )

    def fit(
        self,
        talks: Sequence[Talked],
        routes: Sequence[Sequence[str]],
        policies: Sequence[Policy],
        *,
        rng: Generator,
    ) -> FittedCrossScorer:
        """Train on conversations whose every user turn has its route.

        Parameters
        ----------
        talks : n conversations
        routes : n sequences of str
            One a user turn; a name that is no policy counts as none.
        policies : sequence of Policy
            At least one.
        rng : Generator

        Raises
        ------
        InputError
            There is nothing to learn from, or routes and user turns disagree in number.
        """
        if not talks or not policies:
            rule = "hold a conversation and a policy"
            raise InputError("talks", rule, (len(talks), len(policies)), "Pass some of both.")
        column = {policy.name: j for j, policy in enumerate(policies)}
        target: list[Int] = []
        for i, (talk, wanted) in enumerate(zip(talks, routes, strict=True)):
            turns = sum(role == "user" for role, _ in talk)
            if len(wanted) != turns:
                rule = f"hold {turns} routes, one a user turn"
                raise InputError(f"routes[{i}]", rule, len(wanted), "Label every user turn.")
            target.append(np.array([column.get(name, len(policies)) for name in wanted], int))
        size = (1 << self.bits, self.d)
        table = rng.standard_normal(size) / np.sqrt(self.d)
        fitted = FittedCrossScorer(
            words=table.copy(),
            policy=table.copy(),
            gate=np.zeros(size),
            keep=np.full(self.d, 0.5),
            none=np.zeros(size[0]),
            level=np.array([1.0]),
            scale=np.array([4.0]),
            tokens=self.tokens,
        )
        steps = [_bags(talk, self.bits) for talk in talks]
        books = _stack([_bag(policy.text, self.bits) for policy in policies])
        parameters = fitted.parameters()

        def gradients(rows: Int) -> tuple[list[Any], list[Any]]:
            kept = rng.random(len(policies)) >= rng.uniform(0.0, self.left_out)
            return _gradients(fitted, [steps[i] for i in rows], books, _goal(rows), kept)

        def loss(rows: Int) -> float:
            all_ = np.ones(len(policies), dtype=np.bool_)
            return _loss(fitted, [steps[i] for i in rows], books, _goal(rows), all_)

        def _goal(rows: Int) -> Int:
            return np.concatenate([target[i] for i in rows])

        descend(parameters, gradients, loss, len(talks), self._schedule(), rng=rng)
        return fitted


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedCrossScorer:
    """The trained tables: see `CrossScorer` for the letters.

    Parameters
    ----------
    words, policy, gate : array (2^bits, d)
        E, F and G.
    keep : array (d,)
        b.
    none : array (2^bits,)
        z.
    level, scale : array (1,)
        a and c.
    tokens : int
    """

    words: Single
    policy: Single
    gate: Single
    keep: Single
    none: Single
    level: Single
    scale: Single
    tokens: int

    @property
    def bits(self) -> int:
        """Rows are 2^bits."""
        return len(self.words).bit_length() - 1

    def parameters(self) -> list[Single]:
        """What is trained, in the order of the gradients."""
        return [
            self.words, self.policy, self.gate, self.keep, self.none, self.level, self.scale,
        ]  # fmt: skip

    def scores(self, talks: Sequence[Talked], policies: Sequence[Policy]) -> Float:
        """Probability (n, p + 1) of each policy, and of none, after the last message."""
        if not talks or not policies:
            return np.ones((len(talks), 1 + len(policies))) / (1 + len(policies))
        steps = [_bags(trimmed(talk, self.tokens), self.bits) for talk in talks]
        books = _stack([_bag(policy.text, self.bits) for policy in policies])
        pass_ = _Pass(self, steps, books)
        return np.asarray(_probabilities(pass_.logits(pass_.last)))


def _probabilities(logits: Float) -> Float:
    """Softmax of each row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


#: Buckets of a text, and whether the user said it.
_Step = tuple[Int, bool]


def _bag(text: str, bits: int) -> Int:
    """Rows of the distinct words of a text."""
    keys = grams(text)
    single = keys[: (len(keys) + 1) // 2]  # the words stand before the pairs
    return np.unique((single >> np.uint64(64 - bits)).astype(np.int64))


def _bags(talk: Talked, bits: int) -> list[_Step]:
    return [
        (_bag(text if role == "user" else f"{role}: {text}", bits), role == "user")
        for role, text in talk
    ]


@dataclass(frozen=True, eq=False)
class _Bags:
    """Texts as rows of length 1 over the buckets that any of them touches.

    Parameters
    ----------
    rows : sparse matrix (n, t)
    touched : array of int (t,)
        Which buckets those are, increasing.
    """

    rows: Any
    touched: Int


def _stack(bags: Sequence[Int]) -> _Bags:
    from scipy.sparse import csr_matrix

    ends = np.append(0, np.cumsum([len(bag) for bag in bags]))
    data = np.concatenate([np.full(len(bag), 1 / np.sqrt(max(len(bag), 1))) for bag in bags])
    touched, index = np.unique(np.concatenate(bags), return_inverse=True)
    return _Bags(csr_matrix((data, index, ends), shape=(len(bags), len(touched))), touched)


class _Pass:
    """One pass over some conversations: what is wanted after each of their messages."""

    def __init__(
        self, fitted: FittedCrossScorer, talks: Sequence[list[_Step]], books: _Bags
    ) -> None:
        self.fitted, self.books = fitted, books
        self.said = _stack([bag for talk in talks for bag, _ in talk])
        sizes = np.array([len(talk) for talk in talks])
        starts = np.cumsum(sizes) - sizes
        self.user = np.flatnonzero([mine for talk in talks for _, mine in talk])
        self.last = np.cumsum(sizes) - 1
        touched = self.said.touched
        self.new = self.said.rows @ fitted.words[touched]
        self.open = sigmoid(self.said.rows @ fitted.gate[touched] + fitted.keep)
        #: Rows of the second, third ... messages of all conversations that have one.
        self.ages = [starts[sizes > age] + age for age in range(1, int(sizes.max()))]
        self.state = self.new.copy()
        for rows in self.ages:
            self.state[rows] += self.open[rows] * self.state[rows - 1]
        self.meant = books.rows @ fitted.policy[books.touched]

    def logits(self, rows: Int) -> Float:
        """Scores (r, p + 1) after some messages."""
        none = self.said.rows[rows] @ self.fitted.none[self.said.touched] + self.fitted.level[0]
        fit = self.fitted.scale[0] * self.state[rows] @ self.meant.T
        return np.hstack([fit, none[:, None]])


def _left(target: Int, kept: NDArray[np.bool_]) -> Int:
    """Targets among the kept policies, the others none."""
    place = np.where(kept, np.cumsum(kept) - 1, kept.sum())
    return np.asarray(np.append(place, kept.sum())[target])


def _loss(
    fitted: FittedCrossScorer,
    talks: Sequence[list[_Step]],
    books: _Bags,
    target: Int,
    kept: NDArray[np.bool_],
) -> float:
    pass_ = _Pass(fitted, talks, books)
    chance = _probabilities(pass_.logits(pass_.user)[:, np.append(kept, True)])
    right = chance[np.arange(len(target)), _left(target, kept)]
    return float(-np.log(np.maximum(right, 1e-300)).mean())


def _gradients(
    fitted: FittedCrossScorer,
    talks: Sequence[list[_Step]],
    books: _Bags,
    target: Int,
    kept: NDArray[np.bool_],
) -> tuple[list[Any], list[Any]]:
    """Gradients of the mean loss, and the rows they are for."""
    pass_ = _Pass(fitted, talks, books)
    rows, scale = pass_.user, fitted.scale[0]
    slope = _probabilities(pass_.logits(rows)[:, np.append(kept, True)])
    slope[np.arange(len(target)), _left(target, kept)] -= 1.0
    slope /= len(target)
    fit, none = slope[:, :-1], slope[:, -1]
    meant = pass_.meant[kept]
    state = np.zeros_like(pass_.state)
    state[rows] = scale * fit @ meant
    gate = np.zeros_like(state)
    for age in pass_.ages[::-1]:
        gate[age] = state[age] * pass_.state[age - 1]
        state[age - 1] += state[age] * pass_.open[age]
    gate *= pass_.open * (1 - pass_.open)
    by_policy = np.zeros_like(pass_.meant)
    by_policy[kept] = scale * fit.T @ pass_.state[rows]
    spoken = pass_.said.rows.T
    return (
        [
            spoken @ state,
            books.rows.T @ by_policy,
            spoken @ gate,
            gate.sum(axis=0),
            pass_.said.rows[rows].T @ none,
            np.array([none.sum()]),
            np.array([(fit * (pass_.state[rows] @ meant.T)).sum()]),
        ],
        [
            pass_.said.touched,
            books.touched,
            pass_.said.touched,
            None,
            pass_.said.touched,
            None,
            None,
        ],
    )
