"""Words on a picture: how wide they are, and where they stand without lying on anything.

Widths are those of DejaVu Sans to within a few parts in a hundred, the widest of the usual
screen fonts: what fits by them fits in the others too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from turnout.core._check import Float

__all__ = ["Box", "Ground", "Placed", "shortened", "spread", "width_of", "wrapped"]

#: Parts of the size of the letters, by kind of character; capitals and the rest by two more.
_PARTS = (("iljI.,:;'|! ", 0.31), ('()[]{}/\\ftr-"', 0.40), ("mwMW@%&—…", 0.98))
_PART = {mark: part for marks, part in _PARTS for mark in marks}
_CAPITAL, _OTHER = 0.72, 0.63
#: Directions in which words may stand from a point, the usual ones first: degrees, y upwards.
_TURNS = (0, 180, 45, -45, 135, -135, 90, -90, 22, -22, 158, -158, 67, -67, 113, -113)
#: How far from it, in heights of a line; beyond the first a thin line leads there.
_REACHES = (0.8, 1.6, 2.5, 3.6, 5.0, 7.0, 10.0)
#: What hiding something costs, in points of a curve.
_WORDS_HIDDEN, _LEADER, _FAR = 1000.0, 8.0, 0.4


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Width of words whose letters are `size` high."""
    total = sum(_PART.get(mark, _CAPITAL if mark.isupper() else _OTHER) for mark in text)
    return total * size * (1.12 if bold else 1.0)


def shortened(text: str, most: int = 32) -> str:
    """The text, its middle left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def wrapped(text: str, size: float, width: float, *, bold: bool = False) -> list[str]:
    """The text in lines no wider than `width`; a word that is wider has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f"{lines[-1]} {word}", size, bold=bold) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near to those wanted as can be, at least `gap` apart, within [low, high].

    Least squares under the order of the places: neighbours that are too close are put side by
    side around the mean of what they want ("pool adjacent violators"). Where all of them do not
    fit, they are spread evenly.

    >>> spread([10.0, 11.0, 40.0], 6.0, 0.0, 100.0)
    [7.5, 13.5, 40.0]
    """
    count = len(wanted)
    if count == 0:
        return []
    if (count - 1) * gap >= high - low:
        return [float(place) for place in np.linspace(low, high, count)]
    order = sorted(range(count), key=lambda k: wanted[k])
    blocks: list[list[float]] = []  # sum of wanted starts, members
    for rank, k in enumerate(order):
        blocks.append([wanted[k] - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    result = [0.0] * count
    rank = 0
    for total, members in blocks:
        start = min(max(total / members, low), high - (count - 1) * gap)
        for _ in range(int(members)):
            result[order[rank]] = start + rank * gap
            rank += 1
    return result


@dataclass(frozen=True)
class Box:
    """A rectangle, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point in common."""
        apart = (
            self.right < other.left
            or other.right < self.left
            or self.bottom < other.top
            or other.bottom < self.top
        )
        return not apart

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of it that is nearest to another."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)

    def inside(self, other: Box) -> bool:
        """Whether it lies wholly in the other."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Placed:
    """Where words stand.

    Parameters
    ----------
    x, y : float
        One end of them, or their middle, and their middle height.
    anchor : str
        Which it is: start, end or middle.
    joint : (float, float) or None
        Where a thin line from the point reaches them; None where they are beside it.
    """

    x: float
    y: float
    anchor: str
    joint: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Ground:
    """What words may not lie on, and where they may.

    Parameters
    ----------
    frame : Box
    lines : array (p, 2)
        Points along every curve, closer together than letters are high.
    taken : list of Box
        Words and marks that are there already; grows.
    """

    frame: Box
    lines: Float
    taken: list[Box] = field(default_factory=list)

    def place(
        self, x: float, y: float, text: str, size: float, *, bold: bool = False
    ) -> Placed | None:
        """Where words about the point (x, y) stand: as near as can be without hiding anything.

        None where they would hide other words, wherever they stood.
        """
        width, line = width_of(text, size, bold=bold), 1.25 * size
        best, fewest = None, _WORDS_HIDDEN
        for reach in _REACHES:
            for turn in _TURNS:
                angle = math.radians(turn)
                at = x + 1.15 * reach * line * math.cos(angle)
                middle = y - reach * line * math.sin(angle)
                anchor = "middle" if abs(turn) == 90 else "start" if abs(turn) < 90 else "end"
                box = _box(at, middle, anchor, width, line)
                if not box.inside(self.frame):
                    continue
                joint = None if reach == _REACHES[0] else box.nearest(x, y)
                hidden = self._hidden(box, (x, y), joint) + _FAR * reach
                if hidden < fewest:
                    fewest, best = hidden, (Placed(at, middle, anchor, joint), box)
        if best is None:
            return None
        placed, box = best
        self.taken.append(box)
        if placed.joint is not None:
            self.taken.extend(_along((x, y), placed.joint))
        return placed

    def _hidden(
        self, box: Box, start: tuple[float, float], joint: tuple[float, float] | None
    ) -> float:
        """How much words in a box would cover, they and the line that leads to them."""
        words = _WORDS_HIDDEN * sum(box.meets(each) for each in self.taken)
        if words:
            return words
        x, y = self.lines[:, 0], self.lines[:, 1]
        covered = (x >= box.left) & (x <= box.right) & (y >= box.top) & (y <= box.bottom)
        cost = float(covered.sum())
        if joint is None:
            return cost
        steps = _along(start, joint)
        crossed = sum(step.meets(other) for step in steps for other in self.taken)
        return cost + _LEADER + _WORDS_HIDDEN * crossed


def _along(start: tuple[float, float], end: tuple[float, float]) -> list[Box]:
    """Small boxes along a line, but for the mark where it begins."""
    far = math.hypot(end[0] - start[0], end[1] - start[1])
    count = max(1, int(far / 4))
    steps = [
        (start[0] + (end[0] - start[0]) * k / count, start[1] + (end[1] - start[1]) * k / count)
        for k in range(1, count + 1)
    ]
    clear = [(a, b) for a, b in steps if max(abs(a - start[0]), abs(b - start[1])) > 8]
    return [Box(a - 1, b - 1, a + 1, b + 1) for a, b in clear]


def _box(x: float, y: float, anchor: str, width: float, line: float) -> Box:
    left = {"start": x, "end": x - width, "middle": x - width / 2}[anchor]
    return Box(left, y - line / 2, left + width, y + line / 2)
