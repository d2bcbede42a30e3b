"""Sends to each expert the tokens that score highest for it.

Routes tokens to feed-forward experts the other way round: experts choose. Every expert gets equally
many tokens without any balance loss; a token gets as many experts as choose it, some of them none.
A token's place depends on the other tokens, later ones included: this is for encoders and for
images, not for models that predict the next token, where the gate is refused.

Equations, with the variable of each symbol::

    S   = softmax(X W), over the experts                scores (t, e)
    n   = ceil(factor * t / e), at most t               tokens an expert takes
    I_j = the n tokens of greatest S[:, j]              ties to the earlier token
    g_ij = S[i, j] where i in I_j                       weights (t, k)

k is the most experts any token of the batch has; the other slots hold none.

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token, e choices of n among
t.

Examples
--------
>>> import torch
>>> recipe = ExpertChoice(factor=1.0)
>>> gate = recipe.build(2, 2, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[4.0, 1.0], [1.0, 1.0]]).log())
>>> decision = gate(torch.eye(2))  # rows 4/5, 1/5 and 1/2, 1/2: one token an expert
>>> round(decision.dense().sum().item(), 4)
1.3
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import Gate, LinearScorer, Plain, Softmax, selectors

__all__ = ["CARD", "ExpertChoice"]

CARD = Card(
    name="experts.expert_choice",
    system="Expert Choice",
    title="Mixture-of-Experts with Expert Choice Routing",
    authors="Zhou, Lei, Liu, Du, Huang, Zhao, Dai, Chen, Le, Laudon",
    year=2022,
    id="arXiv:2202.09368",
    routes="to each feed-forward expert its tokens",
    kind="score",
    recipe="ExpertChoice",
    signal=("gradient",),
    covers=("Section 3.2: experts choose the tokens, eq. 1 and the selection matrix",),
    differs=(
        "The cap on experts a token (section 3.3, a linear programme) is not built; the paper "
        "finds it to cost quality.",
        "The number of tokens an expert takes is rounded up, so that none goes empty.",
        "In a model that predicts the next token it is refused until looking ahead is allowed in "
        "words.",
    ),
    needs=("torch",),
    properties=("equivariant", "reads_states", "room", "even", "learns"),
    aliases=("ec", "expert choice routing"),
    cost="d e multiplications a token and e choices of n among t tokens",
)


@dataclass(frozen=True)
class ExpertChoice:
    """Recipe of an expert-choice gate.

    Parameters
    ----------
    factor : float
        Experts a token on average, > 0; the paper has 2, and 1 to be compared with Switch.

    Raises
    ------
    InputError
        The factor is not positive.
    """

    factor: float = 2.0

    def __post_init__(self) -> None:
        if _check.number("expert_choice.factor", self.factor, low=0.0) == 0.0:
            raise InputError("expert_choice.factor", "be > 0", self.factor, "Take 1 or 2.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts."""
        scorer = LinearScorer(d, e, generator=generator)
        selector = selectors.ExpertChoice(self.factor)
        return Gate(scorer, selector, Plain(), e=e, processors=(Softmax(),))
