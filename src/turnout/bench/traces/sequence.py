"""The charts of what happens along a sequence, and how each is to be read."""

from __future__ import annotations

import numpy as np

from turnout.bench.traces import measures
from turnout.bench.traces.charts import Curve, Lines, Panel
from turnout.bench.traces.consistency import SegmentRouting
from turnout.bench.traces.curves import thinned
from turnout.bench.traces.results import Analysis
from turnout.core._check import Int

__all__ = ["along", "caches", "drops_along", "routing"]


def along(analysis: Analysis) -> Panel | None:
    """How far choices differ from the average, by position; None without positions."""
    positions = analysis.positions
    if positions is None:
        return None
    where = _ranges(positions.starts, positions.ends)
    x = np.arange(len(where), dtype=np.float64)
    rows = [("mean of layers", np.maximum(measures.known_mean(positions.bits, axis=0), 0.0))]
    for place in _some(len(analysis.layers)):
        rows.append((f"layer {analysis.layers[place]}", np.maximum(positions.bits[place], 0.0)))
    curves = tuple(
        Curve(
            name=name,
            x=x,
            y=y,
            notes=tuple(
                f"{name}, positions {r}: {v:.4f} bits" for r, v in zip(where, y, strict=True)
            ),
        )
        for name, y in rows
    )
    return Panel(
        key="position",
        title="Routing along the sequence",
        chart=Lines(
            curves=curves,
            places=thinned(
                [(float(place), str(start)) for place, start in enumerate(positions.starts)], 6
            ),
            x="position in the sequence",
            y="bits off the average",
            bottom=0.0,
        ),
        caption="How much the choices at a position differ from the choices at all positions "
        "(Kullback-Leibler divergence, chance taken off). Near 0: the router does not care where "
        "a token stands. A peak at the left is the first token.",
    )


def drops_along(analysis: Analysis) -> Panel | None:
    """Share of the choices dropped, by position; None where it is not known."""
    positions = analysis.positions
    if positions is None or positions.drops is None:
        return None
    where = _ranges(positions.starts, positions.ends)
    y = 100 * positions.drops.mean(axis=0)
    notes = tuple(f"positions {r}: {v:.2f} % dropped" for r, v in zip(where, y, strict=True))
    curve = Curve(name="all layers", x=np.arange(len(where), dtype=np.float64), y=y, notes=notes)
    return Panel(
        key="drops-position",
        title="Drops along the sequence",
        chart=Lines(
            curves=(curve,),
            places=thinned(
                [(float(place), str(start)) for place, start in enumerate(positions.starts)], 6
            ),
            x="position in the sequence",
            y="% of choices dropped",
            bottom=0.0,
        ),
        caption="Where capacity is handed out in the order of the sequence, its end goes without.",
    )


def routing(analysis: Analysis) -> Panel | None:
    """SRP by window length, beside the same tokens in random order."""
    if analysis.routing is None:
        return None
    curves = []
    for name, rows, dashed in (
        ("as recorded", analysis.routing.rows, False),
        ("same tokens, random order", analysis.routing.shuffled, True),
    ):
        y = np.array([row.value for row in rows])
        curves.append(
            Curve(
                name=name,
                x=np.log2([row.m for row in rows]),
                y=y,
                notes=tuple(f"{name}, {_told(row)}" for row in rows),
                low=np.array([row.low for row in rows]),
                high=np.array([row.high for row in rows]),
                dashed=dashed,
            )
        )
    best = max(range(len(analysis.layers)), key=lambda place: _by_row(analysis, place))
    worst = min(range(len(analysis.layers)), key=lambda place: _by_row(analysis, place))
    if best != worst:
        for word, place in (("best", best), ("worst", worst)):
            name = f"{word}, layer {analysis.layers[place]}"
            y = np.array([row.by_layer[place] for row in analysis.routing.rows])
            curves.append(
                Curve(
                    name=name,
                    x=curves[0].x,
                    y=y,
                    notes=tuple(
                        f"{name}, {row.m} tokens: F1 {value:.3f}"
                        for row, value in zip(analysis.routing.rows, y, strict=True)
                    ),
                )
            )
    return Panel(
        key="consistency",
        title="Do neighbours use the same experts?",
        chart=Lines(
            curves=tuple(curves),
            places=tuple((float(np.log2(row.m)), str(row.m)) for row in analysis.routing.rows),
            x="tokens in a window",
            y="SRP (F1)",
            bottom=0.0,
            top=1.0,
        ),
        caption="How well one fixed set of experts fits a window of neighbouring tokens (segment "
        "routing best performance, 1 = perfectly), with 95 % intervals over requests. The gap to "
        "the dashed line is what neighbours share. Measured on "
        f"{analysis.routing.tokens:,} tokens.",
    )


def _told(row: SegmentRouting) -> str:
    interval = "" if np.isnan(row.low) else f" [{row.low:.3f}, {row.high:.3f}]"
    size = f"best set {row.size:.2f} times the experts in use"
    return f"{row.m} tokens: F1 {row.value:.3f}{interval}, {size}"


def _by_row(analysis: Analysis, place: int) -> float:
    assert analysis.routing is not None
    return float(
        np.nan_to_num(analysis.routing.rows[min(1, len(analysis.routing.rows) - 1)].by_layer[place])
    )


def caches(analysis: Analysis) -> Panel | None:
    """Hit rate by size of the cache."""
    if analysis.caches is None:
        return None
    x = np.arange(1, analysis.e + 1, dtype=np.float64)
    curves = []
    for m, rates in analysis.caches.rates.items():
        name = f"knows {m} tokens ahead" if m else "forgets what is unused longest (LRU)"
        y = 100 * measures.known_mean(rates, axis=0)
        curves.append(
            Curve(
                name=name,
                x=x,
                y=y,
                notes=tuple(
                    f"{name}, room for {n:.0f}: {v:.1f} %" for n, v in zip(x, y, strict=True)
                ),
                dashed=not m,
            )
        )
    marks = sorted({1, *(round(analysis.e * part / 4) for part in range(1, 5))} - {0})
    return Panel(
        key="caches",
        title="How large a cache of experts has to be",
        chart=Lines(
            curves=tuple(curves),
            places=tuple((float(mark), str(mark)) for mark in marks),
            x="experts a layer that the cache holds",
            y="hit rate, %",
            bottom=0.0,
            top=100.0,
        ),
        caption="Share of the experts needed that are in the cache (segment cache best hit rate, "
        "mean of layers). One that knows m tokens ahead knows how often they use each expert, not "
        f"when, and may fall below LRU. A token needs {analysis.k:.3g}; first uses count as hits "
        f"while there is room. Measured on {analysis.caches.tokens:,} tokens.",
    )


def _ranges(starts: Int, ends: Int) -> list[str]:
    return [
        str(a) if a == b else f"{a} to {b}"
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _some(l: int) -> list[int]:  # noqa: E741
    """The first, a middle and the last of l places."""
    return sorted({0, l // 2, l - 1}) if l > 1 else []
