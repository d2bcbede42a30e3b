"""Double deep Q-learning of a small policy, in numpy: for decisions whose effect comes later.

A network Q(s) of two hidden layers gives a value to each of m actions in a state s of d numbers.
From a buffer of transitions (s, a, r, s') a batch is drawn and Q(s)[a] moved towards::

    y = r + gamma * Q_target(s')[argmax_a Q(s')[a]]

by the Huber loss, so that one network chooses and another, a copy made every `sync` steps, values
what was chosen. `offset(s)` (m columns of the state, by `base`) may be added to the output: the
network then learns only what differs from a value that is known.

Source: van Hasselt, Guez and Silver, "Deep Reinforcement Learning with Double Q-learning", 2015,
arXiv:1509.06461, equation 4; the buffer, the copy and the clipped error are of Mnih et al.,
"Human-level control through deep reinforcement learning", Nature 518 (2015).

Cost: a step O(batch * (d h + h^2 + h m)); a decision O(d h + h^2 + h m), some microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import _check
from turnout.core._check import Float, Int
from turnout.parts.learners.descent import Adam

__all__ = ["DoubleQ", "QNetwork", "new_network"]


@dataclass(frozen=True, eq=False)
class QNetwork:
    """A network of two hidden layers of rectified units, d -> h -> h -> m.

    Parameters
    ----------
    weights : tuple of arrays
        (d, h), (h,), (h, h), (h,), (h, m), (m,).
    base : bool
        Whether the first m entries of the state are added to the output.
    """

    weights: tuple[Float, ...]
    base: bool = False

    def __post_init__(self) -> None:
        h, m = _check.floats("network.weights[4]", self.weights[4], (None, None)).shape
        d = len(self.weights[0])
        shapes = ((d, h), (h,), (h, h), (h,), (h, m), (m,))
        for i, (array, shape) in enumerate(zip(self.weights, shapes, strict=True)):
            _check.expect_shape(f"network.weights[{i}]", array, shape)

    @property
    def m(self) -> int:
        """Number of actions."""
        return len(self.weights[5])

    def values(self, states: Float) -> Float:
        """Values (n, m), or (m,), of states (n, d), or (d,)."""
        a, b, c, d, e, f = self.weights
        hidden = np.maximum(states @ a + b, 0.0)
        hidden = np.maximum(hidden @ c + d, 0.0)
        out = hidden @ e + f
        return np.asarray(out + states[..., : self.m] if self.base else out)

    def copy(self) -> QNetwork:
        """The same numbers in arrays of its own."""
        return QNetwork(tuple(array.copy() for array in self.weights), self.base)

    def slopes(self, states: Float, error: Float) -> list[Float]:
        """Gradients of `sum(error * values(states))` in the weights, error (n, m)."""
        a, b, c, d, e, _ = self.weights
        one = np.maximum(states @ a + b, 0.0)
        two = np.maximum(one @ c + d, 0.0)
        back_two = (error @ e.T) * (two > 0)
        back_one = (back_two @ c.T) * (one > 0)
        return [
            states.T @ back_one,
            back_one.sum(axis=0),
            one.T @ back_two,
            back_two.sum(axis=0),
            two.T @ error,
            error.sum(axis=0),
        ]


def new_network(d: int, m: int, width: int, *, base: bool = False, rng: Generator) -> QNetwork:
    """A network whose output starts at zero (or at its base): He weights below, zero on top."""
    _check.integer("width", width, low=1)
    one = rng.standard_normal((d, width)) * np.sqrt(2.0 / d)
    two = rng.standard_normal((width, width)) * np.sqrt(2.0 / width)
    zero = np.zeros(width)
    weights = (one, zero, two, zero.copy(), np.zeros((width, m)), np.zeros(m))
    return QNetwork(weights, base)


class DoubleQ:
    """The learner: `add` transitions, call `step` now and then, read `network`.

    Parameters
    ----------
    network : QNetwork
        Changed in place.
    gamma : float
        Worth of the next value, in [0, 1); 0 looks at the reward alone.
    rate : float
        Step size of Adam, > 0.
    batch, buffer, sync : int
        Transitions a step, transitions kept, steps between copies; each >= 1.
    rng : Generator
        Draws the batches.
    """

    def __init__(
        self,
        network: QNetwork,
        *,
        gamma: float = 0.99,
        rate: float = 1e-3,
        batch: int = 64,
        buffer: int = 50_000,
        sync: int = 500,
        rng: Generator,
    ) -> None:
        self.network = network
        self.gamma = _check.number("gamma", gamma, low=0.0, high=1.0 - 1e-9)
        self.batch = _check.integer("batch", batch, low=1)
        self.sync = _check.integer("sync", sync, low=1)
        size = _check.integer("buffer", buffer, low=1)
        d = len(network.weights[0])
        self._target = network.copy()
        self._adam = Adam(list(network.weights), rate=rate)
        self._state, self._next = np.empty((size, d)), np.empty((size, d))
        self._action = np.empty(size, dtype=np.int64)
        self._reward = np.empty(size)
        self._rng = rng
        self._added = self._steps = 0

    def __len__(self) -> int:
        return min(self._added, len(self._reward))

    def add(self, state: Float, action: int, reward: float, following: Float) -> None:
        """Keep one transition; the oldest makes room."""
        at = self._added % len(self._reward)
        self._state[at], self._next[at] = state, following
        self._action[at], self._reward[at] = action, reward
        self._added += 1

    def targets(self, reward: Float, following: Float) -> Float:
        """What the values of the actions taken are moved towards, (n,)."""
        if self.gamma == 0.0:
            return reward
        best = self.network.values(following).argmax(axis=1)
        worth = self._target.values(following)[np.arange(len(best)), best]
        return np.asarray(reward + self.gamma * worth)

    def step(self) -> None:
        """One step on a batch drawn from what is kept; nothing while there is less than a batch."""
        if len(self) < self.batch:
            return
        rows: Int = self._rng.integers(len(self), size=self.batch)
        states, action = self._state[rows], self._action[rows]
        wanted = self.targets(self._reward[rows], self._next[rows])
        each = np.arange(self.batch)
        error = np.clip(self.network.values(states)[each, action] - wanted, -1.0, 1.0)
        slope = np.zeros((self.batch, self.network.m))
        slope[each, action] = error / self.batch
        self._adam.step(self.network.slopes(states, slope))
        self._steps += 1
        if self._steps % self.sync == 0:
            self._target = self.network.copy()
