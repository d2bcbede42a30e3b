"""A trace, a table and a log as graphs, and what is asked of them."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from turnout.bench import graph_exports as exports
from turnout.bench import graph_measures as measures
from turnout.bench.graph_queries import QUERIES, Settings, ask, changed_routes
from turnout.bench.trace_graph import (
    Edge,
    Node,
    PropertyGraph,
    from_networkx,
    from_outcomes,
    from_rows,
    from_trace,
    networkx,
    with_similar,
)
from turnout.core import DataError, InputError, MissingExtraError, Outcomes, Trace

needs_networkx = pytest.mark.skipif(
    importlib.util.find_spec("networkx") is None, reason="networkx is not installed"
)


def chains(t: int = 3000, l: int = 5, e: int = 6, stay: float = 0.8, seed: int = 0) -> Trace:  # noqa: E741
    """Tokens that mostly keep to the chain of experts that starts where they do."""
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(e) for _ in range(l)])
    chain = rng.integers(0, e, t)
    experts = np.empty((t, l, 1), dtype=int)
    for layer in range(l):
        moved = rng.random(t) > stay
        chain = np.where(moved, rng.integers(0, e, t), chain)
        experts[:, layer, 0] = order[layer, chain]
    return Trace(experts=experts, e=e, requests=[0, t // 3, t])


def table() -> Outcomes:
    """Three prompts, two models, one cell never seen."""
    return Outcomes(
        inputs=["what is two and two", "write a long poem please", "what is two and two"],
        names=("small", "large"),
        quality=np.array([[1.0, 1.0], [0.0, 1.0], [np.nan, 0.5]]),
        cost=np.array([[1.0, 9.0], [1.0, 9.0], [np.nan, 9.0]]),
        group=["math", "art", "math"],
    )


def test_a_trace_by_hand() -> None:
    """Two tokens go from 0 to 1 and one from 1 to 0; layers keep their numbers."""
    trace = Trace(
        experts=np.array([[[0], [1]], [[0], [1]], [[1], [0]], [[0], [0]]]),
        e=2,
        layers=[3, 7],
        requests=[0, 2, 4],
        tags={"domain": np.array([1, 1, 0, 0])},
        tag_names={"domain": ("code", "prose")},
    )
    graph = from_trace(trace, devices=np.array([[0, 1], [1, 0]]), tag="domain")
    ways = {(e.source, e.target): dict(e.properties) for e in graph.edges_of("NEXT")}
    assert ways == {
        ("expert:3:0", "expert:7:0"): {"n": 1.0, "p": pytest.approx(1 / 3)},
        ("expert:3:0", "expert:7:1"): {"n": 2.0, "p": pytest.approx(2 / 3)},
        ("expert:3:1", "expert:7:0"): {"n": 1.0, "p": 1.0},
    }
    assert graph.counts() == {
        **{"Layer": 2, "Expert": 4, "Device": 2, "Request": 2},
        **{"IN": 4, "NEXT": 3, "ON": 4, "USED": 5},
    }
    assert [node.properties["domain"] for node in graph.nodes_of("Request")] == ["prose", "code"]
    assert [node.properties["load"] for node in graph.nodes_of("Expert")] == [3, 1, 2, 2]
    # Experts 0 of layer 3 and 1 of layer 7 share a device, as do 1 and 0: one token in four moves.
    where = {edge.source: edge.target for edge in graph.edges_of("ON")}
    assert measures.crossing(graph, where) == pytest.approx(1 / 4)


def test_masked_tokens_count_nowhere() -> None:
    """A graph is the same with and without tokens that are padding."""
    trace = Trace(
        experts=np.array([[[0], [1]], [[-1], [-1]], [[1], [0]]]),
        e=2,
        mask=np.array([True, False, True]),
    )
    plain = Trace(experts=np.array([[[0], [1]], [[1], [0]]]), e=2)
    assert from_trace(trace).edges == from_trace(plain).edges


def test_the_best_path_is_the_best_of_all() -> None:
    """Against every way through the layers, tried one by one; and the second to fifth, too."""
    graph = from_trace(chains(400, l=4, e=4, stay=0.5))
    p = {(e.source, e.target): float(e.properties["p"]) for e in graph.edges_of("NEXT")}
    load = {n.id: float(n.properties["load"]) for n in graph.nodes_of("Expert")}
    start = sum(load[f"expert:0:{j}"] for j in range(4))
    every = []
    for way in itertools.product(range(4), repeat=4):
        nodes = tuple(f"expert:{i}:{j}" for i, j in enumerate(way))
        steps = [p.get(pair, 0.0) for pair in itertools.pairwise(nodes)]
        every.append((math.prod(steps), math.prod(steps) * load[nodes[0]] / start, nodes))
    best = sorted(every, key=lambda way: -way[1])[:5]
    found = measures.best_paths(graph, most=5)
    assert [path.p for path in found] == pytest.approx([way[1] for way in best])
    between = [w for w in every if (w[2][0], w[2][-1]) == ("expert:0:1", "expert:3:2")]
    path = measures.best_path(graph, "expert:0:1", "expert:3:2")
    assert path is not None
    assert path.p == pytest.approx(max(between)[0])
    assert path.nodes == max(between)[2]
    assert measures.best_path(graph, "expert:3:2", "expert:0:1") is None


@needs_networkx
def test_the_best_path_is_the_shortest_of_networkx() -> None:
    """Dijkstra under -log p finds a way as likely."""
    graph = from_trace(chains())
    nx_graph = graph.only(edges=["NEXT"]).to_networkx()
    for _, _, data in nx_graph.edges(data=True):
        data["length"] = -math.log(data["p"])
    length = networkx().shortest_path_length(nx_graph, "expert:0:0", "expert:4:5", weight="length")
    path = measures.best_path(graph, "expert:0:0", "expert:4:5")
    assert path is not None
    assert path.p == pytest.approx(math.exp(-length))


@needs_networkx
def test_louvain_finds_the_chains() -> None:
    """Each chain is one community with one expert of each layer; a shuffled trace has none such."""
    trace = chains(stay=0.9)
    found = measures.louvain(from_trace(trace), rng=np.random.default_rng(0))
    assert [len(part) for part in found.members] == [5] * 6
    assert all(len({name.split(":")[1] for name in part}) == 5 for part in found.members)
    rng = np.random.default_rng(1)
    mixed = np.stack([rng.permutation(trace.experts[:, layer]) for layer in range(5)], axis=1)
    other = measures.louvain(from_trace(Trace(experts=mixed, e=6)), rng=rng)
    assert found.modularity > other.modularity + 0.2
    assert found.crossing < 0.2 < other.crossing


@needs_networkx
def test_modularity_and_centrality_by_hand() -> None:
    """Two pairs joined by one edge: Q = 2/3 - (2 x 1 + 1 x 2) / 9; the middle carries 2 of 6."""
    nodes = [
        Node(f"expert:{i}:0", "Expert", {"layer": i, "number": 0, "load": 1}) for i in range(4)
    ]
    edges = [
        Edge(f"expert:{i}:0", f"expert:{j}:0", "NEXT", {"n": 1, "p": 1.0})
        for i, j in ((0, 1), (1, 2), (2, 3))
    ]
    graph = PropertyGraph(tuple(nodes), tuple(edges))
    found = measures.louvain(graph, rng=np.random.default_rng(0))
    assert found.members == (("expert:0:0", "expert:1:0"), ("expert:2:0", "expert:3:0"))
    # Out and in degrees: pair one 2 and 1, pair two 1 and 2.
    assert found.modularity == pytest.approx(2 / 3 - (2 * 1 + 1 * 2) / 9)
    assert found.crossing == pytest.approx(1 / 3)
    central = measures.centralities(graph)
    assert central["degree"]["expert:1:0"] == 2.0
    # One of the six ordered pairs of others passes over it in 0 -> 2 and 0 -> 3.
    assert central["betweenness"]["expert:1:0"] == pytest.approx(2 / 6)
    assert len(measures.bridges(graph)) == 3
    shape = measures.summary(graph)
    assert (shape["pieces"], shape["diameter"], shape["density"]) == (1.0, 3.0, 3 / 12)


@needs_networkx
def test_there_and_back_is_the_same() -> None:
    """To networkx and back loses nothing; so does a file that networkx reads."""
    graph = from_trace(chains(200, l=3, e=3))
    back = from_networkx(graph.to_networkx())
    assert back.nodes == graph.nodes
    order = lambda edge: (edge.kind, edge.source, edge.target)  # noqa: E731
    assert sorted(back.edges, key=order) == sorted(graph.edges, key=order)
    nx = networkx()
    read = from_networkx(nx.parse_graphml(exports.graphml(graph)))
    assert read.nodes == graph.nodes
    assert read.counts() == graph.counts()


def test_a_table_by_hand() -> None:
    """Every seen cell is an edge; what an oracle takes is chosen; texts are hashed, not kept."""
    graph = from_outcomes(table())
    chosen = [(e.source, e.target) for e in graph.edges_of("ROUTED") if e.properties["chosen"]]
    assert chosen == [
        ("request:0", "model:small"),
        ("request:1", "model:large"),
        ("request:2", "model:large"),
    ]
    assert len(graph.edges_of("ROUTED")) == 5
    large = graph.nodes_of("Model")[1]
    assert dict(large.properties) == {"answers": 3, "quality": 2.5 / 3, "cost": 9.0}
    assert "two" not in exports.cytoscape(graph)
    near = with_similar(graph, table().inputs, rng=np.random.default_rng(0))
    assert [(e.source, e.target) for e in near.edges_of("SIMILAR")] == [("request:0", "request:2")]
    with pytest.raises(InputError, match="texts must hold one text for each of 3 requests"):
        with_similar(graph, ["one"], rng=np.random.default_rng(0))


def test_a_log_by_hand() -> None:
    """Clients, requests and models of a gateway's rows; what is unknown is left away."""
    rows = [
        {"id": "a", "key": "web", "model": "m", "cost": 2.0, "quality": None, "prompt": "hi"},
        {"id": "b", "key": "web", "model": "m", "cost": 4.0, "quality": 1.0},
        {"id": "c", "key": None, "model": "n"},
    ]
    graph = from_rows(rows)
    assert graph.counts() == {"Request": 3, "Client": 1, "Model": 2, "ROUTED": 3, "SENT": 2}
    assert dict(graph.nodes_of("Model")[0].properties) == {
        "answers": 2,
        "quality": 1.0,
        "cost": 3.0,
    }
    assert dict(graph.nodes_of("Model")[1].properties) == {"answers": 1}
    with pytest.raises(DataError, match="row 1 must name a model"):
        from_rows([{"id": "a"}])
    with pytest.raises(DataError, match="row 2 must have an id of its own"):
        from_rows([rows[0], rows[0]])
    moved = from_rows([{**rows[0], "model": "n"}, rows[1]])
    answer = changed_routes(graph, moved)
    assert answer.rows == (("request:a", "model:m", "model:n"),)
    assert answer.sentence == "1 of 2 requests changed."


@needs_networkx
def test_every_question_has_an_answer() -> None:
    """Each names as many titles as its rows have cells, and says something; limits are kept."""
    devices = np.tile(np.arange(6) // 3, (5, 1))
    trace = from_trace(chains(), devices=devices)
    settings = Settings(most=3, node="expert:0:0", to="expert:4:1")
    for name, (kind, _) in QUERIES.items():
        graph = from_outcomes(table()) if kind == "Model" else trace
        answer = ask(graph, name, settings)
        assert answer.sentence.endswith(".")
        assert len(answer.rows) <= max(3, 6 if name == "shape" else 3)
        assert all(len(row) == len(answer.titles) for row in answer.rows)


def test_the_cheapest_model_that_is_good_enough() -> None:
    """Large alone reaches 0.8; none reaches 0.9; the small one answers half right."""
    graph = from_outcomes(table())
    say = lambda quality: ask(graph, "models", Settings(quality=quality)).sentence  # noqa: E731
    assert say(0.8).startswith("model:large is the cheapest")
    assert say(0.5).startswith("model:small is the cheapest")
    assert say(0.9).startswith("No model reaches")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("hottest", Settings(), "query must be one of hot-experts"),
        ("models", Settings(), "kind Model, which this graph has none of"),
        ("after", Settings(), "--node must name a node"),
        ("path", Settings(node="expert:0:0", to="x"), "--to must name a node"),
    ],
)
def test_wrong_questions_are_refused(name: str, settings: Settings, message: str) -> None:
    """Unknown names, kinds that are not there, and nodes that are not named."""
    with pytest.raises(InputError, match=message):
        ask(from_trace(chains(50)), name, settings)


def test_wrong_graphs_are_refused() -> None:
    """Repeated ids, loose ends, negative weights, probabilities above one, wrong traces."""
    node = Node("a", "Expert", {})
    with pytest.raises(InputError, match="nodes must have an id each"):
        PropertyGraph((node, node))
    with pytest.raises(InputError, match="edge NEXT must join nodes"):
        PropertyGraph((node,), (Edge("a", "b", "NEXT", {}),))
    likely = PropertyGraph((node,), (Edge("a", "a", "NEXT", {"p": 1.5}),))
    with pytest.raises(InputError, match="p of an edge NEXT must be"):
        measures.best_path(likely, "a", "a")
    with pytest.raises(InputError, match="node must be in the graph"):
        measures.best_path(PropertyGraph((node,)), "a", "z")
    with pytest.raises(DataError, match="hold at least one choice"):
        from_trace(Trace(experts=np.full((2, 1, 1), -1), e=2))
    with pytest.raises(InputError, match=r"devices must have shape \(5, 6\)"):
        from_trace(chains(9), devices=np.zeros((1, 1), dtype=int))
    with pytest.raises(InputError, match="tag must be a tag of the trace: it has none"):
        from_trace(chains(9), tag="domain")


@needs_networkx
def test_negative_weights_are_refused() -> None:
    """No algorithm is given them."""
    node = Node("a", "Expert", {})
    graph = PropertyGraph((node,), (Edge("a", "a", "NEXT", {"n": -1.0}),))
    with pytest.raises(InputError, match="n of an edge NEXT must be a finite number >= 0"):
        measures.weighted(graph)
    with pytest.raises(InputError, match="kind must name edges of the graph"):
        measures.louvain(PropertyGraph((node,)), rng=np.random.default_rng(0))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without networkx the paths are still found, and the rest says what to install."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "networkx" else real(name, *a)
    )
    graph = from_trace(chains(100))
    assert ask(graph, "paths").rows
    with pytest.raises(MissingExtraError, match=r"turnout\[graph\]"):
        ask(graph, "communities")


def test_files_hold_the_graph(tmp_path: Path) -> None:
    """Each format has every node and edge; quotes and angle brackets are escaped."""
    odd = Node('q"<&>', "Expert", {"layer": 0, "number": 0, "load": 1, "ok": True})
    graph = from_trace(chains(100, l=3, e=4)).add_nodes([odd])
    for ending in exports.FORMATS:
        exports.write("-o", tmp_path / f"graph{ending}", graph)
    tree = ET.parse(tmp_path / "graph.graphml")
    space = "{http://graphml.graphdrawing.org/xmlns}"
    assert len(tree.findall(f".//{space}node")) == len(graph.nodes)
    assert len(tree.findall(f".//{space}edge")) == len(graph.edges)
    document: Any = json.loads((tmp_path / "graph.json").read_text())
    assert len(document["elements"]["edges"]) == len(graph.edges)
    lines = (tmp_path / "graph.dot").read_text().splitlines()
    assert sum(" -> " in line for line in lines) == len(graph.edges)
    assert any('"q\\"<&>"' in line for line in lines)
    ET.parse(tmp_path / "graph.svg")
    with pytest.raises(InputError, match=r"-o must end in one of \.graphml"):
        exports.write("-o", tmp_path / "graph.png", graph)


def test_a_picture_has_a_limit() -> None:
    """Of many experts those of greatest load are drawn, and the rest is counted."""
    graph = from_trace(chains(500, l=3, e=40))
    picture = ET.fromstring(exports.layered_svg(graph, most_nodes=30, most_edges=20))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}circle")) == 30
    assert len(picture.findall(f"{space}path")) <= 20
    assert "90 experts and" in "".join(picture.itertext())
    with pytest.raises(DataError, match="the graph must hold experts"):
        exports.layered_svg(from_outcomes(table()))
