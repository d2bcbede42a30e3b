"""Sends a token to its single best expert, as long as there is room.

Routes tokens to feed-forward experts. One expert a token halves the work of two, and shapes stay
fixed because each expert has a capacity: tokens beyond it are dropped and pass on by the residual
connection alone.

Equations, with the variable of each symbol::

    h_j = (x * u) . w_j,   u uniform in [1 - jitter, 1 + jitter]     logits (t, e)
    p   = softmax(h)                                    scores (t, e)
    i   = argmax_j p_j, ties to the lower number        experts (t, 1)
    g   = p_i                                           weights (t, 1)
    room = ceil(capacity * t / e)                       tokens an expert takes, earlier ones first

u is drawn a number in training only, from `RouteContext.generator`; with jitter = 0 nothing is
drawn. The balance loss is `turnout.nn.balance`'s.

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token.

Examples
--------
>>> import torch
>>> recipe = Switch(capacity=1.0, jitter=0.0)
>>> gate = recipe.build(1, 2, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[1.0], [3.0]]).log())
>>> decision = gate(torch.ones(4, 1))  # all want expert 1, which has room for two
>>> decision.experts.flatten().tolist(), round(decision.weights.sum().item(), 4)
([1, 1, 2, 2], 1.5)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import (
    Capacity,
    Gate,
    LinearScorer,
    Plain,
    RouteContext,
    Scorer,
    Scores,
    Softmax,
    TopK,
)

__all__ = ["CARD", "Switch"]

CARD = Card(
    name="experts.switch",
    system="Switch Transformer",
    title=(
        "Switch Transformers: Scaling to Trillion Parameter Models with Simple and Efficient "
        "Sparsity"
    ),
    authors="Fedus, Zoph, Shazeer",
    year=2021,
    id="arXiv:2101.03961",
    routes="a token to one feed-forward expert with room",
    kind="score",
    recipe="Switch",
    signal=("gradient",),
    covers=(
        "Section 2.1: top-1 routing",
        "Section 2.2, eq. 3: expert capacity, dropping by position",
        "Section 2.4: input jitter, router in float32",
    ),
    differs=(
        "One capacity factor serves training and evaluation; released code has two.",
        "The balance loss (eq. 4 to 6) is not part of the gate: see turnout.nn.balance.",
        "Masked tokens take no room and do not count in t.",
    ),
    needs=("torch",),
    properties=("causal_safe", "reads_states", "room", "learns"),
    aliases=("switch transformer", "top-1"),
    cost="d e multiplications and one sort of the tokens by expert",
)


@dataclass(frozen=True)
class Switch:
    """Recipe of a Switch gate.

    Parameters
    ----------
    capacity : float
        Capacity factor, > 0; 1 is just enough room for an even load, the paper has 1 to 2.
    jitter : float
        Half width of the factor on the hidden states in training, in [0, 1); 0.01 in the paper.

    Raises
    ------
    InputError
        A value is out of range.
    """

    capacity: float = 1.25
    jitter: float = 0.01

    def __post_init__(self) -> None:
        if _check.number("switch.capacity", self.capacity, low=0.0) == 0.0:
            raise InputError("switch.capacity", "be > 0", self.capacity, "Take 1 or more.")
        if _check.number("switch.jitter", self.jitter, low=0.0) >= 1.0:
            raise InputError("switch.jitter", "lie in [0, 1)", self.jitter, "Such as 0.01.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts."""
        scorer: Scorer = LinearScorer(d, e, generator=generator)
        if self.jitter:
            scorer = _Jittered(scorer, self.jitter)
        return Gate(
            scorer,
            TopK(1),
            Plain(),
            e=e,
            processors=(Softmax(),),
            limits=(Capacity(self.capacity),),
        )


class _Jittered(Scorer):
    """A scorer that sees hidden states multiplied by noise near one, in training only."""

    def __init__(self, inner: Scorer, jitter: float) -> None:
        super().__init__()
        self.inner = inner
        self.jitter = jitter

    def forward(self, x: torch.Tensor, context: RouteContext) -> Scores:
        """Scores of x (t, d)."""
        if self.training:
            generator = context.draws("input jitter")
            draw = torch.rand(x.shape, generator=generator, device=generator.device)
            x = x.float() * (1.0 + self.jitter * (2.0 * draw.to(x.device) - 1.0))
        scores: Scores = self.inner(x, context)
        return scores
