"""Sends mixtures of tokens to the experts, and to each token a mixture of what comes back.

Routes tokens to feed-forward experts without choosing: every expert works on s slots, each a
weighted mean of all the tokens of a sequence. Nothing is dropped, every expert is used, and every
weight has a gradient. A slot mixes late tokens with early ones: not for models that predict the
next token, where the gate is refused.

Equations, with the variable of each symbol, for one sequence of n tokens::

    L[i, j, p] = scale * (x_i / |x_i|) . (phi_jp / |phi_jp|)        logits (b, n, e, s)
    D = softmax of L over i                                         dispatch (b, n, e, s)
    C = softmax of L over (j, p)                                    combine (b, n, e, s)
    slot_jp = sum_i D[i, j, p] x_i,    y_i = sum_jp C[i, j, p] expert_j(slot_jp)

phi is `gate.phi` (e, s, d), `scale` is learned. Sequences are told apart by `RouteContext.shape`;
without it all tokens are of one sequence. Masked tokens are in no slot and get nothing back.

Differs from the paper: see `CARD.differs`. Cost: 3 n d e s multiplications a sequence, and e s
slots instead of n k tokens for the experts.

Examples
--------
>>> import torch
>>> gate = Soft(slots=1).build(2, 2, generator=torch.Generator().manual_seed(0))
>>> _ = gate.phi.data.copy_(torch.eye(2).reshape(2, 1, 2))
>>> slots = gate(torch.tensor([[5.0, 0.0], [0.0, 7.0]]))  # logits 1 on the diagonal, 0 off it
>>> round(slots.dispatch[0, 0, 0, 0].item(), 4)
0.7311
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from turnout.core import Card, InputError, _check
from turnout.nn.gates import RouteContext, Slots, check_hidden, full_precision

__all__ = ["CARD", "Soft", "SoftGate"]

CARD = Card(
    name="experts.soft",
    system="Soft MoE",
    title="From Sparse to Soft Mixtures of Experts",
    authors="Puigcerver, Riquelme, Mustafa, Houlsby",
    year=2023,
    id="arXiv:2308.00951",
    routes="mixtures of tokens to feed-forward experts",
    kind="score",
    recipe="Soft",
    signal=("gradient",),
    covers=(
        "Section 2, eq. 1 to 3: dispatch, slots, combine",
        "Section 2.3, algorithm 2: normalised inputs and a learned scale",
    ),
    differs=(
        "Padding is left out of both softmaxes; the paper's images have none.",
        "A token of length zero scores 0 everywhere instead of dividing by zero.",
    ),
    needs=("torch",),
    properties=("per_sequence", "equivariant", "reads_states", "even", "continuous", "learns"),
    aliases=("softmoe", "soft mixture of experts"),
    cost="3 n d e s multiplications a sequence of n tokens",
)


@dataclass(frozen=True)
class Soft:
    """Recipe of a soft gate.

    Parameters
    ----------
    slots : int
        Slots an expert and sequence, >= 1; the paper finds one, with many experts, best.

    Raises
    ------
    InputError
        There is no slot.
    """

    slots: int = 1

    def __post_init__(self) -> None:
        _check.integer("soft.slots", self.slots, low=1)

    def build(self, d: int, e: int, *, generator: torch.Generator) -> SoftGate:
        """A gate for width d and e experts."""
        return SoftGate(d, e, self.slots, generator=generator)


class SoftGate(nn.Module):
    """Hidden states -> `Slots`.

    Parameters
    ----------
    d, e, slots : int
        Width of the hidden states, experts, slots an expert.
    generator : torch.Generator
        Draws the first slot vectors.
    """

    causal_safe = False
    batch_coupled = False
    needs: frozenset[str] = frozenset()

    def __init__(self, d: int, e: int, slots: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.e = _check.integer("e", e, low=1)
        _check.integer("d", d, low=1)
        first = torch.randn(e, _check.integer("slots", slots, low=1), d, generator=generator)
        self.phi = nn.Parameter(first * d**-0.5)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, context: RouteContext | None = None) -> Slots:
        """The slots of hidden states x (t, d).

        Raises
        ------
        InputError
            As every gate: x is not (t, d), the scores are not finite, or the host is causal.
        """
        context = RouteContext() if context is None else context
        check_hidden(self, x, context)
        t = len(x)
        b, n = (1, t) if context.shape is None else context.shape
        real = torch.ones(t, dtype=torch.bool, device=x.device)
        if context.mask is not None:
            real = context.mask
            x = x.masked_fill(~real.unsqueeze(1), 0.0)
        with full_precision(x):
            rows = functional.normalize(x.float(), dim=1)
            slots = functional.normalize(self.phi.float(), dim=2).flatten(0, 1)
            flat = self.scale.float() * functional.linear(rows, slots)
        if not bool(torch.isfinite(flat.sum())):
            token = int((~torch.isfinite(flat)).any(dim=1).nonzero()[0, 0])
            hint = "Look for overflow in the hidden states, or lower the learning rate."
            raise InputError(f"logits[{token}]", "be finite", float("nan"), hint)
        logits = flat.reshape(b, n, self.e, self.phi.shape[1])
        keep = real.reshape(b, n, 1, 1)
        # a sequence without a real token would otherwise be a softmax over nothing
        least = torch.finfo(logits.dtype).min
        dispatch = logits.masked_fill(~keep, least).softmax(dim=1).masked_fill(~keep, 0.0)
        combine = logits.flatten(2).softmax(dim=2).reshape(logits.shape).masked_fill(~keep, 0.0)
        return Slots(dispatch=dispatch, combine=combine, logits=logits, mask=context.mask)
