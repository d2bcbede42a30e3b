"""Plays over a table: what was recorded answers, and nothing else does.

Also what every strategy asks of its pool and its budget before it begins.
"""

from __future__ import annotations

import numpy as np

from turnout.core import Budget, Call, InputError, Outcomes, Pool, Reply
from turnout.parts.rounds.playing import Ask
from turnout.parts.texts.words import texts_of

__all__ = ["Recorded", "admitted", "price_of"]


class Recorded:
    """The answers of a table, as destinations.

    Parameters
    ----------
    outcomes : Outcomes
        Of texts, with answers. Of rows with one text the last counts.

    Raises
    ------
    InputError
        The table holds no texts, or no answers.

    Examples
    --------
    >>> table = Outcomes(
    ...     inputs=["q"], names=("a",), quality=np.ones((1, 1)), cost=np.ones((1, 1)),
    ...     answers=np.array([["yes"]], dtype=object),
    ... )
    >>> Recorded(table).ask(Call(to="a", prompt="q")).text, Recorded(table).mark(0, "yes ")
    ('yes', 1.0)
    """

    def __init__(self, outcomes: Outcomes) -> None:
        if outcomes.answers is None:
            hint = "Record the answers, or train with `train` on models that can be asked."
            raise InputError("outcomes.answers", "be there to be read", None, hint)
        self.texts = texts_of(outcomes.inputs)
        self._said: dict[tuple[str, str], Reply] = {}
        self._marks: dict[tuple[str, str], float] = {}
        for i, j in zip(*np.nonzero(outcomes.seen), strict=True):
            text, answer = self.texts[int(i)], outcomes.answers[i, j]
            if answer is not None:
                cost = float(np.nan_to_num(outcomes.cost[i, j]))
                self._said[outcomes.names[int(j)], text] = Reply(text=str(answer), cost=cost)
                self._marks[text, str(answer).strip()] = float(outcomes.quality[i, j])

    @property
    def ask(self) -> Ask:
        """Makes a call; one that was never recorded fails, at no cost."""
        return self._ask

    def _ask(self, call: Call) -> Reply:
        return self._said.get((call.to, call.prompt), Reply(text="", failed="never asked"))

    def mark(self, row: int, answer: str) -> float:
        """How good an answer to a row was; 0 where nobody gave it."""
        return self._marks.get((self.texts[row], answer.strip()), 0.0)


def admitted(pool: Pool, names: tuple[str, ...]) -> None:
    """Refuse a destination that is neither known nor described.

    Raises
    ------
    InputError
        Names the first.
    """
    about = pool.description or ("",) * pool.m
    for name, text in zip(pool.names, about, strict=True):
        if name not in names and not text.strip():
            rule = f"be known ({', '.join(names)}) or described"
            raise InputError("pool.names", rule, name, "Describe it in pool.description.")


def price_of(budget: Budget) -> float:
    """The price of a budget, 0 where there is none.

    Raises
    ------
    InputError
        The budget is a mean: a single play cannot see the batch.
    """
    if budget.mean_cost is not None or budget.mean_quality is not None:
        hint = "Try prices on some questions and keep the one that meets the target."
        raise InputError("budget", "give a price", repr(budget), hint)
    return budget.price or 0.0
