"""Gradient descent for the few small networks that are trained without a tensor library.

Adam in place, and one loop around it: shuffled batches, some rows held out, and the parameters
of the epoch that was best on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import _check
from turnout.core._check import Float, Int

__all__ = ["Adam", "Schedule", "cross_entropy", "descend", "sigmoid"]

#: Gradients of a batch, and for each parameter the rows they are for (None = all).
Gradients = tuple[Sequence[NDArray[Any]], Sequence[NDArray[np.integer[Any]] | None] | None]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


#: Numbers updated at once: few enough to stay in the cache, where a dozen passes cost little.
_BLOCK = 1 << 15

#: Fewest rows of which some are held out; below, every epoch is run on all of them.
_ENOUGH = 40


class Adam:
    """Adam with weight decay kept apart from the gradient ("AdamW"), and steps on single rows.

    Sources: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
    arXiv:1412.6980, algorithm 1; Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
    ICLR 2019, arXiv:1711.05101, algorithm 2.

    Parameters
    ----------
    parameters : sequence of float arrays
        Changed in place.
    rate : float
        Step size, > 0.
    decay : float
        Share of a parameter, times the rate, taken off at each step; >= 0.
    """

    def __init__(
        self, parameters: Sequence[NDArray[Any]], *, rate: float, decay: float = 0.0
    ) -> None:
        self.parameters = list(parameters)
        self.rate = _check.number("rate", rate, low=1e-12)
        self.decay = _check.number("decay", decay, low=0.0)
        self._first = [np.zeros_like(item) for item in self.parameters]
        self._second = [np.zeros_like(item) for item in self.parameters]
        self._time = 0

    def step(
        self,
        gradients: Sequence[NDArray[Any]],
        rows: Sequence[NDArray[np.integer[Any]] | None] | None = None,
    ) -> None:
        """Take one step.

        Parameters
        ----------
        gradients : sequence of arrays
            One a parameter, of its shape, or of its touched rows only.
        rows : sequence of (array of int or None), optional
            For each parameter the rows its gradient is for, each row once; None = all. Rows left
            out keep their moments as they are, which is what makes a step on a wide embedding as
            cheap as the words of its batch.
        """
        self._time += 1
        # both bias corrections folded into the rate and the epsilon
        second_share = float(np.sqrt(1 - _BETA2**self._time))
        scale = self.rate * second_share / (1 - _BETA1**self._time)
        for i, gradient in enumerate(gradients):
            item, first, second = self.parameters[i], self._first[i], self._second[i]
            touched = None if rows is None else rows[i]
            block = max(1, _BLOCK // max(1, int(np.prod(item.shape[1:]))))
            for start in range(0, len(gradient), block):
                stop = start + block
                part: Any = slice(start, stop) if touched is None else touched[start:stop]
                g = gradient[start:stop]
                m, v, x = first[part], second[part], item[part]
                m = m * _BETA1
                m += (1 - _BETA1) * g
                v = v * _BETA2
                v += (1 - _BETA2) * (g * g)
                first[part], second[part] = m, v
                np.sqrt(v, out=v)
                v += _EPSILON * second_share
                m /= v
                m *= scale
                if self.decay:
                    m += (self.rate * self.decay) * x
                item[part] = x - m


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to descend.

    Parameters
    ----------
    rate : float
        Step size of Adam, > 0.
    decay : float
        Decoupled weight decay, >= 0.
    batch : int
        Rows a step, >= 1.
    epochs : int
        Most passes over the rows, >= 1.
    patience : int
        Passes without a better held-out loss before it stops, >= 1.
    held_out : float
        Share of the rows kept to choose the epoch by; in [0, 0.5]. 0 runs all epochs.
    """

    rate: float
    decay: float
    batch: int
    epochs: int
    patience: int = 3
    held_out: float = 0.1

    def __post_init__(self) -> None:
        _check.number("rate", self.rate, low=1e-9)
        _check.number("decay", self.decay, low=0.0)
        _check.integer("batch", self.batch, low=1)
        _check.integer("epochs", self.epochs, low=1)
        _check.integer("patience", self.patience, low=1)
        _check.number("held_out", self.held_out, low=0.0, high=0.5)


def descend(
    parameters: Sequence[NDArray[Any]],
    gradients: Callable[[Int], Gradients],
    loss: Callable[[Int], float],
    n: int,
    schedule: Schedule,
    *,
    rng: Generator,
) -> int:
    """Train `parameters` in place; returns the number of passes whose result was kept.

    Parameters
    ----------
    parameters : sequence of float arrays
    gradients : callable
        Rows of a batch to the gradients of its mean loss.
    loss : callable
        Rows to their mean loss, without noise.
    n : int
        Number of rows.
    schedule : Schedule
    rng : Generator
        Shuffles and holds out; `gradients` may draw from it too.
    """
    order = rng.permutation(n)
    kept_out = round(n * schedule.held_out) if n >= _ENOUGH else 0
    held, rows = order[:kept_out], order[kept_out:]
    adam = Adam(parameters, rate=schedule.rate, decay=schedule.decay)
    best, best_epoch = (loss(held) if kept_out else np.inf), 0
    kept = [item.copy() for item in parameters] if kept_out else []
    for epoch in range(1, schedule.epochs + 1):
        rows = rng.permutation(rows)
        for start in range(0, len(rows), schedule.batch):
            adam.step(*gradients(rows[start : start + schedule.batch]))
        if not kept_out:
            best_epoch = epoch
            continue
        now = loss(held)
        if now < best:
            best, best_epoch = now, epoch
            for copy, item in zip(kept, parameters, strict=True):
                copy[...] = item
        elif epoch - best_epoch >= schedule.patience:
            break
    for copy, item in zip(kept, parameters, strict=False):
        item[...] = copy
    return best_epoch


def sigmoid(x: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """`1 / (1 + exp(-x))` without overflow, in the type of x."""
    return np.asarray(0.5 * (np.tanh(0.5 * x) + 1.0))


def cross_entropy(logits: NDArray[np.floating[Any]], quality: Float) -> tuple[float, Float]:
    """Mean binary cross-entropy over the seen cells, and its gradient in the logits (n, m).

    `quality` may lie anywhere in [0, 1]; NaN = never seen. Nothing seen: loss and gradient 0.
    """
    seen = ~np.isnan(quality)
    count = max(int(seen.sum()), 1)
    target = np.where(seen, quality, 0.0)
    each = np.where(seen, np.logaddexp(0.0, logits) - target * logits, 0.0)
    slope = np.where(seen, sigmoid(logits) - target, 0.0) / count
    return float(each.sum() / count), slope
