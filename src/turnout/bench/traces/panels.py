"""Which charts a report has, in the order of reading."""

from __future__ import annotations

import numpy as np

from turnout.bench.traces import curves, maps, measures, sequence
from turnout.bench.traces.charts import Heat, Panel
from turnout.bench.traces.findings import fully, load_distance
from turnout.bench.traces.results import Analysis
from turnout.core import InputError
from turnout.core._check import Int

__all__ = ["check_same_model", "compared", "panels"]


def panels(analysis: Analysis) -> list[Panel]:
    """The charts that the analysis can fill, in the order of reading."""
    makers = (
        maps.load,
        curves.evenness,
        curves.busiest,
        curves.dead,
        curves.drops,
        curves.labels,
        maps.by_tag,
        sequence.along,
        sequence.drops_along,
        maps.together,
        maps.follows,
        sequence.routing,
        sequence.caches,
        curves.weights,
        curves.overlap,
    )
    made = (maker(analysis) for maker in makers)
    return [panel for panel in made if panel is not None]


def check_same_model(
    name: str, e: int, layers: Int, other: str, other_e: int, other_layers: Int
) -> None:
    """Refuse to compare traces whose experts or layers differ.

    Parameters
    ----------
    name, other : str
        What the two traces are called.
    e, other_e : int
        Experts in a layer.
    layers, other_layers : int array (l,)
        Layer numbers.

    Raises
    ------
    InputError
    """
    if e != other_e or not np.array_equal(layers, other_layers):
        rule = f"have {e} experts in layers {_told(layers)}, as {name} has"
        found = f"{other_e} experts in layers {_told(other_layers)}"
        raise InputError(other, rule, found, "Compare traces of one model.")


def compared(analysis: Analysis, other: Analysis) -> list[Panel]:
    """Charts of two traces of one model: load over load, and how even both are.

    Raises
    ------
    InputError
        The two differ in experts or layers.
    """
    check_same_model(analysis.name, analysis.e, analysis.layers, other.name, other.e, other.layers)
    ours = analysis.counts / np.maximum(analysis.counts.sum(axis=1, keepdims=True), 1)
    theirs = other.counts / np.maximum(other.counts.sum(axis=1, keepdims=True), 1)
    ratio = np.divide(theirs, ours, out=np.full(ours.shape, np.nan), where=ours > 0)
    layers = [str(number) for number in analysis.layers]
    heat = Panel(
        key="compared-load",
        title=f"Load of each expert: {other.name} against {analysis.name}",
        chart=Heat(
            rows=tuple(layers),
            columns=tuple(map(str, range(analysis.e))),
            values=ratio,
            x="expert",
            y="layer",
            unit="times its load before",
            note=lambda row, column: (
                f"layer {layers[row]}, expert {column}: {fully(float(ours[row, column]))} before, "
                f"{fully(float(theirs[row, column]))} after"
            ),
        ),
        caption=f"Share of a layer's choices in {other.name} over that in {analysis.name}. "
        "Neutral: unchanged. Red: more. Blue: less. Crossed out: no longer chosen.",
    )
    distance = curves.by_layer(
        analysis,
        key="compared-distance",
        title="How much of the load moved",
        named=[("moved", 100 * load_distance(analysis, other))],
        y="% of choices moved",
        caption="Total variation distance of the two loads: the share of the choices that would "
        "have to move to other experts to turn one load into the other. 0 = the same.",
        bottom=0.0,
    )
    even = curves.by_layer(
        analysis,
        key="compared-entropy",
        title="Evenness of both",
        named=[
            (analysis.name, measures.entropy(analysis.counts)),
            (other.name, measures.entropy(other.counts)),
        ],
        y="entropy of the load (1 = even)",
        caption="Entropy of each layer's load over its greatest value.",
    )
    return [heat, distance, even]


def _told(layers: Int) -> str:
    numbers = layers.tolist()
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))
