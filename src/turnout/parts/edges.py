"""What a table says as a graph: its tasks, its destinations, and each cell as an edge.

For input i of task t and destination j, with quality q_ij and cost c_ij::

    c'_ij = (c_ij - low_t) / wide_t                 costs of a task from 0 to 1
    s_ij  = alpha q_ij - beta c'_ij                 the score
    y_ij  = 1 if s_ij = max over l of s_il          the label: all that tie for the best
    e_ij  = (s_ij, c'_ij, q_ij)                     the edge

(Feng, Shen, You, "GraphRouter", ICLR 2025, arXiv:2410.03834, section 3.) A task is described by the
mean of its inputs, a destination by a vector of its features or of its description.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from turnout.core import Outcomes, Pool, _check
from turnout.core._check import Bool, Float, Int
from turnout.parts.texts.bags import learn_features
from turnout.parts.texts.encoder import Encoder, Svd, directions, fit_encoder

__all__ = ["Scale", "Tasks", "described", "fit_scale", "tasks_of"]

Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Tasks:
    """Tasks by name, and what their inputs are like.

    Parameters
    ----------
    names : tuple of str (c,)
    centres : array of float32 (c, d)
        Mean vector of the inputs of each.
    """

    names: tuple[str, ...]
    centres: Single

    def of(self, query: Single, group: tuple[str, ...] | None = None) -> Int:
        """Task of each input (n,): the one it is labelled with, or else the nearest.

        Parameters
        ----------
        query : array of float32 (n, d)
        group : tuple of str (n,), optional
            Labels; one that is not known counts as none.
        """
        near: Int = (query @ self.centres.T).argmax(axis=1)
        if group is None:
            return near
        number = {name: place for place, name in enumerate(self.names)}
        told = np.array([number.get(name, -1) for name in group])
        return np.where(told >= 0, told, near).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Scale:
    """What becomes of quality and cost on an edge.

    Parameters
    ----------
    alpha, beta : float
        Weights of quality and of scaled cost in the score.
    low, wide : array (c,)
        Least cost of each task, and how far the greatest is from it (1 where it is not).
    """

    alpha: float
    beta: float
    low: Float
    wide: Float

    def edges(self, outcomes: Outcomes, task: Int) -> tuple[Single, Bool, Single]:
        """The edges of a table whose rows belong to these tasks (n,).

        Returns
        -------
        e : array of float32 (n, m, 3)
            Score, scaled cost (0 where never seen), quality.
        seen : array of bool (n, m)
        label : array of float32 (n, m)
        """
        cost = np.nan_to_num((outcomes.cost - self.low[task][:, None]) / self.wide[task][:, None])
        quality, seen = np.nan_to_num(outcomes.quality), outcomes.seen
        score = self.alpha * quality - self.beta * cost
        best = np.where(seen, score, -np.inf).max(axis=1, keepdims=True)
        label = seen & (score >= best - 1e-12)
        e = np.stack((score, cost, quality), axis=2)
        return e.astype(np.float32), seen, label.astype(np.float32)


def tasks_of(outcomes: Outcomes, query: Single) -> Tasks:
    """The tasks that label a table; a table without labels is one task.

    Parameters
    ----------
    outcomes : Outcomes
    query : array of float32 (n, d)
        Vectors of its inputs.
    """
    group = outcomes.group or ("",) * outcomes.n
    names = tuple(sorted(set(group)))
    number = {name: place for place, name in enumerate(names)}
    member = np.zeros((len(names), outcomes.n), dtype=np.float32)
    member[[number[name] for name in group], np.arange(outcomes.n)] = 1.0
    return Tasks(names, member @ query / member.sum(axis=1, keepdims=True))


def fit_scale(outcomes: Outcomes, task: Int, *, alpha: float, beta: float) -> Scale:
    """The scale of a table's costs, task (n,) by task."""
    _check.expect_shape("task", task, (outcomes.n,))
    c = int(task.max()) + 1
    low, high = np.full(c, np.inf), np.full(c, -np.inf)
    row, column = np.nonzero(~np.isnan(outcomes.cost))
    np.minimum.at(low, task[row], outcomes.cost[row, column])
    np.maximum.at(high, task[row], outcomes.cost[row, column])
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    return Scale(alpha, beta, low, np.where(high > low, high - low, 1.0))


def described(pool: Pool, encoder: str, *, rng: Generator) -> tuple[Single, Encoder | None]:
    """Features of the destinations, and what makes them of a text.

    Parameters
    ----------
    pool : Pool
        Its features are taken as they are; else its descriptions are read; else every destination
        is a unit vector of its own.
    encoder : str
        As of `fit_encoder`. "svd" is fitted on the descriptions, every word of which counts.
    rng : Generator

    Returns
    -------
    about : array of float32 (m, d)
    describer : Encoder or None
        None where there are no descriptions.
    """
    if pool.features is not None:
        return pool.features.astype(np.float32), None
    if pool.description is None or not any(text.strip() for text in pool.description):
        return np.eye(pool.m, dtype=np.float32), None
    describer: Encoder
    if encoder == "svd":
        words = learn_features(pool.description, min_df=1)
        describer = Svd(words, directions(words.transform(pool.description), pool.m, rng))
    else:
        describer = fit_encoder(encoder, pool.description, d=1, rng=rng)
    return describer.encode(pool.description), describer
