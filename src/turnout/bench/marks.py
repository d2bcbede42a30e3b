"""What a picture is made of, whoever draws it; lengths in the picture's units, y downwards.

`ink` is the name of a colour: of `turnout.bench.page.DAY` and `NIGHT`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Area", "Dot", "Mark", "Path", "Places", "Words"]

#: Points (x, y).
Places = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Path:
    """A line through points. `ink` names a colour; `name` is the curve's, "" for other lines."""

    points: Places
    ink: str
    width: float
    dash: tuple[float, ...] = ()
    name: str = ""
    note: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon, see-through."""

    points: Places
    ink: str
    note: str = ""


@dataclass(frozen=True)
class Dot:
    """A small disc, or a ring where it is not `full`."""

    x: float
    y: float
    radius: float
    ink: str
    full: bool = True
    note: str = ""


@dataclass(frozen=True)
class Words:
    """Words about a middle height; `anchor` is which end of them x is: start, middle or end.

    `halo` keeps lines that pass beneath away from them.
    """

    x: float
    y: float
    text: str
    size: float
    ink: str
    anchor: str = "start"
    bold: bool = False
    name: str = ""
    halo: bool = False


#: Anything that is drawn.
Mark = Path | Area | Dot | Words
