"""The contract of gates: which checks a card implies, and one call that runs them all.

A check is chosen by what the card claims; the only exemption is a named one with a reason, and it
is strict: once the check passes, the exemption itself is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch

from turnout.core import Card
from turnout.nn.gates import GateRecipe
from turnout.testing.contract import Check, Report, Result, refuse_unknown
from turnout.testing.contract import run_check as _run_check
from turnout.testing.gates.case import GateCase
from turnout.testing.gates.checks import decisions, layers, learning, masking, promises, state
from turnout.testing.gates.subject import GateSubject
from turnout.testing.subject import card_of

__all__ = ["CHECKS", "check", "checks_for", "known", "run_check"]


def _named(*functions: Callable[[GateSubject], None], claim: str = "") -> tuple[Check, ...]:
    return tuple(Check(each.__name__, cast("Any", each), claim) for each in functions)


#: Every check, in the order in which they run.
CHECKS = (
    *_named(
        decisions.decision_valid,
        decisions.no_tokens,
        decisions.one_expert,
        decisions.wrong_shape_refused,
        decisions.full_precision_kept,
        state.same_generator_same_route,
        state.global_rng_untouched,
        state.decide_is_pure,
        state.inputs_not_mutated,
        state.pickle_round_trip,
        state.state_dict_round_trip,
        state.forward_moves_no_state,
        masking.masked_go_nowhere,
        masking.masked_change_nothing,
        masking.all_masked,
        promises.promises_agree,
        promises.causal_enforced,
        layers.gradients_as_said,
        layers.naive_is_fast,
    ),
    *_named(
        decisions.non_finite_refused,
        decisions.experts_relabelled,
        masking.padding_is_absent,
        claim="reads_states",
    ),
    *_named(promises.causal_true, claim="causal_safe"),
    *_named(promises.per_sequence, claim="per_sequence"),
    *_named(promises.per_item, claim="per_item"),
    *_named(promises.equivariant, claim="equivariant"),
    *_named(promises.fixed_k, decisions.ties_to_lowest, claim="fixed_k"),
    *_named(promises.room_kept, claim="room"),
    *_named(promises.even_load, claim="even"),
    *_named(promises.bias_moves_choice_alone, claim="biased_choice"),
    *_named(layers.continuous, claim="continuous"),
    *_named(learning.gains_on_planted, learning.no_gain_on_noise, claim="learns"),
)


def checks_for(card: Card) -> list[Check]:
    """The checks a card implies: those for every gate, and those of each claim it makes."""
    return [item for item in CHECKS if not item.claim or item.claim in card.properties]


def check(subject: GateRecipe | GateCase, *, card: Card | None = None) -> Report:
    """Run a gate through the whole contract.

    Parameters
    ----------
    subject : GateRecipe or GateCase
        The gate, as a recipe or as a case with sizes and exemptions.
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
    case = subject if isinstance(subject, GateCase) else GateCase(subject)
    card = card_of(case.recipe) if card is None else card
    known(case)
    shared = GateSubject(case, card)
    results = tuple(run_check(shared, item) for item in checks_for(card))
    return Report(card.name, results).settled(case.recipe)


def run_check(subject: GateSubject, item: Check) -> Result:
    """Run one check and say what came of it; exemptions are counted in, strictly.

    It runs on one thread: the tensors of a check are so small that threads only wait for another.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run_check(cast("Any", subject), item)
    finally:
        torch.set_num_threads(threads)


def known(case: GateCase) -> None:
    """Refuse an exemption from a check that does not exist."""
    refuse_unknown(case.xfail, CHECKS)
