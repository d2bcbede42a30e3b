"""Ratings from comparisons: how strong each player is, given who beat whom.

The Bradley-Terry model says that i beats j with probability
`1 / (1 + exp(strength_j - strength_i))` (Bradley and Terry, "Rank Analysis of Incomplete Block
Designs: I. The Method of Paired Comparisons", Biometrika 39, 1952). Only differences within one
row of a table are used, so a destination that was only ever given the hard items is not thought
weak for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.core import InputError, Outcomes, _check
from turnout.core._check import Float, Int

__all__ = ["bradley_terry", "from_votes", "wins_of"]

_ROUNDS = 100
_TOLERANCE = 1e-12


def wins_of(quality: Float) -> Float:
    """Wins (m, m) of row over column in the rows that saw both; an equal quality is half a win.

    Parameters
    ----------
    quality : array (n, m)
        NaN = never seen.
    """
    m = quality.shape[1]
    wins = np.zeros((m, m))
    for i in range(m):
        both = ~np.isnan(quality) & ~np.isnan(quality[:, [i]])
        better = (quality[:, [i]] > quality) & both
        equal = (quality[:, [i]] == quality) & both
        wins[i] = better.sum(axis=0) + 0.5 * equal.sum(axis=0)
    np.fill_diagonal(wins, 0.0)
    return wins


def bradley_terry(wins: Float, *, ridge: float = 1e-3) -> Float:
    """Strengths (m,) of most likelihood, mean zero, by Newton's method.

    Maximises `sum_ij wins[i, j] * log sigmoid(s_i - s_j) - ridge / 2 * sum_j s_j**2`.

    Parameters
    ----------
    wins : array (m, m)
        How often row beat column, >= 0; need not be whole.
    ridge : float
        Draws strengths towards zero; > 0, so that one who never lost stays finite and players
        who never met, even through others, can still be compared (as average).

    Raises
    ------
    InputError
        The matrix is not square, a count is negative, or nobody played.
    """
    m = len(wins)
    wins = _check.floats("wins", wins, (m, m), low=0.0)
    ridge = _check.number("ridge", ridge, low=1e-9)
    games = wins + wins.T
    if not games.sum() > 0:
        raise InputError("wins", "hold at least one game", 0, "Compare two destinations on a row.")
    strength = np.zeros(m)

    def objective(s: Float) -> float:
        gap = s[:, None] - s[None, :]
        return float(-(wins * np.logaddexp(0.0, -gap)).sum() - 0.5 * ridge * (s * s).sum())

    value = objective(strength)
    for _ in range(_ROUNDS):
        p = 1.0 / (1.0 + np.exp(strength[None, :] - strength[:, None]))
        gradient = (wins - games * p).sum(axis=1) - ridge * strength
        curve = games * p * p.T
        hessian = np.diag(curve.sum(axis=1) + ridge) - curve
        step = np.linalg.solve(hessian, gradient)
        # Strictly concave, so a Newton step halved often enough always climbs.
        scale = 1.0
        while (new := objective(strength + scale * step)) < value and scale > 1e-8:
            scale /= 2
        if new < value:
            break
        strength, value = strength + scale * step, new
        if np.abs(scale * step).max() < _TOLERANCE:
            break
    return np.asarray(strength - strength.mean())


def from_votes(
    inputs: Sequence[str],
    names: Sequence[str],
    first: Int,
    second: Int,
    score: Float,
    cost: Float | None = None,
) -> Outcomes:
    """A table of outcomes from pairwise votes, one row a vote.

    The two that were compared are seen, with the score as quality: the winner 1, the loser 0,
    both one half for a tie. Everybody else is never seen.

    Parameters
    ----------
    inputs : sequence of str (n,)
        What was asked.
    names : sequence of str (m,)
        The destinations.
    first, second : array of int (n,)
        Columns of the two that were compared; never the same.
    score : array (n,)
        Of the first: 1 = it won, 0 = it lost, 0.5 = a tie; anything in [0, 1].
    cost : array (m,), optional
        What an answer of each destination costs; unknown unless said.

    Raises
    ------
    InputError
        Lengths differ, a column does not exist, or a destination meets itself.
    """
    n, names = len(inputs), _check.names("names", names)
    score = _check.floats("score", score, (n,), low=0.0, high=1.0)
    one, two = np.asarray(first), np.asarray(second)
    for name, column in (("first", one), ("second", two)):
        _check.expect_shape(name, column, (n,))
        if not np.issubdtype(column.dtype, np.integer):
            raise InputError(name, "hold integers", column.dtype.name, "Use columns of names.")
        if n and (column.min() < 0 or column.max() >= len(names)):
            wrong = int(column.min() if column.min() < 0 else column.max())
            raise InputError(name, f"lie in [0, {len(names) - 1}]", wrong, "Count from 0.")
    if (same := np.flatnonzero(one == two)).size:
        raise InputError(f"second[{same[0]}]", "differ from first", int(two[same[0]]), "Drop it.")
    rows = np.arange(n)
    quality = np.full((n, len(names)), np.nan)
    quality[rows, one] = score
    quality[rows, two] = 1.0 - score
    paid = np.full((n, len(names)), np.nan)
    if cost is not None:
        price = _check.floats("cost", cost, (len(names),), low=0.0)
        paid = np.where(np.isnan(quality), np.nan, price)
    return Outcomes(inputs=inputs, names=names, quality=quality, cost=paid)
