r"""Actor: a small network that scores the actions at hand, and picks one.

A score is read from what there is (the state) and what the action is, by the same weights for
every action; so the actions may differ in number and order from step to step, and an action never
seen, described like one that was, is scored like it.

    z_a = w . tanh(S s + X x_a + b)         state s (p,), action x_a (q,), h hidden units
    log pi(a | s) = z_a - log sum_{allowed c} exp z_c

Trained in torch (`turnout.nn.scorer`), run in numpy.

>>> actor = Actor(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), np.ones(1))
>>> actor.pick(np.zeros(1), np.array([[0.0], [1.0]]), np.array([True, True]))
1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, _check
from turnout.core._check import Bool, Float
from turnout.parts.texts.encoder import Single, unit
from turnout.parts.texts.words import grams_of

__all__ = ["Actor", "Decision", "hashed"]


@dataclass(frozen=True, eq=False)
class Decision:
    """One choice made, for training.

    Parameters
    ----------
    state : array (p,)
    actions : array (k, q)
    allowed : array of bool (k,)
    chosen : int
        Row of `actions`.
    reward : float
        What followed it at once.
    """

    state: Float
    actions: Float
    allowed: Bool
    chosen: int
    reward: float = 0.0


@dataclass(frozen=True, eq=False)
class Actor:
    """A policy over actions described by vectors.

    Parameters
    ----------
    state : array (p, h)
    action : array (q, h)
    bias : array (h,)
    out : array (h,)
    """

    state: Float
    action: Float
    bias: Float
    out: Float

    def __post_init__(self) -> None:
        out = _check.floats("actor.out", self.out, (None,))
        h = len(out)
        for name in ("state", "action"):
            value = _check.floats(f"actor.{name}", getattr(self, name), (None, h))
            object.__setattr__(self, name, value)
        object.__setattr__(self, "bias", _check.floats("actor.bias", self.bias, (h,)))
        object.__setattr__(self, "out", out)

    def log_probs(self, state: Float, actions: Float, allowed: Bool) -> Float:
        """Log-probability of each action, (k,); minus infinity where not allowed.

        Parameters
        ----------
        state : array (p,)
        actions : array (k, q)
        allowed : array of bool (k,)

        Raises
        ------
        InputError
            No action is allowed.
        """
        if not allowed.any():
            raise InputError("allowed", "leave an action", allowed.tolist(), "Allow one to stop.")
        hidden = np.tanh(state @ self.state + self.bias + actions @ self.action)
        score = np.where(allowed, hidden @ self.out, -np.inf)
        score -= score.max()
        return np.asarray(score - np.log(np.exp(score).sum()))

    def pick(
        self, state: Float, actions: Float, allowed: Bool, *, rng: Generator | None = None
    ) -> int:
        """The likeliest action, the first of equals; or one drawn, where `rng` is given."""
        logs = self.log_probs(state, actions, allowed)
        if rng is None:
            # rounded, so that the order of summation in one batch or another breaks no tie
            return int(np.round(logs, 9).argmax())
        return int(rng.choice(len(logs), p=np.exp(logs)))


def hashed(texts: list[str], d: int) -> Single:
    """Words and word pairs of texts, hashed to d signed numbers, rows of length one, (n, d).

    Nothing is learned: equal texts have equal vectors in every process. Weinberger et al.,
    "Feature Hashing for Large Scale Multitask Learning", 2009, arXiv:0902.2206, eq. 2.
    """
    found = grams_of(texts)
    table = np.zeros((len(texts), d))
    place = (found.keys >> np.uint64(33)).astype(np.int64) % d
    sign = np.where((found.keys >> np.uint64(32)) & np.uint64(1), 1.0, -1.0)
    np.add.at(table, (found.row, place), sign)
    return unit(table)
