"""Charts as PNG, for slides and papers (needs matplotlib)."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from turnout.bench.traces.charts import STEPS, Heat, Lines, Panel, step
from turnout.bench.traces.colours import LINES, NEVER, scale
from turnout.core import MissingExtraError

__all__ = ["check", "png"]

_DPI = 160


def check() -> None:
    """Refuse before minutes are spent where matplotlib is missing.

    Raises
    ------
    MissingExtraError
    """
    _matplotlib()


def png(panel: Panel) -> bytes:
    """One panel as a picture.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    figure_type, _ = _matplotlib()
    if isinstance(panel.chart, Heat):
        figure = _heat(figure_type, panel.chart)
    else:
        figure = _lines(figure_type, panel.chart)
    figure.axes[0].set_title(panel.title, loc="left", fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": "turnout"})
    return buffer.getvalue()


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    return Figure, (ListedColormap, BoundaryNorm)


def _heat(figure_type: Any, chart: Heat) -> Any:
    _, (listed, boundary) = _matplotlib()
    r, c = chart.values.shape
    square = chart.square
    size = (7.2, 6.6) if square else (9.6, min(9.0, 1.9 + 0.24 * max(r, 2)))
    figure = figure_type(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    places = np.full(chart.values.shape, np.nan)
    for row, column in np.ndindex(r, c):
        at = step(float(chart.values[row, column]))
        places[row, column] = np.nan if at is None else at
    colours = listed(scale(night=False))
    norm = boundary(np.arange(STEPS + 1) - 0.5, STEPS)
    image = axes.imshow(places, cmap=colours, norm=norm, aspect="equal" if square else "auto")
    never = np.argwhere(chart.values == 0)
    if len(never):
        axes.plot(never[:, 1], never[:, 0], "x", color=NEVER, markersize=5, label="never")
        axes.legend(loc="lower left", bbox_to_anchor=(0.85, 1.0), frameon=False, fontsize=8)
    _name(axes.set_yticks, chart.rows, 24)
    _name(axes.set_xticks, chart.columns, 32 if not square else 22)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.tick_params(labelsize=7)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8 if square else 1.0, aspect=22, pad=0.01)
    powers = range(-(STEPS // 2), STEPS // 2 + 1, 2)
    labels = [f"{2 ** (p // 2)}" if p >= 0 else f"1/{2 ** (-p // 2)}" for p in powers]
    bar.set_ticks([p + STEPS // 2 for p in powers], labels=labels)
    bar.set_label(chart.unit, fontsize=8)
    bar.ax.tick_params(labelsize=7, length=0)
    bar.outline.set_visible(False)
    return figure


def _lines(figure_type: Any, chart: Lines) -> Any:
    figure = figure_type(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for number, curve in enumerate(chart.curves):
        colour = LINES[number % len(LINES)]
        style = "--" if curve.dashed else "-"
        marker = "o" if len(curve.x) <= 48 else ""
        axes.plot(
            curve.x, curve.y, style, color=colour, marker=marker, markersize=3.5, label=curve.name
        )
        if curve.low is not None and curve.high is not None:
            axes.vlines(curve.x, curve.low, curve.high, color=colour, linewidth=3, alpha=0.35)
    axes.set_xlim(*_roomy(*chart.widths()))
    axes.set_ylim(*chart.heights())
    axes.set_xticks([place for place, _ in chart.places], labels=[name for _, name in chart.places])
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if len(chart.curves) > 1:
        axes.legend(fontsize=8, frameon=False)
    return figure


def _roomy(low: float, high: float) -> tuple[float, float]:
    return low - 0.02 * (high - low), high + 0.02 * (high - low)


def _name(put: Any, names: tuple[str, ...], most: int) -> None:
    every = max(1, math.ceil(len(names) / most))
    put(range(0, len(names), every), labels=list(names)[::every])
