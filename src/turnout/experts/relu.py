"""Sends a token to every expert whose score is above zero.

Routes tokens to feed-forward experts. A ReLU chooses and weighs at once: an expert that is about to
be left out already weighs next to nothing, so that the layer is continuous and every chosen score
has a gradient. How many experts a token gets is up to the token; how many it gets on average is
held by an L1 penalty whose strength a controller adapts.

Equations, with the variable of each symbol::

    h_j = x . w_j                                       logits (t, e)
    g_j = max(h_j, 0)                                   scores (t, e)
    S   = the experts with g_j > 0, in ascending order  experts (t, k)

k is the most experts any token of the batch has; the other slots hold none, and so do all slots of
a token that no expert wants: it passes on by the residual connection alone.

The penalty and its controller (section 3.3: lambda * mean g, lambda multiplied by alpha or divided
by it each step) are training rules; `turnout.nn.balance` is where they belong.

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token.

Examples
--------
>>> import torch
>>> gate = ReluRouting().build(1, 3, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[0.5], [-1.0], [2.0]]))
>>> decision = gate(torch.ones(1, 1))
>>> decision.experts.tolist(), decision.weights.sum().item()
([[0, 2]], 2.5)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card
from turnout.nn.gates import Gate, LinearScorer, Plain, Positive, Relu

__all__ = ["CARD", "ReluRouting"]

CARD = Card(
    name="experts.relu",
    system="ReMoE",
    title="ReMoE: Fully Differentiable Mixture-of-Experts with ReLU Routing",
    authors="Wang, Zhu, Chen",
    year=2024,
    id="arXiv:2412.14711",
    routes="a token to the feed-forward experts that score above zero",
    kind="threshold",
    recipe="ReluRouting",
    signal=("gradient",),
    covers=("Section 3.1 and 3.2: ReLU routing",),
    differs=(
        "The adaptive L1 penalty with its load-balancing form (section 3.3 and 3.4) is a training "
        "rule and not part of the gate.",
        "Rows start from normal numbers of deviation d ** -0.5, so that about half of the experts "
        "work at first, as in the paper's first stage.",
    ),
    needs=("torch",),
    properties=(
        "causal_safe",
        "per_sequence",
        "per_item",
        "equivariant",
        "reads_states",
        "continuous",
        "learns",
    ),
    aliases=("remoe", "relu routing"),
    cost="d e multiplications a token",
)


@dataclass(frozen=True)
class ReluRouting:
    """Recipe of a ReLU gate; it has no settings."""

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts."""
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, Positive(), Plain(), e=e, processors=(Relu(),))
