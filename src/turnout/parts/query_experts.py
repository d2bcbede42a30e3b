"""Encoders of queries over one index of documents: low-rank corrections of a shared encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, _check
from turnout.core._check import Float, Int
from turnout.parts.learners.descent import Schedule, descend
from turnout.parts.ranking import discounted

__all__ = ["QueryExpert", "expert_quality", "found", "train_expert"]

#: Cells of a table of similarities that are held at once.
_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class QueryExpert:
    """A query's vector with a correction of rank r: `x + (x down) up`.

    Parameters
    ----------
    down : array (d, r)
    up : array (r, d)
        Both of no column and row for the shared encoder as it is.
    """

    down: Float
    up: Float

    def __post_init__(self) -> None:
        down = _check.floats("expert.down", self.down, (None, None))
        up = _check.floats("expert.up", self.up, (down.shape[1], down.shape[0]))
        object.__setattr__(self, "down", down)
        object.__setattr__(self, "up", up)

    @classmethod
    def shared(cls, d: int) -> QueryExpert:
        """The shared encoder itself, as an expert."""
        return cls(np.zeros((d, 0)), np.zeros((0, d)))

    def encode(self, queries: Float) -> Float:
        """Vectors (n, d) to search by."""
        return np.asarray(queries + (queries @ self.down) @ self.up)


def train_expert(
    queries: Float,
    documents: Float,
    wanted: Int,
    *,
    rank: int = 12,
    temperature: float = 0.05,
    epochs: int = 60,
    batch: int = 64,
    rate: float = 0.01,
    rng: Generator,
) -> QueryExpert:
    """Train a correction by contrast within batches; the documents' vectors stay as they are.

    With u_i the corrected query i and z_i its document, both of length one, a batch B loses
    `-log( exp(u_i . z_i / T) / sum_{j in B} exp(u_i . z_j / T) )` a query (InfoNCE; van den Oord,
    Li, Vinyals, 2018, arXiv:1807.03748, equation 4). `up` begins at 0, so that the expert begins as
    the shared encoder; a tenth of the queries is held out to stop by.

    Parameters
    ----------
    queries : array (n, d)
        Encoded by the shared encoder.
    documents : array (v, d)
    wanted : array of int (n,)
        Relevant document of each query.
    rank : int
        >= 1.
    temperature, rate : float
        > 0.
    epochs, batch : int
        >= 1; a batch of one query teaches nothing.
    rng : Generator

    Raises
    ------
    InputError
        Shapes disagree, or a value is out of range.
    """
    queries = _check.floats("queries", queries, (None, None))
    n, d = queries.shape
    documents = _check.floats("documents", documents, (None, d))
    wanted = np.asarray(wanted)
    if wanted.shape != (n,) or n == 0 or wanted.min() < 0 or wanted.max() >= len(documents):
        hint = "Pass one document a query."
        raise InputError("wanted", f"hold {n} rows of the documents", wanted.shape, hint)
    rank = _check.integer("rank", rank, low=1)
    temperature = _check.number("temperature", temperature, low=1e-6)
    targets = _unit(documents)[wanted]
    down = rng.standard_normal((d, rank)) / np.sqrt(d)
    up = np.zeros((rank, d))

    def ahead(rows: Int) -> tuple[Float, Float, Float, Float]:
        x = queries[rows]
        raw = x + (x @ down) @ up
        length = np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        u = raw / length
        # a document twice in a batch is no wrong answer to either query
        same = wanted[rows][:, None] == wanted[rows]
        logits = np.where(same & ~np.eye(len(rows), dtype=np.bool_), -np.inf, 0.0)
        logits = logits + u @ targets[rows].T / temperature
        logits -= logits.max(axis=1, keepdims=True)
        chance = np.exp(logits)
        chance /= chance.sum(axis=1, keepdims=True)
        return x, u, length, chance

    def gradients(rows: Int) -> tuple[list[Float], None]:
        x, u, length, chance = ahead(rows)
        slope = (chance - np.eye(len(rows))) @ targets[rows] / (temperature * len(rows))
        slope = (slope - (slope * u).sum(axis=1, keepdims=True) * u) / length
        return [x.T @ (slope @ up.T), (x @ down).T @ slope], None

    def loss(rows: Int) -> float:
        chance = ahead(rows)[3]
        return float(-np.log(np.maximum(np.diag(chance), 1e-300)).mean())

    plan = Schedule(rate=rate, decay=0.0, batch=batch, epochs=epochs, patience=epochs)
    descend([down, up], gradients, loss, n, plan, rng=rng)
    return QueryExpert(down, up)


def found(queries: Float, documents: Float, k: int) -> Int:
    """The k documents nearest to each query by cosine, nearest first, (n, k); exact.

    Documents equally near keep their order.
    """
    k = min(_check.integer("k", k, low=1), len(documents))
    index = _unit(documents)
    asked = _unit(queries)
    rows = []
    step = max(1, _CELLS // max(1, len(index)))
    for start in range(0, len(asked), step):
        like = asked[start : start + step] @ index.T
        near = np.sort(np.argpartition(-like, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(-np.take_along_axis(like, near, axis=1), axis=1, kind="stable")
        rows.append(np.take_along_axis(near, order, axis=1))
    return np.vstack(rows) if rows else np.empty((0, k), dtype=np.int64)


def expert_quality(
    experts: Sequence[QueryExpert], queries: Float, documents: Float, wanted: Int, *, k: int = 10
) -> Float:
    """nDCG@k (n, m) of every query with every expert, where one document a query is relevant."""
    columns = []
    for expert in experts:
        top = found(expert.encode(queries), documents, k)
        columns.append(discounted((top == np.asarray(wanted)[:, None]).astype(np.float64), k))
    return np.stack(columns, axis=1)


def _unit(vectors: Float) -> Float:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))
