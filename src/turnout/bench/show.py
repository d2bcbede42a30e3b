"""The result as a person wants to read it: a table, a plot in letters, two sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from turnout.bench import series
from turnout.bench.landmarks import LABELS
from turnout.bench.results import Evaluation, Row

__all__ = ["Fitting", "chart", "conclusion", "footer", "headline", "table"]

#: Columns that a narrow console goes without, the first to go first.
_DISPENSABLE = ("CPT50", "ECE", "CPT80", "µs p50/p99", "95 % interval", "best quality", "APGR")

_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "red")
_SIGNS = {"zero_router": "z", "prompt_length": "l", "group_mean": "g", "oracle": "o"}


def table(evaluation: Evaluation) -> Fitting:
    """One line a landmark (dim) and a method (the best one bold), methods by falling AIQ.

    As many columns as the console is wide enough for.
    """
    return Fitting(evaluation)


@dataclass(frozen=True, eq=False)
class Fitting:
    """The table, which leaves columns out where the console is too narrow for all of them.

    Parameters
    ----------
    evaluation : Evaluation
    """

    evaluation: Evaluation

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        left_out: list[str] = []
        made = self._made(left_out)
        for title in _DISPENSABLE:
            if console.measure(made, options=options.update(max_width=1000)).maximum <= (
                options.max_width
            ):
                break
            left_out.append(title)
            made = self._made(left_out)
        yield made
        missing = [title for title in left_out if title in self._titles()]
        if missing:
            yield Text(f"A wider terminal also shows: {', '.join(missing)}.", style="dim")

    def _titles(self) -> list[str]:
        two = ["APGR", "CPT50", "CPT80"] if len(self.evaluation.names) == 2 else []
        titles = ["AIQ", "95 % interval", "best quality", "cost to match"]
        return [*titles, *two, "ECE", "µs p50/p99"]

    def _made(self, left_out: Sequence[str]) -> RichTable:
        evaluation = self.evaluation
        made = RichTable(box=None, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
        made.add_column("method", no_wrap=True, overflow="ellipsis")
        kept = [k for k, title in enumerate(self._titles()) if title not in left_out]
        for k in kept:
            title = self._titles()[k]
            two_lines = (
                title.replace(" ", "\n") if title in ("best quality", "cost to match") else ""
            )
            made.add_column(two_lines or title, justify="right", no_wrap=True)
        best = evaluation.best_method()
        methods = [row for row in evaluation.rows if not row.landmark]
        methods.sort(key=lambda row: -row.aiq if not math.isnan(row.aiq) else math.inf)

        def add(row: Row, style: str | None) -> None:
            name, *cells = _cells(row, evaluation)
            made.add_row(name, *(cells[k] for k in kept), style=style)

        for row in (row for row in evaluation.rows if row.landmark):
            add(row, "dim")
        made.add_section()
        for row in methods:
            add(row, "bold" if row is best else None)
        return made


def _cells(row: Row, evaluation: Evaluation) -> list[str]:
    full = series.best_single(evaluation).cost
    share = row.cost_to_match / full if full > 0 else math.nan
    cells = [
        LABELS[row.method] if row.landmark else row.method,
        _fixed(row.aiq),
        "-" if math.isnan(row.aiq) else f"{row.aiq_low:.3f} - {row.aiq_high:.3f}",
        _fixed(row.quality),
        _percent(share),
    ]
    if len(evaluation.names) == 2:
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
    top = series.best_single(evaluation)
    single = f"{top.name}, quality {top.quality:.3f}"
    methods = [row for row in evaluation.rows if not row.landmark]
    lines = []
    row = _matching(evaluation)
    if row is not None:
        share = 100 * row.cost_to_match / top.cost
        lines.append(
            f"{row.method} matches the best single destination ({single}) at {share:.0f} % "
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


def headline(evaluation: Evaluation) -> str:
    """What was found, in one line for a slide; of the method of highest AIQ where it can be."""
    best = evaluation.best_method()
    if best is None:
        return "What the landmarks reach, before any method"
    against = evaluation.difference(best.method, "prompt_length")
    if against is not None and against[1] <= 0:
        return "No method is told apart from prompt length alone"
    row = _matching(evaluation)
    if row is not None:
        share = 100 * row.cost_to_match / series.best_single(evaluation).cost
        return f"{row.method} reaches the best single model's quality at {share:.0f} % of its cost"
    return (
        f"{best.method} buys the most for its cost, but no method reaches the best single "
        "model's quality for less"
    )


def _matching(evaluation: Evaluation) -> Row | None:
    """The method of highest AIQ among those as good as the best single destination for less.

    Not the one that does it for least: of many methods one does by luck.
    """
    full = series.best_single(evaluation).cost
    found = [
        row for row in evaluation.rows if not row.landmark and row.cost_to_match < 0.995 * full
    ]
    return max(found, key=lambda row: row.aiq, default=None)


def footer(evaluation: Evaluation) -> str:
    """How it was judged and what the figures are, in a line or two of small print."""
    lines = [f"{evaluation.protocol}; {evaluation.n:,} of {evaluation.total:,} rows judged."]
    best = evaluation.best_method()
    band = None if best is None else best.band
    if band is not None:
        lines.append(f"Band: 95 % of {band.resamples:,} bootstrap samples of the rows.")
    lines.append(
        "Figures beside names: AIQ, the mean height of a curve from the cheapest to the dearest "
        "single model."
    )
    below = len(evaluation.names) - len(series.points(evaluation)[0])
    if below:
        lines.append(f"{below} single {'models lie' if below > 1 else 'model lies'} lower.")
    lines += [f"Note: {note}." for note in evaluation.notes]
    return " ".join(lines)


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
