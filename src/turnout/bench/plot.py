"""The frontier as a picture (PNG, needs matplotlib) or as one page that needs nothing (HTML)."""

from __future__ import annotations

import io
import math
from html import escape
from pathlib import Path
from typing import Any

from turnout.bench import series
from turnout.bench.landmarks import LABELS
from turnout.bench.results import Evaluation
from turnout.bench.show import conclusion
from turnout.core import InputError, MissingExtraError

__all__ = ["check_path", "render"]

# Okabe and Ito's colours: told apart with any kind of colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#222222")
_DASHES = {"zero_router": "2 3", "prompt_length": "6 3", "group_mean": "9 3 2 3", "oracle": "1 2"}
#: Pieces that a straight line is drawn in on a logarithmic axis.
_BENDS = 24


def check_path(path: Path) -> None:
    """Refuse a path that could not be written, before minutes are spent.

    Raises
    ------
    InputError
        The ending is neither .png nor .html, or the folder does not exist.
    MissingExtraError
        A PNG and no matplotlib.
    """
    if path.suffix not in (".png", ".html"):
        raise InputError("--plot", "end in .png or .html", str(path), "Choose one of the two.")
    if path.suffix == ".png":
        _matplotlib()


def render(evaluation: Evaluation, kind: str, *, title: str = "") -> bytes:
    """The bytes of a `.png` or `.html` file."""
    return _png(evaluation, title) if kind == ".png" else _html(evaluation, title).encode()


def _matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    return Figure


def _png(evaluation: Evaluation, title: str) -> bytes:
    figure = _matplotlib()(figsize=(9, 5.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    logged = series.log_scale(evaluation)
    logged = series.log_scale(evaluation)
    number = 0
    for one in series.curves(evaluation):
        if one.landmark:
            dash = tuple(float(part) for part in _DASHES[one.name].split())
            line = {"color": "#666666", "linewidth": 1.3, "linestyle": (0, dash), "zorder": 3}
        else:
            line = {"color": _COLOURS[number % len(_COLOURS)], "linewidth": 1.8}
            number += 1
        cost, quality = zip(*series.dense(one, logged), strict=True)
        axes.plot(cost, quality, label=one.label, **line)
    singles, label = series.points(evaluation)
    axes.plot(
        [point.cost for point in singles],
        [point.quality for point in singles],
        linestyle="",
        marker="x",
        color="#222222",
        label=label,
    )
    low, high = evaluation.cost_range
    bottom, top = series.heights(evaluation)
    # Names stand beside their points, on the side where there is room.
    for point in singles:
        lift = 4 if point.quality - bottom < 0.08 * (top - bottom) else -9
        right = point.cost > (math.sqrt(low * high) if logged else (low + high) / 2)
        axes.annotate(
            point.name,
            (point.cost, point.quality),
            xytext=(-6 if right else 6, lift),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7,
            color="#444444",
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.3},
        )
    if logged:
        axes.set_xscale("log")
    axes.set_ylim(bottom, top)
    axes.set_xlabel("mean cost of an input")
    axes.set_ylabel("mean quality")
    axes.set_title(title or "What each budget buys", loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "turnout"})
    return buffer.getvalue()


def _html(evaluation: Evaluation, title: str) -> str:
    heading = escape(title or "What each budget buys")
    said = "".join(f"<p>{escape(line)}</p>" for line in conclusion(evaluation))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{heading}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: right; padding: .2rem .7rem; border-bottom: 1px solid #ddd; }}
th:first-child, td:first-child {{ text-align: left; }}
.landmark {{ color: #777; }} svg {{ width: 100%; height: auto; }} svg text {{ font-size: 12px; }}
</style></head><body><h1>{heading}</h1>{said}{_svg(evaluation)}{_rows(evaluation)}
<p>{escape(evaluation.protocol)}; {evaluation.n:,} of {evaluation.total:,} rows judged. AIQ is the
mean height of a curve between the cheapest and the dearest single destination.</p>
</body></html>
"""


def _rows(evaluation: Evaluation) -> str:
    def cell(value: float, scale: float = 1, digits: int = 3) -> str:
        return "<td>-</td>" if math.isnan(value) else f"<td>{scale * value:,.{digits}f}</td>"

    lines = []
    for row in evaluation.rows:
        name = LABELS[row.method] if row.landmark else row.method
        kind = ' class="landmark"' if row.landmark else ""
        lines.append(
            f"<tr{kind}><td>{escape(name)}</td>{cell(row.aiq)}{cell(row.aiq_low)}"
            f"{cell(row.aiq_high)}{cell(row.quality)}{cell(row.cost_to_match, digits=6)}"
            f"{cell(row.apgr)}{cell(row.ece)}{cell(row.decision_us_p50, digits=0)}</tr>"
        )
    titles = ("method", "AIQ", "low", "high", "best quality", "cost to match", "APGR", "ECE")
    head = "".join(f"<th>{title}</th>" for title in (*titles, "decision us"))
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _svg(evaluation: Evaluation) -> str:
    drawn, (singles, said) = series.curves(evaluation), series.points(evaluation)
    low, high = evaluation.cost_range
    bottom, top = series.heights(evaluation)
    logged = series.log_scale(evaluation)
    wide, tall, left, below = 640.0, 360.0, 60.0, 30.0

    def x(cost: float) -> float:
        if high == low:
            return left
        if logged:
            return left + wide * math.log(max(cost, low) / low) / math.log(high / low)
        return left + wide * (cost - low) / (high - low)

    def y(quality: float) -> float:
        return 10 + tall * (1 - (quality - bottom) / (top - bottom))

    parts, number = [], 0
    for place, one in enumerate(drawn):
        if one.landmark:
            colour, dash = "#777777", f' stroke-dasharray="{_DASHES[one.name]}"'
        else:
            colour, dash = _COLOURS[number % len(_COLOURS)], ""
            number += 1
        path = " ".join(f"{x(c):.1f},{y(q):.1f}" for c, q in series.dense(one, logged))
        label = escape(one.label)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}>'
            f"<title>{label}</title></polyline>"
        )
        at = 24 + 20 * place
        parts.append(
            f'<line x1="{left + wide + 20}" x2="{left + wide + 50}" y1="{at}" y2="{at}" '
            f'stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="{left + wide + 56}" y="{at + 4}">{label}</text>'
        )
    for point in singles:
        cx, cy, name = x(point.cost), y(point.quality), escape(point.name)
        note = f"{name}: quality {point.quality:.3f}, cost {point.cost:.3g}"
        parts.append(
            f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="#222"><title>{note}</title></circle>'
        )
    at = 24 + 20 * len(drawn)
    parts.append(
        f'<circle cx="{left + wide + 35}" cy="{at}" r="4" fill="#222"/>'
        f'<text x="{left + wide + 56}" y="{at + 4}">{said}</text>'
    )
    for step in range(5):
        quality = bottom + (top - bottom) * step / 4
        part = step / 4
        cost = low * (high / low) ** part if logged else low + (high - low) * part
        parts.append(
            f'<text x="{left - 8}" y="{y(quality) + 4:.1f}" text-anchor="end">{quality:.3f}</text>'
            f'<text x="{left + wide * part:.1f}" y="{tall + below}" text-anchor="middle">'
            f"{cost:.3g}</text>"
        )
    scale = " (log scale)" if logged else ""
    return (
        f'<svg viewBox="0 0 {left + wide + 260:.0f} {tall + below + 30:.0f}" role="img">'
        f'<line x1="{left}" x2="{left + wide}" y1="{tall + 12}" y2="{tall + 12}" stroke="#999"/>'
        f"{''.join(parts)}"
        f'<text x="{left + wide / 2}" y="{tall + below + 20}" text-anchor="middle">'
        f"mean cost of an input{scale}</text></svg>"
    )
