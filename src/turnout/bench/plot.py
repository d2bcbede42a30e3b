"""The frontier as a picture for a slide (PNG, needs matplotlib) or as a page of its own (HTML)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from turnout.bench import page, picture, show
from turnout.bench.labels import wrapped
from turnout.bench.marks import Area, Dot, Mark, Words
from turnout.bench.picture import WIDTH
from turnout.bench.results import Evaluation
from turnout.core import InputError, MissingExtraError

__all__ = ["check_path", "render"]

#: The picture for a slide, sixteen to nine; 1920 dots wide.
_HEIGHT, _DPI = 630.0, 72 * 1920 / WIDTH
_MARGIN = 26.0
_TITLE, _SUB, _FOOT = 25.0, 14.0, 11.5


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


def render(evaluation: Evaluation, kind: str, *, title: str = "", currency: str = "") -> bytes:
    """The bytes of a `.png` or `.html` file.

    Parameters
    ----------
    evaluation : Evaluation
    kind : str
        ".png" or ".html".
    title : str
        What was judged, such as the name of the table; the heading says what was found.
    currency : str
        What costs are counted in, such as "US$"; "" where the table does not say.
    """
    if kind == ".png":
        return _png(evaluation, title, currency)
    return page.page(evaluation, title=title, currency=currency).encode()


def _matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot") from None
    return Figure


def _halo() -> Any:
    """Letters drawn once more beneath themselves, wide and white."""
    from matplotlib.patheffects import withStroke

    return withStroke(linewidth=3, foreground="white", alpha=0.8)


def _png(evaluation: Evaluation, title: str, currency: str) -> bytes:
    room = WIDTH - 2 * _MARGIN
    head = wrapped(show.headline(evaluation), _TITLE, room, bold=True)
    said = " ".join([f"{title}." if title else "", *show.conclusion(evaluation)[1:]]).strip()
    sub = wrapped(said, _SUB, room)
    foot = wrapped(show.footer(evaluation), _FOOT, room)
    marks: list[Mark] = []
    y = _MARGIN + _TITLE / 2
    for line in head:
        marks.append(Words(_MARGIN, y, line, _TITLE, "ink", bold=True))
        y += 1.25 * _TITLE
    y += 0.5 * _SUB - 0.5 * _TITLE + 4
    for line in sub:
        marks.append(Words(_MARGIN, y, line, _SUB, "soft"))
        y += 1.4 * _SUB
    above = y + 6
    y = _HEIGHT - 16 - 1.35 * _FOOT * (len(foot) - 1)
    below = y - _FOOT - 6
    for line in foot:
        marks.append(Words(_MARGIN, y, line, _FOOT, "soft"))
        y += 1.35 * _FOOT
    drawn = picture.compose(evaluation, height=max(300.0, below - above), currency=currency)
    figure = _matplotlib()(figsize=(WIDTH / 72, _HEIGHT / 72), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(_HEIGHT, 0)
    axes.set_axis_off()
    shrink = (WIDTH - 2 * (_MARGIN - 4)) / WIDTH
    for layer, mark in enumerate(marks):
        _draw(axes, mark, layer)
    for layer, mark in enumerate(drawn.marks, len(marks)):
        _draw(axes, mark, layer, dx=_MARGIN - 4, dy=above, across=shrink)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": "turnout"})
    return buffer.getvalue()


def _draw(
    axes: Any, mark: Mark, layer: int, dx: float = 0.0, dy: float = 0.0, across: float = 1.0
) -> None:
    """One mark, moved, on the axes of a figure whose unit is a point of 1/72 inch."""
    if isinstance(mark, Words):
        axes.text(
            dx + across * mark.x,
            dy + mark.y,
            mark.text,
            fontsize=mark.size,
            color=page.DAY[mark.ink],
            ha={"start": "left", "end": "right", "middle": "center"}[mark.anchor],
            va="center_baseline",
            weight="bold" if mark.bold else "normal",
            zorder=layer,
            parse_math=False,
            path_effects=[_halo()] if mark.halo else None,
        )
    elif isinstance(mark, Dot):
        colour = page.DAY[mark.ink]
        axes.plot(
            [dx + across * mark.x],
            [dy + mark.y],
            marker="o",
            markersize=2 * mark.radius,
            markerfacecolor=colour if mark.full else "white",
            markeredgecolor="white" if mark.full else colour,
            markeredgewidth=1.2,
            zorder=layer,
        )
    else:
        x = [dx + across * place[0] for place in mark.points]
        y = [dy + place[1] for place in mark.points]
        if isinstance(mark, Area):
            axes.fill(x, y, color=page.DAY[mark.ink], alpha=0.16, linewidth=0, zorder=layer)
            return
        style = (0, [part / mark.width for part in mark.dash]) if mark.dash else "-"
        axes.plot(
            x,
            y,
            color=page.DAY[mark.ink],
            linewidth=mark.width,
            linestyle=style,
            solid_joinstyle="round",
            zorder=layer,
        )
