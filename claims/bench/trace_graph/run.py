"""A trace with hidden chains of experts, and what algorithms of graphs find in it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.random import Generator
from sklearn.metrics import normalized_mutual_info_score

from turnout.bench import graph_measures as measures
from turnout.bench.trace_graph import PropertyGraph, from_networkx, from_trace
from turnout.core import Trace

T, LAYERS, EXPERTS, DEVICES = 20_000, 6, 8, 4
#: Probability to stay on a chain from layer to layer, less chance.
STAY = 0.7


def run(seed: int, data: Path | None) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    trace, chain = _chains(rng)
    devices = np.tile(np.arange(EXPERTS) // (EXPERTS // DEVICES), (LAYERS, 1))
    graph = from_trace(trace, devices=devices)
    found = measures.louvain(graph, rng=rng)
    group = {name: number for number, part in enumerate(found.members) for name in part}
    names = [f"expert:{layer}:{j}" for layer in range(LAYERS) for j in range(EXPERTS)]
    truth = [int(chain[layer, j]) for layer in range(LAYERS) for j in range(EXPERTS)]
    shuffled = np.stack([rng.permutation(trace.experts[:, i]) for i in range(LAYERS)], axis=1)
    mixed = measures.louvain(from_trace(Trace(experts=shuffled, e=EXPERTS)), rng=rng)
    where: dict[str, object] = {edge.source: edge.target for edge in graph.edges_of("ON")}
    placed = measures.crossing(graph, where)
    return {
        "agreement": float(normalized_mutual_info_score(truth, [group[name] for name in names])),
        "communities": float(len(found.members)),
        "modularity": found.modularity,
        "modularity_shuffled": mixed.modularity,
        "modularity_gain": found.modularity - mixed.modularity,
        "crossing": found.crossing,
        "crossing_devices": placed,
        "crossing_saved": placed - found.crossing,
        "path_gap": _path_gap(graph),
        "round_trip": float(_same(graph, from_networkx(graph.to_networkx()))),
    }


def _chains(rng: Generator) -> tuple[Trace, np.ndarray]:
    """A trace, and the chain (LAYERS, EXPERTS) of each expert."""
    order = np.stack([rng.permutation(EXPERTS) for _ in range(LAYERS)])
    at = rng.integers(0, EXPERTS, T)
    experts = np.empty((T, LAYERS, 1), dtype=int)
    for layer in range(LAYERS):
        moved = rng.random(T) > STAY
        at = np.where(moved, rng.integers(0, EXPERTS, T), at)
        experts[:, layer, 0] = order[layer, at]
    return Trace(experts=experts, e=EXPERTS), np.argsort(order, axis=1)


def _path_gap(graph: PropertyGraph) -> float:
    """Best of all paths by a product over the whole grid, less what the search finds."""
    p = np.zeros((LAYERS - 1, EXPERTS, EXPERTS))
    for edge in graph.edges_of("NEXT"):
        (_, layer, one), (_, _, other) = (name.split(":") for name in (edge.source, edge.target))
        p[int(layer), int(one), int(other)] = float(edge.properties["p"])
    load = np.array([float(n.properties["load"]) for n in graph.nodes_of("Expert")][:EXPERTS])
    every = load / load.sum()
    for step in p:
        every = (every.reshape(-1, EXPERTS)[:, :, None] * step).reshape(-1)
    (best,) = measures.best_paths(graph, most=1)
    return abs(math.log(best.p) - math.log(float(every.max())))


def _same(one: PropertyGraph, other: PropertyGraph) -> bool:
    key = [
        sorted((e.kind, e.source, e.target, tuple(e.properties.items())) for e in graph.edges)
        for graph in (one, other)
    ]
    return one.nodes == other.nodes and key[0] == key[1]
