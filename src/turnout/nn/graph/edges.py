"""Learning to predict hidden edges of a table: what is to be told is never shown.

The table is a graph of n inputs and m destinations; each cell seen is an edge with its features
and a label in [0, 1]. In each pass every edge is shown with some chance and else hidden, and the
loss is over the hidden ones; to judge, whole rows are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from turnout.core import _check
from turnout.core._check import Bool, Int
from turnout.nn.graph.bipartite import Bipartite, Seen
from turnout.nn.graph.weights import numpy_of, to_torch, torch_generator

__all__ = ["EdgeTable", "Training", "log_odds", "masks", "network_of", "shown", "train"]

Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """Nodes and edges as arrays.

    Parameters
    ----------
    query, task : array of float32 (n, d)
        Features of the inputs and of their tasks.
    about : array of float32 (m, d)
        Features of the destinations.
    e : array of float32 (n, m, 3)
        Features of the edges; the first is the score that a choice earns.
    seen : array of bool (n, m)
    label : array of float32 (n, m)
    """

    query: Single
    task: Single
    about: Single
    e: Single
    seen: Bool
    label: Single


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to learn; see `turnout.llms.graph_router.GraphRouter` for ranges and meanings."""

    h: int
    inside: str
    visible: float
    epochs: int
    passes: int
    rate: float
    decay: float


def masks(seen: Bool, visible: float, rng: Generator) -> tuple[Bool, Bool]:
    """Which edges are shown, each with this chance, and which are hidden; none is both."""
    shown = seen & (rng.random(seen.shape) < visible)
    return shown, seen & ~shown


def network_of(
    table: EdgeTable, h: int, inside: str, generator: torch.Generator | None = None
) -> Bipartite:
    """A network that fits the features of a table; to be given weights if not a generator."""
    return Bipartite(
        query=table.query.shape[1],
        task=table.task.shape[1],
        destination=table.about.shape[1],
        h=h,
        inside=inside,
        generator=generator or torch.Generator(),
    )


def shown(network: Bipartite, table: EdgeTable, rows: Int) -> Single:
    """The destinations (m, 2 h) when all edges of some rows are shown."""
    query, task, about, _ = _tensors(table, rows)
    with torch.no_grad():
        x = network.eval().inputs(query, task)
        seen = _edges(table.e[rows], table.seen[rows])
        return np.array(network.destinations(x, about, seen).numpy())


def log_odds(network: Bipartite, table: EdgeTable, rows: Int, judged: Int) -> Single:
    """Log-odds (b, m) of rows that are hidden, when all edges of other rows are shown."""
    keys = shown(network, table, rows)
    query, task, _, _ = _tensors(table, judged)
    with torch.no_grad():
        x: Single = network.inputs(query, task).numpy()
    return np.asarray(x @ keys.T / x.shape[1])


def train(
    table: EdgeTable, rows: Int, judged: Int, settings: Training, *, rng: Generator
) -> Bipartite:
    """The network of the epoch whose choices on the judged rows earn most, ties to the likelier.

    Parameters
    ----------
    table : EdgeTable
    rows, judged : array of int
        Learnt from, and held out.
    settings : Training
    rng : Generator
    """
    _check.integer("rows", len(rows), low=1)
    network = network_of(table, settings.h, settings.inside, torch_generator(rng))
    query, task, about, label = _tensors(table, rows)
    adam = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    best, kept = (-np.inf, -np.inf), numpy_of(network)
    for _ in range(settings.epochs):
        network.train()
        adam.zero_grad()
        for _ in range(settings.passes):
            shown, hidden = masks(table.seen[rows], settings.visible, rng)
            if not hidden.any():
                continue
            logits = network(query, task, about, _edges(table.e[rows], shown))
            mask = torch.from_numpy(hidden)
            loss: Any = binary_cross_entropy_with_logits(logits[mask], label[mask])
            (loss / settings.passes).backward()
        adam.step()
        now = _judged(log_odds(network, table, rows, judged), table, judged)
        if now > best:
            best, kept = now, numpy_of(network)
    to_torch(network, kept)
    return network


def _judged(logits: Single, table: EdgeTable, rows: Int) -> tuple[float, float]:
    """Mean score of the choices among the destinations seen, and the mean log-likelihood."""
    seen = table.seen[rows]
    choice = np.where(seen, logits, -np.inf).argmax(axis=1)
    loss = np.logaddexp(0.0, logits) - table.label[rows] * logits
    return float(table.e[rows, choice, 0].mean()), -float(loss[seen].mean())


def _tensors(table: EdgeTable, rows: Int) -> tuple[torch.Tensor, ...]:
    """Inputs, tasks, destinations and labels, copied."""
    arrays = (table.query[rows], table.task[rows], table.about, table.label[rows])
    return tuple(torch.from_numpy(np.array(each, dtype=np.float32)) for each in arrays)


def _edges(e: Single, which: Bool) -> Seen:
    source, target = np.nonzero(which)
    return Seen(*(torch.from_numpy(each) for each in (source, target, e[source, target])))
