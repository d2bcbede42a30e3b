"""A graph of one question, what it mentions and who could answer, and who should.

Nodes are the question, the entities of its context and the agents. The question touches the
entities it mentions, entities touch each other by their relations, every agent touches every
entity; the question touches no agent. Each edge has a reverse of a relation of its own. With the
features u of a node of kind k::

    x = W_k u + b_k,   then l times  x = dropout(`TypedLayer`(x))
    s_a = w . dropout(tanh((W_q x_question) (W_a x_a)))       product number by number
    p_a = softmax over the agents of the same question

(Zhang et al., "AgentRouter", 2025, arXiv:2510.05445.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import nn

from turnout.core import _check
from turnout.core._check import Float, Int
from turnout.nn.graph.typed import TypedGraph, TypedLayer
from turnout.nn.graph.weights import linear, numpy_of, to_torch, torch_generator

__all__ = ["AgentNet", "Asked", "AskedTraining", "load_agents", "train_agents"]

_QUESTION, _ENTITY, _AGENT = range(3)
#: Relations besides those between entities: question and entity, agent and entity, both ways.
_FIXED = 4

Single = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Asked:
    """One question as arrays.

    Parameters
    ----------
    question : array of float32 (d,)
    entities : array of float32 (v, d')
    mentioned : int
        How many of the entities the question mentions: the first.
    source, target, relation : array of int (edges,)
        Between entities, one way; the relation counts from 0.
    """

    question: Single
    entities: Single
    mentioned: int
    source: Int
    target: Int
    relation: Int


@dataclass(frozen=True, kw_only=True)
class AskedTraining:
    """How to learn; see `turnout.llms.agent_router.AgentRouter`."""

    rate: float
    decay: float
    epochs: int
    batch: int
    held_out: float


class AgentNet(nn.Module):
    """The network of the module's equations.

    Parameters
    ----------
    question, entity, agent : int
        Lengths of features.
    relations : int
        Between entities, one way; >= 0.
    h, layers, heads : int
        Width, rounds of messages, heads.
    dropout : float
        In [0, 1).
    generator : torch.Generator
        Draws the first weights, and what is dropped.
    """

    def __init__(
        self,
        *,
        question: int,
        entity: int,
        agent: int,
        relations: int,
        h: int,
        layers: int,
        heads: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.h, self.dropout, self.generator = h, dropout, generator
        widths = (question, entity, agent)
        self.enter = nn.ModuleList(linear(max(d, 1), h, generator=generator) for d in widths)
        self.rounds = nn.ModuleList(
            TypedLayer(
                h, kinds=3, relations=_FIXED + 2 * relations, heads=heads, generator=generator
            )
            for _ in range(layers)
        )
        self.asks = linear(h, h, generator=generator, bias=False)
        self.answers = linear(h, h, generator=generator, bias=False)
        self.score = linear(h, 1, generator=generator, bias=False)

    def forward(self, batch: Sequence[Asked], agents: Single) -> torch.Tensor:
        """Scores (b, m) of m agents with features (m, d) for b questions."""
        b, m = len(batch), len(agents)
        place, graph = self._graph(batch, agents)
        x = graph.x
        for layer in self.rounds:
            moved = TypedGraph(x, graph.kind, graph.source, graph.target, graph.relation)
            x = self._dropped(layer(moved))
        first = torch.from_numpy(place)
        asked: torch.Tensor = self.asks(x[first])
        others = (first[:, None] + 1 + torch.arange(m)).reshape(-1)
        able: torch.Tensor = self.answers(x[others]).reshape(b, m, self.h)
        scores: torch.Tensor = self.score(self._dropped((asked[:, None] * able).tanh()))
        return scores[..., 0]

    def _graph(self, batch: Sequence[Asked], agents: Single) -> tuple[Int, TypedGraph]:
        """All graphs as one: of each its question, the agents, then the entities."""
        m = len(agents)
        sizes = np.array([1 + m + len(item.entities) for item in batch])
        place = np.cumsum(sizes) - sizes
        kind = np.full(int(sizes.sum()), _ENTITY)
        kind[place] = _QUESTION
        kind[(place[:, None] + 1 + np.arange(m)).ravel()] = _AGENT
        edges = [_edges(item, int(start), m) for item, start in zip(batch, place, strict=True)]
        source, target, relation = np.concatenate(edges, axis=1)
        kinds = torch.from_numpy(kind)
        features = (
            np.stack([item.question for item in batch]),
            np.concatenate([item.entities for item in batch]),
            np.tile(agents, (len(batch), 1)),
        )
        x = torch.zeros(len(kind), self.h)
        for number, (enter, rows) in enumerate(zip(self.enter, features, strict=True)):
            if len(rows):
                told: torch.Tensor = enter(torch.from_numpy(rows))
                x = x.index_put(((kinds == number).nonzero()[:, 0],), told)
        arrays = (torch.from_numpy(each) for each in (source, target, relation))
        return place, TypedGraph(x, kinds, *arrays)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.dropout:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.dropout
        return x * kept / (1.0 - self.dropout)


def load_agents(weights: Mapping[str, NDArray[Any]], *, heads: int) -> AgentNet:
    """The network of these weights, as `numpy_of` gave them, ready to be used."""
    h = len(weights["asks.weight"])
    key = weights["rounds.0.key"]
    network = AgentNet(
        question=weights["enter.0.weight"].shape[1],
        entity=weights["enter.1.weight"].shape[1],
        agent=weights["enter.2.weight"].shape[1],
        relations=(len(key) - _FIXED) // 2,
        h=h,
        layers=sum(name.endswith(".skip") for name in weights),
        heads=heads,
        dropout=0.0,
        generator=torch.Generator(),
    )
    to_torch(network, weights)
    return network


def train_agents(
    network: AgentNet,
    asked: Sequence[Asked],
    agents: Single,
    target: Float,
    settings: AskedTraining,
    *,
    rng: Generator,
) -> None:
    """Bring p near the targets, `sum_a t_a (log t_a - log p_a)`; the best held-out epoch is kept.

    Parameters
    ----------
    network : AgentNet
        Changed in place.
    asked : sequence of Asked (n)
    agents : array of float32 (m, d)
    target : array (n, m)
        Rows sum to 1.
    settings : AskedTraining
    rng : Generator
    """
    n = len(asked)
    _check.expect_shape("target", target, (n, len(agents)))
    order = rng.permutation(n)
    kept_out = round(n * settings.held_out)
    held, rows = order[:kept_out], order[kept_out:]
    wanted = torch.from_numpy(target.astype(np.float32))
    network.generator = torch_generator(rng)
    adam = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay)
    best, kept = math.inf, numpy_of(network)

    def divergence(which: Int) -> Any:
        scores = network([asked[int(i)] for i in which], agents).log_softmax(dim=1)
        aim = wanted[torch.from_numpy(which)]
        return (torch.xlogy(aim, aim) - aim * scores).sum(dim=1)

    for _ in range(settings.epochs):
        network.train()
        rows = rng.permutation(rows)
        for start in range(0, len(rows), settings.batch):
            loss = divergence(rows[start : start + settings.batch]).mean()
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            adam.step()
        network.eval()
        with torch.no_grad():
            judged = held if len(held) else rows
            now = float(divergence(judged).mean())
        if now < best:
            best, kept = now, numpy_of(network)
    to_torch(network, kept)


def _edges(item: Asked, start: int, m: int) -> Int:
    """Source, target and relation of every edge of one graph, (3, edges)."""
    v = len(item.entities)
    entities = start + 1 + m + np.arange(v)
    agents = start + 1 + np.arange(m)
    question = np.full(item.mentioned, start)
    asked = entities[: item.mentioned]
    able, about = np.repeat(agents, v), np.tile(entities, m)
    one, two = entities[item.source], entities[item.target]
    pairs = [
        (question, asked, np.zeros(len(asked), dtype=np.int64)),
        (able, about, np.full(len(able), 2)),
        (one, two, _FIXED + 2 * item.relation),
    ]
    ways = [np.stack(pair) for pair in pairs]
    back = [np.stack((two, one, relation + 1)) for one, two, relation in pairs]
    return np.concatenate((*ways, *back), axis=1).astype(np.int64)
