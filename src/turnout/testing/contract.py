"""The contract: which checks a card implies, and one call that runs them all.

::

    from turnout.testing import Case, check

    check(Case(MyRouter(k=5)))          # raises ContractError with every broken check

A check is chosen by what the card claims; the only exemption is a named one with a reason, and
it is strict: once the check passes, the exemption itself is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from turnout.core import Card, InputError, Recipe, TurnoutError
from turnout.testing.case import Case
from turnout.testing.checks import everybody, learning, online, routing, sequential
from turnout.testing.subject import ContractError, NotApplicable, Subject, card_of

__all__ = [
    "CHECKS",
    "Check",
    "Report",
    "Result",
    "check",
    "checks_for",
    "known",
    "refuse_unknown",
    "run_check",
]


@dataclass(frozen=True)
class Check:
    """One property of the contract.

    Parameters
    ----------
    name : str
        The name an exemption uses.
    run : callable
        Takes a `Subject` and raises `ContractError` where the property does not hold.
    claim : str
        Property of the card that implies the check; "" = it holds for every method.
    """

    name: str
    run: Callable[[Subject], None]
    claim: str = ""

    @property
    def text(self) -> str:
        """The property in one sentence."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


def _named(*functions: Callable[[Subject], None], claim: str = "") -> tuple[Check, ...]:
    return tuple(Check(function.__name__, function, claim) for function in functions)


#: Every check, in the order in which they run.
CHECKS = (
    *_named(
        everybody.assignment_valid,
        everybody.predictions_valid,
        everybody.same_rng_same_route,
        everybody.global_rng_untouched,
        everybody.predict_is_pure,
        everybody.inputs_not_mutated,
        everybody.pickle_round_trip,
        everybody.store_round_trip,
        everybody.empty_batch,
        everybody.one_destination,
        everybody.unknown_destination_refused,
        routing.pool_order,
        routing.columns_relabelled,
        routing.down_never_chosen,
        routing.cost_budget_kept,
        routing.quality_floor_kept,
        routing.impossible_budget_refused,
        learning.never_above_oracle,
        learning.blank_cells,
        learning.equal_quality,
        learning.zero_costs,
    ),
    *_named(everybody.bad_inputs_refused, routing.reads_inputs, claim="reads_inputs"),
    *_named(routing.price_monotone, routing.whole_curve, claim="price_monotone"),
    *_named(routing.per_item, claim="per_item"),
    *_named(learning.gains_on_planted, learning.no_gain_on_noise, claim="learns"),
    *_named(
        sequential.sequence_ends,
        sequential.sequence_is_pure,
        sequential.plan_valid,
        claim="sequential",
    ),
    *_named(online.learning_follows_outcomes, online.bad_outcomes_refused, claim="online"),
)


@dataclass(frozen=True)
class Result:
    """What one check found.

    Parameters
    ----------
    check : str
        Its name.
    status : str
        "passed", "failed", "exempt" (fails, as its exemption says) or "skipped".
    seconds : float
        How long it took, with the fits it was the first to need.
    message : str
        Why it failed, was exempt or was skipped.
    """

    check: str
    status: str
    seconds: float
    message: str = ""


@dataclass(frozen=True)
class Report:
    """What all checks found about one method.

    Parameters
    ----------
    method : str
        Catalogue name from its card.
    results : tuple of Result
        One a check.
    """

    method: str
    results: tuple[Result, ...] = field(repr=False)

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return sum(result.seconds for result in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    def settled(self, recipe: object) -> Report:
        """Itself, where no check failed.

        Raises
        ------
        ContractError
            Lists every check that failed.
        """
        if not self.failures:
            return self
        lines = [f"  {result.check}: {result.message}" for result in self.failures]
        kind, count = type(recipe).__name__, len(self.failures)
        heading = f"{self.method} ({kind}) breaks {count} of the contract:"
        raise ContractError("\n".join([heading, *lines]))

    def __str__(self) -> str:
        lines = [f"{self.method}: {len(self.results)} checks in {self.seconds:.2f} s"]
        lines += [
            f"  {result.status:<8} {result.check:<28} {result.message}".rstrip()
            for result in self.results
        ]
        return "\n".join(lines)


def checks_for(card: Card) -> list[Check]:
    """The checks a card implies: those for everybody, and one or more for each claim it makes."""
    return [item for item in CHECKS if not item.claim or item.claim in card.properties]


def check(subject: Recipe | Case, *, card: Card | None = None) -> Report:
    """Run a method through the whole contract.

    Parameters
    ----------
    subject : Recipe or Case
        The method, as a recipe or as a case with exemptions.
    card : Card, optional
        What it claims; by default the `CARD` of the module that defines the recipe.

    Returns
    -------
    Report
        Every check with its status and seconds, when none failed.

    Raises
    ------
    ContractError
        At least one check failed or one exemption is stale; all of them are listed.
    InputError
        There is no card, or an exemption names no check.
    """
    case = subject if isinstance(subject, Case) else Case(subject)
    card = card_of(case.recipe) if card is None else card
    known(case)
    shared = Subject(case, card)
    results = tuple(run_check(shared, item) for item in checks_for(card))
    return Report(card.name, results).settled(case.recipe)


def run_check(subject: Subject, item: Check) -> Result:
    """Run one check and say what came of it; exemptions are counted in, strictly."""
    reason = subject.case.xfail.get(item.name)
    start = time.perf_counter()
    status, message = "passed", ""
    try:
        item.run(subject)
    except NotApplicable as why:
        status, message = "skipped", str(why)
    except ContractError as error:
        status, message = "failed", str(error)
    except Exception as error:
        kind = "" if isinstance(error, TurnoutError) else f"{type(error).__name__}: "
        status, message = "failed", f"it raised {kind}{error}"
    seconds = time.perf_counter() - start
    if reason is not None:
        if status == "failed":
            status, message = "exempt", reason
        else:
            status, message = "failed", f"stale exemption: the check {status} now ({reason})"
    return Result(item.name, status, seconds, message)


def known(case: Case) -> None:
    """Refuse an exemption from a check that does not exist."""
    refuse_unknown(case.xfail, CHECKS)


def refuse_unknown(exempt: Iterable[str], checks: Iterable[Check]) -> None:
    """Refuse exemptions from checks that are not among these.

    Raises
    ------
    InputError
        Names the first.
    """
    names = [item.name for item in checks]
    for name in exempt:
        if name not in names:
            raise InputError("case.xfail", f"name a check: {', '.join(names)}", name, "Rename it.")
