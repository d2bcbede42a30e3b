"""A routing trace, a table of outcomes or a log of requests as a graph that can be asked.

Routes: nothing. A trace already is a graph: tokens go from expert to expert, requests use experts
or models, experts sit on devices. Here it becomes a *property graph*, in which nodes and edges have
a kind and properties, so that the standard questions of graphs can be asked of it: the most likely
path, the communities, what is central, what is cut off by one missing link.

Kinds of nodes and edges, with their properties::

    Layer(number)   Expert(layer, number, load)   Request(tokens | domain, text_hash, chars, ...)
    Model(quality, cost, answers)   Client()   Device()
    IN       Expert -> Layer
    NEXT     Expert -> Expert   n tokens that used the one and then the other, p = n / sum n
    USED     Request -> Expert  n tokens
    ON       Expert -> Device
    ROUTED   Request -> Model   quality, cost, latency, chosen
    SENT     Client -> Request
    SIMILAR  Request -> Request jaccard

Tokens are counted and never nodes: a node a token would be millions. A token that uses several
experts in a layer counts as one token over all pairs with the next (`turnout.bench.traces.pairs`).

Algorithms are in `graph_measures`, named questions in `graph_queries`, files in `graph_exports`.

Units: n in tokens, p in [0, 1], cost in the currency of the table, latency in seconds.

Differs from the paper: see `CARD.differs`. Cost: O(t l k^2 + l e^2) for a trace.

Examples
--------
>>> import numpy as np
>>> from turnout.core import Trace
>>> trace = Trace(experts=np.array([[[0], [1]], [[0], [1]], [[1], [0]]]), e=2)
>>> graph = from_trace(trace)
>>> [(edge.source, edge.target, edge.properties["p"]) for edge in graph.edges_of("NEXT")]
[('expert:0:0', 'expert:1:1', 1.0), ('expert:0:1', 'expert:1:0', 1.0)]
>>> len(graph.nodes)
6
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator

from turnout.bench.traces.pairs import count_pairs
from turnout.core import Card, DataError, InputError, MissingExtraError, Outcomes, Trace
from turnout.core._check import Int

__all__ = [
    "CARD",
    "Edge",
    "GraphStore",
    "Node",
    "PropertyGraph",
    "from_networkx",
    "from_outcomes",
    "from_rows",
    "from_trace",
    "networkx",
    "with_similar",
]

CARD = Card(
    name="bench.trace_graph",
    system="Property graph of routing traces",
    title="Understanding Graph Databases: A Comprehensive Tutorial and Survey",
    authors="Anuyah, Bolade, Agbaakin",
    year=2024,
    id="arXiv:2411.09999",
    routes="nothing: asks a trace questions about its paths",
    kind="score",
    recipe="",
    signal=("nothing",),
    covers=(
        "The property graph: typed nodes and edges with properties",
        "Shortest paths, components, degree, closeness, betweenness, eigenvector and PageRank "
        "centrality, clustering, density, bridges, Louvain communities and modularity",
        "Visualisation: a layered picture, and files that other tools open",
    ),
    differs=(
        "The tutorial is about graphs of any kind; the schema of routing traces is this project's.",
        "The graph is kept in memory and networkx computes; no graph database is needed, and none "
        "is spoken to. A store behind `GraphStore` may be one.",
        "There is no query language: questions have names and parameters.",
        "The most likely path is the shortest under -log p, with p the share of tokens that go on "
        "from an expert to the next.",
    ),
    aliases=("graph database", "property graph", "graph of traces"),
    cost="O(t l k^2 + l e^2) to build; betweenness O(nodes edges), the rest near linear",
)

Value = str | int | float | bool


@dataclass(frozen=True)
class Node:
    """One node.

    Parameters
    ----------
    id : str
        Different for each node.
    kind : str
        Such as "Expert".
    properties : mapping of str to str, int, float or bool
    """

    id: str
    kind: str
    properties: Mapping[str, Value]


@dataclass(frozen=True)
class Edge:
    """One directed edge; two nodes may have several.

    Parameters
    ----------
    source, target : str
        Ids of nodes.
    kind : str
        Such as "NEXT".
    properties : mapping of str to str, int, float or bool
    """

    source: str
    target: str
    kind: str
    properties: Mapping[str, Value]


class GraphStore(Protocol):
    """What a place for graphs must do, in memory or in a database."""

    def add_nodes(self, nodes: Iterable[Node]) -> GraphStore:
        """The store with more nodes."""
        ...

    def add_edges(self, edges: Iterable[Edge]) -> GraphStore:
        """The store with more edges."""
        ...

    def to_networkx(self) -> Any:
        """All of it as a `networkx.MultiDiGraph`."""
        ...


@dataclass(frozen=True, eq=False)
class PropertyGraph:
    """Nodes and edges in memory; a `GraphStore`.

    Parameters
    ----------
    nodes : tuple of Node
    edges : tuple of Edge

    Raises
    ------
    InputError
        Two nodes share an id, or an edge leads to none.
    """

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        known: set[str] = set()
        for node in self.nodes:
            if node.id in known:
                raise InputError("nodes", "have an id each", node.id, "Rename the second one.")
            known.add(node.id)
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in known:
                    hint = "Add the node before its edges."
                    raise InputError(f"edge {edge.kind}", "join nodes of the graph", end, hint)

    def add_nodes(self, nodes: Iterable[Node]) -> PropertyGraph:
        """The graph with more nodes."""
        return PropertyGraph((*self.nodes, *nodes), self.edges)

    def add_edges(self, edges: Iterable[Edge]) -> PropertyGraph:
        """The graph with more edges."""
        return PropertyGraph(self.nodes, (*self.edges, *edges))

    def nodes_of(self, kind: str) -> tuple[Node, ...]:
        """The nodes of a kind, in order."""
        return tuple(node for node in self.nodes if node.kind == kind)

    def edges_of(self, kind: str) -> tuple[Edge, ...]:
        """The edges of a kind, in order."""
        return tuple(edge for edge in self.edges if edge.kind == kind)

    def only(
        self, *, nodes: Sequence[str] | None = None, edges: Sequence[str] | None = None
    ) -> PropertyGraph:
        """The nodes and edges of some kinds; edges whose ends are gone go, too."""
        kept = tuple(node for node in self.nodes if nodes is None or node.kind in nodes)
        known = {node.id for node in kept}
        return PropertyGraph(
            kept,
            tuple(
                edge
                for edge in self.edges
                if (edges is None or edge.kind in edges)
                and edge.source in known
                and edge.target in known
            ),
        )

    def counts(self) -> dict[str, int]:
        """How many nodes and edges there are of each kind."""
        found: dict[str, int] = {}
        for kind in (*(node.kind for node in self.nodes), *(edge.kind for edge in self.edges)):
            found[kind] = found.get(kind, 0) + 1
        return found

    def to_networkx(self) -> Any:
        """A `networkx.MultiDiGraph`; the kind is the attribute `kind`.

        Raises
        ------
        MissingExtraError
            networkx is not installed.
        """
        graph = networkx().MultiDiGraph()
        for node in self.nodes:
            graph.add_node(node.id, **{**node.properties, "kind": node.kind})
        for edge in self.edges:
            graph.add_edge(edge.source, edge.target, **{**edge.properties, "kind": edge.kind})
        return graph


def networkx() -> Any:
    """The package networkx, imported now.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    if importlib.util.find_spec("networkx") is None:
        raise MissingExtraError("networkx", "graph")
    return importlib.import_module("networkx")


def from_networkx(graph: Any) -> PropertyGraph:
    """A graph of networkx, such as one that was read from a file; what has no kind is "Node".

    Edges of an undirected graph go from the first end to the second.
    """
    nodes = tuple(
        Node(str(name), str(data.get("kind", "Node")), _plain(data))
        for name, data in graph.nodes(data=True)
    )
    edges = tuple(
        Edge(str(one), str(other), str(data.get("kind", "EDGE")), _plain(data))
        for one, other, data in graph.edges(data=True)
    )
    return PropertyGraph(nodes, edges)


def from_trace(
    trace: Trace, *, devices: Int | None = None, tag: str | None = None
) -> PropertyGraph:
    """Layers, experts, transitions and requests of a trace.

    Parameters
    ----------
    trace : Trace
        Masked tokens count nowhere.
    devices : integer array (l, e), optional
        Where each expert sits.
    tag : str, optional
        A tag of the trace that gives each request its domain: the most frequent of its tokens.

    Raises
    ------
    DataError
        No token chose any expert.
    InputError
        `devices` has another shape, or there is no such tag.
    """
    trace = trace.real()
    if not bool((trace.experts >= 0).any()):
        raise DataError("trace", "hold at least one choice", "none", "Record some tokens.")
    if devices is not None and np.shape(devices) != (trace.l, trace.e):
        rule = f"have shape ({trace.l}, {trace.e})"
        raise InputError("devices", rule, np.shape(devices), "Place every expert.")
    layers = trace.layer_numbers.tolist()
    counts = np.stack([_counts(trace.experts[:, place], trace.e) for place in range(trace.l)])
    nodes = [Node(f"layer:{number}", "Layer", {"number": number}) for number in layers]
    edges: list[Edge] = []
    for place, number in enumerate(layers):
        for expert in range(trace.e):
            name = f"expert:{number}:{expert}"
            about = {"layer": number, "number": expert, "load": int(counts[place, expert])}
            nodes.append(Node(name, "Expert", about))
            edges.append(Edge(name, f"layer:{number}", "IN", {}))
    follows = count_pairs(trace.experts, trace.e).follows
    for place, table in enumerate(follows):
        total = table.sum(axis=1)
        for one, other in np.argwhere(table > 0).tolist():
            n = float(table[one, other])
            source = f"expert:{layers[place]}:{one}"
            target = f"expert:{layers[place + 1]}:{other}"
            about = {"n": n, "p": n / float(total[one])}
            edges.append(Edge(source, target, "NEXT", about))
    if devices is not None:
        nodes += [Node(f"device:{d}", "Device", {}) for d in np.unique(devices).tolist()]
        edges += [
            Edge(f"expert:{layers[i]}:{j}", f"device:{int(devices[i, j])}", "ON", {})
            for i in range(trace.l)
            for j in range(trace.e)
        ]
    more_nodes, more_edges = _requests(trace, layers, tag)
    return PropertyGraph((*nodes, *more_nodes), (*edges, *more_edges))


def from_outcomes(outcomes: Outcomes) -> PropertyGraph:
    """Requests and the models that answered them.

    The model of highest quality is marked `chosen`, the cheaper of equals: the route that an
    oracle takes.
    """
    nodes = []
    edges = []
    texts = None if isinstance(outcomes.inputs, np.ndarray) else outcomes.inputs
    for i in range(outcomes.n):
        about: dict[str, Value] = {}
        if outcomes.group is not None:
            about["domain"] = outcomes.group[i]
        if texts is not None:
            about |= {"text_hash": _hash(texts[i]), "chars": len(texts[i])}
        nodes.append(Node(f"request:{i}", "Request", about))
    seen = ~np.isnan(outcomes.quality)
    cost = np.where(np.isnan(outcomes.cost), np.inf, outcomes.cost)
    for i in range(outcomes.n):
        columns = np.flatnonzero(seen[i])
        best = columns[np.lexsort((cost[i, columns], -outcomes.quality[i, columns]))[:1]]
        for j in columns.tolist():
            about = {"quality": float(outcomes.quality[i, j]), "chosen": j in best}
            for name in ("cost", "latency"):
                table = getattr(outcomes, name)
                if table is not None and not np.isnan(table[i, j]):
                    about[name] = float(table[i, j])
            edges.append(Edge(f"request:{i}", f"model:{outcomes.names[j]}", "ROUTED", about))
    models = []
    for j, name in enumerate(outcomes.names):
        rows = seen[:, j]
        about = {"answers": int(rows.sum()), "quality": float(outcomes.quality[rows, j].mean())}
        priced = outcomes.cost[~np.isnan(outcomes.cost[:, j]), j]
        if len(priced):
            about["cost"] = float(priced.mean())
        models.append(Node(f"model:{name}", "Model", about))
    return PropertyGraph((*nodes, *models), tuple(edges))


def from_rows(rows: Iterable[Mapping[str, Any]]) -> PropertyGraph:
    """Requests of a gateway, one row each, with who sent them and who answered.

    Parameters
    ----------
    rows : iterable of mappings
        `model` is needed; `id`, `key` (the client), `cost`, `latency`, `quality` and `prompt` are
        taken where they are, as `turnout prompts export` writes them. The text of a prompt is kept
        as a hash alone.

    Raises
    ------
    DataError
        A row names no model, or two have one id.
    """
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    sums: dict[str, list[tuple[Any, Any]]] = {}
    for number, row in enumerate(rows):
        model = row.get("model")
        if not model:
            hint = "Leave out requests that nobody answered."
            raise DataError(f"row {number + 1}", "name a model", model, hint)
        name = f"request:{row.get('id', number)}"
        if name in nodes:
            raise DataError(f"row {number + 1}", "have an id of its own", row.get("id"), "Drop it.")
        about: dict[str, Value] = {}
        if isinstance(row.get("prompt"), str):
            about |= {"text_hash": _hash(row["prompt"]), "chars": len(row["prompt"])}
        nodes[name] = Node(name, "Request", about)
        told = {
            key: float(row[key])
            for key in ("cost", "latency", "quality")
            if isinstance(row.get(key), int | float)
        }
        edges.append(Edge(name, f"model:{model}", "ROUTED", {**told, "chosen": True}))
        sums.setdefault(str(model), []).append((told.get("quality"), told.get("cost")))
        if row.get("key"):
            client = f"client:{row['key']}"
            nodes.setdefault(client, Node(client, "Client", {}))
            edges.append(Edge(client, name, "SENT", {}))
    for model, seen in sums.items():
        about = {"answers": len(seen)}
        for place, key in enumerate(("quality", "cost")):
            known = [one[place] for one in seen if one[place] is not None]
            if known:
                about[key] = float(np.mean(known))
        nodes[f"model:{model}"] = Node(f"model:{model}", "Model", about)
    return PropertyGraph(tuple(nodes.values()), tuple(edges))


def with_similar(
    graph: PropertyGraph, texts: Sequence[str], *, rng: Generator, similarity: float = 0.8
) -> PropertyGraph:
    """The graph with an edge SIMILAR between requests whose texts nearly repeat each other.

    Parameters
    ----------
    graph : PropertyGraph
    texts : sequence of str
        Of the Request nodes, in their order.
    rng : Generator
    similarity : float
        Least share of runs of three words in common; in (0, 1].

    Raises
    ------
    InputError
        There are not as many texts as requests.
    """
    from turnout.parts.texts.minhash import Buckets, MinHash, bands_for
    from turnout.parts.texts.shingles import jaccard, shingles

    requests = graph.nodes_of("Request")
    if len(texts) != len(requests):
        rule = f"hold one text for each of {len(requests)} requests"
        raise InputError("texts", rule, len(texts), "Pass them in the order of the requests.")
    sets = shingles(texts)
    signatures = MinHash.draw(128, rng=rng).signatures(sets)
    pairs, _ = Buckets.build(signatures, bands=bands_for(128, similarity)).pairs()
    exact = jaccard(sets, pairs)
    return graph.add_edges(
        Edge(requests[i].id, requests[j].id, "SIMILAR", {"jaccard": float(value)})
        for (i, j), value in zip(pairs.tolist(), exact.tolist(), strict=True)
        if value >= similarity
    )


def _requests(trace: Trace, layers: list[int], tag: str | None) -> tuple[list[Node], list[Edge]]:
    """Request nodes with their USED edges; nothing where the trace knows no requests."""
    if tag is not None and tag not in trace.tags:
        rule = f"be a tag of the trace: {', '.join(trace.tags) or 'it has none'}"
        raise InputError("tag", rule, tag, "Correct the spelling.")
    if trace.requests is None:
        return [], []
    nodes: list[Node] = []
    edges: list[Edge] = []
    for r, (start, end) in enumerate(zip(trace.requests, trace.requests[1:], strict=False)):
        about: dict[str, Value] = {"tokens": int(end - start)}
        if tag is not None and end > start:
            values, count = np.unique(trace.tags[tag][start:end], return_counts=True)
            value = int(values[np.argmax(count)])
            names = trace.tag_names.get(tag)
            about["domain"] = names[value] if names and value >= 0 else str(value)
        nodes.append(Node(f"request:{r}", "Request", about))
        for place, number in enumerate(layers):
            counts = _counts(trace.experts[start:end, place], trace.e)
            edges += [
                Edge(f"request:{r}", f"expert:{number}:{j}", "USED", {"n": int(counts[j])})
                for j in np.flatnonzero(counts).tolist()
            ]
    return nodes, edges


def _counts(chosen: Any, e: int) -> Int:
    flat = chosen.ravel()
    counts: Int = np.bincount(flat[flat >= 0], minlength=e)
    return counts


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _plain(data: Mapping[str, Any]) -> dict[str, Value]:
    return {
        str(key): value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in data.items()
        if key != "kind"
    }
