"""GQR: how well a guarded router serves what belongs to it and refuses what does not.

From "Guarded Query Routing for Large Language Models", 2025, arXiv:2505.14524, and its package
`gqr`: in-domain accuracy a, the mean b over out-of-domain *sets* of the share that is refused,
and their harmonic mean::

    a   = share of in-domain rows with the right label (to refuse one is an error)
    b   = mean over sets s of  share of the rows of s that are refused
    gqr = 2 a b / (a + b),  0 where a + b = 0

A set counts as one however many rows it has. Where `gqr` is installed its scorer makes the
accuracies, otherwise the same figures are made here.

Examples
--------
>>> found = guarded_score([0, 1, 2], [0, 1, 3], {"chess": [3, 3, 0, 3], "noise": [3]}, reject=3)
>>> round(found.id_accuracy, 3), found.ood_accuracy, round(found.gqr, 3)
(0.667, 0.875, 0.757)
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from turnout.core import InputError

__all__ = ["GuardedScore", "guarded_score", "harmonic"]

Labels = Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class GuardedScore:
    """Accuracies in [0, 1].

    Parameters
    ----------
    id_accuracy : float
    ood_accuracy : float
        Mean over the sets.
    gqr : float
        Harmonic mean of the two.
    sets : tuple of (str, float)
        Share refused of each set, in the order given.
    """

    id_accuracy: float
    ood_accuracy: float
    gqr: float
    sets: tuple[tuple[str, float], ...]


def guarded_score(
    truth: Labels, predicted: Labels, strange: Mapping[str, Labels], *, reject: int
) -> GuardedScore:
    """Score the labels that a guard gave.

    Parameters
    ----------
    truth, predicted : sequence of int (n,)
        Of in-domain rows.
    strange : mapping of str to sequence of int
        Labels given to the rows of each out-of-domain set.
    reject : int
        The label of what is refused; never among `truth`.

    Raises
    ------
    InputError
        Lengths differ, something is empty, or `truth` holds the label of what is refused.
    """
    true = _labels("truth", truth)
    told = _labels("predicted", predicted)
    if len(true) != len(told):
        raise InputError("predicted", f"hold {len(true)} labels", len(told), "One a row of truth.")
    if (true == reject).any():
        hint = "Rows that belong to no domain go into a set of their own."
        raise InputError("truth", "hold domains only", reject, hint)
    if not strange:
        raise InputError("strange", "hold at least one set", 0, "Name one.")
    given = {name: _labels(f"strange[{name!r}]", labels) for name, labels in strange.items()}
    peer = _peer()
    inside = peer(true, told) if peer else float((true == told).mean())
    sets = tuple(
        (name, peer(np.full(len(row), reject), row) if peer else float((row == reject).mean()))
        for name, row in given.items()
    )
    outside = float(np.mean([share for _, share in sets]))
    return GuardedScore(inside, outside, harmonic(inside, outside), sets)


def harmonic(a: float, b: float) -> float:
    """Harmonic mean of two numbers >= 0; 0 where both are 0."""
    return 2.0 * a * b / (a + b) if a + b > 0 else 0.0


def _peer() -> Any:
    """Accuracy by the package `gqr`, or None where it is not installed."""
    if importlib.util.find_spec("gqr") is None:
        return None
    evaluate = importlib.import_module("gqr").evaluate

    def accuracy(true: NDArray[np.int64], told: NDArray[np.int64]) -> float:
        return float(evaluate(told.tolist(), true.tolist())["accuracy"])

    return accuracy


def _labels(name: str, labels: Labels) -> NDArray[np.int64]:
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iu":
        rule = "be a sequence of whole numbers, at least one"
        raise InputError(name, rule, array.shape, "Pass one label a row.")
    return array.astype(np.int64)
