"""Files of a property graph that other tools open, and a picture of the paths of experts.

`.graphml` (yEd, Gephi, networkx), `.dot` (Graphviz), `.json` (Cytoscape and its JavaScript), `.svg`
(any browser): layers from left to right, experts from top to bottom, a line as wide as the share of
tokens that take it. Nothing is needed to write them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from turnout.bench import output
from turnout.bench.trace_graph import Edge, Node, PropertyGraph
from turnout.core import DataError, InputError

__all__ = ["FORMATS", "cytoscape", "dot", "graphml", "layered_svg", "write"]

#: Endings that can be written.
FORMATS = (".graphml", ".dot", ".json", ".svg")

_TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


def write(option: str, path: str | Path, graph: PropertyGraph) -> None:
    """Write a graph in the format that the ending of the path names.

    Raises
    ------
    InputError
        The ending is none of `FORMATS`, or the file cannot be written.
    """
    makers = dict(zip(FORMATS, (graphml, dot, cytoscape, layered_svg), strict=True))
    ending = Path(path).suffix.lower()
    if ending not in makers:
        raise InputError(option, f"end in one of {', '.join(FORMATS)}", str(path), "Choose one.")
    output.write(option, path, makers[ending](graph).encode())


def graphml(graph: PropertyGraph) -> str:
    """GraphML with one typed key for each property of nodes and of edges.

    A property that is a whole number here and a broken one there is a double; of other mixtures,
    text.
    """
    keys: dict[tuple[str, str], str] = {}
    for place, ones in (("node", graph.nodes), ("edge", graph.edges)):
        for one in ones:
            for name, value in _all(one).items():
                kind = _TYPES[type(value)]
                before = keys.get((place, name), kind)
                if before != kind:
                    kind = "double" if {before, kind} == {"long", "double"} else "string"
                keys[place, name] = kind
    number = {key: f"d{k}" for k, key in enumerate(keys)}
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    ]
    for (place, name), kind in keys.items():
        about = f'id="{number[place, name]}" for="{place}" attr.name="{escape(name)}"'
        lines.append(f'  <key {about} attr.type="{kind}"/>')
    lines.append('  <graph edgedefault="directed">')

    def told(place: str, one: Node | Edge) -> str:
        return "".join(
            f'<data key="{number[place, name]}">{escape(_text(value))}</data>'
            for name, value in _all(one).items()
        )

    for node in graph.nodes:
        lines.append(f'    <node id="{escape(node.id)}">{told("node", node)}</node>')
    for k, edge in enumerate(graph.edges):
        ends = f'id="e{k}" source="{escape(edge.source)}" target="{escape(edge.target)}"'
        lines.append(f"    <edge {ends}>{told('edge', edge)}</edge>")
    return "\n".join([*lines, "  </graph>", "</graphml>", ""])


def dot(graph: PropertyGraph) -> str:
    """Graphviz, with every property as an attribute."""

    def told(one: Node | Edge) -> str:
        return ", ".join(f"{_quoted(k)}={_quoted(_text(v))}" for k, v in _all(one).items())

    lines = ["digraph turnout {", "  rankdir=LR;"]
    lines += [f"  {_quoted(node.id)} [{told(node)}];" for node in graph.nodes]
    lines += [
        f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [{told(edge)}];"
        for edge in graph.edges
    ]
    return "\n".join([*lines, "}", ""])


def cytoscape(graph: PropertyGraph) -> str:
    """The JSON that Cytoscape and cytoscape.js load."""
    nodes: list[dict[str, Any]] = [{"data": {**_all(node), "id": node.id}} for node in graph.nodes]
    edges: list[dict[str, Any]] = [
        {"data": {**_all(edge), "id": f"e{k}", "source": edge.source, "target": edge.target}}
        for k, edge in enumerate(graph.edges)
    ]
    return json.dumps({"elements": {"nodes": nodes, "edges": edges}}, ensure_ascii=False) + "\n"


def layered_svg(graph: PropertyGraph, *, most_nodes: int = 400, most_edges: int = 600) -> str:
    """A picture of the experts of a trace and the ways between them.

    Parameters
    ----------
    graph : PropertyGraph
    most_nodes : int
        Experts drawn, evenly over the layers; in each layer those of greatest load.
    most_edges : int
        Ways drawn, those of most tokens.

    Raises
    ------
    DataError
        The graph has no experts.
    """
    experts = graph.nodes_of("Expert")
    if not experts:
        hint = "Only traces have a layered picture; write .graphml instead."
        raise DataError("the graph", "hold experts", sorted(graph.counts()), hint)
    layers: dict[int, list[Node]] = {}
    for node in experts:
        layers.setdefault(int(node.properties["layer"]), []).append(node)
    room = max(1, most_nodes // len(layers))
    place: dict[str, tuple[float, float]] = {}
    height = 22.0
    shown: dict[str, Node] = {}
    for column, number in enumerate(sorted(layers)):
        some = sorted(layers[number], key=lambda node: -float(node.properties["load"]))[:room]
        for row, node in enumerate(sorted(some, key=lambda n: int(n.properties["number"]))):
            place[node.id] = (70.0 + 130.0 * column, 50.0 + height * row)
            shown[node.id] = node
    ways = [e for e in graph.edges_of("NEXT") if e.source in place and e.target in place]
    ways.sort(key=lambda edge: -float(edge.properties["n"]))
    left_out = len(graph.edges_of("NEXT")) - min(len(ways), most_edges)
    ways = ways[:most_edges]
    width = 140.0 + 130.0 * (len(layers) - 1)
    tall = 90.0 + height * max(min(room, len(some)) for some in layers.values())
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {tall:.0f}" '
            'font-family="sans-serif" font-size="11" role="img" aria-label="Ways of tokens '
            'from expert to expert">',
            *(_heading(column, number) for column, number in enumerate(sorted(layers))),
            *(_way(edge, place, float(ways[0].properties["n"])) for edge in reversed(ways)),
            *(_dot(node, place[name], layers) for name, node in shown.items()),
            f'<text x="70" y="{tall - 12:.0f}" fill="#666">{len(experts) - len(shown)} experts and '
            f"{left_out} ways of fewest tokens are not drawn.</text>"
            if left_out or len(shown) < len(experts)
            else "",
            "</svg>",
            "",
        ]
    )


def _heading(column: int, number: int) -> str:
    return f'<text x="{70 + 130 * column}" y="24" text-anchor="middle">layer {number}</text>'


def _way(edge: Edge, place: Mapping[str, tuple[float, float]], largest: float) -> str:
    (x0, y0), (x1, y1) = place[edge.source], place[edge.target]
    share = float(edge.properties["n"]) / largest
    bend = f"M{x0:.0f} {y0:.0f}C{x0 + 60:.0f} {y0:.0f} {x1 - 60:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
    note = (
        f"{edge.source} to {edge.target}: {edge.properties['n']:,.6g} tokens, "
        f"{float(edge.properties['p']):.0%} of its own"
    )
    style = f'stroke-width="{0.4 + 5 * share:.2f}" stroke-opacity="{0.15 + 0.7 * share:.2f}"'
    return f'<path d="{bend}" fill="none" stroke="#2a6f97" {style}><title>{note}</title></path>'


def _dot(node: Node, at: tuple[float, float], layers: Mapping[int, list[Node]]) -> str:
    mates = layers[int(node.properties["layer"])]
    largest = max(float(mate.properties["load"]) for mate in mates) or 1.0
    radius = 2.0 + 6.0 * (float(node.properties["load"]) / largest) ** 0.5
    note = f"{node.id}: {node.properties['load']:,} choices"
    circle = f'<circle cx="{at[0]:.0f}" cy="{at[1]:.0f}" r="{radius:.1f}" fill="#bc4749">'
    name = f'<text x="{at[0] - 12:.0f}" y="{at[1] + 4:.0f}" text-anchor="end" fill="#444">'
    return f"{circle}<title>{escape(note)}</title></circle>{name}{node.properties['number']}</text>"


def _all(one: Node | Edge) -> dict[str, Any]:
    return {"kind": one.kind, **one.properties}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
