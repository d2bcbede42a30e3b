"""A network of one wide hidden layer over sparse rows, and how it is trained.

Equations, with the variable of each symbol::

    h = relu(x W + c)                 hidden (n, width), with dropout while training
    z = h U + a                       logits (n, m)

W (v, width) is `embed`, c is `shift`, U (width, m) is `read`, a (m,) is `bias`. From Galke, Scherp,
"Bag-of-Words vs. Graph vs. Sequence in Text Classification", 2022, arXiv:2109.03777. Only the rows
of W whose words stand in a batch are touched by its step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core._check import Float, Int
from turnout.parts.learners.descent import Schedule, cross_entropy, descend

__all__ = ["Loss", "Wide", "fit_wide", "softmax_entropy"]

Single: TypeAlias = NDArray[np.float32]

#: Logits (n, m) and targets (n, m) to the mean loss and its gradient in the logits.
Loss: TypeAlias = Callable[[NDArray[np.floating[Any]], Float], tuple[float, Float]]

#: Spread of W at the start. From 1 the words hardly move it and the outputs fit its chance; from
#: much less it learns the table by heart before it is any good.
_START = np.float32(0.2)


@dataclass(frozen=True, eq=False)
class Wide:
    """The trained network.

    Parameters
    ----------
    embed : array of float32 (v, width)
    shift : array of float32 (width,)
    read : array of float32 (width, m)
    bias : array of float32 (m,)
    """

    embed: Single
    shift: Single
    read: Single
    bias: Single

    def logits(self, rows: Any) -> Float:
        """Logits (n, m) of rows (n, v), sparse or not."""
        return self.above(rows @ self.embed)

    def above(self, total: Any) -> Float:
        """Logits (n, m) of rows that are multiplied by `embed` already, (n, width)."""
        hidden = np.maximum(total + self.shift, 0.0)
        return np.asarray(hidden @ self.read + self.bias).astype(np.float64)


def fit_wide(
    rows: Any,
    target: Float,
    schedule: Schedule,
    *,
    width: int,
    dropout: float,
    bias: Float,
    loss: Loss = cross_entropy,
    rng: Generator,
) -> Wide:
    """Train from rows to targets; the best held-out epoch is kept.

    Parameters
    ----------
    rows : sparse array of float32 (n, v)
        In rows (csr).
    target : array (n, m)
    schedule : Schedule
    width : int
        Hidden units, >= 1.
    dropout : float
        Share of hidden units left out at each step, in [0, 1).
    bias : array (m,)
        Where `bias` starts. U starts at zero, so this is what is told before any step.
    loss : callable
        By default cross-entropy of a sigmoid for each output.
    rng : Generator
    """
    from scipy import sparse

    n, v = rows.shape
    embed = _START * rng.standard_normal((v, width), dtype=np.float32)
    shift = np.zeros(width, dtype=np.float32)
    read = np.zeros((width, target.shape[1]), dtype=np.float32)
    start = bias.astype(np.float32)
    keep = 1.0 - dropout

    def gradients(chosen: Int) -> Any:
        batch = rows[chosen]
        # the words of this batch, renumbered: every product below is as small as they are few
        used, batch.indices = np.unique(batch.indices, return_inverse=True)
        shape = (len(chosen), len(used))
        batch = sparse.csr_array((batch.data, batch.indices, batch.indptr), shape)
        total = batch @ embed[used] + shift
        mask = (total > 0) & (rng.random(total.shape, dtype=np.float32) < keep)
        hidden = np.where(mask, total / np.float32(keep), np.float32(0))
        slope = loss(hidden @ read + start, target[chosen])[1].astype(np.float32)
        back = np.where(mask, (slope @ read.T) / np.float32(keep), np.float32(0))
        each = [batch.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]
        return each, (used, None, None, None)

    def held_out(chosen: Int) -> float:
        hidden = np.maximum(rows[chosen] @ embed + shift, 0.0)
        return loss(hidden @ read + start, target[chosen])[0]

    descend([embed, shift, read, start], gradients, held_out, n, schedule, rng=rng)
    return Wide(embed, shift, read, start)


def softmax_entropy(logits: NDArray[np.floating[Any]], target: Float) -> tuple[float, Float]:
    """Mean cross-entropy of a softmax over the outputs, and its gradient in the logits (n, m).

    Targets are >= 0 and need not sum to 1; NaN = never seen. A row that sums to 0 says nothing.
    """
    mass = np.where(np.isnan(target), 0.0, target)
    total = mass.sum(axis=1, keepdims=True)
    share = mass / np.where(total > 0, total, 1.0)
    told = share.sum(axis=1, keepdims=True)  # 1, or 0 where nothing is said
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    count = max(float(told.sum()), 1.0)
    return float(-(share * logs).sum() / count), (np.exp(logs) * told - share) / count
