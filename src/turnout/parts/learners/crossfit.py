"""Predicts every row of a table by what was fitted without it.

Needed wherever a prediction is held against the outcome of its own row: a doubly robust estimate
(`turnout.parts.feedback.offpolicy.dr`), or a curve of choices judged by the log they were learnt
from. Rows of equal inputs share a fold, or the answer would leak from one to the other.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, Inputs, Outcomes, Recipe, _check
from turnout.core._check import Float, Int
from turnout.parts.learners.committee import fit_predictor

__all__ = ["crossfit", "identities", "take_inputs", "take_training"]


def identities(inputs: Inputs) -> Int:
    """A number for each different input, (n,), in order of first appearance.

    Parameters
    ----------
    inputs : sequence of str, or array (n, d)
    """
    keys = [row.tobytes() for row in inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    number: dict[object, int] = {}
    return np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)


def take_inputs(inputs: Inputs, rows: Int) -> Inputs:
    """Some rows of a batch, whether texts or an array.

    `Outcomes.take` would refuse a few rows in which a destination was never seen.
    """
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[int(i)] for i in rows]


def take_training(outcomes: Outcomes, train: Int) -> Outcomes:
    """The rows to learn from where the others are held out.

    Raises
    ------
    InputError
        A destination was seen in the others alone.
    """
    never = ~outcomes.seen[train].any(axis=0)
    if never.any():
        j = int(np.flatnonzero(never)[0])
        rows = int(outcomes.seen[:, j].sum())
        hint = "Drop this destination, or add rows in which it answered."
        value = f"{rows:,} {'row' if rows == 1 else 'rows'} in one fold"
        raise InputError(f"{outcomes.names[j]!r}", "be seen in rows of two folds", value, hint)
    return outcomes.take(train)


def crossfit(
    recipe: Recipe, outcomes: Outcomes, *, folds: int = 5, rng: Generator
) -> tuple[Float, Float]:
    """Out-of-fold predictions of a method on its own table.

    Parameters
    ----------
    recipe : Recipe
        What it fits must predict.
    outcomes : Outcomes
        n rows, blank cells allowed; every destination must be seen outside every fold.
    folds : int
        Parts, >= 2, at most the number of different inputs.
    rng : Generator
        Deals the folds, and is handed to the fits.

    Returns
    -------
    quality, cost : array (n, m)

    Raises
    ------
    InputError
        `folds` is out of range, a destination is seen in one fold alone, or the recipe fits no
        predictor.
    """
    which = identities(outcomes.inputs)
    different = int(which.max()) + 1
    folds = _check.integer("folds", folds, low=2, high=max(different, 2))
    if different < 2:
        raise InputError("outcomes.inputs", "hold two different inputs", different, "Add rows.")
    part = (rng.permutation(different) % folds)[which]
    quality, cost = np.empty((outcomes.n, outcomes.m)), np.empty((outcomes.n, outcomes.m))
    for fold in range(folds):
        held = np.flatnonzero(part == fold)
        train = np.flatnonzero(part != fold)
        table = take_training(outcomes, train)
        fitted = fit_predictor(recipe, table, table.pool(), rng)
        quality[held], cost[held] = fitted.predict(take_inputs(outcomes.inputs, held))
    return quality, cost
