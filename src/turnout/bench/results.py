"""What an evaluation found: one row for each landmark and method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from turnout.bench.bands import Band
from turnout.core import Frontier
from turnout.core._check import Float

__all__ = ["KEYS", "Evaluation", "Row"]

#: Keys of a row in JSON, in order.
KEYS = (
    "method",
    "aiq",
    "aiq_low",
    "aiq_high",
    "apgr",
    "cpt50",
    "cpt80",
    "cost_to_match",
    "ece",
    "decision_us_p50",
    "decision_us_p99",
    "n",
    "groups",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One landmark or method. NaN = undefined.

    Parameters
    ----------
    method : str
    landmark : bool
    quality, cost : float
        Best mean quality it reaches, and the least mean cost at which it does.
    frontier : Frontier, optional
        Every point it reaches; None for a single destination, which is a point.
    aiq, aiq_low, aiq_high : float
        Area under the hull over the shared range of costs, and its 95 % bootstrap interval.
    apgr, cpt50, cpt80 : float
        Two destinations only: see `turnout.bench.measures`.
    cost_to_match : float
        Least mean cost at which it is as good as the best single destination.
    ece : float
        Calibration error of its predicted qualities.
    hypervolume : float
        Area its raw points dominate, from the dearest destination's cost and quality 0.
    decision_us_p50, decision_us_p99 : float
        Microseconds of processor time to decide on one prompt, median and 99th percentile.
    fit_seconds : float
        Seconds to fit it, over all folds.
    samples : array, optional
        AIQ on each bootstrap sample; the samples are the same for every row.
    band : Band, optional
        Interval of the hull's height; of the method of highest AIQ alone.
    """

    method: str
    landmark: bool
    quality: float
    cost: float
    frontier: Frontier | None = None
    aiq: float = math.nan
    aiq_low: float = math.nan
    aiq_high: float = math.nan
    apgr: float = math.nan
    cpt50: float = math.nan
    cpt80: float = math.nan
    cost_to_match: float = math.nan
    ece: float = math.nan
    hypervolume: float = math.nan
    decision_us_p50: float = math.nan
    decision_us_p99: float = math.nan
    fit_seconds: float = math.nan
    samples: Float | None = None
    band: Band | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """All rows, with what they share.

    Parameters
    ----------
    rows : tuple of Row
        Landmarks first.
    names : tuple of str
        The destinations.
    single_cost, single_quality : array (m,)
        Mean of always choosing each destination, on the rows judged.
    n : int
        Rows judged: those in which every destination was seen.
    total : int
        Rows in the table judged.
    groups : int or None
        Group labels among the rows judged; None without labels.
    protocol : str
        How training and test rows were kept apart.
    skipped : tuple of (str, str)
        Methods that could not be run on this table, and why.
    notes : tuple of str
    """

    rows: tuple[Row, ...]
    names: tuple[str, ...]
    single_cost: Float
    single_quality: Float
    n: int
    total: int
    groups: int | None
    protocol: str
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def cost_range(self) -> tuple[float, float]:
        """Mean cost of the cheapest and of the dearest single destination."""
        return float(self.single_cost.min()), float(self.single_cost.max())

    def row(self, method: str) -> Row:
        """One row by name; KeyError where there is none."""
        for row in self.rows:
            if row.method == method:
                return row
        raise KeyError(method)

    def best_method(self) -> Row | None:
        """The method of highest AIQ, None where no method ran."""
        ran = [row for row in self.rows if not row.landmark and not math.isnan(row.aiq)]
        return max(ran, key=lambda row: row.aiq) if ran else None

    def difference(self, one: str, other: str) -> tuple[float, float, float] | None:
        """AIQ of one less the other's, with its paired 95 % interval; None where undefined."""
        a, b = self.row(one), self.row(other)
        if a.samples is None or b.samples is None:
            return None
        low, high = np.quantile(a.samples - b.samples, [0.025, 0.975])
        return a.aiq - b.aiq, float(low), float(high)

    def records(self) -> list[dict[str, Any]]:
        """Rows for JSON: the keys of `KEYS`, None where undefined."""
        return [
            {
                key: {"n": self.n, "groups": self.groups}.get(key, _plain(getattr(row, key, None)))
                for key in KEYS
            }
            for row in self.rows
        ]


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
