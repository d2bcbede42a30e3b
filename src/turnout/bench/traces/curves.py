"""The charts over the layers, and how each is to be read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.bench.traces import measures
from turnout.bench.traces.charts import Curve, Lines, Panel
from turnout.bench.traces.findings import fully
from turnout.bench.traces.results import Analysis
from turnout.core._check import Float

__all__ = [
    "busiest",
    "by_layer",
    "dead",
    "drops",
    "evenness",
    "labels",
    "overlap",
    "thinned",
    "weights",
]


def evenness(analysis: Analysis) -> Panel | None:
    """Entropy of the load by layer, of all tokens and of the values of small tags."""
    if analysis.e == 1:
        return None
    named = [("all", measures.entropy(analysis.counts))]
    for group in analysis.groups.values():
        if 1 < len(group.names) <= 6:
            named += [
                (name, measures.entropy(group.counts[place]))
                for place, name in enumerate(group.names)
            ]
    return by_layer(
        analysis,
        key="entropy",
        title="How even the load is",
        named=named,
        y="entropy of the load (1 = even)",
        caption="Entropy of a layer's load over its greatest value: 1 = every expert is chosen "
        "equally often, 0 = all choices go to one. It falls little before a few experts take "
        "most: read it beside the next chart.",
        top=1.0,
    )


def busiest(analysis: Analysis) -> Panel:
    """Load of the busiest expert, and variation of the load, by layer."""
    named = [
        ("max / mean", measures.max_over_mean(analysis.counts)),
        ("variation", measures.variation(analysis.counts)),
    ]
    return by_layer(
        analysis,
        key="busiest",
        title="How far the busiest expert is off",
        named=named,
        y="times the mean load",
        caption="Max / mean: load of the busiest expert over the mean; with one expert a device "
        "the layer waits that many times longer than it need. Variation: standard deviation over "
        "mean. Both fall with balance, to 1 and to 0.",
        bottom=0.0,
    )


def dead(analysis: Analysis) -> Panel | None:
    """Dead and starved experts by layer; None where no expert is dead."""
    count = measures.dead(analysis.counts).astype(np.float64)
    if not count.any():
        return None
    starved = (analysis.counts < 0.1 * analysis.counts.mean(axis=1, keepdims=True)).sum(axis=1)
    return by_layer(
        analysis,
        key="dead",
        title="Dead and starved experts",
        named=[("dead", count), ("under a tenth of an even share", starved.astype(np.float64))],
        y=f"experts of {analysis.e}",
        caption="Dead: chosen by no token of this trace. A short trace makes rare experts look "
        "dead.",
        bottom=0.0,
    )


def drops(analysis: Analysis) -> Panel | None:
    """Share of the choices dropped, by layer; None where drops were not recorded."""
    if analysis.drops is None:
        return None
    return by_layer(
        analysis,
        key="drops",
        title="Choices dropped for want of capacity",
        named=[("dropped", 100 * analysis.drops)],
        y="% of choices",
        caption="Of all choices of a layer, those whose expert was full: the token went on "
        "without it.",
        bottom=0.0,
    )


def labels(analysis: Analysis) -> Panel | None:
    """Bits that token ids, tags and the layer before tell of the expert, by layer."""
    named: list[tuple[str, Float]] = []
    l = len(analysis.layers)  # noqa: E741
    if analysis.tokens is not None:
        bits = np.full(l, np.nan)
        bits[analysis.tokens.layers] = analysis.tokens.bits
        named.append(("token id", bits))
    named += [(tag, group.bits) for tag, group in analysis.groups.items() if len(group.names) > 1]
    if analysis.transitions:
        bits = np.full(l, np.nan)
        for one in analysis.transitions:
            bits[np.searchsorted(analysis.layers, one.target)] = one.bits
        named.append(("expert one layer before", bits))
    named = [(name, bits) for name, bits in named if not np.isnan(bits).all()]
    if not named:
        return None
    return by_layer(
        analysis,
        key="labels",
        title="What tells the expert",
        named=named,
        y="bits",
        caption="Mutual information: how much knowing the token id, the tag, or the expert one "
        "layer earlier narrows down the expert, of "
        f"{np.log2(analysis.e):.1f} bits in all. The part that chance gives is taken off; token "
        "ids count from 20 tokens on.",
        bottom=0.0,
    )


def weights(analysis: Analysis) -> Panel | None:
    """Effective number of experts by layer; None without weights or for one choice."""
    if analysis.effective is None or analysis.top_weight is None or analysis.k <= 1:
        return None
    return by_layer(
        analysis,
        key="weights",
        title="How many experts a token really uses",
        named=[("effective experts", analysis.effective)],
        y=f"experts, of {analysis.k:.3g} chosen",
        caption="Exponential of the entropy of a token's weights, averaged: as many as are chosen "
        "= all weigh the same, 1 = the first alone counts. The strongest choice weighs "
        f"{fully(float(measures.known_mean(analysis.top_weight)))} on average.",
        bottom=1.0,
        top=float(np.ceil(analysis.k)),
    )


def overlap(analysis: Analysis) -> Panel | None:
    """Share of the experts that keep their number in the next layer."""
    if analysis.overlap is None or len(analysis.overlap) < 2 or np.isnan(analysis.overlap).all():
        return None
    chance = analysis.k / analysis.e
    x = np.arange(len(analysis.overlap), dtype=np.float64)
    names = [f"{analysis.layers[place]} to {analysis.layers[place + 1]}" for place in range(len(x))]
    curves = (
        Curve(
            name="same number",
            x=x,
            y=100 * analysis.overlap,
            notes=tuple(
                f"layers {n}: {100 * v:.1f} %" for n, v in zip(names, analysis.overlap, strict=True)
            ),
        ),
        Curve(
            name="by chance",
            x=x,
            y=np.full(len(x), 100 * chance),
            notes=tuple(f"by chance: {100 * chance:.1f} %" for _ in names),
            dashed=True,
        ),
    )
    return Panel(
        key="overlap",
        title="Experts that keep their number in the next layer",
        chart=Lines(
            curves=curves,
            places=thinned(
                [(float(place), str(analysis.layers[place])) for place in range(len(x))], 8
            ),
            x="layer",
            y="% of a token's experts",
            bottom=0.0,
        ),
        caption="Near the dashed line: layers route on their own. Far above: they share a router, "
        "or experts are numbered alike.",
    )


def by_layer(
    analysis: Analysis,
    *,
    key: str,
    title: str,
    named: Sequence[tuple[str, Float]],
    y: str,
    caption: str,
    bottom: float | None = None,
    top: float | None = None,
) -> Panel:
    """A chart over the layers.

    Parameters
    ----------
    analysis : Analysis
    key, title, caption : str
        Of the panel.
    named : sequence of (str, array (l,))
        Name and values of each curve.
    y : str
        Title of the y axis.
    bottom, top : float, optional
        Ends of the y axis.
    """
    x = np.arange(len(analysis.layers), dtype=np.float64)
    curves = tuple(
        Curve(
            name=name,
            x=x,
            y=values,
            notes=tuple(
                f"{name}, layer {layer}: {value:.3g}"
                for layer, value in zip(analysis.layers, values, strict=True)
            ),
        )
        for name, values in named
    )
    places = thinned(
        [(float(place), str(layer)) for place, layer in enumerate(analysis.layers)], 12
    )
    chart = Lines(curves=curves, places=places, x="layer", y=y, bottom=bottom, top=top)
    return Panel(key=key, title=title, chart=chart, caption=caption)


def thinned(places: list[tuple[float, str]], most: int) -> tuple[tuple[float, str], ...]:
    """At most so many of the marks of an axis, evenly."""
    every = -(-len(places) // most)
    return tuple(places[::every])
