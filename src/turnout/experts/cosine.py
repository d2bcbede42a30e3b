"""Sends a token to the experts whose vectors point the way it does, on a small sphere.

Routes tokens to feed-forward experts. A linear score pulls hidden states towards the rows of the
experts, and with many layers they lose directions: the representation collapses. Here the token is
first projected to a few dimensions and only its direction is compared, so that neither its length
nor most of its directions are drawn in.

Equations, with the variable of each symbol::

    r   = P x                                       P = scorer.project (width, d)
    h_j = cos(r, v_j) / tau                         v = scorer.vectors (e, width)
    p   = softmax(h)                                scores (t, e)
    S   = the k experts of greatest h               experts (t, k)
    g_j = p_j                                       weights (t, k)

tau is learned, kept as its logarithm in `scorer.log_temperature` and never below `floor`.

Differs from the paper: see `CARD.differs`. Cost: width (d + e) multiplications a token.

Examples
--------
>>> import torch
>>> recipe = Cosine(width=2, temperature=1.0)
>>> gate = recipe.build(2, 2, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.project.data.copy_(torch.eye(2))
>>> _ = gate.scorer.vectors.data.copy_(torch.eye(2))
>>> decision = gate(torch.tensor([[30.0, 40.0]]))  # cosines 0.6 and 0.8: sigmoid(0.2)
>>> round(decision.weights[0, 0].item(), 4)
0.5498
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import CosineScorer, Gate, Plain, Softmax, TopK

__all__ = ["CARD", "Cosine"]

CARD = Card(
    name="experts.cosine",
    system="X-MoE",
    title="On the Representation Collapse of Sparse Mixture of Experts",
    authors=("Chi, Dong, Huang, Dai, Ma, Patra, Singhal, Bajaj, Song, Mao, Huang, Wei"),
    year=2022,
    id="arXiv:2204.09179",
    routes="a token to feed-forward experts",
    kind="score",
    recipe="Cosine",
    signal=("gradient",),
    covers=(
        "Section 3.2: dimension reduction, L2 normalisation and a learned temperature; the "
        "softmax gate",
    ),
    differs=(
        "The sigmoid gate of the paper is not built: compose it from turnout.nn.gates.",
        "The vectors start from normal numbers; released code starts from orthogonal ones.",
        "Freezing the router half way is left to the training loop.",
        "k may exceed the paper's 1.",
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
    aliases=("x-moe", "xmoe", "hypersphere routing"),
    cost="width (d + e) multiplications and one choice of k among e a token",
)


@dataclass(frozen=True)
class Cosine:
    """Recipe of a cosine gate.

    Parameters
    ----------
    k : int
        Experts a token, >= 1; the paper has 1.
    width : int
        Length of the projected vectors, >= 0; 0 = half the number of experts, as in the paper,
        and 2 at least.
    temperature : float
        First value of tau, > 0.
    floor : float
        tau never falls below it, in (0, temperature].

    Raises
    ------
    InputError
        A value is out of range.
    """

    k: int = 1
    width: int = 0
    temperature: float = 0.3
    floor: float = 0.01

    def __post_init__(self) -> None:
        _check.integer("cosine.k", self.k, low=1)
        _check.integer("cosine.width", self.width, low=0)
        _check.number("cosine.temperature", self.temperature, low=0.0)
        _check.number("cosine.floor", self.floor, low=0.0)
        if not 0.0 < self.floor <= self.temperature:
            raise InputError("cosine.floor", "lie in (0, temperature]", self.floor, "Lower it.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts.

        Raises
        ------
        InputError
            k exceeds e.
        """
        _check.integer("k", self.k, low=1, high=e)
        scorer = CosineScorer(
            d,
            e,
            width=self.width or max(2, e // 2),
            temperature=self.temperature,
            floor=self.floor,
            generator=generator,
        )
        return Gate(scorer, TopK(self.k), Plain(), e=e, processors=(Softmax(),))
