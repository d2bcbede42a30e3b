"""The contract of strategies: what any route of several steps must keep to.

::

    from turnout.testing.strategies import StrategyCase, check

    check(StrategyCase(make=lambda: my_strategy, ask=world, items=("a question",)))

A strategy is played over a small world that answers, and over worlds in which every destination
is silent, fails, or talks nonsense.
"""

from turnout.testing.strategies.contract import CHECKS, check, checks_for, known, run_check
from turnout.testing.strategies.subject import StrategyCase, StrategySubject

__all__ = [
    "CHECKS",
    "StrategyCase",
    "StrategySubject",
    "check",
    "checks_for",
    "known",
    "run_check",
]
