"""The figures of a trace as a person reads them in a terminal: one row a layer."""

from __future__ import annotations

import math

import numpy as np
from rich.table import Table

from turnout.bench.traces import measures
from turnout.bench.traces.findings import fully
from turnout.bench.traces.results import Analysis
from turnout.core._check import Float

__all__ = ["columns", "heading", "profile", "tables"]

_BLOCKS = "▁▂▃▄▅▆▇█"

#: Characters of the picture of a load.
_WIDTH = 16
_PICTURE = "busiest first"


def heading(analysis: Analysis) -> str:
    """What was measured, in one line."""
    k = f"{analysis.k:.3g} expert{'' if analysis.k == 1 else 's'} a token"
    l = len(analysis.layers)  # noqa: E741
    layers = f"{l} layer{'' if l == 1 else 's'}"
    return f"{analysis.t:,} tokens, {layers}, {analysis.e} experts, {k}"


def columns(analysis: Analysis) -> dict[str, list[str]]:
    """Cells by title, one a layer, of everything that is known."""
    l = len(analysis.layers)  # noqa: E741
    found: dict[str, list[str]] = {
        "layer": [str(number) for number in analysis.layers],
        "entropy": _fixed(measures.entropy(analysis.counts), 3),
        "max/mean": _fixed(measures.max_over_mean(analysis.counts), 2),
        "CV": _fixed(measures.variation(analysis.counts), 2),
        "dead": [str(number) for number in measures.dead(analysis.counts)],
    }
    if analysis.tokens is not None:
        bits = np.full(l, np.nan)
        bits[analysis.tokens.layers] = analysis.tokens.bits
        found["token bits"] = _fixed(bits, 2)
    for name, group in analysis.groups.items():
        if len(group.names) > 1:
            found[f"{name} bits"] = _fixed(group.bits, 3)
    if analysis.transitions:
        bits = np.full(l, np.nan)
        for one in analysis.transitions:
            bits[np.searchsorted(analysis.layers, one.target)] = one.bits
        found["last bits"] = _fixed(bits, 2)
    if analysis.routing is not None:
        row = analysis.routing.rows[min(1, len(analysis.routing.rows) - 1)]
        found[f"SRP {row.m}"] = _fixed(row.by_layer, 2)
    if analysis.caches is not None:
        room = min(analysis.e, max(1, round(2 * analysis.k)))
        found[f"LRU {room}"] = [_percent(value) for value in analysis.caches.rates[0][:, room - 1]]
    if analysis.effective is not None and analysis.k > 1:
        found["used"] = _fixed(analysis.effective, 2)
    if analysis.drops is not None:
        found["dropped"] = [_percent(value) for value in analysis.drops]
    return found


def tables(analysis: Analysis, width: int, *, pictures: bool = True) -> list[Table]:
    """One row a layer, the least even one bold; beside each other where the width allows.

    Parameters
    ----------
    analysis : Analysis
    width : int
        Characters of a line; columns that do not fit go into a further table.
    pictures : bool
        Whether a picture of the sorted load begins the first table; needs block characters.
    """
    found: dict[str, list[str]] = {}
    if pictures:
        found[_PICTURE] = [profile(load.astype(np.float64)) for load in analysis.counts]
    found |= {title: cells for title, cells in columns(analysis).items() if title != "layer"}
    layers = [str(number) for number in analysis.layers]
    sizes = {
        title: max(
            *(len(word) for word in _head(title).split("\n")), *(len(cell) for cell in cells)
        )
        + 2
        for title, cells in found.items()
    }
    groups: list[list[str]] = [[]]
    room = width - 7
    for title, size in sizes.items():
        if groups[-1] and room < size:
            groups.append([])
            room = width - 7
        groups[-1].append(title)
        room -= size
    even = np.nan_to_num(measures.entropy(analysis.counts), nan=math.inf)
    worst = int(even.argmin()) if len(even) > 1 else -1
    made = []
    for titles in groups:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        for title in ("layer", *titles):
            table.add_column(
                _head(title), justify="left" if title == _PICTURE else "right", no_wrap=True
            )
        for place, layer in enumerate(layers):
            cells = (found[title][place] for title in titles)
            table.add_row(layer, *cells, style="bold" if place == worst else None)
        made.append(table)
    return made


def _head(title: str) -> str:
    return title if title == _PICTURE else title.replace(" ", "\n")


def profile(load: Float) -> str:
    """A load, busiest first, in a few block characters; the highest block is the busiest.

    Parameters
    ----------
    load : array (e,)
    """
    ordered = np.sort(load)[::-1]
    parts = np.array_split(ordered, min(_WIDTH, len(ordered)))
    heights = np.array([part.mean() for part in parts])
    top = float(heights.max())
    if top <= 0:
        return _BLOCKS[0] * len(parts)
    at = np.ceil(heights / top * len(_BLOCKS)).astype(int) - 1
    return "".join(_BLOCKS[max(place, 0)] for place in at)


def _fixed(values: Float, digits: int) -> list[str]:
    return ["-" if math.isnan(value) else f"{value:.{digits}f}" for value in values]


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else fully(float(value))
