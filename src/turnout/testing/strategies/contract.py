"""The contract of strategies: which checks a card implies, and one call that runs them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from turnout.core import Card
from turnout.testing.contract import Check, Report, Result, refuse_unknown
from turnout.testing.contract import run_check as _run_check
from turnout.testing.strategies import checks
from turnout.testing.strategies.subject import StrategyCase, StrategySubject

__all__ = ["CHECKS", "check", "checks_for", "known", "run_check"]


def _named(*functions: Callable[[StrategySubject], None], claim: str = "") -> tuple[Check, ...]:
    return tuple(Check(each.__name__, cast("Any", each), claim) for each in functions)


#: Every check, in the order in which they run.
CHECKS = (
    *_named(
        checks.ends_on_any_reply,
        checks.odd_items,
        checks.down_never_called,
        checks.one_destination,
        checks.pool_order,
        checks.unknown_destination_refused,
        checks.same_rng_same_play,
        checks.global_rng_untouched,
        checks.plays_apart,
        checks.nothing_before_it_starts,
        checks.halted_anywhere,
        checks.pickle_round_trip,
        checks.store_round_trip,
        checks.price_heard,
    ),
    *_named(checks.price_monotone, claim="price_monotone"),
)


def checks_for(card: Card) -> list[Check]:
    """The checks a card implies."""
    return [item for item in CHECKS if not item.claim or item.claim in card.properties]


def run_check(subject: StrategySubject, item: Check) -> Result:
    """Run one check and say what came of it; exemptions are counted in, strictly."""
    return _run_check(cast("Any", subject), item)


def known(case: StrategyCase) -> None:
    """Refuse an exemption from a check that does not exist."""
    refuse_unknown(case.xfail, CHECKS)


def check(case: StrategyCase, *, card: Card) -> Report:
    """Run a strategy through the whole contract.

    Parameters
    ----------
    case : StrategyCase
    card : Card
        What it claims.

    Returns
    -------
    Report
        Every check with its status and seconds, when none failed.

    Raises
    ------
    ContractError
        At least one check failed or one exemption is stale; all of them are listed.
    """
    known(case)
    subject = StrategySubject(case, card)
    results = tuple(run_check(subject, item) for item in checks_for(card))
    return Report(card.name, results).settled(subject.strategy)
