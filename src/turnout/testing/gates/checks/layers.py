"""What a gate does to the layer it is in: gradients, dispatch, continuity."""

from __future__ import annotations

import torch
from torch import nn

from turnout.nn import dispatch
from turnout.nn.experts import StackedExperts
from turnout.nn.gates import Decision, Slots
from turnout.nn.moe import MoeLayer
from turnout.testing.gates.subject import Batch, GateSubject
from turnout.testing.subject import ContractError

__all__ = ["continuous", "gradients_as_said", "naive_is_fast"]


def gradients_as_said(subject: GateSubject) -> None:
    """A loss reaches every parameter of the gate where its card says so, and there are none else.

    A parameter that is frozen gets no gradient, and a card whose signal is not "gradient" has none
    to train.
    """
    gate = subject.build()
    trained = {name: p for name, p in gate.named_parameters() if p.requires_grad}
    if "gradient" not in subject.card.signal:
        if trained:
            raise ContractError(f"the card says nothing is trained, but {sorted(trained)} would be")
        return
    if not trained:
        raise ContractError("the card says it learns by gradient, but no parameter is trained")
    batch = subject.batch(64)
    experts = _experts(subject)
    wanted = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(4))
    made = _loop(batch.x, gate(batch.x, subject.context(batch)), experts)
    loss: torch.Tensor = (made - wanted).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in gate.named_parameters():
        gradient = parameter.grad
        if not parameter.requires_grad:
            if gradient is not None:
                raise ContractError(f"{name} is frozen, but a gradient reached it")
        elif gradient is None or not bool((gradient != 0).any()):
            raise ContractError(f"the loss must reach {name}; its gradient is zero")
        elif not bool(torch.isfinite(gradient).all()):
            raise ContractError(f"the gradient of {name} must be finite")


def naive_is_fast(subject: GateSubject) -> None:
    """Every dispatch gives what a plain loop over the experts gives, padding and drops included."""
    batch = subject.batch(40)
    masked = Batch(batch.x, batch.tokens, torch.arange(40) % 4 > 0)
    for given in (batch, masked, subject.batch(33, alike=True)):
        decision = subject.decide(subject.gate, given)
        naive: torch.Tensor | None = None
        for backend in _backends():
            layer = MoeLayer(subject.gate, _experts(subject, backend))
            with torch.no_grad():
                made: torch.Tensor = layer(given.x, subject.context(given))
                if naive is None:
                    naive = _loop(given.x, decision, layer.experts)
            assert naive is not None
            error = float((made - naive).abs().max())
            if not error < 1e-4:
                raise ContractError(f"dispatch {backend!r} must equal the loop; off by {error:.2g}")
            if given.mask is not None and bool((made[~given.mask] != 0).any()):
                raise ContractError("a masked token must get nothing back")


def continuous(subject: GateSubject) -> None:
    """A small step of a token makes a small step of what it gets back, on a whole path of steps."""
    experts = _experts(subject)
    start, end = subject.batch(24), subject.batch(24, seed=6)
    steps = 200
    made = []
    with torch.no_grad():
        for part in torch.linspace(0.0, 1.0, steps + 1).tolist():
            x = start.x + part * (end.x - start.x)
            decision = subject.decide(subject.gate, Batch(x, start.tokens))
            made.append(_loop(x, decision, experts))
    path = torch.stack(made)
    size = (path[1:] - path[:-1]).flatten(2).norm(dim=2)
    jump = float((size.max(dim=0).values / size.mean(dim=0).clamp(min=1e-9)).max())
    if jump > 12.0:
        raise ContractError(
            f"of {steps} small steps none may be a jump; the greatest is {jump:.0f} times the mean"
        )


def _backends() -> tuple[str, ...]:
    return tuple(getattr(dispatch, "BACKENDS", ("auto",)))


def _experts(subject: GateSubject, backend: str = "auto") -> StackedExperts:
    generator = torch.Generator().manual_seed(2)
    case = subject.case
    return StackedExperts(case.e, case.d, 8, backend=backend, generator=generator)


def _loop(x: torch.Tensor, decision: Decision | Slots, experts: nn.Module) -> torch.Tensor:
    """The layer's answer by the equations: a loop over experts, nothing sorted, nothing batched."""
    assert isinstance(experts, StackedExperts)
    total = torch.zeros_like(x)
    if isinstance(decision, Slots):
        b, n, e, s = decision.dispatch.shape
        rows, back = x.reshape(b, n, -1), total.reshape(b, n, -1)
        for i in range(b):
            for j in range(e):
                for p in range(s):
                    slot = decision.dispatch[i, :, j, p] @ rows[i]
                    made = experts.apply_to(j, slot.unsqueeze(0))
                    back[i] += decision.combine[i, :, j, p].unsqueeze(1) * made
        return back.reshape(x.shape)
    weights = decision.dense()
    for j in range(decision.e):
        total += weights[:, j : j + 1] * experts.apply_to(j, x)
    return total
