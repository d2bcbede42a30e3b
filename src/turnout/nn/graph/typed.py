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
        kqv = self._by_kind(self.kqv, x, graph.kind, 3 * self.d)
        key, query, value = (
            piece.reshape(v, self.heads, part) for piece in torch.split(kqv, self.d, 1)
        )
        order = graph.relation.argsort(stable=True)
        source, target = graph.source[order], graph.target[order]
        relation = graph.relation[order]
        counts = torch.bincount(relation, minlength=self.relations).tolist()
        keys, values = [], []
        for r, rows in enumerate(torch.split(source, counts)):
            if len(rows):
                nodes, back = torch.unique(rows, return_inverse=True)  # one may speak to many
                keys.append(torch.einsum("nhi,hij->nhj", key[nodes], self.key[r])[back])
                values.append(torch.einsum("nhi,hij->nhj", value[nodes], self.value[r])[back])
        heard = x.new_zeros(v, self.d)
        if keys:
            score = (query[target] * torch.cat(keys)).sum(-1) * self.weight[relation]
            share = segment_softmax(score / math.sqrt(part), target, v)
            heard = gather(torch.cat(values) * share[..., None], target, v).reshape(v, self.d)
        y = self._by_kind(self.out, functional.gelu(heard), graph.kind, self.d)
        gate = self.skip.sigmoid()[graph.kind][:, None]
        return gate * y + (1 - gate) * x

    @staticmethod
    def _by_kind(
        layers: nn.ModuleList, x: torch.Tensor, kind: torch.Tensor, width: int
    ) -> torch.Tensor:
        """Each node through the layer of its kind."""
        result = x.new_zeros(len(x), width)
        for number, layer in enumerate(layers):
            rows = (kind == number).nonzero()[:, 0]
            if len(rows):
                result = result.index_put((rows,), layer(x[rows]))
        return result
