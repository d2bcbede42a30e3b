"""The result as a person wants to read it: a table, a plot in letters, two sentences."""

from __future__ import annotations

import math

import numpy as np
from rich.table import Table as RichTable
from rich.text import Text

from turnout.bench import series
from turnout.bench.landmarks import LABELS
from turnout.bench.results import Evaluation, Row

__all__ = ["chart", "conclusion", "table"]

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_SIGNS = {"zero_router": "z", "prompt_length": "l", "group_mean": "g", "oracle": "o"}


def table(evaluation: Evaluation) -> RichTable:
    """One line a landmark (dim) and a method (the best one bold), methods by falling AIQ."""
    two = len(evaluation.names) == 2
    made = RichTable(box=None, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    made.add_column("method", no_wrap=True, overflow="ellipsis")
    for title in ("AIQ", "95 % interval", "best quality", "cost to match"):
        made.add_column(title, justify="right", no_wrap=title == "95 % interval")
    for title in ("APGR", "CPT50", "CPT80") if two else ():
        made.add_column(title, justify="right")
    made.add_column("ECE", justify="right")
    made.add_column("µs p50/p99", justify="right", no_wrap=True)
    best = evaluation.best_method()
    methods = [row for row in evaluation.rows if not row.landmark]
    methods.sort(key=lambda row: -row.aiq if not math.isnan(row.aiq) else math.inf)
    for row in (row for row in evaluation.rows if row.landmark):
        made.add_row(*_cells(row, evaluation, two), style="dim")
    made.add_section()
    for row in methods:
        made.add_row(*_cells(row, evaluation, two), style="bold" if row is best else None)
    return made


def _cells(row: Row, evaluation: Evaluation, two: bool) -> list[str]:
    full = evaluation.single_cost[
        int(np.lexsort((evaluation.single_cost, -evaluation.single_quality))[0])
    ]
    share = row.cost_to_match / full if full > 0 else math.nan
    cells = [
        LABELS[row.method] if row.landmark else row.method,
        _fixed(row.aiq),
        "-" if math.isnan(row.aiq) else f"{row.aiq_low:.3f} - {row.aiq_high:.3f}",
        _fixed(row.quality),
        _percent(share),
    ]
    if two:
        cells += [_fixed(row.apgr), _percent(row.cpt50, 1), _percent(row.cpt80, 1)]
    time = f"{_short(row.decision_us_p50)}/{_short(row.decision_us_p99)}"
    return [*cells, _fixed(row.ece), "-" if math.isnan(row.decision_us_p50) else time]


def _short(value: float) -> str:
    """A count in at most five characters."""
    if math.isnan(value) or value < 9_999.5:
        return f"{value:.0f}"
    return f"{value / 1e3:.0f}k" if value < 999_500 else f"{value / 1e6:.1f}M"


def _fixed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f} %"


def conclusion(evaluation: Evaluation) -> list[str]:
    """One or two plain sentences: what is saved, and whether it is more than a trivial rule."""
    best = evaluation.best_method()
    if best is None:
        return ["No method was judged: these are the landmarks alone."]
    top = int(np.lexsort((evaluation.single_cost, -evaluation.single_quality))[0])
    single = f"{evaluation.names[top]}, quality {evaluation.single_quality[top]:.3f}"
    full = float(evaluation.single_cost[top])
    methods = [row for row in evaluation.rows if not row.landmark]
    matching = [row for row in methods if row.cost_to_match < 0.995 * full]
    lines = []
    if matching:
        cheap = min(matching, key=lambda row: row.cost_to_match)
        share = 100 * cheap.cost_to_match / full
        lines.append(
            f"{cheap.method} matches the best single destination ({single}) at {share:.0f} % "
            "of its cost."
        )
    else:
        near = max(methods, key=lambda row: -1.0 if math.isnan(row.quality) else row.quality)
        lines.append(
            f"No method matches the best single destination ({single}) for less; the highest "
            f"quality is that of {near.method}, {near.quality:.3f}."
        )
    compared = []
    for other in ("prompt_length", "group_mean"):
        found = evaluation.difference(best.method, other)
        if found is not None:
            name = "prompt length alone" if other == "prompt_length" else "the group mean"
            seen = " (which sees the label)" if other == "group_mean" else ""
            compared.append(f"{_against(*found)} {name}{seen}")
    if compared:
        who = f"The best by AIQ, {best.method}," if len(methods) > 1 else f"By AIQ {best.method}"
        lines.append(f"{who} is {', and '.join(compared)}.")
    return lines


def _against(value: float, low: float, high: float) -> str:
    interval = f"[{min(abs(low), abs(high)):.3f}, {max(abs(low), abs(high)):.3f}]"
    if low > 0:
        return f"{value:.3f} {interval} above"
    if high < 0:
        return f"{-value:.3f} {interval} below"
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}], not to be told apart from"


def chart(evaluation: Evaluation, *, width: int = 80, height: int = 18) -> Text:
    """The hulls drawn with letters, so that it reads without colour too.

    Lower-case letters are landmarks, digits the best methods, `x` single destinations.
    """
    drawn = series.curves(evaluation, most=3)
    singles, said = series.points(evaluation)
    low, high = evaluation.cost_range
    bottom, top = series.heights(evaluation)
    if high == low:
        return Text("")
    logged = series.log_scale(evaluation)
    inner = max(20, width - 10)

    def across(cost: float) -> int:
        part = (
            math.log(max(cost, low) / low) / math.log(high / low)
            if logged
            else (cost - low) / (high - low)
        )
        return min(inner - 1, max(0, round(part * (inner - 1))))

    def up(quality: float) -> int:
        return min(height - 1, max(0, round((quality - bottom) / (top - bottom) * (height - 1))))

    grid = [[(" ", "")] * inner for _ in range(height)]
    legend = []
    number = 0
    for one in drawn:
        if one.landmark:
            sign, style = _SIGNS[one.name], "dim"
        else:
            number += 1
            sign, style = str(number), _COLOURS[(number - 1) % len(_COLOURS)]
        legend.append((sign, style, one.label))
        for column in range(inner):
            part = column / (inner - 1)
            cost = low * (high / low) ** part if logged else low + part * (high - low)
            if cost < one.cost[0] - 1e-12 * high:
                continue
            grid[up(float(np.interp(cost, one.cost, one.quality)))][column] = (sign, style)
    for point in singles:
        grid[up(point.quality)][across(point.cost)] = ("x", "bold")
    text = Text(f"{'quality':>8}\n")
    for line in reversed(range(height)):
        mark = bottom + (top - bottom) * line / (height - 1)
        text.append(f"{mark:7.3f} " if line % 4 == 0 or line == height - 1 else " " * 8)
        text.append("|")
        for sign, style in grid[line]:
            text.append(sign, style=style or None)
        text.append("\n")
    text.append(" " * 8 + "+" + "-" * inner + "\n")
    left, right = f"{low:.3g}", f"{high:.3g}"
    title = "mean cost (log scale)" if logged else "mean cost"
    room = max(0, inner - len(left) - len(right))
    text.append(" " * 9 + left + title.center(room) + right)
    used = width
    for sign, style, label in [*legend, ("x", "bold", said)]:
        entry = len(label) + 5
        if used + entry > width:
            text.append("\n" + " " * 9)
            used = 9
        text.append(sign, style=style)
        text.append(f" {label}   ")
        used += entry
    return text
