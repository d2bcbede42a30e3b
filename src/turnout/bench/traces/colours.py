"""Colours of the charts: told apart in any kind of colour vision, by day and by night."""

from __future__ import annotations

from turnout.bench.traces.charts import STEPS

__all__ = ["LINES", "LINES_DARK", "NEVER", "NEVER_DARK", "scale"]

#: Okabe and Ito's colours, the black one left out; on dark ground the dark ones are lifted.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#3a9bd4", "#8c564b", "#5b5b5b")
LINES_DARK = (
    "#58b0ee",
    "#ff8a47",
    "#2fd3a2",
    "#ee9fca",
    "#f0b93a",
    "#8fd0f7",
    "#cf9a8f",
    "#b5b5b5",
)

#: A cell that nothing went to.
NEVER, NEVER_DARK = "#7b3fa0", "#c58cf2"

#: Anchors from far less to far more than expected; the middle is the ground.
_DAY = (
    "#08306b",
    "#2166ac",
    "#67a9cf",
    "#cfe3f0",
    "#f7f6f3",
    "#fbd9c4",
    "#ef8a62",
    "#b2182b",
    "#67001f",
)
_NIGHT = (
    "#b9dcff",
    "#5fa8f0",
    "#3574b8",
    "#27486b",
    "#262b33",
    "#5a3729",
    "#a9532c",
    "#f0803f",
    "#ffd0a3",
)


def scale(*, night: bool) -> list[str]:
    """The colours of a heat map, from 1/8 or less to 8 or more times the expected.

    Parameters
    ----------
    night : bool
        For dark ground.

    Returns
    -------
    list of str
        13 of the form `#rrggbb`.
    """
    anchors = _NIGHT if night else _DAY
    colours = []
    for place in range(STEPS):
        at = place * (len(anchors) - 1) / (STEPS - 1)
        low = min(int(at), len(anchors) - 2)
        part = at - low
        pair = zip(_channels(anchors[low]), _channels(anchors[low + 1]), strict=True)
        mixed = (round(a + (b - a) * part) for a, b in pair)
        colours.append("#" + "".join(f"{channel:02x}" for channel in mixed))
    return colours


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
