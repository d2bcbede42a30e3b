"""What a card claims of the route, and whether the gate keeps it."""

from __future__ import annotations

from dataclasses import replace

import torch

from turnout.nn.gates import Bias, Decision, Gating, Slots, room_for
from turnout.testing.gates.checks.decisions import refused
from turnout.testing.gates.subject import Batch, GateSubject, differing, routes
from turnout.testing.subject import ContractError, NotApplicable

__all__ = [
    "bias_moves_choice_alone",
    "causal_enforced",
    "causal_true",
    "equivariant",
    "even_load",
    "fixed_k",
    "per_item",
    "per_sequence",
    "promises_agree",
    "room_kept",
]


def promises_agree(subject: GateSubject) -> None:
    """The gate says of itself what its card claims: causal or not, coupled or not, how many."""
    gate = subject.gate
    if not isinstance(gate, Gating):
        raise ContractError("a gate must have e, causal_safe, batch_coupled, needs and forward")
    if gate.e != subject.case.e:
        raise ContractError(f"gate.e must be {subject.case.e}; got {gate.e}")
    for name, says, claim, implied in (
        ("causal_safe", gate.causal_safe, "causal_safe", gate.causal_safe),
        ("batch_coupled", gate.batch_coupled, "per_sequence", not gate.batch_coupled),
    ):
        if subject.claims(claim) != implied:
            must = "must" if implied else "must not"
            raise ContractError(f"gate.{name} is {says}, so the card {must} claim {claim!r}")
    for need in gate.needs:
        bare = replace(subject.context(subject.batch(4)), tokens=None)
        if not bare.has(need):
            refused(
                lambda bare=bare: gate.forward(subject.batch(4).x, bare),  # type: ignore[misc]
                f"a context without {need}",
            )


def causal_enforced(subject: GateSubject) -> None:
    """In a model that predicts the next token a gate that looks ahead is refused."""
    batch = subject.batch(8)
    if subject.claims("causal_safe"):
        subject.decide(subject.gate, batch, causal=True)
    else:
        refused(lambda: subject.decide(subject.gate, batch, causal=True), "looking ahead")


def causal_true(subject: GateSubject) -> None:
    """Changing later tokens changes no earlier route, in training and in evaluation."""
    places = torch.arange(32)
    for gate in (subject.gate, subject.build()):
        for alike in (False, True):
            batch = subject.batch(32, alike=alike)
            for cut in (1, 13, 31):
                later = places >= cut
                for other in (subject.batch(32, seed=11), subject.batch(32, seed=12, alike=True)):
                    changed = batch.with_rows(later, other)
                    one, two = subject.decide(gate, batch), subject.decide(gate, changed)
                    _expect_same(one, two, ~later, "changing later tokens", "earlier")


def per_sequence(subject: GateSubject) -> None:
    """Changing another sequence of the batch changes no route of this one."""
    first = torch.arange(32) < 16
    for alike, mine in ((False, first), (False, ~first), (True, first), (True, ~first)):
        batch = replace(subject.batch(32, alike=alike), shape=(2, 16))
        changed = batch.with_rows(~mine, subject.batch(32, seed=13, alike=True))
        one, two = subject.decide(subject.gate, batch), subject.decide(subject.gate, changed)
        _expect_same(one, two, mine, "changing another sequence", "this sequence's")


def per_item(subject: GateSubject) -> None:
    """A token alone is routed as it is within a batch."""
    batch = subject.batch(20)
    together = routes(subject.decide(subject.gate, batch))
    for row in range(0, 20, 4):
        alone = batch.take(torch.tensor([row]))
        if differing(together[row : row + 1], routes(subject.decide(subject.gate, alone))):
            raise ContractError(f"token {row} must be routed alone as in its batch")


def equivariant(subject: GateSubject) -> None:
    """Shuffled tokens take their routes with them."""
    batch = subject.batch(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    plain = routes(subject.decide(subject.gate, batch))[order]
    shuffled = routes(subject.decide(subject.gate, batch.take(order)))
    wrong = differing(plain, shuffled)
    if wrong:
        raise ContractError(f"routes must follow their tokens; {wrong} of 40 do not")


def fixed_k(subject: GateSubject) -> None:
    """Every token goes to k experts, no fewer."""
    for batch in (subject.batch(40), subject.batch(24, alike=True)):
        for gate in (subject.gate, subject.build()):
            decision = subject.decide(gate, batch)
            if isinstance(decision, Slots):
                raise ContractError("a gate that answers with Slots chooses no fixed number")
            found = decision.chosen.sum(dim=1)
            wanted = getattr(subject.case.recipe, "k", decision.k)
            if decision.k != wanted or not bool((found == wanted).all()):
                low = int(found.min())
                raise ContractError(f"every token must have {wanted} experts; one has {low}")


def room_kept(subject: GateSubject) -> None:
    """No expert takes more than ceil(capacity * t / e) tokens; whatever is dropped is marked."""
    for batch in _crowds(subject):
        for gate in (subject.gate, subject.build()):
            decision = subject.decide(gate, batch)
            if isinstance(decision, Slots):
                raise ContractError("a gate that answers with Slots has no room to keep")
            room = room_for(batch.t, decision.e, subject.case.capacity)
            load = int(decision.load().max())
            if load > room:
                raise ContractError(f"an expert has room for {room} tokens; one takes {load}")
            if decision.dropped is not None:
                unmarked = ~decision.chosen & ~decision.dropped
                if bool(unmarked.any()) or bool((decision.chosen & decision.dropped).any()):
                    raise ContractError("a slot must hold an expert or be marked as dropped")


def even_load(subject: GateSubject) -> None:
    """Every expert works on equally many tokens or slots, even where all want one expert."""
    for batch in _crowds(subject):
        load = subject.decide(subject.gate, batch).load()
        if int(load.min()) != int(load.max()) or int(load.min()) == 0:
            raise ContractError(f"every expert must have the same load; got {load.tolist()}")


def bias_moves_choice_alone(subject: GateSubject) -> None:
    """A bias common to all experts changes nothing, one on a single expert brings it in."""
    gate = subject.build().eval()
    biases = [part for part in gate.modules() if isinstance(part, Bias)]
    if not biases:
        raise NotApplicable("this recipe has no balance bias")
    batch = subject.batch(40)
    plain = subject.decide(gate, batch)
    for part in biases:
        part.bias += 5.0
    shifted = subject.decide(gate, batch)
    _expect_same(plain, shifted, torch.ones(40, dtype=torch.bool), "a common bias", "token's")
    for part in biases:
        part.bias[subject.case.e - 1] += 100.0
    brought = int(subject.decide(gate, batch).load()[-1])
    if brought != batch.t:
        raise ContractError(f"a great bias must bring its expert in everywhere; got {brought}")


def _crowds(subject: GateSubject) -> tuple[Batch, ...]:
    return (
        subject.batch(40),
        subject.batch(40, alike=True),
        subject.batch(23, seed=2, alike=True),
    )


def _expect_same(
    one: Decision | Slots, two: Decision | Slots, rows: torch.Tensor, what: str, whose: str
) -> None:
    wrong = differing(routes(one)[rows], routes(two)[rows])
    if wrong:
        raise ContractError(f"{what} must change no {whose} route; {wrong} changed")
