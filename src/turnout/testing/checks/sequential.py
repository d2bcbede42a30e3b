"""What a router that asks one destination after another must keep to."""

from __future__ import annotations

import numpy as np

from turnout.core import Budget
from turnout.testing.subject import PRICES, ContractError, Subject, episode

__all__ = ["plan_valid", "sequence_ends", "sequence_is_pure"]


def sequence_ends(subject: Subject) -> None:
    """It asks one destination at least, none twice, and accepts within m steps, at any price."""
    for price in PRICES[::3]:
        asked, cost = episode(subject.sequential, subject.test, subject.pool, Budget(price=price))
        table = subject.test.outcomes
        rows = np.arange(table.n)[:, None]
        paid = np.where(asked >= 0, table.cost[rows, asked], 0.0).sum(axis=1)
        if not np.allclose(paid, cost):
            raise ContractError("the cost of a sequence must be the sum of what it asked")


def sequence_is_pure(subject: Subject) -> None:
    """Played twice on the same answers, it asks the same destinations."""
    budget = Budget(price=40.0)
    first, _ = episode(subject.sequential, subject.test, subject.pool, budget)
    again, _ = episode(subject.sequential, subject.test, subject.pool, budget)
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
