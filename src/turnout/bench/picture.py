"""The frontier as marks on a plane: what is drawn where, whoever draws it.

Every curve has its name at its end, so that there is no legend to look up. The best method is
heavy and has its bootstrap band, the two after it are plain, the others and the landmarks thin; no
two names lie on each other. Lengths are in units of which the picture is 1120 wide, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from turnout.bench import series
from turnout.bench.labels import Box, Ground, shortened, spread, width_of
from turnout.bench.marks import Area, Dot, Mark, Path, Places, Words
from turnout.bench.results import Evaluation
from turnout.bench.series import Point, Series
from turnout.bench.ticks import alike, log_ticks, number, ticks
from turnout.core import Frontier
from turnout.core._check import Float

__all__ = ["WIDTH", "Picture", "Scale", "compose", "scale"]

#: Width of every picture.
WIDTH = 1120.0

_LEFT, _ABOVE, _BELOW = 62.0, 34.0, 60.0
_TEXT, _SMALL = 15.0, 13.5
_DASHES: dict[str, tuple[float, ...]] = {
    "zero_router": (2, 3),
    "prompt_length": (7, 3),
    "group_mean": (10, 3, 2, 3),
    "oracle": (1.5, 3),
}
#: Width of a line by what it is for.
_WIDTHS = {"c0": 3.6, "c1": 1.9, "c2": 1.9, "weak": 0.9, "soft": 1.1}
#: Single destinations that are named at most; the others say their names on hovering.
_NAMED = 12
_PLACE = ("cost", "quality")
#: Costs are told of so many requests that the greatest is at least 1.
_COUNTS = {1.0: "a request", 1e3: "1,000 requests", 1e6: "a million requests"}


@dataclass(frozen=True)
class Scale:
    """How costs are told.

    Parameters
    ----------
    title : str
        Of the axis.
    factor : float
        What a cost is multiplied with to be told.
    suffix : str
        Behind each number.
    """

    title: str
    factor: float
    suffix: str = ""

    def tell(self, cost: float) -> str:
        """A cost in words."""
        return f"{number(cost * self.factor)}{self.suffix}"


@dataclass(frozen=True)
class Picture:
    """Marks in the order in which they are drawn.

    Parameters
    ----------
    width, height : float
    marks : tuple of Mark
    frame : Box
        Where the curves are.
    cost, quality : (float, float)
        What the sides of the frame stand for: left and right, bottom and top.
    logged : bool
        Whether costs are on a logarithmic axis.
    scale : Scale
    below : int
        Single destinations that lie beneath the frame.
    """

    width: float
    height: float
    marks: tuple[Mark, ...]
    frame: Box
    cost: tuple[float, float]
    quality: tuple[float, float]
    logged: bool
    scale: Scale
    below: int


def scale(evaluation: Evaluation, currency: str = "") -> Scale:
    """How costs are told: as a share of calls where that is what they are, else as money.

    Parameters
    ----------
    currency : str
        Such as "US$"; "" where the table does not say.
    """
    low, high = evaluation.cost_range
    if len(evaluation.names) == 2 and (low, high) == (0.0, 1.0):
        dear = shortened(evaluation.names[int(evaluation.single_cost.argmax())])
        return Scale(f"share of requests that go to {dear}", 100.0, " %")
    factor = next((each for each in _COUNTS if high * each >= 1), 1e6)
    factor = factor if high > 0 else 1.0
    unit = f", {currency}" if currency else ", in the currency of the table"
    return Scale(f"mean cost of {_COUNTS[factor]}{unit}", factor)


def compose(evaluation: Evaluation, *, height: float = 500.0, currency: str = "") -> Picture:
    """Lay out the frontiers of an evaluation.

    Parameters
    ----------
    evaluation : Evaluation
    height : float
        Of the whole picture, >= 300.
    currency : str
        See `scale`.
    """
    drawn = series.curves(evaluation)
    inks = _inks(drawn)
    right = max((width_of(_label(one), _TEXT, bold=True) for one in drawn), default=0.0) + 30
    frame = Box(_LEFT, _ABOVE, WIDTH - min(right, 0.32 * WIDTH), height - _BELOW)
    (left, end), logged = series.widths(evaluation), series.log_scale(evaluation)
    if end == left:
        left, end = 0.9 * left, 1.1 * end or 1.0
    bottom, top = series.heights(evaluation)

    def x(cost: float) -> float:
        part = math.log(cost / left) / math.log(end / left) if logged else 0.0
        part = part if logged else (cost - left) / (end - left)
        return frame.left + (frame.right - frame.left) * min(max(part, 0.0), 1.0)

    def y(quality: float) -> float:
        return frame.bottom - (frame.bottom - frame.top) * (quality - bottom) / (top - bottom)

    told = scale(evaluation, currency)
    marks = _axes(frame, (left, end), (bottom, top), logged, told, x, y)
    paths = {one.name: _path(one, end, logged, x, y) for one in drawn}
    for one in reversed(drawn):  # the best last, on top of the others
        ink = inks[one.name]
        if ink == "c0" and one.band is not None:
            marks.append(_band(one, end, frame, x, y))
        dash = _DASHES.get(one.name, ()) if one.landmark else ()
        marks.append(Path(paths[one.name], ink, _WIDTHS[ink], dash, one.name, one.label))
    ground = Ground(frame, _dotted(paths.values()))
    marks += _finding(evaluation, drawn, ground, told, x, y)
    marks += _singles(evaluation, ground, told, x, y)
    marks += _names(drawn, inks, paths, frame)
    shown, _ = series.points(evaluation)
    return Picture(
        width=WIDTH,
        height=height,
        marks=tuple(marks),
        frame=frame,
        cost=(left, end),
        quality=(bottom, top),
        logged=logged,
        scale=told,
        below=len(evaluation.names) - len(shown),
    )


Along = Callable[[float], float]


def _inks(drawn: Sequence[Series]) -> dict[str, str]:
    """A colour for each curve: of its own for the three best methods alone."""
    methods = [one.name for one in drawn if not one.landmark]
    return {one.name: "soft" for one in drawn if one.landmark} | {
        name: f"c{rank}" if rank < 3 else "weak" for rank, name in enumerate(methods)
    }


def _label(one: Series) -> str:
    """The name of a landmark, the name and AIQ of a method."""
    return one.label if one.landmark else f"{shortened(one.name, 24)}  {one.aiq:.3f}"


def _axes(
    frame: Box,
    cost: tuple[float, float],
    quality: tuple[float, float],
    logged: bool,
    told: Scale,
    x: Along,
    y: Along,
) -> list[Mark]:
    marks: list[Mark] = []
    for value, words in alike(ticks(*quality, most=7)):
        ends = ((frame.left, y(value)), (frame.right, y(value)))
        marks.append(Path(ends, "line", 1.0))
        marks.append(Words(frame.left - 8, y(value), words, _SMALL, "soft", "end"))
    low, high = (each * told.factor for each in cost)
    for value in log_ticks(low, high) if logged else ticks(low, high, most=7):
        at = x(value / told.factor)
        foot = ((at, frame.bottom), (at, frame.bottom + 5))
        marks.append(Path(foot, "soft", 1.0))
        words = f"{number(value)}{told.suffix}"
        marks.append(Words(at, frame.bottom + 16, words, _SMALL, "soft", "middle"))
    base = ((frame.left, frame.bottom), (frame.right, frame.bottom))
    marks.append(Path(base, "soft", 1.0))
    title = told.title + (" (logarithmic)" if logged else "")
    middle = (frame.left + frame.right) / 2
    marks.append(Words(middle, frame.bottom + 42, title, _TEXT, "ink", "middle"))
    marks.append(Words(4, 12, "mean quality", _TEXT, "ink"))
    return marks


def _path(one: Series, end: float, logged: bool, x: Along, y: Along) -> Places:
    pairs = series.dense(one, logged)
    if pairs[-1][0] < end:
        pairs = [*pairs, (end, pairs[-1][1])]
    return tuple((x(cost), y(quality)) for cost, quality in pairs)


def _band(one: Series, end: float, frame: Box, x: Along, y: Along) -> Area:
    assert one.band is not None
    inside = one.band.cost <= end
    cost = [x(float(each)) for each in one.band.cost[inside]]
    upper = [max(y(float(each)), frame.top) for each in one.band.high[inside]]
    lower = [min(y(float(each)), frame.bottom) for each in one.band.low[inside]]
    sides = [*zip(cost, upper, strict=True), *reversed(list(zip(cost, lower, strict=True)))]
    words = f"{one.name}: 95 % of {one.band.resamples:,} bootstrap samples"
    return Area(tuple(sides), "c0", words)


def _dotted(paths: Iterable[Places]) -> Float:
    """Points along every line, three units apart."""
    found: list[Float] = [np.empty((0, 2))]
    for path in paths:
        for (x0, y0), (x1, y1) in pairwise(path):
            steps = max(2, int(math.hypot(x1 - x0, y1 - y0) / 3))
            found.append(np.linspace((x0, y0), (x1, y1), steps))
    return np.concatenate(found)


def _finding(
    evaluation: Evaluation,
    drawn: Sequence[Series],
    ground: Ground,
    told: Scale,
    x: Along,
    y: Along,
) -> list[Mark]:
    """From the best single destination to where the best method is as good, and the saving."""
    best = next((one for one in drawn if not one.landmark), None)
    top = series.best_single(evaluation)
    if best is None or top.cost <= 0:
        return []
    match = evaluation.row(best.name).cost_to_match
    if not match < 0.995 * top.cost:
        return []
    here, there, level = x(match), x(top.cost), y(top.quality)
    line = ((here, level), (there, level))
    ground.taken.append(Box(here - 6, level - 6, here + 6, level + 6))
    ground.taken.append(Box(here, level - 1, there, level + 1))
    of = "with {:.0f} % of the calls" if told.suffix else "at {:.0f} % of the cost"
    words = f"as good {of.format(100 * match / top.cost)}"
    marks: list[Mark] = [Path(line, "ink", 1.0, (3, 3)), Dot(here, level, 5.5, "c0", note=words)]
    return marks + _named((here, level), words, _TEXT, "c0", ground, bold=True)


def _named(
    point: tuple[float, float], words: str, size: float, ink: str, ground: Ground, bold: bool
) -> list[Mark]:
    """Words about a point where there is room for them, with a line to them if they are far."""
    placed = ground.place(*point, words, size, bold=bold)
    if placed is None:
        return []
    lead: list[Mark] = []
    if placed.joint is not None:
        lead = [Path((point, placed.joint), ink, 0.7)]
    return [*lead, Words(placed.x, placed.y, words, size, ink, placed.anchor, bold, halo=True)]


def _singles(evaluation: Evaluation, ground: Ground, told: Scale, x: Along, y: Along) -> list[Mark]:
    """The single destinations, with their names where they hide nothing."""
    shown, _ = series.points(evaluation)
    top = series.best_single(evaluation)
    shown.sort(key=lambda point: point.name != top.name)  # the best has the first choice of room
    for point in shown:
        at, up = x(point.cost), y(point.quality)
        ground.taken.append(Box(at - 6, up - 6, at + 6, up + 6))
    named = {point.name for point in _worth_naming(shown)}
    marks: list[Mark] = []
    for point in shown:
        at, up = x(point.cost), y(point.quality)
        best = point.name == top.name
        words = f"best single: {shortened(point.name)}" if best else shortened(point.name)
        if point.name in named:
            ink = "ink" if best else "soft"
            marks += _named((at, up), words, _SMALL, ink, ground, bold=False)
        marks.append(Dot(at, up, 5.5 if best else 4.0, "ink", best, _said(point, told)))
    return marks


def _worth_naming(points: list[Point]) -> list[Point]:
    """Of many points those that are on their hull, then the better ones."""
    if len(points) <= _NAMED:
        return points
    cost, quality = (np.array([getattr(one, what) for one in points]) for what in _PLACE)
    hull = Frontier(cost, quality, np.arange(len(points), dtype=np.float64)).hull()
    assert hull.knob is not None
    first = set(hull.knob.astype(np.int64).tolist())
    order = sorted(range(len(points)), key=lambda k: (k not in first, -points[k].quality))
    return [points[k] for k in order[:_NAMED]]


def _said(point: Point, told: Scale) -> str:
    return f"{point.name} alone: quality {point.quality:.3f}, cost {told.tell(point.cost)}"


def _together(end: float) -> float:
    """The same height for curves that end together."""
    return 6.0 * round(end / 6)


def _names(
    drawn: Sequence[Series], inks: dict[str, str], paths: dict[str, Places], frame: Box
) -> list[Mark]:
    """The name of each curve to the right of its end, moved apart where they are too close."""
    room = int((frame.bottom - frame.top) / (1.1 * _SMALL))
    named = list(drawn)[:room]
    # of curves that end together the better one is named further up
    named.sort(key=lambda one: (_together(paths[one.name][-1][1]), -one.aiq))
    ends = [paths[one.name][-1][1] for one in named]
    gap = min(1.35 * _TEXT, (frame.bottom - frame.top) / max(1, len(named)))
    places = spread([_together(end) for end in ends], gap, frame.top - 8, frame.bottom)
    marks: list[Mark] = []
    for one, end, place in zip(named, ends, places, strict=True):
        ink = inks[one.name]
        joint = ((frame.right + 3, end), (frame.right + 18, place))
        marks.append(Path(joint, ink, 0.8))
        best = ink == "c0"
        size = _TEXT if ink in ("c0", "c1", "c2") else _SMALL
        words = _label(one)
        marks.append(Words(frame.right + 22, place, words, size, ink, bold=best, name=one.name))
    return marks
