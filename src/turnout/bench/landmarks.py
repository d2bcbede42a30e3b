"""The landmarks that stand in every table: what a learned router has to be measured against.

* *random mixture*: a random share to the best single destination, the rest to the cheapest;
* *cheapest* and *best single*: always the same destination (points, not curves);
* *zero-router hull*: the best random mixture of single destinations (RouterBench, 2024,
  arXiv:2403.12031, section 3);
* *prompt length*: quality and cost learnt from the length of the input and nothing else;
* *group mean*: quality and cost learnt from the group label, which no router is given;
* *oracle*: the truth itself, put through the same rule.

The single destinations and their hull are chosen in hindsight on the rows that are judged, so
that no router has an easier bar; prompt length and group mean are learnt from the training rows
alone, like any router.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.core import Outcomes
from turnout.core._check import Float
from turnout.parts.costs import fit_costs, lengths

__all__ = ["LABELS", "SEES_LABEL", "Singles", "by_group", "by_length", "singles"]

#: Name in the results, and in print.
LABELS = {
    "random_mixture": "random mixture",
    "cheapest": "cheapest",
    "best_single": "best single",
    "zero_router": "zero-router hull",
    "prompt_length": "prompt length alone",
    "group_mean": "group mean (sees label)",
    "oracle": "oracle",
}

#: The landmarks that are told what no router is told.
SEES_LABEL = ("group_mean",)

#: Rows worth of the overall mean that a small group or bin is pulled towards.
_SHRINK = 10.0
_BINS = 20


@dataclass(frozen=True)
class Singles:
    """The single destinations of a table, as columns."""

    cheapest: int
    best: int


def singles(truth: Outcomes) -> Singles:
    """Cheapest by mean cost (ties: better) and best by mean quality (ties: cheaper)."""
    quality, cost = truth.mean_quality(), truth.mean_cost()
    return Singles(
        cheapest=int(np.lexsort((-quality, cost))[0]), best=int(np.lexsort((cost, -quality))[0])
    )


def by_length(train: Outcomes, test: Outcomes) -> tuple[Float, Float]:
    """Quality (n, m) and cost (n, m) of the test rows, from the length of the input alone.

    Mean quality in up to twenty bins of equal count over log length, joined by straight lines.
    """
    x, at = np.log1p(lengths(train.inputs)), np.log1p(lengths(test.inputs))
    quality = np.empty((test.n, test.m))
    for j in range(test.m):
        seen = ~np.isnan(train.quality[:, j])
        length, y = x[seen], train.quality[seen, j]
        mean = y.mean()
        bins = max(1, min(_BINS, len(y) // 50))
        edge = np.unique(np.quantile(length, np.linspace(0, 1, bins + 1)[1:-1]))
        which = np.searchsorted(edge, length, side="right")
        count = np.bincount(which, minlength=len(edge) + 1)
        used = count > 0
        total = np.bincount(which, weights=y, minlength=len(edge) + 1)
        centre = np.bincount(which, weights=length, minlength=len(edge) + 1)[used] / count[used]
        level = (total[used] + _SHRINK * mean) / (count[used] + _SHRINK)
        quality[:, j] = np.interp(at, centre, level)
    return np.clip(quality, 0.0, 1.0), fit_costs(train).predict(test.inputs)


def by_group(train: Outcomes, test: Outcomes) -> tuple[Float, Float] | None:
    """Quality (n, m) and cost (n, m) of the test rows, from their group label alone.

    Each group's mean, pulled towards the overall mean as by ten rows of it; a group never seen
    in training has the overall mean. None where there are no labels, or only one, which says
    nothing.
    """
    if train.group is None or test.group is None or len(set(train.group)) < 2:
        return None
    number = {name: k for k, name in enumerate(dict.fromkeys(train.group))}
    which = np.array([number[name] for name in train.group])
    at = np.array([number.get(name, len(number)) for name in test.group])

    def means(table: Float, overall: Float) -> Float:
        seen = ~np.isnan(table)
        filled = np.where(seen, table, 0.0)
        total = np.zeros((len(number) + 1, train.m))
        count = np.zeros((len(number) + 1, train.m))
        np.add.at(total, which, filled)
        np.add.at(count, which, seen)
        return np.asarray(((total + _SHRINK * overall) / (count + _SHRINK))[at])

    quality = means(train.quality, train.mean_quality())
    return np.clip(quality, 0.0, 1.0), means(train.cost, train.mean_cost())
