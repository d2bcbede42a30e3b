"""Holds a log of single choices: what was chosen, how likely that was, and what came of it.

A gateway that explores writes one (`turnout prompts export --graded`), and so does
`turnout.parts.feedback.exploring`. `turnout.parts.feedback.offpolicy` judges by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from turnout.core import InputError, Outcomes, _check
from turnout.core._check import Float, Int

__all__ = ["Log"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Log:
    """What was chosen, with what probability, and what came of it.

    Parameters
    ----------
    names : tuple of str
        The m destinations.
    chosen : array of int (n,)
        Column of the destination chosen.
    quality : array (n,)
        In [0, 1].
    cost : array (n,)
        >= 0.
    propensity : array (n,)
        Probability with which it was chosen, in (0, 1].

    Raises
    ------
    InputError
        Lengths differ, there is no row, or a value is out of its range; a propensity of 0 among
        them: what was chosen cannot have been impossible.
    """

    names: tuple[str, ...]
    chosen: Int
    quality: Float
    cost: Float
    propensity: Float

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "names", _check.names("log.names", self.names))
        chosen = np.asarray(self.chosen)
        if chosen.ndim != 1 or len(chosen) == 0 or not np.issubdtype(chosen.dtype, np.integer):
            rule = "be a vector of at least one column number"
            raise InputError("log.chosen", rule, chosen.shape, "Name the column of each choice.")
        if chosen.min() < 0 or chosen.max() >= len(self.names):
            wrong = int(chosen.min() if chosen.min() < 0 else chosen.max())
            rule = f"lie in [0, {len(self.names) - 1}]"
            raise InputError("log.chosen", rule, wrong, "Count columns from 0.")
        set_(self, "chosen", _check.frozen(chosen.astype(np.int64)))
        shape = (len(chosen),)
        set_(self, "quality", _check.floats("log.quality", self.quality, shape, low=0, high=1))
        set_(self, "cost", _check.floats("log.cost", self.cost, shape, low=0))
        share = _check.floats("log.propensity", self.propensity, shape, high=1)
        if (share <= 0).any():
            row = int(np.flatnonzero(share <= 0)[0])
            hint = "Log the probability of each choice when it is made; it is above 0 then."
            rule = "be a probability in (0, 1]"
            raise InputError(f"log.propensity[{row}]", rule, float(share[row]), hint)
        set_(self, "propensity", share)

    @classmethod
    def of(cls, outcomes: Outcomes) -> Log:
        """The log that a table holds: one seen cell a row, with cost and propensity.

        Raises
        ------
        InputError
            There are no propensities, or a row has no seen cell, several, or one whose cost or
            propensity is unknown.
        """
        seen = outcomes.seen
        if outcomes.propensity is None:
            hint = "Without the probability of each choice its luck cannot be told from its merit."
            raise InputError("outcomes.propensity", "be given", None, hint)
        count = seen.sum(axis=1)
        if (count != 1).any():
            row = int(np.flatnonzero(count != 1)[0])
            hint = "Leave out rows without feedback; a full table needs no estimate."
            raise InputError(f"row {row}", "have one seen cell", int(count[row]), hint)
        chosen = seen.argmax(axis=1)
        rows = np.arange(outcomes.n)
        for name, table in (("cost", outcomes.cost), ("propensity", outcomes.propensity)):
            blank = np.isnan(table[rows, chosen])
            if blank.any():
                row = int(np.flatnonzero(blank)[0])
                hint = "Leave the row out, if that has nothing to do with how good it was."
                raise InputError(f"{name} of row {row}", "be known", math.nan, hint)
        return cls(
            names=outcomes.names,
            chosen=chosen,
            quality=outcomes.quality[rows, chosen],
            cost=outcomes.cost[rows, chosen],
            propensity=outcomes.propensity[rows, chosen],
        )

    def __len__(self) -> int:
        return len(self.chosen)
