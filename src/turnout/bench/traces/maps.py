"""The heat maps of a report, and how each is to be read."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist, squareform

from turnout.bench.traces import measures, pairs
from turnout.bench.traces.charts import Heat, Panel
from turnout.bench.traces.findings import fully, telling_group, telling_transition
from turnout.bench.traces.results import Analysis
from turnout.core._check import Float, Int

__all__ = ["MOST_PAIRED", "by_tag", "follows", "load", "together"]

#: Experts in a map of pairs: more cannot be told apart.
MOST_PAIRED = 64


def load(analysis: Analysis) -> Panel:
    """Load of each expert by layer, in even shares."""
    mean = analysis.counts.mean(axis=1, keepdims=True)
    values = np.divide(
        analysis.counts, mean, out=np.full(analysis.counts.shape, np.nan), where=mean > 0
    )
    rows = tuple(str(number) for number in analysis.layers)
    share = analysis.counts / np.maximum(analysis.counts.sum(axis=1, keepdims=True), 1)
    return Panel(
        key="load",
        title="Load of each expert",
        chart=Heat(
            rows=rows,
            columns=tuple(map(str, range(analysis.e))),
            values=values,
            x="expert",
            y="layer",
            unit="times an even share",
            note=lambda row, column: (
                f"layer {rows[row]}, expert {column}: {values[row, column]:.2f} times an even "
                f"share ({fully(float(share[row, column]))} of the choices)"
            ),
        ),
        caption="One row a layer, one cell an expert. Neutral: its even share of the "
        "layer's choices. Red: more. Blue: less. Crossed out: dead, no token chose it.",
    )


def by_tag(analysis: Analysis) -> Panel | None:
    """Experts by the values of the tag that tells most, in its most telling layer."""
    telling = telling_group(analysis)
    if telling is None:
        return None
    name, place = telling
    group = analysis.groups[name]
    table = group.counts[:, place]
    lift = measures.lift(table)
    # Side by side: experts that lean to the same value, those of one value by how much.
    strong = np.nan_to_num(lift)
    order = np.lexsort((-strong.max(axis=0), strong.argmax(axis=0)))
    order = order[table.sum(axis=0)[order] > 0]
    columns = tuple(str(expert) for expert in order)
    return Panel(
        key="tag",
        title=f"Experts by {name}, layer {analysis.layers[place]}",
        chart=Heat(
            rows=group.names,
            columns=columns,
            values=lift[:, order],
            x="expert, those of one leaning side by side",
            y=name,
            unit="times its share of all tokens",
            note=lambda row, column: (
                f"{group.names[row]}, expert {columns[column]}: {lift[row, order[column]]:.2f} "
                f"times as often as all tokens ({int(table[row, order[column]]):,} choices)"
            ),
        ),
        caption=f"The layer in which the {name} tells most. Red: tokens of this {name} choose the "
        "expert more often than all tokens do. Neutral all over would mean that the router does "
        f"not look at the {name}.",
    )


def together(analysis: Analysis) -> Panel | None:
    """Pairs of experts in a token, in the layer whose pairs differ most from chance."""
    if analysis.together is None or analysis.k <= 1 or analysis.e < 3:
        return None
    strength = np.array([pairs.association(one, analysis.t) for one in analysis.together])
    if np.isnan(strength).all():
        return None
    place = int(np.nanargmax(strength))
    matrix = analysis.together[place]
    shown = _most_used(analysis.counts[place])
    lift = pairs.pair_lift(matrix, analysis.t)[np.ix_(shown, shown)]
    order = _leaves(lift)
    names = tuple(str(expert) for expert in shown[order])
    values = lift[np.ix_(order, order)]
    together = matrix[np.ix_(shown, shown)][np.ix_(order, order)]
    few = (
        f" The {len(shown)} busiest of {analysis.e} experts are shown."
        if len(shown) == MOST_PAIRED < analysis.e
        else ""
    )
    return Panel(
        key="together",
        title=f"Experts chosen together, layer {analysis.layers[place]}",
        chart=Heat(
            rows=names,
            columns=names,
            values=values,
            x="expert, alike ones side by side",
            y="expert",
            unit="times chance",
            square=True,
            note=lambda row, column: (
                f"experts {names[row]} and {names[column]}: {int(together[row, column]):,} tokens, "
                f"{values[row, column]:.2f} times chance"
            ),
        ),
        caption="The layer whose pairs differ most from chance "
        f"({strength[place]:.2f} bits a pair). Red: two experts meet in a token more often than "
        "their loads alone would have it. Blocks along the diagonal are teams: put each on one "
        f"device.{few}",
    )


def follows(analysis: Analysis) -> Panel | None:
    """Experts of two layers, of the pair of layers that tell most of each other."""
    told = telling_transition(analysis)
    if told is None:
        return None
    total = told.matrix.sum()
    first, second = told.matrix.sum(axis=1), told.matrix.sum(axis=0)
    left, right = _most_used(first), _most_used(second)
    chance = np.outer(first, second) / total
    lift = np.divide(told.matrix, chance, out=np.full(chance.shape, np.nan), where=chance > 0)
    part = lift[np.ix_(left, right)]
    # Targets stand where their strongest source stands, so that strong pairs run down a diagonal.
    rows = _leaves_of_rows(np.nan_to_num(part))
    columns = np.lexsort(
        (-np.nan_to_num(part[rows]).max(axis=0), np.nan_to_num(part[rows]).argmax(axis=0))
    )
    values = part[np.ix_(rows, columns)]
    sources = tuple(str(expert) for expert in left[rows])
    targets = tuple(str(expert) for expert in right[columns])
    counts = told.matrix[np.ix_(left, right)][np.ix_(rows, columns)]
    return Panel(
        key="follows",
        title=f"From layer {told.source} to layer {told.target}",
        chart=Heat(
            rows=sources,
            columns=targets,
            values=values,
            x=f"expert in layer {told.target}",
            y=f"expert in layer {told.source}",
            unit="times chance",
            square=True,
            note=lambda row, column: (
                f"from {sources[row]} to {targets[column]}: {counts[row, column]:,.0f} tokens, "
                f"{values[row, column]:.2f} times chance"
            ),
        ),
        caption=f"The pair of layers that tell most of each other ({told.bits:.2f} bits). Red: "
        "tokens of the row's expert go on to the column's expert more often than chance. "
        "Experts are ordered so that strong pairs run down the diagonal.",
    )


def _most_used(load: Float | Int) -> Int:
    """The busiest experts that are not dead, in the order of their numbers."""
    busy = np.argsort(-load, kind="stable")[:MOST_PAIRED]
    return np.sort(busy[load[busy] > 0])


def _leaves(lift: Float) -> Int:
    """An order of experts in which pairs that meet often stand close."""
    if len(lift) < 3:
        return np.arange(len(lift))
    near = np.log2(np.clip(np.nan_to_num(lift, nan=1.0), 1 / 16, 16))
    far = squareform(near.max() - (near + near.T) / 2, checks=False)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(far, "average"), far)))


def _leaves_of_rows(values: Float) -> Int:
    """An order of rows in which alike ones stand close."""
    if len(values) < 3:
        return np.arange(len(values))
    far = pdist(np.log2(np.clip(values, 1 / 16, 16)))
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(far, "average"), far)))
