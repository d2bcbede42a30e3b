"""Sends a token to the k experts that score highest once learned noise is added.

Routes tokens to feed-forward experts. In training each score is moved by normal noise whose size
is itself learned from the token, so that experts near the edge are tried and the expected load has
a gradient; in evaluation there is no noise.

Equations, with the variable of each symbol::

    H_j = x . w_j + n_j softplus(x . v_j),   n_j standard normal    w = scorer.weight (e, d)
    S   = the k experts of greatest H                               v = processors[0].weight (e, d)
    g_j = exp(H_j) / sum_{i in S} exp(H_i)                          weights (t, k)

`logits` of the decision are x . w before the noise. The losses that go with it, importance and
load, are in `turnout.nn.balance`. Noise is drawn from `RouteContext.generator`, never from a
global one.

Differs from the paper: see `CARD.differs`. Cost: 2 d e multiplications a token in training.

Examples
--------
>>> import torch
>>> gate = NoisyTopK(k=2).build(1, 3, generator=torch.Generator().manual_seed(0)).eval()
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[1.0], [2.0], [6.0]]).log())
>>> round(gate(torch.ones(1, 1)).weights[0, 1].item(), 4)
0.25
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import Gate, LearnedNoise, LinearScorer, SoftmaxOfChosen, TopK

__all__ = ["CARD", "NoisyTopK"]

CARD = Card(
    name="experts.noisy_topk",
    system="Noisy top-k gating",
    title=("Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer"),
    authors="Shazeer, Mirhoseini, Maziarz, Davis, Le, Hinton, Dean",
    year=2017,
    id="arXiv:1701.06538",
    routes="a token to feed-forward experts",
    kind="score",
    recipe="NoisyTopK",
    signal=("gradient",),
    covers=("Section 2.1, eq. 3 to 5: noisy top-k gating",),
    differs=(
        "The scoring rows start from small normal numbers, not from zero: with zeros the first "
        "evaluation ties everywhere and sends every token to the first k experts. The rows of "
        "the noise start from zero, as in the paper (appendix A).",
        "The importance and load losses (section 4, appendix A) are in turnout.nn.balance.",
        "k = 1 is refused: the softmax over one expert is 1 and no gradient reaches the scores; "
        "the paper asks for k > 1 for the same reason.",
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
    aliases=("sparsely-gated moe", "noisy gating"),
    cost="2 d e multiplications a token in training, d e in evaluation",
)


@dataclass(frozen=True)
class NoisyTopK:
    """Recipe of a noisy top-k gate.

    Parameters
    ----------
    k : int
        Experts a token, >= 2; the paper has 4, and 2 at each level of its hierarchy.

    Raises
    ------
    InputError
        k is below 2.
    """

    k: int = 4

    def __post_init__(self) -> None:
        if _check.integer("noisy_topk.k", self.k, low=1) == 1:
            rule = "be >= 2: the softmax over a single expert is 1 and teaches nothing"
            raise InputError("noisy_topk.k", rule, self.k, "Use experts.switch for one expert.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts.

        Raises
        ------
        InputError
            k exceeds e.
        """
        _check.integer("k", self.k, low=1, high=e)
        scorer = LinearScorer(d, e, generator=generator)
        noise = LearnedNoise(d, e)
        return Gate(scorer, TopK(self.k), SoftmaxOfChosen(), e=e, processors=(noise,))
