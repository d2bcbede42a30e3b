"""What a router that learns while it serves must keep to."""

from __future__ import annotations

import copy

import numpy as np

from turnout.core import Budget, InputError, Online
from turnout.parts.priced import as_router
from turnout.testing.subject import ContractError, Subject

__all__ = ["bad_outcomes_refused", "learning_follows_outcomes"]


def learning_follows_outcomes(subject: Subject) -> None:
    """Told again and again that one destination always fails, it sends less there."""
    fitted = copy.deepcopy(subject.fitted)
    learner = _online(fitted)
    inputs = subject.test.outcomes.inputs
    router = as_router(fitted)
    before = np.asarray(subject.route(router, inputs, budget=Budget()).load())
    worst = int(before.argmax())
    n = len(inputs)
    for _ in range(5):
        learner.learn(inputs, np.full(n, worst), np.zeros(n))
        for other in range(subject.pool.m):
            if other != worst:
                learner.learn(inputs, np.full(n, other), np.ones(n))
    after = np.asarray(subject.route(router, inputs, budget=Budget()).load())
    if after[worst] >= before[worst]:
        name = subject.pool.names[worst]
        raise ContractError(
            f"{name!r} failed {5 * n} times and the others never, yet its share went from "
            f"{before[worst]:g} to {after[worst]:g}"
        )


def bad_outcomes_refused(subject: Subject) -> None:
    """An outcome that is NaN or outside [0, 1] is refused, and so is an unknown destination."""
    inputs = subject.test.outcomes.inputs[:1]
    for what, chosen, outcome in (
        ("an outcome of NaN", 0, np.nan),
        ("an outcome of 2", 0, 2.0),
        ("destination 99", 99, 1.0),
    ):
        learner = _online(copy.deepcopy(subject.fitted))
        try:
            learner.learn(inputs, np.array([chosen]), np.array([outcome]))
        except InputError:
            continue
        except Exception as error:
            raise ContractError(f"{what} must be refused as InputError; got {error!r}") from error
        raise ContractError(f"{what} must be refused with an InputError; it was learned")


def _online(fitted: object) -> Online:
    if not isinstance(fitted, Online):
        raise ContractError(f"the card claims 'online', but {type(fitted).__name__} has no `learn`")
    return fitted
