"""What a gate may remember, draw from and write to."""

from __future__ import annotations

import pickle
from dataclasses import replace

import torch

from turnout.nn.gates import Decision
from turnout.testing.gates.subject import GateSubject, other_torch_rng, same_routes
from turnout.testing.subject import ContractError
from turnout.testing.watch import changed, global_rng

__all__ = [
    "decide_is_pure",
    "forward_moves_no_state",
    "global_rng_untouched",
    "inputs_not_mutated",
    "pickle_round_trip",
    "same_generator_same_route",
    "state_dict_round_trip",
]


def same_generator_same_route(subject: GateSubject) -> None:
    """Building and deciding twice with generators in one state gives one route."""
    batch = subject.batch(40)
    for mode in (True, False):
        first = subject.decide(subject.build().train(mode), batch)
        with other_torch_rng():
            again = subject.decide(subject.build().train(mode), batch)
        same_routes(first, again, "a second gate with generators in the same state")


def global_rng_untouched(subject: GateSubject) -> None:
    """Neither building nor deciding draws from or seeds a global random number generator."""
    before = global_rng()
    gate = subject.build()
    if changed(before, global_rng()):
        raise ContractError("build must draw from its `generator` only; it touched a global one")
    for mode in (True, False):
        subject.decide(gate.train(mode), subject.batch(24))
        if changed(before, global_rng()):
            raise ContractError(
                "a gate must draw from context.generator only; it touched a global one"
            )


def decide_is_pure(subject: GateSubject) -> None:
    """Deciding twice gives the same route: nothing is remembered between calls."""
    batch = subject.batch(40)
    first = subject.decide(subject.gate, batch)
    subject.decide(subject.gate, subject.batch(17, seed=5, alike=True))
    same_routes(first, subject.decide(subject.gate, batch), "a second call")


def inputs_not_mutated(subject: GateSubject) -> None:
    """Hidden states, ids and mask are left as they were."""
    batch = subject.batch(24)
    batch = replace(batch, mask=torch.arange(24) % 3 > 0)
    for gate in (subject.gate, subject.build()):
        assert batch.mask is not None
        held = {"x": batch.x, "context.tokens": batch.tokens, "context.mask": batch.mask}
        before = {name: (value.clone(), value._version) for name, value in held.items()}
        subject.decide(gate, batch)
        for name, value in held.items():
            kept, version = before[name]
            if value._version != version or not torch.equal(value, kept):
                raise ContractError(f"a gate must not write to {name}")


def pickle_round_trip(subject: GateSubject) -> None:
    """The gate survives pickling and gives the same route."""
    try:
        copy = pickle.loads(pickle.dumps(subject.gate))
    except Exception as error:
        kind = type(error).__name__
        raise ContractError(f"the gate must pickle; it raised {kind}: {error}") from error
    batch = subject.batch(40)
    one, two = subject.decide(subject.gate, batch), subject.decide(copy, batch)
    same_routes(one, two, "a pickle round trip")


def state_dict_round_trip(subject: GateSubject) -> None:
    """A gate built with another generator and given the state decides the same, id for id."""
    other = subject.build(seed=3).eval()
    other.load_state_dict(subject.gate.state_dict())
    batch = subject.batch(40)
    one, two = subject.decide(subject.gate, batch), subject.decide(other, batch)
    same_routes(one, two, "a state_dict round trip")
    if isinstance(one, Decision) and isinstance(two, Decision):
        same = one.experts.shape == two.experts.shape and torch.equal(one.experts, two.experts)
        if not same:
            raise ContractError("a state_dict round trip must reproduce the ids slot for slot")


def forward_moves_no_state(subject: GateSubject) -> None:
    """Deciding, in training or evaluation, writes to no parameter and to no buffer."""
    gate = subject.build()
    before = {name: value.clone() for name, value in gate.state_dict().items()}
    for mode in (True, False):
        subject.decide(gate.train(mode), subject.batch(24))
        for name, value in gate.state_dict().items():
            if not torch.equal(value, before[name]):
                raise ContractError(f"a gate must not write to its own {name}; balancers do")
