"""Charts as SVG that takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

import numpy as np

from turnout.bench.traces.charts import STEPS, Curve, Heat, Lines, step, ticks
from turnout.bench.traces.colours import LINES

__all__ = ["heat_svg", "legend", "lines_svg"]

#: Points of a curve that get a mark with a note, at most.
_MARKS = 48

#: Widths of the two kinds of chart; the page scales them.
_WIDE, _SQUARE, _NARROW = 960.0, 540.0, 460.0

_DASH = ' stroke-dasharray="5 4"'


def heat_svg(chart: Heat) -> str:
    """A heat map; each cell says on hovering what it is."""
    r, c = chart.values.shape
    left = 36.0 + 7.0 * max(len(_short(row)) for row in chart.rows)
    cell = min(36.0, ((_SQUARE if chart.square else _WIDE) - left - 6) / c)
    high = cell if chart.square else min(28.0, max(28.0 - r, 10.0, cell))
    above, wide, tall = 42.0, cell * c, high * r
    small = min(cell, high)
    edge = 0.0 if small < 5 else (0.5 if small < 12 else 1.0)
    parts = [_scale(left, chart.unit)]
    for row in range(r):
        for column in range(c):
            x, y = left + column * cell, above + row * high
            parts.append(_cell(chart, row, column, x, y, cell - edge, high - edge))
    for row in range(0, r, max(1, math.ceil(12 / high))):
        at = above + (row + 0.5) * high + 4
        parts.append(_text(left - 6, at, _short(chart.rows[row]), "end"))
    widest = 6.8 * max(len(_short(column)) for column in chart.columns) + 6
    for column in range(0, c, max(1, math.ceil(widest / cell))):
        at = left + (column + 0.5) * cell
        parts.append(_text(at, above + tall + 15, _short(chart.columns[column])))
    parts.append(_text(left + wide / 2, above + tall + 34, chart.x, kind="t"))
    parts.append(_upright(12, above + tall / 2, chart.y))
    name = f"{chart.y} by {chart.x}, in {chart.unit}"
    kind = "heat square" if chart.square else "heat"
    return _svg(max(left + wide + 6, left + 400), above + tall + 42, parts, kind, name)


def _cell(chart: Heat, row: int, column: int, x: float, y: float, wide: float, high: float) -> str:
    value = float(chart.values[row, column])
    if math.isnan(value):
        return ""
    at = step(value)
    kind = "z" if at is None else f"h{at}"
    crossed = _cross(x, y, wide, high) if at is None and min(wide, high) >= 4 else ""
    return _rect(kind, x, y, wide, high, chart.note(row, column)) + crossed


def _scale(left: float, unit: str) -> str:
    """The legend of a heat map: what each colour says."""
    size = 18.0
    parts = []
    for place in range(STEPS):
        x = left + place * size
        parts.append(_rect(f"h{place}", x, 4, size, 10))
        power = place - STEPS // 2
        if power % 2 == 0:
            value = f"{2 ** (power // 2)}" if power >= 0 else f"1/{2 ** (-power // 2)}"
            parts.append(_text(x + size / 2, 26, value, kind="s"))
    end = left + STEPS * size + 10
    parts.append(_text(end, 13, unit, "start", "s"))
    parts.append(_rect("z", end, 18, 10, 10) + _cross(end, 18, 10, 10))
    parts.append(_text(end + 15, 27, "never", "start", "s"))
    return "".join(parts)


def lines_svg(chart: Lines) -> str:
    """A line chart; each mark says on hovering what it is. `legend` names the curves."""
    x0, x1 = chart.widths()
    y0, y1 = chart.heights()
    marks = ticks(y0, y1)
    left = 34.0 + 7.0 * max(len(_tick(mark, marks)) for mark in marks)
    above, wide, tall = 12.0, _NARROW - left - 14.0, 232.0
    base, end = above + tall, left + wide

    def px(x: float) -> float:
        return left + wide * (x - x0) / (x1 - x0)

    def py(y: float) -> float:
        return above + tall * (1 - (y - y0) / (y1 - y0))

    parts = []
    for mark in marks:
        parts.append(_line("g", left, py(mark), end, py(mark)))
        parts.append(_text(left - 7, py(mark) + 4, _tick(mark, marks), "end"))
    parts.append(_line("a", left, base, end, base))
    for place, name in chart.places:
        parts.append(_line("a", px(place), base, px(place), base + 4))
        parts.append(_text(px(place), base + 18, name))
    parts.append(_text(left + wide / 2, base + 38, chart.x, kind="t"))
    parts.append(_upright(12, above + tall / 2, chart.y))
    for number, curve in enumerate(chart.curves):
        parts.append(_curve(curve, f"c{number % len(LINES)}", px, py))
    return _svg(_NARROW, base + 46, parts, "lines", f"{chart.y} by {chart.x}")


def _curve(
    curve: Curve, kind: str, px: Callable[[float], float], py: Callable[[float], float]
) -> str:
    seen = [int(at) for at in np.flatnonzero(np.isfinite(curve.y))]
    across = {at: px(float(curve.x[at])) for at in seen}
    up = {at: py(float(curve.y[at])) for at in seen}
    parts = []
    if curve.low is not None and curve.high is not None:
        for at in seen:
            low, high = float(curve.low[at]), float(curve.high[at])
            if math.isfinite(low) and math.isfinite(high):
                parts.append(_line(f"{kind} w", across[at], py(low), across[at], py(high)))
    points = " ".join(f"{_n(across[at])},{_n(up[at])}" for at in seen)
    dash = _DASH if curve.dashed else ""
    name = f"<title>{escape(curve.name)}</title>"
    parts.append(f'<polyline class="{kind}" points="{points}"{dash}>{name}</polyline>')
    # Where points stand close, their marks show on hovering only.
    kind, radius = (f"{kind} p", 3.2) if len(seen) <= 24 else (f"{kind} p q", 4.0)
    for at in seen[:: max(1, math.ceil(len(seen) / _MARKS))]:
        centre = f'cx="{_n(across[at])}" cy="{_n(up[at])}" r="{radius}"'
        note = f"<title>{escape(curve.notes[at])}</title>"
        parts.append(f'<circle class="{kind}" {centre}>{note}</circle>')
    return "".join(parts)


def legend(chart: Lines) -> str:
    """The names of the curves beside their colours, as HTML that wraps; "" for one curve."""
    if len(chart.curves) < 2:
        return ""
    items = []
    for number, curve in enumerate(chart.curves):
        dash = _DASH if curve.dashed else ""
        line = f'<line class="c{number % len(LINES)}" x1="1" x2="23" y1="5" y2="5"{dash}/>'
        sample = f'<svg width="24" height="10" aria-hidden="true">{line}</svg>'
        items.append(f"<span>{sample}{escape(curve.name)}</span>")
    return f'<div class="legend">{"".join(items)}</div>'


def _svg(width: float, height: float, parts: list[str], kind: str, name: str) -> str:
    # A map of a few experts would be blown up by filling the page.
    most = width if kind != "lines" and width < 900 else 1.15 * width
    # On a narrow page a map is scrolled rather than made too small to read.
    least = 0.0 if kind == "lines" else min(width, 460.0 if "square" in kind else 620.0)
    style = f'style="max-width:{_n(most)}px;min-width:{_n(least)}px"'
    box = f'viewBox="0 0 {_n(width)} {_n(height)}" {style}'
    label = f'role="img" aria-label="{escape(name)}"'
    return f'<svg class="{kind}" {box} {label}>{"".join(parts)}</svg>'


def _rect(kind: str, x: float, y: float, wide: float, high: float, note: str = "") -> str:
    size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(wide)}" height="{_n(high)}"'
    if not note:
        return f'<rect class="{kind}" {size}/>'
    return f'<rect class="{kind}" {size}><title>{escape(note)}</title></rect>'


def _cross(x: float, y: float, wide: float, high: float) -> str:
    a, b, c, d = _n(x), _n(y), _n(x + wide), _n(y + high)
    return f'<path class="x" d="M{a} {b}L{c} {d}M{c} {b}L{a} {d}"/>'


def _line(kind: str, x0: float, y0: float, x1: float, y1: float) -> str:
    ends = f'x1="{_n(x0)}" y1="{_n(y0)}" x2="{_n(x1)}" y2="{_n(y1)}"'
    return f'<line class="{kind}" {ends}/>'


def _text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    place = f'x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"'
    return f"<text{style} {place}>{escape(words)}</text>"


def _upright(x: float, y: float, words: str) -> str:
    place = f'transform="translate({_n(x)} {_n(y)}) rotate(-90)" text-anchor="middle"'
    return f'<text class="t" {place}>{escape(words)}</text>'


def _tick(mark: float, marks: list[float]) -> str:
    size = marks[1] - marks[0] if len(marks) > 1 else abs(mark) or 1.0
    digits = max(0, -math.floor(math.log10(size) + 1e-9))
    if round(size * 10**digits, 6) % 1:
        digits += 1
    return f"{mark:,.{digits}f}" if abs(mark) > 1e-12 else "0"


def _short(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:15]}…"


def _n(value: float) -> str:
    """A length without needless digits."""
    return f"{value:.1f}".removesuffix(".0")
