"""Sends a token to the k experts of greatest sigmoid affinity.

Routes tokens to feed-forward experts, as DeepSeek-V3 and Llama 4 do. Each expert is scored by
itself: liking one expert more does not mean liking the others less, as it does under a softmax.

Equations, with the variable of each symbol::

    h_j = x . w_j                                   logits (t, e)
    s_j = sigmoid(h_j)                              scores (t, e)
    S   = the k experts of greatest s, ties to the lower number      experts (t, k)
    g_j = scale * s_j / (sum_{i in S} s_i + 1e-20)  weights="renormalised" (DeepSeek-V3)
    g_j = scale * s_j                               weights="plain" (Llama 4, k = 1)

Weights are float32 (t, k). DeepSeek-V3 adds groups and a balance bias: see
`experts.group_limited` and `experts.loss_free`.

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token, and the choice.

Examples
--------
>>> import torch
>>> gate = SigmoidTopK(k=2).build(1, 3, generator=torch.Generator().manual_seed(0))
>>> wanted = torch.tensor([[0.2], [0.6], [0.4]])
>>> _ = gate.scorer.weight.data.copy_(wanted.logit())
>>> round(gate(torch.ones(1, 1)).weights[0, 0].item(), 4)
0.6
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import Gate, LinearScorer, Plain, Renormalised, Sigmoid, TopK

__all__ = ["CARD", "SigmoidTopK"]

CARD = Card(
    name="experts.sigmoid_topk",
    system="Sigmoid top-k",
    title="DeepSeek-V3 Technical Report",
    authors="DeepSeek-AI",
    year=2024,
    id="arXiv:2412.19437",
    routes="a token to feed-forward experts",
    kind="score",
    recipe="SigmoidTopK",
    signal=("gradient",),
    covers=(
        "Section 2.1.2, eq. 13 to 15: sigmoid affinity, top-k, renormalised gating values",
        "The router of Llama 4 (2025, released code): sigmoid of the one logit chosen "
        "(k=1, weights='plain')",
    ),
    differs=(
        "Without the groups and without the balance bias of the paper, which are "
        "experts.group_limited and experts.loss_free.",
        "Llama 4 multiplies what goes into an expert by the weight; here what comes out is "
        "multiplied, as in every other gate.",
        "k = 1 with weights that sum to one is refused: the gate could not learn.",
    ),
    needs=("torch",),
    properties=(
        "causal_safe",
        "per_sequence",
        "per_item",
        "equivariant",
        "reads_states",
        "fixed_k",
        "learns",
    ),
    aliases=("deepseek-v3 scores", "llama4"),
    cost="d e multiplications and one choice of k among e a token",
)


@dataclass(frozen=True)
class SigmoidTopK:
    """Recipe of a sigmoid top-k gate.

    Parameters
    ----------
    k : int
        Experts a token, >= 1; DeepSeek-V3 has 8 of 256, Llama 4 has 1.
    weights : {"renormalised", "plain"}
        What the chosen weigh, see the equations.
    scale : float
        Multiplies the weights, > 0; the released DeepSeek-V3 has 2.5.

    Raises
    ------
    InputError
        A value is out of range, or the weights could not carry a gradient.
    """

    k: int = 8
    weights: Literal["renormalised", "plain"] = "renormalised"
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check.integer("sigmoid_topk.k", self.k, low=1)
        if self.weights not in ("renormalised", "plain"):
            rule = "be 'renormalised' or 'plain'"
            raise InputError("sigmoid_topk.weights", rule, self.weights, "Choose one.")
        if _check.number("sigmoid_topk.scale", self.scale, low=0.0) == 0.0:
            raise InputError("sigmoid_topk.scale", "be > 0", self.scale, "Leave it at 1.")
        if self.k == 1 and self.weights != "plain":
            rule = "be 'plain' where k is 1: a single weight that sums to one teaches nothing"
            raise InputError("sigmoid_topk.weights", rule, self.weights, "Choose it, or raise k.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts.

        Raises
        ------
        InputError
            k exceeds e.
        """
        _check.integer("k", self.k, low=1, high=e)
        weigher = Plain(self.scale) if self.weights == "plain" else Renormalised(self.scale)
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, TopK(self.k), weigher, e=e, processors=(Sigmoid(),))
