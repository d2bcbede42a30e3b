"""Questions of a routing graph that have a name: rows of an answer, and one sentence.

Each is a function of the graph and a few settings; `QUERIES` lists them for the command line. Those
marked below need networkx, the others nothing.

    hot-experts      experts by load
    busiest-ways     transitions by tokens
    after            where the tokens of one expert go next
    paths            the most likely paths through all layers
    path             the most likely path between two experts
    requests         requests by how many experts they use, or models by what they answered
    models           models by quality, and the cheapest that reaches one
    communities      Louvain communities of experts                        (networkx)
    central          the most central experts                              (networkx)
    bridges          transitions without which the graph falls apart       (networkx)
    shape            density, pieces, clustering, diameter                 (networkx)
    devices          share of transitions between devices
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.bench import graph_measures as measures
from turnout.bench.trace_graph import PropertyGraph
from turnout.core import InputError

__all__ = ["QUERIES", "Answer", "Settings", "ask", "changed_routes"]


@dataclass(frozen=True)
class Settings:
    """What a question may need to know.

    Parameters
    ----------
    most : int
        Rows of an answer.
    node, to : str, optional
        Ids of nodes.
    quality : float, optional
        Least mean quality of a model.
    seed : int
        Of communities.
    """

    most: int = 10
    node: str | None = None
    to: str | None = None
    quality: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """Rows under titles, and what they mean.

    Parameters
    ----------
    titles : tuple of str
    rows : tuple of tuples
    sentence : str
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    sentence: str


def ask(graph: PropertyGraph, name: str, settings: Settings | None = None) -> Answer:
    """Answer a question by its name.

    Raises
    ------
    InputError
        There is no such question, or it needs a setting or a kind of node that is not there.
    MissingExtraError
        It needs networkx.
    """
    if name not in QUERIES:
        raise InputError("query", f"be one of {', '.join(QUERIES)}", name, "Choose one.")
    needed, query = QUERIES[name]
    if not graph.nodes_of(needed):
        rule = f"be about nodes of kind {needed}, which this graph has none of"
        raise InputError(f"query {name}", rule, sorted(graph.counts()), "Choose another.")
    return query(graph, settings or Settings())


def changed_routes(one: PropertyGraph, other: PropertyGraph) -> Answer:
    """Requests that two routers sent to different models, by edges marked `chosen`."""
    routes = [
        {e.source: e.target for e in graph.edges_of("ROUTED") if e.properties.get("chosen")}
        for graph in (one, other)
    ]
    both = [name for name in routes[0] if name in routes[1]]
    rows = tuple(
        (name, routes[0][name], routes[1][name])
        for name in both
        if routes[0][name] != routes[1][name]
    )
    return Answer(
        ("request", "before", "after"), rows, f"{len(rows):,} of {len(both):,} requests changed."
    )


def _hot(graph: PropertyGraph, settings: Settings) -> Answer:
    experts = graph.nodes_of("Expert")
    total: dict[Any, float] = {}
    for node in experts:
        layer = node.properties["layer"]
        total[layer] = total.get(layer, 0.0) + float(node.properties["load"])
    order = sorted(experts, key=lambda node: (-float(node.properties["load"]), node.id))
    rows = tuple(
        (
            node.id,
            node.properties["load"],
            float(node.properties["load"]) / (total[node.properties["layer"]] or 1.0),
        )
        for node in order[: settings.most]
    )
    idle = sum(node.properties["load"] == 0 for node in experts)
    sentence = f"{rows[0][0]} is chosen most; {idle:,} of {len(experts):,} never are."
    return Answer(("expert", "choices", "share of its layer"), rows, sentence)


def _ways(graph: PropertyGraph, settings: Settings) -> Answer:
    edges = sorted(graph.edges_of("NEXT"), key=lambda e: (-float(e.properties["n"]), e.source))
    rows = tuple(
        (edge.source, edge.target, edge.properties["n"], edge.properties["p"])
        for edge in edges[: settings.most]
    )
    total = sum(float(edge.properties["n"]) for edge in edges)
    share = sum(float(row[2]) for row in rows) / (total or 1.0)
    sentence = f"These {len(rows):,} of {len(edges):,} ways take {share:.0%} of all transitions."
    return Answer(("from", "to", "tokens", "p"), rows, sentence)


def _after(graph: PropertyGraph, settings: Settings) -> Answer:
    node = _needed(graph, settings.node, "--node")
    edges = [edge for edge in graph.edges_of("NEXT") if edge.source == node]
    edges.sort(key=lambda edge: (-float(edge.properties["p"]), edge.target))
    rows = tuple(
        (edge.target, edge.properties["n"], edge.properties["p"]) for edge in edges[: settings.most]
    )
    p = np.array([float(edge.properties["p"]) for edge in edges])
    bits = float(-(p * np.log2(p)).sum()) if len(p) else 0.0
    sentence = f"{node} goes on to {len(edges):,} experts; where to is worth {bits:.2f} bits."
    return Answer(("expert", "tokens", "p"), rows, sentence)


def _paths(graph: PropertyGraph, settings: Settings) -> Answer:
    found = measures.best_paths(graph, most=settings.most)
    rows = tuple((_line(path.nodes), path.p) for path in found)
    total = sum(path.p for path in found)
    sentence = f"If each step forgot the last, {total:.2%} of tokens would take these paths."
    return Answer(("experts by layer", "p"), rows, sentence)


def _path(graph: PropertyGraph, settings: Settings) -> Answer:
    source = _needed(graph, settings.node, "--node")
    target = _needed(graph, settings.to, "--to")
    found = measures.best_path(graph, source, target)
    if found is None:
        return Answer(("experts by layer", "p"), (), f"No token goes from {source} to {target}.")
    sentence = f"The most likely way has p = {found.p:.3g}."
    return Answer(("experts by layer", "p"), ((_line(found.nodes), found.p),), sentence)


def _requests(graph: PropertyGraph, settings: Settings) -> Answer:
    used: dict[str, list[float]] = {}
    for edge in (*graph.edges_of("USED"), *graph.edges_of("ROUTED")):
        used.setdefault(edge.source, []).append(float(edge.properties.get("n", 1.0)))
    requests = {node.id: node for node in graph.nodes_of("Request")}
    order = sorted(used, key=lambda name: (-len(used[name]), name))
    rows = tuple(
        (name, len(used[name]), requests[name].properties.get("domain", ""))
        for name in order[: settings.most]
    )
    mean = float(np.mean([len(some) for some in used.values()])) if used else 0.0
    sentence = f"A request reaches {mean:.1f} destinations on average."
    return Answer(("request", "destinations", "domain"), rows, sentence)


def _models(graph: PropertyGraph, settings: Settings) -> Answer:
    models = graph.nodes_of("Model")
    order = sorted(models, key=lambda node: (-_number(node.properties, "quality"), node.id))
    rows = tuple(
        (
            node.id,
            node.properties["answers"],
            node.properties.get("quality", ""),
            node.properties.get("cost", ""),
        )
        for node in order[: settings.most]
    )
    titles = ("model", "answers", "quality", "cost")
    if settings.quality is None:
        return Answer(titles, rows, f"{order[0].id} answers best.")
    able = [node for node in order if _number(node.properties, "quality") >= settings.quality]
    if not able:
        return Answer(titles, rows, f"No model reaches a quality of {settings.quality:g}.")
    cheap = min(able, key=lambda node: (_number(node.properties, "cost", np.inf), node.id))
    sentence = f"{cheap.id} is the cheapest that reaches a quality of {settings.quality:g}."
    return Answer(titles, rows, sentence)


def _communities(graph: PropertyGraph, settings: Settings) -> Answer:
    found = measures.louvain(graph, rng=np.random.default_rng(settings.seed))
    rows = tuple((len(part), _line(part)) for part in found.members[: settings.most])
    sentence = (
        f"{len(found.members):,} communities, modularity {found.modularity:.3f}; "
        f"{found.crossing:.0%} of transitions leave their community."
    )
    return Answer(("experts", "who"), rows, sentence)


def _central(graph: PropertyGraph, settings: Settings) -> Answer:
    found = measures.centralities(graph)
    order = sorted(found["pagerank"], key=lambda name: (-found["pagerank"][name], name))
    titles = ("expert", *found)
    rows = tuple(
        (name, *(found[measure][name] for measure in found)) for name in order[: settings.most]
    )
    return Answer(titles, rows, f"{order[0]} is the most central by PageRank.")


def _bridges(graph: PropertyGraph, settings: Settings) -> Answer:
    found = measures.bridges(graph)
    sentence = f"{len(found):,} transitions are the only link between two parts."
    return Answer(("from", "to"), found[: settings.most], sentence)


def _shape(graph: PropertyGraph, settings: Settings) -> Answer:
    found = measures.summary(graph)
    sentence = (
        f"{found['density']:.1%} of the possible transitions are used, in "
        f"{found['pieces']:.0f} separate parts."
    )
    return Answer(("measure", "value"), tuple(found.items()), sentence)


def _devices(graph: PropertyGraph, settings: Settings) -> Answer:
    where = {edge.source: edge.target for edge in graph.edges_of("ON")}
    load: dict[str, float] = {}
    for node in graph.nodes_of("Expert"):
        load[where[node.id]] = load.get(where[node.id], 0.0) + float(node.properties["load"])
    total = sum(load.values()) or 1.0
    order = sorted(load, key=lambda name: (-load[name], name))
    rows = tuple((name, load[name], load[name] / total) for name in order[: settings.most])
    share = measures.crossing(graph, where)
    return Answer(
        ("device", "choices", "share"), rows, f"{share:.0%} of transitions go to another device."
    )


def _needed(graph: PropertyGraph, name: str | None, option: str) -> str:
    known = {node.id for node in graph.nodes}
    if name is None or name not in known:
        some = ", ".join(list(known)[:3] if name is None else sorted(known)[:3])
        raise InputError(option, "name a node of the graph", name, f"Such as {some}.")
    return name


def _line(nodes: tuple[str, ...]) -> str:
    """Experts in short: layer and number."""
    return " ".join(node.removeprefix("expert:").replace(":", ".") for node in nodes)


def _number(properties: Mapping[str, Any], name: str, absent: float = -np.inf) -> float:
    value = properties.get(name)
    return float(value) if isinstance(value, int | float) else absent


#: What a question is about, and what answers it.
QUERIES: Mapping[str, tuple[str, Callable[[PropertyGraph, Settings], Answer]]] = {
    "hot-experts": ("Expert", _hot),
    "busiest-ways": ("Expert", _ways),
    "after": ("Expert", _after),
    "paths": ("Expert", _paths),
    "path": ("Expert", _path),
    "requests": ("Request", _requests),
    "models": ("Model", _models),
    "communities": ("Expert", _communities),
    "central": ("Expert", _central),
    "bridges": ("Expert", _bridges),
    "shape": ("Expert", _shape),
    "devices": ("Device", _devices),
}
