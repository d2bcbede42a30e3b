"""What every decision must be, whatever gate made it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from turnout.core import InputError
from turnout.nn.gates import Decision, Slots
from turnout.testing.gates.subject import GateSubject, differing, routes, same_routes
from turnout.testing.subject import ContractError, NotApplicable

__all__ = [
    "decision_valid",
    "experts_relabelled",
    "full_precision_kept",
    "no_tokens",
    "non_finite_refused",
    "one_expert",
    "refused",
    "ties_to_lowest",
    "wrong_shape_refused",
]


def decision_valid(subject: GateSubject) -> None:
    """Experts are int64 in 0 ... e, none twice in a row; weights float32, finite, 0 at none."""
    for gate in (subject.gate, subject.build()):
        for batch in (subject.batch(40), subject.batch(24, alike=True)):
            _valid(subject, subject.decide(gate, batch))


def no_tokens(subject: GateSubject) -> None:
    """A batch of no tokens gets a decision of no tokens, in evaluation and in training."""
    for gate in (subject.gate, subject.build()):
        decision = subject.decide(gate, subject.batch(0))
        if routes(decision).shape[0] != 0:
            raise ContractError(f"no tokens must give no routes; got {decision.t}")


def one_expert(subject: GateSubject) -> None:
    """With one expert tokens go to it or nowhere; more experts a token than there are is refused.

    The refusal, at building or at the call, names both numbers.
    """
    batch = subject.batch(12)
    k = getattr(subject.case.recipe, "k", 1)
    if k > 1:
        error = refused(lambda: subject.decide(subject.build(1).eval(), batch), "k > e")
        numbers = set(re.findall(r"\d+", str(error)))
        if "1" not in numbers or not numbers & {str(k), str(error.value)}:
            raise ContractError(f"the refusal must name both numbers; it says: {error}")
        return
    decision = subject.decide(subject.build(1).eval(), batch)
    _valid(subject, decision, e=1)
    if subject.claims("fixed_k") and isinstance(decision, Decision) and not decision.chosen.all():
        raise ContractError("with one expert every token must go to it")


def wrong_shape_refused(subject: GateSubject) -> None:
    """Hidden states that are not (t, d) are refused with an `InputError` that names `x`."""
    batch = subject.batch(6)
    for x in (batch.x[0], batch.x.reshape(2, 3, -1)):
        error = refused(
            lambda x=x: subject.gate(x, subject.context(batch)),  # type: ignore[misc]
            f"x of shape {tuple(x.shape)}",
        )
        if error.field != "x":
            raise ContractError(f"the refusal must name x; it says: {error}")


def full_precision_kept(subject: GateSubject) -> None:
    """Scores are float32: bfloat16 autocast and bfloat16 hidden states change no route."""
    batch = subject.batch(64)
    plain = subject.decide(subject.gate, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = subject.decide(subject.gate, batch)
    same_routes(plain, cast, "bfloat16 autocast")
    low = replace(batch, x=batch.x.bfloat16())
    high = replace(batch, x=low.x.float())
    from_low = subject.decide(subject.gate, low)
    same_routes(subject.decide(subject.gate, high), from_low, "the same numbers as bfloat16")
    for decision in (cast, from_low):
        _float32(decision)


def non_finite_refused(subject: GateSubject) -> None:
    """NaN or infinity in a hidden state is refused with an `InputError`, never routed."""
    batch = subject.batch(9)
    for value in (float("nan"), float("inf"), -float("inf")):
        x = batch.x.clone()
        x[4] = value
        refused(
            lambda x=x: subject.decide(subject.gate, replace(batch, x=x)),  # type: ignore[misc]
            f"a hidden state of {value}",
        )


def ties_to_lowest(subject: GateSubject) -> None:
    """Where all experts score alike the lowest numbers are chosen."""
    if not subject.claims("reads_states"):
        raise NotApplicable("it has no scores that could tie")
    batch = subject.batch(5)
    decision = subject.decide(subject.gate, replace(batch, x=torch.zeros_like(batch.x)))
    if isinstance(decision, Slots):
        raise NotApplicable("it chooses nothing")
    wanted = list(range(decision.k))
    for row in decision.experts.tolist():
        if row != wanted:
            raise ContractError(f"a tie must go to the lowest numbers {wanted}; got {row}")


def experts_relabelled(subject: GateSubject) -> None:
    """Turning the order of the experts' parameters round turns the decision round."""
    e = subject.case.e
    turned = subject.build().eval()
    if not _turn(turned, e):
        raise NotApplicable("no parameter has an axis of the experts")
    batch = subject.batch(40)
    one, two = subject.decide(subject.gate, batch), subject.decide(turned, batch)
    if isinstance(one, Slots) or isinstance(two, Slots):
        assert isinstance(one, Slots)
        assert isinstance(two, Slots)
        back = replace(two, combine=two.combine.flip(2), dispatch=two.dispatch.flip(2))
        same_routes(one, back, "the experts in another order, put back,")
        return
    first, second = routes(one).reshape(one.t, 2, e), routes(two).reshape(two.t, 2, e).flip(2)
    wrong = differing(first.flatten(1), second.flatten(1))
    if wrong:
        raise ContractError(
            f"with the experts in another order the decision must follow; {wrong} of {one.t} "
            "tokens do not"
        )


def refused(action: Callable[[], object], what: str) -> InputError:
    """The `InputError` an action raises; anything else breaks the contract."""
    try:
        action()
    except InputError as error:
        return error
    except Exception as error:
        kind = type(error).__name__
        raise ContractError(f"{what} must be refused as InputError; {kind}: {error}") from error
    raise ContractError(f"{what} must be refused with an InputError; it was routed")


def _turn(gate: nn.Module, e: int) -> bool:
    """Reverse the axis of the experts of every tensor that has one; whether any had."""
    found = False
    with torch.no_grad():
        for value in gate.state_dict().values():
            axes = [axis for axis, size in enumerate(value.shape) if size == e]
            if len(axes) == 1 and value.is_floating_point():
                value.copy_(value.flip(axes[0]).clone())
                found = True
    return found


def _float32(decision: Decision | Slots) -> None:
    read = {"logits": decision.logits}
    if isinstance(decision, Decision):
        read["weights"] = decision.weights
    else:
        read |= {"dispatch": decision.dispatch, "combine": decision.combine}
    for name, value in read.items():
        if value is not None and value.dtype != torch.float32:
            raise ContractError(f"{name} must be float32; got {value.dtype}")


def _valid(subject: GateSubject, decision: Decision | Slots, e: int | None = None) -> None:
    e = subject.case.e if e is None else e
    if decision.e != e:
        raise ContractError(f"the decision must be over {e} experts; got {decision.e}")
    _float32(decision)
    if isinstance(decision, Slots):
        for name, value, axes in (
            ("dispatch", decision.dispatch, (1,)),
            ("combine", decision.combine, (2, 3)),
        ):
            if not bool(torch.isfinite(value).all()) or bool((value < 0).any()):
                raise ContractError(f"{name} must be finite and >= 0")
            total = value.sum(dim=axes)
            if total.numel() and not torch.allclose(total, torch.ones_like(total), atol=1e-4):
                raise ContractError(f"{name} must sum to 1; got {float(total.min()):.4g}")
        return
    if decision.experts.dtype != torch.int64:
        raise ContractError(f"experts must be int64; got {decision.experts.dtype}")
    try:
        decision.check()
    except InputError as error:
        raise ContractError(str(error)) from error
    if decision.k > e:
        raise ContractError(f"a token has {e} experts at most; got {decision.k} slots")
