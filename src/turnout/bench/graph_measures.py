"""What the standard algorithms of graphs say of a `turnout.bench.trace_graph.PropertyGraph`.

networkx computes, except for the most likely path, which needs nothing. Equations::

    length of a path   sum of -log p over its edges: the shortest is the most likely
    modularity         Q = sum_c (L_c / m - (k_c,out k_c,in) / m^2)       directed, weighted by n
    crossing           share of the weight on edges between different groups

with m the weight of all edges, L_c that inside community c. Sources: Dijkstra (1959); Blondel,
Guillaume, Lambiotte and Lefebvre, "Fast unfolding of communities in large networks" (2008,
arXiv:0803.0476); Brandes, "A faster algorithm for betweenness centrality" (2001); Page et al.
(1999).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from turnout.bench.trace_graph import PropertyGraph, networkx
from turnout.core import InputError, _check

__all__ = [
    "Groups",
    "Path",
    "best_path",
    "best_paths",
    "bridges",
    "centralities",
    "crossing",
    "louvain",
    "summary",
    "weighted",
]


@dataclass(frozen=True)
class Path:
    """One way through a graph.

    Parameters
    ----------
    nodes : tuple of str
        Ids, from the first to the last.
    p : float
        Product of the probabilities of its edges.
    """

    nodes: tuple[str, ...]
    p: float


@dataclass(frozen=True)
class Groups:
    """Communities of nodes.

    Parameters
    ----------
    members : tuple of tuples of str
        Ids, the largest community first.
    modularity : float
    crossing : float
        Share of the weight on edges between different communities.
    """

    members: tuple[tuple[str, ...], ...]
    modularity: float
    crossing: float


def best_path(graph: PropertyGraph, source: str, target: str, *, kind: str = "NEXT") -> Path | None:
    """The most likely path from one node to another by property `p`; None where there is none.

    Raises
    ------
    InputError
        A node is unknown, or an edge has no probability in [0, 1].
    """
    ahead = _ahead(graph, kind)
    for end in (source, target):
        _known(graph, end)
    waiting: list[tuple[float, tuple[str, ...]]] = [(0.0, (source,))]
    done: set[str] = set()
    while waiting:
        length, nodes = heapq.heappop(waiting)
        last = nodes[-1]
        if last == target:
            return Path(nodes, math.exp(-length))
        if last in done:
            continue
        done.add(last)
        for other, p in ahead.get(last, ()):
            if other not in done and p > 0:
                heapq.heappush(waiting, (length - math.log(p), (*nodes, other)))
    return None


def best_paths(graph: PropertyGraph, *, most: int = 5, kind: str = "NEXT") -> tuple[Path, ...]:
    """The most likely paths through all layers of experts, from the share of the first on.

    A first expert has its share of the tokens of its layer as probability. By keeping the `most`
    best ways to each expert, layer by layer, the result is exact.

    Raises
    ------
    InputError
    """
    _check.integer("most", most, low=1)
    ahead = _ahead(graph, kind)
    experts = graph.nodes_of("Expert")
    if not experts:
        return ()
    layers = sorted({int(node.properties["layer"]) for node in experts})
    first = [node for node in experts if node.properties["layer"] == layers[0]]
    total = sum(float(node.properties["load"]) for node in first)
    ways: dict[str, list[tuple[float, tuple[str, ...]]]] = {
        node.id: [(float(node.properties["load"]) / total, (node.id,))]
        for node in first
        if float(node.properties["load"]) > 0
    }
    for _ in layers[1:]:
        further: dict[str, list[tuple[float, tuple[str, ...]]]] = {}
        for last, some in ways.items():
            for other, p in ahead.get(last, ()):
                further.setdefault(other, []).extend((q * p, (*nodes, other)) for q, nodes in some)
        ways = {
            node: sorted(some, key=lambda way: (-way[0], way[1]))[:most]
            for node, some in further.items()
        }
    found = sorted((way for some in ways.values() for way in some), key=lambda w: (-w[0], w[1]))
    return tuple(Path(nodes, p) for p, nodes in found[:most])


def weighted(graph: PropertyGraph, *, kind: str = "NEXT", weight: str = "n") -> Any:
    """The edges of one kind as a `networkx.DiGraph`, weights of parallel edges added.

    Raises
    ------
    InputError
        A weight is missing or negative.
    MissingExtraError
        networkx is not installed.
    """
    found = networkx().DiGraph()
    edges = graph.edges_of(kind)
    ends = {end for edge in edges for end in (edge.source, edge.target)}
    kinds = {node.kind for node in graph.nodes if node.id in ends}
    # In the order of the graph, so that a seeded algorithm gives the same again.
    found.add_nodes_from(node.id for node in graph.nodes if node.kind in kinds)
    for edge in edges:
        value = edge.properties.get(weight, 1.0 if weight == "n" else None)
        number = _check.number(f"{weight} of an edge {kind}", value, low=0.0)
        before = found.get_edge_data(edge.source, edge.target, {"weight": 0.0})["weight"]
        found.add_edge(edge.source, edge.target, weight=before + number)
    return found


def louvain(
    graph: PropertyGraph, *, rng: Generator, kind: str = "NEXT", weight: str = "n"
) -> Groups:
    """Communities by the method of Louvain; another generator may find others.

    Raises
    ------
    InputError
        There is no such edge, or a weight is negative.
    MissingExtraError
        networkx is not installed.
    """
    found = weighted(graph, kind=kind, weight=weight)
    if not found.size(weight="weight"):
        raise InputError("kind", "name edges of the graph", kind, f"It has {_kinds(graph)}.")
    community = networkx().community
    seed = int(rng.integers(2**31))
    parts = community.louvain_communities(found, weight="weight", seed=seed)
    members = sorted((tuple(sorted(part)) for part in parts), key=lambda part: (-len(part), part))
    group = {node: number for number, part in enumerate(members) for node in part}
    return Groups(
        members=tuple(members),
        modularity=float(community.modularity(found, parts, weight="weight")),
        crossing=crossing(graph, group, kind=kind, weight=weight),
    )


def crossing(
    graph: PropertyGraph, group: Mapping[str, object], *, kind: str = "NEXT", weight: str = "n"
) -> float:
    """Share of the weight on edges whose ends are in different groups, such as on other devices."""
    inside = across = 0.0
    for edge in graph.edges_of(kind):
        value = float(edge.properties.get(weight, 1.0))
        if group[edge.source] == group[edge.target]:
            inside += value
        else:
            across += value
    return across / (inside + across) if inside + across else 0.0


def centralities(
    graph: PropertyGraph, *, kind: str = "NEXT", weight: str = "n"
) -> dict[str, dict[str, float]]:
    """How central each node is, by name of the measure, then by node.

    `degree` is the weight of all its edges; `closeness` is scaled for graphs in several pieces
    (Wasserman and Faust, 1994); `betweenness` and `closeness` count edges; `pagerank` and
    `eigenvector` follow weights. Where the power iteration does not end, as on a graph without
    cycles, `eigenvector` is left out.

    Raises
    ------
    InputError
    MissingExtraError
        networkx is not installed.
    """
    nx = networkx()
    found = weighted(graph, kind=kind, weight=weight)
    measures = {
        "degree": dict(found.degree(weight="weight")),
        "closeness": nx.closeness_centrality(found),
        "betweenness": nx.betweenness_centrality(found),
        "pagerank": nx.pagerank(found, weight="weight") if len(found) else {},
    }
    try:
        both = found.to_undirected()
        measures["eigenvector"] = nx.eigenvector_centrality(both, max_iter=1000, weight="weight")
    except nx.NetworkXException:
        pass
    return {
        name: {str(node): float(value) for node, value in values.items()}
        for name, values in measures.items()
    }


def bridges(graph: PropertyGraph, *, kind: str = "NEXT") -> tuple[tuple[str, str], ...]:
    """Edges without which the graph falls into more pieces, direction aside."""
    found = weighted(graph, kind=kind).to_undirected()
    return tuple(sorted(tuple(sorted(edge)) for edge in networkx().bridges(found)))


def summary(graph: PropertyGraph, *, kind: str = "NEXT") -> dict[str, float]:
    """Nodes, edges, density, pieces, clustering and diameter of the largest piece.

    Density is that of the directed graph; the rest takes edges without direction.
    """
    nx = networkx()
    found = weighted(graph, kind=kind)
    both = found.to_undirected()
    pieces = sorted(nx.connected_components(both), key=len, reverse=True)
    largest = both.subgraph(pieces[0]) if pieces else both
    return {
        "nodes": float(found.number_of_nodes()),
        "edges": float(found.number_of_edges()),
        "density": float(nx.density(found)),
        "pieces": float(len(pieces)),
        "clustering": float(nx.average_clustering(both)) if pieces else 0.0,
        "diameter": float(nx.diameter(largest)) if pieces else 0.0,
    }


def _ahead(graph: PropertyGraph, kind: str) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for edge in graph.edges_of(kind):
        field = f"p of an edge {kind}"
        p = _check.number(field, edge.properties.get("p"), low=0.0, high=1.0)
        found.setdefault(edge.source, []).append((edge.target, p))
    return found


def _known(graph: PropertyGraph, name: str) -> None:
    if all(node.id != name for node in graph.nodes):
        raise InputError("node", "be in the graph", name, f"Such as {_some(graph)}.")


def _some(graph: PropertyGraph) -> str:
    return ", ".join(node.id for node in graph.nodes[:3]) or "none: the graph is empty"


def _kinds(graph: PropertyGraph) -> str:
    names: Iterable[str] = dict.fromkeys(edge.kind for edge in graph.edges)
    return ", ".join(names) or "no edges"
