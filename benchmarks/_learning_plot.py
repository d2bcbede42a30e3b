"""The learning curves as a picture: PNG (needs matplotlib) or a page that needs nothing."""

from __future__ import annotations

import io
import math
from html import escape
from typing import Any

from _learning_curves import LANDMARKS, Point  # type: ignore[import-not-found,unused-ignore]
from turnout.core import MissingExtraError

# Okabe and Ito's colours: told apart with any kind of colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#222222")
DASHES = ("6 3", "2 3")


def render(points: list[Point], kind: str) -> bytes:
    """The bytes of a `.png` or `.html` file."""
    panels: dict[str, list[Point]] = {}
    for point in points:
        if not math.isnan(point.mean):
            panels.setdefault(f"{point.table}, {point.protocol}", []).append(point)
    return _png(panels) if kind == ".png" else _html(panels).encode()


def _lines(panel: list[Point]) -> list[tuple[str, list[Point], str, str]]:
    """Name, points by rising size, colour and dashes of each method."""
    made, number = [], 0
    for name in dict.fromkeys(point.method for point in panel):
        mine = sorted((one for one in panel if one.method == name), key=lambda one: one.prompts)
        if name in LANDMARKS:
            made.append((name, mine, "#777777", DASHES[LANDMARKS.index(name)]))
        else:
            made.append((name, mine, COLOURS[number % len(COLOURS)], ""))
            number += 1
    return made


def _spread(point: Point) -> float:
    return 0.0 if math.isnan(point.spread) else point.spread


def figure() -> Any:
    """Matplotlib's class of figures.

    Raises
    ------
    MissingExtraError
        There is no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    return Figure


def _png(panels: dict[str, list[Point]]) -> bytes:
    made = figure()(figsize=(4.6 * max(len(panels), 1), 4.2), dpi=150, layout="constrained")
    for place, (title, panel) in enumerate(panels.items()):
        axes = made.add_subplot(1, len(panels), place + 1)
        for name, mine, colour, dash in _lines(panel):
            style = (0, tuple(float(part) for part in dash.split())) if dash else "-"
            axes.errorbar(
                [one.prompts for one in mine],
                [one.mean for one in mine],
                yerr=[_spread(one) for one in mine],
                label=name,
                color=colour,
                linestyle=style,
                capsize=2,
            )
        axes.set_xscale("log")
        sizes = sorted({one.prompts for one in panel})
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("labelled prompts")
        axes.set_ylabel(panel[0].measure)
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", metadata={"Software": "turnout"})
    return buffer.getvalue()


def _html(panels: dict[str, list[Point]]) -> str:
    drawn = "".join(f"<h2>{escape(title)}</h2>{_svg(panel)}" for title, panel in panels.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Learning curves</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; color: #222; }}
svg {{ width: 100%; height: auto; }} svg text {{ font-size: 12px; }}
</style></head><body><h1>Learning curves</h1>{drawn}</body></html>
"""


def _svg(panel: list[Point]) -> str:
    wide, tall, left = 460.0, 300.0, 60.0
    sizes = sorted({one.prompts for one in panel})
    first, span = math.log(sizes[0]), math.log(sizes[-1] / sizes[0]) or 1.0
    low = min(one.mean - _spread(one) for one in panel)
    high = max(one.mean + _spread(one) for one in panel)
    room = 0.05 * (high - low) or 0.01
    low, high = low - room, high + room

    def x(prompts: int) -> float:
        return left + float(wide * (math.log(prompts) - first) / span)

    def y(value: float) -> float:
        return 10 + float(tall * (high - value) / (high - low))

    parts = [
        f'<line x1="{left}" x2="{left + wide}" y1="{tall + 12}" y2="{tall + 12}" stroke="#999"/>'
    ]
    for place, (name, mine, colour, dash) in enumerate(_lines(panel)):
        pen = f'stroke="{colour}" stroke-width="2"' + (
            f' stroke-dasharray="{dash}"' if dash else ""
        )
        path = " ".join(f"{x(one.prompts):.1f},{y(one.mean):.1f}" for one in mine)
        parts.append(f'<polyline points="{path}" fill="none" {pen}><title>{escape(name)}</title>')
        parts.append("</polyline>")
        parts += [
            f'<line x1="{x(one.prompts):.1f}" x2="{x(one.prompts):.1f}" stroke="{colour}" '
            f'y1="{y(one.mean - _spread(one)):.1f}" y2="{y(one.mean + _spread(one)):.1f}"/>'
            for one in mine
        ]
        at = 24 + 20 * place
        parts.append(
            f'<line x1="{left + wide + 20}" x2="{left + wide + 50}" y1="{at}" y2="{at}" {pen}/>'
        )
        parts.append(f'<text x="{left + wide + 56}" y="{at + 4}">{escape(name)}</text>')
    for size in sizes:
        parts.append(
            f'<text x="{x(size):.1f}" y="{tall + 30}" text-anchor="middle">{size:,}</text>'
        )
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(
            f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>'
        )
    title = f"{panel[0].measure} by labelled prompts"
    parts.append(f'<text x="{left + wide / 2}" y="{tall + 52}" text-anchor="middle">{title}</text>')
    box = f"0 0 {left + wide + 230:.0f} {tall + 60:.0f}"
    return f'<svg viewBox="{box}" role="img">{"".join(parts)}</svg>'
