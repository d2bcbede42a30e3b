"""Layers of `turnout.nn` and of PyTorch Geometric in pairs: equal weights, the same graph.

Each pair computes the same numbers from the same input. What PyTorch Geometric has to be handed in
another form (a dictionary by kind of node, another by relation) is made beforehand where a layer
alone is timed, and counts where a whole network is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from turnout.nn.commutative_monoid import CommutativeMonoid
from turnout.nn.graph import (
    AgentNet,
    Asked,
    Bipartite,
    Conv,
    Seen,
    TypedGraph,
    TypedLayer,
    gather,
    segment_softmax,
)

__all__ = ["Pair", "pairs"]

#: Kinds of nodes and, of the relations between them, those that are not between entities.
KINDS = ("question", "entity", "agent")
FIXED = (
    ("question", "0", "entity"),
    ("entity", "1", "question"),
    ("agent", "2", "entity"),
    ("entity", "3", "agent"),
)
#: What a question of the recipe looks like: entities, relations told apart, agents.
ENTITIES, RELATIONS, AGENTS = 20, 24, 6


@dataclass(frozen=True)
class Pair:
    """Two ways to the same numbers.

    Parameters
    ----------
    layer, peer, size : str
        Ours, theirs, and on what.
    ours, theirs : callable
        Make the result.
    leaves : tuple of (tensor, tensor)
        Ours and theirs, whose gradients are compared; none: only the forward pass is made.
    """

    layer: str
    peer: str
    size: str
    ours: Callable[[], torch.Tensor]
    theirs: Callable[[], torch.Tensor]
    leaves: tuple[tuple[torch.Tensor, torch.Tensor], ...]


def pairs() -> Iterator[Pair]:
    """All pairs, one after another, at the sizes of graph_router and agent_router."""
    for n, m in ((1000, 9), (10_000, 11)):
        yield from _gathered(n, m)
        for inside in ("linear", "relu"):
            yield _conv(n, m, inside)
        yield _bipartite(n, m)
    for batch, d, told in ((32, 16, 4), (32, 16, RELATIONS), (32, 64, RELATIONS)):
        yield _typed(batch, d, told)
    yield _agents(32, RELATIONS, answer=False)
    yield _agents(1, 4, answer=True)
    for b, k in ((64, 8), (512, 16)):
        yield _monoid(b, k)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _drawn(*shape: int, seed: int, leaf: bool = True) -> torch.Tensor:
    return torch.randn(shape, generator=_generator(seed)).requires_grad_(leaf)


def _table(n: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Source and target of the edges of a table shown in one pass: three in ten."""
    shown = torch.rand(n, m, generator=_generator(1)) < 0.3
    source, target = shown.nonzero().unbind(1)
    return source.contiguous(), target.contiguous()


def _gathered(n: int, m: int) -> Iterator[Pair]:
    aggr = importlib.import_module("torch_geometric.nn.aggr")
    softmax = importlib.import_module("torch_geometric.utils").softmax
    _, target = _table(n, m)
    said, score = _drawn(len(target), 64, seed=2), _drawn(len(target), 2, seed=3)
    size = f"{len(target)} edges to {m}"
    for how, peer in (("sum", aggr.SumAggregation()), ("mean", aggr.MeanAggregation())):
        yield Pair(
            f"gather, {how}",
            type(peer).__name__,
            size,
            partial(gather, said, target, m, how),
            partial(peer, said, target, dim_size=m, dim=0),
            ((said, said),),
        )
    yield Pair(
        "segment_softmax",
        "softmax",
        size,
        lambda: segment_softmax(score, target, m).square(),
        lambda: softmax(score, target, num_nodes=m).square(),
        ((score, score),),
    )


class _GeneralConv(nn.Module):
    """`GeneralConv` with the weights and in the place of a `Conv`."""

    def __init__(self, ours: Conv) -> None:
        super().__init__()
        general = importlib.import_module("torch_geometric.nn").GeneralConv
        d, edge = ours.message.in_features, ours.edge
        assert edge is not None
        self.conv = _bent(general) if ours.inside == "relu" else general
        self.conv = self.conv(d, d, in_edge_channels=edge.in_features, aggr=ours.how)
        self.conv.lin_msg.load_state_dict(ours.message.state_dict())
        self.conv.lin_edge.load_state_dict(edge.state_dict())

    def heard(
        self, x: torch.Tensor, source: torch.Tensor, target: torch.Tensor, e: torch.Tensor, v: int
    ) -> torch.Tensor:
        """What v nodes hear; their own places are zeros, for the layer adds them itself."""
        own = x.new_zeros(v, x.shape[1])
        found: torch.Tensor = self.conv(
            (x, own), torch.stack((source, target)), edge_attr=e, size=(len(x), v)
        )
        return found


def _bent(general: Any) -> Any:
    """`GeneralConv` with each message bent, as its documentation says to change a message."""

    class Bent(general):  # type: ignore[misc]
        def message(
            self, x_i: Any, x_j: Any, edge_index_i: Any, size_i: Any, edge_attr: Any
        ) -> Any:
            return super().message(x_i, x_j, edge_index_i, size_i, edge_attr).relu()

    return Bent


def _conv(n: int, m: int, inside: str) -> Pair:
    source, target = _table(n, m)
    x, e = _drawn(n, 64, seed=2), _drawn(len(source), 3, seed=3)
    ours = Conv(64, 64, edge=3, inside=inside, generator=_generator())
    theirs = _GeneralConv(ours)
    return Pair(
        f"Conv, {inside}",
        "GeneralConv",
        f"{n} to {m}, {len(source)} edges, d=64",
        lambda: ours.heard(x, source, target, e, m),
        lambda: theirs.heard(x, source, target, e, m),
        ((x, x), (e, e)),
    )


def _bipartite(n: int, m: int) -> Pair:
    """The whole network of graph_router in one pass of its training."""
    source, target = _table(n, m)
    query, task = _drawn(n, 128, seed=2), _drawn(n, 128, seed=3, leaf=False)
    about = _drawn(m, 64, seed=4, leaf=False)
    seen = Seen(source, target, _drawn(len(source), 3, seed=5, leaf=False))
    ours, theirs = (
        Bipartite(
            query=128, task=128, destination=64, h=32, inside="linear", generator=_generator()
        )
        for _ in range(2)
    )
    for name in ("first", "second"):
        theirs.add_module(name, _GeneralConv(getattr(theirs, name)))
    return Pair(
        "network of graph_router",
        "with GeneralConv",
        f"{n} to {m}, {len(source)} edges, d=64",
        lambda: ours(query, task, about, seen),
        lambda: theirs(query, task, about, seen),
        ((query, query),),
    )


class _Hgt(nn.Module):
    """`HGTConv` with the weights and in the place of a `TypedLayer`."""

    def __init__(self, ours: TypedLayer) -> None:
        super().__init__()
        between = (("entity", str(r), "entity") for r in range(len(FIXED), ours.relations))
        self.relations = [*FIXED, *between]
        made = importlib.import_module("torch_geometric.nn").HGTConv
        self.conv = made(ours.d, ours.d, (list(KINDS), self.relations), heads=ours.heads)
        part = ours.d // ours.heads
        with torch.no_grad():
            for number, kind in enumerate(KINDS):
                self.conv.kqv_lin.lins[kind].load_state_dict(ours.kqv[number].state_dict())
                self.conv.out_lin.lins[kind].load_state_dict(ours.out[number].state_dict())
                self.conv.skip[kind].copy_(ours.skip[number : number + 1])
            for theirs, weights in ((self.conv.k_rel, ours.key), (self.conv.v_rel, ours.value)):
                theirs.weight.copy_(weights.transpose(0, 1).reshape(-1, part, part))

    def forms(self, graph: TypedGraph) -> tuple[list[torch.Tensor], dict[Any, torch.Tensor]]:
        """Rows of each kind, and the edges of each relation that occurs."""
        rows = [(graph.kind == number).nonzero()[:, 0] for number in range(len(KINDS))]
        place = torch.empty_like(graph.kind)
        for each in rows:
            place[each] = torch.arange(len(each))
        pair = torch.stack((place[graph.source], place[graph.target]))
        order = graph.relation.argsort(stable=True)
        counts = torch.bincount(graph.relation, minlength=len(self.relations)).tolist()
        parts = torch.split(pair[:, order], counts, 1)
        edges = zip(self.relations, parts, strict=True)
        return rows, {name: part for name, part in edges if part.shape[1]}

    def told(
        self, x: torch.Tensor, rows: list[torch.Tensor], edges: dict[Any, torch.Tensor]
    ) -> torch.Tensor:
        """Nodes (v, d) after one round."""
        pieces = zip(KINDS, rows, strict=True)
        found = self.conv({kind: x.index_select(0, each) for kind, each in pieces}, edges)
        back = torch.cat(rows).argsort()
        return torch.cat([found[kind] for kind in KINDS]).index_select(0, back)

    def forward(self, graph: TypedGraph) -> torch.Tensor:
        """In the place of a `TypedLayer`, with all that it takes to get there."""
        return self.told(graph.x, *self.forms(graph))


def _network(d: int, layers: int) -> AgentNet:
    return AgentNet(
        question=64,
        entity=67,
        agent=AGENTS,
        relations=RELATIONS + 1,
        h=d,
        layers=layers,
        heads=2,
        dropout=0.0,
        generator=_generator(),
    )


def _asked(batch: int, told: int) -> tuple[list[Asked], Any]:
    """Questions with twenty entities and nine links by so many relations, and agents."""
    rng = np.random.default_rng(0)

    def one() -> Asked:
        source, target = rng.integers(0, ENTITIES, (2, 9))
        return Asked(
            question=rng.standard_normal(64).astype(np.float32),
            entities=rng.standard_normal((ENTITIES, 67)).astype(np.float32),
            mentioned=1,
            source=source,
            target=target,
            relation=rng.integers(0, told, 9),
        )

    return [one() for _ in range(batch)], np.eye(AGENTS, dtype=np.float32)


def _typed(batch: int, d: int, told: int) -> Pair:
    network, caught = _network(d, 1), list[TypedGraph]()
    network.rounds[0].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    network(*_asked(batch, told))
    ours = _network(d, 1).rounds[0]
    assert isinstance(ours, TypedLayer)
    was = caught[0]
    x = was.x.detach().requires_grad_()
    graph = TypedGraph(x, was.kind, was.source, was.target, was.relation)
    theirs = _Hgt(ours)
    rows, edges = theirs.forms(graph)
    return Pair(
        "TypedLayer",
        "HGTConv",
        f"{batch} graphs, {len(x)} nodes, {len(was.source)} edges of {len(edges)} kinds, d={d}",
        lambda: ours(graph),
        lambda: theirs.told(x, rows, edges),
        ((x, x),),
    )


def _agents(batch: int, told: int, *, answer: bool) -> Pair:
    """The whole network of agent_router, in a step of its training or when it answers."""
    ours, theirs = (_network(16, 2) for _ in range(2))
    for number, layer in enumerate(theirs.rounds):
        assert isinstance(layer, TypedLayer)
        theirs.rounds[number] = _Hgt(layer)
    asked, agents = _asked(batch, told)
    entity, other = (next(network.enter[1].parameters()) for network in (ours, theirs))
    return Pair(
        "network of agent_router" + (", answering" if answer else ""),
        "with HGTConv",
        f"{batch} graph{'s' * (batch > 1)}, d=16",
        lambda: ours(asked, agents),
        lambda: theirs(asked, agents),
        () if answer else ((entity, other),),
    )


def _monoid(b: int, k: int) -> Pair:
    made = importlib.import_module("torch_geometric.nn.aggr").LCMAggregation
    ours, theirs = CommutativeMonoid(16, 32, generator=_generator()), made(16, 32)
    assert ours.project is not None
    theirs.lin.load_state_dict(ours.project.state_dict())
    theirs.gru_cell.load_state_dict(ours.cell.state_dict())
    u, sizes = _drawn(b * k, 16, seed=2), torch.full((b,), k)
    index = torch.arange(b).repeat_interleave(sizes)
    return Pair(
        "CommutativeMonoid",
        "LCMAggregation",
        f"{b} sets of {k}, d=16, h=32",
        lambda: ours(u, sizes),
        lambda: theirs(u, index),
        ((u, u),),
    )
