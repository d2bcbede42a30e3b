"""What a router that asks one destination after another must keep to."""

from __future__ import annotations

import numpy as np

from turnout.core import Budget
from turnout.testing.planted import Planted
from turnout.testing.subject import PRICES, ContractError, Subject, episode

__all__ = ["plan_valid", "sequence_ends", "sequence_is_pure"]


def sequence_ends(subject: Subject) -> None:
    """It asks one destination at least, none twice, and accepts within m steps, at any price."""
    some = _some(subject)
    for price in PRICES[::3]:
        episode(subject.sequential, some, subject.pool, Budget(price=price))


def sequence_is_pure(subject: Subject) -> None:
    """Played twice on the same answers, it asks the same destinations."""
    budget = Budget(price=40.0)
    first, _ = episode(subject.sequential, _some(subject), subject.pool, budget)
    again, _ = episode(subject.sequential, _some(subject), subject.pool, budget)
    if not np.array_equal(first, again):
        raise ContractError("proceed must be pure: a second play of the same answers differs")


def plan_valid(subject: Subject) -> None:
    """The plan lists each destination at most once; its chances of stopping sum to one."""
    plan = subject.route(subject.sequential, subject.test.outcomes.inputs)  # type: ignore[arg-type]
    index, weight = np.asarray(plan.index), np.asarray(plan.weight)
    for row in index:
        asked = row[row >= 0]
        if len(set(asked.tolist())) != len(asked):
            raise ContractError(f"a plan must not ask a destination twice; got {asked.tolist()}")
    if not np.allclose(weight.sum(axis=1), 1.0, atol=1e-6):
        raise ContractError("a plan's chances of stopping must sum to 1 per item")


def _some(subject: Subject) -> Planted:
    """Rows enough to see a fault; playing them out takes many calls."""
    return subject.test.take(np.arange(80))
