"""Fits a method several times on halves of a table, so that what it is unsure of can be seen.

Each member of the committee learns from a random half of the rows, drawn without replacement; the
spread of the members' predictions estimates the spread of what is fitted on all the rows::

    Var[f(all n rows)] ~ Var_b[f(half b)]       because (n - d) / d = 1 where d = n / 2 are left out

That is the delete-d jackknife (Shao and Wu, "A general theory for jackknife variance estimation",
Annals of Statistics 17 (1989), section 2) at d = n / 2. Halves are used in place of bootstrap
samples because a method may cut its rows into folds itself: a row that stands twice would then
leak from one fold into another, and the method would take what it remembers for what it knows.

Cost: one fit on n / 2 rows a member.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from turnout.core import InputError, Outcomes, Pool, Predictor, Recipe, _check
from turnout.core._check import Bool, Int

__all__ = ["fit_predictor", "half", "half_samples"]


def fit_predictor(recipe: Recipe, outcomes: Outcomes, pool: Pool, rng: Generator) -> Predictor:
    """Fit a method whose figures are wanted, and not only its choices.

    Raises
    ------
    InputError
        What the recipe fits does not predict quality and cost.
    """
    fitted: Any = recipe.fit(outcomes, pool, rng=rng)
    if not isinstance(fitted, Predictor):
        hint = "Use a method that predicts, such as llms.linear or llms.knn."
        raise InputError("recipe", "fit a predictor", type(fitted).__name__, hint)
    return fitted


def half(seen: Bool, rng: Generator) -> Int:
    """Rows of a random half, and for each destination they miss one row that saw it.

    Parameters
    ----------
    seen : array of bool (n, m)
        Which cells are known; every destination is seen in at least one row.
    rng : Generator

    Returns
    -------
    array of int (about n / 2,)
        Sorted; no row stands twice.
    """
    n = len(seen)
    rows: Int = rng.choice(n, size=max(1, n // 2), replace=False)
    for j in range(seen.shape[1]):
        if not seen[rows, j].any():
            rows = np.append(rows, rng.choice(np.flatnonzero(seen[:, j])))
    return np.unique(rows)


def half_samples(
    recipe: Recipe, outcomes: Outcomes, pool: Pool, members: int, rng: Generator
) -> tuple[Predictor, ...]:
    """One fitted predictor a member, each on a half of its own.

    Parameters
    ----------
    recipe : Recipe
    outcomes : Outcomes
        Blank cells are allowed.
    pool : Pool
        The destinations of the table, in its order.
    members : int
        >= 1.
    rng : Generator

    Raises
    ------
    InputError
        `members` is out of range, or the recipe fits no predictor.
    """
    members = _check.integer("members", members, low=1)
    return tuple(
        fit_predictor(recipe, outcomes.take(half(outcomes.seen, rng)), pool, rng)
        for _ in range(members)
    )
