"""MoeLayer: a gate, experts, and nothing else between them.

::

    decision = gate(x)                                     who works on a token
    y_i = sum_s weight[i, s] * expert[i, s](x_i)           dispatch and combine
    y_i += shared(x_i)                                     experts every token has
"""

from __future__ import annotations

import torch
from torch import nn

from turnout.core.errors import InputError
from turnout.nn.experts import Experts
from turnout.nn.gates import Decision, Gating, RouteContext, Slots

__all__ = ["MoeLayer", "combine"]


class MoeLayer(nn.Module):
    """A mixture-of-experts layer.

    Parameters
    ----------
    gate : torch.nn.Module
        A gate, see `turnout.nn.gates.Gating`.
    experts : torch.nn.Module
        Experts, see `turnout.nn.experts.Experts`; as many as the gate knows.
    shared : torch.nn.Module, optional
        Works on every token (..., d).
    layer : int
        Ordinal, for logs and traces.

    Raises
    ------
    InputError
        The gate and the experts differ in number.
    """

    def __init__(
        self,
        gate: nn.Module,
        experts: nn.Module,
        *,
        shared: nn.Module | None = None,
        layer: int = 0,
    ) -> None:
        super().__init__()
        assert isinstance(gate, Gating)
        assert isinstance(experts, Experts)
        if gate.e != experts.e:
            rule = f"know the {experts.e} experts of the layer"
            raise InputError("gate.e", rule, gate.e, "Build the gate for as many.")
        self.gate = gate
        self.experts = experts
        self.shared = shared
        self.layer = layer

    def forward(self, x: torch.Tensor, context: RouteContext | None = None) -> torch.Tensor:
        """The layer's answer, in the shape of x (..., d)."""
        context = (RouteContext() if context is None else context).at(self.layer)
        flat = x.reshape(-1, x.shape[-1])
        if context.shape is None and x.ndim == 3:
            context = context.shaped(x.shape[0], x.shape[1])
        decision: Decision | Slots = self.gate(flat, context)
        if context.log is not None:
            context.log.add(decision, context)
        if isinstance(decision, Decision):
            context.state.update(decision.state)  # for the next layer
        answer = combine(flat, decision, self.experts)
        if self.shared is not None:
            answer = answer + self.shared(flat)
        return answer.reshape(x.shape)


def combine(x: torch.Tensor, decision: Decision | Slots, experts: Experts) -> torch.Tensor:
    """Send x (t, d) where a decision says and put the answers together, (t, d)."""
    if isinstance(decision, Decision):
        return experts.forward(x, decision.experts, decision.weights)
    b, n, e, s = decision.dispatch.shape
    if decision.mask is not None:  # a masked row may hold anything, and 0 times NaN is NaN
        x = x.masked_fill(~decision.mask.unsqueeze(1), 0.0)
    rows = x.reshape(b, n, -1)
    slots = torch.einsum("bnes,bnd->ebsd", decision.dispatch.to(x.dtype), rows)
    made = torch.stack(
        [experts.apply_to(j, slots[j].reshape(b * s, -1)).reshape(b, s, -1) for j in range(e)]
    )
    mixed = torch.einsum("bnes,ebsd->bnd", decision.combine.to(x.dtype), made)
    return mixed.reshape(b * n, -1)
