"""Sends a token to experts of a few groups only, so that few devices hear of it.

Routes tokens to feed-forward experts. Experts are cut into groups of equal size, one group a
device; a token first chooses `keep` groups and then its k experts among those. What a token costs
in messages between devices is bounded by `keep`, whatever k is.

Equations, with the variable of each symbol::

    h_j = x . w_j                                               logits (t, e)

    style="v2" (DeepSeek-V2, device-limited routing)
    s   = softmax(h)                                            scores (t, e)
    a_G = max_{j in G} s_j                                      rating of a group
    S   = the k greatest s_j among the `keep` groups of greatest a   experts (t, k)
    g_j = scale * s_j                                           weights (t, k)

    style="v3" (DeepSeek-V3, node-limited routing)
    s   = sigmoid(h)
    a_G = sum of the two greatest s_j + b_j, j in G             b = processors[1].bias (e,)
    S   = the k greatest s_j + b_j among the `keep` groups of greatest a
    g_j = scale * s_j / (sum_{i in S} s_i + 1e-20)

b is the balance bias of `experts.loss_free`; it starts at zero, no gradient reaches it, and it
stays where it is until a balancer of `turnout.nn.balance` moves it.

Differs from the paper: see `CARD.differs`. Cost: d e multiplications a token, and two choices.

Examples
--------
>>> import torch
>>> recipe = GroupLimited(k=2, groups=2, keep=1)
>>> gate = recipe.build(1, 4, generator=torch.Generator().manual_seed(0))
>>> _ = gate.scorer.weight.data.copy_(torch.tensor([[5.0], [1.0], [4.0], [3.0]]).log())
>>> decision = gate(torch.ones(1, 1))  # expert 0 rates its group first; 2 and 3 are out of reach
>>> decision.experts.tolist(), round(decision.weights[0, 1].item() * 13, 4)
([[0, 1]], 1.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from turnout.core import Card, InputError, _check
from turnout.nn.gates import (
    Bias,
    Gate,
    GroupLimit,
    LinearScorer,
    Plain,
    Processor,
    Renormalised,
    Sigmoid,
    Softmax,
    TopK,
    Weigher,
)

__all__ = ["CARD", "GroupLimited"]

CARD = Card(
    name="experts.group_limited",
    system="DeepSeek group-limited routing",
    title=("DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model"),
    authors="DeepSeek-AI",
    year=2024,
    id="arXiv:2405.04434",
    routes="a token to feed-forward experts of few devices",
    kind="score",
    recipe="GroupLimited",
    signal=("gradient", "load"),
    covers=(
        "Section 2.2.2: device-limited routing (style='v2')",
        "DeepSeek-V3 Technical Report, 2024, arXiv:2412.19437, section 2.1.2: node-limited "
        "routing by the two best of a group, sigmoid scores, balance bias (style='v3')",
    ),
    differs=(
        "The balance losses of the two papers are not part of the gate: see turnout.nn.balance.",
        "Experts outside the groups kept are barred with -inf; the released code of V2 sets their "
        "score to 0, which is the same where k real choices are left.",
        "The released V2 multiplies weights by 16 and V3 by 2.5; here scale is 1 until it is set.",
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
    aliases=("deepseek-v2", "deepseek-v3", "device-limited", "node-limited"),
    cost="d e multiplications, one choice among the groups and one among the experts a token",
)


@dataclass(frozen=True)
class GroupLimited:
    """Recipe of a group-limited gate.

    Parameters
    ----------
    k : int
        Experts a token, >= 1; 6 in DeepSeek-V2, 8 in V3.
    groups : int
        Groups of equal size, >= 1; 8 in both.
    keep : int
        Groups a token may use, 1 to `groups`; 3 in V2, 4 in V3.
    style : {"v2", "v3"}
        See the equations.
    scale : float
        Multiplies the weights, > 0.

    Raises
    ------
    InputError
        A value is out of range, or the weights could not carry a gradient.
    """

    k: int = 6
    groups: int = 8
    keep: int = 3
    style: Literal["v2", "v3"] = "v2"
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check.integer("group_limited.k", self.k, low=1)
        _check.integer("group_limited.groups", self.groups, low=1)
        _check.integer("group_limited.keep", self.keep, low=1, high=self.groups)
        if self.style not in ("v2", "v3"):
            raise InputError("group_limited.style", "be 'v2' or 'v3'", self.style, "Choose one.")
        if _check.number("group_limited.scale", self.scale, low=0.0) == 0.0:
            raise InputError("group_limited.scale", "be > 0", self.scale, "Leave it at 1.")
        if self.k == 1 and self.style == "v3":
            rule = "be >= 2 in style 'v3': a single weight that sums to one teaches nothing"
            raise InputError("group_limited.k", rule, self.k, "Raise k, or choose 'v2'.")

    def build(self, d: int, e: int, *, generator: torch.Generator) -> Gate:
        """A gate for width d and e experts.

        Raises
        ------
        InputError
            e does not divide into the groups, a group is too small to be rated, or the groups kept
            hold fewer than k experts.
        """
        size, rest = divmod(e, self.groups)
        best = 1 if self.style == "v2" else 2
        if rest or size < best:
            rule = f"divide {e} experts into groups of {best} or more"
            raise InputError("groups", rule, self.groups, "Change the number of groups.")
        if self.k > self.keep * size:
            rule = f"lie in [1, {self.keep * size}], what {self.keep} groups of {size} hold"
            hint = "Choose fewer experts a token, or keep more groups."
            raise InputError("k", rule, self.k, hint)
        limit = GroupLimit(self.groups, self.keep, best=best)
        processors: tuple[Processor, ...]
        weigher: Weigher
        if self.style == "v2":
            processors, weigher = (Softmax(), limit), Plain(self.scale)
        else:
            processors, weigher = (Sigmoid(), Bias(e), limit), Renormalised(self.scale)
        scorer = LinearScorer(d, e, generator=generator)
        return Gate(scorer, TopK(self.k), weigher, e=e, processors=processors)
