"""The public contract: checks any routing method can be run through, and planted problems.

Third parties run it on their own methods: give the module a `CARD`, then call
`turnout.testing.check(MyRecipe())`. numpy only.
"""

from turnout.testing import planted
from turnout.testing.case import Case
from turnout.testing.contract import (
    CHECKS,
    Check,
    Report,
    Result,
    check,
    checks_for,
    run_check,
)
from turnout.testing.data import real_data
from turnout.testing.subject import ContractError, NotApplicable, Subject, episode

__all__ = [
    "CHECKS",
    "Case",
    "Check",
    "ContractError",
    "NotApplicable",
    "Report",
    "Result",
    "Subject",
    "check",
    "checks_for",
    "episode",
    "planted",
    "real_data",
    "run_check",
]
