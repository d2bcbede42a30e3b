"""Sends a token to the k experts of greatest softmax probability.

Routes tokens to feed-forward experts, as Mixtral, OLMoE, Qwen-MoE and GPT-OSS do. One linear row
an expert scores the token; the k greatest scores win. What the winners weigh is where published
models differ, and the first thing a reimplementation gets wrong, so it has a name here.

Equations, with the variable of each symbol::

    h_j = x . w_j                                   logits (t, e)
    p   = softmax(h)                                scores (t, e)
    S   = the k experts of greatest h, ties to the lower number      experts (t, k)
    g_j = p_j / sum_{i in S} p_i                    weights="renormalised" (Mixtral, Qwen3)
    g_j = p_j                                       weights="plain" (OLMoE, DeepSeekMoE)
    g_j = exp(h_j) / sum_{i in S} exp(h_i)          weights="after" (Shazeer, GPT-OSS)

The first and the third are the same function of h; they differ in `scores`, which losses and
traces read: probabilities over all experts in the first, raw logits in the third. Weights are
multiplied by `scale` and are float32 (t, k).

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token, and the choice.

Examples
--------
>>> import torch
>>> gate = SoftmaxTopK(k=2).build(1, 3, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[1.0], [2.0], [6.0]]).log())
>>> round(gate(torch.ones(1, 1)).weights[0, 0].item(), 4)
0.75
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import (
    Gate,
    LinearScorer,
    Plain,
    Processor,
    Renormalised,
    Softmax,
    SoftmaxOfChosen,
    TopK,
    Weigher,
)

__all__ = ["CARD", "SoftmaxTopK"]

CARD = Card(
    name="experts.softmax_topk",
    system="Softmax top-k",
    title="Mixtral of Experts",
    authors="Jiang, Sablayrolles, Roux, Mensch, Savary, Bamford, Chaplot, et al.",
    year=2024,
    id="arXiv:2401.04088",
    routes="a token to feed-forward experts",
    kind="score",
    recipe="SoftmaxTopK",
    signal=("gradient",),
    covers=(
        "Section 2.1: softmax of the top-k logits (weights='renormalised' or 'after')",
        "Shazeer et al. 2017, arXiv:1701.06538, eq. 3 and 5 without noise (weights='after')",
        "Muennighoff et al. 2024, OLMoE, arXiv:2409.02060, eq. 2: probabilities as they are "
        "(weights='plain')",
    ),
    differs=(
        "The balance loss is not part of the gate: see turnout.nn.balance.",
        "k = 1 with weights that sum to one is refused: its only weight is 1 whatever the scores "
        "are, so that the gate could not learn.",
        "Ties go to the expert of the lower number, on every device.",
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
    aliases=("mixtral", "olmoe", "gpt-oss", "qwen3-moe", "top-k"),
    cost="d e multiplications and one choice of k among e a token",
)


@dataclass(frozen=True)
class SoftmaxTopK:
    """Recipe of a softmax top-k gate.

    Parameters
    ----------
    k : int
        Experts a token, >= 1; Mixtral has 2 of 8, OLMoE 8 of 64.
    weights : {"renormalised", "plain", "after"}
        What the chosen weigh, see the equations.
    scale : float
        Multiplies the weights, > 0.

    Raises
    ------
    InputError
        A value is out of range, or the weights could not carry a gradient.
    """

    k: int = 2
    weights: Literal["renormalised", "plain", "after"] = "renormalised"
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check.integer("softmax_topk.k", self.k, low=1)
        if self.weights not in ("renormalised", "plain", "after"):
            rule = "be 'renormalised', 'plain' or 'after'"
            raise InputError("softmax_topk.weights", rule, self.weights, "Choose one.")
        if _check.number("softmax_topk.scale", self.scale, low=0.0) == 0.0:
            raise InputError("softmax_topk.scale", "be > 0", self.scale, "Leave it at 1.")
        if self.weights == "after" and self.scale != 1.0:
            rule = "be 1 where weights is 'after'"
            raise InputError("softmax_topk.scale", rule, self.scale, "Take 'renormalised'.")
        if self.k == 1 and self.weights != "plain":
            rule = "be 'plain' where k is 1: a single weight that sums to one teaches nothing"
            raise InputError("softmax_topk.weights", rule, self.weights, "Choose it, or raise k.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts.

        Raises
        ------
        InputError
            k exceeds e.
        """
        _check.integer("k", self.k, low=1, high=e)
        processors: tuple[Processor, ...] = () if self.weights == "after" else (Softmax(),)
        weigher: Weigher
        if self.weights == "after":
            weigher = SoftmaxOfChosen()
        elif self.weights == "plain":
            weigher = Plain(self.scale)
        else:
            weigher = Renormalised(self.scale)
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, TopK(self.k), weigher, e=e, processors=processors)
