"""Typed messages: attention with weights of its own for each kind of node and each relation.

For an edge s -> t of relation r, between nodes of kinds tau(.), one head::

    k_s = K_tau(s) x_s,  q_t = Q_tau(t) x_t,  v_s = V_tau(s) x_s
    a_st = softmax over all edges into t of  p_r (q_t . A_r k_s) / sqrt(d / heads)
    y_t  = O_tau(t) gelu( sum_s a_st M_r v_s )
    x'_t = g y_t + (1 - g) x_t,   g = sigmoid(skip_tau(t))

(Hu, Dong, Wang and Sun, "Heterogeneous Graph Transformer", WWW 2020, arXiv:2003.01332, section 3.)
The heads stand side by side; x is (v, d) with nodes of all kinds in one table. A node that hears
nothing gets `y_t = O 0`, its kind's shift.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from turnout.core import _check
from turnout.core.errors import InputError
from turnout.nn.graph.messages import gather, segment_softmax
from turnout.nn.graph.weights import linear

__all__ = ["TypedGraph", "TypedLayer", "join"]


@dataclass(frozen=True, eq=False)
class TypedGraph:
    """Nodes of several kinds and edges of several relations.

    Parameters
    ----------
    x : tensor (v, d)
        What the nodes are.
    kind : int64 tensor (v,)
    source, target, relation : int64 tensor (edges,)
        A relation and its reverse are two relations.

    Raises
    ------
    InputError
        Lengths disagree, or an edge touches a node that is not there.
    """

    x: torch.Tensor
    kind: torch.Tensor
    source: torch.Tensor
    target: torch.Tensor
    relation: torch.Tensor

    def __post_init__(self) -> None:
        v = len(self.x)
        if len(self.kind) != v:
            raise InputError("graph.kind", f"hold {v} kinds", len(self.kind), "One a node.")
        edges = {len(self.source), len(self.target), len(self.relation)}
        if len(edges) > 1:
            rule = "hold one source, target and relation an edge"
            raise InputError("graph.relation", rule, sorted(edges), "Match their lengths.")
        for name in ("source", "target"):
            nodes = getattr(self, name)
            if len(nodes) and not 0 <= int(nodes.min()) <= int(nodes.max()) < v:
                rule = f"name nodes 0 ... {v - 1}"
                raise InputError(f"graph.{name}", rule, nodes.tolist(), "Add the node.")


def join(graphs: Sequence[TypedGraph]) -> tuple[TypedGraph, torch.Tensor]:
    """Several graphs as one, and where the nodes of each begin, (b,).

    Raises
    ------
    InputError
        There is no graph.
    """
    if not graphs:
        raise InputError("graphs", "hold at least one", 0, "Pass a graph.")
    sizes = torch.tensor([len(graph.x) for graph in graphs])
    first = sizes.cumsum(0) - sizes
    moved = list(zip(graphs, first.tolist(), strict=True))
    return TypedGraph(
        torch.cat([graph.x for graph in graphs]),
        torch.cat([graph.kind for graph in graphs]),
        torch.cat([graph.source + place for graph, place in moved]),
        torch.cat([graph.target + place for graph, place in moved]),
        torch.cat([graph.relation for graph in graphs]),
    ), first


class TypedLayer(nn.Module):
    """The layer of the module's equations.

    Parameters
    ----------
    d, kinds, relations, heads : int
        Width, kinds of nodes, relations, heads; d must divide by the heads.
    generator : torch.Generator
        Draws every first weight.

    Raises
    ------
    InputError
        A size is out of range.
    """

    def __init__(
        self, d: int, *, kinds: int, relations: int, heads: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.d, self.heads = _check.integer("d", d, low=1), _check.integer("heads", heads, low=1)
        self.relations = _check.integer("relations", relations, low=1)
        if d % heads:
            raise InputError("d", f"divide by the {heads} heads", d, "Change one.")
        many = range(_check.integer("kinds", kinds, low=1))
        self.kqv = nn.ModuleList(linear(d, 3 * d, generator=generator) for _ in many)
        self.out = nn.ModuleList(linear(d, d, generator=generator) for _ in many)
        part = d // heads
        shape, bound = (relations, heads, part, part), 1 / math.sqrt(part)

        def drawn() -> nn.Parameter:
            first = torch.rand(shape, generator=generator) * (2 * bound) - bound
            return nn.Parameter(first)

        self.key, self.value = drawn(), drawn()
        self.weight = nn.Parameter(torch.ones(relations, heads))
        self.skip = nn.Parameter(torch.ones(kinds))

    def forward(self, graph: TypedGraph) -> torch.Tensor:
        """Nodes (v, d) after one round of messages."""
        x, v = graph.x, len(graph.x)
        part = self.d // self.heads
        kqv = self._by_kind(self.kqv, x, graph.kind).reshape(v, 3, self.heads, part)
        key, query, value = kqv.unbind(1)
        order = graph.relation.argsort(stable=True)
        source, target, relation = (
            edges.index_select(0, order) for edges in (graph.source, graph.target, graph.relation)
        )
        heard = x.new_zeros(v, self.d)
        if len(order):
            told = self._told(torch.cat((key, value), 1), source, relation)
            keys, values = torch.split(told, self.heads, 1)
            score = (query.index_select(0, target) * keys).sum(-1)
            score = score * self.weight.index_select(0, relation) / math.sqrt(part)
            share = segment_softmax(score, target, v)
            heard = gather(values * share[..., None], target, v).reshape(v, self.d)
        y = self._by_kind(self.out, functional.gelu(heard), graph.kind)
        gate = self.skip.sigmoid().index_select(0, graph.kind)[:, None]
        return gate * y + (1 - gate) * x

    def _told(
        self, said: torch.Tensor, source: torch.Tensor, relation: torch.Tensor
    ) -> torch.Tensor:
        """Keys and values (edges, 2 heads, d / heads) of nodes (v, 2 heads, d / heads) by relation.

        A node that speaks to many by one relation is multiplied once. Relations are taken from the
        last to the first: so gradients are added up in the order of the recorded claims.
        """
        v, last = len(said), self.relations - 1
        pairs, back = torch.unique((last - relation) * v + source, return_inverse=True)
        counts = torch.bincount(pairs // v, minlength=self.relations).tolist()
        rows = torch.split(said.index_select(0, pairs % v).transpose(0, 1), counts, 1)
        maps = torch.cat((self.key, self.value), 1).unbind(0)[::-1]
        told = [torch.bmm(each, by) for each, by in zip(rows, maps, strict=True) if each.shape[1]]
        return torch.cat(told, 1).transpose(0, 1).index_select(0, back)

    @staticmethod
    def _by_kind(layers: nn.ModuleList, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        """Each node through the layer of its kind; those of absent kinds stay untouched."""
        rows = [(kind == number).nonzero()[:, 0] for number in range(len(layers))]
        through: list[torch.Tensor] = [
            layer(x.index_select(0, which))
            for layer, which in zip(layers, rows, strict=True)
            if len(which)
        ]
        return torch.cat(through or [layers[0](x)]).index_select(0, torch.cat(rows).argsort())
