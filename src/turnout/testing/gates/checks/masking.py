"""Masked tokens: they go nowhere, count nowhere and change nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from turnout.nn.gates import Decision, Slots
from turnout.testing.gates.subject import Batch, GateSubject, differing, routes
from turnout.testing.subject import ContractError

__all__ = ["all_masked", "masked_change_nothing", "masked_go_nowhere", "padding_is_absent"]


def masked_go_nowhere(subject: GateSubject) -> None:
    """A masked token has no expert, weighs nothing and works in no slot."""
    batch = _masked(subject.batch(30))
    for gate in (subject.gate, subject.build()):
        _nowhere(subject.decide(gate, batch), batch)


def masked_change_nothing(subject: GateSubject) -> None:
    """What masked tokens hold, even NaN, changes no route of a real token."""
    batch = _masked(subject.batch(30))
    assert batch.mask is not None
    real = batch.mask
    plain = routes(subject.decide(subject.gate, batch))[real]
    other = batch.with_rows(~real, subject.batch(30, seed=9, alike=True))
    x = batch.x.clone()
    x[~real] = float("nan")
    for changed in (other, replace(batch, x=x)):
        wrong = differing(plain, routes(subject.decide(subject.gate, changed))[real])
        if wrong:
            raise ContractError(
                f"masked tokens must not change other routes; {wrong} of {int(real.sum())} differ"
            )


def padding_is_absent(subject: GateSubject) -> None:
    """Real tokens are routed as if the masked ones were not in the batch."""
    for alike in (False, True):
        batch = _masked(subject.batch(30, alike=alike))
        assert batch.mask is not None
        padded = routes(subject.decide(subject.gate, batch))[batch.mask]
        bare = replace(batch.take(batch.mask.nonzero().flatten()), mask=None)
        wrong = differing(padded, routes(subject.decide(subject.gate, bare)))
        if wrong:
            raise ContractError(
                f"padding must count nowhere; without it {wrong} of {bare.t} routes differ"
            )


def all_masked(subject: GateSubject) -> None:
    """A batch of masked tokens alone goes nowhere, with finite weights."""
    batch = replace(subject.batch(6), mask=torch.zeros(6, dtype=torch.bool))
    for gate in (subject.gate, subject.build()):
        decision = subject.decide(gate, batch)
        _nowhere(decision, batch)
        if not bool(torch.isfinite(routes(decision)).all()):
            raise ContractError("a batch of padding must give finite weights")


def _masked(batch: Batch) -> Batch:
    """Every third token masked, the last ones too."""
    places = torch.arange(batch.t)
    return replace(batch, mask=(places % 3 > 0) & (places < batch.t - 4))


def _nowhere(decision: Decision | Slots, batch: Batch) -> None:
    assert batch.mask is not None
    lost = routes(decision)[~batch.mask]
    if bool((lost != 0).any()):
        raise ContractError("a masked token must have no expert and no weight")
    if isinstance(decision, Decision) and decision.mask is None:
        raise ContractError("a decision must carry the mask, so that losses can leave it out")
