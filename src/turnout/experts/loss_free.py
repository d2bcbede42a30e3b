"""Sends a token to the k experts of greatest score plus a bias that keeps the loads even.

Routes tokens to feed-forward experts. Balance is kept by a bias an expert, raised while it has too
few tokens and lowered while it has too many; the bias decides who is chosen and never what the
chosen weigh, so that balancing sends no gradient into the model.

Equations, with the variable of each symbol::

    h_j = x . w_j                                       logits (t, e)
    s_j = sigmoid(h_j), or softmax(h)_j                 scores (t, e)
    S   = the k experts of greatest s_j + b_j           b = processors[1].bias (e,)
    g_j = s_j                                           weights (t, k)
    b_j <- b_j + u sign(mean load - load_j)             after each step, by a balancer

b is a dual price with its sign turned. It starts at zero and stays there until a balancer of
`turnout.nn.balance` moves it; the paper has u = 0.001.

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token, and the choice.

Examples
--------
>>> import torch
>>> gate = LossFree(k=1).build(1, 2, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[0.6], [0.5]]).logit())
>>> _ = gate.processors[1].bias.copy_(torch.tensor([0.0, 0.2]))
>>> decision = gate(torch.ones(1, 1))  # 0.6 against 0.5 + 0.2; the weight knows of no bias
>>> decision.experts.tolist(), round(decision.weights[0, 0].item(), 4)
([[1]], 0.5)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import Bias, Gate, LinearScorer, Plain, Sigmoid, Softmax, TopK

__all__ = ["CARD", "LossFree"]

CARD = Card(
    name="experts.loss_free",
    system="Loss-Free Balancing",
    title="Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
    authors="Wang, Gao, Zhao, Sun, Dai",
    year=2024,
    id="arXiv:2408.15664",
    routes="a token to feed-forward experts, evenly",
    kind="score",
    recipe="LossFree",
    signal=("gradient", "load"),
    covers=("Section 3, eq. 3: a bias for the choice alone",),
    differs=(
        "The update of the bias (algorithm 1) is a balancer of turnout.nn.balance, called by the "
        "training loop, so that the gate never writes to itself.",
    ),
    needs=("torch",),
    properties=(
        "causal_safe",
        "per_sequence",
        "per_item",
        "equivariant",
        "reads_states",
        "fixed_k",
        "biased_choice",
        "learns",
    ),
    aliases=("auxiliary-loss-free", "loss-free balancing", "expert bias"),
    cost="d e multiplications and one choice of k among e a token; 4 e bytes of bias",
)


@dataclass(frozen=True)
class LossFree:
    """Recipe of a gate with a balance bias.

    Parameters
    ----------
    k : int
        Experts a token, >= 1; the paper has 6 of 64.
    scores : {"sigmoid", "softmax"}
        The paper's main runs have sigmoid.

    Raises
    ------
    InputError
        A value is out of range.
    """

    k: int = 6
    scores: Literal["sigmoid", "softmax"] = "sigmoid"

    def __post_init__(self) -> None:
        _check.integer("loss_free.k", self.k, low=1)
        if self.scores not in ("sigmoid", "softmax"):
            rule = "be 'sigmoid' or 'softmax'"
            raise InputError("loss_free.scores", rule, self.scores, "Choose one.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts.

        Raises
        ------
        InputError
            k exceeds e.
        """
        _check.integer("k", self.k, low=1, high=e)
        scorer = LinearScorer(d, e, generator=generator)
        squash = Sigmoid() if self.scores == "sigmoid" else Softmax()
        return Gate(scorer, TopK(self.k), Plain(), e=e, processors=(squash, Bias(e)))
