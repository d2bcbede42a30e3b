"""What is drawn, apart from how: heat maps and lines, for SVG and PNG alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from turnout.core._check import Float

__all__ = ["STEPS", "Curve", "Heat", "Lines", "Panel", "step", "ticks"]

#: Colours of a heat map: half octaves from 1/8 or less to 8 or more, with 1 in the middle.
STEPS = 13


@dataclass(frozen=True, eq=False, kw_only=True)
class Heat:
    """Cells that say how many times the expected a count is.

    Parameters
    ----------
    rows, columns : tuple of str
    values : array (r, c)
        1 = as expected; 0 = never; NaN = not told.
    x, y : str
        Titles of the axes.
    unit : str
        What 1 means, for the legend.
    note : callable
        What to say of the cell of a row and a column.
    square : bool
        Experts by experts, drawn at half the width.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float
    x: str
    y: str
    unit: str
    note: Callable[[int, int], str]
    square: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """One line of a plot.

    Parameters
    ----------
    name : str
    x, y : array (n,)
        Points whose y is NaN are left out.
    notes : tuple of str
        What to say of each point.
    low, high : array (n,), optional
        Ends of an interval at each point.
    dashed : bool
        Drawn as a reference, not as a finding.
    """

    name: str
    x: Float
    y: Float
    notes: tuple[str, ...]
    low: Float | None = None
    high: Float | None = None
    dashed: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Lines:
    """Curves over one axis.

    Parameters
    ----------
    curves : tuple of Curve
    places : tuple of (float, str)
        Marks of the x axis.
    x, y : str
        Titles of the axes, with units.
    bottom, top : float, optional
        Ends of the y axis; from the data unless said.
    """

    curves: tuple[Curve, ...]
    places: tuple[tuple[float, str], ...]
    x: str
    y: str
    bottom: float | None = None
    top: float | None = None

    def heights(self) -> tuple[float, float]:
        """Ends of the y axis: those said, else of the data with a little room."""
        drawn = [self._all(curve) for curve in self.curves]
        seen = np.concatenate([values[np.isfinite(values)] for values in drawn] or [np.zeros(1)])
        low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
        bottom = low - 0.05 * (high - low) if self.bottom is None else self.bottom
        top = high + 0.08 * (high - bottom) if self.top is None else self.top
        if top - bottom > 1e-9 * max(abs(top), abs(bottom)):
            return bottom, top
        # A flat line still needs an axis to stand in.
        room = 0.1 * (abs(top) or 1.0)
        return (top - room, top) if self.bottom is None else (bottom, bottom + 10 * room)

    @staticmethod
    def _all(curve: Curve) -> Float:
        ends = [end for end in (curve.low, curve.high) if end is not None]
        return np.concatenate([curve.y, *ends])

    def widths(self) -> tuple[float, float]:
        """Ends of the x axis."""
        every = np.concatenate([curve.x for curve in self.curves])
        low, high = float(every.min()), float(every.max())
        return (low, high) if high > low else (low - 0.5, high + 0.5)


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """A chart with its words.

    Parameters
    ----------
    key : str
        Short name, for files and links.
    title : str
        What the chart says.
    chart : Heat or Lines
    caption : str
        How to read it.
    """

    key: str
    title: str
    chart: Heat | Lines
    caption: str


def step(value: float) -> int | None:
    """Colour of a value, 0 to 12; None for 0 (never) and NaN (not told)."""
    if math.isnan(value) or value <= 0:
        return None
    middle = STEPS // 2
    return int(min(max(round(2 * math.log2(value)), -middle), middle)) + middle


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from low to high, at most `most` + 1 of them."""
    span = high - low
    raw = span / max(most, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    size = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / size - 1e-9)
    return [place * size for place in range(first, math.floor(high / size + 1e-9) + 1)]
